"""When the forget set and the retain sample are measured, and what follows for the weights."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hf_unlearn.unlearning.look import Look, goes_back, look_every, plan_look
from hf_unlearn.unlearning.schedule import Rule, start

RULE = Rule(alpha0=0.3, passes=10, target="current", chance=3.0, stop=True, retain_budget=0.1)
STATE = start(RULE, 2.0, 0.1)  # budget to 0.2, transient limit 3


def plan(shortfall, retain_loss, state=STATE, rule=RULE, **more):
    return plan_look(rule, state, shortfall=shortfall, retain_loss=retain_loss, **more)


@pytest.mark.parametrize("n_forget, batch, every", [(40, 8, 2), (10, 16, 1), (160, 16, 5), (1, 1, 1), (48, 16, 2)])
def test_looks_cost_at_most_two_forget_passes_a_pass(n_forget, batch, every):
    assert look_every(n_forget, batch) == every


def test_far_from_the_target_a_snapshot_is_taken_and_nothing_is_measured():
    assert plan(0.6, 0.15) == Look(kept=True, short=True, snapshot=True, measure=False)


def test_near_the_target_both_sets_are_measured_and_no_snapshot_awaits_batches():
    assert plan(0.2, 0.2) == Look(kept=True, short=True, snapshot=False, measure=True)
    assert plan(0.05, 0.2) == Look(kept=True, short=False, snapshot=False, measure=True)
    assert plan(-0.4, 0.2) == Look(kept=True, short=False, snapshot=False, measure=True)


def test_while_the_retain_rows_recover_a_look_waits_for_them_or_for_the_forget_rows_to_go_far_beyond():
    still = dataclasses.replace(RULE, target="frozen")
    there = dataclasses.replace(STATE, first_reached=2)  # recovers until pass 6, down to .12
    assert not plan(0.0, 0.15, there, still, forget_pass=5).measure
    assert plan(0.0, 0.12, there, still, forget_pass=5).measure
    assert plan(0.0, 0.15, there, still, forget_pass=6).measure
    assert plan(-0.11, 0.15, there, still, forget_pass=5).measure
    assert plan(0.0, 0.15, there, forget_pass=5).measure  # τ moves


@pytest.mark.parametrize("retain_loss", [0.2001, 2.9])
def test_beyond_the_budget_the_run_goes_on_without_a_snapshot_or_a_look(retain_loss):
    assert plan(0.0, retain_loss) == Look(kept=False, short=False, snapshot=False, measure=False)


@pytest.mark.parametrize("retain_loss", [3.0001, math.nan])
def test_a_model_no_better_than_guessing_is_measured_at_once(retain_loss):
    assert plan(0.6, retain_loss).measure and not plan(0.6, retain_loss).kept


@pytest.mark.parametrize("changes", [{"reached": 1}, {"over_budget": 1}])
def test_after_a_first_finding_and_at_the_end_a_look_is_measured(changes):
    assert plan(0.6, 0.15, dataclasses.replace(STATE, **changes)).measure
    assert plan(0.6, 0.15, last=True).measure


def test_an_unknown_forget_loss_causes_no_look():
    assert plan(math.nan, 0.15) == Look(kept=True, short=False, snapshot=False, measure=False)


def test_while_simulated_recoveries_succeed_no_look_is_worth_its_cost():
    assert plan(0.0, 0.15, recovered_loss=1.79) == Look(kept=True, short=False, snapshot=True, measure=False)
    assert plan(0.0, 0.15, recovered_loss=1.8).measure


def back(shortfall=-0.06, has_targets=False, lifted=False, steps=6, every=2, **more):
    given = {"holds": True, "kept": True, **more}
    return goes_back(
        shortfall, tolerance=0.05, has_targets=has_targets, lifted=lifted, steps=steps, every=every, **given
    )


def test_the_weights_go_back_from_beyond_the_target_where_a_snapshot_short_of_it_is_near():
    assert back() and not back(shortfall=-0.05) and not back(shortfall=math.nan)
    assert back(kept=False) and not back(steps=7)
    assert back(steps=7, holds=False) and not back(steps=7, holds=False, kept=False)  # nothing else brings them back
    assert not back(has_targets=True) and not back(lifted=True)
