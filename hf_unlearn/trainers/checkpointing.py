"""
Checkpoints: what one holds, when it is complete, how it is written, and how a run resumes from one.

A checkpoint is the folder `checkpoint-STEP` in `output_dir`. The Trainer writes

    model.safetensors, config.json, …      weights and their config; with an adapter adapter_model.safetensors and
                                           adapter_config.json
    tokenizer.json, …                      the `processing_class`, where the trainer has one
    optimizer.pt, scheduler.pt             state of the optimizer and of the learning rate's schedule
    rng_state.pth                          random states, one file a process
    trainer_state.json                     step, epoch, log, best checkpoint
    training_args.bin                      the config

and we add

    readiness.json or unlearning.json      the run's record ([`hf_unlearn.trainers.records`])
    rows.digests                           which rows were trained on and asked to be forgotten, under the owner's salt
                                           ([`hf_unlearn.trainers.known_rows`])
    run.json                               digests of the run's rows, and its options: it resumes in no other run
                                           ([`hf_unlearn.trainers.same_run`])
    _request_weights.pt                    of a request: weights that its stop rule may put back; deleted at its end
    complete.json                          the manifest: these files with their sizes and SHA-256

The model card is not among them: it is in `output_dir`, beside the weights that the run ends with.

The manifest is written last: a folder without it, or whose files differ from it, was cut short in its writing or its
deletion, and no run is resumed from it; nor from one with a file whose SHA-256 is not what was written. Older
checkpoints are deleted only when the newer one has its manifest. `save_model` writes one for the model's folder, too
([`hf_unlearn.utils.manifest`]).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, rotate_checkpoints

from ..utils import manifest
from ..utils.checks import ArgumentError
from ..utils.files import read_json, write_json
from ..utils.manifest import FILE as MANIFEST
from ..utils.manifest import problem
from ..utils.manifest import write as write_manifest
from . import known_rows, records, same_run
from .engines import keeps_shards, whole_state
from .loading import base_record

logger = logging.getLogger(__name__)


def folders(output_dir: str) -> dict[int, str]:
    """Paths of the checkpoint folders by step, ascending, complete or not."""
    found = {}
    for path in Path(output_dir).glob("checkpoint-*"):
        if (step := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir():
            found[int(step[1])] = os.path.join(output_dir, path.name)
    return dict(sorted(found.items()))


def weight_names(folder: str) -> set[str]:
    """Names of the weights in the folder's safetensors files; empty where it has none, as with an adapter."""
    root = Path(folder)
    if index := read_json(root / "model.safetensors.index.json"):
        return set(index["weight_map"])
    if not (root / "model.safetensors").exists():
        return set()
    with open(root / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return set(header) - {"__metadata__"}


def last_complete(output_dir: str) -> str | None:
    """The complete checkpoint with the highest step, or None; a warning names each one above it that is skipped."""
    for folder in reversed(folders(output_dir).values()):
        if (why := problem(folder, contents=True)) is None:
            return folder
        logger.warning("Skipped %s: %s.", folder, why)
    return None


def resume_from(wanted: str | bool | None, output_dir: str) -> str | bool | None:
    """
    What to hand to `Trainer.train`. True becomes the last complete checkpoint, or None (start from the beginning) where
    all were cut short. Where there is no checkpoint at all it stays True, and the Trainer raises its own error.

    Raises:
        ArgumentError: if a named folder is no checkpoint, or not complete.
    """
    if not wanted:
        return None
    if wanted is True:
        if not folders(output_dir):
            return True
        if (found := last_complete(output_dir)) is None:
            logger.warning("No checkpoint in %s is complete; the run starts from the beginning.", output_dir)
        return found
    if (why := _no_checkpoint(wanted) or problem(wanted, contents=True)) is not None:
        hint = ""
        if _no_checkpoint(wanted):
            hint = " To start from its weights, pass it as `model`, and leave `resume_from_checkpoint` out."
            if there := folders(wanted):
                hint = f" Its checkpoints: {', '.join(map(os.path.basename, there.values()))}."
        elif os.path.isdir(wanted) and not os.path.exists(os.path.join(wanted, MANIFEST)):
            hint = " If you know it is complete, say so by `hf_unlearn.trainers.checkpointing.write_manifest(folder)`."
        raise ArgumentError([f"Cannot resume from {wanted}: {why}.{hint}"])
    return os.fspath(wanted)


def _no_checkpoint(folder) -> str | None:
    """Why a folder is none of a checkpoint, whole or cut short, such as that of a saved model; None if it may be."""
    root = Path(folder)
    if not root.is_dir():
        return None
    if not (root / manifest.STATE).is_file():
        return f"it has no {manifest.STATE}, which a checkpoint has"
    if (root / manifest.OF_MODEL).is_file() and not (root / MANIFEST).is_file():
        return f"it is the folder of a saved model, whose files its {manifest.OF_MODEL} lists, and no checkpoint"
    return None


def remove(folder: str) -> None:
    """Deletes the folder, its manifest first, so that a deletion cut short leaves none that looks complete."""
    if os.path.isdir(folder):
        Path(folder, MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)


def put_leftovers_first(output_dir: str, step: int) -> None:
    """
    What a killed run has left incomplete goes before any complete checkpoint: of later steps it is deleted, of earlier
    ones made the oldest. A rotation goes by the folders' times, and a deletion that was cut short is what changed last:
    it would count as the newest, and a complete checkpoint would be deleted instead.

    Args:
        step: of the checkpoint that was just written.
    """
    for other, folder in folders(output_dir).items():
        if other != step and problem(folder) is not None:
            if other > step:
                remove(folder)
            else:
                os.utime(folder, (0, 0))


def drop(folder: str, name: str) -> None:
    """Deletes a file of a checkpoint that stays complete without it: from the manifest first."""
    path = Path(folder, MANIFEST)
    try:
        content = read_json(path)
    except ValueError:  # damaged: no run is resumed from it
        content = None
    if content and content["files"].pop(name, None) is not None:
        content.get("sha256", {}).pop(name, None)
        write_json(path, content)
    Path(folder, name).unlink(missing_ok=True)


class CheckpointingTrainer(Trainer):
    """`transformers.Trainer` that writes a record beside the weights and resumes from complete checkpoints only."""

    record_name: str  # file of the record
    resumed_from: str | None = None  # the checkpoint that the present `train` went on from
    encoding: dict | None = None  # of the record, how long rows were cut; None: nobody said
    _snapshot_root: str | None = None  # where a snapshot is being written
    _postponed: dict | None = None  # arguments for what follows a checkpoint, while one is being written

    @property
    def in_checkpoint(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._postponed is not None

    @property
    def pushes_checkpoints(self) -> bool:
        """Whether what is in the output folder is pushed when the checkpoint that is being written is complete."""
        return self.in_checkpoint and bool(self._postponed["push_to_hub"])

    @property
    def record_names(self) -> set[str]:
        """Files of the records that go with these weights."""
        return {self.record_name}

    def record(self) -> dict:
        """What [`save_model`] writes beside the weights, JSON-ready."""
        raise NotImplementedError

    def known_rows(self) -> list[known_rows.KnownRows]:
        """What the model's folder says of the rows that it was trained on or asked to forget."""
        raise NotImplementedError

    def record_for(self, folder: str) -> dict:
        """The record as it is written into a folder."""
        return self.record()

    def write_beside(self, folder: str) -> None:
        """Writes what else belongs to the record into a folder that has it."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        with nullcontext() if _internal_call else whole_state(self.accelerator):
            super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folders = {output_dir or self.args.output_dir, self.args.output_dir}  # the latter is what a push uploads
            base = base_record(self.model) | ({records.ENCODING: self.encoding} if self.encoding else {})
            for folder in folders:
                os.makedirs(folder, exist_ok=True)
                write_json(os.path.join(folder, self.record_name), {**self.record_for(folder), **base})
                known_rows.write(os.path.join(folder, known_rows.FILE), self.known_rows())
                self.write_beside(folder)
            self._drop_other_record(output_dir or self.args.output_dir)
        if self._postponed is not None:  # `training_args.bin` is written: from here on a checkpoint's files are added
            vars(self.args).update(save_total_limit=None, push_to_hub=False)

    def _drop_other_record(self, folder: str) -> None:
        """The other trainer's record in the folder was of weights that are replaced by those of this one."""
        for name in {records.READINESS, records.UNLEARNING} - self.record_names:
            if os.path.exists(path := os.path.join(folder, name)):
                os.remove(path)
                logger.warning("%s is gone: it was of the weights that were there before, which are replaced.", path)

    def listing(self, folder: str) -> AbstractContextManager:
        """What is saved into a model's folder in the block is listed at its end; a checkpoint has its own manifest."""
        if self.in_checkpoint or not self.args.should_save:
            return nullcontext()
        return manifest.of_what_is_saved(folder)

    def save_snapshot(self, root: str) -> None:
        """A checkpoint that is kept: in `root`, out of the reach of `save_total_limit` and of pushes."""
        kept = {name: getattr(self.args, name) for name in ("save_total_limit", "push_to_hub", "save_only_model")}
        vars(self.args).update(save_total_limit=None, push_to_hub=False, save_only_model=False)
        self._snapshot_root = root
        try:
            self._save_checkpoint(self.model, None)
        finally:
            self._snapshot_root = None
            vars(self.args).update(kept)

    def _get_output_dir(self, trial):
        return self._snapshot_root or super()._get_output_dir(trial)

    def save_state(self) -> None:
        super().save_state()
        if self.args.should_save:
            manifest.renew(self.args.output_dir, manifest.STATE)

    def _save_checkpoint(self, model, trial) -> None:
        """The Trainer's checkpoint, then its manifest, and only then the push and the deletion of older checkpoints."""
        run_dir = self._get_output_dir(trial)
        folder = os.path.join(run_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.resumed_from and os.path.realpath(folder) == os.path.realpath(self.resumed_from):
            return  # no step was taken since, and a kill while it is written anew would leave nothing
        if self.args.should_save:
            remove(folder)  # of a killed run: its files must not be mixed with the new ones
        self.accelerator.wait_for_everyone()
        self._postponed = {name: getattr(self.args, name) for name in ("save_total_limit", "push_to_hub")}
        try:
            super()._save_checkpoint(model, trial)
        finally:
            vars(self.args).update(self._postponed)
            self._postponed = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            same_run.write(self, folder)
            write_manifest(folder)
            if self.args.save_total_limit:
                put_leftovers_first(run_dir, self.state.global_step)
        if self.args.push_to_hub:
            if self.args.should_save and self.args.hub_strategy != HubStrategy.END:
                manifest.withdraw(self.args.output_dir)  # its weights are copied there
            self._push_from_checkpoint(folder)
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if not self._load_renamed(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if not self._load_renamed(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_renamed(self, folder: str) -> bool:
        """
        Loads weights that have other names in the file than in the model, as `save_pretrained` gives them for some
        architectures (ViT); the Trainer leaves those as they were (transformers issue 43701). False: no such names.
        """
        model = self.model
        if keeps_shards(self.accelerator) or not isinstance(model, PreTrainedModel):
            return False
        if weight_names(folder) <= model.state_dict().keys():
            return False
        widest = max((p.dtype for p in model.parameters()), key=lambda dtype: dtype.itemsize)  # a cast back is exact
        model.load_state_dict(type(model).from_pretrained(folder, dtype=widest).state_dict())
        return True
