"""One optimizer step of a request: its micro-batches are counted, its hinge gate follows τ."""

from __future__ import annotations

import pytest
import torch

from hf_unlearn.unlearning.step import Gate, UnlearnStep


def batches(*shapes):
    return [{"labels": torch.zeros(shape, dtype=torch.long)} for shape in shapes]


def step(given):
    one = torch.ones(())
    return UnlearnStep(given, one, one, one, one, 1.0)


def test_micro_batches_are_counted_whatever_object_holds_them():
    given = batches((4, 7), (4, 9), (2, 9))
    this = step(given)
    assert [this.begin(dict(batch)) for batch in given] == [True, False, False]
    assert [this.end() for _ in given] == [False, False, True]


def test_a_micro_batch_that_does_not_come_next_is_told_with_what_was_expected():
    given = batches((4, 7), (4, 9))
    this = step(given)
    with pytest.raises(RuntimeError, match=r"Micro-batch 1 of 2 .*shape \(4, 7\) were expected, \(4, 9\) came"):
        this.begin(given[1])
    assert this.begin(given[0])
    with pytest.raises(RuntimeError, match=r"Micro-batch 2 of 2 .*shape \(4, 9\) were expected, \(4, 7\) came"):
        this.begin(given[0])
    this.begin(given[1])
    with pytest.raises(RuntimeError, match=r"has 2 micro-batch\(es\); another one came"):
        this.begin(given[1])


def test_a_step_prints_itself_briefly():
    assert len(repr(step(batches(*[(64, 512)] * 16)))) < 500


def test_the_gate_is_closed_where_the_slope_is_zero_under_the_current_target():
    tau = [2.0]

    def slope(loss):
        return -2 * (tau[0] - loss).relu()

    gate = Gate()
    assert not gate.is_closed(slope)
    gate.look(torch.tensor(2.5))
    assert gate.is_closed(slope)
    tau[0] = 3.0
    assert not gate.is_closed(slope)
    again = Gate.from_dict(gate.to_dict(), torch.zeros((), dtype=torch.float64))
    assert (float(again.loss), again.loss.dtype, again.unlooked) == (2.5, torch.float64, 0)
    gate.look(torch.tensor(float("inf")))
    assert gate.to_dict() == {} and Gate.from_dict({}, torch.zeros(())).loss is None
