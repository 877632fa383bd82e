"""What a model's memory holds already, and what a training that adds to it must have in common with it."""

from __future__ import annotations

import logging
import os
from dataclasses import fields

import numpy as np

from ..data.columns import first_ids, row_ids
from ..readiness.memory.config import MemoryConfig
from ..utils.adapter_configs import adapter_config_at
from ..utils.checks import Wrong, shown
from .memory_request import MemoryFolder, memory_of
from .memory_sources import MemoryRows, Sources, read_rows
from .same_run import plain

logger = logging.getLogger(__name__)

PUT_THERE = "Put it into that folder; of a model from the hub, into a folder with its files."


def memory_before(model) -> MemoryFolder | None:
    """
    Of a folder or hub id; None where it has no memory that a training has filled.

    Raises:
        ArgumentError: if whose tables it holds cannot be read.
    """
    named = memory_of(model) if isinstance(model, (str, os.PathLike)) else None
    return None if named is None else MemoryFolder(*named, read_rows(named[0], fix=PUT_THERE))


def adding_problems(before: MemoryFolder, args, peft_config, rows, sources: Sources) -> list[str]:
    """
    What is wrong with a training that adds to a memory: each table is to be what a training of all gives, and each id
    of one row.

    Args:
        args: the new training's; values that it does not give become those of the memory's.
    """
    found = _other_arguments(before, args) + _other_memory(before, args, peft_config)
    return found + _taken_ids(before, rows, sources)


def _other_arguments(before: MemoryFolder, args) -> list[str]:
    found = []
    for name, then in before.memory["arguments"].items():
        if name not in args.given:
            setattr(args, name, then)
        elif plain(getattr(args, name)) != then:
            said = f"is {shown(plain(getattr(args, name)))}, and the tables of {before.source} were filled with "
            found.append(Wrong(name, f"{said}{shown(then)}: one memory is of one program. Leave it out."))
    return found


def _other_memory(before: MemoryFolder, args, peft_config) -> list[str]:
    there = adapter_config_at(before.source)
    own = [f.name for f in fields(MemoryConfig) if f.name in MemoryConfig.__annotations__]
    given = args.memory_values() if peft_config is None else {name: getattr(peft_config, name) for name in own}
    found = []
    for name, value in given.items():
        now = getattr(there, name, value)
        counted = name == "layers" and (value is None or min(value) < 0)  # as the model has many
        if not counted and plain(value) != plain(now):
            found.append(
                f"`{name}` of the memory is {shown(now)} in {before.source}, and {shown(value)} is asked for: a memory "
                "that holds tables stays as it is. Leave it out."
            )
    return found


def _taken_ids(before: MemoryFolder, rows, sources: Sources) -> list[str]:
    """Ids that rows of other sources have already: which of the two a request means could not be told."""
    places, every = np.concatenate(sources.places).tolist(), row_ids(rows)
    ids = [every[place] for place in places]
    now = np.repeat([before.rows.digest_of(name) for name in sources.names], list(map(len, sources.places)))
    numbers = before.rows.numbers_of(ids)
    then = np.array(before.rows.sources)[before.rows.source_of[numbers]] if len(before.rows) else now
    taken = [ids[i] for i in np.flatnonzero((numbers >= 0) & (then != now))]
    if not taken:
        return []
    return [
        f"{len(taken)} row(s) have ids that rows of other sources in {before.source} have already "
        f"({first_ids(taken)}): which of them a request means could not be told. Give each row an `id` of its own."
    ]


def warn_of_replaced(before: MemoryFolder | None, rows, sources: Sources) -> None:
    """Tells of tables that are filled anew, and of rows of theirs that are not given again."""
    if before is None:
        return
    more = MemoryRows.of(rows, sources, before.rows.key)
    again = np.flatnonzero(np.isin(before.rows.sources, more.sources))
    if not len(again):
        return
    own = before.rows.ids[np.isin(before.rows.source_of, again)]
    given = {one.tobytes() for one in more.ids}
    logger.warning(
        "%d source(s) have a table already: it is filled anew, from the rows that are given alone. %d of their rows "
        "before are not among these, and what they said goes.",
        len(again), sum(one.tobytes() not in given for one in own)
    )  # fmt: skip


def unknown_tables(before: MemoryFolder | None, store) -> list[str]:
    """That the model has tables of which nothing says whose they are."""
    if before is not None or not len(store.tables):
        return []
    return [
        f"The model has a memory with {len(store.tables)} tables, and nothing says whose they are: none could be "
        "deleted. Pass the folder of its training as the model, with its readiness.json and memory.rows."
    ]
