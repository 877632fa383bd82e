"""Which measures can be trusted? Models that saw the forget rows against models that never did, told apart by each.

    python recipes/tools/faithfulness.py [--tasks people digits] [--models 8] [--output_dir outputs/faithfulness]
        [--jobs 1]

For each task N models are trained that never saw the forget rows, N that saw them in a few passes only ("lightly") and
N that saw them as often as the rest ("by heart"), all with different seeds. For each measure: the AUC of telling those
who saw from those who did not, by what the measure claims, and how far two models differ that both never saw (the noise
floor). Writes OUTPUT_DIR/faithfulness.json and prints the table. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from hf_unlearn.cli import arguments, parsing, prepare, running
from hf_unlearn.evaluation import catalogue
from hf_unlearn.utils.checks import raise_problems
from hf_unlearn.utils.flags import with_underscores
from recipes.tools import jobs as jobs_

RECIPES = Path(__file__).resolve().parents[1]  # recipes/


@dataclass(frozen=True)
class Planted:
    """A recipe, and how often a model of the pool "lightly" sees a forget row: a divisor of the recipe's epochs."""

    recipe: str
    passes: int


TASKS = {  # people: by `forget_exact_match` of one model, well between 0 and 1; digits: a tenth of the epochs
    "people": Planted("text/people_llama.yaml", 7),
    "digits": Planted("vision/digits_vit_random.yaml", 3),
}
SEEDS = {"never": 1000, "lightly": 2000, "by heart": 3000}  # pool -> seed of its first model
SAW = ("lightly", "by heart")
HARDER = "lightly"
REFERENCE_MODEL = "reference"  # one more that never saw, which others are compared with; in no pool
WEAK = 0.9  # a measure with a lower AUC is weak
ROLE = "unlearned"  # what a model is called in its score card: such are attacked in every way
DEFAULTS = arguments.EvaluateArguments()  # of evaluate.py: what it measures is what is tried here
ATTACKS = DEFAULTS.attack_options()
SMOKE = ["--limit", "120", "--ready.max_steps", "2"]
DIGITS = 5  # significant ones kept of a value


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def without_split(measure: str) -> str:
    """`forget_mia_loss_auc` -> `mia_loss_auc`: a measure's name without the split that all of these have."""
    return measure.removeprefix("forget_")


def separation(
    saw: Sequence[float | None],
    never: Sequence[float | None],
    side: str,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, float | None]:
    """
    AUC of telling models that saw from those that did not (the share of pairs on the claimed side, ties count half),
    with the 2.5 % and 97.5 % percentiles over bootstrap resamples of the models, each side from itself.

    Args:
        saw, never: a measure's value under each model.
        side: "lower" or "higher": where those who saw are claimed to be.

    Returns:
        `{"value", "low", "high"}`, None where a model has no value.
    """
    if any(value is None for value in (*saw, *never)):
        return {"value": None, "low": None, "high": None}
    a, b = np.asarray(saw, float)[:, None], np.asarray(never, float)[None, :]
    wins = ((a < b) if side == "lower" else (a > b)) + (a == b) / 2  # (S, N)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(n, size=(resamples, n)) for n in wins.shape)
    draws = wins[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": float(wins.mean()), "low": rounded(low), "high": rounded(high)}


def noise_floor(never: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and largest |difference| over all pairs of models that differ in their seed only."""
    if len(never) < 2 or any(value is None for value in never):
        return {"mean": None, "max": None}
    apart = [abs(a - b) for a, b in combinations(never, 2)]
    return {"mean": rounded(np.mean(apart)), "max": rounded(max(apart))}


def study(values: Mapping[str, Sequence[Mapping[str, float | None]]]) -> dict[str, dict]:
    """
    Args:
        values: pool -> for each of its models the values of its measures.

    Returns:
        measure -> `claim`, `auc` (pool -> [`separation`] from "never"; None where nothing is claimed), `weak` (by the
        harder pool; None where there is no AUC), `noise_floor`, and the `values` themselves.
    """
    found = {}
    for name in dict.fromkeys(name for models in values.values() for model in models for name in model):
        of = {pool: [rounded(model.get(name)) for model in models] for pool, models in values.items()}
        side = catalogue.claim(name)
        auc = {pool: separation(of[pool], of["never"], side) for pool in SAW} if side else None
        harder = auc[HARDER]["value"] if auc else None
        found[name] = {
            "claim": side,
            "auc": auc,
            "weak": None if harder is None else harder < WEAK,
            "noise_floor": noise_floor(of["never"]),
            "values": of,
        }
    return found


def weak_measures(tasks: Mapping[str, Mapping]) -> dict[str, list[str]]:
    """Kind of model -> measures (by [`without_split`]) that are weak in a task of this kind."""
    return {
        kind: sorted(
            {
                without_split(name)
                for task in tasks.values()
                for name, found in task["measures"].items()
                if task["kind"] == kind and found["weak"]
            }
        )
        for kind in sorted({task["kind"] for task in tasks.values()})
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


# ---- models ---------------------------------------------------------------------------------------------------------


def flags_of(task: str, smoke: bool) -> list[str]:
    return ["--config", str(RECIPES / TASKS[task].recipe), *(SMOKE if smoke else [])]


@lru_cache
def prepared_of(task: str, smoke: bool):
    """`(DataArguments, Prepared, splits to measure)` of a task."""
    from hf_unlearn.cli import evaluate

    _, data, model, _ = parsing.parse("ready", flags_of(task, smoke))
    prepared = prepare.prepare(data, model)
    return data, prepared, evaluate.splits_of(data, prepared)


def build(task: str, pool: str, seed: int, folder: Path, smoke: bool) -> float:
    """Trains a model and keeps in `folder` what was seen of it, the weights of the reference only; returns seconds."""
    from datasets import concatenate_datasets

    from hf_unlearn import evaluate
    from hf_unlearn.cli import ready
    from hf_unlearn.evaluation import weight_distance
    from hf_unlearn.trainers.loading import load_model

    start = time.perf_counter()
    data, prepared, splits = prepared_of(task, smoke)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    words = [*flags_of(task, smoke), "--output_dir", str(part), "--seed", str(seed), *jobs_.QUIET_FLAGS]
    own, data, model_args, args = parsing.parse("ready", words)
    own.role = "original" if pool in SAW else "retrained"
    if pool == HARDER:  # the others as often as ever, the forget rows a few times
        copies = int(args.num_train_epochs) // TASKS[task].passes
        args.num_train_epochs = TASKS[task].passes
        retain = concatenate_datasets([prepared.splits["retain"]] * copies)
        prepared = replace(prepared, splits={**prepared.splits, "retain": retain})
    with contextlib.redirect_stdout(None):  # the trainer's summary; a line a model is enough
        model = ready.train(own, data, model_args, args, prepared).model
    card = evaluate(
        model,
        splits,
        attacks=("generate", "quantise", "relearn"),
        processing_class=prepared.processing_class,
        batch_size=DEFAULTS.per_device_eval_batch_size,
        task=task,
        role=ROLE,
        seed=seed,
        attack_options={**ATTACKS, "relearn": {**ATTACKS["relearn"], **({"steps": 2} if smoke else {})}},
        resamples=1,  # the tables are kept, measures come from them
    )
    if pool == REFERENCE_MODEL:
        (part / own.role).rename(part / "model")
    else:
        reference = load_model(str(folder.parent / REFERENCE_MODEL / "model")).to(model.device)
        card[ROLE].details["weights"] = {"to_retrained": weight_distance(model, reference)}
        shutil.rmtree(part / own.role)
    card.save(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)  # whole, or not there
    return time.perf_counter() - start


def values_of(run, reference) -> dict[str, float | None]:
    """All measures of a model, by the evaluation's own arithmetic, with the reference as the retrained model."""
    from hf_unlearn.evaluation import compare, measure, recovery_area

    found = measure(run.tables, generations=run.generations, resamples=1)
    found |= compare(run.tables, reference.tables, resamples=1)
    values = {name: measured["value"] for name, measured in found.items()}
    for kind, curve in run.details.get("recovery", {}).items():
        values[f"recovery_{kind}_area"] = recovery_area(curve, reference.details["recovery"][kind])
    if "weights" in run.details:
        values["weights_to_retrained"] = run.details["weights"]["to_retrained"]["whole"]
    return values


def folders_of(task: str, models: int, root: Path) -> dict[tuple[str, int], Path]:
    """(pool, seed) -> folder, in the order of training: all pools grow together."""
    return {
        (pool, first + i): root / task / f"{pool.replace(' ', '_')}-{i}"
        for i in range(models)
        for pool, first in SEEDS.items()
    }


def same_settings(task: str, root: Path, smoke: bool) -> None:
    """
    Raises:
        ValueError: if the models in `root` were trained in another way.
    """
    now = {
        "recipe": (RECIPES / TASKS[task].recipe).read_text(encoding="utf-8"),
        "passes": TASKS[task].passes,
        "smoke": smoke,
        "relearning": ATTACKS["relearn"],
        "generated": ATTACKS["generate"]["rows"],
    }
    kept = root / task / "settings.json"
    if kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))
        if other := [key for key in now if before.get(key) != now[key]]:
            raise ValueError(
                f"`--output_dir` {str(root)!r} holds models of {task} made with another {', '.join(other)}. Give "
                "another folder, or remove this one."
            )
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(now, indent=2), encoding="utf-8")


def train_all(tasks: Sequence[str], models: int, root: Path, jobs: int, smoke: bool) -> None:
    """Trains what is not there yet."""
    todo: dict[bool, list] = {True: [], False: []}  # references first
    for task in tasks:
        same_settings(task, root, smoke)
        folders = {(REFERENCE_MODEL, 0): root / task / REFERENCE_MODEL, **folders_of(task, models, root)}
        for (pool, seed), folder in folders.items():
            if not (folder / "scorecard.json").is_file():
                todo[pool == REFERENCE_MODEL].append((task, pool, seed, folder, smoke))
    count, start = sum(map(len, todo.values())), time.perf_counter()
    done = 0
    for first in (True, False):
        for (task, pool, seed, *_), seconds in jobs_.each(build, todo[first], jobs):
            done += 1
            left = (time.perf_counter() - start) / done * (count - done) / 60
            print(f"[{done}/{count}] {task}, {pool}, seed {seed}: {seconds:.0f} s; {left:.0f} min left", flush=True)


def measured(task: str, models: int, root: Path, smoke: bool) -> dict:
    """What is written of a task."""
    from hf_unlearn.evaluation import Scorecard

    reference = Scorecard.load(root / task / REFERENCE_MODEL)[ROLE]
    values: dict[str, list] = {pool: [] for pool in SEEDS}
    for (pool, _), folder in folders_of(task, models, root).items():
        values[pool].append(values_of(Scorecard.load(folder)[ROLE], reference))
    _, data, _, args = parsing.parse("ready", flags_of(task, smoke))
    return {
        "recipe": TASKS[task].recipe,
        "kind": "causal_lm" if data.task == "causal_lm" else "classifier",
        "models": models,
        "passes": {"never": 0, HARDER: TASKS[task].passes, "by heart": int(args.num_train_epochs)},
        "rows": {split: table.num_rows for split, table in reference.tables.items()},
        "measures": study(values),
    }


# ---- what is shown --------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    if value is None:
        return "–"
    if 0 < abs(value) < 0.0005:
        return f"{value:.0e}".replace("e-0", "e-")
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def table(measures: Mapping[str, Mapping]) -> str:
    """Markdown: what claims something of the forget rows, the weakest on top, then the noise floor of the rest."""
    head = ("measure", "AUC, lightly", "AUC, by heart", "weak?", "noise floor, mean", "max")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]

    def rank(name: str) -> tuple[int, float]:
        auc = measures[name]["auc"]
        value = auc and auc[HARDER]["value"]
        return (2, 0.0) if auc is None else (1, 0.0) if value is None else (0, value)

    for name in sorted(measures, key=rank):
        m = measures[name]
        cells = [with_interval(m["auc"][pool]) if m["auc"] else "–" for pool in SAW]
        floor = [number(m["noise_floor"][key]) for key in ("mean", "max")]
        lines.append("| " + " | ".join([f"`{name}`", *cells, "weak" if m["weak"] else "", *floor]) + " |")
    return "\n".join(lines)


def with_interval(found: Mapping) -> str:
    if found["value"] is None:
        return "–"
    return f"{number(found['value'])} ({number(found['low'])}–{number(found['high'])})"


def check(tasks: Sequence[str], models: int, jobs: int) -> None:
    """
    Raises:
        ArgumentError: with all that is wrong with the flags.
    """
    problems = []
    if unknown := [task for task in tasks if task not in TASKS]:
        problems.append(f"`--tasks` is {', '.join(unknown)}; expected some of {', '.join(TASKS)}.")
    if models < 2:
        problems.append(f"`--models` is {models}; a pool needs at least 2, and 8 to say something.")
    if jobs < 1:
        problems.append(f"`--jobs` is {jobs}; expected at least 1.")
    raise_problems(problems)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK", help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--models", type=int, default=8, help="models in each of the three pools of a task")
    parser.add_argument("--output_dir", default="outputs/faithfulness", help="for row tables and faithfulness.json")
    parser.add_argument("--jobs", type=int, default=1, help="models trained at a time, each in a process of its own")
    parser.add_argument("--smoke", action="store_true", help="two steps a model, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    tasks, root = list(dict.fromkeys(options.tasks)), Path(options.output_dir)
    check(tasks, options.models, options.jobs)
    jobs_.quiet()
    train_all(tasks, options.models, root, options.jobs, options.smoke)
    from hf_unlearn.utils.versions import library_versions

    found = {task: measured(task, options.models, root, options.smoke) for task in tasks}
    result = {
        "schema": 1,
        "command": running.command_line(argv, "python recipes/tools/faithfulness.py"),
        "versions": library_versions(),
        "threshold": WEAK,
        "weak": weak_measures(found),
        "tasks": found,
    }
    write(result, root / "faithfulness.json")
    for task, one in found.items():
        print(f"\n== {task}: {one['models']} models a pool; a forget row was seen {one['passes']} times\n")
        print(table(one["measures"]))
    for kind, weak in result["weak"].items():
        print(f"\nWeak for a {kind} (AUC below {WEAK}, {HARDER}): {', '.join(weak) or 'none'}.")
    print(f"\n{options.models} + {options.models} models are few: 1 (1–1) says only that these were apart.")
    print(f"{root / 'faithfulness.json'} holds all of it.")


def write(result: dict, path: Path) -> None:
    """JSON with a line for each measure."""
    one = partial(json.dumps, ensure_ascii=False, allow_nan=False)
    slots = {f"@{task}@{name}@": one(m) for task, t in result["tasks"].items() for name, m in t["measures"].items()}
    tasks = {
        task: {**t, "measures": {name: f"@{task}@{name}@" for name in t["measures"]}}
        for task, t in result["tasks"].items()
    }
    text = json.dumps({**result, "tasks": tasks}, indent=1, ensure_ascii=False, allow_nan=False)
    for slot, line in slots.items():
        text = text.replace(f'"{slot}"', line)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    running.run(main)
