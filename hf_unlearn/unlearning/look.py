"""
Looks: measurements of the whole forget set and of the retain sample between two steps. This file decides when a look is
worth its forward passes, and whether the weights go back after it.

Differs from the paper: it has no looks; all of this is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from .schedule import Rule, State
from .stop_rule import overshoot, resists, retain_limit, settled_limit, settles, transient_limit

NEAR = 0.2  # of τ: a look is due once the batches' mean forget loss is at most so far short of the target
RARELY = 5  # times as rare are looks where batches do not tell both losses, so that each is measured
FRESH = 3  # looks: where the objective holds the rows at τ, no way back begins at an older snapshot short of it


def look_every(n_forget: int, batch_size: int) -> int:
    """Steps between two decisions about a look: half a forget pass, so that looks never cost much."""
    return max(1, round(n_forget / batch_size / 2))


@dataclass(frozen=True)
class Look:
    """
    What to do next, judged by the losses of the batches since the last look.

    Args:
        kept: their retain loss is within the retain budget, which confirms the snapshot awaiting confirmation.
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
    forget_pass: int = 0,
    last: bool = False,
) -> Look:
    """
    Args:
        shortfall: of the batches' mean forget loss
            ([`~hf_unlearn.objectives.base.Objective.shortfall_of_mean`]); nan: not known.
        retain_loss: the batches' mean retain loss in nats; nan counts as beyond every limit.
        recovered_loss: mean loss in nats after simulated recoveries; None: none are simulated.
        forget_pass: forget passes done.
        last: no step follows.
    """
    kept = retain_loss <= retain_limit(rule, state)
    resisting = resists(state, recovered_loss)  # else the run could not end here, whatever a look found
    lost = not retain_loss <= transient_limit(rule, state)
    near = max(NEAR, 2 * state.tolerance)
    pending = last or lost or state.reached > 0 or state.over_budget > 0
    recovering = settles(rule, state, forget_pass) and not retain_loss <= settled_limit(rule, state)
    recovering = recovering and shortfall >= -overshoot(state)  # further beyond, it may have to go back
    return Look(
        kept=kept,
        short=shortfall > state.tolerance,
        snapshot=kept and (shortfall > near or not resisting),
        measure=pending or (kept and shortfall <= near and resisting and not recovering),
    )


def goes_back(
    shortfall: float,
    *,
    tolerance: float,
    has_targets: bool,
    lifted: bool,
    steps: int,
    every: int,
    holds: bool,
    kept: bool,
) -> bool:
    """
    Whether the weights go back to where the forget loss was at τ, because it is now beyond it. A loss beyond τ would
    show an attacker that the rows were deleted.

    Args:
        shortfall: what a look has found, from where the rows began if that was beyond τ.
        tolerance: of the request's state.
        has_targets: each forget row has a target of its own. The weights then never go back: the shortfall is a mean
            of distances, and does not say on which side of their targets the rows are.
        lifted: the objective stops at τ by itself, and the simulated recoveries drive the forget loss beyond it on
            purpose. The weights then stay: going back would undo the resistance.
        steps: since the last snapshot that was short of the target.
        every: steps between two looks.
        holds: of the request's rule. Where nothing holds the rows, they go on away from τ, however old the snapshot is.
        kept: the present weights are within the budgets, so that those on the way back to weights that were may be.
    """
    near = steps <= FRESH * every or (kept and not holds)
    return shortfall < -tolerance and not has_targets and not lifted and near
