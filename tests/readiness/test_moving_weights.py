"""Weights that were moved are back bit for bit: after errors, after Ctrl-C, tied ones; and gradient arithmetic."""

from __future__ import annotations

import itertools
import os
import signal
import threading

import pytest
import torch
from helpers.tiny import lm, same_bits, weights
from helpers.toys import ROW_KINDS, TERMS, Net, ToyPass, passes, ready

from hf_unlearn.readiness import moving_weights
from hf_unlearn.readiness.gradient import readiness_gradient
from hf_unlearn.readiness.moving_weights import norm, perturbed, restored
from hf_unlearn.readiness.terms import Terms


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize("resistance", ["relearn", "align"])
def test_weights_are_restored_bit_for_bit(resistance, mode, steps):
    toy = Net(dtype=torch.float32)
    before = [p.detach().clone() for p in toy.params]
    storage = [p.data_ptr() for p in toy.params]
    terms = {**TERMS["all"], "resistance": resistance}
    ready(toy, Terms(inner_lr=0.3, inner_steps=steps, meta_gradient=mode, **terms))
    assert all(torch.equal(p, b) for p, b in zip(toy.params, before, strict=True))
    assert [p.data_ptr() for p in toy.params] == storage


@pytest.mark.parametrize("raised", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)], ids=type)
@pytest.mark.parametrize("at", range(1, 7))
def test_weights_are_restored_after_an_error_in_any_pass(at, raised):
    toy = Net(dtype=torch.float32)
    before = [p.detach().clone() for p in toy.params]
    count = itertools.count(1)

    class Breaking(ToyPass):
        def forward(self):
            if next(count) == at:
                assert not all(torch.equal(p, b) for p, b in zip(toy.params, before, strict=True))
                raise raised
            return super().forward()

    start = toy.loss(toy.params, "revocable")
    start.backward()
    terms = Terms(meta_gradient="finite_difference", **TERMS["all"])
    with pytest.raises(type(raised)):
        readiness_gradient(
            toy.params,
            **{kind: Breaking(toy, kind) for kind in ROW_KINDS},
            terms=terms,
            revocable_loss=start.detach(),
            share=1.0,
        )
    assert all(torch.equal(p, b) for p, b in zip(toy.params, before, strict=True))


@pytest.fixture
def ctrl_c():
    """Sends this process a real SIGINT; runners may have taken the handler away, so Python's own is put in."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    after = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def moved(params, before):
    return [not torch.equal(p, b) for p, b in zip(params, before, strict=True)]


def test_ctrl_c_in_the_block_is_raised_after_the_weights_are_restored(ctrl_c):
    params = [torch.randn(50), torch.randn(3, 4)]
    before = [p.clone() for p in params]
    reached = []
    with pytest.raises(KeyboardInterrupt):
        with perturbed(params, [torch.ones(50), torch.ones(3, 4)], 0.5):
            assert all(moved(params, before))
            ctrl_c()
            reached.append(moved(params, before))  # held back: the block goes on
        reached.append("after the block")
    assert reached == [[True, True]]
    assert not any(moved(params, before))


def test_a_second_ctrl_c_is_raised_at_once_and_the_weights_are_restored(ctrl_c):
    params = [torch.randn(50)]
    before = [p.clone() for p in params]
    with pytest.raises(KeyboardInterrupt), perturbed(params, [torch.ones(50)], 0.5):
        ctrl_c()
        ctrl_c()
        sum(range(1000))
        raise AssertionError("the second Ctrl-C was swallowed")
    assert not any(moved(params, before))


def test_ctrl_c_in_a_nested_block_restores_both(ctrl_c):
    params = [torch.randn(50)]
    before = [p.clone() for p in params]
    with pytest.raises(KeyboardInterrupt), restored(params):
        moving_weights.move_(params, [torch.ones(50)], 1.0)
        with perturbed(params, [torch.ones(50)], 0.5):
            ctrl_c()
    assert not any(moved(params, before))


def test_ctrl_c_in_a_pass_of_the_readiness_gradient_restores_the_weights(ctrl_c):
    toy = Net(dtype=torch.float32)
    before = [p.detach().clone() for p in toy.params]
    runs = passes(toy)

    class Interrupted(ToyPass):
        def forward(self):
            assert any(moved(toy.params, before))
            ctrl_c()
            return super().forward()

    start = toy.loss(toy.params, "revocable")
    start.backward()
    with pytest.raises(KeyboardInterrupt):
        readiness_gradient(
            toy.params,
            **{**runs, "stable": Interrupted(toy, "stable")},
            terms=Terms(),
            revocable_loss=start.detach(),
            share=1.0,
        )
    assert not any(moved(toy.params, before))


def test_another_handler_of_ctrl_c_is_called_instead_of_an_interrupt(ctrl_c):
    """A program that saves a checkpoint on Ctrl-C, or that ignores it, keeps doing so; the weights are back then."""
    params, calls = [torch.randn(50)], []
    before = [p.clone() for p in params]
    signal.signal(signal.SIGINT, lambda *_: calls.append(moved(params, before)))
    with perturbed(params, [torch.ones(50)], 0.5):
        ctrl_c()
        assert calls == []
    assert calls == [[False]]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with perturbed(params, [torch.ones(50)], 0.5):
        ctrl_c()
    assert not any(moved(params, before))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_outside_the_main_thread_signals_are_left_alone():
    params, failures = [torch.randn(5)], []
    before = [p.clone() for p in params]

    def work():
        try:
            with perturbed(params, [torch.ones(5)], 0.5):
                assert all(moved(params, before))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures and not any(moved(params, before))


def test_perturbed_moves_by_radius_times_direction_and_leaves_what_has_no_direction():
    params = [torch.zeros(3), torch.ones(2, dtype=torch.bfloat16), torch.randn(4, requires_grad=True)]
    before = [p.detach().clone() for p in params]
    with perturbed(params, [torch.tensor([1.0, 2.0, -4.0]), torch.tensor([2.0, 4.0]), None], torch.tensor(0.25)):
        assert params[0].tolist() == [0.25, 0.5, -1.0]
        assert params[1].tolist() == [1.5, 2.0] and params[1].dtype == torch.bfloat16
        assert torch.equal(params[2], before[2])
    assert not any(moved(params, before))


def test_tied_weights_are_moved_once():
    model = lm(tie_word_embeddings=True)
    tied, head = model.model.embed_tokens.weight, model.lm_head.weight
    assert tied is head
    params, before = list(model.parameters()), weights(model)
    with perturbed(params, [torch.ones_like(p) for p in params], 0.5):
        torch.testing.assert_close(model.lm_head.weight, before["lm_head.weight"] + 0.5, rtol=0, atol=1e-6)
        assert model.lm_head.weight is model.model.embed_tokens.weight
    assert same_bits(weights(model), before)


# ---- the small parts ----


def test_gradient_helpers_by_hand():
    p, q = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert float(norm(moving_weights.gradients([p, q]))) == 5.0
    moving_weights.add_gradients_([p, q], [None, torch.tensor([1.0, 2.0])], 2.0)
    assert q.grad.tolist() == [2.0, 4.0] and p.grad.tolist() == [3.0, 4.0]
    moving_weights.scale_gradients_([p, q], 0.5)
    assert p.grad.tolist() == [1.5, 2.0]
    kept = p.grad
    taken = moving_weights.take_gradients([p, q])
    assert taken[0] is kept and p.grad is None and q.grad is None
    product = moving_weights.inner_product([None, taken[0]], [taken[1], taken[0]], reduce=lambda x: 2 * x)
    assert float(product) == 2 * 6.25
    assert float(norm([None, None])) == 0.0
