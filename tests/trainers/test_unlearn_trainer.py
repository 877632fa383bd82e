"""`UnlearnTrainer`: forgets by data alone, stops by itself, and takes the step that the formula says."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import (
    Gradients,
    OptimizerStates,
    Weights,
    batch_of,
    bert,
    cheap_collections,
    distance,
    fit,
    image_rows,
    lm,
    lm64,
    lm_list,
    lm_rows,
    relative,
    same_bits,
    text_class_rows,
    tokenizer,
    vit,
    weights,
)
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback

from hf_unlearn import ArgumentError, NonFiniteError, UnlearnConfig, UnlearnTrainer
from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives import gaps
from hf_unlearn.objectives.base import RowOutputs, shortfall
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.unlearning import stop_rule

QUIET = {"report_to": [], "log_level": "error", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}
ROWS = {"forget": lm_rows(6), "retain": lm_rows(18, 6), "unseen": lm_rows(8, 100)}
MORE = {"forget": lm_rows(4), "retain": lm_rows(36, 4), "unseen": lm_rows(10, 100)}


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    yield from cheap_collections()


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


def trainer(out, model=None, rows=None, config=None, callbacks=None, peft_config=None, **options):
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
    )


def mean_loss(model, rows) -> float:
    model.eval()
    with torch.no_grad():
        batch = batch_of(model, rows)
        nll, n = per_row_nll(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"])
    return float(nll.sum() / n.sum())


# ---- it forgets, keeps, and stops ----


def test_with_the_data_alone_it_forgets_up_to_the_target_and_keeps_the_rest(tmp_path):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 0.5}  # for a toy
    run = trainer(tmp_path, memorised_more(), MORE, **options)
    before = {name: mean_loss(run.model, rows) for name, rows in MORE.items()}
    assert before["forget"] < 0.1 and before["retain"] < 0.1 and before["unseen"] > 3
    result = run.train()
    after = {name: mean_loss(run.model, rows) for name, rows in MORE.items()}
    assert run.stop_reason == result.metrics["stop_reason"] == "forget_loss_reached_target"
    logged = [log["stop_reason"] for log in run.state.log_history if "stop_reason" in log]
    assert logged == ["forget_loss_reached_target"]
    assert result.metrics["row_passes"] > 0 and run.state.global_step < run.state.max_steps
    tau = run.progress.tau
    assert tau <= max(before["unseen"], math.log(50)) + 1e-6
    assert after["forget"] >= (1 - gaps.TOLERANCE) * tau - 1e-6  # reached …
    assert after["forget"] <= (1 + 2 * gaps.TOLERANCE) * tau  # … and not beyond
    assert after["retain"] <= before["retain"] + 0.5
    first, *_, last = [log for log in run.state.log_history if "forget_loss" in log and "alpha" in log]
    assert first["forget_loss"] == pytest.approx(before["forget"], rel=1e-4)
    assert first["tau"] == pytest.approx(before["unseen"], rel=1e-4)
    assert first["alpha"] == pytest.approx(run.rule.alpha0, abs=1e-6) and last["alpha"] < first["alpha"]


def test_sizes_give_alpha_passes_and_looks(tmp_path):
    run = trainer(tmp_path, per_device_train_batch_size=2)
    assert run.rule.alpha0 == pytest.approx(5 / 3 * 6 / 24)
    assert run.rule.passes == 9 and len(run.train_dataset) == 54 and run.looks.every == 2
    assert run.rule.chance == math.log(50)
    own = trainer(tmp_path, per_device_train_batch_size=2, alpha=0.1, passes="4", target="frozen", stop=False)
    assert (own.rule.alpha0, own.rule.passes, own.rule.target, own.rule.stop) == (0.1, 4, "frozen", False)


@pytest.mark.parametrize("gap", ["squared", "matched", "ranked"])
def test_the_other_gaps_reach_their_target_too(tmp_path, gap):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 1.0, "passes": "60"}
    run = trainer(tmp_path, memorised_more(), MORE, gap=gap, **options)
    run.train()
    assert run.stop_reason == "forget_loss_reached_target"
    if gap != "squared":
        assert len(run.targets) == 4 and len(set(run.targets)) > 1
        sums, counts = run.row_losses(MORE["forget"])
        missing = gaps.GAPS[gap].shortfall(sums.sum() / counts.sum(), sums / counts, tau=math.nan, targets=run.targets)
        assert missing <= gaps.TOLERANCE + 1e-6


def test_ranked_targets_are_the_unseen_losses_in_the_order_of_the_rows(tmp_path):
    options = {"gap": "ranked", "max_steps": 1, "stop": False}
    rows = {**ROWS, "unseen": lm_rows(6, 100)}
    before = trainer(tmp_path, rows=rows)
    own, unseen = (np.divide(*before.row_losses(rows[name])) for name in ("forget", "unseen"))
    run = trainer(tmp_path, rows=rows, **options)
    run.train()
    assert sorted(run.targets) == pytest.approx(sorted(unseen), rel=1e-12)
    assert np.argsort(run.targets).tolist() == np.argsort(own).tolist()
    run = trainer(tmp_path, target="chance", **options)
    run.train()
    assert run.targets == [math.log(50)] * 6


def test_plain_ascent_spends_the_budget_and_the_weights_within_it_are_put_back(tmp_path):
    keep = Weights()
    options = {"objective": "gradient_ascent", "per_device_train_batch_size": 4, "passes": "50"}
    run = trainer(tmp_path, memorised_more(), MORE, learning_rate=5e-4, callbacks=[keep], **options)
    start = mean_loss(run.model, MORE["retain"])
    result = run.train()
    assert run.stop_reason == result.metrics["stop_reason"] == "retain_budget_spent"
    limit = stop_rule.retain_limit(run.rule, run.progress)
    assert limit == pytest.approx(start + 0.1, rel=1e-4)
    assert mean_loss(run.model, MORE["retain"]) <= limit + 1e-6
    assert mean_loss(run.model, MORE["forget"]) > 1.0
    spent = type(run.model)(run.model.config)
    spent.load_state_dict(keep.steps[-2])
    assert mean_loss(spent, MORE["retain"]) > limit
    assert not same_bits(weights(run.model), more_by_heart())  # the way up to the budget is kept
    assert run.state.global_step < run.state.max_steps


def test_a_budget_spent_in_the_first_step_leaves_the_model_as_it_came(tmp_path):
    """Nothing within the budget was seen after a step: the model before the first one is within it by definition."""
    run = trainer(tmp_path, objective="gradient_ascent", learning_rate=0.3, passes="10")
    run.train()
    assert run.stop_reason == "retain_budget_spent"
    assert mean_loss(run.model, ROWS["retain"]) <= stop_rule.retain_limit(run.rule, run.progress)


def test_a_fleeing_target_is_capped(tmp_path):
    """α = ½ at a high rate destroys the model; without the cap τ would follow its unseen loss upward."""
    options = {"learning_rate": 0.05, "passes": "12", "unseen_every": 1, "stop": False}
    run = trainer(tmp_path, memorised_more(), MORE, alpha=0.9, per_device_train_batch_size=4, **options)
    run.train()
    unseen = [log["unseen_loss"] for log in run.state.log_history if "unseen_loss" in log]
    taus = [log["tau"] for log in run.state.log_history if "tau" in log]
    cap = max(run.progress.tau_initial, math.log(50))
    assert max(unseen) > cap  # it did flee
    assert max(taus) <= cap + 1e-6 and run.progress.tau <= cap


@pytest.mark.parametrize("target", ["frozen", "chance"])
def test_targets_that_stay(tmp_path, target):
    run = trainer(tmp_path, target=target, passes="3", unseen_every=1, stop=False, learning_rate=1e-2)
    unseen = mean_loss(run.model, ROWS["unseen"])
    run.train()
    wanted = unseen if target == "frozen" else math.log(50)
    taus = {log["tau"] for log in run.state.log_history if "tau" in log}
    assert all(tau == pytest.approx(wanted, rel=1e-4) for tau in taus) and run.progress.tau_initial == run.progress.tau


def test_fixed_length_runs_all_passes(tmp_path):
    run = trainer(tmp_path, stop=False, passes="7", per_device_train_batch_size=4, learning_rate=5e-3)
    result = run.train()
    assert result.metrics["stop_reason"] == "all_passes_done"
    assert run.state.global_step == math.ceil(42 / 4) and run.progress.forget_pass == 7
    alphas = [log["alpha"] for log in run.state.log_history if "alpha" in log]
    assert alphas == pytest.approx([run.rule.alpha0 * (1 - min(k * 4 // 6, 6) / 7) for k in range(11)], rel=1e-4)


def with_references(values):
    return {**ROWS, "forget": ROWS["forget"].add_column("reference_nll", values)}


def test_npo_measures_its_references_or_takes_those_of_the_rows(tmp_path):
    options = {"objective": "npo", "max_steps": 2, "learning_rate": 1e-3, "stop": False, "save_strategy": "no"}
    ends, costs = [], []
    sums = trainer(tmp_path, **options).row_losses(ROWS["forget"])[0].tolist()
    for rows in (ROWS, with_references(sums), with_references([5.0 + i for i in range(6)])):
        run = trainer(tmp_path, rows=rows, **options)
        run.train()
        assert run.references == ([5.0 + i for i in range(6)] if len(ends) == 2 else sums) and not run.targets
        ends.append(weights(run.model))
        costs.append(run.cost["row_passes"])
    assert same_bits(ends[1], ends[0]) and not same_bits(ends[2], ends[0])
    assert costs[0] - costs[1] == pytest.approx(6 / 3, abs=2e-3)  # a forward of the forget rows


def test_npo_ends_by_the_rule_of_the_mean(tmp_path):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 1.0, "passes": "60"}
    run = trainer(tmp_path, memorised_more(), MORE, objective="npo", npo_beta=0.05, **options)
    run.train()
    assert run.stop_reason == "forget_loss_reached_target"
    lacking = shortfall(mean_loss(run.model, MORE["forget"]), run.progress.tau)
    assert -stop_rule.OVERSHOOT - 1e-6 <= lacking <= gaps.TOLERANCE + 1e-6


@pytest.mark.parametrize("values", [
    [1.0, math.nan, 2.0, 3.0, math.inf, 0.0], [1.0, -0.5, 2.0, 3.0, -math.inf, 0.0], [1.0, None, 2.0, 3.0, None, 0.0],
    ["1", "2", "3", "4", "5", "6"],
], ids=str)  # fmt: skip
def test_references_that_are_no_losses_are_told_before_a_model_is_loaded(tmp_path, values):
    with pytest.raises(ArgumentError, match="'reference_nll' must hold the sum .* row.s. do not, ids ") as caught:
        trainer(tmp_path, "does/not-exist", with_references(values), objective="npo")
    wrong = "6 row(s) do not, ids 0, 1, 2, 3, 4, … (6 in all)." if values[0] == "1" else "2 row(s) do not, ids 1, 4."
    assert wrong in str(caught.value)
    with pytest.raises(ArgumentError, match="`unseen_dataset` is NoneType") as caught:
        trainer(tmp_path, "does/not-exist", {**with_references(values), "unseen": None}, objective="npo")
    assert len(caught.value.problems) == 2  # all at once
    if values[0] != "1":
        trainer(tmp_path, rows=with_references(values), objective="grad_diff")  # which has no use for them


def test_max_steps_is_a_reason_too(tmp_path):
    run = trainer(tmp_path, max_steps=2)
    assert run.train().metrics["stop_reason"] == "max_steps" and run.state.global_step == 2


@pytest.mark.parametrize("options", [
    {"objective": "gradient_ascent"}, {"objective": "grad_diff", "gamma": 0.5, "beta": 2.0},
    {"objective": "npo", "npo_beta": 0.2, "beta": 2.0}, {"gap": "squared"}, {"gap": "matched"},
    {"gap": "ranked"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_objective_runs(tmp_path, options, accumulation):
    run = trainer(tmp_path, lm(), passes="1", stop=False, per_device_train_batch_size=2, **options,
                  gradient_accumulation_steps=accumulation)  # fmt: skip
    run.train()
    assert run.stop_reason == "all_passes_done" and run.state.global_step == 3 // accumulation
    assert all(math.isfinite(log["loss"]) for log in run.state.log_history if "loss" in log)
    assert dataclasses.asdict(run.objective) == {k: v for k, v in options.items() if k != "objective"}


# ---- the step ----

OBJECTIVES = {
    "hinge": {},
    "squared": {"gap": "squared"},
    "matched": {"gap": "matched"},
    "ranked": {"gap": "ranked"},
    "gradient_ascent": {"objective": "gradient_ascent"},
    "grad_diff": {"objective": "grad_diff", "gamma": 0.5, "beta": 2.0},
    "npo": {"objective": "npo", "npo_beta": 0.2, "beta": 2.0},
}
EIGHT = {"forget": lm_rows(8), "retain": lm_rows(24, 8), "unseen": lm_rows(8, 100)}


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_steps_gradient_and_loss_are_the_objectives_on_the_whole_batch(tmp_path, options, accumulation):
    keep = Gradients()
    run = trainer(tmp_path, open_gate(), EIGHT, max_steps=1, alpha=0.3, max_grad_norm=0.0, stop=False,
                  per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
                  callbacks=[keep], **options)  # fmt: skip
    run.train()
    model = open_gate()
    pairs = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i] for i in range(8)]
    sides = []
    for rows in ([f for f, _, _ in pairs], [r for _, r, _ in pairs]):
        batch = batch_of(model, rows)
        sides.append(per_row_nll(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"]))
    (fs, fn), (rs, rn) = sides
    forget, retain = fs.sum() / fn.sum(), rs.sum() / rn.sum()
    tau = run.progress.tau_initial
    assert tau == pytest.approx(mean_loss(open_gate(), EIGHT["unseen"]), rel=1e-6)
    parameters = {k: v for k, v in options.items() if k != "objective"}
    objective = get_objective(options.get("objective", "nabla_tau"), **parameters)
    value = objective.mean_value(forget, retain, alpha=0.3, tau=tau)
    if objective.by_rows:
        brought = run.targets or run.references
        brought = torch.tensor([brought[place] for _, _, place in pairs], dtype=torch.float64)
        rows = RowOutputs(fs, fn, target=brought, reference=brought)
        value = value + objective.row_value(rows, alpha=0.3).mean()
    assert tau - float(forget.detach()) > 0.1  # the gate is open
    wanted = torch.autograd.grad(value, list(model.parameters()))
    assert relative(keep.steps[0], wanted) < 1e-6
    log = next(log for log in run.state.log_history if "loss" in log)
    assert log["loss"] == pytest.approx(float(value.detach()), abs=1e-4)
    assert log["forget_loss"] == pytest.approx(float(forget.detach()), abs=1e-5)
    assert log["retain_loss"] == pytest.approx(float(retain.detach()), abs=1e-5)


def open_gate(rows=EIGHT):
    """A float64 model that knows the forget and retain rows a little, so that the gate is open."""
    return fit(lm64(), [*rows["forget"], *rows["retain"]], steps=12)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in ("hinge", "ranked", "npo") else [pytest.mark.slow]) for name in OBJECTIVES
])  # fmt: skip
def test_the_cut_into_micro_batches_does_not_matter(tmp_path, name):
    ragged = {"short": 3, "long": 29}  # of one label to 26
    rows = {"forget": lm_rows(8, **ragged), "retain": lm_rows(16, 8, **ragged), "unseen": lm_rows(8, 100, **ragged)}
    ends = []
    for rows_each, accumulation in ((8, 1), (2, 4), (1, 8)):
        run = trainer(tmp_path, open_gate(rows), rows, passes="2", alpha=0.4, stop=False, learning_rate=0.1,
                      optim="sgd", per_device_train_batch_size=rows_each,
                      gradient_accumulation_steps=accumulation, **OBJECTIVES[name])  # fmt: skip
        run.train()
        assert run.state.global_step == 2 and not run.steps.is_closed
        ends.append(weights(run.model))
    assert distance(ends[0], weights(open_gate(rows))) > 1e-3
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


@pytest.mark.parametrize("name", ["hinge", "matched", "ranked", "npo"])
def test_a_ragged_last_step_is_cut_as_well(tmp_path, name):
    rows = {**EIGHT, "forget": lm_rows(7)}
    ends = []
    for rows_each, accumulation in ((4, 1), (2, 2), (1, 4)):
        run = trainer(tmp_path, open_gate(), {**rows, "retain": lm_rows(24, 8)}, passes="1", alpha=0.4, stop=False,
                      learning_rate=0.1, optim="sgd", per_device_train_batch_size=rows_each,
                      gradient_accumulation_steps=accumulation, **OBJECTIVES[name])  # fmt: skip
        run.train()
        assert run.state.global_step == 2
        ends.append(weights(run.model))
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


def test_beyond_the_target_the_hinge_leaves_only_the_retain_rows(tmp_path):
    """Forget rows never seen, τ of rows known by heart: the gate is closed from the start."""
    rows = {"forget": ROWS["unseen"], "retain": ROWS["retain"], "unseen": ROWS["forget"]}
    closed = Gradients()
    run = trainer(tmp_path, None, rows, max_steps=1, alpha=0.3, stop=False, max_grad_norm=0.0, callbacks=[closed])
    run.train()
    pairs = PairedDataset(rows["forget"], rows["retain"], 9, 42)
    model = memorised()
    model.train()
    loss = 0.7 * model(**batch_of(model, [pairs[i][1] for i in range(16)])).loss
    assert relative(closed.steps[0], torch.autograd.grad(loss, list(model.parameters()))) < 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_forward_or_two_is_the_same_step(tmp_path, name):
    ends = []
    for forward in ("together", "in_turn"):
        run = trainer(tmp_path, open_gate(), EIGHT, passes="2", alpha=0.4, stop=False, learning_rate=0.1, optim="sgd",
                      per_device_train_batch_size=4, forget_forward=forward, **OBJECTIVES[name])  # fmt: skip
        run.train()
        ends.append((weights(run.model), run.row_passes, [r["loss"] for r in run.state.log_history if "loss" in r]))
    assert distance(ends[0][0], weights(open_gate())) > 1e-3 and distance(ends[1][0], ends[0][0]) < 1e-6
    assert ends[1][1] == ends[0][1] and ends[1][2] == pytest.approx(ends[0][2], abs=1e-6)


SHUT = {"forget": ROWS["unseen"], "retain": ROWS["retain"], "unseen": ROWS["forget"]}  # beyond τ from the start


@pytest.mark.parametrize("accumulation, each, every, passes", [
    (1, 8, 1, 6 * 8 + 6 * 8 / 3),  # six steps of 8 + 8 rows: retain rows, and a look at the forget rows
    (2, 4, 1, 6 * 8 + 8 + 5 * 8 / 3),  # the first step must take the gradient before it knows the mean
    (1, 8, 3, 6 * 8 + 2 * 8 / 3),  # looked at on the first and the fourth step
    (2, 4, 4, 6 * 8 + 8 + 8 / 3),  # on the first and the fifth
])  # fmt: skip
def test_behind_a_shut_gate_forget_rows_cost_a_forward_or_nothing(tmp_path, accumulation, each, every, passes):
    cut = {"per_device_train_batch_size": each, "gradient_accumulation_steps": accumulation}
    run = trainer(tmp_path, memorised(), SHUT, max_steps=6, stop=False, target="frozen", gate_every=every,
                  forget_forward="in_turn", **cut)  # fmt: skip
    metrics = run.train().metrics
    measured = len(SHUT["unseen"]) + len(SHUT["retain"])  # τ and the retain sample before the first step
    assert metrics["row_passes"] == pytest.approx(passes + measured / 3, abs=2e-3)
    seen = ["forget_loss" in line for line in run.state.log_history if "loss" in line]
    assert seen == [k % every == 0 for k in range(6)]


def test_a_step_without_a_look_is_the_step_behind_a_shut_gate(tmp_path):
    ends = []
    for every in (1, 4):
        run = trainer(tmp_path, memorised(), SHUT, max_steps=6, stop=False, per_device_train_batch_size=8,
                      gate_every=every, forget_forward="in_turn", target="frozen")  # fmt: skip
        run.train()
        ends.append(weights(run.model))
    assert same_bits(*ends)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gate_that_the_target_opens_again_is_open_at_once(tmp_path, accumulation):
    class Raise(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                run.progress = dataclasses.replace(run.progress, tau=20.0)

    keep = Gradients()
    run = trainer(tmp_path, memorised(), SHUT, max_steps=5, stop=False, per_device_train_batch_size=8 // accumulation,
                  gradient_accumulation_steps=accumulation, gate_every=3, forget_forward="in_turn", target="frozen",
                  callbacks=[keep, Raise()], max_grad_norm=0.0)  # fmt: skip
    run.train()
    seen = ["forget_loss" in line for line in run.state.log_history if "loss" in line]
    assert seen == [True, False, True, True, True]
    sizes = [float(torch.stack([g.norm() for g in step]).norm()) for step in keep.steps]
    assert min(sizes[2:]) > 5 * max(sizes[:2])


def test_row_passes_by_hand(tmp_path):
    run = trainer(tmp_path, stop=False, passes="10", per_device_train_batch_size=3, max_steps=20, unseen_every=5)
    metrics = run.train().metrics
    # 20 steps of 3 + 3 rows; τ and the retain sample before, τ again after five and after ten passes, forward only
    assert metrics["row_passes"] == pytest.approx(20 * 6 + (8 + 18) / 3 + 2 * 8 / 3, abs=2e-3)
    assert run.cost["steps"] == 20 and run.cost["seconds"] > 0
    looked = trainer(tmp_path, passes="2", per_device_train_batch_size=3, learning_rate=1e-9)
    # far from the target no look but the last one, at the forget rows and the retain sample
    assert looked.train().metrics["row_passes"] == pytest.approx(4 * 6 + (8 + 18) / 3 + (6 + 18) / 3, abs=2e-3)


def test_losses_are_measured_in_eval_mode_and_every_modules_mode_comes_back(tmp_path):
    model = lm64(dropout=0.5)
    run = trainer(tmp_path, model)
    model.train()
    model.transformer.ln_f.eval()  # a part that the user keeps frozen
    modes = {name: module.training for name, module in model.named_modules()}
    sums, counts = run.row_losses(ROWS["unseen"])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert np.array_equal(run.row_losses(ROWS["unseen"])[0], sums)
    assert sums.shape == counts.shape == (8,) and sums.dtype == np.float64
    assert sums.sum() / counts.sum() == pytest.approx(mean_loss(lm64(dropout=0.5), ROWS["unseen"]), rel=1e-9)
    broken = Dataset.from_list(lm_list(3)).map(lambda row: {"input_ids": [99] * len(row["input_ids"])})
    with pytest.raises(IndexError):
        run.row_losses(broken)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_evaluation_is_the_stock_trainers(tmp_path):
    run = trainer(tmp_path)
    assert run.evaluate(ROWS["retain"].select(range(8)))["eval_loss"] == pytest.approx(
        float(memorised()(**batch_of(run.model, ROWS["retain"].select(range(8)))).loss.detach()), rel=1e-4
    )


# ---- resume, adapters, what is left behind ----


class AsAtTheKill(TrainerCallback):
    """Keeps each checkpoint as it lay there while the run went on."""

    def __init__(self, folder):
        self.folder = folder

    def on_save(self, args, state, control, **kwargs):
        name = f"checkpoint-{state.global_step}"
        shutil.copytree(Path(args.output_dir, name), self.folder / name)


@pytest.mark.parametrize("options", [
    {},  # ends at the budget, with the weights of before the checkpoint or after it
    pytest.param({"gap": "matched"}, marks=pytest.mark.slow),
    pytest.param({"gap": "ranked"}, marks=pytest.mark.slow),
    pytest.param({"objective": "npo", "learning_rate": 5e-4}, marks=pytest.mark.slow),
    {"gradient_accumulation_steps": 2, "unseen_every": 1, "retain_budget": 2.0, "learning_rate": 2e-3},
    pytest.param({"stop": False}, marks=pytest.mark.slow),
], ids=str)  # fmt: skip
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, options):
    options = {"passes": "8", "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3,
               "learning_rate": 1e-3, "lr_scheduler_type": "linear", **options}  # fmt: skip
    whole = trainer(tmp_path, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    assert whole.state.global_step > 6
    assert not list(tmp_path.glob("checkpoint-*/_request_weights.pt"))  # a finished run leaves none that still know
    again = trainer(tmp_path, lm(seed=5, layers=2, hidden=32), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-3"))
    assert same_bits(weights(again.model), weights(whole.model))
    assert again.progress == whole.progress and again.stop_reason == whole.stop_reason
    assert (again.targets, again.references) == (whole.targets, whole.references)
    assert again.cost["row_passes"] == pytest.approx(whole.cost["row_passes"], abs=2e-3)


def test_an_adapter_unlearns_and_the_base_is_bitwise_what_it_was(tmp_path):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = trainer(tmp_path, learning_rate=5e-3, passes="20", peft_config=lora, callbacks=[keep := Weights()])
    run.train()
    after = weights(run.model)
    names = {k: k.removeprefix("base_model.model.").replace(".base_layer", "") for k in after if "lora_" not in k}
    assert same_bits({name: after[k] for k, name in names.items()}, known_by_heart())
    assert all("lora_" in name for name, p in run.model.named_parameters() if p.requires_grad)
    assert any(not torch.equal(keep.steps[0][k], after[k]) for k in after if "lora_" in k)
    assert mean_loss(run.model, ROWS["forget"]) > 10 * mean_loss(memorised(), ROWS["forget"])
    run.save_model()
    assert (tmp_path / "adapter_model.safetensors").exists() and not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ValueError, match="has an adapter already"):
        trainer(tmp_path, run.model, peft_config=lora)


def test_what_is_saved_loads_with_stock_transformers_and_says_what_happened(tmp_path):
    run = trainer(tmp_path, passes="2", stop=False)
    run.train()
    run.save_model()
    run.create_model_card()
    assert same_bits(weights(AutoModelForCausalLM.from_pretrained(tmp_path)), weights(run.model))
    record = json.loads((tmp_path / "unlearning.json").read_text())
    assert record["schema"] == 1 and record["objective"] == "nabla_tau" and record["gap"] == "hinge"
    assert record["rows"] == {"forget": 6, "retain": 18, "unseen": 8} and record["was_ready"] is False
    assert record["stop_reason"] == "all_passes_done" and record["cost"]["steps"] == run.state.global_step
    assert record["rule"]["passes"] == 2 and record["state"]["tau_initial"] > 3
    card = (tmp_path / "README.md").read_text()
    head = card.split("---")[1]
    assert "- unlearned" in head and "- hf_unlearn" in head
    assert "no proof of deletion" in card and "2403.14339" in card and "LlamaForCausalLM.from_pretrained" in card
    assert stop_rule.STOP_REASONS["all_passes_done"] in card


def ready_folder(folder, request, schema=1):
    memorised().save_pretrained(folder)
    record = {"schema": schema, "ready": True, "request": request}
    Path(folder, "readiness.json").write_text(json.dumps(record))
    return str(folder)


def test_a_ready_checkpoint_gives_defaults_where_the_user_left_them(tmp_path):
    request = {"learning_rate": 1e-4, "alpha": 0.2, "gap": "matched", "unseen_every": 2}
    folder = ready_folder(tmp_path / "ready", request)
    run = trainer(tmp_path, folder, gap="squared", per_device_train_batch_size=4)
    assert (run.args.learning_rate, run.args.alpha, run.rule.alpha0, run.args.unseen_every) == (1e-4, 0.2, 0.2, 2)
    assert run.objective.gap == "squared" and run.args.per_device_train_batch_size == 4
    assert run.record()["was_ready"] is True
    loaded = trainer(tmp_path, AutoModelForCausalLM.from_pretrained(folder))
    assert loaded.args.learning_rate == 1e-4 and loaded.objective.gap == "matched" and loaded.objective.by_rows
    ignored = trainer(tmp_path, folder, readiness="none")
    assert ignored.args.learning_rate == 3e-4 and ignored.readiness is None
    pointed = trainer(tmp_path, memorised(), readiness=str(tmp_path / "ready" / "readiness.json"))
    assert pointed.args.learning_rate == 1e-4


def test_defaults_that_make_no_sense_are_refused_before_a_model_is_loaded(tmp_path):
    def told(request, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        Path(folder, "readiness.json").write_text(json.dumps({"schema": 1, "request": request, **options}))
        with pytest.raises(ArgumentError) as caught:
            trainer(tmp_path, str(folder))
        return str(caught.value)

    assert "`request` has 'gape', 'lr'; it may have" in told({"lr": 1.0, "gape": 2})
    assert "'push_to_hub'" in told({"push_to_hub": True})
    assert "`gap` is 'wide'" in told({"gap": "wide"})
    assert "schema 7" in told({}, schema=7)
    with pytest.raises(ArgumentError, match="there is no readiness.json"):
        trainer(tmp_path, memorised(), readiness=str(tmp_path))


# ---- what goes wrong ----


def no_labels(rows):
    return rows.map(lambda row: {"labels": [-100] * len(row["labels"])})


@pytest.mark.parametrize("rows, words", [
    ({"forget": lm_rows(0)}, ["The forget set is empty"]),
    ({"retain": lm_rows(0), "unseen": lm_rows(0)}, ["The retain set is empty", "The unseen set is empty"]),
    ({"unseen": None}, ["`unseen_dataset` is NoneType"]),
    ({"retain": lm_rows(9, 2)}, ["4 id(s) are in forget and in retain: 2, 3, 4, 5."]),
    ({"unseen": lm_rows(9, 20)}, ["4 id(s) are in retain and in unseen: 20, 21, 22, 23."]),
    ({"unseen": lm_rows(2, 4)}, ["1 id(s) are in retain and in unseen: 6", "1 id(s) are in forget and in unseen: 5"]),
    ({"forget": no_labels(lm_rows(6))}, ["6 forget row(s) have all labels at -100", "0, 1, 2, 3, 4, … (6 in all)"]),
])  # fmt: skip
def test_bad_rows_are_told_before_a_model_is_loaded(tmp_path, rows, words):
    if words[0].startswith("1 id"):
        rows = {"unseen": lm_rows(2, 5)}
    with pytest.raises(ArgumentError) as caught:
        trainer(tmp_path, "does/not-exist", {**ROWS, **rows})
    for part in words:
        assert part in str(caught.value)


def test_all_wrong_options_come_in_one_error(tmp_path):
    wrong = {"objective": "npo2", "gap": "wide", "target": "moon", "unseen_every": 0, "retain_budget": float("nan")}
    wrong |= {"gamma": -1.0, "beta": float("inf"), "alpha": 1.5, "passes": "0", "label_smoothing_factor": 0.1}
    wrong |= {"num_train_epochs": 3, "npo_beta": 0.0}
    with pytest.raises(ArgumentError) as caught:
        UnlearnConfig(str(tmp_path), **QUIET, **wrong)
    assert len(caught.value.problems) == len(wrong)
    for name in wrong:
        assert f"`{name}`" in str(caught.value), name


def test_a_loader_that_leaves_rows_out_is_refused(tmp_path):
    """`dataloader_drop_last` would take rows out of τ, out of the looks, and out of the request."""
    with pytest.raises(ArgumentError, match="dataloader_drop_last"):
        UnlearnConfig(str(tmp_path), **QUIET, dataloader_drop_last=True)


def test_a_step_with_a_broken_forget_row_changes_nothing_and_is_counted(tmp_path):
    rows = image_rows(6).to_list()
    rows[4]["pixel_values"] = torch.full((1, 8, 8), float("nan")).tolist()
    sets = {"forget": Dataset.from_list(rows), "retain": image_rows(12, 6), "unseen": image_rows(6, 100)}
    forwards = [{"forget_forward": "together"}, {"forget_forward": "in_turn"}]
    for options in (*forwards, {"objective": "npo"}, {"gap": "ranked"}):
        keep, model, shots = Weights(), vit(), OptimizerStates()
        run = trainer(tmp_path, model, sets, per_device_train_batch_size=2, stop=False, passes="2",
                      callbacks=[keep, shots], **options)  # fmt: skip
        result = run.train()
        broken = [any(PairedDataset(rows, [0] * 12, 2, 42).indices(i)[0] == 4 for i in range(2 * k, 2 * k + 2))
                  for k in range(6)]  # fmt: skip
        assert sum(broken) == 2 and result.metrics["skipped_steps"] == 2
        for k, was_broken in enumerate(broken):
            before = keep.steps[k - 1] if k else weights(vit())
            assert same_bits(keep.steps[k], before) is was_broken
            assert same_bits(shots.steps[k], shots.steps[k - 1] if k else {}) is was_broken
        assert run.record()["skipped"] == {"steps": 2, "in_a_row": int(broken[-1])}
        run.save_model()  # with a record that holds no NaN
        told = [line["skipped_steps"] for line in run.state.log_history if "skipped_steps" in line]
        assert told[:2] == [1, 2]
        assert all(math.isfinite(v) for line in run.state.log_history for v in line.values() if not isinstance(v, str))


def test_three_broken_steps_in_a_row_end_the_run_with_the_last_good_weights_on_disk(tmp_path):
    rows = [{**row, "pixel_values": torch.full((1, 8, 8), float("inf")).tolist()} for row in image_rows(6)]
    sets = {"forget": Dataset.from_list(rows), "retain": image_rows(12, 6), "unseen": image_rows(6, 100)}
    model = vit()
    run = trainer(tmp_path, model, sets, per_device_train_batch_size=2, stop=False)
    with pytest.raises(NonFiniteError, match="Steps 1 to 3: .* last good weights"):
        run.train()
    good = weights(vit())
    assert same_bits(weights(model), good) and same_bits(weights(type(model).from_pretrained(tmp_path)), good)
    assert json.loads((tmp_path / "unlearning.json").read_text())["skipped"] == {"steps": 3, "in_a_row": 3}


def test_broken_retain_rows_are_told_before_the_first_step(tmp_path):
    rows = image_rows(12, 6).to_list()
    rows[4]["pixel_values"] = torch.full((1, 8, 8), float("nan")).tolist()
    sets = {"forget": image_rows(6), "retain": Dataset.from_list(rows), "unseen": image_rows(6, 100)}
    with pytest.raises(ValueError, match="retain loss nan"):
        trainer(tmp_path, vit(), sets).train()


# ---- other kinds of models ----


@pytest.mark.parametrize("make, rows", [
    (bert, text_class_rows), pytest.param(vit, image_rows, marks=pytest.mark.slow)
], ids=["bert", "vit"])  # fmt: skip
@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_classifiers_forget_rows_too(tmp_path, make, rows, accumulation):
    sets = {"forget": rows(6), "retain": rows(18, 6), "unseen": rows(9, 100)}
    model = fit(make(), [*sets["forget"], *sets["retain"]], steps=60)
    before = mean_loss(model, sets["forget"])
    run = trainer(tmp_path, model, sets, learning_rate=3e-3, passes="160", target="chance", retain_budget=0.5,
                  per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation)  # fmt: skip
    run.train()
    assert run.stop_reason == "forget_loss_reached_target" and run.progress.tau == math.log(3)
    assert before < 0.2 and mean_loss(run.model, sets["forget"]) >= 0.94 * math.log(3)
    assert mean_loss(run.model, sets["retain"]) < 0.6


def test_to_remove_a_class_no_row_may_stay_answered(tmp_path):
    """With the target "chance" the hinge is on each row; a request for something else is left alone."""
    sets = {"forget": text_class_rows(6), "retain": text_class_rows(18, 6), "unseen": text_class_rows(9, 100)}
    model = fit(bert(), [*sets["forget"], *sets["retain"]], steps=60)
    run = trainer(tmp_path, model, sets, learning_rate=3e-3, passes="160", target="chance", retain_budget=0.5)
    assert run.objective.gap == run.args.gap == run.record()["gap"] == "rows"
    run.train()
    sums, counts = run.row_losses(sets["forget"])
    assert run.stop_reason == "forget_loss_reached_target" and run.targets == [math.log(3)] * 6
    assert np.maximum(math.log(3) - sums / counts, 0).mean() <= gaps.TOLERANCE * math.log(3)
    for options, gap in (
        ({}, "hinge"), ({"target": "frozen"}, "hinge"), ({"target": "chance", "gap": "squared"}, "squared"),
        ({"target": "chance", "gap": "hinge"}, "hinge"),
        ({"target": "chance", "resistance": "relearn"}, "squared"),
    ):  # fmt: skip
        assert trainer(tmp_path, model, sets, **options).objective.gap == gap
    assert UnlearnConfig(str(tmp_path), target="chance", use_cpu=True).gap == "auto"  # on a copy
    run = trainer(tmp_path, model, sets, gap="rows", max_steps=1, stop=False)
    run.train()
    assert set(run.targets) == {run.progress.tau_initial}


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_checkpoints_of_a_request_are_not_pushed(tmp_path, strategy):
    """They hold weights from before the rows were forgotten."""
    with pytest.raises(ArgumentError, match="still know the rows"):
        UnlearnConfig(str(tmp_path), push_to_hub=True, hub_strategy=strategy, use_cpu=True)
    UnlearnConfig(str(tmp_path), push_to_hub=True, hub_strategy="every_save", use_cpu=True)


def test_the_best_evaluation_is_not_loaded(tmp_path):
    more = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2}
    with pytest.raises(ArgumentError, match="`load_best_model_at_end` would undo the request"):
        UnlearnConfig(str(tmp_path), **QUIET, save_steps=2, **more)


def test_broken_forget_rows_are_named_and_left_out_of_the_looks(tmp_path, caplog):
    rows = image_rows(8).to_list()
    rows[3]["pixel_values"] = torch.full((1, 8, 8), float("nan")).tolist()
    sets = {"forget": Dataset.from_list(rows), "retain": image_rows(24, 8), "unseen": image_rows(8, 100)}
    run = trainer(tmp_path, vit(), sets, per_device_train_batch_size=2, passes="4")
    run.train()
    assert "Their places in the forget set: 3." in caplog.text
    looks = [line for line in run.state.log_history if "look_shortfall" in line]
    assert looks and all(math.isfinite(v) for line in looks for v in line.values())
    assert "NaN" not in json.dumps(run.state.log_history) and run.skipped_steps > 0
