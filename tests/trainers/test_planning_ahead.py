"""`plan_training` says, before a training, what requests will cost; the training and its snapshots then agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import tiny
from helpers.replays import KINDS, QUIET, SIZES, adapter, language_model, trained
from peft import get_peft_model

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, plan_training
from hf_unlearn.trainers.snapshot_size import BESIDE, snapshot_bytes


def config(**options):
    return ReadyConfig("out", **{**QUIET, **SIZES, **options})


def by_key(found):
    return {(round(choice.times, 3), choice.slices): choice for choice in found}


def test_every_tail_meets_every_number_of_slices_once():
    found = plan_training(config(max_steps=400), 360, [4] * 10)
    (own,) = {round(choice.times, 3) for choice in found if choice.chosen}  # the config's, of a third
    assert set(by_key(found)) == {(t, k) for t in (1.5, 2, 3, own, 4) for k in (1, 3, 4, 10)}  # 20 slices would be ten
    assert own == pytest.approx(1 / 0.33, abs=0.01)
    assert found.retraining == pytest.approx(0.2)
    best, worst = by_key(found)[1.5, 10], by_key(found)[4, 1]
    assert best.request < worst.request and best.revocable > worst.revocable
    assert all(choice.yearly == pytest.approx(0.2 * choice.request) for choice in found)


def test_the_choice_of_the_config_itself_is_marked_and_is_that_of_its_training(tmp_path):
    ready = trained(tmp_path / "ready", tail="0.6", slices="3")
    found = plan_training(config(tail="0.6", slices="3"), 18, [1] * 6)
    (own,) = [choice for choice in found if choice.chosen]
    order = ready.plan.order
    assert (own.tail, own.slices) == ((order.steps - order.tail_start) / order.steps, len(order.slices))
    assert own.revocable == pytest.approx(order.visits.sum() / order.sizes[order.tail_start :].sum())
    assert "← this config" in str(found)


def test_a_tail_that_a_training_refuses_is_named_so():
    found = plan_training(config(), 18, [1] * 6, times=(1.2, 3))
    assert {choice.is_crowded for choice in found if choice.times < 1.4} == {True}
    assert "too crowded" in str(found) and not any(c.is_crowded for c in found if c.times > 1.5)


def test_rows_of_a_language_model_come_more_often_than_those_of_a_classifier():
    args = config(num_train_epochs=14, max_steps=-1)
    text, classes = (plan_training(args, 90, [1] * 10, causal_lm=kind) for kind in (True, False))
    of_text, of_classes = (next(choice for choice in found if choice.chosen) for found in (text, classes))
    assert of_text.tail == pytest.approx(0.1 * (11 / 14) / 0.33, abs=0.02)
    assert of_classes.tail == pytest.approx(0.1 * 0.4 / 0.25, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "often", "early"), [("language model", 11 / 14, True), ("text", 0.4, False), ("image", 0.4, False)]
)
def test_a_training_goes_by_the_kind_of_its_model(tmp_path, kind, often, early):
    model, rows = KINDS[kind][0](), KINDS[kind][1](24)
    args = ReadyConfig(str(tmp_path), **{**QUIET, **SIZES, "max_steps": -1, "num_train_epochs": 14})
    trainer = ReadyTrainer(model, args, rows, processing_class=tiny.tokenizer())
    plan = trainer.plan
    assert plan.order.often == pytest.approx(often) and (plan.falls_from < plan.order.tail_start) is early
    trainer.create_optimizer_and_scheduler(plan.order.steps)
    (rate,) = set(trainer.lr_scheduler.lr_lambdas)
    assert rate(plan.falls_from) == 1.0 > rate(plan.falls_from + 1)


@pytest.mark.parametrize("lora", [False, True])
def test_snapshots_take_what_was_said_before_the_training(tmp_path, lora):
    ready = trained(tmp_path / "ready", lora=lora)
    model = get_peft_model(language_model(), adapter()) if lora else language_model()
    found = plan_training(config(), 18, [1] * 6, model=model)
    (own,) = [choice for choice in found if choice.chosen]
    each = snapshot_bytes(model)
    assert own.disk == each * own.slices
    folders = list(map(ready.program.snapshot, ready.program.borders))
    assert [tensor_bytes(folder) for folder in folders] == [each - BESIDE] * own.slices


def tensor_bytes(folder) -> int:
    """Of the weights and of the optimizer's state in a snapshot."""
    (weights,) = Path(folder).glob("*.safetensors")
    state = torch.load(Path(folder, "optimizer.pt"), weights_only=True)["state"]
    held = [*safetensors.torch.load_file(weights).values(), *(t for one in state.values() for t in one.values())]
    return sum(tensor.nbytes for tensor in held)


def test_plain_sgd_keeps_nothing_for_a_weight_and_one_s_own_optimizer_what_its_rates_say():
    model = tiny.lm()
    weights = sum(p.nbytes for p in model.parameters())
    buffers = snapshot_bytes(model, "sgd") - weights
    assert snapshot_bytes(model, "adamw_torch") >= 3 * weights + buffers
    for made, kept in (
        (torch.optim.SGD(model.parameters(), 0.1), 0),
        (torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), 1),
        (torch.optim.AdamW(model.parameters()), 2),
    ):
        assert snapshot_bytes(model, "adafactor", made) == (1 + kept) * weights + buffers


def test_sizes_and_rates_that_are_none_are_told_together():
    with pytest.raises(ArgumentError) as error:
        plan_training(config(), 0, [3, 0], [0.1, -1])
    assert len(error.value.problems) == 3
    with pytest.raises(ArgumentError, match=r"`ask` has shape \(3,\)"):
        plan_training(config(), 5, [3, 2], [0.1, 1, 1])
    with pytest.raises(ArgumentError, match="`ask` is 0 for all groups"):
        plan_training(config(), 5, [3, 2], 0)
    with pytest.raises(ArgumentError, match="`ask` is nan"):
        plan_training(config(), 5, [3, 2], float("nan"))
