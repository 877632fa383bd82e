"""
How long rows of text may be: the length itself, where nobody says it, and what it cuts.

The default is the 99th percentile of the lengths of the rows that nobody may ask for, rounded up to a multiple of 8,
and at most the model's positions: a length that depended on the rows to forget would tell of them afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .chat import IGNORE
from .columns import name_rows

SHARE = 0.99
STEP = 8
LONGEST_WINDOW = 1024  # of documents, which lose nothing where they are cut; as long as TRL's rows
KNOWN = 10**9  # what a tokenizer says of its longest text is a number beyond it where it knows none


@dataclass(frozen=True)
class Length:
    """
    Args:
        tokens: of a row at most.
        why: "given", "recorded" (with a model), "positions" or "percentile".
    """

    tokens: int
    why: str


def length_for(lengths: np.ndarray, positions: float | None, tokenizer: Any, documents: bool = False) -> Length:
    """
    The default.

    Args:
        lengths: (n,) tokens of the rows that nobody may ask for.
        positions: of the model; None: not known.
    """
    usual = int(np.quantile(lengths, SHARE, method="higher")) if len(lengths) else 1
    usual = STEP * math.ceil(usual / STEP)
    if documents:
        usual = min(usual, LONGEST_WINDOW)
    own = getattr(tokenizer, "model_max_length", None) or math.inf
    most = min(positions or math.inf, own if own < KNOWN else math.inf)
    return Length(int(most), "positions") if most < usual else Length(usual, "percentile")


def lengths_of(rows: Any, column: str = "input_ids") -> np.ndarray:
    """(n,) tokens of each row."""
    import pyarrow.compute as pc

    parts = [pc.list_value_length(part).to_numpy(zero_copy_only=False) for part in _chunks(rows, column)]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def labels_of(rows: Any, most: int | None = None) -> np.ndarray:
    """(n,) labels of each row that are learnt; `most`: of its first so many tokens."""
    found = []
    for part in _chunks(rows, "labels"):
        lengths = np.diff(part.offsets.to_numpy())
        owner = np.repeat(np.arange(len(part)), lengths)
        learnt = part.flatten().to_numpy(zero_copy_only=False) != IGNORE
        if most is not None:
            place = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
            learnt &= place < most
        found.append(np.bincount(owner[learnt], minlength=len(part)))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _chunks(rows: Any, column: str) -> Iterator:
    """A column of lists in its Arrow arrays, of the rows in their order."""
    for part in rows.select_columns(column).with_format("arrow").iter(1000):
        yield from part[column].chunks


def cut(rows: Any, tokens: int) -> Any:
    """The rows without the tokens, labels and mask beyond so many."""
    import pyarrow.compute as pc

    def shortened(table: Any) -> Any:
        for name in ("input_ids", "attention_mask", "labels"):
            place = table.column_names.index(name)
            table = table.set_column(place, name, pc.list_slice(table[name], 0, tokens))
        return table

    if (lengths_of(rows) <= tokens).all():
        return rows
    kind = rows.format
    done = rows.with_format("arrow").map(shortened, batched=True, features=rows.features, desc="Cutting")
    return done.with_format(kind["type"])


def check_labels_left(parts: Mapping[str, Any], length: Length) -> None:
    """
    Raises:
        ValueError: if a row that is cut loses all that is learnt; it names the rows.
    """
    lost, names, longest = 0, [], 0
    for rows in parts.values():
        own = np.flatnonzero(labels_of(rows, length.tokens) == 0)
        if len(own):
            lost, longest = lost + len(own), max(longest, int(lengths_of(rows)[own].max()))
            names.append(name_rows(rows, own.tolist()))
    if lost:
        raise ValueError(
            f"{lost} rows have no label left after truncation to max_length={length.tokens}{_by(length)}: "
            f"{'; '.join(names)}. Fix: a larger `max_length` (the longest of them has {longest} tokens), or leave "
            "these rows out."
        )


def cut_sentence(parts: Iterable[Any], length: Length, with_labels: bool = True) -> str:
    """What a length cuts of rows that are whole as yet."""
    rows = cut_rows = labels = lost = 0
    for part in parts:
        lengths = lengths_of(part)
        rows, cut_rows = rows + len(part), cut_rows + int((lengths > length.tokens).sum())
        if with_labels:
            whole = int(labels_of(part).sum())
            labels, lost = labels + whole, lost + whole - int(labels_of(part, length.tokens).sum())
    head = f"at most {length.tokens} tokens a row{_by(length)}"
    if not cut_rows:
        return f"{head}: no row is cut"
    told = f"{head}: {cut_rows:,} of {rows:,} rows {'is' if cut_rows == 1 else 'are'} cut"
    return f"{told}, and {lost:,} of {labels:,} labels go" if with_labels else told


def windows_sentence(documents: int, made: int, length: Length) -> str:
    """What a length makes of documents."""
    return f"at most {length.tokens} tokens a window{_by(length)}: {documents:,} documents in {made:,} windows"


def _by(length: Length) -> str:
    return {
        "recorded": " (as the model was trained)",
        "positions": " (all that the model takes)",
        "percentile": " (the 99th percentile)",
    }.get(length.why, "")
