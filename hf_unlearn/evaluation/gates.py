"""Verdict gates: the tests that an unlearned model must pass, from measures alone. Numbers in, status and numbers out.

Each gate has a limit and, where it applies, a positive control: a test that does not even tell the model *before* the
request from the retrained model is blind, and passing it means nothing (`able` is False). The verdict follows from the
gates in `judge.verdict_of`; `report/words/gates.py` puts both into sentences.

Differs from the paper: all limits are ours, but that of forget quality, which is that of Maini et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .run_measures import gaps_of, value_of

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
        against: clause that a failed gate puts against "forgotten: yes"; empty: it says nothing about that.
        lowers: whether such a failure lowers the answer to "partly".
    """

    name: str
    judge: Callable[[Sides], Gate]
    title: str = ""
    subject: str = ""
    needs: str = "Not measured."
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


def forget_quality(sides: Sides) -> Gate:
    """Numbers: `value` (p), `limit`, `between` (p of two retrained models), `control` (p before the request),
    `distance`, `of`, `n`, `detectable`: the smallest distance that so few rows could have shown, None: none."""
    quality = sides.mine.get("forget_quality") or {}
    p = quality.get("value")
    if p is None:
        return Gate("forget_quality", Status.UNDECIDED)
    between, control = (value_of(side, "forget_quality") for side in (sides.again, sides.before))
    limit = QUALITY_FLOOR if between is None else min(QUALITY_FLOOR, between)
    seen = quality["detectable"]
    able = control <= limit if control is not None else seen is not None and seen <= WEAK_DISTANCE
    numbers = {"value": p, "limit": limit, "between": between, "control": control, "detectable": seen}
    numbers |= {key: quality[key] for key in ("distance", "of", "n")}
    return Gate("forget_quality", status_of(p >= limit), able, numbers)


def auc_gap(sides: Sides) -> Gate:
    """Numbers of the score that is farthest from the retrained model's, one beyond the limit first: `score`, `value`,
    `low`, `high`, `limit`, `n`, `detectable`; `between` (the most by which two retrained models differ) and `control`
    (whether any score tells the model before the request; None: not measured)."""
    gaps = gaps_of(sides.mine)
    if not gaps:
        return Gate("auc_gap", Status.UNDECIDED)
    far = {score: gap for score, gap in gaps.items() if beyond(gap)}
    score = max(far or gaps, key=lambda name: abs(gaps[name]["value"]))
    gap, control, noise = gaps[score], gaps_of(sides.before), gaps_of(sides.again)
    detectable = gap.get("detectable")
    able = detectable is not None and detectable <= WEAK_GAP
    if control:
        able = any(beyond(one) for one in control.values())
    within = abs(gap["value"]) <= AUC_GAP
    numbers = {key: gap.get(key) for key in ("value", "low", "high", "n", "detectable")}
    numbers |= {"score": score, "limit": AUC_GAP, "control": able if control else None}
    numbers["between"] = max((abs(one["value"]) for one in noise.values()), default=None)
    return Gate("auc_gap", status_of(True if within else False if far else None), able, numbers)


def beyond(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is beyond AUC_GAP with its whole interval (with its value, where it has none)."""
    low, high = (gap[end] if gap[end] is not None else gap["value"] for end in ("low", "high"))
    return low > AUC_GAP or high < -AUC_GAP


def kept(sides: Sides) -> Gate:
    """Numbers: `value` (the lowest share), `limit`, `utility` (model utility, the retrained model's; or None) and
    `kept` ([`Kept`] against the retrained model, or None)."""
    found = kept_of(Sides(sides.mine, reference=sides.reference))
    shares = [] if found.share is None else [found.share]
    a, b = value_of(sides.mine, "model_utility"), value_of(sides.reference, "model_utility")
    utility = (a, b) if a is not None and b else None
    shares += [a / b] if utility else []
    if not shares:
        return Gate("kept", Status.UNDECIDED)
    numbers = {"value": min(shares), "limit": KEPT_SHARE, "utility": utility}
    numbers["kept"] = found if found.share is not None else None
    return Gate("kept", status_of(min(shares) >= KEPT_SHARE), None, numbers)


def extraction(sides: Sides) -> Gate:
    """Numbers: `value`, `retrained`, `limit`, `control` (before the request)."""
    name = "forget_extraction_strength"
    a, b, control = (value_of(side, name) for side in (sides.mine, sides.reference, sides.before))
    if a is None and value_of(sides.mine, "forget_accuracy") is not None:
        return Gate("extraction", Status.NOT_APPLICABLE)
    if a is None or b is None:
        return Gate("extraction", Status.UNDECIDED)
    limit = b + EXTRACTION_EXCESS
    able = None if control is None else control > limit
    numbers = {"value": a, "retrained": b, "limit": limit, "control": control}
    return Gate("extraction", status_of(a <= limit), able, numbers)


def over_forgetting(sides: Sides) -> Gate:
    """Numbers: forget loss as `value`, `unseen`, `retrained` and `auc`; undecided with numbers: too few rows."""
    loss, unseen = (value_of(sides.mine, name) for name in ("forget_loss", "unseen_loss"))
    if loss is None or (unseen is None and not sides.retrained):
        return Gate("over_forgetting", Status.UNDECIDED)
    aim, auc = value_of(sides.reference, "forget_loss"), value_of(sides.mine, "forget_mia_loss_auc")
    numbers = {"value": loss, "unseen": unseen, "retrained": aim, "auc": auc}
    if aim is None and (sides.mine.get("forget_mia_loss_auc") or {}).get("high") is None:
        return Gate("over_forgetting", Status.UNDECIDED, None, numbers)
    return Gate("over_forgetting", status_of(not over_forgotten(sides.mine, sides.reference)), None, numbers)


IN_VERDICT: dict[str, GateRule] = {  # the verdict is their conjunction
    rule.name: rule
    for rule in (
        GateRule(
            "forget_quality",
            forget_quality,
            title="Forget rows look as they do after retraining",
            subject="the look of the forget rows",
            needs="Needs the forget rows of a retrained model.",
        ),
        GateRule(
            "auc_gap",
            auc_gap,
            title="Membership tests give the same as after retraining",
            subject="membership tests",
            needs="Needs forget and unseen rows of a retrained model.",
            against="membership tests see something else than after retraining",
        ),
        GateRule(
            "kept",
            kept,
            title="Utility kept",
            subject="what it kept",
            needs="Needs test or retain rows of a retrained model.",
        ),
        GateRule(
            "extraction",
            extraction,
            title="No more can be extracted than after retraining",
            subject="what can be extracted",
            needs="Needs the forget rows of a retrained model.",
            against="more of the answers can be drawn out than after retraining",
        ),
        GateRule(
            "over_forgetting",
            over_forgetting,
            title="Not over-forgotten",
            needs="Needs forget rows, and unseen rows or a retrained model.",
        ),
    )
}
VERDICT_GATES = tuple(IN_VERDICT)


def beside() -> dict[str, GateRule]:
    """
    Name -> gate of the attacks that bring one: judged, shown and known to `--fail_on`, but no part of the verdict.
    Those of attacks that train come first.

    Raises:
        ValueError: if two gates have one name.
    """
    from .attacks.registry import attacks

    found: dict[str, GateRule] = {}
    for attack in reversed(attacks()):
        if attack.gate is None:
            continue
        name = attack.gate.name
        if name in (*IN_VERDICT, *found, "verdict"):
            raise ValueError(f"there is a gate {name!r} already: give that of {attack.name!r} another name.")
        found[name] = attack.gate
    return found


def gate_rules() -> dict[str, GateRule]:
    """All gates by name: those of the verdict, then those of attacks."""
    return {**IN_VERDICT, **beside()}


def gate_names() -> tuple[str, ...]:
    """What `--fail_on` may name; "verdict" is the conjunction of VERDICT_GATES."""
    return (*gate_rules(), "verdict")
