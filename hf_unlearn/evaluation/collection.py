"""One teacher-forced pass over a split: a table with one line of statistics a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.given import as_rows, collating_problems
from ..utils.architectures import other_task
from ..utils.checks import raise_problems, whole
from ..utils.versions import library_versions
from .forward import (
    LABEL_COLUMNS,
    evaluating,
    kept_columns,
    logits_of,
    model_inputs,
    progress_bar,
    prompt_adapters,
    signature_of,
    unsplit,
)
from .row_statistics import row_statistics, zlib_bytes
from .rows import data_hash, row_hashes, rows_at
from .table_checks import check_values
from .tables import COLUMNS, OPTIONAL, SCHEMA, with_description
from .weights import weights_hash

if TYPE_CHECKING:
    import pyarrow
    import torch


def collect(
    model: torch.nn.Module,
    dataset: Sequence[Mapping[str, Any]],
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    *,
    processing_class: Any = None,
    batch_size: int = 32,
    model_hash: str | None = None,
    hashes: Sequence[str] | None = None,
    shard: bool = True,
    progress: bool = False,
) -> pyarrow.Table:
    """
    Statistics of each row of `dataset` under `model`, from one teacher-forced forward pass.

    The pass runs without gradients and in eval mode. Afterwards every submodule is back in the mode it was in, also
    after an error (a part may be frozen in eval mode while the rest trains). It draws from no random generator (a
    `DataLoader` would draw a seed), keeps no hooks and holds the logits of one batch at a time. Token rows of like
    length go together, the longest first. Under `model`'s own weights and without autocast: measure a half-precision
    model as it will be served.

    Where `torch.distributed` is initialised the batches are shared out over the processes, and every process gets the
    whole table; then all processes must call it.

    Args:
        model: a causal language model (logits `(B, T, V)`, position t predicts label t + 1) or a classifier (logits
            `(B, C)`). Batches are moved to the device of its first parameter.
        dataset: a `datasets.Dataset`, or a list of dicts. Columns that the model's `forward` does not name are left
            out (seen through a PEFT wrapper); label columns stay.
        data_collator: makes a batch with `labels` from a list of dicts; one line per row, in order. `None`:
            [`hf_unlearn.default_collator`] of the model and `processing_class`.
        processing_class: the tokenizer, for the column `zlib_bytes` and the default collator.
        batch_size: rows per forward pass.
        model_hash: of the weights, if known; None: computed (about a second a GB).
        hashes: of the rows, if known; None: computed.
        shard: False: this process measures all rows, alone.
        progress: show a progress bar (after the first second).

    Returns:
        Table in the order of the rows, which says of itself what it was made from (schema 2):
        `row` int64 (the index);
        `row_hash` string (content of inputs and labels);
        `nll_sum` float64 (nats, over labelled positions); `n_labels` int64;
        `n_correct` int64 (positions whose argmax is the label);
        `n_suffix` int64 (those of them at the end of the row, without a wrong one after them);
        `entropy_sum` float64 (nats: entropy of the predictive distribution, summed over labelled positions);
        of a causal language model `token_nll` list of float32 (nats, per labelled position), `token_z` list of float32
        ((log p_t - μ_t) / σ_t over the vocabulary, for Min-K%++) and, with a tokenizer, `zlib_bytes` int64 (length of
        the labelled text after zlib);
        of a classifier `margin` float64 (log(p / (1 - p)) of the right class) and `label` int64 (its number); of one
        with several labels a row (`labels` (B, C) float: losses are binary cross-entropies, n_labels is C, and a label
        counts as predicted from a probability of one half on) instead of these and of `n_suffix`: `labels` and
        `predicted`, lists of int64 (numbers of the labels that a row has, and that are predicted);
        `group` int64 where the rows have such a column.

    Raises:
        ValueError: if `dataset` is empty or has no labels, if a row's labels are all ignored (-100) or beyond the
            model's classes, if labels are not class or token indices, if the model's logits are not those of a causal
            LM or a classifier, or if they give values that are not finite.
    """
    rows, problems = as_rows(dataset, "dataset")
    raise_problems(problems + collating_problems(data_collator, processing_class))
    dataset, n_rows = rows, len(rows)
    if n_rows == 0:
        raise ValueError("`dataset` is empty: there is nothing to measure. Leave this split out, or give it rows.")
    raise_problems(whole("batch_size", batch_size, low=1))
    model = unsplit(model)
    inner, named = signature_of(model)
    if (task := other_task(inner)) is not None:
        raise ValueError(
            f"`model` is a {type(inner).__name__}, a model for {task}. Causal language models and classifiers of whole "
            "rows can be measured."
        )
    if data_collator is None:
        from ..data.collate import default_collator

        data_collator = default_collator(model, processing_class)
    tokenizer = processing_class if hasattr(processing_class, "decode") else None
    statistics = partial(_batch_statistics, model, dataset, data_collator, tokenizer)
    columns = _all_batches(statistics, model, _by_length(dataset, n_rows, batch_size), n_rows, shard, progress)
    return _table(model, inner, dataset, columns, model_hash, hashes)


def _all_batches(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]],
    model: torch.nn.Module,
    batches: list[np.ndarray],
    n_rows: int,
    shard: bool,
    progress: bool,
) -> dict[str, np.ndarray]:
    """Columns of all rows, (n_rows,) each; batches are shared out over the processes, all of which get the whole."""
    import torch

    rank, world = _processes(shard)
    turns = -(-len(batches) // world)  # every process runs as many forwards: a sharded model waits for the others
    found: dict[str, np.ndarray] = {}
    problem = None
    with evaluating(model), torch.no_grad():
        for turn in progress_bar(range(turns), progress if rank == 0 else False):
            place = turn * world + rank
            indices = batches[min(place, len(batches) - 1)]
            try:
                part = statistics(indices)
            except ValueError as error:
                if world == 1:
                    raise
                problem = str(error)  # do not raise yet: the others would hang in the gather; raised on all below
                continue
            if place < len(batches):
                _put(found, part, indices, n_rows)
    if world > 1:
        mine = np.concatenate([batches[i] for i in range(rank, len(batches), world)] or [np.empty(0, int)])
        parts = _from_all((problem, mine, {name: values[mine] for name, values in found.items()}))
        problem = next((p for p, _, _ in parts if p), None)
        for _, indices, part in parts:
            _put(found, part, indices, n_rows)
    if problem:
        raise ValueError(problem)
    return found


def _put(columns: dict[str, np.ndarray], part: Mapping[str, np.ndarray], indices: np.ndarray, n_rows: int) -> None:
    for name, values in part.items():
        if name not in columns:
            columns[name] = np.empty(n_rows, values.dtype)
        columns[name][indices] = values


def _batch_statistics(
    model: torch.nn.Module, dataset: Any, data_collator: Callable, tokenizer: Any, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the table for the rows of one batch, from one forward pass."""
    import torch

    from ..objectives.row_nll import behind_prompts

    inner, named = signature_of(model)
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    batch, labels = _batch([kept_columns(row, named) for row in rows_at(dataset, indices)], data_collator, dataset)
    extra: dict[str, Any] = {"use_cache": False} if named is not None and "use_cache" in named else {}
    # Learnt prompts move the positions, so all logits are asked for.
    needed = _labelled_positions(labels, named if not prompt_adapters(model) else None)
    if needed is not None:
        extra["logits_to_keep"] = needed.to(device)
    logits = logits_of(model(**model_inputs(batch, named, device), **extra), inner)
    measured = labels
    if needed is None:
        logits = behind_prompts(logits, labels)
    elif logits.dim() == 3 and logits.shape[1] == len(needed):
        measured = torch.cat([labels[:, :1], labels[:, needed + 1]], 1)  # position 0 predicts what is next
    found = row_statistics(logits, measured.to(device), indices)
    if tokenizer is not None and "token_nll" in found:
        found["zlib_bytes"] = np.array([zlib_bytes(row[1:], tokenizer) for row in labels], np.int64)
    return found


def _processes(shard: bool) -> tuple[int, int]:
    """This process's place and how many there are."""
    import torch.distributed as dist

    if shard and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _from_all(value: Any) -> list:
    import torch.distributed as dist

    parts: list = [None] * dist.get_world_size()
    dist.all_gather_object(parts, value)
    return parts


def _by_length(dataset: Sequence[Mapping[str, Any]], n_rows: int, batch_size: int) -> list[np.ndarray]:
    """Places of the rows of each batch; token rows of like length together, the longest first."""
    from ..data.columns import column_values

    order = np.arange(n_rows)
    names = getattr(dataset, "column_names", None) or list(dataset[0])
    if "input_ids" in names:
        order = np.argsort([-len(ids) for ids in column_values(dataset, "input_ids")], kind="stable")
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]


def _batch(rows: list[dict], data_collator: Callable, dataset: Any) -> tuple[Mapping[str, Any], torch.Tensor]:
    """The collated batch and its labels, checked."""
    from ..data.collate import made_by

    try:
        batch = made_by(data_collator, rows)
    except ValueError as error:
        if "expected sequence of length" not in str(error):
            raise
        raise ValueError(
            "the rows are of different lengths and were not padded: give the tokenizer as `processing_class`, or a "
            "`data_collator` that pads. Rows of text need a text model."
        ) from error
    labels = batch.get("labels")
    if labels is None and not any(key in rows[0] for key in LABEL_COLUMNS):
        raise ValueError(
            f"`dataset` has no labels: its columns are {sorted(dataset[0])}. Add a `labels` column (for a causal "
            "language model the input ids, with -100 where nothing is to be measured), or give a `data_collator` that "
            "makes them."
        )
    if labels is None:
        raise ValueError(f"`data_collator` returned {sorted(batch)} without `labels`: it must keep the labels.")
    if labels.shape[0] != len(rows):
        raise ValueError(
            f"`data_collator` made {labels.shape[0]} lines of labels from {len(rows)} rows: measures are "
            "per row, so it must not pack or flatten rows."
        )
    if labels.is_floating_point() and labels.dim() != 2:
        raise ValueError(
            f"`labels` are {labels.dtype} of shape {tuple(labels.shape)}: expected indices of classes or tokens, or of "
            "several labels a row (B, C) of 0.0 and 1.0. Regression cannot be measured."
        )
    return batch, labels


def _labelled_positions(labels: torch.Tensor, named: set[str] | None) -> torch.Tensor | None:
    """Positions of a causal LM's batch that predict a label in some row, where its forward can leave out the others."""
    from ..objectives.row_nll import IGNORE_INDEX

    if labels.dim() != 2 or labels.is_floating_point() or named is None or "logits_to_keep" not in named:
        return None
    needed = labels[:, 1:].ne(IGNORE_INDEX).any(0).nonzero()[:, 0]
    return needed if len(needed) else None


def _table(model, inner, dataset, found, model_hash, hashes) -> pyarrow.Table:
    import pyarrow as pa

    n_rows = len(dataset)
    hashes = row_hashes(dataset) if hashes is None else list(hashes)
    columns = {"row": np.arange(n_rows), "row_hash": hashes, **found}
    names = getattr(dataset, "column_names", None) or list(dataset[0])
    if "group" in names:
        columns["group"] = [int(row["group"]) for row in rows_at(dataset, np.arange(n_rows))]
    kinds = {"string": pa.string(), "list<float>": pa.list_(pa.float32()), "list<int>": pa.list_(pa.int64())}
    arrays = {
        name: pa.array(columns[name], kinds.get(kind) or getattr(pa, kind)())
        for name, kind in {**COLUMNS, **OPTIONAL}.items()
        if name in columns
    }
    causal_lm = "token_nll" in columns
    labels = getattr(getattr(inner, "config", None), "id2label", None) if not causal_lm else None
    description = {
        "schema": SCHEMA,
        "kind": "causal_lm" if causal_lm else "classifier",
        "model": weights_hash(model) if model_hash is None else model_hash,
        "data": data_hash(hashes),
        "architecture": type(inner).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "labels": [str(labels[key]) for key in sorted(labels)] if labels else None,
        "dtype": str(next((p.dtype for p in model.parameters()), None)).removeprefix("torch."),
        "versions": _versions(),
    }
    return with_description(check_values(pa.table(arrays)), description)


@cache
def _versions() -> dict[str, str]:
    return library_versions()
