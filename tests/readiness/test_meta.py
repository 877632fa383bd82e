"""The readiness gradient against formulas by hand, brute force and double backward, and the weights put back."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny import lm, same_bits, weights

from hf_unlearn.readiness import moving_weights
from hf_unlearn.readiness.exact import exact_readiness_gradient
from hf_unlearn.readiness.gradient import readiness_gradient
from hf_unlearn.readiness.moving_weights import norm, perturbed, restored
from hf_unlearn.readiness.passes import Pass
from hf_unlearn.readiness.terms import FD_EPSILON, Terms

F64 = torch.float64
KINDS = ("revocable", "stable", "proxy")


# ---- toys: three losses of the same weights ----


class Quadratic:
    """L(w) = ½ wᵀA w + bᵀw + c for each kind, A symmetric."""

    def __init__(self, n=5, dtype=F64):
        torch.manual_seed(0)
        self.params = [torch.nn.Parameter(torch.randn(n, dtype=dtype))]
        self.parts = {}
        for kind in KINDS:
            a = torch.randn(n, n, dtype=dtype)
            self.parts[kind] = ((a + a.T) / 2, torch.randn(n, dtype=dtype), float(len(kind)))

    def loss(self, weights, kind):
        a, b, c = self.parts[kind]
        (w,) = weights
        return w @ a @ w / 2 + b @ w + c

    def grad(self, w, kind):
        return self.parts[kind][0] @ w + self.parts[kind][1]


class Net:
    """Cross-entropies of a small tanh network; one matrix serves only the stable rows, one no rows at all."""

    def __init__(self, dtype=F64, seed=0):
        torch.manual_seed(seed)
        shapes = [(4, 6), (6, 3), (4, 3), (2, 2)]
        self.params = [torch.nn.Parameter(0.7 * torch.randn(s, dtype=dtype)) for s in shapes]
        self.data = {k: (torch.randn(5, 4, dtype=dtype), torch.randint(3, (5,))) for k in KINDS}

    def loss(self, weights, kind):
        a, b, only_stable, _ = weights
        x, y = self.data[kind]
        logits = torch.tanh(x @ a) @ b
        if kind == "stable":
            logits = logits + x @ only_stable
        return torch.nn.functional.cross_entropy(logits, y)


class ToyPass(Pass):
    def __init__(self, toy, kind, seen=None):
        self.toy, self.kind, self.seen = toy, kind, seen

    def forward(self):
        graph = self.toy.loss(self.toy.params, self.kind)

        def backward(weight):
            (graph * weight).backward()
            if self.seen is not None:
                self.seen.append(self.kind)
            return graph.detach()

        return SimpleNamespace(loss=graph.detach(), backward=backward, drop=lambda: None)


def passes(toy, seen=None):
    return {kind: ToyPass(toy, kind, seen) for kind in KINDS}


def ready(toy, terms, share=1.0, **more):
    """The readiness gradient alone (without the main pass), and the components."""
    for p in toy.params:
        p.grad = None
    start = toy.loss(toy.params, "revocable")
    (share * start).backward()
    main = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in toy.params]
    parts = readiness_gradient(
        toy.params, **passes(toy, **more), terms=terms, revocable_loss=start.detach(), share=share
    )
    got = [torch.zeros_like(p) if p.grad is None else p.grad for p in toy.params]
    return [g - m for g, m in zip(got, main, strict=True)], parts


def error(got, want):
    return float(norm([g - w for g, w in zip(got, want, strict=True)]) / norm(want).clamp_min(1e-300))


TERMS = {
    "gain": {"lambda_efficiency": 0.7, "lambda_retention": 0.0},
    "loss": {"lambda_efficiency": 0.7, "lambda_retention": 0.0, "efficiency": "loss"},
    "retention": {"lambda_efficiency": 0.0, "lambda_retention": 0.6},
    "relearn": {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.9, "resistance": "relearn"},
    "align": {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.9, "resistance": "align"},
    "all": {"lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "relearn"},
    "all, align": {
        "lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "align"
    },
}  # fmt: skip


# ---- by hand, on quadratics ----


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize("term", ["gain", "loss", "retention", "relearn"])
def test_each_term_by_hand(term, mode, normalize, share):
    toy = Quadratic()
    w = toy.params[0].detach().clone()
    a_f, a_q = toy.parts["revocable"][0], toy.parts["proxy"][0]
    eye, lr, size = torch.eye(len(w), dtype=F64), 0.1, w.norm()
    g = toy.grad(w, "revocable")
    a = lr * size / g.norm() if normalize else lr
    w1 = w + a * g
    q = toy.grad(w1, "proxy")
    c = lr * size / q.norm() if normalize else lr
    w2 = w1 - c * q
    # Jacobians of the steps; a normalised step does not move along its own gradient
    across = (lambda g: eye - torch.outer(g, g) / (g @ g)) if normalize else (lambda g: eye)
    j1, j2 = eye + a * a_f @ across(g), eye - c * a_q @ across(q)
    if mode == "first_order":
        j1 = j2 = eye
    wanted = {
        "gain": -0.7 * (j1 @ toy.grad(w1, "revocable") - g),
        "loss": -0.7 * j1 @ toy.grad(w1, "revocable"),
        "retention": 0.6 * j1 @ toy.grad(w1, "stable"),
        "relearn": -0.9 * j1 @ j2 @ toy.grad(w2, "revocable"),
    }[term]
    terms = Terms(inner_lr=lr, inner_normalize=normalize, meta_gradient=mode, **TERMS[term])
    got, parts = ready(toy, terms, share)
    assert error(got, [wanted]) < (1e-12 if mode == "first_order" else 1e-9)
    f0, f1 = toy.loss([w], "revocable"), toy.loss([w1], "revocable")
    values = {
        "inner_length": (w1 - w).norm() / w.norm(),
        "gain": f1 - f0,
        "retention": toy.loss([w1], "stable"),
        "relearned": toy.loss([w2], "revocable"),
    }
    assert "inner_length" in parts and len(parts) == 2
    for name, value in parts.items():
        torch.testing.assert_close(value, values[name], rtol=1e-10, atol=1e-12)
        assert not value.requires_grad and value.shape == ()


def test_align_by_hand_in_one_dimension_less_than_obvious():
    """cos of two gradients that are linear in w: its gradient needs both Hessians, in first order too."""
    toy = Quadratic()
    w = toy.params[0].detach().clone()
    w1 = w + 0.1 * toy.grad(w, "revocable")
    p, q = toy.grad(w1, "revocable"), toy.grad(w1, "proxy")
    cosine = p @ q / (p.norm() * q.norm())
    by_p = (q / q.norm() - cosine * p / p.norm()) / p.norm()
    by_q = (p / p.norm() - cosine * q / q.norm()) / q.norm()
    wanted = 0.9 * (toy.parts["revocable"][0] @ by_p + toy.parts["proxy"][0] @ by_q)
    got, parts = ready(toy, Terms(inner_lr=0.1, inner_normalize=False, **TERMS["align"]))
    assert error(got, [wanted]) < 1e-8
    assert float(parts["align"]) == pytest.approx(float(cosine), rel=1e-12)


def test_three_plain_inner_steps_by_hand():
    toy = Quadratic()
    at = toy.params[0].detach().clone()
    hand = torch.eye(len(at), dtype=F64)
    a_f = toy.parts["revocable"][0]
    for _ in range(3):
        at = at + 0.1 * toy.grad(at, "revocable")
        hand = hand @ (torch.eye(len(at), dtype=F64) + 0.1 * a_f)
    outer = 0.6 * toy.grad(at, "stable")
    options = {"inner_lr": 0.1, "inner_normalize": False, "inner_steps": 3, **TERMS["retention"]}
    assert error(ready(toy, Terms(**options))[0], [outer]) < 1e-12
    assert error(ready(toy, Terms(meta_gradient="finite_difference", **options))[0], [hand @ outer]) < 1e-9


def test_the_loss_after_a_step_is_the_first_plus_the_squared_gradient():
    """L(θ'; B_f) = L_f + α‖g_f‖² + O(α²), and L(θ'; B_r) = L_r + α⟨g_r, g_f⟩ + O(α²)."""
    toy = Net()
    g_f = torch.autograd.grad(toy.loss(toy.params, "revocable"), toy.params[:2])
    g_r = torch.autograd.grad(toy.loss(toy.params, "stable"), toy.params[:2])
    squared = float(sum((x * x).sum() for x in g_f))
    across = float(sum((x * y).sum() for x, y in zip(g_f, g_r, strict=True)))
    stable = float(toy.loss(toy.params, "stable").detach())
    rests = []
    for lr in (1e-2, 5e-3):
        _, parts = ready(toy, Terms(inner_lr=lr, inner_normalize=False))
        rests.append((float(parts["gain"]) - lr * squared, float(parts["retention"]) - stable - lr * across))
    for i in (0, 1):
        assert abs(rests[0][i]) > 0
        assert rests[0][i] / rests[1][i] == pytest.approx(4.0, rel=0.05)


# ---- against double backward and brute force ----


def outer_value(toy, theta, terms, size):
    """(3) to (5) as a number, written down a second time; `size` is ‖θ‖ where the run began."""

    def stepped(at, kind, sign):
        at = [t.detach().requires_grad_() for t in at]
        g = torch.autograd.grad(toy.loss(at, kind), at, allow_unused=True)
        g = [torch.zeros_like(t) if x is None else x for x, t in zip(g, at, strict=True)]
        a = terms.inner_lr * size / norm(g) if terms.inner_normalize else terms.inner_lr
        return [(t + sign * a * x).detach() for t, x in zip(at, g, strict=True)], g

    at = theta
    for _ in range(terms.inner_steps):
        at, _ = stepped(at, "revocable", 1)
    gained = toy.loss(at, "revocable") - (toy.loss(theta, "revocable") if terms.efficiency == "gain" else 0)
    value = -terms.lambda_efficiency * min(float(gained.detach()), terms.efficiency_cap)
    value += terms.lambda_retention * float(toy.loss(at, "stable").detach())
    if terms.resistance == "relearn":
        back = float(toy.loss(stepped(at, "proxy", -1)[0], "revocable").detach())
        value -= terms.lambda_resistance * min(back, terms.cap)
    elif terms.resistance == "align":
        q, f = stepped(at, "proxy", 1)[1], stepped(at, "revocable", 1)[1]
        cosine = sum((x * y).sum() for x, y in zip(q, f, strict=True)) / (norm(q) * norm(f))
        value += terms.lambda_resistance * float(cosine)
    return value


@pytest.mark.parametrize("steps, normalize", [(1, False), (1, True), (3, False), (3, True)])
@pytest.mark.parametrize("term", TERMS)
def test_double_backward_is_the_brute_force_derivative_and_the_finite_difference_is_double_backward(
    term, steps, normalize
):
    toy = Net()
    terms = Terms(inner_lr=0.1 if normalize else 0.5, inner_steps=steps, inner_normalize=normalize, **TERMS[term])
    exact, values = exact_readiness_gradient(toy.params, toy.loss, terms)
    size, theta = norm(toy.params), [p.detach().clone() for p in toy.params]
    torch.manual_seed(1)
    directions = [[torch.randn_like(t) for t in theta] for _ in range(2)]
    for direction in directions:
        ends = [
            outer_value(toy, [t + sign * 1e-5 * d for t, d in zip(theta, direction, strict=True)], terms, size)
            for sign in (1, -1)
        ]
        along = float(moving_weights.inner_product(exact, direction))
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)

    for epsilon, tolerance in ((1e-6, 1e-5), (FD_EPSILON, 1e-3)):
        second = Terms(**{**vars(terms), "meta_gradient": "finite_difference", "fd_epsilon": epsilon})
        got, parts = ready(toy, second, share=0.4)
        assert error(got, exact) < tolerance, epsilon
    for name in parts.keys() - {"inner_length"}:
        torch.testing.assert_close(parts[name], values[name], rtol=1e-9, atol=1e-12)
    if steps == 1:
        torch.testing.assert_close(parts["inner_length"], values["inner_length"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("normalize", [False, True])
def test_first_order_drops_the_curvature_and_only_that(normalize):
    """Where the step is tiny the curvature is, too; where it is not, first order must differ from the exact."""
    toy = Net()
    for lr, low, high in ((1e-6, 0.0, 1e-4), (0.3, 0.02, 10.0)):
        terms = Terms(inner_lr=lr, inner_normalize=normalize, lambda_efficiency=0.0)
        assert low <= error(ready(toy, terms)[0], exact_readiness_gradient(toy.params, toy.loss, terms)[0]) < high


@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
def test_a_step_length_of_zero_leaves_no_gain_and_a_plain_retain_gradient(mode):
    toy = Net()
    got, parts = ready(toy, Terms(inner_lr=0.0, meta_gradient=mode, lambda_retention=0.0))
    assert float(parts["gain"]) == 0.0 and float(norm(got)) < 1e-15
    got, _ = ready(toy, Terms(inner_lr=0.0, meta_gradient=mode, lambda_efficiency=0.0, lambda_retention=2.0))
    plain = torch.autograd.grad(2 * toy.loss(toy.params, "stable"), toy.params, allow_unused=True)
    plain = [torch.zeros_like(p) if g is None else g for g, p in zip(plain, toy.params, strict=True)]
    assert error(got, plain) < 1e-12


@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("efficiency", ["gain", "loss"])
def test_beyond_the_cap_the_efficiency_term_is_silent(efficiency, steps, mode):
    toy = Net()
    terms = {"inner_steps": steps, "meta_gradient": mode, "efficiency": efficiency, "lambda_retention": 0.0}
    _, parts = ready(toy, Terms(**terms))
    at_cap = float(parts["gain"])
    if efficiency == "loss":
        at_cap += float(toy.loss(toy.params, "revocable").detach())
    cap = {"gain": "gain_cap", "loss": "cap"}[efficiency]
    closed, _ = ready(toy, Terms(**{cap: at_cap * 0.999}, **terms))
    assert float(norm(closed)) < 1e-12
    open_, _ = ready(toy, Terms(**{cap: at_cap * 1.001}, **terms))
    assert float(norm(open_)) > 1e-3
    exact, _ = exact_readiness_gradient(toy.params, toy.loss, Terms(**{cap: at_cap * 0.999}, **terms))
    assert float(norm(exact)) < 1e-12


@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
def test_beyond_the_cap_the_relearn_term_is_silent(mode):
    toy = Net()
    _, parts = ready(toy, Terms(meta_gradient=mode, **TERMS["relearn"]))
    got, _ = ready(toy, Terms(meta_gradient=mode, cap=float(parts["relearned"]) * 0.999, **TERMS["relearn"]))
    assert float(norm(got)) == 0.0


@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize(
    "term, component, better",
    [
        ("gain", "gain", 1),
        ("loss", "gain", 0),
        ("retention", "retention", -1),
        ("relearn", "relearned", 1),
        ("align", "align", -1),
    ],
)
def test_a_step_along_it_makes_the_model_readier(term, component, better, mode):
    toy = Net()
    terms = Terms(inner_lr=0.05, meta_gradient=mode, **TERMS[term])
    got, before = ready(toy, terms)
    start = float(toy.loss(toy.params, "revocable").detach())
    with torch.no_grad():
        for p, g in zip(toy.params, got, strict=True):
            p.sub_(0.01 * g)
    _, after = ready(toy, terms)
    if term == "loss":  # what is raised is the loss after the request
        assert float(after["gain"]) + float(toy.loss(toy.params, "revocable").detach()) > float(before["gain"]) + start
    else:
        assert better * (float(after[component]) - float(before[component])) > 0


def test_first_order_costs_one_pass_a_term_and_the_exact_mode_is_refused_here():
    seen = []
    ready(Net(), Terms(), seen=seen)
    assert seen == ["revocable", "stable"]
    seen.clear()
    ready(Net(), Terms(meta_gradient="finite_difference"), seen=seen)
    assert seen == ["revocable", "stable", "revocable"]
    with pytest.raises(ValueError, match="exact"):
        ready(Net(), Terms(meta_gradient="exact"))


# ---- the weights put back ----


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize("resistance", ["relearn", "align"])
def test_weights_are_back_bit_for_bit(resistance, mode, steps):
    toy = Net(dtype=torch.float32)
    before = [p.detach().clone() for p in toy.params]
    storage = [p.data_ptr() for p in toy.params]
    terms = {**TERMS["all"], "resistance": resistance}
    ready(toy, Terms(inner_lr=0.3, inner_steps=steps, meta_gradient=mode, **terms))
    assert all(torch.equal(p, b) for p, b in zip(toy.params, before, strict=True))
    assert [p.data_ptr() for p in toy.params] == storage


@pytest.mark.parametrize("raised", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)], ids=type)
@pytest.mark.parametrize("at", range(1, 7))
def test_weights_are_back_after_an_error_in_any_pass(at, raised):
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
            **{kind: Breaking(toy, kind) for kind in KINDS},
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


def test_ctrl_c_inside_the_block_arrives_when_the_weights_are_back(ctrl_c):
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


def test_a_second_ctrl_c_is_let_through_and_the_weights_are_back(ctrl_c):
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


def test_ctrl_c_in_a_pass_of_the_readiness_gradient(ctrl_c):
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
