"""
From the arrays that a metric is given to its numbers: arrays become row tables, and the evaluation measures them.

Each function takes the metric's name, its inputs, and options; it returns name -> number or None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..evaluation import catalogue
from ..evaluation.intervals import summary
from ..evaluation.measures.forget_quality import forget_quality_of, ks_detectable
from ..evaluation.measures.lira import lira_measures
from ..evaluation.measures.membership import MIA_MEASURES, compare_membership, membership_inference, scores
from ..evaluation.measures.utility import utility_of
from ..evaluation.measuring import measure
from ..evaluation.table_checks import shown
from ..evaluation.tables import COLUMNS

IGNORE_INDEX = -100
WORDS = ("of", "parts")  # what summaries hold beside numbers

Found = dict[str, Any]  # name -> number or None


# ---- from arrays to row tables ---------------------------------------------------------------------------------------


def _table(n_rows: int, **columns: Any) -> pa.Table:
    """A row table with these columns; the other required ones hold zeros, `n_labels` ones."""
    made = {name: pa.array(np.zeros(n_rows), getattr(pa, kind)()) for name, kind in COLUMNS.items()}
    return pa.table({**made, "n_labels": pa.array(np.ones(n_rows, np.int64)), **columns})


def _labelled(predictions: Sequence, references: Sequence) -> list[tuple[np.ndarray, np.ndarray]]:
    """(values, labels) of each row where there is a label; a row that is a number is one position."""
    rows = [
        (np.atleast_1d(np.asarray(p, float)), np.atleast_1d(np.asarray(y, float)))
        for p, y in zip(predictions, references, strict=True)
    ]
    other = [i for i, (p, y) in enumerate(rows) if p.shape != y.shape]
    if other:
        p, y = rows[other[0]]
        raise ValueError(
            f"`predictions` has {p.size} positions in row {other[0]}, `references` {y.size}: expected as many, "
            "position i of the one belonging to position i of the other (shift the logits of a language model first)."
        )
    _whole([y for _, y in rows], "references")
    rows = [(p[y != IGNORE_INDEX], y[y != IGNORE_INDEX]) for p, y in rows]
    empty = [i for i, (_, y) in enumerate(rows) if not len(y)]
    if empty:
        raise ValueError(
            f"`references` are all {IGNORE_INDEX} in {shown(empty)}: drop these rows, or give them labels."
        )
    return rows


def _whole(rows: Sequence[np.ndarray], name: str) -> None:
    for i, row in enumerate(rows):
        wrong = row[row != np.floor(row)]
        if len(wrong):
            raise ValueError(f"`{name}` has {wrong[0]} in row {i}: expected whole numbers, of tokens or classes.")


def _tokens(rows: Sequence, name: str) -> list[np.ndarray]:
    """Values of the labelled tokens of each row; a row that is a number has one."""
    found = [np.atleast_1d(np.asarray(row, float)) for row in rows]
    empty = [i for i, row in enumerate(found) if not len(row)]
    if empty:
        raise ValueError(f"`{name}` has no token in {shown(empty)}: drop these rows, or give them labels.")
    return found


def _members(references: Sequence) -> np.ndarray:
    """(N,) bool"""
    found = np.asarray(references, float)
    wrong = np.flatnonzero((found != 0) & (found != 1))
    if len(wrong):
        raise ValueError(f"`references` is {found[wrong[0]]} in row {wrong[0]}: expected 1 for a member, 0 for others.")
    return found == 1


def _flat(name: str, found: Mapping[str, Any]) -> Found:
    """{"value", "low", ...} -> {name, name_low, ...}, numbers only."""
    rest = {f"{name}_{key}": value for key, value in found.items() if key not in ("value", *WORDS)}
    return {name: found["value"], **rest}


def _measured(name: str, kind: str, tables: Mapping[str, pa.Table], causal_lm: bool = True, **how: Any) -> Found:
    """The one measure `<first split>_<kind>` of these tables, as `name`."""
    wanted = f"{next(iter(tables))}_{kind}"
    return _flat(name, measure(tables, measures=[wanted], causal_lm=causal_lm, **how)[wanted])


# ---- functions: the inputs by name, then options ---------------------------------------------------------------------


def of_losses(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    rows = _labelled(predictions, references)
    sums = {"nll_sum": [float(p.sum()) for p, _ in rows], "n_labels": [len(p) for p, _ in rows]}
    return _measured(name, name, {"forget": _table(len(rows), **sums)}, seed=seed, resamples=resamples)


def of_hits(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    """Rows go through the evaluation's own pass, as logits of two tokens: the label and another."""
    import torch

    from ..evaluation.row_statistics import row_statistics

    rows = _labelled(predictions, references)
    _whole([p for p, _ in rows], "predictions")
    longest = max(len(y) for _, y in rows)
    labels = torch.full((len(rows), 1 + longest), IGNORE_INDEX)
    logits = torch.zeros(len(rows), 1 + longest, 2)
    for i, (p, y) in enumerate(rows):
        labels[i, 1 : 1 + len(y)] = 0
        logits[i, : len(y), 1] = torch.from_numpy(np.where(p == y, -1.0, 1.0))
    found = row_statistics(logits, labels, np.arange(len(rows)))
    table = _table(len(rows), **{key: found[key] for key in ("n_labels", "n_correct", "n_suffix")})
    kind = {"seed": seed, "resamples": resamples, "causal_lm": name != "accuracy"}
    return _measured(name, name, {"forget": table}, **kind)


def of_answers(name: str, predictions: Sequence, perturbed: Sequence, *, seed: int = 0, resamples: int = 1000):
    line = next(m for m in catalogue.MEASURES if m.metric_name == name)
    split = line.splits[0] if line.splits else "retain"
    group = np.repeat(np.arange(len(perturbed)), [len(row) for row in perturbed])
    if not len(group):
        raise ValueError("`perturbed` is empty in every row: expected the losses of at least one wrong answer.")
    wrong = _table(len(group), nll_sum=np.concatenate([np.asarray(row, float) for row in perturbed]), group=group)
    right = _table(len(predictions), nll_sum=np.asarray(predictions, float))
    return _measured(name, line.kind, {split: right, f"{split}_perturbed": wrong}, seed=seed, resamples=resamples)


def forget_quality(name: str, predictions: Sequence, references: Sequence):
    pair = np.asarray(predictions, float), np.asarray(references, float)
    n = len(pair[0])
    finite = all(np.isfinite(side).all() for side in pair)
    p, distance = forget_quality_of(*pair) if finite else (None, None)
    rest = {"distance": distance, "detectable": ks_detectable(n, n), "n": n}
    return _flat(name, {"value": p, **rest})


def model_utility(name: str, predictions: Sequence):
    value = utility_of({f"part {i}": v for i, v in enumerate(predictions)})
    return _flat(name, {"value": value, "n": len(predictions)})


def rouge(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    from ..evaluation.measures.rouge import rouge_recall

    recall = [rouge_recall(p, y)["rougeL_recall"] for p, y in zip(predictions, references, strict=True)]
    generations = {"forget": pa.table({"rougeL_recall": pa.array(recall, pa.float64(), from_pandas=False)})}
    tables = {"forget": _table(len(recall))}
    return _measured(name, name, tables, generations=generations, seed=seed, resamples=resamples)


def _told_apart(name: str, score: np.ndarray, references: Sequence, measures: Sequence[str], **how: Any) -> Found:
    member = _members(references)
    found = membership_inference(score[member], score[~member], measures=measures, **how)
    return {key: v for kind, value in found.items() for key, v in _flat(f"{name}_{kind}", value).items()}


def membership(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    score = np.asarray(predictions, float)
    return _told_apart(name, score, references, MIA_MEASURES, seed=seed, resamples=resamples)


def _of_tokens(name: str, predictions: Sequence, references: Sequence, k: float, seed: int, resamples: int, **columns):
    rows = _tokens(predictions, "predictions")
    sums, lengths = [float(row.sum()) for row in rows], [len(row) for row in rows]
    lists = pa.array([row.tolist() for row in rows], pa.list_(pa.float64()))
    same = {"nll_sum": sums, "entropy_sum": sums, "token_nll": lists, "token_z": lists}
    kind = name.removeprefix("mia_")
    score = scores(_table(len(rows), n_labels=lengths, **same, **columns), k=k)[kind]
    measures = [m for m in MIA_MEASURES if m != "accuracy" or catalogue.SCORES[kind].logistic]
    return _told_apart(name, score, references, measures, seed=seed, resamples=resamples)


def membership_by(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    return _of_tokens(name, predictions, references, 20, seed, resamples)


def membership_by_k(
    name: str, predictions: Sequence, references: Sequence, *, k: float = 20, seed: int = 0, resamples: int = 1000
):
    return _of_tokens(name, predictions, references, k, seed, resamples)


def membership_by_zlib(
    name: str,
    predictions: Sequence,
    zlib_bytes: Sequence,
    references: Sequence,
    *,
    seed: int = 0,
    resamples: int = 1000,
):
    return _of_tokens(name, predictions, references, 20, seed, resamples, zlib_bytes=zlib_bytes)


def against_retrained(
    name: str,
    predictions: Sequence,
    retrained_predictions: Sequence,
    references: Sequence,
    *,
    seed: int = 0,
    resamples: int = 1000,
):
    member = _members(references)
    sides = [np.asarray(values, float)[m] for values in (predictions, retrained_predictions) for m in (member, ~member)]
    return _flat(name, compare_membership(*sides, seed=seed, resamples=resamples)[name])


def lira(
    name: str,
    predictions: Sequence,
    shadows: Sequence,
    unlearned: Sequence,
    references: Sequence,
    *,
    variance: str = "auto",
    seed: int = 0,
    resamples: int = 1000,
):
    other = [
        i for i, (a, b) in enumerate(zip(shadows, unlearned, strict=True)) if {len(a), len(b)} != {len(shadows[0])}
    ]
    if other:
        raise ValueError(
            f"`shadows` and `unlearned` have {len(shadows[other[0]])} and {len(unlearned[other[0]])} values in row "
            f"{other[0]}: expected one for each of the {len(shadows[0])} shadow models, in every row."
        )
    confidence, said = np.asarray(shadows, float).T, np.asarray(unlearned, float).T  # (S, N)
    wrong = np.argwhere(~np.isin(said, (1, 0, IGNORE_INDEX)))
    if len(wrong):
        shadow, row = wrong[0]
        raise ValueError(
            f"`unlearned` is {said[shadow, row]} for shadow {shadow} in row {row}: expected 1 where the shadow model "
            f"was made to unlearn the row, 0 where it never saw it, {IGNORE_INDEX} to leave it out."
        )
    target, forget = np.asarray(predictions, float), _members(references)
    how = {"variance": variance, "seed": seed, "resamples": resamples}
    found = lira_measures(target, confidence, said == 1, said == 0, forget, **how)
    return {key: v for kind, value in found.items() for key, v in _flat(f"{name}_{kind}", value).items()}


def recovery_area(name: str, predictions: Sequence, references: Sequence, steps: Sequence):
    from ..evaluation.attacks.relearn import recovery_area

    curves = [
        [{"step": s, "loss": loss} for s, loss in zip(steps, np.asarray(losses, float), strict=True)]
        for losses in (predictions, references)
    ]
    return {name: recovery_area(*curves)}


def weight_distance(name: str, predictions: Sequence, references: Sequence):
    import torch

    from ..evaluation import weight_distance

    pair = []
    for weights in (predictions, references):
        module = torch.nn.Module()
        values = torch.tensor(np.asarray(weights, float))
        module.register_parameter("weights", torch.nn.Parameter(values, requires_grad=False))
        pair.append(module)
    whole = weight_distance(*pair)["whole"]
    return {name: summary(whole, None, len(predictions))["value"], f"{name}_n": len(predictions)}
