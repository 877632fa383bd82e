"""
`ReplayTrainer`: takes rows out of a model by running its training again from before them, without them.

The result is that of the same program that never had the rows, bit for bit, on the same software, kind of device and
numbers of processes and threads. Nothing of the asked rows is needed but their ids.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from pathlib import Path

from transformers import TrainingArguments

from ..config import ReadyConfig, UnlearnConfig
from ..data.general_texts import AUTO, NONE
from ..report.words import model_card
from ..unlearning import stop_rule
from ..utils.checks import ArgumentError, raise_problems, shown
from ..utils.files import read_json, sha256_of, write_json
from . import checkpointing, known_rows, records
from .engines import decided_by_first
from .models import base_model, name_of
from .output_lock import SNAPSHOTS, one_run_in
from .ready import ReadyTrainer
from .replay_plan import ReplayPlan
from .replay_request import OtherWeights, ReplayRequest, adapter_problems, contradictions, has_rows, look_up_for
from .replaying import METHOD, RAN_ELSEWHERE, differing, machine
from .same_run import HARMLESS
from .snapshot_size import disk_of
from .snapshots import SUPERSEDED, is_of
from .superseded import Superseded
from .weights_digest import weights_digest

logger = logging.getLogger(__name__)

KINDS = {  # of model cards, by guarantee
    records.EXACT: model_card.REPLAYED,
    records.APPROXIMATE: model_card.REPLAYED_ELSEWHERE,
    records.NOT_FORGOTTEN: model_card.NOT_REPLAYED,
}
CHANGED = (
    "The snapshot {} holds other weights than its record says: it was changed after it was written. Restore it from a "
    "copy, or delete it: the request then goes back to the one before it."
)
FROM_HUB = "_from_hub"  # in the output folder: a snapshot that is being taken from there


class ReplayTrainer(ReadyTrainer):
    """
    What `UnlearnTrainer(…)` makes where a request is replayed; `train` runs the rest of the training without the rows.

    Args:
        model: folder or hub id of a model trained with `readiness="replay"`, or the model itself.
        args: an [`UnlearnConfig`]. What the training was run with is taken from its plan.
        forget_dataset: the rows, or their ids.
        retain_dataset: all rows of the training that are left, in any order, also with rows deleted before.
        peft_config: of the training, where it was of an adapter and `model` is a bare one.

    Attributes:
        border: the step that the replay begins with.

    Raises:
        ArgumentError: with all that is wrong with the request, before a model is loaded.
    """

    def __init__(
        self,
        model,
        args: UnlearnConfig,
        forget_dataset,
        retain_dataset,
        unseen_dataset=None,
        eval_dataset=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        callbacks=None,
        general_dataset=None,  # a replay keeps what the training taught, and has no use for it
        **kwargs,
    ):
        asked = decided_by_first(lambda: _looked_up(model, args, forget_dataset, peft_config))
        self.asked, self.border = asked, asked.border
        self.superseded = Superseded(asked, args.keep_superseded, args.output_dir)
        self.asked_rows = forget_dataset if has_rows(forget_dataset) else [{"id": i} for i in asked.asked]
        self._is_bare = peft_config is not None  # its adapter is a new one, whose weights the snapshot has
        if not isinstance(model, (str, os.PathLike)) and not self._is_bare:
            self._check_weights(model)
        plan, self.removed_by_steps = asked.plan, len(asked.earlier)
        if self.removed_by_steps:
            plan.deleted[asked.earlier] = plan.next_request
            logger.warning(
                "%d row(s) that were removed by steps before, which is approximate, are left out of the replay, too: "
                "of them, too, the result will have seen nothing.", self.removed_by_steps
            )  # fmt: skip
        if not (general_dataset is None or isinstance(general_dataset, str) and general_dataset in (AUTO, NONE)):
            logger.warning("The request is replayed, not taken by steps on a loss; nothing reads `general_dataset`.")
        if asked.goes_further_back:
            logger.warning("%s", asked.goes_further_back)
        if len(asked.deleted_elsewhere):
            plan.deleted[asked.deleted_elsewhere] = plan.next_request
            logger.warning(
                "Earlier requests have taken %d row(s) out of %s, and they stay out of this, too. If they are to be "
                "trained on after all, delete %s.",
                len(asked.deleted_elsewhere), asked.source, os.path.join(asked.snapshots, SUPERSEDED)
            )  # fmt: skip
        super().__init__(
            model,
            config_of(plan, args),
            retain_dataset,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=processing_class,
            peft_config=peft_config,
            callbacks=callbacks,
            deleted=asked.asked,
            plan=plan,
            **kwargs,
        )
        raise_problems(_shard_problems(self, asked))
        if asked.hub:
            self.hub = asked.hub
            self.program.elsewhere = {border for border in asked.steps_on_hub[0] if border < self.border}
        self._beginning = read_json(os.path.join(asked.snapshot, records.READINESS))
        if other := self.other_machine:
            logger.warning(
                "The replay runs on other than the training: %s. Bits may differ for that alone, so its guarantee is "
                "`approximate` until `verify` has passed.", said_of_other(other)
            )  # fmt: skip

    replays = True

    def refuse_frozen(self, why):
        raise OtherWeights([why])

    @property
    def other_machine(self) -> dict:
        """What may change bits and was other in any step that led to these weights: name -> [then, now]."""
        return {**self.ran_elsewhere, **other_machine(self, self._beginning)}

    @property
    def first_step(self) -> int:
        return self.border

    def folders_of(self, model):
        steps = self.asked.steps
        return [*super().folders_of(model), *([steps.folder] if steps else []), self.asked.source]

    def load(self, source, init):
        """The model by that name; where that is a result of steps, of another form maybe, the snapshot's."""
        found = super().load(source if self.asked.steps is None else self.asked.snapshot, init)
        if self.asked.steps is None and not self._is_bare:
            self._check_weights(found)
        return with_attention(found, self.asked.found["replay"]["machine"])

    def _check_weights(self, model) -> None:
        """Raises [`OtherWeights`] where the model is none that the plan begins or ends with, nor one of steps since."""
        asked = self.asked
        known = {asked.plan.weights_before, asked.found["replay"].get("weights"), asked.steps and asked.steps.weights}
        if not known - {None} or not any(p.requires_grad for p in model.parameters()):
            return
        if weights_digest(model) not in known:
            raise OtherWeights(
                [
                    f"The weights of the model are not those that the training of {asked.source} ended with. It was "
                    "trained on since, which a replay would lose, or is loaded in another dtype, or other weights of "
                    "it are to be trained. Pass the model as that training held it; or take the rows out by "
                    '`method="objective"`, which is approximate.'
                ]
            )

    def known_rows(self):
        """The remaining rows were trained on, and no others; whoever asked, now or before, is remembered."""
        if self._known_rows is None:
            salt = records.salt_for(self.args.output_dir, [*self._known.salts, self.plan.key])
            before = [rows for rows in self._known.sets if rows.part == known_rows.FORGOTTEN]
            trained = (known_rows.TRAINED, self.train_dataset, salt, self.columns_read, self.processing_class)
            gone = (known_rows.FORGOTTEN, self.asked_rows, salt, self.columns_read, self.processing_class)
            self._known_rows = [*before, *known_rows.commit(*trained), *known_rows.commit(*gone)]
        return self._known_rows

    # ---- what a request tells ----

    @property
    def stop_reason(self) -> str | None:
        """`"replayed"` where the program was run to its end; None before."""
        return stop_rule.REPLAYED if self.has_run else None

    @property
    def weights_of_step(self) -> int:
        return self.state.global_step

    @property
    def cost(self) -> dict:
        """Of the replay alone: the steps before the snapshot were those of the training."""
        return {**super().cost, "steps": max(0, self.state.global_step - self.border)}

    @property
    def unlearned(self) -> bool:
        return self.stop_reason is not None

    @property
    def card_tags(self) -> tuple[str, ...]:
        return ("unlearned", *super().card_tags) if self.unlearned else ()

    # ---- the replay ----

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        `Trainer.train` from the snapshot on; with `resume_from_checkpoint` from where a killed replay was. The result's
        `metrics` also hold `guarantee`, `replayed_steps`, `weights` (their digest) and `snapshot`.
        """
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        self._weights = weights_digest(self.accelerator.unwrap_model(self.model))
        result.metrics.update(self.outcome())
        return result

    def _begin(self, held, wanted):
        """A replay that has no whole checkpoint of its own begins with the snapshot, never with the first step."""
        resume = super()._begin(held, wanted if checkpointing.folders(self.args.output_dir) else None)
        if self.asked.downloaded:
            held.callback(shutil.rmtree, self.asked.downloaded, ignore_errors=True)
        if os.path.isdir(self.asked.snapshots):
            held.enter_context(one_run_in(self.asked.snapshots, SNAPSHOTS))
        if resume:
            return resume
        if not os.path.isdir(self.asked.snapshot):  # another request has deleted it since this one was made
            why = self.asked.snapshot_problem(into=os.path.join(self.args.output_dir, FROM_HUB))
            raise_problems([why] if why else [])
        return self._own_snapshot()

    @property
    def first_to_write(self):
        """Snapshots up to the first step are taken over: by links, or on another disk as copies."""
        return self.first_step + 1 if disk_of(self.program.folder) == disk_of(self.asked.snapshot) else 0

    def _own_snapshot(self) -> str:
        """On the first process: takes the earlier snapshots into this request's folder; the one to begin with."""
        self.program.clear()
        for border in (b for b in self.program.borders if b <= self.border):
            if checkpointing.problem(self.asked.snapshot_before(border)) is None:
                with self.room_for(border):
                    take_over(self.asked.snapshot_before(border), self.program.snapshot(border))
        self.tell_of_lost([border for border in self.program.missing if border < self.border])
        return self.program.snapshot(self.border)

    def at_border(self, step):
        if step == self.border and self._is_own_snapshot(self.resumed_from):
            then = read_json(os.path.join(self.resumed_from, records.READINESS))["replay"].get("weights")
            if then not in (None, weights_digest(self.accelerator.unwrap_model(self.model))):
                raise ArgumentError([CHANGED.format(self.asked.snapshot_before(step))])
        super().at_border(step)

    def _is_own_snapshot(self, folder: str | None) -> bool:
        """Whether a checkpoint is the snapshot that the replay begins with."""
        return folder is not None and os.path.realpath(folder) == os.path.realpath(self.program.snapshot(self.border))

    @property
    def rewritten(self):
        return [border for border in self.program.borders if border > self.border]

    def resume_record(self, folder):
        super().resume_record(folder)
        if self._is_own_snapshot(folder):
            self.row_passes, self.seconds = 0.0, 0.0  # the cost of a request is that of its replay

    @property
    def guarantee(self) -> str:
        if not self.unlearned:
            return records.NOT_FORGOTTEN
        same = not self.other_machine and machine(self)["deterministic"]
        return records.EXACT if same else records.APPROXIMATE

    def outcome(self) -> dict:
        """What the request has come to, JSON-ready."""
        path = Path(self.program.snapshot(self.border), checkpointing.MANIFEST)  # not there before the replay begins
        return {
            records.GUARANTEE: self.guarantee,
            "stop_reason": self.stop_reason,
            "replayed_from": self.border,
            "replayed_steps": self.plan.order.steps - self.border,
            "snapshot": sha256_of([path])[0] if path.is_file() else None,
            "weights": self._weights,
            "other_than_training": self.other_machine,
            **({"removed_by_steps_before": self.removed_by_steps} if self.removed_by_steps else {}),
            **({"removed_by_replays_before": len(before)} if len(before := self.asked.deleted_elsewhere) else {}),
        }

    # ---- what it leaves behind ----

    def save_model(self, output_dir=None, _internal_call=False):
        """
        `Trainer.save_model`: weights, plan, snapshots, ready for the next request. At the end of a replay the snapshots
        of the model before it that met the asked rows are deleted, and with `keep_superseded=False` its folder, too.
        """
        super().save_model(output_dir, _internal_call)
        if not _internal_call and self.unlearned and self.args.should_save:
            for folder in checkpointing.folders(self.args.output_dir).values():
                if is_of(folder, self.plan):  # others are none of this run
                    checkpointing.remove(folder)
            self.superseded.delete()
            for folder in {output_dir or self.args.output_dir, self.args.output_dir}:
                self._write_request(folder)
            logger.warning(
                "The asked rows are out of the model in %s. What may still hold them: %s.",
                self.args.output_dir, "; ".join(f"{one['what']} ({one['why']})" for one in self.superseded.not_deleted)
            )  # fmt: skip

    def write_beside(self, folder):
        super().write_beside(folder)
        self._write_request(folder)

    def _write_request(self, folder: str) -> None:
        content = {
            "schema": records.SCHEMA,
            "method": METHOD,
            "rows": {"forget": len(self.asked.asked), "retain": len(self.train_dataset)},
            "weights_of_step": self.weights_of_step,
            "cost": self.cost,
            **self.outcome(),
            "not_deleted": self.superseded.not_deleted,
        }
        write_json(os.path.join(folder, records.UNLEARNING), content)

    @property
    def record_names(self):
        return {records.READINESS, records.UNLEARNING}

    def card_info(self):
        info = super().card_info()
        asked = len(self.asked.asked)
        return {
            **info,
            "kind": KINDS[self.guarantee],
            "rows": "1 row" if asked == 1 else f"{asked} rows",
            "stop_reason": self.stop_reason,
            "settings": {**info.get("settings", {}), **self.outcome()},
        }


def _looked_up(model, args: UnlearnConfig, asked, peft_config) -> ReplayRequest:
    """The request, once nothing is wrong with it; on the first process, since files are read for it."""
    found = look_up_for(model, args, asked)
    if found is None:
        named = name_of(model) if args.readiness_from in ("auto", "none") else args.readiness_from
        raise ArgumentError(
            [f'{named or "The model"} was not trained with `readiness="replay"`: there is no plan to replay.']
        )
    adapter = adapter_problems(found.plan, peft_config)
    raise_problems([*found.problems, *adapter, *contradictions(args, found.plan), *found.place_problems(args)])
    if why := found.settle(into=os.path.join(args.output_dir, FROM_HUB)):
        raise ArgumentError([why])
    return found


def _shard_problems(trainer, asked: ReplayRequest) -> list[str]:
    """Why a run cannot load the snapshots, which are whole or in shards as the weights were at the training."""
    then, now = asked.found["replay"]["machine"].get("shards"), machine(trainer)["shards"]
    if then == now:
        return []
    said = [f"in shards of {engine}" if engine else "whole" for engine in (then, now)]
    return [
        f"The snapshots in {asked.snapshots} hold weights {said[0]}, and this run keeps them {said[1]}. Start it as "
        "the training was started (`accelerate launch --config_file …`)."
    ]


def other_machine(trainer, found: dict) -> dict:
    """
    What may change bits and is other than where the weights of a record are from, or was other on the way to them:
    name -> [then, now].
    """
    then = found["replay"]
    return {**then.get(RAN_ELSEWHERE, {}), **differing(then["machine"], machine(trainer))}


def said_of_other(other: dict) -> str:
    """In words what [`other_machine`] has found."""
    return ", ".join(f"{name} {now} (then {then})" for name, (then, now) in other.items())


def with_attention(model, then: dict):
    """The model with the attention of the training: the order of its sums is the kernel's."""
    if then["attention"]:
        base_model(model).set_attn_implementation(then["attention"])
    return model


def take_over(folder: str, own: str) -> None:
    """A snapshot under another name: hard links where the file system has them, copies elsewhere."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.name == checkpointing.MANIFEST):  # the manifest last
        made = Path(own, path.relative_to(folder))
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, made)
        except OSError:
            shutil.copy2(path, made)


def config_of(plan: ReplayPlan, args: TrainingArguments) -> ReadyConfig:
    """The training's arguments, with the request's own where these do not touch what is trained."""
    names = {f.name for f in dataclasses.fields(ReadyConfig)} & {f.name for f in dataclasses.fields(args)}
    own = {name: getattr(args, name) for name in names & HARMLESS if name not in plan.arguments}
    known = {f.name for f in dataclasses.fields(ReadyConfig)}
    if unknown := {name: value for name, value in plan.arguments.items() if name not in known}:
        said = ", ".join(f"`{name}` ({shown(value)})" for name, value in unknown.items())
        logger.warning("This version does not know arguments of the training, and leaves them out: %s.", said)
    then = {name: value for name, value in plan.arguments.items() if name in known}
    return ReadyConfig(**{**own, **then, "snapshots": None, "request": None})
