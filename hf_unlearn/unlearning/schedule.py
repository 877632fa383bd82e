"""
When to ascend, how hard and towards what: pure functions from sizes and losses to α, τ and the number of passes.

Differs from the paper and its authors' code: α₀ is never above .5, the forget passes are counted by rows, there are
enough of them for a small request to take [`FEWEST_STEPS`], and τ may not rise above a cap.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ..objectives.base import TOLERANCE

WIDEST = 0.25  # of τ: no tolerance is wider
FEWEST_STEPS = 100  # that a request may take where its rows are few; the stop rule ends it, mostly before


def initial_alpha(n_forget: int, n_retain: int) -> float:
    """α₀ = (5/3)·|D_f| / |D| (authors' code: 3 % gives .05, 15 % gives .25, 30 % gives .5); never above .5."""
    return min(5 / 3 * n_forget / (n_forget + n_retain), 0.5)


def forget_passes(n_forget: int, n_retain: int) -> int:
    """
    E = int(3·|D_r| / |D_f|), at least 1: about three passes over the retain rows, since each forget row is paired with
    one of them. The authors' image code counts full batches, int(6·n_retain_batches / (2·n_forget_batches)); both give
    the same where all batches are full. Rows are counted here so that a request smaller than a batch gets steps, too.
    """
    return max(1, int(3 * n_retain / n_forget))


def most_passes(n_forget: int, n_retain: int, step_rows: int) -> int:
    """Forget passes at most: those of [`forget_passes`], or as many as make [`FEWEST_STEPS`] of `step_rows` rows."""
    return max(forget_passes(n_forget, n_retain), fewest_passes(n_forget, step_rows))


def fewest_passes(n_forget: int, step_rows: int) -> int:
    """Forget passes that make [`FEWEST_STEPS`] steps."""
    return math.ceil(FEWEST_STEPS * step_rows / n_forget)


def alpha_at(alpha0: float, forget_pass: int, passes: int) -> float:
    """α_e = α₀·(1 - e/E) for the forget pass e = 0 … E - 1 (authors' code)."""
    return alpha0 * (1 - forget_pass / passes)


def tolerance(unseen_losses: Sequence[float], n_forget: int, tau: float) -> float:
    """
    The share of τ by which the mean loss of n forget rows may be short of it: 5 %, or where the rows are few the
    standard error of a mean of n rows that were never seen, which chance alone brings so far below τ one time in six.

    Args:
        unseen_losses: mean loss of each unseen row, (m,), nats.
    """
    error = statistics.pstdev(map(float, unseen_losses)) / math.sqrt(n_forget)
    return min(max(TOLERANCE, error / max(tau, 1e-12)), WIDEST)


@dataclass(frozen=True)
class Rule:
    """
    The fixed part of a request.

    Args:
        alpha0: α of the first pass.
        passes: E, forget passes at most.
        target: `"current"`: τ follows the current model's unseen loss (the paper), but never above `cap`;
            `"frozen"`: τ stays what it was before the first step; `"chance"`: τ is the loss of guessing.
        chance: loss of guessing in nats, log of the number of classes or of the vocabulary.
        stop: False is the paper's fixed length: neither the target nor the budget ends the run.
        retain_budget: nats by which the retain rows' mean loss may rise.
        general_budget: the same of the general texts that are only measured; None: there are none.
        recovers: the objective has a retain term; without one, a spent budget ends the run at once.
        fewest: passes that a run which has reached its target may take in any case, so that the retain rows recover.
        holds: the objective leaves the forget rows at their target once they are there.
    """

    alpha0: float
    passes: int
    target: str
    chance: float
    stop: bool
    retain_budget: float
    recovers: bool = True
    holds: bool = True
    fewest: int = 0
    general_budget: float | None = None


@dataclass(frozen=True)
class State:
    """
    The moving part of a request; plain numbers, so that a checkpoint can hold it.

    Args:
        tau: τ, nats.
        tau_initial, retain_initial: τ and the retain sample's mean loss before the first step, nats.
        tolerance: share of τ by which the forget rows may be short of it ([`tolerance`]).
        general_initial: mean loss of the general texts that are only measured, before the first step, nats; None: there
            are none.
        first_reached: the forget pass of the first look that found the forget rows at the target and the retain rows
            within their budget; None: none has.
        ahead: how far beyond τ the forget rows' mean loss was before the first step, as a share of τ.
        forget_pass: forget passes done.
        reached: looks in a row that found the target reached.
        over_budget: looks in a row that found the retain loss, or the general texts', beyond its transient limit.
        stop_reason: why the run ended, a key of `stop_rule.STOP_REASONS`; None before its end.
    """

    tau: float
    tau_initial: float
    retain_initial: float
    forget_pass: int = 0
    reached: int = 0
    over_budget: int = 0
    stop_reason: str | None = None
    tolerance: float = TOLERANCE
    general_initial: float | None = None
    first_reached: int | None = None
    ahead: float = 0.0

    def to_dict(self) -> dict:
        return asdict(self)


def start(
    rule: Rule,
    unseen_loss: float,
    retain_loss: float,
    general_loss: float | None = None,
    *,
    short_by: float = TOLERANCE,
) -> State:
    """
    State before the first step, from the losses of the model as it came, in nats; `short_by` is its `tolerance`.
    Where the forget rows stand is not known yet ([`set_out`]).

    Raises:
        ValueError: if a loss is not finite.
    """
    losses = {"unseen": unseen_loss, "retain": retain_loss, "general": general_loss}
    if broken := {name: loss for name, loss in losses.items() if loss is not None and not math.isfinite(loss)}:
        said = " and ".join(f"the {name} loss is {loss}" for name, loss in broken.items())
        raise ValueError(f"Before the first step {said}; it must be finite. Look for broken weights or rows.")
    tau = rule.chance if rule.target == "chance" else unseen_loss
    return State(tau=tau, tau_initial=tau, retain_initial=retain_loss, tolerance=short_by, general_initial=general_loss)


def set_out(state: State, shortfall: float) -> State:
    """The state with what the forget rows lack of τ before the first step, as a share of it; NaN says nothing."""
    return replace(state, ahead=max(0.0, -shortfall)) if math.isfinite(shortfall) else state


def cap(rule: Rule, state: State) -> float:
    """The highest value that τ may take: the first τ, or the loss of guessing where that is higher."""
    return max(state.tau_initial, rule.chance)


def retarget(rule: Rule, state: State, unseen_loss: float) -> State:
    """Moves τ to the current model's unseen loss in nats, never above [`cap`]; only for the target `"current"`."""
    if rule.target != "current" or not math.isfinite(unseen_loss):
        return state
    return replace(state, tau=min(unseen_loss, cap(rule, state)))


def measures_tau(rule: Rule, step: int, *, every: int, steps_of_a_pass: int) -> bool:
    """Whether τ is measured again after this step: with the target "current", every so many forget passes."""
    return rule.target == "current" and step % (every * steps_of_a_pass) == 0
