"""Relearning curves against a hand-written loop; everything comes back bit for bit; what was hidden comes back."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
from helpers import tiny
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from hf_unlearn import default_collator
from hf_unlearn.evaluation import recovery_area, recovery_curves, relearn
from hf_unlearn.evaluation.attacks.relearn import ROW_KINDS, batch_rows, rows_of_attacker

FAST = {"steps": 3, "every": 2, "batch_size": 3, "learning_rate": 1e-2}


def collator(model, side="right"):
    return default_collator(model, tiny.tokenizer(side))


def by_hand(model, rows, held_out, batches, lr, points):
    """The curve by the model's own loss, row by row without padding: [(loss, accuracy)] at the steps in `points`."""
    model = copy.deepcopy(model).eval()
    params = [p for p in model.parameters() if p.is_floating_point()]
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)

    def sums(row):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logits = model(input_ids=ids).logits[0]
        if labels.dim() == 0:
            return cross_entropy(logits, labels), 1, int(logits.argmax() == labels)
        keep = labels[1:] != -100
        logits, labels = logits[:-1][keep], labels[1:][keep]
        return cross_entropy(logits, labels, reduction="sum"), len(labels), int((logits.argmax(-1) == labels).sum())

    def look():
        with torch.no_grad():
            nll, n, right = (sum(part) for part in zip(*map(sums, held_out), strict=True))
        return float(nll) / n, right / n

    found = [look()]
    for step, batch in enumerate(batches, 1):
        nll, n, _ = (sum(part) for part in zip(*(sums(rows[i]) for i in batch), strict=True))
        optimizer.zero_grad()
        (nll / n).backward()
        optimizer.step()
        if step in points:
            found.append(look())
    return found


@pytest.mark.parametrize("kind", ["causal", "left", "left, absolute positions", "classifier"])
def test_the_curve_is_that_of_a_plain_loop(kind):
    rel, side = 1e-6, "right"
    if kind == "classifier":  # dropout and mode make no difference: the loop runs in eval mode
        model, rows = tiny.bert(dropout=0.5).double().train(), list(tiny.text_class_rows(5))
        held_out = list(tiny.text_class_rows(4, 50))
    else:
        model, rows, held_out = tiny.lm64(dropout=0.5).train(), tiny.lm_list(5), tiny.lm_list(4, 50)
    if kind == "left, absolute positions":
        side = "left"
    if kind == "left":  # relative positions, in float32
        model, rel, side, held_out = tiny.lm(attention_dropout=0.5).train(), 1e-4, "left", rows[1:]
    curve = relearn(model, rows, held_out, collator(model, side), steps=4, every=3, batch_size=2, learning_rate=1e-2)
    order = [*np.random.default_rng((0, 0)).permutation(5), *np.random.default_rng((0, 1)).permutation(5)]
    wanted = by_hand(model, rows, held_out, [order[i : i + 2] for i in range(0, 8, 2)], 1e-2, (3, 4))
    assert [point["step"] for point in curve] == [0, 3, 4]
    assert [point["loss"] for point in curve] == pytest.approx([loss for loss, _ in wanted], rel=rel)
    assert [point["accuracy"] for point in curve] == pytest.approx([share for _, share in wanted])
    assert [point["row_passes"] for point in curve] == pytest.approx([4 / 3, 6 + 8 / 3, 8 + 4], abs=1e-3)
    assert curve[-1]["loss"] != pytest.approx(curve[0]["loss"], rel=1e-3)


def test_each_pass_over_the_rows_is_a_permutation_and_batches_are_pure():
    taken = [i for step in range(1, 6) for i in batch_rows(7, 3, 1, step)]
    assert sorted(taken[:7]) == sorted(taken[7:14]) == list(range(7)) and taken[:7] != taken[7:14]
    assert batch_rows(7, 3, 1, 4) == batch_rows(7, 3, 1, 4) != batch_rows(7, 3, 2, 4)
    assert sorted(batch_rows(4, 16, 0, 3)) == list(range(4))


def state(model) -> tuple:
    return (
        tiny.weights(model),
        {name: b.clone() for name, b in model.named_buffers()},
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
    )


def same_state(a, b) -> bool:
    grads = all(
        x[0] == y[0] and x[1] is y[1] and (x[2] is None or torch.equal(x[2], y[2]))
        for x, y in zip(a[3], b[3], strict=True)
    )
    return tiny.same_bits(a[0], b[0]) and tiny.same_bits(a[1], b[1]) and grads and a[2] == b[2] and a[4] == b[4]


def prepared(kind):
    """(model, rows): half the parameters frozen, some with a gradient, modes mixed."""
    model, rows = {
        "causal": lambda: (tiny.lm64(dropout=0.5), tiny.lm_list(6)),
        "batchnorm": lambda: (tiny.resnet(), list(tiny.image_rows(6))),
        "bfloat16": lambda: (tiny.lm().bfloat16(), tiny.lm_list(6)),
        "adapter": lambda: (
            get_peft_model(tiny.lm(), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])),
            tiny.lm_list(6),
        ),
    }[kind]()
    model.train()
    list(model.children())[0].eval()
    for i, p in enumerate(model.parameters()):
        if kind != "adapter":
            p.requires_grad_(i % 2 == 0)
        if p.requires_grad and i % 3 == 0:
            p.grad = torch.full_like(p, 0.5)
    return model, rows


@pytest.mark.parametrize("kind", ["causal", "batchnorm", "bfloat16", "adapter"])
def test_all_is_as_before_bit_for_bit_also_after_an_error(kind):
    model, rows = prepared(kind)
    before = state(model)
    first = relearn(model, rows[:4], rows[4:], collator(model), **FAST)
    assert same_state(before, state(model))
    with torch.no_grad():
        assert relearn(model, rows[:4], rows[4:], collator(model), **FAST) == first
    assert len({point["loss"] for point in first}) == 3

    calls = []

    def failing(batch):
        calls.append(batch)
        if len(calls) == 4:  # the measurement, two steps, the next measurement
            raise KeyboardInterrupt
        return collator(model)(batch)

    with pytest.raises(KeyboardInterrupt):
        relearn(model, rows[:4], rows[4:], failing, **FAST)
    assert same_state(before, state(model))


def test_what_trains_is_a_choice():
    model, rows = prepared("adapter")
    moved = {}

    def watching(batch):
        moved.update((name, value) for name, value in tiny.weights(model).items())
        return collator(model)(batch)

    before = tiny.weights(model)
    for trainable_only in (True, False):
        moved.clear()
        relearn(model, rows[:4], rows[4:], watching, trainable_only=trainable_only, **FAST)
        names = {name for name, value in moved.items() if not torch.equal(value, before[name])}
        assert any("lora_B" in name for name in names)
        assert any("base_layer" in name for name in names) is not trainable_only
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters to train"):
        relearn(model, rows[:4], rows[4:], collator(model), trainable_only=True)


def test_steps_below_the_resolution_of_bfloat16_are_not_lost():
    rows = tiny.lm_list(6)
    model = tiny.lm().bfloat16()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)  # spacing 2⁻⁷ there: ten steps of 1e-3 are worth more than one of them
    sent = {"steps": 10, "every": 10, "learning_rate": 1e-3}
    seen = []

    def watching(batch):
        seen.append(tiny.weights(model))
        return collator(model)(batch)

    relearn(model, rows[:4], rows[4:], watching, **sent)
    assert tiny.distance(seen[-1], seen[0]) > 1e-3


def test_a_loss_that_is_not_finite_is_named():
    model, rows = tiny.lm(), tiny.lm_list(6)
    before = tiny.weights(model)
    with pytest.raises(FloatingPointError, match=r"loss of `rows` is nan in step 2.*learning_rate"):
        relearn(model, rows[:4], rows[4:], collator(model), **{**FAST, "learning_rate": 1e30})
    assert tiny.same_bits(before, tiny.weights(model))
    with pytest.raises(FloatingPointError, match=r"loss of `held_out` is not finite after step 1"):
        relearn(model, rows[:4], rows[4:], collator(model), **{**FAST, "learning_rate": 1e30, "every": 1})
    assert tiny.same_bits(before, tiny.weights(model))
    with pytest.raises(FloatingPointError, match=r'model "unlearned", relearning from real rows: .*step 2'):
        recovery_curves({"unlearned": model}, {"forget": rows}, collator(model), kinds="real", learning_rate=1e30)


def test_arguments_that_make_no_sense_are_refused():
    model, rows = tiny.lm(), tiny.lm_list(4)
    with pytest.raises(ValueError, match=r"(?s)`rows` is empty.*`held_out` is empty.*`steps`.*`seed`.*`learning_rate`"):
        relearn(model, [], [], collator(model), steps=0, seed=-1, learning_rate=math.nan)
    blank = [{**row, "labels": [-100] * len(row["labels"])} for row in rows]
    with pytest.raises(ValueError, match="no labels in the batch of step 1"):
        relearn(model, blank, rows, collator(model))
    with pytest.raises(ValueError, match="without `labels`"):
        relearn(model, [{k: v for k, v in r.items() if k != "labels"} for r in rows], rows, collator(model))
    with pytest.raises(ValueError, match="float16"):
        relearn(tiny.lm().half(), rows, rows, collator(model))
    models, splits = {"unlearned": model}, {"forget": rows}
    with pytest.raises(ValueError, match=r"(?s)`kinds`.*`k` is 4 of 4 forget rows: expected 1 to 3"):
        recovery_curves(models, splits, kinds=["others"], k=4)
    with pytest.raises(ValueError, match=r'(?s)"retain" needs a split `retain`.*"similar" needs .*`similar` or `unse'):
        recovery_curves(models, {**splits, "retain": []})
    with pytest.raises(ValueError, match=r"(?s)`models` is empty.*`forget` has 1 rows"):
        recovery_curves({}, {"forget": rows[:1]}, kinds=["real"])


def test_the_area_is_a_ratio_of_trapezoids():
    steps = [0, 5, 10, 12]
    rng = np.random.default_rng(0)
    curve, reference = ([{"step": s, "loss": v} for s, v in zip(steps, rng.random(4), strict=True)] for _ in range(2))
    wanted = np.divide(*(np.trapezoid([p["loss"] for p in c], steps) for c in (curve, reference)))
    assert recovery_area(curve, reference) == pytest.approx(wanted, rel=1e-12)
    assert recovery_area(curve, curve) == 1.0
    zeros = [{"step": s, "loss": 0.0} for s in steps]
    assert recovery_area(zeros, curve) == 0.0
    for bad, why in (
        ((curve, zeros), "area of 0"),
        ((curve, curve[:-1]), r"steps \[0, 5, 10, 12\], `reference` \[0, 5, 10\]"),
        ((curve[:1], curve[:1]), r"1 point\(s\)"),
        (([{"step": s, "loss": math.nan} for s in steps], curve), "must be finite"),
    ):
        with pytest.raises(ValueError, match=why):
            recovery_area(*bad)


def test_what_was_only_hidden_comes_back_faster():
    retain, forget, unseen = tiny.lm_list(8), tiny.lm_list(8, 100), tiny.lm_list(6, 300)
    original = tiny.fit(tiny.lm(0), [*retain, *forget], steps=50)
    retrained = tiny.fit(tiny.lm(1), retain, steps=50)
    scrubbed = copy.deepcopy(original)
    optimizer = torch.optim.AdamW(scrubbed.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(100):
        loss = scrubbed(**tiny.batch_of(scrubbed, forget)).loss
        if loss > 3.0:
            break
        (-loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    models = {"unlearned": scrubbed, "never": tiny.lm(2), "retrained": retrained}
    splits = {"forget": forget, "retain": retain, "unseen": unseen}
    ids = {tuple(row["input_ids"]): row["id"] for rows in (retain, forget, unseen) for row in rows}
    seen: list[tuple] = []

    def watching(rows):
        seen.append(tuple(ids[tuple(row["input_ids"])] for row in rows))
        return collator(original)(rows)

    asked = {"steps": 8, "every": 4, "batch_size": 8, "learning_rate": 3e-3}
    curves = recovery_curves(models, splits, watching, **asked)
    assert {role: list(found) for role, found in curves.items()} == {role: list(ROW_KINDS) for role in models}
    areas = {
        role: {kind: recovery_area(found[kind], curves["retrained"][kind]) for kind in found}
        for role, found in curves.items()
    }
    assert all(areas["unlearned"][kind] < 0.5 for kind in ROW_KINDS)
    assert set(areas["retrained"].values()) == {1.0}
    back = [curves[role]["retain"] for role in ("unlearned", "never")]
    assert back[0][0]["loss"] > 2.5 and back[0][-1]["loss"] < 0.7 * back[0][0]["loss"]
    assert back[1][-1]["loss"] > 0.9 * back[1][0]["loss"]  # retain rows teach nothing about rows never seen

    third = len(seen) // 3  # rows, order and measured rows: the same for each model
    assert seen[:third] == seen[third : 2 * third] == seen[2 * third :]
    held_out, trained = {s for s in seen if len(s) == 6 and min(s) >= 100 and max(s) < 300}, set().union(*seen)
    assert len(held_out) == 1 and not held_out & {s for s in seen if len(s) != 6}
    real = {s for s in seen if len(s) == 2}
    assert {frozenset(s) for s in real} == {frozenset(range(100, 108)) - set(*held_out)}
    assert trained == {row["id"] for rows in splits.values() for row in rows}
    given, _ = rows_of_attacker(models, {**splits, "similar": retain[:3]}, ["similar"], 2, 0)
    assert given == {"similar": retain[:3]}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_attack_learns_wherever_it_is_called(context):
    model, rows, held_out = tiny.lm(), tiny.lm_rows(4), tiny.lm_rows(2, 50)
    plain = relearn(model, rows, held_out, collator(model), **FAST)
    with context():
        assert relearn(model, rows, held_out, collator(model), **FAST) == plain


def test_a_function_is_told_of_the_passes_of_all_kinds_of_fine_tune_as_one():
    model, rows = tiny.lm(), tiny.lm_list(8)
    told = []
    splits = {"forget": rows[:4], "retain": rows[4:]}
    how = {**FAST, "progress": lambda description, done, total: told.append((done, total))}
    recovery_curves({"unlearned": model}, splits, collator(model), kinds=["retain", "real"], k=2, **how)
    assert told == [(done, 6) for done in range(1, 7)]
