"""The five answers of a report's first screen: what was asked, what was forgotten, what was kept, what an attacker
could still do, how sure we are. Dicts in, plain sentences out; what was not measured is said to be so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.catalogue import FINE_TUNES as RECOVERY
from ..evaluation.catalogue import score_label
from ..evaluation.findings import DAMAGE_RATIO, FORGOT_LOSS_SHARE, STILL_KNOWN_EXCESS, peers_of
from ..evaluation.verdict import (
    AUC_GAP,
    EXTRACTION_EXCESS,
    QUANTISED_EXCESS,
    RECOVERY_AREA,
    beyond,
    gaps_of,
    number,
    percent,
    value_of,
)

WORSE = {"entropy": ("is less certain", "less certain"), None: ("does worse", "doing worse")}  # an AUC below 0.5
GATE_WORDS = {  # in the verdict's sentence, for a reader who has not seen the gates yet
    "forget_quality": "the look of the forget rows",
    "auc_gap": "membership tests",
    "kept": "what it kept",
    "extraction": "what can be extracted",
}
BITS = ("int8", "int4")
BADGES = {  # verdict -> (word on the page, level)
    "indistinguishable": ("Indistinguishable from retrained", "yes"),
    "not told apart": ("Not told apart", "partly"),
    "told apart": ("Told apart from retrained", "no"),
    "over-forgotten": ("Over-forgotten", "no"),
    "unknown": ("No verdict", "unknown"),
}
ORDER = ("over-forgotten", "told apart", "unknown", "not told apart", "indistinguishable")  # the worst first
FORGOT = {
    "yes": "Yes, as far as these rows can show.",
    "partly": "Partly.",
    "no": "No.",
    "too much": "Too much: over-forgetting, which is a failure. The rows stand out as deleted.",
    "unknown": "Cannot be said.",
}
LEFT = {  # what contradicts a "yes" by the loss: failed gate -> what it found
    "extraction": "more of the answers can be drawn out than after retraining",
    "quantisation": "answers come back when the weights are rounded",
    "auc_gap": "membership tests see something else than after retraining",
    "lira": "shadow models tell the rows from ones never seen",
    "recovery": "fine-tuning brings the rows back faster than a retrained model learns them",
}
BY_LOSS = "yes by their loss only"
BUT_LEFT = "Yes by their loss, but not by every test."
KEPT_MORE = 1.02  # of the retrained model's on test rows: from here on the page says that more is not better
KEPT = {"yes": "Yes.", "partly": "Partly.", "no": "No.", "unknown": "Cannot be said."}


def answers(card: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, Any]:
    """
    The answers on one unlearned run; `finding` is its finding of [`~hf_unlearn.evaluation.findings.findings`].

    Returns:
        `forgotten`, `kept`, `sure`: lists of sentences. `forgotten_level`: the finding's word, but "partly" where it
        is "yes" and a test other than fine-tuning contradicts it. `forgotten_short`: it in a few words. `attacker`:
        `{"lead", "points"}`, a clause that goes on from "An attacker could still" and the sentences behind it.
        `badge`: `{"word", "level"}`, level one of yes, partly, no, unknown.
    """
    peers = peers_of(card, finding["task"], finding["model"], finding["seed"])
    mine = peers["run"]["measures"]
    reference = peers["retrained"]["measures"] if peers["retrained"] else {}
    earlier = peers["before"]["measures"] if peers["before"] else {}
    seeds = {r["seed"] for r in card["runs"] if (r["task"], r["model"]) == (finding["task"], finding["model"])}
    left = _left(finding, mine)
    return {
        "forgotten": _forgotten(finding, mine, reference, earlier, left),
        "forgotten_level": "partly" if set(left) - {"recovery"} else finding["forgot"],
        "forgotten_short": BY_LOSS if left else finding["forgot"],
        "kept": _kept(finding, mine, reference, earlier),
        "attacker": _attacker(peers["run"], reference, bool(peers["retrained"])),
        "sure": _sure(finding, mine, peers, len(seeds)),
        "badge": badge(finding),
    }


def badge(finding: Mapping[str, Any]) -> dict[str, str]:
    """The verdict in a word or two, and its level."""
    word, level = BADGES[finding["verdict"]["verdict"]]
    return {"word": word, "level": level}


def asked(card: Mapping[str, Any], task: str) -> str:
    """How many rows were to be forgotten, and what they were measured beside, as far as the numbers tell."""
    counts: dict[str, int] = {}
    for run in card["runs"]:
        if run["task"] == task:
            for split in ("forget", "retain", "unseen", "test"):
                if "n" in (loss := run["measures"].get(f"{split}_loss") or {}):
                    counts.setdefault(split, loss["n"])
    if "forget" not in counts:
        return ""
    n = counts["forget"]
    others = [f"{counts[s]} {s}" for s in ("retain", "unseen", "test") if s in counts]
    beside = f" Measured beside {_listed(others)} rows." if others else ""
    return f"The request: forget {'1 row' if n == 1 else f'{n} rows'}.{beside}"


def _left(finding: Mapping, mine: Mapping) -> list[str]:
    """Names of LEFT that contradict a "yes"."""
    if finding["forgot"] != "yes":
        return []
    failed = {gate["name"] for gate in finding["verdict"]["gates"] if gate["passed"] is False}
    if _ends(mine.get("forget_lira_auc") or {})[0] > 0.5:
        failed.add("lira")
    return [name for name in LEFT if name in failed]


def _forgotten(
    finding: Mapping, mine: Mapping, reference: Mapping, earlier: Mapping, left: Sequence[str] = ()
) -> list[str]:
    said = [BUT_LEFT if left else FORGOT[finding["forgot"]]]
    if left:
        said.append(f"Against it: {'; '.join(LEFT[name] for name in left)}.")
    known = _right(mine, "forget")
    if known:
        kind, right, n = known
        what = "answers still come word for word" if kind == "exact_match" else "forget rows are still answered right"
        others = [
            f"{whose} {_count(side, f'forget_{kind}')}"
            for whose, side in (("before", earlier), ("retrained", reference))
            if _count(side, f"forget_{kind}") is not None
        ]
        if not reference and _count(mine, f"unseen_{kind}") is not None:
            others.append(f"unseen rows {_count(mine, f'unseen_{kind}')} of {mine[f'unseen_{kind}']['n']}")
        said.append(f"{right or 'None'} of {n} {what}{_in_brackets(others)}.")
    loss, unseen = value_of(mine, "forget_loss"), value_of(mine, "unseen_loss")
    aim = value_of(reference, "forget_loss")
    if loss is None:
        broken = "forget_loss" in mine
        return [*said, "Their loss is not a finite number." if broken else "The forget rows were not measured."]
    yardstick = unseen if unseen is not None else aim
    if yardstick is None:
        return [*said, f"Their loss is {number(loss)}, and there are no unseen rows to hold it against."]
    share = loss / yardstick if yardstick else 1.0
    much = "less than" if share < FORGOT_LOSS_SHARE else "more than" if share > 2 - FORGOT_LOSS_SHARE else "about as"
    much = "far more than" if finding["forgot"] == "too much" else much
    than = "rows it never saw" if unseen is not None else "they surprise a retrained model"
    compared = f"surprise the model {'as much as' if much == 'about as' else much} {than}"
    numbers = f"loss {number(loss)} against {number(yardstick)}"
    if aim is not None and unseen is not None:
        numbers += f"; retrained {number(aim)}"
    said.append(f"They {compared} ({numbers}).")
    start, start_unseen = value_of(earlier, "forget_loss"), value_of(earlier, "unseen_loss")
    if start is not None and start_unseen is not None and start >= FORGOT_LOSS_SHARE * start_unseen:
        said.append("That was so before the request, too, so it shows no forgetting.")
    if finding["forgot"] == "too much" and not reference:
        said.append("If a whole class was to be removed, only a retrained model can tell.")
    return said


def _kept(finding: Mapping, mine: Mapping, reference: Mapping, earlier: Mapping) -> list[str]:
    text = re.sub(r"[\d.]+ %", lambda share: capped(float(share[0].removesuffix(" %")) / 100), finding["kept_text"])
    said = [KEPT[finding["kept_level"]], f"{text[0].upper()}{text[1:]}."]
    utility, theirs = value_of(mine, "model_utility"), value_of(reference, "model_utility")
    if utility is not None:
        said.append(
            f"Model utility {number(utility)}" + (f" (retrained {number(theirs)})." if theirs is not None else ".")
        )
    for kind in ("accuracy", "token_accuracy"):
        value, aim = value_of(mine, f"test_{kind}"), value_of(reference, f"test_{kind}")
        if value is not None and aim and value / aim > KEPT_MORE:
            said.append(
                f"More than the retrained model on test rows ({kind.replace('_', ' ')} {percent(value)}, retrained "
                f"{percent(aim)}) is not more kept: the model may still answer what one without the forget rows "
                "cannot, such as a removed class."
            )
    unseen, start = value_of(mine, "unseen_loss"), value_of(earlier, "unseen_loss")
    if unseen is not None and start is not None and unseen > DAMAGE_RATIO * start:
        said.append(f"The model suffered: its loss on unseen rows rose from {number(start)} to {number(unseen)}.")
    return said


def _attacker(run: Mapping, reference: Mapping, retrained: bool) -> dict[str, Any]:
    mine = run["measures"]
    can: list[str] = []  # what is still possible, as clauses
    points: list[str] = []  # the numbers
    tried = 0
    for attack in (_membership, _shadows, _extraction, _rephrased, _recovery, _quantised):
        clause, found = attack(run, mine, reference)
        points += found
        tried += bool(found)
        can += [clause] if clause else []
    missing = [] if _aucs(mine) else ["membership tests"]
    missing += [] if any(name.startswith("recovery_") for name in mine) or _curves(run) else ["relearning"]
    missing += [] if any(_right(mine, f"forget_{bits}") for bits in BITS) else ["rounding the weights"]
    if "forget_token_accuracy" in mine or "forget_exact_match" in mine:
        missing += [] if _right(mine, "forget_rephrased") else ["rephrased questions"]
    missing += [] if "forget_lira_auc" in mine else ["shadow models"]
    if not tried:
        return {"lead": "do what nobody has measured: no attack was tried.", "points": []}
    if can:
        lead = f"{_listed(can)}."
    elif retrained:
        lead = f"do no more than with a retrained model, by {_attacks(tried)} tried."
    else:
        lead = f"do nothing that {_attacks(tried)} tried would show."
    return {"lead": lead, "points": points + ([f"Not tried: {_listed(missing)}."] if missing else [])}


def _membership(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    """The clause and the number are of one score, and the clause follows the rule of the gate `auc_gap`."""
    aucs, theirs = _aucs(mine), _aucs(reference)
    if not aucs:
        return "", []
    both = [score for score in aucs if score in theirs]
    if both:
        score, clause = _against_retrained(aucs, theirs, gaps_of(mine), both)
    else:
        apart = [score for score, m in aucs.items() if _ends(m)[0] > 0.5 or _ends(m)[1] < 0.5]
        score = max(apart or aucs, key=lambda s: _off(aucs[s]["value"]))
        clause = "tell forget rows from unseen ones better than by blind guessing" if apart else ""
    shown, other = aucs[score], theirs.get(score)
    below = shown["value"] < 0.5
    others = ["blind guessing 50"]
    if other:
        others.append(f"retrained {_hundred(1 - other['value'] if below else other['value'])}")
    does, doing = WORSE.get(score, WORSE[None])
    how = f"by {score_label(score)}{f', taking the one that {does}' if below else ''}"
    points = [
        f"Which of two rows is the forget row? Right {_hundred(0.5 + _off(shown['value']))} times in 100, {how}"
        f"{_in_brackets(others)}."
    ]
    if below and _ends(shown)[1] < 0.5:
        points[0] += f" The forget rows stand out as {doing}"
        if other and _ends(other)[1] < 0.5:
            points[0] += ", as with a retrained model."
        else:
            points[0] += ": an attacker sees that they were deleted."
    rates = {s: mine.get(f"forget_mia_{s}_tpr_at_1fpr") or {} for s in aucs}
    rates = {s: m for s, m in rates.items() if m.get("value") is not None}
    if rates:
        best = max(rates, key=lambda s: (rates[s]["value"], s == score))
        rest = value_of(reference, f"forget_mia_{best}_tpr_at_1fpr")
        # It accuses the rows that do best, so none found says nothing where the forget rows do worse.
        if not below or rates[best]["value"] > max(0.01, rest or 0.0):
            forget = (mine.get("forget_loss") or {}).get("n")
            also = [f"retrained {_share({'value': rest}, forget)}"] if rest is not None else []
            by = "" if best == score else f", by {score_label(best)}"
            found = f"{_share(rates[best], forget)} of {forget or 'the'} forget rows"
            points.append(f"Found {_alarms(mine)}: {found}{by}{_in_brackets(also)}.")
    return clause, points


def _against_retrained(aucs: Mapping, theirs: Mapping, gaps: Mapping, both: Sequence[str]) -> tuple[str, str]:
    """
    The score to show and the clause on it, "" where every gap is within AUC_GAP. A gap that is beyond the limit with
    its whole interval goes before one that is not, then one by which forget rows are told better, then the larger one.
    """
    paired = {}
    for score in both:
        other = theirs[score]["value"]
        low, high = _ends(aucs[score])
        unpaired = {"value": aucs[score]["value"] - other, "low": low - other, "high": high - other}
        paired[score] = gaps.get(score, unpaired)  # cards of schema 1 have no gaps
    far = [score for score in both if beyond(paired[score])]
    some = far or [score for score in both if abs(paired[score]["value"]) > AUC_GAP]
    if not some:
        return max(both, key=lambda s: _off(aucs[s]["value"])), ""
    better = [score for score in some if _better(aucs[score], theirs[score]["value"])]
    score = max(better or some, key=lambda s: abs(paired[s]["value"]))
    if better:
        clause = "tell forget rows from unseen ones better than with a retrained model"
    else:
        side = "more" if paired[score]["value"] > 0 else "less"
        clause = f"see that forget rows look {side} like rows it was trained on than with a retrained model"
    return score, clause if far else f"{clause} (perhaps: too few rows to show it)"


def _better(mine: Mapping, theirs: float) -> bool:
    """
    Whether an AUC is farther from 0.5 than the retrained model's. On the same side of it that is the gap itself; on
    the other the gap does not show it, and the whole interval must be farther.
    """
    low, high = _ends(mine)
    same = (mine["value"] - 0.5) * (theirs - 0.5) >= 0
    nearest = max(low - 0.5, 0.5 - high)
    return _off(mine["value"]) > _off(theirs) and (same or nearest > _off(theirs))


def _shadows(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    """U-LiRA, unlearned against never seen: 0.5 is about what a retrained model gives; below it nothing was found."""
    auc = value_of(mine, "forget_lira_auc")
    if auc is None:
        return "", []
    n = ((run.get("details") or {}).get("lira") or {}).get("shadows")
    theirs = value_of(reference, "forget_lira_auc")
    others = ["blind guessing 50"]
    if reference:
        others.append(f"retrained {_hundred(theirs)}" if theirs is not None else "retrained not measured")
    text = f"Unlearned or never seen, by {f'{n} ' if n else ''}shadow models (U-LiRA)? Right {_hundred(auc)} times in "
    text += f"100{_in_brackets(others)}"
    rate = mine.get("forget_lira_tpr_at_1fpr") or {}
    if auc > 0.5 and rate.get("value") is not None:
        forget = (mine.get("forget_loss") or {}).get("n")
        text += f"; found {_alarms(mine)}: {_share(rate, forget)} of {forget or 'the'} forget rows"
    told = _ends(mine["forget_lira_auc"])[0] > 0.5
    return ("tell by shadow models which rows were unlearned" if told else ""), [f"{text}."]


def _extraction(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    name = "forget_extraction_strength"
    value, theirs, whose = value_of(mine, name), value_of(reference, name), "retrained"
    if value is None:
        return "", []
    if theirs is None:
        theirs, whose = value_of(mine, "unseen_extraction_strength"), "unseen rows"
    rest = [f"{whose} {percent(theirs)}"] if theirs is not None else []
    more = value > (theirs or 0.0) + EXTRACTION_EXCESS
    than = "from a retrained model" if whose == "retrained" else "of unseen rows"
    return (f"draw more of the answers out of it than {than}" if more else ""), [
        f"Given the beginning of an answer, the model completes the last {percent(value)}{_in_brackets(rest)}."
    ]


def _rephrased(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    found = _right(mine, "forget_rephrased")
    if not found:
        return "", []
    kind, right, n = found
    name = f"forget_rephrased_{kind}"
    plain, theirs = _count(mine, f"forget_{kind}"), _count(reference, name)
    rest = [f"as in training {plain}"] if plain is not None else []
    rest += [f"retrained {theirs}"] if theirs is not None else []
    yardstick = theirs if theirs is not None else _count(mine, f"unseen_{kind}") or 0
    how = "answers word for word" if kind == "exact_match" else "right"
    return ("get answers by asking in other words" if right > yardstick + STILL_KNOWN_EXCESS * n else ""), [
        f"Asked in other words: {right} of {n} {how}{_in_brackets(rest)}."
    ]


def _recovery(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    named = {kind: f"recovery_{kind}_area" for kind in RECOVERY}
    areas = {kind: mine[name] for kind, name in named.items() if value_of(mine, name) is not None}
    if not areas:
        alone = "" if reference else "; no retrained model to compare with"
        return "", [
            f"Fine-tuned on {RECOVERY.get(kind, f'{kind} rows')}: the loss of the other forget rows goes from "
            f"{number(curve[0]['loss'])} to {number(curve[-1]['loss'])} in {curve[-1]['step']} steps{alone}."
            for kind, curve in _curves(run).items()
        ]
    each = {kind: f"{_kind(kind, m)} ({number(m['value'])})" for kind, m in areas.items()}
    fast = [text for kind, text in each.items() if areas[kind]["value"] < RECOVERY_AREA]
    slow = [text for text in each.values() if text not in fast]
    if fast:
        text = f"Fine-tuned on {_listed(fast, 'or')}: the others come back faster than a retrained model learns them"
        text += f"; not so on {_listed(slow, 'or')}. 1 is as fast." if slow else ". 1 is as fast."
        return "bring rows back by fine-tuning", [text]
    return "", [f"Fine-tuned on {_listed(slow, 'or')}: no faster than a retrained model learns them. 1 is as fast."]


def _kind(kind: str, measure: Mapping) -> str:
    return f"{measure['k']} forget rows" if kind == "real" and measure.get("k") else RECOVERY[kind]


def _quantised(run: Mapping, mine: Mapping, reference: Mapping) -> tuple[str, list[str]]:
    found = {bits: right for bits in BITS if (right := _right(mine, f"forget_{bits}"))}
    if not found:
        return "", []
    kind, n = next((kind, n) for kind, _, n in found.values())
    plain = _count(mine, f"forget_{kind}")
    theirs = {bits: _count(reference, f"forget_{bits}_{kind}") for bits in found}
    rest = [f"not rounded {plain}"] if plain is not None else []
    if None not in theirs.values():
        rest.append(f"retrained {_listed([str(v) for v in theirs.values()])}")
    back = any(  # more than there were without rounding, and more than a retrained model has
        right > max(theirs[bits] or 0, plain or 0) + QUANTISED_EXCESS * n for bits, (_, right, _) in found.items()
    )
    how = "answers word for word" if kind == "exact_match" else "right"
    counts = _listed([str(right) for _, right, _ in found.values()])
    return ("get answers back by rounding the weights" if back else ""), [
        f"Weights rounded to {_listed(list(found))}: {counts} of {n} {how}{_in_brackets(rest)}."
    ]


def _sure(finding: Mapping, mine: Mapping, peers: Mapping, seeds: int) -> list[str]:
    text = finding["verdict"]["text"]
    for gate, plain in GATE_WORDS.items():
        text = re.sub(rf"\b{gate.replace('_', ' ')}\b", plain, text)
    lead, dot, rest = text.partition(". ")
    said = [lead + dot.rstrip(), *([rest] if rest else [])]
    counted = [f"{m['n']} {split}" for split in ("forget", "unseen") if (m := mine.get(f"{split}_loss"))]
    rests = [f"{' and '.join(counted)} rows"] if counted else []
    rests.append("one training seed" if seeds == 1 else f"{seeds} training seeds")
    rests.append("a retrained model" if peers["retrained"] else "no retrained model")
    said.append(f"This rests on {_listed(rests)}.")
    unseen = []
    gaps = list(gaps_of(mine).values())
    gaps = [gap for gap in gaps if beyond(gap)] or gaps
    gap = max(gaps, key=lambda m: abs(m["value"]), default={}).get("detectable")  # of the one that decides, as its gate
    if gap:
        unseen.append(f"fewer than {_hundred(gap, up=True)} in 100 guesses")
    distance = (mine.get("forget_quality") or {}).get("detectable")
    if distance:
        of = mine["forget_quality"].get("of", "loss")
        unseen.append(f"a shift in {of} of fewer than {_hundred(distance, up=True)} in 100 rows")
    if unseen:
        said.append(f"Too small for them to show: {_listed(unseen, 'or')}.")
    else:
        widths = [(_ends(m)[1] - _ends(m)[0]) / 2 for m in _aucs(mine).values() if m.get("low") is not None]
        if widths:
            said.append(f"Other rows of the same kind could give ±{_hundred(max(widths), up=True)} in 100 guesses.")
    if peers["again"]:
        said.append("The noise floor was measured.")
    elif peers["retrained"]:
        said.append("No noise floor was measured.")
    return said


def worst_first(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Findings of one model's seeds, the worst verdict first; among equals the least kept, then the lowest seed."""
    return sorted(
        found,
        key=lambda f: (ORDER.index(f["verdict"]["verdict"]), 2.0 if f["kept"] is None else f["kept"], f["seed"]),
    )


def _aucs(measures: Mapping[str, Any]) -> dict[str, Mapping]:
    """Score -> AUC measure, of the membership tests on forget rows that gave a number; without U-LiRA."""
    found = {
        name.removeprefix("forget_mia_").removesuffix("_auc"): m
        for name, m in measures.items()
        if name.startswith("forget_mia_") and name.endswith("_auc")
    }
    return {score: m for score, m in found.items() if m.get("value") is not None}


def _curves(run: Mapping[str, Any]) -> dict[str, Sequence[Mapping]]:
    curves = (run.get("details") or {}).get("recovery") or {}
    return {kind: curve for kind, curve in curves.items() if curve}


def _right(measures: Mapping[str, Any], split: str) -> tuple[str, int, int] | None:
    """(measure, rows right, rows): word for word where that was measured."""
    for kind in ("exact_match", "accuracy"):
        count = _count(measures, f"{split}_{kind}")
        if count is not None:
            return kind, count, measures[f"{split}_{kind}"]["n"]
    return None


def _count(measures: Mapping[str, Any], name: str) -> int | None:
    m = measures.get(name) or {}
    return None if m.get("value") is None or not m.get("n") else round(m["value"] * m["n"])


def _share(measure: Mapping[str, Any], of: int | None) -> str:
    return str(round(measure["value"] * of)) if of else percent(measure["value"])


def _off(auc: float) -> float:
    return abs(auc - 0.5)


def _alarms(mine: Mapping[str, Any]) -> str:
    unseen = (mine.get("unseen_loss") or {}).get("n")
    few = unseen is not None and unseen < 100
    return f"with no false alarm in {unseen}" if few else "with 1 false alarm in 100"


def capped(share: float) -> str:
    """A share in per cent; above 100 that is all it says."""
    return "100 % or more" if share > 1 else percent(share)


def _ends(measure: Mapping[str, Any]) -> tuple[float, float]:
    """The interval; without one the whole range, which shows nothing."""
    low, high = measure.get("low"), measure.get("high")
    return (0.0, 1.0) if low is None or high is None else (low, high)


def _hundred(value: float, up: bool = False) -> int:
    return math.ceil(round(100 * value, 6)) if up else round(100 * value)


def _attacks(n: int) -> str:
    return "the one attack" if n == 1 else f"the {n} kinds of attack"


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _listed(parts: Sequence[str], last: str = "and") -> str:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
