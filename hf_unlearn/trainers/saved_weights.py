"""Weights of a model beside those that a folder holds: which differs first, and how far all are apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .loading import load_model
from .models import has_adapter
from .weights_digest import digested


@dataclass(frozen=True)
class Apart:
    """
    Args:
        first: name of the first tensor that is another, in the order of the model.
        count, of: how many are others, of how many.
        most: largest difference of two numbers.
        squares: sum of the squares of all differences.
    """

    first: str
    count: int
    of: int
    most: float
    squares: float

    def __str__(self) -> str:
        return f"{self.first} first, {self.count} of {self.of} tensors, by {self.most:.2g} at most"


def present(model) -> dict[str, Tensor]:
    """Copies, on the CPU and under the names of a folder, of what a training moves: weights and buffers."""
    if has_adapter(model):
        from peft import get_peft_model_state_dict

        return {name: _copy(tensor) for name, tensor in get_peft_model_state_dict(model).items()}
    return {name: _copy(tensor) for name, tensor in digested(model)}


def saved(model, folder: str) -> dict[str, Tensor]:
    """The same tensors, as they are in the files of a folder."""
    if has_adapter(model):
        from peft import load_peft_weights

        return load_peft_weights(folder, device="cpu")
    loaded = load_model(folder)
    there = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    return {name: there[name].detach() for name, _ in digested(model) if name in there}


def apart(now: dict[str, Tensor], then: dict[str, Tensor]) -> Apart | None:
    """How two sets of tensors differ; None where they are the same, bit for bit."""
    others = [name for name in now if name not in then or not torch.equal(now[name], then[name])]
    if not others:
        return None
    same_shape = [name for name in others if name in then and now[name].shape == then[name].shape]
    gaps = [(now[name].double() - then[name].double()).flatten() for name in same_shape]
    lacking = len(same_shape) < len(others)
    most = float("inf") if lacking else max((float(gap.abs().max()) for gap in gaps if len(gap)), default=0.0)
    squares = float("inf") if lacking else sum(float(gap.square().sum()) for gap in gaps)
    return Apart(others[0], len(others), len(now), most, squares)


def _copy(tensor: Tensor) -> Tensor:
    whole = tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()
    return whole.to("cpu", copy=True)
