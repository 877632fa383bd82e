"""A classifier's results class by class, as data for the report: whose rows are still answered right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tables import columns_of, described, has_several_labels, label_pairs

if TYPE_CHECKING:
    import pyarrow


def by_class(tables: Mapping[str, pyarrow.Table]) -> dict[str, list[dict[str, Any]]]:
    """
    Split -> a dict for each class that has rows there, in the order of the classes: `label` (its number), `name` (in
    the model's config, else the number), `n` (rows), `accuracy` (share of them answered right), `loss` (their mean,
    nats per label). Of rows with several labels: `n` rows have the label, `accuracy` is the share of these in which it
    is predicted, and `f1` that label's F1. Splits whose tables have neither column (language models, older tables) are
    left out.
    """
    found = {}
    for split, table in tables.items():
        columns = columns_of(table, split)
        if has_several_labels(table):
            found[split] = _by_label(table, columns)
            continue
        if "label" not in columns:
            continue
        names = described(table).get("labels") or []
        labels, place = np.unique(columns["label"], return_inverse=True)
        counts = np.bincount(place)
        right, loss = (np.bincount(place, columns[name]) / counts for name in ("n_correct", "nll_sum"))
        found[split] = [
            {
                "label": int(label),
                "name": names[label] if label < len(names) else str(label),
                "n": int(counts[i]),
                "accuracy": float(right[i]),
                "loss": float(loss[i]),
            }
            for i, label in enumerate(labels)
        ]
    return found


def _by_label(table: pyarrow.Table, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    names = described(table).get("labels") or []
    (rows, labels), (own, said) = (label_pairs(table, name) for name in ("labels", "predicted"))
    width = max([len(names), *(1 + labels).tolist(), *(1 + said).tolist()])
    both = np.isin(rows * width + labels, own * width + said)
    n, predicted, hits = (np.bincount(some, minlength=width) for some in (labels, said, labels[both]))
    loss = np.bincount(labels, (columns["nll_sum"] / columns["n_labels"])[rows], minlength=width)
    return [
        {
            "label": int(label),
            "name": names[label] if label < len(names) else str(label),
            "n": int(n[label]),
            "accuracy": float(hits[label] / n[label]),
            "f1": float(2 * hits[label] / (n[label] + predicted[label])),
            "loss": float(loss[label] / n[label]),
        }
        for label in np.flatnonzero(n)
    ]
