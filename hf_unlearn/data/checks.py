"""What is wrong with the rows that a trainer was given, before a model is loaded."""

from __future__ import annotations

import math

import numpy as np

from ..objectives.row_nll import IGNORE_INDEX
from .columns import REFERENCE_COLUMN, column_names, column_values, first_ids, row_ids
from .duplicates import find_duplicates


def label_problems(name: str, dataset) -> list[str]:
    """Rows that carry no label at all, missing labels, and attention masks with holes; the rows' first ids."""
    columns = column_names(dataset)
    if "labels" not in columns and "label" not in columns:
        return [f"The {name} rows have no `labels` column; they have {', '.join(map(repr, columns))}."]
    problems, ids = [], row_ids(dataset)
    labels = column_values(dataset, "labels" if "labels" in columns else "label")
    empty = []
    for i, row in enumerate(labels):
        row = np.atleast_1d(np.asarray(row))
        row = row[1:] if row.size > 1 else row  # position 0 of a language model's row is never predicted
        if not (row != IGNORE_INDEX).any():
            empty.append(ids[i])
    if empty:
        problems.append(
            f"{len(empty)} {name} row(s) have all labels at {IGNORE_INDEX} and teach nothing, ids {first_ids(empty)}."
        )
    if "attention_mask" in columns:
        holes = []
        for i, mask in enumerate(column_values(dataset, "attention_mask")):
            on = np.flatnonzero(np.asarray(mask))
            if on.size and on[-1] - on[0] + 1 != on.size:
                holes.append(ids[i])
        if holes:
            problems.append(
                f"{len(holes)} {name} row(s) have holes in `attention_mask`, ids {first_ids(holes)}: a mask made by "
                "`input_ids != pad` where pad is also the end-of-text token. Use the tokenizer's mask."
            )
    return problems


def split_problems(forget, retain, unseen) -> list[str]:
    """All that is wrong with three sets of rows: empty, no labels, shared ids, shared content."""
    sets = {"forget": forget, "retain": retain, "unseen": unseen}
    problems = []
    for name, rows in sets.items():
        if rows is None or not hasattr(rows, "__len__"):
            problems.append(f"`{name}_dataset` is {type(rows).__name__}; it must be a data set with a length.")
        elif len(rows) == 0:
            problems.append(f"The {name} set is empty.")
        else:
            problems += label_problems(name, rows)
    if any(rows is None or not hasattr(rows, "__len__") or len(rows) == 0 for rows in sets.values()):
        return problems
    for a, b, fix in (
        ("forget", "retain", "A row cannot be forgotten and kept: take it out of one of them, or let `split` move it."),
        ("forget", "unseen", "Unseen rows must never have been trained on: τ would be too low and nothing forgotten."),
        ("retain", "unseen", "Unseen rows must never have been trained on: τ would be too low and nothing forgotten."),
    ):
        ids_a, ids_b = row_ids(sets[a]), row_ids(sets[b])
        shared = []
        if "id" in column_names(sets[a]) and "id" in column_names(sets[b]):
            known = set(ids_a)
            shared = [i for i in ids_b if i in known]
            if shared:
                problems.append(f"{len(shared)} id(s) are in {a} and in {b}: {first_ids(shared)}. {fix}")
        if not shared and (pairs := find_duplicates(sets[a], sets[b])):
            named = [f"{ids_a[i]} = {ids_b[j]}" for i, j in pairs]
            problems.append(
                f"{len(pairs)} {b} row(s) have the content of a {a} row ({a} = {b}): {first_ids(named)}. {fix}"
            )
    return problems


def reference_problems(forget) -> list[str]:
    """What is wrong with the forget rows' column of losses before the request, where they have one."""
    if not hasattr(forget, "__len__") or REFERENCE_COLUMN not in column_names(forget):
        return []
    ids = row_ids(forget)
    wrong = [i for i, x in zip(ids, column_values(forget, REFERENCE_COLUMN), strict=True) if not _is_loss(x)]
    if not wrong:
        return []
    return [
        f"The column {REFERENCE_COLUMN!r} must hold the sum of each forget row's losses before the request, in nats, a "
        f"finite number of at least 0; {len(wrong)} row(s) do not, ids {first_ids(wrong)}."
    ]


def _is_loss(value) -> bool:
    try:
        return math.isfinite(value) and value >= 0
    except TypeError:  # no number
        return False


def reference_losses(forget) -> list[float] | None:
    """The forget rows' column of losses before the request; None if they have none."""
    if REFERENCE_COLUMN not in column_names(forget):
        return None
    return list(map(float, column_values(forget, REFERENCE_COLUMN)))


def revocable_problems(dataset, revocable: str | None) -> list[str]:
    """What is wrong with the training rows and with the column that names the revocable ones."""
    if dataset is None or not hasattr(dataset, "__len__"):
        return [f"`train_dataset` is {type(dataset).__name__}; readiness needs a data set with a length."]
    if len(dataset) == 0:
        return ["`train_dataset` is empty."]
    problems = label_problems("training", dataset)
    if revocable is None:
        return problems
    columns = column_names(dataset)
    if revocable not in columns:
        return problems + [
            f"`revocable` is {revocable!r}, but there is no such column; the rows have "
            f"{', '.join(map(repr, columns))}. Add a boolean column, or pass `revocable=None`: any row may be asked "
            "for."
        ]
    flags = column_values(dataset, revocable)
    wrong = [f for f in flags if not isinstance(f, (bool, np.bool_))]
    if wrong:
        problems.append(f"The column {revocable!r} must hold booleans; {len(wrong)} rows do not, e.g. {wrong[0]!r}.")
    elif not any(flags):
        problems.append(f"No row is revocable: the column {revocable!r} is False everywhere.")
    elif all(flags):
        problems.append(
            f"Every row is revocable; nothing is left to keep. Pass `revocable=None` instead of {revocable!r}."
        )
    return problems


def column_codes(dataset, name: str) -> tuple[dict, np.ndarray] | list[str]:
    """(value -> number, number (N,) of each row) of a column that names groups, or what is wrong with it."""
    columns = column_names(dataset)
    if name not in columns:
        listed = ", ".join(map(repr, columns))
        return [f"`request_group` is {name!r}, but there is no such column; the rows have {listed}."]
    values = column_values(dataset, name)
    wrong = [value for value in values if not isinstance(value, (str, int, np.integer, np.bool_))]
    if wrong:
        return [f"The column {name!r} of `request_group` must hold text or whole numbers; it holds {wrong[0]!r}."]
    codes = {value: i for i, value in enumerate(dict.fromkeys(values))}
    if len(codes) < 2:
        return [f"The column {name!r} of `request_group` has one value; a request for it would leave no rows."]
    return codes, np.array([codes[value] for value in values])
