"""U-LiRA: shadow models for `hf-unlearn evaluate --shadows N`.

Each shadow model is trained and unlearned by the same YAML as the model under test (give the flags that its training
had), on another choice of the forget and unseen rows: those of its half were trained on and then unlearned, the others
were never seen. Where the request is by a column or a class, its values go as a whole. After each one its row table is
kept and its weights are deleted, so a killed run goes on with the next, and more shadows can be added.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from . import parsing, prepare, reading, request, running
from .arguments import STARTS, DataArguments, EvaluateArguments
from .terminal import NoProgress, Progress

START_OF = {unlearned: start for start, unlearned in STARTS.items()}  # role under test -> role it was unlearned from
FIRST_SEED = 1000  # seed of the first shadow's training: not one that the models under test have


def add(
    card,
    own: EvaluateArguments,
    argv: list[str],
    data: DataArguments,
    prepared: prepare.Prepared,
    progress: Progress | None = None,
) -> None:
    """
    Adds `forget_lira_auc`, `forget_lira_tpr_at_1fpr` and `forget_lira_tpr_at_01fpr` to the unlearned runs of a card,
    and to the retrained ones what the shadows of the first unlearned role say of them: forget rows can differ from
    unseen ones for reasons of their own.

    Raises:
        ValueError: if a shadow that is there was made with other rows or settings, or there is no unlearned run.
    """
    import numpy as np
    from datasets import concatenate_datasets

    from ..evaluation import lira_measures, logit_confidence, shadow_plan

    runs = [run for run in card.runs if run.model in START_OF]
    if not runs:
        raise ValueError(f"`--shadows` needs a model of role {' or '.join(START_OF)}.")
    n_forget = len(prepared.splits["forget"])
    columns = [c for c in prepared.splits["forget"].column_names if c in prepared.splits["unseen"].column_names]
    pool = concatenate_datasets([prepared.splits[s].select_columns(columns) for s in ("forget", "unseen")])
    groups, group = np.unique(groups_of(data, pool), return_inverse=True)
    plan = shadow_plan(len(groups), own.shadows, own.seed)[:, group]
    is_forget = np.arange(len(pool)) < n_forget
    for number_of, run in enumerate(runs):
        folder = Path(own.output_dir, "shadows", run.model)
        start, tables = START_OF[run.model], []
        for number in range(len(plan)):
            tables.append(_shadow(folder / f"{number:03d}", number, start, plan[number], pool, argv, prepared))
            done, total = number_of * len(plan) + number + 1, len(runs) * len(plan)
            (progress or NoProgress()).at(done, total, f"{done} of {total}")
        shadows = np.stack([logit_confidence(table) for table in tables])
        beside = [other for other in card.runs if other.model.startswith("retrained")] if number_of == 0 else []
        for one in (run, *beside):  # what the same attack says of a model that never saw the rows
            target = np.concatenate([logit_confidence(one.tables[split]) for split in ("forget", "unseen")])
            found = lira_measures(target, shadows, plan, ~plan, is_forget, seed=own.seed)
            one.measures |= {f"forget_lira_{name}": value for name, value in found.items()}
            one.details["lira"] = {"shadows": len(plan), "groups": len(groups), "of": run.model}


def groups_of(data, pool) -> list:
    """What goes together: rows of the same values in the columns that the request is by, else each row for itself."""
    from ..data.label_lists import holds_lists

    columns = request.columns_of(data)
    there = columns and set(columns) <= set(pool.column_names)
    if there and not any(holds_lists(pool, name) for name in columns):  # who has several labels is of no one class
        return ["\0".join(map(str, values)) for values in zip(*(pool[name] for name in columns), strict=True)]
    return list(range(len(pool)))


def _shadow(folder: Path, number: int, start: str, seen, pool, argv: list[str], prepared: prepare.Prepared):
    """The pool's row table under one shadow model: the one that is there, else of a model trained now."""
    from .. import collect, default_collator
    from ..evaluation import described, load_tables, save_tables, with_description
    from . import ready, unlearn

    words = [*training_flags(argv), "--output_dir", str(folder), "--disable_tqdm", "true"]
    seed = str(FIRST_SEED + number)
    words += ["--seed", seed, "--ready.seed", seed, "--unlearn.seed", seed, "--logging_strategy", "no"]
    made_with = hashlib.sha256(
        json.dumps([settings("ready", argv), settings("unlearn", argv), start, seed, seen.tolist()]).encode()
    ).hexdigest()
    if (folder / "pool.parquet").is_file():
        table = load_tables(folder, splits={"pool": pool})["pool"]
        if described(table).get("shadow") != made_with:
            raise ValueError(
                f"The shadow model in {folder} was made with other settings. Remove the folder, or use another "
                "--output_dir."
            )
        return table
    state = running.processes()
    rows = {
        "forget": pool.select(seen.nonzero()[0]),
        "retain": prepared.splits["retain"],
        "unseen": pool.select((~seen).nonzero()[0]),
    }
    shadow = dataclasses.replace(prepared, splits=rows)
    own, data, model_args, args = parsing.parse("ready", words)
    own.role = start
    ready.train(own, data, model_args, args, shadow)
    own, data, model_args, args = parsing.parse("unlearn", words)
    own.start, model_args.given = start, {}  # not from the model that `ready` starts from, wherever that was named
    trainer = unlearn.unlearn(own, data, model_args, args, shadow)
    collator = default_collator(trainer.model, prepared.processing_class)
    table = collect(trainer.model, pool, collator, batch_size=args.per_device_eval_batch_size)
    table = with_description(table, {**described(table), "shadow": made_with})
    if state.is_main_process:
        for part in folder.iterdir():  # the weights: only the table is needed
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        save_tables({"pool": table}, folder)
    state.wait_for_everyone()
    return table


def training_flags(argv: list[str]) -> list[str]:
    """The flags that `ready` and `unlearn` know, too: without those of `evaluate` alone, and its output."""
    kept, keep = [], True
    for word in argv:
        if word.startswith("--"):
            (flag,), _ = reading.read_words([word])
            keep = flag.prefix != "evaluate." and flag.plain_name not in _own()
        if keep:
            kept.append(word)
    return kept


def settings(verb: str, argv: list[str]) -> list[str]:
    """All flags of a verb that trains, from the command line and the YAML, as far as they are its business."""
    kept, keep = [], True
    for word in parsing.read_flags(verb, argv):
        if word.startswith("--"):
            keep = word[2:] not in _own()
        if keep:
            kept.append(word)
    return kept


def _own() -> set[str]:
    return {field.name for field in dataclasses.fields(EvaluateArguments)} - {"bf16", "use_cpu"}  # trainings have these
