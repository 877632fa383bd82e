"""
Weights that are kept packed, as those of a base in 4 bits are: integers that stand for numbers. They do not learn; what
is trained, moved and put back beside them is an adapter.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_packed(model: torch.nn.Module) -> bool:
    """Whether weights of a model are packed: Transformers has quantised it, or parameters of it are integers."""
    if any(getattr(module, "hf_quantizer", None) is not None for module in model.modules()):
        return True
    return any(not (p.is_floating_point() or p.is_complex()) for p in model.parameters())


def packed_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers of a model that keep their weights packed, by name; their buffers (scales, codes) do not move."""
    return {name: module for name, module in model.named_modules() if _holds_packed(module)} if is_packed(model) else {}


def packed_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """All that such layers need to tell their weights, by name: also what is in their saved state alone."""
    found = {}
    for name, layer in packed_layers(model).items():
        state = layer.state_dict(prefix=f"{name}." if name else "")
        found |= {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
    return found


def _holds_packed(module: torch.nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(hasattr(tensor, "quant_state") or _is_integers(tensor) for tensor in own)


def _is_integers(tensor: Tensor) -> bool:
    """Of several numbers: a counter, such as BatchNorm's, is none."""
    is_whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return is_whole and tensor.numel() > 1
