"""
Looks: measurements of the whole forget set and of the retain sample between two steps. When one is worth its forward
passes, and what is done with the weights then (all ours).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..objectives.gaps import TOLERANCE
from .schedule import Rule, State
from .stop_rule import resists, retain_limit, transient_limit

NEAR = 0.2  # shortfall from which on the batches call for a look
FRESH = 3  # looks: a snapshot short of the target that is older than these is too far away to go back to


def look_every(n_forget: int, batch_size: int) -> int:
    """Steps between two decisions about a look: half a forget pass, so that looks never cost much."""
    return max(1, round(n_forget / batch_size / 2))


@dataclass(frozen=True)
class Look:
    """
    What the batches since the last look call for.

    Args:
        kept: their retain loss is within the retain budget, which vouches for the snapshot awaiting confirmation.
        short: their forget loss is short of the target.
        snapshot: take a snapshot now, for the next batches to confirm.
        measure: measure the whole forget set and the retain sample.
    """

    kept: bool
    short: bool
    snapshot: bool
    measure: bool


def plan_look(
    rule: Rule,
    state: State,
    *,
    shortfall: float,
    retain_loss: float,
    recovered_loss: float | None = None,
    last: bool = False,
) -> Look:
    """
    Args:
        shortfall: of the batches' mean forget loss
            ([`~hf_unlearn.objectives.base.Objective.shortfall_of_mean`]); nan: not known.
        retain_loss: the batches' mean retain loss in nats; nan counts as beyond every limit.
        recovered_loss: mean loss in nats after simulated recoveries; None: none are simulated.
        last: no step follows.
    """
    kept = retain_loss <= retain_limit(rule, state)
    resisting = resists(state, recovered_loss)  # else the run could not end here, whatever a look found
    lost = not retain_loss <= transient_limit(rule, state)
    pending = last or lost or state.reached > 0 or state.over_budget > 0
    return Look(
        kept=kept,
        short=shortfall > TOLERANCE,
        snapshot=kept and (shortfall > NEAR or not resisting),
        measure=pending or (kept and shortfall <= NEAR and resisting),
    )


def goes_back(shortfall: float, *, has_targets: bool, lifted: bool, steps: int, every: int) -> bool:
    """
    Whether the weights go back from beyond τ, where rows stand out as deleted, to where the forget rows are at it.

    Args:
        shortfall: what a look has found.
        has_targets: each forget row has a target of its own, which pulls it from both sides or not at all.
        lifted: the objective stops at τ by itself, and simulated recoveries drive the rows beyond it: going back would
            undo what they are for.
        steps: since the last snapshot that was short of the target.
        every: steps between two looks.
    """
    return shortfall < -TOLERANCE and not has_targets and not lifted and steps <= FRESH * every
