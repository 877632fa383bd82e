"""
Passes over rows in two phases, as the readiness gradient takes them: a forward, whose mean loss may decide the weight,
and a backward with that weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor


class Forward(Protocol):
    """A forward that has run. At the same weights either one `backward` follows, or `drop`."""

    loss: Tensor  # the mean loss over all rows of the pass, (), detached

    def backward(self, weight: Tensor | float) -> Tensor:
        """
        .grad += weight·∇loss. Returns the mean loss of the forward that was differentiated, (), detached: `loss`, or
        that of another forward where several micro-batches share the mean, with other dropout masks.
        """

    def drop(self) -> None:
        """Ends the pass without a backward."""


class Pass(ABC):
    """Forward and backward over some rows, whose gradient is added to `.grad`."""

    @abstractmethod
    def forward(self) -> Forward:
        """The mean loss, for a weight that depends on it. Between the two phases the caller may change `.grad`."""

    def add_gradient(self, weight: Tensor | float) -> Tensor:
        """.grad += weight·∇L, for a weight known beforehand. Returns L, the mean loss, (), detached."""
        return self.forward().backward(weight)


class JointForward(Protocol):
    """One forward over the revocable and the stable rows, which one `backward` follows at the same weights."""

    losses: tuple[Tensor, Tensor]  # mean losses of the revocable and of the stable rows, (), detached

    def backward(self, revocable: Tensor | float, stable: Tensor | float) -> None:
        """.grad += revocable·∇L_f + stable·∇L_r."""


class JointPass(Protocol):
    """A pass over revocable and stable rows at once, which costs less than two where rows are few."""

    def forward(self) -> JointForward: ...
