"""Callbacks: the guard against non-finite steps, and the hook by which a request's schedule sees each step."""

from __future__ import annotations

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy


class NonFiniteError(FloatingPointError):
    """Steps in a row held NaN or inf. Except on DeepSpeed, none of them reached the weights."""


class FiniteGuard(TrainerCallback):
    """Keeps a step with a non-finite loss or gradient from the optimizer; holds no state of its own."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer.keep_buffers()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.skip_if_not_finite()

    def on_step_end(self, args, state, control, **kwargs):
        should_log = control.should_log  # a `log` inside clears it, and this step's own line would be lost
        self.trainer.tell_skipped()
        control.should_log = should_log
        return control


class ScheduleCallback(TrainerCallback):
    """Calls the trainer's `begin_request` and `end_of_step`; holds no state of its own."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.begin_request()
        control.should_training_stop = self.trainer.stop_reason is not None
        return control

    def on_step_end(self, args, state, control, **kwargs):
        should_log = control.should_log  # a `log` inside clears it, and this step's own line would be lost
        if self.trainer.end_of_step():
            control.should_training_stop = True
            control.should_save |= args.save_strategy == SaveStrategy.STEPS  # as the Trainer does at its last step
        control.should_log = should_log
        return control
