"""
The snapshots of a training that can be replayed: where they are, and whether a request can go back to one.

A snapshot is a checkpoint that is kept. It can be used where it is whole, of the same program as the plan, of the step
before which it should stand, and has met the rows that the plan would have it meet, no more and no fewer.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..utils.checks import Wrong, shown
from ..utils.files import read_json, write_json
from . import checkpointing, hub_snapshots, replay_plan
from .hub_snapshots import SUPERSEDED
from .replay_plan import ReplayPlan
from .replay_program import FOLDER

OWNER = "owner.json"  # among those in a folder of their own: whose they are
OF_THE_PROGRAM = (
    "order", "arguments", "warmup", "schedule", "falls_from", "micro_batches", "processes", "salt", "weights_before",
)  # fmt: skip


def snapshots_of(source: str, named: str | None, found: dict) -> str:
    """Folder of the snapshots: as the request says, beside the model, or where the training left them."""
    beside = os.path.join(source, FOLDER)
    left = os.path.normpath(os.path.join(source, str(found["replay"].get("snapshots", FOLDER))))
    return named or (beside if os.path.isdir(beside) else left)


def place_problems(folder: str | None, output_dir: str) -> list[str]:
    """Why a training may not write its snapshots into a folder: those of another would be deleted."""
    if folder is None or _same(folder, os.path.join(output_dir, FOLDER)):
        return []
    if name := hub_snapshots.repository_of(folder):
        return hub_snapshots.place_problems(name)
    if _same(folder, output_dir):
        said = "is `output_dir` itself, whose checkpoints `save_total_limit` deletes. Leave it out, or name another."
        return [Wrong("snapshots", said)]
    if os.path.exists(folder) and not os.path.isdir(folder):
        return [Wrong("snapshots", f"is {shown(folder)}, a file; it must be a folder.")]
    there, owner = checkpointing.folders(folder), read_json(os.path.join(folder, OWNER))
    if not there or (owner and _same(owner["output_dir"], output_dir)):
        return []
    names = ", ".join(map(os.path.basename, there.values()))
    whose = f"snapshots of the training in {owner['output_dir']}" if owner else "checkpoints of another run"
    said = f"is {folder!r}, which holds {whose} ({names}): they would be deleted. Name another folder, or delete them."
    return [Wrong("snapshots", said)]


def take_place(folder: str, output_dir: str) -> None:
    """Says in a folder of its own whose snapshots it holds; what was said of earlier ones goes."""
    Path(folder, SUPERSEDED).unlink(missing_ok=True)
    if not _same(folder, os.path.join(output_dir, FOLDER)):
        os.makedirs(folder, exist_ok=True)
        write_json(os.path.join(folder, OWNER), {"output_dir": os.path.realpath(output_dir)})


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def snapshot_problem(folder: str, border: int, plan: ReplayPlan, contents: bool = False) -> str | None:
    """
    Why the snapshot before a step cannot be used, in a sentence; None if it can.

    Args:
        contents: reads the files, too, which takes about a second a GB.
    """
    snapshot = os.path.join(folder, f"checkpoint-{border}")
    if not os.path.isdir(snapshot) and (by := superseded_by(folder)):
        return (
            f"The snapshot that the request goes back to, {snapshot}, had met rows that a request deleted, and went "
            f"with them. Start from the model that took this one's place: {by}."
        )
    why = checkpointing.problem(snapshot, contents) or _of_another_program(snapshot, border, plan)
    hint = "" if os.path.isdir(folder) else " Where they are elsewhere now, name their folder by `snapshots`."
    return why and f"The snapshot that the request goes back to cannot be used, {snapshot}: {why}.{hint}"


def _of_another_program(snapshot: str, border: int, plan: ReplayPlan) -> str | None:
    """What a whole snapshot has to do with another training, or with other rows, than the plan."""
    try:
        found = replay_plan.read_beside(snapshot)
        state = read_json(os.path.join(snapshot, "trainer_state.json")) or {}
    except ValueError as error:
        return str(error).rstrip(".")
    if found is None:
        return "it is a checkpoint of a training that cannot be replayed"
    record, deleted = found
    if differing := _differences(record, plan):
        return f"it is of another training than the plan: there {'; '.join(differing[: replay_plan.NAMED])}"
    if state.get("global_step") != border:
        return f"it is of step {state.get('global_step')}"
    begun = _rows_before(plan, border)
    before, since = np.flatnonzero(deleted), np.flatnonzero(plan.deleted)
    if (met := np.setdiff1d(since, before)).size and (met < begun).any():
        return f"it has met {np.count_nonzero(met < begun)} rows that were deleted since it was written"
    if (lost := np.setdiff1d(before, since)).size and (lost < begun).any():
        return f"it has not met {np.count_nonzero(lost < begun)} rows that the training had, as that of a later request"
    return None


def superseded_by(folder: str) -> str | None:
    """Folder of the model that has taken the place of the one with these snapshots."""
    return (read_json(os.path.join(folder, SUPERSEDED)) or {}).get("by")


def supersede(folder: str, by: str, plan: ReplayPlan, rows: np.ndarray, hub: str | None = None) -> str | None:
    """
    Says among snapshots which model has taken the place of theirs; why a repository could not be told.

    Args:
        rows: numbers of those that are out of it. What was said of earlier ones is kept: they stay out for ever.
        hub: repository that has them; None: the folder has them.
    """
    earlier, why = deleted_elsewhere(folder, plan, hub)
    content = {"by": by, "salt": plan.salt, "rows": np.union1d(rows, earlier).astype(int).tolist()}
    if hub is not None:
        return why or hub_snapshots.supersede(hub, content)
    write_json(os.path.join(folder, SUPERSEDED), content)
    return None


def deleted_elsewhere(folder: str, plan: ReplayPlan, hub: str | None = None) -> tuple[np.ndarray, str | None]:
    """
    `(numbers of the rows that earlier requests have taken out of the training with these snapshots, why that is not
    known)`; in the folder, or in a repository.
    """
    said, why = hub_snapshots.superseded(hub) if hub else (read_json(os.path.join(folder, SUPERSEDED)) or {}, None)
    return np.asarray(said.get("rows", []) if said.get("salt") == plan.salt else [], dtype=np.int64), why


def is_of(checkpoint: str, plan: ReplayPlan) -> bool:
    """Whether a checkpoint is one of the plan's program, whatever rows were deleted by then."""
    return _deleted_by(checkpoint, plan) is not None


def snapshots_that_met(folder: str, plan: ReplayPlan, rows: np.ndarray) -> list[str]:
    """Those in a folder that are of the plan's program and have met some of these rows (numbers)."""
    return [
        snapshot
        for step, snapshot in checkpointing.folders(folder).items()
        if (then := _deleted_by(snapshot, plan)) is not None
        and (then[rows[rows < _rows_before(plan, step)]] == 0).any()
    ]


def _deleted_by(checkpoint: str, plan: ReplayPlan) -> np.ndarray | None:
    """(N,) which request had deleted each row when a checkpoint was written; None: it is of another program."""
    try:
        found = replay_plan.read_beside(checkpoint)
    except ValueError:
        return None
    return None if found is None or _differences(found[0], plan) else found[1]


def _differences(record: dict, plan: ReplayPlan) -> list[str]:
    now = plan.to_dict()
    return replay_plan.differences(record, {name: now[name] for name in OF_THE_PROGRAM if now[name] is not None})


def _rows_before(plan: ReplayPlan, border: int) -> int:
    """The first row number of the slices that have not begun before a step."""
    starts = plan.order.stable + np.cumsum([0, *plan.order.slices])
    begun = np.flatnonzero(plan.order.borders < border)
    return int(starts[begun.max() + 1]) if begun.size else plan.order.stable
