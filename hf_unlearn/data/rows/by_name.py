"""Rows by name: embedded, from files, from the Hub."""

from __future__ import annotations

from pathlib import Path

from .digits import digits
from .files import all_exist, find_files, is_path, read_files, sliced, split_name, with_images
from .hub import from_hub, looks_like_hub_id
from .named import EMBEDDED, FILES_OF, ONLY_FILE, by_its_rules
from .people import people

SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes of a Dataset, and of a DatasetDict


def load_rows(dataset_name, data_files=None, split=None):
    """Read a data set by name: embedded, from local files, or from the Hub. Every row has a string `id` afterwards.

    Args:
        dataset_name: "people" or "digits" (embedded); "tofu", "banking77", "cifar10" or "fsdd" (local files, named
            by `data_files`); a local .jsonl, .json, .csv (also with .gz) or .parquet file, a folder of such files or
            of `Dataset.save_to_disk`; else a Hub id.
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
        ValueError: unknown file type, a file that is broken or of a shape that is not read, a split that is not there,
            TOFU rows that are not blocks of 20.
    """
    if dataset_name in EMBEDDED:
        return _embedded(dataset_name, data_files, split)
    if data_files is None and dataset_name in FILES_OF:
        raise FileNotFoundError(
            f"The data set {dataset_name!r} is read from local files, and none was named. "
            f"Fix: --data_files {FILES_OF[dataset_name]}"
        )
    flag = "--data_files"
    if data_files is None and is_path(dataset_name):
        data_files, flag = str(dataset_name), "--dataset_name"
        if any(Path(data_files, name).is_file() for name in SAVED):
            return with_ids(_saved(data_files, split))
    here = dataset_name in FILES_OF or (data_files is not None and all_exist(data_files))
    if data_files is None or (not here and looks_like_hub_id(dataset_name)):
        return with_ids(from_hub(dataset_name, data_files, split))
    files = find_files(data_files, split, ONLY_FILE.get(dataset_name), flag)
    rows = with_images(read_files(files, *split_name(split)))
    return with_ids(by_its_rules(dataset_name, rows, files))


def are_here(dataset_name, data_files=None) -> bool:
    """Whether reading these rows asks no hub, be it that nothing can be read."""
    here = dataset_name in EMBEDDED or dataset_name in FILES_OF or is_path(dataset_name)
    return here or (data_files is not None and all_exist(data_files))


def _embedded(dataset_name, data_files, split):
    if data_files:
        raise ValueError(f"`--data_files` has no meaning for the embedded data set {dataset_name!r}; drop it.")
    name, part = split_name(split)
    if name != "train":
        raise ValueError(f"The embedded data set {dataset_name!r} has one split, 'train'; got split={split!r}.")
    return sliced(people() if dataset_name == "people" else digits(), part)


def _saved(folder: str, split):
    from datasets import load_from_disk

    by_split = Path(folder, SAVED[1]).is_file()
    if split is not None and not by_split:
        raise ValueError(f"{folder!r} was saved by `save_to_disk` as a single split; drop split={split!r}.")
    try:
        found = load_from_disk(folder)
    except Exception as error:  # of every type that `datasets`, Arrow and the file system raise
        said = " ".join(str(error).split())
        raise ValueError(f"{folder} was not saved whole by `save_to_disk`, or is damaged: {said}") from error
    if not by_split:
        return found
    name, part = split_name(split)
    if name not in found:
        raise ValueError(f"{folder} has no split {name!r}; it has {', '.join(map(repr, found))}.")
    return sliced(found[name], part)


def with_ids(rows):
    """The rows with a string `id`: their own, else the row number. Sounds stay file bytes."""
    from datasets import Value

    from ..encode.sound import undecoded

    rows = undecoded(rows)
    if "id" not in rows.column_names:
        return rows.add_column("id", [str(i) for i in range(len(rows))])
    if rows.features["id"] != Value("string"):
        return rows.cast_column("id", Value("string"))
    return rows
