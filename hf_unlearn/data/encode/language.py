"""Rows of every shape as whole tokens with labels, for a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import chat, documents, pairs
from .columns import name_rows
from .shapes import Shape, asked_and_said, check_content

MADE = ("input_ids", "attention_mask", "labels")
PROBLEM = "what is wrong with the chat"  # column, while rows are read


def tokenized(rows: Any, tokenizer: Any, shape: Shape, prompt: str | None = None) -> Any:
    """
    The rows with all their columns and `input_ids`, `attention_mask`, `labels` (lists of int of one length a row),
    uncut and not padded; a model shifts the labels. Documents are whole.

    Args:
        prompt: template for questions, in the place of the tokenizer's chat template or of the usual one.

    Raises:
        ValueError: if a row holds no text, or nothing to learn, or a chat that cannot be read; the tokenizer has no
            eos, or no chat template for chats.
    """
    from datasets import Features, List, Value

    check_content(rows, shape)
    read = reader_of(rows, tokenizer, shape, prompt)

    def encode(batch: dict) -> dict:
        out: dict[str, list] = {name: [] for name in (*MADE, PROBLEM)}
        for found in read(batch):
            odd = found if isinstance(found, str) else None
            ids, labels = ([], []) if odd else found
            for name, value in zip(out, (ids, [1] * len(ids), labels, odd), strict=True):
                out[name].append(value)
        return out

    gone = [name for name in MADE if name in rows.column_names]
    kinds = (List(Value("int32")), List(Value("int8")), List(Value("int64")), Value("string"))
    features = {name: kind for name, kind in rows.features.items() if name not in gone}
    features = Features(features | dict(zip((*MADE, PROBLEM), kinds, strict=True)))
    made = rows.map(encode, batched=True, remove_columns=gone, features=features, desc="Tokenizing")
    told: dict[str, list[int]] = {}
    for place, odd in enumerate(made[PROBLEM][:]):
        if odd is not None:
            told.setdefault(odd, []).append(place)
    if told:
        odd, places = max(told.items(), key=lambda one: len(one[1]))
        head = "1 row has a chat that" if len(places) == 1 else f"{len(places)} rows have a chat that"
        raise ValueError(f"{head} {odd} ({name_rows(rows, places)}).")
    return made.remove_columns(PROBLEM)


def reader_of(rows: Any, tokenizer: Any, shape: Shape, prompt: str | None) -> Callable[[Mapping], list]:
    """A batch of rows -> `(ids, labels)` of each, or what is wrong with its chat."""
    if shape.kind == "text":
        return lambda batch: documents.document_tokens(tokenizer, batch[shape.of("text")])
    if shape.kind == "messages":
        chat.check_template(tokenizer, shape.of("messages"))
        return lambda batch: _chats(chat.chat_tokens, tokenizer, batch[shape.of("messages")])
    if shape.kind == "completion":
        columns = shape.of("prompt"), shape.of("completion")
        if not isinstance(rows[0][columns[0]], list):
            return lambda batch: pairs.completion_tokens(tokenizer, *(batch[column] for column in columns))
        chat.check_template(tokenizer, columns[0])
        return lambda batch: _chats(chat.completion_tokens, tokenizer, *(batch[column] for column in columns))
    if prompt is None and chat.has_template(tokenizer):
        return lambda batch: _chats(chat.chat_tokens, tokenizer, map(_as_turns, *asked_and_said(batch, shape)))
    own = pairs.PROMPT if prompt is None else prompt
    return lambda batch: pairs.question_tokens(tokenizer, *asked_and_said(batch, shape), own)


def _as_turns(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": chat.ASSISTANT, "content": answer.strip()}]


def _chats(read: Callable, tokenizer: Any, *columns: Any) -> list:
    found: list = []
    for own in zip(*columns, strict=True):
        try:
            found.append(read(tokenizer, *own))
        except chat.OddChat as error:
            found.append(str(error))
    return found
