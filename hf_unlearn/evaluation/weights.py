"""The weights of a model: the hash that names them, and putting them back after an attack."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PIECE = 1 << 16  # weights at a time on a CPU: buffers stay in the cache, ten times as fast as 1 << 22 (measured)
PIECE_ELSEWHERE = 1 << 22
SHOWN = 5  # names listed in an error


def weights_hash(model: torch.nn.Module) -> str:
    """
    Name of a model's weights: blake2b over names, shapes, dtypes and bytes of all parameters and of the buffers that
    are saved with them, 32 hexadecimal characters.

    Equal in every run and on every device, and for a model saved and loaded; one bit changes it. Of a PEFT model it
    covers base and adapters, the tables of memories, which adapters are active, and their scaling. Takes about a second
    a GB, and the memory of the largest tensor on the CPU. Sharded models: every process must call this.

    Raises:
        ValueError: for weights on the meta device.
    """
    import torch

    from ..readiness.memory.store import memory_tensors

    model = unwrapped(model)
    digests: dict[int, bytes] = {}  # tied weights are read once
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted({**model.state_dict(keep_vars=True), **memory_tensors(model)}.items()):
        if not isinstance(tensor, torch.Tensor):  # a module's extra state
            continue
        if id(tensor) not in digests:
            digests[id(tensor)] = _digest(name, tensor)
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode() + digests[id(tensor)])
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and hasattr(module, "active_adapters"):
            state = (name, sorted(module.active_adapters), sorted(scaling.items()), module.disable_adapters)
            digest.update(repr(state).encode())
        elif hasattr(module, "memory_stores"):
            digest.update(repr((name, sorted(module.active_adapters), module.disable_adapters)).encode())
    return digest.hexdigest()


@contextmanager
def put_back(tensors: Iterable[torch.Tensor]):
    """
    Puts the tensors back bit for bit at the end of the block, also after an error, from one copy on the CPU. Unlike
    [`~hf_unlearn.readiness.moving_weights.restored`], which is for moments, it lets Ctrl-C end the block; the way back
    itself is shielded.
    """
    from ..readiness.moving_weights import copies_of, put_, shielded

    tensors = list(tensors)
    copies = copies_of(tensors, "cpu")
    try:
        yield
    finally:
        with shielded():
            put_(tensors, copies)


def piece_on(device: torch.device) -> int:
    """How many weights are worked on at a time, so that buffers stay in a CPU's cache and small on a GPU."""
    return PIECE if device.type == "cpu" else PIECE_ELSEWHERE


def _digest(name: str, tensor: torch.Tensor) -> bytes:
    import torch

    if tensor.is_meta:
        raise ValueError(f"weights have no values (meta device) in {name}: load the model whole.")
    data = unsharded(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(data.numpy(), digest_size=16).digest()


def unsharded(tensor: torch.Tensor) -> torch.Tensor:
    """All shards of a sharded tensor, or the tensor itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside of a compiled or data-parallel one; a PEFT model stays."""
    while not hasattr(model, "peft_config"):
        inside = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inside is None or not hasattr(inside, "forward"):
            break
        model = inside
    return model


def listed(names: list[str]) -> str:
    """For messages: the first few names and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
