"""When to ascend, how hard, towards what, and when to stop: pure functions from sizes and losses to decisions.

The schedules of α and τ are those of the authors' code of ∇τ (Trippa et al. 2024, arXiv:2403.14339). The stop rule,
the cap on τ and the retain budget are ours: the original runs a fixed number of passes, and a run whose target
follows the damaged model upward destroys it.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, replace

REACHED = "forget_loss_reached_target"
BUDGET = "retain_budget_spent"
DONE = "all_passes_done"

STOP_REASONS = {
    REACHED: "the forget rows' loss reached the target and stayed there",
    BUDGET: "the retain rows' loss rose beyond the retain budget; the last weights within it were put back",
    DONE: "all forget passes were done",
    "max_steps": "`max_steps` was reached",
    "interrupted": "the run was ended from outside",
}

TOLERANCE = 0.05  # of τ (ours): a forget loss within it counts as having reached the target
PATIENCE = 2  # consecutive looks (ours): "reached and stayed", and likewise for the budget
SURE = 1e-6  # nats (ours): a logit of confidence goes on along its tangent below
SPREAD = 0.5  # of the logits of confidence (ours): where targets differ by less, a distance is measured by this
RECOVERY = 0.1  # of τ (ours): by so much the loss after a simulated recovery may be short of it
OVERSHOOT = 0.1  # of τ (ours): a forget loss further above it marks the rows as deleted, and does not count as reached


def initial_alpha(n_forget: int, n_retain: int) -> float:
    """α₀ = (5/3)·|D_f| / |D| (authors' code: 3 % gives .05, 15 % gives .25, 30 % gives .5); never above .5 (ours)."""
    return min(5 / 3 * n_forget / (n_forget + n_retain), 0.5)


def forget_passes(n_forget: int, n_retain: int) -> int:
    """
    E = int(3·|D_r| / |D_f|), at least 1: about three passes over the retain rows, since each forget row is paired with
    one of them. The authors' image code counts full batches, int(6·n_retain_batches / (2·n_forget_batches)), which is
    the same where both sets fill theirs; by rows, a request smaller than a batch gets its steps too.
    """
    return max(1, int(3 * n_retain / n_forget))


def alpha_at(alpha0: float, forget_pass: int, passes: int) -> float:
    """α_e = α₀·(1 - e/E) for the forget pass e = 0 … E - 1 (authors' code)."""
    return alpha0 * (1 - forget_pass / passes)


@dataclass(frozen=True)
class Rule:
    """
    The fixed part of a run.

    Args:
        alpha0: α of the first pass.
        passes: E, forget passes at most.
        target: `"current"`: τ follows the current model's unseen loss (the paper), but never above `cap`;
            `"frozen"`: τ stays what it was before the first step; `"chance"`: τ is the loss of guessing.
        chance: loss of guessing in nats, log of the number of classes or of the vocabulary.
        stop: False is the paper's fixed length: neither the target nor the budget ends the run.
        retain_budget: nats by which the retain rows' mean loss may rise.
        recovers: the objective has a retain term; without one, a spent budget ends the run at once.
    """

    alpha0: float
    passes: int
    target: str
    chance: float
    stop: bool
    retain_budget: float
    recovers: bool = True


@dataclass(frozen=True)
class State:
    """The moving part of a run; plain numbers, so that a checkpoint can hold it."""

    tau: float
    tau_initial: float
    retain_initial: float
    forget_pass: int = 0
    reached: int = 0
    over_budget: int = 0
    stop_reason: str | None = None

    def to_dict(self) -> dict:
        return asdict(self)


def start(rule: Rule, unseen_loss: float, retain_loss: float) -> State:
    """
    State before the first step, from the losses of the model as it came, in nats.

    Raises:
        ValueError: if a loss is not finite.
    """
    if not (math.isfinite(unseen_loss) and math.isfinite(retain_loss)):
        raise ValueError(
            f"Before the first step the unseen loss is {unseen_loss} and the retain loss {retain_loss}; both must be "
            "finite. Look for broken weights or rows."
        )
    tau = rule.chance if rule.target == "chance" else unseen_loss
    return State(tau=tau, tau_initial=tau, retain_initial=retain_loss)


def cap(rule: Rule, state: State) -> float:
    """The highest value that τ may take: the first τ, or the loss of guessing where that is higher (ours)."""
    return max(state.tau_initial, rule.chance)


def retain_limit(rule: Rule, state: State) -> float:
    """The retain loss in nats that a finished run may leave behind (ours)."""
    return state.retain_initial + rule.retain_budget


def transient_limit(rule: Rule, state: State) -> float:
    """
    The retain loss in nats at which the model is no better than guessing, or than a model that never saw the rows, and
    the run is stopped (ours). Below it a run goes on: what is kept dips while the forget rows rise, then recovers.
    """
    limit = retain_limit(rule, state)
    return max(cap(rule, state), limit) if rule.recovers else limit


def retarget(rule: Rule, state: State, unseen_loss: float) -> State:
    """Moves τ to the current model's unseen loss in nats, never above [`cap`]; only for the target `"current"`."""
    if rule.target != "current" or not math.isfinite(unseen_loss):
        return state
    return replace(state, tau=min(unseen_loss, cap(rule, state)))


def update(
    rule: Rule,
    state: State,
    *,
    forget_pass: int,
    shortfall: float | None = None,
    retain_loss: float | None = None,
    recovered_loss: float | None = None,
) -> tuple[State, float, str | None]:
    """
    One decision: `(state, alpha, stop_reason or None)`. What is None was not measured this time.

    Args:
        shortfall: how far the whole forget set is from the target, as a fraction of τ ([`shortfall`]).
        retain_loss: mean loss of the retain sample, in nats. The target counts as reached only while this is within
            the budget: until then the gate is closed and the retain rows recover. Beyond [`transient_limit`] twice
            in a row, or still beyond the budget after the last pass, the budget is spent.
        recovered_loss: mean loss in nats of the rows held out of simulated recoveries, after them; None: none are
            simulated. The target counts as reached only while [`resists`] says so.
    """
    reached, over = state.reached, state.over_budget
    kept = retain_loss is not None and retain_loss <= retain_limit(rule, state)  # False for nan
    if shortfall is not None:
        there = -OVERSHOOT <= shortfall <= TOLERANCE and kept and resists(state, recovered_loss)
        reached = reached + 1 if there else 0
    if retain_loss is not None:
        over = 0 if retain_loss <= transient_limit(rule, state) else over + 1
    reason = None
    if rule.stop and over >= PATIENCE:
        reason = BUDGET
    elif rule.stop and reached >= PATIENCE:
        reason = REACHED
    elif forget_pass >= rule.passes:
        reason = BUDGET if rule.stop and retain_loss is not None and not kept else DONE
    state = replace(state, forget_pass=forget_pass, reached=reached, over_budget=over, stop_reason=reason)
    return state, alpha_at(rule.alpha0, min(forget_pass, rule.passes), rule.passes), reason


def resists(state: State, recovered_loss: float | None) -> bool:
    """Whether simulated recoveries leave the rows held out of them near τ, or none are simulated; False for nan."""
    return recovered_loss is None or recovered_loss >= (1 - RECOVERY) * state.tau


def shortfall(forget_loss: float, tau: float) -> float:
    """(τ - L_f) / τ, what is missing of the mean gate; negative beyond the target."""
    return (tau - forget_loss) / max(tau, 1e-12)


def matched_shortfall(row_losses, targets) -> float:
    """
    mean |τ_i - l_i| / (2·mean τ), what is missing of the matched gate (ours); arrays (n,) of per-row losses.
    """
    gaps = sum(abs(float(t) - float(x)) for t, x in zip(targets, row_losses, strict=True))
    return gaps / max(2 * float(sum(targets)), 1e-12)


def rows_shortfall(row_losses, targets) -> float:
    """mean ReLU(τ_i - l_i) / mean τ, what is missing of the hinge on each row (ours); arrays (n,) of per-row losses."""
    gaps = sum(max(0.0, float(t) - float(x)) for t, x in zip(targets, row_losses, strict=True))
    return gaps / max(float(sum(targets)), 1e-12)


def ranked_targets(row_losses, unseen_losses) -> list[float]:
    """
    The target of each of n rows (ours): the unseen losses' quantile at (k + ½)/n for the row with the k-th lowest loss,
    k = 0 … n - 1, ties by place. No other way to give out these quantiles moves the losses less; with n unseen rows
    they are the unseen losses. Sequences (n,) and (m,) of per-row losses.
    """
    losses, unseen = [float(x) for x in row_losses], sorted(float(x) for x in unseen_losses)
    n, m = len(losses), len(unseen)
    targets = [0.0] * n
    for k, row in enumerate(sorted(range(n), key=lambda i: (math.isnan(losses[i]), losses[i]))):
        place = min(max(((2 * k + 1) * m - n) / (2 * n), 0.0), m - 1.0)  # the j-th of m is the quantile at (j + ½)/m
        low = int(place)
        above = unseen[min(low + 1, m - 1)]
        targets[row] = unseen[low] + (place - low) * (above - unseen[low])
    return targets


def ranked_shortfall(row_losses, targets) -> float:
    """
    mean_k |φ(l_(k)) - φ(τ_(k))| / 2s, what is missing of the ranked gate (ours): φ the logit of confidence, (k) the
    k-th lowest, s the standard deviation of φ(τ), at least ½. It is the distance between the two *distributions* (of
    Wasserstein), whichever row has which loss; within [`TOLERANCE`] it is a tenth of their spread. Sequences (n,).
    """
    found, wanted = sorted(map(_confidence, row_losses)), sorted(map(_confidence, targets))
    gaps = sum(abs(a - b) for a, b in zip(found, wanted, strict=True))
    return gaps / len(wanted) / (2 * _spread(wanted))


def ranked_lack(forget_loss: float, targets) -> float:
    """What a mean loss alone says of [`ranked_shortfall`]: (φ(L_f) - φ(mean τ)) / 2s; negative beyond the targets."""
    lack = _confidence(forget_loss) - _confidence(sum(targets) / len(targets))
    return lack / (2 * _spread([_confidence(target) for target in targets]))


def _confidence(loss: float) -> float:
    """`hf_unlearn.objectives.confidence` of one number."""
    loss = float(loss)
    above = max(loss, SURE)
    return -above - math.log(-math.expm1(-above)) + max(SURE - loss, 0.0) / -math.expm1(-SURE)


def _spread(logits: list[float]) -> float:
    return max(statistics.pstdev(logits), SPREAD)


def look_every(n_forget: int, batch_size: int) -> int:
    """Steps between two looks at the whole forget set: half a forget pass, so that a look never costs much (ours)."""
    return max(1, round(n_forget / batch_size / 2))
