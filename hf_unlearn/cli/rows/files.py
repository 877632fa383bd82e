"""Rows from local files: which files are meant, and reading them."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path

from . import json_shapes

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}  # suffix -> `load_dataset`'s name
SPLITS = ("train", "test", "validation", "valid", "dev", "eval")  # what a file's name may begin with


def split_name(split):
    """Name and slice: train[:100] gives train and [:100], None gives train and nothing."""
    name, bracket, rest = (split or "train").partition("[")
    return name, bracket + rest


def is_path(name):
    """Whether a data set name is meant as a path: it exists, or is written as one."""
    name = str(name)
    return os.path.exists(name) or Path(name).suffix in BUILDERS or name.startswith((".", "/", "~"))


def as_list(data_files):
    entries = data_files.split(",") if isinstance(data_files, str) else data_files
    entries = [entries] if isinstance(entries, Path) else entries
    return [os.path.expanduser(str(entry).strip()) for entry in entries]


def all_exist(data_files):
    return all(os.path.exists(entry) or glob.glob(entry) for entry in as_list(data_files))


def find_files(data_files, split: str | None, only: str | None = None) -> list[Path]:
    """
    Paths to read, in a fixed order: patterns resolved, and of a folder the files of the split.

    Args:
        only: name of the one file that counts in a folder.

    Raises:
        FileNotFoundError: a file is missing, or a folder holds none that can be read.
        ValueError: a split that is not there, or files of several types.
    """
    name = split_name(split)[0]
    found = []
    for entry in as_list(data_files):
        found += _in_folder(entry, name, only) if Path(entry).is_dir() else _matching(entry, name)
    kinds = {BUILDERS.get(p.suffix) for p in found}
    if None in kinds or len(kinds) > 1:
        raise ValueError(
            f"--data_files must name files of one type among {', '.join(BUILDERS)}; got {[p.name for p in found]}."
        )
    return found


def _begins_with(split: str, path: Path) -> bool:
    return re.match(rf"{re.escape(split)}([-_.]|$)", path.name) is not None


def _in_folder(folder: str, split: str, only: str | None) -> list[Path]:
    """The split's files: those whose names begin with it; all, where no name begins with a split's."""
    inside = sorted(p for p in Path(folder).iterdir() if p.suffix in BUILDERS and only in (None, p.name))
    if not inside:
        raise FileNotFoundError(
            f"The folder {folder!r} holds no {only or 'file of type ' + ', '.join(BUILDERS)}. "
            f"Fix: let --data_files name the file itself."
        )
    chosen = [p for p in inside if _begins_with(split, p)]
    if not chosen and split == "train" and not any(_begins_with(other, p) for other in SPLITS for p in inside):
        return inside
    if not chosen:
        raise ValueError(
            f"The folder {folder!r} has no files for split {split!r}; it holds {[p.name for p in inside]}."
        )
    return chosen


def _matching(entry: str, split: str) -> list[Path]:
    """The file, or those that a pattern matches."""
    found = [Path(entry)] if Path(entry).is_file() else sorted(map(Path, glob.glob(entry)))
    if not found:
        raise FileNotFoundError(
            f"No such file: {entry!r} (looked in {os.getcwd()!r}). "
            f"Fix: let --data_files name an existing file, folder or pattern."
        )
    by_split = len(found) == 1 and json_shapes.holds_splits(found[0])
    if split != "train" and not by_split and not any(_begins_with(split, p) for p in found):
        raise ValueError(
            f"split={split!r} asked for, but --data_files names {[p.name for p in found]}, which is read as one "
            f"'train' split. Fix: name the file of that split, or a folder whose file names begin with the split."
        )
    return found


def read_files(files: list[Path], split: str = "train", part: str = ""):
    """
    Rows of files of one type.

    Args:
        split: which rows of a JSON file that holds them by split.
        part: a slice such as "[:100]".

    Raises:
        ValueError: if a file is broken, empty or of a shape that is not read; it names the file.
    """
    for path in files:
        if not path.stat().st_size:
            raise ValueError(f"{path} is empty: a file of 0 bytes.")
    try:
        found = json_shapes.one_object(files[0]) if len(files) == 1 else None
    except ValueError as error:
        raise ValueError(_broken(files[0], error)) from error
    if found is not None:
        return sliced(json_shapes.rows_of(found, split, files[0]), part)
    try:
        rows = _load(files, f"train{part}")
    except Exception as error:  # of every type that `datasets`, Arrow, pandas and the file system raise
        raise ValueError(_first_broken(files, error)) from error
    if "__index_level_0__" in rows.column_names and files[0].suffix == ".csv":
        raise ValueError(
            f"{files[0]}: lines have more values than the header has names ({len(rows.column_names) - 1}). A value "
            "with a comma needs quotation marks."
        )
    header = rows.column_names[0] if files[0].suffix == ".csv" and len(rows.column_names) == 1 else ""
    if sign := next((sign for sign in ";\t|" if sign in header), None):
        raise ValueError(
            f"{files[0]}: its header, {header!r}, is one name. Values must be separated by commas, not by {sign!r}."
        )
    return rows


def _load(files: list[Path], split: str):
    from datasets import load_dataset

    return load_dataset(BUILDERS[files[0].suffix], data_files=[str(p) for p in files], split=split)


def _first_broken(files: list[Path], error: Exception) -> str:
    """What is wrong with the first of the files that cannot be read alone, in one line."""
    if len(files) > 1:
        for path in files:
            try:
                _load([path], "train")
            except Exception as own:  # as above
                return _broken(path, own)
    return _broken(files[0], error) if len(files) == 1 else f"{', '.join(map(str, files))}: {_reason(error)}"


def _broken(path: Path, error: Exception) -> str:
    kind = BUILDERS[path.suffix]
    if "corresponds to no data" in str(error):
        return f"{path} has no rows."
    if kind in ("json", "csv"):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as wrong:
            return f"{path} is no text in UTF-8 (byte {wrong.start}: {wrong.reason}); save it in that encoding."
    if kind == "json" and (line := _line_that_is_no_json(path)):
        return f"{path} is no JSON: {line} What is read: {json_shapes.SHAPES}."
    return f"{path} cannot be read as {kind}: {_reason(error)}"


def _line_that_is_no_json(path: Path) -> str | None:
    """Where a file of a row a line stops being one; None where it does not."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        text = text.replace("\n", " ")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            json.loads(line or "{}")
        except json.JSONDecodeError as wrong:
            return f"line {number}, {wrong.msg} at character {wrong.pos + 1}."
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__
    said = " ".join(str(error).split())
    return f"{said[:200] or 'no reason is given'} ({type(error).__name__})"


def sliced(rows, part: str):
    """The rows of a slice such as "[:100]"; all, where there is none."""
    if not part:
        return rows
    match = re.fullmatch(r"\[(\d*):(\d*)\]", part)
    if match is None:
        raise ValueError(f"A slice of these rows looks like 'train[:100]' or 'train[100:200]', got {part!r}.")
    start, stop = (int(x) if x else None for x in match.groups())
    return rows.select(range(len(rows))[start:stop])


def with_images(rows):
    """A column `image` that holds encoded files (bytes, or {bytes, path}) becomes an Image column."""
    from datasets import Image, Value

    feature = rows.features.get("image")
    is_struct = isinstance(feature, dict) and "bytes" in feature
    if is_struct or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")):
        return rows.cast_column("image", Image())
    return rows
