"""The models that adapters are trained on: a study without a hub makes its own."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from recipes import common
from recipes import jobs as jobs_
from recipes.study_tasks import HERE, Task

SEED = 1000  # of the other people; none of them is among the task's
EPOCHS = 10


def ensure_base(task: Task, folder: Path) -> None:
    """
    Trains the model of `task.base` into its folder, unless it is there.

    Raises:
        ValueError: if another one is there.
    """
    from recipes import ready
    from recipes.sources import people

    asked = {"recipe": (HERE / task.recipe).read_text(encoding="utf-8"), "people": task.base, "epochs": EPOCHS}
    record = folder / "base.json"
    if record.is_file():
        if json.loads(record.read_text(encoding="utf-8")) != asked:
            raise ValueError(f"{folder} holds another model. Give another --output_dir, or remove {folder.parent}.")
        return
    part = folder.with_name("base.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows = part / "people.jsonl"
    people(task.base, SEED).to_json(rows)
    flags = ["--config", str(HERE / task.recipe), "--dataset_name", str(rows), "--output_dir", str(part)]
    flags += ["--role", "original", "--ready.num_train_epochs", str(EPOCHS), *jobs_.QUIET_FLAGS]
    script, data_args, model_args, args = common.parse("ready", common.ReadyScript, flags, "ReadyConfig")
    with contextlib.redirect_stdout(None):  # the trainer's summary
        ready.train(script, data_args, model_args, args)
    (part / "original" / record.name).write_text(json.dumps(asked), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    (part / "original").rename(folder)  # whole, or not there
    shutil.rmtree(part)
