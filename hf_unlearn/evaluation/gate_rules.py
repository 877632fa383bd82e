"""The gates, one function each, and the list of all: those of the verdict, general ability, then those of attacks.

Each gate has a limit and, where it applies, a positive control: a test that does not even tell the model *before* the
request from the retrained model is blind, and passing it means nothing (`able` is False). A gate fails where the whole
interval is beyond its limit; where only the value is, there are too few rows, and it is undecided. What holds for every
gate is in `gates.outcome_of`. The verdict follows from the gates in `judge.verdict_of`; `report/words/gates.py` puts
both into sentences.
"""

from __future__ import annotations

from .attacks.registry import attacks
from .gates import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    GENERAL_RATIO,
    KEPT_SHARE,
    OWN_WORDS_RATIO,
    QUALITY_FLOOR,
    REMEMBERED_LOSS,
    WEAK_DISTANCE,
    WEAK_GAP,
    Gate,
    GateRule,
    Level,
    Sides,
    Status,
    beyond,
    difference_interval,
    kept_of,
    over_forgotten,
    status_of,
    within,
)
from .general_measures import GENERAL, OWN_WORDS, TEXTS, perplexity_of
from .general_measures import GENERAL_RATIO as RATIO
from .run_measures import gaps_of, value_of


def forget_quality(sides: Sides) -> Gate:
    """
    Numbers: `value` (p), `limit`, `between` (p of two retrained models), `control` (p before the request),
    `distance`, `of`, `n`, `detectable`: the smallest distance that so few rows could have shown, None: none.

    Without a p-value (it is weak for classifiers) the gate cannot be passed, but it fails where the rows are clearly
    still remembered: `loss` (the high end of the forget loss) below REMEMBERED_LOSS times `retrained` (the low end of
    the retrained model's); seeds alone make less.
    """
    quality = sides.mine.get("forget_quality") or {}
    p = quality.get("value")
    if p is None:
        loss = (sides.mine.get("forget_loss") or {}).get("high")
        aim = (sides.reference.get("forget_loss") or {}).get("low")
        if None in (loss, aim) or loss >= REMEMBERED_LOSS * aim:
            return Gate("forget_quality", Status.UNDECIDED)
        return Gate("forget_quality", Status.FAILED, True, {"loss": loss, "retrained": aim, "limit": REMEMBERED_LOSS})
    between, control = (value_of(side, "forget_quality") for side in (sides.again, sides.before))
    limit = QUALITY_FLOOR if between is None else min(QUALITY_FLOOR, between)
    seen = quality["detectable"]
    able = control <= limit if control is not None else seen is not None and seen <= WEAK_DISTANCE
    able = able or p < limit  # it did show one
    numbers = {"value": p, "limit": limit, "between": between, "control": control, "detectable": seen}
    numbers |= {key: quality[key] for key in ("distance", "of", "n")}
    return Gate("forget_quality", status_of(p >= limit), able, numbers)


def auc_gap(sides: Sides) -> Gate:
    """Numbers of the score that is farthest from the retrained model's, one surely beyond the limit first: `score`,
    `value`, `low`, `high`, `limit`, `n`, `detectable`; `between` (the most by which two retrained models differ) and
    `control` (whether any score tells the model before the request; None: not measured)."""
    gaps = gaps_of(sides.mine)
    if not gaps:
        return Gate("auc_gap", Status.UNDECIDED)
    far = {score: gap for score, gap in gaps.items() if gap["low"] is not None and beyond(gap)}
    score = max(far or gaps, key=lambda name: abs(gaps[name]["value"]))
    gap, control, noise = gaps[score], gaps_of(sides.before), gaps_of(sides.again)
    detectable = gap.get("detectable")
    able = detectable is not None and detectable <= WEAK_GAP
    if control:
        able = any(beyond(one) for one in control.values())
    able = able or bool(far)  # it did show one
    within = abs(gap["value"]) <= AUC_GAP
    numbers = {key: gap.get(key) for key in ("value", "low", "high", "n", "detectable")}
    numbers |= {"score": score, "limit": AUC_GAP, "control": able if control else None}
    numbers["between"] = max((abs(one["value"]) for one in noise.values()), default=None)
    return Gate("auc_gap", status_of(True if within else False if far else None), able, numbers)


def kept(sides: Sides) -> Gate:
    """Numbers: `value` (the lowest share), `low`, `high` (its interval), `limit`, `utility` (model utility, the
    retrained model's; or None) and `kept` ([`Kept`] against the retrained model)."""
    found = kept_of(Sides(sides.mine, reference=sides.reference))
    if found.share is None:
        return Gate("kept", Status.UNDECIDED)
    a, b = value_of(sides.mine, "model_utility"), value_of(sides.reference, "model_utility")
    numbers = {"value": found.share, "low": found.low, "high": found.high, "limit": KEPT_SHARE, "kept": found}
    numbers["utility"] = (a, b) if a is not None and b else None
    lost = found.level is not Level.YES
    shown = found.high is not None and found.high < KEPT_SHARE
    ok = False if lost and (shown or not found.split) else None if lost else True  # utility has no interval
    return Gate("kept", status_of(ok), shown or None, numbers)


def extraction(sides: Sides) -> Gate:
    """Numbers: `value`, `retrained`, `limit`, `control` (before the request); `low` and `high`, the interval of the
    difference from the retrained model's, None without one."""
    name = "forget_extraction_strength"
    a, b, control = (value_of(side, name) for side in (sides.mine, sides.reference, sides.before))
    if a is None and sides.kind == "classifier":
        return Gate("extraction", Status.NOT_APPLICABLE)
    if a is None or b is None:
        return Gate("extraction", Status.UNDECIDED)
    limit = b + EXTRACTION_EXCESS
    gap = sides.mine.get("forget_extraction_gap")
    low, high = (gap["low"], gap["high"]) if gap else difference_interval(sides.mine[name], sides.reference[name])
    ok = within(a - b, EXTRACTION_EXCESS, low)
    able = True if ok is False else None if control is None else control > limit
    numbers = {"value": a, "retrained": b, "limit": limit, "control": control, "low": low, "high": high}
    return Gate("extraction", status_of(ok), able, numbers)


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


def general(sides: Sides) -> Gate:
    """Numbers: `value` (perplexity on general texts over that before the request; None where it is no finite number),
    `low`, `high` (its interval), `limit`, `perplexity`, `before`, `n` (texts)."""
    split = next((name for name in TEXTS if perplexity_of(name) in sides.mine), None)
    if split is None:
        return Gate(GENERAL, Status.NOT_APPLICABLE)
    name, limit = perplexity_of(split), OWN_WORDS_RATIO if split == OWN_WORDS else GENERAL_RATIO
    now, before = (value_of(side, name) for side in (sides.mine, sides.before))
    found = sides.mine.get(RATIO) or {"value": now / before if now is not None and before else None}
    numbers = {key: found.get(key) for key in ("value", "low", "high")}
    numbers |= {"limit": limit, "perplexity": now, "before": before, "n": sides.mine[name]["n"]}
    if numbers["value"] is not None:
        return Gate(GENERAL, status_of(within(numbers["value"], limit, numbers["low"])), None, numbers)
    diverged = now is None and before is not None
    return Gate(GENERAL, Status.FAILED if diverged else Status.UNDECIDED, None, numbers if diverged else {})


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
            not_applicable="Does not apply: the model never saw the rows, and no retrained one stands beside it.",
            finds_memory=False,  # it looks the other way: for rows that stand out as deleted
        ),
    )
}
VERDICT_GATES = tuple(IN_VERDICT)
GENERAL_ABILITY = GateRule(  # it says nothing of the forget rows, so it is beside the verdict
    GENERAL,
    general,
    title="General ability kept",
    subject="general ability",
    needs="Needs general texts measured on the model before the request, too.",
    not_applicable="Does not apply: no general texts (split `general` of a language model) were measured.",
    finds_memory=False,
)


def beside() -> dict[str, GateRule]:
    """
    Name -> gates that are judged, shown and known to `--fail_on`, but no part of the verdict: of general ability, and
    of the attacks that bring one; those of attacks that train come first.

    Raises:
        ValueError: if two gates have one name.
    """
    found = {GENERAL: GENERAL_ABILITY}
    for gate in (attack.gate for attack in reversed(attacks()) if attack.gate):
        if gate.name in (*IN_VERDICT, *found, "verdict"):
            raise ValueError(f"there are two gates {gate.name!r}: give that of one attack another name.")
        found[gate.name] = gate
    return found


def gate_rules() -> dict[str, GateRule]:
    """All gates by name: those of the verdict, then those beside it."""
    return {**IN_VERDICT, **beside()}


def gate_names() -> tuple[str, ...]:
    """What `--fail_on` may name; "verdict" is the conjunction of VERDICT_GATES."""
    return (*gate_rules(), "verdict")
