"""What a verdict gate is, as data: its rule, its outcome, what it is judged by, and all limits.

The gates themselves are in `gate_rules.py` and in the attacks' files.

Differs from the paper: all limits are ours, but that of forget quality, which is that of Maini et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .run_measures import value_of

OVER_AUC = 0.4  # over-forgotten: the whole interval of the membership AUC lies below this
OVER_AUC_MARGIN = 0.1  # and, where there is a retrained model, so much below the low end of its interval
OVER_LOSS_RATIO = 2.0  # over-forgotten: the forget loss is so many times the unseen and the retrained model's
KEPT_WELL = 0.97  # kept "yes" from this share of the yardstick's accuracy
KEPT_PARTLY = 0.90

QUALITY_FLOOR = 0.05  # forget quality at least; lower where two retrained models differ by more than that
AUC_GAP = 0.03  # membership AUC at most so far from the retrained model's, by every score
KEPT_SHARE = 0.98  # accuracy and utility at least this share of the retrained model's
EXTRACTION_EXCESS = 0.02  # extraction strength at most so much above the retrained model's
RECOVERY_AREA = 0.9  # area under the relearning curve at least this share of the retrained model's
QUANTISED_EXCESS = 0.05  # forget rows right after quantisation at most so much above the retrained model's
WEAK_GAP = 0.1  # without a control: a test that could only show a larger AUC gap counts as blind
WEAK_DISTANCE = 0.3  # the same for the Kolmogorov-Smirnov distance

UTILITIES = ("test", "retain"), ("accuracy", "token_accuracy")  # kept is the worst share over these splits and kinds


class Status(str, Enum):
    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # not measured, or too few rows to tell
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
    (empty where nothing was measured).
    """

    name: str
    status: Status
    able: bool | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)

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
    """

    name: str
    judge: Callable[[Sides], Gate]
    title: str = ""
    subject: str = ""
    needs: str = "Not measured."
    not_applicable: str = "Does not apply to this kind of model."
    against: str = ""
    lowers: bool = True


@dataclass(frozen=True)
class Sides:
    """The measures that a run is held against; each empty where there is no such model."""

    mine: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)  # the retrained model's
    again: Mapping[str, Any] = field(default_factory=dict)  # those of one retrained with another seed: the noise floor
    retrained: bool = False  # whether there is a retrained model, even if none of its measures is of use here


@dataclass(frozen=True)
class Kept:
    """
    Accuracy (token accuracy for language models) as a share of the retrained model's, else of that before the request;
    of test and retain rows the worse, since a gain on one cannot pay for a loss on the other.

    `against`: "retrained", "before", or None where there is no model to compare with; then `value` is the accuracy
    itself. `others`: the shares on the other splits.
    """

    level: Level = Level.UNKNOWN
    share: float | None = None
    against: str | None = None
    split: str | None = None
    kind: str | None = None
    value: float | None = None
    others: tuple[tuple[str, float], ...] = ()


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
        if ratios:
            share, split, kind = min(ratios)
            level = Level.YES if share >= KEPT_WELL else Level.PARTLY if share >= KEPT_PARTLY else Level.NO
            others = tuple((other, ratio) for ratio, other, _ in ratios if other != split)
            return Kept(level, share, against, split, kind, others=others)
    if not found:
        return Kept()
    split, kind, value = found[0]
    return Kept(split=split, kind=kind, value=value)


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
