"""
Forget quality: can the forget rows under a model be told from those under a model retrained without them?

The p-value of a Kolmogorov-Smirnov test between the two samples of a statistic (Maini et al. 2024, arXiv 2401.06121),
and what a test of so few rows could have seen.

Differs from the paper: without wrong answers to the forget rows the statistic is their loss; and the smallest distance
that so many rows can show is given beside the p-value.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..intervals import summary
from .arrays import vector
from .truth_ratio import answers


def forget_quality_of(
    statistic: Sequence[float] | np.ndarray,  # (N,)
    retrained_statistic: Sequence[float] | np.ndarray,  # (M,)
) -> tuple[float, float]:
    """
    Two-sided two-sample Kolmogorov-Smirnov test (`scipy.stats.ks_2samp`) between a statistic of the forget rows under
    a model and under one retrained without them: (p, D). The benchmark's statistic is `truth_ratio(...,
    mean="geometric")` and p its forget quality: 1 where the two cannot be told apart. Source: Maini et al. 2024 (TOFU).

    A high p is evidence only where the test could have seen a difference: with 40 rows each, a D of .3 still has
    p = .054.

    Raises:
        ValueError: no rows, or values that are not finite.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(vector(statistic, "statistic"), vector(retrained_statistic, "retrained_statistic"))
    return float(found.pvalue), float(found.statistic)


def forget_quality_measure(
    mine: Mapping[str, Mapping[str, np.ndarray]], theirs: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any] | None:
    """
    `forget_quality` of a model beside the retrained one, from the columns of their tables (split -> columns).

    The statistic is the geometric truth ratio where both have wrong answers to the forget rows, as in the source; else
    the loss. Besides the p-value: `distance` (KS), `detectable` (the smallest distance that so many rows
    can show, [`ks_detectable`]), `of` (the statistic). None where a value is not finite.
    """
    statistics = [answers(columns).get("forget", {}) for columns in (mine, theirs)]
    if all("ratio" in statistic for statistic in statistics):
        pair, of = [statistic["ratio"] for statistic in statistics], "truth ratio"
    else:
        pair, of = [c["forget"]["nll_sum"] / c["forget"]["n_labels"] for c in (mine, theirs)], "loss"
    if not all(np.isfinite(part).all() for part in pair):
        return None
    p, distance = forget_quality_of(*pair)
    n = len(pair[0])
    return {**summary(p, None, n), "distance": float(distance), "detectable": ks_detectable(n, n), "of": of}


@lru_cache(maxsize=256)
def ks_detectable(n: int, m: int, alpha: float = 0.05) -> float | None:
    """
    Smallest Kolmogorov-Smirnov distance that samples of `n` and `m` values can show at level `alpha`.

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
    i = _first_from(lambda i: _ks_p_value(i, 0, n, m) < alpha, n)
    if i is None:
        return None
    # The distance is in ((i - 1)/n, i/n]. In units of 1/(nm) each j has one candidate there, k*m - j*n.
    j = np.arange(m + 1)
    k = (i * m + j * n) // m
    distance, first = np.unique((k * m - j * n)[k <= n], return_index=True)
    at = _first_from(lambda at: _ks_p_value(k[first[at - 1]], j[first[at - 1]], n, m) < alpha, len(distance))
    return float(distance[at - 1] / (n * m))


def _first_from(holds, stop: int) -> int | None:
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
