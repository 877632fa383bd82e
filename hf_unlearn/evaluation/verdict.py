"""The verdict on an unlearned model, from measures alone: dicts in, words and named gates out.

Can the model be told from one that was retrained without the rows? A conjunction of named gates, each with its limit,
what so few rows could have shown, and a positive control: where the same test does not even tell the model *before* the
request from the retrained one, passing it means nothing, and that is said. All thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Limits of what is over-forgotten and what is kept, all ours.
OVER_AUC = 0.4  # an AUC whose whole interval lies below: forgotten so hard that the deletion shows
OVER_AUC_MARGIN = 0.1  # where a retrained model exists: that much below the low end of its interval, or
OVER_LOSS_RATIO = 2.0  # a forget loss that many times the unseen and the retrained model's
KEPT_WELL = 0.97  # share of the yardstick's utility from which it is called kept
KEPT_PARTLY = 0.90

# Gates of `verdict`, all ours but the limits of the first, which is that of Maini et al. 2024.
QUALITY_FLOOR = 0.05  # forget quality below: told apart; lower where two retrained models differ more than that
AUC_GAP = 0.03  # membership AUC at most so far from the retrained model's, by every score
KEPT_SHARE = 0.98  # utility at least this share of the retrained model's
EXTRACTION_EXCESS = 0.02  # extraction strength at most so much above the retrained model's
RECOVERY_AREA = 0.9  # area under the relearning curve at least this share of the retrained model's
QUANTISED_EXCESS = 0.05  # forget rows right after quantisation, beyond the retrained model's
WEAK_GAP = 0.1  # without a control: a gap that must be seen for the test to count as able to see
WEAK_DISTANCE = 0.3  # the same for the KS distance
VERDICT_GATES = ("forget_quality", "auc_gap", "kept", "extraction", "over_forgetting")
GATES = (*VERDICT_GATES, "recovery", "quantisation", "verdict")  # what `--fail-on` may name
GATE_TITLES = {
    "forget_quality": "Forget rows look as after retraining",
    "auc_gap": "Membership tests see what they see after retraining",
    "kept": "Utility kept",
    "extraction": "No more can be extracted than after retraining",
    "over_forgetting": "Not over-forgotten",
    "recovery": "Comes back no faster than a retrained model learns it",
    "quantisation": "Stays forgotten in int8 and int4",
    "verdict": "Indistinguishable from retrained",
}

UTILITIES = ("test", "retain"), ("accuracy", "token_accuracy")  # what was kept is the worst of these


def kept_share(measures: Mapping, before: Mapping | None, retrained: Mapping | None) -> tuple[float | None, str, str]:
    """
    Utility as a share of the retrained model's, else of that before the request; of the splits the worst. Returns the
    share, its word ("yes", "partly", "no", "unknown") and a sentence.
    """
    splits, kinds = UTILITIES
    found = [(split, kind, value_of(measures, f"{split}_{kind}")) for split in splits for kind in kinds]
    found = [(split, kind, value) for split, kind, value in found if value is not None]
    for other in (retrained, before):
        ratios = []
        for split, kind, value in found:
            yardstick = value_of(other["measures"], f"{split}_{kind}") if other else None
            if yardstick:
                ratios.append((value / yardstick, split, kind.replace("_", " ")))
        if ratios:
            kept, split, what = min(ratios)
            level = "yes" if kept >= KEPT_WELL else "partly" if kept >= KEPT_PARTLY else "no"
            whose = "the retrained model's" if other is retrained else "its own"
            text = f"{percent(kept)} of {whose} {what} on {split} rows"
            text += "" if other is retrained else " before the request"
            rest = [
                f"{percent(ratio)} on {other_split} rows" for ratio, other_split, _ in ratios if other_split != split
            ]
            return kept, level, text + (f" ({', '.join(rest)})" if rest else "")
    if not found:
        return None, "unknown", "not measured"
    split, kind, value = found[0]
    return None, "unknown", f"{kind.replace('_', ' ')} {percent(value)} on {split} rows, no model to compare with"


def over_forgotten(measures: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """
    Whether the forget rows do so much worse than rows that were never seen that the deletion shows (the Streisand
    effect). Either of two is enough: the forget loss, with its interval, is above OVER_LOSS_RATIO times the higher of
    the unseen loss and the retrained model's forget loss (`reference`: its measures), with theirs; or the interval of
    `forget_mia_loss_auc` lies below OVER_AUC, with a retrained model only if it also lies OVER_AUC_MARGIN below the
    retrained model's (after removing a whole class that is low, too).
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


def verdict(
    run: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    retrained: Mapping[str, Any] | None = None,
    again: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Can the model be told from a retrained one? "Indistinguishable" needs all of VERDICT_GATES.

    Args:
        run, before, retrained, again: runs of a score card (dicts with `measures`): the model, the one that it started
            from, the retrained one, and one retrained with another seed, whose differences are the noise floor.

    Returns:
        `verdict`: "indistinguishable"; "told apart"; "over-forgotten" (told apart, and by that); "not told apart"
        (every gate that could be decided is passed, but some could not, or the tests were too weak to see);
        "unknown" (no retrained model, or nothing measured). `text`: the verdict in a sentence. `gates`: list of
        `{"name", "title", "passed" (True, False, None: cannot be decided), "able" (True, False: could this test have
        seen a difference; None: no matter of power), "text"}`, in the order of GATES but for "verdict".
    """
    mine = run["measures"]
    reference = retrained["measures"] if retrained else {}
    earlier = before["measures"] if before else {}
    noise = again["measures"] if again else {}
    gates = [
        _quality_gate(mine, earlier, noise),
        _auc_gate(mine, earlier, noise),
        _kept_gate(mine, reference, retrained),
        _extraction_gate(mine, earlier, reference),
        _over_gate(mine, reference, retrained),
        _recovery_gate(mine, earlier),
        _quantisation_gate(mine, reference),
    ]
    for gate in gates:
        gate["title"] = GATE_TITLES[gate["name"]]
    without = {gate["name"] for gate in gates if gate["passed"] == "none"}  # what does not apply to such a model
    for gate in gates:
        gate["passed"] = None if gate["name"] in without else gate["passed"]
    if not retrained:
        over = next(g for g in gates if g["name"] == "over_forgetting")["passed"] is False
        text = (
            "Compared with unseen rows only. Without a retrained model nobody can say what the model would have been "
            "without these rows: rows can differ from unseen ones for reasons of their own."
        )
        return {"verdict": "over-forgotten" if over else "unknown", "text": text, "gates": gates}
    counted = [gate for gate in gates if gate["name"] in VERDICT_GATES and gate["name"] not in without]
    failed = [gate for gate in counted if gate["passed"] is False]
    undecided = [gate for gate in counted if gate["passed"] is None]
    weak = [gate for gate in counted if gate["passed"] and gate["able"] is False]
    names = lambda some: ", ".join(gate["name"].replace("_", " ") for gate in some)  # noqa: E731
    if any(gate["name"] == "over_forgetting" for gate in failed):
        found, text = "over-forgotten", "Over-forgotten: the forget rows stand out as deleted, which is a failure."
    elif failed:
        found, text = "told apart", f"Told apart from a retrained model by: {names(failed)}."
    elif len(undecided) == len(counted):
        found, text = "unknown", "Nothing was measured that could be compared with the retrained model."
    elif undecided or weak:
        reasons = [f"not decided: {names(undecided)}"] if undecided else []
        reasons += [f"too weak to see a difference here: {names(weak)}"] if weak else []
        found, text = "not told apart", f"Not told apart from a retrained model, but {'; '.join(reasons)}."
    else:
        found, text = "indistinguishable", "Indistinguishable from a retrained model by every test on this page."
    return {"verdict": found, "text": text, "gates": gates}


def passed(found: Mapping[str, Any], gate: str) -> bool | None:
    """
    Whether a named gate of what [`verdict`] returned is passed; None: it could not be decided.

    Raises:
        ValueError: for a gate that does not exist, listing those that do.
    """
    if gate == "verdict":
        return {"indistinguishable": True, "told apart": False, "over-forgotten": False}.get(found["verdict"])
    for one in found["gates"]:
        if one["name"] == gate:
            return one["passed"]
    raise ValueError(f"there is no gate {gate!r}: expected one of {', '.join(GATES)}.")


def _gate(name: str, ok: bool | None | str, able: bool | None, text: str) -> dict[str, Any]:
    return {"name": name, "passed": ok, "able": able, "text": text}


def _quality_gate(mine: Mapping, earlier: Mapping, noise: Mapping) -> dict[str, Any]:
    quality = mine.get("forget_quality") or {}
    p = quality.get("value")
    if p is None:
        return _gate("forget_quality", None, None, "Needs the forget rows of a retrained model.")
    floor, source = QUALITY_FLOOR, f"limit {number(QUALITY_FLOOR)}"
    between = value_of(noise, "forget_quality")
    if between is not None:
        floor = min(floor, between)
        source = f"two retrained models: {number(between)}, limit {number(floor)}"
    seen = quality["detectable"]
    text = (
        f"Forget quality {number(p)} ({source}): Kolmogorov-Smirnov distance {number(quality['distance'])} of the "
        f"{quality['of']} values of {quality['n']} forget rows; "
    )
    if seen is None:
        text += "so few could not show even two samples without overlap."
    else:
        text += f"less than {number(seen)} could not have been seen."
    control = value_of(earlier, "forget_quality")
    able = control <= floor if control is not None else seen is not None and seen <= WEAK_DISTANCE
    if control is not None and not able:
        text += f" The test does not see the model before the request either ({number(control)}): no power here."
    return _gate("forget_quality", p >= floor, able, text)


def _auc_gate(mine: Mapping, earlier: Mapping, noise: Mapping) -> dict[str, Any]:
    gaps = gaps_of(mine)
    if not gaps:
        return _gate("auc_gap", None, None, "Needs forget and unseen rows of a retrained model.")
    far = {score: gap for score, gap in gaps.items() if beyond(gap)}
    worst = max(far or gaps, key=lambda score: abs(gaps[score]["value"]))
    gap = gaps[worst]
    side = "more" if gap["value"] > 0 else "less"
    text = f"Farthest by {worst.replace('_', ' ')}: AUC {signed(gap['value'])} against the retrained model's"
    if gap["low"] is not None:
        text += f" ({signed(gap['low'])} to {signed(gap['high'])})"
    text += f", limit ±{number(AUC_GAP)}: the forget rows look {side} like members."
    detectable = gap.get("detectable")
    able = detectable is not None and detectable <= WEAK_GAP
    if detectable is not None:
        text += f" A gap below {number(detectable)} could not have been seen with {gap['n']} rows."
    control, between = gaps_of(earlier), gaps_of(noise)
    if control:
        able = any(beyond(g) for g in control.values())
        if not able:
            text += " The tests do not see the model before the request either: no power here."
    if between:
        most = max(abs(g["value"]) for g in between.values())
        text += f" Two retrained models differ by {number(most)}."
    within = abs(gap["value"]) <= AUC_GAP
    if not (within or far):
        text += " Its interval reaches into the limit: so few rows cannot decide."
    return _gate("auc_gap", True if within else False if far else None, able, text)


def beyond(gap: Mapping[str, Any]) -> bool:
    """Whether a gap is beyond the limit with its whole interval (alone, where there is none)."""
    low, high = (gap[end] if gap[end] is not None else gap["value"] for end in ("low", "high"))
    return low > AUC_GAP or high < -AUC_GAP


def gaps_of(measures: Mapping[str, Any]) -> dict[str, Mapping]:
    start, end = "forget_mia_", "_auc_gap"
    return {
        name.removeprefix(start).removesuffix(end): m
        for name, m in measures.items()
        if name.startswith(start) and name.endswith(end) and m["value"] is not None
    }


def _kept_gate(mine: Mapping, reference: Mapping, retrained: Mapping | None) -> dict[str, Any]:
    share, _, text = kept_share(mine, None, retrained)
    shares, texts = ([share], [text]) if share is not None else ([], [])
    a, b = value_of(mine, "model_utility"), value_of(reference, "model_utility")
    if a is not None and b:
        shares.insert(0, a / b)
        texts.insert(0, f"Model utility {number(a)}, retrained {number(b)}: {percent(a / b)}")
    if not shares:
        return _gate("kept", None, None, "Needs test or retain rows of a retrained model.")
    text = "; ".join(texts)
    return _gate("kept", min(shares) >= KEPT_SHARE, None, f"{text[0].upper()}{text[1:]}. Limit {percent(KEPT_SHARE)}.")


def _extraction_gate(mine: Mapping, earlier: Mapping, reference: Mapping) -> dict[str, Any]:
    name = "forget_extraction_strength"
    a, b, control = (value_of(side, name) for side in (mine, reference, earlier))
    if a is None and value_of(mine, "forget_accuracy") is not None:
        return _gate("extraction", "none", None, "Does not apply to classifiers.")
    if a is None or b is None:
        return _gate("extraction", None, None, "Needs the forget rows of a retrained model.")
    text = f"Extraction strength {number(a)}, retrained {number(b)}, limit {number(b + EXTRACTION_EXCESS)}."
    able = None if control is None else control > b + EXTRACTION_EXCESS
    if able is False:
        text += " It was not above that before the request either: no power here."
    return _gate("extraction", a <= b + EXTRACTION_EXCESS, able, text)


def _over_gate(mine: Mapping, reference: Mapping, retrained: Mapping | None) -> dict[str, Any]:
    loss, unseen = value_of(mine, "forget_loss"), value_of(mine, "unseen_loss")
    if loss is None or (unseen is None and not retrained):
        return _gate("over_forgetting", None, None, "Needs forget rows, and unseen rows or a retrained model.")
    text = f"Forget loss {number(loss)}"
    text += f", unseen {number(unseen)}" if unseen is not None else ""
    aim = value_of(reference, "forget_loss")
    text += f", retrained {number(aim)}" if aim is not None else ""
    if aim is None and (mine.get("forget_mia_loss_auc") or {}).get("high") is None:
        return _gate("over_forgetting", None, None, f"{text}. Without an interval of the membership AUC: too few rows.")
    auc = value_of(mine, "forget_mia_loss_auc")
    text += f"; membership AUC {number(auc)}" if auc is not None else ""
    return _gate("over_forgetting", not over_forgotten(mine, reference), None, text + ".")


def _recovery_gate(mine: Mapping, earlier: Mapping) -> dict[str, Any]:
    areas = {
        name.removeprefix("recovery_").removesuffix("_area"): m["value"]
        for name, m in mine.items()
        if name.startswith("recovery_") and name.endswith("_area") and m["value"] is not None
    }
    if not areas:
        return _gate("recovery", None, None, "Not measured: needs a retrained model under the same fine-tune.")
    worst = min(areas, key=areas.get)
    listed = ", ".join(f"{kind} rows {number(area)}" for kind, area in areas.items())
    text = (
        f"Area under the relearning curve against the retrained model's: {listed} (1: learnt back no faster than it "
        f"learns; limit {number(RECOVERY_AREA)})."
    )
    return _gate("recovery", areas[worst] >= RECOVERY_AREA, None, text)


def _quantisation_gate(mine: Mapping, reference: Mapping) -> dict[str, Any]:
    found = []
    for bits in ("int8", "int4"):
        for kind in ("exact_match", "accuracy"):
            name = f"forget_{bits}_{kind}"
            a, b = value_of(mine, name), value_of(reference, name)
            if a is not None and b is not None:
                found.append((bits, a, b))
    if not found:
        return _gate("quantisation", None, None, "Not measured: needs a retrained model under the same quantisation.")
    listed = "; ".join(f"{bits}: {percent(a)} right, retrained {percent(b)}" for bits, a, b in found)
    return _gate("quantisation", all(a <= b + QUANTISED_EXCESS for _, a, b in found), None, f"Forget rows in {listed}.")


def signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"


def value_of(measures: Mapping[str, Any], name: str) -> float | None:
    return (measures.get(name) or {}).get("value")


def number(value: float) -> str:
    if abs(value) >= 1e5:
        return f"{value:.2g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + " %"
