"""
The gradient against a recovery, (6) of [`hf_unlearn.readiness`]: a request simulates that someone trains the rows back
in, and moves the weights to where this fails.

Differs from the paper (TAR, Tamirisa et al. 2024, arXiv:2408.00761, MAML's inner loop in first order): steps of fixed
length and the weight w, the slope of a hinge, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from .moving_weights import add_gradients_, move_, norm, restored, take_gradients
from .passes import Pass


def recovery_gradient(
    params: Sequence[Tensor],
    *,
    held: Pass,
    proxy: Pass,
    steps: int,
    lr: float,
    slope: Callable[[Tensor], Tensor | float],
    buffers: Iterable[Tensor] = (),
    reduce=lambda x: x,
) -> Tensor:
    """
    Adds to `.grad` the gradient of the held-out rows' loss after a simulated recovery, with the weights back bit for
    bit at the end:

        θ⁰ = θ,  θ^{k+1} = θ^k - lr·‖θ‖·∇L_q(θ^k)/‖∇L_q(θ^k)‖,  θ'' = θ^K;   .grad += w(L_h(θ''))·∇L_h(θ'')        (6)

    L_q is the loss of the rows that an attacker has, L_h that of rows like them. A step against this gradient raises
    L_h(θ''), so that the next recovery brings less back. Needs one copy of the parameters, and as many gradients as
    there were or one step needs.

    Args:
        params: the trainable parameters θ.
        held, proxy: passes over the rows of L_h and L_q.
        steps, lr: K, and a step's length as a share of ‖θ‖.
        slope: w of the loss; where it is 0 no backward follows.
        buffers, reduce: as in [`readiness_gradient`].

    Returns:
        L_h(θ''), detached, ().
    """
    params = list(params)
    before = take_gradients(params)
    length = lr * norm(params, reduce)
    with restored([*params, *buffers]):
        for _ in range(steps):
            proxy.add_gradient(1.0)
            grads = take_gradients(params)
            move_(params, grads, -length / norm(grads, reduce).clamp_min(1e-20))
            del grads
        outcome = held.forward()
        weight = slope(outcome.loss)
        if weight == 0:
            recovered = outcome.loss
            outcome.drop()
        else:
            recovered = outcome.backward(weight)
    add_gradients_(params, before)
    return recovered
