"""Row tables on the disk: one Parquet file a split, which says what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.files import replace_files
from .parquet import parquet_bytes, read_parquet
from .row_keys import keyed, know_salts_of
from .rows import row_hashes
from .table_checks import data_problems, model_problems, raise_all, value_problems

if TYPE_CHECKING:
    import pyarrow


def save_tables(tables: Mapping[str, pyarrow.Table], directory: str | Path, *, alone: bool = False) -> Path:
    """
    Write each table to `directory`/SPLIT.parquet, with what it says of itself; returns the directory. Row hashes are
    keyed by the salt of the folder, or of one above it.

    Args:
        alone: the folder is for these tables alone: those of other splits, which an earlier model may have left, go.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    contents = dict.fromkeys(directory.glob("*.parquet") if alone else ())
    for split, table in tables.items():
        contents[directory / f"{split}.parquet"] = parquet_bytes(keyed(table, directory))
    replace_files(contents)
    return directory


def load_tables(
    directory: str | Path, *, model: str | None = None, splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> dict[str, pyarrow.Table]:
    """
    The tables that [`save_tables`] wrote.

    Args:
        model: weights hash ([`~hf_unlearn.evaluation.weights_hash`]) of the model they must be of; None: any.
        splits: the rows they must be of; None: any.

    Raises:
        FileNotFoundError: if there is no table.
        ValueError: if a table is damaged, of another model or of other rows, or holds values that no model
            gives.
    """
    directory = Path(directory)
    know_salts_of(directory)
    found = {path.stem: read_parquet(path) for path in sorted(directory.glob("*.parquet"))}
    if not found:
        raise FileNotFoundError(f"there is no saved table in {str(directory)!r}: expected SPLIT.parquet.")
    problems = value_problems(str(directory), found)
    problems += model_problems(str(directory), found, model) if model else []
    if splits is not None:
        problems += data_problems(str(directory), found, {name: row_hashes(rows) for name, rows in splits.items()})
    raise_all(problems)
    return found
