"""`ReadyTrainer` where something goes wrong: steps with NaN, interruptions, arguments and rows that are refused."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from datasets import Dataset
from helpers.ready_runs import config, train
from helpers.tiny import (
    OptimizerStates,
    Weights,
    bert,
    image_rows,
    lm,
    lm_list,
    lm_rows,
    resnet,
    same_bits,
    text_class_rows,
    tokenizer,
    vit,
    weights,
)
from peft import LoraConfig

from hf_unlearn import ArgumentError, NonFiniteError, ReadyTrainer
from hf_unlearn.data.order import spread_order
from hf_unlearn.readiness.terms import Terms


def test_a_loss_that_is_not_finite_is_no_step_even_where_the_gradient_is_finite(tmp_path):
    class Loud(type(vit())):
        def forward(self, pixel_values=None, labels=None):
            out = super().forward(pixel_values=pixel_values, labels=labels)
            out.loss = out.loss + float("inf")
            return out

    model = vit()
    model.__class__ = Loud
    options = {"lambda_efficiency": 0.0, "lambda_retention": 0.0}
    run = ReadyTrainer(model, config(tmp_path, **options), image_rows(32), revocable=None)
    with pytest.raises(NonFiniteError, match=rf"Steps 1 to 3: .* last good weights are in {tmp_path}"):
        run.train()
    assert same_bits(weights(model), weights(vit()))
    assert same_bits(weights(type(vit()).from_pretrained(tmp_path)), weights(vit()))
    assert (tmp_path / "readiness.json").exists()


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("revocable", [True, False])
@pytest.mark.parametrize("optim", ["sgd", "adamw_torch_fused"])
def test_a_step_with_a_broken_row_changes_nothing_and_is_counted(tmp_path, make, revocable, optim):
    rows = image_rows(16).to_list()
    at = next(i for i, row in enumerate(rows) if row["revocable"] is revocable and i > 4)
    rows[at]["pixel_values"] = torch.full((1, 8, 8), float("nan")).tolist()
    model, keep, states = make(), Weights(), OptimizerStates()
    args = config(tmp_path, num_train_epochs=2, optim=optim, max_grad_norm=0.0 if revocable else 1.0)
    run = ReadyTrainer(model, args, Dataset.from_list(rows), callbacks=[keep, states])
    result = run.train()
    order = [i for epoch in (0, 1) for i in spread_order(run._flags, 16, 42, epoch).tolist()]
    broken = [at in order[8 * k : 8 * k + 8] for k in range(4)]
    assert sum(broken) == 2 == result.metrics["skipped_steps"] == run.record()["skipped"]["steps"]
    for k, was_broken in enumerate(broken):
        before = keep.steps[k - 1] if k else weights(make())
        assert same_bits(keep.steps[k], before) is was_broken
        if optim != "sgd":
            assert same_bits(states.steps[k], states.steps[k - 1] if k else {}) is was_broken
    assert [line["skipped_steps"] for line in run.state.log_history if "skipped_steps" in line][:2] == [1, 2]
    assert all(math.isfinite(v) for line in run.state.log_history for v in line.values())


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_step_with_a_finite_loss_and_a_gradient_that_is_not_is_skipped(tmp_path, clip):
    model, keep = vit(), Weights()
    calls = []

    def poison(grad):
        calls.append(1)
        return grad * float("nan") if len(calls) > 4 else grad

    model.classifier.weight.register_hook(poison)
    run = ReadyTrainer(model, config(tmp_path, max_steps=2, lambda_retention=0.0, max_grad_norm=clip, meta_start=1.0),
                       image_rows(16), callbacks=[keep])  # fmt: skip
    calls.extend([1] * 3)  # the first step is good, the second is not
    run.train()
    assert run.skipped_steps == 1 and same_bits(*keep.steps) and not same_bits(keep.steps[0], weights(vit()))


@pytest.mark.parametrize("mode", ["first_order", "finite_difference", "exact"])
def test_simulated_requests_leave_the_statistics_of_batch_norm_where_they_were(tmp_path, mode):
    """The passes at the moved weights change no buffer: those of the main pass are all that move them."""
    rows, ends = image_rows(8, every=2), []
    for inner_lr, lambda_retention in ((0.02, 1.0), (0.3, 0.0)):
        model = resnet()
        ReadyTrainer(model, config(tmp_path, max_steps=1, meta_gradient=mode, inner_lr=inner_lr,
                                   lambda_retention=lambda_retention), rows).train()  # fmt: skip
        ends.append({k: v for k, v in weights(model).items() if "running" in k or "num_batches" in k})
    assert same_bits(*ends) and not same_bits(ends[0], {k: v for k, v in weights(resnet()).items() if k in ends[0]})
    assert all(int(v) == 2 for k, v in ends[0].items() if "num_batches" in k)  # the request's rows, then the others


def test_ctrl_c_at_the_moved_weights_leaves_the_unmoved_ones(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        model = lm()
        before, calls = weights(model), []

        def interrupt(*_):
            calls.append(same_bits(weights(model), before))
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)

        model.register_forward_pre_hook(interrupt)
        run = ReadyTrainer(model, config(tmp_path, meta_forward="in_turn"), lm_rows(16), processing_class=tokenizer())
        with pytest.raises(KeyboardInterrupt):
            run.train()
        assert calls[:2] == [True, False]  # the second forward was at θ'
        assert same_bits(weights(model), before)
        assert run.state.global_step == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)


def test_an_error_at_the_moved_weights_leaves_the_unmoved_ones(tmp_path):
    model = lm()
    before, calls = weights(model), []

    def fail(*_):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tmp_path, model, meta_forward="in_turn")
    assert same_bits(weights(model), before)


def numbers():
    return Dataset.from_list([{**row, "revocable": int(row["revocable"])} for row in lm_list(8)])


@pytest.mark.parametrize("rows, words", [
    (lambda: lm_rows(8).remove_columns("revocable"), "no such column"),
    (numbers, "must hold booleans"),
    (lambda: lm_rows(3, 1, every=50), "No row is revocable"),
    (lambda: lm_rows(3, every=1), "Every row is revocable"),
    (lambda: lm_rows(0), "`train_dataset` is empty"),
    (lambda: None, "`train_dataset` is NoneType"),
    (lambda: lm_rows(8).remove_columns("labels"), "no `labels` column"),
    (lambda: lm_rows(8).map(lambda row: {"labels": [-100] * len(row["labels"])}), r"8 training row.*0, 1, 2, 3, 4, …"),
])  # fmt: skip
def test_bad_rows_are_told_before_a_model_is_loaded(tmp_path, rows, words):
    with pytest.raises(ArgumentError, match=words):
        ReadyTrainer("does/not-exist", config(tmp_path), rows(), processing_class=tokenizer())


def test_several_problems_come_in_one_error(tmp_path):
    rows = lm_rows(8).map(lambda row: {"labels": [-100] * len(row["labels"]), "revocable": False})
    with pytest.raises(ArgumentError) as caught:
        ReadyTrainer("does/not-exist", config(tmp_path), rows)
    assert len(caught.value.problems) == 2
    wrong = {"inner_lr": -1.0, "inner_steps": 0, "meta_every": 0, "meta_gradient": "third", "efficiency": "x"}
    wrong |= {"resistance": "y", "lambda_retention": float("nan"), "revocable_share": 0.0, "meta_start": 2.0}
    wrong |= {"label_smoothing_factor": 0.1, "request": "[1]", "gain_cap": 0.0}
    with pytest.raises(ArgumentError) as caught:
        config(tmp_path, **wrong)
    text = str(caught.value)
    for name in wrong:
        assert f"`{name}`" in text, name
    assert "'first_order', 'finite_difference', 'exact'" in text and "12 problems" in text
    with pytest.raises(ArgumentError, match='`resistance` is "none"'):
        config(tmp_path, lambda_resistance=0.5)
    with pytest.raises(ArgumentError, match='`resistance` is "relearn" but `lambda_resistance` is 0'):
        config(tmp_path, resistance="relearn")


def test_a_share_of_less_than_a_row_a_step_is_refused(tmp_path):
    """Else no step would ever hold a request, and the model would be called ready without having been made so."""
    with pytest.raises(ArgumentError, match=r"`revocable_share` 0.25 of 2 row"):
        ReadyTrainer("does/not-exist", config(tmp_path, per_device_train_batch_size=2), lm_rows(8), revocable=None)
    two = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    run = train(tmp_path, lm(), revocable=None, max_steps=1, **two)
    assert run.simulated.steps_with_readiness_terms == 1


def test_half_precision_weights_cannot_hold_a_finite_difference(tmp_path):
    with pytest.raises(ArgumentError, match="bfloat16, which cannot hold the perturbation"):
        ReadyTrainer(lm().bfloat16(), config(tmp_path, meta_gradient="finite_difference"), lm_rows(8))
    train(tmp_path, lm().bfloat16(), max_steps=1)  # first order can
    frozen = lm().bfloat16()
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    run = train(tmp_path, frozen, max_steps=1, meta_gradient="finite_difference", trainer={"peft_config": lora})
    assert run.simulated.steps_with_readiness_terms == 1  # the adapter's weights are float32


def test_models_of_other_tasks_are_refused(tmp_path):
    model = bert()
    model.config.problem_type = "regression"
    with pytest.raises(ArgumentError, match="regression"):
        ReadyTrainer(model, config(tmp_path), text_class_rows(8), processing_class=tokenizer())


def test_terms_follow_the_config(tmp_path):
    options = {"inner_lr": 0.3, "inner_steps": 2, "inner_normalize": False, "meta_gradient": "finite_difference"}
    options |= {"lambda_efficiency": 0.1, "lambda_retention": 0.2, "lambda_resistance": 0.3}
    options |= {"efficiency": "loss", "resistance": "align"}
    run = ReadyTrainer(lm(), config(tmp_path, **options), lm_rows(8), processing_class=tokenizer())
    assert run.terms == Terms(**options, gain_cap=run.terms.gain_cap, cap=run.terms.cap, fd_epsilon=1e-4)
