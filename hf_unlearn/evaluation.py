"""One teacher-forced pass per model and split into a table of per-row statistics; every measure from that table.

[`collect`] is the only function here that touches a model. What it returns, an Arrow table with one line per row,
is all that the measures need, so a table can be saved, compared years later, and measured again in another way
without the model. Text and vision share this code; they differ in the one shape rule of
[`~hf_unlearn.objectives.per_row_nll`].

```python
card = evaluate({"original": model, "unlearned": new_model}, splits, reference=retrained_model, processing_class=tok)
card.save("out")  # scorecard.json, rows.parquet, history.json
card.to_html("out/report.html")
```
"""

from __future__ import annotations

import inspect
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import report

if TYPE_CHECKING:
    import pyarrow
    import torch

SCHEMA = 1
ROLES = report.ROLES
COST_KEYS = ("steps", "row_passes", "seconds")
COLUMNS = {"row": "int64", "nll_sum": "float64", "n_labels": "int64", "n_correct": "int64", "entropy_sum": "float64"}

CLASSIFIER_MEASURES = ("loss", "accuracy")
CAUSAL_LM_MEASURES = ("loss", "token_accuracy", "exact_memorisation", "exact_match", "perplexity")
MIA_SCORES = ("loss", "entropy")
MIA_MEASURES = ("auc", "tpr_at_1fpr", "accuracy")
MIA_FPR = 0.01  # the false-positive rate of `tpr_at_1fpr`
MIA_FOLDS = 10  # stratified splits of the logistic-regression attack, as in the source
CHUNK_ELEMENTS = 1_000_000  # rows x resamples held at once by the bootstrap: bounds its memory, not its result

_LABEL_COLUMNS = ("labels", "label", "label_ids")
_UNSHIFTED = ("ForMaskedLM", "ForTokenClassification")  # 3-D logits where position t predicts label t itself


# ----------------------------------------------------------------------------------------------------------------
# model + split -> table
# ----------------------------------------------------------------------------------------------------------------


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

    from .objectives import IGNORE_INDEX, per_row_nll

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


# ----------------------------------------------------------------------------------------------------------------
# tables -> measures
# ----------------------------------------------------------------------------------------------------------------


def measure(
    tables: Mapping[str, pyarrow.Table],
    *,
    measures: Iterable[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    causal_lm: bool | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """
    All measures of one model from its row tables, each with a bootstrap interval.

    Per split: `<split>_loss` (nats per label: ratio of sums over the rows); for classifiers `<split>_accuracy`; for
    language models `<split>_token_accuracy` (pooled over labelled positions), `<split>_exact_memorisation` (mean over
    rows of the share of positions whose argmax is the label), `<split>_exact_match` (share of rows with every position
    right) and `<split>_perplexity` (exp of the loss).

    With the splits `forget` and `unseen`, membership inference from the row's mean loss or mean entropy, the lower the
    more likely a member (forget rows are the members): `forget_mia_loss_auc` (Mann-Whitney, ties count half),
    `forget_mia_loss_tpr_at_1fpr` (largest true-positive rate at a false-positive rate of at most 1 %, not
    interpolated; with fewer than 100 unseen rows this means no false positive at all), `forget_mia_loss_accuracy` (the
    attack of Trippa et al. 2024: logistic regression on the one raw feature, as many unseen as forget rows, 10
    stratified folds, share of rows guessed right out of fold), and the same three with `entropy`.

    Intervals are the 2.5 % and 97.5 % percentiles of `resamples` bootstrap resamples of the rows, drawn by `seed`;
    forget and unseen rows are resampled separately. They hold the model fixed: the spread over training seeds is not
    in them. The interval of `_mia_*_accuracy` resamples the out-of-fold guesses and does not refit the attack.

    Args:
        tables: split name -> table of [`collect`].
        measures: names to keep; `None` keeps all.
        seed: seed of the resampling and of the attack's folds. Equal seeds resample equal rows, whatever the model.
        resamples: bootstrap resamples.
        causal_lm: whether the rows are those of a language model; `None`: they are, unless every row of every table
            has exactly one label.

    Returns:
        name -> `{"value", "low", "high", "n"}`; n is the number of rows used. `low` and `high` are `None` where a side
        has fewer than two rows; `value` also where it is not a finite number (a diverged model, an overflowing
        perplexity) or cannot be computed (the attack with fewer than two rows on a side).

    Raises:
        ValueError: for a table without the columns of [`collect`] or without rows, for an unknown measure (listing
            those that exist), or `resamples` below 1.
    """
    if not resamples >= 1:
        raise ValueError(f"`resamples` is {resamples}: expected an integer of at least 1.")
    columns = {split: _columns(table, split) for split, table in tables.items()}
    if causal_lm is None:
        causal_lm = any((c["n_labels"] != 1).any() for c in columns.values())
    known = measure_names(columns, causal_lm=causal_lm)
    wanted = _wanted(measures, known)

    found: dict[str, dict[str, float | int | None]] = {}
    for split, c in columns.items():
        kinds = [k for k in (CAUSAL_LM_MEASURES if causal_lm else CLASSIFIER_MEASURES) if f"{split}_{k}" in wanted]
        if kinds:
            rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
            found.update({f"{split}_{k}": v for k, v in _split_measures(c, kinds, rng, resamples).items()})
    for score in MIA_SCORES:
        kinds = [k for k in MIA_MEASURES if f"forget_mia_{score}_{k}" in wanted]
        if kinds:
            column = "nll_sum" if score == "loss" else "entropy_sum"
            members, others = (columns[s][column] / columns[s]["n_labels"] for s in ("forget", "unseen"))
            for k, v in membership_inference(members, others, measures=kinds, seed=seed, resamples=resamples).items():
                found[f"forget_mia_{score}_{k}"] = v
    return {name: found[name] for name in known if name in found}


def measure_names(splits: Iterable[str], *, causal_lm: bool) -> list[str]:
    """Names of the measures that [`measure`] computes for these splits, in its order."""
    splits = list(splits)
    kinds = CAUSAL_LM_MEASURES if causal_lm else CLASSIFIER_MEASURES
    names = [f"{split}_{kind}" for split in splits for kind in kinds]
    if {"forget", "unseen"} <= set(splits):
        names += [f"forget_mia_{score}_{kind}" for score in MIA_SCORES for kind in MIA_MEASURES]
    return names


def membership_inference(
    members: np.ndarray,  # (M,)
    others: np.ndarray,  # (N,)
    *,
    measures: Iterable[str] = MIA_MEASURES,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, float | int | None]]:
    """
    How well a score tells members from others, the *lower* score being the member's. Definitions in [`measure`].

    Returns:
        `auc`, `tpr_at_1fpr`, `accuracy` (those asked for) -> `{"value", "low", "high", "n"}`; n = M + N, for
        `accuracy` twice the smaller side. All values are `None` if a score is not finite.
    """
    measures = set(measures)
    members, others = np.asarray(members, float), np.asarray(others, float)
    m, n = len(members), len(others)
    if not (np.isfinite(members).all() and np.isfinite(others).all()) or not (m and n):
        return {k: _summary(None, None, m + n) for k in MIA_MEASURES if k in measures}
    rng = np.random.default_rng([seed, zlib.crc32(b"membership")])
    found = {}

    if measures & {"auc", "tpr_at_1fpr"}:
        values, position = np.unique(np.concatenate([members, others]), return_inverse=True)
        position = position.reshape(-1)
        width = len(values)

        def roc(at_members: np.ndarray, at_others: np.ndarray) -> np.ndarray:  # -> (2, R)
            hits, alarms = _counts(at_members, width), _counts(at_others, width)
            below = alarms.cumsum(1)  # others at or below this score: the false positives of a threshold here
            auc = 1 - np.einsum("rw,rw->r", hits, 2 * below - alarms) / (2 * m * n)  # ties count half
            return np.stack([auc, hits.sum(1, where=below / n <= MIA_FPR) / m])

        at_members, at_others = position[:m], position[m:]
        value = roc(at_members[None], at_others[None])[:, 0]
        draws = None
        if min(m, n) >= 2:
            draws = np.concatenate(
                [
                    roc(at_members[rng.integers(m, size=(size, m))], at_others[rng.integers(n, size=(size, n))])
                    for size in _chunks(m + n, resamples)
                ],
                axis=1,
            )
        for i, kind in enumerate(("auc", "tpr_at_1fpr")):
            if kind in measures:
                found[kind] = _summary(value[i], None if draws is None else draws[i], m + n)

    if "accuracy" in measures:
        found["accuracy"] = _attack_accuracy(members, others, seed, resamples)
    return found


def _attack_accuracy(members: np.ndarray, others: np.ndarray, seed: int, resamples: int) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    side = min(len(members), len(others))
    if side < 2:
        return _summary(None, None, 2 * side)
    rng = np.random.default_rng([seed, zlib.crc32(b"attack")])
    scores = np.concatenate([part[np.sort(rng.permutation(len(part))[:side])] for part in (members, others)])[:, None]
    truth = np.repeat([1, 0], side)
    right = np.zeros(2 * side)
    folds = StratifiedKFold(min(MIA_FOLDS, side), shuffle=True, random_state=int(rng.integers(2**31)))
    for train, held_out in folds.split(scores, truth):
        attack = LogisticRegression(max_iter=1000).fit(scores[train], truth[train])
        right[held_out] = attack.predict(scores[held_out]) == truth[held_out]
    sides = right[:side], right[side:]
    draws = [
        sum(part[rng.integers(side, size=(size, side))].mean(1) for part in sides) / 2
        for size in _chunks(2 * side, resamples)
    ]
    return _summary(right.mean(), np.concatenate(draws), 2 * side)


def _split_measures(c: dict[str, np.ndarray], kinds: list[str], rng: np.random.Generator, resamples: int) -> dict:
    n = len(c["nll_sum"])
    share = c["n_correct"] / c["n_labels"]
    rows = np.stack([c["nll_sum"], c["n_labels"], c["n_correct"], share, share == 1]).astype(float)  # (5, n)

    def values(sums: np.ndarray) -> dict[str, np.ndarray]:  # (5, R)
        loss, correct = sums[0] / sums[1], sums[2] / sums[1]
        with np.errstate(over="ignore"):
            perplexity = np.exp(loss)
        return {
            "loss": loss,
            "accuracy": correct,
            "token_accuracy": correct,
            "exact_memorisation": sums[3] / n,
            "exact_match": sums[4] / n,
            "perplexity": perplexity,
        }

    value = values(rows.sum(1)[:, None])
    draws = None
    if n >= 2:
        sums = [rows @ _counts(rng.integers(n, size=(size, n)), n).T for size in _chunks(n, resamples)]
        draws = values(np.concatenate(sums, axis=1))
    return {kind: _summary(value[kind][0], None if draws is None else draws[kind], n) for kind in kinds}


def _counts(positions: np.ndarray, width: int) -> np.ndarray:
    """(R, rows) positions below `width` -> (R, width): how often each position occurs in each line."""
    offset = np.arange(len(positions))[:, None] * width
    return np.bincount((positions + offset).ravel(), minlength=len(positions) * width).reshape(-1, width)


def _chunks(n_rows: int, resamples: int) -> list[int]:
    """Sizes that add up to `resamples`, so that no chunk holds more than CHUNK_ELEMENTS rows."""
    size = max(1, CHUNK_ELEMENTS // n_rows)
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _summary(value: float | None, draws: np.ndarray | None, n: int) -> dict[str, float | int | None]:
    low = high = None
    if value is not None and draws is not None and np.isfinite(draws).all():
        low, high = (float(q) for q in np.percentile(draws, [2.5, 97.5]))
    return {"value": _finite(value), "low": low, "high": high, "n": int(n)}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _columns(table: pyarrow.Table, split: str) -> dict[str, np.ndarray]:
    missing = [name for name in COLUMNS if name not in getattr(table, "column_names", ())]
    if missing:
        raise ValueError(f"the table of split `{split}` lacks {missing}: expected the columns {list(COLUMNS)}.")
    if table.num_rows == 0:
        raise ValueError(f"the table of split `{split}` has no rows.")
    return {name: table.column(name).to_numpy() for name in COLUMNS}


def _wanted(measures: Iterable[str] | None, known: Sequence[str]) -> set[str]:
    if measures is None:
        return set(known)
    measures = [measures] if isinstance(measures, str) else list(measures)
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise ValueError(f"unknown `measures` {unknown}. For these splits there are: {', '.join(known)}.")
    return set(measures)


# ----------------------------------------------------------------------------------------------------------------
# models + splits -> score card
# ----------------------------------------------------------------------------------------------------------------


def evaluate(
    model: torch.nn.Module | Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    reference: torch.nn.Module | Mapping[str, pyarrow.Table] | None = None,
    measures: Iterable[str] | None = None,
    data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    processing_class: Any = None,
    batch_size: int = 32,
    task: str = "task",
    role: str = "unlearned",
    seed: int = 0,
    cost: Mapping[str, Any] | None = None,
    stop_reason: str | Mapping[str, str] | None = None,
    history: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    resamples: int = 1000,
    progress: bool = False,
) -> Scorecard:
    """
    Measure one or several models on the same splits, beside a model retrained without the forget rows.

    Args:
        model: a model (its role is `role`), or a dict of role -> model. In the dict, saved tables (split -> table of
            [`collect`]) may stand for a model. Roles: "original", "ready", "unlearned", "ready_unlearned",
            "retrained".
        splits: `DatasetDict` or dict with any of `forget`, `retain`, `unseen`, `test`, and others by your names.
            Membership inference needs `forget` and `unseen`. Not needed when all models are given as tables.
        reference: the retrained model, or its saved tables; enters as role "retrained".
        measures: names to keep (see [`measure`]); `None` keeps all.
        data_collator: makes batches; `None`: [`hf_unlearn.data.default_collator`] of the model and `processing_class`.
        batch_size: rows per forward pass.
        task: name under which the runs are listed; score cards of several tasks can be added.
        seed: training seed of the runs, recorded with them; also seeds the resampling.
        cost: `{"steps", "row_passes", "seconds"}` of the run, or a dict of role -> such a dict.
        stop_reason: why the run ended, or a dict of role -> reason.
        history: `trainer.state.log_history` of the run, or a dict of role -> history; drawn as curves in the report.
        resamples: bootstrap resamples of each interval.
        progress: show progress bars.

    Raises:
        ValueError: for an unknown role or measure, no or empty splits, tables that belong to other splits (another
            number of rows), a `cost`, `stop_reason` or `history` that names no run; and all that [`collect`] raises.
    """
    models = dict(model) if isinstance(model, Mapping) else {role: model}
    if reference is not None:
        if "retrained" in models:
            raise ValueError('`reference` is the retrained model, but `model` has a role "retrained" too: give one.')
        subjects = list(models)
        models["retrained"] = reference
    else:
        subjects = [name for name in models if name != "retrained"] or list(models)
    splits = {} if splits is None else {name: rows for name, rows in splits.items() if rows is not None}
    _check_inputs(models, splits, measures)
    by_role = {
        "cost": _by_role(cost, "cost", models, subjects),
        "stop_reason": _by_role(stop_reason, "stop_reason", models, subjects),
        "history": _by_role(history, "history", models, subjects),
    }

    tables: dict[str, dict[str, pyarrow.Table]] = {}
    for name, subject in models.items():
        if isinstance(subject, Mapping):
            tables[name] = dict(subject)
            continue
        collator = data_collator
        if collator is None:
            from .data import default_collator

            collator = default_collator(subject, processing_class)
        tables[name] = {}
        for split, rows in splits.items():
            try:
                tables[name][split] = collect(subject, rows, collator, batch_size=batch_size, progress=progress)
            except ValueError as error:
                raise ValueError(f'split `{split}`, model "{name}": {error}') from error

    # One rule for all models of the card, so that their measures have the same names.
    causal_lm = any((_columns(t, s)["n_labels"] != 1).any() for ts in tables.values() for s, t in ts.items())
    known = {n for ts in tables.values() for n in measure_names(ts, causal_lm=causal_lm)}
    wanted = _wanted(measures, sorted(known))
    runs = []
    for name in sorted(models, key=ROLES.index):
        names = wanted & set(measure_names(tables[name], causal_lm=causal_lm))
        found = measure(tables[name], measures=names, seed=seed, resamples=resamples, causal_lm=causal_lm)
        given = by_role["cost"].get(name) or {}
        runs.append(
            Run(
                task=task,
                model=name,
                seed=int(seed),
                measures=found,
                cost={key: given.get(key) for key in COST_KEYS},
                stop_reason=by_role["stop_reason"].get(name),
                tables=tables[name],
                history=[dict(entry) for entry in by_role["history"].get(name) or []],
            )
        )
    return Scorecard(runs)


def _check_inputs(models: Mapping[str, Any], splits: Mapping[str, Any], measures: Iterable[str] | None) -> None:
    """All problems of the arguments of [`evaluate`] in one error, before a model runs."""
    problems = []
    if not models:
        problems.append("`model` is empty: give a model, or a dict of role -> model.")
    for name in models:
        if name not in ROLES:
            problems.append(f"unknown role {name!r}: expected one of {', '.join(ROLES)}.")
    if not splits and not all(isinstance(subject, Mapping) for subject in models.values()):
        problems.append("`splits` is empty: give a dict with any of `forget`, `retain`, `unseen`, `test`.")
    for split, rows in splits.items():
        if len(rows) == 0:
            problems.append(f"split `{split}` is empty: leave it out, or give it rows.")
    for name, subject in models.items():
        if not isinstance(subject, Mapping):
            continue
        if not subject:
            problems.append(f'the tables of "{name}" are empty: expected a dict of split -> table.')
        for split, table in subject.items():
            if split in splits and getattr(table, "num_rows", None) != len(splits[split]):
                problems.append(
                    f'the table of "{name}" for split `{split}` has {getattr(table, "num_rows", "no")} rows, the '
                    f"split has {len(splits[split])}: it was not made from these rows."
                )
    names = list(dict.fromkeys([*splits, *(s for t in models.values() if isinstance(t, Mapping) for s in t)]))
    try:
        _wanted(measures, list(dict.fromkeys(n for lm in (True, False) for n in measure_names(names, causal_lm=lm))))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems) if len(problems) == 1 else "- " + "\n- ".join(problems))


def _by_role(value: Any, argument: str, models: Mapping[str, Any], subjects: list[str]) -> dict[str, Any]:
    """A plain value belongs to the one model that is not the reference; a dict says itself."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and not (argument == "cost" and set(value) <= set(COST_KEYS)):
        unknown = sorted(set(value) - set(models))
        if unknown:
            raise ValueError(f"`{argument}` names {unknown}, but the models are {sorted(models)}.")
        return dict(value)
    if len(subjects) != 1:
        raise ValueError(f"`{argument}` is one value for the models {subjects}: give a dict of role -> value.")
    return {subjects[0]: value}


@dataclass
class Run:
    """One model of one task: `model` is its role. `tables` and `history` are kept beside the score card's JSON."""

    task: str
    model: str
    seed: int
    measures: dict[str, dict[str, float | int | None]]
    cost: dict[str, float | int | None] = field(default_factory=lambda: dict.fromkeys(COST_KEYS))
    stop_reason: str | None = None
    tables: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.model, self.seed

    def to_dict(self) -> dict[str, Any]:
        return _json_safe(
            {
                "task": self.task,
                "model": self.model,
                "seed": self.seed,
                "measures": self.measures,
                "cost": {key: self.cost.get(key) for key in COST_KEYS},
                "stop_reason": self.stop_reason,
            }
        )


@dataclass
class Scorecard:
    """
    The measures of several models, tasks and seeds. Cards are added with `+` (or [`merge`]) and written with
    [`save`]; `scorecard.json` is strict JSON of schema 1:

    `{"schema": 1, "runs": [{"task", "model", "seed", "measures": {name: {"value", "low", "high", "n"}},
    "cost": {"steps", "row_passes", "seconds"}, "stop_reason"}]}`; what is unknown or not finite is null.
    """

    runs: list[Run] = field(default_factory=list)

    def __getitem__(self, role: str) -> Run:
        """The first run of this role: `card["unlearned"].measures["forget_loss"]["value"]`."""
        for run in self.runs:
            if run.model == role:
                return run
        raise KeyError(f"no run of role {role!r}; there are {sorted({run.model for run in self.runs})}")

    def tables(self, role: str, *, task: str | None = None, seed: int | None = None) -> dict[str, pyarrow.Table]:
        """Saved tables of a role (split -> table), to be given to [`evaluate`] as `reference`."""
        for run in self.runs:
            if run.model == role and task in (None, run.task) and seed in (None, run.seed) and run.tables:
                return run.tables
        raise KeyError(f"no tables of role {role!r}, task {task!r}, seed {seed!r} in this score card")

    def merge(self, other: Scorecard) -> Scorecard:
        """
        A card with the runs of both. A run that is in both (same task, role and seed, same numbers) is kept once.

        Raises:
            ValueError: if both have a run of the same task, role and seed with different numbers.
        """
        runs = list(self.runs)
        mine = {run.key: run for run in runs}
        for run in other.runs:
            twin = mine.get(run.key)
            if twin is None:
                runs.append(run)
                mine[run.key] = run
            elif twin.to_dict() != run.to_dict():
                raise ValueError(
                    f"both score cards have a run of task {run.task!r}, model {run.model!r}, seed {run.seed}, with "
                    "different numbers. Give one of them another `task` or `seed`."
                )
        return Scorecard(runs)

    def __add__(self, other: Scorecard) -> Scorecard:
        return self.merge(other) if isinstance(other, Scorecard) else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "runs": [run.to_dict() for run in self.runs]}

    def save(self, directory: str | Path) -> Path:
        """
        Write `scorecard.json`, `rows.parquet` (all tables, with columns task, model, seed, split) and `history.json`
        into `directory`; the last two only where there are rows or histories. Returns the path of `scorecard.json`.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        rows = self._stacked()
        if rows is not None:
            import pyarrow.parquet as pq

            pq.write_table(rows, directory / "rows.parquet")
        histories = self._histories()
        if histories:
            _write_json(directory / "history.json", {"schema": SCHEMA, "histories": histories})
        return _write_json(directory / "scorecard.json", self.to_dict())

    @classmethod
    def load(cls, directory: str | Path) -> Scorecard:
        """
        Read what [`save`] wrote (a folder, or the path of its `scorecard.json`).

        Raises:
            ValueError: if the schema is not one that this version reads.
        """
        directory = Path(directory)
        path = directory if directory.suffix == ".json" else directory / "scorecard.json"
        directory = path.parent
        card = json.loads(path.read_text(encoding="utf-8"))
        if card.get("schema") != SCHEMA:
            raise ValueError(f"{path} has schema {card.get('schema')!r}: this version reads schema {SCHEMA}.")
        runs = [Run(**run) for run in card["runs"]]
        by_key = {run.key: run for run in runs}
        if (directory / "rows.parquet").exists():
            import pyarrow.parquet as pq

            for key, tables in _unstacked(pq.read_table(directory / "rows.parquet")).items():
                if key in by_key:
                    by_key[key].tables = tables
        if (directory / "history.json").exists():
            for entry in json.loads((directory / "history.json").read_text(encoding="utf-8"))["histories"]:
                key = (entry["task"], entry["model"], entry["seed"])
                if key in by_key:
                    by_key[key].history = entry["log_history"]
        return cls(runs)

    def to_html(self, path: str | Path, title: str | None = None, about: str | Mapping[str, str] | None = None) -> Path:
        """
        Write the report: one self-contained page, no network. `about` says in a sentence what was asked for (or a dict
        of task -> sentence). Curves need `history`, histograms need tables.
        """
        rows = [
            {
                "task": run.task,
                "model": run.model,
                "seed": run.seed,
                "split": split,
                "loss": c["nll_sum"] / c["n_labels"],
            }
            for run in self.runs
            for split, table in run.tables.items()
            for c in [_columns(table, split)]
        ]
        page = report.render_html(self.to_dict(), rows=rows, histories=self._histories(), title=title, about=about)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    def to_card(self, info: Mapping[str, Any] | None = None) -> str:
        """Body of a model card with this score table (Markdown, no YAML header); `info` as `render_card_section`."""
        return report.render_card_section(self.to_dict(), dict(info or {}))

    def findings(self) -> list[str]:
        """What the numbers say, in plain language: one text per unlearned run, then one on what readiness bought."""
        return [finding["text"] for finding in report.findings(self.to_dict())]

    def _histories(self) -> list[dict[str, Any]]:
        return [
            _json_safe({"task": run.task, "model": run.model, "seed": run.seed, "log_history": run.history})
            for run in self.runs
            if run.history
        ]

    def _stacked(self) -> pyarrow.Table | None:
        import pyarrow as pa

        stacked = []
        for run in self.runs:
            identity = {"task": run.task, "model": run.model, "seed": run.seed}
            for split, table in run.tables.items():
                table = table.select(list(COLUMNS))
                for i, (name, value) in enumerate({**identity, "split": split}.items()):
                    kind = pa.int64() if name == "seed" else pa.string()
                    table = table.add_column(i, name, pa.array([value] * table.num_rows, kind))
                stacked.append(table)
        return pa.concat_tables(stacked) if stacked else None


def _unstacked(rows: pyarrow.Table) -> dict[tuple[str, str, int], dict[str, pyarrow.Table]]:
    import pyarrow.compute as pc

    keys = rows.select(["task", "model", "seed", "split"])
    found: dict[tuple[str, str, int], dict[str, pyarrow.Table]] = {}
    for group in keys.group_by(keys.column_names, use_threads=False).aggregate([]).to_pylist():
        match = None
        for name, value in group.items():
            equal = pc.equal(rows[name], value)
            match = equal if match is None else pc.and_(match, equal)
        table = rows.filter(match).select(list(COLUMNS))
        found.setdefault((group["task"], group["model"], group["seed"]), {})[group["split"]] = table
    return found


def _json_safe(value: Any) -> Any:
    """Plain Python of what JSON knows: numpy scalars unpacked, numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_json_safe(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _finite(float(value))
    return value if value is None else str(value)


def _write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path
