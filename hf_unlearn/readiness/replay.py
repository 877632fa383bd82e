"""
Readiness by order: rows that may be asked for come last, in slices; a request goes back to before the first asked row.

A training is a program whose order is index arithmetic ([`hf_unlearn.data.replay_order`]). With a snapshot before each
slice, the program without some rows is: load the last snapshot that has not met them, and run the rest with their
places empty. The result is, bit for bit, the training that never had these rows.

Source: slices and snapshots are SISA's (Bourtoule et al. 2021); the replay of one training in their order, its tail and
its schedule are ours.
"""

from __future__ import annotations

import math

import numpy as np

from ..data.order import permutation
from ..data.replay_order import ReplayOrder

TAIL_TIMES = 3.0  # default tail, in shares of revocable rows: a third of a tail step's rows is then revocable
LONGEST_TAIL = 0.5  # of a default tail: a request for early rows is then half a training
CROWDED = 0.67  # share of revocable rows in a tail step above which the model forgets stable rows
NEAR_RETRAINING = 0.25  # share of revocable rows above which a request costs about a retraining
SLICES = 10  # by default, of groups; rows without groups are one slice
LOWEST_RATE = 0.02  # of the peak, at the last step
SLICE_SEED = 12  # of permutations; see data/replay_order.py


def default_tail(share: float) -> float:
    """Share of the steps that hold revocable rows, which are `share` of all rows."""
    return min(LONGEST_TAIL, TAIL_TIMES * share)


def tail_start(tail: float, steps: int) -> int:
    """First step of a tail that is a share of the steps; at least one step long."""
    return steps - max(1, round(tail * steps)) if steps else 0


def cut_slices(codes: np.ndarray, weights: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """
    The slice of each revocable row: whole groups, about as many rows in each, the likeliest to be asked last.

    Args:
        codes: (R,) group of each row, 0 … G - 1.
        weights: (R,) how likely each row is to be asked for, in any unit; a group has its rows' mean. None: all alike.
        count: slices, at most; groups larger than a slice make fewer.

    Returns:
        (R,) slice numbers 0 … k - 1, each with a row.
    """
    sizes = np.bincount(codes)
    asked = np.zeros(len(sizes)) if weights is None else np.bincount(codes, weights) / sizes
    drawn = permutation(len(sizes), seed, SLICE_SEED)  # among groups that are as likely
    order = drawn[np.argsort(asked[drawn], kind="stable")]
    before = np.cumsum(sizes[order]) - sizes[order]
    slice_of = np.empty(len(sizes), dtype=np.int64)
    slice_of[order] = (before + sizes[order] / 2) * count // sizes.sum()
    return np.unique(slice_of, return_inverse=True)[1][codes]


def rate(step: int, steps: int, warmup: int, tail: int) -> float:
    """Learning rate of a step, in shares of the peak: a warm-up, constant up to the tail, then a linear decay."""
    rise = min(1.0, (step + 1) / (warmup + 1)) if warmup else 1.0
    left = 1.0 if step < tail else max(LOWEST_RATE, (steps - step) / max(1, steps - tail))
    return rise * left


def border_before(order: ReplayOrder, rows: np.ndarray) -> int | None:
    """
    Step of the last snapshot that has met none of these rows (numbers of the order). None for a stable row, which only
    a training from the start leaves out; T where none of them has a place.
    """
    if (rows < order.stable).any():
        return None
    slices = np.searchsorted(np.cumsum(order.slices), rows - order.stable, side="right")
    return int(min(order.borders[slices], default=order.steps))


def request_passes(order: ReplayOrder, rows: np.ndarray, holes: np.ndarray) -> int | None:
    """Row passes of a replay without these rows and without earlier holes; None where there is no way back to."""
    border = border_before(order, rows)
    return None if border is None else order.passes(border, np.union1d(rows, holes))


def expected_cost(order: ReplayOrder, asked: np.ndarray) -> float:
    """
    Mean row passes of a request for one revocable row's slice, over that of a whole training.

    Args:
        asked: (slices,) how likely each slice is to be asked, in any unit.
    """
    none = np.zeros(0, dtype=np.int64)
    passes = np.array([order.passes(int(border), none) for border in order.borders], dtype=float)
    return float((passes * asked).sum() / max(asked.sum(), 1e-300) / order.passes(0, none))


def tail_problems(order: ReplayOrder, tail: float) -> list[str]:
    """What keeps a tail from holding its rows; for a message beside the argument's name."""
    revocable, places = int(order.visits.sum()), int(order.sizes[order.tail_start :].sum())
    if revocable <= CROWDED * places or tail >= 1:
        return []
    least = revocable / (CROWDED * order.sizes.sum())
    long = order.steps - order.tail_start
    return [
        f"is {tail:g}: {100 * revocable / max(1, places):.0f} % of the rows in the last {long} "
        f"steps would be revocable, and a model forgets the others there. Raise it to {math.ceil(100 * least) / 100:g} "
        "or more."
    ]
