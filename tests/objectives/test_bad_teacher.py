"""Bad teaching, against its formula: KL(even ‖ p) on forget rows + KL(q ‖ p) on retain rows."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove

from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import row_outputs


def test_value_and_gradient_are_those_of_the_formula():
    def second(forget, retain, frozen):
        terms = [sum(torch.log(1 / len(z) / z.softmax(0)[v]) / len(z) for v in range(len(z))) for row in forget
                 for z, _ in row]  # fmt: skip
        return sum(terms) / len(terms) + mean_loss(retain)

    prove(get_objective("bad_teacher", retain_term="nll"), second, rises=False)


def test_by_default_retain_rows_are_held_by_what_was_said_before():
    objective = get_objective("bad_teacher")
    assert (objective.term, objective.retain_reference, objective.reference) == ("kl", "logits", "none")


def test_value_by_hand_and_at_even_probabilities():
    logits = torch.tensor([[math.log(1.0), math.log(3.0)], [2.0, 2.0]], dtype=torch.float64, requires_grad=True)
    value = get_objective("bad_teacher").row_value(row_outputs(logits, torch.tensor([0, 1]), "logits"), alpha=0)
    assert value.tolist() == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.0], abs=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert slope[0].tolist() == pytest.approx([-0.25, 0.25]) and not slope[1].abs().max() > 1e-12
