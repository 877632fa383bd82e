"""
When a request stops, and why. The target counts as reached where the gap's `shortfall` is at most the tolerance: 5 %,
more where few rows make a mean uncertain ([`~hf_unlearn.unlearning.schedule.tolerance`]); `objectives/gaps.py` says of
what, τ for a mean, the rows' targets for the gaps by rows. And it is at least minus that, or -OVERSHOOT (-10 %), which
gaps by rows never pass: their shortfall is not negative. Rows that were beyond τ before the first step may stay there.

The budget is what a finished run may cost at most. A run that has reached its target within it goes on until the retain
rows' labels are as likely as they were but for [`KEPT`], though not for ever ([`settles`]): they recover while the
objective holds the forget rows where they are. Where nothing holds these, the first look that finds them at the target
ends the run. A run that had reached its target, where that stands still, and ends otherwise goes back to the last
weights that had ([`ends_where_reached`]).

Differs from the paper: it has no stop rule; all of this is ours.
"""

from __future__ import annotations

import math
from dataclasses import replace

from .schedule import Rule, State, cap

REACHED = "forget_loss_reached_target"
BUDGET = "retain_budget_spent"
GENERAL = "general_budget_spent"
SPENT = (BUDGET, GENERAL)  # after which weights within the budgets are put back
DONE = "all_passes_done"
MAX_STEPS = "max_steps"
INTERRUPTED = "interrupted"
REPLAYED = "replayed"
DROPPED = "dropped"
STOP_REASONS = {
    REACHED: "the forget rows' loss reached the target",
    BUDGET: "the retain rows' loss rose beyond the retain budget; the last weights within it were put back",
    GENERAL: "the model got worse at general texts than their budget allows; the last weights within it were put back",
    DONE: "all forget passes were done",
    MAX_STEPS: "`max_steps` was reached",
    INTERRUPTED: "the run was ended from outside",
    REPLAYED: "the training was run again without the rows, from before them to its end",
    DROPPED: "what the asked sources had taught was taken out of the memory",
}
PATIENCE = 2  # consecutive looks: "reached and stayed" where something holds the rows, and likewise for the budget
TRANSIENT = math.log(2)  # nats: by so much more may the general texts' loss rise during a run, if it falls again
RECOVERY = 0.1  # of τ: by so much the loss after a simulated recovery may be short of it
RECOVERING = 3  # times the passes to the target: so many in all may a run take for the retain rows to recover, …
LEFT = 1 / 8  # … but not the last ones: of those that are left at the target, this share is for finding it again
KEPT = -math.log(0.98)  # nats: labels that are 98 % as likely as before (geometric mean) are as good as kept
OVERSHOOT = 0.1  # of τ: a forget loss further above it marks the rows as deleted, and does not count as reached


def retain_limit(rule: Rule, state: State) -> float:
    """The retain loss in nats that a finished run may leave behind."""
    return state.retain_initial + rule.retain_budget


def settled_limit(rule: Rule, state: State) -> float:
    """The retain loss in nats at which a run that has reached its target has nothing left to recover."""
    return state.retain_initial + min(KEPT, rule.retain_budget)


def settles(rule: Rule, state: State, forget_pass: int) -> bool:
    """
    Whether a run that has reached its target goes on so that the retain rows recover: until it has taken `fewest`
    passes, or [`RECOVERING`] times those to its target, and not in the last passes ([`LEFT`]). Only where something
    brings the retain rows back while the forget rows stay, at a target that stands still.
    """
    first = state.first_reached
    if not (rule.recovers and rule.holds) or rule.target == "current" or first is None:
        return False
    until = max(RECOVERING * max(first, 1), rule.fewest)
    return forget_pass < min(until, rule.passes - LEFT * (rule.passes - first))


def transient_limit(rule: Rule, state: State) -> float:
    """
    The retain loss in nats beyond which the run is stopped: there the model does no better on retain rows than by
    guessing, nor than it did on unseen rows before the first step. Below it the run goes on, since the retain loss
    often rises while the forget loss does, and falls again afterwards.
    """
    limit = retain_limit(rule, state)
    return max(cap(rule, state), limit) if rule.recovers else limit


def general_limit(rule: Rule, state: State) -> float:
    """The loss of the general texts in nats that a finished run may leave behind; inf where there are none."""
    return math.inf if rule.general_budget is None else state.general_initial + rule.general_budget


def within(rule: Rule, state: State, retain_loss: float, general_loss: float | None) -> bool:
    """Whether both losses are within what a finished run may leave behind; False for nan."""
    kept = general_loss is None or general_loss <= general_limit(rule, state)
    return kept and retain_loss <= retain_limit(rule, state)


def update(
    rule: Rule,
    state: State,
    *,
    forget_pass: int,
    shortfall: float | None = None,
    retain_loss: float | None = None,
    recovered_loss: float | None = None,
    general_loss: float | None = None,
) -> State:
    """
    The state after a step, with a `stop_reason` where the run is to end. What is None was not measured this time.

    Args:
        shortfall: how far the whole forget set is from the target, as a share of τ
            ([`~hf_unlearn.objectives.base.Objective.shortfall`]).
        retain_loss: mean loss of the retain sample, in nats. The target counts as reached only while this is within
            the budget, and for some time ([`settles`]) within [`settled_limit`]: until then the run goes on and the
            retain rows recover. Beyond [`transient_limit`] twice in a row, or still beyond the budget after the last
            pass, the budget is spent.
        recovered_loss: mean loss in nats of the rows held out of simulated recoveries, after them; None: none are
            simulated. The target counts as reached only while [`resists`] says so.
        general_loss: mean loss in nats of the general texts that are only measured; it has a budget like the retain
            sample's.
    """
    reached, over, there = state.reached, state.over_budget, False
    first = state.first_reached
    able = general_loss is None or general_loss <= general_limit(rule, state)
    if shortfall is not None:
        there = at_target(rule, state, shortfall, retain_loss, recovered_loss, general_loss)
        first = forget_pass if there and first is None else first
        settled = there and retain_loss <= settled_limit(rule, state)
        on = settles(rule, replace(state, first_reached=first), forget_pass)
        reached = reached + 1 if settled or (there and not on) else 0
    if retain_loss is not None:
        lost = not retain_loss <= transient_limit(rule, state)
        unable = general_loss is not None and not general_loss <= general_limit(rule, state) + TRANSIENT
        over = over + 1 if lost or unable else 0
    reason = None
    if rule.stop and over >= PATIENCE:
        reason = BUDGET if lost else GENERAL
    elif rule.stop and (reached >= patience(rule) or (there and forget_pass >= rule.passes and first < forget_pass)):
        reason = REACHED
    elif forget_pass >= rule.passes:
        kept = retain_loss is None or within(rule, state, retain_loss, general_loss)
        reason = DONE if kept or not rule.stop else spent(able)
    moved = {"forget_pass": forget_pass, "reached": reached, "over_budget": over, "first_reached": first}
    return replace(state, **moved, stop_reason=reason)


def at_target(
    rule: Rule,
    state: State,
    shortfall: float,
    retain_loss: float | None,
    recovered_loss: float | None = None,
    general_loss: float | None = None,
) -> bool:
    """Whether a look has found the forget rows at the target, and all else within its limits; False for nan."""
    near = -overshoot(state) <= shortfall <= state.tolerance
    kept = retain_loss is not None and within(rule, state, retain_loss, general_loss)
    return near and kept and resists(state, recovered_loss)


def patience(rule: Rule) -> int:
    """Looks in a row that must find the target reached: one where nothing would hold the rows there until a second."""
    return PATIENCE if rule.holds else 1


def keeps_reached(rule: Rule) -> bool:
    """Whether weights that are at the target now may be put back later: not where the target moves."""
    return rule.stop and rule.target != "current"


def ends_where_reached(rule: Rule, state: State) -> bool:
    """
    Whether a run that has ended for another reason had reached its target, so that it ends with the last weights that
    had. A single look suffices, also that of the last step.
    """
    lost = state.stop_reason in (DONE, MAX_STEPS, *SPENT)
    return keeps_reached(rule) and lost and state.first_reached is not None


def overshoot(state: State) -> float:
    """By how large a share of τ the forget loss may be beyond it, or beyond where it began, and count as there."""
    return state.ahead + max(OVERSHOOT, state.tolerance)


def resists(state: State, recovered_loss: float | None) -> bool:
    """Whether simulated recoveries leave the rows held out of them near τ, or none are simulated; False for nan."""
    return recovered_loss is None or recovered_loss >= (1 - RECOVERY) * state.tau


def end(rule: Rule, state: State, *, retain_loss: float | None, general_loss: float | None = None) -> State:
    """The state after the last step that `max_steps` allows, where [`update`] has found no other reason to stop."""
    if retain_loss is None or within(rule, state, retain_loss, general_loss):
        return replace(state, stop_reason=MAX_STEPS)
    able = general_loss is None or general_loss <= general_limit(rule, state)
    return replace(state, stop_reason=spent(able))


def spent(able: bool) -> str:
    """Which budget was spent. `able`: that of the general texts was not."""
    return BUDGET if able else GENERAL
