"""
The gaps of ∇τ: how far the forget rows are from τ, and what pulls them there. Each is a strategy with `targets()`,
`mean_value()` or `row_value()`, and `shortfall()`; [`fitting`] says which of them `gap="auto"` stands for.

Differs from the paper: the gaps "rows", "level", "matched" and "ranked", and the numbers below, are ours. (Trippa et
al. 2024 have "hinge"; "squared" is what their code for text computes.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from .base import TOLERANCE, Start, shortfall

if TYPE_CHECKING:
    from torch import Tensor

SURE = 1e-6  # nats: the logit of confidence goes on along its tangent below
SPREAD = 0.5  # of the logits of confidence: where targets differ by less, a distance is measured by this


def confidence(loss: Tensor) -> Tensor:
    """
    Logit of the confidence p = exp(-loss): log(p / (1 - p)) = -log(expm1(loss)), of any shape (Carlini et al. 2022,
    Membership Inference Attacks From First Principles). Below a loss of 1e-6 nats it goes on along its tangent, so that
    value and gradient are finite at 0 too, and a row there is still pulled up.
    """
    above = loss.clamp_min(SURE)
    return -above - (-(-above).expm1()).log() + (SURE - loss).relu() / -math.expm1(-SURE)


def confidence_of(loss: float) -> float:
    """[`confidence`] of one number."""
    loss = float(loss)
    above = max(loss, SURE)
    return -above - math.log(-math.expm1(-above)) + max(SURE - loss, 0.0) / -math.expm1(-SURE)


class Gap:
    """
    How the forget rows' losses are compared with τ: as their mean, or row by row (`by_rows`), each with a target τ_i
    of its own. Subclasses define `mean_value`, or all three of `row_value`, `targets` and `shortfall`.
    """

    by_rows: ClassVar[bool] = False
    tolerance: ClassVar[float] = TOLERANCE  # shortfall that counts as having reached the target

    def mean_value(self, forget_loss: Tensor, tau: float) -> Tensor:
        """The gap () of the forget rows' mean loss ()."""
        raise NotImplementedError

    def row_value(self, loss: Tensor, target: Tensor) -> Tensor:
        """The gap (n,) of each row's mean loss (n,) from its target (n,)."""
        raise NotImplementedError

    def targets(self, start: Start) -> list[float] | None:
        """τ_i of each forget row; None where the mean loss is compared."""
        return None

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        """What is missing, as a share of τ; arguments as of [`~hf_unlearn.objectives.base.Objective.shortfall`]."""
        return shortfall(forget_loss, tau)

    def shortfall_of_mean(self, forget_loss: float, *, tau: float, targets) -> float:
        """An estimate of the shortfall from the mean loss of a few batches."""
        return shortfall(forget_loss, tau)


class Hinge(Gap):
    """
    ReLU(τ - L_f)², the paper's. It is one-sided and on the mean: the gradient is 0 from τ on, and the mean can reach τ
    while some rows keep a low loss and others have a very high one.
    """

    def mean_value(self, forget_loss: Tensor, tau: float) -> Tensor:
        return (tau - forget_loss).relu() ** 2


class Squared(Gap):
    """(τ - L_f)²: the hinge without its ReLU, a pull to τ from both sides."""

    def mean_value(self, forget_loss: Tensor, tau: float) -> Tensor:
        return (tau - forget_loss) ** 2


class Rows(Gap):
    """mean_i ReLU(τ - l_i)²: the hinge on each row, so that no row keeps a low loss while others make up for it."""

    by_rows = True

    def row_value(self, loss: Tensor, target: Tensor) -> Tensor:
        return (target - loss).relu() ** 2

    def targets(self, start: Start) -> list[float]:
        return [start.tau] * start.n

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        """mean ReLU(τ_i - l_i) / mean τ."""
        lacking = sum(max(0.0, float(t) - float(x)) for t, x in zip(targets, row_losses, strict=True))
        return lacking / max(float(sum(targets)), 1e-12)


class Level(Rows):
    """
    mean_i (τ - l_i)²: each row is pulled to τ from both sides. It counts as short of its target by what it lacks alone,
    as with [`Rows`]: a row beyond τ is pulled back, and is forgotten. Rows that are held there by both pulls lie around
    τ, so a tenth of it may be lacking.
    """

    tolerance = 0.1

    def row_value(self, loss: Tensor, target: Tensor) -> Tensor:
        return (target - loss) ** 2


class Matched(Gap):
    """
    mean_i (τ_i - l_i)² with τ_i drawn from the unseen rows' losses: the *distribution* of the forget losses moves to
    that of the unseen losses. A mean alone could be reached by driving half of the rows far up.
    """

    by_rows = True

    def row_value(self, loss: Tensor, target: Tensor) -> Tensor:
        return (target - loss) ** 2

    def targets(self, start: Start) -> list[float]:
        if start.target == "chance":
            return [start.tau] * start.n
        import numpy as np

        draw = np.random.default_rng((start.seed, 5)).integers(len(start.unseen), size=start.n)
        return [float(start.unseen[i]) for i in draw]

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        """mean |τ_i - l_i| / (2·mean τ)."""
        gaps = sum(abs(float(t) - float(x)) for t, x in zip(targets, row_losses, strict=True))
        return gaps / max(2 * float(sum(targets)), 1e-12)


class Ranked(Gap):
    """
    mean_i (φ(τ_i) - φ(l_i))². φ is the logit of [`confidence`]; it sets losses such as .0005 and .005 well apart. The
    targets are those of [`ranked_targets`]: they lead to the distribution of the unseen losses and move the rows least.
    """

    by_rows = True

    def row_value(self, loss: Tensor, target: Tensor) -> Tensor:
        return (confidence(target) - confidence(loss)) ** 2

    def targets(self, start: Start) -> list[float]:
        return [start.tau] * start.n if start.target == "chance" else ranked_targets(start.measure(), start.unseen)

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        """
        mean_k |φ(l_(k)) - φ(τ_(k))| / 2s, where (k) is the k-th lowest and s the standard deviation of φ(τ), at least
        ½. The mean is the Wasserstein distance between the two *distributions*, so it does not matter which row has
        which loss. At [`TOLERANCE`] this distance is a tenth of s.
        """
        found, wanted = sorted(map(confidence_of, row_losses)), sorted(map(confidence_of, targets))
        gaps = sum(abs(a - b) for a, b in zip(found, wanted, strict=True))
        return gaps / len(wanted) / (2 * _spread(wanted))

    def shortfall_of_mean(self, forget_loss: float, *, tau: float, targets) -> float:
        """(φ(L_f) - φ(mean τ)) / 2s; negative beyond the targets."""
        lacking = confidence_of(forget_loss) - confidence_of(sum(targets) / len(targets))
        return lacking / (2 * _spread([confidence_of(target) for target in targets]))


def ranked_targets(row_losses: Sequence[float], unseen_losses: Sequence[float]) -> list[float]:
    """
    The target of each of n rows, from the per-row losses (n,) of the forget and (m,) of the unseen rows. The row with
    the k-th lowest loss, k = 0 … n - 1 (ties by place), gets the quantile of the unseen losses at (k + ½)/n. No other
    assignment of these quantiles to the rows moves the losses less. With m = n the targets are the unseen losses.
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


def _spread(logits: list[float]) -> float:
    return max(statistics.pstdev(logits), SPREAD)


GAPS: dict[str, Gap] = {
    "hinge": Hinge(),
    "rows": Rows(),
    "squared": Squared(),
    "level": Level(),
    "matched": Matched(),
    "ranked": Ranked(),
}


def fitting(*, target: str, resists: bool, of_tokens: bool = False) -> str:
    """
    The gap that `gap="auto"` stands for: the first that applies.

    * "level" for the target "chance", unless recoveries are simulated: a class is removed only when every row of it
      has the loss of guessing, not just their mean; further beyond, other classes pay for it.
    * "squared" of language models (`of_tokens`), and where recoveries are simulated: the hinge has no gradient beyond
      τ; where the last steps, or such a recovery, have driven the forget loss there, nothing brings it back, and the
      rows stand out as deleted.
    * else "hinge", the paper's. A classifier's losses are so uneven that one hard row lifts a batch's mean beyond τ; a
      pull from there would cancel what the other batches do.
    """
    if target == "chance" and not resists:
        return "level"
    return "squared" if of_tokens or resists else "hinge"
