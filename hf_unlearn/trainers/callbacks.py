"""The callback by which a request's schedule sees each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer


class ScheduleCallback(TrainerCallback):
    """Calls the trainer's `begin_request` and `end_of_step`; holds no state of its own."""

    def __init__(self, trainer: UnlearnTrainer):
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
