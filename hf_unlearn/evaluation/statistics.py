"""Bootstrap resampling and intervals: numpy only."""

from __future__ import annotations

import math

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
