"""Simulated requests of a training that can be replayed draw from slices that have begun, by arithmetic alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hf_unlearn.data.replay_order import ReplayOrder
from hf_unlearn.data.requests_in_replay import RequestsInReplay

ORDER = ReplayOrder(360, (10, 20, 10), 32, 500, 375, seed=0)
DRAWN = RequestsInReplay(ORDER, 6, 3, 0.5)


def turns(requests: RequestsInReplay) -> list[int]:
    return [step for step in range(requests.order.steps) if requests.has_turn(step)]


def test_a_request_is_for_rows_of_slices_that_have_begun():
    ends = ORDER.stable + np.cumsum(ORDER.slices)
    for step in turns(DRAWN):
        begun = ends[ORDER.borders <= step].max()
        assert ((DRAWN.numbers(step) >= ORDER.stable) & (DRAWN.numbers(step) < begun)).all()
    assert max(DRAWN.numbers(step).max() for step in turns(DRAWN)) == ORDER.rows - 1


def test_a_turn_comes_on_every_kth_step_from_the_first_border_or_the_start_on():
    assert turns(DRAWN) == list(range(int(ORDER.borders[0]), 500, 3))
    assert turns(dataclasses.replace(DRAWN, start=0.9, every=20)) == [450, 470, 490]
    assert turns(dataclasses.replace(DRAWN, start=1.0)) == []


def test_each_row_is_drawn_once_before_any_is_drawn_twice():
    one = dataclasses.replace(DRAWN, order=dataclasses.replace(ORDER, slices=(40,)), rows=5, every=1)
    drawn = np.concatenate([one.numbers(step) for step in turns(one)][:16])
    assert sorted(drawn[:40]) == sorted(drawn[40:]) == list(range(360, 400))


@pytest.mark.parametrize("rows", [6, 100])
def test_a_request_is_a_function_of_seed_and_step(rows):
    again = dataclasses.replace(DRAWN, rows=rows)
    for step in reversed(turns(again)):
        assert np.array_equal(dataclasses.replace(again).numbers(step), again.numbers(step))
    other = dataclasses.replace(again, order=dataclasses.replace(ORDER, seed=1))
    assert any(not np.array_equal(other.numbers(step), again.numbers(step)) for step in turns(again))


def test_without_drawn_rows_those_of_the_step_play_the_request():
    own = dataclasses.replace(DRAWN, rows=0)
    for step in turns(own)[:5]:
        numbers = ORDER.step(step)
        assert np.array_equal(own.numbers(step), numbers[numbers >= ORDER.stable])
