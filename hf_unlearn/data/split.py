"""Divides rows into forget, retain and unseen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..utils.checks import gather, raise_problems
from .checks import warn_of_near_twins
from .columns import Ids, column_names, column_values, first_ids, row_ids
from .deleted import deleted_already, deleted_rows, emptied
from .duplicates import Content, contents, twins
from .given import as_dataset
from .label_lists import holds_lists, labels_of_rows
from .split_checks import alone_or_several, argument_problems, as_values, is_missing, two_labels
from .where import WHERE, keys_of, one_way

logger = logging.getLogger(__name__)


def split(
    dataset,
    *,
    by: str | None = None,
    values: Sequence | None = None,
    fraction: float | None = None,
    column: str | None = None,
    where: Mapping[str, Any] | None = None,
    group: str | None = None,
    seed: int = 0,
    unseen: float | Sequence = 0.1,
    duplicates: str = "move",
    deleted: Sequence = (),
    content: Sequence[str] | None = None,
):
    """
    Divides rows into `forget`, `retain` and `unseen` (a `datasets.DatasetDict`). Pure in its arguments: the same call
    at training time and at request time keeps the same rows unseen.

    Args:
        dataset: a `datasets.Dataset`, or what makes one: a list of dicts, a dict of columns, a DataFrame.
        by: `"id"` (values are row ids), `"class"` (values of the label column; of rows with several labels, those that
            have one of these), `"column"` (values of `column`) or `"random"` (a `fraction` of the rows). With
            `fraction` instead of `values`, a seeded draw of distinct values (of classes, of authors, of ids).
        column: the column that `by` reads; default `id` for "id", `label` or `labels` for "class";
            where both hold numbers and these differ, it must be named: `labels` is what a model is trained on.
        where: instead of these four, values by column, as `{"customer": 4711, "year": [2020, 2021]}`: rows in which all
            columns have one of their values. Of one column it is `by="column"`.
        group: unseen rows are drawn as whole groups of this column (all rows of a person); default `column` for
            `by="column"`, since rows of one person tell about each other; else, also for `where` with several columns,
            single rows.
        unseen: share of the rows to keep out of training, or their ids, or these rows. For "class" and "random" the
            share is drawn from all rows, before the forget rows are taken; for "id", "column" and `where` it is drawn
            from the rows that are not to be forgotten. The draw depends on the other arguments: for another request to
            the same model, pass the ids of the rows that were kept out (of a class that is asked for, these rows stay
            unseen).
        duplicates: rows of retain or unseen with the same content as a forget row, but for case, punctuation, white
            space and label, are named in a warning and moved to forget (`"move"`), are an error (`"error"`), or stay
            (`"keep"`). Unseen rows with the same content as a retain row go to retain. Rows that are only much alike
            ([`hf_unlearn.data.near_twins`]) stay and are named in a warning.
        deleted: rows that earlier requests have named, or their ids. They are in none of the three, nor is a row of the
            same content: in retain they would be learned again. The unseen rows are otherwise those of a split without.
        content: columns that hold what a row says, to tell rows of the same content; default: the model's inputs, text
            in columns of usual names (`text`, `question`, …) with what other text stands beside it, else all but ids
            and labels.

    Raises:
        ArgumentError: with all problems at once: rows that are no table, no such column, id or value; values whose rows
            are all deleted; no rows left for one of the three.
    """
    dataset, problems = as_dataset(dataset, "dataset")
    raise_problems(problems or ([] if len(dataset) else ["`dataset` is empty: there are no rows to divide."]))
    content = [content] if isinstance(content, str) else content
    by, column, values = one_way(by, column, values, fraction, where)
    problems = two_labels(dataset) if by == "class" and column is None else []
    if column is None:
        column = {"id": "id", "class": "label" if "label" in column_names(dataset) else "labels"}.get(by)
    columns = list(where or ([] if column is None else [column]))
    problems += argument_problems(dataset, by, values, fraction, columns, group, seed, unseen, duplicates, content)
    raise_problems(problems)
    seed = int(seed)

    own = {group, *(columns if by in ("class", "column", WHERE) else ())} - {None}
    (said,) = contents([dataset], without=own, only=content)
    n, by_ids = len(dataset), not isinstance(unseen, (Real, np.number))

    def named() -> tuple[list, np.ndarray, list]:
        keys, rows_of = _keys(dataset, by, column, where)
        return keys, rows_of, [] if values is None else as_values(values, keys, dataset, column)

    gone, (keys, rows_of, asked), is_unseen = gather(
        lambda: deleted_rows(dataset, deleted, said),
        named,
        lambda: _kept_out(dataset, unseen) if by_ids else np.zeros(n, bool),
    )

    # Two generators, so that the unseen rows do not depend on how many draws the forget rows take.
    draw_forget, draw_unseen = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    group, from_all = group or (column if by == "column" else None), by in ("class", "random")
    if from_all and not by_ids:
        is_unseen = _drawn_rows(dataset, np.arange(n), unseen, group, draw_unseen)
    is_forget = np.zeros(n, bool)
    if by != "random":
        stays = is_unseen if by == "class" and (by_ids or group is None) else np.zeros(n, bool)
        empty = emptied(keys, gone[rows_of], stays[rows_of])
        if values is None:
            kept_out = {keys[i] for i in np.flatnonzero(is_unseen)} if by != "class" else set()
            asked = _drawn_values(keys, fraction, empty | kept_out, draw_forget)
        raise_problems(deleted_already(values, asked, empty))
        wanted = set(asked)
        is_forget[rows_of[np.array([key in wanted for key in keys], bool)]] = True
    if by_ids and by != "class" and (is_forget & is_unseen).any():
        both = first_ids([row_ids(dataset)[i] for i in np.flatnonzero(is_forget & is_unseen)])
        raise_problems([f"{(is_forget & is_unseen).sum()} row(s) to forget were kept out of training, ids {both}."])
    if not from_all and not by_ids:
        is_unseen = _drawn_rows(dataset, np.flatnonzero(~is_forget), unseen, group, draw_unseen)
    if group is not None and not by_ids:
        is_unseen &= ~is_forget
    if by == "random":
        rest = np.flatnonzero(~is_unseen & ~gone)
        is_forget[draw_forget.permutation(rest)[: max(1, round(fraction * n))]] = True
    is_forget &= ~is_unseen

    parts = {"forget": is_forget, "retain": ~is_forget & ~is_unseen, "unseen": is_unseen}
    parts = {name: mask & ~gone for name, mask in parts.items()}
    if duplicates != "keep":
        parts = _settle_duplicates(dataset, parts, duplicates, said)
    if not all(mask.any() for mask in parts.values()):
        alone = f" All have one value in column {column!r}." if by in ("class", "column") and len({*keys}) == 1 else ""
        raise_problems(_nothing_left(parts, column if by == "column" and group == column else None, gone, alone))

    from datasets import DatasetDict

    return DatasetDict({name: dataset.select(np.flatnonzero(mask)) for name, mask in parts.items()})


def _keys(dataset, by: str, column: str | None, where: Mapping[str, Any] | None) -> tuple[list, np.ndarray]:
    """What the request goes by, and the row of each; of several labels a row, each of these is one."""
    if by == "random":
        return [], np.zeros(0, int)
    if by == "class" and holds_lists(dataset, column):
        labels, rows, _ = labels_of_rows(dataset, column)
        return labels, rows
    return keys_of(dataset, where) if by == WHERE else column_values(dataset, column), np.arange(len(dataset))


def _nothing_left(parts: dict[str, np.ndarray], grouped_by: str | None, gone: np.ndarray, alone: str) -> list[str]:
    """
    The parts that have no rows, and why.

    Args:
        grouped_by: the column asked by, where it is that of the groups, too.
        gone: rows that earlier requests have deleted.
        alone: what to say where all rows have the value that is asked for.
    """
    if not gone.any() and parts["forget"].all():
        return [f"All {len(gone)} rows are to be forgotten; none is left for 'retain' or 'unseen'."]
    n = {name: int(mask.sum()) for name, mask in parts.items()}
    hint = f" Of {len(gone)} rows {n['forget']} are to be forgotten and {n['unseen']} stay unseen.{alone}"
    if grouped_by is not None and not parts["retain"].any():
        hint = (
            f" Unseen rows are drawn as whole groups of {grouped_by!r}, as long as `group` names no other column: that "
            "of the person or the document, or `group='id'` for single rows."
        )
    if gone.any() and not parts["forget"].any():
        hint = f" Earlier requests have deleted {gone.sum()} of the {len(gone)} rows (`deleted`)."
    return [f"No rows are left for {name!r}.{hint}" for name, mask in parts.items() if not mask.any()]


def _drawn_values(keys: list, fraction: float, barred: set, draw: np.random.Generator) -> list:
    """A share of the distinct values, in an order that does not depend on which of them are barred."""
    distinct = sorted({key for key in keys if not is_missing(key)}, key=str)
    in_order = [distinct[i] for i in draw.permutation(len(distinct))]
    return [key for key in in_order if key not in barred][: max(1, round(fraction * len(distinct)))]


def _drawn_rows(dataset, free: np.ndarray, share: float, group: str | None, draw: np.random.Generator) -> np.ndarray:
    """(n,) bool: a share of the rows `free`, or all rows of a share of the groups that these are of."""
    if group is None:
        found = np.zeros(len(dataset), bool)
        found[draw.permutation(free)[: max(1, round(share * len(free)))]] = True
        return found
    # A row without a group is one of its own: what is not known does not make rows belong together.
    numbers: dict[str, int] = {}
    named = (f"\0{i}" if is_missing(v) else str(v) for i, v in enumerate(column_values(dataset, group)))
    of = np.fromiter((numbers.setdefault(name, len(numbers)) for name in named), np.int64, len(dataset))
    names, there = list(numbers), np.flatnonzero(np.bincount(of[free], minlength=len(numbers)))
    groups = np.array(sorted(there.tolist(), key=names.__getitem__), np.int64)
    chosen = np.zeros(len(names), bool)
    chosen[groups[draw.permutation(len(groups))[: max(1, round(share * len(groups)))]]] = True
    return chosen[of]


def _kept_out(dataset, unseen: Sequence) -> np.ndarray:
    """
    (n,) bool: rows whose ids were kept out of training. None of them can be asked for by an id or a value; of a class
    that is asked for, these rows stay unseen, as those do that `split` draws.
    """
    asked_for = list(dict.fromkeys(map(str, alone_or_several(unseen))))
    ids = row_ids(dataset)
    known = set(map(str, ids))
    if strange := [i for i in asked_for if i not in known]:
        raise_problems([f"`unseen` names ids that no row has: {first_ids(strange)}. The rows have {first_ids(ids)}."])
    known = set(asked_for)
    return np.array([str(i) in known for i in ids])


def _settle_duplicates(dataset, parts, duplicates, content: Content):
    """The parts (name -> (n,) bool) with twins of forget rows in forget, those of retain rows in retain."""
    ids = Ids(dataset)
    parts = {name: mask.copy() for name, mask in parts.items()}

    def of(mask: np.ndarray) -> tuple[np.ndarray, Content]:
        places = np.flatnonzero(mask)
        return places, content.at(places)

    def twins_of(first: np.ndarray, second: np.ndarray) -> list[int]:
        (_, one), (places, other) = of(first), of(second)
        return [int(places[j]) for _, j in twins(one, other)]

    while found := twins_of(parts["forget"], parts["retain"] | parts["unseen"]):
        named = ids.first(found)
        text = f"{len(found)} row(s) outside the forget set have the content of a forget row, ids {named}"
        if duplicates == "error":
            raise_problems([f"{text}. Forget them too (`duplicates='move'`) or take them out of the data."])
        logger.warning("%s; they are moved to the forget set.", text)
        for mask in parts.values():
            mask[found] = False
        parts["forget"][found] = True
    while leaked := twins_of(parts["retain"], parts["unseen"]):
        logger.warning(
            "%d unseen row(s) have the content of a retain row, ids %s; they are moved to retain.",
            len(leaked),
            ids.first(leaked),
        )
        parts["unseen"][leaked] = False
        parts["retain"][leaked] = True
    for a, b in (("forget", "retain"), ("forget", "unseen"), ("retain", "unseen")):
        (places_a, one), (places_b, other) = of(parts[a]), of(parts[b])
        warn_of_near_twins(one, other, ids.of(places_a), ids.of(places_b), a, b)
    return parts
