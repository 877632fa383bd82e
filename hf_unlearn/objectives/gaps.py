"""How far the forget rows are from their targets."""

from __future__ import annotations

import math
import statistics

TOLERANCE = 0.05  # of τ (ours): a forget loss within it counts as having reached the target
SURE = 1e-6  # nats (ours): a logit of confidence goes on along its tangent below
SPREAD = 0.5  # of the logits of confidence (ours): where targets differ by less, a distance is measured by this


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
