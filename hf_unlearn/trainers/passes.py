"""Passes over some rows of a step, which several processes may hold, for the arithmetic of [`hf_unlearn.readiness`]."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..data.batch import count_labels
from .engines import device_rng, reshard, synchronised, total, unsynchronised

if TYPE_CHECKING:
    from .base import ForgettingTrainer


class Rows:
    """
    A [`~hf_unlearn.readiness.Pass`] over some rows of a step: their mean loss over all processes and micro-batches.

    Args:
        parts: one `(rows, whether they count)` a micro-batch.
        items: labels among these rows, on all processes.
        repeat_masks: every pass uses the dropout masks of the first one, so that a finite difference of two passes
            is one of weights and not of masks.
        sum_of: (model, rows) -> the sum of their labels' losses (); None: the training loss, a mean over labels.
    """

    def __init__(
        self,
        trainer: ForgettingTrainer,
        model,
        parts: list[tuple[dict, bool]],
        items: float,
        repeat_masks: bool = False,
        sum_of: Callable | None = None,
    ):
        self.trainer, self.model, self.items, self.repeat_masks = trainer, model, items, repeat_masks
        self.loss = trainer.compute_loss if sum_of is None else sum_of
        self.parts = [trainer._prepare_inputs(rows) for rows, _ in parts]
        self.weights = [
            (count_labels(rows["labels"]) if sum_of is None else 1.0) / items if some else 0.0
            for rows, (_, some) in zip(self.parts, parts, strict=True)
        ]
        self.states: list = [None] * len(parts)

    def __call__(self, weight) -> torch.Tensor:
        trainer = self.trainer
        if callable(weight) and len(self.parts) > 1:  # the weight depends on the mean over all parts: look first
            with torch.no_grad():
                shares = [self._share(self.model, k) for k in range(len(self.parts))]
            mean = total(trainer.accelerator, torch.stack(shares).sum())
            weight = weight(mean)
            if weight is None:
                return self._looked(mean)
            trainer._count_rows(self._n_rows(), 1 / 3)
        shares = []
        for k in range(len(self.parts)):
            last = k == len(self.parts) - 1
            with (synchronised if last else unsynchronised)(trainer.accelerator, self.model):
                share = self._share(self.model, k)
                shares.append(share.detach())
                if callable(weight):
                    mean = total(trainer.accelerator, share.detach())
                    weight = weight(mean)
                    if weight is None:
                        return self._looked(mean)
                trainer.accelerator.backward(share * weight * trainer.accelerator.num_processes)
        trainer._count_rows(self._n_rows())
        return total(trainer.accelerator, torch.stack(shares).sum())

    def _looked(self, mean: torch.Tensor) -> torch.Tensor:
        """After a forward that stays without a backward."""
        reshard(self.trainer.model)
        self.trainer._count_rows(self._n_rows(), 1 / 3)
        return mean

    def backward_local(self, weight: float) -> torch.Tensor:
        """One backward in whatever synchronisation the Trainer has set; returns what it logs as the loss."""
        share = self._share(self.model, 0) * weight * self.trainer.accelerator.num_processes
        self.trainer.accelerator.backward(share)
        self.trainer._count_rows(self._n_rows())
        return share.detach()

    def loss_of(self, model) -> torch.Tensor:
        """The mean loss, with a graph, of `model(**inputs)`."""
        return torch.stack([self._share(model, k) for k in range(len(self.parts))]).sum()

    def _n_rows(self) -> int:
        return sum(len(rows["labels"]) for rows in self.parts)

    def _share(self, model, k: int) -> torch.Tensor:
        """Part k's share of the mean loss, ()."""
        trainer = self.trainer
        self.model.train()

        def forward():
            with trainer.compute_loss_context_manager():
                return self.loss(model, dict(self.parts[k])) * self.weights[k]

        if not self.repeat_masks:
            return forward()
        devices = device_rng(trainer.args.device)
        if self.states[k] is None:
            self.states[k] = (torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in devices])
            return forward()
        with torch.random.fork_rng(devices):
            cpu, others = self.states[k]
            torch.set_rng_state(cpu)
            for device, state in zip(devices, others, strict=True):
                torch.cuda.set_rng_state(state, device)
            return forward()
