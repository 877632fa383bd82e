"""How the memory sees a layer's input: whitened by public rows, so that no direction drowns the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

SMALLEST = 1e-4  # share of the largest variance below which a direction counts as one of noise


def random_view(hidden: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """`(mean (hidden,), projection (hidden, width))` where no public rows are given: random directions from a seed."""
    draw = torch.Generator().manual_seed(seed)
    return torch.zeros(hidden), torch.randn(hidden, width, generator=draw) / math.sqrt(hidden)


def public_view(states: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """
    Whitening by the leading principal directions: `(mean (hidden,), projection (hidden, width))`.

    The inputs of a pretrained model's layers share a few directions of huge variance, by which all of them look alike.
    After whitening, rows on different things are nearly orthogonal.

    Args:
        states: (n, hidden) inputs of the layer in rows that belong to no source.
    """
    states = states.double()
    mean = states.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((states - mean).T))
    width = min(width, states.shape[1])
    variance = variance[-width:].clamp_min(SMALLEST * float(variance[-1]))
    projection = (directions[:, -width:] / variance.sqrt()).float()
    return mean.float(), projection.contiguous()  # as from a file: the order of a product's sums goes by the layout


def seen(h: Tensor, mean: Tensor, projection: Tensor) -> Tensor:
    """Unit vectors (n, width) of inputs (n, hidden)."""
    return normalize((h.float() - mean) @ projection, dim=-1)
