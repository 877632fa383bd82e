"""KL minimisation, against its formula: -L_f + KL(q ‖ p) on labelled retain tokens; and the retain term "kl"."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import before_of, mean_loss, prove, scene, step_value

from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.retaining import divergence
from hf_unlearn.objectives.row_nll import row_outputs


def kl(rows, before):
    """Mean over labels of Σ_v q_v·log(q_v / p_v)."""
    terms = []
    for row, own in zip(rows, before, strict=True):
        for (z, _), (zq, _) in zip(row, own, strict=True):
            q, p = torch.exp(zq) / torch.exp(zq).sum(), torch.exp(z) / torch.exp(z).sum()
            terms.append(sum(q[v] * torch.log(q[v] / p[v]) for v in range(len(z))))
    return sum(terms) / len(terms)


def test_value_and_gradient_are_those_of_the_formula():
    def second(forget, retain, frozen, before):
        return -mean_loss(forget) + 0.7 * kl(retain, before[1])

    prove(get_objective("kl_min", beta=0.7), second, with_before=True, falls=False)


def test_the_retain_term_may_be_kl_with_any_objective():
    def second(forget, retain, frozen, before):
        return -0.5 * mean_loss(forget) + 2 * kl(retain, before[1])

    prove(get_objective("grad_diff", retain_term="kl", gamma=0.5, beta=2.0), second, with_before=True, falls=False)


def test_value_by_hand():
    rows = row_outputs(torch.tensor([[math.log(1.0), math.log(3.0)]]), torch.tensor([0]), "logits")
    rows = type(rows)(**{**vars(rows), "reference_logits": torch.zeros(1, 2)})
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence(rows).tolist() == pytest.approx([by_hand]) and by_hand == pytest.approx(0.1438, abs=1e-4)


def test_a_step_down_comes_nearer_to_what_was_said_before():
    sides = scene("tokens")
    before = before_of(sides, "tokens")
    logits, labels = sides["retain"]
    rows = row_outputs(logits.requires_grad_(), labels, "logits")
    rows = type(rows)(**{**vars(rows), **before["retain"]})
    value = divergence(rows).sum()
    (slope,) = torch.autograd.grad(value, logits)
    moved = row_outputs((logits - 1e-3 * slope).detach(), labels, "logits")
    moved = type(moved)(**{**vars(moved), **before["retain"]})
    assert 0 < float(divergence(moved).sum()) < float(value.detach())


def test_prompt_and_padding_have_no_say():
    """Public code averages over prompt and padding, too."""
    sides = scene("tokens")
    before = before_of(sides, "tokens")
    value = step_value(
        get_objective("kl_min"), sides["forget"], sides["retain"], brought=before["forget"],
        retain_brought=before["retain"],
    )  # fmt: skip
    logits, labels = sides["retain"]
    q, p = (x.log_softmax(-1) for x in (before["retain"]["reference_logits"], logits))
    everywhere = (q.exp() * (q - p)).sum(-1)
    there = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100) != -100
    right, faulty = everywhere[there].mean(), everywhere.mean()
    assert abs(float(faulty / right) - 1) > 0.1
    rest = value - right
    torch.testing.assert_close(rest, step_value(get_objective("gradient_ascent"), sides["forget"], sides["retain"]))
