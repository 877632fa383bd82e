"""Every objective, and the share of weights that may move, on two processes over gloo: the steps that one takes."""

from __future__ import annotations

import os

import pytest
import torch
from helpers import ranks
from helpers.forked_ranks import on_ranks
from helpers.rank_cores import whole
from helpers.tiny import QUIET, distance, lm64, lm_rows
from helpers.unlearning import trainer

from hf_unlearn import ArgumentError, UnlearnConfig
from hf_unlearn.objectives.registry import OBJECTIVES

pytestmark = pytest.mark.slow

RAGGED = {"short": 3, "long": 29}
ROWS = {"forget": lm_rows(8, **RAGGED), "retain": lm_rows(16, 8, **RAGGED), "unseen": lm_rows(8, 100, **RAGGED)}
ROWS["forget"] = ROWS["forget"].add_column("alternate", [f"t{4 + i}" for i in range(8)])
LORA = "lora "
CASES = {name: {"objective": name} for name in OBJECTIVES} | {
    "kl": {"objective": "npo", "retain_term": "kl"},
    "ssd": {"objective": "ssd", "ssd_alpha": 1.5},
    "saliency": {"objective": "grad_diff", "saliency": 0.5},
}
CASES |= {LORA + name: CASES[name] for name in ("npo", "simnpo", "undial", "scrub", "rmu", "ssd", "saliency")}
NOT_ON_SHARDS = [name for name, case in CASES.items() if case["objective"] in ("rmu", "ssd")]
STEPS = {"max_steps": 3, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0}


def start_of(name: str) -> torch.nn.Module:
    """The model, or one whose adapter has learnt something."""
    model = lm64(layers=3, tied=False)
    if name.startswith(LORA):
        from peft import get_peft_model

        model = get_peft_model(model, ranks.adapter(), autocast_adapter_dtype=False)
        torch.manual_seed(5)
        for key, p in model.named_parameters():
            if "lora_B" in key:
                p.data.normal_(0, 0.1)
    return model


def trained(model) -> dict[str, torch.Tensor]:
    """Copies of the trainable weights, whole."""
    for module in model.modules():
        if hasattr(module, "reshard"):  # FSDP2: what was written to weights that a pass has left whole is lost
            module.reshard()
    return {name: whole(p.detach()).clone() for name, p in model.named_parameters() if p.requires_grad}


def end_of(out, name: str, each: int, accumulation: int = 1, engine=lambda: None) -> dict:
    steps = {} if OBJECTIVES[CASES[name]["objective"]]().edits else STEPS
    config = UnlearnConfig(str(out), **QUIET, stop=False, per_device_train_batch_size=each,
                           gradient_accumulation_steps=accumulation, **steps, **CASES[name])  # fmt: skip
    engine()
    run = trainer(out, start_of(name), ROWS, config)
    run.train()
    return {"engine": type(run.model_wrapped).__name__, "weights": trained(run.accelerator.unwrap_model(run.model))}


def on_each(out, engine) -> None:
    found = {}
    for name in CASES:
        try:
            found[name] = end_of(out / name, name, 2, 2, engine)
        except ArgumentError as error:
            found[name] = error.problems
    torch.save(found, out / f"{os.environ['RANK']}.pt")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return {name: end_of(out / name, name, 8)["weights"] for name in CASES}


def test_every_case_moves_weights(alone):
    assert all(distance(alone[name], trained(start_of(name))) > 1e-6 for name in CASES)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_take_the_steps_of_one(tmp_path, alone, kind):
    engine = ranks.shard_on_cpu if kind == "fsdp2" else lambda: None
    on_ranks(lambda: on_each(tmp_path, engine), tmp_path / "printed")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    apart = {}
    for name in CASES:
        if kind == "fsdp2" and name in NOT_ON_SHARDS:
            told = f"The objective `{CASES[name]['objective']}` does not run on weights in shards."
            assert all(len(rank[name]) == 1 and rank[name][0].startswith(told) for rank in found)
            continue
        assert all(("FSDP" in rank[name]["engine"]) == (kind == "fsdp2") for rank in found), name
        apart[name] = max(distance(rank[name]["weights"], alone[name]) for rank in found)
    assert not {name: one for name, one in apart.items() if not one < 1e-6}
