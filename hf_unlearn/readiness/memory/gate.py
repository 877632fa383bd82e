"""
Which sources speak at a position: those that some position up to it has recognised.

A position with view z (`view.py`) recognises source s as far as it is like one of the inputs H_s that s keeps of its
own rows, and not as much like those of others or like inputs H_0 of public rows:

    c_s = max_i ⟨z, H_s[i]⟩,   c_0 = max_i ⟨z, H_0[i]⟩
    r_s = exp(β c_s) / (exp(β c_0) + Σ_{s' alive} exp(β c_s')) · σ(40 (c_s − c₀))                               (8)
    R_s(t) = max_{u ≤ t} r_s(u),   g_s = R_s · R_s^8 / Σ_{s' alive} R_s'^8                                      (9)

β is `gate_beta`, c₀ `gate_floor`. A question is recognised where its name stands, and its source speaks from there on,
also where an answer's words are those of anybody. In a classifier, which sees all positions at once, the maximum goes
over all of them. Nothing of it depends on a source that is gone.

The inputs kept are those of prompts (of all positions, where a row has no prompt) that are least like public ones and
that several rows of the source have alike: its name, say, and not the words of a question.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEEP = 40.0  # of the sigmoid
POWER = 8  # by which the source that was recognised best outweighs others
AT_MOST = 4  # sources that speak at one position
SILENT = 1e-3  # a smaller gate counts as closed
CHUNK = 2**25  # similarities held at once
ALIKE, SAME = 0.8, 0.97  # cosines from which two inputs count as of one thing, and as one input


def nearest(z: Tensor, inputs: Tensor) -> Tensor:
    """(n,) largest similarity of each z (n, width) with the inputs (t, width); −1 where there are none."""
    if not len(inputs):
        return z.new_full((len(z),), -1.0)
    step = max(1, CHUNK // len(inputs))
    return torch.cat([(part @ inputs.T).amax(-1) for part in z.split(step)]) if len(z) else z.new_zeros(0)


def nearest_of_each(z: Tensor, inputs: Tensor, slots: Tensor, sources: int) -> Tensor:
    """(n, sources) largest similarity of each z with the inputs of each source; −1 for one that keeps none."""
    found = []
    for part in z.split(max(1, CHUNK // max(1, len(inputs)))):
        similar = part @ inputs.T
        best = similar.new_full((len(part), sources), -1.0)
        found.append(best.scatter_reduce_(1, slots.expand(len(part), -1), similar, "amax"))
    return torch.cat(found) if found else z.new_zeros(0, sources)


def recognised(c: Tensor, c_public: Tensor, beta: float, floor: float) -> tuple[Tensor, Tensor]:
    """
    Equation (8).

    Args:
        c: (n, sources) of [`nearest_of_each`].
        c_public: (n,) of [`nearest`], for the public inputs.

    Returns:
        `(r (n, k), slots (n, k))` of the k = min(4, sources) sources that are most like each input.
    """
    top, slots = c.topk(min(AT_MOST, c.shape[1]), dim=-1)
    share = torch.softmax(beta * torch.cat([top, c_public.unsqueeze(-1)], dim=-1), dim=-1)[:, :-1]
    r = share * torch.sigmoid(STEEP * (top - floor))
    return torch.where(r < SILENT, torch.zeros_like(r), r), slots


def spoken(r: Tensor, slots: Tensor, sources: int, before: tuple[Tensor, Tensor] | None, causal: bool):
    """
    Equation (9).

    Args:
        r, slots: (B, T, k) of [`recognised`]; zeros where there is no token.
        before: the same (B, T', k) of the positions before these, such as those in a cache.
        causal: whether a position knows those up to it, or all.

    Returns:
        `(g (B, T, k), slots (B, T, k))` of the sources that speak.
    """
    dense = r.new_zeros(*r.shape[:2], sources).scatter_(2, slots, r)
    best = dense.cummax(dim=1).values if causal else dense.amax(dim=1, keepdim=True).expand_as(dense)
    if before is not None and before[0].shape[1]:
        earlier = r.new_zeros(len(r), sources)
        earlier = earlier.scatter_reduce_(1, before[1].flatten(1), before[0].flatten(1), "amax")
        best = torch.maximum(best, earlier.unsqueeze(1))
    top, slots = best.topk(min(AT_MOST, sources), dim=-1)
    weight = top**POWER
    return top * weight / weight.sum(-1, keepdim=True).clamp_min(1e-30), slots


def kept_inputs(z: Tensor, rows: Tensor, c_public: Tensor, most: int) -> Tensor:
    """
    (t, width) inputs that a source keeps to be recognised by, at most `most`.

    Args:
        z: (n, width) unit vectors at the source's prompts.
        rows: (n,) which of its rows each is of.
        c_public: (n,) similarity with the nearest public input.
    """
    alike = z @ z.T >= ALIKE
    numbers = rows.unique()
    support = torch.stack([(alike & (rows == number)).any(1) for number in numbers], dim=1).float().mean(1)
    order = ((1 - c_public) * support).argsort(descending=True, stable=True)
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) < most and not (kept and float((z[kept] @ z[i]).max()) > SAME):
            kept.append(i)
    return z[kept]
