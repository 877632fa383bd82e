"""`ReadyTrainer`: the stock Trainer where readiness is off, the oracle's gradient where it is on, and its records."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import (
    QUIET,
    Gradients,
    OptimizerStates,
    Weights,
    batch_of,
    bert,
    cheap_collections,
    distance,
    image_rows,
    lm,
    lm64,
    lm_list,
    lm_rows,
    relative,
    resnet,
    same_bits,
    text_class_rows,
    tokenizer,
    vit,
    weights,
)
from peft import LoraConfig
from torch.func import functional_call
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from hf_unlearn import ArgumentError, NonFiniteError, ReadyConfig, ReadyTrainer, commitment, default_collator
from hf_unlearn.data.order import SpreadSampler, draw_groups, draw_request, spread_order
from hf_unlearn.options import GAIN_CAP, INNER_LR, INNER_LR_ADAPTER
from hf_unlearn.readiness.exact import exact_readiness_gradient
from hf_unlearn.readiness.moving_weights import norm
from hf_unlearn.readiness.terms import Terms

# the remaining float32 in a float64 run: shares of labels and logged figures
SHARES = 2e-7
OFF = {"lambda_efficiency": 0.0, "lambda_retention": 0.0}


def config(out, **options):
    own = {"per_device_train_batch_size": 8, "learning_rate": 0.05, "lr_scheduler_type": "constant", "optim": "sgd"}
    own |= {"meta_start": 0.0, "meta_gradient": "first_order", "inner_lr": 0.02, "request_rows": 0}
    own |= {"lambda_efficiency": 0.5, "lambda_retention": 1.0}  # what the formulas below hold, whatever the defaults
    return ReadyConfig(str(out), **{**QUIET, **own, **options})


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    yield from cheap_collections()


def train(out, model=None, rows=None, revocable="revocable", trainer={}, epsilon=None, **options):  # noqa: B006
    model = lm64() if model is None else model
    rows = lm_rows(16) if rows is None else rows
    run = ReadyTrainer(
        model, config(out, **options), rows, revocable=revocable, processing_class=tokenizer(), **trainer
    )
    if epsilon is not None:
        run.terms = dataclasses.replace(run.terms, fd_epsilon=epsilon)
    run.train()
    return run


# ---- nothing on: the stock Trainer ----


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("make, rows", [(lm, lm_rows), (lambda: bert(dropout=0.2), text_class_rows)], ids=["lm", "b"])
def test_with_all_weights_at_zero_it_is_the_stock_trainer_bit_for_bit(tmp_path, make, rows, accumulation):
    rows = rows(26)
    options = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulation, "num_train_epochs": 2,
        "optim": "adamw_torch", "learning_rate": 1e-2, "lr_scheduler_type": "linear",
    }  # fmt: skip

    class Stock(Trainer):
        def _get_train_sampler(self, train_dataset=None):
            epoch = lambda: int((self.state.epoch or 0) + 1e-6)  # noqa: E731
            return SpreadSampler(torch.tensor(rows["revocable"]).numpy(), len(rows), self.args.seed, epoch)

    model = make()
    arguments = TrainingArguments(
        str(tmp_path / "stock"), remove_unused_columns=False, logging_nan_inf_filter=False, **QUIET, **options
    )
    stock = Stock(model, arguments, default_collator(model, tokenizer()), rows, processing_class=tokenizer())
    stock.train()
    ours = train(tmp_path / "ours", make(), rows, **OFF, **options)
    assert ours.state.global_step == stock.state.global_step >= 6
    assert same_bits(weights(ours.model), weights(stock.model))
    losses = [[log["loss"] for log in t.state.log_history if "loss" in log] for t in (ours, stock)]
    assert losses[0] == losses[1] and len(losses[0]) == stock.state.global_step
    assert ours.simulated.steps_with_readiness_terms == 0
    assert not any("ready_gain" in log for log in ours.state.log_history)


def test_before_its_start_and_between_its_turns_a_step_is_the_stock_trainers(tmp_path):
    """`meta_start` and `meta_every` leave whole steps to plain training: the first steps are the same bit for bit."""
    trace = {}
    for name, options in {"plain": OFF, "late": {"meta_start": 0.5}, "on": {}}.items():
        run = train(tmp_path / name, lm(), max_steps=4, trainer={"callbacks": [keep := Weights()]}, **options)
        trace[name] = keep.steps
        assert run.simulated.steps_with_readiness_terms == {"plain": 0, "late": 2, "on": 4}[name]
    assert all(same_bits(trace["plain"][k], trace["late"][k]) for k in (0, 1))
    assert not same_bits(trace["plain"][2], trace["late"][2])
    assert not same_bits(trace["plain"][0], trace["on"][0])


def test_every_second_step_with_revocable_rows(tmp_path):
    run = train(tmp_path, lm(), max_steps=5, meta_every=2)
    steps = json.loads(json.dumps(run.record()))["steps"]
    assert steps == {"all": 5, "with_revocable_rows": 5, "with_readiness_terms": 3}
    with_terms = [log["step"] for log in run.state.log_history if "ready_gain" in log]
    assert with_terms == [1, 3, 5]


def test_steps_without_revocable_rows_do_not_count(tmp_path):
    rows = lm_rows(16, every=16)  # one revocable row, so one step of each two
    run = train(tmp_path, lm(), rows, num_train_epochs=3)
    assert run.record()["steps"] == {"all": 6, "with_revocable_rows": 3, "with_readiness_terms": 3}


# ---- readiness on: the rows ----


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"revocable": None}], ids=str)
def test_every_row_is_seen_once_an_epoch(tmp_path, options):
    rows, seen, model = lm_rows(27), [], lm()
    collate = default_collator(model, tokenizer())

    def watching(batch):
        seen.extend(row["id"] for row in batch)
        assert all("revocable" not in row for row in batch) or options.get("revocable", 1) is None
        return collate(batch)

    train(tmp_path, model, rows, num_train_epochs=3, per_device_train_batch_size=4, remove_unused_columns=False,
          trainer={"data_collator": watching}, **options)  # fmt: skip
    flags = None if "revocable" in options else torch.tensor(rows["revocable"]).numpy()
    for epoch in range(3):
        part = seen[27 * epoch : 27 * (epoch + 1)]
        assert part == spread_order(flags, 27, 42, epoch).tolist()
    assert len(seen) == 81


def test_the_main_loss_is_untouched(tmp_path):
    """The logged loss is the mean over the step's labels at θ, whether the readiness terms run or not."""
    run = train(tmp_path, lm64(), max_steps=1, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    rows = lm_rows(16)
    first = spread_order(torch.tensor(rows["revocable"]).numpy(), 16, 42, 0)[:8]
    with torch.no_grad():
        wanted = float(lm64()(**batch_of(lm(), [rows[int(i)] for i in first])).loss)
    assert run.state.log_history[0]["loss"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("options", [
    {"meta_gradient": "first_order"},
    {"meta_gradient": "finite_difference"},
    {"meta_gradient": "finite_difference", "resistance": "relearn", "lambda_resistance": 0.7},
    {"meta_gradient": "first_order", "resistance": "align", "lambda_resistance": 0.7, "inner_steps": 2},
    {"meta_gradient": "first_order", "resistance": "relearn", "lambda_resistance": 0.7, "efficiency": "loss"},
    {"meta_gradient": "finite_difference", "resistance": "align", "lambda_resistance": 0.7, "inner_steps": 3},
    {"meta_gradient": "exact", "resistance": "relearn", "lambda_resistance": 0.7, "inner_steps": 2},
    {"meta_gradient": "finite_difference", "inner_steps": 2, "inner_normalize": False, "efficiency": "loss"},
    {"meta_gradient": "first_order", "revocable": None, "revocable_share": 0.5},
    {"meta_gradient": "finite_difference", "meta_rows": 0.75},
    {"meta_gradient": "first_order", "revocable": None, "meta_rows": 0.5},
    {"meta_gradient": "finite_difference", "revocable": None, "revocable_share": 0.5, "resistance": "relearn",
     "lambda_resistance": 0.7},
], ids=lambda o: "-".join(map(str, o.values())))  # fmt: skip
def test_the_cut_into_micro_batches_does_not_matter(tmp_path, options):
    rows = lm_rows(15, every=2, short=3, long=29)  # of one label to 26; the last step is a row short
    ends = []
    for rows_each, accumulation in ((8, 1), (1, 8), (2, 4)):
        run = train(
            tmp_path, lm64(), rows, num_train_epochs=1, per_device_train_batch_size=rows_each, meta_start=0.5,
            gradient_accumulation_steps=accumulation, inner_lr=0.05, **options,
        )  # fmt: skip
        assert run.state.global_step == 2 and run.simulated.steps_with_readiness_terms == 1  # the second, of seven rows
        ends.append(weights(run.model))
    assert distance(ends[0], weights(lm64())) > 1e-3
    assert distance(ends[1], ends[0]) < SHARES
    assert distance(ends[2], ends[0]) < SHARES


@pytest.mark.parametrize("options", [
    {}, {"inner_steps": 2, "efficiency": "loss"}, {"meta_rows": 0.75}, {"resistance": "relearn",
    "lambda_resistance": 0.5}, {"revocable": None}, {"gain_cap": 1e-6},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("make, rows", [
    (lm, lm_rows),
    pytest.param(bert, text_class_rows, marks=pytest.mark.slow),
    pytest.param(vit, image_rows, marks=pytest.mark.slow),
], ids=list("lbv"))  # fmt: skip
def test_one_forward_or_two_is_the_same_step(tmp_path, make, rows, options):
    ends = []
    for forward in ("in_turn", "together"):
        counts, model = [], make()
        model.register_forward_pre_hook(lambda *_, counts=counts: counts.append(1))
        run = train(tmp_path, model, rows(8), max_steps=2, meta_forward=forward, inner_lr=0.05, **options)
        ends.append((weights(model), run.row_passes, len(counts)))
    start, one, other = (list(found.values()) for found in (weights(make()), ends[0][0], ends[1][0]))
    assert relative(one, start) > 1e-3 and relative(other, one) < 1e-6
    once = 2 * 8 / 3  # rows of two forwards: is the loss the usual one?
    assert ends[1][1] == pytest.approx(ends[0][1] + once) and ends[0][2] == ends[1][2] + 2 - 2


class Weighted(ReadyTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        logits = model(**{k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}).logits
        return torch.nn.functional.cross_entropy(logits, inputs["labels"], torch.tensor([1.0, 2.0, 5.0]))


class Own(type(bert())):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        out = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        if labels is not None:
            out.loss = torch.nn.functional.cross_entropy(out.logits, labels, torch.tensor([1.0, 2.0, 5.0]))
        return out


@pytest.mark.parametrize("where", ["trainer", "model", "function"])
def test_a_loss_of_its_own_is_never_taken_from_the_logits(tmp_path, where):
    ends = []
    for forward in ("in_turn", "auto"):
        model = bert()
        if where == "model":
            model.__class__ = Own
        more = {"compute_loss_func": lambda out, labels, num_items_in_batch=None: out.logits.square().mean()}
        kind = Weighted if where == "trainer" else ReadyTrainer
        args = config(tmp_path, max_steps=2, meta_forward=forward)
        kind(model, args, text_class_rows(8), processing_class=tokenizer(),
             **(more if where == "function" else {})).train()  # fmt: skip
        ends.append(weights(model))
    assert same_bits(*ends)


@pytest.mark.parametrize("share, revocable, rows_at", [
    (1.0, "revocable", 8), (0.5, "revocable", 4), (0.1, "revocable", 3), (0.5, None, 4), (0.75, None, 6),
])  # fmt: skip
def test_a_share_of_the_rows_passes_again_at_the_moved_weights(tmp_path, share, revocable, rows_at):
    """Eight rows, two of them revocable: the main pass over all, then those two and stable ones to fill the share."""
    run = train(tmp_path, lm(), lm_rows(8), revocable=revocable, max_steps=3, meta_rows=share)
    once = 2 * 8 / 3  # before the first pass over both: is the loss the usual one?
    assert run.row_passes == pytest.approx(3 * (8 + rows_at) + once) and run.record()["meta_rows"] == share


# ---- readiness on: the gradient ----


def oracle(model, rows, terms, request, proxy, stable, main=None):
    """∇ of the main loss over all rows (or those of `main`) plus the readiness terms, by double backward."""
    names = [name for name, _ in model.named_parameters()]
    params = [p for _, p in model.named_parameters()]
    batches = {
        kind: batch_of(model, [rows[i] for i in chosen])
        for kind, chosen in {"revocable": request, "stable": stable, "proxy": proxy or stable}.items()
    }

    def losses(at, kind):
        return functional_call(model, dict(zip(names, at, strict=True)), kwargs=batches[kind]).loss

    gradient, values = exact_readiness_gradient(params, losses, terms)
    main = model(**batch_of(model, [rows[i] for i in main or [*request, *proxy, *stable]])).loss
    plain = torch.autograd.grad(main, params)
    return [g + m for g, m in zip(gradient, plain, strict=True)], values


@pytest.mark.parametrize("accumulation, inner_steps", [(1, 1), (4, 1), (4, 3)])
@pytest.mark.parametrize("resistance", ["none", "relearn", "align"])
def test_a_steps_gradient_is_the_oracles(tmp_path, resistance, accumulation, inner_steps):
    rows = lm_rows(8, every=2)
    flags = torch.tensor(rows["revocable"]).numpy()
    order = spread_order(flags, 8, 42, 0).tolist()
    request, stable = [i for i in order if flags[i]], [i for i in order if not flags[i]]
    proxy = []
    options = {"inner_lr": 0.1, "resistance": resistance, "inner_steps": inner_steps}
    if resistance != "none":
        options["lambda_resistance"] = 0.6
        request, proxy = request[::2], request[1::2]  # every second revocable row plays the recovery data
    for mode, tolerance in (("exact", SHARES), ("finite_difference", 1e-4)):
        keep = Gradients()
        run = train(
            tmp_path, lm64(), rows, max_steps=1, meta_gradient=mode, max_grad_norm=0.0, epsilon=1e-6, **options,
            per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
            trainer={"callbacks": [keep]},
        )  # fmt: skip
        wanted, values = oracle(lm64(), rows, run.terms, request, proxy, stable)
        assert relative(keep.steps[0], wanted) < tolerance, mode
        log = run.state.log_history[0]
        for name, value in values.items():
            if name != "inner_length" or inner_steps == 1:
                assert log[f"ready_{name}"] == pytest.approx(float(value), abs=2e-6), name


@pytest.mark.parametrize("accumulation, efficiency", [
    (4, "gain"), pytest.param(1, "gain", marks=pytest.mark.slow), pytest.param(1, "loss", marks=pytest.mark.slow)
])  # fmt: skip
@pytest.mark.parametrize("resistance", ["none", "relearn"])
@pytest.mark.parametrize("group", [None, "group"])
def test_a_steps_gradient_with_a_drawn_request_is_the_oracles(tmp_path, group, resistance, accumulation, efficiency):
    rows = lm_rows(24, every=3)
    flags, k = np.array(rows["revocable"]), 3
    codes = np.arange(24) % 6
    rows = rows.add_column("group", [f"g{c}" for c in codes])
    batch = spread_order(None if group else flags, 24, 42, 0).tolist()[:8]
    more = {"resistance": resistance, "lambda_resistance": 0.6} if resistance != "none" else {}
    if group:
        drawn, chosen = draw_groups(codes, 2 * k if more else k, 42, 0)
        stable = [i for i in batch if codes[i] not in chosen]
    else:
        drawn = draw_request(np.flatnonzero(flags), 2 * k if more else k, 42, 0)
        stable = [i for i in batch if not flags[i]]
    request, proxy = drawn[:k].tolist(), drawn[k:].tolist()
    assert len(proxy) == (k if more else 0) and 0 < len(stable) < 8
    for mode, tolerance in (("exact", SHARES), ("finite_difference", 1e-4)):
        keep = Gradients()
        run = train(
            tmp_path, lm64(), rows, None if group else "revocable", max_steps=1, meta_gradient=mode, max_grad_norm=0.0,
            epsilon=1e-6, inner_lr=0.1, request_rows=k, request_group=group, efficiency=efficiency, **more,
            per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation,
            trainer={"callbacks": [keep]},
        )  # fmt: skip
        wanted, values = oracle(lm64(), rows, run.terms, request, proxy, stable, batch)
        assert relative(keep.steps[0], wanted) < tolerance, mode
        assert run.state.log_history[0]["ready_gain"] == pytest.approx(float(values["gain"]), abs=2e-6)


@pytest.mark.parametrize("options", [
    {}, {"lambda_efficiency": 0.0}, {"efficiency": "loss"}, {"inner_steps": 2}, {"lambda_retention": 0.0},
], ids=str)  # fmt: skip
def test_first_order_with_a_drawn_request_by_hand(tmp_path, options):
    rows, keep = lm_rows(16, every=4), Gradients()
    flags = np.array(rows["revocable"])
    batch = spread_order(flags, 16, 42, 0)[:8]
    given = {"inner_lr": 0.1, "request_rows": 4, "max_grad_norm": 0.0, "gain_cap": 9.0, **options}
    run = train(tmp_path, lm64(), rows, max_steps=1, trainer={"callbacks": [keep]}, **given)
    terms, model = run.terms, lm64()
    params = list(model.parameters())
    request = batch_of(model, [rows[i] for i in np.flatnonzero(flags).tolist()])
    stable = batch_of(model, [rows[int(i)] for i in batch if not flags[i]])

    def grad(batch):
        return torch.autograd.grad(model(**batch).loss, params)

    wanted, at_home = list(grad(batch_of(model, [rows[int(i)] for i in batch]))), grad(request)
    theta, g = float(norm(params)), at_home
    for step in range(terms.inner_steps):
        g = grad(request) if step else at_home
        with torch.no_grad():
            for p, x in zip(params, g, strict=True):
                p.add_(0.1 * theta / float(norm(g)) * x)
    gain = terms.lambda_efficiency if terms.efficiency == "gain" else 0.0
    for weight, part in (
        (-terms.lambda_efficiency, grad(request)), (gain, at_home), (terms.lambda_retention, grad(stable)),
    ):  # fmt: skip
        wanted = [w + weight * x for w, x in zip(wanted, part, strict=True)]
    assert relative(keep.steps[0], wanted) < SHARES
    at_moved = 4 * bool(terms.lambda_efficiency) + 6 * bool(terms.lambda_retention)  # two of the step's are revocable
    assert run.row_passes == 8 + 4 * terms.inner_steps + at_moved


def test_drawn_requests_take_every_revocable_row_in_turn_and_leave_the_main_stream_alone(tmp_path):
    rows, seen, model = lm_rows(24, every=4), [], lm()
    collate = default_collator(model, tokenizer())

    def watching(batch):
        seen.append([row["id"] for row in batch])
        return collate(batch)

    run = train(tmp_path, model, rows, num_train_epochs=2, request_rows=2, meta_every=2, remove_unused_columns=False,
                dataloader_num_workers=0, trainer={"data_collator": watching})  # fmt: skip
    drawn = [ids for ids in seen if len(ids) == 2]
    main = [i for ids in seen if len(ids) == 8 for i in ids]
    flags = np.array(rows["revocable"])
    assert main == [*spread_order(flags, 24, 42, 0), *spread_order(flags, 24, 42, 1)]
    assert sorted(i for ids in drawn for i in ids) == np.flatnonzero(flags).tolist() and len(drawn) == 3
    assert run.record()["steps"] == {"all": 6, "with_revocable_rows": 6, "with_readiness_terms": 3}
    assert run.record()["request_rows"] == 2


@pytest.mark.parametrize("revocable, group, drawn", [("revocable", None, 2), (None, None, 0), (None, "id", 2)])
def test_the_record_says_how_many_rows_were_drawn(tmp_path, revocable, group, drawn):
    run = train(tmp_path, lm(), lm_rows(16), revocable, max_steps=1, request_rows=2, request_group=group)
    assert run.record()["request_rows"] == drawn


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_with_a_drawn_request_a_share_is_of_the_steps_own_rows(tmp_path, share):
    """Eight rows, two of them revocable, which are no stable ones: with half of them four pass again, with all six."""
    run = train(tmp_path, lm(), lm_rows(8), max_steps=2, request_rows=2, meta_rows=share)
    assert run.row_passes == 2 * (8 + 2 + 2 + {0.5: 4, 1.0: 6}[share])


def test_the_logged_loss_is_without_the_drawn_rows(tmp_path):
    run = train(tmp_path, lm64(), max_steps=1, request_rows=3)
    rows = lm_rows(16)
    first = spread_order(np.array(rows["revocable"]), 16, 42, 0)[:8]
    with torch.no_grad():
        wanted = float(lm64()(**batch_of(lm(), [rows[int(i)] for i in first])).loss)
    assert run.state.log_history[0]["loss"] == pytest.approx(wanted, rel=1e-6)


def test_groups_change_from_turn_to_turn(tmp_path):
    rows, seen, model = lm_rows(24).add_column("group", [f"g{i // 2}" for i in range(24)]), [], lm()
    collate = default_collator(model, tokenizer())

    def watching(batch):
        seen.append(sorted(row["id"] for row in batch))
        return collate(batch)

    train(tmp_path, model, rows, None, max_steps=6, request_rows=2, request_group="group",
          remove_unused_columns=False, trainer={"data_collator": watching})  # fmt: skip
    drawn = [tuple(ids) for ids in seen if len(ids) == 2]
    assert len(drawn) == 6 and len(set(drawn)) > 3 and all(b == a + 1 and a % 2 == 0 for a, b in drawn)


def test_a_resumed_run_draws_the_same_requests(tmp_path):
    rows = lm_rows(24, every=3).add_column("group", [f"g{i % 5}" for i in range(24)])
    options = {"max_steps": 4, "request_rows": 3, "request_group": "group", "optim": "adamw_torch"}
    whole = train(tmp_path / "whole", lm(), rows, None, **options)
    train(tmp_path / "cut", lm(), rows, None, save_strategy="steps", save_steps=2, **options)
    shutil.rmtree(tmp_path / "cut" / "checkpoint-4")
    again = ReadyTrainer(lm(), config(tmp_path / "cut", **options), rows, None, processing_class=tokenizer())
    again.train(resume_from_checkpoint=True)
    assert same_bits(weights(again.model), weights(whole.model)) and again.row_passes == whole.row_passes


@pytest.mark.parametrize("options, message", [
    ({"request_group": "nobody"}, "`request_group` is 'nobody', but there is no such column"),
    ({"request_group": "group", "revocable": "revocable"}, "pass one of the two"),
    ({"request_group": "one"}, "has one value"),
    ({"request_group": "input_ids"}, "must hold text or whole numbers"),
    ({"request_group": "group", "request_rows": 0}, "`request_group` is set but `request_rows` is 0"),
    ({"request_rows": -1}, "`request_rows` is -1"),
    ({"request_rows": 2.5}, "`request_rows` is 2.5; it must be a whole number"),
], ids=str)  # fmt: skip
def test_a_wrong_request_group_is_told_before_anything_is_loaded(tmp_path, options, message):
    rows = lm_rows(8).add_column("group", list("abababab")).add_column("one", ["x"] * 8)
    revocable = options.pop("revocable", None)
    with pytest.raises(ArgumentError, match=message):
        ReadyTrainer("nowhere", config(tmp_path, **{"request_rows": 2, **options}), rows, revocable)


def test_first_order_gradient_by_hand_through_the_trainer(tmp_path):
    rows = lm_rows(8, every=2)
    keep = Gradients()
    train(tmp_path, lm64(), rows, max_steps=1, max_grad_norm=0.0, inner_lr=0.1, trainer={"callbacks": [keep]})
    model = lm64()
    params = list(model.parameters())
    batches = {flag: batch_of(model, [r for r in rows if r["revocable"] is flag]) for flag in (True, False)}

    def grad(batch):
        return torch.autograd.grad(model(**batch).loss, params)

    main, at_home = grad(batch_of(model, list(rows))), grad(batches[True])
    length = 0.1 * float(norm(params) / norm(at_home))
    with torch.no_grad():
        for p, g in zip(params, at_home, strict=True):
            p.add_(length * g)
    after, kept = grad(batches[True]), grad(batches[False])
    wanted = [m - 0.5 * (a - h) + 1.0 * k for m, a, h, k in zip(main, after, at_home, kept, strict=True)]
    assert relative(keep.steps[0], wanted) < SHARES


def test_the_caps_of_a_gain_and_of_a_loss(tmp_path):
    def caps(model, rows, **given) -> tuple[float, float]:
        terms = ReadyTrainer(model, config(tmp_path, **given), rows, processing_class=tokenizer()).terms
        return terms.gain_cap, terms.cap

    assert caps(bert(), text_class_rows(8)) == (math.log(3), math.log(3))  # never more than guessing
    assert caps(lm(), lm_rows(8)) == (GAIN_CAP, math.log(50))
    assert caps(lm(), lm_rows(8), gain_cap=1.5) == (1.5, math.log(50))
    assert caps(lm(), lm_rows(8), gain_cap=9.0) == (9.0, 9.0)


def test_dropout_masks_are_the_same_in_the_two_passes_of_a_finite_difference(tmp_path):
    """Else the difference of gradients is one of masks, ‖θ‖/ε times too large."""
    sizes = {}
    for mode in ("first_order", "finite_difference"):
        keep = Gradients()
        train(tmp_path, lm64(dropout=0.3), lm_rows(8, every=2), max_steps=1, max_grad_norm=0.0, inner_lr=0.01,
              meta_gradient=mode, trainer={"callbacks": [keep]})  # fmt: skip
        sizes[mode] = sum(float(g.norm() ** 2) for g in keep.steps[0]) ** 0.5
    assert sizes["finite_difference"] < 3 * sizes["first_order"]


def test_stable_rows_that_stand_in_for_the_proxy_repeat_their_masks_too(tmp_path):
    """One revocable row a step leaves none for recovery; "align" takes a finite difference over the stand-ins."""
    sizes = {}
    for dropout in (0.0, 0.3):
        keep = Gradients()
        train(tmp_path, lm64(dropout=dropout), lm_rows(8, every=8), max_steps=1, max_grad_norm=0.0, inner_lr=0.01,
              resistance="align", lambda_resistance=1.0, trainer={"callbacks": [keep]})  # fmt: skip
        sizes[dropout] = sum(float(g.norm() ** 2) for g in keep.steps[0]) ** 0.5
    assert sizes[0.3] < 3 * sizes[0.0]


@pytest.mark.parametrize(
    "make, rows, tolerance",
    [(lambda: bert().double(), text_class_rows, SHARES), (vit, image_rows, 1e-4)],
    ids=["bert", "vit"],
)
def test_classifiers_have_the_oracles_gradient_too(tmp_path, make, rows, tolerance):
    rows, keep = rows(8, every=2), Gradients()
    run = train(tmp_path, make(), rows, max_steps=1, max_grad_norm=0.0, inner_lr=0.1, meta_gradient="exact",
                trainer={"callbacks": [keep]})  # fmt: skip
    wanted, _ = oracle(make(), rows, run.terms, [0, 2, 4, 6], [], [1, 3, 5, 7])
    assert relative(keep.steps[0], wanted) < tolerance
    first = Gradients()
    train(tmp_path, make(), rows, max_steps=1, max_grad_norm=0.0, inner_lr=1e-6, trainer={"callbacks": [first]})
    tiny_step = Terms(inner_lr=1e-6, lambda_efficiency=0.5, lambda_retention=1.0)
    wanted, _ = oracle(make(), rows, tiny_step, [0, 2, 4, 6], [], [1, 3, 5, 7])
    assert relative(first.steps[0], wanted) < max(tolerance, 1e-4)


def test_the_model_is_never_handed_our_flags(tmp_path):
    model, seen = lm(), set()
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    run = train(tmp_path, model, max_steps=2, meta_every=2)  # one step with the terms and one without
    metrics = run.evaluate(lm_rows(8, 40))
    assert {"input_ids", "attention_mask", "labels"} <= seen
    assert not seen & {"is_forget", "forget_index", "revocable", "id"}
    plain = lm()
    plain.load_state_dict(weights(model))
    with torch.no_grad():
        wanted = float(plain(**batch_of(plain, lm_rows(8, 40))).loss)
    assert metrics["eval_loss"] == pytest.approx(wanted, rel=1e-4)


# ---- resume, adapters, what is left behind ----


@pytest.mark.parametrize("options", [
    {"meta_gradient": "first_order", "meta_every": 2},
    {"meta_gradient": "finite_difference", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
], ids=["every 2", "accumulation"])  # fmt: skip
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, options):
    options = {"optim": "adamw_torch", "learning_rate": 1e-2, "lr_scheduler_type": "linear", "num_train_epochs": 3,
               "save_strategy": "steps", "save_steps": 5, **options}  # fmt: skip
    rows, model = lm_rows(26, every=3), lm(attention_dropout=0.1)
    whole = train(tmp_path, model, rows, **options)
    assert whole.state.global_step == 12  # four steps an epoch: the checkpoint lies inside one
    again = ReadyTrainer(
        lm(seed=9, attention_dropout=0.1), config(tmp_path, **options), rows, processing_class=tokenizer()
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert same_bits(weights(again.model), weights(whole.model))
    assert again.record()["steps"] == whole.record()["steps"]


@pytest.mark.parametrize("mode", ["first_order", "finite_difference"])
def test_an_adapter_is_trained_and_the_base_is_bitwise_what_it_was(tmp_path, mode):
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    before = weights(lm())
    run = train(tmp_path, lm(), max_steps=3, meta_gradient=mode, resistance="relearn", lambda_resistance=0.3,
                trainer={"peft_config": lora, "callbacks": [keep := Weights()]})  # fmt: skip
    after = weights(run.model)
    names = {k: k.removeprefix("base_model.model.").replace(".base_layer", "") for k in after if "lora_" not in k}
    assert same_bits({name: after[k] for k, name in names.items()}, before)
    assert not any(torch.equal(keep.steps[0][k], after[k]) for k in after if "lora_" in k)
    assert all(p.requires_grad == ("lora_" in name) for name, p in run.model.named_parameters())
    assert len(run.trainable) == 4
    run.save_model()
    assert Path(tmp_path, "adapter_model.safetensors").exists() and Path(tmp_path, "readiness.json").exists()


def test_an_adapter_is_drawn_by_the_seed_and_its_simulated_step_is_longer(tmp_path):
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")

    def drawn(seed: int, before: int, peft_config=lora, **given) -> tuple[dict, float]:
        torch.manual_seed(before)  # what a script has drawn until then
        run = ReadyTrainer(lm(), config(tmp_path, seed=seed, **{"inner_lr": None, **given}), lm_rows(8),
                           processing_class=tokenizer(), peft_config=peft_config)  # fmt: skip
        return {k: v for k, v in weights(run.model).items() if "lora_A" in k}, run.record()["inner_lr"]

    (first, step), (again, _), (other, _) = drawn(1, 1), drawn(1, 2), drawn(2, 1)
    assert first and same_bits(first, again) and not any(torch.equal(first[k], other[k]) for k in first)
    assert (step, drawn(1, 1, None)[1]) == (INNER_LR_ADAPTER, INNER_LR) and INNER_LR_ADAPTER > INNER_LR
    assert drawn(1, 1, inner_lr=0.1)[1] == drawn(1, 1, None, inner_lr=0.1)[1] == 0.1
    merged = lm()
    merged.peft_config = {}  # what some versions of PEFT leave there
    run = ReadyTrainer(merged, config(tmp_path, inner_lr=None), lm_rows(8), processing_class=tokenizer())
    assert run.record()["inner_lr"] == INNER_LR


def test_the_record_of_a_checkpoint(tmp_path):
    rows = lm_rows(16)
    run = train(tmp_path, lm(), rows, max_steps=2, save_strategy="steps", save_steps=1, request='{"alpha": 0.2}')
    run.save_model()
    record = json.loads((tmp_path / "readiness.json").read_text())
    assert record["schema"] == 1 and record["ready"] is True and record["revocable"] == "named"
    assert record["revocable_rows"] == 4 and record["revocable_fraction"] == 0.25
    assert record["request"] == {"alpha": 0.2}
    assert record["steps"] == {"all": 2, "with_revocable_rows": 2, "with_readiness_terms": 2}
    assert (record["inner_lr"], record["lambda_efficiency"], record["meta_gradient"]) == (0.02, 0.5, "first_order")
    assert set(record["probe"]) == {"gain", "retention", "inner_length"}
    assert record["probe"]["inner_length"] == pytest.approx(0.02, rel=1e-3)
    assert {"torch", "transformers"} <= set(record["versions"])
    # the salt lies beside, with a name that a push leaves out, and opens the commitment
    salts = list(tmp_path.rglob("*salt*"))
    assert [p.parent for p in salts] == [tmp_path] and salts[0].name.startswith("_")
    salt = json.loads(salts[0].read_text())["salt"]
    assert record["revocable_commitment"] == commitment([0, 4, 8, 12], salt) == commitment(["12", 8, 4, 0], salt)
    assert record["revocable_commitment"] != commitment([0, 4, 8], salt)
    assert record["revocable_commitment"] != commitment([0, 4, 8, 12], salt + "x")
    assert salt not in (tmp_path / "readiness.json").read_text()
    for step in (1, 2):
        in_checkpoint = json.loads((tmp_path / f"checkpoint-{step}" / "readiness.json").read_text())
        assert in_checkpoint["steps"]["all"] == step
        assert in_checkpoint["revocable_commitment"] == record["revocable_commitment"]


def test_the_record_says_when_nothing_was_made_ready(tmp_path):
    run = train(tmp_path, lm(), max_steps=1, **OFF)
    run.save_model()
    assert json.loads((tmp_path / "readiness.json").read_text())["ready"] is False
    any_row = train(tmp_path / "any", lm(), max_steps=1, revocable=None)
    assert any_row.record()["revocable"] == "any" and any_row.record()["revocable_rows"] == 16


def test_what_is_saved_loads_with_stock_transformers(tmp_path):
    run = train(tmp_path, lm(), max_steps=2)
    run.save_model()
    run.create_model_card()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert same_bits(weights(loaded), weights(run.model))
    card = (tmp_path / "README.md").read_text()
    head = card.split("---")[1]
    assert "- unlearning-ready" in head and "- hf_unlearn" in head
    assert "A ready model still knows everything it was trained on" in card
    assert "LlamaForCausalLM.from_pretrained" in card and "2505.10845" in card
    assert "first_order" in card


# ---- what goes wrong ----


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
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ArgumentError, match="multi_label_classification"):
        ReadyTrainer(model, config(tmp_path), text_class_rows(8), processing_class=tokenizer())


def test_terms_follow_the_config(tmp_path):
    options = {"inner_lr": 0.3, "inner_steps": 2, "inner_normalize": False, "meta_gradient": "finite_difference"}
    options |= {"lambda_efficiency": 0.1, "lambda_retention": 0.2, "lambda_resistance": 0.3}
    options |= {"efficiency": "loss", "resistance": "align"}
    run = ReadyTrainer(lm(), config(tmp_path, **options), lm_rows(8), processing_class=tokenizer())
    assert run.terms == Terms(**options, gain_cap=run.terms.gain_cap, cap=run.terms.cap, fd_epsilon=1e-4)
