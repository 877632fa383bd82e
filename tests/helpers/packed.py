"""A stand-in for a base in 4 bits: linear layers that keep two weights in a byte, and unpack them to multiply."""

from __future__ import annotations

import torch
from torch import nn

LEVELS = torch.linspace(-1, 1, 16)
BLOCK = 8  # weights that share a scale


def _unpacked(packed, scales, shape):
    codes = torch.stack([packed >> 4, packed & 15], 1).reshape(-1).long()
    return (LEVELS[codes].reshape(-1, BLOCK) * scales[:, None]).reshape(shape)


class _Multiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, scales, shape):
        ctx.save_for_backward(packed, scales)
        ctx.shape = shape
        return x @ _unpacked(packed, scales, shape).to(x.dtype).T

    @staticmethod
    def backward(ctx, gradient):
        packed, scales = ctx.saved_tensors
        return gradient @ _unpacked(packed, scales, ctx.shape).to(gradient.dtype), None, None, None


class PackedLinear(nn.Linear):
    """
    Args:
        hidden: the scales are no buffer and in the saved state alone, as those of bitsandbytes.
    """

    def __init__(self, like: nn.Linear, hidden: bool = False):
        super().__init__(like.in_features, like.out_features, bias=False)
        blocks = like.weight.detach().float().reshape(-1, BLOCK)
        scales = blocks.abs().amax(1).clamp_min(1e-8)
        codes = ((blocks / scales[:, None] + 1) * 7.5).round().to(torch.uint8).reshape(-1, 2)
        self.weight = nn.Parameter(((codes[:, 0] << 4) | codes[:, 1]), requires_grad=False)
        if hidden:
            self.hidden = scales
        else:
            self.register_buffer("scales", scales)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(self, "hidden"):
            destination[f"{prefix}weight.scales"] = self.hidden

    def forward(self, x):
        scales = self.hidden if hasattr(self, "hidden") else self.scales
        return _Multiplied.apply(x, self.weight, scales, (self.out_features, self.in_features))


def packed(model, hidden: bool = False):
    """The model with its linear layers packed, but the output head."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and "lm_head" not in name:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, PackedLinear(module, hidden))
    model.requires_grad_(False)
    return model
