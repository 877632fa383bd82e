"""Rows from local files: which files are meant, and reading them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

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
    if split != "train" and not any(_begins_with(split, p) for p in found):
        raise ValueError(
            f"split={split!r} asked for, but --data_files names {[p.name for p in found]}, which is read as one "
            f"'train' split. Fix: name the file of that split, or a folder whose file names begin with the split."
        )
    return found


def read_files(files: list[Path], part: str = ""):
    """Rows of files of one type; `part`: a slice such as "[:100]"."""
    from datasets import load_dataset

    return load_dataset(BUILDERS[files[0].suffix], data_files=[str(p) for p in files], split=f"train{part}")


def with_images(rows):
    """A column `image` that holds encoded files (bytes, or {bytes, path}) becomes an Image column."""
    from datasets import Image, Value

    feature = rows.features.get("image")
    is_struct = isinstance(feature, dict) and "bytes" in feature
    if is_struct or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")):
        return rows.cast_column("image", Image())
    return rows
