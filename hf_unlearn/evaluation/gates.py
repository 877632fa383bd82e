"""What a verdict gate is, as data: its rule, its outcome, what it is judged by, and all limits.

The gates themselves are in `gate_rules.py` and in the attacks' files.

Differs from the paper: all limits are ours, but that of forget quality, which is that of Maini et al. 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from . import catalogue
from .run_measures import value_of

OVER_AUC = 0.4  # over-forgotten: the whole interval of the membership AUC lies below this
OVER_AUC_MARGIN = 0.1  # and, where there is a retrained model, so much below the low end of its interval
OVER_LOSS_RATIO = 2.0  # over-forgotten: the forget loss is so many times the unseen and the retrained model's
KEPT_SHARE = 0.98  # kept "yes", and the gate passed, from this share of the yardstick's accuracy (and model utility)
KEPT_PARTLY = 0.90

REMEMBERED_LOSS = 0.25  # remembered: a forget loss below this share of the retrained model's, with both intervals
QUALITY_FLOOR = 0.05  # forget quality at least; lower where two retrained models differ by more than that
AUC_GAP = 0.03  # membership AUC at most so far from the retrained model's, by every score
EXTRACTION_EXCESS = 0.02  # extraction strength at most so much above the retrained model's
RECOVERY_AREA = 0.9  # area under the relearning curve at least this share of the retrained model's
QUANTISED_EXCESS = 0.05  # forget rows right after quantisation at most so much above the retrained model's
GENERAL_RATIO = 1.05  # perplexity on general texts at most so many times that before the request
OWN_WORDS_RATIO = 1.65  # the same on texts that this model wrote itself: any other is worse at them
WEAK_GAP = 0.1  # without a control: a test that could only show a larger AUC gap counts as blind
WEAK_DISTANCE = 0.3  # the same for the Kolmogorov-Smirnov distance

UTILITIES = ("test", "retain"), ("accuracy", "token_accuracy")  # kept is the worst share over these splits and kinds


class Status(str, Enum):
    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # not measured, too few rows to tell, or only by measures that the study calls weak
    NOT_APPLICABLE = "not_applicable"  # no such thing can be measured on this kind of model


class Level(str, Enum):
    """How far rows are forgotten, or the rest is kept (which knows no TOO_MUCH)."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    TOO_MUCH = "too much"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Gate:
    """
    One verdict gate of one run.

    `able`: whether the test could have shown a difference; None where that was not asked. `numbers`: what decided
    (empty where nothing was measured). `weak`: measures that the study calls weak for such a model, where there are no
    others to decide by; `numbers` are then theirs, and the gate is undecided.
    """

    name: str
    status: Status
    able: bool | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    weak: tuple[str, ...] = ()

    @property
    def blind(self) -> bool:
        """Passed by a test that could not have shown a difference."""
        return self.status is Status.PASSED and self.able is False


@dataclass(frozen=True)
class GateRule:
    """
    One verdict gate as such: how it is judged, and what it is called; [`Gate`] is its outcome for one run.

    Args:
        name: in `--fail_on`, in score cards and in `Finding.gates`.
        judge: function of the [`Sides`].
        title: as a heading: what it means to pass. Empty: the name.
        subject: in "Told apart from a retrained model by: …", for readers who have not seen the gates. Empty: the name.
        needs: what is said where nothing was measured.
        not_applicable: what is said where no such thing can be measured on this kind of model.
        against: clause that a failed gate puts against "forgotten: yes"; empty: it says nothing about that.
        lowers: whether such a failure lowers the answer to "partly".
        finds_memory: whether the gate looks for rows that are still remembered. The measures that the study calls weak
            are those that find such rows too rarely, so a gate of this kind does not rest on them ([`outcome_of`]).
    """

    name: str
    judge: Callable[[Sides], Gate]
    title: str = ""
    subject: str = ""
    needs: str = "Not measured."
    not_applicable: str = "Does not apply to this kind of model."
    against: str = ""
    lowers: bool = True
    finds_memory: bool = True


@dataclass(frozen=True)
class Sides:
    """
    The measures that a run is held against; each empty where there is no such model. `kind`: of the models, a key of
    `Measure.weak`, None where the measures do not tell.
    """

    mine: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)  # the retrained model's
    again: Mapping[str, Any] = field(default_factory=dict)  # those of one retrained with another seed: the noise floor
    retrained: bool = False  # whether there is a retrained model, even if none of its measures is of use here
    kind: str | None = None

    @property
    def names(self) -> set[str]:
        """Names of all measures."""
        return {*self.mine, *self.before, *self.reference, *self.again}

    def without(self, names: Collection[str]) -> Sides:
        """The same as if these measures had not been taken."""
        left = (
            {name: measure for name, measure in side.items() if name not in names}
            for side in (self.mine, self.before, self.reference, self.again)
        )
        return Sides(*left, retrained=self.retrained, kind=self.kind)


def outcome_of(rule: GateRule, sides: Sides) -> Gate:
    """
    The gate of a run. Two things hold for every gate, also for those that attacks bring.

    It does not rest on a measure that the study calls weak for such a model (`Measure.weak`): it is judged without
    them. Where there are no others, it is undecided, with the numbers of the weak ones.
    Without power it does not fail: a test that could not have shown a difference (`able` is False) is undecided.
    """
    weak = {name for name in sides.names if catalogue.is_weak(name, sides.kind)} if rule.finds_memory else set()
    gate = rule.judge(sides.without(weak))
    if gate.status is Status.UNDECIDED and not gate.numbers:
        told = sorted(name for name in weak if rule.judge(sides.without(weak - {name})).numbers)
        if told:
            gate = replace(rule.judge(sides), status=Status.UNDECIDED, able=False, weak=tuple(told))
    if gate.status is Status.FAILED and gate.able is False:
        gate = replace(gate, status=Status.UNDECIDED)
    return gate


@dataclass(frozen=True)
class Kept:
    """
    Accuracy (token accuracy for language models) as a share of the retrained model's, else of that before the request;
    of test and retain rows the worse, since a gain on one cannot pay for a loss on the other; and of model utility,
    where both have it. This is what "kept" means everywhere: in the gate, on the page, in the terminal.

    `against`: "retrained", "before", or None where there is no model to compare with; then `value` is the accuracy
    itself. `split`: that of the lowest share, "" for model utility (`kind` "model_utility"). `others`: the shares on
    the other splits. `low`, `high`: interval of the share, None where there is none.
    """

    level: Level = Level.UNKNOWN
    share: float | None = None
    against: str | None = None
    split: str | None = None
    kind: str | None = None
    value: float | None = None
    others: tuple[tuple[str, float], ...] = ()
    low: float | None = None
    high: float | None = None


def kept_of(sides: Sides) -> Kept:
    splits, kinds = UTILITIES
    found = [(split, kind, value_of(sides.mine, f"{split}_{kind}")) for split in splits for kind in kinds]
    found = [(split, kind, value) for split, kind, value in found if value is not None]
    for against, theirs in (("retrained", sides.reference), ("before", sides.before)):
        ratios = [
            (value / yardstick, split, kind)
            for split, kind, value in found
            if (yardstick := value_of(theirs, f"{split}_{kind}"))
        ]
        utility, yardstick = (value_of(side, "model_utility") for side in (sides.mine, theirs))
        ratios += [(utility / yardstick, "", "model_utility")] if utility is not None and yardstick else []
        if ratios:
            share, split, kind = min(ratios)
            level = Level.YES if share >= KEPT_SHARE else Level.PARTLY if share >= KEPT_PARTLY else Level.NO
            others = tuple((other, ratio) for ratio, other, _ in ratios if other and other != split)
            paired = sides.mine.get(f"{split}_kept") if against == "retrained" else None
            low, high = _ratio_interval(sides.mine, theirs, f"{split}_{kind}", paired)
            return Kept(level, share, against, split, kind, others=others, low=low, high=high)
    if not found:
        return Kept()
    split, kind, value = found[0]
    return Kept(split=split, kind=kind, value=value)


def _ratio_interval(mine: Mapping, theirs: Mapping, name: str, paired: Mapping | None) -> tuple[float, float] | tuple:
    """
    Interval of the ratio of a measure to another model's: the paired one where it was taken, else from the two
    intervals as if the rows were not the same, which is wider. (None, None) without intervals.
    """
    if paired and paired.get("low") is not None:
        return paired["low"], paired["high"]
    a, b = mine.get(name) or {}, theirs.get(name) or {}
    if None in (a.get("low"), b.get("low")):
        return None, None
    ratio = a["value"] / b["value"]
    half = math.hypot(*((m["high"] - m["low"]) / 2 / m["value"] if m["value"] else 0.0 for m in (a, b)))
    return ratio * (1 - half), ratio * (1 + half)


def difference_interval(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float] | tuple:
    """Interval of the difference of two models' measures from their own, as if the rows were not the same (wider than
    one of rows in pairs); (None, None) where one has none."""
    if None in (mine.get("low"), theirs.get("low")):
        return None, None
    half = math.hypot(*((m["high"] - m["low"]) / 2 for m in (mine, theirs)))
    return mine["value"] - theirs["value"] - half, mine["value"] - theirs["value"] + half


def over_forgotten(measures: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """
    Whether the forget rows do so much worse than rows that were never seen that the deletion itself shows (the
    Streisand effect). Either of two findings is enough:

    * The low end of the forget loss is above OVER_LOSS_RATIO times the yardstick: the high end of the unseen loss or of
      the retrained model's forget loss (`reference`: its measures), whichever is higher.
    * The interval of `forget_mia_loss_auc` lies below OVER_AUC. Where there is a retrained model, it must also lie
      OVER_AUC_MARGIN below that model's interval, which is low, too, after the removal of a whole class.
    """
    low = _end(measures, "forget_loss", "low")
    yardsticks = [_end(measures, "unseen_loss", "high"), _end(reference, "forget_loss", "high")]
    yardsticks = [yardstick for yardstick in yardsticks if yardstick is not None]
    if low is None:
        return False
    if yardsticks and low > OVER_LOSS_RATIO * max(yardsticks):
        return True
    high = (measures.get("forget_mia_loss_auc") or {}).get("high")
    theirs = (reference.get("forget_mia_loss_auc") or {}).get("low")
    return high is not None and high < OVER_AUC and (theirs is None or high < theirs - OVER_AUC_MARGIN)


def _end(measures: Mapping[str, Any], name: str, end: str) -> float | None:
    """An end of a measure's interval, or its value where it has none."""
    measure = measures.get(name) or {}
    return measure.get(end) if measure.get(end) is not None else measure.get("value")


def status_of(ok: bool | None) -> Status:
    """The status of a test that was passed (True), failed (False), or could not be decided (None)."""
    return {True: Status.PASSED, False: Status.FAILED, None: Status.UNDECIDED}[ok]


def beyond(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is beyond AUC_GAP with its whole interval (with its value, where it has none)."""
    low, high = (gap[end] if gap[end] is not None else gap["value"] for end in ("low", "high"))
    return low > AUC_GAP or high < -AUC_GAP


def within(value: float, limit: float, low: float | None) -> bool | None:
    """Whether a value is at most `limit`: None where it is not, but its interval reaches below, or there is none."""
    return True if value <= limit else False if low is not None and low > limit else None
