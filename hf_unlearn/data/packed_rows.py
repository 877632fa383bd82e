"""Rows that hold several texts in one sequence, as packing makes them: a request could take out none of these texts."""

from __future__ import annotations

import numpy as np

SAID = "hold several texts each: their `position_ids` begin again"
FIX = "a request takes rows out, so give each text a row of its own, without packing."


def of_several_texts(positions: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """
    Rows whose positions come to 0 more than once.

    Args:
        positions: of all tokens, (N,); padding may have 0 or 1.
        owner: row of each token, (N,), ascending.
    """
    before = np.r_[np.nan, positions[:-1]]
    begins = (positions == 0) & ((before != 0) | (owner != np.r_[-1, owner[:-1]]))
    return np.flatnonzero(np.bincount(owner[begins]) > 1) if begins.any() else np.empty(0, np.int64)
