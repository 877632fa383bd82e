"""
Chats as tokens, by the tokenizer's chat template, and which of the tokens are the assistant's.

Where the template marks the assistant's words (`{% generation %}`), these are learnt. Most templates do not: then a
turn of the assistant is what the template adds to the turns before it and the words that open an answer
(`add_generation_prompt`), its end-of-turn token and what follows that included, as TRL counts a completion. A token
that begins before such a turn and ends in it is context. A turn of `"weight": 0` is context, as in files for OpenAI's
and Mistral's fine-tuning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

IGNORE = -100
ASSISTANT = "assistant"
SHAREGPT = {"human": "user", "gpt": ASSISTANT}  # who speaks in turns of `{"from", "value"}`, where it is not so called


class OddChat(ValueError):
    """What is wrong with one chat, without the name of its row."""


def has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def check_template(tokenizer: Any, column: str) -> None:
    """
    Raises:
        ValueError: if the tokenizer has no chat template.
    """
    if not has_template(tokenizer):
        raise ValueError(
            f"Column {column!r} holds chats, and the tokenizer has no chat template to write them by. Take the model "
            "or the tokenizer of a chat model, or set `tokenizer.chat_template`."
        )


def chat_tokens(tokenizer: Any, turns: Any) -> tuple[list[int], list[int]]:
    """
    `(ids, labels)` of a chat of which the assistant's turns are learnt.

    Args:
        turns: of `{"role", "content"}`, perhaps with a `weight` of 0 or 1: whether the turn is learnt.

    Raises:
        OddChat: if it is no such list, nobody speaks as the assistant, the template refuses it, or it writes a turn
            otherwise once others follow, so that nothing tells which tokens are the assistant's.
    """
    turns = checked(turns)
    own = [turn["role"] == ASSISTANT and turn.get("weight", 1) != 0 for turn in turns]
    if not any(own):
        roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        raise OddChat(f"has no turn of the {ASSISTANT} that is learnt: its turns are of {roles}")
    if _marks_the_assistant(tokenizer):
        if any(turn.get("weight", 1) == 0 for turn in turns if turn["role"] == ASSISTANT):
            raise OddChat(
                "has a turn of weight 0, and the chat template marks all that the assistant says: end the chat before "
                "it, or make a row for each answer"
            )
        found = _by_template(tokenizer, turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = list(found["input_ids"]), found["assistant_masks"]
        return ids, [token if own else IGNORE for token, own in zip(ids, mask, strict=True)]
    whole = _by_template(tokenizer, turns, tokenize=False)
    spans = []
    for i, is_learnt in enumerate(own):
        if is_learnt:
            if not i:
                raise OddChat(
                    "begins with a turn of the assistant, whose beginning the chat template does not tell: add a turn "
                    "of the user before it"
                )
            before = _by_template(tokenizer, turns[:i], tokenize=False, add_generation_prompt=True)
            behind = whole if i == len(turns) - 1 else _by_template(tokenizer, turns[: i + 1], tokenize=False)
            spans.append(_span(before, behind, whole, i))
    return labelled(tokenizer, whole, spans)


def question_tokens(tokenizer: Any, question: str) -> list[int]:
    """
    Tokens that ask a chat model a question, up to where its answer begins; without a part for thinking, where the
    template can leave that out.

    Raises:
        OddChat: if the template refuses it.
    """
    how = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    text = _by_template(tokenizer, [{"role": "user", "content": question}], **how)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def completion_tokens(tokenizer: Any, prompt: Any, completion: Any) -> tuple[list[int], list[int]]:
    """
    `(ids, labels)` of a chat in two parts, of which the second is learnt; both are lists of turns.

    Raises:
        OddChat: as of [`chat_tokens`].
    """
    prompt, completion = checked(prompt), checked(completion)
    whole = _by_template(tokenizer, prompt + completion, tokenize=False)
    before = _by_template(tokenizer, prompt, tokenize=False, add_generation_prompt=True)
    return labelled(tokenizer, whole, [_span(before, whole, whole, len(prompt))])


def checked(turns: Any) -> list[dict]:
    """
    The turns without values that are None, as a table has them where another row has such a key; those of
    `{"from", "value"}` with the usual names.

    Raises:
        OddChat: if they are no list of turns with a role and words.
    """
    if isinstance(turns, str):
        raise OddChat(f"is a text, {turns[:40]!r}: make a list of turns of it, as by `json.loads`")
    if not isinstance(turns, Sequence) or not len(turns):
        raise OddChat(f"holds no list of turns, but {str(turns)[:60]!r}")
    found = []
    for turn in turns:
        own = {key: value for key, value in turn.items() if value is not None} if isinstance(turn, dict) else {}
        if "role" not in own and {"from", "value"} <= set(own):
            weight = {"weight": own["weight"]} if "weight" in own else {}
            own = {"role": SHAREGPT.get(own["from"], own["from"]), "content": own["value"], **weight}
        if not isinstance(own.get("role"), str) or not isinstance(own.get("content"), str):
            raise OddChat(f"has a turn that is no {{'role', 'content'}} of two texts, but {str(turn)[:60]!r}")
        if own.get("weight", 1) not in (0, 1):
            raise OddChat(f"has a turn of weight {own['weight']!r}: a turn is learnt (1) or not (0)")
        found.append(own)
    return found


def labelled(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """
    `(ids, labels)` of a text as it stands, without further special tokens; the tokens that begin within one of the
    spans (of characters) are learnt.
    """
    if not getattr(tokenizer, "is_fast", False):
        return _labelled_by_pieces(tokenizer, text, spans)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, places = list(found["input_ids"]), [start for start, _ in found["offset_mapping"]]
    inside = [any(low <= start < high for low, high in spans) for start in places]
    return ids, [token if own else IGNORE for token, own in zip(ids, inside, strict=True)]


def _labelled_by_pieces(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """[`labelled`] by a tokenizer that does not tell where its tokens stand: what the text up to there comes to."""

    def tokens(end: int) -> list[int]:
        return list(tokenizer(text[:end], add_special_tokens=False, verbose=False)["input_ids"])

    ids = tokens(len(text))
    labels = [IGNORE] * len(ids)
    for low, high in spans:
        first, last = tokens(low), tokens(high)
        if ids[: len(first)] != first or ids[: len(last)] != last:
            raise OddChat(
                "has a token across the border of a turn, and this tokenizer does not tell where its tokens stand: "
                "load a fast one (`use_fast=True`)"
            )
        labels[len(first) : len(last)] = ids[len(first) : len(last)]
    return ids, labels


def _span(before: str, behind: str, whole: str, place: int) -> tuple[int, int]:
    """Characters of a turn of the assistant: from the end of what is before it to its own end."""
    if behind.startswith(before) and whole.startswith(behind):
        return len(before), len(behind)
    raise OddChat(
        f"has a turn (number {place}, from 0) that the chat template writes otherwise alone than among the others, so "
        "that nothing tells which tokens are the assistant's: make a row for each answer, or mark them in the template "
        "by {% generation %}"
    )


def _marks_the_assistant(tokenizer: Any) -> bool:
    template = tokenizer.chat_template
    template = template if isinstance(template, str) else str(tokenizer.get_chat_template())
    return re.search(r"{%-?\s*generation\b", template) is not None and getattr(tokenizer, "is_fast", False)


def _by_template(tokenizer: Any, turns: list[dict], **how: Any) -> Any:
    try:
        return tokenizer.apply_chat_template(turns, **how)
    except Exception as error:  # of every type that Jinja and a template's own code raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise OddChat(f"is refused by the chat template ({said})") from error
