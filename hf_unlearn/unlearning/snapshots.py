"""
Snapshots: copies of the weights that a request may have to return to, and how it returns.

Differs from the paper: it never goes back; all of this is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..readiness.moving_weights import copies_of, local_shard, put_

BISECTIONS = 6  # halvings of a way back, at most
Snapshot = tuple[int, list[torch.Tensor]]  # step, trainable weights on the CPU
# Attribute -> key in the file beside a checkpoint.
KEYS = {
    "good": "good",
    "measured": "measured",
    "short_of_target": "below",
    "candidate": "candidate",
    "reached": "reached",
}


class Snapshots:
    """
    Copies of the trainable weights, on the CPU.

    Args:
        trainable: gives the trainable weights. It is asked each time, since where they are sharded they must be made
            shards again before anyone writes to them.
        step: the step of the present weights, which are taken as good.

    Attributes:
        good: last snapshot within the retain budget, by the retain sample or by the batches that followed it.
        measured: last snapshot that the retain sample has shown to be within the retain budget.
        short_of_target: last good snapshot whose forget loss was short of the target.
        candidate: snapshot awaiting confirmation; becomes `good` if the next batches stay within the retain budget.
            None: there is none.
        reached: last snapshot that a look has found at the target and within the budgets; None: there is none, or the
            target moves.
    """

    def __init__(self, trainable: Callable[[], Sequence[torch.Tensor]], step: int):
        self.trainable = trainable
        self.good = self.measured = self.short_of_target = self.now(step)
        self.candidate: Snapshot | None = None
        self.reached: Snapshot | None = None

    def __repr__(self) -> str:
        steps = {name: None if getattr(self, name) is None else getattr(self, name)[0] for name in KEYS}
        return f"Snapshots({', '.join(f'{name}: step {step}' for name, step in steps.items() if step is not None)})"

    def now(self, step: int) -> Snapshot:
        """A snapshot of the present weights, which are those of `step`."""
        return step, copies_of(self.trainable(), "cpu")

    def differ_from_good(self) -> bool:
        """Whether a present weight is another than in the good snapshot, of this rank's shards."""
        pairs = zip(self.trainable(), self.good[1], strict=True)
        return any(not torch.equal(local_shard(p.detach()).cpu(), kept) for p, kept in pairs)

    def accept_candidate(self, short: bool) -> None:
        """The batches since are within the retain budget; `short`: and their forget loss is short of the target."""
        if self.candidate is not None:
            self.good = self.candidate
            if short:
                self.short_of_target = self.candidate

    def accept_now(self, step: int, short: bool) -> None:
        """The retain sample is within the retain budget at the present weights; `short` likewise."""
        self.measured = self.good = self.now(step)
        if short:
            self.short_of_target = self.good

    def go_back(self, measure: Callable[[], dict], tolerance: float, ahead: float = 0.0) -> dict:
        """
        Bisects the straight line from the last snapshot short of the target to the present weights, until
        |`shortfall`| of what `measure` finds is within the tolerance. Leaves the weights there and returns what was
        found last. The reason: rows whose loss is beyond the target stand out as deleted.

        Args:
            ahead: how far beyond the target the rows began, as a share of it: that far they may be.
        """
        self.candidate = None  # the batches that come are not of its weights
        start, end = self.short_of_target[1], copies_of(self.trainable(), "cpu")
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            self._put(start, end, middle)
            found = measure()
            lacking = found["shortfall"] + ahead
            if abs(lacking) <= tolerance:
                break
            low, high = (middle, high) if lacking > 0 else (low, middle)
        return found

    def restore_reached(self) -> int:
        """Puts the last snapshot at the target back and returns its step."""
        step, weights = self.reached
        put_(self.trainable(), weights)
        return step

    def restore_good(self, within: Callable[[], bool]) -> int:
        """
        Puts the good snapshot back and returns its step. Where only batches have shown it to be good and the retain
        sample disagrees (`within`), puts weights on the straight line to it from the measured snapshot, which may be
        the measured snapshot itself: its step is returned then.
        """
        (step, good), (first, measured) = self.good, self.measured
        shares = [1.0] if good is measured else [*(0.5**k for k in range(BISECTIONS)), 0.0]
        for share in shares:
            self._put(measured, good, share)
            if good is measured or within():
                break
        return step if share else first

    def _put(self, start: list[torch.Tensor], end: list[torch.Tensor], share: float) -> None:
        put_(self.trainable(), (torch.lerp(a, b, share) for a, b in zip(start, end, strict=True)))

    def to_dict(self) -> dict[str, Snapshot | None]:
        return {key: getattr(self, name) for name, key in KEYS.items()}

    def load(self, saved: dict[str, Snapshot | None]) -> None:
        for name, key in KEYS.items():
            setattr(self, name, saved.get(key))
