"""The steps of a training in the bar of its verb, instead of the Trainer's own bar and its printed log."""

from __future__ import annotations

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from .terminal import Progress

SHOWN = {"loss": "loss", "forget_loss": "forget loss", "tau": "τ"}  # key of the log -> what it is called in the bar


READINESS = 1.6  # what the terms of readiness add to a training step that has them, in plain steps; measured


class TrainingProgress(TrainerCallback):
    """
    Moves the present step of a [`Progress`].

    Args:
        at_most: the training may end before its last step.
        first: step before which the run begins: what was done before that one is none of its work. None: where it goes
            on from.
    """

    def __init__(self, progress: Progress, at_most: bool, first: int | None = 0):
        self.progress, self.at_most, self.first, self.said = progress, at_most, first, ""

    def on_train_begin(self, args, state, control, **kwargs):
        self.first = state.global_step if self.first is None else self.first
        self.progress.starts(*self._work(state, args))

    def on_step_end(self, args, state, control, **kwargs):
        step = f"step {state.global_step - self.first} of {'at most ' if self.at_most else ''}"
        step += f"{state.max_steps - self.first}"
        note = f"{step}, {self.said}" if self.said else step
        self.progress.at(*self._work(state, args), note, self.at_most)

    def _work(self, state, args) -> tuple[float, float]:
        """How much of the run is done, of how much."""
        before, done, total = (work(steps, state, args) for steps in (self.first, state.global_step, state.max_steps))
        return done - before, total - before

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = [f"{name} {float(logs[key]):.3g}" for key, name in SHOWN.items() if key in (logs or {})]
        self.said = ", ".join(found) or self.said


def work(steps: int, state, args) -> float:
    """How long the first so many steps take, in plain steps: those with terms of readiness take longer."""
    if not getattr(args, "readiness_is_on", False):
        return float(steps)
    if args.is_paced:  # as if they were spread over all of it: when they begin is not known
        return steps * (1 + args.meta_budget)
    return steps + max(0.0, steps - args.planned_start * state.max_steps) * READINESS / args.meta_every


def show(trainer, progress: Progress, at_most: bool = False) -> None:
    """Lets a trainer show its steps in the bar alone; its log stays in `trainer_state.json`."""
    for other in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(other)
    trainer.add_callback(TrainingProgress(progress, at_most, trainer.first_step))
