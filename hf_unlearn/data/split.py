"""Divides rows into forget, retain and unseen."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

import numpy as np

from ..utils.checks import raise_problems
from .columns import INPUT_COLUMNS, column_names, column_values, first_ids, row_ids
from .deleted import deleted_rows
from .duplicates import fingerprints

logger = logging.getLogger(__name__)


def split(
    dataset,
    *,
    by: str,
    values: Sequence | None = None,
    fraction: float | None = None,
    column: str | None = None,
    group: str | None = None,
    seed: int = 0,
    unseen: float | Sequence = 0.1,
    duplicates: str = "move",
    deleted: Sequence = (),
):
    """
    Divides rows into `forget`, `retain` and `unseen` (a `datasets.DatasetDict`). Pure in its arguments: the same call
    at training time and at request time keeps the same rows unseen.

    Args:
        by: `"id"` (values are row ids), `"class"` (values of the label column), `"column"` (values of `column`) or
            `"random"` (a `fraction` of the rows). With `fraction` instead of `values`, a seeded draw of distinct
            values (of classes, of authors, of ids).
        column: the column that `by` reads; default `id` for "id", `label` or `labels` for "class".
        group: unseen rows are drawn as whole groups of this column (all rows of a person); default `column` for
            `by="column"`, since rows of one person tell about each other; else single rows.
        unseen: share of the rows to keep out of training, or the ids of these rows. For "class" and "random" the share
            is drawn from all rows, before the forget rows are taken; for "id" and "column" it is drawn from the rows
            that are not to be forgotten. The draw depends on the other arguments: for another request to the same
            model, pass the ids of the rows that were kept out.
        duplicates: rows of retain or unseen with the same content as a forget row are named in a warning and moved
            to forget (`"move"`), are an error (`"error"`), or stay (`"keep"`). Unseen rows with the same content as a
            retain row go to retain.
        deleted: ids of rows that earlier requests have named. They are in none of the three, nor is a row of the same
            content: in retain they would be learned again. The unseen rows are otherwise those of a split without it.

    Raises:
        ArgumentError: with all problems at once: no such column, id or value; no rows left for one of the three.
    """
    if column is None:
        column = {"id": "id", "class": "label" if "label" in column_names(dataset) else "labels"}.get(by)
    raise_problems(_argument_problems(dataset, by, values, fraction, column, group, unseen, duplicates))

    gone = deleted_rows(dataset, deleted, {column, group} if by in ("class", "column") else {group})

    # Two generators, so that the unseen rows do not depend on how many draws the forget rows take.
    draw_forget, draw_unseen = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    n = len(dataset)
    is_forget = np.zeros(n, bool)
    if by != "random":
        keys = column_values(dataset, column)
        wanted = _wanted(keys, values, fraction, dataset, column, draw_forget)
        is_forget = np.array([key in wanted for key in keys])
    free = np.arange(n) if by in ("class", "random") else np.flatnonzero(~is_forget)
    group = group or (column if by == "column" else None)
    if not isinstance(unseen, (int, float)):
        is_unseen = _kept_out(dataset, unseen, is_forget)
    elif group is None:
        is_unseen = np.zeros(n, bool)
        is_unseen[draw_unseen.permutation(free)[: max(1, round(unseen * len(free)))]] = True
    else:
        of = np.array([str(v) for v in column_values(dataset, group)])
        groups = np.unique(of[free])
        drawn = draw_unseen.permutation(groups)[: max(1, round(unseen * len(groups)))]
        is_unseen = np.isin(of, drawn) & ~is_forget
    if by == "random":
        rest = np.flatnonzero(~is_unseen & ~gone)
        is_forget[draw_forget.permutation(rest)[: max(1, round(fraction * n))]] = True
    is_forget &= ~is_unseen

    parts = {"forget": is_forget, "retain": ~is_forget & ~is_unseen, "unseen": is_unseen}
    parts = {name: mask & ~gone for name, mask in parts.items()}
    if duplicates != "keep":
        parts = _settle_duplicates(dataset, parts, duplicates, {column, group} if by == "column" else {group})
    raise_problems([f"No rows are left for {name!r}." for name, mask in parts.items() if not mask.any()])

    from datasets import DatasetDict

    return DatasetDict({name: dataset.select(np.flatnonzero(mask)) for name, mask in parts.items()})


def _argument_problems(dataset, by, values, fraction, column, group, unseen, duplicates) -> list[str]:
    names, problems = column_names(dataset), []
    if by not in ("id", "class", "column", "random"):
        problems.append(f"`by` is {by!r}; it must be 'id', 'class', 'column' or 'random'.")
    if by == "column" and column is None:
        problems.append("`by='column'` needs `column`, the name of the column that holds the values.")
    for name in {column, group} - {None}:
        if name not in names:
            problems.append(f"There is no column {name!r}; the rows have {', '.join(map(repr, names))}.")
    if by == "random" and values is not None:
        problems.append("`by='random'` takes `fraction`, not `values`.")
    if (values is None) == (fraction is None):
        problems.append("Give either `values` or `fraction`.")
    if fraction is not None and not 0 < fraction < 1:
        problems.append(f"`fraction` is {fraction!r}; it must be above 0 and below 1.")
    if isinstance(unseen, (int, float)) and not 0 < unseen < 1:
        problems.append(f"`unseen` is {unseen!r}; it must be above 0 and below 1: τ is measured on unseen rows.")
    if duplicates not in ("move", "error", "keep"):
        problems.append(f"`duplicates` is {duplicates!r}; it must be 'move', 'error' or 'keep'.")
    return problems


def _wanted(keys: list, values, fraction, dataset, column, draw: np.random.Generator) -> set:
    """The values of the column whose rows are forgotten: those named, or a draw of the distinct ones."""
    if values is None:
        distinct = sorted(set(keys), key=str)
        chosen = draw.permutation(len(distinct))[: max(1, round(fraction * len(distinct)))]
        return {distinct[i] for i in chosen}
    wanted = _as_values(values, keys, dataset, column)
    known = set(keys)
    if missing := [v for v in wanted if v not in known]:
        raise_problems([f"Not in the column {column!r}: {first_ids(missing)}."])
    return set(wanted)


def _kept_out(dataset, unseen: Sequence, is_forget: np.ndarray) -> np.ndarray:
    """(n,) bool: rows whose ids were kept out of training, none of which can be asked to be forgotten."""
    known = set(map(str, unseen))
    ids = row_ids(dataset)
    found = np.array([str(i) in known for i in ids])
    if asked := [i for i, f, u in zip(ids, is_forget, found, strict=True) if f and u]:
        raise_problems([f"{len(asked)} row(s) to forget were kept out of training, ids {first_ids(asked)}."])
    return found


def _as_values(values, keys, dataset, column) -> list:
    """Values as the column stores them: class names become class numbers, "3" becomes 3, "false" becomes False."""
    if isinstance(values, (str, int)):
        values = [values]
    feature = getattr(dataset, "features", {}).get(column)
    known = set(keys)
    by_text = {str(k): k for k in known}
    found = []
    for value in values:
        if value in known:
            found.append(value)
        elif hasattr(feature, "str2int") and value in feature.names:
            found.append(feature.str2int(value))
        elif str(value) in by_text:
            found.append(by_text[str(value)])
        else:
            read = _read(value) if isinstance(value, str) else value
            same_number = read in known and not isinstance(read, bool)  # True == 1, but nobody means 1 by it
            found.append(read if same_number else by_text.get(str(read), value))
    return found


def _read(word: str):
    """The value that YAML reads from a word: 1.5 from 1.50, 1 from 0x1, False from no; of other types, the word."""
    import yaml

    try:
        value = yaml.safe_load(word)
    except (yaml.YAMLError, ValueError):
        return word
    return value if isinstance(value, (bool, int, float, datetime.date)) else word  # a datetime is a date, too


def _settle_duplicates(dataset, parts, duplicates, labels_of_groups):
    columns = [c for c in INPUT_COLUMNS if c in column_names(dataset)]
    if not set(columns) - {"labels"}:  # rows not yet encoded: all that is content
        columns = [c for c in column_names(dataset) if c not in {"id", *labels_of_groups}]
    prints = fingerprints(dataset, columns)
    ids = row_ids(dataset)
    parts = {name: mask.copy() for name, mask in parts.items()}
    forget = {prints[i] for i in np.flatnonzero(parts["forget"])}
    twins = [i for i in np.flatnonzero(~parts["forget"]) if prints[i] in forget]
    if twins:
        named = first_ids([ids[i] for i in twins])
        text = f"{len(twins)} row(s) outside the forget set have the content of a forget row, ids {named}"
        if duplicates == "error":
            raise_problems([f"{text}. Forget them too (`duplicates='move'`) or take them out of the data."])
        logger.warning("%s; they are moved to the forget set.", text)
        for mask in parts.values():
            mask[twins] = False
        parts["forget"][twins] = True
    retain = {prints[i] for i in np.flatnonzero(parts["retain"])}
    leaked = [i for i in np.flatnonzero(parts["unseen"]) if prints[i] in retain]
    if leaked:
        logger.warning(
            "%d unseen row(s) have the content of a retain row, ids %s; they are moved to retain.",
            len(leaked),
            first_ids([ids[i] for i in leaked]),
        )
        parts["unseen"][leaked] = False
        parts["retain"][leaked] = True
    return parts
