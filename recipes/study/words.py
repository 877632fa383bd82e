"""The study's numbers and names as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hf_unlearn.report.words.numbers import number as digits
from recipes.study.outcomes import CONTROL, PLAIN, READY

ARM_NAMES = {
    "retrained": "retrained",
    "retrained again": "retrained, other seed",
    "retrained as long": "retrained, as many steps",
    "retrained as long again": "retrained, as many steps, other seed",
    "plain": "plain",
    "equal": "equal compute",
    "reweighted": "forget rows at half weight",
    "ready": "ready",
    "finite difference": "ready, finite difference",
    "batch rows": "ready, requests from the batch",
    "smaller step": "ready, step .003",
    "half step": "ready, step .005",
    "stronger": "ready, step .003, efficiency .2",
    "every other": "ready, every other step, 32 rows",
    "no cap": "ready, gain without a cap",
    "no efficiency": "ready without efficiency",
    "no retention": "ready without retention",
    "relearn": "ready, resisting relearning",
    "align": "ready, resisting by alignment",
    "any row": "ready for any row",
    "any group": "ready for any group",
    "any group far": "ready for any group, three long steps",
}
COLUMN_ARMS = (PLAIN, CONTROL, READY)
ANY = ("any row", "any group", "any group far")
ALIKE = "all alike"  # instead of an interval without width


# ---- numbers as text ------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    text = digits(value)
    return f"−{text[1:]}" if text.startswith("-") else text


def share(value: float) -> str:
    return f"{'−' if value <= -0.0005 else ''}{abs(100 * value):.1f}\u00a0%"


def signed(value: float) -> str:
    text = number(abs(value)) if abs(value) >= 5e-5 else "0"
    return text if text == "0" else f"{'−' if value < 0 else '+'}{text}"


def points(value: float) -> str:
    """A difference of shares in per cent."""
    text = f"{abs(100 * value):.1f}"
    return text if text == "0.0" else f"{'−' if value < 0 else '+'}{text}"


def span(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    low, high = ("never" if x is None else text(x) for x in (low, high))
    return f"{low} to {high}" if low[0] in "−+" or high[0] in "−+" else f"{low.removesuffix(chr(160) + '%')}–{high}"


def interval(found: Mapping, text: Callable[[float], str]) -> list[str]:
    """Its words: none where there is no interval; one end where the other is not bounded."""
    low, high = found["low"], found["high"]
    if low is None and high is None:
        some = []
    elif low is None or high is None:
        some = [f"{text(low)} or more" if high is None else f"{text(high)} or less"]
    else:
        some = [ALIKE if low == high else span(low, high, text)]
    return ["median", *some] if found.get("of") == "median" else some


def seeds_text(seeds: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in runs)


def nothing() -> dict:
    """A cell where nothing is known."""
    return {"value": "–", "small": [], "title": "", "nothing": True}


def cell(found: Mapping | None, text: Callable[[float], str] = number, usual: int | None = None) -> dict:
    """
    Value, below it interval (or range) and n, as title the seeds; [`nothing`] where nothing is known. An n that is
    the `usual` one of a line goes without saying.
    """
    if not found or not found["n"]:
        neither, unknown = (len((found or {}).get(key, ())) for key in ("neither", "unknown"))
        if unknown:
            return {"value": f"unknown ({unknown} of {unknown} seeds)", "small": [], "title": ""}
        if neither:
            return {"value": f"neither finished ({neither} of {neither} seeds)", "small": [], "title": ""}
        return nothing()
    if "least" in found:
        return _middle_cell(found, text, usual)
    small = interval(found, text)
    bound = found.get("bound", "")
    value = f"{'not bounded, ' if bound == '?' else bound and bound + chr(160)}{text(found['value'])}"
    for key, words in (("at_least", "control never"), ("lost", "ready never"), ("neither", "neither")):
        small += [f"{words} in {len(found[key])}"] if found.get(key) else []
    return {
        "value": value,
        "small": [*small, *counted(found["n"], usual)],
        "title": f"seeds {seeds_text(found['seeds'])}",
    }


def counted(n: int, usual: int | None) -> list[str]:
    return [] if n == usual else [f"n\u00a0=\u00a0{n}"]


def _middle_cell(found: Mapping, text: Callable[[float], str], usual: int | None) -> dict:
    n, never = found["n"], len(found.get("never", ()))
    title = f"seeds {seeds_text(found['seeds'])}"
    unknown = [f"unknown in {len(found['unknown'])}"] if found.get("unknown") else []
    if never == n:
        return {"value": f"never ({n} of {n} seeds)", "small": unknown, "title": title}
    value = "never" if found["value"] is None else text(found["value"])
    if found.get("at_most") and found["value"] is not None:
        value = f"≤\u00a0{value}"
    ends = found["least"], found["most"]
    small = [span(*ends, text)] if ends[0] != ends[1] else [ALIKE] if n > 1 else []
    small += unknown
    small += [f"never in {never} of {n} seeds"] if never else counted(n, usual)
    return {"value": value, "small": small, "title": title}


def inline(found: Mapping | None, text: Callable[[float], str] = number, usual: int | None = None) -> str:
    """The same on a line: 2.31 (1.9–2.8, n = 5)."""
    shown = cell(found, text, usual)
    return f"{shown['value']} ({', '.join(shown['small'])})" if shown["small"] else shown["value"]


def name_of(arm: str) -> str:
    return ARM_NAMES.get(arm, arm)
