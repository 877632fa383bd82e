"""Which positions of a batch are of a row's prompt, and which of its answer, as a memory must know them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..objectives.row_nll import IGNORE_INDEX


def positions_of(batch: dict, states: int, causal_lm: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """
    `(tokens, rows, asks, answers)`, each (B·T,) on the CPU: where there is a token, which row each position is of,
    whether it is of the prompt, and whether what is read there is what the row is to answer.

    Of a language model a position answers where the next token has a label; the prompt is what has none, and the whole
    row where all have one. Of a classifier all positions ask, and the first one, which its head reads, answers.

    Args:
        batch: collated.
        states: B·T.
    """
    labels = batch["labels"].cpu()
    mask = batch.get("attention_mask")
    tokens = torch.ones(states, dtype=torch.bool) if mask is None or mask.dim() != 2 else mask.cpu().bool().flatten()
    shape = (len(labels), states // len(labels))
    rows = torch.arange(len(labels)).unsqueeze(1).expand(shape).flatten()
    if not causal_lm:
        answers = torch.zeros(shape, dtype=torch.bool)
        answers[:, 0] = True
        return tokens, rows, tokens.clone(), answers.flatten()
    answers = labels.roll(-1, 1) != IGNORE_INDEX
    answers[:, -1] = False
    asks = (labels == IGNORE_INDEX) & tokens.view(shape)
    asks |= ~asks.any(1, keepdim=True) & tokens.view(shape)
    return tokens, rows, asks.flatten(), answers.flatten()
