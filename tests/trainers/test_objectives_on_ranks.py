"""Every objective, and the share of weights that may move, on two processes over gloo: the steps that one takes."""

from __future__ import annotations

import pytest
import torch
from helpers.forked_ranks import on_ranks
from helpers.tiny import distance, lm64, lm_rows, weights
from helpers.unlearning import trainer

from hf_unlearn.objectives.registry import OBJECTIVES

RAGGED = {"short": 3, "long": 29}
ROWS = {"forget": lm_rows(8, **RAGGED), "retain": lm_rows(16, 8, **RAGGED), "unseen": lm_rows(8, 100, **RAGGED)}
ROWS["forget"] = ROWS["forget"].add_column("alternate", [f"t{4 + i}" for i in range(8)])
CASES = {name: {"objective": name} for name in OBJECTIVES} | {
    "kl": {"objective": "npo", "retain_term": "kl"},
    "ssd": {"objective": "ssd", "ssd_alpha": 1.5},
    "saliency": {"objective": "grad_diff", "saliency": 0.5},
}
STEPS = {"max_steps": 3, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0}


def end_of(out, name: str, each: int, accumulation: int = 1) -> dict:
    steps = {} if OBJECTIVES[CASES[name]["objective"]]().edits else STEPS
    run = trainer(out, lm64(layers=3, tied=False), ROWS, stop=False, per_device_train_batch_size=each,
                  gradient_accumulation_steps=accumulation, **steps, **CASES[name])  # fmt: skip
    run.train()
    return weights(run.accelerator.unwrap_model(run.model))


def on_each(out) -> None:
    import os

    rank = os.environ["RANK"]
    found = {name: end_of(out / name, name, 2, 2) for name in CASES}
    torch.save(found, out / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    on_ranks(lambda: on_each(tmp_path), tmp_path / "printed")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    apart = {}
    for name in CASES:
        wanted = end_of(tmp_path / f"{name} alone", name, 8)
        apart[name] = max(distance(rank[name], wanted) for rank in ranks)
        assert distance(wanted, weights(lm64(layers=3, tied=False))) > 1e-6, name
    assert all(one < 1e-6 for one in apart.values()), apart
