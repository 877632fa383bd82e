"""Tail, slices, rates and costs of a training that can be replayed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hf_unlearn.data.replay_order import ReplayOrder
from hf_unlearn.readiness import replay

ORDER = ReplayOrder(360, (4,) * 10, 32, 500, 375, seed=0)
NONE = np.zeros(0, dtype=np.int64)


@pytest.mark.parametrize("revocable, often, tail", [(50, 1, 0.1515), (100, 0.4, 0.16), (100, 0.5, 0.2), (300, 1, 0.5)])
def test_a_quarter_of_a_default_tail_is_revocable_or_a_third_at_most_half_of_the_steps(revocable, often, tail):
    bare = ReplayOrder(1000 - revocable, (revocable,), 10, 1000, 0, seed=0, often=often)
    assert replay.default_tail(bare) == pytest.approx(tail, abs=1e-3)


@pytest.mark.parametrize("revocable, steps", [(400, 1000), (900, 1000), (300, 2), (10, 1)])
def test_a_default_tail_is_never_refused(revocable, steps):
    bare = ReplayOrder(1000 - revocable, (revocable,), 10, steps, 0, seed=0)
    tail = replay.default_tail(bare)
    order = dataclasses.replace(bare, tail_start=replay.tail_start(tail, steps))
    assert replay.tail_problems(order, tail) == [] and sum(order.revocable) == order.visits.sum()


def test_revocable_rows_come_less_often_where_there_are_many_epochs():
    found = [replay.default_often(epochs, causal_lm=False) for epochs in (1, 3, 4, 5, 10, 30)]
    assert found == pytest.approx([1, 1, 0.75, 0.6, 0.4, 0.4])
    found = [replay.default_often(epochs, causal_lm=True) for epochs in (3, 11, 20, 28, 30)]
    assert found == pytest.approx([1, 1, 0.55, 0.4, 0.4])  # long answers take more visits


def test_a_tail_of_rows_that_come_often_is_fuller_and_the_rate_falls_before_it():
    bare = ReplayOrder(900, (100,), 10, 1000, 0, seed=0, often=0.4)
    found = {}
    for often in (0.4, 0.8):
        order = dataclasses.replace(bare, often=often)
        tail = replay.default_tail(order)
        order = dataclasses.replace(order, tail_start=replay.tail_start(tail, 1000))
        found[often] = (round(tail, 2), order.tail_start, replay.falls_from(order))
    assert found == {0.4: (0.16, 840, 840), 0.8: (0.24, 758, 516)}
    whole = dataclasses.replace(bare, often=1.0, tail_start=300)
    assert replay.falls_from(whole) == 300  # a long tail is sparse
    crowded = dataclasses.replace(bare, often=1.0, tail_start=400, slices=(300,), stable=700)
    assert replay.falls_from(crowded) == 0


@pytest.mark.parametrize(("epochs", "early"), [(4, False), (8, True)])
def test_rows_that_come_a_few_times_have_the_learning_rate_of_their_whole_tail(epochs, early):
    bare = ReplayOrder(900, (100,), 10, 100 * epochs, 0, seed=0, often=0.75)
    order = dataclasses.replace(bare, tail_start=replay.tail_start(replay.default_tail(bare), bare.steps))
    assert (replay.falls_from(order) < order.tail_start) is early


def test_a_tail_has_a_step_at_least():
    assert replay.tail_start(0.25, 500) == 375 and replay.tail_start(0.001, 10) == 9 and replay.tail_start(1.0, 7) == 0


def test_slices_hold_whole_groups_and_about_as_many_rows():
    codes = np.repeat(np.arange(10), [4] * 10)
    slices = replay.cut_slices(codes, None, 5, seed=1)
    assert np.bincount(slices).tolist() == [8] * 5
    assert all(len(set(slices[codes == group])) == 1 for group in range(10))


def test_the_likeliest_groups_come_last():
    codes, weights = np.repeat(np.arange(4), 3), np.repeat([0.5, 0.0, 2.0, 1.0], 3)
    assert replay.cut_slices(codes, weights, 4, seed=0).tolist() == np.repeat([1, 0, 3, 2], 3).tolist()


def test_a_group_larger_than_a_slice_leaves_fewer_slices_and_none_empty():
    codes = np.repeat([0, 1], [18, 2])
    slices = replay.cut_slices(codes, None, 10, seed=0)
    assert sorted(np.bincount(slices).tolist()) == [2, 18]


def test_the_rate_rises_stays_and_falls_over_the_tail():
    rates = [replay.rate(step, 20, 4, 10) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8]) and rates[4:11] == [1.0] * 7
    assert rates[10:] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert replay.rate(99, 100, 0, 0) == replay.LOWEST_RATE and replay.rate(0, 5, 0, 5) == 1.0


def test_a_request_goes_back_to_the_first_slice_that_it_names_rows_of():
    assert replay.border_before(ORDER, np.array([399])) == ORDER.borders[-1]
    assert replay.border_before(ORDER, np.array([399, 360, 380])) == ORDER.borders[0] == 375
    assert replay.border_before(ORDER, np.array([3, 399])) is None  # a stable row
    assert replay.border_before(ORDER, NONE) == ORDER.borders[-1]
    few = ReplayOrder(18, (1, 2, 1, 2), 1, 8, 4, seed=42)  # the slices of one row have no place
    assert few.borders.tolist() == [8, 6, 8, 7] and replay.border_before(few, np.array([18])) == 7
    none = dataclasses.replace(few, slices=(6,), steps=2, tail_start=1, often=0.1)
    assert none.visits.tolist() == [1] and replay.border_before(none, np.array([20])) == 1


def test_what_a_request_costs_is_the_rest_of_the_training_less_the_holes():
    everybody = np.arange(360, 400)
    assert replay.request_passes(ORDER, everybody, NONE) == ORDER.sizes[375:].sum() - ORDER.visits.sum()
    assert replay.request_passes(ORDER, np.array([364]), NONE) < replay.request_passes(ORDER, np.array([360]), NONE)
    assert replay.request_passes(ORDER, np.array([0]), NONE) is None


def test_what_is_weighed_before_training_is_what_a_request_costs_then():
    bare, sizes = ReplayOrder(360, (40,), 32, 500, 0, seed=0), [4] * 10
    found = replay.weigh(bare, sizes, np.full(10, 0.02), 0.25, 10)
    assert (found.tail, found.slices) == (0.25, 10)
    assert found.revocable == pytest.approx(0.4, abs=0.01)  # 40 of 400 rows over a quarter of the steps
    groups = np.arange(360, 400).reshape(10, 4)
    passes = [replay.request_passes(ORDER, group, NONE) for group in groups]
    shares = [cost / ORDER.passes(0, group) for cost, group in zip(passes, groups, strict=True)]
    assert found.request == pytest.approx(np.mean(shares), abs=1e-3) and found.worst == pytest.approx(
        max(shares), abs=1e-3
    )
    assert found.yearly == pytest.approx(0.2 * found.request)


def test_more_slices_and_a_shorter_tail_make_requests_cheaper_and_the_likeliest_ask_cheaply():
    bare, sizes, rates = ReplayOrder(360, (40,), 32, 500, 0, seed=0), [4] * 10, np.full(10, 0.02)
    request = {(t, k): replay.weigh(bare, sizes, rates, t, k).request for t in (0.2, 0.4) for k in (1, 4, 10)}
    assert request[0.2, 10] < request[0.2, 4] < request[0.2, 1] < request[0.4, 1]
    skewed = replay.weigh(bare, sizes, np.array([*[0.01] * 9, 0.11]), 0.4, 10)
    assert skewed.request < request[0.4, 10] and skewed.yearly < 0.2 * request[0.4, 10]
    assert skewed.worst == pytest.approx(replay.weigh(bare, sizes, rates, 0.4, 10).worst, abs=0.01)


def test_a_tail_that_is_crowded_is_refused_with_one_that_is_not():
    assert replay.tail_problems(ORDER, 0.25) == []
    crowded = ReplayOrder(360, (40,), 32, 500, 440, seed=0)
    (said,) = replay.tail_problems(crowded, 0.12)
    assert "84 % of the rows in the last 60 steps" in said and "Raise it to 0.15" in said
