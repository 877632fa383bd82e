"""Model utility: one number for what a model is worth on rows that it should know (Maini et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..intervals import summary

SPLITS = ("retain", "real_authors", "world_facts")
PARTS = ("prob", "rougeL_recall", "truth_ratio")


def utility_of(parts: Mapping[str, float]) -> float:
    """
    Harmonic mean of all `parts` (name -> value, at least 0); 0 if one of them is 0. The benchmark's model utility is
    that of nine: probability, ROUGE-L recall and truth ratio on retain rows, real authors and world facts. Parts of the
    forget rows do not belong in it. Source: Maini et al. 2024 (TOFU).

    Raises:
        ValueError: no parts, or one that is not finite or below 0.
    """
    if not parts:
        raise ValueError("`parts` is empty: expected a dict of name -> value.")
    wrong = {name: value for name, value in parts.items() if not 0 <= value < np.inf}
    if wrong:
        raise ValueError(f"`parts` has {wrong}: expected finite values of at least 0.")
    values = np.array(list(parts.values()), float)
    with np.errstate(divide="ignore", over="ignore"):  # 1/0 and its like are infinite: a mean of 0
        return float(len(values) / np.sum(1.0 / values))


def utility_measure(found: Mapping[str, dict], splits: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    `model_utility` from the measures of the parts; None where a part was not measured, or there are no retain rows.

    Args:
        found: measures by name.
        splits: of the model.
    """
    there = [split for split in SPLITS if split in splits]
    names = [f"{split}_{part}" for split in there for part in PARTS]
    if "retain" not in there or any((found.get(name) or {}).get("value") is None for name in names):
        return None
    value = utility_of({name: found[name]["value"] for name in names})
    return {**summary(value, None, sum(found[f"{split}_prob"]["n"] for split in there)), "parts": names}
