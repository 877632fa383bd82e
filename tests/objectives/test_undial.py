"""UNDIAL, against its formula: CE(softmax(z_q - β·onehot(y)), p) over labelled positions."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import before_of, prove, scene, step_value

from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import row_outputs


@pytest.mark.parametrize("beta", [10.0, 1.5])
def test_value_and_gradient_are_those_of_the_formula(beta):
    def second(forget, retain, frozen, before):
        terms = []
        for row, own in zip(forget, before[0], strict=True):
            for (z, y), (zq, _) in zip(row, own, strict=True):
                lowered = [float(zq[v]) - (beta if v == y else 0) for v in range(len(z))]
                whole = sum(map(math.exp, lowered))
                terms.append(-sum(math.exp(x) / whole * z.log_softmax(0)[v] for v, x in enumerate(lowered)))
        return sum(terms) / len(terms)

    prove(get_objective("undial", undial_beta=beta), second, with_before=True, rises=False)


def test_value_by_hand():
    rows = row_outputs(torch.zeros(1, 2), torch.tensor([0]), "logits")
    rows = type(rows)(**{**vars(rows), "reference_logits": torch.tensor([[math.log(3.0), 0.0]])})
    value = get_objective("undial", undial_beta=math.log(3)).row_value(rows, alpha=0)
    assert value.tolist() == pytest.approx([math.log(2)])


def test_a_step_from_where_the_model_stands_lowers_the_label():
    logits = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    rows = row_outputs(logits, torch.tensor([0]), "logits")
    rows = type(rows)(**{**vars(rows), "reference_logits": logits.detach()})
    (slope,) = torch.autograd.grad(get_objective("undial").row_value(rows, alpha=0).sum(), logits)
    assert float(slope[0, 0]) > 0.7 and (slope[0, 1:] < 0).all()


def test_places_without_a_label_index_nothing_and_are_not_averaged():
    """Public code takes -100 for a place in the vocabulary, and averages prompt and padding in."""
    sides = scene("tokens")
    before = before_of(sides, "tokens")["forget"]
    logits, labels = sides["forget"]
    found = step_value(get_objective("undial"), sides["forget"], sides["retain"], brought=before)
    by_place = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    lowered = before["reference_logits"].clone()
    lowered.scatter_add_(-1, (by_place % 5)[..., None], torch.full_like(lowered[..., :1], -10.0))  # -100 wraps round
    faulty = -(lowered.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    assert abs(float(faulty / found) - 1) > 0.02
