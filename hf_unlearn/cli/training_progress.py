"""The steps of a training in the bar of its verb, instead of the Trainer's own bar and its printed log."""

from __future__ import annotations

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from .terminal import Progress

SHOWN = {"loss": "loss", "forget_loss": "forget loss", "tau": "τ"}  # key of the log -> what it is called in the bar


class TrainingProgress(TrainerCallback):
    """Moves the present step of a [`Progress`]; `at_most`: the training may end before its last step."""

    def __init__(self, progress: Progress, at_most: bool):
        self.progress, self.at_most, self.said = progress, at_most, ""

    def on_step_end(self, args, state, control, **kwargs):
        step = f"step {state.global_step} of {'at most ' if self.at_most else ''}{state.max_steps}"
        note = f"{step}, {self.said}" if self.said else step
        self.progress.at(state.global_step, state.max_steps, note, self.at_most)

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = [f"{name} {float(logs[key]):.3g}" for key, name in SHOWN.items() if key in (logs or {})]
        self.said = ", ".join(found) or self.said


def show(trainer, progress: Progress, at_most: bool = False) -> None:
    """Lets a trainer show its steps in the bar alone; its log stays in `trainer_state.json`."""
    for other in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(other)
    trainer.add_callback(TrainingProgress(progress, at_most))
