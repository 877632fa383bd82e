"""
The readiness gradient: what a simulated request says about the weights where it began.

Readiness (Ready2Unlearn, Duan et al. 2025, arXiv:2505.10845) adds to the training loss

    inner    θ⁰ = θ,  θ^{k+1} = θ^k + a·∇L_f(θ^k),  θ' = θ^K                                                    (2)
    outer    + λ1·E,  E = -min(L_f(θ') - L_f(θ), g)   ("gain"),  -min(L_f(θ'), cap)   ("loss")                  (3)
             + λ2·L_r(θ')                                                                                       (4)
             + λ3·R,  R = -min(L_f(θ''), cap),  θ'' = θ' - a·∇L_q(θ')   ("relearn")
                      R = cos(∇L_q(θ'), ∇L_f(θ'))                         ("align")                             (5)

and a request with simulated recovery ([`hf_unlearn.readiness.recovery`]) adds to its gradient

    θ⁰ = θ,  θ^{k+1} = θ^k - b·‖θ‖·∇L_q(θ^k)/‖∇L_q(θ^k)‖,  θ'' = θ^K;   w(L_h(θ''))·∇L_h(θ'')                   (6)

where L_f, L_r, L_q and L_h are mean losses of the revocable rows that play the request, of stable rows, of proxy rows
(those that someone has who trains the knowledge back in) and of rows like these that are held out. a is `inner_lr`, or
with `inner_normalize` a = inner_lr·‖θ‖/‖∇L‖, a step of fixed length.

(2) is a request in small: ascent on the rows to forget. (3) is low where that raises their loss: a request then needs
few steps. (4) is low where the rows to keep do not suffer. (5) and (6) are low where a recovery after the request does
not bring the loss down again. Caps keep the terms from paying for losses beyond guessing.

Everything happens in place: move the weights, run an ordinary forward and backward, put the weights back from a copy,
bit for bit. That is right under DDP and FSDP2, with adapters, checkpointing and any attention kernel, where a second
copy of the model or `torch.func` is not. Nothing here knows the Trainer: losses come as
[`~hf_unlearn.readiness.passes.Pass`] objects that leave their gradient in `.grad`.

Where to look: `gradient.py` (2) to (5), in first order or with finite differences; `exact.py` the same by double
backward, to test it; `recovery.py` (6); `terms.py` the weights and lengths; `step_rows.py` which rows of a step play
which part; `pacing.py` which steps simulate a request; `moving_weights.py` the moves; `packed_weights.py` which weights
do not move; `break_even.py` after how many requests the training has paid for itself.

Differs from the paper: it publishes the three objectives and the two loops, not their equations; the equations, steps
of fixed length, caps and `break_even` are ours.
"""
