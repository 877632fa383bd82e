"""One optimizer step of a request: which rows go through the model, in which order, and what is left out (ours)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .objectives import Objective

TOGETHER, IN_TURN, RETAIN_ONLY = "together", "in_turn", "retain_only"


@dataclass
class Gate:
    """
    The forget loss when a step last looked at its forget rows. The gate is shut where the objective has no slope there:
    by the target of now, which may have moved since.
    """

    loss: torch.Tensor | None = None  # (), None: not known
    unlooked: int = 0  # steps since then

    def look(self, loss: torch.Tensor) -> None:
        self.loss, self.unlooked = loss.detach(), 0

    def to_dict(self) -> dict:
        if self.loss is None or not torch.isfinite(self.loss):
            return {}
        return {"loss": float(self.loss), "unlooked": self.unlooked}

    @classmethod
    def from_dict(cls, found: dict | None, like: torch.Tensor) -> Gate:
        """`like`: a tensor of the losses' type and device."""
        if not found:
            return cls()
        return cls(like.new_tensor(found["loss"]), found["unlooked"])


@dataclass
class UnlearnStep:
    """The micro-batches of one optimizer step, with counts over all of them on all processes, and the sums so far."""

    batches: list[dict]
    forget_items: torch.Tensor  # () labels of forget rows
    retain_items: torch.Tensor  # () labels of retain rows
    forget_rows: torch.Tensor  # () forget rows
    positions: float  # of a micro-batch on one process, on average
    plan: str = TOGETHER
    forget_loss: torch.Tensor | None = None  # () mean so far
    retain_loss: torch.Tensor | float = 0.0  # () mean so far
    row_term: torch.Tensor | float = 0.0  # () the forget term of an objective by rows, so far
    _done: int = field(default=0)

    def add_forget(self, mean: torch.Tensor) -> None:
        self.forget_loss = mean if self.forget_loss is None else self.forget_loss + mean

    def another_done(self) -> bool:
        """Counts one micro-batch; True at the step's last."""
        self._done += 1
        return self._done == len(self.batches)

    def value(self, objective: Objective, *, forget_loss: torch.Tensor, alpha: float, tau: float) -> torch.Tensor:
        """The objective (), after the last micro-batch."""
        return objective.mean_value(forget_loss, self.retain_loss, alpha=alpha, tau=tau).detach() + self.row_term
