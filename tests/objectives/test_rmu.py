"""RMU, against its formula: mean ‖h_f - c·u‖²/d + α·mean ‖h_r - h_r^q‖²/d over labelled tokens."""

from __future__ import annotations

import pytest
import torch

from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective

LABELS = torch.tensor([[-100, 1, 2, 1, -100], [3, -100, -100, -100, -100], [1, 1, 1, 1, -100]])  # by position


def direction(width, seed):
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / (drawn**2).sum().sqrt()


def rows(hidden, before=None, seed=5):
    items = LABELS.ne(-100).sum(1)
    return RowOutputs(torch.zeros(3), items, labels=LABELS, hidden_states=hidden, reference_hidden=before, seed=seed)


def formula(hidden, towards):
    """Mean over labelled tokens of ‖h - towards‖²/d, token by token; `towards`: (d,), or (3, 5, d)."""
    terms = []
    for i in range(3):
        for t in range(5):
            if LABELS[i, t] != -100:
                aim = towards if towards.dim() == 1 else towards[i, t]
                terms.append(((hidden[i, t] - aim) ** 2).sum() / hidden.shape[-1])
    return sum(terms) / len(terms)


def test_value_and_gradient_are_those_of_the_formula_and_of_its_finite_difference():
    torch.manual_seed(0)
    objective = get_objective("rmu", rmu_scale=3.0, rmu_weight=0.7)
    hidden, before = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 5, 4).double()
    for own, wanted in (
        (lambda h: objective.row_value(rows(h), alpha=0).sum() / 8, lambda h: formula(h, 3 * direction(4, 5))),
        (lambda h: objective.retain_row_value(rows(h, before), alpha=0).sum() / 8, lambda h: 0.7 * formula(h, before)),
    ):
        torch.testing.assert_close(own(hidden), wanted(hidden), rtol=1e-9, atol=1e-12)
        (slope,) = torch.autograd.grad(own(hidden), hidden)
        along = torch.randn_like(hidden)
        with torch.no_grad():
            difference = (wanted(hidden + 1e-5 * along) - wanted(hidden - 1e-5 * along)) / 2e-5
            assert float((slope * along).sum()) == pytest.approx(float(difference), rel=1e-6)
            assert own(hidden - 1e-3 * slope) < own(hidden)
        assert not slope[LABELS == -100].any()


def test_value_by_hand_and_the_direction_is_fixed_by_the_seed():
    one = RowOutputs(torch.zeros(1), torch.tensor([1]), labels=torch.tensor([[2]]), hidden_states=torch.zeros(1, 1, 1))
    assert get_objective("rmu").row_value(one, alpha=0).tolist() == [4.0]
    at_aim = (2 * direction(4, 5)).expand(3, 5, 4)
    assert float(get_objective("rmu").row_value(rows(at_aim), alpha=0).abs().max()) < 1e-12
    assert float(get_objective("rmu").row_value(rows(at_aim, seed=6), alpha=0).min()) > 0.01
    assert (direction(64, 1) >= 0).all() and float(direction(64, 1).norm()) == pytest.approx(1)


def test_rows_of_unequal_lengths_weigh_by_their_labels():
    """Public code divides sums (n,) by counts (n, 1), which crosses rows with each other."""
    torch.manual_seed(1)
    hidden = torch.randn(3, 5, 4, dtype=torch.float64)
    right = float(formula(hidden, 2 * direction(4, 5)))
    some = LABELS.ne(-100)
    sums = ((hidden - 2 * direction(4, 5)) ** 2).mean(-1).mul(some).sum(1)
    faulty = float((sums / some.sum(1, keepdim=True)).mean())
    found = float(get_objective("rmu").row_value(rows(hidden), alpha=0).sum() / some.sum())
    assert found == pytest.approx(right, rel=1e-9) and abs(faulty / right - 1) > 0.05


def test_the_layer_is_a_third_of_the_depth_unless_it_is_named():
    assert [get_objective("rmu").hidden_layer(n) for n in (1, 3, 12, 30)] == [0, 1, 4, 10]
    assert get_objective("rmu", rmu_layer=0).hidden_layer(30) == 0
