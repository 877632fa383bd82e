"""Which objective? Each one from the same plain model, at a few learning rates, beside `replay` and retrained models.

    python -m recipes.study.compare --task people digits --seeds 0-2 [--objectives npo rmu] [--factors 1 3]
    python -m recipes.study.compare --table [--publish]

Every cell (task, objective, learning rate, seed) is one JSON file in OUTPUT_DIR, beside the models; a killed run goes
on where it was. All requests have today's defaults, with the same stop rule and guard; learning rates are the task's
own one times the factors. `ssd`, which has no learning rate, gets `ssd_alpha` 3 divided by them. `--table` prints, of
each objective, its own best point ([`recipes.study.compare_table.best`]); with `--publish` the cells also take the
place of the same ones in recipes/study/results/compare.json, and .github/study_objectives.png is drawn from that.
"tofu" and "banking77" need `--data DIR`, as recipes/study/requests.py says.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_unlearn.cli import parsing, running
from hf_unlearn.objectives.base import CLASSES, LANGUAGE
from hf_unlearn.objectives.registry import OBJECTIVES
from hf_unlearn.utils.files import read_json
from hf_unlearn.utils.flags import with_underscores
from recipes.study import replays, requests_cells
from recipes.study.cells import cell_path, seeds_of
from recipes.study.replays import AGAIN, PLAIN, REPLAY, RETRAINED
from recipes.tools import jobs as jobs_

SCHEMA = 1
MODELS = (PLAIN, RETRAINED, AGAIN, REPLAY)  # what objectives are held against
SALIENCY = "random_label, saliency"  # SalUn
METHODS = {name: f"--objective {name}" for name in OBJECTIVES}
METHODS[SALIENCY] = "--objective random_label --saliency 0.5"
FACTORS = (1.0, 1 / 3, 3.0)
SSD_ALPHA = 3.0  # no ratio exceeds all rows / forget rows, about 10 here, so that the default 10 would dampen nothing
NOT_FINITE = "not_finite"
KINDS = ("retain", "real")  # of rows that the fine-tunes afterwards have
OTHER_ANSWER = "alternate"  # column


@dataclasses.dataclass(frozen=True)
class Compared:
    """
    Args:
        of: task of recipes/study/tasks.py or, where `asked` says what is asked for, of recipes/study/requests_cells.py.
        rate: learning rate of a request: that of the recipe, or the default.
        kind: of model, as objectives name it.
        asked: of the task of requests.
        batch: rows that are measured at a time.
        attacked: fine-tunes try to bring the rows back.
    """

    of: str
    rate: float
    kind: str
    asked: str = ""
    batch: int = 64
    attacked: bool = True


TASKS = {
    "people": Compared("people", 3e-4, LANGUAGE),
    "digits": Compared("digits", 3e-4, CLASSES),
    "tofu": Compared("TOFU SmolLM2 LoRA", 3e-4, LANGUAGE, "2 authors", batch=16, attacked=False),
    "banking77": Compared("Banking77 MiniLM", 1e-4, CLASSES, "2 intents", attacked=False),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a task's models and cells of a seed are."""

    name: str
    seed: int
    root: Path
    data: str | None = None
    smoke: bool = False

    @property
    def task(self) -> Compared:
        return TASKS[self.name]

    def cell(self, method: str, factor: float | None) -> Path:
        arm = method if factor is None else f"{method} {self.rate(factor):g}"
        return cell_path(self.root, self.name, arm, self.seed)

    def rate(self, factor: float) -> float:
        return float(f"{self.task.rate * factor:.3g}")


@functools.lru_cache(maxsize=len(MODELS))
def model_of(place: Place, role: str) -> tuple[Path, dict]:
    """`(folder, what its training cost)` of one of MODELS, trained where it is not there."""
    task, how = place.task, (place.seed, place.root, place.data, place.smoke)
    if not task.asked:
        return replays.train(task.of, role, *how)[:2]
    own = {PLAIN: requests_cells.PLAIN, RETRAINED: requests_cells.RETRAINED, REPLAY: requests_cells.READY}[role]
    folder = requests_cells.train(task.of, own, *how, None if role == PLAIN else task.asked)
    return folder, read_json(folder / "trained.json")


@functools.lru_cache(maxsize=1)
def rows_of(place: Place):
    """`(rows, processing class)` of the request; test rows are without classes that are to go."""
    from hf_unlearn.data.collate import default_collator
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    task = place.task
    if not task.asked:
        *_, rows, prepared = replays.train(task.of, PLAIN, place.seed, place.root, place.data, place.smoke)
        splits = dict(rows.splits)
        if rows.goal == "chance" and "test" in splits:
            gone = set(splits["forget"]["labels"])
            kept = [i for i, label in enumerate(splits["test"]["labels"]) if label not in gone]
            splits["test"] = splits["test"].select(kept)
        return dataclasses.replace(rows, splits=splits), prepared.processing_class
    sets, tokenizer = requests_cells.rows_of(task.of, task.asked, place.seed, place.root, place.data, place.smoke)
    sets = {name: part for name, part in sets.items() if not requests_cells.is_general(name)}
    of = requests_cells.TASKS[task.of]
    goal = "chance" if requests_cells.whole_classes(of, of.asked[task.asked]) else "unseen"
    model = load_model(str(model_of(place, PLAIN)[0]))
    return trial.RequestRows(sets, default_collator(model, tokenizer), goal, 0), tokenizer


def methods_of(task: Compared, wanted: Sequence[str]) -> list[str]:
    """Objectives for the task's kind of model, of those that are wanted ("all"; other names must be of METHODS)."""
    named = list(METHODS) if list(wanted) == ["all"] else list(wanted)
    return [name for name in named if task.kind in OBJECTIVES[name.split(",")[0]].kinds]


def cells_of(task: Compared, methods: Sequence[str], factors: Sequence[float]) -> list[list[tuple[str, float | None]]]:
    """(method, factor) of a task, in stages: what all are held against, each factor, and what stands beside them."""
    beside = [role for role in (AGAIN, REPLAY) if role == REPLAY or not task.asked]  # requests retrain once
    stages = [[(method, factor) for method in methods] for factor in factors]
    return [[(PLAIN, None), (RETRAINED, None)], *stages, [(role, None) for role in beside]]


def stronger(method: str, rate: float, factor: float) -> list[str]:
    """The flag of a request that is stronger by a factor, which the learning rate has been multiplied by already."""
    kind = OBJECTIVES[method.split(",")[0]]
    return ["--ssd_alpha", f"{SSD_ALPHA / factor:.3g}"] if kind().edits else ["--learning_rate", f"{rate:g}"]


def with_other_answers(place: Place, forget, tokenizer):
    """The forget rows with the column that `alt_po` reads, which the plain model itself has written."""
    from hf_unlearn.trainers.loading import load_model
    from recipes.tools.alternates import alternates

    path = cell_path(place.root, place.name, "alternates", place.seed)
    if not path.is_file():
        model = load_model(str(model_of(place, PLAIN)[0])).eval()
        texts = alternates(model, tokenizer, list(forget), seed=place.seed)
        some = [text for text in texts if text]
        texts = [text or some[i % len(some)] for i, text in enumerate(texts)]  # else another row's
        path.write_text(json.dumps(texts), encoding="utf-8")
    return forget.add_column(OTHER_ANSWER, read_json(path))


def ask(place: Place, method: str, factor: float | None):
    """The trainer of a request that has run, by an objective or, of the model that is made for it, by replay."""
    import hf_unlearn

    rows, processing_class = rows_of(place)
    start, _ = model_of(place, REPLAY if method == REPLAY else PLAIN)
    words = [*jobs_.QUIET_FLAGS, "--seed", str(place.seed)]
    if place.task.asked:
        words += requests_cells.TASKS[place.task.of].request.split()
    splits = dict(rows.splits)
    if method == REPLAY:
        words += ["--method", "replay"]
    else:
        words += [*METHODS[method].split(), *stronger(method, place.rate(factor), factor)]
        words += ["--target", "chance"] if rows.goal == "chance" else []
        words += ["--max_steps", "2"] if place.smoke and "--learning_rate" in words else []
    if method == "alt_po":
        splits["forget"] = with_other_answers(place, splits["forget"], processing_class)
    parts = [splits[part] for part in ("forget", "retain", "unseen")]
    with tempfile.TemporaryDirectory(dir=place.root) as out, contextlib.redirect_stdout(None):
        args = parsing.parse("unlearn", [*words, "--output_dir", out])[3]
        trainer = hf_unlearn.UnlearnTrainer(str(start), args, *parts, processing_class=processing_class)
        trainer.train()
    return trainer


def measured(model, place: Place) -> dict:
    """`splits` (part -> [loss in nats, share of rows right]), `membership` (AUC) and, of some tasks, `recovery`."""
    from recipes.study import trial

    rows, _ = rows_of(place)
    most = requests_cells.MEASURED if place.task.asked else None
    seen = {part: trial.look(model, rows.batches(part, most, place.task.batch)) for part in rows.splits}
    found = {
        "splits": {part: [round(one["loss"], 4), round(one["accuracy"], 4)] for part, one in seen.items()},
        "membership": round(trial.membership({part: seen[part]["rows"] for part in ("forget", "unseen")}), 4),
    }
    if place.task.attacked:
        attack = replays.TASKS[place.task.of].attack
        found["recovery"] = trial.recovery(model, rows, attack, place.seed, KINDS)
    return found


def measure(place: Place, method: str, factor: float | None) -> dict:
    """A model after its request, or one that others are held against."""
    from hf_unlearn.trainers.finite import NonFiniteError
    from hf_unlearn.trainers.loading import load_model

    found = {"goal": rows_of(place)[0].goal}
    if method in MODELS and method != REPLAY:
        folder, training = model_of(place, method)
        cost = {"steps": training["steps"], "row_passes": training["row_passes"]}
        return {**found, **cost, **measured(load_model(str(folder)).eval(), place)}
    model_of(place, REPLAY if method == REPLAY else PLAIN)  # the training is not counted
    start = time.process_time()
    try:
        trainer = ask(place, method, factor)
    except NonFiniteError:
        return {**found, "stop_reason": NOT_FINITE}
    found |= {
        "stop_reason": trainer.stop_reason,
        "steps": trainer.state.global_step,
        "row_passes": round(trainer.row_passes, 1),
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    return found | measured(trainer.model.eval(), place)


def build(place: Place, method: str, factor: float | None) -> float:
    """One cell: trains what is missing, asks, measures, writes its file; returns the seconds."""
    start = time.perf_counter()
    found = {"schema": SCHEMA, "task": place.name, "method": method, "factor": factor, "seed": place.seed}
    found |= {"rate": None if factor is None else place.rate(factor), "smoke": place.smoke}
    found |= measure(place, method, factor)
    target = place.cell(method, factor)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(target)  # whole, or not there
    return time.perf_counter() - start


def todo(options, root: Path) -> Iterator[tuple[Place, str, float | None]]:
    """The cells that are not there when their turn comes: seed by seed, and of a seed stage by stage of all tasks."""
    for seed in seeds_of(options.seeds):
        places = [Place(name, seed, root, options.data, options.smoke) for name in options.task]
        cells = [
            [(place, *one) for one in stage]
            for place in places
            for stage in cells_of(place.task, methods_of(place.task, options.objectives), options.factors)
        ]
        stages = len(options.factors) + 2
        for cell in (cell for k in range(stages) for stage in cells[k::stages] for cell in stage):
            if not cell[0].cell(*cell[1:]).is_file():
                yield cell


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help=f"some of {', '.join(TASKS)}")
    listed = f"all, or some of {', '.join(METHODS)}"
    parser.add_argument("--objectives", nargs="+", default=["all"], metavar="NAME", help=listed)
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS, help="of the task's learning rate")
    parser.add_argument("--seeds", default="0-2", help="0-4, or 0,2,7")
    parser.add_argument("--data", help="folder with tofu/, banking77/, minilm-l6/, smollm2-135m/")
    parser.add_argument("--output_dir", default="outputs/compare", help="for models and cells")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--publish", action="store_true", help="with --table: into results/compare.json, and a picture")
    parser.add_argument("--smoke", action="store_true", help="a few steps a model and request, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    named = [] if options.objectives == ["all"] else options.objectives
    if unknown := [t for t in options.task if t not in TASKS] + [m for m in named if m not in METHODS]:
        parser.error(f"no task or objective is called {', '.join(unknown)}")
    if not options.task and not options.table:
        parser.error("name a --task, or ask for the --table")
    if needing := [name for name in options.task if TASKS[name].asked and not options.data]:
        parser.error(f"name the folder of the rows and models of {', '.join(needing)} by --data")
    if not all(factor > 0 for factor in options.factors):
        parser.error("--factors must be above 0")
    jobs_.quiet()
    root = Path(options.output_dir).resolve()
    for place, method, factor in todo(options, root):
        seconds = build(place, method, factor)
        print(f"{place.cell(method, factor).stem}, {place.name}: {seconds:.0f} s", flush=True)
    if options.table:
        from recipes.study import compare_table

        print(compare_table.show(root, options.publish))


if __name__ == "__main__":
    running.run(main)
