"""The models that adapters are trained on: a study without a hub makes its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from hf_unlearn.cli import parsing
from recipes.study.tasks import RECIPES, StudyTask
from recipes.tools import jobs as jobs_

SEED = 1000  # of the other people; none of them is among the task's
FLAGS = ("--ready.num_train_epochs", "10", "--ready.lr_scheduler_type", "cosine")
RECORD = "base.json"


def digest(folder: Path) -> str | None:
    """SHA-256 of a model's weights; None where there is none."""
    path = folder / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def ensure_base(task: StudyTask, folder: Path, smoke: bool = False) -> None:
    """
    Trains the model of `task.base` into its folder, unless it is there, also by another process meanwhile.

    Raises:
        ValueError: if another one is there.
    """
    from hf_unlearn.cli import ready
    from hf_unlearn.data.rows.people import people

    words = ["--config", str(RECIPES / task.recipe), "--role", "original", *FLAGS, *jobs_.QUIET_FLAGS]
    words += ["--ready.max_steps", "4"] if smoke else []
    recipe = (RECIPES / task.recipe).read_text(encoding="utf-8")
    asked = {"recipe": recipe, "people": task.base, "seed": SEED, "flags": words[2:]}
    if is_there(folder, asked):
        return
    print(f"Training the model that adapters are put on, on {task.base} other people, first.", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base.", dir=folder.parent) as part:
        rows = Path(part, "people.jsonl")
        people(task.base, SEED).to_json(rows)
        words += ["--dataset_name", str(rows), "--output_dir", part]
        parsed = parsing.parse("ready", words)
        with contextlib.redirect_stdout(None):  # the trainer's summary
            ready.train(*parsed)
        made = Path(part, "original")
        (made / RECORD).write_text(json.dumps(asked), encoding="utf-8")
        if not is_there(folder, asked):
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)  # whole, or not there


def is_there(folder: Path, asked: dict) -> bool:
    """
    Raises:
        ValueError: if another one is there.
    """
    record = folder / RECORD
    if not record.is_file():
        return False
    if json.loads(record.read_text(encoding="utf-8")) != asked:
        raise ValueError(f"{folder} holds another model. Give another --output_dir, or remove {folder.parent}.")
    return True
