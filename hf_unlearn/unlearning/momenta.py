"""
Momenta of an optimizer, which drive weights on without a gradient: cleared when a request goes back from beyond τ.

Differs from the paper: it never goes back; all of this is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..readiness.moving_weights import local_shard


@torch.no_grad()
def clear_momenta(states: Mapping[Tensor, dict]) -> None:
    """
    Makes an optimizer forget in which direction it was going: a step with a gradient of zero then moves nothing. What
    each state is follows from its values, over all weights of the optimizer, and not from its name:

    * nowhere negative: a mean of squares, a largest value, a count. It scales steps and stays.
    * near the weights themselves (within half of their norm): a copy or a mean of them. It becomes what they are now.
    * negative somewhere: a mean of gradients or of steps. It becomes 0.

    States in a code of their own (8 bits, say) cannot be read so; a weight with such a state begins anew.

    Args:
        states: `optimizer.state`, weight -> {name: state}, at the weights that the run has gone back to.
    """
    for state in states.values():
        if any(_is_coded(value) for value in state.values()):
            state.clear()  # optimizers make an empty state anew
    negative, far, size = set(), {}, {}
    for weight, state in states.items():
        for name, value in _tensors(state):
            if bool((value < 0).any()):
                negative.add(name)
            if value.shape == local_shard(weight).shape:
                far[name] = far.get(name, 0.0) + (value - local_shard(weight)).float().square().sum()
                size[name] = size.get(name, 0.0) + local_shard(weight).float().square().sum()
    copies = {name for name in far if bool(far[name] < size[name] / 4)}
    for weight, state in states.items():
        for name, value in _tensors(state):
            if name in copies:
                value.copy_(local_shard(weight))
            elif name in negative:
                value.zero_()


def _tensors(state: dict) -> list[tuple[str, Tensor]]:
    """This rank's shards of the states that are tensors of numbers."""
    return [(k, local_shard(v)) for k, v in state.items() if torch.is_tensor(v) and v.is_floating_point()]


def _is_coded(value) -> bool:
    """Whether a tensor's values are no plain numbers: whole ones, or a class of its own that packs them."""
    if not torch.is_tensor(value) or value.dim() == 0:
        return False
    return type(local_shard(value)) not in (Tensor, torch.nn.Parameter) or not value.is_floating_point()
