"""What was measured of a model, written into the card of its folder, whoever made that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.judge import is_trial
from ..evaluation.roles import BEFORE
from . import card_file
from .card_section import sections
from .model_index import named_rows, results_of

UNNAMED_TASK = "task"  # the default of `evaluate`, which names nothing


def write(
    card: Mapping[str, Any],
    folder: str | Path,
    role: str | None = None,
    *,
    task: str | None = None,
    seed: int | None = None,
    dataset: str | None = None,
    tag: str | None = None,
) -> Path:
    """
    Arguments and errors as of [`hf_unlearn.Scorecard.to_model_card`].

    Args:
        card: score card as a dict.
        tag: the hub's name of the model's task, where the card that is there names none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}: expected that of the model which was measured.")
    run = run_of(card["runs"], role, task, seed)
    same_task = [one for one in card["runs"] if one["task"] == run["task"]]
    beside = [one for one in same_task if one is run or one["model"] != run["model"]]
    text = card_file.read(folder / card_file.NAME)
    tag = (card_file.parsed(text).data.get("pipeline_tag") if text else None) or tag
    rows = dataset_of(card, run["task"], dataset)
    return card_file.write(
        folder,
        sections({**card, "runs": beside}, None, run["model"]),
        {
            "pipeline_tag": tag,
            "eval_results": results_of(run, tag, rows) if tag and not is_trial(card, run["task"]) else [],
            "datasets": [rows["id"]] if rows["id"] else None,
        },
        title=folder.resolve().name,
    )


def run_of(runs: list[Mapping[str, Any]], role: str | None, task: str | None, seed: int | None) -> Mapping[str, Any]:
    """
    Raises:
        KeyError: if there is no such run, or no role is named and there is none to take.
    """
    there = list(dict.fromkeys(run["model"] for run in runs))
    if role is None:
        role = next((name for name in BEFORE if name in there), there[0] if len(there) == 1 else None)
    for run in runs:
        if run["model"] == role and task in (None, run["task"]) and seed in (None, run["seed"]):
            return run
    asked = ", ".join(f"{k} {v!r}" for k, v in (("role", role), ("task", task), ("seed", seed)) if v is not None)
    raise KeyError(f"there is no run of {asked or 'an unlearned model'}: name one of the roles {', '.join(there)}.")


def dataset_of(card: Mapping[str, Any], task: str, named: str | None) -> dict[str, str | None]:
    """Name of the rows, and their `id` where they are on the hub."""
    made = (card.get("provenance") or {}).get(task) or {}
    known = named or made.get("dataset") or (made.get("request") or {}).get("dataset")
    return named_rows(known or (task if task != UNNAMED_TASK else None))
