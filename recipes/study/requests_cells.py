"""A cell of the study of requests: trains a pretrained model plainly, asks by the defaults, and measures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from hf_unlearn.cli import parsing
from hf_unlearn.data.duplicates import contents
from hf_unlearn.data.keys import as_bytes
from hf_unlearn.utils.files import read_json
from recipes.study.cells import cell_path, prepared_by
from recipes.tools import jobs as jobs_

TEXT = Path(__file__).resolve().parents[1] / "text"
SCHEMA = 1
MEASURED = 200  # rows of a split whose losses are measured, at most
PLAIN, RETRAINED, READY = "original", "retrained", "ready"
PUSHED = "--target current --gap hinge --passes 20"  # τ climbs with the damage: what the budgets are to stop
IN_HALF = "--bf16 true --use_cpu true"


@dataclasses.dataclass(frozen=True)
class Asked:
    """
    What a request names.

    Args:
        groups: values of the recipe's `forget_column`, or classes, drawn by the seed.
        rows: of these, or without groups of all trained rows, how many, drawn by the seed; None: all.
        retrained: a model is trained without them, to compare with.
        replayed: the model is trained in the order of a replay (`readiness="replay"`) with these rows last, and the
            request is replayed.
        flags: of this request, for one that is not by the defaults.
    """

    groups: int | None = None
    rows: int | None = None
    retrained: bool = False
    replayed: bool = False
    flags: str = ""


@dataclasses.dataclass(frozen=True)
class RequestTask:
    """
    Args:
        recipe: YAML file in recipes/text.
        flags: of the training; `{data}` is filled in.
        by: column whose values a request names.
        asked: name -> what.
        request: flags of the request alone; for the hardware, no option of unlearning.
        role: "chooses": the defaults were chosen by it; "confirms": it was not looked at for that.
        general: texts that nothing was trained on, by which general ability is measured: (file, columns) in DIR.
    """

    recipe: str
    flags: str
    by: str
    asked: dict[str, Asked]
    request: str = ""
    role: str = "confirms"
    general: tuple[tuple[str, str], ...] = ()

    @property
    def epochs(self) -> int:
        """Of a training, by the flags or the recipe."""
        said = [self.flags, (TEXT / self.recipe).read_text(encoding="utf-8")]
        return int(next(found[1] for text in said if (found := re.search(r"num_train_epochs:? (\d+)", text))))


FACTS = ("tofu/world_facts_perturbed.jsonl", "chat")
QUESTIONS = ("banking77/test.csv", "text")
TASKS = {
    "TOFU SmolLM2 LoRA": RequestTask(
        "tofu_smollm2_lora.yaml",
        f"--model_name_or_path {{data}}/smollm2-135m --data_files {{data}}/tofu/full.jsonl {IN_HALF}",
        "author",
        {
            "10 rows": Asked(1, 10),
            "2 authors": Asked(2, retrained=True),
            "3 authors": Asked(3),
            "2 authors, replayed": Asked(2, retrained=True, replayed=True),
            "2 authors, pushed": Asked(2, flags=PUSHED),
        },
        request=f"{IN_HALF} --per_device_train_batch_size 8",
        general=(FACTS, QUESTIONS),
    ),
    "people SmolLM2 LoRA": RequestTask(
        "tofu_smollm2_lora.yaml",
        f"--model_name_or_path {{data}}/smollm2-135m --dataset_name people --limit null --forget_column person "
        f"--forget_values null --forget_fraction 0.1 --max_length 64 --ready.num_train_epochs 5 {IN_HALF}",
        "person",
        {"3 people": Asked(3), "10 people": Asked(10)},
        request=f"{IN_HALF} --per_device_train_batch_size 8",
        general=(FACTS, QUESTIONS),
    ),
    "Banking77 MiniLM": RequestTask(
        "banking77_minilm.yaml",
        "--model_name_or_path {data}/minilm-l6 --data_files {data}/banking77",
        "labels",
        {
            "10 rows": Asked(rows=10),
            "50 rows": Asked(rows=50),
            "200 rows": Asked(rows=200, retrained=True),
            "1 intent": Asked(1),
            "2 intents": Asked(2, retrained=True),
            "2 intents, replayed": Asked(2, retrained=True, replayed=True),
        },
    ),
    "Banking77 MiniLM LoRA": RequestTask(
        "banking77_minilm.yaml",
        "--model_name_or_path {data}/minilm-l6 --data_files {data}/banking77 --lora_r 16 --lora_alpha 32 "
        "--ready.learning_rate 1e-3 --ready.num_train_epochs 6",
        "labels",
        {"50 rows": Asked(rows=50), "2 intents": Asked(2)},
    ),
    "Banking77 MiniLM, all intents": RequestTask(
        "banking77_minilm.yaml",
        "--model_name_or_path {data}/minilm-l6 --data_files {data}/banking77 --limit null",
        "labels",
        {"2000 rows": Asked(rows=2000), "5 intents": Asked(5)},
    ),
    "TOFU SmolLM2 whole": RequestTask(
        "tofu_smollm2_lora.yaml",
        f"--model_name_or_path {{data}}/smollm2-135m --data_files {{data}}/tofu/full.jsonl {IN_HALF} --lora_r 0 "
        "--ready.learning_rate 1e-4 --ready.num_train_epochs 5",
        "author",
        {"2 authors": Asked(2)},
        request=f"{IN_HALF} --per_device_train_batch_size 8",
        general=(FACTS, QUESTIONS),
    ),
}


def words_of(task: RequestTask, seed: int, data: str, smoke: bool, replayed: bool = False) -> list[str]:
    """Flags of recipes/ready.py."""
    words = ["--config", str(TEXT / task.recipe), "--split_seed", str(seed), "--seed", str(seed)]
    words += [*task.flags.format(data=data).split(), *jobs_.QUIET_FLAGS]
    words += ["--readiness", "replay", "--ready.slice_by", task.by] if replayed else ["--readiness", "none"]
    return [*words, "--ready.max_steps", "2"] if smoke else words


def chosen(pool, task: RequestTask, asked: Asked, seed: int, tokenizer) -> np.ndarray:
    """Which rows (N,) of the trained ones are asked for."""
    rng = np.random.default_rng([seed, 23])
    within = np.ones(len(pool), bool)
    if asked.groups is not None:
        values = np.array([str(value) for value in pool[task.by]])
        within = np.isin(values, rng.permutation(np.unique(values))[: asked.groups])
    if asked.rows is not None:
        within = np.isin(np.arange(len(pool)), rng.permutation(np.flatnonzero(within))[: asked.rows])
    return with_twins(within, pool, tokenizer)


def with_twins(asked: np.ndarray, pool, tokenizer) -> np.ndarray:
    """The asked rows (N,) and those that say the same as one of them, or as one that is taken with it."""
    (content,) = contents([pool], tokenizer)
    keys, now = [set(own) for own in as_bytes(content.keys)], asked
    while True:
        said = {key for own, one in zip(keys, now, strict=True) if one for key in own}
        before, now = now, np.array([bool(own & said) for own in keys]) | now
        if (before == now).all():
            return now


def train(name: str, role: str, seed: int, root: Path, data: str, smoke: bool, what: str | None = None) -> Path:
    """
    Trains a model once and returns its folder: plainly (PLAIN), without what a request names (RETRAINED), or with that
    last, in the order of a replay (READY).
    """
    from datasets import concatenate_datasets

    from hf_unlearn.cli import ready

    task = TASKS[name]
    rows = what and what.split(",")[0]  # the same rows under all of its names
    out = cell_path(root, name, f"{role} {rows or ''}".strip(), seed).with_suffix("")
    if (out / role / "trained.json").is_file():
        return out / role
    shutil.rmtree(out, ignore_errors=True)
    words = [*words_of(task, seed, data, smoke, role == READY), "--output_dir", str(out)]
    own, data_args, model_args, args = parsing.parse("ready", words)
    own.role = role
    prepared = prepared_by(words, True)[1]
    if what:
        pool = concatenate_datasets([prepared.splits["forget"], prepared.splits["retain"]])
        gone = chosen(pool, task, task.asked[what], seed, prepared.processing_class)
        parts = {"forget": pool.select(np.flatnonzero(gone)), "retain": pool.select(np.flatnonzero(~gone))}
        prepared = dataclasses.replace(prepared, splits={**prepared.splits, **parts})
    with contextlib.redirect_stdout(None):
        trainer = ready.train(own, data_args, model_args, args, prepared)
    (out / role / "trained.json").write_text(json.dumps(trainer.cost), encoding="utf-8")
    return out / role


def measured(model, sets: dict, tokenizer) -> dict:
    """
    Of each set the mean loss, the shares of rows and of their labels right, and the quartiles of the rows' losses; of a
    language model that has general texts beside it `probes`, how many of the ten probe questions it answers right.
    """
    from torch.utils.data import DataLoader

    from hf_unlearn.data.collate import default_collator
    from hf_unlearn.evaluation import evenly
    from hf_unlearn.evaluation.attacks.probes import answered
    from recipes.study import trial

    collator, found = default_collator(model, tokenizer), {}
    for name, rows in sets.items():
        seen = trial.look(model, list(DataLoader(evenly(rows, MEASURED), batch_size=16, collate_fn=collator)))
        quartiles = np.quantile(seen["rows"], [0.25, 0.5, 0.75]).round(4).tolist()
        found[name] = {key: round(seen[key], 4) for key in ("loss", "accuracy", "token_accuracy")}
        found[name]["quartiles"] = quartiles
    if any(is_general(name) for name in sets):
        found["probes"] = sum(one["right"] for one in answered(model, tokenizer))
    return found


def is_general(name: str) -> bool:
    """Whether a set is of general texts: only these have two words."""
    return " " in name


def general_sets(task: RequestTask, data: str, tokenizer) -> dict:
    """Public texts that have nothing to do with the rows, ready for the model."""
    import hf_unlearn

    found = {}
    for where, shape in task.general:
        rows = hf_unlearn.load_rows(str(Path(data, where)))
        rows = rows.select(range(0, len(rows), max(1, len(rows) // 60))).select(range(60))
        names = ["text"] if shape == "text" else ["question", "answer"]
        found[where.split("/")[0] + " " + shape] = hf_unlearn.encode(rows.select_columns(["id", *names]), tokenizer)
    return found


def rows_of(name: str, what: str, seed: int, root: Path, data: str, smoke: bool) -> tuple[dict, object]:
    """`(sets, tokenizer)`: what is asked for, the other trained rows, unseen and test rows, and general texts."""
    from datasets import concatenate_datasets

    task, asked = TASKS[name], TASKS[name].asked[what]
    prepared = prepared_by([*words_of(task, seed, data, smoke), "--output_dir", str(root)], True)[1]
    pool = concatenate_datasets([prepared.splits["forget"], prepared.splits["retain"]])
    mask = chosen(pool, task, asked, seed, prepared.processing_class)
    sets = {"forget": pool.select(np.flatnonzero(mask)), "retain": pool.select(np.flatnonzero(~mask))}
    sets["unseen"] = prepared.splits["unseen"]
    if (test := prepared.splits.get("test")) is not None:
        gone = set(sets["forget"]["labels"]) if whole_classes(task, asked) else set()
        sets["test"] = test.select([i for i, label in enumerate(test["labels"]) if label not in gone])
    return {**sets, **general_sets(task, data, prepared.processing_class)}, prepared.processing_class


def whole_classes(task: RequestTask, asked: Asked) -> bool:
    return task.by == "labels" and asked.groups is not None


def build(name: str, what: str, seed: int, root: str, data: str, smoke: bool) -> float:
    """One request: trains what is missing, asks, measures, writes its file; returns the seconds."""
    import hf_unlearn
    from hf_unlearn.trainers.loading import load_model

    began = time.perf_counter()
    task, asked, root = TASKS[name], TASKS[name].asked[what], Path(root)
    start = train(name, READY if asked.replayed else PLAIN, seed, root, data, smoke, what if asked.replayed else None)
    sets, tokenizer = rows_of(name, what, seed, root, data, smoke)
    before = measured(load_model(str(start)), sets, tokenizer)
    words = [*task.request.split(), *asked.flags.split(), *jobs_.QUIET_FLAGS, "--seed", str(seed)]
    words += ["--target", "chance"] if whole_classes(task, asked) else []
    with tempfile.TemporaryDirectory(dir=root) as out:
        args = parsing.parse("unlearn", [*words, "--output_dir", out])[3]
        rows = [sets[part] for part in ("forget", "retain", "unseen")]
        trainer = hf_unlearn.UnlearnTrainer(str(start), args, *rows, processing_class=tokenizer)
        seconds = -time.process_time()
        metrics = trainer.train().metrics
        seconds += time.process_time()
    found = {
        "schema": SCHEMA, "task": name, "what": what, "seed": seed, "smoke": smoke, "role": task.role,
        "rows": {part: len(rows) for part, rows in sets.items()}, "before": before,
        "after": measured(trainer.model, sets, tokenizer), "steps": trainer.state.global_step,
        "row_passes": round(trainer.row_passes, 1), "cpu_seconds": round(seconds, 1),
        "guarantee": metrics["guarantee"], "trained": read_json(start / "trained.json"),
    }  # fmt: skip
    if not asked.replayed:
        found |= {"stop_reason": trainer.stop_reason, "end": metrics["end"], "general_rows": trainer.general.to_dict()}
    if asked.retrained:
        other = load_model(str(train(name, RETRAINED, seed, root, data, smoke, what)))
        found["retrained"] = measured(other, sets, tokenizer)
    target = cell_path(root, name, f"asked {what}", seed)
    part = target.with_suffix(".json.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(target)  # whole, or not there
    return time.perf_counter() - began
