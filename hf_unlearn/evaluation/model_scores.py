"""What was measured of one model: measures, costs, and the tables that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .intervals import finite

if TYPE_CHECKING:
    import pyarrow

COST_KEYS = ("steps", "row_passes", "seconds")


@dataclass(repr=False)
class ModelScores:
    """
    What was measured of one model of one task.

    Args:
        task: name of the task.
        model: its role.
        seed: training seed.
        measures: name -> `{"value", "low", "high", "n"}`.
        cost: `{"steps", "row_passes", "seconds"}` of the run that made it.
        stop_reason: why that run ended.
        guarantee: what that run says of the deletion: "exact", "approximate", "not_forgotten".
        details: relearning curves, weight distances by layer, and a classifier's results by class (`classes`, of
            [`~hf_unlearn.evaluation.measures.by_class.by_class`]).
        tables, generations, history: kept beside the score card's JSON.
    """

    task: str
    model: str
    seed: int
    measures: dict[str, dict[str, float | int | None]]
    cost: dict[str, float | int | None] = field(default_factory=lambda: dict.fromkeys(COST_KEYS))
    stop_reason: str | None = None
    guarantee: str | None = None
    details: dict[str, Any] = field(default_factory=dict, compare=False)
    tables: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
    generations: dict[str, pyarrow.Table] = field(default_factory=dict, repr=False, compare=False)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False, compare=False)

    def __repr__(self) -> str:
        name = f"task={self.task!r}, model={self.model!r}, seed={self.seed}"
        tables = ", ".join(self.tables) or "none"
        return f"{type(self).__name__}({name}: {len(self.measures)} measures, tables of {tables})"

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.model, self.seed

    def to_dict(self) -> dict[str, Any]:
        return json_safe(
            {
                "task": self.task,
                "model": self.model,
                "seed": self.seed,
                "measures": self.measures,
                "cost": {key: self.cost.get(key) for key in COST_KEYS},
                "stop_reason": self.stop_reason,
                "guarantee": self.guarantee,
                "details": self.details,
            }
        )


def json_safe(value: Any) -> Any:
    """Plain Python of what JSON knows: numpy scalars unpacked, numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [json_safe(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return finite(float(value))
    return value if value is None else str(value)
