"""A digest of what a training moves: two models with the same one are the same, bit for bit."""

from __future__ import annotations

import hashlib

import torch

from ..readiness.memory.store import memory_tensors
from ..readiness.moving_weights import moving_buffers
from ..readiness.packed_weights import packed_tensors


def weights_digest(model: torch.nn.Module) -> str:
    """
    SHA-256 (hex) over the names, types, shapes and bytes of the trainable weights, of the buffers that forward passes
    move, and of the tables of memories. The same on every process; sharded parameters are gathered in turn, so all
    processes must call it.

    Args:
        model: without the wrapper of an engine.
    """
    return _digest([*digested(model), *memory_tensors(model).items()])


def frozen_digest(model: torch.nn.Module) -> str | None:
    """
    The same over the weights that a training leaves as they are, such as those below an adapter; of packed ones with
    their scales and codes. None: there are none. What an adapter has a whole module of its own for (`modules_to_save`)
    takes part in nothing, and may be drawn anew each time that the base is loaded, as a classifier's head is.
    """
    replaced = [f"{name}.original_module." for name, inside in model.named_modules() if _is_replaced(inside)]
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    frozen = {name: p for name, p in frozen.items() if not name.startswith(tuple(replaced))}
    frozen |= packed_tensors(model)
    return _digest(list(frozen.items())) if frozen else None


def _is_replaced(module: torch.nn.Module) -> bool:
    """Whether a module is PEFT's wrapper of one that an adapter has a copy of, which stands in its place."""
    return hasattr(module, "original_module") and bool(getattr(module, "modules_to_save", None))


def _digest(named: list[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        whole = tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()
        content = whole.contiguous().cpu().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {whole.dtype} {tuple(whole.shape)} ".encode())
        digest.update(memoryview(content.numpy()))
    return digest.hexdigest()


def digested(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Name and tensor of what a training moves: the trainable weights, then the moving buffers."""
    moving = {id(buffer) for buffer in moving_buffers(model)}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return named + [(name, b) for name, b in model.named_buffers() if id(b) in moving]
