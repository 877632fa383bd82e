"""
Every measure of the catalogue that is arithmetic on arrays, as an `evaluate.Metric`; its name is the config.

```python
metric = evaluate.load(hf_unlearn.metrics_path(), "extraction_strength")
metric.compute(predictions=[[5, 7, 9]], references=[[-100, 7, 9]])
```

The numbers are those of `hf_unlearn.evaluation.measure` and its like, which do the work here. Quantisation and
relearning itself need a model, so they are not here; the area of a relearning curve is. Intervals are those that
`measure` gives for the split `forget` (`truth_ratio`: `retain`, `choice_prob`: `real_authors`) with the same seed.

`evaluate` copies this file into its cache and runs the copy: imports are absolute, and one a line where it looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate

from hf_unlearn.metrics.specs import specs

MEASURES = specs()  # name of the config -> what it is


class Unlearning(evaluate.Metric):
    """One of the measures, by its config name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in MEASURES:
            got = "missing" if self.config_name == "default" else f"{self.config_name!r}"
            raise ValueError(f"`config_name` is {got}: expected the name of a measure, one of {', '.join(MEASURES)}.")
        metric = MEASURES[self.config_name]
        return evaluate.MetricInfo(
            description=metric.description,
            citation=metric.citation,
            inputs_description=metric.inputs_description(self.config_name),
            features=metric.features(),
        )

    def _infer_feature_from_batch(self, batch: Mapping[str, Any]) -> datasets.Features:
        """`evaluate` looks at the first row, also where there is none."""
        if isinstance(self.features, list) and not all(len(values) for values in batch.values()):
            return self.features[0]
        return super()._infer_feature_from_batch(batch)

    def _compute(self, **given: Any) -> dict[str, Any]:
        metric = MEASURES[self.config_name]
        try:
            unknown = given.keys() - metric.inputs.keys() - metric.options().keys()
            if unknown:
                raise ValueError(
                    f"unknown arguments {sorted(unknown)} for `{self.config_name}`: expected "
                    f"{', '.join([*metric.inputs, *metric.options()])}."
                )
            if not len(given[next(iter(metric.inputs))]):
                raise ValueError(f"`{self.config_name}` was given no rows: expected at least one.")
            return metric.function(self.config_name, **given)
        except Exception:
            for lock in self.filelocks or []:  # `evaluate` 0.4.6 keeps it, and the next call waits a second for it
                lock.release()
            raise
