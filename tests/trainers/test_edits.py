"""Objectives that stop at a layer or edit the weights once, and the share of weights that may move."""

from __future__ import annotations

import re

import pytest
import torch
from helpers.tiny import (
    Gradients,
    Weights,
    batch_of,
    bert,
    distance,
    image_rows,
    lm64,
    relative,
    resnet,
    text_class_rows,
    vit,
    weights,
)
from helpers.unlearning import EIGHT, QUIET, AsAtTheKill, open_gate, tokenizer, trainer

from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer
from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.trainers.objective_needs import unmet_needs

STEPS = {"max_steps": 2, "stop": False, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0}
CUTS = ((8, 1), (2, 4), (1, 8))


def deep():
    return lm64(layers=4)


def rmu(out, model, rows=EIGHT, each=8, accumulation=1, **options):
    return trainer(out, model, rows, objective="rmu", per_device_train_batch_size=each,
                   gradient_accumulation_steps=accumulation, **{**STEPS, **options})  # fmt: skip


# ---- rmu ----


def hidden_after(model, batch, layer):
    out = model(**{k: v for k, v in batch.items() if k != "labels"}, output_hidden_states=True)
    return out.hidden_states[layer + 1]


@pytest.mark.parametrize("forward", ["together", "in_turn"])
def test_a_step_of_rmu_is_the_formula_on_the_whole_batch_however_it_is_cut(tmp_path, forward):
    ends, keep = [], Gradients()
    for each, accumulation in CUTS:
        more = {"callbacks": [keep]} if each == 8 else {}
        run = rmu(tmp_path, deep(), each=each, accumulation=accumulation, forget_forward=forward, **more)
        run.train()
        ends.append(weights(run.model))
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6
    model = deep()
    pairs = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i] for i in range(8)]
    batch = batch_of(model, [f for f, _, _ in pairs])
    hidden = hidden_after(model, batch, 1)[:, :-1][batch["labels"][:, 1:] != -100]
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(42), dtype=torch.float64)
    value = ((hidden - 2 * drawn / drawn.norm()) ** 2).sum(-1).mean() / 16  # the retain term has no gradient yet
    wanted = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    assert wanted[-3] is None  # behind the layer
    pairs = [(g, w) for g, w in zip(keep.steps[0], wanted, strict=True) if w is not None]
    assert relative(*zip(*pairs, strict=True)) < 1e-6


def test_the_second_step_of_rmu_holds_retain_rows_where_they_were_before_the_request(tmp_path):
    keep, ends = Gradients(), Weights()
    rmu(tmp_path, deep(), callbacks=[keep, ends], rmu_weight=0.5).train()
    start, model = deep(), deep()
    model.load_state_dict(ends.steps[0])
    pairs = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i] for i in range(8, 16)]
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(42), dtype=torch.float64)
    value = 0.0
    for k, weight in enumerate((1.0, 0.5)):
        batch = batch_of(model, [pair[k] for pair in pairs])
        there = batch["labels"][:, 1:] != -100
        aim = hidden_after(start, batch, 1)[:, :-1][there].detach() if k else 2 * drawn / drawn.norm()
        value = value + weight * ((hidden_after(model, batch, 1)[:, :-1][there] - aim) ** 2).sum(-1).mean() / 16
    wanted = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    pairs = [(g, w) for g, w in zip(keep.steps[1], wanted, strict=True) if w is not None]
    assert relative(*zip(*pairs, strict=True)) < 1e-6


def test_what_lies_behind_the_layer_neither_runs_nor_moves_and_costs_nothing(tmp_path):
    model = deep()
    before, calls = weights(model), []
    run = rmu(tmp_path, model, rmu_layer=0)
    begun = run.begin_request
    run.begin_request = lambda: (begun(), calls.clear(), passes.append(run.row_passes))
    passes, ended = [], run.looks.at_the_end
    run.looks.at_the_end = lambda: (passes.append(run.row_passes), counts.append(len(calls)), ended())[2]
    counts, through = [], {"forward": 0, "backward": 0}

    def count(layer, given, output):
        if layer.training:
            through["forward"] += len(output)
            output.register_hook(lambda grad: through.update(backward=through["backward"] + len(grad)))

    model.transformer.h[0].register_forward_hook(count)
    model.transformer.h[1].register_forward_hook(lambda *_: calls.append(1))
    run.train()
    assert passes[1] - passes[0] == pytest.approx(2 * 16 / 4) and through == {"forward": 32, "backward": 32}
    moved = {name for name, value in weights(run.model).items() if not torch.equal(value, before[name])}
    assert moved and not any(".h.1." in name or ".h.2." in name or "ln_f" in name for name in moved)
    assert counts[0] == 0


def several_labels():
    model = vit()
    model.config.problem_type = "multi_label_classification"
    return model


def rows_of_several(n, start=0):
    return [{**row, "labels": [float(row["labels"] == c) for c in range(3)]} for row in image_rows(n, start)]


@pytest.mark.parametrize("make, rows", [(bert, text_class_rows), (vit, image_rows), (several_labels, rows_of_several)])
def test_rmu_takes_classifiers(tmp_path, make, rows):
    sets = {"forget": rows(8), "retain": rows(16, 8), "unseen": rows(8, 100)}
    ends = []
    for each, accumulation in CUTS[:2]:
        run = rmu(tmp_path, make(), sets, each, accumulation, target="chance")
        run.train()
        ends.append(weights(run.model))
    start, whole, cut = (list(found.values()) for found in (weights(make()), *ends))
    assert relative(whole, start) > 1e-4 and relative(cut, whole) < 1e-5


def test_rmu_takes_convolutions(tmp_path):
    """Which have no embeddings that a model could name."""
    sets = {"forget": image_rows(8), "retain": image_rows(16, 8), "unseen": image_rows(8, 100)}
    model = resnet()
    run = rmu(tmp_path, model, sets, target="chance")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.train()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert any("encoder.stages.0" in name for name in moved)
    assert not any("encoder.stages.1" in name or "classifier" in name for name in moved)


def test_a_layer_that_is_not_there_or_that_an_adapter_leaves_untouched_is_told(tmp_path):
    from peft import LoraConfig

    with pytest.raises(ArgumentError, match="`rmu_layer` is 4, but the model has 4 layers: choose 0 to 3"):
        rmu(tmp_path, deep(), rmu_layer=4)
    late = LoraConfig(r=2, target_modules=["c_attn"], layers_to_transform=[3], fan_in_fan_out=True)
    with pytest.raises(ArgumentError, match="`rmu_layer` is layer 1, and no trainable weight lies in it or before it"):
        rmu(tmp_path, deep(), peft_config=late)
    with pytest.raises(ArgumentError, match="`gradient_checkpointing` is on, but the forward of the objective `rmu`"):
        rmu(tmp_path, deep(), gradient_checkpointing=True)


def test_learnt_prompts_are_weights_before_the_first_layer(tmp_path):
    from peft import PromptTuningConfig

    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    run = rmu(tmp_path, deep(), peft_config=prompts)
    before = weights(run.model)
    run.train()
    assert distance(weights(run.model), before) > 1e-6


# ---- ssd ----


def test_ssd_edits_the_weights_once_by_the_formula_and_the_request_ends(tmp_path):
    model = open_gate()
    run = trainer(tmp_path, model, EIGHT, objective="ssd", ssd_alpha=1.5, stop=False)
    result = run.train()
    reference = open_gate()
    sums = {}
    for side in ("forget", "retain"):
        sums[side] = [torch.zeros_like(p) for p in reference.parameters()]
        for row in EIGHT[side]:
            batch = batch_of(reference, [row])
            nll, n = per_row_nll(reference(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"])
            for total, g in zip(
                sums[side], torch.autograd.grad((nll / n).sum(), list(reference.parameters())), strict=True
            ):
                total += g**2
    edited = 0
    with torch.no_grad():
        for p, q, f, r in zip(
            reference.parameters(), run.model.parameters(), sums["forget"], sums["retain"], strict=True
        ):
            wanted = get_objective("ssd", ssd_alpha=1.5).edited(p, f / 8, (f + r) / 32)
            torch.testing.assert_close(q, wanted, rtol=1e-9, atol=1e-15)
            edited += int((wanted != p).sum())
    assert edited > 10
    assert result.metrics["stop_reason"] == "all_passes_done" and result.metrics["weights_of_step"] == 1
    measured = (8 + 24 + 8 + 24) / 3
    assert result.metrics["row_passes"] == pytest.approx(32 + measured, abs=0.01)


def test_an_edit_that_costs_too_much_is_put_back(tmp_path):
    model = open_gate()
    before = weights(model)
    run = trainer(tmp_path, model, EIGHT, objective="ssd", ssd_alpha=1e-6, ssd_lambda=1e-6, retain_budget=0.01)
    run.train()
    assert run.stop_reason == "retain_budget_spent" and run.weights_of_step == 0
    assert distance(weights(run.model), before) == 0


def test_where_no_weight_is_dampened_the_largest_ratio_is_told_and_below_it_some_are(tmp_path, caplog):
    run = trainer(tmp_path, open_gate(), EIGHT, objective="ssd", stop=False)
    run.train()
    told = [record.getMessage() for record in caplog.records if "No weight" in record.getMessage()]
    assert run.weights_of_step == 0 and len(told) == 1 and "`learning_rate`" not in told[0]
    found = re.search(r"matters more than (.*) times as much .* with 8 of 32 rows .* below 4\. Lower it", told[0])
    most = float(found[1])
    assert 1 < most < 4
    for alpha, moved in ((1.01 * most, False), (0.99 * most, True)):
        run = trainer(tmp_path, open_gate(), EIGHT, objective="ssd", stop=False, ssd_alpha=alpha)
        run.train()
        assert (run.weights_of_step == 1) == moved


def test_ssd_says_what_to_do_in_words_of_its_own_options(tmp_path, caplog):
    trainer(tmp_path, open_gate(), EIGHT, objective="ssd", ssd_alpha=3.0, ssd_lambda=0.9).train()
    trainer(tmp_path, open_gate(), EIGHT, objective="ssd", ssd_alpha=1e-6, ssd_lambda=1e-6, retain_budget=0.01).train()
    short, put_back, still = (r.getMessage() for r in caplog.records if "forgotten" in r.getMessage())
    assert short.startswith("Not forgotten") and short.endswith("Lower `ssd_alpha`.")
    assert "Raise `ssd_alpha` or `ssd_lambda`, or raise `retain_budget`" in put_back
    assert still.endswith("Raise `ssd_alpha` or `ssd_lambda`.")
    assert "`learning_rate`" not in caplog.text


def test_ssd_has_nothing_to_edit_in_a_new_adapter(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(ArgumentError, match="`peft_config` was passed, but the objective `ssd` edits weights"):
        trainer(tmp_path, "does/not/exist", EIGHT, objective="ssd", peft_config=lora)


def test_ssd_with_an_optimizer_or_epochs_is_told(tmp_path):
    model = lm64()
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    with pytest.raises(ArgumentError) as caught:
        args = UnlearnConfig(str(tmp_path), **QUIET, objective="ssd", passes="2", learning_rate=0.1, warmup_steps=2)
        UnlearnTrainer(model, args, *EIGHT.values(), processing_class=tokenizer(), optimizers=(sgd, None),
                       general_dataset="none")  # fmt: skip
    told = [problem.split(" ")[0] for problem in caught.value.problems]
    assert told == ["`learning_rate`", "`passes`", "`warmup_steps`", "`optimizers`"]


# ---- saliency ----


@pytest.mark.parametrize("name", ["grad_diff", "nabla_tau", "npo", "finetune"])
def test_only_the_weights_with_the_largest_gradient_move_whatever_the_objective(tmp_path, name):
    model = open_gate()
    before = weights(model)
    batch = batch_of(model, EIGHT["forget"])
    nll, _ = per_row_nll(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"])
    sizes = [g.abs() for g in torch.autograd.grad(nll.sum(), list(model.parameters()))]
    limit = torch.cat([own.flatten() for own in sizes]).quantile(0.75)
    run = trainer(tmp_path, model, EIGHT, objective=name, saliency=0.25, per_device_train_batch_size=4,
                  **{**STEPS, "optim": "adamw_torch", "learning_rate": 0.01})  # fmt: skip
    run.train()
    total = moved = 0
    for (key, p), own in zip(model.named_parameters(), sizes, strict=True):
        changed = p.detach() != before[key]
        assert not (changed & (own < limit * (1 - 1e-6))).any()
        total, moved = total + p.numel(), moved + int(changed.sum())
    assert 0.2 < moved / total <= 0.2501
    assert sum(int(mask.sum()) for mask in run.saliency.masks) == pytest.approx(0.25 * total, abs=2)


def test_weights_without_a_gradient_stay_also_where_the_share_is_larger(tmp_path, caplog):
    """A new adapter: its first factor has none, and three weights in four would be all of the second and some of it."""
    from peft import LoraConfig

    lora = LoraConfig(r=2, target_modules=["c_proj"], fan_in_fan_out=True)
    run = trainer(tmp_path, open_gate(), EIGHT, objective="npo", saliency=0.75, peft_config=lora,
                  **{**STEPS, "optim": "adamw_torch"})  # fmt: skip
    before = weights(run.model)
    run.train()
    moved = {name for name, value in weights(run.model).items() if not torch.equal(value, before[name])}
    assert moved and all("lora_B" in name for name in moved)
    assert "`saliency` is 0.75, and fewer of the trainable weights have a gradient" in caplog.text


def test_a_resumed_run_moves_the_same_weights(tmp_path):
    options = {**STEPS, "objective": "grad_diff", "saliency": 0.5, "max_steps": 4, "save_strategy": "steps"}
    options |= {"save_steps": 2, "per_device_train_batch_size": 4}
    whole = trainer(tmp_path, open_gate(), EIGHT, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    again = trainer(tmp_path, open_gate(), EIGHT, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed/checkpoint-2"))
    assert distance(weights(again.model), weights(whole.model)) < 1e-9


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_of_nothing_or_of_all_is_refused(tmp_path, share):
    with pytest.raises(ArgumentError, match="`saliency` is .*; it must be a finite number above 0 and below 1"):
        trainer(tmp_path, lm64(), EIGHT, saliency=share)


def test_weight_decay_which_moves_all_weights_is_refused_beside_it(tmp_path):
    with pytest.raises(ArgumentError, match="`weight_decay` is 0.1, which moves all weights"):
        trainer(tmp_path, lm64(), EIGHT, saliency=0.5, weight_decay=0.1)
    own = torch.optim.AdamW(lm64().parameters())
    told = unmet_needs(get_objective("npo"), UnlearnConfig(str(tmp_path), **QUIET, saliency=0.5), (own, None))
    assert [problem.split(", ")[0] for problem in told] == ["`optimizers` is of a weight decay of 0.01"]
