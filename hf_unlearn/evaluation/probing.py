"""What became of the probe questions of `attacks/probes.py`: as many right as before the request, or fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

from .gates import Level

BY_CHANCE = 0.05  # fewer right is a loss, not noise, where a sign test on the questions gives less


@dataclass(frozen=True)
class Probes:
    """
    `right` of `of` questions; `before` the request, None where that was not measured or the questions were others.
    `level`: YES as many or more; PARTLY fewer; NO fewer, by more than chance; UNKNOWN where none was right before.
    """

    right: int
    of: int
    before: int | None
    level: Level


def probes_of(run: Mapping[str, Any], before: Mapping[str, Any] | None) -> Probes | None:
    """Of a run and of the one that it started from, as in a score card; None where nothing was asked."""
    mine, theirs = (((other or {}).get("details") or {}).get("probes") or [] for other in (run, before))
    if not mine:
        return None
    right = [bool(one["right"]) for one in mine]
    if [one["question"] for one in mine] != [one["question"] for one in theirs]:
        return Probes(sum(right), len(right), None, Level.UNKNOWN)
    was = [bool(one["right"]) for one in theirs]
    lost, gained = (sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((was, right), (right, was)))
    level = Level.YES if lost <= gained else Level.NO if by_chance(lost, gained) < BY_CHANCE else Level.PARTLY
    return Probes(sum(right), len(right), sum(was), level if any(was) else Level.UNKNOWN)


def by_chance(lost: int, gained: int) -> float:
    """Probability that of so many answers that changed at least `lost` got worse, if either way were as likely."""
    n = lost + gained
    return sum(comb(n, k) for k in range(lost, n + 1)) / 2**n
