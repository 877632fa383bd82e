"""Gradients of given rows before a request's first step: which weights matter for them, by size or mean square."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import micro_batch_rows
from ..evaluation import evaluating
from .engines import keeps_shards, total
from .general_term import dealt_out

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

logger = logging.getLogger(__name__)

BISECTIONS = 64  # of the threshold in float64: until the share is met, or no number lies between


def gradients(trainer: UnlearnTrainer, rows, size: int) -> Iterator[None]:
    """
    Backward in eval mode of so many rows of this process at a time: of a single row's mean loss, or of the rows' sum.
    Each time that it yields, `.grad` holds the sum so far.
    """
    accelerator = trainer.accelerator
    model = trainer.model if keeps_shards(accelerator) else accelerator.unwrap_model(trainer.model)
    parts = dealt_out(list(range(len(rows))), accelerator.process_index, accelerator.num_processes, size)
    with evaluating(model), torch.enable_grad():
        for numbers, counts in parts:
            batch = trainer._prepare_inputs(dict(trainer.data_collator([rows[i] for i in numbers])))
            with trainer.compute_loss_context_manager():
                nll, items = trainer.steps.nll(model, batch)
            (counts * (nll.sum() if size > 1 else nll.sum() / items.sum())).backward()
            trainer.count_rows(len(numbers))
            yield


def importances(trainer: UnlearnTrainer, rows) -> list[Tensor]:
    """Sum over all rows of the squared gradient of a row's mean loss, for each trainable parameter."""
    sums = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in trainer.trainable]
    for _ in gradients(trainer, rows, 1):
        for p, found in zip(trainer.trainable, sums, strict=True):
            if p.grad is not None:
                found += p.grad.to(found.dtype).square()
                p.grad = None
    return [total(trainer.accelerator, found) for found in sums]


def edit_weights(trainer: UnlearnTrainer) -> float:
    """
    Lets the objective edit the trainable weights, from the importances of the forget rows and of all rows; returns the
    largest ratio of the two.
    """
    forget = importances(trainer, trainer.forget_dataset)
    retain = importances(trainer, trainer.retain_dataset)
    n_forget, n = len(trainer.forget_dataset), len(trainer.forget_dataset) + len(trainer.retain_dataset)
    most = 0.0
    with torch.no_grad():
        for p, own, other in zip(trainer.trainable, forget, retain, strict=True):
            of_forget, of_all = own / n_forget, (own + other) / n
            p.copy_(trainer.objective.edited(p, of_forget, of_all))
            if bool((own > 0).any()):
                most = max(most, float((of_forget / of_all)[own > 0].max()))
    return most


class Saliency:
    """
    Which weights a request may move: the share of them whose |∇L_f| before the first step is largest, over all
    trainable weights together (Fan et al. 2024, SalUn). All others keep every bit, as do weights without a gradient,
    also where fewer than the share have one: of a new LoRA adapter the first of its two factors has none yet.

    Attributes:
        masks: of each trainable parameter (of its shard), bool; [] before they are made.
    """

    def __init__(self, trainer: UnlearnTrainer, share: float | None):
        self.trainer, self.share = trainer, share
        self.masks: list[Tensor] = []

    def choose(self) -> None:
        """Makes the masks from the gradient of the whole forget set's loss."""
        if self.share is None:
            return
        trainer = self.trainer
        for _ in gradients(trainer, trainer.forget_dataset, micro_batch_rows(trainer.args)):
            pass
        sizes = []
        for p in trainer.trainable:
            own = torch.zeros_like(_here(p)) if p.grad is None else _here(p.grad)
            sizes.append((own if keeps_shards(trainer.accelerator) else total(trainer.accelerator, own)).abs())
            p.grad = None
        limit = self._threshold(sizes)
        self.masks = [(own >= limit) & (own > 0) for own in sizes]
        if limit == 0:
            logger.warning(
                "`saliency` is %g, and fewer of the trainable weights have a gradient before the first step (of a new "
                "adapter, one of its two factors has none): those that have one move, and no others.", self.share
            )  # fmt: skip

    def _threshold(self, sizes: list[Tensor]) -> float:
        """The size that a share of all weights reaches or exceeds, by bisection: no copy of the gradient is sorted."""
        trainer = self.trainer
        sharded = keeps_shards(trainer.accelerator)

        def counted(values: list[Tensor]) -> float:
            found = torch.stack([value.double().sum() for value in values]).sum()
            return float(total(trainer.accelerator, found) if sharded else found)

        wanted = self.share * counted([torch.ones_like(own) for own in sizes])
        low, high = 0.0, max((float(own.max()) for own in sizes if own.numel()), default=0.0)
        if sharded:  # the same bounds on all processes, or each would count at sizes of its own
            own = torch.tensor([high], device=trainer.accelerator.device, dtype=torch.float64)
            high = float(trainer.accelerator.gather(own).max())
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if counted([own >= middle for own in sizes]) >= wanted else (low, middle)
        return low

    def mask_gradients(self) -> None:
        """After the step's last backward."""
        for p, mask in zip(self.trainer.trainable if self.masks else [], self.masks, strict=True):
            if p.grad is not None:
                _here(p.grad).mul_(mask)


def _here(tensor: Tensor) -> Tensor:
    """The shard of a sharded tensor on this process, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
