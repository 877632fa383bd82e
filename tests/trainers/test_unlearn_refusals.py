"""What `UnlearnTrainer` refuses before a model is loaded, and what it does with rows and steps that are broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from helpers.tiny import (
    OptimizerStates,
    Weights,
    image_rows,
    lm,
    lm_rows,
    same_bits,
    tokenizer,
    vit,
    weights,
)
from helpers.unlearning import (
    QUIET,
    ROWS,
    memorised,
    trainer,
    with_references,
)

from hf_unlearn import ArgumentError, NonFiniteError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.config import micro_batch_rows, step_rows
from hf_unlearn.data.order import PairedDataset
from hf_unlearn.trainers.callbacks import ScheduleCallback
from hf_unlearn.trainers.taken_in import later_problems


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
        trainer(tmp_path, memorised(), readiness_from=str(tmp_path))


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


def test_a_batch_size_to_be_found_is_refused_with_what_to_do_instead(tmp_path):
    for config in (UnlearnConfig, ReadyConfig):
        with pytest.raises(ArgumentError, match="`auto_find_batch_size` .* weights that have moved") as caught:
            config(str(tmp_path), **QUIET, auto_find_batch_size=True)
        assert "`gradient_accumulation_steps` raised as much" in str(caught.value)


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential"])
def test_another_order_of_a_requests_rows_is_refused_and_not_ignored(tmp_path, strategy):
    with pytest.raises(ArgumentError, match=f"`train_sampling_strategy` is '{strategy}'"):
        UnlearnConfig(str(tmp_path), **QUIET, train_sampling_strategy=strategy)


@pytest.mark.parametrize("split, each, rows", [(False, 8, 32), (True, 4, 16)])
def test_a_step_has_the_rows_of_all_its_loaders_batches(split, each, rows):
    """With `split_batches` a batch is that of all processes together."""
    args = SimpleNamespace(
        per_device_train_batch_size=8, gradient_accumulation_steps=2, world_size=2,
        accelerator_config=SimpleNamespace(split_batches=split),
    )  # fmt: skip
    assert (micro_batch_rows(args), step_rows(args)) == (each, rows)


def test_batches_that_cannot_be_split_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(UnlearnConfig, "world_size", 2)
    options = {"accelerator_config": {"split_batches": True}, "per_device_train_batch_size": 3}
    with pytest.raises(ArgumentError, match="1 problem.*\n.*`per_device_train_batch_size` is 3; with `split_batches`"):
        UnlearnConfig(str(tmp_path), **QUIET, **options)


def test_a_loss_function_of_the_users_is_refused_and_not_ignored(tmp_path):
    with pytest.raises(ArgumentError, match="`compute_loss_func` is set, but the loss of a request is its objective's"):
        UnlearnTrainer("does/not-exist", UnlearnConfig(str(tmp_path), **QUIET), *ROWS.values(),
                       compute_loss_func=lambda out, labels, num_items_in_batch=None: out.logits.mean())  # fmt: skip


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
    with pytest.raises(ValueError, match="retain loss is nan"):
        trainer(tmp_path, vit(), sets).train()


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


def test_tables_are_taken_and_a_training_set_is_refused(tmp_path):
    for kind in ("to_dict", "to_pandas"):
        taken = trainer(tmp_path, rows={name: getattr(rows, kind)() for name, rows in ROWS.items()})
        assert [len(taken.forget_dataset), len(taken.unseen_dataset)] == [len(ROWS["forget"]), len(ROWS["unseen"])]
    with pytest.raises(ArgumentError, match="three sets of rows: `forget_dataset`, `retain_dataset` and"):
        UnlearnTrainer("does/not-exist", train_dataset=ROWS["retain"])


class OwnLoss(UnlearnTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(input_ids=inputs["input_ids"], labels=inputs["labels"]).loss


def test_a_subclass_that_replaces_the_objective_s_loss_takes_no_step(tmp_path):
    model = memorised()
    before = weights(model)
    run = OwnLoss(model, UnlearnConfig(tmp_path, max_steps=2, **QUIET), *ROWS.values(), processing_class=tokenizer())
    with pytest.raises(ValueError, match="`compute_loss` of OwnLoss takes no loss from `UnlearnTrainer.compute_loss`"):
        run.train()
    assert same_bits(weights(model), before)


def test_rows_that_are_set_later_and_callbacks_that_are_removed_are_refused(tmp_path):
    run = trainer(tmp_path)
    assert later_problems(run) == []
    run.forget_dataset = lm_rows(2, 500)
    run.pop_callback(ScheduleCallback)
    with pytest.raises(ArgumentError) as caught:
        run.train()
    assert "The forget rows of the trainer are others than those that it was made with" in str(caught.value)
    assert "own callback(s) ScheduleCallback were removed" in str(caught.value) and len(caught.value.problems) == 2
    ready = ReadyTrainer(
        lm(), ReadyConfig(tmp_path, readiness="meta", **QUIET), lm_rows(8), processing_class=tokenizer()
    )
    ready.train_dataset = lm_rows(9)
    (problem,) = later_problems(ready)
    assert problem.startswith("The training rows")


def test_a_second_run_of_a_trainer_is_counted_from_its_beginning(tmp_path):
    run = trainer(tmp_path, max_steps=1, stop=False)
    first = run.train().metrics
    assert first["row_passes"] == run.cost["row_passes"]  # the last measurement is counted in both
    run.finite_guard.skipped_steps = 1  # in the first run
    second = run.train().metrics
    assert second["row_passes"] == first["row_passes"] == run.cost["row_passes"]
    assert second["skipped_steps"] == 0 and second["weights_of_step"] == 1


class OwnLoader(UnlearnTrainer):
    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.forget_dataset, batch_size=2, collate_fn=self.data_collator)


def test_a_data_loader_of_other_rows_is_told_in_the_first_step_and_no_optimizers_are_none(tmp_path):
    config = UnlearnConfig(tmp_path, max_steps=1, **QUIET)
    run = OwnLoader(lm(), config, *ROWS.values(), processing_class=tokenizer(), optimizers=None)
    with pytest.raises(ValueError, match="A batch does not say which rows are to be forgotten: it holds 'input_ids'"):
        run.train()
