"""Negative log-likelihood of each row and label: the one place where models' outputs become losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import RowOutputs

if TYPE_CHECKING:
    from torch import Tensor

IGNORE_INDEX = -100
LOGITS_PIECE = 1 << 25  # logits that go through the softmax at a time


def per_row_nll(
    logits: Tensor,  # (B, T, V) of a causal language model, or (B, C) of a classifier
    labels: Tensor,  # (B, T) or (B,), int64; or (B, C) of several labels a row, float, 0 or 1; -100: no label
) -> tuple[Tensor, Tensor]:
    """
    Negative log-likelihood of each row, in nats, as a sum and a count. Sums and counts are what adds up over
    micro-batches and processes; divide last.

    Three-dimensional logits are those of a causal language model: position t predicts label t + 1. Where there are more
    positions than labels, the first ones are those of learnt prompts ([`behind_prompts`]). Labels with a point are
    those of a classifier of several labels a row, each of which is there or not (sigmoid): the sum of their C binary
    cross-entropies is minus the log-probability of the row's whole set of labels. Large logits are taken in pieces,
    whose softmax is computed again in the backward: beside the logits and their gradient, no third
    and fourth copy of them in float32 is held.

    Returns:
        `(nll_sum (B,), n_labels (B,))`: float32 (float64 for float64 logits) and int64.

    Raises:
        ValueError: if the shapes belong to neither case.
    """
    logits = behind_prompts(logits, labels)
    labels = labels_by_position(logits, labels)
    nll = _token_nll(logits, labels)
    return nll.sum(1), labels.view(labels.shape[0], -1).ne(IGNORE_INDEX).sum(1)


def row_outputs(logits: Tensor, labels: Tensor, needs: str = "row_nll") -> RowOutputs:
    """
    What an objective is to know of each row, from the model's logits; shapes and errors as of [`per_row_nll`].

    Args:
        needs: "row_nll", "token_nll" or "logits" ([`~hf_unlearn.objectives.base.Objective`]).
    """
    if needs == "row_nll":
        return RowOutputs(*per_row_nll(logits, labels))
    logits = behind_prompts(logits, labels)
    labels = labels_by_position(logits, labels)
    nll = _token_nll(logits, labels)
    return RowOutputs(
        nll=nll.sum(1),
        items=labels.view(labels.shape[0], -1).ne(IGNORE_INDEX).sum(1),
        labels=labels,
        token_nll=nll,
        logits=_precise(logits) if needs == "logits" else None,
    )


def behind_prompts(logits: Tensor, labels: Tensor) -> Tensor:
    """
    The logits of the positions that have labels: the last T of (B, P + T, V), where P learnt tokens stand before the
    row (prompt tuning, p-tuning); others as they are.

    Raises:
        ValueError: for fewer positions than labels.
    """
    if logits.dim() != 3 or labels.dim() != 2 or has_several_labels(labels) or logits.shape[1] == labels.shape[1]:
        return logits
    if logits.shape[1] < labels.shape[1]:
        raise ValueError(
            f"`logits` {tuple(logits.shape)} with `labels` {tuple(labels.shape)}: fewer positions than labels."
        )
    return logits[:, -labels.shape[1] :]


def labels_by_position(logits: Tensor, labels: Tensor) -> Tensor:
    """
    Labels by the position of the logits that predict them: (B, T) shifted by one place for a causal language model,
    with -100 at its last, or (B,) as they are for a classifier.

    Raises:
        ValueError: if the shapes belong to neither case.
    """
    if logits.dim() and labels.dim() and len(logits) != len(labels):
        raise ValueError(f"`logits` {tuple(logits.shape)} are of {len(logits)} rows, `labels` of {len(labels)}.")
    if logits.dim() == 3 and labels.dim() == 2:
        from torch.nn import functional as F

        return F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)  # not a slice of the logits, which would be a copy
    if logits.dim() == 2 and (labels.dim() == 1 or (has_several_labels(labels) and logits.shape == labels.shape)):
        return labels
    raise ValueError(
        f"`logits` {tuple(logits.shape)} with `labels` {tuple(labels.shape)}: expected (B, T, V) with (B, T) for a "
        "causal language model, or (B, C) with (B,) for a classifier; of several labels a row, (B, C) with (B, C), "
        "floats of 0 and 1."
    )


def has_several_labels(labels: Tensor) -> bool:
    """Whether labels are those of a classifier of several labels a row: (B, C), 0 or 1, with a point."""
    return labels.dim() == 2 and labels.is_floating_point()


def _token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each label, (B, T), (B, C) or (B, 1), 0 where there is none; labels as of [`labels_by_position`]."""
    import torch
    from torch.utils.checkpoint import checkpoint

    if has_several_labels(labels):
        return _binary_cross_entropy(logits, labels)
    flat, flat_labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if logits.numel() <= LOGITS_PIECE:
        nll = _cross_entropy(flat, flat_labels)
    else:
        piece = max(1, LOGITS_PIECE // logits.shape[-1])
        nll = torch.cat(
            [
                checkpoint(_cross_entropy, x, y, use_reentrant=False, preserve_rng_state=False)
                if x.requires_grad
                else _cross_entropy(x, y)
                for x, y in zip(flat.split(piece), flat_labels.split(piece), strict=True)
            ]
        )
    return nll.view(labels.shape[0], -1)


def _precise(logits: Tensor) -> Tensor:
    """In float32 where they are in half precision."""
    import torch

    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    from torch.nn import functional as F

    logits = _precise(logits)
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")


def _binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-y log σ(x) - (1 - y) log(1 - σ(x)) of each label, (B, C)."""
    import torch
    from torch.nn import functional as F

    logits = _precise(logits)
    there = labels.ne(IGNORE_INDEX)
    wanted = labels.where(there, torch.zeros_like(labels)).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").where(there, torch.zeros_like(logits))
