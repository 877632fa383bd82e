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
bit for bit. Nothing here knows the Trainer. Losses come as [`~hf_unlearn.readiness.terms.Pass`]
callables that leave their gradient in `.grad`.
"""
