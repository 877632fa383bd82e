"""The readiness gradient against formulas by hand, brute force and double backward."""

from __future__ import annotations

import pytest
import torch
from helpers.toys import F64, TERMS, Net, Quadratic, error, ready

from hf_unlearn.readiness import moving_weights
from hf_unlearn.readiness.exact import exact_readiness_gradient
from hf_unlearn.readiness.moving_weights import norm
from hf_unlearn.readiness.terms import FD_EPSILON, Terms

# ---- by hand, on quadratics ----


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
@pytest.mark.parametrize("term", ["gain", "loss", "retention", "relearn"])
def test_the_gradient_of_each_term_matches_a_hand_calculation(term, mode, normalize, share):
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


def test_the_gradient_of_align_uses_both_hessians_as_by_hand():
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


def test_the_gradient_through_three_inner_steps_matches_a_hand_calculation():
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
def test_first_order_is_exact_where_the_curvature_vanishes_and_only_there(normalize):
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
def test_the_efficiency_term_has_no_gradient_beyond_its_cap(efficiency, steps, mode):
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
def test_the_relearn_term_has_no_gradient_beyond_its_cap(mode):
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
def test_a_step_against_the_gradient_makes_the_model_readier(term, component, better, mode):
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
