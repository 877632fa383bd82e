"""SimNPO, against its formula: -γ·(2/β)·mean_i log σ(β(S_i/T_i - δ)) + L_r."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import loss, mean_loss, prove, step_value

from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective


@pytest.mark.parametrize("beta, delta, gamma", [(4.5, 0.0, 0.125), (0.7, 1.5, 1.0)])
def test_value_and_gradient_are_those_of_the_formula(beta, delta, gamma):
    def second(forget, retain, frozen):
        terms = [torch.log(1 / (1 + torch.exp(-beta * (loss(row) / len(row) - delta)))) for row in forget]
        return -gamma * 2 / beta * sum(terms) / len(terms) + mean_loss(retain)

    prove(get_objective("simnpo", simnpo_beta=beta, simnpo_delta=delta, simnpo_gamma=gamma), second)


def test_value_by_hand():
    rows = RowOutputs(torch.tensor([6.0]), torch.tensor([3]))
    value = float(get_objective("simnpo", simnpo_delta=2.0).row_value(rows, alpha=0))
    assert value == pytest.approx(0.125 * 2 / 4.5 * math.log(2), rel=1e-6)


def test_a_label_at_the_first_place_which_nothing_predicts_is_not_counted():
    """Public code counts labels before the shift: its mean of such a row is too low."""
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 5, dtype=torch.float64)
    retain = (logits, torch.tensor([[-100, 1, 2, 3]]))
    with_it, without = (torch.tensor([[first, 1, 2, 3]]) for first in (4, -100))
    values = [step_value(get_objective("simnpo"), (logits, y), retain) for y in (with_it, without)]
    assert torch.equal(*values)
    nll = -logits[0, :3].log_softmax(-1)[torch.arange(3), torch.tensor([1, 2, 3])].sum()
    faulty, right = (-0.125 * 2 / 4.5 * torch.nn.functional.logsigmoid(4.5 * nll / n) for n in (4, 3))
    forget = values[0] - nll / 3  # without the retain term
    torch.testing.assert_close(forget, right)
    assert float(faulty / forget) > 1.5


def test_long_and_short_rows_of_the_same_mean_loss_are_driven_up_alike():
    rows = RowOutputs(torch.tensor([1.0, 8.0]), torch.tensor([1, 8]))
    values = get_objective("simnpo").row_value(rows, alpha=0)
    torch.testing.assert_close(values[0], values[1])
