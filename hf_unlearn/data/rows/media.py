"""
Rows from a folder of images or of sounds: FOLDER/class/file, FOLDER/train/class/file with FOLDER/test/class/file, or
files beside a table of what is known of them (`metadata.csv`, as `datasets`' imagefolder and audiofolder have it).
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..columns import first_ids
from .files import SPLITS, builder_of, read_files
from .packed import plain_name

IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
IMAGES += (".pnm", ".jp2", ".tga")
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")  # that soundfile reads
KINDS = {**dict.fromkeys(IMAGES, "image"), **dict.fromkeys(SOUNDS, "audio")}  # suffix -> column
TABLES = tuple(f"metadata.{kind}" for kind in ("csv", "jsonl", "json", "parquet"))
FILE_NAME, LABEL = "file_name", "label"  # columns of such a table: the file, from the table's folder; its class
DEEPEST = 3  # folders below the first in which a file of media makes the folder one of media
LAYOUTS = "FOLDER/class/file, or FOLDER/train/class/file and FOLDER/test/class/file"

logger = logging.getLogger(__name__)


@dataclass
class Found:
    """Files below a folder, in order, by their paths from there; hidden ones are left out."""

    media: list[str]
    others: list[str]


def is_media_folder(folder) -> bool:
    """Whether a folder holds images or sounds, and no file of rows but a table of these."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        return False
    files = [entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    if any(builder_of(name) and not _is_table(name) for name in files):
        return False
    return any(_suffix(name) in KINDS for name in _names(folder, DEEPEST))


def read_media(folder, split: str = "train", argument: str = "data_files"):
    """
    The rows of one split.

    Args:
        argument: that names the folder, for what is said of it.

    Returns:
        `datasets.Dataset` with `id` (path of the file from the folder, the same wherever that stands), `image` or
        `audio`, `label` (ClassLabel: the folder that the file is in, or the table's column of that name), and what else
        a table says. The files are read when a row is.

    Raises:
        ValueError: with all that is wrong with the folder: no such split, images and sounds in one, files in no class,
            a table that does not go with the files.
    """
    folder = Path(folder).expanduser()
    base = _base(folder, split, argument)
    found = _files(base)
    kinds = sorted({KINDS[_suffix(name)] for name in found.media})
    if len(kinds) != 1:
        what = "holds no image and no sound" if not kinds else "holds images and sounds; put them in two folders"
        raise ValueError(f"{base} {what}. What is read: {LAYOUTS}.")
    if found.others:
        logger.warning("%d file(s) in %s are neither images nor sounds that are read, and are left out: %s.",
                       len(found.others), base, first_ids(found.others))  # fmt: skip
    table = _table(base, found.media)
    labels = table.pop(LABEL, None) or _classes(base, found.media)
    return _dataset(folder, base, found.media, kinds[0], labels, table)


def _base(folder: Path, split: str, argument: str) -> Path:
    """The folder of a split; the folder itself where its folders are classes."""
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    by_split = [name for name in inside if name in SPLITS]
    if "train" not in by_split and len(by_split) < len(inside):  # a class may be called so
        by_split = []
    if not by_split and split == "train":
        return folder
    if split in by_split:
        if others := [name for name in inside if name not in by_split]:
            logger.warning("%s is divided into %s; its other folder(s) %s are left out.",
                           folder, ", ".join(by_split), first_ids(others))  # fmt: skip
        return folder / split
    there = f"it has {', '.join(map(repr, by_split))}" if by_split else "its folders are classes"
    raise ValueError(f"`{argument}` names {str(folder)!r}, which has no folder for the split {split!r}; {there}.")


def _names(folder: Path, deepest: int | None = None) -> list[str]:
    """Paths of the files below a folder from there, sorted, through links too; hidden ones are left out."""
    found, been = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        here, real = Path(root).relative_to(folder), os.path.realpath(root)
        if real in been or (deepest is not None and len(here.parts) > deepest):
            folders.clear()
            continue
        been.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(here / name).as_posix() for name in sorted(files) if not name.startswith(".")]
    return sorted(found)


def _files(base: Path) -> Found:
    names = _names(base)
    if wrong := [name for name in names if not _is_text(name)]:
        shown = first_ids([name.encode(errors="replace").decode() for name in wrong])
        raise ValueError(f"{len(wrong)} file(s) in {base} have a name that is not in UTF-8: {shown}. Rename them.")
    media = [name for name in names if _suffix(name) in KINDS]
    return Found(media, [name for name in names if _suffix(name) not in KINDS and not _is_table(Path(name).name)])


def _classes(base: Path, files: list[str]) -> list[str]:
    """The class of each file: the first folder on its path."""
    if alone := [name for name in files if "/" not in name]:
        raise ValueError(
            f"{len(alone)} file(s) lie in {base} and in no folder of a class: {first_ids(alone)}. What is read: "
            f"{LAYOUTS}; or a table metadata.csv beside the files, with the columns {FILE_NAME} and {LABEL}."
        )
    return [name.partition("/")[0] for name in files]


def _table(base: Path, files: list[str]) -> dict[str, list]:
    """Column -> values of the files in their order, of the table that lies with them; {} where there is none."""
    here = [base / name for name in TABLES if (base / name).is_file()]
    if not here:
        return {}
    if len(here) > 1:
        raise ValueError(f"{base} holds {' and '.join(path.name for path in here)}; leave one.")
    rows = read_files(here)
    if FILE_NAME not in rows.column_names:
        there = ", ".join(map(repr, rows.column_names))
        raise ValueError(f"{here[0]} has no column {FILE_NAME!r}, which says the file of a row; it has {there}.")
    named = [Path(str(name)).as_posix() for name in rows[FILE_NAME]]
    place = {name: i for i, name in enumerate(named)}
    counted = Counter(named)
    problems = {
        "names file(s) twice": [name for name, times in counted.items() if times > 1],
        "names file(s) that are not there": [name for name in named if name not in set(files)],
        "says nothing of file(s)": [name for name in files if name not in place],
    }
    if any(problems.values()):
        said = "; ".join(f"{what}: {first_ids(names)}" for what, names in problems.items() if names)
        raise ValueError(f"{here[0]} does not go with the files beside it. It {said}.")
    rows = rows.select([place[name] for name in files])
    return {name: rows[name][:] for name in rows.column_names if name not in (FILE_NAME, "id")}


def _dataset(folder: Path, base: Path, files: list[str], kind: str, labels: list, table: dict[str, list]):
    from datasets import Audio, ClassLabel, Dataset, Image

    columns = {
        "id": [(base / name).relative_to(folder).as_posix() for name in files],
        kind: [{"bytes": None, "path": str(base / name)} for name in files],
        **{name: values for name, values in table.items() if name != kind},
        LABEL: labels,
    }
    rows = Dataset.from_dict(columns).cast_column(kind, Image() if kind == "image" else Audio(decode=False))
    if all(isinstance(one, str) for one in labels):
        rows = rows.cast_column(LABEL, ClassLabel(names=sorted(set(labels))))
    return rows


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_table(name: str) -> bool:
    return plain_name(name.lower()) in TABLES


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
