"""What is wrong with the rows that a trainer was given, before a model is loaded."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..objectives.base import CLASSES, LANGUAGE, SEVERAL
from ..utils.checks import Wrong
from .columns import (
    INPUT_COLUMNS,
    LABELS,
    REFERENCE_COLUMN,
    Ids,
    column_names,
    column_values,
    first_ids,
    hidden_column,
    row_ids,
)
from .duplicates import Content, contents, twins
from .given import as_rows
from .keys import as_bytes, is_among, repeated, short
from .limits import Limits
from .near_twins import compared_rows, near_twins
from .read_once import read_once
from .row_checks import PER_TOKEN, ids_of, row_problems

logger = logging.getLogger(__name__)


Sets = dict[str, Any]
ONE_OF_TWO = "A row cannot be forgotten and kept: take it out of one of them, or let `split` move it."
NEVER_TRAINED = "Unseen rows must never have been trained on: τ would be too low and nothing forgotten."
PAIRS = (("forget", "retain", ONE_OF_TWO), ("forget", "unseen", NEVER_TRAINED), ("retain", "unseen", NEVER_TRAINED))


def split_sets(
    forget: Any,
    retain: Any,
    unseen: Any,
    limits: Limits | None = None,
    plain: bool = True,
    processing_class: Any = None,
) -> tuple[list, list[str]]:
    """
    `([forget, retain, unseen] as data sets, all that is wrong with them)`: kinds, rows, labels, columns that differ,
    shared ids, shared content. Rows that are much alike are told in a warning. A set that cannot be taken stays as it
    is.

    Args:
        limits: what the model takes.
        plain: the default collator makes the batches.
        processing_class: tokenizer that reads the text from token ids.
    """
    sets, problems = taken({"forget": forget, "retain": retain, "unseen": unseen}, "{}_dataset")
    read = {name: read_once(rows) for name, rows in sets.items()}
    if len(sets) == 3:
        problems += sets_problems(read, limits, plain, processing_class)
    else:
        problems += [one for name, rows in read.items() for one in row_problems(name, rows, limits, plain)]
    given = {"forget": forget, "retain": retain, "unseen": unseen}
    return [sets.get(name, rows) for name, rows in given.items()], problems


def taken(given: Sets, called: str) -> tuple[Sets, list[str]]:
    """
    The sets that can be taken and hold rows, and what is wrong with the others.

    Args:
        called: what the argument of a set is called, with {} for its name.
    """
    sets, problems = {}, []
    for name, value in given.items():
        rows, wrong = as_rows(value, called.format(name))
        problems += wrong or ([] if len(rows) else [f"The {name} set is empty."])
        if not wrong and len(rows):
            sets[name] = rows
    return sets, problems


def sets_problems(
    sets: Sets, limits: Limits | None = None, plain: bool = True, processing_class: Any = None
) -> list[str]:
    """What is wrong with the rows of each set, and with sets that stand side by side; no set is empty."""
    problems = limits.problems if limits else []
    problems += [one for name, rows in sets.items() for one in row_problems(name, rows, limits, plain)]
    problems += unlike_columns(sets, limits, processing_class if plain else None) if plain else []
    found = dict(zip(sets, contents(list(sets.values()), processing_class), strict=True))
    ids = {name: ids_of(name, rows) for name, rows in sets.items()}
    problems += [one for name, rows in sets.items() for one in _ids_of_two(name, rows, found[name], *ids[name])]
    told, named = _shared_ids(sets, found, ids)
    for a, b, fix in PAIRS:
        if a not in sets or b not in sets or (a, b) in named:
            continue
        ids_a, ids_b = ids[a][0], ids[b][0]
        if pairs := twins(found[a], found[b]):
            same = [f"{ids_a[i]} = {ids_b[j]}" for i, j in pairs]
            told.append(f"{len(pairs)} {b} row(s) have the content of a {a} row ({a} = {b}): {first_ids(same)}. {fix}")
        else:
            warn_of_near_twins(found[a], found[b], ids_a, ids_b, a, b)
    return problems + told


def kept_twins(forget: Any, kept: Any, processing_class: Any = None) -> list[str]:
    """General rows that say what forget rows say, both data sets; a warning tells of such as are much alike."""
    found, ids = contents([forget, kept], processing_class), [row_ids(rows) for rows in (forget, kept)]
    pairs = twins(*found)
    if not pairs:
        warn_of_near_twins(*found, *ids, "forget", "general")
        return []
    same = [f"{ids[0][i]} = {ids[1][j]}" for i, j in pairs]
    return [
        f"{len(pairs)} general row(s) have the content of a forget row (forget = general): {first_ids(same)}. What the "
        "model says of general rows is kept, so these would not be forgotten. Take them out."
    ]


def _shared_ids(
    sets: Sets, found: dict[str, Content], ids: dict[str, tuple[list, list[str]]]
) -> tuple[list[str], set[tuple[str, str]]]:
    """Ids that two sets share, and which two; `ids`: as of `ids_of`, by set."""
    problems, named = [], set()
    hashes = {name: short(own) for name, (own, wrong) in ids.items() if not wrong and "id" in column_names(sets[name])}
    for a, b, fix in PAIRS:
        if not all(name in sets and "id" in column_names(sets[name]) for name in (a, b)):
            continue
        (ids_a, wrong_a), (ids_b, wrong_b) = ids[a], ids[b]
        if wrong_a or wrong_b:
            continue
        alike = [np.flatnonzero(is_among(hashes[x], hashes[y])) for x, y in ((a, b), (b, a))]
        known = {str(ids_a[i]) for i in alike[0]}  # 7 and "7" name one row
        if shared := [ids_b[i] for i in alike[1] if str(ids_b[i]) in known]:
            same = {str(ids_a[i]) for i, j in twins(found[a], found[b]) if str(ids_a[i]) == str(ids_b[j])}
            if not same:
                fix = "They stand for rows of unlike content: number the rows of all sets through, or leave `id` out."
            problems.append(f"{len(shared)} id(s) are in {a} and in {b}: {first_ids(shared)}. {fix}")
            named.update([(a, b)] if same else [])
    return problems, named


def _ids_of_two(name: str, rows: Any, content: Content, ids: list, wrong: list[str]) -> list[str]:
    """Ids that stand for rows of unlike content in one set; `ids`, `wrong`: as of `ids_of`. A row may come twice."""
    if wrong or "id" not in column_names(rows):
        return []
    said: dict[Any, tuple] = {}
    places = np.flatnonzero(repeated(short(ids)))
    pairs = zip([ids[i] for i in places], as_bytes(content.keys[places]), strict=True)
    two = [i for i, keys in pairs if not set(said.setdefault(i, keys)) & set(keys)]
    two = list(dict.fromkeys(i for i in two if said[i]))
    if not two:
        return []
    return [
        f"{len(two)} id(s) stand for two {name} rows of unlike content: {first_ids(two)}. Give each row its own `id`."
    ]


def unlike_columns(sets: Sets, limits: Limits | None = None, processing_class: Any = None) -> list[str]:
    """Columns of the model's inputs that some of the sets have and others lack; labels by two names."""
    problems = []
    by_label = {name: next((c for c in LABELS if c in column_names(rows)), None) for name, rows in sets.items()}
    if len(set(by_label.values()) - {None}) > 1:
        said = ", ".join(f"{name} {label!r}" for name, label in by_label.items())
        problems.append(f"The labels go by two names: {said}. Use one: `rows = rows.rename_column('label', 'labels')`.")
    inputs = (limits and limits.arguments) or {*INPUT_COLUMNS, *PER_TOKEN}
    filled = {"attention_mask"} if hasattr(processing_class, "pad") else set()  # the collator makes it
    for column in sorted((inputs - set(LABELS) - filled) & {c for rows in sets.values() for c in column_names(rows)}):
        without = [name for name, rows in sets.items() if column not in column_names(rows)]
        if without:
            others = [name for name in sets if name not in without]
            problems.append(
                f"The {', '.join(without)} rows have no column {column!r}, the {', '.join(others)} rows do: prepare "
                "all sets alike, or take the column out."
            )
    return problems


_TOLD: set[frozenset] = set()  # pairs of near twins that a warning has named in this process


def warn_of_near_twins(a: Content, b: Content, ids_a: Any, ids_b: Any, name_a: str, name_b: str) -> None:
    """
    Names a few rows of two sets that are much alike: whether they say the same, the reader must judge. On the first
    process of a machine alone, and the same pairs once.
    """
    if os.environ.get("LOCAL_RANK", "0") not in ("0", "-1", ""):
        return
    pairs = near_twins(a, b)
    ids_a, ids_b = (
        ids.at([pair[k] for pair in pairs]) if isinstance(ids, Ids) else [ids[pair[k]] for pair in pairs]
        for k, ids in enumerate((ids_a, ids_b))
    )
    told = frozenset((name_a, str(i), name_b, str(j)) for i, j in zip(ids_a, ids_b, strict=True))
    if not pairs or told in _TOLD:
        return
    _TOLD.add(told)
    shown = [f"{i} ≈ {j} ({pair[2]:.0%})" for i, j, pair in zip(ids_a, ids_b, pairs, strict=True)]
    rows = [f"{len(own)} of {len(one.keys)} {name}" for own, one, name in zip(
        compared_rows(a, b), (a, b), (name_a, name_b), strict=True) if len(own) < len(one.keys)]  # fmt: skip
    logger.warning(
        "%d pair(s) of one %s and one %s row are much alike (share of common runs of characters or tokens): %s. "
        "Look at them: what they have in common is in both sets.%s",
        len(pairs),
        name_a,
        name_b,
        first_ids(shown),
        f" Compared were {' and '.join(rows)} rows, evenly spaced." if rows else "",
    )


def evaluation_problems(name: str, rows: Any, limits: Limits | None, plain: bool) -> list[str]:
    """What is wrong with the rows that a trainer evaluates on: a set, or a dict of sets."""
    if rows is None or isinstance(rows, str):
        return []
    parts = {f"{name} {part}": own for part, own in rows.items()} if isinstance(rows, Mapping) else {name: rows}
    return [
        problem
        for part, own in parts.items()
        if hasattr(own, "__len__") and len(own) and not as_rows(own, part)[1]
        for problem in row_problems(part, own, limits, plain)
    ]


def reference_problems(forget) -> list[str]:
    """What is wrong with the forget rows' column of losses before the request, where they have one."""
    if as_rows(forget, "forget_dataset")[1] or REFERENCE_COLUMN not in column_names(forget):
        return []
    ids = row_ids(forget)
    wrong = [i for i, x in zip(ids, column_values(forget, REFERENCE_COLUMN), strict=True) if not _is_loss(x)]
    if not wrong:
        return []
    return [
        f"The column {REFERENCE_COLUMN!r} must hold the sum of each forget row's losses before the request, in nats, a "
        f"finite number of at least 0; {len(wrong)} row(s) do not, ids {first_ids(wrong)}."
    ]


def kind_problems(objective, forget) -> list[str]:
    """What is wrong where the rows are those of a kind of model that an objective is not for."""
    if as_rows(forget, "forget_dataset")[1] or not len(forget) or not isinstance(forget[0], Mapping):
        return []
    labels = next((forget[0][name] for name in LABELS if name in forget[0]), None)
    if labels is None:
        return []
    own = np.asarray(labels)
    kind = CLASSES if own.ndim == 0 else SEVERAL if own.dtype.kind == "f" else LANGUAGE
    if kind in objective.kinds and kind == SEVERAL and objective.retain_reference == "logits":
        said = f'is "kl", which is for one label a row; the rows are those of a {kind}. Choose "nll" or "none".'
        return [Wrong("retain_term", said)]
    if kind in objective.kinds:
        return _short_rows(objective, forget) if kind == LANGUAGE else []
    allowed = " or a ".join(objective.kinds)
    said = f'is "{objective.name}", which is for a {allowed}; the rows are those of a {kind}. Choose another objective.'
    return [Wrong("objective", said)]


def _short_rows(objective, forget) -> list[str]:
    """What is wrong where an objective leaves out each row's first label, and no row has another one."""
    name = next(name for name in LABELS if name in forget[0])
    if objective.average != "later_labels" or any((np.asarray(row[name])[1:] >= 0).sum() > 1 for row in forget):
        return []
    said = f'is "{objective.name}", which leaves out the first label of each row, and no forget row has another one: '
    return [Wrong("objective", f"{said}there would be nothing to forget. Choose another objective.")]


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


def training_set(
    dataset: Any,
    revocable: str | None,
    limits: Limits | None = None,
    plain: bool = True,
    processing_class: Any = None,
) -> tuple[Any, list[str]]:
    """
    `(the rows as a data set, what is wrong with them and with the column that names the revocable ones)`; the other
    arguments are those of [`split_sets`].
    """
    rows, problems = as_rows(dataset, "train_dataset")
    if problems:
        return dataset, problems
    if len(rows) == 0:
        return rows, ["`train_dataset` is empty."]
    read = read_once(rows)
    problems = (limits.problems if limits else []) + row_problems("training", read, limits, plain)
    flags, wrong = _flags(read, revocable) if revocable is not None else (None, [])
    if not problems + wrong:
        (content,) = contents([read], processing_class, {revocable})
        problems = _ids_of_two("training", read, content, *ids_of("training", read))
        problems += [] if flags is None else _named_and_kept(read, content, flags)
    return rows, problems + wrong


def column_or_none(dataset: Any, name: str) -> str | None:
    """`name`, or None where these rows have no such column. What is no rows at all is told by [`training_set`]."""
    rows, problems = as_rows(dataset, "train_dataset")
    return name if problems or name in column_names(rows) else None


def _flags(rows: Any, revocable: str) -> tuple[np.ndarray | None, list[str]]:
    """(N,) bool of the column that names the revocable rows, and what is wrong with it."""
    columns = column_names(rows)
    if revocable not in columns:
        return None, [
            f"`revocable` is {revocable!r}, but there is no such column; the rows have "
            f"{', '.join(map(repr, columns))}. Add a boolean column, or pass `revocable=None`: any row may be asked "
            "for."
        ]
    if hidden := hidden_column(rows, revocable):
        return None, [f"The {problem}" for problem in hidden]
    flags = column_values(rows, revocable)
    wrong = [f for f in flags if not isinstance(f, (bool, np.bool_))]
    if wrong:
        return None, [f"The column {revocable!r} must hold booleans; {len(wrong)} rows do not, e.g. {wrong[0]!r}."]
    if not any(flags):
        return None, [f"No row is revocable: the column {revocable!r} is False everywhere."]
    if all(flags):
        return None, [
            f"Every row is revocable; nothing is left to keep. Pass `revocable=None` instead of {revocable!r}."
        ]
    return np.array(flags), []


def _named_and_kept(rows: Any, content: Content, flags: np.ndarray) -> list[str]:
    """Rows that are revocable and stable at once, by their content."""
    places = np.flatnonzero(flags), np.flatnonzero(~flags)
    pairs = twins(*(content.at(own) for own in places))
    if not pairs:
        return []
    ids = row_ids(rows)
    same = [f"{ids[places[0][i]]} = {ids[places[1][j]]}" for i, j in pairs]
    return [
        f"{len(pairs)} stable row(s) have the content of a revocable row (revocable = stable): {first_ids(same)}. What "
        "may be asked for cannot be kept as well: flag both, or take one out."
    ]


def column_codes(dataset, name: str, argument: str = "request_group") -> tuple[dict, np.ndarray] | list[str]:
    """(value -> number, number (N,) of each row) of a column that names groups, or what is wrong with it."""
    columns = column_names(dataset)
    if name not in columns:
        listed = ", ".join(map(repr, columns))
        return [f"`{argument}` is {name!r}, but there is no such column; the rows have {listed}."]
    if hidden := hidden_column(dataset, name):
        return [f"The {problem}" for problem in hidden]
    values = column_values(dataset, name)
    wrong = [value for value in values if not isinstance(value, (str, int, np.integer, np.bool_))]
    if wrong:
        return [f"The column {name!r} of `{argument}` must hold text or whole numbers; it holds {wrong[0]!r}."]
    codes = {value: i for i, value in enumerate(dict.fromkeys(values))}
    if len(codes) < 2 and argument == "request_group":
        return [f"The column {name!r} of `request_group` has one value; a request for it would leave no rows."]
    return codes, np.array([codes[value] for value in values])
