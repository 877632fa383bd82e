"""Measures the models in an output folder on the same rows: scorecard.json, rows.parquet and report.html.

    python recipes/evaluate.py --config recipes/text/people_llama.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where this file would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from recipes import common

MOST_RETAIN_ROWS = 2000  # retain rows measured: evenly spaced, enough for intervals of a percent


def saved_run(folder: Path) -> dict:
    """Cost, stop reason and log of the run that wrote a model folder, from its records; empty where there are none."""
    found = {}
    for name in ("readiness.json", "unlearning.json"):
        if (folder / name).is_file():
            record = json.loads((folder / name).read_text())
            found |= {"cost": record.get("cost"), "stop_reason": record.get("stop_reason")}
    if (folder / "trainer_state.json").is_file():
        found["history"] = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return found


def models_in(output_dir) -> dict[str, Path]:
    """Folders of the models in `output_dir`, by role."""
    folders = {role: Path(output_dir, role) for role in common.ROLES}
    names = ("config.json", "adapter_config.json")
    return {role: folder for role, folder in folders.items() if any((folder / name).is_file() for name in names)}


def check(script: common.EvaluateScript, data, model_args) -> common.Prepared:
    """
    The rows, ready to be measured.

    Raises:
        ArgumentError: with all problems of the rows, and if there is no model.
    """
    found, problems = list(models_in(script.output_dir).values()), []
    if not found:
        roles = ", ".join(common.ROLES)
        problems.append(f"There is no model in {script.output_dir}; expected one of {roles} as a folder.")
    source = str(found[0]) if found else None
    return common.gather(lambda: common.fail(problems), lambda: common.prepare(data, model_args, source))[-1]


def measure(output_dir, data, prepared: common.Prepared, *, task: str, batch_size: int = 64, seed: int = 0):
    """The `Scorecard` of all models in `output_dir`/ROLE."""
    from hf_unlearn import collect, default_collator, evaluate
    from hf_unlearn.models import load_model

    folders = models_in(output_dir)
    splits = dict(prepared.splits)
    step = -(-len(splits["retain"]) // MOST_RETAIN_ROWS)
    splits["retain"] = splits["retain"].select(range(0, len(splits["retain"]), step))
    tables, runs = {}, {}
    for role, folder in folders.items():
        model = load_model(str(folder))
        collator = default_collator(model, prepared.processing_class)
        tables[role] = {
            name: collect(model, rows, collator, batch_size=batch_size, progress=True) for name, rows in splits.items()
        }
        runs[role] = saved_run(folder)
    of = {key: {r: run[key] for r, run in runs.items() if run.get(key)} for key in ("cost", "stop_reason", "history")}
    return evaluate(tables, task=task, seed=seed, **of)


def main(argv: list[str]) -> None:
    script, data, model_args = common.parse("evaluate", common.EvaluateScript, argv, None, __doc__, check)
    prepared = check(script, data, model_args)
    card = measure(
        script.output_dir,
        data,
        prepared,
        task=script.title or Path(script.output_dir).name,
        batch_size=script.per_device_eval_batch_size,
        seed=script.seed,
    )
    card.save(script.output_dir)
    card.to_html(Path(script.output_dir, "report.html"))
    for line in card.findings():
        print(f"- {line}")
    print(f"scorecard.json and report.html are in {script.output_dir}")


if __name__ == "__main__":
    common.run(main)
