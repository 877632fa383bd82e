"""The tokens that a tokenizer puts around a text: each of them stands there once."""

from __future__ import annotations

from typing import Any


def opening_of(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer puts before a text of its own accord, such as bos."""
    whole, alone = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    places = range(len(whole) - len(alone) + 1)
    return list(whole[: next((i for i in places if whole[i : i + len(alone)] == alone), 0)])


def opened(opening: list[int], ids: list[int]) -> list[int]:
    """The tokens behind the opening, which they may begin with already."""
    return ids if opening and ids[: len(opening)] == opening else opening + ids


def closed(ids: list[int], eos: int) -> list[int]:
    """The tokens with eos at their end, which they may end with already."""
    return ids if ids[-1:] == [eos] else [*ids, eos]


def eos_of(tokenizer: Any) -> int:
    """
    Raises:
        ValueError: if the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no eos token; an answer could not end. Fix: set `tokenizer.eos_token`.")
    return tokenizer.eos_token_id
