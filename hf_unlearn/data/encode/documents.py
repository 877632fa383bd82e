"""
Documents as windows of tokens. A request names documents: the windows of one have its id, with their number behind it
where there are several, and all are in the same part of a split.
"""

from __future__ import annotations

from typing import Any

from .chat import IGNORE
from .special import closed, eos_of, opened, opening_of

DOCUMENT = "document"  # column of a window: the id of its document
SIGN = "#"  # between that id and the number of the window, from 1


def window_id(document: str, number: int, of: int) -> str:
    """Id of a window, `number` from 1; a document of one window has its own."""
    return str(document) if of == 1 else f"{document}{SIGN}{number}"


def document_tokens(tokenizer: Any, texts: list[str]) -> list[tuple[list[int], list[int]]]:
    """`(ids, labels)` of whole documents, with the tokenizer's opening and eos; all is learnt."""
    eos, opening = eos_of(tokenizer), opening_of(tokenizer)
    read = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    found = [opened(opening, closed(list(ids), eos)) for ids in read]
    return [(ids, list(ids)) for ids in found]


def starts_of(length: int, room: int, stride: int) -> list[int]:
    """
    Where windows of `room` tokens begin in a text of `length`, `stride` apart; the last one ends with the text, so
    that it is as long as the others.
    """
    if length <= room:
        return [0]
    starts = list(range(0, length - room, stride))
    return [*starts, length - room]


def windows(ids: list[int], opening: list[int], max_length: int, stride: int) -> list[tuple[list[int], list[int]]]:
    """
    `(ids, labels)` of the windows of a document: each begins with the opening; a token is learnt in the first window
    that has it, and is context in those that follow.

    Args:
        ids: of the whole, opening included.
    """
    if len(ids) <= max_length:
        return [(ids, list(ids))]
    body = ids[len(opening) :] if ids[: len(opening)] == opening else ids
    room = max(1, max_length - len(opening))
    found, learnt = [], 0
    for start in starts_of(len(body), room, min(stride, room)):
        own = body[start : start + room]
        known = max(0, learnt - start)  # tokens of this window that one before it has
        head = [IGNORE] * len(opening) if known else list(opening)
        found.append((opening + own, head + [IGNORE] * known + own[known:]))
        learnt = start + len(own)
    return found


def in_windows(rows: Any, tokenizer: Any, column: str, max_length: int, stride: int | None) -> Any:
    """
    Tokenized documents, a row for each window: with its id, `document` and, in `column`, its text; all other columns
    are the document's.

    Args:
        rows: with `input_ids` of whole documents, by [`document_tokens`].
        stride: tokens from the beginning of a window to that of the next; None: they do not overlap.
    """
    from datasets import Value

    opening = opening_of(tokenizer)
    features = rows.features.copy()
    features |= {DOCUMENT: Value("string"), "id": Value("string"), column: Value("string")}
    names = list(features)

    def cut(batch: dict, places: list[int]) -> dict:
        made: dict[str, list] = {name: [] for name in names}
        for i, ids in enumerate(batch["input_ids"]):
            document = str(batch["id"][i] if "id" in batch else places[i])
            parts = windows(ids, opening, max_length, stride or max_length)
            for number, (own, labels) in enumerate(parts, 1):
                row = {name: values[i] for name, values in batch.items()}
                row |= {"id": window_id(document, number, len(parts)), DOCUMENT: document}
                row |= {"input_ids": own, "labels": labels, "attention_mask": [1] * len(own)}
                if len(parts) > 1:
                    row[column] = tokenizer.decode(own, skip_special_tokens=True)
                for name in names:
                    made[name].append(row[name])
        return made

    how = {"batched": True, "with_indices": True, "remove_columns": rows.column_names, "features": features}
    return rows.map(cut, **how, desc="Cutting documents into windows")
