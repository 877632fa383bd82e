"""What all encoders ask of the columns: that they are there, and that a number means the same class everywhere."""

from __future__ import annotations

import json


def class_labels(dataset, column, names):
    """Class names and the rows' class numbers, from a column of names, of numbers, or a ClassLabel."""
    from datasets import ClassLabel

    feature, values = dataset.features[column], list(dataset[column])
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
            f"({name_rows(dataset, wrong)}); the {len(names)} classes are {json.dumps(names[:20])}."
        )
    return names, [number[value] for value in values]


def check_columns(dataset, *columns):
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}; it has {dataset.column_names}.")


def name_rows(dataset, rows, most=5):
    """For error messages: id p001-town, id p002-job and 7 more."""
    ids = dataset["id"] if "id" in dataset.column_names else range(len(dataset))
    shown = ", ".join(f"id {ids[i]}" for i in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")
