"""A replay is exact in mixed precision, with other optimizers, with checkpointing of activations, and on engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import ranks, tiny
from helpers.forked_ranks import on_ranks
from helpers.replays import KINDS, QUIET, replayed, trained
from helpers.tiny import same_bits, slow, weights
from transformers import TrainingArguments

from hf_unlearn import ArgumentError, ReadyConfig, verify
from hf_unlearn.trainers.base import ForgettingTrainer
from hf_unlearn.trainers.engines import is_deterministic
from hf_unlearn.trainers.making_plans import argument_problems
from hf_unlearn.trainers.replay import config_of
from hf_unlearn.trainers.weights_digest import weights_digest

GONE = [0, 8]


@pytest.mark.parametrize("options", [
    {"bf16": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.1, "data_seed": 3, "seed": 4},
    {"num_train_epochs": 2, "max_steps": -1, "warmup_steps": 3, "neftune_noise_alpha": 5.0},
    slow({"bf16": True}),
    slow({"gradient_checkpointing": True}),
    slow({"optim": "adafactor"}),
    slow({"dataloader_drop_last": True, "per_device_train_batch_size": 5}),
])  # fmt: skip
def test_a_replay_is_exact_whatever_the_arguments_of_the_training(tmp_path, options):
    own = {"max_steps": 10, "slices": "2", **options}
    ready = trained(tmp_path / "ready", **own)
    reference = trained(tmp_path / "without", deleted=GONE, **own)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE)
    assert request.result.metrics["guarantee"] == "exact" and request.border > 0
    assert same_bits(weights(request.model), weights(reference.model))
    assert not same_bits(weights(request.model), weights(ready.model))


def test_a_training_on_deepspeed_is_refused_before_it_starts(tmp_path, monkeypatch):
    args = ReadyConfig(str(tmp_path), readiness="replay", use_cpu=True)
    monkeypatch.setattr(args, "deepspeed_plugin", object(), raising=False)
    (problem,) = argument_problems(args, "revocable", ())
    assert problem.startswith("A training on DeepSpeed cannot be replayed") and "Use DDP or FSDP2" in problem


def test_whole_weights_are_not_looked_for_in_shards(tmp_path, monkeypatch):
    trained(tmp_path / "ready", max_steps=8)
    monkeypatch.setattr("hf_unlearn.trainers.replaying.shards_of", lambda _: "FSDP")
    with pytest.raises(ArgumentError, match="hold weights whole, and this run keeps them in shards of FSDP. Start"):
        replayed(tmp_path / "out", tmp_path / "ready", GONE)


def test_kernels_that_may_sum_in_any_order_are_told_and_their_result_is_not_called_exact(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:  # kernels without bits of their own are warned of, and run all the same
        patch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
        assert is_deterministic(torch.device("cuda"))
        patch.setattr(torch, "is_deterministic_algorithms_warn_only_enabled", lambda: True)
        assert not is_deterministic(torch.device("cuda"))
    monkeypatch.setattr("hf_unlearn.trainers.replaying.is_deterministic", lambda _: False)
    with caplog.at_level("WARNING"):
        ready = trained(tmp_path / "ready", max_steps=8)
    assert "`full_determinism=True`" in caplog.text and ready.record()["replay"]["machine"]["deterministic"] is False
    assert replayed(tmp_path / "out", tmp_path / "ready", GONE).result.metrics["guarantee"] == "approximate"


def test_arguments_that_this_version_of_transformers_does_not_know_are_told(tmp_path, caplog):
    plan = trained(tmp_path / "ready", max_steps=8).plan
    plan.arguments["lomo_scale"] = 2
    args = ReadyConfig(str(tmp_path / "out"), use_cpu=True)
    with caplog.at_level("WARNING"):
        assert config_of(plan, args).max_steps == 8
    assert "`lomo_scale` (2)" in caplog.text


# ---- two processes ---------------------------------------------------------------------------------------------------

CUT = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1, "max_steps": 10}
WRAPPED = {"ddp": "DistributedDataParallel", "fsdp2": "FSDP"}


def a_replay_on_each_rank(engine: str, readiness: str, root: Path, kinds: list[str]) -> None:
    """Trains, replays and verifies, and asserts what only a rank can see."""
    if engine == "fsdp2":
        begin = ForgettingTrainer.__init__

        def on_shards(*args, **kwargs):
            ranks.shard_on_cpu()
            begin(*args, **kwargs)

        ForgettingTrainer.__init__ = on_shards
    own = {**CUT, "readiness": readiness, **({"request_rows": 4} if "meta" in readiness else {})}
    for kind in kinds:
        ready = trained(root / kind / "ready", kind, **own)
        assert type(ready.model_wrapped).__name__.startswith(WRAPPED[engine])
        without = trained(root / kind / "without", kind, deleted=GONE, **own)
        request = replayed(root / kind / "out", root / kind / "ready", GONE, kind)
        passes = request.plan.passes(request.border, request.plan.holes)
        assert abs(request.row_passes - passes) < 1e-2, (request.row_passes, passes)
        assert bool(request.simulated.steps_with_readiness_terms) == ("meta" in readiness)
        assert request.result.metrics["guarantee"] == "exact"
        assert weights_digest(request.model) == weights_digest(without.model) != weights_digest(ready.model)
        model, rows = KINDS[kind][0](), KINDS[kind][1](24).filter(lambda row: row["id"] not in GONE)
        args = TrainingArguments(str(root / "unused"), **QUIET)
        out = str(root / kind / "out")
        verdict = verify(out, rows, model, processing_class=tiny.tokenizer(), args=args, record=True)
        assert verdict.passed, str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("readiness", ["replay", "replay+meta"])
@pytest.mark.parametrize("engine, kinds", [("ddp", ["language model", "text"]), ("fsdp2", ["language model"])])
def test_a_replay_on_two_processes_is_exact(tmp_path, engine, kinds, readiness):
    on_ranks(lambda: a_replay_on_each_rank(engine, readiness, tmp_path, kinds), tmp_path / "printed")
    for kind in kinds:
        replay, without, ready = (
            safetensors.torch.load_file(tmp_path / kind / name / "model.safetensors")
            for name in ("out", "without", "ready")
        )
        assert same_bits(replay, without) and not same_bits(replay, ready)
