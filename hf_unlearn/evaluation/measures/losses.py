"""
Loss, perplexity, accuracy and probability of the labels.

A formula over "labels" takes the columns' sums over the rows, (R,) each, one for each resample, so it is a ratio of
sums; one over "rows" takes the columns, (N,) each, and gives a value for each row. The catalogue says which.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def loss(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean negative log-likelihood, nats per label: sum of the rows' losses over the number of their labels."""
    return sums["nll_sum"] / sums["n_labels"]


def perplexity(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """exp(loss): among how many equally likely labels the model could as well have chosen."""
    return np.exp(loss(sums))


def perplexity_ratio(more: np.ndarray, n_labels: np.ndarray) -> np.ndarray:
    """
    One model's perplexity over another's, of the same rows. Args: (R,) by how many nats the rows' summed losses differ,
    and (R,) how many labels they have.
    """
    with np.errstate(over="ignore"):
        return np.exp(more / n_labels)


def accuracy(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Share of all labels that are told right: tokens pooled over the rows, or each of several labels of the rows."""
    return sums["n_correct"] / sums["n_labels"]


def answered_right(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) 1 where the class is the argmax; of rows with several labels, where every one of them is told right."""
    return (columns["n_correct"] == columns["n_labels"]).astype(float)


def f1(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """
    2 hits / (labels predicted + labels that rows have), pooled over rows and labels (micro-averaged F1); a hit is a
    label that is both. NaN where no row has a label and none is predicted.
    """
    with np.errstate(invalid="ignore"):
        return 2 * sums["n_hits"] / (sums["n_predicted"] + sums["n_present"])


def kept(right: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Sums (R,) of the labels predicted right, as a share of those that another model predicts right of the rows."""
    return right / theirs


def prob(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) exp(-mean loss of the row): the geometric mean of its labels' probabilities. Source: Maini et al. 2024."""
    return np.exp(-(columns["nll_sum"] / columns["n_labels"]))
