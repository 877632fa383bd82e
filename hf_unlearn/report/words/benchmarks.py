"""What a benchmark was measured on, in words: how many rows, from where, how they were asked, and what was cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...evaluation.roles import ROLE_LABELS
from ...evaluation.vocabulary import BENCHMARKS
from ..tables import score_table
from .few_words import columns
from .numbers import listed, number

TITLES = {"muse": "MUSE", "wmdp": "WMDP", "mmlu": "MMLU"}


def notes(card: Mapping[str, Any], task: str) -> list[str]:
    """A text for each benchmark of a task; where runs differ in what they were asked, the first one's."""
    told: dict[str, Mapping[str, Any]] = {}
    cut: dict[str, dict[str, list[str]]] = {}
    for run in (run for run in card["runs"] if run["task"] == task):
        for name, said in ((run.get("details") or {}).get("benchmarks") or {}).items():
            told.setdefault(name, said)
            if words := _cut(said):
                cut.setdefault(name, {}).setdefault(words, []).append(ROLE_LABELS[run["model"]])
    return [_note(name, said, cut.get(name, {})) for name, said in told.items()]


def _note(name: str, said: Mapping[str, Any], cut: Mapping[str, list[str]]) -> str:
    title = ", from ".join([TITLES.get(name, name), *([said["from"]] if said.get("from") else [])])
    parts, options = said.get("parts") or {}, said.get("options") or {}
    how = _muse(parts, options) if name == "muse" else _choices(parts, options)
    cuts = [f"Too long for the model, and cut: {rows} ({listed(list(dict.fromkeys(of)))})." for rows, of in cut.items()]
    return " ".join([f"{title}: {'; '.join(how)}.", *cuts])


def _muse(parts: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    found = []
    kind = "F1" if options.get("rouge") == "f1" else "recall"
    rouge = f"ROUGE-L {kind} with{'' if options.get('stemmer') else 'out'} a stemmer"
    for part, own in parts.items():
        rows, wordless = own.get("rows"), own.get("wordless")
        without = f", {wordless} of them without a word and left out" if wordless else ""
        if part.startswith("verbmem"):
            tokens = options.get("verbatim_tokens")
            found.append(f"{rows} beginnings of texts to forget{without}, {tokens} greedy tokens each, {rouge}")
        elif part.startswith("knowmem"):
            what = "to forget" if part.endswith("forget") else "to keep"
            count = own.get("examples")
            behind = f" behind {count} example{'s' if count != 1 else ''}" if count else ""
            tokens = options.get("knowledge_tokens")
            found.append(f"{rows} questions on texts {what}{without}{behind}, {tokens} greedy tokens each, {rouge}")
    if {"privleak_forget", "privleak_holdout"} <= parts.keys():
        forget, others = (parts[f"privleak_{side}"].get("rows") for side in ("forget", "holdout"))
        share = number(options.get("min_k") or 0)
        by = f"by Min-K% of {share} % of the tokens"
        found.append(f"{forget} texts to forget against {others} that were never trained on, {by}")
    raw = {part.removeprefix("raw_"): own.get("rows") for part, own in parts.items() if part.startswith("raw_")}
    found += [f"the loss on {listed([f'{rows} {name} texts' for name, rows in raw.items()])}"] if raw else []
    return found


def _choices(parts: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    rows = listed([f"{own.get('rows')} questions{f' ({name})' if name else ''}" for name, own in parts.items()])
    shots = options.get("shots")
    return [f"{rows}, the likeliest of the choices' letters, behind {shots or 'no'} example{'s' if shots != 1 else ''}"]


def _cut(said: Mapping[str, Any]) -> str:
    parts = {name: own for name, own in (said.get("parts") or {}).items() if own.get("cut")}
    return ", ".join(f"{own['cut']} of {own['rows']} rows{name and ' of '}{name}" for name, own in parts.items())


def table(card: Mapping[str, Any]) -> str:
    """Lines of plain text, a block for each task: a line for each measure of a benchmark, a column for each model."""
    blocks = []
    for task in dict.fromkeys(run["task"] for run in card["runs"]):
        found = score_table(card, task)
        rows = [row for group in found["groups"] if group["section"] == BENCHMARKS for row in group["rows"]]
        lines = [(row["label"], *(cell["value"] if cell else "–" for cell in row["cells"])) for row in rows]
        if lines:
            blocks.append("\n".join(columns([(task, *(role["label"] for role in found["roles"])), *lines])))
    return "\n\n".join(blocks)
