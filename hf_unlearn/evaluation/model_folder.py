"""What the folder of a saved model says of it."""

from __future__ import annotations

import json
from pathlib import Path

from ..utils.architectures import pipeline_tag

PEFT_TASKS = {"CAUSAL_LM": "text-generation"}  # PEFT's name of a task -> the hub's; SEQ_CLS may be any of three


def task_of(folder: str | Path) -> str | None:
    """
    The hub's name of the task that a model is for, by its config; of an adapter by its own; None: not known.

    Raises:
        ValueError: for a config that is no JSON object.
    """
    adapter, config = (_read(Path(folder, name)) for name in ("adapter_config.json", "config.json"))
    kinds = [(adapter.get("auto_mapping") or {}).get("base_model_class"), *(config.get("architectures") or [])]
    return next(filter(None, [PEFT_TASKS.get(adapter.get("task_type")), *map(pipeline_tag, kinds)]), None)


def _read(path: Path) -> dict:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object.")
    return found
