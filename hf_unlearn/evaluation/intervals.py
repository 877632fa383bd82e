"""
The bootstrap: how the interval of a measure is made. Arrays only.

The value of a measure is its formula applied to the rows. Its interval goes from the 2.5 % to the 97.5 % percentile of
the same formula applied to `resamples` resamples of the rows, each of the same size and drawn with replacement. The
interval says what other rows of the same kind could have given with this same model; it does not hold the spread over
training seeds. Called from `measuring.py` and from the files in `measures/` and `attacks/`.

* a statistic of one sample (loss, accuracy, …): [`counts`] says how often each row is in each resample;
* a mean over some rows (truth ratio, ROUGE-L): [`mean_measure`];
* of two samples, forget and unseen rows (the AUC, the AUC's gap to the retrained model): [`resampled_sides`] draws both
  sides anew, each from itself.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

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
    """
    `{"value", "low", "high", "n"}` of a value and its resamples (R,); no interval without any, or where one of them is
    not finite.
    """
    low = high = None
    if value is not None and draws is not None and np.isfinite(draws).all():
        low, high = (float(q) for q in np.percentile(draws, [2.5, 97.5]))
    return {"value": finite(value), "low": low, "high": high, "n": int(n)}


def finite(value: float | None) -> float | None:
    """The value as a float; None for one that is not finite, which JSON does not know."""
    return None if value is None or not math.isfinite(value) else float(value)


def mean_measure(values: np.ndarray, name: str, seed: int, resamples: int) -> dict[str, float | int | None]:
    """Mean of a statistic (n,) that some rows have, with its interval; resampled by `seed` and `name`."""
    n = len(values)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    draws = None
    if n >= 2:
        draws = np.concatenate([values[rng.integers(n, size=(size, n))].mean(1) for size in chunks(n, resamples)])
    return summary(values.mean() if n else None, draws, n)


def ratio_measure(
    a: np.ndarray, b: np.ndarray, ratio: Callable[..., np.ndarray], name: str, seed: int, resamples: int
) -> dict[str, float | int | None]:
    """`ratio` of the sums of two columns (n,) of the same rows, with its interval: rows are drawn in pairs."""
    n = len(a)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    draws = None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(ratio(a.sum(dtype=float), b.sum(dtype=float)))
        if n >= 2:
            at = [rng.integers(n, size=(size, n)) for size in chunks(n, resamples)]
            draws = np.concatenate([ratio(a[i].sum(1, dtype=float), b[i].sum(1, dtype=float)) for i in at])
    return summary(value, draws, n)


def resampled_sides(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], m: int, n: int, seed: int, resamples: int
) -> np.ndarray | None:
    """
    (K, resamples) values of a statistic of (R, M) and (R, N) rows; both sides are drawn anew, each from itself.

    None where a side has fewer than two rows. Equal sizes and seeds draw equal rows, so two models are compared in
    pairs.

    Raises:
        ValueError: for `resamples` below 1.
    """
    if not resamples >= 1:
        raise ValueError(f"`resamples` is {resamples}: expected an integer of at least 1.")
    if min(m, n) < 2:
        return None
    rng = np.random.default_rng([seed, zlib.crc32(b"membership")])
    draws = [
        statistic(rng.integers(m, size=(size, m)), rng.integers(n, size=(size, n))) for size in chunks(m + n, resamples)
    ]
    return np.concatenate(draws, axis=1)
