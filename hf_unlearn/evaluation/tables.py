"""The table of per-row statistics that every measure starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow

COLUMNS = {"row": "int64", "nll_sum": "float64", "n_labels": "int64", "n_correct": "int64", "entropy_sum": "float64"}


def columns_of(table: pyarrow.Table, split: str) -> dict[str, np.ndarray]:
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", ())]
    if missing:
        raise ValueError(f"the table of split `{split}` lacks {missing}: expected the columns {list(COLUMNS)}.")
    if table.num_rows == 0:
        raise ValueError(f"the table of split `{split}` has no rows.")
    return {name: table.column(name).to_numpy() for name in COLUMNS}
