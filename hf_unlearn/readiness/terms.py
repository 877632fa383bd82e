"""The numbers of the readiness gradient: weights of its terms, lengths of its steps, caps."""

from __future__ import annotations

from dataclasses import dataclass

FD_EPSILON = 1e-4  # finite difference step as a share of ‖θ‖, fp32 passes: error 1e-5 … 1e-4
FD_EPSILON_BF16 = 2e-3  # the same under bf16 autocast over fp32 weights: error 1 … 3 %


@dataclass(frozen=True)
class Terms:
    """
    The numbers in (2) to (5), under the names of `ReadyConfig`, where they are explained. `gain_cap` (g) and `cap` are
    in nats, `inner_lr` is a share of ‖θ‖ with `inner_normalize`, `fd_epsilon` always is.
    """

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
        """Beyond it the efficiency term has no gradient, nats: of the gain or of the loss, whichever the term uses."""
        return self.gain_cap if self.efficiency == "gain" else self.cap
