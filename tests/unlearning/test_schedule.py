"""Schedules: the authors' figures, and the cap on a fleeing target."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hf_unlearn.unlearning import schedule
from hf_unlearn.unlearning.schedule import Rule, retarget, start

RULE = Rule(alpha0=0.3, passes=10, target="current", chance=3.0, stop=True, retain_budget=0.1)


def rule(**changes):
    return dataclasses.replace(RULE, **changes)


@pytest.mark.parametrize("percent, alpha", [(3, 0.05), (15, 0.25), (30, 0.5), (60, 0.5), (99, 0.5)])
def test_first_alpha_at_the_papers_sizes_and_never_above_a_half(percent, alpha):
    assert schedule.initial_alpha(percent, 100 - percent) == pytest.approx(alpha)


@pytest.mark.parametrize(
    "n_forget, n_retain, passes",
    [(10, 100, 30), (20, 100, 15), (11, 100, 27), (48, 368, 23), (50, 10, 1), (1, 1, 3), (1, 1000, 3000)],
)
def test_number_of_forget_passes(n_forget, n_retain, passes):
    assert schedule.forget_passes(n_forget, n_retain) == passes


@pytest.mark.parametrize("n_forget, n_retain, batch", [(160, 1440, 16), (480, 1120, 32)])
def test_number_of_forget_passes_is_the_papers_for_full_batches(n_forget, n_retain, batch):
    paper = int(6 * (n_retain / batch) / (2 * (n_forget / batch)))
    assert schedule.forget_passes(n_forget, n_retain) == paper


@pytest.mark.parametrize("n_forget, n_retain, step_rows, passes", [
    (12, 24, 16, 134), (16, 32, 16, 100), (200, 200, 8, 4), (1, 99, 16, 1600), (48, 368, 16, 34), (48, 3680, 16, 230),
])  # fmt: skip
def test_a_request_for_few_rows_may_take_a_hundred_steps(n_forget, n_retain, step_rows, passes):
    found = schedule.most_passes(n_forget, n_retain, step_rows)
    assert found == passes and found * n_forget // step_rows >= 100


@pytest.mark.parametrize("unseen, n, found", [
    ([2.0, 2.0], 1, 0.05),  # no spread: five per cent
    ([1.0, 3.0], 100, 0.05),  # many rows: their mean is certain
    ([1.0, 3.0], 25, 0.1),  # a standard deviation of 1 nat, of a mean .2, of τ a tenth
    ([0.0, 4.0], 1, 0.25),  # never more than a quarter
])  # fmt: skip
def test_few_rows_may_be_short_of_the_target_by_what_chance_does_to_their_mean(unseen, n, found):
    assert schedule.tolerance(unseen, n, 2.0) == pytest.approx(found)
    assert start(RULE, 2.0, 0.1, short_by=found).tolerance == found and start(RULE, 2.0, 0.1).tolerance == 0.05


def test_alpha_decays_linearly_by_pass():
    assert [schedule.alpha_at(0.5, e, 5) for e in range(6)] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])


def test_tau_is_measured_again_every_so_many_forget_passes_and_only_where_it_follows_the_model():
    due = [step for step in range(1, 31) if schedule.measures_tau(RULE, step, every=5, steps_of_a_pass=2)]
    assert due == [10, 20, 30]
    assert not any(schedule.measures_tau(rule(target=t), 10, every=5, steps_of_a_pass=2) for t in ("frozen", "chance"))


def test_targets_at_the_start():
    assert start(RULE, 2.0, 0.1).tau == start(rule(target="frozen"), 2.0, 0.1).tau == 2.0
    assert start(rule(target="chance"), 2.0, 0.1).tau == 3.0


@pytest.mark.parametrize("unseen, retain", [(math.nan, 0.1), (2.0, math.nan), (math.inf, 0.1), (2.0, math.inf)])
def test_a_broken_model_is_refused_before_the_first_step(unseen, retain):
    with pytest.raises(ValueError, match="finite"):
        start(RULE, unseen, retain)


@pytest.mark.parametrize("general", [math.nan, math.inf])
def test_a_model_that_is_broken_at_general_texts_is_refused_before_the_first_step(general):
    with pytest.raises(ValueError, match="the general loss is .*finite"):
        start(RULE, 2.0, 0.1, general)


def test_target_current_follows_the_model_up_to_the_cap():
    state = start(RULE, 2.0, 0.1)
    taus = []
    for unseen in (2.5, 1.2, 9.0, math.nan, math.inf, 2.0):
        state = retarget(RULE, state, unseen)
        taus.append(state.tau)
    assert taus == [2.5, 1.2, 3.0, 3.0, 3.0, 2.0]
    assert state.tau_initial == 2.0
    over_trained = start(RULE, 5.0, 0.1)  # the unseen loss is above guessing: the cap is where it began
    assert retarget(RULE, over_trained, 9.0).tau == 5.0


@pytest.mark.parametrize("target, tau", [("frozen", 2.0), ("chance", 3.0)])
def test_targets_frozen_and_chance_do_not_move(target, tau):
    state = start(rule(target=target), 2.0, 0.1)
    for unseen in (0.5, 2.5, 9.0):
        state = retarget(rule(target=target), state, unseen)
        assert state.tau == tau
