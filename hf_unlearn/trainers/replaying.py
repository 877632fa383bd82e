"""The part of [`ReadyTrainer`] that runs a training which can be replayed; without a program it has no effect."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from ..data.replay_schedule import collating_problems
from ..data.row_digests import drawn_columns
from ..memory.table import bytes_as_text
from ..readiness import replay
from ..report.words import model_card
from ..utils.checks import raise_problems, shown
from ..utils.files import read_json
from ..utils.full_disk import full_disk
from ..utils.versions import library_versions
from . import checkpointing, hub_snapshots, records, replay_plan, same_run, snapshot_size, snapshots
from .base import ForgettingTrainer
from .engines import is_deterministic, kernels_of, shards_of
from .loading import code_of, packing_of
from .making_plans import Planned, stopping_problems, warn_of_schedule
from .models import base_model
from .output_lock import SNAPSHOTS, one_run_in
from .replay_plan import ReplayPlan
from .replay_program import FOLDER, ReplayProgram
from .weights_digest import frozen_digest, weights_digest

PLANS_SCHEDULE = "the plan's: warm-up, constant, linear decay in the tail"
CONFIG = "config."  # what values of the model's config begin with in a plan's `brought`
RAN_ELSEWHERE = "ran_elsewhere"  # in a record's `replay`: what was other in steps that led to its weights


def machine(trainer) -> dict:
    """What the bits of a sum may depend on, beside the program."""
    args = trainer.args
    own = {"attention": base_model(trainer.model).config._attn_implementation}
    own |= {"device": args.device.type, "threads": torch.get_num_threads(), "processes": args.world_size}
    own |= {"shards": shards_of(trainer.accelerator), "deterministic": is_deterministic(args.device)}
    return {**library_versions(), **own, **kernels_of(args.device), **code_of(trainer.model), **trainer.own_code}


def differing(then: dict, now: dict) -> dict[str, list]:
    """What of one [`machine`] is other on the second: name -> [then, now]."""
    return {name: [value, now.get(name)] for name, value in then.items() if value != now.get(name)}


def computed_with(trainer) -> dict:
    """
    What else the steps depend on: rates and other fractions of the model's config, how its weights are packed, the side
    that is padded.
    """
    config = getattr(base_model(trainer.model), "config", None)
    values = {} if config is None else config.to_dict()
    found = {f"{CONFIG}{name}": same_run.plain(value) for name, value in values.items() if isinstance(value, float)}
    side = getattr(trainer.processing_class, "padding_side", None)
    own = trainer.own_parts["data_collator"] is None
    found |= {name: same_run.plain(value) for name, value in packing_of(trainer.model).items()}
    return found | ({"processing_class.padding_side": side} if own and side else {})


METHOD = "replay of the training without the rows (SISA, Bourtoule et al. 2021; the order is ours)"
LIMITS = (
    "A replay needs the remaining rows, the snapshots and the salt, which stay with the owner of the training.",
    "With the models before and after a request side by side, an exact deletion, too, tells whose rows they were.",
)
NOT_REPLAYED = "What was made from the rows before the training ({}) is not replayed."
DRAWN = (
    "The rows are drawn anew each time they are read: beside {} a replay knows them by their ids alone, and takes the "
    "data set's word for their content."
)


def limits_of(plan: ReplayPlan) -> list[str]:
    """What a model card and the record say that a replay does not do."""
    made = ["a tokenizer, a list of classes, say"] if plan.made_from_rows is None else plan.made_from_rows
    known = ", ".join(f"`{name}`" for name in plan.columns) or "nothing"
    return [
        *LIMITS,
        *([NOT_REPLAYED.format(", ".join(made))] if made else []),
        *([DRAWN.format(known)] if plan.drawn else []),
    ]


logger = logging.getLogger(__name__)


class ReplayableTrainer(ForgettingTrainer):
    """`ForgettingTrainer` whose training may be a program ([`hf_unlearn.trainers.replay_program`])."""

    plan: ReplayPlan | None = None
    program: ReplayProgram | None = None

    _to_commit: tuple | None = None  # rows and their numbers, until their digests are in the plan
    _weights: str | None = None  # digest of the weights as they are saved
    ran_elsewhere: dict = {}  # what was other in earlier steps of the run: name -> [then, now]
    hub: str | None = None  # private repository of the snapshots
    _not_uploaded: tuple | list = ()

    @property
    def own_schedule(self):
        return {"lr_scheduler_type": PLANS_SCHEDULE} if self.plan is not None and self.plan.schedule is None else {}

    def take_program(self, planned: Planned) -> None:
        """Makes the training a program."""
        self.plan, self._to_commit = planned.plan, planned.commitment
        frozen = frozen_digest(self.accelerator.unwrap_model(self.model))
        if self._to_commit is not None:
            self.plan.brought, self.plan.frozen = same_run.brought(self) | computed_with(self), frozen
            if schedule := self.own_parts["optimizers.schedule"]:
                warn_of_schedule(f"`optimizers` brings the schedule {schedule}")
        else:
            raise_problems(self._brought_problems())
            if self.plan.frozen not in (None, frozen):
                self.refuse_frozen(
                    "The weights that are not trained, such as those below an adapter, are others than at the "
                    "training, or in another dtype, and a replay is the same run. Start from the model that it had."
                )
        if not is_deterministic(self.args.device):
            logger.warning(
                "Kernels of %s may sum in another order each time: a replay is then `approximate` until `verify` has "
                "passed. `full_determinism=True` asks for those that do not.", self.args.device.type
            )  # fmt: skip
        self.hub = hub_snapshots.repository_of(self.args.snapshots)
        folder = None if self.hub else self.args.snapshots
        folder = str(folder or os.path.join(self.args.output_dir, FOLDER))
        self.program = ReplayProgram(self, self.plan.order, planned.at, folder)
        raise_problems(collating_problems(self.program.schedule, self.data_collator))

    def refuse_frozen(self, why: str) -> None:
        """Raises what stands in the way of a run with other frozen weights."""
        raise_problems([why])

    def _brought_problems(self) -> list[str]:
        """What the training was given beside its rows and options, and this run otherwise or not at all."""
        then, now = self.plan.brought, same_run.brought(self) | computed_with(self)
        return [
            f"`{name}` is {shown(now.get(name))}, but the training had {shown(value)}, and a replay is the same run. "
            "Give it as at the training."
            for name, value in then.items()
            if name in now and now[name] != value or name not in now and not name.startswith((same_run.PEFT, CONFIG))
        ]

    @property
    def has_run(self) -> bool:
        """Whether the program has been run to its end."""
        return self.state.global_step == self.plan.order.steps

    @property
    def has_ended(self) -> bool:
        """Whether the program has been run to its end, and all its snapshots are whole."""
        return self.has_run and not self.program.missing

    def replay_record(self) -> dict:
        """Of `readiness.json`: the plan, and the digest of the weights beside it."""
        if self.plan is None:
            return {}
        if self._to_commit is not None:
            rows, numbers = self._to_commit
            salt = records.salt_for(self.args.output_dir)
            columns = [name for name in same_run.trained_columns(self, rows) if name not in self.columns_read]
            self.plan.drawn = drawn_columns(rows, columns)
            self.plan.commit(rows, numbers, [name for name in columns if name not in self.plan.drawn], salt)
            self._to_commit = None
        if not self.replays:
            made = self.card_facts.made_from_rows
            self.plan.made_from_rows = None if made is None else list(made)
        if not self.replays and self.has_run:
            self.plan.training = {"row_passes": round(self.row_passes, 3), "seconds": round(self._seconds_so_far, 3)}
        own = {**self._of_the_run(), "snapshots": os.path.abspath(self.program.folder), "limits": limits_of(self.plan)}
        if self.hub:
            own["snapshots_on_hub"] = hub_snapshots.PREFIX + self.hub
        return {"replay": {**self.plan.to_dict(), **own}}

    def _of_the_run(self) -> dict:
        """Of the record's `replay`, what the guarantee goes by beside the plan."""
        elsewhere = {RAN_ELSEWHERE: self.ran_elsewhere} if self.ran_elsewhere else {}
        return {"machine": machine(self), "weights": self._weights, **elsewhere}

    def replay_card(self) -> dict:
        """What a model card says of the program."""
        order, plan, missing = self.plan.order, self.plan, self.program.missing
        settings = {
            "readiness": self.args.readiness,
            "steps": order.steps,
            "revocable_rows": sum(order.slices),
            "first_step_with_revocable_rows": order.tail_start,
            "snapshots_before_steps": ", ".join(str(step) for step in self.program.borders if step not in missing),
            "deleted_rows": len(plan.holes),
        }
        kind = model_card.REPLAYABLE if self.has_run else model_card.NOT_ENDED
        return {"kind": kind, "settings": settings, "limits": limits_of(plan)}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if self.plan is not None:  # by all processes: where parameters are sharded they are gathered
            self._weights = weights_digest(self.accelerator.unwrap_model(self.model))
        super().save_model(output_dir, _internal_call)
        if self.hub and not self.in_checkpoint and not _internal_call and self.has_run:
            self._upload(self.rewritten if self.replays else list(self._not_uploaded))

    @property
    def rewritten(self) -> list[int]:
        """Borders whose snapshots this run has written."""
        return self.program.borders

    def at_border(self, step: int) -> None:
        """
        Before a step where a slice begins: writes its snapshot.

        Raises:
            OSError: if there is no room for it; what was written of it is deleted.
        """
        with self.room_for(step):
            self.save_snapshot(self.program.folder)
        if self.hub and not self.replays:
            self._upload([step])

    @contextmanager
    def room_for(self, step: int):
        """Within it the snapshot before a step is written; on a full disk what is there of it is deleted and told."""
        try:
            yield
        except Exception as error:  # each library has its own for a full disk
            if full_disk(error, self.program.folder) is None:
                raise
            where = self.program.snapshot(step)
            with suppress(OSError):
                checkpointing.remove(where)
            said = f"No space is left for the snapshot before step {step}. Free some, and go on with the training"
            raise OSError(errno.ENOSPC, f"{said} by `resume_from_checkpoint=True`, or begin it again", where) from error

    def _open_hub(self, is_new: bool) -> str | None:
        owner = self.plan.salt or records.salt_id(records.salt_for(self.args.output_dir))
        return hub_snapshots.open_private(self.hub, owner, self.program.borders if is_new else None)

    def _upload(self, borders: list[int]) -> None:
        """Uploads snapshots that are whole; a warning says which could not be."""
        if not self.is_world_process_zero():
            return
        self._not_uploaded = [border for border in self._not_uploaded if border not in borders]
        for border in borders:
            if why := hub_snapshots.upload(self.hub, self.program.folder, border):
                self._not_uploaded.append(border)
                logger.warning(
                    "The snapshot before step %d is in %s, and not in %s%s yet: %s It is tried again at the end.",
                    border, self.program.folder, hub_snapshots.PREFIX, self.hub, why
                )  # fmt: skip

    # ---- disk ----

    def _begin(self, held, wanted):
        resume = super()._begin(held, wanted)
        if self.program is not None:
            raise_problems(stopping_problems(self.callback_handler.callbacks))
            raise_problems(snapshots.place_problems(self.program.folder, self.args.output_dir))
            if self.hub and (why := self._open_hub(is_new=not resume and not self.replays)):
                raise_problems([f"The snapshots cannot be kept in {hub_snapshots.PREFIX}{self.hub}: {why}"])
            done = int(os.path.basename(resume).rpartition("-")[2]) if isinstance(resume, str) else 0
            self.tell_of_lost([border for border in self.program.missing if border < done])
            first = max(self.first_to_write, done)
            ahead = [border for border in (self.program.missing if resume else self.program.borders) if border >= first]
            raise_problems(
                self._disk_problems(ahead, freed=0 if resume else snapshot_size.bytes_in(self.program.folder))
            )
            held.enter_context(one_run_in(self.program.folder, SNAPSHOTS))
        return resume

    @property
    def first_to_write(self) -> int:
        """The first step whose snapshot takes room on the disk."""
        return 0

    def tell_of_lost(self, borders: list[int]) -> None:
        """A warning that there are no whole snapshots before these steps, and that this run cannot write them."""
        if borders:
            logger.warning(
                "There is no whole snapshot before step %s, and this run begins later: no request can go back there, "
                "and the model is not called ready. Where that matters, restore it, or train from the start.",
                " and ".join(map(str, borders)),
            )

    def _disk_problems(self, borders: list[int], freed: int) -> list[str]:
        """Says how much disk the snapshots before these steps will take; a problem where there is not as much."""
        if not borders:
            return []
        optim = str(getattr(self.args.optim, "value", self.args.optim))
        each = snapshot_size.snapshot_bytes(self.model, optim, self.optimizer)
        total, free = each * len(borders), snapshot_size.free_bytes(self.program.folder) + freed
        what = f"{len(borders)} snapshot{'' if len(borders) == 1 else 's'} of about {bytes_as_text(each)}"
        if total > free:
            return [
                f"{what} are to be written into {self.program.folder}, {bytes_as_text(total)} together, and "
                f"{bytes_as_text(free)} are free there. Free some, name another place by `snapshots`, or have fewer "
                "snapshots by `slices`."
            ]
        logger.warning(
            "%s will be written into %s: %s together, and %s are free there.",
            what, self.program.folder, bytes_as_text(total), bytes_as_text(free)
        )  # fmt: skip
        return []

    # ---- hooks of the Trainer ----

    def get_train_dataloader(self):
        return super().get_train_dataloader() if self.program is None else self.program.loader()

    def num_examples(self, dataloader) -> int:
        if self.program is not None and dataloader.dataset is self.program.schedule:
            return self.plan.order.rows
        return super().num_examples(dataloader)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.program is None or self.plan.schedule is not None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        order = self.plan.order
        fall = order.tail_start if self.plan.falls_from is None else self.plan.falls_from
        factor = partial(replay.rate, steps=order.steps, warmup=self.plan.warmup, fall=fall)
        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.program is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.state.global_step >= self.plan.order.steps:
            return [], None  # resumed from the checkpoint of the last step
        if self.replays:  # the Trainer takes the steps between logs, looks and checkpoints from the snapshot's state
            self.state.compute_steps(self.args, self.state.max_steps)
        self.program.before_step()
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.program.take(batches)
        return batches, items

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self.program is not None and self._micro_batches.done == 0:
            self.program.seed_step()
        return super().training_step(model, inputs, num_items_in_batch)

    @property
    def step_has_rows(self):
        return self.program is None or not self.program.is_empty

    # ---- files ----

    def push_to_hub(self, *args, **kwargs):
        """`Trainer.push_to_hub`; a warning says what of a training that can be replayed stays here."""
        if self.plan is not None and self.is_world_process_zero():
            logger.warning(
                "The snapshots in %s and the salt in %s are not pushed. Keep them: no request is replayed without.",
                self.program.folder, os.path.join(self.args.output_dir, records.SALT)
            )  # fmt: skip
        return super().push_to_hub(*args, **kwargs)

    def record_for(self, folder):
        """The record; where snapshots lie beside the model is said as seen from the folder, so a push names no disk."""
        record = self.record()
        if self.plan is not None and self.program.folder == os.path.join(self.args.output_dir, FOLDER):
            record["replay"]["snapshots"] = os.path.relpath(self.program.folder, folder)
        return record

    def write_beside(self, folder):
        super().write_beside(folder)
        if self.plan is not None:
            self.plan.write(folder, self._of_the_run())

    def resume_problems(self, folder):
        """A snapshot is of this program where its plan is; its rows are fewer by what was deleted since."""
        if self.program is None:
            return super().resume_problems(folder)
        record = read_json(os.path.join(folder, self.record_name)) or {}
        found = ReplayPlan.from_dict(record["replay"]) if "replay" in record else None
        is_snapshot = os.path.realpath(os.path.dirname(folder)) == os.path.realpath(self.program.folder)
        if not is_snapshot or not self.replays and len(self.train_dataset) == self.plan.order.rows:
            problems, head = super().resume_problems(folder), f"Cannot resume from {folder}:"
            if found is not None and found.salt not in (None, self._salt_here()):
                path = os.path.join(self.args.output_dir, records.SALT)
                return [
                    f"{head} its snapshots know the rows by digests, and the salt that opens these is not in {path}. "
                    "Restore that file from a copy, or begin the run anew."
                ]
            if found is not None and found.frozen not in (None, self.plan.frozen):
                problems.append(f"{head} the weights that are not trained are others than there.")
            if not problems and self._rows_are_numbered_otherwise(folder):
                problems.append(
                    f"{head} there the rows have other places in the order, by other ids, or other values in the "
                    "columns of `slice_by` or `ask_weight`. Give them as they were, or begin the run anew."
                )
            return problems
        if found is None or (found.order, found.arguments) != (self.plan.order, self.plan.arguments):
            return [
                f"The snapshot {folder} is of another training than the plan: its order or its arguments are others."
            ]
        return []

    def _salt_here(self) -> str | None:
        """Name of the salt that the run's digests are keyed by; None: there is none yet."""
        own = [records.salt_id(self.plan.key)] if self.plan.key else [*records.known_salts(self.args.output_dir)]
        return own[0] if own else None

    def _rows_are_numbered_otherwise(self, folder: str) -> bool:
        salt = self.plan.key or records.salt_for(self.args.output_dir)
        kept = replay_plan.ids_beside(folder, salt)
        now = self.plan.ids if self._to_commit is None else replay_plan.numbered_ids(*self._to_commit, salt)
        return kept is not None and not np.array_equal(kept, now)

    def resume_record(self, folder):
        super().resume_record(folder)
        if self.plan is not None and (record := read_json(os.path.join(folder, self.record_name))):
            then = record["replay"]
            self.plan.weights_before = then["weights_before"]
            self.ran_elsewhere = {**then.get(RAN_ELSEWHERE, {}), **differing(then["machine"], machine(self))}

    def _train_from(self, resume, *args, **kwargs):
        if self.program is not None and not resume:
            self.ran_elsewhere = {}
            if self.args.should_save:
                snapshots.take_place(self.program.folder, self.args.output_dir)
                self.program.clear()
            self.accelerator.wait_for_everyone()
            self.plan.weights_before = weights_digest(self.accelerator.unwrap_model(self.model))
        with _without_comparison() if self.replays else nullcontext():
            return super()._train_from(resume, *args, **kwargs)


@contextmanager
def _without_comparison():
    """The Trainer warns where a snapshot was logged or saved at other steps, which are the request's own."""
    theirs = logging.getLogger("transformers.trainer_utils")
    theirs.addFilter(_is_no_comparison)
    try:
        yield
    finally:
        theirs.removeFilter(_is_no_comparison)


def _is_no_comparison(record: logging.LogRecord) -> bool:
    return "do not match the ones in the `trainer_state.json`" not in record.getMessage()
