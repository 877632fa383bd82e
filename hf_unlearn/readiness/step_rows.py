"""Which rows of an optimizer step play the request, the recovery data ("proxy"), and the rows to keep ("stable")."""

from __future__ import annotations

import math

import torch

from ..data.batch import count_labels, count_positions, part
from ..data.columns import FLAG


class ReadyStep:
    """
    The micro-batches of one optimizer step and the part that each of their rows plays. A part is counted over the whole
    step, so it does not depend on how the step is cut into micro-batches and processes.

    Attributes:
        active: whether the readiness terms are added in this step.
        masks: of each micro-batch, which rows are "request", "proxy", "stable" and "kept", each (B,).
        items: labels of each part and of "all" rows, in the step, on all processes.
        places: of each part, the micro-batches with such rows on any process.
        drawn: rows from outside the step, by the part that they play in place of its own rows.
        positions: of the rows that pass through the model again at θ', in the step, on all processes.
    """

    def __init__(self, batches: list[dict]):
        self.batches = batches
        self.active = False
        self.items: dict[str, float] = {}
        self.drawn: dict[str, list[tuple[dict, bool]]] = {}

    def divide(
        self, share: float | None, used: float, with_proxy: bool, world: int, rank: int, reduce, drawn: bool = False
    ) -> None:
        """
        Makes `masks`. A row's part depends on its place in the step: micro-batch by micro-batch, within one rank by
        rank, which is the order of the data set. "stable" are all rows that nobody asks for; of these "kept" are the
        ones in the retention term.

        Args:
            share: this share of the rows, spread over the step, plays the request; None: the flagged rows do.
            used: share of the step's rows that pass through the model again at θ'; it says how many are "kept".
            with_proxy: every second row that would play the request is a proxy.
            reduce: sums a tensor over processes.
            drawn: request and proxy are rows from outside the step; flagged rows of the step are in no part.
        """
        here = torch.zeros(len(self.batches), world, 2, dtype=torch.float64)  # rows and flagged rows of each cut
        for i, batch in enumerate(self.batches):
            flagged = batch[FLAG].sum().cpu() if share is None else 0
            here[i, rank] = torch.tensor([len(batch["labels"]), flagged], dtype=torch.float64)
        if world > 1 and (with_proxy or share is not None or used < 1):
            here = reduce(here).cpu()
        rows, flagged = here.sum((0, 1)).tolist()
        if share is not None:
            flagged = math.floor(rows * share)
        kept = min(1.0, max(1, round(used * rows) - (0 if drawn else flagged)) / max(1, rows - flagged))
        cuts = here.flatten(0, 1)
        before = (cuts.cumsum(0) - cuts).view_as(here)[:, rank].long().tolist()
        self.masks: list[dict[str, torch.Tensor]] = []
        for batch, (rows_before, flagged_before) in zip(self.batches, before, strict=True):
            place = torch.arange(len(batch["labels"]), dtype=torch.float64) + rows_before
            if share is None:
                revocable = batch[FLAG].cpu()
                turn = flagged_before + torch.cumsum(revocable.long(), 0)
            else:
                turn = torch.floor((place + 1) * share).long()
                revocable = turn > torch.floor(place * share).long()
            none = torch.zeros_like(revocable)
            proxy = revocable & (turn % 2 == 0) if with_proxy and not drawn else none
            request = none if drawn else revocable & ~proxy
            due = (place + 1 - turn) * kept + 1e-9  # for the n-th stable row n·kept, safe from rounding
            taken = ~revocable & (torch.floor(due) > torch.floor(due - kept))
            self.masks.append({"request": request, "proxy": proxy, "stable": ~revocable, "kept": taken})

    def count(self, reduce, hidden_size: int) -> None:
        """Labels of each part in each micro-batch, and positions of the rows at θ', over all processes."""
        kinds = ("request", "proxy", "kept")
        counts = torch.zeros(len(self.batches), len(kinds) + 2, dtype=torch.float64)
        for i, (batch, masks) in enumerate(zip(self.batches, self.masks, strict=True)):
            for k, kind in enumerate(kinds):
                if masks[kind].any():
                    counts[i, k] = count_labels(batch["labels"][masks[kind].to(batch["labels"].device)]).cpu()
            moved = (masks["request"] | masks["kept"]).float().mean()
            counts[i, -2] = count_labels(batch["labels"]).cpu()
            counts[i, -1] = count_positions(batch, hidden_size) * moved
        counts = reduce(counts).cpu()
        self.positions = float(counts[:, -1].sum())
        self.places = {kind: counts[:, k].nonzero().flatten().tolist() for k, kind in enumerate(kinds)}
        self.items = dict(zip((*kinds, "all"), counts.sum(0).tolist(), strict=False))

    def count_all(self, reduce) -> None:
        """Labels of all rows, over all processes, for a step that is not divided."""
        labels = torch.stack([count_labels(batch["labels"]).double().cpu() for batch in self.batches]).sum()
        self.items["all"] = float(reduce(labels))

    def draw(self, kind: str, parts: list[tuple[dict, bool]], reduce) -> None:
        """Takes rows from outside the step as its request or proxy."""
        labels = sum((count_labels(rows["labels"]).double() for rows, some in parts if some), torch.zeros(()))
        self.items[kind] = float(reduce(torch.as_tensor(labels).double()))
        if parts:
            self.drawn[kind] = parts

    def part(self, place: int, mask: torch.Tensor) -> tuple[dict, bool]:
        """(rows, whether they count): where the mask is empty, one row that counts nothing, for the collectives."""
        return part(self.batches[place], mask)

    def parts(self, kind: str) -> list[tuple[dict, bool]]:
        """The micro-batches with such rows on any process: as many passes on every process, or collectives hang."""
        if kind in self.drawn:
            return self.drawn[kind]
        return [self.part(i, self.masks[i][kind]) for i in self.places[kind] or [0]]

    def rest(self, place: int) -> tuple[dict, bool]:
        """All rows of a micro-batch but the request's, which have had their main pass."""
        return self.part(place, ~self.masks[place]["request"])
