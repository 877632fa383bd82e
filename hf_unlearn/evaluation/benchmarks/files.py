"""Rows of benchmarks from files as they are published: tables of rows, lists of strings, plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")  # also packed, with .gz


def rows_in(path: Path, *columns: str) -> Any:
    """
    The rows of a file, as a `datasets.Dataset`: by `load_rows`; and where one column is asked for, also those of a JSON
    list of strings, or a text file, which is one row.

    Args:
        columns: that hold a text in every row.

    Raises:
        ValueError: if the file cannot be read, or a row has no text in one of the columns; it names the file.
        OSError: if it is not there.
    """
    from datasets import Dataset

    from ...data.rows.by_name import load_rows

    strings = _strings(path) if len(columns) == 1 else None
    rows = load_rows(str(path)) if strings is None else Dataset.from_dict({columns[0]: strings})
    return checked(rows, str(path), *columns)


def checked(rows: Any, where: str, *columns: str) -> Any:
    """
    The rows.

    Raises:
        ValueError: if a column is missing, or a row has no text or an empty one in it; it begins with `where`.
    """
    from ...data.encode.columns import check_columns, check_texts, name_rows

    if not len(rows):
        raise ValueError(f"{where} has no rows.")
    try:
        check_columns(rows, *columns)
        check_texts(rows, *columns)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for column in columns:
        if empty := [i for i, text in enumerate(rows[column][:]) if not text.strip()]:
            raise ValueError(
                f"{where}: {len(empty)} rows have an empty text in column {column!r} ({name_rows(rows, empty)}): take "
                "them out."
            )
    return rows


def _strings(path: Path) -> list[str] | None:
    """The strings of a JSON list of nothing else, or a text file as one; None of all other files."""
    if path.suffix.lower() == ".txt":
        try:
            return [path.read_text(encoding="utf-8")]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}: {error.reason}).") from error
    if path.suffix.lower() != ".json":
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None  # rows a line, or told by `load_rows`
    return found if isinstance(found, list) and found and all(isinstance(one, str) for one in found) else None


def plain_stem(path: Path) -> str:
    """A file's name without its endings: `test-00000-of-00001.parquet` -> "test-00000-of-00001"."""
    return path.name.split(".")[0]


def is_table(path: Path, *more: str) -> bool:
    """Whether a file's name is that of a table of rows, or of one of `more` types."""
    name = path.name.lower().removesuffix(".gz")
    return path.is_file() and not name.startswith(".") and name.endswith((*SUFFIXES, *more))


def tables_in(folder: Path, *more: str) -> list[Path]:
    """The tables of rows in a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if is_table(path, *more))


def listed(paths: Sequence[Path], most: int = 8) -> str:
    names = [path.name for path in paths[:most]]
    return (", ".join(names) or "nothing") + (f" and {len(paths) - most} more" if len(paths) > most else "")
