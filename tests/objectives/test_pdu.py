"""PDU, against its formula: mean (max z - mean z)² + λ(L_r - ε); λ ← max(0, λ + η(L_r - ε))."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove, scene, step_value

from hf_unlearn.objectives.pdu import Pdu
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import row_outputs


@pytest.mark.parametrize("multiplier", [1.0, 2.5])
def test_value_and_gradient_are_those_of_the_formula(multiplier):
    def second(forget, retain, frozen):
        terms = [(z.max() - z.sum() / len(z)) ** 2 for row in forget for z, _ in row]
        return sum(terms) / len(terms) + multiplier * (mean_loss(retain) - 0.4)

    prove(Pdu(pdu_epsilon=0.4, multiplier=multiplier), second, rises=False)  # it flattens, whatever the label is


def test_value_by_hand_and_the_multiplier_follows_the_retain_loss():
    rows = row_outputs(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([0]), "logits")
    objective = Pdu(pdu_epsilon=1.0)
    value = objective.row_value(rows, alpha=0) + objective.mean_value(
        torch.tensor(9.0), torch.tensor(2.0), alpha=0, tau=0
    )
    assert value.tolist() == [5.0]
    nan = torch.tensor(math.nan)
    after = [objective.after_step(nan, torch.tensor(loss)).multiplier for loss in (2.0, 0.5, 0.0)]
    assert after == [2.0, 0.5, 0.0]
    assert Pdu(multiplier=0.1).after_step(nan, torch.tensor(0.0)).multiplier == 0.0
    assert objective.after_step(nan, nan) is objective  # a step that was skipped
    assert get_objective("pdu").state() == {"multiplier": 1.0} and "multiplier" not in get_objective("pdu").settings()


def test_the_mask_is_that_of_the_positions_which_predict_labels():
    """Public code masks by the labels before the shift, one position off."""
    sides = scene("tokens")
    logits, labels = sides["forget"]
    found = step_value(get_objective("pdu"), sides["forget"], sides["retain"])
    spread = (logits.amax(-1) - logits.mean(-1)) ** 2
    retain = found - spread[:, :-1][labels[:, 1:] != -100].mean()
    faulty = spread[labels != -100].mean() + retain
    assert abs(float(faulty / found) - 1) > 0.05


def test_a_small_step_flattens_the_logits():
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = row_outputs(logits, torch.tensor([0, 1, 2]), "logits")
    (slope,) = torch.autograd.grad(get_objective("pdu").row_value(rows, alpha=0).sum(), logits)
    moved = (logits - 1e-3 * slope).detach()
    assert (moved.amax(-1) - moved.mean(-1) < (logits.amax(-1) - logits.mean(-1)).detach()).all()
