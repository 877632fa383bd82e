"""A request that may be replayed: its plan, its rows, the snapshot that it goes back to, and what stands in its way."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from ..config import UnlearnConfig
from ..data.columns import column_names, first_ids, row_ids
from ..data.given import as_rows
from ..options import UnlearnOptions
from ..options.replay import ReplayRequestOptions
from ..readiness import replay
from ..utils import manifest
from ..utils.checks import ArgumentError, problems_of, raise_problems, shown
from ..utils.checks import plain as plain_number
from . import hub_snapshots, records, removed_by_steps, replay_plan
from .models import name_of
from .removed_by_steps import RemovedBySteps
from .replay_plan import ReplayPlan
from .replay_program import FOLDER
from .same_run import PEFT, plain
from .snapshots import deleted_elsewhere, snapshot_problem, snapshots_of

logger = logging.getLogger(__name__)


MODELS = ("config.json", "adapter_config.json")  # one of them is in the folder of a model
TRAINED_AFTER = "trained_after"  # in readiness.json: the folder with the plan that the model had before its training


class OtherWeights(ArgumentError):
    """The model is not the one that its plan ends with: a replay would lose what was done to it since."""


@dataclass
class ReplayRequest:
    """
    Args:
        source: folder or hub id of the plan.
        plan, found: the plan, and the `readiness.json` that it is from.
        asked: ids.
        numbers: their row numbers, of those that the plan has.
        snapshots: folder of the snapshots.
        model: folder or hub id of the model that the rows are to be taken out of; None: not known.
        steps: what was taken out of it by steps on a loss since; None: nothing.
        problems: why it cannot be replayed, but for its snapshot.
        hub: repository of the snapshots that are not in that folder.
        downloaded: folder of the one that it begins with, once it has come from there.
        damaged: why snapshots that were read cannot be used, by their steps.

    What is found of the rows is that of the time when it is asked for first: they are not deleted then.
    """

    source: str
    plan: ReplayPlan
    found: dict
    asked: list
    numbers: np.ndarray
    snapshots: str
    model: str | None = None
    steps: RemovedBySteps | None = None
    problems: list[str] = field(default_factory=list)
    hub: str | None = None
    downloaded: str | None = None
    damaged: dict[int, str] = field(default_factory=dict)

    @cached_property
    def earlier(self) -> np.ndarray:
        """Numbers of revocable rows that were removed by steps before: they are left out, too."""
        if self.steps is None:
            return np.zeros(0, dtype=np.int64)
        numbers = np.setdiff1d(self.steps.numbers(self.plan), [*self.numbers, *self.plan.holes])
        return numbers[numbers >= self.plan.order.stable]

    @cached_property
    def deleted_elsewhere(self) -> np.ndarray:
        """
        Numbers of the rows that earlier requests have taken out of the model, and that this one neither names nor
        lacks: they are left out, too.
        """
        found = np.union1d(deleted_elsewhere(self.snapshots, self.plan)[0], self._told_on_hub[0])
        return np.setdiff1d(found, [*self.numbers, *self.earlier, *self.plan.holes]).astype(np.int64)

    @cached_property
    def _told_on_hub(self) -> tuple[np.ndarray, str | None]:
        """`(numbers of the rows that the repository says are out, why that is not known)`."""
        if self.hub is None:
            return np.zeros(0, dtype=np.int64), None
        return deleted_elsewhere(self.snapshots, self.plan, self.hub)

    @cached_property
    def steps_on_hub(self) -> tuple[set[int], str | None]:
        """`(steps before which the repository has a snapshot, why that is not known)`."""
        return hub_snapshots.steps_on(self.hub) if self.hub else (set(), None)

    @property
    def silent_hub(self) -> list[str]:
        """The problem of a repository that does not say which rows are out already."""
        return list(filter(None, [self._told_on_hub[1]]))

    @cached_property
    def new(self) -> np.ndarray:
        """Numbers of the rows that the replay leaves out and the plan does not yet."""
        numbers = np.union1d(np.union1d(self.numbers, self.earlier), self.deleted_elsewhere)
        return numbers[self.plan.deleted[numbers] == 0]

    @property
    def holes(self) -> np.ndarray:
        """Numbers of all rows that are out after it."""
        return np.union1d(self.plan.holes, self.new)

    @cached_property
    def last_border(self) -> int | None:
        """The last step with a snapshot that has met none of its rows; None for stable rows."""
        return replay.border_before(self.plan.order, self.new)

    @cached_property
    def border(self) -> int | None:
        """The step that the replay begins with: the last border, or an earlier one whose snapshot is still whole."""
        if self.last_border is None:
            return None
        borders = np.unique(self.plan.order.borders)
        back = map(int, borders[borders <= self.last_border][::-1])
        return next((border for border in back if self._why_not(border) is None), self.last_border)

    def _why_not(self, border: int) -> str | None:
        """Why the snapshot before a step is not there to be used, in a sentence."""
        if border in self.damaged:
            return self.damaged[border]
        why = snapshot_problem(self.snapshots, border, self.plan)
        if why is None or self.hub is None:
            return why
        steps, silent = self.steps_on_hub
        return None if silent or border in steps else hub_snapshots.problem(self.hub, border)

    @property
    def goes_further_back(self) -> str | None:
        """Why it begins with an earlier snapshot than it should, in a sentence; None where it does not."""
        if self.border == self.last_border:
            return None
        why = self._why_not(self.last_border)
        return f"{why} It goes back to the one before step {self.border} instead, and takes longer."

    def snapshot_before(self, step: int) -> str:
        here = self.downloaded if self.downloaded and step == self.border else self.snapshots
        return os.path.join(here, f"checkpoint-{step}")

    @property
    def snapshot(self) -> str:
        """The one that the replay begins with."""
        return self.snapshot_before(self.border)

    def snapshot_problem(self, contents: bool = False, into: str | None = None) -> str | None:
        """
        Why its snapshot cannot be used, in a sentence; None if it can.

        Args:
            contents: reads it, too.
            into: folder that it may be downloaded into; None: it is only asked for.
        """
        here = snapshot_problem(self.snapshots, self.border, self.plan, contents)
        if here is None or self.hub is None:
            return here
        if into is None:
            return hub_snapshots.problem(self.hub, self.border)
        if why := hub_snapshots.download(self.hub, self.border, into):
            return why
        self.downloaded = into
        return snapshot_problem(into, self.border, self.plan, contents)

    def settle(self, into: str) -> str | None:
        """
        Reads the snapshot that it begins with, and goes back to an earlier one where that is damaged; why none can be
        used, in a sentence.

        Args:
            into: folder that one may be downloaded into.
        """
        while why := self.snapshot_problem(contents=True, into=into):
            if self.border in self.damaged or self.border is None:
                return self.damaged.get(self.last_border, why)
            self.damaged[self.border] = why
            del self.border
        return None

    @property
    def folders(self) -> list[str]:
        """Folders of the models that the result takes the place of: the plan's, and that of a request by steps."""
        own = [self.source, *([self.steps.folder] if self.steps else [])]
        return list(dict.fromkeys(os.path.realpath(folder) for folder in own if os.path.isdir(folder)))

    def place_problems(self, args: UnlearnConfig) -> list[str]:
        """What is wrong with the folder of the result."""
        out = os.path.realpath(args.output_dir)
        if out in self.folders:
            return [
                "`output_dir` is the folder of the model itself: a kill would leave neither the old model nor the new "
                "one. Give another folder."
            ]
        if os.path.realpath(self.snapshots) in (out, os.path.join(out, FOLDER)):
            return [
                f"`snapshots` is {self.snapshots!r}, where the result's own checkpoints would be written, and those "
                "that are there deleted. Give another `output_dir`."
            ]
        inside = [folder for folder in self.folders if out.startswith(os.path.join(folder, ""))]
        if inside and not args.keep_superseded:
            return [f"`keep_superseded` is False, and `output_dir` is in {inside[0]}, which would be deleted."]
        others = [] if args.keep_superseded else [other for folder in self.folders for other in _models_in(folder)]
        if others:
            return [
                "`keep_superseded` is False, and the folder to be deleted holds other models: "
                f"{first_ids(others)}. Move them elsewhere, or leave it out."
            ]
        return []


def _models_in(folder: str) -> list[str]:
    """Folders of other models below that of one; its own checkpoints and snapshots are none."""
    found = {str(path.parent) for name in MODELS for path in Path(folder).glob(f"*/**/{name}")}
    own = re.compile(rf"{re.escape(os.path.join(folder, ''))}({FOLDER}|checkpoint-\d+)(/|$)")
    return sorted(path for path in found if not own.match(path))


def look_up(
    model: str | None,
    asked,
    readiness_from: str | None = None,
    salt_file: str | None = None,
    snapshots: str | None = None,
) -> ReplayRequest | None:
    """
    A request as it would be replayed; None where no plan is at hand.

    Args:
        model: folder or hub id.
        asked: rows or ids.
        readiness_from: of the plan, where it is not the model's own.

    Raises:
        ArgumentError: if there is a plan that cannot be read.
    """
    source, steps = plan_of(model, readiness_from)
    found = records.find_readiness(source)
    if after := (found or {}).get(TRAINED_AFTER):
        before = f"Start from {after} if that is meant"
        if os.path.realpath(after) == os.path.realpath(source):
            before = "Its weights before have been written over: restore the folder from a copy if these are meant"
        raise ArgumentError(
            [
                f"{source} was trained on after the training of {after} had ended, and a replay would lose what it has "
                f"learned since. {before}; or take the rows out by "
                '`method="objective"`, which is approximate.'
            ]
        )
    if source is None or "replay" not in (found or {}):
        if steps is not None and source == steps.plan:
            raise ArgumentError(
                [
                    f"{records.UNLEARNING} of {model} says that its plan is in {source}, where there is none. Name its "
                    "folder by `readiness_from`."
                ]
            )
        return None
    plan = replay_plan.read(source, salt_file)
    ids = plan.with_windows(ids_of(asked))
    ids = list({str(one): one for one in ids}.values())  # one id is one row, however often it is named
    numbers, problems = numbers_asked(plan, ids, source)
    hub = hub_snapshots.repository_of(snapshots or found["replay"].get("snapshots_on_hub"))
    folder = snapshots_of(source, None if hub else snapshots, found)
    request = ReplayRequest(source, plan, found, ids, numbers, folder, model, steps, problems, hub)
    problems += _stopped_problems(request) + request.silent_hub
    if not problems:
        problems += _stable_problems(request) + _mixed_problems(request)
    return request


def plan_of(model: str | None, readiness_from: str | None = None) -> tuple[str | None, RemovedBySteps | None]:
    """
    `(folder or hub id of a model's plan, what was taken out of it by steps since)`. A result of steps has no plan of
    its own, and names that of the model before it.
    """
    source = readiness_from or model
    own = removed_by_steps.read(source) if source and os.path.isdir(source) else None
    steps = removed_by_steps.read(model) if model and (os.path.isdir(model) or readiness_from) else None
    return (own.plan if own else source), steps or own


def _stopped_problems(request: ReplayRequest) -> list[str]:
    at, steps = request.plan.stopped_at, request.plan.order.steps
    if at is None:
        return []
    return [
        f"The training of {request.source} was stopped after step {at} of {steps}: there is no whole training to "
        "replay yet. Go on with it (`resume_from_checkpoint=True`), or train again."
    ]


def plan_before(model: str | None) -> str | None:
    """Folder with the plan of a model that a training goes on from; None where there is none."""
    if not model or not os.path.isdir(model):
        return None
    source, _ = plan_of(model)
    found = records.find_readiness(source) or {}
    return os.path.abspath(source) if "replay" in found else found.get(TRAINED_AFTER)


def _stable_problems(request: ReplayRequest) -> list[str]:
    plan = request.plan
    inside = plan.numbers_of_ids(request.asked, plan.key) < plan.order.stable
    if not inside.any():
        return []
    return [
        f"{_said(request.asked, inside)} are stable: they come from the first step on, and exact would be to train "
        'again without them. `method="objective"` takes them out approximately.'
    ]


def _mixed_problems(request: ReplayRequest) -> list[str]:
    """What was done to the model since its plan that a replay would bring back or lose."""
    steps, plan, model = request.steps, request.plan, request.model
    changed = manifest.damage(model) if model and os.path.isdir(model) else []
    if steps is None:
        return changed
    if steps.rows is None:
        return [
            f"Rows were taken out of {steps.folder} by steps, and which is not known there, since the plan was not at "
            f"hand: a replay would bring them back. Name them, too, and start from {request.source}."
        ]
    numbers = steps.numbers(plan)
    if len(numbers) < len(steps.rows):
        return [
            f"Rows that were taken out of {steps.folder} by steps are none of the plan in {request.source}: it is of "
            "another training now. Name the folder of the plan that the model had by `readiness_from`."
        ]
    stable = int(np.count_nonzero(numbers[plan.deleted[numbers] == 0] < plan.order.stable))
    if stable:
        return [
            f"{stable} stable row{'s' * (stable > 1)} of the training were taken out of {steps.folder} by steps, and "
            "a replay would bring them back. Take the rows that are asked for now out by steps, too: "
            f'`method="objective"`; or replay from {request.source}, with all rows that it was trained on but those '
            'asked for now, and then take the earlier ones out of its result by `method="objective"`. Either is '
            "approximate; exact would be to train again without all of them."
        ]
    return changed


def is_replayed(model, args: UnlearnConfig, asked, peft_config=None) -> bool:
    """
    Whether a request is replayed: as `method` says, or where it can be; a warning tells why it cannot.

    Args:
        peft_config: that the request brings.
    """
    if args.method == "replay":
        return True
    if args.readiness_from == "none":
        return False
    try:
        request = look_up_for(model, args, asked)
        if request is None:
            return False
        problems = request.problems or adapter_problems(request.plan, peft_config)
        problems = problems or list(filter(None, [request.snapshot_problem()]))
    except records.NoAnswer:  # the trainer tells it
        return False
    except ValueError as error:
        problems = problems_of(error)
    if problems:
        tell_why_not(problems, args)
    return not problems


def adapter_problems(plan: ReplayPlan, peft_config) -> list[str]:
    """What is wrong with an adapter that the training did not have."""
    if peft_config is None or any(name.startswith(PEFT) for name in plan.brought):
        return []
    return [
        "`peft_config` is given, and the training had no adapter: a replay trains what it trained. Leave it "
        "out."
    ]


def look_up_for(model, args: UnlearnConfig, asked) -> ReplayRequest | None:
    """[`look_up`] by the arguments of a request."""
    named = None if args.readiness_from in ("auto", "none") else str(args.readiness_from)
    return look_up(name_of(model), asked, named, args.salt_file, args.snapshots)


def tell_why_not(problems: list[str], args: UnlearnConfig) -> None:
    kept = "" if args.keep_superseded else " They delete no earlier model: `keep_superseded=False` is not followed."
    logger.warning(
        "The request is not replayed but taken by steps on a loss, which is approximate: %s%s", " ".join(problems), kept
    )


def has_rows(asked) -> bool:
    """Whether a request brings the rows, and not their ids alone."""
    listed = isinstance(asked, Sequence) and any(isinstance(one, Mapping) for one in asked)
    return listed or hasattr(asked, "column_names")


def ids_of(asked) -> list:
    """The ids of rows, of a table with a column of them, or ids as they are."""
    if isinstance(asked, Iterator):
        raise ArgumentError(["`forget_dataset` is a generator, which is read but once: pass a list of the ids."])
    if isinstance(asked, Mapping) or hasattr(asked, "iloc") and hasattr(asked, "columns"):
        asked, wrong = as_rows(asked, "forget_dataset")
        raise_problems(wrong)
    if has_rows(asked):
        if "id" not in column_names(asked):
            raise ArgumentError(
                ["`forget_dataset` has no column `id`, by which a replay knows its rows. Or give the ids."]
            )
        return row_ids(asked)
    ids = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]
    return [plain_number(one) for one in ids]


def numbers_asked(plan: ReplayPlan, asked: list, source: str) -> tuple[np.ndarray, list[str]]:
    """The row numbers that a request names, and what is wrong with its ids."""
    numbers = plan.numbers_of_ids(asked, plan.key)
    if not asked:
        return numbers, ["The request names no row."]
    if (numbers < 0).any():
        return numbers[numbers >= 0], [f"{_said(asked, numbers < 0)} were not in the training of {source}."]
    return numbers, []


def _said(asked: list, chosen: np.ndarray) -> str:
    ids = [i for i, there in zip(asked, chosen, strict=True) if there]
    return f"{len(ids)} of {len(asked)} asked rows (ids {first_ids(ids)})"


def tell_idle(args: UnlearnConfig, how: str) -> None:
    """
    Warns of options that the user has set for steps on a loss, where the request takes none.

    Args:
        how: "is replayed", say.
    """
    defaults = {f.name: f.default for f in fields(UnlearnOptions)}
    own = sorted(args.given & defaults.keys() - {f.name for f in fields(ReplayRequestOptions)})
    if idle := [name for name in own if getattr(args, name) != defaults[name]]:
        said = ", ".join(f"`{name}` {shown(getattr(args, name))}" for name in idle)
        logger.warning("The request %s, and is not taken by steps on a loss; nothing reads %s.", how, said)


def contradictions(args: UnlearnConfig, plan: ReplayPlan) -> list[str]:
    """
    Arguments that the user has set to other values than those of the training. With `method="auto"` they may be meant
    for steps on a loss, and a warning says that nothing reads them; one says so of options of such steps.
    """
    tell_idle(args, "is replayed")
    other = {
        name: (plan.arguments[name], getattr(args, name))
        for name in sorted(args.given & plan.arguments.keys())
        if plain(getattr(args, name)) != plan.arguments[name]
    }
    if args.method == "auto":
        if other:
            said = ", ".join(f"`{name}` {shown(now)}" for name, (_, now) in other.items())
            logger.warning("The request is replayed, with the arguments of its training; nothing reads %s.", said)
        return []
    return [
        f"`{name}` is {shown(now)}, but the training had {shown(then)}, and a replay is the same run. Leave it out."
        for name, (then, now) in other.items()
    ]
