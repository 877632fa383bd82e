"""Texts of benchmarks as tokens: what a tokenizer puts before a text stands there once, and what is too long is cut."""

from __future__ import annotations

from typing import Any


def tokens_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Tokens of each text, without special ones."""
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def last_tokens(opening: list[int], ids: list[int], room: float) -> tuple[list[int], bool]:
    """
    The opening and behind it the end of a prompt, `room` tokens in all at most, and whether its beginning was cut.

    Raises:
        ValueError: if there is no room for one token of it.
    """
    if len(opening) + len(ids) <= room:
        return opening + ids, False
    left = int(room) - len(opening)
    if left < 1:
        raise ValueError(
            f"there is room for {max(int(room), 0)} tokens of a prompt: the model's positions are too few."
        )
    return opening + ids[-left:], True
