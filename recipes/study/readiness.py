"""What do simulated requests cost before any request, and what do they save at one? Plain against ready models.

    python -m recipes.study.readiness --task people digits --seeds 0 [--arms ready "--inner_lr 0.02"] [--jobs 2]
    python -m recipes.study.readiness --table [--publish]

Every cell (task, arm, seed) is one JSON file in OUTPUT_DIR; a killed run goes on where it was. `--table` prints what
is there; with `--publish` it also takes the place of the same cells in recipes/study/results/readiness.json. "plain"
is the recipe without readiness, "ready" has the defaults of `readiness="meta"`, and any flags of `hf-unlearn ready` are
an arm.
Each model is asked for the rows that were named in training: by a request with the defaults and its own stop rule,
and, but for the pretrained ones, at the task's learning rates until the rows are forgotten and the others kept
([`recipes.study.trial`]).
Tasks with MiniLM or SmolLM2 need `--data DIR` with banking77/ and tofu/, and with copies of
sentence-transformers/all-MiniLM-L6-v2 as minilm-l6/ and of HuggingFaceTB/SmolLM2-135M-Instruct as smollm2-135m/.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
import time
from pathlib import Path

from hf_unlearn.cli import parsing, running
from hf_unlearn.utils.flags import with_underscores
from recipes.study.cells import prepared_by, seeds_of, with_test_rows
from recipes.study.tasks import NOT_NEW, StudyTask, flags_of
from recipes.study.tasks import TASKS as OF_THE_STUDY
from recipes.tools import jobs as jobs_

RESULTS = Path(__file__).parent / "results" / "readiness.json"
SCHEMA = 1
PLAIN, READY = "plain", "ready"
AUTHORS, ROWS_EACH = 12, 6  # of TOFU, for a model that takes seconds a step
MINILM = OF_THE_STUDY["banking77 MiniLM"]
TASKS = {
    "people": dataclasses.replace(OF_THE_STUDY["people"], rates=(1e-3,)),
    "digits": dataclasses.replace(OF_THE_STUDY["digits"], rates=(3e-4, 1e-3)),
    "digits 10 %": dataclasses.replace(OF_THE_STUDY["digits 10 %"], rates=(3e-4, 1e-3)),
    "MiniLM, two intents": dataclasses.replace(MINILM, rates=()),
    "MiniLM, a random tenth": dataclasses.replace(
        MINILM,
        goal="unseen",
        by=None,
        flags=MINILM.flags.replace(
            "--forget_values age_limit card_linking", "--forget_by random --forget_fraction 0.1"
        ),
        rates=(),
    ),
    "SmolLM2, two authors": StudyTask(
        "text/tofu_llama.yaml",
        "unseen",
        by="author",
        flags=NOT_NEW + "--model_name_or_path {data}/smollm2-135m --dataset_name authors --data_files AUTHORS "
        "--forget_values 2 7 --unseen 0.2 --lora_r 16 --lora_alpha 32 --ready.num_train_epochs 10 "
        "--ready.per_device_train_batch_size 12 --ready.learning_rate 1e-3 --ready.warmup_steps 5",
        rates=(),
    ),
}


def cell_path(root: Path, task: str, arm: str, seed: int) -> Path:
    words = [re.sub(r"[^\w.]+", "_", text).strip("_") for text in (task, arm)]
    return root / words[0] / f"{words[1]}-{seed}.json"


def authors_file(root: Path, data: str) -> Path:
    """A few of TOFU's authors, with their names as a column."""
    lines = Path(data, "tofu", "full.jsonl").read_text(encoding="utf-8").splitlines()
    path = root / "authors.jsonl"
    rows = [{"author": a, **json.loads(lines[20 * a + i])} for a in range(AUTHORS) for i in range(ROWS_EACH)]
    root.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def words_of(name: str, arm: str, seed: int, root: Path, data: str | None, smoke: bool) -> list[str]:
    """Flags of recipes/ready.py."""
    words = flags_of(TASKS[name], seed, data, smoke)
    if "AUTHORS" in words:
        words[words.index("AUTHORS")] = str(authors_file(root, data))
    return [*words, "--ready.readiness", "meta", *(arm.split() if arm.startswith("--") else [])]


def train(name: str, arm: str, seed: int, root: Path, data: str | None, smoke: bool) -> tuple:
    """Trains a cell's model into its folder; returns `(folder, what is known of the training, rows)`."""
    from hf_unlearn.cli import ready
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    task, folder = TASKS[name], cell_path(root, name, arm, seed).with_suffix("")
    words = words_of(name, arm, seed, root, data, smoke)
    words += ["--output_dir", str(folder), "--seed", str(seed), *jobs_.QUIET_FLAGS]
    words += ["--logging_strategy", "steps", "--logging_steps", "1"]
    own, data_args, model_args, args = parsing.parse("ready", words)
    own.role = "original" if arm == PLAIN else "ready"
    prepared = prepared_by(words)[1]
    if task.tested_on:
        prepared = with_test_rows(name, words, smoke, prepared)
    saved, known = folder / own.role, folder / "training.json"
    if not known.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.redirect_stdout(None):
            trainer = ready.train(own, data_args, model_args, args, prepared)
        found = {**trainer.cost, "losses": _losses(trainer.state.log_history)}
        if arm != PLAIN:
            record = trainer.record()
            found |= {key: record[key] for key in ("steps", "probe", "pace") if key in record}
        known.write_text(json.dumps(found), encoding="utf-8")
    rows = trial.rows_of(data_args, prepared, load_model(str(saved)), task.goal)
    return saved, json.loads(known.read_text(encoding="utf-8")), rows


def _losses(log: list[dict]) -> list[float]:
    """The main loss of twenty evenly spaced stretches of the training."""
    losses = [line["loss"] for line in log if "loss" in line]
    cuts = [round(i * len(losses) / 20) for i in range(21)]
    parts = [losses[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    return [round(sum(part) / len(part), 4) for part in parts]


def by_default(model, rows, seed: int):
    """A request with all defaults of `UnlearnConfig`, but for the target of a class; returns the trainer."""
    import copy

    from hf_unlearn import UnlearnConfig, UnlearnTrainer

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        more = {"target": "chance"} if rows.goal == "chance" else {}
        args = UnlearnConfig(folder, readiness_from="none", seed=seed, **more, **jobs_.QUIET)
        parts = (rows.splits[part] for part in ("forget", "retain", "unseen"))
        trainer = UnlearnTrainer(copy.deepcopy(model), args, *parts, data_collator=rows.collator)
        trainer.train()
    return trainer


def measure(name: str, arm: str, seed: int, root: Path, data: str | None, smoke: bool) -> dict:
    """A model before and after its requests."""
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    saved, training, rows = train(name, arm, seed, root, data, smoke)

    def load():
        return load_model(str(saved)).eval()

    def looks(model) -> dict:
        seen = {part: trial.look(model, rows.batches(part)) for part in rows.splits}
        return {part: [round(one["loss"], 4), round(one["accuracy"], 4)] for part, one in seen.items()}

    found = {"rows": rows.counts, "training": training, "before": looks(load())}
    retain = found["before"]["retain"][1]
    trainer = by_default(load(), rows, seed)
    state, after = trainer.request_state, looks(trainer.model)
    found["default"] = {
        "steps": trainer.state.global_step,
        "row_passes": round(trainer.row_passes, 1),
        "stop_reason": trainer.stop_reason,
        "tau": round(state.tau, 4),
        "kept": round(after["retain"][1] / max(retain, 1e-9), 4),
        "after": after,
    }
    found["asked"] = []
    for rate in TASKS[name].rates:
        one = trial.ask(load(), rows, trial.Request(rate), trial.KEPT_MARK * retain, seed)[1]
        steps = {event: one["looks"][one[event]][:2] if one[event] is not None else None for event in EVENTS}
        found["asked"].append({"learning_rate": rate, **steps, "last": one["looks"][-1]})
    return found


EVENTS = ("forgotten", "done")  # each with steps and row passes until then


def build(name: str, arm: str, seed: int, root: str, data: str | None, smoke: bool) -> float:
    """One cell: trains, asks, measures, writes its file; returns the seconds."""
    start = time.perf_counter()
    found = {"schema": SCHEMA, "task": name, "arm": arm, "seed": seed, "smoke": smoke}
    found |= measure(name, arm, seed, Path(root), data, smoke)
    found["seconds"] = round(time.perf_counter() - start, 1)
    target = cell_path(Path(root), name, arm, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(target)  # whole, or not there
    return found["seconds"]


def gather(root: Path) -> list[dict]:
    """All cells of a folder."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("*/*.json")))
    return [cell for cell in found if cell.get("schema") == SCHEMA and not cell["smoke"]]


def key_of(cell: dict) -> tuple:
    return cell["task"], cell["arm"] != PLAIN, cell["arm"] != READY, cell["arm"], cell["seed"]


def table(cells: list[dict]) -> str:
    """A line a cell; points and × are against the plain model of the same seed."""
    plain = {(cell["task"], cell["seed"]): cell for cell in cells if cell["arm"] == PLAIN}
    head = ("task", "arm", "seed", "training, ×", "accuracy before, points", "revocable rows before, points")
    head += ("default request: steps", "its end", "forget loss (τ)", "kept")
    head += ("steps until forgotten", "until also kept")
    lines = [head, ("---",) * len(head)]
    for cell in sorted(cells, key=key_of):
        if base := plain.get((cell["task"], cell["seed"])):
            lines.append(_line(cell, base))
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _line(cell: dict, base: dict) -> tuple:
    part = "test" if "test" in cell["before"] else "retain"
    lost = [100 * (cell["before"][p][1] - base["before"][p][1]) for p in (part, "forget")]
    own, after = cell["default"], cell["default"]["after"]
    fewest = []
    for event in EVENTS:
        done = [(one[event], one["learning_rate"]) for one in cell["asked"] if one[event]]
        never = "never" if cell["asked"] else "–"
        fewest.append(f"{min(done)[0][0]:.0f} at {min(done)[1]:g}" if done else never)
    return (
        cell["task"], cell["arm"], cell["seed"],
        f"{cell['training']['row_passes'] / base['training']['row_passes']:.2f}",
        *(f"{x:+.1f}" for x in lost),
        own["steps"], own["stop_reason"], f"{after['forget'][0]:.2f} ({own['tau']:.2f})", f"{own['kept']:.3f}",
        *fewest,
    )  # fmt: skip


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = ", ".join(f'"{name}"' for name in TASKS).replace("%", "%%")
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help=f"some of {listed}; all")
    parser.add_argument("--seeds", default="0", help="0-4, or 0,2,7")
    parser.add_argument("--arms", nargs="+", default=[PLAIN, READY], metavar="ARM", help="plain, ready, or flags")
    parser.add_argument("--data", help="folder with tofu/, banking77/, minilm-l6/, smollm2-135m/")
    parser.add_argument("--output_dir", default="outputs/readiness", help="for the cells")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in a process of its own")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--publish", action="store_true", help="with --table: into results/readiness.json")
    parser.add_argument("--smoke", action="store_true", help="four steps a model, to see that it runs")
    options = parser.parse_args(with_underscores(protected(argv)))
    tasks = [t for task in options.task for t in (TASKS if task == "all" else [task])]
    arms = [arm.strip() for arm in options.arms]
    if unknown := [t for t in tasks if t not in TASKS] + [a for a in arms if a[:2] != "--" and a not in (PLAIN, READY)]:
        parser.error(f"no task or arm is called {', '.join(unknown)}")
    if not tasks and not options.table:
        parser.error("name a --task, or ask for the --table")
    jobs_.quiet()
    root = Path(options.output_dir).resolve()
    cells = [(t, arm, s) for s in seeds_of(options.seeds) for t in tasks for arm in arms]
    work = [(*cell, str(root), options.data, options.smoke) for cell in cells if not cell_path(root, *cell).is_file()]
    for (task, arm, seed, *_), seconds in jobs_.each(build, work, options.jobs):
        print(f"{task}, {arm}, seed {seed}: {seconds:.0f} s", flush=True)
    if options.table:
        found = {key_of(cell): cell for cell in gather(root)}
        if options.publish:
            old = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"] if RESULTS.is_file() else []
            found = {key_of(cell): cell for cell in old} | found
            lines = ",\n".join(json.dumps(found[key]) for key in sorted(found))
            RESULTS.write_text(f'{{"schema": {SCHEMA}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")
        print(table(list(found.values())))


def protected(argv: list[str]) -> list[str]:
    """The words, with a space before an arm that is made of flags, which is not a flag of this command."""
    return [f" {word}" if word.startswith("--") and " " in word else word for word in argv]


if __name__ == "__main__":
    running.run(main)
