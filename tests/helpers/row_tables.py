"""A made-up row table."""

from __future__ import annotations

import pyarrow as pa

from hf_unlearn.evaluation.tables import with_description


def table(n=3, **more) -> pa.Table:
    columns = {"row": range(n), "nll_sum": [0.5 + i for i in range(n)], "n_labels": [2] * n, "n_correct": [1] * n}
    columns |= {"entropy_sum": [1.0] * n, "token_nll": pa.array([[0.25, 0.5]] * n, pa.list_(pa.float32())), **more}
    return with_description(pa.table({k: v if isinstance(v, pa.Array) else list(v) for k, v in columns.items()}),
                            {"schema": 2, "kind": "causal_lm", "model": "abc"})  # fmt: skip
