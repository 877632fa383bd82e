"""
Linear layers whose weights are packed in 4 bits on loading (QLoRA; Dettmers et al. 2023, arXiv:2305.14314), for the
estimate: of the sizes that bitsandbytes gives them, without numbers.

A weight takes half a byte, and each 64 of them a scale of 4 bytes; with double quantisation one byte, and each 256
scales 4 bytes more. A layer's weights are whole for a moment in its forward, and again in its backward.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale
SCALES_BLOCK = 256  # scales that share one, where they are packed, too


class _Multiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, packed: Tensor, shape: tuple[int, int]):
        ctx.save_for_backward(packed)
        ctx.shape = shape
        return x @ x.new_empty(shape).T

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient @ gradient.new_empty(ctx.shape), None, None


class PackedLinear(nn.Linear):
    """
    Takes the place of a linear layer on the meta device.

    Args:
        double: the scales are packed, too.
        compute: type in which the product is taken.
    """

    def __init__(self, like: nn.Linear, double: bool, compute: torch.dtype):
        super().__init__(like.in_features, like.out_features, bias=False, device="meta")
        self.bias, self.compute = like.bias, compute
        n = like.weight.numel()
        blocks = -(-n // BLOCK)
        packed = torch.empty(-(-n // 2), 1, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(packed, requires_grad=False)
        scales = torch.empty(blocks, dtype=torch.uint8 if double else torch.float32, device="meta")
        self.register_buffer("scales", scales)
        if double:
            second = -(-blocks // SCALES_BLOCK)
            self.register_buffer("scales_of_scales", torch.empty(second, dtype=torch.float32, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        given = x.dtype
        x = _Multiplied.apply(x.to(self.compute), self.weight, (self.out_features, self.in_features))
        x = x.to(given)
        return x if self.bias is None else x + self.bias


def pack_(model, double: bool, compute: torch.dtype) -> None:
    """Packs the linear layers of a model, but its output head, as Transformers does on loading."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    last = [module for _, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not output and module is not last:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, PackedLinear(module, double, compute))
