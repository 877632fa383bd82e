"""
The runs that `test_killed_runs.py` kills and resumes, and a life of one: a process in which the moments that matter are
drawn out and marked in a file.
"""

from __future__ import annotations

import io
import os
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from helpers.forked_ranks import print_into
from helpers.tiny import fit, lm, lm_rows, tokenizer
from helpers.tiny import weights as weights_of

from hf_unlearn import ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.trainers import checkpointing
from hf_unlearn.unlearning.look import RARELY

QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}
QUIET |= {"save_strategy": "steps", "logging_steps": 1}
ROWS = {"forget": lm_rows(6), "retain": lm_rows(18, 6), "unseen": lm_rows(8, 100)}
PAUSE = 0.015  # seconds, in the middle of each write and before each renaming; half of that after each deletion
AWAY = 0.1  # seconds, before weights are put back


def model(weights=None):
    made = lm(layers=2, hidden=32, attention_dropout=0.1)
    if weights is not None:
        made.load_state_dict(safetensors.torch.load_file(weights))
    return made


def ready(out, weights=None, **options) -> ReadyTrainer:
    """Dropout, two micro-batches a step, every term that moves the weights, a step that does not, Adam, a decay."""
    own = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "meta_start": 0.0}
    own |= {"meta_gradient": "finite_difference", "resistance": "relearn", "lambda_resistance": 0.3, "save_steps": 1}
    own |= {"num_train_epochs": 4, "save_total_limit": 2, "meta_every": 2}
    args = ReadyConfig(str(out), **{**QUIET, "readiness": "meta", **own, **options})
    return ReadyTrainer(model(weights), args, lm_rows(26, every=3), processing_class=tokenizer())


def unlearn(out, weights=None, general=True, **options) -> UnlearnTrainer:
    """
    An adapter with dropout, two micro-batches a step, a τ that is measured anew; the budget is spent at the end, and
    weights of long before are put back.
    """
    from peft import LoraConfig

    own = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 2e-2, "save_steps": 2}
    own |= {"passes": "12", "target": "current", "unseen_every": 1}
    own |= {"save_total_limit": 2, "lr_scheduler_type": "linear"}
    own |= {"general_budget": 50.0} if general and options.get("stop", True) else {}
    args = UnlearnConfig(str(out), **{**QUIET, **own, **options})
    base = model(weights)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.1)
    rows = {"processing_class": tokenizer(), "general_dataset": lm_rows(8, 400) if general else "none"}
    return UnlearnTrainer(base, args, *ROWS.values(), peft_config=lora, **rows)


def ascent(out, weights=None, **options) -> UnlearnTrainer:
    """A request that ends early, between two checkpoints, with weights put back from before the first of them."""
    own = {"objective": "gradient_ascent", "learning_rate": 1e-2, "lr_scheduler_type": "constant", "save_steps": 4}
    run = unlearn(out, weights, general=False, **{**own, **options})
    run.looks.every //= RARELY  # so that a short run has several looks
    return run


RUN_KINDS = {"ready": ready, "unlearn": unlearn, "ascent": ascent}


def go_on(kind, out, weights=None, **options):
    """One life of a run: resumes where there is something to resume from, and saves the model at the end."""
    base = RUN_KINDS[kind](out, weights, **options)
    base.train(resume_from_checkpoint=bool(checkpointing.folders(out)))
    base.save_model()
    return base


def saved(out) -> dict[str, torch.Tensor]:
    found = [p for p in map(Path(out).joinpath, ("model.safetensors", "adapter_model.safetensors")) if p.exists()]
    return safetensors.torch.load_file(found[0])


SHORT = {"ready": {"max_steps": 4}, "unlearn": {"passes": "6"}, "ascent": {}}  # short, for the tests of every day


@cache
def memorised() -> bytes:
    """Weights that know the rows by heart, as a safetensors file."""
    rows = [*ROWS["forget"], *ROWS["retain"]]
    return safetensors.torch.save(weights_of(fit(model(), rows, steps=40)))


# ---- drawn out and marked ----


def open_phases(marks) -> list[str]:
    """The phases that a killed run was in, the innermost last."""
    inside: list[str] = []
    for line in Path(marks).read_text().split():
        inside = [*inside, line[1:]] if line[0] == "+" else inside[:-1]
    return inside


class Marks:
    """The file in which a run marks the beginning and the end of each phase."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def put(self, mark: str) -> None:
        os.write(self.file, f"{mark}\n".encode())

    def around(self, name: str, function):
        """The function, as a phase of this name."""

        def inside(*args, **kwargs):
            self.put(f"+{name}")
            found = function(*args, **kwargs)
            self.put(f"-{name}")
            return found

        return inside


def draw_out(path) -> None:
    """
    Every file of a checkpoint is written in two halves, with a pause between; deletions, renamings and restorings
    pause, too. The phases are marked in the file at this path.
    """
    marks = Marks(path)
    draw_out_writes(marks)
    draw_out_deletions(marks)
    draw_out_perturbations(marks)
    mark_start_and_end(marks)
    marks.put("+start")


def draw_out_writes(marks: Marks) -> None:
    import peft.peft_model
    import transformers.modeling_utils
    from transformers import TrainerState

    from hf_unlearn.trainers.base import ForgettingTrainer

    real_save, real_save_state, real_replace = torch.save, TrainerState.save_to_json, os.replace

    def halves(path, data: bytes):
        with open(path, "wb") as out:
            out.write(data[: len(data) // 2])
            out.flush()
            time.sleep(PAUSE)
            out.write(data[len(data) // 2 :])

    def save(content, path, *args, **kwargs):
        whole = io.BytesIO()
        real_save(content, whole, *args, **kwargs)
        halves(path, whole.getvalue())

    def save_state(state, path):
        real_save_state(state, path)
        halves(path, Path(path).read_bytes())

    def save_tensors(tensors, path, metadata=None):
        halves(path, safetensors.torch.save(tensors, metadata))

    def replace(*args):
        time.sleep(PAUSE)
        real_replace(*args)

    torch.save, TrainerState.save_to_json, os.replace = save, save_state, replace
    transformers.modeling_utils.safe_save_file = peft.peft_model.safe_save_file = save_tensors
    ForgettingTrainer._save_checkpoint = marks.around("write", ForgettingTrainer._save_checkpoint)


def draw_out_deletions(marks: Marks) -> None:
    real_unlink = os.unlink

    def unlink(path, *args, **kwargs):
        real_unlink(path, *args, **kwargs)
        time.sleep(PAUSE / 2)

    os.unlink = unlink  # what `shutil.rmtree` calls, a file at a time
    checkpointing.rotate_checkpoints = marks.around("delete", checkpointing.rotate_checkpoints)
    checkpointing.remove = marks.around("delete", checkpointing.remove)
    checkpointing.drop = marks.around("end", checkpointing.drop)


def draw_out_perturbations(marks: Marks) -> None:
    from hf_unlearn.readiness import moving_weights

    real_restored = moving_weights.restored

    @contextmanager
    def restored(params):
        with real_restored(params) as copies:
            marks.put("+perturbed")
            yield copies
            time.sleep(AWAY)
        marks.put("-perturbed")

    moving_weights.restored = restored


def mark_start_and_end(marks: Marks) -> None:
    """A run is at its start until its first step: it builds its model or takes up its checkpoint."""
    from transformers import TrainerCallback

    from hf_unlearn.trainers.base import ForgettingTrainer

    class FirstStep(TrainerCallback):
        seen = False

        def on_step_begin(self, *args, **kwargs):
            if not self.seen:
                marks.put("-start")
            self.seen = True

        def on_train_end(self, *args, **kwargs):
            marks.put("+end")

    begin = ForgettingTrainer.__init__

    def init(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        self.add_callback(FirstStep())

    ForgettingTrainer.__init__ = init


def life(kind, out, weights, marks, log) -> None:
    """What a process does: a run begins or goes on. Errors go into the file `log`."""
    print_into(os.devnull, log)
    draw_out(marks)
    go_on(kind, out, weights)
