"""SatImp, against its formula: -γ·Σ sg[p^β₁·(1 - p)^β₂]·n / ΣM + L_r."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove

from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective


@pytest.mark.parametrize("beta1, beta2", [(5.0, 1.0), (1.0, 2.0), (0.0, 0.5)])
def test_value_and_gradient_are_those_of_the_formula(beta1, beta2):
    def second(forget, retain, frozen):
        total, labels = 0.0, 0
        for row, before in zip(forget, frozen, strict=True):
            for (z, y), (z0, _) in zip(row, before, strict=True):
                p = float(z0.softmax(0)[y])
                total = total + p**beta1 * (1 - p) ** beta2 * -z.log_softmax(0)[y]
                labels += 1
        return -0.3 * total / labels + mean_loss(retain)

    prove(get_objective("satimp", satimp_beta1=beta1, satimp_beta2=beta2, satimp_gamma=0.3), second)


def test_value_by_hand_with_the_defaults_of_the_source():
    rows = RowOutputs(torch.tensor([math.log(2)]), torch.tensor([1]), token_nll=torch.tensor([[math.log(2)]]))
    value = float(get_objective("satimp").row_value(rows, alpha=0))
    assert value == pytest.approx(-0.1 * 2**-6 * math.log(2), rel=1e-6)


def test_labels_in_between_move_most():
    nll = torch.tensor([[1e-9, 0.18, 12.0]], dtype=torch.float64, requires_grad=True)
    rows = RowOutputs(nll.sum(1), torch.tensor([3]), token_nll=nll)
    (slope,) = torch.autograd.grad(get_objective("satimp").row_value(rows, alpha=0).sum(), nll)
    assert float(slope[0, 1]) < -0.006 and slope[0, [0, 2]].abs().max() < 1e-9
