"""Requests that the tests of `UnlearnTrainer` share: memorised models, their rows, and a trainer of few words."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import torch
from helpers.tiny import (
    batch_of,
    fit,
    lm,
    lm64,
    lm_rows,
    tokenizer,
    weights,
)
from transformers import TrainerCallback

from hf_unlearn import UnlearnConfig, UnlearnTrainer
from hf_unlearn.objectives.registry import OBJECTIVES
from hf_unlearn.objectives.row_nll import per_row_nll

QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}
ROWS = {"forget": lm_rows(6), "retain": lm_rows(18, 6), "unseen": lm_rows(8, 100)}
MORE = {"forget": lm_rows(4), "retain": lm_rows(36, 4), "unseen": lm_rows(10, 100)}
EIGHT = {"forget": lm_rows(8), "retain": lm_rows(24, 8), "unseen": lm_rows(8, 100)}


@functools.lru_cache
def known_by_heart():
    return weights(fit(lm(layers=2, hidden=32), [*ROWS["forget"], *ROWS["retain"]]))


def memorised():
    model = lm(layers=2, hidden=32)
    model.load_state_dict(known_by_heart())
    return model


@functools.lru_cache
def more_by_heart():
    return weights(fit(lm(layers=2, hidden=64), [*MORE["forget"], *MORE["retain"]], steps=25))


def memorised_more():
    model = lm(layers=2, hidden=64)
    model.load_state_dict(more_by_heart())
    return model


def weighed(alpha: float, options: dict) -> dict:
    """The options of a request, with `alpha` where something reads it."""
    read = OBJECTIVES[options.get("objective", "nabla_tau")].uses_alpha or options.get("resistance", "none") != "none"
    return {**options, "alpha": alpha} if read else dict(options)


def trainer(
    out, model=None, rows=None, config=None, callbacks=None, peft_config=None, general_dataset="none", **options
):
    rows = rows or ROWS
    model = memorised() if model is None else model
    config = config or UnlearnConfig(str(out), **{**QUIET, **options})
    return UnlearnTrainer(
        model,
        config,
        rows["forget"],
        rows["retain"],
        rows["unseen"],
        processing_class=tokenizer(),
        callbacks=callbacks,
        peft_config=peft_config,
        general_dataset=general_dataset,
    )


def mean_loss(model, rows) -> float:
    model.eval()
    with torch.no_grad():
        batch = batch_of(model, rows)
        nll, n = per_row_nll(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"])
    return float(nll.sum() / n.sum())


@functools.lru_cache
def known_a_little(rows: str):
    return weights(fit(lm64(), json.loads(rows), steps=12))


def open_gate(rows=EIGHT):
    """A float64 model that knows the forget and retain rows a little, so that the gate is open."""
    model = lm64()
    model.load_state_dict(known_a_little(json.dumps([*rows["forget"], *rows["retain"]])))
    return model


class AsAtTheKill(TrainerCallback):
    """Keeps each checkpoint as it lay there while the run went on."""

    def __init__(self, folder):
        self.folder = folder

    def on_save(self, args, state, control, **kwargs):
        name = f"checkpoint-{state.global_step}"
        shutil.copytree(Path(args.output_dir, name), self.folder / name)


def with_references(values):
    """The rows with a column of losses before the request."""
    return {**ROWS, "forget": ROWS["forget"].add_column("reference_nll", values)}
