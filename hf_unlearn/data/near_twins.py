"""
Rows that are much alike: near twins, by the Jaccard similarity of their shingles.

A row's shingles are its runs of five characters (for short texts: Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, 3.2), of rows without text its runs of three tokens. Two rows are near twins where at least the share
`ALIKE` of the shingles of both together is common. They are found without comparing all pairs: a common shingle must
be among the rarest (1 - ALIKE) of each row's (prefix filtering: Chaudhuri et al. 2006, Bayardo et al. 2007).

Cost: a sort of all shingles, and a comparison for each pair that shares a rare one. Both are bounded: of a long row the
first `MOST_SHINGLES` count, of a large set so many evenly spaced rows that both sets together have `MOST_IN_ALL`, and
at most `MOST_PAIRS` pairs are compared out of `MOST_LOOKS` that share a rare shingle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .duplicates import Content
from .reading import spaced

ALIKE = 0.8
CHARACTERS, TOKENS = 5, 3  # in a shingle
FEWEST_SHINGLES = 10  # of shorter rows a single word decides
MOST_SHINGLES = 1000
MOST_ROWS = 20_000
MOST_IN_ALL = 4_000_000  # shingles of both sets: some 200 MB while they are sorted
MOST_PAIRS = 50_000
MOST_LOOKS = 2_000_000


def near_twins(first: Content, second: Content) -> list[tuple[int, int, float]]:
    """
    `(i, j, similarity)` of rows i of `first` and j of `second` that are much alike and not the same, the most alike
    first.
    """
    by_text = first.texts is not None and second.texts is not None
    if not by_text and (first.tokens is None or second.tokens is None):
        return []
    places = compared_rows(first, second)
    sets = [
        [_shingles(spaced(one.texts[i])) if by_text else _token_shingles(one.tokens[i]) for i in own]
        for one, own in zip((first, second), places, strict=True)
    ]
    found = []
    for a, b in _candidates(*sets):
        i, j = int(places[0][a]), int(places[1][b])
        common = len(np.intersect1d(sets[0][a], sets[1][b], assume_unique=True))
        similarity = common / (len(sets[0][a]) + len(sets[1][b]) - common)
        if similarity >= ALIKE and not set(first.keys[i]) & set(second.keys[j]):
            found.append((i, j, similarity))
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))


def compared_rows(first: Content, second: Content) -> list[np.ndarray]:
    """Places of the rows of each set that are compared: of a small set all of them, of a large one as many as fit."""
    sets = (first, second)
    by_text = first.texts is not None and second.texts is not None
    sizes = [
        np.array([min(len(row), MOST_SHINGLES) for row in (one.texts if by_text else one.tokens) or ()], np.int64)
        for one in sets
    ]
    smaller, larger = sorted((0, 1), key=lambda i: sizes[i].sum())
    share = {smaller: MOST_IN_ALL // 2}
    share[larger] = MOST_IN_ALL - min(int(sizes[smaller].sum()), share[smaller])
    return [_evenly(len(sizes[i]), int(share[i] / max(1.0, sizes[i].mean() if len(sizes[i]) else 1.0))) for i in (0, 1)]


def _evenly(n: int, most: int) -> np.ndarray:
    most = max(1, min(most, MOST_ROWS))
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(int)


def _shingles(text: str) -> np.ndarray:
    """Hashes (n,) uint64 of a text's runs of characters, each once; none where there are few."""
    text = text[: MOST_SHINGLES + CHARACTERS - 1]
    return _runs(np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32), CHARACTERS)


def _token_shingles(ids: np.ndarray) -> np.ndarray:
    return _runs(ids[: MOST_SHINGLES + TOKENS - 1], TOKENS)


def _runs(values: np.ndarray, width: int) -> np.ndarray:
    n = len(values) - width + 1
    if n < FEWEST_SHINGLES:
        return np.empty(0, np.uint64)
    values, mixed = values.astype(np.uint64), np.zeros(n, np.uint64)
    for k in range(width):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + values[k : k + n] + np.uint64(1)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)


def _candidates(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of rows that share one of their rarest shingles, and whose sizes allow the similarity."""
    together = [*first, *second]
    if not sum(map(len, first)) or not sum(map(len, second)):
        return []
    _, rank, counts = np.unique(np.concatenate(together), return_inverse=True, return_counts=True)
    rarity = np.empty(len(counts), np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    rarity = rarity[rank]  # of each shingle, 0 the rarest
    rare: dict[int, list[int]] = {}
    pairs: dict[tuple[int, int], None] = {}
    start = looks = 0
    for row, shingles in enumerate(together):
        own = slice(start, start + len(shingles))
        start += len(shingles)
        if not len(shingles):
            continue
        kept = len(shingles) - int(np.ceil(ALIKE * len(shingles) - 1e-9)) + 1
        rarest = np.sort(rarity[own])[:kept].tolist()
        if row < len(first):
            for key in rarest:
                rare.setdefault(key, []).append(row)
            continue
        for key in rarest:
            looks += len(rare.get(key, ()))
            for other in rare.get(key, ()):
                sizes = len(first[other]), len(shingles)
                if min(sizes) >= ALIKE * max(sizes):
                    pairs[other, row - len(first)] = None
        if len(pairs) > MOST_PAIRS or looks > MOST_LOOKS:
            break
    return list(pairs)[:MOST_PAIRS]
