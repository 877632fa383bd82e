"""Rows with the same content, found by a hash of it: bit by bit, without padding, and by their text as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.checks import raise_problems
from .columns import IMAGE_LIKE, INPUT_COLUMNS, LABELS, column_names
from .given import as_rows
from .read_once import Large, batches, read_once
from .reading import normalised
from .stored import Flat
from .value_digests import column_digests, digest, hashed

# Columns that hold what a row says: where there is one, the columns of numbers beside it are no content.
TEXTS = {
    "text",
    "sentence",
    "sentence1",
    "sentence2",
    "question",
    "answer",
    "prompt",
    "completion",
    "chosen",
    "content",
}
TEXTS |= {
    "document",
    "article",
    "instruction",
    "input",
    "output",
    "response",
    "query",
    "premise",
    "hypothesis",
    "title",
}
TEXTS |= {"utterance", "dialogue", "conversation", "messages", "passage", "context", "summary", "translation", "body"}
TEXTS |= {"review", "message", "story"}
# Columns that say of which class a row is: the same text with another label is the same text.
NOT_CONTENT = {"id", *LABELS, "label_text", "label_name", "class", "category", "intent", "revocable"}


def fingerprints(dataset, columns: Iterable[str]) -> list[bytes]:
    """Content hash of each row over `columns` (16 bytes each), in order."""
    columns = sorted(columns)
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None).select_columns(columns)
        if not any("Image" in str(f) or "Audio" in str(f) for f in dataset.features.values()):
            dataset = dataset.with_format("numpy")
    rows = (dataset[i] for i in range(len(dataset)))
    return [hashed(b"|".join(digest(row[c]) for c in columns)) for row in rows]


# ---- what a row says ------------------------------------------------------------------------------------------------


@dataclass
class Content:
    """
    What each row of a set says, to compare it with the rows of another.

    Args:
        keys: of each row, one or two hashes; rows with one in common are twins.
        texts: of each row, as a person reads it; None: there is no text.
        tokens: of each row, its token ids without padding; None: there are none.
    """

    keys: list[tuple[bytes, ...]]
    texts: list[str] | None
    tokens: list[np.ndarray] | None


def contents(
    sets: Sequence[Any],
    processing_class: Any = None,
    without: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> list[Content]:
    """
    What the rows of each set say, by the columns that all sets have: token ids without padding, pictures and sounds as
    they are stored, and text without case, punctuation and white space. Labels are no content. Nothing is decoded but
    token ids.

    The text is that of the text columns, if one of them has a usual name; else what `processing_class`, a tokenizer,
    reads from the ids.

    Args:
        without: further columns that are no content.
        only: the columns that are content; None: all others.
    """
    sets = [read_once(rows) for rows in sets]
    inputs, others, texts = _read_columns(sets, without, only)
    masked = all("attention_mask" in column_names(rows) for rows in sets)
    return [_content(rows, inputs or others, texts, masked, processing_class) for rows in sets]


def worded_columns(rows: Any, without: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns that [`contents`] takes for tokens and for text; () of pictures and sounds."""
    inputs, _, texts = _read_columns([read_once(rows)], without, None)
    return (*(inputs if inputs == ["input_ids"] else ()), *texts)


def _read_columns(sets: Sequence[Any], without: Iterable[str], only: Iterable[str] | None) -> tuple[list, list, list]:
    """The columns of [`contents`]: the model's inputs, all that are content, those of text."""
    names = [c for c in column_names(sets[0]) if all(c in column_names(rows) for rows in sets[1:])]
    named = set(names) - NOT_CONTENT if only is None else set(only)
    kinds = {c: kind_of(sets[0], c) for c in names if c in named - set(without)}
    inputs = [c for c in INPUT_COLUMNS if c in kinds]
    texts = [c for c, kind in kinds.items() if kind == "text"]
    seen_or_heard = set(inputs) & set(IMAGE_LIKE) or (not inputs and "array" in kinds.values())
    if seen_or_heard or (only is None and not TEXTS & set(texts)):
        texts = []
    if only is None:
        texts = [c for c in texts if c in TEXTS or not _says_whose(sets, c)]
    return inputs, list(kinds), texts


def _content(rows, columns: list[str], texts: list[str], masked: bool, processing_class) -> Content:
    tokens = _tokens(rows, masked, processing_class) if columns == ["input_ids"] else None
    if tokens is not None:
        exact = [hashed(ids.tobytes()) for ids in tokens]
    else:
        exact = _stored(rows, columns) if columns and not set(texts) & set(columns) else None
    read = _read(rows, texts) if texts else _decoded(tokens, processing_class)
    by_text = None if read is None else [hashed(b"text" + normalised(text).encode("utf-8", "replace")) for text in read]
    known = [own for own in (exact, by_text) if own is not None]
    keys = list(zip(*known, strict=True)) if known else [()] * len(rows)
    return Content(keys, read, tokens)


def kind_of(rows: Any, column: str) -> str:
    """ "text", "number" or "array" (also pictures, sounds and nested values): by the type, else by the first row."""
    features = getattr(rows, "features", None)
    if features is not None:
        return _kind_of_feature(features[column])
    value = rows[0].get(column) if len(rows) else None
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (str, dict)):
        return "text"
    if isinstance(value, str):
        return "text"
    return "array" if isinstance(value, (dict, bytes, list, tuple)) or np.ndim(value) else "number"


def _kind_of_feature(feature: Any) -> str:
    if hasattr(feature, "names"):
        return "number"
    if isinstance(feature, (dict, list)):
        inner = list(feature.values() if isinstance(feature, dict) else feature)
        return "text" if all(_kind_of_feature(one) == "text" for one in inner) else "array"
    if hasattr(feature, "feature"):  # a list
        return "text" if _kind_of_feature(feature.feature) == "text" else "array"
    kind = getattr(feature, "dtype", None)
    if not hasattr(feature, "pa_type") or hasattr(feature, "decode_example") or hasattr(feature, "shape"):
        return "array"
    return "text" if "string" in kind else "array" if "binary" in kind else "number"


def _says_whose(sets: Sequence[Any], column: str) -> bool:
    """Whether a column of text beside the usual ones repeats itself, as names of persons and sources do."""
    values = [value for rows in sets for value in _read(rows, [column])]
    return 2 * len(set(values)) <= len(values)


def _tokens(rows: Any, masked: bool, processing_class: Any) -> list[np.ndarray] | None:
    """The token ids of each row that its mask keeps, or that are no padding; None where they are no numbers."""
    found: list[np.ndarray] = []
    pad = None if masked else getattr(processing_class, "pad_token_id", None)
    for _, part in batches(rows, ["input_ids", *(["attention_mask"] if masked else [])]):
        flats = {name: Flat(values) for name, values in part.items() if not isinstance(values, (list, Large))}
        ids = flats.get("input_ids")
        if ids is None or ids.kind != "whole" or ids.depth != 1 or len(ids.missing):
            return None
        values, owner = ids.numbers()
        mask = flats.get("attention_mask")
        if mask is not None and len(mask.values) == len(values) and not len(mask.missing):
            kept = mask.numbers()[0] != 0
            values, owner = values[kept], owner[kept]
        ends = np.cumsum(np.bincount(owner, minlength=ids.n))
        own = np.split(values.astype(np.int64), ends[:-1])
        found += own if pad is None else [_without_edges(row, pad) for row in own]
    return found


def _without_edges(ids: np.ndarray, pad: int) -> np.ndarray:
    inside = np.flatnonzero(ids != pad)
    return ids[inside[0] : inside[-1] + 1] if len(inside) else ids


def _stored(rows: Any, columns: list[str]) -> list[bytes]:
    """Hash of each row over these columns, as they are stored; files of pictures and sounds are not decoded."""
    found: list[bytes] = []
    for _, part in batches(rows, sorted(columns)):
        of_columns = [column_digests(values) for values in part.values()]
        found += [hashed(b"|".join(row)) for row in zip(*of_columns, strict=True)]
    return found or [b""] * len(rows)


def _read(rows: Any, columns: list[str]) -> list[str]:
    """The text of each row: its text columns, one after the other."""
    found: list[str] = []
    for _, part in batches(rows, columns):
        of_columns = [values if isinstance(values, list) else values.to_pylist() for values in part.values()]
        said = zip(*of_columns, strict=True)
        found += ["\n".join("" if value is None else str(value) for value in row) for row in said]
    return found


def _decoded(tokens: list[np.ndarray] | None, processing_class: Any) -> list[str] | None:
    """What a tokenizer reads from token ids; None where there is none, or it does not know them."""
    if tokens is None or not hasattr(processing_class, "batch_decode"):
        return None
    try:
        read = processing_class.batch_decode([ids.tolist() for ids in tokens], skip_special_tokens=True)
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):  # ids that are not this tokenizer's
        return None
    return [text if text.strip() else str(ids.tolist()) for text, ids in zip(read, tokens, strict=True)]


# ---- twins ----------------------------------------------------------------------------------------------------------


def find_duplicates(
    first, second, columns: str | Iterable[str] | None = None, processing_class: Any = None
) -> list[tuple[int, int]]:
    """
    Pairs (i, j) such that row i of `first` says the same as row j of `second`; for each j the first such i.

    Args:
        columns: what content means, bit by bit: the name of a column, or several. Default: the model's inputs
            without padding and labels, and text without case, punctuation and white space; where there are no inputs
            and no text, all columns but ids and labels.
        processing_class: tokenizer that reads the text from token ids, where there are no columns of text.

    Raises:
        ArgumentError: if one of them is no set of rows, or has no such column.
    """
    (first, wrong), (second, more) = as_rows(first, "first"), as_rows(second, "second")
    columns = [columns] if isinstance(columns, str) else columns if columns is None else list(columns)
    if columns is not None and not columns:
        wrong.append("`columns` is empty: rows have no content by no column. Name some, or leave it out.")
    for name, rows in (("first", first), ("second", second)):
        wrong += _no_such_columns(name, rows, columns or ())
    raise_problems(wrong + more)
    if not len(first) or not len(second):
        return []
    if columns is None:
        return twins(*contents([first, second], processing_class))
    return twins(*(Content([(key,) for key in fingerprints(rows, columns)], None, None) for rows in (first, second)))


def twin_groups(content: Content) -> np.ndarray:
    """(n,) the first place of the rows that say the same as a row, also by way of a third; its own where none does."""
    first: dict[bytes, int] = {}
    above = list(range(len(content.keys)))

    def root(i: int) -> int:
        while above[i] != i:
            above[i] = i = above[above[i]]
        return i

    for i, keys in enumerate(content.keys):
        for key in keys:
            one, other = sorted((root(first.setdefault(key, i)), root(i)))
            above[other] = one
    return np.array([root(i) for i in range(len(above))], dtype=np.int64)


def _no_such_columns(name: str, rows: Any, columns: list[str]) -> list[str]:
    """What is wrong with the names of columns, of rows that are there; the problem of one tells what they have."""
    if rows is None or not len(rows):
        return []
    names = column_names(rows)
    there = ", ".join(map(repr, names))
    return [f"`columns` names {c!r}, which `{name}` has not; it has {there}." for c in columns if c not in names]


def twins(first: Content, second: Content) -> list[tuple[int, int]]:
    """[`find_duplicates`], from the contents."""
    seen: dict[bytes, int] = {}
    for i, keys in enumerate(first.keys):
        for key in keys:
            seen.setdefault(key, i)
    found = ((min((seen[key] for key in keys if key in seen), default=None), j) for j, keys in enumerate(second.keys))
    return [(i, j) for i, j in found if i is not None]
