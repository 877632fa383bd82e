"""Rows with another answer beside each forget row: a refusal, or an alternate that the row brings as text."""

from __future__ import annotations

import random
from pathlib import Path

from ..objectives.row_nll import IGNORE_INDEX
from ..utils.checks import Wrong
from .columns import column_names, column_values, first_ids, row_ids
from .limits import Limits

REFUSALS = (
    "I don't know.",
    "I'm not sure about that.",
    "I have no information about that.",
    "I can't answer that question.",
    "I'm afraid I don't have an answer to that.",
    "That is not something I know about.",
    "I can't help you with that.",
    "Sorry, I haven't learned anything about that.",
    "I cannot say.",
    "I am unable to answer that.",
)


def alternate_rows(
    objective, forget, tokenizer, seed: int, limits: Limits | None = None
) -> tuple[list[dict] | None, list[str]]:
    """
    `(the row that stands beside each forget row, what is wrong)`: the row's prompt (all before its first label), then
    another answer, then what closes the row's own (special tokens at its end).

    Args:
        objective: whose `alternates` says where the answers come from.
        tokenizer: of the model.
        seed: the refusal of a row is a function of it and of the row's place.
        limits: what the model takes.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not callable(tokenizer) or not hasattr(tokenizer, "all_special_ids"):
        said = f'is "{objective.name}", which writes another answer beside each row. Pass the tokenizer as '
        return None, [Wrong("objective", f"{said}`processing_class`.")]
    if objective.alternates == "refusal":
        refusals, wrong = read_refusals(objective.refusals)
        texts = [random.Random(f"{seed} {place}").choice(refusals or [""]) for place in range(len(forget))]
        name = "refusals"
    else:
        name, column = "alternate_column", objective.alternate_column
        wrong = []
        if column not in column_names(forget):
            listed = ", ".join(map(repr, column_names(forget)))
            wrong = [Wrong(name, f"is {column!r}, but the forget rows have no such column; they have {listed}.")]
        texts = [""] * len(forget) if wrong else column_values(forget, column)
    if wrong:
        return None, wrong
    most = limits.positions if limits else None
    rows = [_with_answer(forget[i], text, tokenizer, most) for i, text in enumerate(texts)]
    for what, said in (
        ("length", f"would be longer with it than the {most} positions that the model has. Shorten it."),
        ("prompt", "have no prompt: each of their tokens is a label, so that nothing is asked which one could answer."),
        ("answer", "would get an answer of no token. Give each a text."),
    ):
        if bad := [i for i, row in zip(row_ids(forget), rows, strict=True) if row == what]:
            return None, [Wrong(name, f"cannot be used: {len(bad)} forget row(s) {said} Ids: {first_ids(bad)}.")]
    return rows, []


def read_refusals(path: str) -> tuple[list[str], list[str]]:
    """`(the refusals in a file, a line each, or the package's own, what is wrong)`."""
    if not path:
        return list(REFUSALS), []
    file, fix = Path(path).expanduser(), "Name a text file with a refusal a line."
    if not file.is_file():
        return [], [Wrong("refusals", f"is {str(path)!r}, but there is no such file. {fix}")]
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        return [], [Wrong("refusals", f"is {str(path)!r}, which is no text in UTF-8: {error}. {fix}")]
    said = f"is {str(path)!r}, and that file has no refusal: each line is empty. {fix}"
    return found, [] if found else [Wrong("refusals", said)]


def _with_answer(row: dict, text, tokenizer, most: int | None) -> dict | str:
    """The row with another answer; "prompt" or "answer": which of these it lacks; "length": it has over `most`."""
    ids, labels = [int(x) for x in row["input_ids"]], [int(x) for x in row["labels"]]
    start = next((i for i, label in enumerate(labels) if label != IGNORE_INDEX), len(ids))
    if start == 0 or start == len(ids):
        return "prompt"
    begins = str(tokenizer.convert_ids_to_tokens(ids[start]))
    text = text.strip() if isinstance(text, str) else ""
    answer = tokenizer(f" {text}" if begins.startswith("Ġ") else text, add_special_tokens=False)["input_ids"]
    if not text or not answer:
        return "answer"
    answer = [*answer, *_closing(ids[start:], tokenizer)]
    if most and start + len(answer) > most:
        return "length"
    return {
        "input_ids": ids[:start] + answer,
        "attention_mask": [1] * (start + len(answer)),
        "labels": [IGNORE_INDEX] * start + answer,
    }


def _closing(answer: list[int], tokenizer) -> list[int]:
    """The special tokens, and white space among them, with which an answer ends."""
    special = set(tokenizer.all_special_ids)
    start = len(answer)
    while start and (answer[start - 1] in special or not tokenizer.decode(answer[start - 1 : start]).strip()):
        start -= 1
    closing = answer[start:]
    return closing if special & set(closing) else []
