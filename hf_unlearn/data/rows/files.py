"""Rows from local files: which files are meant, and reading them."""

from __future__ import annotations

import glob
import os
import re
import zlib
from pathlib import Path

from . import json_shapes, strangers
from .csv_words import kept_words
from .packed import PACKED, opened, plain_name

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}  # suffix -> `load_dataset`'s name
TYPES = f"{', '.join(BUILDERS)} (.jsonl, .json and .csv also with {PACKED})"
SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")  # what a file's name may begin with


def split_name(split):
    """Name and slice: train[:100] gives train and [:100], None gives train and nothing."""
    name, bracket, rest = (split or "train").partition("[")
    return name, bracket + rest


def builder_of(path) -> str | None:
    """Name by which `load_dataset` knows a file's type; None where it is none that is read."""
    name = str(path).lower()
    kind = BUILDERS.get(Path(plain_name(name)).suffix)
    return None if kind == "parquet" and name.endswith(PACKED) else kind


def is_path(name):
    """Whether a data set name is meant as a path: it exists, or is written as one, or as a pattern of paths."""
    name = str(name)
    return (
        os.path.exists(name) or builder_of(name) is not None or name.startswith((".", "/", "~")) or glob.has_magic(name)
    )


def as_list(data_files):
    """Files, folders and patterns; a word with commas is several, unless it is the name of something that is here."""
    alone = isinstance(data_files, Path) or (
        isinstance(data_files, str) and os.path.exists(os.path.expanduser(data_files))
    )
    entries = [data_files] if alone else data_files.split(",") if isinstance(data_files, str) else data_files
    return [os.path.expanduser(str(entry).strip()) for entry in entries]


def all_exist(data_files):
    return all(os.path.exists(entry) or glob.glob(entry, recursive=True) for entry in as_list(data_files))


def find_files(data_files, split: str | None, only: str | None = None, argument: str = "data_files") -> list[Path]:
    """
    Paths to read, in a fixed order: patterns resolved, and of a folder the files of the split.

    Args:
        only: name of the one file that counts in a folder.
        argument: that names the files, for what is said of them.

    Raises:
        FileNotFoundError: a file is missing, or a folder holds none that can be read.
        ValueError: a split that is not there, or files of several types.
    """
    name = split_name(split)[0]
    found = []
    for entry in as_list(data_files):
        found += _in_folder(entry, name, only, argument) if Path(entry).is_dir() else _matching(entry, name, argument)
    if strange := [p.name for p in found if builder_of(p) is None]:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise ValueError(
            f"`{argument}` names {strange[0]}{more}, which is no file of type {TYPES}. Save it as one of these."
        )
    if len({builder_of(p) for p in found}) > 1:
        raise ValueError(
            f"`{argument}` names files of several types: {', '.join(p.name for p in found)}. Name those of one type."
        )
    return found


def _begins_with(split: str, path: Path) -> bool:
    return re.match(rf"{re.escape(split)}([-_.]|$)", path.name) is not None


def _in_folder(folder: str, split: str, only: str | None, argument: str) -> list[Path]:
    """The split's files: those whose names begin with it; all, where no name begins with a split's."""
    entries = sorted(p for p in Path(folder).iterdir() if not p.name.startswith("."))  # hidden: no one's rows
    there = {p.name: p for p in entries if builder_of(p) and only in (None, p.name)}
    # Of a file that stands there packed and unpacked, one counts.
    inside = [p for name, p in there.items() if plain_name(name) == name or plain_name(name) not in there]
    if not inside:
        raise FileNotFoundError(
            f"The folder {folder!r} holds no {only or 'file of type ' + TYPES}. "
            f"Fix: let `{argument}` name the file itself."
        )
    chosen = [p for p in inside if _begins_with(split, p)]
    if not chosen and split == "train" and not any(_begins_with(other, p) for other in SPLITS for p in inside):
        return inside
    if not chosen:
        raise ValueError(
            f"The folder {folder!r} has no files for split {split!r}; it holds {[p.name for p in inside]}."
        )
    return chosen


def _matching(entry: str, split: str, argument: str) -> list[Path]:
    """The file, or those that a pattern matches."""
    found = [Path(entry)] if Path(entry).is_file() else sorted(map(Path, glob.glob(entry, recursive=True)))
    if not found:
        raise FileNotFoundError(
            f"No such file: {entry!r} (looked in {os.getcwd()!r}). "
            f"Fix: let `{argument}` name an existing file, folder or pattern."
        )
    by_split = len(found) == 1 and json_shapes.holds_splits(found[0])
    if split != "train" and not by_split and not any(_begins_with(split, p) for p in found):
        raise ValueError(
            f"`split` is {split!r}, but `{argument}` names {[p.name for p in found]}, which is read as one "
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
            said = strangers.stranger(path, builder_of(path))
            if said is None and builder_of(path) == "json":
                said = strangers.not_text(path) or json_shapes.first_is_no_row(path)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(_broken(path, error)) from error
        if said:
            raise ValueError(f"{path} {said}")
    try:
        found = json_shapes.one_object(files[0]) if len(files) == 1 else None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(_broken(files[0], error)) from error
    if found is not None:
        return sliced(json_shapes.rows_of(found, split, files[0]), part)
    try:
        rows = _load(files, f"train{part}")
    except Exception as error:  # of every type that `datasets`, Arrow, pandas and the file system raise
        raise ValueError(_first_broken(files, error)) from error
    if builder_of(files[0]) != "csv":
        return rows
    if twice := next((f"{path} {said}" for path in files if (said := strangers.header_twice(path))), None):
        raise ValueError(twice)
    if "__index_level_0__" in rows.column_names:
        raise ValueError(
            f"{files[0]}: lines have more values than the header has names ({len(rows.column_names) - 1}). A value "
            "with a comma needs quotation marks."
        )
    header = rows.column_names[0] if len(rows.column_names) == 1 else ""
    if sign := next((sign for sign in ";\t|" if sign in header), None):
        raise ValueError(
            f"{files[0]}: its header, {header!r}, is one name. Values must be separated by commas, not by {sign!r}."
        )
    return kept_words(rows, lambda **how: _load(files, f"train{part}", **how), ", ".join(map(str, files)))


def _load(files: list[Path], split: str, **how):
    from datasets import load_dataset
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # what is wrong with a file is told here, once
    try:
        return load_dataset(builder_of(files[0]), data_files=[str(p) for p in files], split=split, **how)
    finally:
        logging.set_verbosity(before)


def _first_broken(files: list[Path], error: Exception) -> str:
    """What is wrong with the first of the files that cannot be read alone, in one line."""
    if len(files) == 1:
        return _broken(files[0], error)
    features = {}
    for path in files:
        try:
            features[path] = _load([path], "train").features
        except Exception as own:  # as above
            return _broken(path, own)
    unlike = next((said for path in files[1:] if (said := _unlike(files[0], path, features))), None)
    return unlike or f"{', '.join(map(str, files))}: {_reason(error)}"


def _unlike(first: Path, second: Path, features: dict) -> str | None:
    """In what the columns of two files differ; None where they do not."""
    ones, others = features[first], features[second]
    said = []
    for path, lacking in ((first, ones.keys() - others.keys()), (second, others.keys() - ones.keys())):
        if lacking:
            said.append(f"{path.name} alone has the column {', '.join(map(repr, sorted(lacking)))}")
    said += [
        f"{name!r} is {_kind(ones[name])} in {first.name} and {_kind(others[name])} in {second.name}"
        for name in sorted(ones.keys() & others.keys())
        if ones[name] != others[name]
    ]
    if not said:
        return None
    return f"The rows of {first} and {second} are unlike: {'; '.join(said)}. Give them the same columns."


def _kind(feature) -> str:
    return str(feature if hasattr(feature, "feature") else getattr(feature, "dtype", feature)).removeprefix("large_")


def _broken(path: Path, error: Exception) -> str:
    kind = builder_of(path)
    if "corresponds to no data" in str(error):
        return f"{path} has no rows."
    if kind in ("json", "csv"):
        try:
            with opened(path) as file:
                if not file.read().strip():
                    return f"{path} has no rows."
        except UnicodeDecodeError as wrong:
            return f"{path} is no text in UTF-8 (byte {wrong.start}: {wrong.reason}); save it in that encoding."
        except (OSError, EOFError, zlib.error) as wrong:
            return f"{path} is damaged: {' '.join(str(wrong).split())}."
    if kind == "json" and (said := json_shapes.wrong_line(path)):
        return f"{path} {said} What is read: {json_shapes.SHAPES}."
    if kind == "parquet" and _has_no_rows(path):
        return f"{path} has no rows."
    return f"{path} cannot be read as {kind}: {_reason(error)}"


def _has_no_rows(path: Path) -> bool:
    import pyarrow as pa
    from pyarrow.parquet import read_metadata

    try:
        return read_metadata(path).num_rows == 0
    except (pa.ArrowException, OSError):
        return False


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


def with_images(rows, column: str = "image", paths: bool = False):
    """
    A column that holds encoded files (bytes, or {bytes, path}) becomes an Image column.

    Args:
        paths: one of paths does, too, from the folder that the verb is started in.
    """
    from datasets import Image, Value

    feature = rows.features.get(column)
    kind = feature.dtype if isinstance(feature, Value) else None
    is_struct = isinstance(feature, dict) and "bytes" in feature
    of_paths = paths and kind in ("string", "large_string") and len(rows) and Path(str(rows[0][column])).is_file()
    if is_struct or kind in ("binary", "large_binary") or of_paths:
        return rows.cast_column(column, Image())
    return rows
