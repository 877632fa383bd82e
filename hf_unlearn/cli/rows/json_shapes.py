"""
JSON files that hold one object, and not a row a line or a list of rows. Two shapes are read:

    {"text": ["a", "b"], "label": [0, 1]}                             columns
    {"train": [{"text": "a", "label": 0}, …], "test": […]}            rows by split; `split` names one, default "train"
    {"train": [["a", "greeting"], …], "test": […]}                    the same with pairs, as CLINC150 has them: the
                                                                      columns are then `text` and `label`
"""

from __future__ import annotations

import json
from pathlib import Path

SHAPES = (
    'a list of rows ([{"text": …}, …]), a row a line, columns of one length ({"text": […], "label": […]}), or rows by '
    'split ({"train": [{"text": …}, …]} or {"train": [["text", "label"], …]})'
)


def one_object(path: Path) -> dict | None:
    """
    The object that is all of a .json file; None where it holds a list, or a row a line.

    Raises:
        ValueError: if it is no JSON.
    """
    if path.suffix != ".json":
        return None
    with open(path, encoding="utf-8") as file:
        first = next((line for line in file if line.strip()), "")
        if not first.lstrip("\ufeff \t").startswith("{") or (_is_row(first) and any(line.strip() for line in file)):
            return None
        file.seek(0)
        found = json.load(file)
    return found if any(isinstance(value, (list, dict)) for value in found.values()) else None


def _is_row(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def holds_splits(path: Path) -> bool:
    """Whether a file holds rows by split."""
    try:
        found = one_object(path)
    except ValueError:  # told where it is read
        return False
    return found is not None and bool(found) and all(map(_are_rows, found.values()))


def _are_rows(value) -> bool:
    return isinstance(value, list) and all(isinstance(row, (dict, list)) for row in value)


def rows_of(found: dict, split: str, path: Path):
    """
    Rows of one object, as a `datasets.Dataset`.

    Raises:
        ValueError: if its shape is another one, or it has no such split.
    """
    from datasets import Dataset

    lengths = {len(column) if isinstance(column, list) else None for column in found.values()}
    of_one_length = len(lengths) == 1 and None not in lengths
    of_dicts = any(isinstance(row, dict) for value in found.values() if isinstance(value, list) for row in value)
    if all(map(_are_rows, found.values())) and (split in found or of_dicts or not of_one_length):
        if split not in found:
            raise ValueError(f"{path} has no split {split!r}; it has {', '.join(map(repr, found))}.")
        rows = found[split]
        if all(isinstance(row, dict) for row in rows):
            return Dataset.from_list(rows)
        if all(isinstance(row, list) and len(row) == 2 and all(isinstance(one, str) for one in row) for row in rows):
            return Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    elif of_one_length and not of_dicts:
        return Dataset.from_dict(found)
    keys = ", ".join(map(repr, list(found)[:5]))
    raise ValueError(f"{path} holds one object with the keys {keys}, and no table of rows. What is read: {SHAPES}.")
