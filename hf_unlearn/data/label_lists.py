"""
Several labels a row, each of them there or not: how rows hold them, as lists of names or of numbers, as 0 or 1 for each
label, in a column for each label, or in one word that is to be cut up.
"""

from __future__ import annotations

import ast
import logging
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..utils.checks import Wrong, raise_problems
from .columns import column_names, column_values, first_ids, row_ids

logger = logging.getLogger(__name__)

THERE = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}  # as words of a file


def holds_lists(dataset, column: str) -> bool:
    """Whether a column holds a list a row, by its type or by its first rows."""
    features = getattr(dataset, "features", None)
    if features is not None:
        return hasattr(features[column], "feature") or isinstance(features[column], list)
    values = (dataset[i].get(column) for i in range(min(len(dataset), 8)))
    return any(isinstance(value, (list, tuple)) or np.ndim(value) == 1 for value in values)


def labels_of_rows(dataset, column: str) -> tuple[list, np.ndarray, int | None]:
    """
    `(labels (L,), their rows (L,), C)` of a column of lists: names, or numbers. Where all lists are of one length C and
    hold 0 and 1 alone, each says of every label whether it is there, and the labels are the places of the ones; else C
    is None.

    Raises:
        ArgumentError: if a row has no list, or a list holds something that is no label; the rows are named.
    """
    lists = [None if value is None else list(value) for value in column_values(dataset, column)]
    ids = row_ids(dataset)

    def refuse(wrong: list[int], what: str, fix: str) -> None:
        if wrong:
            named = first_ids([ids[i] for i in wrong])
            raise_problems([f"{len(wrong)} row(s) {what} in the column {column!r}, ids {named}: {fix}"])

    refuse(
        [i for i, own in enumerate(lists) if own is None],
        "have no list of labels",
        "a row without any label has an empty list.",
    )
    odd = [i for i, own in enumerate(lists) if not all(map(_is_label, own))]
    example = next((repr(one)[:40] for i in odd for one in lists[i] if not _is_label(one)), "")
    refuse(odd, f"have {example} among the labels", "a label is a name or a whole number.")
    lists = [[int(one) if isinstance(one, float) else one for one in own] for own in lists]
    lengths = {len(own) for own in lists}
    places = len(lengths) == 1 and min(lengths) > 1 and not _names_of(dataset, column)
    if places and all(one in (0, 1) for own in lists for one in own):
        lists = [[place for place, one in enumerate(own) if one] for own in lists]
    else:
        lengths = {None}
    refuse(
        [i for i, own in enumerate(lists) if any(isinstance(one, int) and one < 0 for one in own)],
        "have a number below 0",
        "labels are numbered from 0.",
    )
    rows = np.repeat(np.arange(len(lists)), [len(own) for own in lists])
    return [one for own in lists for one in own], rows, lengths.pop()


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int, bool)) or (isinstance(value, float) and math.isfinite(value) and not value % 1)


def _names_of(dataset, column: str) -> list[str] | None:
    """Names that the column's type declares for its numbers."""
    return getattr(inner_feature(dataset, column), "names", None)


def inner_feature(dataset, column: str) -> Any:
    """Type of a column's values, within lists of them; None where there are no types."""
    feature = (getattr(dataset, "features", None) or {}).get(column)
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)


def label_names(dataset, column: str, counted: bool = False) -> list[str]:
    """
    Names of the labels in the order of their numbers: those that the type declares, of 0 and 1 for each label the
    places, else those that occur, sorted.

    Args:
        counted: labels that are numbers count from 0, also those that do not occur.
    """
    labels, _, several = labels_of_rows(dataset, column)
    if names := _names_of(dataset, column):
        return list(names)
    of_numbers = bool(labels) and all(isinstance(one, int) for one in labels)
    if several or (of_numbers and counted):
        return [str(number) for number in range(several or max(labels) + 1)]
    return [str(one) for one in sorted(set(labels))] if of_numbers else sorted(set(map(str, labels)))


def label_vectors(dataset, column: str, names: list[str] | None = None) -> tuple[list[str], list[list[float]]]:
    """
    `(names (C,), (N, C) of 0.0 and 1.0)`.

    Args:
        names: of the labels in the model's order; None: [`label_names`], counted. Numbers that are no names among them
            count them from 0.

    Raises:
        ArgumentError: if a label is not among the names, or a row says 0 or 1 of another number of labels.
    """
    labels, rows, several = labels_of_rows(dataset, column)
    own = label_names(dataset, column, counted=True)
    names = own if names is None else list(names)
    if several and several != len(names):
        raise_problems([f"The column {column!r} says 0 or 1 of {several} labels, and there are {len(names)}."])
    number = {name: i for i, name in enumerate(names)}
    by_number = all(isinstance(one, int) for one in labels) and (
        several is not None or not {str(one) for one in labels} <= set(names)
    )
    if _names_of(dataset, column):  # a number of the type's names
        places = [number.get(own[one]) if 0 <= one < len(own) else None for one in labels]
    elif by_number:
        places = [one if one < len(names) else None for one in labels]
    else:
        places = [number.get(str(one)) for one in labels]
    if wrong := [i for i, place in enumerate(places) if place is None]:
        ids, unknown = row_ids(dataset), first_ids(sorted({repr(labels[i]) for i in wrong}))
        where = first_ids(list(dict.fromkeys(ids[rows[i]] for i in wrong)))
        raise_problems(
            [f"Labels in the column {column!r} are none that is known: {unknown} (rows {where}). Known are "
             f"{first_ids(names, 20)}."]
        )  # fmt: skip
    found = np.zeros((len(dataset), len(names)), np.float32)
    if places:
        found[rows, places] = 1
    return names, found.tolist()


# ---- from other columns to lists -------------------------------------------------------------------------------------


def from_columns(dataset, columns: Iterable[str], into: str):
    """
    The rows with a column of lists of class numbers, which these names are declared for in their order, in the place of
    columns of 0 and 1, one for each label.

    Raises:
        ArgumentError: if a column is not there or holds anything else, or `into` is there already.
    """
    columns, there = list(columns), column_names(dataset)
    problems = []
    if missing := [name for name in columns if name not in there]:
        said = f"names {', '.join(map(repr, missing))}, which is no column; the rows have "
        problems.append(Wrong("label_columns", f"{said}{', '.join(map(repr, there))}."))
    if len(set(columns)) < len(columns):
        problems.append(Wrong("label_columns", f"names a column twice: {', '.join(columns)}."))
    if into in set(there) - set(columns):
        said = f"is {into!r}, a column that the rows have beside --label_columns. Give another name to collect them in."
        problems.append(Wrong("label_column", said))
    raise_problems(problems)
    ids = row_ids(dataset)
    values = {name: [_there(value) for value in column_values(dataset, name)] for name in columns}
    for name, own in values.items():
        if wrong := [i for i, value in enumerate(own) if value is None]:
            value = column_values(dataset, name)[wrong[0]]
            said = f"names {name!r}, which is neither 0 nor 1 but {value!r} in {len(wrong)} row(s), ids "
            problems.append(Wrong("label_columns", f"{said}{first_ids([ids[i] for i in wrong])}."))
    raise_problems(problems)
    from datasets import ClassLabel, List

    lists = [[place for place, name in enumerate(columns) if values[name][i]] for i in range(len(dataset))]
    return dataset.remove_columns(columns).add_column(into, lists, feature=List(ClassLabel(names=columns)))


def from_words(dataset, column: str, separator: str | None = None):
    """
    The rows with a column of lists of names in the place of one of words, each cut up at `separator`; without one, of
    a column all of whose words are lists as Python or JSON writes them. Others stay as they are.

    Raises:
        ArgumentError: if there is a separator and the column holds no words.
    """
    if column not in column_names(dataset):
        return dataset
    values, ids = column_values(dataset, column), row_ids(dataset)
    if separator:
        if wrong := [i for i, value in enumerate(values) if not isinstance(value, (str, int)) and value is not None]:
            said = f"is {separator!r}, but in the column {column!r} there are no words to cut up, such as "
            raise_problems([Wrong("label_separator", f"{said}{values[wrong[0]]!r} (id {ids[wrong[0]]}).")])
        if not any(separator in str(value) for value in values):
            example = next((value for value in values if value is not None), None)
            logger.warning(
                "The separator %r stands in no value of the column %r, such as %r: no row has several labels.",
                separator, column, example)  # fmt: skip
        words = [[one.strip() for one in str("" if value is None else value).split(separator)] for value in values]
        return _with_lists(dataset, column, [[one for one in own if one] for own in words])
    written = [value for value in values if value is not None]
    if not written or not all(isinstance(value, str) and value.strip()[:1] == "[" for value in written):
        return dataset
    try:
        lists = [[] if value is None else list(ast.literal_eval(value.strip())) for value in values]
    except (ValueError, SyntaxError):
        return dataset
    return _with_lists(dataset, column, lists)


def _with_lists(dataset, column: str, lists: list[list]):
    from datasets import List, Value

    rest = dataset.remove_columns([column]) if column in column_names(dataset) else dataset
    whole = all(isinstance(one, int) for own in lists for one in own)
    if whole and any(lists):
        return rest.add_column(column, lists, feature=List(Value("int64")))
    return rest.add_column(column, [list(map(str, own)) for own in lists], feature=List(Value("string")))


def _there(value: Any) -> bool | None:
    """Whether a 0 or 1, however it is written, is a 1; None: it is neither."""
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return THERE.get(value.strip().lower()) if isinstance(value, str) else None
