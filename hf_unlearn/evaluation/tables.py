"""The table of per-row statistics that every measure starts from: its columns, what it belongs to, how it is kept.

A table knows which weights it was made with, and which rows, by content hashes; so a table that was saved years ago is
refused where it does not belong (schema 2; tables of schema 1 know nothing of this and are taken as they are).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

SCHEMA = 2
METADATA = b"hf_unlearn"
COLUMNS = {"row": "int64", "nll_sum": "float64", "n_labels": "int64", "n_correct": "int64", "entropy_sum": "float64"}
OPTIONAL = {
    "row_hash": "string",
    "n_suffix": "int64",
    "token_nll": "list<float>",
    "token_z": "list<float>",
    "zlib_bytes": "int64",
    "margin": "float64",
    "label": "int64",
    "labels": "list<int>",
    "predicted": "list<int>",
    "group": "int64",
}
ROW_COLUMNS = (*COLUMNS, *OPTIONAL)


def columns_of(table: pyarrow.Table, split: str) -> dict[str, np.ndarray]:
    """
    The numeric columns of a table as arrays (N,), the optional ones where they are. Of rows with several labels also
    `n_present`, `n_predicted` and `n_hits`: labels that a row has, that the model predicts, and that are both.

    Raises:
        ValueError: if a required column is missing, or there are no rows.
    """
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", ())]
    if missing:
        raise ValueError(f"the table of split `{split}` lacks {missing}: expected the columns {list(COLUMNS)}.")
    if table.num_rows == 0:
        raise ValueError(f"the table of split `{split}` has no rows.")
    numeric = [n for n in (*COLUMNS, "n_suffix", "zlib_bytes", "margin", "label", "group") if n in table.column_names]
    found = {name: table.column(name).to_numpy() for name in numeric if table.column(name).null_count == 0}
    return {**found, **_counts(table)}


def has_several_labels(table: pyarrow.Table) -> bool:
    """Whether the rows are those of a classifier of several labels a row."""
    return {"labels", "predicted"} <= set(table.column_names)


def label_pairs(table: pyarrow.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Row and label number of each label that the rows have (`labels`) or that is predicted (`predicted`)."""
    import pyarrow.compute as pc

    column = table.column(name).combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(sizes)), sizes), pc.list_flatten(column).to_numpy(zero_copy_only=False)


def _counts(table: pyarrow.Table) -> dict[str, np.ndarray]:
    if not has_several_labels(table):
        return {}
    n, (rows, labels), (own, said) = table.num_rows, *(label_pairs(table, name) for name in ("labels", "predicted"))
    width = 1 + max([0, *labels.tolist(), *said.tolist()])
    both = np.isin(rows * width + labels, own * width + said)
    return {
        "n_present": np.bincount(rows, minlength=n),
        "n_predicted": np.bincount(own, minlength=n),
        "n_hits": np.bincount(rows[both], minlength=n),
    }


def described(table: pyarrow.Table) -> dict[str, Any]:
    """What a table says of itself: `schema`, `kind`, `model`, `data`, `labels`; empty for a table of schema 1."""
    found = (table.schema.metadata or {}).get(METADATA)
    return json.loads(found) if found else {}


def with_description(table: pyarrow.Table, description: Mapping[str, Any]) -> pyarrow.Table:
    """The table with what it says of itself."""
    return table.replace_schema_metadata({METADATA: json.dumps(dict(description), ensure_ascii=False)})


def is_causal_lm(tables: Mapping[str, pyarrow.Table]) -> bool:
    """Whether the rows are those of a language model: by the tables' own word, else if some row has several labels."""
    kinds = {described(table).get("kind") for table in tables.values()} - {None}
    if kinds:
        return kinds == {"causal_lm"}
    several = {split: columns_of(table, split)["n_labels"] != 1 for split, table in tables.items()}
    return any(own.any() and not has_several_labels(tables[split]) for split, own in several.items())
