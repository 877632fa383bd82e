"""
Rows that are much alike: near twins, by the Jaccard similarity of their shingles.

A row's shingles are its runs of five characters (for short texts: Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, 3.2), of rows without text its runs of three tokens. Two rows are near twins where at least the share
`ALIKE` of the shingles of both together is common. They are found without comparing all pairs: a common shingle must
be among the rarest (1 - ALIKE) of each row's (prefix filtering: Chaudhuri et al. 2006, Bayardo et al. 2007).

Cost: two sorts of all shingles, and a comparison for each pair that shares a rare one. All are bounded: of a long row
the first `MOST_SHINGLES` count, of a large set so many evenly spaced rows that both sets together have `MOST_IN_ALL`,
and at most `MOST_PAIRS` pairs are compared out of `MOST_LOOKS` that share a rare shingle. Shingles are told apart by
the 40 bits of a hash or more that fit into one number with a place, so that one sort is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .duplicates import Content
from .gather import chunks
from .reading import spaced

ALIKE = 0.8
CHARACTERS, TOKENS = 5, 3  # in a shingle
FEWEST_SHINGLES = 10  # of shorter rows a single word decides
MOST_SHINGLES = 1000
MOST_ROWS = 20_000
MOST_IN_ALL = 4_000_000  # shingles of both sets: some 130 MB while they are sorted
MOST_PAIRS = 50_000
MOST_LOOKS = 2_000_000
AT_ONCE = 2000  # rows, or pairs of rows, that are worked on at a time


def near_twins(first: Content, second: Content) -> list[tuple[int, int, float]]:
    """
    `(i, j, similarity)` of rows i of `first` and j of `second` that are much alike and not the same, the most alike
    first.
    """
    by_text = _by_text(first, second)
    if not by_text and (first.tokens is None or second.tokens is None):
        return []
    places = compared_rows(first, second)
    values, sizes = [], []
    for one, own in zip((first, second), places, strict=True):
        for part in chunks(own, AT_ONCE):
            made = _shingles_of_texts(one.texts.at(part)) if by_text else _shingles(one.tokens.at(part), TOKENS)
            values.append(made[0])
            sizes.append(made[1])
    if not sum(map(len, values)):
        return []
    shingles = Shingles.of(np.concatenate(values), np.concatenate(sizes))
    n, found = len(places[0]), []
    pairs = _candidates(shingles, n)
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        similarity = shingles.similarity(some)
        alike = similarity >= ALIKE
        for (a, b), share in zip(some[alike].tolist(), similarity[alike].tolist(), strict=True):
            i, j = int(places[0][a]), int(places[1][b - n])
            if not _same(first.keys[i], second.keys[j]):
                found.append((i, j, share))
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))


def _same(keys: np.ndarray, others: np.ndarray) -> bool:
    """Whether two rows have a key (k, 2) in common."""
    return bool((keys[:, None] == others[None]).all(axis=-1).any())


def _by_text(first: Content, second: Content) -> bool:
    return first.texts is not None and second.texts is not None


def compared_rows(first: Content, second: Content) -> list[np.ndarray]:
    """Places of the rows of each set that are compared: of a small set all of them, of a large one as many as fit."""
    by_text = _by_text(first, second)
    said = [one.texts if by_text else one.tokens for one in (first, second)]
    sizes = [np.minimum(own.sizes, MOST_SHINGLES) if own is not None else np.zeros(0) for own in said]
    smaller, larger = sorted((0, 1), key=lambda i: sizes[i].sum())
    share = {smaller: MOST_IN_ALL // 2}
    share[larger] = MOST_IN_ALL - min(int(sizes[smaller].sum()), share[smaller])
    return [_evenly(len(sizes[i]), int(share[i] / max(1.0, sizes[i].mean() if len(sizes[i]) else 1.0))) for i in (0, 1)]


def _evenly(n: int, most: int) -> np.ndarray:
    most = max(1, min(most, MOST_ROWS))
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(int)


def _shingles_of_texts(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    cut = [spaced(text)[: MOST_SHINGLES + CHARACTERS - 1] for text in texts]
    return _shingles([np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32) for text in cut], CHARACTERS)


def _shingles(rows: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """
    `(hashes uint64 of the runs of all rows, how many each row has)`, as they come; none of a row that has few.

    Args:
        rows: whole numbers of each row.
    """
    rows = [row[: MOST_SHINGLES + width - 1] for row in rows]
    lengths = np.array([len(row) for row in rows], np.int64)
    counts = np.where(lengths - width + 1 < FEWEST_SHINGLES, 0, lengths - width + 1)
    if not counts.any():
        return np.empty(0, np.uint64), counts
    values = np.concatenate(rows).astype(np.uint64)
    mixed = np.zeros(len(values) - width + 1, np.uint64)
    for k in range(width):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + values[k : k + len(mixed)] + np.uint64(1)
        mixed ^= mixed >> np.uint64(29)
    starts = np.cumsum(lengths) - lengths
    mixed *= np.uint64(0x9E3779B97F4A7C15)  # the last value, too, moves the upper bits, which are kept
    return mixed[_ranges(starts, counts)], counts


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, …, of each start so many, one after the other."""
    shift = starts - (np.cumsum(counts) - counts)
    return np.repeat(shift, counts) + np.arange(counts.sum())


@dataclass
class Shingles:
    """
    The shingles of rows, each once a row.

    Args:
        ranks: uint32 of all rows one after the other, in each row ascending: the rarer a shingle, the lower its rank.
        sizes: (n,) how many each row has.
    """

    ranks: np.ndarray
    sizes: np.ndarray

    def __post_init__(self):
        self.ends = np.cumsum(self.sizes)

    @classmethod
    def of(cls, hashes: np.ndarray, counts: np.ndarray) -> Shingles:
        """From the hashes of all rows, as of [`_shingles`]."""
        bits = np.uint64(len(hashes).bit_length())
        keys = (hashes >> bits << bits) | np.arange(len(hashes), dtype=np.uint64)
        keys.sort()
        row = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        row = row[(keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)]  # of each key
        keys >>= bits
        new = np.ones(len(keys), bool)
        new[1:] = keys[1:] != keys[:-1]
        del keys
        number = np.cumsum(new, dtype=np.uint32) - np.uint32(1)  # of the shingle: equal ones have the same
        once = new
        once[1:] |= row[1:] != row[:-1]
        row, number = row[once], number[once]
        often = np.minimum(np.bincount(number), 65535).astype(np.uint16)
        rank = np.empty(len(often), np.uint32)
        rank[np.argsort(often, kind="stable")] = np.arange(len(often), dtype=np.uint32)
        both = row.astype(np.uint64) << np.uint64(32) | rank[number]
        del number
        both.sort()
        return cls(both.astype(np.uint32), np.bincount(row, minlength=len(counts)))

    def similarity(self, pairs: np.ndarray) -> np.ndarray:
        """(m,) Jaccard similarity of pairs (m, 2) of rows."""
        sizes = self.sizes[pairs]
        both = []
        for side in (0, 1):
            ranks = self.ranks[_ranges((self.ends - self.sizes)[pairs[:, side]], sizes[:, side])]
            both.append(np.repeat(np.arange(len(pairs), dtype=np.uint64), sizes[:, side]) << np.uint64(32) | ranks)
        keys = np.sort(np.concatenate(both))
        common = np.bincount((keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)).astype(np.int64), minlength=len(pairs))
        return common / (sizes.sum(axis=1) - common)


def _candidates(shingles: Shingles, n: int) -> np.ndarray:
    """
    (m, 2) pairs of rows that share one of their rarest shingles, and whose sizes allow the similarity; of the first n
    rows and of the others one each.
    """
    sizes, ends = shingles.sizes, shingles.ends
    kept = np.where(sizes > 0, sizes - np.ceil(ALIKE * sizes - 1e-9).astype(np.int64) + 1, 0)
    rare = shingles.ranks[_ranges(ends - sizes, kept)]  # of all rows, one after the other
    row = np.repeat(np.arange(len(sizes)), kept)
    split = int(kept[:n].sum())
    order = np.argsort(rare[:split], kind="stable")
    known, known_row = rare[:split][order], row[:split][order]
    low, high = (np.searchsorted(known, rare[split:], side) for side in ("left", "right"))
    looks, other = high - low, row[split:]
    last = np.searchsorted(np.cumsum(looks), MOST_LOOKS, side="right")  # the row that has this one is the last
    if last < len(other):
        end = np.searchsorted(other, other[last], side="right")
        low, looks, other = low[:end], looks[:end], other[:end]
    pairs = np.sort(np.repeat(other, looks) << 32 | known_row[_ranges(low, looks)])
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    pairs = np.stack([pairs & 0xFFFFFFFF, pairs >> 32], axis=1)
    of_pairs = np.sort(sizes[pairs], axis=1)
    return pairs[of_pairs[:, 0] >= ALIKE * of_pairs[:, 1]][:MOST_PAIRS]
