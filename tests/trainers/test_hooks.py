"""
What our trainers rely on in `transformers.Trainer`: the methods they override and the names they use. When a new
version of transformers breaks one of these tests, its message names the file to open.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers.trainer
from helpers.tiny import QUIET, lm, lm_rows, tokenizer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments

import hf_unlearn.trainers
from hf_unlearn import ReadyConfig, ReadyTrainer, default_collator


@dataclass(frozen=True)
class Hook:
    """A method of `transformers.Trainer` that a class of ours overrides."""

    parameters: tuple[str, ...] | None  # that the Trainer's own has; None: all are handed on as they are
    file: str  # under hf_unlearn/trainers/, to open when this changes
    why: str

    def broken(self, what: str) -> str:
        return f"{what} Used in hf_unlearn/trainers/{self.file}, which overrides it: {self.why}"


CARD = ("language", "license", "tags", "model_name", "finetuned_from", "tasks", "dataset_tags", "dataset")
HOOKS = {
    "train": Hook(("resume_from_checkpoint", "trial", "ignore_keys_for_eval"), "base.py", "True means whole ones"),
    "get_batch_samples": Hook(("epoch_iterator", "num_batches", "device"), "base.py", "a step's rows before it begins"),
    "training_step": Hook(("model", "inputs", "num_items_in_batch"), "base.py", "passes at moved weights; NaN is seen"),
    "compute_loss": Hook(
        ("model", "inputs", "return_outputs", "num_items_in_batch"), "base.py", "the model does not get our columns"
    ),
    "log": Hook(("logs", "start_time"), "base.py", "measures of a step join the line of its loss"),
    "create_model_card": Hook((*CARD, "dataset_args"), "base.py", "our section and tags"),
    "save_model": Hook(("output_dir", "_internal_call"), "checkpointing.py", "the record goes beside the weights"),
    "save_state": Hook((), "checkpointing.py", "the manifest of the model's folder follows"),
    "_save_checkpoint": Hook(("model", "trial"), "checkpointing.py", "manifest before push and rotation"),
    "_load_from_checkpoint": Hook(("resume_from_checkpoint", "model"), "checkpointing.py", "renamed weights (ViT)"),
    "_load_best_model": Hook((), "checkpointing.py, ready.py", "renamed weights (ViT); whose readiness steps count"),
    "_get_output_dir": Hook(("trial",), "checkpointing.py", "snapshots have a folder of their own"),
    "get_train_dataloader": Hook((), "replaying.py", "of a program: micro-batches by its order"),
    "num_examples": Hook(("dataloader",), "replaying.py", "of a program: its rows, not its micro-batches"),
    "create_scheduler": Hook(("num_training_steps", "optimizer"), "replaying.py", "of a program: its own schedule"),
    "push_to_hub": Hook(None, "replaying.py", "says that snapshots and salt are not pushed"),
    "_get_train_sampler": Hook(("train_dataset",), "ready.py, unlearn.py", "which row comes when"),
}
# Names that we call or set and do not override: name -> file.
USED = {
    "_set_signature_columns_if_needed": "base.py",
    "_get_dataloader": "replay_program.py",
    "_push_from_checkpoint": "checkpointing.py",
    "_prepare_inputs": "passes.py",
    "compute_loss_context_manager": "passes.py",
    "add_callback": "base.py",
    "is_world_process_zero": "base.py",
    "get_test_dataloader": "measuring_tau.py",
}


def source(name: str) -> str:
    return inspect.getsource(getattr(Trainer, name))


def names_in_order(text: str, *names: str) -> bool:
    """Whether the text holds each of the names, behind the one before."""
    place = -1
    for name in names:
        place = text.find(name, place + 1)
        if place < 0:
            return False
    return True


def our_trainers() -> list[type]:
    found = set()
    for module in pkgutil.iter_modules(hf_unlearn.trainers.__path__, "hf_unlearn.trainers."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Trainer) and value is not Trainer:
                found.add(value)
    return sorted(found, key=lambda kind: kind.__name__)


def overridden(kind: type) -> set[str]:
    """Names that a class shares with `transformers.Trainer`, but for those that begin with two underscores."""
    return {name for name in vars(kind) if hasattr(Trainer, name) and not name.startswith("__")}


# ---- names and signatures ----


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_exists_with_the_parameters_that_we_know(name):
    hook = HOOKS[name]
    assert hasattr(Trainer, name), hook.broken(f"transformers.Trainer has no `{name}` any more.")
    parameters = tuple(inspect.signature(getattr(Trainer, name)).parameters)[1:]
    got = tuple(p for p in parameters if p != "kwargs")
    assert hook.parameters in (None, got), hook.broken(f"The parameters of transformers.Trainer.{name} are now {got}.")


@pytest.mark.parametrize("kind", our_trainers(), ids=lambda kind: kind.__name__)
def test_an_override_takes_what_the_trainer_hands_it(kind):
    for name in overridden(kind) & HOOKS.keys():
        ours = inspect.signature(vars(kind)[name]).parameters
        open_ended = any(p.kind is p.VAR_POSITIONAL for p in ours.values())
        missing = [p for p in HOOKS[name].parameters or () if p not in ours and not open_ended]
        assert not missing, HOOKS[name].broken(f"{kind.__name__}.{name} does not take {missing}.")


@pytest.mark.parametrize("kind", our_trainers(), ids=lambda kind: kind.__name__)
def test_only_the_listed_hooks_are_overridden(kind):
    """Also fails where a new version of transformers gives the Trainer a name that we have given to something else."""
    unlisted = overridden(kind) - HOOKS.keys()
    assert not unlisted, f"{kind.__name__} ({kind.__module__}) overrides {unlisted} of transformers.Trainer; list them."


def test_every_listed_hook_is_overridden_where_it_says():
    for name, hook in HOOKS.items():
        files = {kind.__module__.rpartition(".")[2] + ".py" for kind in our_trainers() if name in overridden(kind)}
        assert set(hook.file.split(", ")) <= files, f"{name} is overridden in {files}"


@pytest.mark.parametrize("name", USED)
def test_a_name_that_we_use_exists(name):
    file = Path(hf_unlearn.trainers.__path__[0], USED[name])
    assert hasattr(Trainer, name), f"transformers.Trainer has no `{name}` any more: hf_unlearn/trainers/{USED[name]}"
    assert name in file.read_text(encoding="utf-8"), f"`{name}` is not used in {file.name} any more."


# ---- what we rely on ----


def test_a_checkpoint_is_written_in_the_order_that_the_manifest_needs():
    hook, text = HOOKS["_save_checkpoint"], source("_save_checkpoint")
    order = ("self.save_model(", "self._save_optimizer_and_scheduler(", "self._save_rng_state(", "save_to_json(")
    order += ("if self.args.push_to_hub", "self._push_from_checkpoint(", "rotate_checkpoints(", "save_total_limit")
    assert names_in_order(text, *order), hook.broken("Trainer._save_checkpoint does its work in another order.")
    assert names_in_order(text, "PREFIX_CHECKPOINT_DIR", "self._get_output_dir("), hook.broken("The folder is another.")
    assert "TRAINING_ARGS_NAME" in source("_save"), hook.broken("`training_args.bin` is written elsewhere.")
    parameters = inspect.signature(transformers.trainer.rotate_checkpoints).parameters
    for name in ("output_dir", "save_total_limit", "best_model_checkpoint", "use_mtime"):
        assert name in parameters, hook.broken(f"`rotate_checkpoints` takes no `{name}`.")


def test_the_columns_that_the_model_takes_are_kept_in_a_list_that_may_grow(tmp_path):
    trainer = Trainer(lm(), TrainingArguments(str(tmp_path), **QUIET))
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns.append("revocable")
    kept = trainer._remove_unused_columns(lm_rows(4)).column_names
    assert "revocable" in kept and "id" not in kept, "The column of the revocable rows is lost: trainers/base.py"


def test_weights_are_loaded_by_the_hooks():
    text = inspect.getsource(Trainer)
    for name in ("_load_from_checkpoint", "_load_best_model"):
        assert f"self.{name}(" in text, HOOKS[name].broken(f"The Trainer does not call `{name}`.")


def test_the_loss_of_training_and_of_evaluation_is_compute_loss():
    for name in ("training_step", "prediction_step"):
        assert "self.compute_loss(" in source(name), HOOKS["compute_loss"].broken(f"`{name}` does not call it.")


def test_the_order_of_the_rows_is_the_samplers():
    text = source("get_train_dataloader") + source("_get_dataloader")
    assert "_get_train_sampler" in text, HOOKS["_get_train_sampler"].broken("The training loader does not ask for it.")


def test_a_line_of_the_log_is_the_dict_that_log_is_handed(tmp_path):
    trainer = Trainer(lm(), TrainingArguments(str(tmp_path), **QUIET))
    trainer.log({"loss": 1.0, "tau": 2.0})
    line = trainer.state.log_history[-1]
    assert (line["loss"], line["tau"]) == (1.0, 2.0), HOOKS["log"].broken("Keys are dropped.")


class Events(TrainerCallback):
    """Writes down in which order a run calls its hooks and callbacks."""

    def __init__(self):
        self.seen, self.read = [], []

    def on_step_begin(self, args, state, control, **kwargs):
        self.seen.append("step_begin")

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.seen.append("pre_optimizer_step")

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append("step_end")


def test_a_step_reads_its_micro_batches_first_and_then_trains_on_each_of_them_once_in_order(tmp_path):
    events = Events()

    class Watched(Trainer):
        def get_batch_samples(self, epoch_iterator, num_batches, device):
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
            events.read = list(batches)
            events.seen.append(f"read {len(batches)}")
            return batches, items

        def training_step(self, model, inputs, num_items_in_batch=None):
            sizes = [len(batch["labels"]) for batch in events.read]
            assert len(inputs["labels"]) == sizes.pop(0)
            events.read.pop(0)
            events.seen.append("last" if self.accelerator.sync_gradients else "train")
            return super().training_step(model, inputs, num_items_in_batch)

    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 1}
    args = TrainingArguments(str(tmp_path), remove_unused_columns=True, **{**QUIET, **options})
    model = lm()
    Watched(model, args, default_collator(model, tokenizer()), lm_rows(9), callbacks=[events]).train()
    whole = ["read 3", "step_begin", "train", "train", "last", "pre_optimizer_step", "step_end"]
    rest = ["read 2", "step_begin", "train", "last", "pre_optimizer_step", "step_end"]
    assert events.seen == [*whole, *rest], HOOKS["training_step"].broken("The inner loop runs in another order.")


def test_the_trainer_keeps_its_flags_for_what_follows_a_step(tmp_path):
    """A callback that logs puts `should_log` back, since `log` clears it."""
    trainer = Trainer(lm(), TrainingArguments(str(tmp_path), **QUIET))
    trainer.control = TrainerControl(should_log=True)
    trainer.log({"skipped_steps": 1})
    assert not trainer.control.should_log, "`log` keeps `should_log` now: trainers/finite.py, callbacks.py"


# ---- and that a change is noticed ----


def test_micro_batches_that_are_not_those_of_the_step_are_refused(tmp_path):
    args = ReadyConfig(str(tmp_path), readiness="meta", meta_start=0, per_device_train_batch_size=4, **QUIET)
    trainer = ReadyTrainer(lm(), args, lm_rows(8), processing_class=tokenizer())
    batches = [trainer.data_collator([lm_rows(8)[i] for i in places]) for places in ((0, 1), (2, 3, 4))]
    trainer.get_batch_samples(iter(batches), 2, trainer.args.device)
    with pytest.raises(RuntimeError, match=r"1 of 2 of .* read with .*`labels` \(2, .* `labels` \(3, .*place"):
        trainer.training_step(trainer.model, batches[1])
    trainer.get_batch_samples(iter(batches[:1]), 2, trainer.args.device)
    trainer.training_step(trainer.model, batches[0])
    with pytest.raises(RuntimeError, match=r"read 1 micro-batch\(es\) for this step, of \[2\] rows, .* one more, of 3"):
        trainer.training_step(trainer.model, batches[1])


def test_the_check_of_an_order_fails_for_another_order():
    assert names_in_order("a b c", "a", "c") and not names_in_order("a b c", "c", "a")
    assert not names_in_order("a b", "a", "a")
