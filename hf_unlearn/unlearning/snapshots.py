"""Weights that a request may have to return to, and the way back to them (all ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..readiness.moving_weights import copies_of, put_

BISECTIONS = 6  # halvings of a way back, at most
Snapshot = tuple[int, list[torch.Tensor]]  # step, trainable weights on the CPU


class WayBack:
    """
    Snapshots of the trainable weights, on the CPU.

    Args:
        trainable: gives the trainable weights. It is asked each time, since where they are sharded they must be made
            shards again before anyone writes to them.
        step: of the weights of now, which are taken as good.

    Attributes:
        good: the last weights known to be within the retain budget, or that the batches after them say this of.
        measured: the last weights that the retain sample has shown to be within it.
        below: the last of the good ones that were short of τ.
        candidate: weights that the coming batches have still to say this of; None: no such.
    """

    KEYS = ("good", "measured", "below", "candidate")

    def __init__(self, trainable: Callable[[], Sequence[torch.Tensor]], step: int):
        self.trainable = trainable
        self.good = self.measured = self.below = self.now(step)
        self.candidate: Snapshot | None = None

    def now(self, step: int) -> Snapshot:
        return step, copies_of(self.trainable(), "cpu")

    def vouch(self, short: bool) -> None:
        """The batches since say that the candidate's rows are kept; `short`: and short of τ."""
        if self.candidate is not None:
            self.good = self.candidate
            if short:
                self.below = self.candidate

    def confirm(self, step: int, short: bool) -> None:
        """The retain sample says so of the weights of now."""
        self.measured = self.good = self.now(step)
        if short:
            self.below = self.good

    def retreat(self, measure: Callable[[], dict], tolerance: float) -> dict:
        """
        Rows driven beyond τ stand out as deleted. The weights go back on the straight line to the last that were short
        of τ, until |`shortfall`| of what `measure` finds is within the tolerance; returns what it found last.
        """
        start, end = self.below[1], copies_of(self.trainable(), "cpu")
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            self._put(start, end, middle)
            found = measure()
            if abs(found["shortfall"]) <= tolerance:
                break
            low, high = (middle, high) if found["shortfall"] > 0 else (low, middle)
        return found

    def restore(self, within: Callable[[], bool]) -> int:
        """
        Puts the good weights back and returns their step. Where only batches vouched for them and the retain sample
        disagrees (`within`), weights on the way to them from those that it was measured on.
        """
        (step, good), (_, safe) = self.good, self.measured
        shares = [1.0] if good is safe else [*(0.5**k for k in range(BISECTIONS)), 0.0]
        for share in shares:
            self._put(safe, good, share)
            if good is safe or within():
                break
        return step

    def _put(self, start: list[torch.Tensor], end: list[torch.Tensor], share: float) -> None:
        put_(self.trainable(), [torch.lerp(a, b, share) for a, b in zip(start, end, strict=True)])

    def to_dict(self) -> dict[str, Snapshot | None]:
        return {key: getattr(self, key) for key in self.KEYS}

    def load(self, saved: dict[str, Snapshot | None]) -> None:
        for key in self.KEYS:
            setattr(self, key, saved[key])
