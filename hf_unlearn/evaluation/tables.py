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
    "group": "int64",
}
ROW_COLUMNS = (*COLUMNS, *OPTIONAL)


def columns_of(table: pyarrow.Table, split: str) -> dict[str, np.ndarray]:
    """
    The numeric columns of a table as arrays (N,), the optional ones where they are.

    Raises:
        ValueError: if a required column is missing, or there are no rows.
    """
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", ())]
    if missing:
        raise ValueError(f"the table of split `{split}` lacks {missing}: expected the columns {list(COLUMNS)}.")
    if table.num_rows == 0:
        raise ValueError(f"the table of split `{split}` has no rows.")
    numeric = [n for n in (*COLUMNS, "n_suffix", "zlib_bytes", "margin", "label", "group") if n in table.column_names]
    return {name: table.column(name).to_numpy() for name in numeric if table.column(name).null_count == 0}


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
    return any((columns_of(table, split)["n_labels"] != 1).any() for split, table in tables.items())
