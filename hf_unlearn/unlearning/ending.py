"""
What a request leaves: the losses of the weights that it ends with, which need not be those of its last step.

Differs from the paper: it measures nothing after the last step; all of this is ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .schedule import Rule, State
from .stop_rule import general_limit, overshoot, retain_limit


@dataclass(frozen=True)
class Ending:
    """
    Args:
        forget_loss: mean loss of the whole forget set, nats.
        tau: τ of the last step, nats.
        shortfall: how far the forget set is from its target, as a share of it; below 0 beyond it.
        tolerance: how large a share of it may be lacking.
        overshoot: how large a share of it they may be beyond it.
        retain_loss: mean loss of the retain sample, nats.
        retain_before: the same before the first step.
        retain_limit: how high it may be.
        general_loss, general_before, general_limit: the same of the general texts that were only measured; None: there
            are none.
        by_rows: each forget row has a target of its own, and `shortfall` says how far they are from these; else it is
            of their mean.
    """

    forget_loss: float
    tau: float
    shortfall: float
    tolerance: float
    retain_loss: float
    retain_before: float
    retain_limit: float
    overshoot: float
    general_loss: float | None = None
    general_before: float | None = None
    general_limit: float | None = None
    by_rows: bool = False

    @property
    def forgotten(self) -> bool:
        """Whether the target is reached, or passed; False for nan."""
        return self.shortfall <= self.tolerance

    @property
    def beyond(self) -> bool:
        """Whether the rows are so far beyond the target that they stand out as deleted."""
        return self.shortfall < -self.overshoot

    @property
    def kept(self) -> bool:
        """Whether the retain rows' loss is within its budget; False for nan."""
        return self.retain_loss <= self.retain_limit

    def to_dict(self) -> dict:
        said = {"forgotten": self.forgotten, "beyond": self.beyond, "kept": self.kept, "able": self.able}
        return {**asdict(self), **said}

    @property
    def able(self) -> bool:
        """Whether the general texts' loss is within its budget, or there are none; False for nan."""
        return self.general_loss is None or self.general_loss <= self.general_limit


def ending(rule: Rule, state: State, found: dict[str, float], by_rows: bool = False) -> Ending:
    """`found`: `forget_loss`, `shortfall`, `retain_loss` and perhaps `general_loss` of the weights that are left."""
    return Ending(
        forget_loss=found["forget_loss"],
        tau=state.tau,
        shortfall=found["shortfall"],
        tolerance=state.tolerance,
        retain_loss=found["retain_loss"],
        retain_before=state.retain_initial,
        retain_limit=retain_limit(rule, state),
        overshoot=overshoot(state),
        general_loss=found.get("general_loss"),
        general_before=state.general_initial,
        general_limit=None if rule.general_budget is None else general_limit(rule, state),
        by_rows=by_rows,
    )
