"""Rows by name: embedded, from files, from the Hub."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from .building import BUILDERS
from .people import people

EMBEDDED = ("people", "digits")
LOCAL_ONLY = {  # data sets with rules of their own: what `--data_files` should name
    "tofu": "path/to/tofu/full.jsonl",
    "banking77": "path/to/banking77 (train.csv and test.csv)",
    "cifar10": "path/to/cifar10 (train-*.parquet and test-*.parquet)",
    "fsdd": "path/to/fsdd/recordings.parquet",
}
TOFU_ROWS_PER_AUTHOR = 20
CIFAR10_LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def digits():
    """Scikit-learn's 1,797 handwritten digits (real scans, 8x8, from the UCI repository), embedded in scikit-learn.

    Returns:
        `datasets.Dataset` with `id` (str, "digit-0017"), `image` (8 rows of 8 pixels, uint8, 0..255) and `label`
        (ClassLabel, 10).
    """
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, List, Value
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # the scans count dark pixels in 4x4 blocks: 0..16
    features = Features(
        {
            "id": Value("string"),
            "image": List(List(Value("uint8"))),
            "label": ClassLabel(names=[str(name) for name in raw.target_names]),
        }
    )
    return Dataset.from_dict(
        {"id": [f"digit-{i:04d}" for i in range(len(images))], "image": images.tolist(), "label": raw.target.tolist()},
        features=features,
    )


def load_rows(dataset_name, data_files=None, split=None):
    """Read a data set by name: embedded, from local files, or from the Hub. Every row has a string `id` afterwards.

    Args:
        dataset_name: "people" or "digits" (embedded); "tofu", "banking77", "cifar10" or "fsdd" (local files, named
            by `data_files`); a local .jsonl, .json, .csv or .parquet file, a folder of such files or of
            `Dataset.save_to_disk`; else a Hub id.
        data_files: a path, a glob pattern, a folder, or several of them (list, or separated by commas). For a Hub id
            it is handed to `datasets.load_dataset` unless it exists here. In a folder, `split` chooses the files:
            those whose name starts with it (train.csv, train-00.parquet); a folder without such names counts as one
            "train" split.
        split: "train" (default), "test", ..., also a slice of it such as "train[:100]".

    Returns:
        `datasets.Dataset`. `id` is the file's own, as a string, else the row number; "tofu" gets `author` (int, row //
        20, so pass the whole full.jsonl) and `id` "a017-03"; "banking77" gets `id` "train-17"; a column `image` of
        file bytes is decoded as an image. Sounds stay file bytes, whatever their column.

    Raises:
        FileNotFoundError: a file is missing or no file was named; the message says what to give to `--data_files`.
        ValueError: unknown file type, a split that is not there, TOFU rows that are not blocks of 20.
    """
    from datasets import ClassLabel, load_from_disk

    if dataset_name in EMBEDDED:
        if data_files:
            raise ValueError(f"`--data_files` has no meaning for the embedded data set {dataset_name!r}; drop it.")
        name, part = _split_name(split)
        if name != "train":
            raise ValueError(f"The embedded data set {dataset_name!r} has one split, 'train'; got split={split!r}.")
        rows = people() if dataset_name == "people" else digits()
        return _slice(rows, part)

    if data_files is None and dataset_name in LOCAL_ONLY:
        raise FileNotFoundError(
            f"The data set {dataset_name!r} is read from local files, and none was named. "
            f"Fix: --data_files {LOCAL_ONLY[dataset_name]}"
        )
    if data_files is None and _is_path(dataset_name):
        data_files = str(dataset_name)
        if Path(data_files, "state.json").is_file():
            if split is not None:
                raise ValueError(f"{data_files!r} was saved by `save_to_disk` as a single split; drop split={split!r}.")
            return _with_ids(load_from_disk(data_files))
    if data_files is None or (
        dataset_name not in LOCAL_ONLY and not _all_exist(data_files) and _looks_like_hub_id(dataset_name)
    ):
        return _with_ids(_from_hub(dataset_name, data_files, split))

    files = _find_files(data_files, split, default="full.jsonl" if dataset_name == "tofu" else None)
    rows = _read(files, _split_name(split)[1])
    if dataset_name == "tofu":
        rows = _tofu_authors(rows, files)
    if dataset_name == "banking77" and "id" not in rows.column_names:  # train and test must not share ids
        rows = rows.add_column("id", [f"{files[0].stem}-{i}" for i in range(len(rows))])
    rows = _with_images(rows)
    if (
        dataset_name == "cifar10"
        and "label" in rows.column_names
        and not isinstance(rows.features["label"], ClassLabel)
    ):
        rows = rows.cast_column("label", ClassLabel(names=CIFAR10_LABELS))
    return _with_ids(rows)


def _split_name(split):
    """Name and slice: train[:100] gives train and [:100], None gives train and nothing."""
    name, bracket, rest = (split or "train").partition("[")
    return name, bracket + rest


def _slice(rows, part):
    if not part:
        return rows
    match = re.fullmatch(r"\[(\d*):(\d*)\]", part)
    if match is None:
        raise ValueError(f"A slice of an embedded data set looks like 'train[:100]' or 'train[100:200]', got {part!r}.")
    start, stop = (int(x) if x else None for x in match.groups())
    return rows.select(range(len(rows))[start:stop])


def _is_path(name):
    """Whether a data set name is meant as a path: it exists, or is written as one."""
    name = str(name)
    return os.path.exists(name) or Path(name).suffix in BUILDERS or name.startswith((".", "/", "~"))


def _looks_like_hub_id(name):
    return not _is_path(name) and name not in BUILDERS.values()


def _as_list(data_files):
    entries = data_files.split(",") if isinstance(data_files, str) else data_files
    entries = [entries] if isinstance(entries, Path) else entries
    return [os.path.expanduser(str(entry).strip()) for entry in entries]


def _all_exist(data_files):
    return all(os.path.exists(entry) or glob.glob(entry) for entry in _as_list(data_files))


def _find_files(data_files, split, default):
    """Paths to read, in a fixed order; folders and patterns resolved, `split` applied to the folders' files."""
    name = _split_name(split)[0]
    found = []
    for entry in _as_list(data_files):
        path = Path(entry)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in BUILDERS)
            if default is not None:
                inside = [p for p in inside if p.name == default]
            chosen = [p for p in inside if re.match(rf"{re.escape(name)}([-_.]|$)", p.name)]
            named = [p for p in inside if re.match(r"(train|test|validation|valid|dev|eval)[-_.]", p.name)]
            if not chosen and not named and name == "train":
                chosen = inside
            if not inside:
                raise FileNotFoundError(
                    f"The folder {entry!r} holds no {default or 'file of type ' + ', '.join(BUILDERS)}. "
                    f"Fix: let --data_files name the file itself."
                )
            if not chosen:
                raise ValueError(
                    f"The folder {entry!r} has no files for split {name!r}; it holds {[p.name for p in inside]}."
                )
            found += chosen
            continue
        matches = [path] if path.is_file() else sorted(map(Path, glob.glob(entry)))
        if not matches:
            raise FileNotFoundError(
                f"No such file: {entry!r} (looked in {os.getcwd()!r}). "
                f"Fix: let --data_files name an existing file, folder or pattern."
            )
        if name != "train" and not any(re.match(rf"{re.escape(name)}([-_.]|$)", p.name) for p in matches):
            raise ValueError(
                f"split={name!r} asked for, but --data_files names {[p.name for p in matches]}, which is read as one "
                f"'train' split. Fix: name the file of that split, or a folder whose file names begin with the split."
            )
        found += matches
    kinds = {BUILDERS.get(p.suffix) for p in found}
    if None in kinds or len(kinds) > 1:
        raise ValueError(
            f"--data_files must name files of one type among {', '.join(BUILDERS)}; got {[p.name for p in found]}."
        )
    return found


def _read(files, part):
    from datasets import load_dataset

    return load_dataset(BUILDERS[files[0].suffix], data_files=[str(p) for p in files], split=f"train{part}")


def _from_hub(name, data_files, split):
    from datasets import load_dataset

    try:
        return load_dataset(name, data_files=data_files, split=split or "train")
    except Exception as error:  # offline, unknown id, no such file: each has another type in `datasets`
        raise FileNotFoundError(
            f"Could not load {name!r} from the Hub ({type(error).__name__}: {error}). Fix: a Hub id that exists and a "
            f"network, an embedded data set ({', '.join(EMBEDDED)}), or local files by --data_files "
            f"(known by name: {', '.join(LOCAL_ONLY)})."
        ) from error


def _tofu_authors(rows, files):
    if not {"question", "answer"} <= set(rows.column_names) or len(rows) % TOFU_ROWS_PER_AUTHOR:
        raise ValueError(
            f"{[p.name for p in files]} is not TOFU by author: it must have the columns question and answer in "
            f"blocks of {TOFU_ROWS_PER_AUTHOR} rows an author; got {len(rows)} rows with {rows.column_names}. "
            "Fix: --data_files path/to/tofu/full.jsonl"
        )
    block = TOFU_ROWS_PER_AUTHOR
    rows = rows.remove_columns([c for c in ("id", "author") if c in rows.column_names])
    rows = rows.add_column("id", [f"a{i // block:03d}-{i % block:02d}" for i in range(len(rows))])
    return rows.add_column("author", [i // block for i in range(len(rows))])


def _with_images(rows):
    """A column `image` that holds encoded files (bytes, or {bytes, path}) becomes an Image column."""
    from datasets import Image, Value

    feature = rows.features.get("image")
    is_struct = isinstance(feature, dict) and "bytes" in feature
    if is_struct or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")):
        return rows.cast_column("image", Image())
    return rows


def _with_ids(rows):
    from datasets import Value

    from .sound import undecoded

    rows = undecoded(rows)
    if "id" not in rows.column_names:
        return rows.add_column("id", [str(i) for i in range(len(rows))])
    if rows.features["id"] != Value("string"):
        return rows.cast_column("id", Value("string"))
    return rows
