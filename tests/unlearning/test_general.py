"""General ability: which texts, which of them are only measured, and the divergence that is kept small."""

from __future__ import annotations

import math

import pytest
import torch

from hf_unlearn.unlearning import general


def test_every_other_text_is_only_measured():
    assert general.held_out(5) == [False, True, False, True, False]


def test_general_rows_go_round_and_each_comes_once_before_any_comes_again():
    steps = [general.rows_of_step(step, 4, 6) for step in range(3)]
    assert steps == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    assert general.rows_of_step(7, 9, 6) == [3, 4, 5, 0, 1, 2]  # all of them


def test_a_text_says_what_rows_say_when_six_tokens_in_a_row_are_theirs():
    known = general.all_runs([[1, 2, 3, 4, 5, 6, 7], [9, 9]])
    assert general.says_rows([0, 2, 3, 4, 5, 6, 7, 0], known)
    assert not general.says_rows([1, 2, 3, 4, 5, 0, 7], known)


def test_the_starts_and_the_asks_are_as_many():
    assert len(general.STARTS) == len(general.ASKS) == len(set(general.STARTS)) == len(set(general.ASKS))


@pytest.mark.parametrize("words", [10, 300])
def test_the_divergence_of_a_model_from_itself_is_zero_and_so_is_its_gradient(words):
    logits = torch.randn(4, words, generator=torch.Generator().manual_seed(3), requires_grad=True)
    found = general.divergence(logits, *general.top_of(logits.detach()))
    found.sum().backward()
    assert found.abs().max() < 1e-6 and logits.grad.abs().max() < 1e-6


def test_the_divergence_of_few_words_is_the_usual_one():
    generator = torch.Generator().manual_seed(5)
    q, p = (torch.randn(3, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    usual = (q.softmax(-1) * (q.log_softmax(-1) - p.log_softmax(-1))).sum(-1)
    assert torch.allclose(general.divergence(p, *general.top_of(q)).double(), usual, atol=1e-6)


def test_the_divergence_by_hand_with_the_rest_as_one_word(monkeypatch):
    monkeypatch.setattr(general, "TOP", 1)
    q, p = (torch.log(torch.tensor([shares])) for shares in ([0.6, 0.3, 0.1], [0.2, 0.5, 0.3]))
    wanted = 0.6 * math.log(0.6 / 0.2) + 0.4 * math.log(0.4 / 0.8)
    assert general.divergence(p, *general.top_of(q)).item() == pytest.approx(wanted, abs=1e-6)
    full = sum(a * math.log(a / b) for a, b in ((0.6, 0.2), (0.3, 0.5), (0.1, 0.3)))
    assert wanted < full  # words taken together hide what moves between them


def test_the_gradient_agrees_with_finite_differences(monkeypatch):
    monkeypatch.setattr(general, "TOP", 3)
    generator = torch.Generator().manual_seed(7)
    q, p = (torch.randn(2, 8, generator=generator) for _ in range(2))
    words, logs = general.top_of(q)
    p = p.double().requires_grad_()

    def value(x):  # in float64, which `divergence` leaves for float32
        own = x.log_softmax(-1)
        top, rest = own.gather(-1, words), (1 - own.gather(-1, words).exp().sum(-1)).log()
        own_rest = (1 - logs.double().exp().sum(-1)).log()
        return ((logs.double().exp() * (logs - top)).sum(-1) + own_rest.exp() * (own_rest - rest)).sum()

    assert torch.autograd.gradcheck(value, p)
    (wanted,) = torch.autograd.grad(value(p), p)
    (found,) = torch.autograd.grad(general.divergence(p, words, logs).sum(), p)
    assert torch.allclose(found, wanted, atol=1e-6)
