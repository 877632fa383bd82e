"""From logits and labels to one line of statistics a row: tensors in, arrays out."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .table_checks import shown

if TYPE_CHECKING:
    import torch

PIECE = 1 << 26  # logits that go through the softmax at a time; on a CPU as many as its cache holds
PIECE_CPU = 1 << 18
VARIANCE_FLOOR = 1e-6  # of the log-probabilities over the vocabulary, in Min-K%++


def row_statistics(logits: torch.Tensor, labels: torch.Tensor, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the table for one batch, (B,) each; the shape rule is that of `per_row_nll`."""
    import torch

    from ..objectives.row_nll import IGNORE_INDEX, has_several_labels

    if logits.dim() == 2 and has_several_labels(labels) and logits.shape == labels.shape:
        return _of_several_labels(logits, labels, indices)
    causal_lm = logits.dim() == 3 and labels.dim() == 2 and not labels.is_floating_point()
    if causal_lm:
        labels = labels[:, 1:]
    elif logits.dim() == 2 and labels.dim() == 1:
        logits, labels = logits[:, None], labels[:, None]
    else:
        raise ValueError(
            f"the model's logits are {tuple(logits.shape)} and the labels {tuple(labels.shape)}: expected (B, T, V) "
            "with (B, T) for a causal language model, or (B, C) with (B,) for a classifier; of several labels a row, "
            "(B, C) with (B, C)."
        )
    labelled = labels.ne(IGNORE_INDEX)  # (B, T)
    n_labels = labelled.sum(1).cpu().numpy()
    if not n_labels.all():
        empty = np.sort(indices[n_labels == 0])
        raise ValueError(
            f"labels are all ignored (-100) in {shown(empty.tolist())} of `dataset` (of the first batch that has "
            "such; in a causal LM the first token is never predicted). Drop these rows, or give them labels."
        )
    chosen_labels = labels[labelled]  # (N,)
    beyond = (chosen_labels < 0) | (chosen_labels >= logits.shape[-1])
    if beyond.any():
        raise ValueError(
            f"label {int(chosen_labels[beyond][0])} is beyond the model's {logits.shape[-1]} "
            f"{'tokens' if causal_lm else 'classes'}: it was trained on another label space."
        )
    rows, positions = labelled.nonzero(as_tuple=True)
    # (4, N) float32: nll, z, entropy, right. What carries no label is never copied: a long prompt costs nothing.
    per_label = torch.empty((4, len(chosen_labels)), dtype=torch.float64, device=logits.device)
    piece = max(1, (PIECE_CPU if logits.device.type == "cpu" else PIECE) // logits.shape[-1])
    for start in range(0, len(chosen_labels), piece):
        part = slice(start, start + piece)
        per_label[:, part] = label_statistics(logits[rows[part], positions[part]], chosen_labels[part])
    ends = np.cumsum(n_labels)
    nll, z, entropy, right = per_label.cpu().numpy()
    starts = ends - n_labels
    trailing = [int(np.argmin(row[::-1])) if not row.all() else len(row) for row in np.split(right, ends[:-1])]
    columns = {
        "nll_sum": np.add.reduceat(nll, starts),
        "n_labels": n_labels,
        "n_correct": np.add.reduceat(right, starts).astype(np.int64),
        "n_suffix": np.array(trailing, np.int64),
        "entropy_sum": np.add.reduceat(entropy, starts),
    }
    if not causal_lm:
        return {**columns, "margin": _margin(logits[:, 0], labels[:, 0]), "label": labels[:, 0].cpu().numpy()}
    for name, values in (("token_nll", nll), ("token_z", z)):
        columns[name] = np.empty(len(n_labels), object)
        columns[name][:] = np.split(values.astype(np.float32), ends[:-1])
    return columns


def _of_several_labels(
    logits: torch.Tensor,  # (B, C)
    labels: torch.Tensor,  # (B, C) float, 0 or 1, -100: not known
    indices: np.ndarray,
) -> dict[str, np.ndarray]:
    """
    Columns of a classifier whose rows have several labels: each label is a question of its own, answered by a sigmoid
    and counted as there from a probability of one half on (a logit above 0).
    """
    import torch
    from torch.nn import functional as F

    from ..objectives.row_nll import IGNORE_INDEX, per_row_nll

    known = labels.ne(IGNORE_INDEX)
    if not known.any(1).all():
        empty = np.sort(indices[~known.any(1).cpu().numpy()])
        raise ValueError(f"labels are all ignored (-100) in {shown(empty.tolist())} of `dataset`. Drop these rows.")
    if not torch.isin(labels, torch.tensor([0, 1, IGNORE_INDEX], dtype=labels.dtype, device=labels.device)).all():
        raise ValueError("`labels` with a point are several labels a row: expected 0 or 1 for each; -100: not known.")
    x = logits.double()
    nll, n_labels = per_row_nll(x, labels.double())
    said, there = x.gt(0) & known, labels.eq(1)
    p = x.sigmoid()
    entropy = -(p * F.logsigmoid(x) + (1 - p) * F.logsigmoid(-x))
    columns = {
        "nll_sum": nll,
        "n_labels": n_labels,
        "n_correct": (said.eq(there) & known).sum(1),
        "entropy_sum": entropy.where(known, torch.zeros_like(x)).sum(1),
    }
    found = {name: values.cpu().numpy() for name, values in columns.items()}
    for name, of in (("labels", there), ("predicted", said)):
        found[name] = np.empty(len(labels), object)
        found[name][:] = [np.flatnonzero(row) for row in of.cpu().numpy()]
    return found


def label_statistics(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    (N, V) logits, (N,) labels -> (4, N): negative log-likelihood, z of Min-K%++, entropy (nats), 1 if the argmax.

    Log-probabilities are logits but for a shift, which the variance does not feel: no log-softmax is held. Where a
    logit is shared by the label and others, the label counts as the argmax if it comes first.
    """
    import torch

    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    shifted = logits - logits.amax(-1, keepdim=True)  # the largest at 0: a sharp distribution loses no digits below
    p = shifted.softmax(-1)
    total = -p.amax(-1).log()  # log-sum-exp of `shifted`
    chosen = shifted.gather(-1, labels[:, None])[:, 0]
    right = chosen == 0
    if right.any():
        right[right.clone()] = shifted[right].argmax(-1).eq(labels[right])
    weighted = p.mul_(shifted)
    if not torch.isfinite(weighted.sum()):  # a logit of -inf: 0 · -inf
        weighted = torch.where(shifted.isneginf(), 0.0, weighted)
        shifted = torch.where(shifted.isneginf(), 0.0, shifted)
    mean = weighted.sum(-1)
    variance = (torch.linalg.vecdot(weighted, shifted) - mean.square()).clamp_min(VARIANCE_FLOOR)
    return torch.stack([total - chosen, (chosen - mean) / variance.sqrt(), total - mean, right.to(mean.dtype)])


def _margin(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """log(p / (1 - p)) of the right class, (B,): its logit against the others' log-sum-exp, exact also near p = 1."""
    logits = logits.double()
    right = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -float("inf")).logsumexp(1)
    return (right[:, 0] - others).cpu().numpy()


def zlib_bytes(labels: torch.Tensor, tokenizer: Any) -> int:
    text = tokenizer.decode(labels[labels >= 0].tolist(), skip_special_tokens=True)
    return len(zlib.compress(text.encode()))
