"""Negative log-likelihood of each row: the one place where models' outputs become losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

IGNORE_INDEX = -100
PIECE = 1 << 25  # logits that go through the softmax at a time (ours)


def per_row_nll(
    logits: Tensor,  # (B, T, V) of a causal language model, or (B, C) of a classifier
    labels: Tensor,  # (B, T) or (B,), int64; -100 marks what carries no label
) -> tuple[Tensor, Tensor]:
    """
    Negative log-likelihood of each row, in nats, as a sum and a count. Sums and counts are what adds up over
    micro-batches and processes; divide last.

    Three-dimensional logits are those of a causal language model: position t predicts label t + 1. Large logits are
    taken in pieces, whose softmax is computed again in the backward: beside the logits and their gradient, no third
    and fourth copy of them in float32 is held.

    Returns:
        `(nll_sum (B,), n_labels (B,))`: float32 (float64 for float64 logits) and int64.

    Raises:
        ValueError: if the shapes belong to neither case.
    """
    if logits.dim() == 3 and labels.dim() == 2:
        labels = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)  # not a slice of the logits, which would be a copy
    elif not (logits.dim() == 2 and labels.dim() == 1):
        raise ValueError(
            f"`logits` {tuple(logits.shape)} with `labels` {tuple(labels.shape)}: expected (B, T, V) with (B, T) for a "
            "causal language model, or (B, C) with (B,) for a classifier."
        )
    flat, flat_labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if logits.numel() <= PIECE:
        nll = _nll(flat, flat_labels)
    else:
        piece = max(1, PIECE // logits.shape[-1])
        nll = torch.cat(
            [
                checkpoint(_nll, x, y, use_reentrant=False, preserve_rng_state=False) if x.requires_grad else _nll(x, y)
                for x, y in zip(flat.split(piece), flat_labels.split(piece), strict=True)
            ]
        )
    return nll.view(labels.shape[0], -1).sum(1), labels.view(labels.shape[0], -1).ne(IGNORE_INDEX).sum(1)


def _nll(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
