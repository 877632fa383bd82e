"""What stands for a set of rows: which kinds are taken, and what to pass in the place of the others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..utils.checks import shown

TABLE_FORMATS = ("arrow", "pandas", "polars")  # of a `datasets.Dataset`: its rows are then tables, and no dicts


def as_rows(value: Any, name: str) -> tuple[Any, list[str]]:
    """
    `(rows, problems)` of an argument that stands for a set of rows. A `datasets.Dataset`, a list of dicts and any other
    data set with a length and dicts for rows are taken as they are; a dict of columns, a DataFrame and an Arrow table
    become a `datasets.Dataset`, and one whose rows are tables (`with_format("pandas")`) is read as dicts.
    Where there is a problem the rows are None.

    Args:
        name: of the argument, for the problems.
    """
    try:
        rows = _converted(value)
    except (ValueError, TypeError) as error:  # Arrow's own errors are ValueErrors or TypeErrors
        return None, [f"`{name}` ({_kind(value)}) is no table: {' '.join(str(error).split())[:200]}"]
    problem = _problem(rows, name)
    return (None, [problem]) if problem else (rows, [])


def as_dataset(value: Any, name: str) -> tuple[Any, list[str]]:
    """[`as_rows`], with a list of dicts as a `datasets.Dataset`, too."""
    rows, problems = as_rows(value, name)
    if problems or hasattr(rows, "with_format"):
        return rows, problems
    from datasets import Dataset

    try:
        return Dataset.from_list([dict(rows[i]) for i in range(len(rows))]), []
    except (ValueError, TypeError) as error:
        return None, [f"`{name}` ({_kind(value)}) is no table: {' '.join(str(error).split())[:200]}"]


def _kind(value: Any) -> str:
    return type(value).__name__


def _converted(value: Any) -> Any:
    """The table that a dict of columns, a DataFrame or an Arrow table holds; all else as it is."""
    if isinstance(value, Mapping):
        if not value or any(_is_set(column) or not hasattr(column, "__len__") for column in value.values()):
            return value
        from datasets import Dataset

        lengths = {name: len(column) for name, column in value.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"its columns have unlike lengths, {lengths}")
        return Dataset.from_dict(dict(value))
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        from datasets import Dataset

        return Dataset.from_pandas(value, preserve_index=False)
    if hasattr(value, "schema") and hasattr(value, "num_rows"):
        from datasets import Dataset

        return Dataset(value)
    said = getattr(value, "format", None)
    if hasattr(value, "with_format") and isinstance(said, Mapping) and said["type"] in TABLE_FORMATS:
        return value.with_format(None, columns=said["columns"], output_all_columns=said["output_all_columns"])
    return value


def _is_set(value: Any) -> bool:
    """Whether a value of a dict is itself a set of rows, as in a `DatasetDict`."""
    if hasattr(value, "column_names") or hasattr(value, "iloc"):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def _problem(rows: Any, name: str) -> str | None:
    """Why rows are no set of rows, and what to pass instead."""
    start = f"`{name}` is {_kind(rows)}"
    if rows is None:
        return f"{start}; it must be a `datasets.Dataset`, a list of dicts or another data set with a length."
    if isinstance(rows, (str, bytes, os.PathLike)):
        return f'{start}; pass the rows themselves, such as `load_dataset("json", data_files={name}, split="train")`.'
    if isinstance(rows, Mapping):
        if not rows or not all(isinstance(key, str) for key in rows):
            return f"{start} without rows; pass a `datasets.Dataset`."
        if any(_is_set(part) for part in rows.values()):
            one = next(iter(rows))
            return f"{start} of {', '.join(map(repr, rows))}; pass one of these sets, such as `rows[{one!r}]`."
        return f"{start}, one row by its keys {', '.join(map(repr, list(rows)[:5]))}; pass a list of such rows."
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        how = "; to read a stream whole, `Dataset.from_list(list(rows))`" if hasattr(rows, "__iter__") else ""
        return f"{start}; it must be a data set with a length{how}."
    if not hasattr(rows, "column_names") and len(rows) and not isinstance(rows[0], Mapping):
        return (
            f"{start} whose rows are {_kind(rows[0])}; a row must be a dict, such as `{{'input_ids': …, 'labels': …}}`."
        )
    return None


def collating_problems(data_collator: Any, processing_class: Any) -> list[str]:
    """What is wrong with the kinds of what makes batches of rows."""
    problems = []
    if isinstance(processing_class, (str, os.PathLike)):
        name = os.fspath(processing_class)
        said = f"pass the tokenizer itself: `AutoTokenizer.from_pretrained({name!r})`."
        problems.append(f"`processing_class` is {name!r}; {said}")
    if isinstance(data_collator, type):
        name = data_collator.__name__
        problems.append(f"`data_collator` is the class {name}; pass one made of it, `{name}(…)`.")
    elif data_collator is not None and not callable(data_collator):
        problems.append(f"`data_collator` is {shown(data_collator)}; it must be a function of a list of rows.")
    return problems
