"""The readiness gradient: what a simulated request at θ' says about θ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .moving_weights import (
    add_gradients_,
    copies_of,
    gradients,
    inner_product,
    move_,
    norm,
    perturbed,
    put_,
    restored,
    scale_gradients_,
    take_gradients,
)
from .passes import JointPass, Pass
from .terms import Terms


def _step_factor(terms: Terms, theta_norm: Tensor, grad_norm: Tensor) -> Tensor:
    if not terms.inner_normalize:
        return torch.full_like(grad_norm, terms.inner_lr)
    return terms.inner_lr * theta_norm / grad_norm.clamp_min(1e-20)


class _Pullback:
    """
    v ← (∂(θ + s·a·g(θ))/∂θ)ᵀ v for one inner step, by a finite difference of gradients along

        u = v - ĝ⟨ĝ, v⟩  (normalised step; ‖θ‖ in its length counts as constant),   or  u = v  (plain step):

        v ← v + s·a·H u,   H u ≈ (∇L(θ + ε·û) - ∇L(θ))·‖u‖/ε.

    The weights must be at the θ where the step began; they are there again afterwards.
    """

    def __init__(self, params, terms: Terms, theta_norm: Tensor, reduce):
        self.params, self.terms, self.theta_norm, self.reduce = params, terms, theta_norm, reduce

    def hessian_product(self, run: Pass, grad, u, factor: Tensor) -> None:
        """.grad += factor·H u, where `grad` is ∇L at the current weights (clean: `.grad` may hold anything)."""
        u_norm = norm(u, self.reduce)
        epsilon = (self.terms.fd_epsilon * self.theta_norm).clamp_min(1e-12)
        scale = factor * u_norm / epsilon
        with perturbed(self.params, u, epsilon / u_norm.clamp_min(1e-30)):
            run.add_gradient(scale)
        add_gradients_(self.params, grad, -scale)

    def project(self, grad, v, grad_norm: Tensor):
        if not self.terms.inner_normalize:
            return v
        along = inner_product(grad, v, self.reduce) / grad_norm.clamp_min(1e-20) ** 2
        return [x if x is None or g is None else x - along.to(x.dtype) * g for g, x in zip(grad, v, strict=True)]

    def __call__(self, run: Pass, grad, v, *, sign: float) -> None:
        """.grad += v + sign·a·H u."""
        grad_norm = norm(grad, self.reduce)
        u = self.project(grad, v, grad_norm)
        self.hessian_product(run, grad, u, sign * _step_factor(self.terms, self.theta_norm, grad_norm))
        add_gradients_(self.params, v)


def readiness_gradient(
    params: Sequence[Tensor],
    *,
    revocable: Pass,
    stable: Pass,
    proxy: Pass,
    terms: Terms,
    revocable_loss: Tensor,
    share: Tensor | float,
    counted: bool = True,
    both: JointPass | None = None,
    buffers: Iterable[Tensor] = (),
    reduce=lambda x: x,
) -> dict[str, Tensor]:
    """
    Adds the gradient of (3) to (5) to `.grad`, with the weights back bit for bit at the end.

    On entry `.grad` must hold exactly `share`·∇L_f(θ): the revocable rows' part of the main pass, run first, so that
    the inner gradient costs nothing; or, with `counted=False`, that of rows which are no part of the main pass, and it
    does not stay. `first_order` with one inner step needs one copy of the parameters and nothing else; each term
    beyond that and `finite_difference` need more gradient buffers.

    Args:
        params: the trainable parameters θ; with an adapter, the adapter's.
        revocable, stable, proxy: passes over the rows of L_f, L_r and L_q.
        revocable_loss: L_f(θ) of the main pass, (), nats.
        share: weight of L_f in the main pass; non-zero.
        counted: whether these rows are part of the main pass, so that `share`·∇L_f(θ) stays in `.grad`.
        both: one pass over revocable and stable rows, in place of one over each at θ'; None: in turn.
        buffers: tensors that forward passes move ([`moving_buffers`]); the passes here leave them as they were.
        reduce: sums a scalar over shards where parameters are sharded.

    Returns:
        Detached scalars (): `gain` L_f(θ') - L_f(θ), `retention` L_r(θ'), `relearned` L_f(θ'') or `align`, and
        `inner_length` ‖θ' - θ‖ / ‖θ‖ for one inner step.

    Raises:
        ValueError: for the mode "exact", which is [`exact_readiness_gradient`].
    """
    if terms.meta_gradient not in ("first_order", "finite_difference"):
        raise ValueError(f"`meta_gradient` is {terms.meta_gradient!r}; here only first_order or finite_difference.")
    second = terms.meta_gradient == "finite_difference"
    params = list(params)
    theta_norm = norm(params, reduce)
    pull = _Pullback(params, terms, theta_norm, reduce)
    single = terms.inner_steps == 1 and not second
    gain_form = bool(terms.lambda_efficiency) and terms.efficiency == "gain"
    components: dict[str, Tensor] = {}

    with restored([*params, *buffers]) as home:
        first = gradients(params)
        first_norm = norm(first, reduce)  # of share·∇L_f
        factor = _step_factor(terms, theta_norm, first_norm / share) / share
        components["inner_length"] = factor * first_norm / theta_norm.clamp_min(1e-20)
        move_(params, first, factor)
        if single and not (counted or gain_form):
            take_gradients(params)
        trail = []  # (weights before the step, its gradient) of the inner steps after the first
        if not single:
            first = take_gradients(params)
            for _ in range(terms.inner_steps - 1):
                before = copies_of(params) if second else None
                revocable.add_gradient(1.0)
                grad = take_gradients(params)
                move_(params, grad, _step_factor(terms, theta_norm, norm(grad, reduce)))
                trail.append((before, grad if second else None))

        floor = revocable_loss if terms.efficiency == "gain" else torch.zeros_like(revocable_loss)
        below_cap = None  # 1 while the gain is below its cap, else 0; None: no efficiency term

        def before_efficiency(loss: Tensor) -> Tensor:
            """Between the phases of the pass at θ', while `.grad` is a multiple of ∇L_f(θ): adds the gain's part."""
            below = (loss - floor < terms.efficiency_cap).to(loss.dtype)
            if single and gain_form:
                scale_gradients_(params, counted + terms.lambda_efficiency * below / share)
            return below

        if both is not None and terms.lambda_efficiency and terms.lambda_retention:
            joint = both.forward()
            after, kept = joint.losses
            below_cap = before_efficiency(after)
            joint.backward(-terms.lambda_efficiency * below_cap, terms.lambda_retention)
            components |= {"gain": after - revocable_loss, "retention": kept}
        else:
            if terms.lambda_efficiency:
                request = revocable.forward()
                below_cap = before_efficiency(request.loss)
                after = request.backward(-terms.lambda_efficiency * below_cap)
                components["gain"] = after - revocable_loss
            if terms.lambda_retention:
                components["retention"] = stable.add_gradient(terms.lambda_retention)
        if terms.lambda_resistance and terms.resistance != "none":
            _add_resistance(params, revocable, proxy, terms, pull, components)

        if second:
            for before, grad in reversed(trail):
                put_(params, before)
                pull(revocable, grad, take_gradients(params), sign=1.0)
            put_(params, home[: len(params)])
            at_home = [None if g is None else g / share for g in first]
            pull(revocable, at_home, take_gradients(params), sign=1.0)
    if not single:
        extra = terms.lambda_efficiency * below_cap / share if gain_form else 0.0
        add_gradients_(params, first, counted + extra)
    return components


def _add_resistance(params, revocable: Pass, proxy: Pass, terms: Terms, pull: _Pullback, components) -> None:
    """.grad += λ3·∇_{θ'} R. The weights are at θ' before and after."""
    kept = take_gradients(params)
    proxy.add_gradient(1.0)
    grad_q = take_gradients(params)
    norm_q = norm(grad_q, pull.reduce)
    if terms.resistance == "relearn":
        with perturbed(params, grad_q, -_step_factor(terms, pull.theta_norm, norm_q)):
            relearned = revocable.forward()
            below_cap = (relearned.loss < terms.cap).to(relearned.loss.dtype)
            components["relearned"] = relearned.backward(-terms.lambda_resistance * below_cap)
        if terms.meta_gradient == "finite_difference":
            pull(proxy, grad_q, take_gradients(params), sign=-1.0)
    else:  # the gradient of a cosine of gradients holds the curvature: a finite difference in every mode
        revocable.add_gradient(1.0)
        grad_f = take_gradients(params)
        norm_f = norm(grad_f, pull.reduce)
        cosine = inner_product(grad_q, grad_f, pull.reduce) / (norm_q * norm_f).clamp_min(1e-30)
        components["align"] = cosine
        one = torch.ones_like(cosine)
        for run, grad, other, n, m in (
            (proxy, grad_q, grad_f, norm_q, norm_f),
            (revocable, grad_f, grad_q, norm_f, norm_q),
        ):
            n, m = n.clamp_min(1e-20), m.clamp_min(1e-20)
            toward = [
                None if g is None or o is None else (o / m.to(o.dtype) - (cosine / n).to(g.dtype) * g) / n.to(g.dtype)
                for g, o in zip(grad, other, strict=True)
            ]
            pull.hessian_product(run, grad, toward, terms.lambda_resistance * one)
    add_gradients_(params, kept)
