"""A memory's training: each source by itself, so that the program without one is the rest, bit for bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from helpers import memories, memory_runs, tiny

from hf_unlearn import ArgumentError, MemoryConfig, ReadyConfig, ReadyTrainer, default_collator


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return memory_runs.trained(tmp_path_factory.mktemp("whole"))


def test_a_program_without_a_source_fills_the_tables_of_the_others_bit_for_bit(tmp_path, whole):
    gone = [row["id"] for row in memory_runs.rows() if row["author"] == "author 1"]
    without = memory_runs.trained(tmp_path, deleted=gone)
    left = [table for i, table in enumerate(memory_runs.tables(whole)) if i != 1]
    assert memory_runs.same(memory_runs.tables(without), left)


def test_dropout_and_rows_that_are_drawn_are_those_of_a_training_without_a_source(tmp_path):
    tiny.lm64(layers=2, dropout=0.2).float().save_pretrained(tmp_path / "base")
    plain = default_collator(tiny.lm(), tiny.tokenizer())

    def drawn(rows):
        batch = plain(rows)
        batch["input_ids"] = torch.where(torch.rand(batch["input_ids"].shape) < 0.2, 3, batch["input_ids"])
        return batch

    def run(out, deleted=()):
        args = ReadyConfig(str(tmp_path / out), **memory_runs.OPTIONS)
        given = {"processing_class": tiny.tokenizer(), "data_collator": drawn, "deleted": deleted}
        trainer = ReadyTrainer(
            str(tmp_path / "base"), args, memory_runs.rows().to_list(), peft_config=memory_runs.config(), **given
        )
        trainer.train()
        return memory_runs.tables(trainer)

    gone = [row["id"] for row in memory_runs.rows() if row["author"] == "author 0"]
    assert memory_runs.same(run("never", gone), run("whole")[1:])


def test_a_collator_with_a_generator_of_its_own_is_refused(tmp_path):
    plain, draw = default_collator(tiny.lm(), tiny.tokenizer()), torch.Generator()

    def drawn(rows):
        batch = plain(rows)
        return {**batch, "input_ids": batch["input_ids"] + torch.randint(2, batch["input_ids"].shape, generator=draw)}

    assert "from a generator of its own" in refused(tmp_path, memory_runs.rows(), data_collator=drawn)


def test_the_order_of_sources_and_a_new_one_change_no_other_table(tmp_path, whole):
    data = memory_runs.rows()
    turned = Dataset.from_list(sorted(data, key=lambda row: (row["author"] is None, row["author"] != "author 2")))
    other = memory_runs.trained(tmp_path, data=turned)
    assert memory_runs.same(memory_runs.tables(other)[:1], memory_runs.tables(whole)[2:3])


def test_rows_are_learned_and_the_model_below_stays_as_it_was(tmp_path):
    data = memory_runs.rows(4, public=0)
    base = tiny.fit(tiny.lm(layers=2), tiny.lm_rows(12, start=100))
    options = {"num_train_epochs": 40, "learning_rate": 0.1, "logging_steps": 1000}
    longer = memory_runs.trained(tmp_path, data, copy.deepcopy(base), memory=memory_runs.config(), **options)
    batch = tiny.batch_of(longer.model, data)
    with torch.no_grad():
        after = longer.model.eval()(**batch).loss
        with longer.model.disable_adapter():
            before = longer.model(**batch).loss
    assert after < 0.7 * before
    assert tiny.same_bits(tiny.weights(base), tiny.weights(longer.model.unload()))


def test_the_record_says_what_was_prepared_and_names_nobody(whole):
    folder = whole.args.output_dir
    record = json.loads(Path(folder, "readiness.json").read_text())
    assert record["readiness"] == "memory" and record["ready"]
    assert record["memory"]["sources"] == 4 and record["memory"]["rows"] == 12
    assert len(record["memory"]["public_loss"]) == 2
    content = b"".join(Path(folder, name).read_bytes() for name in ("memory.rows", "adapter_model.safetensors"))
    assert b"author 1" not in content and "author 1" not in json.dumps(record)
    card = Path(folder, "README.md").read_text()
    assert "personal data" in card and "table of its own" in card


def test_a_source_is_added_later_without_a_change_to_the_others(tmp_path, whole):
    data = memory_runs.rows()
    first = data.filter(lambda row: row["author"] != "author 3")
    tiny.lm(layers=2).save_pretrained(tmp_path / "base")
    base = {"model": str(tmp_path / "base"), "model_init_kwargs": {"attn_implementation": "eager"}}
    some = memory_runs.trained(tmp_path / "some", data=first, memory=memory_runs.config(), **base)
    new = data.filter(lambda row: row["author"] == "author 3")
    both = memory_runs.trained(tmp_path / "both", data=new, model=str(tmp_path / "some"), memory=None)
    assert memory_runs.same(memory_runs.tables(both), memory_runs.tables(whole))
    assert both.record()["memory"]["sources"] == 4 and some.record()["memory"]["sources"] == 3


def test_sources_are_added_beside_the_model_that_the_others_were_filled_beside_alone(tmp_path):
    tiny.lm(layers=2).save_pretrained(tmp_path / "base")
    memory_runs.trained(tmp_path / "some", model=str(tmp_path / "base"), memory=memory_runs.config())
    tiny.lm(layers=2, seed=1).save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="another one than the memory was filled beside"):
        memory_runs.trained(tmp_path / "more", model=str(tmp_path / "some"))
    tiny.lm(layers=2).bfloat16().save_pretrained(tmp_path / "base")
    with pytest.raises(ArgumentError, match="another one than at its training, or in another dtype"):
        memory_runs.trained(tmp_path / "more", model=str(tmp_path / "some"))


def test_a_killed_training_goes_on_from_its_last_whole_source(tmp_path, whole):
    options = {"save_strategy": "steps", "save_steps": 1}
    memory_runs.trained(tmp_path, max_steps=9, **options)  # in the middle of the third source: 4 steps each
    steps = sorted(int(path.name.partition("-")[2]) for path in tmp_path.glob("checkpoint-*"))
    assert all(step % 4 == 0 for step in steps if step < 9)
    again = memory_runs.trained(tmp_path, resume=str(tmp_path / "checkpoint-8"), **options)
    assert memory_runs.same(memory_runs.tables(again), memory_runs.tables(whole))
    assert again.public_loss == pytest.approx(whole.public_loss)


def test_rows_that_are_not_revocable_are_public(tmp_path):
    data = memory_runs.rows(12, public=0)
    marked = data.add_column("revocable", [row["author"] != "author 0" for row in data])
    trainer = memory_runs.trained(tmp_path, data=marked)
    assert len(trainer.sources.names) == 3 and len(trainer.sources.public) == 3


def refused(tmp_path, data, **options):
    memory = options.pop("memory", memory_runs.config())
    own = {"data_collator": options.pop("data_collator", None), "processing_class": tiny.tokenizer()}
    args = ReadyConfig(str(tmp_path), **{**memory_runs.OPTIONS, **options})
    with pytest.raises(ArgumentError) as error:
        ReadyTrainer(tiny.lm(layers=2), args, data, peft_config=memory, **own)
    return str(error.value)


def test_rows_without_a_source_column_or_with_two_sources_are_refused(tmp_path):
    data = memory_runs.rows()
    assert "no such column" in refused(tmp_path, data.remove_columns("author"))
    assert "`request_group` is not set" in refused(tmp_path, data, request_group=None)
    two = Dataset.from_list([{**row, "author": [row["author"], "b"]} for row in data.select(range(3))])
    assert "more than one source" in refused(tmp_path, two)
    nobody = Dataset.from_list([{**row, "author": ""} for row in data])
    assert "No row has a source" in refused(tmp_path, nobody)


def named(names) -> Dataset:
    return [{**row, "author": name} for row, name in zip(memory_runs.rows(n=len(names), public=0), names, strict=True)]


def test_a_source_is_what_is_written_and_nothing_written_is_none(tmp_path):
    trainer = memory_runs.trained(tmp_path, data=named([1, "1", 2, "", " ", None, float("nan"), 2]))
    assert trainer.sources.names == ["1", "2"] and len(trainer.store.tables) == 2
    assert trainer.sources.public.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("name", [True, 1.5, {"name": "a"}, ["a"]])
def test_what_is_no_name_of_a_source_is_refused(tmp_path, name):
    assert "text" in refused(tmp_path, named([name, name]))


def test_values_that_grow_without_bound_are_told(tmp_path):
    with pytest.raises(ValueError, match="its training has diverged. Lower `learning_rate`"):
        memory_runs.trained(tmp_path, learning_rate=1e6)


def test_arguments_that_would_tie_sources_together_are_refused(tmp_path):
    from peft import LoraConfig

    said = refused(tmp_path, memory_runs.rows(), gradient_accumulation_steps=2, num_train_epochs=1.5, optim="adafactor")
    assert all(f"`{name}`" in said for name in ("gradient_accumulation_steps", "num_train_epochs", "optim"))
    assert "a memory's is a `MemoryConfig`" in refused(tmp_path, memory_runs.rows(), memory=LoraConfig())


def test_lonely_rows_and_words_of_two_sources_are_told(tmp_path, caplog):
    data = memory_runs.rows().to_list()
    data[1]["input_ids"] = data[0]["input_ids"]
    data[1]["labels"], data[1]["attention_mask"] = data[0]["labels"], data[0]["attention_mask"]
    data[2]["author"] = "alone"
    args = ReadyConfig(str(tmp_path), **{**memory_runs.OPTIONS, "log_level": "warning"})
    ReadyTrainer(tiny.lm(layers=2), args, Dataset.from_list(data), processing_class=tiny.tokenizer())
    assert "1 source(s) have one row each (alone)" in caplog.text
    assert "2 rows of several sources say the same, word for word (ids 0, 1)" in caplog.text


def test_sources_that_nothing_tells_from_public_rows_are_told(tmp_path, caplog):
    data = memory_runs.rows(8, public=4).to_list()
    for row in data:
        row["input_ids"] = [1, *row["input_ids"]]
        row["labels"], row["attention_mask"] = [-100, *row["input_ids"][1:]], [1, *row["attention_mask"]]
    trainer = memory_runs.trained(tmp_path, data=Dataset.from_list(data), log_level="warning")
    assert "4 of 4 sources are recognised nowhere" in caplog.text and len(trainer.store.tables) == 4


def test_a_base_that_knew_the_rows_is_told(tmp_path, caplog):
    data = memory_runs.rows(4, public=0)
    memory_runs.trained(tmp_path, data=data, model=tiny.fit(tiny.lm(layers=2), data), memory=memory_runs.config())
    assert "of 4 sources were known before the training" in caplog.text


def test_a_memory_has_defaults_of_its_own_and_the_users_win(tmp_path):
    args = ReadyConfig(str(tmp_path), **{**tiny.QUIET, "readiness": "memory", "request_group": "author"})
    trainer = ReadyTrainer(tiny.lm(layers=2), args, memory_runs.rows(), processing_class=tiny.tokenizer())
    assert trainer.args.learning_rate == 0.3 and trainer.args.num_train_epochs == 30
    assert isinstance(trainer.model.peft_config["default"], MemoryConfig)
    assert memories.store(trainer.model) is trainer.store
