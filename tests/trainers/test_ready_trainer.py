"""`ReadyTrainer`: the stock Trainer where readiness is off; which rows it sees; resuming, adapters, records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.ready_runs import OFF, SHARES, config, train
from helpers.tiny import (
    QUIET,
    Weights,
    batch_of,
    bert,
    distance,
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
from peft import LoraConfig
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from hf_unlearn import ArgumentError, ReadyTrainer, commitment, default_collator
from hf_unlearn.data.order import SpreadSampler, spread_order
from hf_unlearn.options import INNER_LR, INNER_LR_ADAPTER

# ---- nothing on: the stock Trainer ----


@pytest.mark.parametrize("make, rows, accumulation", [
    (lm, lm_rows, 1), (lm, lm_rows, 3), (lambda: bert(dropout=0.2), text_class_rows, 1),
], ids=["llama", "llama in three", "bert"])  # fmt: skip
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


def test_meta_every_2_adds_the_terms_on_every_second_step_with_revocable_rows(tmp_path):
    run = train(tmp_path, lm(), max_steps=5, meta_every=2)
    steps = json.loads(json.dumps(run.record()))["steps"]
    assert steps == {"all": 5, "with_revocable_rows": 5, "with_readiness_terms": 3}
    with_terms = [log["step"] for log in run.state.log_history if "ready_gain" in log]
    assert with_terms == [1, 3, 5]


def test_meta_every_does_not_count_steps_without_revocable_rows(tmp_path):
    rows = lm_rows(16, every=16)  # one revocable row, so one step of each two
    run = train(tmp_path, lm(), rows, num_train_epochs=3)
    assert run.record()["steps"] == {"all": 6, "with_revocable_rows": 3, "with_readiness_terms": 3}


def test_rows_without_the_column_train_plainly_where_readiness_is_none(tmp_path):
    """Nothing reads it then; a name that was given is meant, and any other readiness needs it."""
    rows = lm_rows(8).remove_columns("revocable")
    off = config(tmp_path / "off", readiness="none", max_steps=2)
    by_default = ReadyTrainer(lm(), off, rows, processing_class=tokenizer())
    by_default.train()
    said = train(tmp_path / "said", lm(), rows, None, readiness="none", max_steps=2)
    assert by_default.state.global_step == 2 and same_bits(weights(by_default.model), weights(said.model))
    for named, readiness in (("may_go", "none"), ("revocable", "meta")):
        args = config(tmp_path / "refused", readiness=readiness, max_steps=2)
        with pytest.raises(ArgumentError, match=f"`revocable` is '{named}', but there is no such column"):
            ReadyTrainer("nowhere", args, rows, named)


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


def test_rows_grouped_by_length_come_in_that_order(tmp_path):
    """The stock Trainer's sampler, in whose one large batch of 27 rows the longest come first."""
    rows, lengths, model = lm_rows(27), [], lm()
    collate = default_collator(model, tokenizer())

    def watching(batch):
        lengths.extend(len(row["input_ids"]) for row in batch)
        return collate(batch)

    train(tmp_path, model, rows, max_steps=1, per_device_train_batch_size=27, remove_unused_columns=False,
          train_sampling_strategy="group_by_length", trainer={"data_collator": watching})  # fmt: skip
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 27 and len(set(lengths)) > 5


def test_the_logged_loss_is_that_of_the_stock_trainer_with_readiness_on(tmp_path):
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
], ids=["llama", "bert", "vit"])  # fmt: skip
def test_one_forward_and_two_give_the_same_step(tmp_path, make, rows, options):
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
def test_a_users_own_loss_is_used_in_one_forward_and_in_two(tmp_path, where):
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
    assert "nothing has been unlearned before a request" in card
    assert "LlamaForCausalLM.from_pretrained" in card and "2505.10845" in card
    assert "first_order" in card
