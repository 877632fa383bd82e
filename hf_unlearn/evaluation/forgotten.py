"""What was forgotten, as data: a level, and the reasons for it.

Differs from the paper: the rules and all limits are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from .gate_rules import gate_rules
from .gates import Gate, Level, Sides, Status, over_forgotten
from .run_measures import RIGHT, STILL_KNOWN_EXCESS, count_of, right_of, value_of

FORGOT_LOSS_SHARE = 0.95  # the forget loss has reached the unseen loss from this share of it
PARTLY_SHARE = 0.5  # "partly" from this share of the way from the loss before the request to the unseen loss
SEPARABLE_AUC = 0.6  # rows can still be told as trained on where the whole interval of an AUC lies above
DAMAGE_RATIO = 1.5  # the whole model suffered where the unseen loss is so many times that before the request


class Why(str, Enum):
    """Reasons for a level, in the order in which they are looked at."""

    NOT_FINITE = "not_finite"
    NOT_MEASURED = "not_measured"
    NO_YARDSTICK = "no_yardstick"  # `loss`
    LOSSES = "losses"  # `loss`, `yardstick`, `of` ("unseen", "retrained")
    NO_RETRAINED = "no_retrained"
    RETRAINED = "retrained"  # `loss`: what a retrained model gives the forget rows
    BLIND = "blind"  # no test could show forgetting: the model before the request gives a "yes", too
    DAMAGE = "damage"  # `before`, `after`: the unseen loss itself rose
    OVER = "over"  # `auc` or None
    WHOLE_CLASS = "whole_class"  # only a retrained model could tell, if a whole class was to be removed
    SEPARABLE = "separable"  # `score`, `auc`, `retrained` (AUC or None)
    RECALLED = "recalled"  # `kind`, `right`, `n`, `against`, `theirs`, `of`, `known`: clearly more than the yardstick's
    WAY = "way"  # `share` of the way from the loss before the request
    FEW_ROWS = "few_rows"  # the loss falls short by no more than so few rows can show


@dataclass(frozen=True)
class Reason:
    why: Why
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recall:
    """How many of `n` forget rows are answered right (`kind` "accuracy"), or word for word ("exact_match"), and how
    many before the request, by the retrained model and, where there is none, of the `of` unseen rows."""

    kind: str
    right: int
    n: int
    before: int | None = None
    retrained: int | None = None
    unseen: int | None = None
    of: int | None = None


@dataclass(frozen=True)
class Forgotten:
    """
    `level` goes by the loss, the membership AUC by loss and entropy, and right answers; `against` names the gates and
    attempts that contradict a "yes", `lowered` says whether one of them makes it "partly". `losses`: `mine`, `unseen`,
    `retrained`, `before`, `before_unseen`, each a number or None, and `finite` (False where the forget loss was
    measured and is not). `blind`: the model before the request passes the same tests, so that a "yes" cannot be said.
    """

    level: Level
    reasons: tuple[Reason, ...]
    losses: Mapping[str, Any]
    recall: Recall | None = None
    damage: tuple[float, float] | None = None  # unseen loss before the request and after, where that is damage
    retrained: bool = False
    against: tuple[str, ...] = ()
    lowered: bool = False
    blind: bool = False

    @property
    def overall(self) -> Level:
        """The level by all tests."""
        return Level.PARTLY if self.lowered else self.level


def forgotten_of(sides: Sides, gates: Mapping[str, Gate], contradicting: Iterable[str] = ()) -> Forgotten:
    """
    What was forgotten; `contradicting` names attempts of the attacker that speak against a "yes".

    The level is given by the first of these that holds.
    "unknown": there is no finite forget loss, or nothing to hold it against; or a "yes" that the model before the
    request would be given by the same rules, since what was not there cannot be shown to be gone.
    "too much": by [`~hf_unlearn.evaluation.gates.over_forgotten`].
    "yes": the forget loss is at least FORGOT_LOSS_SHARE of the unseen loss, no membership AUC's interval lies above
    SEPARABLE_AUC (nor above the retrained model's), and the forget rows are not answered right (word for word, for
    language models) more often than by the retrained model, or, without one, than the unseen rows are. More often
    means: by more than STILL_KNOWN_EXCESS and with intervals that do not overlap.
    "partly": the loss got there but one of the others did not; or it came at least PARTLY_SHARE of the way from
    before the request. "no": anything less.

    A loss that fell short, but whose interval overlaps the unseen rows', is "partly": so few rows cannot tell.
    """
    mine, before = sides.mine, sides.before
    losses = {"mine": value_of(mine, "forget_loss"), "unseen": value_of(mine, "unseen_loss")}
    losses |= {"retrained": value_of(sides.reference, "forget_loss"), "before": value_of(before, "forget_loss")}
    losses["before_unseen"] = value_of(before, "unseen_loss")
    losses["finite"] = losses["mine"] is not None or "forget_loss" not in mine
    now, then = losses["unseen"], losses["before_unseen"]
    damage = (then, now) if now is not None and then is not None and now > DAMAGE_RATIO * then else None
    found = Forgotten(Level.UNKNOWN, (), losses, _recall(sides), damage, sides.retrained)
    level, reasons = _judged(found, sides)
    blind = level is Level.YES and _before_passes(sides)
    if blind:
        level, reasons = Level.UNKNOWN, [*reasons, Reason(Why.BLIND)]
    against = _against(gates, contradicting) if level is Level.YES else {}
    lowered = any(against.values())
    return replace(found, level=level, reasons=tuple(reasons), against=tuple(against), lowered=lowered, blind=blind)


def _before_passes(sides: Sides) -> bool:
    """The positive control: whether the model before the request would be called forgotten, too."""
    control = Sides(sides.before, reference=sides.reference, retrained=sides.retrained)
    return forgotten_of(control, {}).level is Level.YES


def _judged(found: Forgotten, sides: Sides) -> tuple[Level, list[Reason]]:
    loss, unseen, aim = (found.losses[key] for key in ("mine", "unseen", "retrained"))
    if loss is None:
        return Level.UNKNOWN, [Reason(Why.NOT_MEASURED if found.losses["finite"] else Why.NOT_FINITE)]
    yardstick, of = (unseen, "unseen") if unseen is not None else (aim, "retrained")
    if yardstick is None:
        return Level.UNKNOWN, [Reason(Why.NO_YARDSTICK, {"loss": loss})]
    reasons = [Reason(Why.LOSSES, {"loss": loss, "yardstick": yardstick, "of": of})]
    if not sides.retrained:
        reasons.append(Reason(Why.NO_RETRAINED))
    elif unseen is not None and aim is not None:
        reasons.append(Reason(Why.RETRAINED, {"loss": aim}))
    if found.damage:
        reasons.append(Reason(Why.DAMAGE, dict(zip(("before", "after"), found.damage, strict=True))))
    if over_forgotten(sides.mine, sides.reference):
        reasons.append(Reason(Why.OVER, {"auc": value_of(sides.mine, "forget_mia_loss_auc")}))
        return Level.TOO_MUCH, reasons + ([] if sides.retrained else [Reason(Why.WHOLE_CLASS)])
    still = _separable(sides) + _recalled(sides)
    known = any(reason.numbers.get("known", True) for reason in still)
    reasons += still
    if loss >= FORGOT_LOSS_SHARE * yardstick:
        return (Level.PARTLY if known else Level.YES), reasons
    share, start = loss / yardstick, found.losses["before"]
    if start is not None and start < yardstick:
        share = (loss - start) / (yardstick - start)
        reasons.append(Reason(Why.WAY, {"share": max(share, 0.0)}))
    high, low = (sides.mine.get("forget_loss") or {}).get("high"), (sides.mine.get("unseen_loss") or {}).get("low")
    if None not in (high, low) and high > low and not known:
        return Level.PARTLY, [*reasons, Reason(Why.FEW_ROWS)]
    return (Level.PARTLY if share >= PARTLY_SHARE else Level.NO), reasons


def _separable(sides: Sides) -> list[Reason]:
    """Scores by which a membership test still tells forget rows from unseen ones, better than a retrained model's."""
    found = []
    for score in ("loss", "entropy"):
        name = f"forget_mia_{score}_auc"
        auc, theirs = sides.mine.get(name) or {}, sides.reference.get(name) or {}
        high = theirs.get("high")
        if auc.get("low") is not None and auc["low"] > max(SEPARABLE_AUC, high or 0.0):
            numbers = {"score": score, "auc": auc["value"], "retrained": theirs["value"] if high else None}
            found.append(Reason(Why.SEPARABLE, numbers))
    return found


def _recalled(sides: Sides) -> list[Reason]:
    """Whether forget rows are answered right clearly more often than the yardstick says."""
    for kind in RIGHT:
        mine = sides.mine.get(f"forget_{kind}")
        if not mine or mine["value"] is None:
            continue
        theirs, against = sides.reference.get(f"forget_{kind}"), "retrained"
        if not theirs or theirs["value"] is None:
            theirs, against = sides.mine.get(f"unseen_{kind}"), "unseen"
        known = False
        numbers = {"kind": kind, "right": round(mine["value"] * mine["n"]), "n": mine["n"], "against": None}
        if theirs and theirs["value"] is not None:
            intervals = None not in (mine["low"], theirs["high"])
            apart = mine["low"] > theirs["high"] if intervals else True
            known = apart and mine["value"] - theirs["value"] > STILL_KNOWN_EXCESS
            right = round(theirs["value"] * theirs["n"])
            numbers |= {"against": against, "theirs": right, "of": theirs["n"]}
        if known or kind == "exact_match":  # word for word: said also where it is within the yardstick
            return [Reason(Why.RECALLED, {**numbers, "known": known})]
    return []


def _recall(sides: Sides) -> Recall | None:
    found = right_of(sides.mine, "forget")
    if not found:
        return None
    kind, right, n = found
    name, of = f"forget_{kind}", None
    unseen = None if sides.retrained else count_of(sides.mine, f"unseen_{kind}")
    if unseen is not None:
        of = sides.mine[f"unseen_{kind}"]["n"]
    return Recall(kind, right, n, count_of(sides.before, name), count_of(sides.reference, name), unseen, of)


def _against(gates: Mapping[str, Gate], contradicting: Iterable[str]) -> dict[str, bool]:
    """
    Name -> whether it lowers the level, of the failed gates and the attempts that contradict a "yes"; those that lower
    it first.
    """
    rules = gate_rules()
    failed = {name: rules[name] for name, gate in gates.items() if gate.status is Status.FAILED}
    found = {name: rule.lowers for name, rule in failed.items() if rule.against} | dict.fromkeys(contradicting, True)
    return dict(sorted(found.items(), key=lambda pair: not pair[1]))
