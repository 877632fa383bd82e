"""The readiness gradient, (3) to (5) of [`hf_unlearn.readiness`]: in first order, or with finite differences."""

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

    def add_hessian_product(self, rows: Pass, grad, u, factor: Tensor) -> None:
        """.grad += factor·H u, where `grad` is ∇L at the current weights (clean: `.grad` may hold anything)."""
        u_norm = norm(u, self.reduce)
        epsilon = (self.terms.fd_epsilon * self.theta_norm).clamp_min(1e-12)
        scale = factor * u_norm / epsilon
        with perturbed(self.params, u, epsilon / u_norm.clamp_min(1e-30)):
            rows.add_gradient(scale)
        add_gradients_(self.params, grad, -scale)

    def project(self, grad, v, grad_norm: Tensor):
        if not self.terms.inner_normalize:
            return v
        along = inner_product(grad, v, self.reduce) / grad_norm.clamp_min(1e-20) ** 2
        return [x if x is None or g is None else x - along.to(x.dtype) * g for g, x in zip(grad, v, strict=True)]

    def __call__(self, rows: Pass, grad, v, *, sign: float) -> None:
        """.grad += v + sign·a·H u."""
        grad_norm = norm(grad, self.reduce)
        u = self.project(grad, v, grad_norm)
        self.add_hessian_product(rows, grad, u, sign * _step_factor(self.terms, self.theta_norm, grad_norm))
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
    params = list(params)
    run = _SimulatedRequest(params, revocable, stable, proxy, terms, revocable_loss, share, counted, reduce)
    with restored([*params, *buffers]) as home:
        run.ascend()
        run.add_efficiency_and_retention(both)
        run.add_resistance()
        run.pull_back(home[: len(params)])
    run.add_gradient_at_the_start()
    return run.components


class _SimulatedRequest:
    """The steps of [`readiness_gradient`], which takes them in the order in which they stand here."""

    def __init__(self, params, revocable, stable, proxy, terms, revocable_loss, share, counted, reduce):
        self.params, self.terms, self.share, self.counted, self.reduce = params, terms, share, counted, reduce
        self.revocable, self.stable, self.proxy, self.revocable_loss = revocable, stable, proxy, revocable_loss
        self.theta_norm = norm(params, reduce)
        self.pullback = _Pullback(params, terms, self.theta_norm, reduce)
        self.second_order = terms.meta_gradient == "finite_difference"
        # ∇L_f(θ) may stay in `.grad` where nothing else needs that place
        self.stays = terms.inner_steps == 1 and not self.second_order
        self.gains = bool(terms.lambda_efficiency) and terms.efficiency == "gain"
        self.below_cap: Tensor | None = None  # 1 while the gain is below its cap, else 0; None: no efficiency term
        self.first: list[Tensor | None] = []  # share·∇L_f(θ), where it does not stay in `.grad`
        self.trail: list[tuple] = []  # (weights before it, its gradient) of each inner step after the first
        self.components: dict[str, Tensor] = {}

    def ascend(self) -> None:
        """(2): from θ to θ'."""
        params, terms = self.params, self.terms
        first = gradients(params)
        first_norm = norm(first, self.reduce)  # of share·∇L_f
        factor = _step_factor(terms, self.theta_norm, first_norm / self.share) / self.share
        self.components["inner_length"] = factor * first_norm / self.theta_norm.clamp_min(1e-20)
        move_(params, first, factor)
        if self.stays:
            if not (self.counted or self.gains):
                take_gradients(params)
            return
        self.first = take_gradients(params)
        for _ in range(terms.inner_steps - 1):
            before = copies_of(params) if self.second_order else None
            self.revocable.add_gradient(1.0)
            grad = take_gradients(params)
            move_(params, grad, _step_factor(terms, self.theta_norm, norm(grad, self.reduce)))
            self.trail.append((before, grad if self.second_order else None))

    def add_efficiency_and_retention(self, both: JointPass | None) -> None:
        """.grad += λ1·∇E + λ2·∇L_r, (3) and (4), at θ'."""
        terms = self.terms
        if both is not None and terms.lambda_efficiency and terms.lambda_retention:
            joint = both.forward()
            after, kept = joint.losses
            joint.backward(self._efficiency_weight(after), terms.lambda_retention)
            self.components |= {"gain": after - self.revocable_loss, "retention": kept}
            return
        if terms.lambda_efficiency:
            request = self.revocable.forward()
            after = request.backward(self._efficiency_weight(request.loss))
            self.components["gain"] = after - self.revocable_loss
        if terms.lambda_retention:
            self.components["retention"] = self.stable.add_gradient(terms.lambda_retention)

    def _efficiency_weight(self, after: Tensor) -> Tensor:
        """
        Weight of ∇L_f(θ') in (3), 0 beyond the cap. The gain's other part, +λ1·∇L_f(θ), is added here, between the two
        phases of the pass: `.grad` is still a multiple of ∇L_f(θ), so that scaling it needs no second buffer.
        """
        terms = self.terms
        floor = self.revocable_loss if terms.efficiency == "gain" else torch.zeros_like(self.revocable_loss)
        self.below_cap = (after - floor < terms.efficiency_cap).to(after.dtype)
        if self.stays and self.gains:
            scale_gradients_(self.params, self.counted + terms.lambda_efficiency * self.below_cap / self.share)
        return -terms.lambda_efficiency * self.below_cap

    def add_resistance(self) -> None:
        """.grad += λ3·∇R, (5), at θ'. The weights are at θ' before and after."""
        terms = self.terms
        if not terms.lambda_resistance or terms.resistance == "none":
            return
        kept = take_gradients(self.params)
        self.proxy.add_gradient(1.0)
        grad_q = take_gradients(self.params)
        if terms.resistance == "relearn":
            self._add_relearning(grad_q)
        else:
            self._add_alignment(grad_q)
        add_gradients_(self.params, kept)

    def _add_relearning(self, grad_q) -> None:
        terms = self.terms
        with perturbed(self.params, grad_q, -_step_factor(terms, self.theta_norm, norm(grad_q, self.reduce))):
            relearned = self.revocable.forward()
            below_cap = (relearned.loss < terms.cap).to(relearned.loss.dtype)
            self.components["relearned"] = relearned.backward(-terms.lambda_resistance * below_cap)
        if self.second_order:
            self.pullback(self.proxy, grad_q, take_gradients(self.params), sign=-1.0)

    def _add_alignment(self, grad_q) -> None:
        """A cosine of gradients has curvature in its gradient: a finite difference in every mode."""
        self.revocable.add_gradient(1.0)
        grad_f = take_gradients(self.params)
        norm_q, norm_f = norm(grad_q, self.reduce), norm(grad_f, self.reduce)
        cosine = inner_product(grad_q, grad_f, self.reduce) / (norm_q * norm_f).clamp_min(1e-30)
        self.components["align"] = cosine
        one = torch.ones_like(cosine)
        for run, grad, other, n, m in (
            (self.proxy, grad_q, grad_f, norm_q, norm_f),
            (self.revocable, grad_f, grad_q, norm_f, norm_q),
        ):
            n, m = n.clamp_min(1e-20), m.clamp_min(1e-20)
            toward = [
                None if g is None or o is None else (o / m.to(o.dtype) - (cosine / n).to(g.dtype) * g) / n.to(g.dtype)
                for g, o in zip(grad, other, strict=True)
            ]
            self.pullback.add_hessian_product(run, grad, toward, self.terms.lambda_resistance * one)

    def pull_back(self, home: list[Tensor]) -> None:
        """With second order, takes the gradient at θ' back through the inner steps to θ; `home`: copies of θ."""
        if not self.second_order:
            return
        for before, grad in reversed(self.trail):
            put_(self.params, before)
            self.pullback(self.revocable, grad, take_gradients(self.params), sign=1.0)
        put_(self.params, home)
        at_home = [None if g is None else g / self.share for g in self.first]
        self.pullback(self.revocable, at_home, take_gradients(self.params), sign=1.0)

    def add_gradient_at_the_start(self) -> None:
        """.grad += ∇L_f(θ), for the main pass and for the gain, where it has not stayed in `.grad`."""
        if not self.stays:
            extra = self.terms.lambda_efficiency * self.below_cap / self.share if self.gains else 0.0
            add_gradients_(self.params, self.first, self.counted + extra)
