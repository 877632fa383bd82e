"""Bootstrap resampling, intervals, and what a sample is too small to see. Arrays only."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import numpy as np

CHUNK_ELEMENTS = 1_000_000  # rows x resamples held at once by the bootstrap: bounds its memory, not its result


def counts(positions: np.ndarray, width: int) -> np.ndarray:
    """(R, rows) positions below `width` -> (R, width): how often each position occurs in each line."""
    offset = np.arange(len(positions))[:, None] * width
    return np.bincount((positions + offset).ravel(), minlength=len(positions) * width).reshape(-1, width)


def chunks(n_rows: int, resamples: int) -> list[int]:
    """Sizes that add up to `resamples`, so that no chunk holds more than CHUNK_ELEMENTS rows."""
    size = max(1, CHUNK_ELEMENTS // n_rows)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def summary(value: float | None, draws: np.ndarray | None, n: int) -> dict[str, float | int | None]:
    low = high = None
    if value is not None and draws is not None and np.isfinite(draws).all():
        low, high = (float(q) for q in np.percentile(draws, [2.5, 97.5]))
    return {"value": finite(value), "low": low, "high": high, "n": int(n)}


def finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@lru_cache(maxsize=256)
def ks_detectable(n: int, m: int, alpha: float = 0.05) -> float | None:
    """
    Smallest Kolmogorov-Smirnov distance that samples of `n` and `m` values can show at level `alpha` (ours).

    A distance between two such samples is |i/n - j/m|. Of all of these the smallest whose two-sided p-value is below
    `alpha`, by `scipy.stats.ks_2samp` itself (exact up to 10 000 values a side where scipy's exact sum succeeds, else
    asymptotic). A test that finds nothing says only that the two empirical distributions are closer than this.

    Returns:
        The distance, in (0, 1]; `None` where not even two samples without overlap would be seen (3 against 3 at .05).

    Raises:
        ValueError: for a size below 1, or `alpha` outside (0, 1).
    """
    if not (n >= 1 and m >= 1):
        raise ValueError(f"`n` and `m` are {n} and {m}: expected sizes of samples, integers of at least 1.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` is {alpha}: expected a level between 0 and 1, such as .05.")
    i = _first(lambda i: _ks_p_value(i, 0, n, m) < alpha, n)
    if i is None:
        return None
    # The distance is in ((i - 1)/n, i/n]. In units of 1/(nm) each j has one candidate there, k*m - j*n.
    j = np.arange(m + 1)
    k = (i * m + j * n) // m
    distance, first = np.unique((k * m - j * n)[k <= n], return_index=True)
    at = _first(lambda at: _ks_p_value(k[first[at - 1]], j[first[at - 1]], n, m) < alpha, len(distance))
    return float(distance[at - 1] / (n * m))


def _first(holds, stop: int) -> int | None:
    """The smallest of 1..stop from which on `holds`, by bisection; `None` if it holds nowhere."""
    low, high = 1, stop + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low if low <= stop else None


def _ks_p_value(i: int, j: int, n: int, m: int) -> float:
    """scipy's p-value of the distance |i/n - j/m|, from samples that have it: i of n and j of m are 0, the others 1."""
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "exact calculation unsuccessful": scipy then approximates
        return ks_2samp((np.arange(n) >= i).astype(float), (np.arange(m) >= j).astype(float)).pvalue
