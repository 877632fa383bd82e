"""The forwards of a request's steps: to the logits, or up to one layer and no further."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from transformers.utils import ModelOutput

from ..data.columns import ROW_KEYS
from ..objectives.row_nll import IGNORE_INDEX, has_several_labels, labels_by_position
from .models import base_model


class _Stop(Exception):
    """Carries a layer's output out of a forward."""

    def __init__(self, hidden: torch.Tensor):
        self.hidden = hidden


def logits_of(model, inputs: dict) -> torch.Tensor:
    """(B, T, V), or (B, C) of a classifier."""
    return model(**_taken(inputs)).logits


def hidden_of(model, inputs: dict, layer: torch.nn.Module, within) -> torch.Tensor:
    """
    Output (B, T, d) of a layer; what comes behind it does not run, neither forward nor backward.

    Args:
        model: as the engine has it; within: the model inside of the engine's wrapper, which sees an ordinary return.
    """
    with _stopping(within, layer):
        return model(**_taken(inputs)).logits


@contextmanager
def _stopping(model, layer: torch.nn.Module):
    def leave(module, given, output):
        raise _Stop(output[0] if isinstance(output, (tuple, list)) else output)

    whole, own = model.forward, "forward" in vars(model)

    def forward(*args, **kwargs):
        try:
            return whole(*args, **kwargs)
        except _Stop as stop:
            return ModelOutput(logits=flat(stop.hidden))  # hooks of an engine or a user look for it

    hook = layer.register_forward_hook(leave)
    model.forward = forward
    try:
        yield
    finally:
        hook.remove()
        if own:
            model.forward = whole
        else:
            del model.forward


def flat(hidden: torch.Tensor) -> torch.Tensor:
    """(B, T, d), of the maps (B, d, H, W) of a convolution as of tokens."""
    return hidden.flatten(2).transpose(1, 2) if hidden.dim() == 4 else hidden


def labels_of(values: torch.Tensor, batch: dict) -> torch.Tensor:
    """
    Labels by the position of logits (B, T, V) or (B, C), or of hidden states (B, T, d). Of a classifier's hidden states
    each position stands for one, but padding: 0 there, -100 at padding.
    """
    labels = batch["labels"]
    if values.dim() != 3 or (labels.dim() == 2 and not has_several_labels(labels)):
        return labels_by_position(values, labels)
    mask = batch.get("attention_mask")
    there = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    if mask is not None and mask.shape == there.shape:
        there = mask.bool()
    return torch.zeros_like(there, dtype=torch.int64).masked_fill(~there, IGNORE_INDEX)


def layers_of(model) -> tuple[str, torch.nn.ModuleList] | None:
    """Name and modules of a model's stack of layers: its longest list of modules of one class; None: there is none."""
    found = [
        (name, module)
        for name, module in base_model(model).named_modules()
        if isinstance(module, torch.nn.ModuleList) and len({type(layer) for layer in module}) == 1
    ]
    return max(found, key=lambda pair: len(pair[1]), default=None)


def _taken(inputs: dict) -> dict:
    return {k: v for k, v in inputs.items() if k not in ("labels", *ROW_KEYS)}
