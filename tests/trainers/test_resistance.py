"""`resistance="relearn"`: the gradient of a simulated recovery's outcome, its part in a request, and what it costs."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from helpers.tiny import (
    Gradients,
    batch_of,
    distance,
    image_rows,
    lm,
    lm_rows,
    relative,
    resnet,
    same_bits,
    weights,
)
from helpers.toys import Net, passes
from helpers.unlearning import EIGHT, MORE, QUIET, AsAtTheKill, memorised, memorised_more, open_gate, trainer, weighed
from torch.func import functional_call
from transformers import TrainerCallback

from hf_unlearn import ArgumentError, UnlearnConfig
from hf_unlearn.data.columns import FLAG, FORGET_INDEX
from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.readiness.moving_weights import norm
from hf_unlearn.readiness.recovery import recovery_gradient
from hf_unlearn.unlearning import schedule, stop_rule
from hf_unlearn.unlearning.step import Recovery

ON = {"resistance": "relearn"}


class Tau(TrainerCallback):
    """Holds τ at a value."""

    def __init__(self, tau):
        self.tau, self.run = tau, None

    def on_step_begin(self, args, state, control, **kwargs):
        self.run.request_state = dataclasses.replace(self.run.request_state, tau=self.tau)


# ---- the arithmetic ----


def by_hand(loss, theta, *, steps, lr):
    """(L_h(θ''), ∇L_h(θ'')) without anything in place."""
    at, size = [p.detach().clone().requires_grad_() for p in theta], norm(theta)
    for _ in range(steps):
        grads = torch.autograd.grad(loss(at, "proxy"), at, allow_unused=True)
        length = lr * size / norm(grads)
        at = [
            (p if g is None else p - length.to(p.dtype) * g).detach().requires_grad_()
            for p, g in zip(at, grads, strict=True)
        ]
    value = loss(at, "revocable")
    grads = torch.autograd.grad(value, at, allow_unused=True)
    return float(value.detach()), [torch.zeros_like(p) if g is None else g for p, g in zip(at, grads, strict=True)]


@pytest.mark.parametrize("steps, lr", [(1, 0.03), (3, 0.1)])
@pytest.mark.parametrize("before", [False, True])
def test_the_gradient_after_a_recovery_is_added_and_the_weights_are_back(steps, lr, before):
    toy = Net()
    runs, theta, seen = passes(toy), [p.detach().clone() for p in toy.params], []
    for p in toy.params:
        p.grad = torch.full_like(p, 0.5) if before else None
    found = recovery_gradient(
        toy.params, held=runs["revocable"], proxy=runs["proxy"], steps=steps, lr=lr,
        slope=lambda loss: seen.append(loss) or -2 * (3.0 - loss),
    )  # fmt: skip
    value, wanted = by_hand(toy.loss, theta, steps=steps, lr=lr)
    assert float(found) == pytest.approx(value, rel=1e-12) and seen == [found] and not found.requires_grad
    assert abs(value - float(toy.loss(theta, "revocable"))) > 5e-4
    for p, was, g in zip(toy.params, theta, wanted, strict=True):
        assert torch.equal(p, was)
        got = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(got, -2 * (3.0 - value) * g + 0.5 * before, rtol=1e-10, atol=1e-12)


def test_an_error_or_a_broken_loss_leaves_the_weights_as_they_were():
    toy = Net()
    runs, theta = passes(toy), [p.detach().clone() for p in toy.params]
    with pytest.raises(ZeroDivisionError):
        recovery_gradient(toy.params, held=runs["stable"], proxy=runs["proxy"], steps=2, lr=0.1, slope=lambda x: 1 / 0)
    toy.data["proxy"][0].fill_(math.nan)
    found = recovery_gradient(
        toy.params, held=runs["revocable"], proxy=runs["proxy"], steps=2, lr=0.1, slope=lambda loss: loss
    )
    assert math.isnan(found) and math.isnan(norm([p.grad for p in toy.params]))  # so that the step is skipped
    assert all(torch.equal(p, was) for p, was in zip(toy.params, theta, strict=True))


# ---- which rows play which part ----


@pytest.mark.parametrize("world, each, order", [
    (1, 8, list(range(8))), (1, 2, list(range(8))), (2, 2, list(range(8))), (2, 4, [3, 0, 1, 2, 3, 0, 1, 2]),
    (1, 1, [5, 5, 2]), (2, 1, [4, 2, 6]),
])  # fmt: skip
def test_rows_take_their_parts_by_turns_in_the_order_of_the_data(world, each, order):
    """A row that comes twice plays one part; an odd end and an empty rank are no trouble."""
    first = list(dict.fromkeys(order))
    wanted = {"held": set(first[0::2]), "proxy": set(first[1::2])}
    cuts = [order[i : i + each] for i in range(0, len(order), each)]
    cuts += [cuts[0]] * (-len(cuts) % world)  # as `even_batches` fills the last step

    def batches(rank):
        found = []
        for rows in cuts[rank::world]:
            places = torch.tensor(rows + [-1] * len(rows))
            found.append({"labels": places.clamp_min(0), FORGET_INDEX: places, FLAG: places >= 0})
        return found

    sent = []
    for rank in range(world):
        Recovery(batches(rank), 8, world, rank, lambda x: sent.append(x) or x)
    places = torch.stack([x for x in sent if x.dim() == 3]).sum(0)
    found = {"held": set(), "proxy": set()}
    for rank in range(world):
        step = Recovery(batches(rank), 8, world, rank, lambda x: places if x.dim() == 3 else x)
        for batch, masks in zip(step.batches, step.masks, strict=True):
            assert not (masks["held"] & masks["proxy"]).any()
            assert torch.equal(masks["held"] | masks["proxy"], batch[FLAG])
            for kind, mask in masks.items():
                found[kind] |= set(batch[FORGET_INDEX][mask].tolist())
    assert found == wanted


# ---- the step ----


@pytest.mark.parametrize("forward", ["together", "in_turn"])
@pytest.mark.parametrize("accumulation", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [
    {"gap": "squared"}, {"gap": "matched"}, {"gap": "ranked"}, {"objective": "grad_diff", "gamma": 0.1}
], ids=str)  # fmt: skip
def test_a_steps_gradient_is_that_without_it_and_the_hinges_after_a_recovery(tmp_path, options, accumulation, forward):
    common = {"max_steps": 1, "max_grad_norm": 0.0, "stop": False, "forget_forward": forward, **options}
    common |= {"per_device_train_batch_size": 8 // accumulation, "gradient_accumulation_steps": accumulation}
    steps, logs = [], []
    for more in ({}, {**ON, "lambda_resistance": 0.7, "recovery_steps": 2, "recovery_lr": 0.02}):
        keep = Gradients()
        run = trainer(tmp_path, open_gate(), EIGHT, callbacks=[keep], **weighed(0.3, {**common, **more}))
        run.train()
        steps.append(keep.steps[0])
        logs.append(next(line for line in run.state.log_history if "loss" in line))
    model = open_gate()
    names = [name for name, _ in model.named_parameters()]
    rows = [PairedDataset(EIGHT["forget"], EIGHT["retain"], 9, 42)[i][0] for i in range(8)]

    def loss(at, kind):
        batch = batch_of(model, rows[1::2] if kind == "proxy" else rows[0::2])
        labels = batch.pop("labels")
        nll, n = per_row_nll(functional_call(model, dict(zip(names, at, strict=True)), kwargs=batch).logits, labels)
        return nll.sum() / n.sum()

    value, grads = by_hand(loss, list(model.parameters()), steps=2, lr=0.02)
    tau = run.request_state.tau_initial
    assert tau - value > 0.1  # its gate is open
    wanted = [a - 2 * 0.3 * 0.7 * (tau - value) * g for a, g in zip(steps[0], grads, strict=True)]
    assert relative(steps[1], wanted) < 1e-6 and relative(steps[1], steps[0]) > 1e-2
    assert logs[1]["recovered_loss"] == pytest.approx(value, abs=2e-6) and "recovered_loss" not in logs[0]
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"] + 0.3 * 0.7 * (tau - value) ** 2, abs=2e-4)


@pytest.mark.parametrize("n", [pytest.param(8, marks=pytest.mark.slow), 7])
def test_the_cut_into_micro_batches_does_not_matter(tmp_path, n):
    ragged = {"short": 3, "long": 29}
    rows = {"forget": lm_rows(n, **ragged), "retain": lm_rows(16, 8, **ragged), "unseen": lm_rows(8, 100, **ragged)}
    ends = []
    for rows_each, accumulation in ((4, 1), (2, 2), (1, 4)):
        run = trainer(tmp_path, open_gate(rows), rows, passes="2", alpha=0.4, stop=False, learning_rate=0.1,
                      gap="squared", optim="sgd", per_device_train_batch_size=rows_each,
                      gradient_accumulation_steps=accumulation, **ON)  # fmt: skip
        run.train()
        ends.append(weights(run.model))
    assert distance(ends[0], weights(open_gate(rows))) > 1e-3
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


def test_weights_and_buffers_are_what_they_were_before_the_ordinary_passes(tmp_path):
    sets = {"forget": image_rows(6), "retain": image_rows(18, 6), "unseen": image_rows(6, 100)}
    hold = Tau(9.0)
    run = trainer(tmp_path, resnet(), sets, max_steps=2, stop=False, per_device_train_batch_size=4, callbacks=[hold],
                  **ON)  # fmt: skip
    hold.run, seen, resist = run, [], run.steps.resist

    def watched(*args):
        before = weights(run.model)
        resist(*args)
        seen.append(same_bits(weights(run.model), before) and any(p.grad is not None for p in run.trainable))

    run.steps.resist = watched
    run.train()
    assert seen == [True, True] and not same_bits(weights(run.model), weights(resnet()))


# ---- its gate, its cost, its end ----


@pytest.mark.parametrize("tau, every, passes", [
    (9.0, 1, 3 * (2 * 4 + 4)),  # three recoveries of two steps by 4 rows, and 4 rows held out
    (0.0, 1, 3 * (2 * 4 + 4 / 3)),  # its gate is shut: a look
    (0.0, 3, 2 * 4 + 4 / 3),  # every third step
])  # fmt: skip
@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_row_passes_with_resistance_match_a_hand_count(tmp_path, tau, every, passes, accumulation):
    costs = []
    for more in ({}, {**ON, "recovery_steps": 2, "gate_every": every}):
        run = trainer(tmp_path, memorised(), EIGHT, max_steps=3, stop=False, gap="squared",
                      per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
                      callbacks=[hold := Tau(tau)], learning_rate=1e-6, **more)  # fmt: skip
        hold.run = run
        costs.append(run.train().metrics["row_passes"])
    looked = 3 * 4 / 3 if accumulation == 2 and tau else 0.0  # the mean of two micro-batches, before its gradient
    assert costs[1] - costs[0] == pytest.approx(passes + looked, abs=4e-3)


def test_reached_also_needs_that_the_recovery_fails():
    rule = schedule.Rule(alpha0=0.3, passes=10, target="current", chance=3.0, stop=True, retain_budget=0.1)
    near = {"shortfall": 0.0, "retain_loss": 0.1}
    for recovered, reason in ((1.8, stop_rule.REACHED), (1.79, None), (math.nan, None), (None, stop_rule.REACHED)):
        state = schedule.start(rule, 2.0, 0.1)
        for k in range(2):
            state = stop_rule.update(rule, state, forget_pass=k, recovered_loss=recovered, **near)
        assert state.stop_reason == reason, recovered


@pytest.mark.slow
def test_the_run_ends_where_the_recovery_fails(tmp_path):
    options = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 1.0, "passes": "150"}
    ends = {}
    for name, more in (("off", {}), ("on", ON)):
        run = trainer(tmp_path, memorised_more(), MORE, gap="squared", **options, **more)
        run.train()
        assert run.stop_reason == "forget_loss_reached_target"
        ends[name] = run
    last = [line for line in ends["on"].state.log_history if "look_recovered_loss" in line][-1]
    assert last["look_recovered_loss"] >= (1 - stop_rule.RECOVERY) * last["tau"]
    assert abs(last["look_shortfall"]) <= stop_rule.OVERSHOOT
    assert not any("look_recovered_loss" in line for line in ends["off"].state.log_history)
    assert ends["on"].state.global_step > ends["off"].state.global_step


def test_with_resistance_the_default_gap_is_squared_and_a_chosen_gap_stays(tmp_path):
    config = UnlearnConfig(str(tmp_path), **QUIET, **ON)
    run = trainer(tmp_path, config=config)
    assert run.objective.gap == "squared" == run.record()["gap"] and config.gap == "auto"
    assert trainer(tmp_path, gap="matched", **ON).objective.gap == "matched"
    assert trainer(tmp_path, target="chance").objective.gap == "level"
    assert trainer(tmp_path, target="chance", **ON).objective.gap == "squared"
    assert "gap" not in trainer(tmp_path, objective="npo", **ON).record()


# ---- resume, records, what goes wrong ----


@pytest.mark.parametrize("options", [
    pytest.param({"gap": "squared"}, marks=pytest.mark.slow),
    pytest.param({"gate_every": 3, "learning_rate": 3e-3}, marks=pytest.mark.slow),
    pytest.param(
        {"gradient_accumulation_steps": 2, "target": "current", "unseen_every": 1}, marks=pytest.mark.slow
    ),
], ids=str)  # fmt: skip
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, options):
    options = {"passes": "8", "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3,
               "learning_rate": 1e-3, "retain_budget": 2.0, **ON, **options}  # fmt: skip
    whole = trainer(tmp_path, callbacks=[AsAtTheKill(tmp_path / "killed")], **options)
    whole.train()
    assert whole.state.global_step > 6
    again = trainer(tmp_path, lm(seed=5, layers=2, hidden=32), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-3"))
    assert same_bits(weights(again.model), weights(whole.model)) and again.request_state == whole.request_state
    assert again.cost["row_passes"] == pytest.approx(whole.cost["row_passes"], abs=2e-3)


def test_a_request_is_not_resumed_with_another_resistance(tmp_path):
    common = {"passes": "8", "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 4}
    trainer(tmp_path, max_steps=4, **common).train()
    with pytest.raises(ArgumentError, match="`resistance` was 'none' and is 'relearn'"):
        trainer(tmp_path, max_steps=8, **common, **ON).train(resume_from_checkpoint=True)


def test_record_and_card_name_the_resistance_and_its_options(tmp_path):
    run = trainer(tmp_path, max_steps=2, stop=False, **ON, recovery_steps=2)
    run.train()
    run.save_model()
    run.create_model_card()
    record = json.loads((tmp_path / "unlearning.json").read_text())
    wanted = {"resistance": "relearn", "lambda_resistance": 1.0, "recovery_steps": 2, "recovery_lr": 0.01}
    assert {name: record[name] for name in wanted} == wanted
    assert "recovery_steps" in (tmp_path / "README.md").read_text()
    off = trainer(tmp_path, max_steps=2).record()
    assert off["resistance"] == "none" and "recovery_steps" not in off


def test_wrong_options_come_in_one_error(tmp_path):
    wrong = {"resistance": "align", "lambda_resistance": 0.0, "recovery_steps": 0, "recovery_lr": -1.0}
    with pytest.raises(ArgumentError) as caught:
        UnlearnConfig(str(tmp_path), **QUIET, **wrong)
    assert [problem.split("`")[1] for problem in caught.value.problems] == list(wrong)


def test_one_forget_row_cannot_be_divided(tmp_path):
    for rows, each in ((EIGHT, 1), ({**EIGHT, "forget": lm_rows(1)}, 4)):
        with pytest.raises(ArgumentError, match="`resistance` divides the forget rows of a step"):
            trainer(tmp_path, "does/not-exist", rows, per_device_train_batch_size=each, **ON)
