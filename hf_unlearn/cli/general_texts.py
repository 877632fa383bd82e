"""The general texts that `evaluate` measures: those that a request held out, or others by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.general_texts import AUTO, MADE, NONE
from ..utils.checks import ArgumentError, Wrong, problems_of
from .arguments import DataArguments, EvaluateArguments
from .prepare import READING, by_flags

FLAG = "general_dataset"
MOST = 500  # texts that are measured, evenly spaced
LONGEST = 512  # tokens of a text, or of a window of it, at most


def problems(own: EvaluateArguments, data: DataArguments, models: Mapping[str, str]) -> list[str]:
    """What is wrong with `--general_dataset`, and with a gate on texts that are not there, without asking a hub."""
    from ..data.rows.by_name import are_here

    name = own.general_dataset
    if data.task != "causal_lm":
        named = name not in (AUTO, NONE)
        return [Wrong(FLAG, f"is {name!r}: it is of language models, and --task is {data.task}.")] if named else []
    if name not in (AUTO, NONE) and not are_here(name):
        return []
    try:
        rows = texts(name, models)
    except ArgumentError as error:
        return problems_of(error)
    if rows is None and "general" in (own.fail_on or ()) and not own.tables:
        said = "is general: that needs general texts. Name some by --general_dataset; the folders of these models hold "
        return [Wrong("fail_on", f"{said}none that a request held out.")]
    return []


def texts(name: str, models: Mapping[str, str]) -> Any:
    """
    The rows that are to be measured as general texts; None: none.

    Args:
        name: of rows, as `--general_dataset` takes it.
        models: role -> folder or hub id, where requests may have held some out.

    Raises:
        ArgumentError: if there are no such rows, or those beside a model are damaged.
    """
    from datasets import Dataset

    from ..data import general_texts
    from ..data.encode.shapes import shape_of
    from ..data.rows.by_name import load_rows
    from ..evaluation import evenly

    if name == NONE:
        return None
    try:
        stored = general_texts.read(models.values())
        if name == AUTO:
            return Dataset.from_list(list(stored.held)) if stored.held else None
        rows = load_rows(name)
    except (ValueError, OSError) as error:
        flags = {**READING, "name": FLAG, "split": FLAG}
        raise ArgumentError([by_flags(problem, flags) for problem in problems_of(error)]) from error
    try:
        shape_of(rows.column_names)
    except ValueError as error:
        there = ", ".join(map(repr, rows.column_names))
        said = f"is {name!r}: give texts in a column `text`; these rows have {there}."
        raise ArgumentError([Wrong(FLAG, said)]) from error
    if "text" in rows.column_names:  # what a request trained on says nothing
        known = set(stored.trained)
        rows = rows.select([i for i, text in enumerate(rows["text"][:]) if text not in known])
    if not len(rows):
        raise ArgumentError([Wrong(FLAG, f"is {name!r}, and a request has trained on all its rows: name others.")])
    return evenly(rows, MOST)


def split(own: EvaluateArguments, data: DataArguments, models: Mapping[str, str], tokenizer: Any) -> dict[str, Any]:
    """The rows that are to be measured as general texts by the name of their split; {} where there are none."""
    from ..evaluation.general_measures import GENERAL, OWN_WORDS

    rows = encoded(own, data, models, tokenizer)
    return {} if rows is None else {OWN_WORDS if own.general_dataset == AUTO else GENERAL: rows}


def encoded(own: EvaluateArguments, data: DataArguments, models: Mapping[str, str], tokenizer: Any) -> Any:
    """
    The same, ready to be measured; None: none.

    Raises:
        ArgumentError: as of [`texts`], and for rows of no shape that is read.
    """
    from datasets import Dataset

    from ..data.encode.by_task import Reading, encode_parts
    from ..data.encode.length import Length
    from ..data.limits import positions_of
    from ..evaluation import evenly
    from ..trainers.general_texts import held_of

    rows = texts(own.general_dataset, models) if data.task == "causal_lm" else None
    if rows is None or set(MADE) <= set(rows.column_names):
        return rows
    if own.general_dataset != AUTO and any(map(_was_given_some, models.values())):
        held = held_of(own.general_dataset, tokenizer)  # perhaps these: then the others were trained on
        return evenly(Dataset.from_list(held), MOST)
    room = [most for where in models.values() if (most := positions_of(where))]
    reading = Reading("causal_lm", {}, Length(min([LONGEST, *room]), "given"))
    try:
        return encode_parts({"rows": rows}, tokenizer, reading).parts["rows"]
    except ValueError as error:
        said = f"is {own.general_dataset!r}, whose rows cannot be read: {' '.join(problems_of(error))}"
        raise ArgumentError([Wrong(FLAG, said)]) from error


def _was_given_some(folder: str) -> bool:
    """Whether the request that led to a model kept general ability by rows that were given to it."""
    from ..trainers import records
    from ..trainers.general_texts import GIVEN
    from ..utils.files import read_json

    record = read_json(Path(folder, records.UNLEARNING))
    said = record.get("general") if isinstance(record, dict) else None
    return isinstance(said, dict) and said.get("source") == GIVEN
