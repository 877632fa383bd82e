"""Rows with the same content, found by a hash of it: bit by bit, without padding, and by their text as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.checks import raise_problems
from .columns import IMAGE_LIKE, INPUT_COLUMNS, LABELS, column_names
from .given import as_rows
from .keys import Hash, as_bytes, as_words, distinct, fast, repeated, rows_with, short
from .read_once import batches, read_once
from .said import Texts, Tokens, column_texts, row_tokens, texts_of, token_texts
from .value_digests import column_digests, digest, hashed, number_contents

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
    if not hasattr(dataset, "with_format") or not columns:
        rows = (dataset[i] for i in range(len(dataset)))
        return [hashed(b"|".join(digest(row[c]) for c in columns)) for row in rows]
    plain = dataset.with_format(None).select_columns(columns)
    if not any("Image" in str(f) or "Audio" in str(f) for f in plain.features.values()):
        plain = plain.with_format("numpy")
    found: list[bytes] = []
    for start, part in batches(dataset, columns):
        of_columns = []
        for name, values in part.items():
            own = number_contents(values)
            if own is None:  # text, files, nested values: as Python has them
                rows = plain.select_columns([name])
                own = [digest(rows[i][name]) for i in range(start, start + len(values))]
            of_columns.append(own)
        found += [hashed(b"|".join(row)) for row in zip(*of_columns, strict=True)]
    return found


# ---- what a row says ------------------------------------------------------------------------------------------------


@dataclass
class Content:
    """
    What each row of a set says, to compare it with the rows of another.

    Args:
        keys: (n, k, 2) uint64, of each row up to two hashes of 16 bytes; rows with one in common are twins.
        texts: of each row, as a person reads it; None: there is no text.
        tokens: of each row, its token ids without padding; None: there are none.
    """

    keys: np.ndarray
    texts: Texts | None = None
    tokens: Tokens | None = None

    def at(self, places: np.ndarray) -> Content:
        """Of some rows."""
        texts, tokens = (own and own.of(places) for own in (self.texts, self.tokens))
        return Content(self.keys[places], texts, tokens)


def contents(
    sets: Sequence[Any],
    processing_class: Any = None,
    without: Iterable[str] = (),
    only: Iterable[str] | None = None,
    hash_of: Hash = fast,
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
        hash_of: makes the keys.
    """
    sets = [read_once(rows) for rows in sets]
    inputs, others, texts = _read_columns(sets, without, only)
    masked = all("attention_mask" in column_names(rows) for rows in sets)
    pad = None if masked else getattr(processing_class, "pad_token_id", None)
    found = [_content(rows, inputs or others, texts, masked, pad, hash_of) for rows in sets]
    if not texts and hasattr(processing_class, "batch_decode"):
        with_tokens = [own for own in found if own.tokens is not None]
        read = token_texts([own.tokens for own in with_tokens], processing_class, hash_of)
        for own, said in zip(with_tokens, read, strict=True):
            if said is not None:
                own.texts, own.keys = said[0], np.concatenate([own.keys, said[1][:, None]], axis=1)
    return found


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


def _content(
    rows: Any, columns: list[str], texts: list[str], masked: bool, pad: int | None, hash_of: Hash
) -> Content:
    """What the rows say by their columns alone."""
    read, by_text = column_texts(rows, texts, hash_of) if texts else (None, None)
    found = row_tokens(rows, masked, pad, hash_of) if columns == ["input_ids"] else None
    tokens, exact = found or (None, None)
    if tokens is None:
        exact = _stored(rows, columns) if columns and not set(texts) & set(columns) else None
    known = [own for own in (exact, by_text) if own is not None]
    keys = np.stack(known, axis=1) if known else np.zeros((len(rows), 0, 2), np.uint64)
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
    found = np.concatenate([short(texts) for rows in sets for texts in texts_of(rows, [column])] or [np.zeros(0)])
    return 2 * distinct(found) <= len(found)


def _stored(rows: Any, columns: list[str]) -> np.ndarray:
    """
    (n, 2) uint64: hash of each row over these columns, as they are stored; no file of a picture or sound is decoded.
    """
    found = []
    for _, part in batches(rows, sorted(columns)):
        of_columns = [column_digests(values) for values in part.values()]
        found.append(as_words([fast(b"|".join(row)) for row in zip(*of_columns, strict=True)]))
    return np.concatenate(found) if found else np.zeros((len(rows), 2), np.uint64)


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
    return twins(*(Content(as_words(fingerprints(rows, columns))[:, None]) for rows in (first, second)))


def twin_groups(content: Content) -> np.ndarray:
    """(n,) the first place of the rows that say the same as a row, also by way of a third; its own where none does."""
    first: dict[bytes, int] = {}
    above = np.arange(len(content.keys))
    halves = content.keys[..., 0]
    places = np.flatnonzero(repeated(halves.reshape(-1)).reshape(halves.shape).any(axis=1))

    def root(i: int) -> int:
        while above[i] != i:
            above[i] = i = above[above[i]]
        return i

    for i, keys in zip(places.tolist(), as_bytes(content.keys[places]), strict=True):
        for key in keys:
            one, other = sorted((root(first.setdefault(key, i)), root(i)))
            above[other] = one
    above[places] = [root(i) for i in places.tolist()]
    return above


def _no_such_columns(name: str, rows: Any, columns: list[str]) -> list[str]:
    """What is wrong with the names of columns, of rows that are there; the problem of one tells what they have."""
    if rows is None or not len(rows):
        return []
    names = column_names(rows)
    there = ", ".join(map(repr, names))
    return [f"`columns` names {c!r}, which `{name}` has not; it has {there}." for c in columns if c not in names]


def twins(first: Content, second: Content) -> list[tuple[int, int]]:
    """[`find_duplicates`], from the contents."""
    places = [np.flatnonzero(rows_with(*pair)) for pair in ((first.keys, second.keys), (second.keys, first.keys))]
    keys = [as_bytes(one.keys[own]) for one, own in zip((first, second), places, strict=True)]
    seen: dict[bytes, int] = {}
    for i, own in zip(places[0].tolist(), keys[0], strict=True):
        for key in own:
            seen.setdefault(key, i)
    pairs = zip(places[1].tolist(), keys[1], strict=True)
    found = ((min((seen[key] for key in own if key in seen), default=None), j) for j, own in pairs)
    return [(i, j) for i, j in found if i is not None]
