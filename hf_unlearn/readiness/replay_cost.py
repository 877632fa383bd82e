"""
Row passes of a training that can be replayed where some of its steps have readiness terms, to the row.

Counted as the steps run: the rows that play the request (R), those to keep (K) and the recovery data (Q), with one row
that counts nothing where a process has none. The counts are those of [`hf_unlearn.readiness.gradient`].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..data.columns import FLAG
from ..data.requests_in_replay import RequestsInReplay
from ..objectives.row_nll import IGNORE_INDEX
from ..options.ready import ReadyOptions
from .step_rows import ReadyStep

LOOK = 1 / 3  # of a pass: a forward alone, which a pass over several micro-batches begins with


@dataclass(frozen=True)
class ReadinessCost:
    """
    Args:
        requests: which rows play which request.
        options: of the training; its terms are on.
        micro_batches, processes: into which a step is cut.
        size: rows of a micro-batch of drawn rows.
    """

    requests: RequestsInReplay
    options: ReadyOptions
    micro_batches: int
    processes: int
    size: int

    @property
    def is_exact(self) -> bool:
        """False where the first step of a run may ask the model for more, which the rows alone do not tell."""
        joint = self.options.meta_gradient == "first_order" and self.micro_batches == 1
        return bool(self.requests.rows) or not joint or self.options.meta_forward != "together"

    def added(self, first: int, holes: np.ndarray) -> float:
        """Row passes that readiness terms add to the steps from one on, beside those of the rows themselves."""
        gone = np.zeros(self.requests.order.rows, dtype=bool)
        gone[holes] = True
        turns = range(max(first, self.requests.first), self.requests.order.steps)
        return math.fsum(self._of_step(step, gone) for step in turns if self.requests.has_turn(step))

    def _of_step(self, step: int, gone: np.ndarray) -> float:
        """0 where the step has no request or nothing to keep, which makes it a plain one."""
        parts = self.requests.order.parts(step, self.micro_batches * self.processes)
        flags = tuple((part[~gone[part]] >= self.requests.order.stable).tobytes() for part in parts)
        with_proxy = self.options.resistance_weight > 0
        drawn = bool(self.requests.rows)
        rows = _parts_of_step(flags, float(self.options.meta_rows), with_proxy, drawn, self.processes)
        request, proxy, kept, saved = rows["request"], rows["proxy"], rows["kept"], rows["saved"]
        if drawn:
            numbers = self.requests.numbers(step)
            cut = math.ceil(len(numbers) / 2) if with_proxy else len(numbers)
            request, proxy = (self._dealt(np.count_nonzero(~gone[own])) for own in (numbers[:cut], numbers[cut:]))
        if not request or not kept:
            return 0.0
        return passes_of_request(self.options, request, proxy or kept, kept) - saved

    def _dealt(self, rows: int) -> list[int]:
        """Rows of each micro-batch of drawn rows, over all processes."""
        world = self.processes
        mine = [len(range(rank, rows, world)) for rank in range(world)]
        starts = range(0, math.ceil(rows / world), self.size)
        return [sum(max(1, min(self.size, own - start)) for own in mine) for start in starts]


def passes_of_request(
    options: ReadyOptions, request: Sequence[float], proxy: Sequence[float], kept: Sequence[float]
) -> float:
    """Row passes of a simulated request; of each part its rows in each micro-batch, over all processes."""
    r, q, k = sum(request), sum(proxy), sum(kept)
    if options.meta_gradient == "exact":
        return r  # what double backward runs is not counted in row passes
    looked = r * (1 + LOOK * (len(request) > 1))
    total, second = r * options.inner_steps, options.meta_gradient == "finite_difference"
    total += looked * bool(options.lambda_efficiency) + k * bool(options.lambda_retention)
    total += r * options.inner_steps * second
    if options.resistance_weight:
        total += q + looked + q * second if options.resistance == "relearn" else 2 * (q + r)
    return total


@lru_cache(maxsize=1 << 12)
def _parts_of_step(
    flags: tuple[bytes, ...], used: float, with_proxy: bool, drawn: bool, processes: int
) -> dict[str, list[int]]:
    """
    Rows of the step in each micro-batch that has any of a part, over all processes, and how many rows `saved` have
    their pass as the request and not with the others.

    Args:
        flags: of each micro-batch, which of its rows are revocable; without rows one stands in.
    """
    batches = []
    for own in flags:
        revocable = torch.tensor([*own] or [0], dtype=torch.bool)
        labels = torch.full((len(revocable),), 0 if own else IGNORE_INDEX)
        batches.append({"labels": labels, FLAG: revocable})
    step = ReadyStep(batches)
    step.divide(None, used, with_proxy, 1, 0, lambda counts: counts, drawn)
    counted: dict[str, list[int]] = {}
    for kind in ("request", "proxy", "kept"):
        rows = [int(mask[kind].sum()) for mask in step.masks]
        labelled = [bool(own) and n > 0 for own, n in zip(flags, rows, strict=True)]
        groups = range(0, len(flags), processes)
        counted[kind] = [
            sum(max(1, n) for n in rows[g : g + processes]) for g in groups if any(labelled[g : g + processes])
        ]
    rest = [max(1, int((~mask["request"]).sum())) for mask in step.masks]
    return {**counted, "saved": sum(map(len, (batch["labels"] for batch in batches))) - sum(rest)}
