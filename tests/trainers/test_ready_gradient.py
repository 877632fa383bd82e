"""`ReadyTrainer`: the gradient of a step is the oracle's, with rows of the batch or drawn beside it."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from helpers.ready_runs import SHARES, config, train
from helpers.tiny import (
    Gradients,
    batch_of,
    bert,
    image_rows,
    lm,
    lm64,
    lm_rows,
    relative,
    same_bits,
    text_class_rows,
    tokenizer,
    vit,
    weights,
)
from torch.func import functional_call

from hf_unlearn import ArgumentError, ReadyTrainer, default_collator
from hf_unlearn.data.order import draw_groups, draw_request, spread_order
from hf_unlearn.options import GAIN_CAP
from hf_unlearn.readiness.exact import exact_readiness_gradient
from hf_unlearn.readiness.moving_weights import norm
from hf_unlearn.readiness.terms import Terms


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
    given = {"inner_lr": 0.1, "request_rows": 4, "max_grad_norm": 0.0, **options}
    given |= {"gain_cap": 9.0} if options.get("lambda_efficiency") != 0 else {}
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
    run = train(tmp_path, lm(), lm_rows(16), revocable, max_steps=1, request_rows=drawn, request_group=group)
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
], ids=lambda part: str(part) if isinstance(part, dict) else "")  # fmt: skip
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


def test_default_caps_of_gain_and_loss_depend_on_the_loss_of_guessing(tmp_path):
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


def test_dropout_masks_repeat_for_stable_rows_that_stand_in_for_the_recovery_data(tmp_path):
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


def test_flag_columns_never_reach_the_models_forward(tmp_path):
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
