"""Measured peaks, by hand; and the estimate against them, over whole runs of the trainers."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import tiny
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    ViTConfig,
)

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.memory.__main__ import main
from hf_unlearn.memory.advice import advice
from hf_unlearn.memory.estimate import CONTEXT, estimate
from hf_unlearn.memory.measured_peak import peak_bytes
from hf_unlearn.memory.optimizers import OPTIMIZERS
from hf_unlearn.memory.run import Run
from hf_unlearn.memory.table import PARTS, parse_bytes, table
from hf_unlearn.unlearning.snapshots import KEYS

MB = 1_000_000  # bytes of the square tensors below


def square() -> torch.Tensor:
    return torch.ones(500, 500)


def test_peak_of_tensors_that_come_and_go():
    def run():
        x = square()
        y = x.exp()
        del x
        return y.exp()

    assert peak_bytes(square, "cpu") == MB
    assert peak_bytes(run, "cpu") == 2 * MB
    assert peak_bytes(lambda: None, "cpu") == 0


def test_peak_sees_the_temporary_inside_an_operation():
    x = square().t()
    assert peak_bytes(lambda: torch.nn.functional.linear(x, x), "cpu") == MB  # nothing beside the result
    inside = peak_bytes(lambda: torch.softmax(x, 0), "cpu")  # the result and a contiguous copy of x
    assert 2 * MB <= inside < 2.1 * MB


def test_peak_of_a_backward():
    w = square().requires_grad_()

    def run():
        y = (square() @ w).exp()  # saved: ones, exp; the product is gone after exp
        y.sum().backward()  # beside them exp's gradient, then the weight's

    first = peak_bytes(run, "cpu")
    assert 4 * MB <= first < 4.1 * MB
    assert w.grad is not None
    w.grad = None
    assert peak_bytes(run, "cpu") == first


def test_peak_does_not_mind_what_an_earlier_run_left():
    kept = []
    assert peak_bytes(lambda: kept.append(square()), "cpu") == MB

    def run():
        kept.clear()
        return square().exp()

    assert peak_bytes(run, "cpu") == 2 * MB


def test_peak_of_a_step_is_the_same_each_time():
    model = tiny.lm(hidden=32, layers=2)
    batch = tiny.batch_of(model, tiny.lm_list(4))

    def run():
        model(**batch).loss.backward()
        model.zero_grad()

    peaks = {peak_bytes(run, "cpu") for _ in range(3)}
    assert len(peaks) == 1
    assert peaks.pop() > sum(p.nbytes for p in model.parameters())


def test_peak_needs_a_device_that_counts():
    with pytest.raises(ValueError, match="'meta'; peaks are measured on 'cpu' and 'cuda'"):
        peak_bytes(square, "meta")


# ---- the estimate against measured peaks ----


TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
AUTO = {
    "causal_lm": AutoModelForCausalLM,
    "sequence_classification": AutoModelForSequenceClassification,
    "image_classification": AutoModelForImageClassification,
}


def llama(**sizes):
    sizes = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, **sizes}
    return "causal_lm", LlamaConfig(num_attention_heads=4, **TOKENS, **sizes)


def gpt2():
    return "causal_lm", GPT2Config(vocab_size=500, n_embd=128, n_layer=2, n_head=4, n_positions=64, **TOKENS)


SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}


def bert():
    return "sequence_classification", BertConfig(vocab_size=500, **SMALL)


def vit():
    return "image_classification", ViTConfig(image_size=32, patch_size=4, **SMALL)


def rows_for(run: Run, n: int, start: int = 0) -> Dataset:
    """Ragged rows where the run pads; each second one is revocable."""
    rows = []
    for i in range(start, start + n):
        rng = np.random.default_rng([9, i])
        if run.task == "image_classification":
            row = {"pixel_values": rng.normal(size=(3, 32, 32)).astype(np.float32).tolist(), "labels": i % 2}
        else:
            ids = rng.integers(5, 50, run.length - (i % 2 if run.padded else 0)).tolist()
            labels = ids if run.task == "causal_lm" else i % 2
            row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
        rows.append({"id": i, "revocable": i % 2 == 0, **row})
    return Dataset.from_list(rows)


def measured(run: Run, config, folder) -> int:
    """Peak of a run of a trainer, the making of the model included; two plain and a ready step, or of unlearning."""
    common = {
        "output_dir": str(folder),
        "max_steps": 3 if run.verb == "ready" else 2,
        "per_device_train_batch_size": run.batch_size,
        "per_device_eval_batch_size": run.eval_batch_size,
        "bf16": run.dtype == "bf16-mixed",
        "gradient_checkpointing": run.gradient_checkpointing,
        "optim": run.optim,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
    }

    def go():
        from peft import LoraConfig

        dtype = torch.bfloat16 if run.dtype == "bfloat16" else torch.float32
        model = AUTO[run.task].from_config(config, dtype=dtype, attn_implementation=run.attn_implementation)
        lora = {"peft_config": LoraConfig(r=8, target_modules="all-linear")} if run.peft else {}
        lora["processing_class"] = tiny.tokenizer()
        n = run.batch_size
        if run.verb == "unlearn":
            forward = {None: "auto", True: "together", False: "in_turn"}[run.together]
            args = {"forget_forward": forward, "resistance": run.resistance, "gap": "squared"}  # its gate never shuts
            args = UnlearnConfig(stop=False, **args, **common)
            parts = [rows_for(run, m, start) for m, start in ((n, 0), (2 * n, 100), (n, 300))]
            UnlearnTrainer(model, args, *parts, **lora).train()
            return
        terms = {"lambda_efficiency": 0.0, "lambda_retention": 0.0}
        drawn = run.request_rows if run.drawn else 0
        if run.verb == "ready":
            weight = float(run.resistance != "none")
            terms = {"resistance": run.resistance, "lambda_resistance": weight, "meta_gradient": run.meta_gradient}
            terms["inner_steps"] = run.inner_steps
        args = ReadyConfig(readiness="meta", meta_start=0.5, request_rows=drawn, **terms, **common)
        ReadyTrainer(model, args, rows_for(run, 2 * n), **lora).train()

    return peak_bytes(go, "cpu")


def compare(model, folder, **values) -> float:
    """Estimate / measured peak. On the CPU the copies of the weights are in the same memory: one, without a stop."""
    task, config = model
    defaults = {"batch_size": 8, "length": 64, "padded": True, "dtype": "float32", "device": "cpu"}
    defaults |= {"request_rows": 4, "drawn": False}
    run = Run(task=task, **{**defaults, **values})
    found = estimate(run, copy.deepcopy(config))
    copies = found.trainable if run.verb == "unlearn" else 0
    ratio = (found.peak + copies) / measured(run, config, folder)
    print(f"{type(config).__name__} {values}: {found.peak + copies} bytes, {ratio:.3f} of the measured peak")
    return ratio


LORA = {"peft": "lora:r=8", "dtype": "bfloat16", "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (llama, {"verb": "ready"}),
        (bert, {"verb": "train"}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (gpt2, {"verb": "unlearn", "together": True, "attn_implementation": "eager"}),
                (vit, {"verb": "ready", "meta_gradient": "finite_difference", "batch_size": 4, "request_rows": 2}),
                (llama, {"verb": "unlearn", **LORA}),
                (llama, {"verb": "unlearn", "resistance": "relearn"}),
                (gpt2, {"verb": "unlearn", "resistance": "relearn", "together": False}),
            )
        ),
    ],
)
def test_estimate_is_the_measured_peak(model, values, tmp_path):
    assert 0.98 < compare(model(), tmp_path, **values) < 1.02


@pytest.mark.slow
def test_estimate_of_drawn_requests_takes_all_rows_of_a_step_for_stable_ones(tmp_path):
    assert 0.98 < compare(llama(), tmp_path, verb="ready", drawn=True) < 1.1  # half of them are not


EVERYWHERE = [
    {},
    {"attn_implementation": "eager"},
    {"gradient_checkpointing": True},
    {"dtype": "bf16-mixed"},
    {"peft": "lora:r=8"},
    LORA,
    {"padded": False},
]
VERBS = ("train", "ready", "unlearn")
EACH_PAIR = [  # of model, verb and values
    (model, VERBS[(i + k) % 3], values)
    for i, model in enumerate((llama, gpt2, bert, vit))
    for k, values in enumerate(EVERYWHERE)
]


@pytest.mark.slow
@pytest.mark.parametrize("model, verb, values", EACH_PAIR, ids=lambda part: getattr(part, "__name__", str(part)))
def test_estimate_is_the_measured_peak_everywhere(model, verb, values, tmp_path):
    margin = 0.06 if model is vit else 0.02  # so small a ViT that the copies of the images count
    assert abs(compare(model(), tmp_path, verb=verb, **values) - 1) < margin


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"meta_gradient": "finite_difference"},
        {"meta_gradient": "finite_difference", "inner_steps": 3},
        {"resistance": "align"},
        {"resistance": "relearn"},
        {"resistance": "relearn", "meta_gradient": "finite_difference"},
    ],
    ids=str,
)
def test_estimate_of_readiness_in_all_its_forms(values, tmp_path):
    assert 0.98 < compare(llama(), tmp_path, verb="ready", **values) < 1.02


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_estimate_of_a_larger_model(verb, tmp_path):
    model = llama(vocab_size=4000, hidden_size=512, intermediate_size=1024, num_hidden_layers=4)
    assert 0.98 < compare(model, tmp_path, verb=verb, batch_size=4, length=256, request_rows=2) < 1.02


@pytest.mark.slow
@pytest.mark.parametrize("optim", [name for name in OPTIMIZERS if "8bit" not in name])
def test_estimate_of_optimizers(optim, tmp_path):
    model = llama(vocab_size=4000)  # the optimizer's step is the peak
    assert 0.96 < compare(model, tmp_path, verb="train", optim=optim, batch_size=4, length=8) < 1.04


@pytest.mark.slow
def test_a_look_takes_no_more_rows_than_a_step(tmp_path):
    model = llama(vocab_size=4000)
    values = {"verb": "unlearn", "batch_size": 2, "length": 64, "gradient_checkpointing": True, "request_rows": 1}
    ratios = [compare(model, tmp_path, **values, eval_batch_size=rows) for rows in (2, 64)]
    assert min(ratios) > 0.97 and max(ratios) < 1.03


# ---- what the estimate says ----


def quick(**values):
    task, config = llama(num_hidden_layers=1)
    return estimate(Run(task=task, **{"batch_size": 2, "length": 16, "dtype": "float32", **values}), config)


def test_parts_of_the_estimate_match_a_hand_calculation():
    one = quick()
    weights = 4 * one.weights_count
    assert one.trainable_count == one.weights_count and one.trainable == weights
    assert set(one.parts) == set(PARTS) and one.peak == sum(one.parts.values()) == one.needed - CONTEXT
    assert weights <= one.parts["weights"] < weights + 1000  # the buffers
    assert 0 <= one.parts["optimizer"] - 2 * weights < 100
    assert one.parts["readiness"] == one.parts["buckets"] == one.parts["gathered"] == one.host == 0
    lora = quick(verb="unlearn", peft="lora:r=4", optim="sgd")
    assert lora.trainable == 4 * lora.trainable_count < weights / 10
    assert lora.parts["optimizer"] == 0 and lora.host == (len(KEYS) + 1) * lora.trainable
    ready = quick(verb="ready", optim="sgd")
    assert ready.parts["readiness"] >= weights


def test_logits_are_counted_by_their_last_dimension():
    task, config = llama(num_hidden_layers=1, vocab_size=5000)
    wide = estimate(Run(task=task, dtype="float32", batch_size=2, length=64, peft="lora:r=2"), config)
    assert wide.parts["logits"] == 3 * 4 * 2 * 64 * 5000  # float32, rows, tokens, words: logits, log-softmax, gradient


def test_estimates_for_engines_match_a_hand_calculation():
    one, two = quick(), quick(engine="ddp", processes=2)
    assert two.parts == {**one.parts, "buckets": one.trainable}
    shards = quick(engine="fsdp2", processes=4)
    assert shards.parts["weights"] == pytest.approx(one.parts["weights"] / 4, rel=0.01)
    assert shards.parts["optimizer"] == one.parts["optimizer"] // 4
    assert one.trainable * 2 <= shards.parts["gathered"]  # one layer only: everything, twice that layer, with gradients
    zero = quick(engine="zero2", processes=4, verb="unlearn")
    assert zero.parts["optimizer"] == pytest.approx(3 * one.trainable / 4, rel=0.01)  # two moments and the weights


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "zero1", "verb": "ready"}, "Readiness needs several backwards"),
        ({"engine": "zero2", "verb": "unlearn", "together": False}, "Rows in turn need two backwards"),
        ({"engine": "zero2", "verb": "unlearn", "resistance": "relearn"}, "A simulated recovery needs several"),
        ({"verb": "ready", "meta_gradient": "finite_difference", "dtype": "bfloat16"}, "needs float32"),
        ({"optim": "lomo"}, "`optim` is 'lomo'; it must be one of 'adamw_torch_fused'"),
        ({"processes": 2}, "need an `engine`"),
        ({"batch_size": 0}, "`batch_size` is 0; it must be a whole number of at least 1"),
        ({"batch_size": "4"}, "`batch_size` is '4'; it must be a whole number"),
        ({"request_rows": "3"}, "`request_rows` is '3'; it must be a whole number"),
        ({"model": torch.nn.Linear(2, 2)}, "`model` is of type Linear; give its folder, or `estimate.run, config="),
        ({"peft": "lora:r=x"}, "`peft` is 'lora:r=x': `r` is 'x'; it must be a whole number"),
        ({"request_rows": 3, "drawn": False}, "`request_rows` is 3"),
        ({"peft": "lora:rank=16"}, "`peft` is 'lora:rank=16'"),
        ({"peft": "lora:r"}, "not of the form name=value"),
        ({"peft": "nowhere/at/all"}, "Give a folder, a JSON file, or lora:r=16"),
    ],
)
def test_runs_that_cannot_be_estimated_are_refused_with_the_reason(values, message):
    with pytest.raises(ArgumentError, match=message):
        quick(**values)


def test_rows_longer_than_the_models_positions_are_told_by_their_number():
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)
    run = Run(task="sequence_classification", batch_size=1, length=64, dtype="float32")
    with pytest.raises(ArgumentError, match="`length` is 64, but the model has 32 positions"):
        estimate(run, config)


def test_adapters_are_read_from_files(tmp_path):
    from peft import LoraConfig, get_peft_model

    spec = quick(peft="lora:r=4,target_modules=q_proj+v_proj")
    file = tmp_path / "lora.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}))
    assert quick(peft=str(file)).parts == spec.parts
    base = AutoModelForCausalLM.from_config(llama(num_hidden_layers=1)[1])
    base.save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    saved = estimate(Run(tmp_path / "adapter", batch_size=2, length=16))
    assert saved.parts == spec.parts


def test_the_command_reads_a_config_and_says_what_to_change(tmp_path, capsys):
    config = llama()[1]
    config.architectures = ["LlamaForCausalLM"]
    file = tmp_path / "config.json"
    config.to_json_file(file)
    flags = ["--model", str(file), "--batch_size", "4", "--length", "64", "--device", "cpu"]
    assert main([*flags, "--verb", "unlearn", "--memory", "1GB"]) == 0
    out = capsys.readouterr().out
    assert "LlamaForCausalLM: 0.5 M weights" in out and "unlearn: fits 1.00 GB" in out
    assert main([*flags, "--verb", "train", "--memory", "7MB"]) == 1
    out = capsys.readouterr().out
    assert "train: DOES NOT FIT 7.00 MB" in out and "train with --gradient_checkpointing:" in out
    assert main([*flags, "--verb", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["peak"] == sum(found["parts"].values()) and found["run"]["verb"] == "train"
    assert main(["--model_type", "llama", "--config_overrides", "hiden_size=3", "--task", "causal_lm"]) == 1
    assert "no hiden_size" in capsys.readouterr().err


def test_new_models_by_type_and_tasks_by_name():
    sizes = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64,image_size=8,patch_size=4"
    run = Run(model_type="vit", config_overrides=sizes, task="image_classification", batch_size=2)
    found = estimate(run)
    assert found.architecture == "ViTForImageClassification"
    assert "tokens" not in table([found]) and found.parts["logits"] == 0
    with pytest.raises(ArgumentError, match="say with `task`"):
        estimate(dataclasses.replace(run, task=None))
    with pytest.raises(ArgumentError, match="Give either"):
        estimate(Run())


def test_a_model_whose_shapes_depend_on_data_has_no_estimate():
    sizes = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64,relative_attention=true"
    run = Run(model_type="deberta-v2", config_overrides=sizes, task="sequence_classification", batch_size=2, length=8)
    with pytest.raises(ArgumentError, match="does not run on tensors without data: aten.nonzero"):
        estimate(run)


def test_advice_is_cumulative_and_stops_when_it_fits():
    first = quick(device="cpu", length=64, batch_size=8)
    config = llama(num_hidden_layers=1)[1]
    everything = advice(first, 0, config)
    sizes = [first.needed, *(after.needed for _, after in everything)]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 2
    assert advice(first, sizes[1], config) == everything[:1]


def test_amounts_of_memory_are_parsed_with_decimal_and_binary_units():
    assert parse_bytes("24GB") == 24 * 10**9
    assert parse_bytes("24GiB") == 24 * 2**30
    assert parse_bytes("0.5 mb") == 500_000
    assert parse_bytes("16e9") == 16 * 10**9
    with pytest.raises(argparse.ArgumentTypeError, match="no amount of memory"):
        parse_bytes("much")


@pytest.mark.slow
def test_eight_billion_weights_take_no_memory():
    config = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_key_value_heads=8
    )
    run = Run(
        task="causal_lm", peft="lora:r=16", dtype="bfloat16", batch_size=1, length=4096, gradient_checkpointing=True
    )
    found = []
    assert peak_bytes(lambda: found.append(estimate(run, config)), "cpu") < 10**7
    assert found[0].peak == pytest.approx(24.0e9, rel=0.02)
    assert found[0].parts["logits"] > 5 * found[0].parts["activations"]
