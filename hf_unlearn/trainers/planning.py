"""What a request would cost, by every way that there is, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import UnlearnConfig
from ..memory.table import bytes_as_text
from ..report.words.numbers import number
from ..unlearning import schedule
from ..utils.aligned import aligned
from ..utils.checks import ArgumentError, raise_problems
from . import hub_snapshots, memory_request
from .records import APPROXIMATE, EXACT
from .replay_plan import ReplayPlan
from .replay_request import ReplayRequest, look_up

REPLAY, OBJECTIVE, BOTH, RETRAIN = "replay", "objective", "objective, then replay", "retrain"
DROP = "drop the table"


@dataclass(frozen=True)
class Option:
    """
    One way to serve a request.

    Args:
        way: "replay", "objective", "objective, then replay", "drop the table" or "retrain".
        guarantee: "exact" or "approximate".
        row_passes: forward and backward of one row; for an objective at most.
        share_of_retraining: of the row passes of a training without the rows.
        minutes: by the speed of the training; None where that is not known.
        storage: bytes that the request needs beside the model; what it reads is there already.
        possible, why_not: whether it can be done with what is at hand.
    """

    way: str
    guarantee: str
    row_passes: int
    share_of_retraining: float
    minutes: float | None
    storage: int
    possible: bool = True
    why_not: str | None = None


class Options(tuple):
    """The options of a request, replay first, retraining last; prints itself as a table."""

    beside: tuple[str, ...] = ()  # what else to know

    def __str__(self) -> str:
        head = ("way", "guarantee", "row passes", "of retraining", "minutes", "disk", "possible")
        rows = [
            (
                o.way, o.guarantee, f"{o.row_passes:,}", f"{o.share_of_retraining:.3f}",
                "–" if o.minutes is None else number(o.minutes), bytes_as_text(o.storage), ("no", "yes")[o.possible],
            )
            for o in self
        ]  # fmt: skip
        return "\n".join([aligned([head, *rows], left=(0, 1, 6)), "", *self.notes()])

    def notes(self) -> list[str]:
        """What to know beside the numbers, in sentences."""
        reasons = dict.fromkeys(o.why_not for o in self if not o.possible)
        ways = [" and ".join(f"{o.way!r}" for o in self if o.why_not == why) for why in reasons]
        notes = [f"{names} cannot be done now: {why}" for names, why in zip(ways, reasons, strict=True)]
        notes += self.beside
        if any(o.way in (OBJECTIVE, BOTH) for o in self):
            notes.append("An objective ends as soon as the rows are forgotten: its figures are the most it takes.")
        if any(o.minutes is None for o in self):
            notes.append("Minutes are not known: the training has not ended, or did not write down its speed.")
        exact = [o for o in self if o.possible and o.guarantee == EXACT]
        return [*notes, f"Cheapest way that is exact: {min(exact, key=lambda o: o.row_passes).way}."]

    def best(self) -> Option:
        """The first one that can be done."""
        return next(option for option in self if option.possible)


def plan(readiness: str, ids: Iterable, salt_file: str | None = None, snapshots: str | None = None) -> Options:
    """
    Every way to serve a request, with its guarantee, its cost, and whether it can be done with what is at hand.

    Args:
        readiness: folder or hub id of a model trained with `ReadyConfig(readiness="replay")` or "memory", or of a
            request's result.
        ids: of the rows that are asked for, or the rows themselves.
        salt_file: the owner's salt, where it is not in the folder.
        snapshots: folder or private repository (`hf://NAMESPACE/NAME`) of the snapshots, where they are not where the
            training left them.

    Raises:
        ArgumentError: if there is no plan, or if ids are not of its rows.
    """
    if (asked := memory_request.look_up(readiness, ids, "auto", salt_file)) is not None:
        return _of_a_memory(asked)
    request = look_up(readiness, ids, None, salt_file, snapshots)
    if request is None:
        raise ArgumentError(
            [
                f'{readiness} was trained neither with `readiness="replay"` nor with "memory": what a request costs is '
                "known once it has run."
            ]
        )
    made, order = request.plan, request.plan.order
    if len(request.numbers) < max(1, len(request.asked)):  # no row, or unknown ones
        raise_problems(request.problems)
    whole, seconds = made.passes(0, request.holes), _seconds_a_pass(request.found)

    def option(way: str, guarantee: str, passes: float, storage: int = 0, why: str | None = None) -> Option:
        minutes = None if seconds is None else passes * seconds / 60
        return Option(way, guarantee, round(passes), passes / whole, minutes, storage, why is None, why)

    objective = _objective_passes(made, np.count_nonzero(made.deleted[request.numbers] == 0))
    by_steps = option(OBJECTIVE, APPROXIMATE, objective)
    retrain = option(RETRAIN, EXACT, whole)
    if (request.new < order.stable).any():
        return Options([option(REPLAY, EXACT, whole, why=" ".join(request.problems)), by_steps, retrain])
    why = " ".join(request.problems) or request.snapshot_problem()
    passes = made.passes(request.border, request.holes)
    anew = {int(border) for border in order.borders if request.border < border < order.steps}
    storage = len(anew) * _bytes_of(request)  # one is as large as another
    both = option(BOTH, EXACT, passes + objective, storage, why)
    options = Options([option(REPLAY, EXACT, passes, storage, why), both, by_steps, retrain])
    options.beside = tuple(_beside(request, not why))
    return options


def _of_a_memory(asked: memory_request.MemoryAsked) -> Options:
    """Of a model with a memory: its tables are dropped, those of partly asked sources filled anew."""
    found = asked.memory
    epochs, cost = found["arguments"]["num_train_epochs"], asked.found["cost"]
    seconds = cost["seconds"] / cost["row_passes"] if cost.get("row_passes") else None
    each = epochs + 1 / 3  # a row's epochs, and the look at it before them

    def option(way: str, guarantee: str, rows: int, storage: int = 0) -> Option:
        whole = max(1, len(asked.rest)) * each
        minutes = None if seconds is None else rows * each * seconds / 60
        return Option(way, guarantee, round(rows * each), rows * each / whole, minutes, storage)

    again = len(asked.rest_of_parts)
    guarantee, what = (EXACT, "tables") if found["variant"] == "own" else (APPROXIMATE, "entries in the shared table")
    options = Options([option(DROP, guarantee, again, found["bytes"]), option(RETRAIN, EXACT, len(asked.rest))])
    options.beside = (
        f"{len(asked.whole)} whole source(s): their {what} are dropped, without training.",
        *([f"{len(asked.parts)} source(s) in part: filled anew from {again} rows that are left."] if again else []),
    )
    return options


def _beside(request: ReplayRequest, possible: bool) -> Iterator[str]:
    """What to know of the replay, in sentences."""
    if gone := np.count_nonzero(request.plan.deleted[request.numbers]):
        yield f"{gone} of the asked rows are out of this model already: an earlier request has named them."
    if possible and len(request.earlier):
        yield (
            f"{len(request.earlier)} rows that were taken out by steps before are left out of the replay, too: what is "
            "approximate of them now is exact then."
        )
    if possible and (gone := len(request.deleted_elsewhere)):
        yield f"{gone} row(s) that earlier requests took out of this training stay out, too."
    if possible and request.goes_further_back:
        yield request.goes_further_back
    if not request.plan.passes_are_exact:
        yield "Row passes of a replay are about: its first step with a simulated request asks the model for more."


def _seconds_a_pass(found: dict) -> float | None:
    cost = found["replay"].get("training") or {}
    return cost["seconds"] / cost["row_passes"] if cost.get("row_passes") else None


def _objective_passes(made: ReplayPlan, rows: int) -> float:
    """Row passes of a request by steps at most, by its defaults: each forget row brings a retain row with it."""
    if not rows:
        return 0.0
    step_rows = UnlearnConfig.per_device_train_batch_size
    return 2.0 * rows * schedule.most_passes(rows, made.order.rows - len(made.holes) - rows, step_rows)


def _bytes_of(request: ReplayRequest) -> int:
    """Of the snapshot that a request begins with."""
    here = sum(path.stat().st_size for path in Path(request.snapshot).rglob("*") if path.is_file())
    return here or (hub_snapshots.bytes_of(request.hub, request.border) if request.hub else 0)
