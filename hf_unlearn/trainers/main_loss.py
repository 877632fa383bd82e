"""
The training loss of a step: the mean over all its labels, however the step is cut into micro-batches and processes.

Differs from the stock Trainer: a model that takes `num_items_in_batch` in its `**kwargs` and returns the micro-batch's
own mean all the same (many classifiers do, and losses of one's own) has its means added up there, which makes the
gradient as many times too large as there are micro-batches and processes. And terms of a model's own beside the loss of
the labels, such as the loss of a mixture of experts' router, are averaged over micro-batches and processes, where the
stock Trainer adds them up: with `gradient_accumulation_steps` above 1 such a run is not the stock Trainer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.batch import count_labels
from ..evaluation import evaluating
from .engines import device_rng, reshard, total, uncompiled

if TYPE_CHECKING:
    from .ready import ReadyTrainer


class MainLoss:
    """
    What the trainer's `compute_loss` returns for a micro-batch, found by asking it and not by the model's name.

    Attributes:
        follows_items: whether `num_items_in_batch` divides the loss, and it alone; None: not asked for yet.
    """

    def __init__(self, trainer: ReadyTrainer):
        self.trainer = trainer
        self.follows_items: bool | None = None

    def __repr__(self) -> str:
        return f"MainLoss(follows_items={self.follows_items})"

    def mean(self, model, inputs: dict) -> Tensor:
        """The mean over the labels of these rows, ()."""
        trainer = self.trainer
        if trainer.compute_loss_func is None:
            return trainer.compute_loss(model, inputs)
        items = count_labels(inputs["labels"]).clamp_min(1)  # a function of the user's may need them
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=items)
        return loss / trainer.accelerator.num_processes if trainer.args.average_tokens_across_devices else loss

    def is_share(self, model, inputs: dict, batches: int, items: Tensor | int | None) -> bool:
        """
        Whether the Trainer's own step makes this micro-batch's loss a share of the step's mean; the same on every
        process.

        Args:
            inputs: the step's first micro-batch.
            batches: micro-batches of the step.
            items: `num_items_in_batch`; None: the Trainer counts none, and averages the means of micro-batches.
        """
        if batches == 1 and self.trainer.accelerator.num_processes == 1:
            return True
        if items is None:
            return False
        if self.follows_items is None:
            self.follows_items = self._ask(model, inputs, items)
        return self.follows_items is not False

    def _ask(self, model, inputs: dict, items: Tensor | int) -> bool | None:
        """Whether twice as many items halve the loss; None where a loss of 0, or of NaN, does not tell."""
        trainer, model = self.trainer, uncompiled(model)
        trainer.count_rows(len(inputs["labels"]), 2 / 3)
        inputs = trainer._prepare_inputs(inputs)
        rng = torch.random.fork_rng(device_rng(trainer.args.device))
        with rng, evaluating(model), torch.no_grad(), trainer.compute_loss_context_manager():
            once, twice = (trainer.compute_loss(model, dict(inputs), num_items_in_batch=items * k) for k in (1, 2))
        reshard(trainer.model)
        known = torch.isfinite(once) & (once != 0)
        halved = (once - 2 * twice).abs() <= 8 * torch.finfo(once.dtype).eps * once.abs()
        known, halved = total(trainer.accelerator, torch.stack([known, known & halved]).float()).tolist()
        return None if known == 0 else halved == known
