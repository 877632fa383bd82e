"""A classifier's results class by class, as data for the report: whose rows are still answered right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tables import columns_of, described

if TYPE_CHECKING:
    import pyarrow


def by_class(tables: Mapping[str, pyarrow.Table]) -> dict[str, list[dict[str, Any]]]:
    """
    Split -> a dict for each class that has rows there, in the order of the classes: `label` (its number), `name` (in
    the model's config, else the number), `n` (rows), `accuracy` (share of them answered right), `loss` (their mean,
    nats). Splits whose tables have no column `label` (language models, older tables) are left out.
    """
    found = {}
    for split, table in tables.items():
        columns = columns_of(table, split)
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
