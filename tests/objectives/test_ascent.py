"""Gradient ascent, gradient difference and NPO, against their formulas, with each retain term."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import loss, mean_loss, prove

from hf_unlearn.objectives.base import BOTH, FORGET, RowOutputs
from hf_unlearn.objectives.registry import get_objective


def test_gradient_ascent_is_minus_the_forget_loss():
    prove(get_objective("gradient_ascent"), lambda forget, retain, frozen: -mean_loss(forget))
    objective = get_objective("gradient_ascent")
    assert (objective.side, objective.recovers, objective.row_passes) == (FORGET, False, 1)


@pytest.mark.parametrize(
    "gamma, beta, term, weight", [(1.0, 1.0, "auto", 1.0), (0.5, 2.0, "nll", 2.0), (2.0, 3.0, "none", 0.0)]
)
def test_gradient_difference_is_the_difference(gamma, beta, term, weight):
    objective = get_objective("grad_diff", gamma=gamma, beta=beta, retain_term=term)
    prove(objective, lambda forget, retain, frozen: -gamma * mean_loss(forget) + weight * mean_loss(retain))
    assert objective.side == (FORGET if term == "none" else BOTH)


def test_the_retain_term_is_an_argument():
    with_it = get_objective("gradient_ascent", retain_term="nll")
    prove(with_it, lambda forget, retain, frozen: -mean_loss(forget) + mean_loss(retain))
    with pytest.raises(ValueError, match="`retain_term` is 'l2'; it must be one of 'auto', 'nll'"):
        get_objective("npo", retain_term="l2")


def test_npo_is_its_formula():
    reference = torch.tensor([0.5, 9.0, 3.0], dtype=torch.float64)

    def second(forget, retain, frozen):
        terms = [torch.log(torch.sigmoid(0.3 * (loss(row) - q))) for row, q in zip(forget, reference, strict=True)]
        return -2 / 0.3 * sum(terms) / len(terms) + mean_loss(retain)

    prove(get_objective("npo", npo_beta=0.3), second, brought={"reference": reference})


def test_npo_by_hand_of_a_row_that_is_a_quarter_as_likely_as_before():
    nll = torch.tensor([5.0, 5.0 + math.log(4)], dtype=torch.float64)
    rows = RowOutputs(nll, torch.tensor([2, 2]), reference=torch.tensor([5.0, 5.0], dtype=torch.float64))
    value = get_objective("npo", npo_beta=0.5).row_value(rows, alpha=0).tolist()
    assert value == pytest.approx([4 * math.log(2), 4 * math.log(1.5)]) and value[1] == pytest.approx(1.622, abs=1e-3)


def test_a_mean_of_micro_batch_means_is_another_loss():
    """What public code minimises under accumulation: rows of 4, 2 and 6 labels, one a micro-batch."""
    from helpers.proofs import rows_of, scene

    rows = rows_of(*scene("tokens")["forget"])
    faulty = sum(mean_loss([row]) for row in rows) / len(rows)
    assert abs(float(faulty / mean_loss(rows)) - 1) > 0.05
