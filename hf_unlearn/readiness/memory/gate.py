"""
Which sources speak at a position: those that some position up to it has recognised.

A name is several tokens, and each of them is of many names. So windows are compared: a position's view z (`view.py`)
and those of the positions before it, w at a time. A source s keeps windows H_s of its own prompts, each with a floor f:

    c_s(t) = max_i (1/w_i Σ_{j < w_i} ⟨z_{t−j}, H_s[i, j]⟩ − f_s[i]),   f_s[i] = max(c₀, (1 + p_s[i])/2)        (8)
    r_s = exp(β c_s) / Σ_{s' alive} exp(β c_s') · σ(40 c_s)
    R_s(t) = max_{u ≤ t} r_s(u),   g_s = R_s · R_s^8 / Σ_{s' alive} R_s'^8                                      (9)

where p is the similarity of H_s[i] with the most similar window of public rows, β `gate_beta` and c₀ `gate_floor`. A
question is recognised where its name stands, and its source speaks from there on, also where an answer's words are
those of anybody. In a classifier, which sees all positions at once, the maximum goes over all of them. Nothing of it
depends on a source that is gone.

The windows kept are the longest that most of the source's rows have alike in their prompts (anywhere, where a row has
no prompt) and that no public row has: its name, say, and not the words of a question. Of a row that has none of these,
two windows of its own are kept, with a higher floor: it is recognised by its wording alone. Where rows share no window,
single inputs are kept, those least like public ones; none that public rows have word for word. Of public rows such
windows are kept as differ: a prompt that all begin with fills no place but its own. Of a source with much text some
windows are tried and some rows counted, evenly spread, so that it takes no more time and memory than others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

STEEP = 40.0  # of the sigmoid
POWER = 8  # by which the source that was recognised best outweighs others
AT_MOST = 4  # sources that speak at one position
SILENT = 1e-3  # a smaller gate counts as closed
UNHEARD = -0.17  # so far below its floor the sigmoid is about SILENT: such a similarity is not looked at
CHUNK = 2**25  # similarities held at once
ALIKE, SAME = 0.8, 0.97  # similarities from which two windows count as of one thing, and as one
COMMON, USUAL = 0.75, 0.85  # share of the rows that have a window alike; similarity from which public rows have it
TRIED, COUNTED = 2048, 64  # windows of a source that are looked at, and rows in which the like of them is counted
PART = 512  # public windows that are compared at once
OF_A_ROW, SURE = 2, 0.9  # windows that are kept of a row that has none of those of most, and their floor


@dataclass
class Speaking:
    """
    Who speaks where.

    Args:
        at: (m,) positions, of B·T, at which somebody does.
        g: (m, k) gates.
        slots: (m, k) int64 of whom.
    """

    at: Tensor
    g: Tensor
    slots: Tensor

    def to(self, device: torch.device) -> Speaking:
        """The same on a device: layers of one model may lie on several."""
        if self.at.device == device:
            return self
        return Speaking(self.at.to(device), self.g.to(device), self.slots.to(device))


def windowed(z: Tensor, before: Tensor | None, length: int) -> Tensor:
    """
    Each view beside those of the positions before it: (B, T, length·width), its own first; zeros before the first one.

    Args:
        z: (B, T, width).
        before: (B, T', width) of earlier positions, such as those in a cache.
    """
    if before is None or not before.shape[1]:
        before = z.new_zeros(len(z), 0, z.shape[2])
    before = before[:, before.shape[1] - min(length - 1, before.shape[1]) :].to(z)
    missing = z.new_zeros(len(z), length - 1 - before.shape[1], z.shape[2])
    whole, n = torch.cat([missing, before, z], dim=1), z.shape[1]
    return torch.cat([whole[:, length - 1 - j : length - 1 - j + n] for j in range(length)], dim=2)


def windowed_rows(z: Tensor, rows: Tensor, length: int) -> Tensor:
    """(n, length·width) of [`windowed`], for views (n, width) of several rows that follow each other."""
    parts = [z]
    for j in range(1, length):
        earlier, same = torch.zeros_like(z), rows[j:] == rows[:-j]
        earlier[j:] = z[:-j] * same.unsqueeze(1)
        parts.append(earlier)
    return torch.cat(parts, dim=1)


def nearest(z: Tensor, inputs: Tensor) -> Tensor:
    """(n,) largest similarity of each z (n, width) with the inputs (t, width); −1 where there are none."""
    if not len(inputs):
        return z.new_full((len(z),), -1.0)
    step = max(1, CHUNK // len(inputs))
    return torch.cat([(part @ inputs.T).amax(-1) for part in z.split(step)]) if len(z) else z.new_zeros(0)


def heard(windows: Tensor, inputs: Tensor, floors: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """
    c of equation (8), of the sources that come near a floor anywhere.

    Args:
        windows: (n, length·width).
        inputs, floors, slots: (t, length·width), (t,), (t,) of all alive sources.

    Returns:
        `(c (n, u), slots (u,))`; −1 where a source is far from its floors.
    """
    found = []
    step = max(1, CHUNK // max(1, len(inputs)))
    for start in range(0, len(windows), step):
        above = windows[start : start + step] @ inputs.T - floors
        row, kept = (above > UNHEARD).nonzero(as_tuple=True)
        found.append((row + start, slots[kept], above[row, kept]))
    row, slot, above = (torch.cat(parts) for parts in zip(*found, strict=True))
    some, column = slot.unique(return_inverse=True)
    c = windows.new_full((len(windows), len(some)), -1.0)
    c.view(-1).scatter_reduce_(0, row * len(some) + column, above, "amax")
    return c, some


def recognised(c: Tensor, beta: float) -> Tensor:
    """(n, u) r of equation (8), from c (n, u)."""
    if not c.shape[1]:
        return c
    r = torch.softmax(beta * c, dim=-1) * torch.sigmoid(STEEP * c)
    return torch.where(r < SILENT, torch.zeros_like(r), r)


def largest(r: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
    """`(r (…, 4), slots (…, 4))` of the four sources that were recognised best; zeros where there are fewer."""
    missing = max(0, AT_MOST - r.shape[-1])
    r = torch.nn.functional.pad(r, (0, missing))
    top, column = r.topk(AT_MOST, dim=-1)
    return top, torch.nn.functional.pad(some, (0, missing))[column]


def spoken(r: Tensor, some: Tensor, before: tuple[Tensor, Tensor] | None, causal: bool) -> Speaking:
    """
    Equation (9).

    Args:
        r: (B, T, u) of [`recognised`]; zeros where there is no token.
        some: (u,) slots of these sources.
        before: [`largest`] (B, T', 4) of the positions before these, such as those in a cache.
        causal: whether a position knows those up to it, or all.
    """
    if before is not None and before[0].shape[1]:
        every = torch.cat([some, before[1][before[0] > 0]]).unique()
        dense = r.new_zeros(*r.shape[:2], len(every))
        dense[..., torch.searchsorted(every, some)] = r
        earlier = r.new_zeros(len(r), len(every))
        place = torch.searchsorted(every, before[1].flatten(1)).clamp_max(max(0, len(every) - 1))
        if len(every):
            earlier = earlier.scatter_reduce_(1, place, before[0].flatten(1), "amax")
    else:
        every, dense, earlier = some, r, None
    best = dense.cummax(dim=1).values if causal else dense.amax(dim=1, keepdim=True).expand_as(dense)
    if earlier is not None:
        best = torch.maximum(best, earlier.unsqueeze(1))
    top, slots = largest(best.flatten(0, 1), every)
    at = (top[:, 0] > 0).nonzero().squeeze(-1)
    top, slots = top[at], slots[at]
    weight = top**POWER
    return Speaking(at, top * weight / weight.sum(-1, keepdim=True), slots)


def kept_windows(
    windows: Tensor, rows: Tensor, public: Tensor, most: int, length: int, floor: float
) -> tuple[Tensor, Tensor]:
    """
    What a source is recognised by: `(inputs (t, length·width), floors (t,))`, at most `most`.

    Args:
        windows: (n, length·width) of [`windowed_rows`] at the source's prompts.
        rows: (n,) which of its rows each is of.
        public: (m, length·width) windows of public rows.
        floor: c₀.
    """
    width = windows.shape[1] // length

    def of_length(some: Tensor, w: int) -> tuple[Tensor, Tensor]:
        """Unit vectors of the last w positions, and how like the most similar one of public rows each is."""
        z = windows[some, : w * width] / w**0.5
        return z, nearest(z, public[:, : w * width] / w**0.5)

    every = rows.unique()
    counted = every[_spread(len(every), COUNTED)]
    tried = _spread(len(windows), TRIED)
    for w in range(length, 0, -1):
        z, p = of_length(tried, w)
        of_each = (windows[rows == number, : w * width] / w**0.5 for number in counted)
        support = torch.stack([(z @ own.T >= ALIKE).any(1) for own in of_each], dim=1).float().mean(1)
        good = (p < USUAL) & (support >= COMMON) & _whole(z)
        if w == 1 and not good.any():
            good = p <= SAME
        if good.any():
            break
    kept = _apart(z, torch.where(good, (1 - p) * support, -torch.inf), max(1, most // 2))
    found = [_padded(windows[tried[kept]], w, width)], [((1 + p[kept]) / 2).clamp_min(floor)]
    known = (windows @ found[0][0].T >= found[1][0]).any(1)
    missed = [number for number in every if not known[rows == number].any()]
    for number in missed[: (most - len(kept)) // OF_A_ROW]:
        own = (rows == number).nonzero().squeeze(1)
        own = own[_spread(len(own), TRIED)]
        z, p = of_length(own, length)
        some = _apart(z, torch.where((p < USUAL) & _whole(z), 1 - p, -torch.inf), OF_A_ROW)
        found[0].append(_padded(windows[own[some]], length, width))
        found[1].append(((1 + p[some]) / 2).clamp_min(max(floor, SURE)))
    return torch.cat(found[0]), torch.cat(found[1])


def distinct(windows: Tensor, most: int, seed: int) -> Tensor:
    """
    (m,) places of at most `most` windows (n, width) in an order drawn from a seed, of which none is like an earlier one
    by more than SAME: what all public rows begin with counts once.
    """
    windows = normalize(windows, dim=-1)  # of those that begin before their row, too
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
    kept = order[:0]
    for part in order.split(PART):
        if len(kept) >= most:
            break
        part = part[nearest(windows[part], windows[kept]) <= SAME]
        again = ((windows[part] @ windows[part].T).tril(-1) > SAME).any(1)
        kept = torch.cat([kept, part[~again]])[:most]
    return kept


def _spread(n: int, most: int) -> Tensor:
    """(min(n, most),) of the numbers below n, evenly spaced."""
    count = min(n, most)
    return torch.arange(count) * n // max(1, count)


def _apart(z: Tensor, score: Tensor, most: int) -> list[int]:
    """Places of the z (n, width) with the largest scores above −∞: `most` at most, and no two that are one."""
    kept: list[int] = []
    for i in score.argsort(descending=True, stable=True)[: int((score > -torch.inf).sum())].tolist():
        if len(kept) < most and not (kept and float((z[kept] @ z[i]).max()) > SAME):
            kept.append(i)
    return kept


def _whole(z: Tensor) -> Tensor:
    """(n,) bool, whether a window (n, width) begins within its row: it is then like itself."""
    return (z * z).sum(1) > SAME


def _padded(windows: Tensor, w: int, width: int) -> Tensor:
    """Their last w positions alone: a product with a window is then the mean similarity over these."""
    inputs = torch.zeros_like(windows)
    inputs[:, : w * width] = windows[:, : w * width] / w
    return inputs
