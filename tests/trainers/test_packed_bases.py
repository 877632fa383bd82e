"""Adapters on bases whose weights are packed: trained ready, unlearned, replayed bit for bit; never trained whole."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny
from helpers.packed import PackedLinear, packed
from helpers.tiny import QUIET, lm_rows, same_bits, tokenizer
from peft import LoraConfig, get_peft_model

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.evaluation import weight_distance
from hf_unlearn.readiness.moving_weights import moving_buffers
from hf_unlearn.readiness.packed_weights import is_packed, packed_layers
from hf_unlearn.trainers.weights_digest import frozen_digest, weights_digest

SMALL = {**QUIET, "per_device_train_batch_size": 4, "learning_rate": 0.01, "logging_strategy": "no"}
LORA = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def adapter_of(model) -> dict:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def base_of(model) -> dict:
    return {name: t.clone() for name, t in model.state_dict().items() if "lora_" not in name}


def ready(out, model=None, peft=True, rows=None, **options):
    args = ReadyConfig(str(out), **{**SMALL, "max_steps": 3, **options})
    config = LoraConfig(**LORA) if peft else None
    rows = lm_rows(16) if rows is None else rows
    return ReadyTrainer(
        packed(tiny.lm()) if model is None else model, args, rows, processing_class=tokenizer(), peft_config=config
    )


def test_a_packed_model_computes_as_its_unpacked_weights():
    plain, made = tiny.lm(), packed(tiny.lm())
    ids = torch.tensor([[3, 4, 5, 6]])
    assert torch.allclose(made(input_ids=ids).logits, plain(input_ids=ids).logits, atol=0.05)
    assert is_packed(made) and not is_packed(plain) and not packed_layers(plain)
    assert {type(layer) for layer in packed_layers(made).values()} == {PackedLinear}


def test_a_packed_model_is_not_trained_whole(tmp_path):
    with pytest.raises(ArgumentError, match="are packed .quantised., and packed weights do not learn"):
        ready(tmp_path, peft=False)
    made = packed(tiny.lm())
    made.lm_head.requires_grad_(True)  # a head beside it is no adapter
    with pytest.raises(ArgumentError, match="packed weights do not learn"):
        ready(tmp_path, made, peft=False)


def test_scales_of_packed_weights_do_not_move_and_are_part_of_the_frozen_digest():
    for hidden in (False, True):
        made = get_peft_model(packed(tiny.lm(), hidden), LoraConfig(**LORA))
        layer = next(iter(packed_layers(made).values()))
        scales = layer.hidden if hidden else layer.scales
        assert not any(buffer is scales for buffer in moving_buffers(made))
        moved, frozen = weights_digest(made), frozen_digest(made)
        scales.mul_(1.5)
        assert weights_digest(made) == moved and frozen_digest(made) != frozen


@pytest.mark.parametrize("options", [
    {"meta_gradient": "first_order", "resistance": "relearn", "lambda_resistance": 0.1},
    {"meta_gradient": "finite_difference"},
], ids=lambda options: options["meta_gradient"])  # fmt: skip
def test_readiness_moves_the_adapter_alone(tmp_path, options):
    trainer = ready(tmp_path, readiness="meta", meta_start=0, **options)
    before, base = adapter_of(trainer.model), base_of(trainer.model)
    trainer.train()
    assert same_bits(base, base_of(trainer.model)) and not same_bits(before, adapter_of(trainer.model))
    assert trainer.simulated.steps_with_readiness_terms > 0 and trainer.skipped_steps == 0


def test_a_request_on_a_packed_base_forgets_and_leaves_it_as_it_was(tmp_path):
    model = get_peft_model(packed(tiny.lm()), LoraConfig(**LORA))
    base, before = base_of(model), adapter_of(model)
    args = UnlearnConfig(str(tmp_path), **{**SMALL, "learning_rate": 0.05, "passes": 2})
    rows = (lm_rows(4), lm_rows(12, 100), lm_rows(6, 200))
    trainer = UnlearnTrainer(model, args, *rows, processing_class=tokenizer())
    trainer.train()
    assert same_bits(base, base_of(trainer.model)) and not same_bits(before, adapter_of(trainer.model))


def test_a_replay_on_a_packed_base_is_exact_and_its_snapshots_hold_the_adapter_alone(tmp_path):
    options = {"readiness": "replay", "slices": "2", "max_steps": 8}
    trained = ready(tmp_path / "ready", rows=lm_rows(24), **options)
    trained.train()
    trained.save_model()
    kept = lm_rows(24).filter(lambda row: row["id"] not in (0, 8))
    args = ReadyConfig(str(tmp_path / "without"), **{**SMALL, **options})
    model, config = packed(tiny.lm()), LoraConfig(**LORA)
    without = ReadyTrainer(model, args, lm_rows(24), processing_class=tokenizer(), peft_config=config, deleted=[0, 8])
    without.train()
    request = UnlearnConfig(
        str(tmp_path / "out"), **{**QUIET, "logging_strategy": "no", "method": "replay"},
        readiness_from=str(tmp_path / "ready"),
    )  # fmt: skip
    replayed = UnlearnTrainer(
        packed(tiny.lm()), request, [0, 8], kept, processing_class=tokenizer(), peft_config=LoraConfig(**LORA)
    )
    result = replayed.train()
    assert result.metrics["guarantee"] == "exact" and replayed.border > 0
    assert same_bits(adapter_of(replayed.model), adapter_of(without.model))
    assert not same_bits(adapter_of(replayed.model), adapter_of(trained.model))
    for snapshot in (tmp_path / "ready").glob("_snapshots/checkpoint-*"):
        assert (snapshot / "adapter_model.safetensors").exists() and not (snapshot / "model.safetensors").exists()
    other = packed(tiny.lm())
    next(iter(packed_layers(other).values())).scales.mul_(1.01)
    with pytest.raises(ArgumentError, match="weights that are not trained, such as those below an adapter, are others"):
        UnlearnTrainer(other, request, [0, 8], kept, processing_class=tokenizer(), peft_config=LoraConfig(**LORA))


@pytest.mark.slow
def test_attacks_on_weights_do_not_stumble_over_packed_ones(tmp_path, caplog):
    from hf_unlearn import evaluate

    one, other = (get_peft_model(packed(tiny.lm()), LoraConfig(**LORA)) for _ in range(2))
    splits = {"forget": lm_rows(4), "retain": lm_rows(6, 100), "unseen": lm_rows(4, 200)}
    with torch.no_grad():
        for name, p in other.named_parameters():
            if "lora_B" in name:
                p.add_(0.1)
    card = evaluate(
        {"original": one, "unlearned": other}, splits, attacks=["quantise", "weights"], processing_class=tokenizer()
    )
    assert "are packed, as they are served" in caplog.text and "how far they have moved is not measured" in caplog.text
    assert "forget_loss" in card["unlearned"].measures
    with pytest.raises(ValueError, match="load the model unquantised"):
        weight_distance(one, other)
