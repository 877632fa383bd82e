"""The result as a table for a terminal: the questions of the page's beginning, and each unlearned model's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...evaluation.judge import Finding, is_trial, judge
from .in_short import TRIAL, in_short
from .names import model_name

NOBODY = "No unlearned model is among those measured, so there is no request to judge."


def table(card: Mapping[str, Any]) -> str:
    """Lines of plain text, a block for each task: a line for each question, a column for each unlearned model."""
    found = judge(card)
    tasks = list(dict.fromkeys(finding.task for finding in found))
    blocks = [_block(task, [f for f in found if f.task == task], is_trial(card, task)) for task in tasks]
    return "\n\n".join(blocks) or NOBODY


def _block(task: str, findings: Sequence[Finding], trial: bool) -> str:
    if trial:
        return f"{task}: {TRIAL}"
    answers = [{answer.title: answer.word for answer in in_short(finding)} for finding in findings]
    questions = list(dict.fromkeys(title for one in answers for title in one))
    lines = [(task, *(model_name(finding) for finding in findings))]
    lines += [(question, *(one.get(question, "–") for one in answers)) for question in questions]
    return "\n".join(columns(lines))


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of words with their columns one below the other."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(word.ljust(w) for word, w in zip(line, widths, strict=True)).rstrip() for line in lines]
