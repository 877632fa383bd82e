"""
One optimizer step of a request: which rows go through the model, in which order, and what is left out.

Differs from the paper: there all rows of a step go through the model at once; the order, the hinge gate's savings and
the simulated recovery are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..data.batch import count_labels, part
from ..data.columns import FLAG, FORGET_INDEX
from ..objectives.base import Objective

TOGETHER, IN_TURN, RETAIN_ONLY, FORGET_ONLY = "together", "in_turn", "retain_only", "forget_only"


@dataclass
class HingeGate:
    """
    The hinge gate: what the last look of a step at its forget rows has found. The gate is closed when the objective's
    derivative at this loss is zero under the current τ, which may have moved since.
    """

    loss: torch.Tensor | None = None  # () mean forget loss, nats; None: not known
    unlooked: int = 0  # steps since then

    def look(self, loss: torch.Tensor) -> None:
        self.loss, self.unlooked = loss.detach(), 0

    def is_closed(self, slope: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """`slope`: loss () -> the objective's derivative () there, under the current τ."""
        return self.loss is not None and bool(slope(self.loss) == 0)

    def to_dict(self) -> dict:
        if self.loss is None or not torch.isfinite(self.loss):
            return {}
        return {"loss": float(self.loss), "unlooked": self.unlooked}

    @classmethod
    def from_dict(cls, found: dict | None, like: torch.Tensor) -> HingeGate:
        """`like`: a tensor of the losses' type and device."""
        if not found:
            return cls()
        return cls(like.new_tensor(found["loss"]), found["unlooked"])


@dataclass
class UnlearnStep:
    """The micro-batches of one optimizer step, with counts over all of them on all processes, and the sums so far."""

    batches: list[dict] = field(repr=False)
    forget_items: torch.Tensor  # () labels of forget rows
    retain_items: torch.Tensor  # () labels of retain rows
    forget_rows: torch.Tensor  # () forget rows
    retain_rows: torch.Tensor  # () retain rows
    forget_later: torch.Tensor  # () labels of forget rows, but for each row's first in a language model
    retain_later: torch.Tensor  # () the same of retain rows
    positions: float  # of a micro-batch on one process, on average
    plan: str = TOGETHER
    forget_loss: torch.Tensor | None = None  # () mean so far
    retain_loss: torch.Tensor | None = None  # () mean so far
    row_term: torch.Tensor | float = 0.0  # () what the objective has of single rows, so far
    recovered_loss: torch.Tensor | None = None  # () of the rows held out of a simulated recovery, after it
    resistance_term: torch.Tensor | float = 0.0  # ()
    general_term: torch.Tensor | float = 0.0  # ()
    done: int = 0  # micro-batches whose retain rows have had their forward

    def end(self) -> bool:
        """Counts a micro-batch whose retain rows have had their forward; True at the step's last."""
        self.done += 1
        return self.done == len(self.batches)

    def add_forget(self, mean: torch.Tensor) -> None:
        self.forget_loss = mean if self.forget_loss is None else self.forget_loss + mean

    def add_retain(self, mean: torch.Tensor) -> None:
        self.retain_loss = mean if self.retain_loss is None else self.retain_loss + mean

    def value_count(self, average: str, forget: bool) -> torch.Tensor:
        """What the sum of the step's row values is divided by, (): of forget or of retain rows."""
        rows, labels, later = (
            (self.forget_rows, self.forget_items, self.forget_later)
            if forget
            else (self.retain_rows, self.retain_items, self.retain_later)
        )
        return {"rows": rows, "labels": labels, "later_labels": later}[average].clamp_min(1)

    def value(self, objective: Objective, *, forget_loss: torch.Tensor, alpha: float, tau: float) -> torch.Tensor:
        """The objective (), after the last micro-batch. The loss of retain rows that were left out counts as 0."""
        retain_loss = torch.zeros_like(forget_loss) if self.retain_loss is None else self.retain_loss
        value = objective.mean_value(forget_loss, retain_loss, alpha=alpha, tau=tau).detach()
        return value + self.row_term + self.resistance_term + self.general_term


class Recovery:
    """
    Which forget rows of a step a simulated attacker trains on ("proxy") and which are "held" out: by turns, in the
    order of the data set; a row that comes twice plays the same part. So it does not matter how the step is cut.

    Args:
        rows_each: forget rows of a micro-batch on one process, at most.
        reduce: sums a tensor over processes.
    """

    def __init__(self, batches: list[dict], rows_each: int, world: int, rank: int, reduce: Callable):
        here = torch.zeros(len(batches), world, rows_each, dtype=torch.int64)  # 1 + place in the forget set
        for i, batch in enumerate(batches):
            places = batch[FORGET_INDEX][batch[FLAG]].cpu()
            here[i, rank, : len(places)] = places + 1
        order = [place - 1 for place in dict.fromkeys(reduce(here).flatten().tolist()) if place]
        self.batches, self.masks = batches, []
        counts = torch.zeros(len(batches), 2, dtype=torch.float64)
        for i, batch in enumerate(batches):
            forget = batch[FLAG].cpu()
            proxy = forget & torch.isin(batch[FORGET_INDEX].cpu(), torch.tensor(order[1::2]))
            self.masks.append({"held": forget & ~proxy, "proxy": proxy})
            for k, mask in enumerate(self.masks[-1].values()):
                counts[i, k] = count_labels(batch["labels"][mask.to(batch["labels"].device)]).cpu()
        counts = reduce(counts).cpu()
        self.items = dict(zip(("held", "proxy"), counts.sum(0).tolist(), strict=True))
        self.places = {kind: counts[:, k].nonzero().flatten().tolist() for k, kind in enumerate(self.items)}

    @property
    def possible(self) -> bool:
        """Whether both parts have labels to play with."""
        return all(self.items.values())

    def parts(self, kind: str) -> list[tuple[dict, bool]]:
        """The micro-batches with such rows on any process: as many passes on every process, or collectives hang."""
        return [part(self.batches[i], self.masks[i][kind]) for i in self.places[kind]]
