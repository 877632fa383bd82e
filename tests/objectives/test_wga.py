"""Weighted gradient ascent, against its formula: -Σ sg[p^β]·n / ΣM + L_r."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove, scene, step_value

from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective


def formula(beta, weight=1.0):
    def second(forget, retain, frozen):
        total, labels = 0.0, 0
        for row, before in zip(forget, frozen, strict=True):
            for (z, y), (z0, _) in zip(row, before, strict=True):
                total = total - float(z0.softmax(0)[y]) ** beta * z.log_softmax(0)[y]
                labels += 1
        return -total / labels + weight * mean_loss(retain)

    return second


@pytest.mark.parametrize("beta", [1.0, 0.5, 3.0])
def test_value_and_gradient_are_those_of_the_formula(beta):
    prove(get_objective("wga", wga_beta=beta, beta=0.7), formula(beta, 0.7))
    prove(get_objective("wga", wga_beta=beta, retain_term="none"), formula(beta, 0.0))


def test_value_by_hand():
    rows = RowOutputs(torch.tensor([math.log(2)]), torch.tensor([1]), token_nll=torch.tensor([[math.log(2)]]))
    assert float(get_objective("wga").row_value(rows, alpha=0)) == pytest.approx(-0.5 * math.log(2), rel=1e-6)


def test_without_a_power_it_is_gradient_difference():
    sides = scene("tokens")
    values = [
        step_value(get_objective(name, **own), sides["forget"], sides["retain"])
        for name, own in (("wga", {"wga_beta": 0.0}), ("grad_diff", {}))
    ]
    torch.testing.assert_close(*values)


def test_a_label_that_is_unlikely_already_is_left_alone():
    nll = torch.tensor([[0.01, 30.0]], dtype=torch.float64, requires_grad=True)
    rows = RowOutputs(nll.sum(1), torch.tensor([2]), token_nll=nll)
    (slope,) = torch.autograd.grad(get_objective("wga").row_value(rows, alpha=0).sum(), nll)
    assert float(slope[0, 0]) < -0.98 and abs(float(slope[0, 1])) < 1e-12
