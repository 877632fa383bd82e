"""Callbacks: the guard against non-finite steps, and the hook by which a request's schedule sees each step."""

from __future__ import annotations

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy


class NonFiniteError(FloatingPointError):
    """A step's gradient holds NaN or inf. The optimizer has not stepped: the weights are the last good ones."""


class FiniteGuard(TrainerCallback):
    """Stops a run at a non-finite loss or gradient, before it reaches the weights."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.trainer.take_finite():
            raise NonFiniteError(f"Step {state.global_step + 1}: the loss is not finite. Look for broken rows.")
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        if not grads:
            return
        norm = torch.nn.utils.get_total_norm(grads)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not torch.isfinite(norm):
            raise NonFiniteError(
                f"Step {state.global_step + 1}: the gradient's norm is {norm.item()}. Look for broken rows, or lower "
                "`learning_rate`."
            )


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
