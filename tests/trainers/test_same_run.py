"""A run is resumed from its own checkpoints alone: other rows or options are refused by name, harmless ones are not."""

from __future__ import annotations

import functools
import json
import logging
import pickle
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers import killed_run
from helpers.ready_runs import config
from helpers.tiny import image_rows, lm, lm64, lm_list, lm_rows, tokenizer, vit
from helpers.unlearning import QUIET, ROWS, trainer
from peft import LoraConfig
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from hf_unlearn import ArgumentError, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator
from hf_unlearn.data.row_digests import drawn_columns, row_digests
from hf_unlearn.trainers import same_run

OWN = {"passes": "2", "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3, "stop": False}


@pytest.fixture(scope="module")
def request_a(tmp_path_factory):
    """Folder of a finished request with checkpoints."""
    folder = tmp_path_factory.mktemp("a")
    trainer(folder, lm(), **OWN).train()
    return folder


@pytest.fixture(scope="module")
def checkpoint(request_a):
    return str(request_a / "checkpoint-3")


def test_rows_are_digested_once_a_run_and_not_at_each_checkpoint(tmp_path, monkeypatch):
    digested, real = [], same_run.row_digests
    monkeypatch.setattr(same_run, "row_digests", lambda rows, *how, **more: digested.append(rows) or real(rows, *how))
    run = trainer(tmp_path, lm(), **{**OWN, "save_steps": 1, "max_steps": 3})
    run.train()
    assert len(list(tmp_path.glob("checkpoint-*/run.json"))) == 3
    assert len(digested) == len(run.run_rows())


def told(run, checkpoint) -> str:
    return "\n".join(same_run.problems(run, checkpoint))


def test_a_request_for_other_rows_does_not_return_the_result_of_the_first(request_a):
    other = {**ROWS, "forget": lm_rows(6, 300)}
    with pytest.raises(ArgumentError, match="it is of another run(.|\n)*The forget rows are others, 6 as then"):
        trainer(request_a, lm(), other, **OWN).train(resume_from_checkpoint=True)


def test_a_model_of_another_size_is_told_by_name(checkpoint):
    found = told(trainer(checkpoint + "/..", lm(hidden=32), **OWN), checkpoint)
    assert re.search(r"The model has other sizes: [\d,]+ weights then, [\d,]+ now", found)
    assert "`hidden_size` 16 then, 32 now" in found
    assert not told(trainer(checkpoint + "/..", lm(seed=1), **OWN), checkpoint)


def test_a_model_of_another_size_that_saves_no_config_is_told_by_the_number_of_its_weights(tmp_path):
    model = torch.nn.Linear(2, 3)
    model.config = SimpleNamespace(hidden_size=2)
    run = SimpleNamespace(model=model)
    assert same_run._other_sizes(run, tmp_path, [4, ""], [9, ""]) == (
        "The model has other sizes: 4 weights then, 9 now."
    )


def test_another_gap_is_told_with_both_values(request_a):
    with pytest.raises(ArgumentError, match="`gap` was 'squared' and is 'matched'"):
        trainer(request_a, lm(), gap="matched", **OWN).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("rows, words", [
    ({"retain": lm_rows(17, 6)}, "The retain rows are others: 18 then, 17 now."),
    ({"unseen": lm_rows(8, 101)}, "The unseen rows are others, 8 as then but not the same."),
    ({"retain": lm_rows(18, 6).select(range(17, -1, -1))}, "The retain rows come in another order."),
    ({"forget": ROWS["forget"].map(lambda row: {"labels": [-100, *row["labels"][1:-1], 7]})}, "The forget rows are"),
    ({"forget": lm_rows(7, 300), "unseen": lm_rows(9, 100)}, "The unseen rows are others: 8 then, 9 now."),
])  # fmt: skip
def test_rows_that_differ_are_named_by_their_set(checkpoint, tmp_path, rows, words):
    found = told(trainer(checkpoint + "/..", lm(), {**ROWS, **rows}, **OWN), checkpoint)
    assert words in found and found.count("rows") - found.count("same rows") == len(rows)


@pytest.mark.parametrize("name, value, words", [
    ("learning_rate", 1e-3, "`learning_rate` was 0.0001 and is 0.001."),
    ("seed", 7, "`seed` was 42 and is 7."),
    ("lr_scheduler_type", "linear", "`lr_scheduler_type` was 'constant' and is 'linear'."),
    ("alpha", 0.3, "and is 0.3."),
    ("objective", "npo", "`objective` was 'nabla_tau' and is 'npo'."),
    ("retain_budget", 0.2, "`retain_budget` was 0.1 and is 0.2."),
    ("max_grad_norm", 0.5, "`max_grad_norm` was 1.0 and is 0.5."),
    ("gradient_accumulation_steps", 2, "× processes` was 2 and is 4."),
])  # fmt: skip
def test_an_option_that_changes_the_run_is_told_with_both_values(checkpoint, name, value, words):
    beside = {"stop": True} if name == "retain_budget" else {}  # which reads it
    run = trainer(checkpoint + "/..", lm(), **{**OWN, **beside, name: value})
    found = told(run, checkpoint)
    others = {"objective": 2, "retain_budget": 1}.get(name, 0)  # gap and retain term; stop
    assert words in found and found.count("\n* ") == 1 + others


def test_another_model_and_an_adapter_that_only_one_of_the_two_has_are_told(checkpoint, tmp_path):
    def asked(model, **options):
        return told(trainer(checkpoint + "/..", model, **options, **OWN), checkpoint)

    lora = LoraConfig(r=2, target_modules=["q_proj"])
    assert "* The model was a LlamaForCausalLM and is a GPT2LMHeadModel." in asked(lm64().float())
    assert "* This run trains an adapter, and it does not (`peft_config`)." in asked(lm(), peft_config=lora)
    half = lm()
    half.model.requires_grad_(False)
    assert "* Other weights are trained: 12 tensors then, 1 now." in asked(half)
    trainer(tmp_path, lm(), peft_config=lora, **{**OWN, "max_steps": 3}).train()
    own = str(tmp_path / "checkpoint-3")
    assert "* It trains an adapter, and this run does not" in told(trainer(tmp_path, lm(), **OWN), own)
    assert told(trainer(tmp_path, lm(), peft_config=lora, **{**OWN, "max_steps": 3}), own) == ""


def test_a_checkpoint_of_the_other_trainer_is_told_as_such(checkpoint, tmp_path):
    training = ReadyTrainer(lm(), config(tmp_path), lm_rows(16), processing_class=tokenizer())
    assert told(training, checkpoint) == f"Cannot resume from {checkpoint}: it is of a request (`UnlearnTrainer`)."


def test_options_that_do_not_change_what_is_trained_are_free(checkpoint, tmp_path, caplog):
    free = {"output_dir": str(tmp_path), "logging_steps": 5, "save_steps": 1, "save_total_limit": 1, "seed": 42}
    free |= {"dataloader_num_workers": 2, "hub_model_id": "me/mine", "run_name": "x", "eval_strategy": "steps"}
    free |= {"eval_steps": 2, "per_device_eval_batch_size": 3, "disable_tqdm": False, "forget_forward": "in_turn"}
    free |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "alpha": 5 / 3 * 6 / 24}
    args = UnlearnConfig(**{**QUIET, **OWN, **free})
    with caplog.at_level(logging.WARNING):
        run = UnlearnTrainer(
            lm(), args, *ROWS.values(), eval_dataset=ROWS["unseen"], processing_class=tokenizer(),
            general_dataset="none",
        )  # fmt: skip
        assert same_run.problems(run, checkpoint) == []
    assert not [m for m in caplog.messages if "known" in m]


def test_a_longer_run_goes_on_and_says_what_that_changes(checkpoint, caplog):
    with caplog.at_level(logging.WARNING):
        assert same_run.problems(trainer(checkpoint + "/..", lm(), **{**OWN, "passes": "4"}), checkpoint) == []
    assert "`passes` was 2" in caplog.text and "is 4: what depends on the length" in caplog.text


def test_the_same_rows_in_another_dress_are_the_same(checkpoint):
    """Lists, other formats, transforms, selections, other columns and other ids: the model sees the same."""
    as_lists = {name: rows.to_list() for name, rows in ROWS.items()}
    dressed = {
        "forget": ROWS["forget"].with_format("torch"),
        "retain": lm_rows(24).select(range(6, 24)).add_column("note", ["x"] * 18),
        "unseen": ROWS["unseen"].remove_columns("id").add_column("id", [str(i) for i in range(500, 508)]),
    }
    for rows in (as_lists, dressed):
        assert told(trainer(checkpoint + "/..", lm(), rows, **OWN), checkpoint) == ""


def test_without_salt_or_run_file_what_cannot_be_compared_is_told(checkpoint, tmp_path, caplog):
    elsewhere = tmp_path / "copied" / "checkpoint-3"
    shutil.copytree(checkpoint, elsewhere)
    other = trainer(tmp_path, lm(), {**ROWS, "forget": lm_rows(6, 300)}, **OWN)
    assert same_run.problems(other, str(elsewhere)) == [] and "is known by their number alone" in caplog.text
    (elsewhere / "run.json").unlink()
    assert same_run.problems(other, str(elsewhere)) == [] and "has no run.json" in caplog.text


def test_what_a_checkpoint_says_of_its_rows_needs_the_owners_salt(request_a, checkpoint, tmp_path):
    text = (request_a / "checkpoint-3" / "run.json").read_text()
    salt = json.loads((request_a / "_revocable_salt.json").read_text())["salt"]
    assert salt not in text
    trainer(tmp_path, lm(), **OWN).train()
    mine, others = (json.loads((f / "checkpoint-3" / "run.json").read_text()) for f in (request_a, tmp_path))
    assert mine["options"] == others["options"] and mine["rows"]["forget"]["in_order"] not in str(others)


def test_ready_training_with_other_rows_options_or_adapter_is_refused(tmp_path):
    rows = lm_rows(16)

    def run(rows=rows, r=2, revocable="revocable", **options):
        options = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, **options}
        lora = LoraConfig(r=r, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_dropout=0.1)
        args, words = config(tmp_path, **options), tokenizer()
        return ReadyTrainer(lm(), args, rows, revocable=revocable, processing_class=words, peft_config=lora)

    run().train()
    checkpoint = str(tmp_path / "checkpoint-1")
    assert told(run(), checkpoint) == told(run(max_steps=2), checkpoint) == ""
    flags = [{**row, "revocable": row["id"] % 5 == 0} for row in lm_list(16)]
    assert "The training rows are others" in told(run(flags), checkpoint)
    assert "The training rows lack the column(s) 'revocable'" in told(
        run(rows.remove_columns("revocable"), revocable=None), checkpoint
    )
    found = told(run(r=4, meta_every=2, inner_lr=0.03), checkpoint)
    for words in ("`peft_config.r` was 2 and is 4.", "`meta_every` was 1 and is 2.", "`inner_lr` was 0.02 and is 0.03"):
        assert words in found


def loss_of_mine(outputs, labels, num_items_in_batch=None):
    return (outputs["logits"] ** 2).mean()


def test_an_optimizer_a_collator_and_a_loss_of_ones_own_are_compared_by_name(tmp_path):
    def run(optimizer=None, **own):
        model = lm()
        if optimizer:
            kind, options, *schedule = optimizer
            optimizer = kind(model.parameters(), **options)
            schedule = LambdaLR(optimizer, lambda step: 1.0) if schedule else None
            own["optimizers"] = (optimizer, schedule)
        args = config(tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
        return ReadyTrainer(model, args, lm_rows(16), processing_class=tokenizer(), **own)

    collate = default_collator(lm(), tokenizer())
    own = {"optimizer": (SGD, {"lr": 0.1}, LambdaLR), "data_collator": lambda rows: collate(rows)}
    own["compute_loss_func"] = functools.partial(loss_of_mine)
    mine = run(**own)
    mine.train()
    checkpoint = str(tmp_path / "checkpoint-1")
    assert told(run(**own), checkpoint) == ""
    found = told(run(), checkpoint)
    for words in ("`optimizers` was 'SGD' and is None.", "`optimizers.schedule` was 'LambdaLR' and is None.",
                  "`data_collator` was", "`compute_loss_func` was 'loss_of_mine' and is None."):  # fmt: skip
        assert words in found and found.count("\n* ") == 4
    other = {**own, "optimizer": (SGD, {"lr": 0.2, "momentum": 0.5}, LambdaLR), "compute_loss_func": print}
    found = told(run(**other), checkpoint)
    for words in ("`optimizers.lr` was 0.1 and is 0.2.", "`optimizers.momentum` was 0 and is 0.5.", "and is 'print'."):
        assert words in found and found.count("\n* ") == 3
    assert "`optimizers` was 'SGD' and is 'AdamW'." in told(run(**{**own, "optimizer": (AdamW, {})}), checkpoint)
    kinds = {"optimizer": None, "optimizer_cls_and_kwargs": (SGD, {"lr": 0.3})}
    assert "`optimizers.lr` was 0.1 and is 0.3." in told(run(**{**own, **kinds}), checkpoint)
    file = tmp_path / "checkpoint-1" / "run.json"
    saved = json.loads(file.read_text())
    own_names = [name for name in saved["options"] if name.startswith(("optimizers", "data_collator", "compute_loss"))]
    for name in own_names:
        del saved["options"][name]
    del saved["digest"]
    file.write_text(json.dumps(saved))
    assert len(own_names) > 4 and told(run(), checkpoint) == ""  # of a version that did not write them


class Augmented(torch.utils.data.Dataset):
    """Pictures of which some are flipped each second time, as `RandomHorizontalFlip` does."""

    def __init__(self, n: int, every: int = 1, start: int = 0, noise: bool = False):
        self.rows, self.every, self.noise = [dict(row) for row in image_rows(n, start)], every, noise
        self.pixels = torch.tensor([row["pixel_values"] for row in self.rows])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        pixels = self.pixels[i]
        if self.noise:
            pixels = torch.randn(1, 8, 8)
        elif i % self.every == self.every - 1 and torch.rand(()) < 0.5:
            pixels = pixels.flip(-1)
        return {**self.rows[i], "pixel_values": pixels}


@pytest.mark.parametrize("how", [{}, {"every": 4}, {"noise": True}], ids=str)
def test_columns_that_are_drawn_anew_are_known_as_such_and_reading_leaves_no_trace(how):
    rows, columns = Augmented(60, **how), ["pixel_values", "labels"]
    for seed in range(2):
        torch.manual_seed(seed)
        expected = torch.rand(1)
        torch.manual_seed(seed)
        assert row_digests(rows, columns) is None and drawn_columns(rows, columns) == ["pixel_values"]
        assert torch.equal(torch.rand(1), expected)  # so a run with checkpoints is the run without
    assert len(row_digests(rows, ["labels"])) == 60


def test_pictures_that_are_drawn_anew_are_compared_by_what_else_there_is(tmp_path, caplog):
    def run(retain=None, labels=0):
        rows = retain or Augmented(12, start=6)
        rows.rows[3]["labels"] = (rows.rows[3]["labels"] + labels) % 3
        sets = {"forget": image_rows(6), "retain": rows, "unseen": image_rows(6, 100)}
        return trainer(tmp_path, vit(), sets, **{**OWN, "save_steps": 1, "max_steps": 1})

    run().train()
    checkpoint = str(tmp_path / "checkpoint-1")
    for _ in range(5):
        assert told(run(), checkpoint) == ""
    assert "The retain rows are drawn anew each time they are read ('pixel_values')" in caplog.text
    assert "by their number and by 'labels' alone" in caplog.text
    assert told(run(labels=1), checkpoint).count("The retain rows are others") == 1


def test_rows_whose_drawing_no_sample_finds_are_not_called_others(tmp_path, monkeypatch, caplog):
    """One row in very many: what differs from the checkpoint differs from itself, too."""
    monkeypatch.setattr("hf_unlearn.data.row_digests.drawn_columns", lambda rows, columns: [])
    rows = {"forget": image_rows(6), "retain": Augmented(12, 6, start=6), "unseen": image_rows(6, 100)}
    trainer(tmp_path, vit(), rows, **{**OWN, "save_steps": 1, "max_steps": 1}).train()
    for _ in range(5):
        again = trainer(tmp_path, vit(), rows, **{**OWN, "max_steps": 1})
        assert told(again, str(tmp_path / "checkpoint-1")) == ""
    assert "The retain rows are drawn anew each time they are read" in caplog.text
    other = {**rows, "retain": Augmented(12, 6, start=40)}
    assert "retain rows are others" not in told(trainer(tmp_path, vit(), other, **OWN), str(tmp_path / "checkpoint-1"))


def test_an_error_of_one_process_is_the_same_error_on_the_others():
    error = pickle.loads(pickle.dumps(ArgumentError(["one", "two"])))
    assert error.problems == ["one", "two"] and "2 problems" in str(error)


def test_the_longest_resumed_runs_still_compare_alike(uninterrupted, memorised):
    """The runs that are killed elsewhere find themselves in their checkpoints."""
    whole = uninterrupted("unlearn")
    again = killed_run.unlearn(whole.args.output_dir, memorised, **killed_run.SHORT["unlearn"])
    assert told(again, f"{whole.args.output_dir}/checkpoint-{whole.state.global_step}") == ""
