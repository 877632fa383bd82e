"""Which row comes when: index arithmetic from (seed, place), so that it shards, resumes and repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from torch.utils.data import Dataset, Sampler


@lru_cache(maxsize=8)
def permutation(n: int, *key: int) -> np.ndarray:
    """The permutation of range(n) that belongs to `key` (seed, pass, …); a pure function of its arguments."""
    return np.random.default_rng(key).permutation(n)


def spread_order(flags: np.ndarray | None, n: int, seed: int, epoch: int) -> np.ndarray:
    """
    Order of one epoch: a permutation of range(n) with the flagged rows spread evenly over it.

    Place p is a flagged one where floor((p + 1)·R/n) > floor(p·R/n), R of n rows being flagged, so each window of b
    places holds floor or ceil of b·R/n of them, whatever the batch size and the number of processes.
    """
    if flags is None or not flags.any():
        return permutation(n, seed, epoch, 0)
    flagged, others = np.flatnonzero(flags), np.flatnonzero(~flags)
    places = np.arange(n, dtype=np.int64)
    here = ((places + 1) * len(flagged)) // n > (places * len(flagged)) // n
    order = np.empty(n, dtype=np.int64)
    order[here] = flagged[permutation(len(flagged), seed, epoch, 1)]
    order[~here] = others[permutation(len(others), seed, epoch, 2)]
    return order


def draw_request(pool: np.ndarray, k: int, seed: int, turn: int) -> np.ndarray:
    """
    The `turn`-th simulated request: k of the row numbers in `pool` (all, where there are fewer). From turn to turn each
    row is drawn once before any is drawn twice; a pure function of its arguments.
    """
    n = len(pool)
    if k >= n:
        return pool[permutation(n, seed, turn, 6)]
    places = np.arange(turn * k, (turn + 1) * k)
    rounds = {r: permutation(n, seed, int(r), 6) for r in np.unique(places // n)}
    return pool[[rounds[p // n][p % n] for p in places]]


def draw_groups(codes: np.ndarray, k: int, seed: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    The `turn`-th simulated request for whole groups: random groups until they have k rows, never all of them.

    Args:
        codes: group (N,) of each row, 0 … G - 1.

    Returns:
        `(row numbers (k,) at most, chosen groups)`; a pure function of its arguments.
    """
    sizes = np.bincount(codes)
    order = permutation(len(sizes), seed, turn, 7)[: max(1, len(sizes) - 1)]
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), k)) + 1]
    rows = np.flatnonzero(np.isin(codes, chosen))
    return rows[permutation(len(rows), seed, turn, 8)][:k], chosen


class SpreadSampler(Sampler[int]):
    """
    [`spread_order`] as a sampler. The epoch comes from `epoch`, a function, and not from `set_epoch`, which does not
    reach a sampler on every path of a resumed run.
    """

    def __init__(self, flags: np.ndarray | None, n: int, seed: int, epoch: Callable[[], int]):
        self.flags, self.n, self.seed, self.epoch = flags, n, seed, epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self):
        return iter(spread_order(self.flags, self.n, self.seed, self.epoch()).tolist())


class PairedDataset(Dataset):
    """
    The schedule of a request as a data set: item i is `(forget row, retain row, place of the forget row)`.

    Pass e visits every forget row once, in the order of (seed, e). The retain rows go on across forget passes: each
    is seen once before any is seen twice. Read it in sequence.

    Args:
        passes: forget passes; the length is passes · |forget|.
        alternates: a row that stands beside each forget row; None: none does.
        numbered: items also hold the place of the retain row, and the alternate or None.
    """

    def __init__(self, forget, retain, passes: int, seed: int, alternates=None, numbered: bool = False):
        self.forget, self.retain, self.passes, self.seed = forget, retain, passes, seed
        self.alternates, self.numbered = alternates, numbered or alternates is not None

    def __len__(self) -> int:
        return self.passes * len(self.forget)

    def indices(self, i: int) -> tuple[int, int]:
        """(index of the forget row, index of the retain row) of item i."""
        forget_pass, place = divmod(i, len(self.forget))
        retain_pass, retain_place = divmod(i, len(self.retain))
        return (
            int(permutation(len(self.forget), self.seed, forget_pass, 3)[place]),
            int(permutation(len(self.retain), self.seed, retain_pass, 4)[retain_place]),
        )

    def __getitem__(self, i: int):
        return self.__getitems__([i])[0]

    def __getitems__(self, items: list[int]) -> list[tuple]:
        """A batch at once, as a loader asks for it: reading rows one by one costs a data set several times as much."""
        if wrong := [i for i in items if not 0 <= i < len(self)]:
            raise IndexError(wrong[0])
        places = [self.indices(i) for i in items]
        forget = rows_at(self.forget, [f for f, _ in places])
        retain = rows_at(self.retain, [r for _, r in places])
        if not self.numbered:
            return [(f, r, place) for f, r, (place, _) in zip(forget, retain, places, strict=True)]
        beside = [None if self.alternates is None else self.alternates[place] for place, _ in places]
        return [(f, r, *own, w) for f, r, own, w in zip(forget, retain, places, beside, strict=True)]


def rows_at(rows, places: list[int]) -> list:
    return rows.__getitems__(places) if hasattr(rows, "__getitems__") else [rows[i] for i in places]
