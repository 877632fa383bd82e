"""Where a request's general rows ([`hf_unlearn.unlearning.general`]) come from: given, or written by the model."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.checks import kept_twins, taken
from ..data.columns import column_names
from ..data.encode.chat import OddChat, has_template, question_tokens
from ..data.general_texts import AUTO, FILE, MADE, NONE
from ..data.order import rows_at
from ..data.row_checks import row_problems
from ..evaluation.attacks.generate import continuations, positions_of
from ..objectives.row_nll import IGNORE_INDEX
from ..unlearning import general
from ..utils.checks import ArgumentError, Wrong
from .engines import decided_by_first, keeps_shards, several_backwards_problem, steps_in_backward
from .models import base_model

if TYPE_CHECKING:
    from ..config import UnlearnConfig
    from .unlearn import UnlearnTrainer

logger = logging.getLogger(__name__)

OWN, GIVEN = "the model's own words", "given"
SAID_FILE = "_general.npz"  # beside FILE: what the model said of the rows, for a run that is resumed


@dataclass(frozen=True)
class GeneralRows:
    """
    Args:
        learnt: rows that come beside the retain rows.
        held: rows that are only measured.
        source: where they are from, in a few words.
    """

    learnt: Sequence[dict] = field(repr=False, default=())
    held: Sequence[dict] = field(repr=False, default=())
    source: str = NONE

    def __bool__(self) -> bool:
        return bool(self.learnt)

    def budget(self, args: UnlearnConfig) -> float | None:
        """Nats by which the mean loss of the held rows may rise; None: there are none."""
        said = args.general_budget
        if self:
            usual = general.OWN_BUDGET if self.source == OWN else general.BUDGET
            return usual if said is None else said
        if said is not None and "general_budget" in args.given:
            logger.warning("`general_budget` is %g, but no general texts are kept, and nothing reads it.", said)
        return None

    def to_dict(self) -> dict:
        return {"source": self.source, "learnt": len(self.learnt), "held": len(self.held)}


def taken_in(given: Any, processing_class, limits, plain: bool, forget: Any = None) -> tuple[Any, list]:
    """
    `(general rows as they were given, made ready for the model where they were text; all that is wrong with them)`.
    "auto" and "none", which None also means, stay as they are.

    Args:
        forget: the forget rows as a data set, which must not be among them; None: they cannot be taken.
    """
    if given is None or (isinstance(given, str) and given == NONE):
        return NONE, []
    if isinstance(given, str) and given == AUTO:
        return AUTO, []
    try:
        rows = _encoded(given, processing_class)
    except (ArgumentError, FileNotFoundError, TypeError, ValueError) as error:
        return NONE, [Wrong("general_dataset", f"cannot be read: {error}")]
    sets, problems = taken({"general": rows}, "{}_dataset")
    if problems:
        return NONE, problems
    rows = sets["general"]
    if len(rows) < 2:
        return NONE, [Wrong("general_dataset", "has one row; half of the rows are only measured, so give two or more.")]
    wrong = row_problems("general", rows, limits, plain)
    if not wrong and np.asarray(rows[0]["labels"]).dtype.kind == "f":
        said = "has several labels a row; what is kept is one distribution a row or token. Leave it out."
        wrong = [Wrong("general_dataset", said)]
    if not wrong and forget is not None:
        wrong = kept_twins(forget, rows, processing_class)
    return rows, wrong


def unread_budget(args: UnlearnConfig, rows: Any) -> list:
    """A budget that somebody has set where there are to be no general rows."""
    if args.general_budget is None or "general_budget" not in args.given or not isinstance(rows, str) or rows != NONE:
        return []
    said = f'is {args.general_budget:g}, but nothing reads it: `general_dataset` is "none". Leave one of the two out.'
    return [Wrong("general_budget", said)]


def _encoded(given: Any, processing_class):
    if isinstance(given, (str, os.PathLike)):
        from ..data.rows.by_name import load_rows

        given = load_rows(str(given))
    if hasattr(given, "column_names") and "labels" not in column_names(given):
        from ..data.encode.by_task import encode

        if len(given) > general.MOST_ROWS and hasattr(given, "select"):
            given = given.select(_evenly(len(given), general.MOST_ROWS))
        return encode(given, processing_class)
    return given


def held_of(given: Any, processing_class) -> list[dict]:
    """Of rows, or a name of them, those that a request which was given them did not train on, ready for the model."""
    rows = _encoded(given, processing_class)
    held = _halved(rows_at(rows, _evenly(len(rows), general.MOST_ROWS)), GIVEN).held
    return [{name: row[name] for name in MADE} for row in held]


def _evenly(n: int, most: int) -> list[int]:
    return np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()


def settled(trainer: UnlearnTrainer, given: Any, resumed: bool) -> GeneralRows:
    """
    The general rows of a request, before its first step. Rows that the model writes are stored beside the result.

    Args:
        resumed: the request goes on from a checkpoint: with the rows that it had, if it had any, since its model has
            moved and would write others.

    Raises:
        ArgumentError: if the engine cannot take the passes that rows which were given need, or the stored rows of a
            request that goes on are gone.
    """
    if resumed and trainer.request_state.general_initial is None:
        return GeneralRows()
    if not resumed and trainer.args.should_save:  # what an earlier request has left there is no word of this one
        for name in (FILE, SAID_FILE):
            Path(trainer.args.output_dir, name).unlink(missing_ok=True)
    if isinstance(given, str) and given == NONE:
        return GeneralRows()
    auto = isinstance(given, str)
    if problem := several_backwards_problem(trainer.accelerator, "`general_dataset`"):
        if not auto:
            raise ArgumentError([problem])
        logger.warning("General ability is neither kept nor measured here. %s", problem)
        return GeneralRows()
    if not auto:
        return _halved(rows_at(given, _evenly(len(given), general.MOST_ROWS)), GIVEN)
    if resumed:
        return _halved(decided_by_first(lambda: _read(stored(trainer.args.output_dir, FILE))), OWN)
    found = _written(trainer)
    if found and trainer.args.should_save:
        _write(Path(trainer.args.output_dir, FILE), found, trainer.processing_class)
    return _halved(found, OWN) if found else GeneralRows()


def stored(folder: str, name: str) -> Path:
    """
    A file of the request that goes on, in its output folder.

    Raises:
        ArgumentError: if it is not there.
    """
    path = Path(folder, name)
    if not path.is_file():
        said = f"{path} is not there, with which this request keeps general ability; checkpoints do not hold it. Put "
        said += "it back, or begin the request anew, without `resume_from_checkpoint`."
        raise ArgumentError([said])
    return path


def _halved(rows: list[dict], source: str) -> GeneralRows:
    held = general.held_out(len(rows))
    parts = [[row for row, out in zip(rows, held, strict=True) if out is which] for which in (False, True)]
    return GeneralRows(*parts, source)


def _read(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: line[name] for name in MADE} for line in lines]


def _write(path: Path, rows: list[dict], tokenizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    held = general.held_out(len(rows))
    with open(path, "w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            text = _tokenizer(tokenizer).decode(row["input_ids"], skip_special_tokens=True)
            file.write(json.dumps({"id": f"general-{i}", "text": text, "held": held[i], **row}) + "\n")


# ---- written by the model ----


def _tokenizer(processing_class):
    return getattr(processing_class, "tokenizer", processing_class)


def _written(trainer: UnlearnTrainer) -> list[dict]:
    """Texts of the model's own, without those that say what rows of the request say; [] where it has none to give."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), _tokenizer(trainer.processing_class)
    bare = base_model(model)
    able = hasattr(bare, "can_generate") and bare.can_generate() and not bare.config.is_encoder_decoder
    if not able or not hasattr(tokenizer, "decode"):
        return []
    if keeps_shards(trainer.accelerator) or steps_in_backward(trainer.accelerator):
        logger.warning(
            "Where weights are sharded the model writes no general texts; name some by `general_dataset`, so that its "
            "general ability is kept and measured."
        )
        return []

    def written() -> list[dict]:
        known = general.all_runs(_said(trainer))
        rows = own_texts(model, tokenizer, trainer.train_dataset.seed)
        return [row for row in rows if not general.says_rows(_labels(row), known)]

    rows = decided_by_first(written)  # samples of several devices need not be the same
    guesses = general.GUESSING * trainer.rule.chance
    if len(rows) < general.FEWEST or trainer.measurements.mean_loss(rows) > guesses:
        logger.info("The model has little to say beside its rows (%d texts): no general texts are kept.", len(rows))
        return []
    return rows


def _said(trainer: UnlearnTrainer):
    """Labelled tokens of the rows of the request: of all forget rows, and of some of the others."""
    for rows, most in ((trainer.forget_dataset, None), (trainer.retain_dataset, general.MOST_COMPARED)):
        for row in rows_at(rows, _evenly(len(rows), most or len(rows))):
            yield _labels(row)


def _labels(row) -> list[int]:
    return [int(token) for token in row["labels"] if int(token) != IGNORE_INDEX]


def own_texts(model, tokenizer, seed: int) -> list[dict]:
    """
    What a language model writes: samples at temperature 1 behind short beginnings and, where the tokenizer has a chat
    template, as answers to short requests; the same for a seed.

    Returns:
        Rows with `input_ids`, `attention_mask` and `labels`, -100 on the beginnings.
    """
    prompts = _beginnings(tokenizer)
    prompts = [prompts[i % len(prompts)] for i in range(general.TEXTS if prompts else 0)]
    room = positions_of(base_model(model)) - max(map(len, prompts), default=math.inf)
    if room < general.SAME:
        return []
    how = {"max_new_tokens": int(min(general.TOKENS, room)), "batch_size": len(prompts), "seed": seed}
    rows = []
    for prompt, words in zip(prompts, continuations(model, prompts, tokenizer, **how), strict=True):
        if words:
            ids = [*prompt, *words]
            labels = [IGNORE_INDEX] * len(prompt) + words
            rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return rows


def _beginnings(tokenizer) -> list[list[int]]:
    """
    Tokens of the beginnings, two plain ones and two chats by turns: of each kind every other one is held out. Without
    what the tokenizer cannot read, or its chat template refuses.
    """
    plain = [*filter(None, (_opening(tokenizer, text) for text in general.STARTS))]
    chats = [*filter(None, (_ask(tokenizer, text) for text in general.ASKS))] if has_template(tokenizer) else []
    most = max(len(plain), len(chats))
    return [ids for i in range(0, most, 2) for ids in (*plain[i : i + 2], *chats[i : i + 2])]


def _opening(tokenizer, text: str) -> list[int]:
    try:
        ids = list(tokenizer(text)["input_ids"])
    except Exception as error:  # of every type that tokenizers raise, as where a word is not known
        logger.info("A beginning of general texts is left out: %r cannot be read (%s).", text, error)
        return []
    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids


def _ask(tokenizer, text: str) -> list[int]:
    try:
        return question_tokens(tokenizer, text)
    except OddChat as why:
        logger.info("A beginning of general texts is left out: %r %s.", text, why)
        return []


def digest(trainer: UnlearnTrainer) -> str:
    """SHA-256 of the general rows that were given, for [`hf_unlearn.trainers.same_run`]."""
    rows = rows_at(trainer.general_dataset, _evenly(len(trainer.general_dataset), general.MOST_ROWS))
    said = [{name: row.get(name) for name in ("input_ids", "labels")} for row in rows]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()
