"""
Readiness by order: rows that may be asked for come last, in slices; a request goes back to before the first asked row.

A training is a program whose order is index arithmetic ([`hf_unlearn.data.replay_order`]). With a snapshot before each
slice, the program without some rows is: load the last snapshot that has not met them, and run the rest with their
places empty. The result is, bit for bit, the training that never had these rows.

Source: slices and snapshots are SISA's (Bourtoule et al. 2021); the replay of one training in their order, its tail and
its schedule are ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.order import permutation
from ..data.replay_order import ReplayOrder

OFTEN = 0.4  # visits of a revocable row by default, in shares of a plain training's: rows that come late stay known
FEWEST_VISITS = 3.0  # that a default leaves it, where a plain training has as many
FEWEST_OF_TEXT = 11.0  # the same for a language model: long answers are not learned in a few visits
FULL = 0.25  # share of revocable rows in the tail's steps that a default tail leads to
MANY = 0.5  # visits, in shares of a plain training's, above which such a tail would be long: then it is fuller
FULLER = 0.33
SPARSE = 0.3  # share of revocable rows in the tail's steps up to which the learning rate falls over the tail alone
SELDOM = 5.0  # visits of a revocable row up to which it does, too: so few teach nothing once the rate has fallen
LONGEST_TAIL = 0.5  # of a default tail: a request for early rows is then half a training
CROWDED = 0.67  # share of revocable rows in a tail step above which the model forgets stable rows
NEAR_RETRAINING = 0.25  # share of revocable rows above which a request costs about a retraining
SLICES = 10  # by default, of groups; rows without groups are one slice
LOWEST_RATE = 0.02  # of the peak, at the last step
SLICE_SEED = 12  # of permutations; see data/replay_order.py


def default_often(epochs: float, causal_lm: bool) -> float:
    """How often a revocable row comes, in shares of a plain training of so many epochs."""
    return min(1.0, max(OFTEN, (FEWEST_OF_TEXT if causal_lm else FEWEST_VISITS) / epochs))


def default_tail(bare: ReplayOrder) -> float:
    """Share of the steps that hold the revocable rows of an order that lacks its tail; longer where it were crowded."""
    full = FULL if bare.often <= MANY else FULLER
    wanted = min(LONGEST_TAIL, sum(bare.slices) / bare.rows * bare.often / full)
    places = np.cumsum(bare.sizes[::-1])[::-1]  # from each step on
    roomy = np.flatnonzero(CROWDED * places >= bare.visits.sum())
    begin = min(tail_start(wanted, bare.steps), int(roomy.max(initial=0)))
    return (bare.steps - begin) / max(1, bare.steps)


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


def cut(
    bare: ReplayOrder, codes: np.ndarray, weights: np.ndarray | None, tail: float, count: int
) -> tuple[ReplayOrder, np.ndarray]:
    """
    An order with its tail and its slices, and the slice of each revocable row (R,).

    Args:
        bare: the order without them: all revocable rows in one slice.
        codes, weights: as in [`cut_slices`].
        tail: share of the steps.
        count: slices, at most one a step of the tail.
    """
    begin = tail_start(tail, bare.steps)
    slice_of = cut_slices(codes, weights, max(1, min(count, bare.steps - begin)), bare.seed)
    slices = tuple(np.bincount(slice_of).tolist())
    return dataclasses.replace(bare, slices=slices, tail_start=begin), slice_of


def falls_from(order: ReplayOrder) -> int:
    """
    The step from which the learning rate falls: the tail's first, or where the tail is full and its rows come often a
    tail's length before, so that the many new rows change less of what the others taught.
    """
    places, visits = order.sizes[order.tail_start :].sum(), order.visits.sum()
    if visits <= SPARSE * places or visits <= SELDOM * sum(order.slices):
        return order.tail_start
    return max(0, 2 * order.tail_start - order.steps)


def rate(step: int, steps: int, warmup: int, fall: int) -> float:
    """Learning rate of a step, in shares of the peak: a warm-up, constant up to the fall, then a linear decay."""
    rise = min(1.0, (step + 1) / (warmup + 1)) if warmup else 1.0
    left = 1.0 if step < fall else max(LOWEST_RATE, (steps - step) / max(1, steps - fall))
    return rise * left


def border_before(order: ReplayOrder, rows: np.ndarray) -> int | None:
    """
    Step of the last snapshot that has met none of these rows (numbers of the order). None for a stable row, which only
    a training from the start leaves out; the last border where none of them has a place.
    """
    if (rows < order.stable).any():
        return None
    slices = np.searchsorted(np.cumsum(order.slices), rows - order.stable, side="right")
    last = order.borders[order.borders < order.steps].max()
    return int(min([last, *order.borders[slices]]))


def request_passes(order: ReplayOrder, rows: np.ndarray, holes: np.ndarray) -> int | None:
    """Row passes of a replay without these rows and without earlier holes; None where there is no way back to."""
    border = border_before(order, rows)
    return None if border is None else order.passes(border, np.union1d(rows, holes))


@dataclass(frozen=True)
class Choice:
    """
    A tail and a number of slices, and what requests cost with them.

    Args:
        tail: share of the steps.
        slices: that the groups make, each with a snapshot.
        revocable: share of the rows of a tail step that are revocable; above `CROWDED` the model forgets the others.
        request: row passes of the replay of one request for one group, as a share of retraining without it; the mean
            over groups, by how likely each is to ask.
        worst: the same of the dearest group.
        yearly: of all that is expected in a year, each request replayed by itself, in retrainings.
    """

    tail: float
    slices: int
    revocable: float
    request: float
    worst: float
    yearly: float

    @property
    def is_crowded(self) -> bool:
        """Whether a training refuses this tail."""
        return self.tail < 1 and self.revocable > CROWDED


def weigh(bare: ReplayOrder, groups: Sequence[int], rates: np.ndarray, tail: float, count: int) -> Choice:
    """
    What a training with this tail and so many slices would make of requests, each for one whole group.

    Args:
        bare: the order without them: all revocable rows in one slice.
        groups: (G,) rows of each group that may ask.
        rates: (G,) requests a year of each.
    """
    sizes = np.asarray(groups)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    alike = (rates == rates[0]).all()
    order, slice_of = cut(bare, codes, None if alike else rates[codes], tail, count)
    none = np.zeros(0, dtype=np.int64)
    from_border = np.array([order.passes(int(border), none) for border in order.borders], dtype=float)
    visits = order.often * order.sizes.sum() / order.rows
    own = sizes * visits  # passes of a group's rows, all of which come after its border
    shares = np.maximum(0.0, from_border[slice_of[np.cumsum(sizes) - 1]] - own) / (order.passes(0, none) - own)
    in_tail = order.sizes[order.tail_start :].sum()
    return Choice(
        tail=(order.steps - order.tail_start) / order.steps,
        slices=len(order.slices),
        revocable=float(order.visits.sum() / in_tail),
        request=float(np.average(shares, weights=rates if rates.any() else None)),
        worst=float(shares.max()),
        yearly=float((shares * rates).sum()),
    )


def visits_problems(order: ReplayOrder) -> list[str]:
    """What keeps all steps together from holding the visits of the revocable rows; for beside the argument's name."""
    visits, places = int(order.visits.sum()), int(order.sizes.sum())
    if visits <= places:
        return []
    return [f"would have revocable rows come {visits} times, and all steps have room for {places} rows. Lower it."]


def tail_problems(order: ReplayOrder, tail: float) -> list[str]:
    """What keeps a tail from holding its rows; for a message beside the argument's name."""
    revocable, places = int(order.visits.sum()), int(order.sizes[order.tail_start :].sum())
    if revocable <= CROWDED * places or tail >= 1:
        return []
    least = revocable / (CROWDED * order.sizes.sum())
    long = order.steps - order.tail_start
    return [
        f"is {tail:g}: {100 * revocable / max(1, places):.0f} % of the rows in the last {long} "
        f"steps would be revocable, and a model forgets the others there. Raise it to "
        f"{min(1.0, math.ceil(100 * least) / 100):g} or more; where that is near 1, a request is near retraining."
    ]
