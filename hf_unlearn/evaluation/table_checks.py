"""
What is wrong with tables or splits: values that no model gives; and with those that are to stand side by side: of
another model, of other rows, shared rows, other classes. Each check returns sentences, so that a caller can raise all
of them in one error ([`raise_all`]).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .row_keys import differing
from .tables import COLUMNS, described

if TYPE_CHECKING:
    import pyarrow

OWN_ROWS = ("forget", "retain", "unseen", "test")  # splits that may not share rows
FIRST_ROWS = 5  # how many rows an error message names
ROUNDING = 1e-3  # so much below 0 a loss or an entropy of one label may be by rounding, in nats


class WrongValuesError(ValueError):
    """A table holds values that no model gives."""


def value_problems(name: str, tables: Mapping[str, pyarrow.Table]) -> list[str]:
    """
    Rows of row tables (or of generations) of the model `name` that hold what no model gives, by split, column and row:
    numbers that are not finite, negative losses, more right than labelled, shares outside 0 to 1.

    A measure of such rows would have no value, and a gate that rests on it would be undecided where it should fail.
    What a row may honestly not have is a null in an optional column, or a recall that is nan (a reference without
    words).
    """
    return [
        f'the table of "{name}" for split `{split}`: {problem}. {_CAUSE}'
        for split, table in tables.items()
        for problem in wrong_values(table)
    ]


_CAUSE = (
    "Such a file is damaged or was put together wrongly, or the model diverged or overflowed (float16: load it in "
    "bfloat16 or float32). Measure the model again, or leave it out."
)


def check_values(table: pyarrow.Table) -> pyarrow.Table:
    """
    The table.

    Raises:
        WrongValuesError: if it holds values that no model gives, naming column and rows.
    """
    problems = wrong_values(table)
    if problems:
        raise WrongValuesError(f"{'; '.join(problems)}. {_CAUSE}")
    return table


def wrong_values(table: pyarrow.Table) -> list[str]:
    """A clause for each column of a table that holds values which no model gives: column, value, rows, what may be."""
    ids = table["row"].to_pylist() if "row" in table.column_names else list(range(table.num_rows))
    found = []
    for name, (expected, allowed) in _ALLOWED.items():
        if name not in table.column_names:
            continue
        try:
            values, rows = _numbers(table, name)
        except (TypeError, ValueError):
            found.append(f"`{name}` is of type {table[name].type}: expected {expected}")
            continue
        empty = [] if name not in COLUMNS else np.flatnonzero(table[name].is_null().to_numpy())
        if len(empty):
            found.append(f"`{name}` has no value in {shown([ids[i] for i in empty])}: expected {expected}")
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~allowed(values, lambda other, rows=rows: _per_row(table, other)[rows]))
        if len(wrong):
            at = list(dict.fromkeys(ids[i] for i in rows[wrong]))
            found.append(f"`{name}` is {values[wrong[0]].item()} in {shown(at)}: expected {expected}")
    return found


def _numbers(table: pyarrow.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column that are there, lists in one line, and the place of the row of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, rows = table[name].combine_chunks(), np.arange(table.num_rows)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        column, rows = pc.list_flatten(column), np.repeat(rows, lengths)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise TypeError
    there = column.is_valid().to_numpy(zero_copy_only=False)
    return column.filter(pa.array(there)).to_numpy(zero_copy_only=False), rows[there]


def _per_row(table: pyarrow.Table, name: str) -> np.ndarray:
    """(N,) a column to compare with; where it is missing or has no value, nothing is beyond it."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.inf)
    values = table[name].to_pandas().to_numpy(float)
    return np.where(np.isnan(values), np.inf, values)


def _loss(values, of):
    return np.isfinite(values) & (values >= -ROUNDING * of("n_labels"))


def _token_loss(values, of):
    return np.isfinite(values) & (values >= -ROUNDING)


def _count(least: int, most: str = ""):
    return lambda values, of: (values >= least) & (values <= (of(most) if most else np.inf))


def _finite(values, of):
    return np.isfinite(values)


def _share(values, of):
    return np.isnan(values) | ((values >= 0) & (values <= 1))


_A_LOSS = "a finite number of at least 0"
_ALLOWED = {  # column -> (what is expected, function of its values and of other columns: which of them may be)
    "nll_sum": (_A_LOSS, _loss),
    "n_labels": ("at least 1", _count(1)),
    "n_correct": ("0 to `n_labels`", _count(0, "n_labels")),
    "entropy_sum": (_A_LOSS, _loss),
    "n_suffix": ("0 to `n_correct`", _count(0, "n_correct")),
    "token_nll": (_A_LOSS, _token_loss),
    "token_z": ("a finite number", _finite),
    "zlib_bytes": ("at least 1", _count(1)),
    "margin": ("a finite number", _finite),
    "label": ("at least 0", _count(0)),
    "labels": ("at least 0", _count(0)),
    "predicted": ("at least 0", _count(0)),
    "rouge1_recall": ("a share, 0 to 1", _share),
    "rougeL_recall": ("a share, 0 to 1", _share),
}


def model_problems(name: str, tables: Mapping[str, pyarrow.Table], model: str) -> list[str]:
    """What is wrong where `tables` must be of the model with this weights hash."""
    said = {split: described(table).get("model") for split, table in tables.items()}
    others = [split for split, own in said.items() if own and own.split()[0] != model]  # "HASH int8": its own, rounded
    if not others:
        return []
    listed = ", ".join(f"`{split}`" for split in others)
    was = said[others[0]]
    return [
        f'the tables of "{name}" for {listed} are of another model: weights {was[:12]}…, the model has {model[:12]}…. '
        "Measure the model again, or give the tables of its own weights."
    ]


def data_problems(
    name: str,
    tables: Mapping[str, pyarrow.Table],
    hashes: Mapping[str, Sequence[str]],
    keys: Mapping[str, str | None] | None = None,
) -> list[str]:
    """
    What is wrong where `tables` must be of the rows with these hashes (split -> row hashes).

    Args:
        keys: split -> name of the salt that keys its hashes ([`row_keys`]); None: they are plain.
    """
    problems = []
    for split, wanted in hashes.items():
        table = tables.get(split)
        if table is None:
            continue
        start = f'the table of "{name}" for split `{split}`'
        if getattr(table, "num_rows", None) != len(wanted):
            rows = getattr(table, "num_rows", "no")
            problems.append(
                f"{start} has {rows} rows, the split has {len(wanted)}: it was not made from these rows. Measure them "
                "again, or give the rows it was made from."
            )
        elif "row_hash" in table.column_names and (other := differing(table, wanted, (keys or {}).get(split), start)):
            problems.append(
                f"{start} is of other data: {len(other)} of {len(wanted)} rows differ in content ({shown(other)}). "
                "Other rows, another order, or another tokenisation; measure them again."
            )
    return problems


def weights_problems(tables: Mapping[str, Mapping[str, pyarrow.Table]]) -> list[str]:
    """Whether a model is compared with itself: role -> tables, by the weights that they say."""
    weights = {}
    for role, own in tables.items():
        said = (described(table).get("model") for table in own.values())
        weights[role] = next((found for found in said if found), None)
    reference = weights.get("retrained")
    of_retrained = ("retrained", "retrained_again")
    same = [role for role, own in weights.items() if role not in of_retrained and own and own == reference]
    problems = [
        f'"{role}" and "retrained" have the same weights: a model cannot be told from itself. Give the model that was '
        "retrained, not the one under test or the one from before."
        for role in same
    ]
    if reference and weights.get("retrained_again") == reference:
        problems.append('"retrained" and "retrained_again" have the same weights: that is no noise floor.')
    return problems


def same_weights(tables: Mapping[str, Mapping[str, pyarrow.Table]]) -> list[list[str]]:
    """Roles that have the same weights, none of them retrained: each is compared with itself, or nothing has moved."""
    roles: dict[str, list[str]] = {}
    for role, own in tables.items():
        weights = next((found for table in own.values() if (found := described(table).get("model"))), None)
        if weights and not role.startswith("retrained"):
            roles.setdefault(weights, []).append(role)
    return [some for some in roles.values() if len(some) > 1]


def overlap_problems(hashes: Mapping[str, Sequence[str]]) -> list[str]:
    """Rows that two of the splits forget, retain, unseen and test have in common, by content."""
    problems = []
    splits = [split for split in OWN_ROWS if split in hashes]
    for i, first in enumerate(splits):
        at: dict[str, int] = {}
        for row, key in enumerate(hashes[first]):
            at.setdefault(key, row)
        for second in splits[i + 1 :]:
            pairs = [(at[key], row) for row, key in enumerate(hashes[second]) if key in at]
            if pairs:
                a, b = pairs[0]
                problems.append(
                    f"splits `{first}` and `{second}` share {len(pairs)} row(s) (row {a} of `{first}` is row {b} of "
                    f"`{second}`): nothing can be told of either. Drop them from one; `find_duplicates` lists them."
                )
    return problems


def label_problems(descriptions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Whether the classifiers among the models (name -> what its tables say) have the same classes, in one order."""
    labels = {name: said["labels"] for name, said in descriptions.items() if said.get("labels")}
    kinds = {name: said["kind"] for name, said in descriptions.items() if said.get("kind")}
    problems = []
    if len(set(kinds.values())) > 1:
        problems.append(f"the models are of different kinds: {kinds}. Compare models of one kind.")
    if len({len(names) for names in labels.values()}) > 1:
        counted = ", ".join(f'"{name}" {len(names)}' for name, names in labels.items())
        problems.append(f"label spaces differ: {counted} classes. Models must answer the same question.")
        return problems
    named = {k: v for k, v in labels.items() if any(not str(n).startswith("LABEL_") for n in v)}
    for name, names in list(named.items())[1:]:
        first = next(iter(named))
        other = [i for i, (a, b) in enumerate(zip(named[first], names, strict=True)) if a != b]
        if other:
            i = other[0]
            problems.append(
                f'label spaces differ: class {i} is {named[first][i]!r} for "{first}" and {names[i]!r} for "{name}". '
                "The same number must mean the same class in all models (`id2label` of their configs)."
            )
    return problems


def shown(rows: Sequence[int]) -> str:
    """For messages: rows 3, 4, 7 and 12 more."""
    listed = ", ".join(map(str, rows[:FIRST_ROWS]))
    return f"row{'s' if len(rows) > 1 else ''} {listed}" + (
        f" and {len(rows) - FIRST_ROWS} more" if len(rows) > FIRST_ROWS else ""
    )


def raise_all(problems: Sequence[str]) -> None:
    """
    Raises:
        ValueError: with all problems, if there are any.
    """
    if problems:
        raise ValueError("\n".join(problems) if len(problems) == 1 else "- " + "\n- ".join(problems))
