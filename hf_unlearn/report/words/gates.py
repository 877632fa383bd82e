"""What each verdict gate found, and the verdict, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...evaluation.gate_rules import gate_rules
from ...evaluation.gates import Gate, Kept, Level, Status
from ...evaluation.judge import Finding, Verdict
from .names import STATUS_LEVELS, STATUSES, able, gate_name, gate_title
from .numbers import in_brackets, interval, kept_percent, number, percent, plain_numbers, sentence, signed, times

UNRETRAINED = (
    "Compared with unseen rows only.",
    "Without a retrained model nobody can say what the model would have been without these rows: rows can differ from "
    "unseen ones for reasons of their own.",
)
OVER = "Over-forgotten: the forget rows stand out as deleted, which is a failure."
BLIND = "This test cannot detect a difference here: it does not flag the model from before the request either"
WEAK = "Nothing is decided by this: for such a model the study found it weak, and there is no other measure."
FEW = "Its interval reaches into the limits: there are too few rows to decide."
FEW_TEXTS = "Its interval reaches below the limit: there are too few texts to decide."
NOTHING = "Nothing was measured that could be compared with the retrained model."
INDISTINGUISHABLE = "Indistinguishable from a retrained model by every test on this page."


def gate_text(gate: Gate) -> str:
    """What was found, with its numbers and limit."""
    if gate.status is Status.NOT_APPLICABLE:
        return gate_rules()[gate.name].not_applicable
    if not gate.numbers:
        return gate_rules()[gate.name].needs
    text = SENTENCES.get(gate.name, _any_gate)(gate)
    return f"{text} {WEAK}" if gate.weak else text


def _quality(gate: Gate) -> str:
    n = gate.numbers
    if "loss" in n:
        return (
            f"The forget loss is at most {number(n['loss'])}, a retrained model's at least {number(n['retrained'])}: "
            f"below {percent(n['limit'])} of it the rows are clearly still remembered."
        )
    source = f"limit {number(n['limit'])}"
    if n["between"] is not None:
        source = f"two retrained models: {number(n['between'])}, {source}"
    text = (
        f"Forget quality {number(n['value'])} ({source}): Kolmogorov-Smirnov distance {number(n['distance'])} of the "
        f"{n['of']} values of {n['n']} forget rows; "
    )
    if n["detectable"] is None:
        text += "so few rows could not even tell two samples without overlap apart."
    else:
        text += f"a distance below {number(n['detectable'])} could not have been seen."
    if n["control"] is not None and n["control"] > n["limit"] and n["value"] >= n["limit"]:
        text += f" {BLIND} ({number(n['control'])})."
    return text


def _auc_gap(gate: Gate) -> str:
    n = gate.numbers
    text = f"Farthest by {gate_name(n['score'])}: AUC {signed(n['value'])} against the retrained model's"
    if n["low"] is not None:
        text += f" ({signed(n['low'])} to {signed(n['high'])})"
    side = "more" if n["value"] > 0 else "less"
    text += f", limit ±{number(n['limit'])}: the forget rows look {side} like members."
    if n["detectable"] is not None:
        text += f" A gap below {number(n['detectable'])} could not have been seen with {n['n']} rows."
    if n["control"] is False:
        text += f" {BLIND}."
    if n["between"] is not None:
        text += f" Two retrained models differ by {number(n['between'])}."
    if gate.status is Status.UNDECIDED and not gate.weak:
        text += f" {FEW}"
    return text


def _kept(gate: Gate) -> str:
    n = gate.numbers
    texts = [kept_text(n["kept"])]
    if n["utility"] and n["kept"].split:
        a, b = n["utility"]
        texts.append(f"model utility {number(a)}, retrained {number(b)}: {percent(a / b)}")
    text = f"{sentence('; '.join(texts))} Limit {percent(n['limit'])}."
    return f"{text} {FEW}" if gate.status is Status.UNDECIDED else text


def kept_text(kept: Kept) -> str:
    """A clause: how much of whose accuracy on which rows."""
    if kept.split is None:
        return "not measured"
    kind = kept.kind.replace("_", " ")
    if kept.share is None:
        return f"{kind} {percent(kept.value)} on {kept.split} rows, no model to compare with"
    whose, since = ("its own", " before the request") if kept.against == "before" else ("the retrained model's", "")
    others = [f"{kept_percent(share)} on {split} rows" for split, share in kept.others]
    if not kept.split:
        text = f"{kept_percent(kept.share)} of {whose} model utility{since}"
        return text + (f" (accuracy {', '.join(others)})" if others else "")
    text = f"{kept_percent(kept.share)} of {whose} {kind} on {kept.split} rows{since}"
    return text + (f" ({', '.join(others)})" if others else "")


def _extraction(gate: Gate) -> str:
    n = gate.numbers
    text = f"Extraction strength {number(n['value'])}, retrained {number(n['retrained'])}"
    if n["low"] is not None:
        text += f" (difference {signed(n['low'])} to {signed(n['high'])})"
    text += f", limit {number(n['limit'])}."
    if gate.status is Status.UNDECIDED:
        return f"{text} {FEW}"
    if gate.able is False:
        text += f" {BLIND}."
    return text


def _over(gate: Gate) -> str:
    n = gate.numbers
    text = f"Forget loss {number(n['value'])}"
    text += f", unseen {number(n['unseen'])}" if n["unseen"] is not None else ""
    text += f", retrained {number(n['retrained'])}" if n["retrained"] is not None else ""
    if gate.status is Status.UNDECIDED:
        return f"{text}. Without an interval of the membership AUC: too few rows."
    return text + (f"; membership AUC {number(n['auc'])}." if n["auc"] is not None else ".")


def _recovery(gate: Gate) -> str:
    areas = ", ".join(f"{kind} rows {number(area)}" for kind, area in gate.numbers["areas"].items())
    return (
        f"Area under the relearning curve against the retrained model's: {areas} (1: learnt back no faster than it "
        f"learns; limit {number(gate.numbers['limit'])})."
    )


def _quantisation(gate: Gate) -> str:
    right = [f"{bits}: {percent(a)} right, retrained {percent(b)}" for bits, a, b in gate.numbers["right"]]
    text = f"Forget rows in {'; '.join(right)}."
    return f"{text} {FEW}" if gate.status is Status.UNDECIDED and not gate.weak else text


def _general(gate: Gate) -> str:
    n = gate.numbers
    if n["value"] is None:
        return f"Perplexity on {n['n']} general texts is no finite number; before the request {number(n['before'])}."
    both = [number(n[key]) for key in ("perplexity", "before") if n[key] is not None]
    ratio = f"{times(n['value'])} times"
    more = len(both) == 2
    ratio = f"{both[0]}, before the request {both[1]}: {ratio}" if more else f"{ratio} that before the request"
    between = in_brackets([said] if (said := interval(n, times)) else [])
    text = f"Perplexity on {n['n']} general texts {ratio}{between}, limit {number(n['limit'])}."
    return f"{text} {FEW_TEXTS}" if gate.status is Status.UNDECIDED else text


def _any_gate(gate: Gate) -> str:
    """A gate without a sentence of its own."""
    return sentence(plain_numbers(gate.numbers))


SENTENCES: Mapping[str, Callable[[Gate], str]] = {
    "forget_quality": _quality,
    "auc_gap": _auc_gap,
    "kept": _kept,
    "extraction": _extraction,
    "over_forgetting": _over,
    "recovery": _recovery,
    "quantisation": _quantisation,
    "general": _general,
}


def verdict_sentences(finding: Finding, name: Callable[[str], str] = gate_name) -> tuple[str, ...]:
    """The verdict, and why; `name` says what gates are called in it."""
    if not finding.evidence.retrained:
        return UNRETRAINED
    if finding.verdict is Verdict.OVER_FORGOTTEN:
        return (OVER,)
    if finding.verdict is Verdict.UNKNOWN:
        return (NOTHING,)
    if finding.verdict is Verdict.INDISTINGUISHABLE:
        return (INDISTINGUISHABLE,)
    if finding.verdict is Verdict.TOLD_APART:
        failed = ", ".join(name(gate) for gate in finding.named(Status.FAILED))
        return (f"Told apart from a retrained model by: {failed}.",)
    reasons = [
        f"{why}: {', '.join(name(gate) for gate in gates)}"
        for why, gates in (
            ("not decided", finding.named(Status.UNDECIDED)),
            ("too weak to see a difference here", finding.blind),
        )
        if gates
    ]
    return (f"Not told apart from a retrained model, but {'; '.join(reasons)}.",)


def counted(finding: Finding) -> str:
    """ "3 tests passed, 2 failed, 1 undecided": of all gates that apply."""
    statuses = [gate.status for gate in finding.gates.values()]
    parts = [f"{n} {STATUSES[s]}" for s in (Status.PASSED, Status.FAILED, Status.UNDECIDED) if (n := statuses.count(s))]
    return ", ".join(parts)


def gate_rows(finding: Finding) -> list[dict[str, Any]]:
    """The gates as a table: `title`, `result`, `level` (a colour), `able`, `text`."""
    return [
        {
            "title": gate_title(name),
            "result": STATUSES[gate.status],
            "level": STATUS_LEVELS.get(gate.status, Level.UNKNOWN).value,
            "able": able(gate),
            "text": gate_text(gate),
        }
        for name, gate in finding.gates.items()
    ]
