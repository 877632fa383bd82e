"""Numbers out of one run's measures (name -> `{"value", "low", "high", "n"}`), as the judgement needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RIGHT = ("exact_match", "accuracy")  # how a row counts as answered right; word for word where that was measured
STILL_KNOWN_EXCESS = 0.05  # rows are still known where more than this share beyond the yardstick's are right


def value_of(measures: Mapping[str, Any], name: str) -> float | None:
    return (measures.get(name) or {}).get("value")


def right_of(measures: Mapping[str, Any], split: str) -> tuple[str, int, int] | None:
    """(measure, rows right, rows): word for word where that was measured."""
    for kind in RIGHT:
        count = count_of(measures, f"{split}_{kind}")
        if count is not None:
            return kind, count, measures[f"{split}_{kind}"]["n"]
    return None


def count_of(measures: Mapping[str, Any], name: str) -> int | None:
    """A share as a number of rows."""
    m = measures.get(name) or {}
    return None if m.get("value") is None or not m.get("n") else round(m["value"] * m["n"])


def ends_of(measure: Mapping[str, Any]) -> tuple[float, float]:
    """The interval; without one the whole range, which shows nothing."""
    low, high = measure.get("low"), measure.get("high")
    return (0.0, 1.0) if low is None or high is None else (low, high)


def aucs(measures: Mapping[str, Any]) -> dict[str, Mapping]:
    """Score -> AUC measure, of the membership tests on forget rows that gave a number; without U-LiRA."""
    found = {
        name.removeprefix("forget_mia_").removesuffix("_auc"): m
        for name, m in measures.items()
        if name.startswith("forget_mia_") and name.endswith("_auc")
    }
    return {score: m for score, m in found.items() if m.get("value") is not None}


def gaps_of(measures: Mapping[str, Any]) -> dict[str, Mapping]:
    """Score -> how far its membership AUC is from the retrained model's."""
    start, end = "forget_mia_", "_auc_gap"
    return {
        name.removeprefix(start).removesuffix(end): m
        for name, m in measures.items()
        if name.startswith(start) and name.endswith(end) and m["value"] is not None
    }
