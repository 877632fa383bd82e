"""From the data's flags to encoded rows by split."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..utils.checks import ArgumentError, Wrong, gather, problems_of
from . import request, skipping
from .arguments import DataArguments, ModelArguments
from .encoding import CLASSES, encoded, reading_of, recorded, shape_by_flags
from .encoding import PROCESSING as PROCESSING
from .encoding import Prepared as Prepared
from .loading import files_of
from .terminal import Progress

logger = logging.getLogger(__name__)

FLAGS = {  # argument of `split` -> flag that it comes from
    "by": "forget_by",
    "values": "forget_values",
    "fraction": "forget_fraction",
    "column": "forget_column",
    "group": "unseen_group",
    "seed": "split_seed",
    "unseen": "unseen",
    "deleted": "deleted",
    "where": "forget_where",
}
READING = {  # argument of `load_rows` -> flag that it comes from
    "name": "dataset_name",
    "data_files": "data_files",
    "config": "dataset_config",
    "revision": "dataset_revision",
}


def prepare(
    data: DataArguments,
    model: ModelArguments,
    processing_from: str | None = None,
    stable_alone: bool = False,
    tell: Callable[[dict, Any], None] | None = None,
    trained: Iterable[str] = (),
) -> Prepared:
    """
    Reads, splits and encodes the rows.

    Args:
        processing_from: folder or hub id of the tokenizer, image processor or feature extractor; None: made from the
            data.
        stable_alone: what is made from the data, a tokenizer say, is made from the rows that stay, as an exact deletion
            of the others needs it. The names of classes that no column declares are those of all rows in any case.
        tell: is told what was asked for and the forget rows, as soon as they are found.
        trained: folders or hub ids of models whose rows these are: the first whose record says how long its rows were
            cut decides where no flag does.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns, or else with the
            rows.
    """
    from ..data.label_lists import inner_feature

    rows, parts = rows_by_split(data)
    asked = request_of(data, rows, parts["forget"])
    if tell is not None:
        tell(asked, parts["forget"])
    known = parts["retain"] if stable_alone else rows
    reading = reading_of(data, recorded(trained))
    prepared = gather(lambda: encoded(reading, data, model, rows, known, parts, processing_from))[0]
    made = () if stable_alone else prepared.made_from_rows
    if prepared.labels is not None and not hasattr(inner_feature(rows, data.label_column), "names"):
        made += (CLASSES,)
    return replace(prepared, request=asked, made_from_rows=made)


def prepare_unsplit(data: DataArguments, model: ModelArguments, processing_from: str) -> Prepared:
    """
    Reads and encodes all rows that are there, for a model that has its tokenizer or processor and its classes already:
    as `splits["retain"]`.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the columns, or else with the rows.
    """
    rows, _ = _read(replace(data, test_split=None, test_fraction=0.0))
    gather(lambda: _check_columns(data, rows))
    labels = None if data.task == "causal_lm" else _labels_of(processing_from, model)
    reading = replace(reading_of(data, recorded([processing_from])), names=labels)
    return gather(lambda: encoded(reading, data, model, rows, rows, {"retain": rows}, processing_from))[0]


def _labels_of(where: str, model: ModelArguments) -> list[str] | None:
    """Class names of a saved model in the order of their numbers; None of an adapter, which has no config."""
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(where, **files_of(model, where))
        return [name for _, name in sorted(found.id2label.items())]
    except (OSError, ValueError):
        return None


def tell_length(prepared: Prepared, progress: Progress) -> None:
    """Says how long rows of text are, and what that cuts."""
    if prepared.said:
        progress.say(f"Rows have {prepared.said}.")


def request_of(data: DataArguments, rows, forget) -> dict:
    """What was asked for, by `hf_unlearn.data.asked`, and of which data set."""
    from ..data.asked import asked

    name = data.dataset_name
    name = Path(name).name if Path(name).exists() else name  # of a file: nobody needs to know whose folder it is in
    found = {"dataset": name, **asked(rows, forget, **request.named(data))}
    return {**found, "skipped": skipping.skipped(data)} if data.skip_broken else found


def check_rows(data: DataArguments) -> None:
    """
    What can be said of the rows without encoding them, to stand beside flags that are wrong; of rows that would first
    have to be downloaded, nothing.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns.
    """
    from ..data.rows.by_name import are_here

    if are_here(data.dataset_name, data.data_files):
        rows_by_split(data)


def rows_by_split(data: DataArguments) -> tuple:
    """
    All rows of the training and of the request, and the same by split, with `test` where there are such rows.

    Raises:
        ArgumentError: with all that is wrong with the files, or else with the split and the columns.
    """
    from .. import split

    rows, test = _read(data)

    def by_split():
        try:
            content = [column for column in said_by(data, rows) if column in rows.column_names] or None
        except ValueError:  # told where the columns are checked
            content = None
        how = {"group": data.unseen_group, "seed": data.split_seed, "content": content}
        how["deleted"], unseen = gather(*(lambda n=n: request.ids_of(data, n) for n in ("deleted", "unseen_ids")))
        try:
            return split(rows, **request.named(data), **how, unseen=unseen or data.unseen)
        except ValueError as error:
            way = request.way_of(data)
            flags = {**FLAGS, "values": way} if way in ("forget_ids", "forget_where") else FLAGS
            flags = {**flags, "unseen": "unseen_ids"} if data.unseen_ids else flags
            told = f"There is no column {data.label_column!r};"  # where the columns are checked, with its flag
            problems = [one for one in problems_of(error) if data.task == "causal_lm" or not one.startswith(told)]
            raise ArgumentError([by_flags(one, flags) for one in problems]) from error

    parts, *_ = gather(
        by_split,
        *(lambda part=part: _check_columns(data, part) for part in (rows, test) if part is not None),
    )
    if test is None:
        return rows, parts
    if not data.test_fraction:  # else they are of the same rows, and others
        check_test(data, rows, test)
    return rows, {**parts, "test": test}


def check_test(data: DataArguments, rows, test) -> None:
    """
    What can be said of rows from a split of their own that accuracy is measured on; those that are trained on, too, are
    told in a warning.

    Raises:
        ArgumentError: if their labels are numbers where the training rows have words.
    """
    from datasets import ClassLabel

    from ..data.encode.columns import label_values
    from ..data.label_lists import holds_lists

    several = data.task != "causal_lm" and any(holds_lists(part, data.label_column) for part in (rows, test))
    if data.task != "causal_lm" and not several and not isinstance(rows.features[data.label_column], ClassLabel):
        words, numbers = (set(map(type, label_values(part, data.label_column))) for part in (rows, test))
        if str in words and int in numbers:
            said = f"is {data.test_split!r}, whose {data.label_column!r} holds numbers where the training has words: "
            raise ArgumentError([Wrong("test_split", said + "which number means which class? Give both the words.")])
    if data.task in ("causal_lm", "sequence_classification"):
        columns = said_by(data, rows)
        if missing := [column for column in columns if column not in test.column_names]:
            what = f"is {data.test_split!r}, whose rows have no column {', '.join(map(repr, missing))}, as the others: "
            raise ArgumentError([Wrong("test_split", what + f"they have {', '.join(map(repr, test.column_names))}.")])
        said = [list(zip(*(map(str, part[name][:]) for name in columns), strict=True)) for part in (rows, test)]
        trained = set(said[0])
        if both := sum(row in trained for row in said[1]):
            logger.warning(
                "%d of the %d test rows are rows of the training, too, word for word: accuracy on those says nothing "
                "of rows that no model saw. Name other rows by --test_split, or hold some out by --test_fraction.",
                both,
                len(test),
            )


def _check_columns(data: DataArguments, rows) -> None:
    said = said_by(data, rows)
    wanted = said if data.task == "causal_lm" or not said else (*said, data.label_column)
    if missing := [column for column in wanted if column not in rows.column_names]:
        raise ValueError(
            f"There is no column {', '.join(map(repr, missing))}; the rows have "
            f"{', '.join(map(repr, rows.column_names))}. {_named_by(data, missing)}"
        )


def _named_by(data: DataArguments, missing: list[str]) -> str:
    """Which flags say that the columns have other names."""
    names = ("text", "image", "audio", "label")
    flags = [f"--{name}_column" for name in names if getattr(data, f"{name}_column") in missing]
    return f"If yours has another name, say it by {' and '.join(flags)}." if flags else ""


def said_by(data: DataArguments, rows) -> tuple[str, ...]:
    """
    The columns that hold what a row says.

    Raises:
        ValueError: if rows for a language model have none of the shapes that are read.
    """
    if data.task == "causal_lm":
        return tuple(shape_by_flags(data, rows).columns.values())
    return {
        "sequence_classification": (data.text_column,),
        "image_classification": (data.image_column,),
        "audio_classification": (data.audio_column,),
    }.get(data.task, ())


def by_flags(problem: str, flags: dict[str, str] = FLAGS) -> str:
    """A problem of `split` or `load_rows` with the flags in the place of its arguments."""
    for argument, flag in flags.items():
        problem = problem.replace(f"`{argument}`", f"`--{flag}`")
        problem = re.sub(rf"`{argument}='(\w+)'`", rf"`--{flag} \1`", problem)
    return problem


def _read(data: DataArguments):
    """Rows to train on and to forget, and rows to test on or None."""
    from ..data.rows.by_name import load_rows
    from ..data.rows.files import with_images

    def load(split: str | None, flag: str):
        try:
            where = (data.dataset_name, data.data_files, split)
            return load_rows(*where, config=data.dataset_config, revision=data.dataset_revision)
        except (ValueError, OSError) as error:
            flags = {**READING, "split": flag}
            raise ArgumentError([by_flags(problem, flags) for problem in problems_of(error)]) from error

    rows, test = gather(
        lambda: load(data.dataset_split, "dataset_split"),
        lambda: load(data.test_split, "test_split") if data.test_split else None,
    )
    if data.task == "image_classification":
        rows, test = (part and with_images(part, data.image_column, paths=True) for part in (rows, test))
    if data.task != "causal_lm":
        rows, test = (part and _with_label_lists(data, part) for part in (rows, test))
    if data.limit is not None:
        rows = rows.select(range(min(data.limit, len(rows))))
        test = test and test.select(range(min(data.limit, len(test))))
    splits = ((rows, data.dataset_split), (test, data.test_split))
    rows, test = (part and skipping.without_broken(data, part, name) for part, name in splits)
    if data.test_fraction and test is None:
        if not 0 < math.ceil(len(rows) * data.test_fraction) < len(rows):
            raise ArgumentError(
                [f"`--test_fraction` is {data.test_fraction:g}: of {len(rows)} rows it leaves none to train on."]
            )
        halves = rows.train_test_split(test_size=data.test_fraction, seed=data.split_seed)
        rows, test = halves["train"], halves["test"]
    return rows, test


def _with_label_lists(data: DataArguments, rows):
    """The rows with a list of labels each, where columns or words of several labels say so."""
    from ..data import label_lists

    if data.label_columns:
        return label_lists.from_columns(rows, data.label_columns, data.label_column)
    return label_lists.from_words(rows, data.label_column, data.label_separator)
