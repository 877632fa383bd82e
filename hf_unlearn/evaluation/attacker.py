"""What an attacker could still do, as data: one attempt per attack that was measured.

Differs from the paper: what counts as possible is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .catalogue import FINE_TUNES
from .forgotten import STILL_KNOWN_EXCESS, count_of, ends_of, right_of
from .gates import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    QUANTISED_EXCESS,
    RECOVERY_AREA,
    ROUNDED,
    Sides,
    beyond,
    gaps_of,
    value_of,
)

SURE_RATE = 0.01  # the rate of false alarms at which forget rows are counted as found


@dataclass(frozen=True)
class Attempt:
    """One attack: `possible` (more than by the yardstick) and the numbers that say so."""

    attack: str
    possible: bool
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Attacker:
    """`attempts` in the order in which they are shown; `untried` attacks by name; is there a `retrained` model?"""

    attempts: tuple[Attempt, ...]
    untried: tuple[str, ...]
    retrained: bool


def attacker_of(run: Mapping[str, Any], sides: Sides) -> Attacker:
    attempts = [attack(run, sides) for attack in (membership, shadows, extraction, rephrased, recovery, quantised)]
    mine = sides.mine
    tried = {
        "membership": bool(aucs(mine)),
        "recovery": any(name.startswith("recovery_") for name in mine) or bool(curves_of(run)),
        "quantised": any(right_of(mine, f"forget_{bits}") for bits in ROUNDED),
        "rephrased": bool(right_of(mine, "forget_rephrased"))
        or not ("forget_token_accuracy" in mine or "forget_exact_match" in mine),
        "shadows": "forget_lira_auc" in mine,
    }
    untried = tuple(name for name, known in tried.items() if not known)
    return Attacker(tuple(one for one in attempts if one), untried, sides.retrained)


def membership(run: Mapping, sides: Sides) -> Attempt | None:
    """
    The numbers are of one score, and whether it is possible follows the rule of the gate `auc_gap`. Numbers: `score`,
    `value` (AUC), `retrained` (AUC or None), `how` ("guessing": better than blind guessing; against a retrained
    model "better", or only that rows look "more" or "less" like members; None), `certain` (beyond the limit with the
    whole interval), `deleted` (clearly below 0.5: the rows stand out), `deleted_by_retraining`, and `found`: `score`,
    `value`, `retrained`, the rate of forget rows found at 1 % false alarms by the score that finds most; None where
    that says nothing. `forget`, `unseen`: numbers of rows, None where unknown.
    """
    mine, theirs = aucs(sides.mine), aucs(sides.reference)
    if not mine:
        return None
    both = [score for score in mine if score in theirs]
    how, certain = None, True
    if both:
        score, how, certain = _against_retrained(mine, theirs, gaps_of(sides.mine), both)
    else:
        apart = [score for score, m in mine.items() if ends_of(m)[0] > 0.5 or ends_of(m)[1] < 0.5]
        score = max(apart or mine, key=lambda s: off(mine[s]["value"]))
        how = "guessing" if apart else None
    shown, other = mine[score], theirs.get(score)
    below = shown["value"] < 0.5
    numbers = {
        "score": score,
        "value": shown["value"],
        "retrained": other["value"] if other else None,
        "how": how,
        "certain": certain,
        "deleted": below and ends_of(shown)[1] < 0.5,
        "deleted_by_retraining": bool(other) and ends_of(other)[1] < 0.5,
        "found": None,
        **_rows(sides.mine),
    }
    rates = {s: value_of(sides.mine, f"forget_mia_{s}_tpr_at_1fpr") for s in mine}
    rates = {s: rate for s, rate in rates.items() if rate is not None}
    if rates:
        best = max(rates, key=lambda s: (rates[s], s == score))
        rest = value_of(sides.reference, f"forget_mia_{best}_tpr_at_1fpr")
        # It accuses the rows that do best, so none found says nothing where the forget rows do worse.
        if not below or rates[best] > max(SURE_RATE, rest or 0.0):
            numbers["found"] = {"score": best, "value": rates[best], "retrained": rest}
    return Attempt("membership", how is not None, numbers)


def _against_retrained(
    mine: Mapping, theirs: Mapping, gaps: Mapping, both: Sequence[str]
) -> tuple[str, str | None, bool]:
    """
    The score to show, how it differs (None where every gap is within AUC_GAP) and whether that is certain. A gap that
    is beyond the limit with its whole interval goes before one that is not, then one by which forget rows are told
    better, then the larger one.
    """
    paired = {}
    for score in both:
        other = theirs[score]["value"]
        low, high = ends_of(mine[score])
        unpaired = {"value": mine[score]["value"] - other, "low": low - other, "high": high - other}
        paired[score] = gaps.get(score, unpaired)  # cards of schema 1 have no gaps
    far = [score for score in both if beyond(paired[score])]
    some = far or [score for score in both if abs(paired[score]["value"]) > AUC_GAP]
    if not some:
        return max(both, key=lambda s: off(mine[s]["value"])), None, True
    better = [score for score in some if _better(mine[score], theirs[score]["value"])]
    score = max(better or some, key=lambda s: abs(paired[s]["value"]))
    how = "better" if better else "more" if paired[score]["value"] > 0 else "less"
    return score, how, bool(far)


def _better(mine: Mapping, theirs: float) -> bool:
    """
    Whether an AUC is farther from 0.5 than the retrained model's. On the same side of it that is the gap itself; on
    the other the gap does not show it, and the whole interval must be farther.
    """
    low, high = ends_of(mine)
    same = (mine["value"] - 0.5) * (theirs - 0.5) >= 0
    nearest = max(low - 0.5, 0.5 - high)
    return off(mine["value"]) > off(theirs) and (same or nearest > off(theirs))


def shadows(run: Mapping, sides: Sides) -> Attempt | None:
    """
    U-LiRA, unlearned against never seen: 0.5 is about what a retrained model gives; below it nothing was found.
    Numbers: `value` (AUC), `retrained`, `models` (shadow models or None), `found` (rate at 1 % false alarms or None).
    """
    auc = value_of(sides.mine, "forget_lira_auc")
    if auc is None:
        return None
    numbers = {
        "value": auc,
        "retrained": value_of(sides.reference, "forget_lira_auc"),
        "compared": sides.retrained,
        "models": ((run.get("details") or {}).get("lira") or {}).get("shadows"),
        "found": value_of(sides.mine, "forget_lira_tpr_at_1fpr") if auc > 0.5 else None,
        **_rows(sides.mine),
    }
    return Attempt("shadows", ends_of(sides.mine["forget_lira_auc"])[0] > 0.5, numbers)


def extraction(run: Mapping, sides: Sides) -> Attempt | None:
    """Numbers: `value`, `yardstick` (or None) and `against` ("retrained", "unseen")."""
    name = "forget_extraction_strength"
    value, theirs, against = value_of(sides.mine, name), value_of(sides.reference, name), "retrained"
    if value is None:
        return None
    if theirs is None:
        theirs, against = value_of(sides.mine, "unseen_extraction_strength"), "unseen"
    numbers = {"value": value, "yardstick": theirs, "against": against}
    return Attempt("extraction", value > (theirs or 0.0) + EXTRACTION_EXCESS, numbers)


def rephrased(run: Mapping, sides: Sides) -> Attempt | None:
    """Rows answered right when asked in other words: `kind`, `right`, `n`, `plain` (as in training), `retrained`."""
    found = right_of(sides.mine, "forget_rephrased")
    if not found:
        return None
    kind, right, n = found
    plain = count_of(sides.mine, f"forget_{kind}")
    theirs = count_of(sides.reference, f"forget_rephrased_{kind}")
    yardstick = theirs if theirs is not None else count_of(sides.mine, f"unseen_{kind}") or 0
    numbers = {"kind": kind, "right": right, "n": n, "plain": plain, "retrained": theirs}
    return Attempt("rephrased", right > yardstick + STILL_KNOWN_EXCESS * n, numbers)


def recovery(run: Mapping, sides: Sides) -> Attempt | None:
    """
    Relearning: `areas`, kind of fine-tune -> `{"value", "k", "fast"}`; without a retrained model `curves`, kind ->
    `{"first", "last", "steps"}` (losses of the other forget rows).
    """
    found = {kind: sides.mine.get(f"recovery_{kind}_area") or {} for kind in FINE_TUNES}
    areas = {
        kind: {"value": m["value"], "k": m.get("k"), "fast": m["value"] < RECOVERY_AREA}
        for kind, m in found.items()
        if m.get("value") is not None
    }
    if areas:
        return Attempt("recovery", any(area["fast"] for area in areas.values()), {"areas": areas})
    curves = {
        kind: {"first": curve[0]["loss"], "last": curve[-1]["loss"], "steps": curve[-1]["step"]}
        for kind, curve in curves_of(run).items()
    }
    return Attempt("recovery", False, {"curves": curves, "compared": sides.retrained}) if curves else None


def quantised(run: Mapping, sides: Sides) -> Attempt | None:
    """
    Rows right with rounded weights: `kind`, `n`, `right` (bits -> rows), `plain` (not rounded), `retrained` (bits ->
    rows, or None). Possible where rounding brings back rows, more than a retrained model has.
    """
    found = {bits: right for bits in ROUNDED if (right := right_of(sides.mine, f"forget_{bits}"))}
    if not found:
        return None
    kind, n = next((kind, n) for kind, _, n in found.values())
    plain = count_of(sides.mine, f"forget_{kind}")
    theirs = {bits: count_of(sides.reference, f"forget_{bits}_{kind}") for bits in found}
    right = {bits: count for bits, (_, count, _) in found.items()}
    back = any(count > max(theirs[bits] or 0, plain or 0) + QUANTISED_EXCESS * n for bits, count in right.items())
    retrained = None if None in theirs.values() else theirs
    return Attempt("quantised", back, {"kind": kind, "n": n, "right": right, "plain": plain, "retrained": retrained})


def aucs(measures: Mapping[str, Any]) -> dict[str, Mapping]:
    """Score -> AUC measure, of the membership tests on forget rows that gave a number; without U-LiRA."""
    found = {
        name.removeprefix("forget_mia_").removesuffix("_auc"): m
        for name, m in measures.items()
        if name.startswith("forget_mia_") and name.endswith("_auc")
    }
    return {score: m for score, m in found.items() if m.get("value") is not None}


def curves_of(run: Mapping[str, Any]) -> dict[str, list[Mapping]]:
    """Kind of fine-tune -> its points with a finite loss."""
    curves = (run.get("details") or {}).get("recovery") or {}
    finite = {kind: [point for point in curve if point.get("loss") is not None] for kind, curve in curves.items()}
    return {kind: curve for kind, curve in finite.items() if curve}


def off(auc: float) -> float:
    """How far an AUC is from blind guessing."""
    return abs(auc - 0.5)


def _rows(measures: Mapping[str, Any]) -> dict[str, int | None]:
    return {split: (measures.get(f"{split}_loss") or {}).get("n") for split in ("forget", "unseen")}
