"""Prompts and what follows them as tokens: the prompt is context, the rest is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...utils.checks import Wrong, shown
from .chat import IGNORE
from .special import closed, eos_of, opened, opening_of

PROMPT = "Question: {question}\nAnswer:"
PLACE = "{question}"


def check_prompt(prompt: str | None) -> list[str]:
    """What is wrong with a template for questions."""
    if prompt is None or (isinstance(prompt, str) and PLACE in prompt):
        return []
    return [Wrong("prompt", f"is {shown(prompt)}, which has no place for the question: write {PLACE} there.")]


def question_tokens(tokenizer: Any, asked: Sequence[str], said: Sequence[str], prompt: str) -> list[tuple]:
    """
    `(ids, labels)` of each row: `<bos> Question: … \\nAnswer:` as context, then ` answer <eos>`; bos also of a
    tokenizer that puts none before a text. A blank stands before the answer unless the template ends with white space.
    """
    eos, start = eos_of(tokenizer), [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    blank = "" if prompt[-1:].isspace() else " "
    contexts = _tokens(tokenizer, [prompt.replace(PLACE, question) for question in asked])
    answers = _tokens(tokenizer, [blank + answer.strip() for answer in said])
    return [
        _joined(opened(start, context), closed(answer, eos)) for context, answer in zip(contexts, answers, strict=True)
    ]


def completion_tokens(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple]:
    """
    `(ids, labels)` of each row, the two texts tokenized as one; the tokenizer's own opening before them, eos behind.

    Differs from TRL where a token would run across the border: there the two are tokenized apart, so that the prompt
    is what a model is asked later; TRL counts the tokens of the prompt alone and masks too many.
    """
    eos, opening = eos_of(tokenizer), opening_of(tokenizer)
    contexts = _tokens(tokenizer, prompts)
    wholes = _tokens(tokenizer, [a + b for a, b in zip(prompts, completions, strict=True)])
    found = []
    for context, whole, completion in zip(contexts, wholes, completions, strict=True):
        together = whole[: len(context)] == context
        rest = whole[len(context) :] if together else _tokens(tokenizer, [completion])[0]
        found.append(_joined(opened(opening, context), closed(rest, eos)))
    return found


def _joined(context: list[int], learnt: list[int]) -> tuple[list[int], list[int]]:
    return context + learnt, [IGNORE] * len(context) + learnt


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
