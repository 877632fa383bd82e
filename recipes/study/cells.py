"""Does readiness pay? Trains models by several arms, asks them to forget in several ways, and measures every step.

    python -m recipes.study --task digits people --seeds 0-4 [--arms plain equal ready …] [--jobs 2]
    python -m recipes.study --page

Every cell (task, arm, seed) is one JSON file in OUTPUT_DIR; a killed run goes on where it was. `--page` gathers all
cells that are there into study.html, study.json and, where a task has three seeds, study.png and study_ratios.png, in
OUTPUT_DIR; with `--publish` the JSON and the pictures replace recipes/study/results/study.json and those in .github/.
Tasks whose rows are in files need `--data DIR` with the folders tofu/, banking77/ and cifar10/.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import shlex
import time
from pathlib import Path

from hf_unlearn.cli import parsing, prepare
from hf_unlearn.utils.checks import raise_problems
from hf_unlearn.utils.flags import with_underscores
from recipes.study.base import digest, ensure_base
from recipes.study.tasks import (
    ARMS,
    PRETRAINED,
    TASKS,
    YARDSTICKS,
    Arm,
    StudyTask,
    arms_of,
    flags_of,
    needed_by,
    requests_of,
)
from recipes.tools import jobs as jobs_

RECIPES = Path(__file__).resolve().parents[1]  # recipes/
SCHEMA = 1
RESISTING_RATE = 1e-3  # learning rate of a request with resistance
SMOKE = {"passes": "2"}  # of each request


def settings_of(task: StudyTask, arm: Arm, seed: int, smoke: bool, base: str | None = None) -> dict:
    """What a model depends on: the recipe, the flags, the defaults of readiness, and the weights it started from."""
    from hf_unlearn.options import GAIN_CAP, INNER_LR, INNER_LR_ADAPTER, ReadyOptions

    words = flags_of(task, seed, "DATA", smoke)[2:]
    inner_lr = INNER_LR_ADAPTER if "--lora_r" in words else INNER_LR
    defaults = {**dataclasses.asdict(ReadyOptions()), "gain": GAIN_CAP, "inner_lr": inner_lr}
    return ({"base": base} if task.base else {}) | {
        "recipe": (RECIPES / task.recipe).read_text(encoding="utf-8"),
        "flags": words,
        "arm": dataclasses.asdict(arm),
        "defaults": defaults if arm.role == "ready" else {},
        "smoke": smoke,
    }


def cell_path(root: Path, task: str, arm: str, seed: int) -> Path:
    return root / task.replace(" %", "pc").replace(" ", "_") / f"{arm.replace(' ', '_')}-{seed}.json"


def base_of(root: Path, task: str) -> Path:
    """Folder of the model that the models of a task with `base` start from."""
    return cell_path(root, task, "", 0).parent.resolve() / "base"


def read_cell(root: Path, task: str, arm: str, seed: int) -> dict | None:
    path = cell_path(root, task, arm, seed)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def train(name: str, arm_name: str, seed: int, root: Path, data: str | None, smoke: bool) -> Path:
    """Trains a cell's model into its folder, with `training.json` beside the weights; returns the folder."""
    import contextlib
    import shutil
    from dataclasses import replace

    from datasets import concatenate_datasets

    from hf_unlearn.cli import ready

    task, arm = TASKS[name], ARMS[arm_name]
    folder = cell_path(root, name, arm_name, seed).with_suffix("")
    if same_settings(root, name, arm_name, seed, smoke):
        return folder
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    words = flags_of(task, seed, data, smoke, str(base_of(root, name))) + arm.flags.format(by=task.by).split()
    words += ["--output_dir", str(part), "--seed", str(seed), "--ready.readiness", "meta"]
    words += ["--ready.meta_start", "0.5", *jobs_.QUIET_FLAGS]  # what the published figures are of
    own, data_args, model_args, args = parsing.parse("ready", words)
    own.role = arm.role
    prepared = prepare.prepare(data_args, model_args, model_args.model_name_or_path)
    if arm.like:
        args.max_steps = steps_like(root, name, arm, seed)
    if arm.forget_weight != 1:  # the others as often as ever, these less often
        copies = round(1 / arm.forget_weight)
        retain = concatenate_datasets([prepared.splits["retain"]] * copies)
        prepared = replace(prepared, splits={**prepared.splits, "retain": retain})
        args.num_train_epochs = args.num_train_epochs / copies
    with contextlib.redirect_stdout(None):  # the trainer's summary
        trainer = ready.train(own, data_args, model_args, args, prepared)
    saved = part / arm.role
    size, rate = args.per_device_train_batch_size, args.learning_rate
    settings = settings_of(task, arm, seed, smoke, digest(base_of(root, name)))
    settings = {"batch_size": size, "learning_rate": rate, "settings": settings}
    (saved / "training.json").write_text(json.dumps({**trainer.cost, **settings}), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    saved.rename(folder)  # whole, or not there
    shutil.rmtree(part)
    return folder


def trained(root: Path, name: str, arm: str, seed: int) -> dict:
    """What is known of a cell's training."""
    return json.loads((cell_path(root, name, arm, seed).with_suffix("") / "training.json").read_text(encoding="utf-8"))


def steps_like(root: Path, name: str, arm: Arm, seed: int) -> int:
    """As many gradient passes as the arm's `like`, in plain's steps; of a retrained model of plain: as many steps."""
    like, plain = (trained(root, name, other, seed) for other in (arm.like, "plain"))
    return max(1, round(like["row_passes"] * plain["steps"] / plain["row_passes"]))


def other_steps(root: Path, name: str, arm: str, seed: int, training: dict) -> list[str]:
    """What is wrong where a model with a `like` was trained for other steps than that one, as it is now, asks for."""
    like = ARMS[arm].like
    there = like and all(cell_path(root, name, one, seed).with_suffix("").is_dir() for one in (like, "plain"))
    if not there or training["steps"] == steps_like(root, name, ARMS[arm], seed):
        return []
    return [f"number of steps than {like} asks for"]


def same_settings(root: Path, name: str, arm: str, seed: int, smoke: bool) -> bool:
    """
    Whether there is a cell's model.

    Raises:
        ValueError: if it was trained in another way.
    """
    folder = cell_path(root, name, arm, seed).with_suffix("")
    if not (folder / "training.json").is_file():
        return False
    found = trained(root, name, arm, seed)
    now = settings_of(TASKS[name], ARMS[arm], seed, smoke, digest(base_of(root, name)))
    other = [key for key in now if found["settings"].get(key) != now[key]]
    other += other_steps(root, name, arm, seed, found)
    if other:
        raise ValueError(
            f"{folder} holds a model made with another {', '.join(other)}. Give another --output_dir, or remove it and "
            f"{folder.name}.json."
        )
    return True


def measured_as(name: str, arm_name: str) -> dict:
    """What the figures of a cell depend on, beside its model."""
    from hf_unlearn.options import UnlearnOptions
    from recipes.study import trial

    task, arm = TASKS[name], ARMS[arm_name]
    found = {"tested_on": task.tested_on} if task.tested_on else {}
    if arm.role is None:
        asked = [list(trial.JUDGED_GAPS), list(task.judged_at), list(YARDSTICKS)]
        return found | {"verdicts": asked, "sample": trial.SAMPLE, "options": dataclasses.asdict(UnlearnOptions())}
    found |= {"attack": task.attack, "relearning": trial.RELEARNING}
    if arm.role not in ("original", "ready"):
        return found
    asked = [[request.method, request.learning_rate] for request in requests_of(task, arm_name)]
    rules = {"kept": trial.KEPT_MARK, "tolerance": trial.TOLERANCE, "sample": trial.SAMPLE}
    found |= {"requests": asked, "scenarios": arm.everything and task.thorough, **rules}
    resisting = RESISTING_RATE if arm.everything else None
    return found | {"options": dataclasses.asdict(UnlearnOptions()), "resisting": resisting}


def other_measures(cell: dict, name: str, arm: str) -> list[str]:
    """What a cell of a task and an arm depends on that is otherwise now."""
    if name not in TASKS or arm not in ARMS:
        return ["task or arm"]
    now = measured_as(name, arm)
    return [key for key in now if cell.get("measured", {}).get(key) != now[key]]


def same_measures(root: Path, name: str, arm: str, seed: int) -> bool:
    """
    Whether there is a cell's file.

    Raises:
        ValueError: if it was measured in another way.
    """
    cell = read_cell(root, name, arm, seed)
    if cell is None:
        return False
    other = other_measures(cell, name, arm) + other_steps(root, name, arm, seed, cell.get("training", {}))
    if ARMS[arm].role is None:
        known = cell.get("weights", {})
        other += [f"{one} model" for one, digest in weights(root, name, arm, seed).items() if known.get(one) != digest]
    if other:
        raise ValueError(f"{cell_path(root, name, arm, seed)} was measured with another {', '.join(other)}. Remove it.")
    return True


def weights(root: Path, name: str, arm: str, seed: int) -> dict[str, str]:
    """Arm -> SHA-256 of its weights, of the models that an arm without one needs and that are there."""
    found = {}
    for one in sorted(needed_by(arm)):
        for path in cell_path(root, name, one, seed).with_suffix("").glob("*.safetensors"):
            found[one] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def build(name: str, arm_name: str, seed: int, root: str, data: str | None, smoke: bool) -> float:
    """One cell: trains, asks, measures, writes its file; returns the seconds."""
    start = time.perf_counter()
    path = Path(root)
    found = {"schema": SCHEMA, "task": name, "arm": arm_name, "seed": seed, "measured": measured_as(name, arm_name)}
    measures = judge if ARMS[arm_name].role is None else measure
    found |= measures(name, arm_name, seed, path, data, smoke)
    found |= {"smoke": True} if smoke else {}
    found["seconds"] = round(time.perf_counter() - start, 1)
    target = cell_path(path, name, arm_name, seed)
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(target)  # whole, or not there
    return found["seconds"]


def rows_for(name: str, seed: int, data: str | None, smoke: bool, model, base: str = "BASE"):
    """
    The rows of a task and seed, ready for the model: `(prepared, RequestRows)`.

    Raises:
        ValueError: if the rows to test on have other classes.
    """
    from recipes.study import trial

    task, words = TASKS[name], flags_of(TASKS[name], seed, data, smoke, base)

    data_args, prepared = prepared_by(words)
    prepared = with_test_rows(name, words, smoke, prepared)
    return prepared, trial.rows_of(data_args, prepared, model, task.goal, **(SMOKE if smoke else {}))


def prepared_by(words: list[str], stable_alone: bool = False) -> tuple:
    """The data's arguments of some flags, and the rows. `stable_alone`: a new tokenizer is made from stable ones."""
    _, data_args, model_args, _ = parsing.parse("ready", words)
    return data_args, prepare.prepare(data_args, model_args, model_args.model_name_or_path, stable_alone)


def with_test_rows(name: str, words: list[str], smoke: bool, prepared, stable_alone: bool = False):
    """
    The rows of a task, with those that it is tested on.

    Raises:
        ValueError: if the rows to test on have other classes.
    """
    task = TASKS[name]
    if not task.tested_on or smoke:
        return prepared
    _, others = prepared_by(words + task.tested_on.split(), stable_alone)
    if others.labels != prepared.labels:
        raise ValueError(f"{name}: the rows to test on have the classes {others.labels}, not {prepared.labels}.")
    return dataclasses.replace(prepared, splits={**prepared.splits, "test": others.splits["test"]})


def measure(name: str, arm_name: str, seed: int, root: Path, data: str | None, smoke: bool) -> dict:
    """A model, by itself and under requests."""
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    task, arm = TASKS[name], ARMS[arm_name]
    folder = train(name, arm_name, seed, root, data, smoke)
    model = load_model(str(folder)).eval()
    _, rows = rows_for(name, seed, data, smoke, model, str(base_of(root, name)))
    training = json.loads((folder / "training.json").read_text())
    found = {
        "rows": rows.counts,
        "training": training,
        "before": trial.before(model, rows),
    }
    if arm.role not in ("original", "ready"):
        return found | {"recovery": trial.recovery(model, rows, task.attack, seed)}
    plain = found if arm_name == "plain" else read_cell(root, name, "plain", seed)
    found |= asked(model, rows, task, arm_name, seed, plain, training)
    if arm.role == "ready":
        pays(folder, found, plain)
    return found


def judge(name: str, arm_name: str, seed: int, root: Path, data: str | None, smoke: bool) -> dict:
    """Verdicts on the unlearned plain model."""
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    def load(arm: str):
        return load_model(str(train(name, arm, seed, root, data, smoke))).eval()

    model = load("plain")
    prepared, rows = rows_for(name, seed, data, smoke, model, str(base_of(root, name)))
    yardsticks = {named: [load(arm) for arm in pair] for named, pair in YARDSTICKS.items()}
    found = trial.verdicts(model, rows, prepared, yardsticks, TASKS[name].judged_at, seed)
    return {"rows": rows.counts, "verdicts": found, "weights": weights(root, name, arm_name, seed)}


def pays(folder: Path, found: dict, plain: dict) -> None:
    """`break_even` in the model's readiness.json, where both models were done with the request."""
    from hf_unlearn.readiness import break_even
    from hf_unlearn.trainers import records
    from hf_unlearn.utils.files import read_json, write_json

    if "after" in found and "after" in plain:
        trained, asked = ([cell[k]["row_passes"] for cell in (found, plain)] for k in ("training", "after"))
        record = read_json(folder / records.READINESS)
        write_json(folder / records.READINESS, {**record, "break_even": break_even.break_even(*trained, *asked)})


def asked(model, rows, task: StudyTask, arm_name: str, seed: int, plain: dict, training: dict) -> dict:
    """What becomes of the model under requests."""
    from recipes.study import trial

    kept = trial.KEPT_MARK * plain["before"]["retain"]["accuracy"]
    best, fewest = None, None
    found: dict = {"requests": []}
    arm = ARMS[arm_name]
    for request in requests_of(task, arm_name):
        after, one = trial.ask(model, rows, request, kept, seed)
        found["requests"].append(one)
        passes = trial.passes_to(one)
        if request.method == "nabla_tau" and passes is not None and (fewest is None or passes < fewest):
            best, fewest, unlearned = request, passes, after
    if arm.everything:
        found["resisted"] = trial.resisted(model, rows, RESISTING_RATE, task.attack, seed)
    if best is None:
        return found
    found["after"] = {
        "learning_rate": best.learning_rate,
        "row_passes": fewest,
        "splits": trial.before(unlearned, rows),
        "recovery": trial.recovery(unlearned, rows, task.attack, seed),
    }
    if arm.everything and task.thorough:
        found["scenarios"] = scenarios(model, rows, kept, seed, task, training)
    return found


def scenarios(model, rows, kept: float, seed: int, task: StudyTask, training: dict) -> dict:
    """What happens when the request is not the one that was expected; each at the learning rate that is best for it."""
    from recipes.study import trial

    def best(model, rows):
        tried = [trial.ask(model, rows, trial.Request(rate), kept, seed) for rate in task.rates]
        return min(tried, key=lambda pair: trial.place_of(pair[1]))

    found = {}
    for name, share in (("half stable rows", 0.5), ("stable rows", 1.0)):
        if task.by == "labels" and share < 1:
            continue  # a class is asked for as a whole
        found[name] = best(model, trial.other_rows(rows, share, seed, task.by))[1]
    later = trial.fine_tuned(model, rows, training["learning_rate"] / 10, training["batch_size"], seed)
    found["after a fine-tune"] = best(later, rows)[1]
    if task.by != "labels":
        parts, state, series = trial.thirds(rows, task.by), model, []
        for part in parts:
            state, asked = best(state, part)
            series.append(asked)
        ends = [trial.look(state, part.batches("forget")) for part in parts]
        found["three in a row"] = {
            "requests": series,
            "end": [{k: round(end[k], 4) for k in ("loss", "accuracy")} for end in ends],
            "unseen_loss": round(trial.look(state, rows.batches("unseen"))["loss"], 4),
        }
    return found


def seeds_of(text: str) -> list[int]:
    """ "0-2" or "0,3,5" as numbers."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        some = range(int(low), int(high if dash else low) + 1)
        if not some:
            raise ValueError(f"{part!r} holds no seed")
        found += some
    return sorted(set(found))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = ", ".join(TASKS).replace("%", "%%")
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help=f"some of {listed}; all")
    parser.add_argument("--seeds", default="0-2", help="0-4, or 0,2,7")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help=f"some of {', '.join(ARMS)}; default: all of the task")
    parser.add_argument("--data", help="folder with tofu/, banking77/ and cifar10/")
    parser.add_argument("--output_dir", default="outputs/study", help="for the cells and the page")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in a process of its own")
    parser.add_argument("--page", action="store_true", help="gather what is there into JSON, picture and page")
    parser.add_argument("--publish", action="store_true", help="with --page: JSON and picture into this repository")
    smoke = "four steps a model and two passes a request, to see that it runs"
    parser.add_argument("--smoke", action="store_true", help=smoke)
    options = parser.parse_args(with_underscores(argv))
    own = [name for name in TASKS if name not in PRETRAINED]
    named = [name for task in options.task for name in (own if task == "all" else [task])]
    tasks = list(dict.fromkeys(named))
    seeds = check(options, tasks)
    jobs_.quiet()
    root = Path(options.output_dir)
    if tasks:
        run(tasks, seeds, options, root)
    if options.page:
        from recipes.study import page

        places = (page.RESULTS, page.PICTURE) if options.publish else ()
        page.write(root, " ".join(["python -m recipes.study", shlex.join(argv)]), *places)


def check(options, tasks: list[str]) -> list[int]:
    """
    Raises:
        ArgumentError: with all that is wrong with the flags.
    """
    problems, seeds = [], []
    if unknown := [task for task in tasks if task not in TASKS]:
        problems.append(f"`--task` is {', '.join(unknown)}; expected some of {', '.join(TASKS)}, or all.")
    if unknown := [arm for arm in options.arms or [] if arm not in ARMS]:
        problems.append(f"`--arms` is {', '.join(unknown)}; expected some of {', '.join(ARMS)}.")
    try:
        seeds = seeds_of(options.seeds)
    except ValueError:
        problems.append(f"`--seeds` is {options.seeds!r}; expected a range like 0-4, or a list like 0,2,7.")
    if options.jobs < 1:
        problems.append(f"`--jobs` is {options.jobs}; expected at least 1.")
    known = [arm for arm in options.arms or [] if arm in ARMS]
    for task in (task for task in tasks if known and task in TASKS and not arms_of(task, known)):
        why = "it is judged by no retrained models, has no groups, or trains no adapter"
        problems.append(f"{task} has no arm {', '.join(known)}: {why}.")
    needs = {task: set(re.findall(r"\{data\}/([\w-]+)", TASKS[task].flags)) for task in tasks if task in TASKS}
    needs = {task: found for task, found in needs.items() if found}
    if needs and not (options.data and Path(options.data).is_dir()):
        problems.append(f"`--data` is {options.data!r}; {', '.join(needs)} read files from it.")
    elif missing := sorted(f for f in set().union(*needs.values()) if not Path(options.data, f).is_dir()):
        problems.append(f"`--data` is {options.data!r} and has no folder {', '.join(missing)}.")
    if Path(options.output_dir).exists() and not Path(options.output_dir).is_dir():
        problems.append(f"`--output_dir` is {options.output_dir!r}, which is no folder.")
    if options.publish and not options.page:
        problems.append("`--publish` says where the --page's figures go; ask for that, too.")
    if not tasks and not options.page:
        problems.append("Nothing to do: name a --task, or ask for the --page.")
    raise_problems(problems)
    return seeds


def run(tasks: list[str], seeds: list[int], options, root: Path) -> None:
    """Trains and asks what is not there yet: what other arms are measured against comes first."""
    wanted = [(t, a, s) for s in seeds for t in tasks for a in arms_of(t, options.arms)]
    cells = dict.fromkeys([*((t, n, s) for t, a, s in wanted for n in sorted(needed_by(a))), *wanted])
    stages: list[list] = [[], [], []]
    for cell in cells:  # what needs a cell that needs others comes last
        needs = needed_by(cell[1]) - {"retrained"}
        stages[0 if cell[1] == "plain" or not needs else 1 if needs == {"plain"} else 2].append(cell)
    for cell in cells:
        same_settings(root, *cell, options.smoke)
    todo = [[cell for cell in stage if not same_measures(root, *cell)] for stage in stages]
    count, done, start = sum(map(len, todo)), 0, time.perf_counter()
    for task in tasks:
        if left := [arm for arm in options.arms or [] if arm not in arms_of(task, options.arms)]:
            print(f"{task} has no arm {', '.join(left)}.")
    print(f"{count} of {len(cells)} cells to do; each is told when it is done.", flush=True)
    for task in {cell[0] for stage in todo for cell in stage if TASKS[cell[0]].base}:
        ensure_base(TASKS[task], base_of(root, task), options.smoke)
    for stage in todo:
        for cell in stage:  # once more: a model that it is like may be another now
            same_settings(root, *cell, options.smoke)
        work = [(*cell, str(root), options.data, options.smoke) for cell in stage]
        for (task, arm, seed, *_), seconds in jobs_.each(build, work, options.jobs):
            done += 1
            left = (time.perf_counter() - start) / done * (count - done) / 60
            print(f"[{done}/{count}] {task}, {arm}, seed {seed}: {seconds:.0f} s; {left:.0f} min left", flush=True)
