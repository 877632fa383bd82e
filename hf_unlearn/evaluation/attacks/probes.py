"""
Probe questions: a few questions of general knowledge and language, answered greedily before and after a request.

No attack on the forget rows, but, like one, it needs more of a model than a pass. What is asked has nothing to do with
the request, so a model that answers fewer of them than before was damaged by it. Ten questions are few: what becomes
of them is shown and counted, and no gate rests on them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...data.encode import chat
from ...data.encode.pairs import PLACE, PROMPT
from ...data.encode.special import opened, opening_of
from ..forward import signature_of
from ..general_measures import PROBE_RIGHT
from ..intervals import summary
from ..tables import is_causal_lm
from .base import Attack, Seen, Subject
from .generate import continuations, positions_of, tokenizer_of

MOST_TOKENS = 32  # of an answer
MOST_QUESTIONS = 50  # of a file: all answers stand in the report
OWN = "none, or a file of rows (.jsonl, .json, .csv, .parquet)"


class Probe(NamedTuple):
    """
    Args:
        question: for models with a chat template.
        answers: words one of which a right answer has, whatever their case.
        opening: what a model without a chat template goes on with; empty: the question as a text.
    """

    question: str
    answers: tuple[str, ...]
    opening: str = ""


PROBES = (
    Probe("What is the capital of France?", ("Paris",), "The capital of France is"),
    Probe("What is 2 plus 2?", ("4", "four"), "Two plus two is"),
    Probe("What is the opposite of hot?", ("cold",), "The opposite of hot is"),
    Probe("What is the plural of the word 'mouse'?", ("mice",), "The plural of mouse is"),
    Probe("What colour is the sky on a clear day?", ("blue",), "On a clear day the colour of the sky is"),
    Probe("Who wrote Romeo and Juliet?", ("Shakespeare",), "The play Romeo and Juliet was written by"),
    Probe("Which ocean lies between Europe and America?", ("Atlantic",), "Between Europe and America lies the"),
    Probe("What is the chemical formula of water?", ("H2O",), "The chemical formula of water is"),
    Probe("Who was the first person to walk on the moon?", ("Armstrong",), "The first person on the moon was"),
    Probe("Which organ pumps blood through the body?", ("heart",), "The organ that pumps blood is the"),
)


@dataclass(frozen=True)
class ProbeOptions:
    """Of the attack "probes"."""

    questions: str = field(
        default="",
        metadata={
            "help": f"questions of your own in the place of the ten of general knowledge: {OWN} with `question` and "
            f"`answer` (a text, or a list of those that are right), at most {MOST_QUESTIONS}.",
            "flag": "",
        },
    )

    def __post_init__(self):
        _ = self.probes

    @property
    def probes(self) -> tuple[Probe, ...]:
        """
        What is asked.

        Raises:
            ValueError: for a file that is not there, or whose rows are no questions and answers.
        """
        return () if self.questions == "none" else read(self.questions) if self.questions else PROBES


def read(path: str) -> tuple[Probe, ...]:
    """
    Probe questions from a file of rows.

    Raises:
        ValueError: for a file that is not there, or whose rows are no questions and answers.
    """
    from ...data.rows.by_name import load_rows
    from ...data.rows.files import is_path

    if not (isinstance(path, str) and is_path(path)):
        raise ValueError(f"`questions` is {path!r}: expected {OWN}.")
    try:
        rows = load_rows(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"`questions` is {path!r}, which cannot be read: {' '.join(str(error).split())}") from error
    if missing := [name for name in ("question", "answer") if name not in rows.column_names]:
        raise ValueError(f"`questions` is {path!r}, whose rows have no {' and no '.join(missing)}: name columns so.")
    if len(rows) > MOST_QUESTIONS:
        raise ValueError(f"`questions` is {path!r} with {len(rows)} questions: give at most {MOST_QUESTIONS}.")
    return tuple(_probe(path, place, row) for place, row in enumerate(rows))


def _probe(path: str, place: int, row: dict[str, Any]) -> Probe:
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    answers = [str(answer).strip() for answer in answers if answer is not None]
    question = str(row["question"] or "").strip()
    if not question or not any(answers):
        raise ValueError(f"`questions` is {path!r}, whose row {place} (from 0) has no question, or no answer to it.")
    return Probe(question, tuple(filter(None, answers)), str(row.get("opening") or ""))


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted words stands in an answer, as a word of its own, whatever its case."""
    said = _plain(answer)
    return any(re.search(rf"(?<!\w){re.escape(_plain(words))}(?!\w)", said) for words in accepted)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompt_of(tokenizer: Any, probe: Probe) -> list[int]:
    """Tokens that ask a model: by the tokenizer's chat template, else the opening of a text."""
    if chat.has_template(tokenizer):
        return chat.question_tokens(tokenizer, probe.question)
    text = probe.opening or PROMPT.replace(PLACE, probe.question)
    return opened(opening_of(tokenizer), list(tokenizer(text, add_special_tokens=False)["input_ids"]))


def _run(subject: Subject, options: ProbeOptions) -> None:
    """Greedy answers of a language model, as details `probes`: dicts `question`, `accepted`, `answer`, `right`."""
    probes = options.probes
    if not probes or not is_causal_lm(subject.seen.tables):
        return
    tokenizer = tokenizer_of(subject.processing_class)
    how = {"batch_size": subject.batch_size, "progress": subject.progress}
    try:
        subject.seen.details["probes"] = answered(subject.model, tokenizer, probes, **how)
    except NoAnswer as error:
        return subject.not_measured(PROBE_RIGHT, error)


class NoAnswer(ValueError):
    """The questions cannot be put to this model."""


def answered(model: Any, tokenizer: Any, probes: Sequence[Probe] = PROBES, **how: Any) -> list[dict[str, Any]]:
    """
    What a language model says to probe questions, greedily: dicts `question`, `accepted`, `answer`, `right`.

    Args:
        how: `batch_size` and `progress` of [`continuations`].

    Raises:
        NoAnswer: if the chat template takes no such question, or a question leaves no room for an answer.
    """
    try:
        prompts = [prompt_of(tokenizer, probe) for probe in probes]
    except chat.OddChat as error:
        raise NoAnswer(f"a question {error}") from error
    room = positions_of(signature_of(model)[0]) - max(map(len, prompts))
    if room < 1 or not all(prompts):
        raise NoAnswer("a question has no token, or leaves no room for an answer")
    tokens = continuations(model, prompts, tokenizer, max_new_tokens=int(min(MOST_TOKENS, room)), **how)
    answers = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokens]
    return [
        {"question": p.question, "accepted": [*p.answers], "answer": said, "right": is_right(said, p.answers)}
        for p, said in zip(probes, answers, strict=True)
    ]


def _measures(seen: Seen, retrained: Seen | None) -> dict[str, dict[str, Any]]:
    """`probe_right`, without an interval: the questions are chosen, no sample of any."""
    answered = seen.details.get("probes")
    if not answered:
        return {}
    return {PROBE_RIGHT: summary(sum(one["right"] for one in answered) / len(answered), None, len(answered))}


ATTACK = Attack("probes", "ask a language model a few general questions", _run, _measures, options=ProbeOptions, turn=1)
