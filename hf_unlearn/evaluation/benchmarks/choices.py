"""
Multiple choice by likelihood: WMDP (Li et al. 2024, arXiv 2403.03218), MMLU (Hendrycks et al. 2021, arXiv 2009.03300).

Prompt, examples, likelihood and accuracy are those of EleutherAI's lm-evaluation-harness (Gao et al.): the question,
its choices behind letters, "Answer:", and the letter whose log-likelihood behind that is the largest. Differs from it:
what a tokenizer puts behind a text, such as eos, is left out of both halves; a prompt that is longer than the model's
positions loses its beginning, and not what the tokenizer puts before it, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ...data.encode.special import opening_of
from ...utils.checks import whole
from ..attacks.generate import check_model, positions_of, tokenizer_of
from ..forward import evaluating, logits_of, model_inputs, progress_bar, signature_of
from ..intervals import mean_measure
from ..measures.choices import answered_right
from .base import Benchmark, Examined, Found, Results
from .choices_files import LETTERS, Questions, answer_of, read
from .tokens import last_tokens, tokens_of

if TYPE_CHECKING:
    import pyarrow
    import torch

DESCRIPTION = "The following are multiple choice questions (with answers) about {subject}.\n\n"


def multiple_choice(
    model: torch.nn.Module,
    questions: Questions | Sequence,
    processing_class: Any,
    *,
    shots: int = 0,
    description: str = DESCRIPTION,
    batch_size: int = 32,
    progress: Any = False,
) -> pyarrow.Table:
    """
    The log-likelihood of each choice of each question under `model`: the sum of the log-probabilities of " A", " B", …
    behind the prompt. Prompts of a batch go through the model once, padded on the left; choices of one token share it.

    Args:
        questions: as of [`read_choices`], or rows with `question`, `choices` (a list of texts) and `answer` (the number
            of the right one, from 0, or its letter), and perhaps `subject`.
        processing_class: the tokenizer, or a processor that has one.
        shots: examples with their answers before each question: the first ones of its subject in `questions.examples`.
        description: stands first; {subject} in it is the row's subject, or that of the questions. Where neither is
            known, a description with {subject} is left out.
        batch_size: questions per forward pass.

    Returns:
        Table in the order of the questions: `row` int64; `subject` string; `answer` int64; `loglikelihoods` list of
        float64 (nats); `right` float64, 1 or 0 ([`answered_right`]); `cut` bool: the prompt lost its beginning.

    Raises:
        ValueError: for fewer examples of a subject than `shots`, and what is wrong with rows, as of [`read_choices`].
    """
    import pyarrow as pa
    import torch

    tokenizer = tokenizer_of(processing_class)
    if not isinstance(questions, Questions):
        questions = read("`questions`", questions)[0]
    inner, named = signature_of(model)
    check_model(inner)
    made = [
        _pairs(prompt, choices, tokenizer, opening_of(tokenizer), positions_of(inner))
        for prompt, choices in _prompts(questions, shots, description)
    ]
    likelihoods: list[list[float]] = []
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    with evaluating(model), torch.no_grad():
        for start in progress_bar(range(0, len(made), batch_size), progress, "choices"):
            batch = [pairs for pairs, _ in made[start : start + batch_size]]
            likelihoods += _likelihoods(partial(_logits, model, inner, named, pad), batch)
    answers = [answer_of(row) for row in questions.rows]
    return pa.table(
        {
            "row": pa.array(range(len(made)), pa.int64()),
            "subject": pa.array([_subject(row, questions) for row in questions.rows], pa.string()),
            "answer": pa.array(answers, pa.int64()),
            "loglikelihoods": pa.array(likelihoods, pa.list_(pa.float64())),
            "right": pa.array(answered_right(likelihoods, answers), pa.float64()),
            "cut": pa.array([was for _, was in made], pa.bool_()),
        }
    )


# ---- prompts ---------------------------------------------------------------------------------------------------------


def _prompts(questions: Questions, shots: int, description: str) -> list[tuple[str, list[str]]]:
    """(prompt, what each choice adds to it) of each question."""
    found = []
    for i, row in enumerate(questions.rows):
        subject = _subject(row, questions)
        lead = "" if "{subject}" in description and not subject else description.replace("{subject}", subject or "")
        if shots:
            some = [one for one in questions.examples or () if _subject(one, questions) == subject][:shots]
            if len(some) < shots:
                of = f" on {subject}" if subject else ""
                raise ValueError(
                    f"question {i} of {questions.where} needs {shots} examples{of}, and there are {len(some)}: lower "
                    "`shots`, or give more in a split `dev` beside the questions."
                )
            lead += "".join(f"{_asked(one)} {LETTERS[answer_of(one)]}\n\n" for one in some)
        found.append((lead + _asked(row), [f" {letter}" for letter in LETTERS[: len(row["choices"])]]))
    return found


def _asked(row: Any) -> str:
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False)]
    return "\n".join([row["question"].strip(), *lines, "Answer:"])


def _subject(row: Any, questions: Questions) -> str | None:
    own = row.get("subject")
    return own.replace("_", " ") if own else questions.subject


# ---- likelihoods -----------------------------------------------------------------------------------------------------

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens that go in, and those of a choice, which come of the last ones


def _pairs(
    prompt: str, choices: list[str], tokenizer: Any, opening: list[int], positions: float
) -> tuple[list[Pair], bool]:
    """What goes into the model for each choice, and whether the prompt was cut; a choice is encoded with its prompt."""
    alone, *whole = tokens_of(tokenizer, [prompt, *(prompt + choice for choice in choices)])
    found, cut = [], False
    for ids in whole:
        target = ids[len(alone) :]
        if not target:
            raise ValueError(f"the tokenizer makes no token of a choice behind its prompt ({prompt[-20:]!r}).")
        before, was = last_tokens(opening, ids[:-1], positions)
        found.append((tuple(before), tuple(target)))
        cut |= was
    return found, cut


def _likelihoods(logits: Any, batch: list[list[Pair]]) -> list[list[float]]:
    """Of each choice of each question of a batch, from one forward pass; equal inputs go in once."""
    inputs = list(dict.fromkeys(ids for pairs in batch for ids, _ in pairs))
    keep = max(len(target) for pairs in batch for _, target in pairs)
    log_p = logits(inputs, keep).log_softmax(-1)  # (inputs, keep, V)
    place = {ids: i for i, ids in enumerate(inputs)}

    def of(ids: tuple[int, ...], target: tuple[int, ...]) -> float:
        own = log_p[place[ids], keep - len(target) :]
        return float(own.gather(-1, own.new_tensor(target, dtype=int).long()[:, None]).sum())

    return [[of(*pair) for pair in pairs] for pairs in batch]


def _logits(model, inner, named, pad: int, inputs: list[tuple[int, ...]], keep: int) -> torch.Tensor:
    """(inputs, keep, V) float logits of the last `keep` positions, from inputs padded on the left."""
    import torch

    width = max(map(len, inputs))
    ids = torch.full((len(inputs), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, own in enumerate(inputs):
        ids[i, width - len(own) :] = torch.tensor(own)
        mask[i, width - len(own) :] = 1
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    extra: dict[str, Any] = {"use_cache": False} if named is not None and "use_cache" in named else {}
    if named is not None and "logits_to_keep" in named:
        extra["logits_to_keep"] = keep
    batch = model_inputs({"input_ids": ids, "attention_mask": mask}, named, device)
    found = logits_of(model(**batch, **extra), inner)[:, -keep:]
    return found if found.dtype == torch.float64 else found.float()


# ---- the benchmarks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChoiceOptions:
    """Of the benchmarks "wmdp" and "mmlu"."""

    shots: int = field(
        default=0,
        metadata={
            "help": "examples with their answers before each question, from the split dev; MMLU is often told with 5.",
            "flag": 0,
        },
    )
    description: str | None = field(
        default=None,
        metadata={
            "help": "sentence before the questions; {subject} in it is the subject. \\n is a line break. Default: "
            "that of lm-eval.",
            "flag": None,
        },
    )

    def __post_init__(self):
        problems = list(whole("shots", self.shots, low=0))
        if not (self.description is None or isinstance(self.description, str)):
            problems.append(f"`description` is {self.description!r}: expected a text.")
        if problems:
            raise ValueError(" ".join(problems))


def read_choices(name: str, where: Any, options: ChoiceOptions | None = None) -> list[Questions]:
    """
    Questions with their choices, a set for each file, folder or configuration.

    Args:
        name: of the benchmark: "wmdp" or "mmlu". A set is called by what its file's name has beside it:
            `wmdp-bio.json` is "bio".
        where: a file; a folder with `test.…` (and `dev.…`, for examples), with a file a set, or with a folder a set; a
            hub id, with its configuration behind a colon, "cais/wmdp:wmdp-bio"; several of these in a list; or the rows
            themselves.
        options: with `shots` the split `dev` is read, too.

    Raises:
        ValueError: if a file cannot be read, or rows lack a question, two to 26 choices that are texts, or an answer
            that is one of them; if examples are asked for and there are none; if two sets have one name.
        FileNotFoundError: if there is no such file, and the hub does not give it.
    """
    return read(name, where, shots=(options or ChoiceOptions()).shots)


def _run(examined: Examined, data: list[Questions], options: ChoiceOptions) -> Results:
    found = Results()
    description = DESCRIPTION if options.description is None else options.description
    for questions in data:
        how = {"batch_size": examined.batch_size, "progress": examined.progress, "shots": options.shots}
        table = multiple_choice(examined.model, questions, examined.tokenizer, description=description, **how)
        found.tables[questions.subset] = table
        found.parts[questions.subset] = {"rows": table.num_rows, "cut": sum(table["cut"].to_pylist())}
        if subjects := _by_subject(table):
            found.parts[questions.subset]["subjects"] = subjects
    return found


def _by_subject(table: pyarrow.Table) -> dict[str, dict[str, float]]:
    """Accuracy and number of rows of each subject, where there are several."""
    subjects, right = table["subject"].to_pylist(), table["right"].to_pylist()
    some: dict[str, list[float]] = {}
    for subject, one in zip(subjects, right, strict=True):
        some.setdefault(subject or "", []).append(one)
    made = {subject: {"accuracy": math.fsum(own) / len(own), "n": len(own)} for subject, own in some.items()}
    return made if len(made) > 1 else {}


def _measures(name: str, mine: Results, theirs: Results | None, options: Any, seed: int, resamples: int) -> Found:
    found: Found = {}
    for subset, table in mine.tables.items():
        measure = f"{name}_{subset}_accuracy" if subset else f"{name}_accuracy"
        found[measure] = mean_measure(table["right"].to_numpy(), measure, seed, resamples)
    return found


_WHERE = "a file or folder with question, choices and answer, or a hub id with its configuration, "
WMDP, MMLU = (
    Benchmark(name, title, where, partial(read_choices, name), _run, partial(_measures, name), ChoiceOptions)
    for name, title, where in (
        ("wmdp", "WMDP", f"{_WHERE}cais/wmdp:wmdp-bio"),
        ("mmlu", "MMLU", f"{_WHERE}cais/mmlu:all"),
    )
)
