"""Schedules and the stop rule: the authors' figures, the cap on a fleeing target, and what ends a run."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from hf_unlearn.unlearning import schedule, stop_rule
from hf_unlearn.unlearning.schedule import Rule, State, retarget, start
from hf_unlearn.unlearning.stop_rule import BUDGET, DONE, REACHED, update

RULE = Rule(alpha0=0.3, passes=10, target="current", chance=3.0, stop=True, retain_budget=0.1)


def rule(**changes):
    return dataclasses.replace(RULE, **changes)


def feed(rule, state, looks, first=0):
    """Feeds one look a pass; returns the state and the reasons given."""
    reasons = []
    for i, look in enumerate(looks):
        state = update(rule, state, forget_pass=first + i, **look)
        reasons.append(state.stop_reason)
    return state, reasons


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


def test_the_target_counts_as_reached_after_two_looks_in_a_row():
    near, far = ({"shortfall": s, "retain_loss": 0.15} for s in (0.05, 0.0501))
    _, reasons = feed(RULE, start(RULE, 2.0, 0.1), [near, far, near, {}, {"retain_loss": 0.1}, near])
    assert reasons == [None] * 5 + [REACHED]
    over = [{**near, "shortfall": -0.1}] * 2
    assert feed(RULE, start(RULE, 2.0, 0.1), over)[1] == [None, REACHED]
    assert feed(RULE, start(RULE, 2.0, 0.1), [{**near, "shortfall": -0.1001}] * 4)[1] == [None] * 4
    assert feed(RULE, start(RULE, 2.0, 0.1), [{**near, "shortfall": math.nan}] * 4)[1] == [None] * 4


@pytest.mark.parametrize("retain", [0.2001, 0.55, math.nan])
def test_the_target_is_not_reached_while_the_retain_rows_are_beyond_the_budget(retain):
    near, dip = {"shortfall": 0.0, "retain_loss": 0.2}, {"shortfall": 0.0, "retain_loss": retain}
    assert feed(RULE, start(RULE, 2.0, 0.1), [near, dip, near, near])[1] == [None, None, None, REACHED]


@pytest.mark.parametrize("retain", [0.2001, 0.55, math.nan])
def test_a_run_that_ends_beyond_the_budget_says_so(retain):
    look = {"shortfall": 0.5, "retain_loss": retain}
    assert update(RULE, start(RULE, 2.0, 0.1), forget_pass=10, **look).stop_reason == BUDGET
    assert update(rule(stop=False), start(RULE, 2.0, 0.1), forget_pass=10, **look).stop_reason == DONE
    assert update(RULE, start(RULE, 2.0, 0.1), forget_pass=10, shortfall=0.5, retain_loss=0.2).stop_reason == DONE


def test_the_budget_is_spent_after_two_looks_in_a_row_far_beyond_it_and_nan_spends_it():
    state = start(RULE, 2.0, 0.1)
    assert stop_rule.retain_limit(RULE, state) == pytest.approx(0.1 + 0.1)
    assert stop_rule.transient_limit(RULE, state) == 3.0
    assert stop_rule.transient_limit(rule(recovers=False), state) == pytest.approx(0.2)
    in_, out, nan = {"retain_loss": 2.9999}, {"retain_loss": 3.0001}, {"retain_loss": math.nan}
    assert feed(RULE, state, [out, in_, out, {}, out])[1] == [None] * 4 + [BUDGET]
    assert feed(RULE, state, [nan, nan])[1] == [None, BUDGET]
    assert feed(RULE, state, [nan, out])[1] == [None, BUDGET]


def test_the_budget_is_counted_from_the_first_retain_loss_whatever_the_target_does():
    state = update(RULE, retarget(RULE, start(RULE, 2.0, 0.1), 3.0), forget_pass=1, retain_loss=0.15)
    assert stop_rule.retain_limit(RULE, state) == pytest.approx(0.2)
    assert stop_rule.retain_limit(RULE, start(RULE, 0.5, 1.0)) == pytest.approx(1.1)


def test_a_destroyed_model_is_not_reported_as_having_reached_its_target():
    both = {"shortfall": -1.0, "retain_loss": 9.0}
    assert feed(RULE, start(RULE, 2.0, 0.1), [both, both])[1] == [None, BUDGET]


def test_the_last_pass_ends_the_run_and_the_reason_is_kept():
    state, reasons = feed(RULE, start(RULE, 2.0, 0.1), [{}, {}], first=9)
    assert reasons == [None, DONE]
    assert state.stop_reason == DONE and state.forget_pass == 10


def test_the_last_step_of_max_steps_has_its_own_stop_reason():
    state = start(RULE, 2.0, 0.1)
    for loss, reason in ((None, "max_steps"), (0.2, "max_steps"), (0.2001, BUDGET), (math.nan, BUDGET)):
        assert stop_rule.end(RULE, state, retain_loss=loss).stop_reason == reason


def test_fixed_length_ends_only_with_the_last_pass():
    fixed = rule(stop=False)
    look = {"shortfall": -1.0, "retain_loss": math.nan}
    state, reasons = feed(fixed, start(fixed, 2.0, 0.1), [look] * 11)
    assert reasons == [None] * 10 + [DONE]


def test_update_leaves_its_arguments_and_a_state_survives_json():
    before = start(RULE, 2.0, 0.1)
    copy = dataclasses.replace(before)
    after = update(RULE, before, forget_pass=4, shortfall=0.01, retain_loss=9.0)
    assert before == copy and after != before
    assert State(**json.loads(json.dumps(after.to_dict()))) == after


def test_every_stop_reason_has_a_sentence():
    assert {REACHED, BUDGET, DONE, "max_steps", "interrupted"} == set(stop_rule.STOP_REASONS)
