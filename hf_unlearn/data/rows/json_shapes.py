"""
JSON files that hold one object, and not a row a line or a list of rows. Two shapes are read:

    {"text": ["a", "b"], "label": [0, 1]}                             columns
    {"train": [{"text": "a", "label": 0}, …], "test": […]}            rows by split; `split` names one, default "train"
    {"train": [["a", "greeting"], …], "test": […]}                    the same with pairs, as CLINC150 has them: the
                                                                      columns are then `text` and `label`
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from .packed import opened, plain_name

SHAPES = (
    'a list of rows ([{"text": …}, …]), a row a line, columns of one length ({"text": […], "label": […]}), or rows by '
    'split ({"train": [{"text": …}, …]} or {"train": [["text", "label"], …]})'
)


def one_object(path: Path) -> dict | None:
    """
    The object that is all of a .json file; None where it holds a list, or a row a line.

    Raises:
        ValueError: if it is no JSON; EOFError, OSError or zlib.error if it is packed and damaged.
    """
    if Path(plain_name(path.name.lower())).suffix != ".json":
        return None
    with opened(path) as file:
        first = next((line for line in file if line.strip()), "")
        if not first.lstrip("\ufeff \t").startswith("{") or (_is_row(first) and any(line.strip() for line in file)):
            return None
        file.seek(0)
        found = json.load(file)
    return found if any(isinstance(value, (list, dict)) for value in found.values()) else None


def _is_row(line: str) -> bool:
    return _is_json(line) and isinstance(json.loads(line), dict)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def first_is_no_row(path: Path) -> str | None:
    """What is wrong where a file begins with something that is no row; Arrow would end the process at a null there."""
    with opened(path, "rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    inner = start[1:].lstrip() if start.startswith(b"[") else start
    if inner.startswith(b"null"):
        return f"begins with null where its first row should be. What is read: {SHAPES}."
    if start[:1] in (b'"', b"-") or start[:1].isdigit() or start.startswith((b"true", b"false", b"NaN")):
        shown = start[:20].split()[0].decode(errors="replace")
        return f"holds {shown} where rows should be. What is read: {SHAPES}."
    return None


def wrong_line(path: Path) -> str | None:
    """What is wrong with the first line, or with an entry of a list, that is no row: "is no JSON: line 3, …"."""
    with opened(path) as file:
        text = file.read().removeprefix("\ufeff")
    by_line = plain_name(path.name.lower()).endswith(".jsonl") and _is_json(text.lstrip().partition("\n")[0])
    in_a_list = text.lstrip().startswith("[") and not by_line
    for number, line in enumerate([text.replace("\n", " ")] if in_a_list else text.splitlines(), 1):
        where = "" if in_a_list else f" in line {number}"
        try:
            found = json.loads(line or "{}", object_pairs_hook=_once)
            json.dumps(found, ensure_ascii=False).encode()
        except json.JSONDecodeError as wrong:
            return f"is no JSON: line {number}, {wrong.msg} at character {wrong.pos + 1}."
        except UnicodeEncodeError:
            return f"holds half a character{where}: a lone surrogate such as \\ud83d."
        except _Twice as twice:
            return f"gives {twice.args[0]!r} twice in one row{where}."
        if not in_a_list and not isinstance(found, dict):
            return f"holds {line.strip()[:20]}{where} where a row should be."
    return None


class _Twice(Exception):
    """A key that stands twice in one object."""


def _once(pairs: list) -> dict:
    found: dict = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def holds_splits(path: Path) -> bool:
    """Whether a file holds rows by split."""
    try:
        found = one_object(path)
    except (ValueError, OSError, EOFError, zlib.error):  # told where it is read
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
