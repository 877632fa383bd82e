"""Data sets known by name: the embedded ones, and those with rules of their own that are read from local files."""

from __future__ import annotations

from pathlib import Path

from .packed import plain_name

EMBEDDED = ("people", "digits")
FILES_OF = {  # data set -> what `data_files` should name
    "tofu": "path/to/tofu/full.jsonl",
    "banking77": "path/to/banking77 (train.csv and test.csv)",
    "cifar10": "path/to/cifar10 (train-*.parquet and test-*.parquet)",
    "fsdd": "path/to/fsdd/recordings.parquet",
}
ONLY_FILE = {"tofu": "full.jsonl"}  # of a folder, this one: it also holds files of other words for some of the rows
TOFU_ROWS_PER_AUTHOR = 20
CIFAR10_LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def by_its_rules(dataset_name: str, rows, files):
    """
    The rows with what a data set of this name is known to mean: TOFU's authors, ids of Banking77, classes of CIFAR-10.

    Raises:
        ValueError: TOFU rows that are not blocks of 20.
    """
    if dataset_name == "tofu":
        return _tofu_authors(rows, files)
    if dataset_name == "banking77" and "id" not in rows.column_names:  # train and test must not share ids
        return rows.add_column("id", [f"{Path(plain_name(files[0].name)).stem}-{i}" for i in range(len(rows))])
    if dataset_name == "cifar10" and "label" in rows.column_names:
        from datasets import ClassLabel

        if not isinstance(rows.features["label"], ClassLabel):
            return rows.cast_column("label", ClassLabel(names=CIFAR10_LABELS))
    return rows


def _tofu_authors(rows, files):
    if not {"question", "answer"} <= set(rows.column_names) or len(rows) % TOFU_ROWS_PER_AUTHOR:
        raise ValueError(
            f"{[p.name for p in files]} is not TOFU by author: it must have the columns question and answer in "
            f"blocks of {TOFU_ROWS_PER_AUTHOR} rows an author; got {len(rows)} rows with {rows.column_names}. "
            "Fix: let `data_files` name path/to/tofu/full.jsonl."
        )
    block = TOFU_ROWS_PER_AUTHOR
    rows = rows.remove_columns([c for c in ("id", "author") if c in rows.column_names])
    rows = rows.add_column("id", [f"a{i // block:03d}-{i % block:02d}" for i in range(len(rows))])
    return rows.add_column("author", [i // block for i in range(len(rows))])
