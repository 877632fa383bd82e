"""One optimizer step of a request: which rows go through the model, in which order, and what is left out (ours)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .objectives import Objective

TOGETHER, IN_TURN, RETAIN_ONLY = "together", "in_turn", "retain_only"


@dataclass
class Gate:
    """Whether the forget rows had a gradient when they were last looked at."""

    slope: torch.Tensor | None = None  # () of the objective at that step's forget loss; read a step later, no stall
    loss: torch.Tensor | None = None  # () that forget loss
    unlooked: int = 0  # steps since then

    @property
    def shut(self) -> bool:
        return self.slope is not None and bool(self.slope == 0)

    def look(self, slope: torch.Tensor, loss: torch.Tensor) -> None:
        self.slope, self.loss, self.unlooked = slope.detach(), loss.detach(), 0

    def to_dict(self) -> dict:
        if not self.shut:
            return {"shut": False}
        return {"shut": True, "loss": float(self.loss), "unlooked": self.unlooked}

    @classmethod
    def from_dict(cls, found: dict | None, device) -> Gate:
        if not (found or {}).get("shut"):
            return cls()
        zero = torch.zeros((), device=device)
        return cls(zero, zero + found["loss"], found["unlooked"])


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
