"""A request that may be replayed: its plan, its rows, the snapshot that it goes back to, and what stands in its way."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..config import UnlearnConfig
from ..data.columns import column_names, first_ids, row_ids
from ..readiness import replay
from ..utils.checks import ArgumentError, problems_of, shown
from . import records, replay_plan
from .models import name_of
from .replay_plan import ReplayPlan
from .same_run import plain
from .snapshots import snapshot_problem, snapshots_of

logger = logging.getLogger(__name__)


def is_replayed(model, args: UnlearnConfig, asked) -> bool:
    """Whether a request is replayed: as `method` says, or where it can be; a warning tells why it cannot."""
    if args.method == "replay":
        return True
    source = source_of(model, args)
    if not source or args.readiness_from == "none":
        return False
    try:
        found = records.find_readiness(source)
    except ValueError:  # the trainer tells it
        return False
    if "replay" not in (found or {}):
        return False
    try:
        plan = replay_plan.read(source, args.salt_file)
        problems, numbers = request_problems(plan, ids_of(asked), source)
        if not problems:
            why = snapshot_problem(snapshots_of(source, args.snapshots, found), border_of(plan, numbers), plan)
            problems += [why] if why else []
    except ValueError as error:
        problems = problems_of(error)
    if problems:
        logger.warning(
            "The request is not replayed but taken by steps on a loss, which is approximate: %s", " ".join(problems)
        )
    return not problems


def border_of(plan: ReplayPlan, numbers: np.ndarray) -> int:
    """The step that a replay without these rows begins with; at the last border where all were deleted before."""
    new = numbers[plan.deleted[numbers] == 0]
    return min(replay.border_before(plan.order, new), int(plan.order.borders.max()))


def source_of(model, args: UnlearnConfig) -> str | None:
    """Folder or hub id of the plan."""
    return str(args.readiness_from) if args.readiness_from not in ("auto", "none") else name_of(model)


def has_rows(asked) -> bool:
    """Whether a request brings the rows, and not their ids alone."""
    listed = isinstance(asked, Sequence) and any(isinstance(one, Mapping) for one in asked)
    return listed or hasattr(asked, "column_names")


def ids_of(asked) -> list:
    """The ids of rows, or ids as they are."""
    if has_rows(asked):
        if "id" not in column_names(asked):
            raise ArgumentError(
                ["`forget_dataset` has no column `id`, by which a replay knows its rows. Or give the ids."]
            )
        return row_ids(asked)
    return list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]


def numbers_asked(plan: ReplayPlan, asked: list, source: str) -> tuple[np.ndarray, list[str]]:
    """The row numbers that a request names, and what is wrong with its ids."""
    numbers = plan.numbers_of_ids(asked, plan.key)
    if not asked:
        return numbers, ["`forget_dataset` names no row."]
    if (numbers < 0).any():
        return numbers[numbers >= 0], [f"{_said(asked, numbers < 0)} were not in the training of {source}."]
    return numbers, []


def request_problems(plan: ReplayPlan, asked: list, source: str) -> tuple[list[str], np.ndarray]:
    """What keeps a request from being replayed, and the row numbers that it names."""
    numbers, problems = numbers_asked(plan, asked, source)
    if not problems and (numbers < plan.order.stable).any():
        problems.append(
            f"{_said(asked, numbers < plan.order.stable)} are stable: they come from the first step on, and exact "
            'would be to train again without them. `method="objective"` takes them out approximately.'
        )
    return problems, numbers


def _said(asked: list, chosen: np.ndarray) -> str:
    ids = [i for i, there in zip(asked, chosen, strict=True) if there]
    return f"{len(ids)} of {len(asked)} asked rows (ids {first_ids(ids)})"


def contradictions(args: UnlearnConfig, plan: ReplayPlan) -> list[str]:
    """Arguments that the user has set to other values than those of the training."""
    other = {
        name: (plan.arguments[name], getattr(args, name))
        for name in sorted(args.given & plan.arguments.keys())
        if plain(getattr(args, name)) != plan.arguments[name]
    }
    return [
        f"`{name}` is {shown(now)}, but the training had {shown(then)}, and a replay is the same run. Leave it out."
        for name, (then, now) in other.items()
    ]
