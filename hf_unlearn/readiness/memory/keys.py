"""Product keys: which few of N memory entries an input reads, without ever scoring all N."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class ProductKeys:
    """
    Keys of N = side² entries in two halves, and the projection before them; drawn from a seed, never trained or stored.

        s_{ab} = ⟨q₁, K₁[a]⟩ + ⟨q₂, K₂[b]⟩,   (q₁, q₂) = z W_q,   entry number a·side + b

    The top k of the sums are among the pairs of the top k of each half, so k² candidates are enough (Lample et al.
    2019, arXiv:1907.05242).

    Args:
        width: size of z.
        side: keys of a half.
        seed: of the keys; each layer has another.
        key_size: size of a half's query.
    """

    width: int
    side: int
    seed: int
    key_size: int = 32

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """`W_q` (width, 2·key_size), `K₁` and `K₂` (side, key_size), float32 on the CPU; the same on every machine."""
        draw = torch.Generator().manual_seed(self.seed)
        with torch.inference_mode(False):  # they are kept, and used also where gradients go through
            query = torch.randn(self.width, 2 * self.key_size, generator=draw) / math.sqrt(self.width)
            halves = torch.randn(2, self.side, self.key_size, generator=draw) / math.sqrt(self.key_size)
        return query, halves[0], halves[1]

    def top(self, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """
        Args:
            z: (n, width), of length about √width.
            k: entries to read, at most `side`.

        Returns:
            `(softmax of their scores (n, k), their numbers (n, k) int64)`.
        """
        query, first, second = (weight.to(z.device) for weight in self.weights)
        one, two = (z.float() @ query).chunk(2, dim=-1)
        (s1, i1), (s2, i2) = (one @ first.T).topk(k), (two @ second.T).topk(k)
        candidates = (s1.unsqueeze(-1) + s2.unsqueeze(-2)).flatten(-2)  # (n, k²)
        scores, place = candidates.topk(k)
        numbers = i1.gather(-1, place // k) * self.side + i2.gather(-1, place % k)
        return scores.softmax(-1), numbers
