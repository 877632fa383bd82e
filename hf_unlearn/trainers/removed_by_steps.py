"""
Rows that were taken out of a replayable model by steps on a loss: `unlearning.json` remembers them for a later replay.

A replay trains from a snapshot of the plan and knows nothing of such steps: it would bring these rows back. So the
record of a request by steps names, under `replay`, the plan that the model goes back to, and the rows that were asked
for since, as the digests that the plan knows them by.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import numpy as np

from ..utils.checks import problems_of
from ..utils.files import read_json
from . import records, replay_plan
from .replay_plan import ReplayPlan

logger = logging.getLogger(__name__)

KEY = "replay"  # in unlearning.json


@dataclass(frozen=True)
class RemovedBySteps:
    """
    Args:
        plan: folder or hub id of the plan.
        folder: folder or hub id of the result that says it; None: it is being made.
        rows: digests (hex) of the rows, keyed as the plan's; None: not known.
        salt: of the plan, itself; None where it was not at hand. Not in the record.
        weights: SHA-256 of the trainable weights that the last request has left; None before its end.
    """

    plan: str
    rows: tuple[str, ...] | None
    folder: str | None = None
    salt: str | None = None
    weights: str | None = None

    def to_dict(self) -> dict:
        return {"plan": self.plan, "removed": None if self.rows is None else list(self.rows)}

    def numbers(self, plan: ReplayPlan) -> np.ndarray:
        """Row numbers (m,) in the plan."""
        known = {digest.tobytes().hex(): number for number, digest in enumerate(plan.ids)}
        return np.array([known[row] for row in self.rows or () if row in known], dtype=np.int64)


def read(source: str | None) -> RemovedBySteps | None:
    """What the record of a folder or hub id says; None where its weights are not those of a request by steps."""
    if not source:
        return None
    try:
        path = records.find_file(source, records.UNLEARNING)
    except records.NoAnswer:
        return None
    record = read_json(path) if path else None
    if not isinstance(record, dict) or not isinstance(found := record.get(KEY), dict):
        return None
    rows = found.get("removed")
    return RemovedBySteps(
        found["plan"], None if rows is None else tuple(rows), source, weights=record.get("weights")
    )


def of_request(source: str | None, before: RemovedBySteps | None, rows, salt_file: str | None) -> RemovedBySteps | None:
    """
    What a request by steps for these rows is to remember; None where the model's training cannot be replayed.

    Args:
        source: folder or hub id of the plan.
        before: what the model's own record says.
    """
    try:
        plan = replay_plan.read(source, salt_file) if source else None
    except ValueError as error:
        logger.warning(
            "The model's training can be replayed, but its plan cannot be read now, so that a later replay from this "
            "request's result will not know which rows it has to leave out: %s", " ".join(problems_of(error))
        )  # fmt: skip
        return RemovedBySteps(_absolute(source), None)
    if plan is None:
        return None
    numbers = plan.numbers_of_same_rows(rows, plan.key)
    own = [plan.ids[number].tobytes().hex() for number in numbers]
    earlier = before.rows if before else ()
    found = None if earlier is None else tuple(dict.fromkeys([*earlier, *own]))
    return RemovedBySteps(_absolute(source), found, salt=plan.key)


def _absolute(source: str) -> str:
    return os.path.abspath(source) if os.path.isdir(source) else source
