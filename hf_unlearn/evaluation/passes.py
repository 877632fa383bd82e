"""One teacher-forced pass per model and split into a table of per-row statistics: the only place that runs a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow
    import torch

_LABEL_COLUMNS = ("labels", "label", "label_ids")
_UNSHIFTED = ("ForMaskedLM", "ForTokenClassification")  # 3-D logits where position t predicts label t itself


@contextmanager
def evaluating(model: torch.nn.Module):
    """Eval mode for the block; every module is back in its own mode afterwards (a part may be frozen in eval mode)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def collect(
    model: torch.nn.Module,
    dataset: Sequence[Mapping[str, Any]],
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> pyarrow.Table:
    """
    Statistics of each row of `dataset` under `model`, from one teacher-forced forward pass.

    The pass runs without gradients and in eval mode. Afterwards every submodule is back in the mode it was in, also
    after an error (a part may be frozen in eval mode while the rest trains). It draws from no random generator (a
    `DataLoader` would draw a seed), keeps no hooks and holds the logits of one batch at a time. Under `model`'s own
    weights and without autocast: measure a half-precision model as it will be served.

    Args:
        model: a causal language model (logits `(B, T, V)`, position t predicts label t + 1) or a classifier (logits
            `(B, C)`). Batches are moved to the device of its first parameter.
        dataset: a `datasets.Dataset`, or a list of dicts. Columns that the model's `forward` does not name are left
            out (seen through a PEFT wrapper); label columns stay.
        data_collator: makes a batch with `labels` from a list of dicts; one line per row, in order.
        batch_size: rows per forward pass.
        progress: show a progress bar (after the first second).

    Returns:
        Table in the order of the rows: `row` int64 (the index); `nll_sum` float64 (nats, over labelled positions);
        `n_labels` int64; `n_correct` int64 (positions whose argmax is the label); `entropy_sum` float64 (nats: entropy
        of the predictive distribution, summed over labelled positions).

    Raises:
        ValueError: if `dataset` is empty or has no labels, if a row's labels are all ignored (-100), if labels are
            not class or token indices, or if the model's logits are not those of a causal LM or a classifier.
    """
    import pyarrow as pa
    import torch

    n_rows = len(dataset)
    if n_rows == 0:
        raise ValueError("`dataset` is empty: there is nothing to measure. Leave this split out, or give it rows.")
    if not batch_size >= 1:
        raise ValueError(f"`batch_size` is {batch_size}: expected an integer of at least 1.")
    inner, named = _signature(model)
    if type(inner).__name__.endswith(_UNSHIFTED):
        raise ValueError(
            f"`model` is a {type(inner).__name__}, whose logits are not shifted against the labels. Causal language "
            "models and classifiers of whole rows can be measured."
        )
    extra = {"use_cache": False} if named is not None and "use_cache" in named else {}
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device

    parts: list[np.ndarray] = []
    with evaluating(model), torch.no_grad():
        for start in _bar(range(0, n_rows, batch_size), progress):
            indices = range(start, min(start + batch_size, n_rows))
            rows = [_keep(row, named) for row in _rows(dataset, indices)]
            if not any(key in rows[0] for key in _LABEL_COLUMNS):
                raise ValueError(
                    f"`dataset` has no labels: its columns are {sorted(dataset[0])}. Add a `labels` column "
                    "(for a causal language model the input ids, with -100 where nothing is to be measured)."
                )
            batch = data_collator(rows)
            labels = batch.get("labels")
            if labels is None:
                raise ValueError(f"`data_collator` returned {sorted(batch)} without `labels`: it must keep the labels.")
            if labels.shape[0] != len(rows):
                raise ValueError(
                    f"`data_collator` made {labels.shape[0]} lines of labels from {len(rows)} rows: measures are "
                    "per row, so it must not pack or flatten rows."
                )
            if labels.is_floating_point():
                raise ValueError(
                    f"`labels` are {labels.dtype}: expected indices of classes or tokens. Regression and "
                    "multi-label models cannot be measured."
                )
            inputs = {
                key: value.to(device) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
                if key != "labels" and (named is None or key in named)
            }
            parts.append(_row_statistics(_logits(model(**inputs, **extra), inner), labels.to(device)))
            empty = np.flatnonzero(parts[-1][:, 1] == 0)
            if len(empty):
                raise ValueError(
                    f"labels are all ignored (-100) in row(s) {', '.join(str(start + i) for i in empty[:10])}"
                    f"{' and more' if len(empty) > 10 else ''} of `dataset` (the first found; in a causal LM "
                    "the first token is never predicted). Drop these rows, or give them labels."
                )

    table = np.concatenate(parts)
    return pa.table(
        {
            "row": pa.array(np.arange(n_rows), pa.int64()),
            "nll_sum": pa.array(table[:, 0], pa.float64()),
            "n_labels": pa.array(table[:, 1].astype(np.int64), pa.int64()),
            "n_correct": pa.array(table[:, 2].astype(np.int64), pa.int64()),
            "entropy_sum": pa.array(table[:, 3], pa.float64()),
        }
    )


def _row_statistics(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(B, 4) float64: sum of NLL, labels, correct labels, sum of entropy; the shape rule is `per_row_nll`'s."""
    import torch

    from ..objectives import IGNORE_INDEX, per_row_nll

    nll_sum, n_labels = per_row_nll(logits, labels)
    if logits.dim() == 3:
        logits, labels = logits[:, :-1], labels[:, 1:]
    else:
        logits, labels = logits[:, None], labels[:, None]
    labelled = labels.ne(IGNORE_INDEX)  # (B, T)
    chosen = logits[labelled]  # (N, V): only what counts, the rest of a long prompt costs nothing
    if chosen.dtype in (torch.float16, torch.bfloat16):
        chosen = chosen.float()
    correct = torch.zeros_like(labelled)
    correct[labelled] = chosen.argmax(-1).eq(labels[labelled])
    entropy = torch.zeros(labels.shape, dtype=chosen.dtype, device=chosen.device)
    entropy[labelled] = torch.special.entr(chosen.softmax(-1)).sum(-1)  # entr(0) = 0, also for logits of -inf
    columns = (nll_sum, n_labels, correct.sum(1), entropy.sum(1))
    return np.stack([column.cpu().to(torch.float64).numpy() for column in columns], axis=1)


def _logits(output: Any, model: torch.nn.Module) -> torch.Tensor:
    logits = getattr(output, "logits", None)
    if logits is None:
        logits = output["logits"] if isinstance(output, Mapping) and "logits" in output else None
    if logits is None and isinstance(output, (tuple, list)):
        logits = output[0]
    if logits is None:
        raise ValueError(f"`model` ({type(model).__name__}) returned no `logits`: load it with its task head.")
    if logits.dim() == 3 and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"`model` ({type(model).__name__}) is an encoder-decoder: its logits are not shifted against the labels. "
            "Causal language models and classifiers can be measured."
        )
    return logits


def _signature(model: torch.nn.Module) -> tuple[torch.nn.Module, set[str] | None]:
    """The model inside wrappers (PEFT, compile, data parallel), and the argument names of its forward; None = any."""
    inner = model
    while True:
        if hasattr(inner, "get_base_model"):
            inside = inner.get_base_model()
        else:
            inside = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if inside is None or inside is inner or not hasattr(inside, "forward"):
            break
        inner = inside
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(inner.forward).parameters.values()
    return inner, {p.name for p in parameters if p.kind not in variadic} or None


def _keep(row: Mapping[str, Any], named: set[str] | None) -> dict[str, Any]:
    return {key: value for key, value in row.items() if named is None or key in named or key in _LABEL_COLUMNS}


def _rows(dataset: Sequence[Mapping[str, Any]], indices: range) -> list[Mapping[str, Any]]:
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__(list(indices))
    return [dataset[i] for i in indices]


def _bar(iterable: range, progress: bool, description: str = "evaluate") -> Iterable[int]:
    if not progress:
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, unit="batch", delay=1, leave=False)
