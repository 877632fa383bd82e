"""What the folder of a model says of the run that wrote it, and whether that is of the rows that are measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ..utils.checks import raise_problems
from .prepare import Prepared

logger = logging.getLogger(__name__)

SAID_OF_A_RUN = ("cost", "stop_reason", "guarantee", "history")
EXACT = "exact"  # the guarantee that says of rows what no measure could


def saved_run(folder: Path) -> dict:
    """Cost, stop reason and log of the run that wrote a model folder, from its records; empty where there are none."""
    from ..utils.files import read_json, short

    found = {}
    for name in ("readiness.json", "unlearning.json"):
        if (record := read_json(folder / name)) is not None:
            if not isinstance(record, dict):
                raise ValueError(f"{folder / name} should hold a JSON object and holds {short(repr(record))}.")
            found |= {key: record.get(key) for key in ("cost", "stop_reason", "guarantee")}
    if (state := read_json(folder / "trainer_state.json")) is not None:
        if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
            raise ValueError(f"{folder / 'trainer_state.json'} should hold a `log_history`, as the Trainer writes it.")
        found["history"] = state["log_history"]
    return found


def said_of_runs(models: Mapping[str, str], prepared: Prepared) -> dict[str, dict]:
    """
    Cost, stop reason, guarantee and history: each by role. That rows were deleted exactly is left out, with a warning,
    where it is not known to be said of the forget rows.

    Args:
        models: role -> folder or hub id.
        prepared: the rows that are measured.
    """
    runs = {role: saved_run(Path(folder)) for role, folder in models.items()}
    for role, run in runs.items():
        if run.get("guarantee") == EXACT and not _is_of_these_rows(models[role], prepared):
            del run["guarantee"]
            logger.warning(
                "%s says that rows were deleted exactly, and it is not known here that these are the forget rows: that "
                "is left out of the report. If the owner's _revocable_salt.json is not in the folder, put it there.",
                models[role]
            )  # fmt: skip
    return {key: {r: run[key] for r, run in runs.items() if run.get(key)} for key in SAID_OF_A_RUN}


def _is_of_these_rows(folder: str, prepared: Prepared) -> bool:
    from ..trainers import known_rows

    rows = prepared.splits.get("forget")
    return rows is None or known_rows.were_asked_for(known_rows.of_model([folder]), rows, prepared.processing_class)


def check_known_rows(prepared: Prepared, role: str, where: str) -> None:
    """
    Raises:
        ArgumentError: if the rows are others than those that the model's folder says it was trained on or asked to
            forget.
    """
    from ..trainers import known_rows

    if Path(where).is_dir():
        is_of = {"retrained": role.startswith("retrained"), "unlearned": role.endswith("unlearned")}
        is_of["processing_class"] = prepared.processing_class
        raise_problems(known_rows.measured_problems(known_rows.of_model([where]), prepared.splits, **is_of))
