"""Selective synaptic dampening, against its formula."""

from __future__ import annotations

import pytest
import torch

from hf_unlearn.objectives.registry import get_objective


@pytest.mark.parametrize("alpha, lam", [(10.0, 1.0), (2.0, 0.5), (0.5, 1.0)])
def test_each_weight_becomes_what_the_formula_says(alpha, lam):
    torch.manual_seed(0)
    weights, forget, whole = torch.randn(40).double(), torch.rand(40).double() * 20, torch.rand(40).double()
    forget[0] = whole[0] = 0.0  # a weight that matters for no row
    found = get_objective("ssd", ssd_alpha=alpha, ssd_lambda=lam).edited(weights, forget, whole)
    for w, f, i, got in zip(weights.tolist(), forget.tolist(), whole.tolist(), found.tolist(), strict=True):
        assert got == pytest.approx(w * min(lam * i / f, 1) if f > alpha * i else w, rel=1e-9)


def test_value_by_hand():
    one = torch.ones(1)
    assert get_objective("ssd").edited(one, 40 * one, 2 * one).tolist() == pytest.approx([2 / 40])
    assert get_objective("ssd").edited(one, 20 * one, 2 * one).tolist() == [1.0]
