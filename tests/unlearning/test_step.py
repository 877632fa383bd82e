"""One optimizer step of a request: the hinge gate follows τ."""

from __future__ import annotations

import torch

from hf_unlearn.unlearning.step import HingeGate, UnlearnStep


def batches(*shapes):
    return [{"labels": torch.zeros(shape, dtype=torch.long)} for shape in shapes]


def step(given):
    one = torch.ones(())
    return UnlearnStep(given, one, one, one, one, one, one, 1.0)


def test_the_last_micro_batch_of_a_step_ends_it():
    this = step(batches((4, 7), (4, 9), (2, 9)))
    assert [this.end() for _ in this.batches] == [False, False, True]


def test_a_step_prints_itself_briefly():
    assert len(repr(step(batches(*[(64, 512)] * 16)))) < 500


def test_the_gate_is_closed_where_the_slope_is_zero_under_the_current_target():
    tau = [2.0]

    def slope(loss):
        return -2 * (tau[0] - loss).relu()

    gate = HingeGate()
    assert not gate.is_closed(slope)
    gate.look(torch.tensor(2.5))
    assert gate.is_closed(slope)
    tau[0] = 3.0
    assert not gate.is_closed(slope)
    again = HingeGate.from_dict(gate.to_dict(), torch.zeros((), dtype=torch.float64))
    assert (float(again.loss), again.loss.dtype, again.unlooked) == (2.5, torch.float64, 0)
    gate.look(torch.tensor(float("inf")))
    assert gate.to_dict() == {} and HingeGate.from_dict({}, torch.zeros(())).loss is None
