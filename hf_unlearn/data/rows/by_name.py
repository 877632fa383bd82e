"""Rows by name: embedded, from files, from the Hub."""

from __future__ import annotations

import copy
import functools
import logging
from pathlib import Path

from ...utils.checks import shown
from .digits import digits
from .files import all_exist, find_files, is_path, read_files, sliced, split_name, with_images
from .hub import from_hub, looks_like_hub_id
from .media import is_media_folder, read_media
from .named import EMBEDDED, FILES_OF, ONLY_FILE, by_its_rules
from .people import people

logger = logging.getLogger(__name__)

SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes of a Dataset, and of a DatasetDict


def load_rows(name, data_files=None, split=None, *, config=None, revision=None):
    """
    Reads a data set by name: embedded, from local files, or from the Hub. What the verbs read, they read by this.

    Args:
        name: "people" or "digits" (embedded); "tofu", "banking77", "cifar10" or "fsdd" (local files, named by
            `data_files`); a local .jsonl, .json, .csv (also with .gz) or .parquet file, a pattern such as
            "rows/*.jsonl", a folder of such files or of `save_to_disk`, a folder of images or of sounds by class
            (FOLDER/class/file, also FOLDER/train/class/file and FOLDER/test/class/file); else a Hub id. With
            `data_files` that are here, any word.
        data_files: a path, a pattern, a folder, or several of them (a list, or separated by commas). For a Hub id
            it is handed to `datasets.load_dataset` unless it exists here. In a folder, `split` chooses the files:
            those whose name starts with it (train.csv, train-00.parquet); a folder without such names counts as one
            "train" split.
        split: "train" (default), "test", ..., also a slice of it such as "train[:100]".
        config: of a Hub id that has several configurations, the one to read.
        revision: of a Hub id, a branch, a tag or a commit.

    Returns:
        `datasets.Dataset`, every row with a string `id`: the file's own, else the row number; "tofu" gets `author`
        (int, row // 20, so pass the whole full.jsonl) and `id` "a017-03"; "banking77" gets `id` "train-17"; a column
        `image` of file bytes is decoded as an image. Of a folder by class, `id` is the path of the file from there and
        `label` the class. Sounds stay file bytes, whatever their column.

    Raises:
        FileNotFoundError: a file is missing, none was named, or the Hub does not give the data set; it says the fix.
        ValueError: unknown file type, a file that is broken or of a shape that is not read, a split or configuration
            that is not there, TOFU rows that are not blocks of 20.

    Example:

        >>> from hf_unlearn import load_rows
        >>> rows = load_rows("people", split="train[:8]")
        >>> rows.column_names
        ['id', 'person', 'question', 'answer']
        >>> rows["id"][0]
        'p000-pet'
    """
    if not isinstance(name, (str, Path)) or not str(name):
        raise ValueError(
            f"`name` is {shown(name)}; it must be one word: a file, a folder, a pattern or a Hub id. Several files are "
            "a list in `data_files`."
        )
    hub = {key: value for key, value in (("config", config), ("revision", revision)) if value is not None}
    if hub and are_here(name, data_files):
        said = " and ".join(f"`{key}` is {value!r}" for key, value in hub.items())
        raise ValueError(f"{said}, which is of data sets on the Hub, and {data_files or name!r} is none. Leave it out.")
    if name in EMBEDDED:
        return _embedded(name, data_files, split)
    if data_files is None and name in FILES_OF:
        raise FileNotFoundError(
            f"The data set {name!r} is read from local files, and none was named. Name them by `data_files`, such as "
            f"{FILES_OF[name]}"
        )
    argument = "data_files"
    if data_files is None and is_path(name):
        data_files, argument = str(name), "name"
        if any(Path(data_files, saved).is_file() for saved in SAVED):
            return with_ids(_saved(data_files, split))
    if isinstance(data_files, (str, Path)) and is_media_folder(data_files):
        chosen, part = split_name(split)
        return sliced(read_media(data_files, chosen, argument), part)
    here = name in FILES_OF or (data_files is not None and all_exist(data_files))
    if data_files is None or (not here and looks_like_hub_id(name)):
        return with_ids(from_hub(name, data_files, split, config, revision))
    files = find_files(data_files, split, ONLY_FILE.get(name), argument)
    rows = with_images(read_files(files, *split_name(split)))
    return with_ids(by_its_rules(name, rows, files))


def are_here(name, data_files=None) -> bool:
    """Whether reading these rows asks no hub, be it that nothing can be read."""
    here = name in EMBEDDED or name in FILES_OF or is_path(name)
    return here or (data_files is not None and all_exist(data_files))


def _embedded(name, data_files, split):
    if data_files:
        raise ValueError(f"`data_files` has no meaning for the embedded data set {name!r}; leave it out.")
    chosen, part = split_name(split)
    if chosen != "train":
        raise ValueError(f"The embedded data set {name!r} has one split, 'train'; `split` is {split!r}.")
    return sliced(copy.deepcopy(_made(name)), part)  # the copies share their columns


@functools.cache
def _made(name):
    return people() if name == "people" else digits()


def _saved(folder: str, split):
    from datasets import load_from_disk

    by_split = Path(folder, SAVED[1]).is_file()
    if split is not None and not by_split:
        raise ValueError(
            f"{folder!r} was saved by `save_to_disk` as a single split, and `split` is {split!r}. Leave it out."
        )
    try:
        found = load_from_disk(folder)
    except Exception as error:  # of every type that `datasets`, Arrow and the file system raise
        said = " ".join(str(error).split())
        raise ValueError(f"{folder} was not saved whole by `save_to_disk`, or is damaged: {said}") from error
    if not by_split:
        return found
    name, part = split_name(split)
    if name not in found:
        raise ValueError(
            f"{folder} has no split {name!r}; it has {', '.join(map(repr, found))}. Name one of them by `split`."
        )
    return sliced(found[name], part)


def with_ids(rows):
    """
    The rows with a string `id`: their own, else the row number; one that stands in several rows is told in a warning.
    Sounds stay file bytes.

    Raises:
        ValueError: if some rows have no id, or ids are lists or objects.
    """
    from datasets import Value

    from ..encode.sound import undecoded

    rows = undecoded(rows)
    if "id" not in rows.column_names:
        return rows.add_column("id", [str(i) for i in range(len(rows))])
    if rows.features["id"] != Value("string"):
        rows = _with_words(rows)
    ids = rows.select_columns("id").with_format("arrow")[:]["id"]
    if ids.null_count:
        first = ids.is_null().index(True).as_py()
        raise ValueError(
            f"{ids.null_count} of {len(ids)} rows have no value in the column 'id', row {first} the first (from 0). "
            "Give every row one, or leave the column out: then the rows are numbered."
        )
    counts = ids.value_counts()
    if len(counts) < len(ids):
        twice = next(one["values"].as_py() for one in counts if one["counts"].as_py() > 1)
        logger.warning(
            "The column 'id' has %d different values in %d rows; %s, say, stands in several. A request for such an id "
            "takes all of its rows.",
            len(counts),
            len(ids),
            twice,
        )
    return rows


def _with_words(rows):
    """The rows with ids as words; numbers and words may be mixed."""
    from datasets import Value

    if isinstance(rows.features["id"], Value):
        return rows.cast_column("id", Value("string"))
    values = rows.select_columns("id").with_format(None)["id"][:]
    if any(isinstance(value, (list, dict)) for value in values):
        raise ValueError("The column 'id' holds lists or objects; it must hold one word or number a row.")
    words = [None if value is None else str(value) for value in values]
    order = rows.column_names
    return rows.add_column(" id", words).remove_columns("id").rename_column(" id", "id").select_columns(order)
