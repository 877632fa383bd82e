"""When a training simulates requests: decisions from losses and lengths alone."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from hf_unlearn.readiness import pacing
from hf_unlearn.readiness.pacing import Pace, Rule

RULE = Rule(steps=100, warmup=0, chance=2.3, budget=0.75, turn_cost=2.5)  # pays for 30 requests; windows of 5 steps


def run(losses, rule=RULE, gain=1.0):
    """The pace after these windows' losses, and the steps that simulated a request."""
    pace, turns = Pace(), []
    for loss in losses:
        for _ in range(rule.window):
            if pacing.is_due(rule, pace):
                turns.append(pace.step)
                pace = pacing.took_turn(rule, pace, gain)
            pace = pacing.saw_loss(rule, pace, loss)
    return pace, turns


@pytest.mark.parametrize("losses, began", [
    ([2.0, 1.0, 0.5, 0.19, 0.1], 20),  # a tenth of its first loss is left
    ([2.0, 1.5, 1.4, 1.39, 1.38], 25),  # it no longer falls
    ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], None),  # it is still falling
    ([2.3, 2.3, 2.3, 2.29, 2.3], None),  # it has not begun to: nothing is learned
    ([0.9, 0.9, 0.9, 0.9], 20),  # a model that knew its task
    ([2.0, 0.1], 10),
])  # fmt: skip
def test_requests_begin_when_the_loss_says_that_the_model_has_learned(losses, began):
    assert run(losses)[0].began == began


def test_no_request_comes_while_the_learning_rate_rises():
    assert run([0.9] * 4, dataclasses.replace(RULE, warmup=20))[0].began is None
    assert run([0.9] * 5, dataclasses.replace(RULE, warmup=20))[0].began == 25


def test_as_many_requests_as_the_budget_pays_for_are_spread_evenly_over_what_is_left():
    pace, turns = run([2.0, 0.1] + [0.1] * 18)
    assert turns == list(range(10, 100, 3)) and pace.turns == RULE.turns == 30
    assert run([2.0] * 15 + [0.1] * 5)[1] == list(range(80, 100))  # at most every step


def test_few_requests_are_kept_for_the_last_steps():
    few = dataclasses.replace(RULE, budget=0.25)
    assert few.turns == 10 and run([2.0] + [0.1] * 19, few)[1] == list(range(60, 100, 4))
    assert run([2.0] * 16 + [0.1] * 4, few)[1] == [85, 87, 88, 90, 91, 93, 94, 96, 97, 99]


def test_a_request_comes_on_every_kth_step_at_most():
    assert run([2.0] * 15 + [0.1] * 5, dataclasses.replace(RULE, every=4))[1] == [80, 84, 88, 92, 96]


def test_a_budget_that_pays_for_no_request_simulates_none():
    assert run([2.0] + [0.1] * 19, dataclasses.replace(RULE, budget=0.02))[1] == []


def test_rare_requests_weigh_more_up_to_a_limit():
    began = dataclasses.replace(Pace(), began=10)
    assert pacing.weight(RULE, began) == 3
    assert pacing.weight(dataclasses.replace(RULE, budget=10.0), began) == 1
    assert pacing.weight(dataclasses.replace(RULE, budget=0.025), began) == pacing.HEAVIEST


def test_requests_pause_while_the_loss_is_above_where_it_stood_and_then_come_half_as_often():
    pace, turns = run([2.0, 0.1, 0.1, 0.2, 0.3, 0.1] + [0.1] * 14)
    assert pace.backed_off == 1 and not pace.paused
    assert turns == [10, 13, 16, 19, *range(30, 100, 6)]


def test_the_price_is_taken_from_the_lowest_loss_since_requests_began():
    assert run([2.0, 0.19, 0.05, 0.09])[0].paused and not run([2.0, 0.19, 0.05, 0.07])[0].paused
    assert run([2.0, 0.19, 0.05, 0.07])[0].lowest == 0.05


def test_a_loss_that_is_not_finite_is_passed_over():
    pace = run([2.0])[0]
    for loss in (math.nan, math.inf, 0.1, 0.1, 0.1):
        pace = pacing.saw_loss(RULE, pace, loss)
    assert pace.means[-1] == pytest.approx(0.1) and pace.step == 10


@pytest.mark.parametrize(
    "gains, came", [([], True), ([0.1, 0.2], False), ([0.1] + [1.9] * 5, True), ([math.nan], True)]
)
def test_whether_the_gain_came_is_told_by_the_last_requests(gains, came):
    pace = dataclasses.replace(Pace(), began=0)
    for gain in gains:
        pace = pacing.took_turn(RULE, pace, gain)
    assert pacing.gain_came(pace, cap=2.0) == came
    assert pace.gain_first == (gains[0] if gains and math.isfinite(gains[0]) else None)


@pytest.mark.parametrize("windows", [0, 1, 4, 9])
def test_a_pace_goes_through_json_bit_for_bit(windows):
    pace = pacing.saw_loss(
        RULE, run([2.0, 0.1, 0.3, 1 / 3] + [0.1] * 5)[0] if windows == 9 else run([2.0] * windows)[0], 0.7
    )
    assert Pace.from_dict(json.loads(json.dumps(pace.to_dict()))) == pace
