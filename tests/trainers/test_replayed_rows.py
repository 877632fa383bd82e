"""What of the rows would keep a replay from being exact: drawn rows, workers, and rows of the same content."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import tiny
from helpers.replays import language_model, replayed, trained
from helpers.tiny import same_bits, slow, weights
from transformers import DataCollatorForLanguageModeling

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, default_collator
from hf_unlearn.data.duplicates import contents, twin_groups
from hf_unlearn.data.row_digests import is_stored, unseeded_columns
from hf_unlearn.trainers.making_plans import planned
from hf_unlearn.trainers.replay_program import seed_all

GONE = [0, 8]
BRIEF = {"max_steps": 8, "slices": "2"}


def without(rows: list, gone=GONE) -> list:
    return [row for row in rows if row["id"] not in gone][::-1]


# ---- rows that are drawn when they are read ----


def redrawn(row: dict) -> dict:
    """The row with one token drawn anew."""
    ids = list(row["input_ids"])
    ids[2 + np.random.randint(len(ids) - 2)] = int(torch.randint(3, tiny.VOCAB, ()))
    return {**row, "input_ids": ids, "labels": [-100, -100, *ids[2:]]}


class Drawn(torch.utils.data.Dataset):
    def __init__(self, rows, draw=redrawn):
        self.rows, self.draw = rows, draw

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.draw(self.rows[i])


def transformed(rows: list):
    def draw(batch):
        made = [redrawn({name: values[i] for name, values in batch.items()}) for i in range(len(batch["id"]))]
        return {name: [row[name] for row in made] for name in made[0]}

    made = Dataset.from_list(rows)
    made.set_transform(draw)
    return made


@pytest.mark.parametrize("kind, workers", [(Drawn, 0), (transformed, 2), slow(Drawn, 2), slow(transformed, 0)])
def test_rows_that_are_drawn_when_they_are_read_are_drawn_again_by_a_replay(tmp_path, kind, workers):
    rows, own = tiny.lm_list(24), {**BRIEF, "dataloader_num_workers": workers, "remove_unused_columns": False}
    ready = trained(tmp_path / "ready", rows=kind(rows), **own)
    reference = trained(tmp_path / "without", rows=kind(rows), deleted=GONE, **BRIEF, remove_unused_columns=False)
    plain = trained(tmp_path / "plain", rows=rows, deleted=GONE, **BRIEF, remove_unused_columns=False)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE, rows=kind(without(rows)))
    assert same_bits(weights(request.model), weights(reference.model))
    assert not same_bits(weights(reference.model), weights(ready.model))
    assert not same_bits(weights(reference.model), weights(plain.model))  # something was drawn


def test_the_record_says_which_columns_are_drawn_and_their_rows_are_known_by_what_is_not(tmp_path):
    ready = trained(tmp_path, rows=Drawn(tiny.lm_list(24)), **BRIEF)
    record = ready.record()["replay"]
    assert record["drawn"] == ["input_ids", "labels"] and record["columns"] == ["attention_mask"]
    assert any("drawn anew each time they are read: beside `attention_mask`" in limit for limit in record["limits"])


def test_rows_with_a_generator_of_their_own_are_refused(tmp_path):
    generator = np.random.default_rng(0)

    def draw(row):
        return {**row, "input_ids": [*row["input_ids"][:-1], int(generator.integers(3, tiny.VOCAB))]}

    _, (problem,) = plan_of(Drawn(tiny.lm_list(24), draw), tmp_path)
    assert "other ones each time they are read ('input_ids'), from a generator of their own" in problem


def test_what_is_stored_is_told_from_what_may_be_drawn():
    rows = tiny.lm_list(8)
    stored = tiny.lm_rows(8)
    assert is_stored(rows) and is_stored(stored) and is_stored(stored.with_format("torch"))
    assert not is_stored(transformed(rows)) and not is_stored(Drawn(rows))
    before = torch.random.get_rng_state()
    for drawn in (transformed(rows), Drawn(rows)):
        assert unseeded_columns(drawn, seed_all) == []
    assert torch.equal(torch.random.get_rng_state(), before)


def masked(rows: list) -> dict:
    """A collator that draws: which tokens are masked."""
    collator = DataCollatorForLanguageModeling(tiny.tokenizer(), mlm=False)
    batch = dict(collator([{"input_ids": row["input_ids"]} for row in rows]))
    batch["input_ids"] = torch.where(torch.rand(batch["input_ids"].shape) < 0.2, 3, batch["input_ids"])
    return batch


def test_a_collator_that_draws_draws_the_same_in_a_replay(tmp_path):
    def run(name, deleted=()):
        args = ReadyConfig(
            str(tmp_path / name), **{**tiny.QUIET, **BRIEF, "readiness": "replay", "learning_rate": 0.01},
            per_device_train_batch_size=4,
        )  # fmt: skip
        trainer = ReadyTrainer(language_model(), args, tiny.lm_rows(24), data_collator=masked, deleted=deleted)
        trainer.train()
        trainer.save_model()
        return trainer

    run("ready")
    reference = run("without", GONE)
    args = UnlearnConfig(str(tmp_path / "out"), **tiny.QUIET, method="replay", dataloader_num_workers=2)
    rows = tiny.lm_rows(24).select([i for i in range(24) if i not in GONE])
    request = UnlearnTrainer(str(tmp_path / "ready"), args, GONE, rows, data_collator=masked)
    request.train()
    assert same_bits(weights(request.model), weights(reference.model))


def test_a_collator_with_a_generator_of_its_own_is_refused_and_one_with_other_options_too(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def own(rows):
        batch = default_collator(language_model(), tiny.tokenizer())(rows)
        drawn = torch.rand(batch["input_ids"].shape, generator=generator) < 0.5
        return {**batch, "input_ids": torch.where(drawn, 3, batch["input_ids"])}

    args = ReadyConfig(str(tmp_path), **{**tiny.QUIET, **BRIEF, "readiness": "replay", "learning_rate": 0.01})
    with pytest.raises(ArgumentError, match="`data_collator` makes another batch of the same rows each time, from a"):
        ReadyTrainer(language_model(), args, tiny.lm_rows(24), data_collator=own)


def shortened(width: int):
    """A collator that holds a value of another function."""

    def collate(rows):
        return default_collator(language_model(), tiny.tokenizer())([cut(row, width) for row in rows])

    return collate


def cut(row: dict, width: int) -> dict:
    return {name: value[:width] if isinstance(value, list) else value for name, value in row.items()}


def test_a_collator_that_was_made_with_other_values_is_refused_and_other_code_is_not_called_exact(
    tmp_path, caplog, monkeypatch
):
    def request(name, collator):
        args = UnlearnConfig(str(tmp_path / name), **tiny.QUIET, method="replay")
        rows = tiny.lm_rows(24).select([i for i in range(24) if i not in GONE])
        return UnlearnTrainer(str(tmp_path / "ready"), args, GONE, rows, data_collator=collator)

    args = {**tiny.QUIET, **BRIEF, "readiness": "replay", "learning_rate": 0.01}
    args = ReadyConfig(str(tmp_path / "ready"), **args)
    ready = ReadyTrainer(language_model(), args, tiny.lm_rows(24), data_collator=shortened(6))
    ready.train()
    ready.save_model()
    with pytest.raises(ArgumentError, match="`data_collator.width` is 5, but the training had 6, and a replay is the"):
        request("out", shortened(5))
    assert not request("out", shortened(6)).other_machine
    monkeypatch.setattr("hf_unlearn.trainers.same_run.code_of_given", lambda given: given and "of other code")
    assert list(request("out", shortened(6)).other_machine) == ["code of data_collator"]
    assert "code of data_collator of other code (then " in caplog.text


def test_workers_change_no_bit(tmp_path):
    ready = trained(tmp_path / "ready", **BRIEF)
    workers = trained(tmp_path / "workers", **BRIEF, dataloader_num_workers=2)
    assert same_bits(weights(ready.model), weights(workers.model))


# ---- rows of the same content ----


def plan_of(rows: list, tmp_path, **options):
    args = ReadyConfig(str(tmp_path), readiness="replay", per_device_train_batch_size=4, max_steps=16, **options)
    made, problems = planned(args, rows, np.array([row["revocable"] for row in rows]), (), None, tiny.tokenizer())
    return made.plan, problems


def copied(rows: list, pairs: dict[int, int]) -> list:
    """The rows, some with the content of others."""
    content = ("input_ids", "labels", "attention_mask")
    return [{**row, **{name: rows[pairs.get(row["id"], row["id"])][name] for name in content}} for row in rows]


def test_rows_of_one_content_stay_in_one_slice_and_a_warning_names_them(tmp_path, caplog):
    rows = copied(tiny.lm_list(48), {44: 0, 20: 0})
    with caplog.at_level(logging.WARNING):
        plan, problems = plan_of(rows, tmp_path, slices="4")
    assert not problems and "2 revocable row(s) have the content of another one of their slice: 0 = 20, 0 = 44" in (
        caplog.text
    )
    assert plan.order.slices != (3, 3, 3, 3)


def test_rows_of_one_content_in_two_groups_and_slices_are_refused_by_their_ids(tmp_path):
    rows = copied(tiny.lm_list(48), {44: 0})
    rows = [{**row, "who": row["id"] // 12} for row in rows]
    _, problems = plan_of(rows, tmp_path, slices="4", slice_by="who")
    (problem,) = problems
    assert problem.startswith("1 revocable row(s) have the content of one in another slice: 0 = 44.")
    assert "same value in the column of `slice_by`" in problem
    together = [{**row, "who": 0 if row["id"] == 44 else row["who"]} for row in rows]
    assert plan_of(together, tmp_path, slices="4", slice_by="who")[1] == []


def test_the_same_text_in_other_letters_is_the_same_content():
    said = [{"text": text} for text in ("Anna likes tea.", "Ben likes tea.", "anna  likes TEA", "Cleo")]
    assert twin_groups(contents([said])[0]).tolist() == [0, 1, 0, 3]


def test_a_copy_among_the_stable_rows_is_refused(tmp_path):
    rows = copied(tiny.lm_list(24), {3: 0})
    with pytest.raises(ArgumentError, match=r"1 stable row\(s\) have the content of a revocable row .*: 0 = 3\."):
        trained(tmp_path, rows=rows)


# ---- the learning rate ----


def test_a_schedule_of_ones_own_is_honoured_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        plan, _ = plan_of(tiny.lm_list(24), tmp_path, lr_scheduler_type="cosine", warmup_steps=3)
    assert plan.schedule == "cosine" and plan.warmup == 3
    assert "`lr_scheduler_type` is 'cosine', and the revocable rows come last" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert plan_of(tiny.lm_list(24), tmp_path)[0].schedule is None
    assert "lr_scheduler_type" not in caplog.text


def test_a_replay_takes_the_trainings_own_schedule(tmp_path):
    own = {**BRIEF, "lr_scheduler_type": "cosine", "warmup_steps": 2}
    trained(tmp_path / "ready", **own)
    reference = trained(tmp_path / "without", deleted=GONE, **own)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE)
    assert same_bits(weights(request.model), weights(reference.model))
    assert request.lr_scheduler.get_last_lr()[0] < 1e-9  # a cosine ends at 0, the plan's schedule does not


# ---- what is named wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, said", [
    ({"tail": "0.01"}, "`tail` is 0.01: .* Raise it to 0.[0-9]+ or more"),
    ({"tail": "1", "revocable_epochs": "11"}, "`revocable_epochs` is 11; it would .* come 66 times.* for 64 rows"),
    ({"tail": True}, "`tail` is True; it must be"),
    ({"tail": "2"}, "`tail` is 2.0; it must be a finite number above 0 and at most 1"),
    ({"slices": "1.5"}, '`slices` is .1.5.; it must be "auto" or a whole number'),
    ({"slice_by": "who"}, "`slice_by` is 'who', but there is no such column; the rows have 'id'"),
    ({"ask_weight": "w"}, "`ask_weight` is 'w'; the rows have 'id'"),
    ({"snapshots": 3}, "`snapshots` is 3; it must name a folder, or `hf://NAMESPACE/NAME`"),
    ({"deleted": [99, "x"]}, "`deleted` names 99, x, which no row of the training has as its `id`"),
    ({"train_sampling_strategy": "group_by_length"}, "`train_sampling_strategy` is 'group_by_length'; the order of"),
    ({"load_best_model_at_end": True, "eval_strategy": "no"}, "load_best_model_at_end"),
])  # fmt: skip
def test_what_a_replay_s_order_cannot_be_made_from_is_told_by_its_name(tmp_path, options, said):
    with pytest.raises(ArgumentError, match=said):
        trained(tmp_path / "ready", **options)


@pytest.mark.parametrize("deleted", ["8", 8, ["8"], [{"id": 8}]])
def test_deleted_rows_are_named_by_one_id_by_several_or_by_the_rows(tmp_path, deleted):
    trainer = trained(tmp_path / "ready", deleted=deleted, max_steps=1, slices="1")
    assert len(trainer.plan.holes) == 1 and 8 not in trainer.train_dataset["id"]
