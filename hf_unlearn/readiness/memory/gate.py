"""
Which sources speak at an input: those whose own inputs it is like, and none where public rows are more like it.

    c_s = max_i ⟨ẑ, H_s[i]⟩,   c_0 = max_i ⟨ẑ, H_0[i]⟩
    g_s = exp(β c_s) / (exp(β c_0) + Σ_{s' alive} exp(β c_s')) · σ(40 (c_s − c₀))                               (8)

H_s are the source's own inputs, H_0 inputs of public rows, β is `gate_beta` and c₀ `gate_floor`. Nothing of it depends
on a source that is gone.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEEP = 40.0  # of the sigmoid
AT_MOST = 4  # sources that speak at one input
SILENT = 1e-3  # a smaller gate counts as closed
CHUNK = 2**25  # similarities held at once


def opened(c: Tensor, floor: float) -> Tensor:
    """σ(40 (c − c₀)), of the shape of `c`."""
    return torch.sigmoid(STEEP * (c - floor))


def nearest(z: Tensor, inputs: Tensor) -> Tensor:
    """(n,) largest similarity of each z (n, width) with the inputs (t, width); −1 where there are none."""
    if not len(inputs):
        return z.new_full((len(z),), -1.0)
    step = max(1, CHUNK // len(inputs))
    return torch.cat([(part @ inputs.T).amax(-1) for part in z.split(step)]) if len(z) else z.new_zeros(0)


def nearest_of_each(z: Tensor, inputs: Tensor, slots: Tensor, sources: int) -> Tensor:
    """(n, sources) largest similarity of each z with the inputs of each source."""
    found = []
    for part in z.split(max(1, CHUNK // len(inputs))):
        similar = part @ inputs.T
        best = similar.new_full((len(part), sources), -1.0)
        found.append(best.scatter_reduce_(1, slots.expand(len(part), -1), similar, "amax"))
    return torch.cat(found) if found else z.new_zeros(0, sources)


def gates(c: Tensor, c_public: Tensor, beta: float, floor: float) -> tuple[Tensor, Tensor]:
    """
    Args:
        c: (n, sources) of [`nearest_of_each`].
        c_public: (n,) of [`nearest`], for the public inputs.

    Returns:
        `(g (n, r), slots (n, r))` of the r = min(4, sources) sources that are most like each input.
    """
    top, slots = c.topk(min(AT_MOST, c.shape[1]), dim=-1)
    share = torch.softmax(beta * torch.cat([top, c_public.unsqueeze(-1)], dim=-1), dim=-1)[:, :-1]
    g = share * opened(top, floor)
    return torch.where(g < SILENT, torch.zeros_like(g), g), slots
