"""The readiness gradient: what a simulated request at θ' says about θ. And what a simulated recovery says, (6).

Readiness (Ready2Unlearn, Duan et al. 2025, arXiv:2505.10845; equations reconstructed, they are ours) adds to the loss

    inner    θ⁰ = θ,  θ^{k+1} = θ^k + a·∇L_f(θ^k),  θ' = θ^K                                                    (2)
    outer    + λ1·E,  E = -min(L_f(θ') - L_f(θ), g)   ("gain"),  -min(L_f(θ'), cap)   ("loss")                  (3)
             + λ2·L_r(θ')                                                                                       (4)
             + λ3·R,  R = -min(L_f(θ''), cap),  θ'' = θ' - a·∇L_q(θ')   ("relearn")
                      R = cos(∇L_q(θ'), ∇L_f(θ'))                         ("align")                             (5)

with L_f, L_r, L_q the mean losses of revocable, stable and proxy rows (rows like the revocable ones, for recovery).
The step's factor is a = inner_lr, or with `inner_normalize` a = inner_lr·‖θ‖/‖∇L‖, a step of fixed length.

Everything happens in place: move the weights, run an ordinary forward and backward, put the weights back from a copy,
bit for bit. Nothing here knows the Trainer. Losses come as [`Pass`] callables that leave their gradient in `.grad`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

FD_EPSILON = 1e-4  # finite difference step as a share of ‖θ‖, fp32 passes: error 1e-5 … 1e-4
PIECE = 1 << 18  # products of an inner product at a time on a CPU; on a GPU 64 times as many
FD_EPSILON_BF16 = 2e-3  # the same under bf16 autocast over fp32 weights: error 1 … 3 %

# Runs forward and backward of one mean loss and adds `weight` times its gradient to `.grad`. The weight may be a
# function of the loss; it is called once, between the forward and the first backward. Returns the detached loss (). In
# [`recovery_gradient`] the function may return None, for no backward.
Pass = Callable[[float | Callable[[Tensor], Tensor | float]], Tensor]

# The same over revocable and stable rows in one forward: the function takes both losses and returns both weights.
BothPass = Callable[[Callable[[Tensor, Tensor], tuple]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Terms:
    """What the readiness gradient consists of; the names of `ReadyConfig`. `gain_cap` (g) and `cap` in nats."""

    inner_lr: float = 0.005
    inner_steps: int = 1
    inner_normalize: bool = True
    meta_gradient: str = "first_order"
    lambda_efficiency: float = 0.1
    lambda_retention: float = 1.0
    lambda_resistance: float = 0.0
    efficiency: str = "gain"
    resistance: str = "none"
    gain_cap: float = float("inf")
    cap: float = float("inf")
    fd_epsilon: float = FD_EPSILON

    @property
    def efficiency_cap(self) -> float:
        return self.gain_cap if self.efficiency == "gain" else self.cap


def _local(tensor: Tensor) -> Tensor:
    """This rank's shard of a DTensor, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def copies_of(params: Iterable[Tensor], device=None) -> list[Tensor]:
    """Copies of this rank's shards of the tensors, on `device` or where they are."""
    return [_local(p.detach()).to(device or p.device, copy=True) for p in params]


@torch.no_grad()
def put_(params: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """params = values, in place on local shards."""
    for p, value in zip(params, values, strict=True):
        _local(p.detach()).copy_(value)
    torch.clear_autocast_cache()  # half-precision copies of other values, under an autocast of the caller's


@contextmanager
def _shielded():
    """Holds Ctrl-C back until the end of the block; a second one is let through. Main thread only, else a no-op."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    previous = signal.getsignal(signal.SIGINT)

    def hold(signum, frame):
        if held:
            raise KeyboardInterrupt
        held.append((signum, frame))

    if previous is None:  # installed outside Python: leave it
        yield
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held and callable(previous):  # Python's own raises KeyboardInterrupt
            previous(*held[0])
        elif held and previous == signal.SIG_DFL:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def restored(params: Iterable[Tensor]):
    """
    Puts the tensors back bit for bit at the end, also after an error. Ctrl-C is held back until they are back.

    Undoing a move by subtraction would leave 4 to 5 % of fp32 weights not bit-equal; the copy costs their memory once.
    """
    params = list(params)
    with _shielded():
        copies = copies_of(params)
        try:
            yield copies
        finally:
            put_(params, copies)


def moving_buffers(model: torch.nn.Module) -> list[Tensor]:
    """Buffers that a forward pass in training mode may move, BatchNorm's statistics for one; masks are left out."""
    return [buffer for buffer in model.buffers() if buffer.dtype != torch.bool]


def _add_(to: Tensor, value: Tensor, factor: Tensor | float) -> None:
    """to += factor·value, without a buffer for the product."""
    value = value.to(to.dtype)
    if torch.is_tensor(factor):
        to.addcmul_(value, factor.to(device=to.device, dtype=to.dtype))
    else:
        to.add_(value, alpha=factor)


@torch.no_grad()
def move_(params: Sequence[Tensor], direction: Sequence[Tensor | None], factor: Tensor | float) -> None:
    """params += factor·direction, in place on local shards. A None direction leaves its parameter."""
    for p, d in zip(params, direction, strict=True):
        if d is not None:
            _add_(_local(p.detach()), _local(d), factor)
    torch.clear_autocast_cache()


@contextmanager
def perturbed(params: Sequence[Tensor], direction: Sequence[Tensor | None], radius: Tensor | float):
    """Moves params by radius·direction for the block, in place on local shards; the exit restores bit for bit."""
    params = list(params)
    with restored(params) as copies:
        move_(params, direction, radius)
        yield copies


def gradients(params: Iterable[Tensor]) -> list[Tensor | None]:
    return [p.grad for p in params]


def take_gradients(params: Iterable[Tensor]) -> list[Tensor | None]:
    """The gradients themselves, not copies; `.grad` is None afterwards."""
    taken = []
    for p in params:
        taken.append(p.grad)
        p.grad = None
    return taken


@torch.no_grad()
def add_gradients_(params: Iterable[Tensor], values: Iterable[Tensor | None], factor: Tensor | float = 1.0) -> None:
    """.grad += factor·value for each parameter; None stands for zero."""
    for p, value in zip(params, values, strict=True):
        if value is None:
            continue
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        _add_(_local(p.grad), _local(value), factor)


@torch.no_grad()
def scale_gradients_(params: Iterable[Tensor], factor: Tensor | float) -> None:
    for p in params:
        if p.grad is not None:
            _local(p.grad).mul_(factor)


@torch.no_grad()
def inner_product(a: Sequence[Tensor | None], b: Sequence[Tensor | None], reduce=lambda x: x) -> Tensor:
    """⟨a, b⟩ over all tensors, float64 (); `reduce` sums it over shards where tensors are sharded."""
    parts = [_dot(_local(x), _local(y)) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return reduce(torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """
    ⟨x, y⟩, float64 (), piece by piece: no second buffer of the tensors' size. Half precision goes through float32. (One
    `torch.dot` over 10⁸ normal float32 values was 0.8 % off on a CPU, this 5e-9.)
    """
    if not (x.is_contiguous() and y.is_contiguous()):
        return (x.double() * y.double()).sum()
    if x.dtype in (torch.float16, torch.bfloat16):
        y = y.float()
    piece = PIECE if x.device.type == "cpu" else 64 * PIECE
    pieces = zip(x.view(-1).split(piece), y.view(-1).split(piece), strict=True)
    return torch.stack([(u * v).sum() for u, v in pieces]).double().sum()


def norm(tensors: Sequence[Tensor | None], reduce=lambda x: x) -> Tensor:
    return inner_product(tensors, tensors, reduce).sqrt()


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
            run(scale)
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
    both: BothPass | None = None,
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
                revocable(1.0)
                grad = take_gradients(params)
                move_(params, grad, _step_factor(terms, theta_norm, norm(grad, reduce)))
                trail.append((before, grad if second else None))

        open_: list[Tensor] = []  # 1 while the gain is below its cap, else 0
        floor = revocable_loss if terms.efficiency == "gain" else torch.zeros_like(revocable_loss)

        def weigh(loss: Tensor) -> Tensor:
            open_.append((loss - floor < terms.efficiency_cap).to(loss.dtype))
            if single and gain_form:  # + λ1·∇L_f(θ), while `.grad` is still a multiple of it
                scale_gradients_(params, counted + terms.lambda_efficiency * open_[0] / share)
            return -terms.lambda_efficiency * open_[0]

        if both is not None and terms.lambda_efficiency and terms.lambda_retention:
            after, kept = both(lambda loss_f, loss_r: (weigh(loss_f), terms.lambda_retention))
            components |= {"gain": after - revocable_loss, "retention": kept}
        else:
            if terms.lambda_efficiency:
                components["gain"] = revocable(weigh) - revocable_loss
            if terms.lambda_retention:
                components["retention"] = stable(terms.lambda_retention)
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
        extra = terms.lambda_efficiency * open_[0] / share if gain_form else 0.0
        add_gradients_(params, first, counted + extra)
    return components


def _add_resistance(params, revocable: Pass, proxy: Pass, terms: Terms, pull: _Pullback, components) -> None:
    """.grad += λ3·∇_{θ'} R. The weights are at θ' before and after."""
    kept = take_gradients(params)
    proxy(1.0)
    grad_q = take_gradients(params)
    norm_q = norm(grad_q, pull.reduce)
    if terms.resistance == "relearn":
        with perturbed(params, grad_q, -_step_factor(terms, pull.theta_norm, norm_q)):
            components["relearned"] = revocable(
                lambda loss: -terms.lambda_resistance * (loss < terms.cap).to(loss.dtype)
            )
        if terms.meta_gradient == "finite_difference":
            pull(proxy, grad_q, take_gradients(params), sign=-1.0)
    else:  # the gradient of a cosine of gradients holds the curvature: a finite difference in every mode
        revocable(1.0)
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


def recovery_gradient(
    params: Sequence[Tensor],
    *,
    held: Pass,
    proxy: Pass,
    steps: int,
    lr: float,
    weigh: Callable[[Tensor], Tensor | float | None],
    buffers: Iterable[Tensor] = (),
    reduce=lambda x: x,
) -> Tensor:
    """
    Adds to `.grad` what makes a simulated recovery fail, with the weights back bit for bit at the end:

        θ⁰ = θ,  θ^{k+1} = θ^k - lr·‖θ‖·∇L_q(θ^k)/‖∇L_q(θ^k)‖,  θ'' = θ^K;   .grad += w(L_h(θ''))·∇L_h(θ'')        (6)

    with L_q the loss of the rows that an attacker has and L_h that of rows like them. That a recovery is simulated in
    the request itself, and its outcome's gradient applied where it began, is TAR's (Tamirisa et al. 2024,
    arXiv:2408.00761: MAML's inner loop, in first order); steps of fixed length and w, the slope of a hinge, are ours.
    One copy of the parameters, and of gradients no more than there were or one step needs.

    Args:
        params: the trainable parameters θ.
        held, proxy: passes over the rows of L_h and L_q.
        steps, lr: K, and a step's length as a share of ‖θ‖.
        weigh: w; None in place of 0 spares the backward.
        buffers, reduce: as in [`readiness_gradient`].

    Returns:
        L_h(θ''), detached, ().
    """
    params = list(params)
    before = take_gradients(params)
    length = lr * norm(params, reduce)
    with restored([*params, *buffers]):
        for _ in range(steps):
            proxy(1.0)
            grads = take_gradients(params)
            move_(params, grads, -length / norm(grads, reduce).clamp_min(1e-20))
            del grads
        recovered = held(weigh)
    add_gradients_(params, before)
    return recovered


def exact_readiness_gradient(
    params: Sequence[Tensor],
    losses: Callable[[Sequence[Tensor], str], Tensor],
    terms: Terms,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """
    The gradient of (3) to (5) by double backward, the oracle of the other modes. One device, eager attention.

    Args:
        params: θ.
        losses: (weights, "revocable" | "stable" | "proxy") -> differentiable mean loss () at those weights.

    Returns:
        `(gradient, components)`: one tensor a parameter, and the values that [`readiness_gradient`] returns.
    """
    theta = [p.detach().requires_grad_() for p in params]
    theta_norm = norm(theta).to(theta[0].dtype)

    def grads(loss, at):
        got = torch.autograd.grad(loss, at, create_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(got, at, strict=True)]

    def length(tensors):
        return torch.sqrt(sum((t**2).sum() for t in tensors))

    def stepped(at, kind, sign):
        g = grads(losses(at, kind), at)
        a = terms.inner_lr * theta_norm / length(g) if terms.inner_normalize else terms.inner_lr
        return [p + sign * a * x for p, x in zip(at, g, strict=True)]

    start = losses(theta, "revocable")
    at = theta
    for _ in range(terms.inner_steps):
        at = stepped(at, "revocable", 1.0)
    components = {"inner_length": length([a - t for a, t in zip(at, theta, strict=True)]) / theta_norm}
    value = 0.0 * start
    after = losses(at, "revocable")
    if terms.lambda_efficiency:
        components["gain"] = after - start
        base = after - start if terms.efficiency == "gain" else after
        value = value - terms.lambda_efficiency * base.clamp_max(terms.efficiency_cap)
    if terms.lambda_retention:
        components["retention"] = losses(at, "stable")
        value = value + terms.lambda_retention * components["retention"]
    if terms.lambda_resistance and terms.resistance == "relearn":
        components["relearned"] = losses(stepped(at, "proxy", -1.0), "revocable")
        value = value - terms.lambda_resistance * components["relearned"].clamp_max(terms.cap)
    elif terms.lambda_resistance and terms.resistance == "align":
        gq, gf = grads(losses(at, "proxy"), at), grads(after, at)
        components["align"] = sum((x * y).sum() for x, y in zip(gq, gf, strict=True)) / (length(gq) * length(gf))
        value = value + terms.lambda_resistance * components["align"]
    gradient = torch.autograd.grad(value, theta, allow_unused=True)
    gradient = [torch.zeros_like(t) if g is None else g for g, t in zip(gradient, theta, strict=True)]
    return gradient, {k: v.detach() for k, v in components.items()}
