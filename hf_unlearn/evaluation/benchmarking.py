"""Benchmarks in an evaluation: read before a model is loaded, run on each model, measured beside the retrained one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..utils.checks import problems_of
from .attacks.base import Seen
from .benchmarks.base import Benchmark, Examined, Found
from .benchmarks.registry import BENCHMARKS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A benchmark that is asked for, its options and its rows; `where` they are from, for the card."""

    benchmark: Benchmark
    options: Any
    rows: Any
    where: str | None


def asked_for(benchmarks: Any, options: Any, processing_class: Any) -> tuple[dict[str, Asked], list[str]]:
    """
    The benchmarks of [`evaluate`]'s arguments by name, read and checked; and what is wrong with them.

    Args:
        processing_class: the tokenizer that they need.
    """
    for name, value in (("benchmarks", benchmarks), ("benchmark_options", options)):
        if value is not None and not isinstance(value, Mapping):
            known = ", ".join(BENCHMARKS)
            return {}, [f"`{name}` is {value!r}: expected a dict, with keys among {known}."]
    benchmarks, options = dict(benchmarks or {}), dict(options or {})
    problems = [
        f"`{argument}` names {name!r}: expected some of {', '.join(BENCHMARKS)}."
        for argument, names in (("benchmarks", benchmarks), ("benchmark_options", options))
        for name in names
        if name not in BENCHMARKS
    ]
    problems += [
        f"`benchmark_options` are for {name}, which `benchmarks` does not name."
        for name in options
        if name in BENCHMARKS and name not in benchmarks
    ]
    if benchmarks and not hasattr(getattr(processing_class, "tokenizer", processing_class), "decode"):
        problems.append("`benchmarks` are of texts: give the tokenizer as `processing_class`.")
    found = {}
    for name in (name for name in BENCHMARKS if name in benchmarks):
        try:
            own = BENCHMARKS[name].options_of(options.get(name) or {})
            found[name] = Asked(
                BENCHMARKS[name], own, BENCHMARKS[name].read(benchmarks[name], own), _said(benchmarks[name])
            )
        except (ValueError, OSError) as error:
            problems += problems_of(error)
    return found, problems


def _said(where: Any) -> str | None:
    """Where rows are from, without the folders above; None for rows that were handed over."""
    if isinstance(where, (list, tuple)):
        places = [_said(one) for one in where]
        return ", ".join(places) if places and all(places) else None
    if not isinstance(where, (str, Path)):
        return None
    return Path(where).name if Path(where).expanduser().exists() else str(where)


def run(asked: Asked, role: str, seen: Seen, examined: Examined) -> None:
    """
    Adds what a benchmark finds of the model of a role to what was seen of it.

    Raises:
        ValueError: what the benchmark raises, with its name and the role.
    """
    name = asked.benchmark.name
    try:
        results = asked.benchmark.run(examined, asked.rows, asked.options)
    except ValueError as error:
        raise ValueError(f'benchmark {name!r}, model "{role}": {error}') from error
    seen.benchmarks[name] = results
    seen.generations |= {f"{name}_{part}": table for part, table in results.generations.items()}
    said = {"from": asked.where, "options": asdict(asked.options), "parts": results.parts}
    seen.details.setdefault("benchmarks", {})[name] = said
    if cut := {part: own["cut"] for part, own in results.parts.items() if own.get("cut")}:
        of = ", ".join(f"{count} of {results.parts[part]['rows']} in {part or name}" for part, count in cut.items())
        logger.warning('%s, model "%s": rows too long for the model were cut: %s.', asked.benchmark.title, role, of)


def measures_of(asked: Iterable[Asked], seen: Seen, retrained: Seen | None, seed: int, resamples: int) -> Found:
    """What the benchmarks found of a model as measures by name; beside the retrained one, where that is another."""
    found: Found = {}
    for one in asked:
        mine = seen.benchmarks.get(one.benchmark.name)
        if mine is not None:
            theirs = None if retrained in (None, seen) else retrained.benchmarks.get(one.benchmark.name)
            found |= one.benchmark.measures(mine, theirs, one.options, seed, resamples)
    return found


def warn_of_tables(asked: Mapping[str, Asked], given: Iterable[str]) -> None:
    """Says for which roles no benchmark is run, since only their saved tables are there."""
    if asked and (roles := list(given)):
        names, of = ", ".join(asked), ", ".join(map(repr, roles))
        logger.warning(
            "No benchmark (%s) is run on %s: it needs the model, and there are saved tables alone.", names, of
        )
