"""
The guard against NaN and inf: a step that holds one changes nothing, and three in a row end the run.

See also: `base.py` saves the last good weights when the run ends so; `engines.py` knows where an engine has stepped
before the guard can see the gradient; the count is `skipped` in the records.
"""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import TrainerCallback

from ..readiness.moving_weights import local_shard, moving_buffers
from .engines import engine_gradient_norm, steps_in_backward, total

if TYPE_CHECKING:
    from .base import ForgettingTrainer

logger = logging.getLogger(__name__)

SKIPS_IN_A_ROW = 3  # steps with NaN or inf, one after the other, that end a run


class NonFiniteError(FloatingPointError):
    """Steps in a row held NaN or inf. Except on DeepSpeed, none of them reached the weights."""


class FiniteGuard(TrainerCallback):
    """
    Keeps a step with NaN or inf in its loss or its gradient, on any process, from the weights and from the optimizer's
    state, and counts it. The trainer hands it the loss of every micro-batch ([`saw_loss`]) and every line of the log
    ([`clean`]).
    """

    def __init__(self, trainer: ForgettingTrainer):
        self.trainer = trainer
        self.skipped_steps = 0
        self.in_a_row = 0  # how many of them the last steps were
        self._good_since_log = False
        device = trainer.args.device
        self._all_finite = torch.ones((), device=device)  # 0 after a non-finite loss or gradient on this process
        self._last_loss = torch.zeros((), device=device)
        self._kept_buffers: list[Tensor] = []

    def __repr__(self) -> str:
        return f"FiniteGuard(skipped_steps={self.skipped_steps}, in_a_row={self.in_a_row})"

    def to_dict(self) -> dict:
        return {"steps": self.skipped_steps, "in_a_row": self.in_a_row}

    def resume(self, found: dict | None) -> None:
        """Goes on from the counts that a record holds."""
        found = found or {}
        self.skipped_steps, self.in_a_row = found.get("steps", 0), found.get("in_a_row", 0)

    @cached_property
    def _buffers(self) -> list[Tensor]:
        return moving_buffers(self.trainer.model)

    def on_step_begin(self, args, state, control, **kwargs):
        """Copies what forward passes move beside the weights (BatchNorm's statistics), should the step be undone."""
        self._kept_buffers = [buffer.clone() for buffer in self._buffers]

    def saw_loss(self, loss: Tensor) -> Tensor:
        """After a micro-batch's backward. Returns the last finite loss: one NaN would hide all others of a log line."""
        finite = torch.isfinite(loss)
        self._all_finite = self._all_finite * finite
        self._last_loss = torch.where(finite, loss, self._last_loss)
        if self.trainer.accelerator.sync_gradients:  # the step's last micro-batch: gradients are complete, unclipped
            self._all_finite = self._all_finite * torch.isfinite(self._gradient_norm())
        return self._last_loss

    def _gradient_norm(self) -> Tensor:
        """Norm of this process's part of the gradient, ()."""
        if steps_in_backward(self.trainer.accelerator):
            norm = engine_gradient_norm(self.trainer.accelerator)
        else:
            gradients = [local_shard(p.grad) for p in self.trainer.trainable if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients) if gradients else 0.0
        return torch.as_tensor(norm, device=self._all_finite.device)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """
        After the passes of a step: where a loss or the gradient is not finite on any process, takes the gradients away,
        so that the optimizer's step changes neither weights nor its own state.

        Raises:
            NonFiniteError: if this is the third such step in a row, or where the engine has stepped already.
        """
        accelerator, good = self.trainer.accelerator, self._all_finite
        self._all_finite = torch.ones_like(good)
        if total(accelerator, good) == accelerator.num_processes:
            self.in_a_row = 0
            self._good_since_log = True
            return
        self.skipped_steps += 1
        self.in_a_row += 1
        self.trainer.step_was_skipped()
        step = state.global_step + 1
        if steps_in_backward(accelerator):
            raise NonFiniteError(
                f"Step {step}: the loss or the gradient is not finite, and DeepSpeed has stepped already. Go back to "
                "the last checkpoint (`resume_from_checkpoint=True`)."
            )
        for p in self.trainer.trainable:
            p.grad = None
        for buffer, kept in zip(self._buffers, self._kept_buffers, strict=True):
            buffer.copy_(kept)
        logger.warning("Step %d was skipped: its loss or gradient is not finite. Look for broken rows.", step)
        if self.in_a_row >= SKIPS_IN_A_ROW:
            self._log_count()
            raise NonFiniteError(
                f"Steps {step - SKIPS_IN_A_ROW + 1} to {step}: the loss or the gradient is not finite. Look for broken "
                "rows, or lower `learning_rate`."
            )

    def on_step_end(self, args, state, control, **kwargs):
        should_log = control.should_log  # a `log` inside clears it, and this step's own line would be lost
        self._log_count()
        control.should_log = should_log
        return control

    def _log_count(self) -> None:
        if self.in_a_row:
            self.trainer.log({"skipped_steps": self.skipped_steps})

    def clean(self, logs: dict[str, float]) -> None:
        """Removes from a line of the log what skipped steps have put there; JSON has no NaN."""
        if self.in_a_row:  # the gradient's norm is that of a step that was skipped
            logs.pop("grad_norm", None)
        if "loss" in logs:
            if not self._good_since_log:
                del logs["loss"]  # all steps of the line were skipped
            self._good_since_log = False
        for name in [name for name, value in logs.items() if isinstance(value, float) and not math.isfinite(value)]:
            del logs[name]
