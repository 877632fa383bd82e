"""What all encoders ask of the columns: that they are there, and that a number means the same class everywhere."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter

from ..label_lists import holds_lists, label_names, label_vectors

logger = logging.getLogger(__name__)

NO_VALUE = " (in a CSV file an empty place, and NA, None, null or nan among numbers, stand for no value)"


def class_labels(dataset, column, names):
    """
    Class names and the rows' class numbers, from a column of names, of numbers, or a ClassLabel. Of a column of lists,
    several labels a row: their names and, for each row, 0.0 or 1.0 for each ([`hf_unlearn.data.label_lists`]).
    """
    from datasets import ClassLabel

    if holds_lists(dataset, column):
        return label_vectors(dataset, column, names)
    feature, values = dataset.features[column], label_values(dataset, column)
    if isinstance(feature, ClassLabel):
        own = feature.names
        values = [None if value is None or value < 0 else own[value] for value in values]
    elif values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        own = [str(i) for i in range(max(values) + 1)]
        if names is not None and not set(map(str, values)) <= set(names):  # numbers that count the given names
            values = [names[value] if 0 <= value < len(names) else value for value in values]
        values = [str(value) if isinstance(value, int) else value for value in values]
    else:
        own = sorted({str(value) for value in values if value is not None})
        values = [None if value is None else str(value) for value in values]
    names = list(own if names is None else names)
    number = {name: i for i, name in enumerate(names)}
    wrong = [i for i, value in enumerate(values) if value not in number]
    if wrong:
        shown = sorted({repr(values[i]) for i in wrong})[:5]
        raise ValueError(
            f"{len(wrong)} rows have a label in column {column!r} that is not a known class: {', '.join(shown)} "
            f"({name_rows(dataset, wrong)}); the {len(names)} classes are {json.dumps(names[:20])}"
            f"{NO_VALUE if any(values[i] is None for i in wrong) else ''}."
        )
    return names, [number[value] for value in values]


def with_labels(dataset, names: list[str], labels: list):
    """The rows with `labels`, as [`class_labels`] gives them: a ClassLabel, or float32 lists of the names' number."""
    from datasets import ClassLabel, List, Value

    several = bool(labels) and isinstance(labels[0], list)
    feature = List(Value("float32"), length=len(names)) if several else ClassLabel(names=names)
    return dataset.add_column("labels", labels, feature=feature)


def label_values(dataset, column) -> list:
    """
    A column of class labels: words, true or false, or whole numbers; None where there is none.

    Raises:
        ValueError: if it holds dicts, or numbers with a fraction, which are no classes.
    """
    values = [None if isinstance(v, float) and math.isnan(v) else v for v in dataset[column][:]]
    lists = [i for i, value in enumerate(values) if isinstance(value, (list, dict))]
    if lists:
        raise ValueError(
            f"{len(lists)} rows have several values in column {column!r} ({name_rows(dataset, lists)}): a class is one "
            "word or number, and several labels a row are a list of these in every row."
        )
    broken = [i for i, value in enumerate(values) if isinstance(value, float) and value % 1]
    if broken:
        raise ValueError(
            f"{len(broken)} rows have a label in column {column!r} that is a number with a fraction, such as "
            f"{values[broken[0]]!r} ({name_rows(dataset, broken)}): that is regression; a label is one of several "
            "classes."
        )
    return [int(value) if isinstance(value, float) else value for value in values]


def class_names(dataset, column) -> list[str]:
    """The different labels of a column in their order, as words; of a ClassLabel, or a list of such, all its names."""
    if holds_lists(dataset, column):
        return label_names(dataset, column)
    if hasattr(dataset.features[column], "names"):
        return list(dataset.features[column].names)
    return [str(value) for value in sorted({value for value in label_values(dataset, column) if value is not None})]


def all_class_names(rows, column: str) -> list[str]:
    """
    Class names in the order of their numbers, from all rows, so that a forgotten class keeps its number.

    Raises:
        ValueError: if there are fewer than two.
    """
    names, several = class_names(rows, column), holds_lists(rows, column)
    if alike := _alike(names):
        logger.warning("Some classes in the column %r differ in case or white space alone, and are taken for different "
                       "ones: %s.", column, ", ".join(map(repr, alike[:20])))  # fmt: skip
    if not several and _measured(rows, column, len(names)):
        logger.warning(
            "The column %r holds %d different numbers in %d rows, and each is taken for a class. Numbers that measure "
            "something are regression, which is not done here.", column, len(names), len(rows))  # fmt: skip
    if several and not any(rows[column]):
        raise ValueError(f"No row has any label in column {column!r}.")
    if len(names) < 2 and not several:
        labelled = sum(value is not None for value in rows[column])
        raise ValueError(
            f"All {labelled} rows{' with a label' * (labelled < len(rows))} have one class in column {column!r}: "
            f"{', '.join(names) or 'none at all'}; a classifier needs two. Where rows that are sorted by class are cut "
            "(`limit`), read more of them."
        )
    return names


def _alike(names: list[str]) -> list[str]:
    """Names of classes that differ from another one in case or white space alone."""
    plain = ["".join(name.split()).casefold() for name in names]
    counted = Counter(plain)
    return [name for name, one in zip(names, plain, strict=True) if counted[one] > 1]


def _measured(rows, column: str, different: int) -> bool:
    """Whether numbers look measured rather than counted: with a point, most of them in one row alone."""
    of_points = getattr(rows.features[column], "dtype", "").startswith(("float", "double", "decimal"))
    return of_points and different > max(10, len(rows) // 2)


def check_texts(dataset, *columns) -> None:
    """
    Raises:
        ValueError: if a row of these columns holds no text; it names the rows.
    """
    for column in columns:
        wrong = [i for i, value in enumerate(dataset[column][:]) if not isinstance(value, str)]
        if wrong:
            value = dataset[wrong[0]][column]
            fix = f"take them out{NO_VALUE}" if value is None else "make text of them, such as `str(value)`"
            raise ValueError(
                f"{len(wrong)} rows hold no text in column {column!r}, but {value!r} ({name_rows(dataset, wrong)}): "
                f"{fix}."
            )


def check_columns(dataset, *columns):
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}; it has {dataset.column_names}.")


def name_rows(dataset, rows, most=5):
    """For error messages: id p001-town, id p002-job and 7 more."""
    ids = dataset["id"] if "id" in dataset.column_names else range(len(dataset))
    shown = ", ".join(f"id {ids[i]}" for i in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")
