"""What rows say: tokens without padding, and texts; hashed in one pass, and read again where they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .gather import chunks
from .keys import Hash, as_words, fast, of_slices, repeated
from .letters import SAMPLE, Letters, letters_of
from .read_once import BATCH_ROWS, Large, batches, values_at
from .reading import normalised
from .remembered import remembered
from .stored import Flat

MOST_DECODED = 20_000  # rows of which all are decoded


class _Places:
    """Some of the rows, by their places."""

    sizes: np.ndarray
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def of(self, places: np.ndarray) -> Any:
        """The same of some of these rows."""
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other.sizes = self.sizes[places]
        other.places = places if self.places is None else self.places[places]
        return other

    def in_set(self, places: np.ndarray) -> np.ndarray:
        places = np.asarray(places, np.int64)
        return places if self.places is None else self.places[places]


class Tokens(_Places):
    """
    Token ids of rows without padding.

    Attributes:
        sizes: (n,) how many each row has.
    """

    def __init__(self, rows: Any, masked: bool, pad: int | None, sizes: np.ndarray):
        self.rows, self.masked, self.pad, self.sizes = rows, masked, pad, sizes

    def at(self, places: np.ndarray) -> list[np.ndarray]:
        """(T,) int64 of each of these rows, which are in ascending order."""
        found = []
        for part in values_at(self.rows, _columns(self.masked), self.in_set(places)):
            values, starts, ends = _unpadded(part, self.pad)
            found += [values[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return found


class Texts(_Places):
    """
    Texts of rows, from their columns or from their tokens.

    Attributes:
        sizes: (n,) characters of each.
    """

    def __init__(self, rows: Any, columns: list[str], sizes: np.ndarray, tokens: Tokens | None = None, reader=None):
        self.rows, self.columns, self.sizes, self.tokens, self.reader = rows, columns, sizes, tokens, reader

    def at(self, places: np.ndarray) -> list[str]:
        """Of these rows, which are in ascending order."""
        if self.tokens is not None:
            return decoded(self.tokens.at(self.in_set(places)), self.reader) or []
        return [text for part in values_at(self.rows, self.columns, self.in_set(places)) for text in _texts(part)]


def texts_of(rows: Any, columns: list[str]) -> Iterator[list[str]]:
    """The text of each row, some rows at a time: its text columns, one after the other."""
    for _, part in batches(rows, columns):
        yield _texts(part)


def column_texts(rows: Any, columns: list[str], hash_of: Hash) -> tuple[Texts, np.ndarray]:
    """What the rows say by their columns of text, and (n, 2) uint64 its hashes."""

    def made() -> tuple[np.ndarray, np.ndarray]:
        sizes, found = [], []
        for texts in texts_of(rows, columns):
            sizes.append(np.fromiter(map(len, texts), np.int32, len(texts)))
            found.append(text_keys(texts, hash_of))
        return _joined(sizes, (0,), np.int32), _joined(found, (0, 2), np.uint64)

    sizes, found = remembered(rows, ("texts", tuple(columns), hash_of), made)
    return Texts(rows, columns, sizes), found


def text_keys(texts: list[str], hash_of: Hash) -> np.ndarray:
    """(n, 2) uint64: hashes of texts as they are compared."""
    return as_words([hash_of(b"text" + normalised(text).encode("utf-8", "replace")) for text in texts])


def row_tokens(rows: Any, masked: bool, pad: int | None, hash_of: Hash) -> tuple[Tokens, np.ndarray] | None:
    """
    `(the token ids of each row that its mask keeps, or that are no padding, (n, 2) uint64 their hashes)`; None where
    they are no lists of numbers.
    """

    def made() -> tuple[np.ndarray, np.ndarray] | None:
        sizes, found = [], []
        for _, part in batches(rows, _columns(masked)):
            own = _unpadded(part, pad)
            if own is None:
                return None
            values, starts, ends = own
            found.append(of_slices(values.view(np.uint8).data, 8 * starts, 8 * ends, hash_of))
            sizes.append((ends - starts).astype(np.int32))
        return _joined(sizes, (0,), np.int32), _joined(found, (0, 2), np.uint64)

    found = remembered(rows, ("tokens", masked, pad, hash_of), made)
    return found and (Tokens(rows, masked, pad, found[0]), found[1])


def token_texts(sets: list[Tokens], reader: Any, hash_of: Hash) -> list[tuple[Texts, np.ndarray] | None]:
    """
    What a tokenizer reads from the tokens of each set, and (n, 2) uint64 its hashes, which are equal where two rows of
    any of the sets say the same; None of a set whose tokens it does not know. Of many rows those alone are decoded that
    may say what another one says ([`hf_unlearn.data.letters`]).
    """
    letters = None
    if hash_of is fast and sum(map(len, sets)) > MOST_DECODED:
        places = [np.linspace(0, len(own) - 1, min(len(own), SAMPLE)).astype(int) for own in sets]
        letters = letters_of(reader, [ids for own, some in zip(sets, places, strict=True) for ids in own.at(some)])
    if letters is None:
        return [_all_decoded(own, reader, hash_of) for own in sets]
    read = [_letters_of_set(own, reader, letters) for own in sets]
    there = [hashes for hashes, _ in read if hashes is not None]
    twice = repeated(np.concatenate(there))
    found: list[tuple[Texts, np.ndarray] | None] = []
    start = 0
    for own, (hashes, sizes) in zip(sets, read, strict=True):
        if hashes is None:
            found.append(None)
            continue
        keys = np.stack([hashes, ~hashes], axis=1)  # of rows that say what no other one says
        for places in chunks(np.flatnonzero(twice[start : start + len(own)]), BATCH_ROWS):
            keys[places] = text_keys(decoded(own.at(places), reader) or [], hash_of)
        start += len(own)
        found.append((Texts(own.rows, [], sizes, own, reader), keys))
    return found


def _letters_of_set(tokens: Tokens, reader: Any, letters: Letters) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(n,) hashes of the letters of each row, (n,) its characters; None, None where the reader does not know a row."""
    hashes, sizes = [], []
    for places in chunks(np.arange(len(tokens)), BATCH_ROWS):
        ids = tokens.at(places)
        values = np.concatenate(ids)
        own, characters, odd = letters.of_tokens(values, np.fromiter(map(len, ids), np.int64, len(ids)))
        if odd.any():
            texts = decoded([ids[i] for i in np.flatnonzero(odd)], reader)
            if texts is None:
                return None, None
            own[odd], characters[odd] = letters.of_texts(texts), list(map(len, texts))
        hashes.append(own)
        sizes.append(characters.astype(np.int32))
    return np.concatenate(hashes), np.concatenate(sizes)


def _all_decoded(tokens: Tokens, reader: Any, hash_of: Hash) -> tuple[Texts, np.ndarray] | None:
    lengths, said = [], []
    for places in chunks(np.arange(len(tokens)), BATCH_ROWS):
        texts = decoded(tokens.at(places), reader)
        if texts is None:
            return None
        lengths.append(np.fromiter(map(len, texts), np.int32, len(texts)))
        said.append(text_keys(texts, hash_of))
    texts = Texts(tokens.rows, [], _joined(lengths, (0,), np.int32), tokens, reader)
    return texts, _joined(said, (0, 2), np.uint64)


def decoded(tokens: list[np.ndarray], reader: Any) -> list[str] | None:
    """What a tokenizer reads from token ids; None where it does not know them."""
    try:
        read = reader.batch_decode([ids.tolist() for ids in tokens], skip_special_tokens=True)
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):  # ids that are not this tokenizer's
        return None
    return [text if text.strip() else str(ids.tolist()) for text, ids in zip(read, tokens, strict=True)]


def _columns(masked: bool) -> list[str]:
    return ["input_ids", *(["attention_mask"] if masked else [])]


def _texts(part: dict[str, Any]) -> list[str]:
    of_columns = [values if isinstance(values, list) else values.to_pylist() for values in part.values()]
    said = zip(*of_columns, strict=True)
    return ["\n".join(map(_worded, row)) for row in said]


def _worded(value: Any) -> str:
    """A value of a column of text; of a chat what is said in it, turn by turn."""
    if isinstance(value, list):
        return "\n".join(map(_worded, value))
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return value["content"]
    return "" if value is None else str(value)


def _unpadded(part: dict[str, Any], pad: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`(values (M,) int64, start (n,) and end (n,) of each row among them)`; None where they are no lists of ids."""
    flats = {name: Flat(values) for name, values in part.items() if not isinstance(values, (list, Large))}
    ids = flats.get("input_ids")
    if ids is None or ids.kind != "whole" or ids.depth != 1 or len(ids.missing):
        return None
    values, owner = ids.numbers()
    mask, lengths = flats.get("attention_mask"), ids.lengths
    if mask is not None and len(mask.values) == len(values) and not len(mask.missing):
        kept = mask.numbers()[0] != 0
        if not kept.all():
            values, lengths = values[kept], np.bincount(owner[kept], minlength=ids.n)
    values = np.ascontiguousarray(values, np.int64)
    ends = np.cumsum(lengths)
    return (values, *_without_edges(values, ends - lengths, ends, pad))


def _without_edges(values: np.ndarray, starts: np.ndarray, ends: np.ndarray, pad: int | None) -> tuple:
    """Start and end of each row without padding at its edges; a row of padding alone stays whole."""
    inside = None if pad is None else np.flatnonzero(values != pad)
    if inside is None or len(inside) in (0, len(values)):
        return starts, ends
    low, high = np.searchsorted(inside, starts), np.searchsorted(inside, ends)
    some = high > low
    first, last = inside[np.minimum(low, len(inside) - 1)], inside[high - 1] + 1
    return np.where(some, first, starts), np.where(some, last, ends)


def _joined(parts: list[np.ndarray], empty: tuple[int, ...], kind: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(empty, kind)
