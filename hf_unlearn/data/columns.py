"""Column names, and how columns and ids are read from any kind of data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..utils.checks import plain
from .gather import arrays_at

IMAGE_LIKE = ("pixel_values", "input_values", "input_features")  # arrays of one shape in all rows
INPUT_COLUMNS = ("input_ids", *IMAGE_LIKE, "labels")
LABELS = ("labels", "label")  # the names that labels go by
FLAG = "is_forget"  # (B,) bool: forget rows of a paired batch, revocable rows of a training batch
FORGET_INDEX = "forget_index"  # (B,) int64: place of a forget row in the forget set, -1 for retain rows
RETAIN_INDEX = "retain_index"  # (B,) int64: place of a retain row in the retain set, -1 for forget rows
ALTERNATES = "alternates"  # a batch in the batch: the row with another answer that stands beside each forget row
ROW_KEYS = (FLAG, FORGET_INDEX, RETAIN_INDEX, ALTERNATES)  # of a paired batch; no model takes them
REFERENCE_COLUMN = "reference_nll"  # (N,) the sum of a forget row's losses before the request, in nats
FIRST_IDS = 5  # how many ids an error message names


def first_ids(ids: Sequence, limit: int = FIRST_IDS) -> str:
    """The first ids for an error message, and how many there are where these are not all."""
    shown = ", ".join(str(one) if str(one).strip() else repr(str(one)) for one in ids[:limit])
    return shown + (f", … ({len(ids)} in all)" if len(ids) > limit else "")


def row_ids(dataset, id_column: str = "id") -> list:
    """The `id` column, or the row numbers where there is none."""
    return column_values(dataset, id_column) if id_column in column_names(dataset) else list(range(len(dataset)))


class Ids:
    """The ids of a `datasets.Dataset`, or of some of its rows (places), read where they are asked for."""

    def __init__(self, dataset, places: np.ndarray | None = None):
        self.dataset, self.places = dataset, places

    def of(self, places: np.ndarray) -> Ids:
        return Ids(self.dataset, places if self.places is None else self.places[places])

    def at(self, places: Sequence[int]) -> list:
        own = np.array(places, np.int64)
        own = own if self.places is None else self.places[own]
        if "id" not in column_names(self.dataset) or not len(own):
            return own.tolist()
        return arrays_at(self.dataset, ["id"], own)["id"].to_pylist()

    def first(self, places: Sequence[int]) -> str:
        """[`first_ids`] of these."""
        return first_ids(self.at(places[:FIRST_IDS]) + [None] * (len(places) - FIRST_IDS))


def column_names(dataset) -> list[str]:
    """Of a `datasets.Dataset`, or the keys of the first row of a list of dicts; [] where rows are no dicts."""
    names = getattr(dataset, "column_names", None)
    if names is not None:
        return list(names)
    return list(dataset[0]) if len(dataset) and isinstance(dataset[0], Mapping) else []


def column_values(dataset, name: str) -> list:
    """A column as it is stored, whatever format or transform is set on the rows; also of a list of dicts."""
    if hasattr(dataset, "with_format"):
        if _is_plain(dataset, name):
            return arrays_at(dataset, [name], slice(None))[name].to_pylist()  # a format set anew copies the data set
        return list(dataset.with_format(None)[name][:])  # iterated, a lazy column would make a dict of each row
    if hasattr(dataset, "values") and hasattr(dataset, "is_large"):  # a `ReadOnce`
        return dataset.values(name)
    return [plain(dataset[i][name]) for i in range(len(dataset))]  # a tensor () holds one number


def _is_plain(dataset, name: str) -> bool:
    """Whether a column of a `datasets.Dataset` holds texts, numbers or times, which are stored as they are read."""
    from datasets import ClassLabel, Value

    features = getattr(getattr(dataset, "info", None), "features", None) or {}
    return isinstance(features.get(name), (ClassLabel, Value))


def hidden_column(dataset, name: str) -> list[str]:
    """What is wrong where the rows are read without a column that the data set has."""
    row = dataset[0]
    if not isinstance(row, Mapping) or name in row:
        return []
    return [
        f"rows are read without their column {name!r}: `with_format(columns=…)` leaves it out, or a transform does. "
        "Name it there, too."
    ]


def hub_id(dataset) -> str | None:
    """Name on the hub of the data set that rows were loaded from, as their `info` tells it; None where it does not."""
    files = getattr(getattr(dataset, "info", None), "download_checksums", None) or {}
    names = {match[1] for file in files if (match := re.match(r"hf://datasets/([^@]+)@", str(file)))}
    return names.pop() if len(names) == 1 else None


def has_tokens(rows) -> bool:
    """Whether rows are those of a language model: `labels` is a list of tokens. False where that cannot be told."""
    try:
        labels = rows[0]["labels"]
    except (IndexError, KeyError, TypeError):
        return False
    kind = np.asarray(labels)
    return kind.ndim == 1 and kind.dtype.kind in "iu"
