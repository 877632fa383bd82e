"""Passes over some rows of a step, which several processes may hold, for the arithmetic of [`hf_unlearn.readiness`]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.batch import count_labels, with_some_labels
from ..objectives.row_nll import per_row_nll
from ..readiness.passes import Pass
from .engines import device_rng, reshard, steps_in_backward, synchronised, total, unsynchronised

if TYPE_CHECKING:
    from .base import ForgettingTrainer


def dealt_out(numbers: Sequence, rank: int, world: int, size: int) -> list[tuple[Sequence, bool]]:
    """
    `(numbers, whether they count)` of this process's micro-batches, of `size` at most: as many on every process, with
    one row that counts nothing where there is none left.
    """
    mine = numbers[rank::world]
    parts = [mine[start : start + size] for start in range(0, math.ceil(len(numbers) / world), size)]
    return [(part, True) if len(part) else (numbers[:1], False) for part in parts]


class RowsPass(Pass):
    """
    A [`~hf_unlearn.readiness.passes.Pass`] over some rows of a step. Their mean loss is that over all processes and
    micro-batches; the activations are those of one micro-batch.

    Args:
        parts: one `(rows, whether they count)` a micro-batch.
        items: labels among these rows, on all processes.
        repeat_masks: every pass uses the dropout masks of the first one, so that a finite difference of two passes
            is one of weights and not of masks.
        sum_of: (model, rows) -> the sum of their labels' losses (); None: the training loss, a mean over labels
            ([`hf_unlearn.trainers.main_loss`]).
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
        self.loss = trainer.main_loss.mean if sum_of is None else sum_of
        prepared = [trainer._prepare_inputs(rows) for rows, _ in parts]
        self.parts = [with_some_labels(rows) for rows in prepared]
        self.weights = [
            (count_labels(rows["labels"]) if sum_of is None else 1.0) / items if some else 0.0
            for rows, (_, some) in zip(prepared, parts, strict=True)
        ]
        self.states: list = [None] * len(parts)

    def __repr__(self) -> str:
        return f"RowsPass({self.n_rows} rows in {len(self.parts)} micro-batches)"

    @property
    def n_rows(self) -> int:
        """Rows on this process, with those that count nothing."""
        return sum(len(rows["labels"]) for rows in self.parts)

    def forward(self) -> _OneForward | _Look:
        """Of several micro-batches a look without graphs, which the backward's own forwards follow."""
        accelerator = self.trainer.accelerator
        if len(self.parts) > 1:
            with torch.no_grad():
                shares = [self._share(self.model, k) for k in range(len(self.parts))]
            return _Look(self, total(accelerator, torch.stack(shares).sum()))
        with synchronised(accelerator, self.model):
            share = self._share(self.model, 0)
            return _OneForward(self, total(accelerator, share.detach()), share)

    def add_gradient(self, weight: Tensor | float) -> Tensor:
        """Forward and backward of one micro-batch after the other."""
        accelerator, shares = self.trainer.accelerator, []
        for k in range(len(self.parts)):
            last = k == len(self.parts) - 1
            with (synchronised if last else unsynchronised)(accelerator, self.model):
                share = self._share(self.model, k)
                shares.append(share.detach())
                accelerator.backward(share * weight * accelerator.num_processes)
        self.trainer.count_rows(self.n_rows)
        return total(accelerator, torch.stack(shares).sum())

    def add_local_gradient(self) -> Tensor:
        """
        .grad += ∇L of a single micro-batch, in whatever synchronisation the Trainer has set. Returns this process's
        part of what the Trainer logs as the loss, ().
        """
        share = self._share(self.model, 0) * self.trainer.accelerator.num_processes
        unscaled = {"scale_wrt_gas": False} if steps_in_backward(self.trainer.accelerator) else {}
        self.trainer.accelerator.backward(share, **unscaled)
        self.trainer.count_rows(self.n_rows)
        return share.detach()

    def loss_of(self, model) -> Tensor:
        """The mean loss, with a graph, of `model(**inputs)`."""
        return torch.stack([self._share(model, k) for k in range(len(self.parts))]).sum()

    def _share(self, model, k: int) -> Tensor:
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


@dataclass
class _OneForward:
    """The forward of a single micro-batch, with its graph."""

    rows: RowsPass
    loss: Tensor
    share: Tensor  # this process's part of the loss

    def backward(self, weight: Tensor | float) -> Tensor:
        trainer, share = self.rows.trainer, self.share
        del self.share  # its graph goes with the backward
        with synchronised(trainer.accelerator, self.rows.model):
            trainer.accelerator.backward(share * weight * trainer.accelerator.num_processes)
        trainer.count_rows(self.rows.n_rows)
        return self.loss

    def drop(self) -> None:
        del self.share
        _end_without_backward(self.rows)


@dataclass
class _Look:
    """
    A forward of several micro-batches without graphs: the weight depends on the mean over all of them, and the graphs
    of all would need their activations at once. The backward takes each micro-batch's forward anew.
    """

    rows: RowsPass
    loss: Tensor

    def backward(self, weight: Tensor | float) -> Tensor:
        self.rows.trainer.count_rows(self.rows.n_rows, 1 / 3)
        return self.rows.add_gradient(weight)

    def drop(self) -> None:
        _end_without_backward(self.rows)


def _end_without_backward(rows: RowsPass) -> None:
    reshard(rows.trainer.model)
    rows.trainer.count_rows(rows.n_rows, 1 / 3)


class JointRowsPass:
    """
    A [`~hf_unlearn.readiness.passes.JointPass`] over a request's rows and stable rows of one micro-batch, for a
    training loss that is the labels' mean cross-entropy.

    Args:
        rows: both kinds of rows on this process, or one row that counts nothing.
        request, stable: which of them are which, (B,).
        items: labels of both kinds, on all processes.
    """

    def __init__(
        self, trainer: ForgettingTrainer, model, rows: dict, request: Tensor, stable: Tensor, items: tuple[float, float]
    ):
        self.trainer, self.model, self.items = trainer, model, items
        self.rows = trainer._prepare_inputs(rows)
        self.masks = [mask.to(self.rows["labels"].device) for mask in (request, stable)]

    def forward(self) -> _JointForward:
        trainer = self.trainer
        self.model.train()
        with synchronised(trainer.accelerator, self.model), trainer.compute_loss_context_manager():
            logits = self.model(**{k: v for k, v in self.rows.items() if k != "labels"}).logits
            nll, _ = per_row_nll(logits, self.rows["labels"])
        shares = [nll[mask].sum() / items for mask, items in zip(self.masks, self.items, strict=True)]
        revocable, stable = total(trainer.accelerator, torch.stack(shares).detach())
        return _JointForward(self, (revocable, stable), shares)


@dataclass
class _JointForward:
    rows: JointRowsPass
    losses: tuple[Tensor, Tensor]
    shares: list[Tensor]  # this process's parts of the losses, with their graph

    def backward(self, revocable: Tensor | float, stable: Tensor | float) -> None:
        trainer = self.rows.trainer
        loss = sum(weight * share for weight, share in zip((revocable, stable), self.shares, strict=True))
        del self.shares  # their graph goes with the backward
        with synchronised(trainer.accelerator, self.rows.model):
            trainer.accelerator.backward(loss * trainer.accelerator.num_processes)
        trainer.count_rows(len(self.rows.rows["labels"]))
