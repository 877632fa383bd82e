"""The verdict's gates, one function each, and the list of all gates: those of the verdict, then those of attacks.

Each gate has a limit and, where it applies, a positive control: a test that does not even tell the model *before* the
request from the retrained model is blind, and passing it means nothing (`able` is False). The verdict follows from the
gates in `judge.verdict_of`; `report/words/gates.py` puts both into sentences.
"""

from __future__ import annotations

from .attacks.registry import attacks
from .gates import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    KEPT_SHARE,
    QUALITY_FLOOR,
    WEAK_DISTANCE,
    WEAK_GAP,
    Gate,
    GateRule,
    Sides,
    Status,
    beyond,
    kept_of,
    over_forgotten,
    status_of,
)
from .run_measures import gaps_of, value_of


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
            not_applicable="Does not apply to classifiers.",
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
    found: dict[str, GateRule] = {}
    for gate in (attack.gate for attack in reversed(attacks()) if attack.gate):
        if gate.name in (*IN_VERDICT, *found, "verdict"):
            raise ValueError(f"there are two gates {gate.name!r}: give that of one attack another name.")
        found[gate.name] = gate
    return found


def gate_rules() -> dict[str, GateRule]:
    """All gates by name: those of the verdict, then those of attacks."""
    return {**IN_VERDICT, **beside()}


def gate_names() -> tuple[str, ...]:
    """What `--fail_on` may name; "verdict" is the conjunction of VERDICT_GATES."""
    return (*gate_rules(), "verdict")
