"""From tables of per-row statistics to measures with intervals."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .membership import MIA_MEASURES, MIA_SCORES, membership_inference
from .statistics import chunks, counts, summary
from .tables import columns_of

if TYPE_CHECKING:
    import pyarrow

CLASSIFIER_MEASURES = ("loss", "accuracy")
CAUSAL_LM_MEASURES = ("loss", "token_accuracy", "exact_memorisation", "exact_match", "perplexity")


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
    columns = {split: columns_of(table, split) for split, table in tables.items()}
    if causal_lm is None:
        causal_lm = any((c["n_labels"] != 1).any() for c in columns.values())
    known = measure_names(columns, causal_lm=causal_lm)
    wanted = wanted_of(measures, known)

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
        sums = [rows @ counts(rng.integers(n, size=(size, n)), n).T for size in chunks(n, resamples)]
        draws = values(np.concatenate(sums, axis=1))
    return {kind: summary(value[kind][0], None if draws is None else draws[kind], n) for kind in kinds}


def wanted_of(measures: Iterable[str] | None, known: Sequence[str]) -> set[str]:
    if measures is None:
        return set(known)
    measures = [measures] if isinstance(measures, str) else list(measures)
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise ValueError(f"unknown `measures` {unknown}. For these splits there are: {', '.join(known)}.")
    return set(measures)
