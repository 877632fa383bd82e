"""A step of a request is what the formula says, however it is cut, and costs what the gate allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import (
    Gradients,
    batch_of,
    distance,
    lm64,
    lm_list,
    lm_rows,
    relative,
    same_bits,
    weights,
)
from helpers.unlearning import (
    EIGHT,
    ROWS,
    mean_loss,
    memorised,
    open_gate,
    trainer,
    weighed,
)
from transformers import TrainerCallback

from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import per_row_nll

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


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_steps_gradient_and_loss_are_the_objectives_on_the_whole_batch(tmp_path, options, accumulation):
    keep = Gradients()
    run = trainer(tmp_path, open_gate(), EIGHT, max_steps=1, max_grad_norm=0.0, stop=False,
                  per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
                  callbacks=[keep], **weighed(0.3, options))  # fmt: skip
    run.train()
    model = open_gate()
    pairs = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i] for i in range(8)]
    sides = []
    for rows in ([f for f, _, _ in pairs], [r for _, r, _ in pairs]):
        batch = batch_of(model, rows)
        sides.append(per_row_nll(model(**{k: v for k, v in batch.items() if k != "labels"}).logits, batch["labels"]))
    (fs, fn), (rs, rn) = sides
    forget, retain = fs.sum() / fn.sum(), rs.sum() / rn.sum()
    tau = run.request_state.tau_initial
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
    if options.get("objective") != "gradient_ascent":  # no retain row passes
        assert log["retain_loss"] == pytest.approx(float(retain.detach()), abs=1e-5)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in ("hinge", "ranked", "npo") else [pytest.mark.slow]) for name in OBJECTIVES
])  # fmt: skip
def test_the_cut_into_micro_batches_does_not_matter(tmp_path, name):
    ragged = {"short": 3, "long": 29}  # of one label to 26
    rows = {"forget": lm_rows(8, **ragged), "retain": lm_rows(16, 8, **ragged), "unseen": lm_rows(8, 100, **ragged)}
    ends = []
    for rows_each, accumulation in ((8, 1), (2, 4), (1, 8)):
        run = trainer(tmp_path, open_gate(rows), rows, passes="2", stop=False, learning_rate=0.1,
                      optim="sgd", per_device_train_batch_size=rows_each,
                      gradient_accumulation_steps=accumulation, **weighed(0.4, OBJECTIVES[name]))  # fmt: skip
        run.train()
        assert run.state.global_step == 2 and not run.steps.is_closed
        ends.append(weights(run.model))
    assert distance(ends[0], weights(open_gate(rows))) > 1e-3
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


@pytest.mark.parametrize("name", ["hinge", "matched", "ranked", "npo"])
def test_the_cut_of_a_ragged_last_step_does_not_matter(tmp_path, name):
    rows = {**EIGHT, "forget": lm_rows(7)}
    ends = []
    for rows_each, accumulation in ((4, 1), (2, 2), (1, 4)):
        run = trainer(tmp_path, open_gate(), {**rows, "retain": lm_rows(24, 8)}, passes="1", stop=False,
                      learning_rate=0.1, optim="sgd", per_device_train_batch_size=rows_each,
                      gradient_accumulation_steps=accumulation, **weighed(0.4, OBJECTIVES[name]))  # fmt: skip
        run.train()
        assert run.state.global_step == 2
        ends.append(weights(run.model))
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


def test_rows_that_stand_out_as_deleted_are_told_also_where_they_are_forgotten(tmp_path, caplog):
    run = trainer(tmp_path, memorised(), objective="grad_diff", learning_rate=5e-3, max_steps=12, stop=False)
    run.train()
    assert run.ending.forgotten and run.ending.beyond
    assert "It is far beyond, by which the rows stand out as deleted. Lower `learning_rate`. " in caplog.text


def test_beyond_the_target_the_hinge_leaves_only_the_retain_rows(tmp_path):
    """Forget rows never seen, τ of rows known by heart: the gate is closed from the start."""
    rows = {"forget": ROWS["unseen"], "retain": ROWS["retain"], "unseen": ROWS["forget"]}
    closed = Gradients()
    run = trainer(tmp_path, None, rows, max_steps=1, alpha=0.3, stop=False, max_grad_norm=0.0, callbacks=[closed],
                  gap="hinge")  # fmt: skip
    run.train()
    pairs = PairedDataset(rows["forget"], rows["retain"], run.rule.passes, 42)
    model = memorised()
    model.train()
    loss = 0.7 * model(**batch_of(model, [pairs[i][1] for i in range(16)])).loss
    assert relative(closed.steps[0], torch.autograd.grad(loss, list(model.parameters()))) < 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_forward_and_two_give_the_same_step(tmp_path, name):
    ends = []
    for forward in ("together", "in_turn"):
        run = trainer(tmp_path, open_gate(), EIGHT, passes="2", stop=False, learning_rate=0.1, optim="sgd",
                      per_device_train_batch_size=4, forget_forward=forward,
                      **weighed(0.4, OBJECTIVES[name]))  # fmt: skip
        run.train()
        ends.append((weights(run.model), run.row_passes, [r["loss"] for r in run.state.log_history if "loss" in r]))
    assert distance(ends[0][0], weights(open_gate())) > 1e-3 and distance(ends[1][0], ends[0][0]) < 1e-6
    assert ends[1][1] == ends[0][1] and ends[1][2] == pytest.approx(ends[0][2], abs=1e-6)


CLOSED = {"forget": ROWS["unseen"], "retain": ROWS["retain"], "unseen": ROWS["forget"]}  # beyond τ from the start


@pytest.mark.parametrize("accumulation, each, every, passes", [
    (1, 8, 1, 6 * 8 + 6 * 8 / 3),  # six steps of 8 + 8 rows: retain rows, and a look at the forget rows
    (2, 4, 1, 6 * 8 + 8 + 5 * 8 / 3),  # the first step must take the gradient before it knows the mean
    (1, 8, 3, 6 * 8 + 2 * 8 / 3),  # looked at on the first and the fourth step
    (2, 4, 4, 6 * 8 + 8 + 8 / 3),  # on the first and the fifth
])  # fmt: skip
def test_with_a_closed_gate_forget_rows_cost_a_forward_or_nothing(tmp_path, accumulation, each, every, passes):
    cut = {"per_device_train_batch_size": each, "gradient_accumulation_steps": accumulation}
    run = trainer(tmp_path, memorised(), CLOSED, max_steps=6, stop=False, gap="hinge", gate_every=every,
                  forget_forward="in_turn", **cut)  # fmt: skip
    metrics = run.train().metrics
    measured = len(CLOSED["unseen"]) + len(CLOSED["retain"])  # τ and the retain sample before the first step
    measured += len(CLOSED["forget"]) + len(CLOSED["retain"])  # what is left, behind the last one
    assert metrics["row_passes"] == pytest.approx(passes + measured / 3, abs=2e-3)
    seen = ["forget_loss" in line for line in run.state.log_history if "loss" in line]
    assert seen == [k % every == 0 for k in range(6)]


def test_a_step_that_skips_the_forget_rows_equals_one_that_finds_the_gate_closed(tmp_path):
    ends = []
    for every in (1, 4):
        run = trainer(tmp_path, memorised(), CLOSED, max_steps=6, stop=False, per_device_train_batch_size=8,
                      gate_every=every, forget_forward="in_turn", gap="hinge")  # fmt: skip
        run.train()
        ends.append(weights(run.model))
    assert same_bits(*ends)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gate_reopened_by_a_higher_target_is_open_in_the_next_step(tmp_path, accumulation):
    class Raise(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                run.request_state = dataclasses.replace(run.request_state, tau=20.0)

    keep = Gradients()
    run = trainer(tmp_path, memorised(), CLOSED, max_steps=5, stop=False, per_device_train_batch_size=8 // accumulation,
                  gradient_accumulation_steps=accumulation, gate_every=3, forget_forward="in_turn", gap="hinge",
                  callbacks=[keep, Raise()], max_grad_norm=0.0)  # fmt: skip
    run.train()
    seen = ["forget_loss" in line for line in run.state.log_history if "loss" in line]
    assert seen == [True, False, True, True, True]
    sizes = [float(torch.stack([g.norm() for g in step]).norm()) for step in keep.steps]
    assert min(sizes[2:]) > 5 * max(sizes[:2])


def test_row_passes_match_a_hand_count(tmp_path):
    run = trainer(tmp_path, stop=False, passes="10", per_device_train_batch_size=3, max_steps=20, target="current",
                  unseen_every=5)  # fmt: skip
    metrics = run.train().metrics
    # 20 steps of 3 + 3 rows; forward only: τ and the retain sample before, τ again after five and after ten passes, and
    # behind the last step the forget rows and the retain sample
    assert metrics["row_passes"] == pytest.approx(20 * 6 + (8 + 18) / 3 + 2 * 8 / 3 + (6 + 18) / 3, abs=2e-3)
    assert run.cost["steps"] == 20 and run.cost["seconds"] > 0
    looked = trainer(tmp_path, passes="2", per_device_train_batch_size=3, learning_rate=1e-9)
    # far from the target no look but the last one, at the forget rows and the retain sample; those also before
    assert looked.train().metrics["row_passes"] == pytest.approx(4 * 6 + (8 + 18 + 6) / 3 + (6 + 18) / 3, abs=2e-3)


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
