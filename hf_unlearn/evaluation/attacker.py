"""What an attacker could still do, as data: one attempt per way that was measured. Those that need no more than a pass
are here, those of an attack in its own file.

Differs from the paper: what counts as possible is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .attacks.base import Attempt, AttemptRule
from .gates import AUC_GAP, EXTRACTION_EXCESS, Sides, beyond
from .run_measures import STILL_KNOWN_EXCESS, aucs, count_of, ends_of, gaps_of, right_of, value_of

SURE_RATE = 0.01  # the rate of false alarms at which forget rows are counted as found


@dataclass(frozen=True)
class Attacker:
    """
    `attempts` in the order in which they are shown; `untried` ones by name; is there a `retrained` model?
    `contradicting`: names of the possible attempts that speak against "forgotten: yes".
    """

    attempts: tuple[Attempt, ...]
    untried: tuple[str, ...]
    retrained: bool
    contradicting: tuple[str, ...] = ()


def attacker_of(run: Mapping[str, Any], sides: Sides) -> Attacker:
    rules = attempt_rules()
    judged = {name: rule.judge(run, sides) for name, rule in rules.items()}
    attempts = tuple(attempt for attempt in judged.values() if attempt)
    open_ = [rules[name] for name, attempt in judged.items() if not attempt]
    untried = tuple(rule.name for rule in open_ if rule.applies(sides.mine) and not rule.tried_on(sides.mine))
    contradicting = tuple(name for name, one in judged.items() if one and one.possible and rules[name].against)
    return Attacker(attempts, untried, sides.retrained, contradicting)


def attempt_rules() -> dict[str, AttemptRule]:
    """All ways of an attacker by name, in the order in which they are shown: by measures, then by attacks."""
    from .attacks.registry import attacks

    brought = [attack.attempt for attack in reversed(attacks()) if attack.attempt]
    return {rule.name: rule for rule in (*BY_MEASURES, *brought)}


def membership(run: Mapping, sides: Sides) -> Attempt | None:
    """
    The numbers are of one score, and whether it is possible follows the rule of the gate `auc_gap`, also for scores on
    which the gate does not rest, since an attacker may use any. Numbers: `score`,
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
    """Numbers: `value` with `low` and `high`, `yardstick` (or None) and `against` ("retrained", "unseen")."""
    name = "forget_extraction_strength"
    value, theirs, against = value_of(sides.mine, name), value_of(sides.reference, name), "retrained"
    if value is None:
        return None
    if theirs is None:
        theirs, against = value_of(sides.mine, "unseen_extraction_strength"), "unseen"
    numbers = {"value": value, "yardstick": theirs, "against": against}
    numbers |= {end: sides.mine[name].get(end) for end in ("low", "high")}
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


def off(auc: float) -> float:
    """How far an AUC is from blind guessing."""
    return abs(auc - 0.5)


def _rows(measures: Mapping[str, Any]) -> dict[str, int | None]:
    return {split: (measures.get(f"{split}_loss") or {}).get("n") for split in ("forget", "unseen")}


BY_MEASURES = (
    AttemptRule("membership", "membership tests", membership),
    AttemptRule(
        "shadows",
        "shadow models",
        shadows,
        clause="tell by shadow models which rows were unlearned",
        against="shadow models tell the rows from ones never seen",
        leaves="forget_lira_auc",
    ),
    AttemptRule("extraction", "extraction", extraction, applies=lambda measures: False),  # a pass measures it
    AttemptRule(
        "rephrased",
        "rephrased questions",
        rephrased,
        clause="get answers by asking in other words",
        applies=lambda measures: "forget_token_accuracy" in measures or "forget_exact_match" in measures,
    ),
)
