"""What does exact deletion by replay cost, and does it hold? Trains in the plan's order, asks, and measures.

    python -m recipes.study.replays --task people digits --seeds 0-2 [--arms replay "tail 2"] [--jobs 2]
    python -m recipes.study.replays --table [--publish]

Every cell (task, arm, seed) is one JSON file in OUTPUT_DIR; a killed run goes on where it was. `--table` prints what is
there as the tables of recipes/study/README.md; with `--publish` it also takes the place of the same cells in
recipes/study/results/replays.json. Any order is an arm, too: "often .8 full .5" has revocable rows come .8 times as
often as the plain training does and makes them half of a tail's rows; with "early" behind it the learning rate falls
from a tail's length before the tail on, with "late" over the tail alone.
Tasks whose rows are in files need `--data DIR` with the folders tofu/, banking77/ and cifar10/; those on a pretrained
model (MiniLM, SmolLM2) a copy of sentence-transformers/all-MiniLM-L6-v2 as minilm-l6/ and of
HuggingFaceTB/SmolLM2-135M-Instruct as smollm2-135m/ there.
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
from unittest import mock

import numpy as np

from hf_unlearn.cli import parsing, running
from hf_unlearn.utils.flags import with_underscores
from recipes.study.base import ensure_base
from recipes.study.cells import base_of, cell_path, prepared_by, seeds_of, with_test_rows
from recipes.study.tasks import PRETRAINED, TASKS, flags_of
from recipes.tools import jobs as jobs_

RESULTS = Path(__file__).parent / "results" / "replays.json"
SCHEMA = 1
PLAIN, RETRAINED, AGAIN, REPLAY, BOTH = "plain", "retrained", "retrained again", "replay", "replay + meta"
OFTEN = "often 1 full .25 late"  # as in the plain training
TAILS = (1.5, 2.0, 3.0, 4.0)  # times the revocable share


@dataclasses.dataclass(frozen=True)
class ReplayArm:
    """
    How a model is trained.

    Args:
        role: of recipes/ready.py.
        readiness: of `ReadyConfig`; None: it has none.
        times: length of the tail, in shares of revocable rows; None: the default.
        often: visits of a revocable row, in shares of the plain training's; None: the default.
        full: share of revocable rows in the tail's steps, which sets its length; None: the default.
        early: the learning rate begins to fall a tail's length before the tail; False: at its start; None: by default.
        own_schedule: of learning rates, the task's; else the plan's.
        asked: requests are replayed.
    """

    role: str
    readiness: str | None = None
    times: float | None = None
    often: float | None = None
    full: float | None = None
    early: bool | None = None
    own_schedule: bool = False
    asked: bool = False

    @property
    def is_default(self) -> bool:
        """Whether order, tail and schedule are."""
        return self == dataclasses.replace(ReplayArm(self.role, self.readiness), asked=self.asked)


ARMS = {
    PLAIN: ReplayArm("original"),
    RETRAINED: ReplayArm("retrained"),
    AGAIN: ReplayArm("retrained_again"),
    REPLAY: ReplayArm("ready", "replay", asked=True),
    BOTH: ReplayArm("ready", "replay+meta", asked=True),
    **{f"tail {times:g}": ReplayArm("ready", "replay", times) for times in TAILS},
    OFTEN: ReplayArm("ready", "replay", often=1.0, full=0.25, early=False),
    "own schedule": ReplayArm("ready", "replay", own_schedule=True),
}
ORDER = re.compile(r"often ([.\d]+) full ([.\d]+)( early| late)?")  # names of further arms


def arm_of(name: str) -> ReplayArm:
    """An arm by its name; those of other orders are not listed in ARMS. KeyError where there is none."""
    if not (found := ORDER.fullmatch(name)):
        return ARMS[name]
    often, full, early = found.groups()
    return ReplayArm("ready", "replay", often=float(often), full=float(full), early=early and early == " early")


def is_arm(name: str) -> bool:
    return name in ARMS or ORDER.fullmatch(name) is not None


OF_TAILS = ("people", "digits")  # tasks that try them all
BY_DEFAULT = ("people", "people LoRA", "digits", "digits 10 %", "banking77", "cifar10", "tofu")


def arms_of(name: str, wanted: list[str] | None) -> list[str]:
    """Those of the arms that a task has; what others are measured against comes first."""
    chosen = wanted or [arm for arm in ARMS if name in OF_TAILS or ARMS[arm].is_default]
    needed = {PLAIN, RETRAINED, AGAIN} if any(arm_of(arm).asked for arm in chosen) else {PLAIN}
    listed = [arm for arm in ARMS if arm in needed or arm in chosen]
    return listed + [arm for arm in chosen if arm not in ARMS]


def words_of(name: str, arm: ReplayArm, seed: int, data: str | None, smoke: bool, base: str) -> list[str]:
    """Flags of recipes/ready.py."""
    task = TASKS[name]
    words = flags_of(task, seed, data, smoke, base)
    if arm.readiness is None:
        return words
    return [*words, "--ready.readiness", arm.readiness, *(["--ready.slice_by", task.by] if task.by else [])]


def train(name: str, arm_name: str, seed: int, root: Path, data: str | None, smoke: bool):
    """
    Trains a cell's model into its folder; returns `(folder, what is known of the training, rows)`.

    The plan's own schedule of learning rates takes the recipe's place where there is a plan.
    """
    from hf_unlearn.cli import ready
    from recipes.study import trial

    task, arm = TASKS[name], arm_of(arm_name)
    folder = cell_path(root, name, arm_name, seed).with_suffix("")
    words = words_of(name, arm, seed, data, smoke, str(base_of(root, name)))
    words += ["--output_dir", str(folder), "--seed", str(seed), *jobs_.QUIET_FLAGS]
    own, data_args, model_args, args = parsing.parse("ready", words)
    own.role = arm.role
    prepared = with_test_rows(name, words, smoke, prepared_by(words, True)[1], True)
    if arm.readiness is not None and not arm.own_schedule and "lr_scheduler_type" in args.given:
        args.given = frozenset(args.given) - {"lr_scheduler_type"}
    if arm.often is not None:
        args.revocable_epochs = str(arm.often * args.num_train_epochs)
    times = arm.often / arm.full if arm.full else arm.times
    if times is not None:
        counts = {part: len(prepared.splits[part]) for part in ("forget", "retain")}
        args.tail = str(min(1.0, times * counts["forget"] / sum(counts.values())))
    saved, record = folder / arm.role, folder / "training.json"
    if not record.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        falling = contextlib.nullcontext() if arm.early is None else decay(arm.early)
        with falling, timed_snapshots() as seconds, contextlib.redirect_stdout(None):
            trainer = ready.train(own, data_args, model_args, args, prepared)
        found = {**trainer.cost, "snapshot_seconds": round(sum(seconds), 3), "snapshots": len(seconds)}
        record.write_text(json.dumps(found), encoding="utf-8")
    from hf_unlearn.trainers.loading import load_model

    rows = trial.rows_of(data_args, prepared, load_model(str(saved)), task.goal)
    return saved, json.loads(record.read_text(encoding="utf-8")), rows, prepared


@contextlib.contextmanager
def timed_snapshots():
    """Seconds of each snapshot that is written in the block."""
    from hf_unlearn import ReadyTrainer

    seconds, plain = [], ReadyTrainer.at_border

    def timed(self, step):
        start = time.perf_counter()
        plain(self, step)
        seconds.append(time.perf_counter() - start)

    with mock.patch.object(ReadyTrainer, "at_border", timed):  # takes the attribute off again, which hid its base's
        yield seconds


@contextlib.contextmanager
def decay(early: bool):
    """In the block the learning rate of new plans begins to fall a tail's length before the tail, or at its start."""
    from hf_unlearn.readiness import replay

    def at(order) -> int:
        return max(0, 2 * order.tail_start - order.steps) if early else order.tail_start

    with mock.patch.object(replay, "falls_from", at):
        yield


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def asked_ids(rows, plan, by: str | None, seed: int) -> dict[str, list]:
    """
    What is asked for: `one` group, of the slice in the middle; `half` of the groups, drawn; `all`. A group is a value
    of a column where it has several, else a row.
    """
    ids = [str(i) for i in rows["id"]]
    groups = [str(value) for value in rows[by]] if by and len(set(rows[by])) > 1 else ids
    numbers = plan.numbers_of_ids(ids, plan.key)
    first = dict(zip(groups[::-1], numbers[::-1].tolist(), strict=True))
    in_order = sorted(first, key=first.get)
    drawn = np.random.default_rng([seed, 17]).permutation(in_order)
    chosen = {"one": [in_order[len(in_order) // 2]], "half": drawn[: len(drawn) // 2].tolist(), "all": in_order}
    return {
        what: [i for i, group in zip(ids, groups, strict=True) if group in set(some)] for what, some in chosen.items()
    }


def expected(plan, rows, by: str | None) -> float:
    """Mean over single groups of a request's row passes, over those of retraining without the group."""
    from hf_unlearn.readiness import replay

    groups = np.array([str(value) for value in rows[by]]) if by else np.array([str(i) for i in rows["id"]])
    numbers = plan.numbers_of_ids([str(i) for i in rows["id"]], plan.key)
    shares = []
    for group in np.unique(groups):
        own = numbers[groups == group]
        shares.append(replay.request_passes(plan.order, own, np.zeros(0, np.int64)) / plan.order.passes(0, own))
    return float(np.mean(shares))


def request(saved: Path, what: str, ids: list, rows, prepared, attack: float, seed: int) -> tuple[dict, object]:
    """A request, replayed and measured."""
    import hf_unlearn
    from recipes.study import trial

    forget = rows.splits["forget"]
    asked = np.isin([str(i) for i in forget["id"]], ids)
    others = forget.select(np.flatnonzero(~asked))
    from datasets import concatenate_datasets

    remaining = concatenate_datasets([others, rows.splits["retain"]]) if len(others) else rows.splits["retain"]
    best = hf_unlearn.plan(str(saved), ids).best()
    with tempfile.TemporaryDirectory(dir=saved.parent) as out, contextlib.redirect_stdout(None):
        args = hf_unlearn.UnlearnConfig(out, method="replay", **jobs_.QUIET)
        trainer = hf_unlearn.UnlearnTrainer(
            str(saved), args, ids, remaining, processing_class=prepared.processing_class
        )
        start = time.perf_counter()
        metrics = trainer.train().metrics
        seconds = time.perf_counter() - start
    parts = {"asked": forget.select(np.flatnonzero(asked)), "others": others}
    parts |= {name: rows.splits[name] for name in ("retain", "unseen", "test") if name in rows.splits}
    here = dataclasses.replace(rows, splits={name: part for name, part in parts.items() if len(part)})
    seen = {name: trial.look(trainer.model, here.batches(name)) for name in here.splits}
    found = {
        "what": what,
        "rows": len(ids),
        "row_passes": trainer.row_passes,
        "planned": best.row_passes,
        "share_of_retraining": best.share_of_retraining,
        "guarantee": metrics["guarantee"],
        "seconds": round(seconds, 2),
        "after": {name: [round(one["loss"], 4), round(one["accuracy"], 4)] for name, one in seen.items()},
        "membership": trial.membership({"forget": seen["asked"]["rows"], "unseen": seen["unseen"]["rows"]}),
    }
    if what == "all":
        found["recovery"] = trial.recovery(trainer.model, rows, attack, seed)
    return found, trainer.model


def from_the_start(name: str, arm: str, seed: int, root: Path, data, smoke: bool, ids: list, replayed) -> bool:
    """Whether the same program, run from its first step and never given these rows, ends with the same bits."""
    import torch

    from hf_unlearn import ReadyTrainer
    from hf_unlearn.cli import model as models
    from hf_unlearn.cli.ready import marked

    words = words_of(name, arm_of(arm), seed, data, smoke, str(base_of(root, name)))
    with tempfile.TemporaryDirectory(dir=root) as out, contextlib.redirect_stdout(None):
        words += ["--output_dir", out, "--seed", str(seed), *jobs_.QUIET_FLAGS]
        _, data_args, model_args, args = parsing.parse("ready", words)
        args.given = frozenset(args.given) - {"lr_scheduler_type"}
        prepared = prepared_by(words, True)[1]
        from datasets import concatenate_datasets

        rows = [marked(prepared.splits[part], part == "forget") for part in ("forget", "retain")]
        model, peft_config = models.beginning(data_args, model_args, prepared, args.seed, args.model_init_kwargs)
        args.model_init_kwargs = None
        trainer = ReadyTrainer(
            model,
            args,
            concatenate_datasets(rows),
            revocable="revocable",
            processing_class=prepared.processing_class,
            peft_config=peft_config,
            deleted=ids,
        )
        trainer.train()
    ours, theirs = trainer.model.state_dict(), replayed.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def measure(name: str, arm_name: str, seed: int, root: Path, data: str | None, smoke: bool) -> dict:
    """A model before and after its requests."""
    from hf_unlearn.trainers import replay_plan
    from hf_unlearn.trainers.loading import load_model
    from recipes.study import trial

    task, arm = TASKS[name], arm_of(arm_name)
    saved, training, rows, prepared = train(name, arm_name, seed, root, data, smoke)
    model = load_model(str(saved)).eval()
    looks = {part: trial.look(model, rows.batches(part)) for part in rows.splits}
    found = {
        "rows": rows.counts,
        "training": training,
        "before": {part: [round(one["loss"], 4), round(one["accuracy"], 4)] for part, one in looks.items()},
        "membership": trial.membership({part: looks[part]["rows"] for part in ("forget", "unseen")}),
    }
    if arm.role.startswith("retrained"):
        return found | {"recovery": trial.recovery(model, rows, task.attack, seed)}
    if arm.readiness is None:
        return found
    plan = replay_plan.read(str(saved))
    places = plan.order.sizes[plan.order.tail_start :].sum()
    found["plan"] = {
        "tail": plan.tail,
        "crowd": float(plan.order.visits.sum() / places),
        "slices": len(plan.order.slices),
        "steps": plan.order.steps,
        "snapshot_bytes": bytes_of(saved / "_snapshots"),
        "model_bytes": sum(path.stat().st_size for path in saved.glob("*.safetensors")),
        "expected": expected(plan, rows.splits["forget"], task.by),
    }
    if not arm.asked:
        return found
    requests = []
    ids = asked_ids(rows.splits["forget"], plan, task.by, seed)
    for what, some in ids.items():
        one, replayed = request(saved, what, some, rows, prepared, task.attack, seed)
        requests.append(one)
    equal = from_the_start(name, arm_name, seed, root, data, smoke, ids["all"], replayed) if seed == 0 else None
    pair = [load_model(str(train(name, one, seed, root, data, smoke)[0])).eval() for one in (RETRAINED, AGAIN)]
    judged = {
        "replayed": trial.judged(replayed.eval(), model, pair, rows, prepared, seed),
        AGAIN: trial.judged(pair[1], model, pair, rows, prepared, seed),
    }
    return found | {"requests": requests, "equals_training_without": equal, "judged": judged}


def build(name: str, arm_name: str, seed: int, root: str, data: str | None, smoke: bool) -> float:
    """One cell: trains, asks, measures, writes its file; returns the seconds."""
    start = time.perf_counter()
    found = {"schema": SCHEMA, "task": name, "arm": arm_name, "seed": seed, "smoke": smoke}
    found |= measure(name, arm_name, seed, Path(root), data, smoke)
    found["seconds"] = round(time.perf_counter() - start, 1)
    target = cell_path(Path(root), name, arm_name, seed)
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(target)  # whole, or not there
    return found["seconds"]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = ", ".join((*BY_DEFAULT, *PRETRAINED)).replace("%", "%%")
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help=f"some of {listed}; all: but the last 2")
    parser.add_argument("--seeds", default="0-2", help="0-4, or 0,2,7")
    arms = f"some of {', '.join(ARMS)}, or orders as above; default: all of the task"
    parser.add_argument("--arms", nargs="+", metavar="ARM", help=arms)
    parser.add_argument("--data", help="folder with tofu/, banking77/, cifar10/, minilm-l6/, smollm2-135m/")
    parser.add_argument("--output_dir", default="outputs/replays", help="for the cells")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in a process of its own")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--publish", action="store_true", help="with --table: into results/replays.json")
    parser.add_argument("--smoke", action="store_true", help="four steps a model, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    tasks = list(dict.fromkeys(t for task in options.task for t in (BY_DEFAULT if task == "all" else [task])))
    unknown = [t for t in tasks if t not in TASKS] + [arm for arm in options.arms or [] if not is_arm(arm)]
    if unknown:
        parser.error(f"no task or arm is called {', '.join(unknown)}")
    if not tasks and not options.table:
        parser.error("name a --task, or ask for the --table")
    jobs_.quiet()
    root = Path(options.output_dir).resolve()
    run(tasks, options, root)
    if options.table:
        from recipes.study import replay_tables

        found = replay_tables.gather(root)
        if options.publish:
            found = replay_tables.over(json.loads(RESULTS.read_text(encoding="utf-8")), found)
        print(replay_tables.markdown(found))
        if options.publish:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def run(tasks: list[str], options, root: Path) -> None:
    """Trains and asks what is not there yet: what others are measured against comes first."""
    cells = [(t, arm, s) for s in seeds_of(options.seeds) for t in tasks for arm in arms_of(t, options.arms)]
    todo = [cell for cell in cells if not cell_path(root, *cell).is_file()]
    if tasks:
        print(f"{len(todo)} of {len(cells)} cells to do; each is told when it is done.", flush=True)
    for task in {cell[0] for cell in todo if TASKS[cell[0]].base}:
        ensure_base(TASKS[task], base_of(root, task), options.smoke)
    for stage in (False, True):
        work = [(*cell, str(root), options.data, options.smoke) for cell in todo if arm_of(cell[1]).asked == stage]
        for (task, arm, seed, *_), seconds in jobs_.each(build, work, options.jobs):
            print(f"{task}, {arm}, seed {seed}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    running.run(main)
