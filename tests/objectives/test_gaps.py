"""The gaps of ∇τ: their targets, and how far they say that the forget rows are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hf_unlearn.objectives import gaps
from hf_unlearn.objectives.base import Start, shortfall
from hf_unlearn.objectives.gaps import GAPS
from hf_unlearn.objectives.registry import get_objective


def lacking(gap):
    """`shortfall` of a gap by rows, which does not look at the mean loss and τ."""
    return lambda losses, targets: GAPS[gap].shortfall(math.nan, losses, tau=math.nan, targets=targets)


by_rows, level, matched, ranked = map(lacking, ("rows", "level", "matched", "ranked"))


def ranked_mean(forget_loss, targets):
    return GAPS["ranked"].shortfall_of_mean(forget_loss, tau=math.nan, targets=targets)


def start(target="current", unseen=(1.0, 2.0, 3.0, 4.0, 5.0), measure=lambda: [0.3, 0.1, 0.2], seed=3):
    return Start(n=3, target=target, tau=2.5, unseen=unseen, measure=measure, seed=seed)


def never():
    raise AssertionError("measured")


def test_targets_of_each_gap():
    assert GAPS["hinge"].targets(start(measure=never)) is None is GAPS["squared"].targets(start(measure=never))
    assert GAPS["rows"].targets(start(measure=never)) == [2.5] * 3
    drawn = GAPS["matched"].targets(start(measure=never))
    assert drawn == GAPS["matched"].targets(start(measure=never)) and set(drawn) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert any(GAPS["matched"].targets(start(seed=seed)) != drawn for seed in range(4, 9))
    found = GAPS["ranked"].targets(start(unseen=(9.0, 1.0, 4.0)))
    assert found == [9.0, 1.0, 4.0]  # 0.3 is the highest, 0.1 the lowest


def test_target_chance_gives_each_row_the_loss_of_guessing():
    for gap in ("rows", "level", "matched", "ranked"):
        assert GAPS[gap].targets(start("chance", measure=never)) == [2.5] * 3


@pytest.mark.parametrize("target, resists, gap", [
    ("current", False, "hinge"), ("frozen", False, "hinge"), ("chance", False, "level"),
    ("current", True, "squared"), ("chance", True, "squared"),
])  # fmt: skip
def test_gap_auto_is_chosen_by_target_and_resistance(target, resists, gap):
    assert gaps.fitting(target=target, resists=resists) == gap
    assert gaps.fitting(target=target, resists=resists, of_tokens=True) == gap.replace("hinge", "squared")


@pytest.mark.parametrize("gap", GAPS)
def test_the_value_of_each_gap_is_zero_at_the_target_and_positive_below_it(gap):
    for loss, low, high in ((2.5, 0.0, 0.0), (1.0, 0.1, 99.0)):
        loss, tau = torch.tensor([loss], dtype=torch.float64), torch.tensor([2.5], dtype=torch.float64)
        way = GAPS[gap]
        value = way.row_value(loss, tau) if way.by_rows else way.mean_value(loss[0], 2.5)
        assert low <= float(value) <= high


def test_objectives_without_targets_are_measured_by_the_mean():
    for objective in (get_objective("grad_diff"), get_objective("npo"), get_objective("nabla_tau", gap="squared")):
        assert objective.targets(start(measure=never)) is None
        assert objective.shortfall(1.5, [9.0], tau=2.0, targets=[]) == 0.25
        assert objective.shortfall_of_mean(3.0, tau=2.0, targets=[]) == -0.5


def test_shortfall_of_each_gap_matches_a_hand_calculation():
    assert shortfall(1.5, 2.0) == 0.25
    assert shortfall(3.0, 2.0) == -0.5
    assert math.isnan(shortfall(math.nan, 2.0))
    assert matched([1.0, 5.0], [2.0, 3.0]) == pytest.approx(3 / 10)
    assert matched([2.0, 3.0], [2.0, 3.0]) == 0.0
    assert by_rows([1.0, 3.0], [2.0, 2.0]) == 0.25  # what is beyond makes up for nothing
    assert by_rows([2.0, 9.0], [2.0, 2.0]) == 0.0
    assert level([1.0, 3.0], [2.0, 2.0]) == 0.25 and level([2.0, 9.0], [2.0, 2.0]) == 0.0  # likewise
    with pytest.raises(ValueError):
        matched([1.0], [1.0, 2.0])


def test_ranked_targets_are_quantiles_by_rank():
    unseen = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert gaps.ranked_targets([0.3, 0.1, 0.5, 0.2, 0.4], unseen) == [3.0, 1.0, 5.0, 2.0, 4.0]
    assert gaps.ranked_targets([7.0], unseen) == [3.0]
    assert gaps.ranked_targets([0.2, 0.2, 0.1, 0.2], [1.0, 9.0]) == [3.0, 7.0, 1.0, 9.0]  # ties by place
    assert gaps.ranked_targets([0.2, 0.1], [1.0, 2.0, 3.0, 4.0]) == pytest.approx([3.5, 1.5])
    assert gaps.ranked_targets([math.nan, 0.1], [1.0, 2.0]) == [2.0, 1.0]
    rng = np.random.default_rng(0)
    own, unseen = rng.exponential(size=5), rng.exponential(size=5)
    least = min(np.abs(own - np.array(p)).sum() for p in itertools.permutations(unseen))
    assert np.abs(own - gaps.ranked_targets(own, unseen)).sum() == pytest.approx(least, rel=1e-12)


def test_shortfall_of_ranked_matches_a_hand_calculation():
    def losses(*logits):
        return [math.log1p(math.exp(-x)) for x in logits]

    targets = losses(-3.0, 1.0)  # of spread 2
    assert ranked(targets, targets) == 0.0 == ranked(targets[::-1], targets)
    assert ranked(losses(2.0, -2.0), targets) == pytest.approx(1 / 4)
    assert ranked(losses(0.5, -3.5), targets) == pytest.approx(0.5 / 4)  # beyond them is apart too
    same = [2.3] * 3  # the loss of guessing: no spread
    there = -math.log(math.expm1(2.3))
    assert ranked(losses(there, there + 0.3, there), same) == pytest.approx(0.1 / (2 * 0.5))
    assert math.isfinite(ranked([0.0, 1e4], targets))
    assert ranked([0.0], same[:1]) > 1
    with pytest.raises(ValueError):
        ranked([1.0], targets)
    middle = -math.log(math.expm1(np.mean(targets)))
    assert ranked_mean(losses(middle + 1.0)[0], targets) == pytest.approx(1 / 4)
    assert ranked_mean(float(np.mean(targets)), targets) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(ranked_mean(math.nan, targets))


@pytest.mark.parametrize("n, m", [(5, 5), (7, 3), (3, 8), (1, 4), (4, 1)])
def test_ranked_targets_are_numpys_quantiles_and_the_logits_those_of_the_objective(n, m):
    rng = np.random.default_rng([n, m])
    own, unseen = rng.exponential(size=n), rng.exponential(size=m)
    wanted = np.quantile(unseen, (np.arange(n) + 0.5) / n, method="hazen")
    assert np.array(gaps.ranked_targets(own, unseen))[np.argsort(own)] == pytest.approx(wanted, rel=1e-12)
    losses = torch.tensor([0.0, 1e-9, gaps.SURE, 1e-3, 1.0, 800.0, 1e4], dtype=torch.float64)
    assert [gaps.confidence_of(x) for x in losses] == pytest.approx(gaps.confidence(losses).tolist(), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3, 1.0])
def test_ranked_has_no_shortfall_only_where_the_loss_distributions_meet(shift):
    rng = np.random.default_rng(1)
    logits = rng.normal(2.0, 3.0, 400)
    targets, moved = (np.log1p(np.exp(-x)) for x in (logits, rng.permutation(logits) + shift * logits.std()))
    assert ranked(moved, targets) == pytest.approx(shift / 2, rel=1e-4, abs=1e-9)
    reached = ranked(moved, targets) <= gaps.TOLERANCE
    at = np.sort(np.concatenate([moved, targets]))
    apart = [np.searchsorted(np.sort(x), at, side="right") / 400 for x in (moved, targets)]
    assert (np.abs(apart[0] - apart[1]).max() < 0.1) == reached == (shift < 0.1)
