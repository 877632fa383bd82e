"""What a request to a model with a memory asks for: whose tables go, and whose are filled anew from the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config import UnlearnConfig
from ..data.columns import first_ids
from ..utils.checks import ArgumentError
from . import records
from .engines import decided_by_first
from .memory_sources import MemoryRows, read_rows
from .models import name_of
from .replay_request import ids_of


@dataclass
class MemoryFolder:
    """
    A model with a memory that a training has filled.

    Args:
        source: folder or hub id.
        found: its `readiness.json`.
        rows: whose rows its tables are of.
    """

    source: str
    found: dict
    rows: MemoryRows

    @property
    def memory(self) -> dict:
        """What the record says of the memory."""
        return self.found["memory"]


@dataclass
class MemoryAsked(MemoryFolder):
    """
    Args:
        asked: ids that are asked for.
        numbers: (n,) of their rows.
    """

    asked: list
    numbers: np.ndarray

    @cached_property
    def whole(self) -> list[str]:
        """Digests of the sources all of whose rows are asked for."""
        return [self.rows.sources[i] for i in np.flatnonzero(self._left == 0) if i in self._touched]

    @cached_property
    def parts(self) -> list[str]:
        """Digests of the sources some of whose rows are asked for."""
        return [self.rows.sources[i] for i in np.flatnonzero(self._left > 0) if i in self._touched]

    @cached_property
    def _touched(self) -> set[int]:
        return set(self.rows.source_of[self.numbers].tolist())

    @cached_property
    def _left(self) -> np.ndarray:
        """(sources,) rows of each that are not asked for."""
        left = np.setdiff1d(np.arange(len(self.rows)), self.numbers)
        return np.bincount(self.rows.source_of[left], minlength=len(self.rows.sources))

    @cached_property
    def rest(self) -> MemoryRows:
        """The rows that are left."""
        return self.rows.without(self.numbers)

    @cached_property
    def rest_of_parts(self) -> MemoryRows:
        """The rows that are left of the partly asked sources."""
        parts = set(self.parts)
        others = [i for i, source in enumerate(self.rest.sources) if source not in parts]
        return self.rest.without(np.flatnonzero(np.isin(self.rest.source_of, others)))


def memory_of(model, readiness_from: str = "auto") -> tuple[str, dict] | None:
    """`(folder or hub id, readiness.json)` of a model with a memory; None for another one, or where none is wanted."""
    if readiness_from == "none":
        return None
    source = name_of(model) if readiness_from == "auto" else str(readiness_from)
    try:
        found = records.find_readiness(source)
    except (records.NoAnswer, ValueError):  # a damaged one is told with all other problems
        return None
    return (source, found) if isinstance((found or {}).get("memory"), dict) else None


def has_memory(model, args) -> bool:
    """Whether what a request asks for lies in tables of a memory."""
    if not isinstance(args, UnlearnConfig):
        return False
    return decided_by_first(lambda: memory_of(model, args.readiness_from)) is not None


def look_up(model, asked, readiness_from: str = "auto", salt_file: str | None = None) -> MemoryAsked | None:
    """
    A request; None where the model has no memory.

    Args:
        asked: rows or ids.

    Raises:
        ArgumentError: if its files cannot be read, or if ids are none of its rows'.
    """
    if (named := memory_of(model, readiness_from)) is None:
        return None
    source, found = named
    if found.get("ready") is False:
        raise ArgumentError([f"The training of {source} was stopped before each source had its table: go on with it."])
    rows = read_rows(source, salt_file)
    ids = list({str(one): one for one in ids_of(asked)}.values())
    if not ids:
        raise ArgumentError(["The request names no row."])
    numbers = rows.numbers_of(ids)
    if (numbers < 0).any():
        unknown = [one for one, number in zip(ids, numbers, strict=True) if number < 0]
        raise ArgumentError(
            [
                f"{len(unknown)} of {len(ids)} asked rows (ids {first_ids(unknown)}) are of no source in the memory of "
                f"{source}: they were not trained on, are public, or were deleted before."
            ]
        )
    return MemoryAsked(source, found, rows, ids, numbers)


def place_problems(asked: MemoryAsked, output_dir: str) -> list[str]:
    """What is wrong with the folder of the result."""
    if os.path.realpath(output_dir) != os.path.realpath(asked.source):
        return []
    return [
        "`output_dir` is the folder of the model itself: a kill would leave neither the old model nor the new one. "
        "Give another folder."
    ]


@dataclass
class MemoryAll(MemoryAsked):
    """All that is there, to be filled again: nothing is asked for."""

    @property
    def whole(self) -> list[str]:
        return []

    @property
    def parts(self) -> list[str]:
        return list(self.rows.sources)
