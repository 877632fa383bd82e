"""A memory that all sources share, from its training to a deletion: at once, and approximate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import memory_runs, tiny

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer, plan, verify
from hf_unlearn.readiness.memory.model import values_of
from hf_unlearn.trainers.loading import load_model
from hf_unlearn.trainers.memory_filling import OwnFilling, SharedFilling

DATA = memory_runs.rows()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    tiny.lm(layers=2).save_pretrained(folder)
    return str(folder)


def memory(**options):
    return memory_runs.config(variant="shared", entries=256, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, base):
    out = tmp_path_factory.mktemp("whole") / "ready"
    return memory_runs.trained(out, model=base, memory=memory(), num_train_epochs=6, learning_rate=0.3)


def ids_of(author: str) -> list[int]:
    return [row["id"] for row in DATA if row["author"] == author]


def deleted(out, source, asked, retain=None):
    args = UnlearnConfig(str(out), **tiny.QUIET)
    trainer = UnlearnTrainer(source, args, asked, retain, processing_class=tiny.tokenizer(), general_dataset=None)
    trainer.result = trainer.train()
    trainer.save_model()
    return trainer


def loss_of(model, rows) -> float:
    with torch.no_grad():
        return float(model.eval()(**tiny.batch_of(model, rows)).loss)


def test_all_sources_learn_and_their_folder_answers_as_the_model_did(whole):
    with whole.model.disable_adapter():
        below = loss_of(whole.model, DATA.select(range(12)))
    assert loss_of(whole.model, DATA.select(range(12))) < below - 0.05
    model, batch = load_model(whole.args.output_dir), tiny.batch_of(whole.model, DATA)
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch).logits, whole.model.eval()(**batch).logits)
    owned = [table.entries for table in whole.store.tables.by_source.values()]
    for layer in zip(*owned, strict=True):
        assert len(torch.cat(layer).unique()) == sum(map(len, layer))  # an entry has one owner
    record = json.loads(Path(whole.args.output_dir, "readiness.json").read_text())
    assert record["memory"]["variant"] == "shared" and "each entry has an owner" in record["method"]
    card = Path(whole.args.output_dir, "README.md").read_text()
    assert "Others have read them while they learned" in card and "read each other's entries" in card


def test_a_batch_mixes_sources(whole):
    (group,) = whole.filling.groups
    source_of = {place: number for number, own in enumerate(whole.sources.places) for place in own.tolist()}
    mixed = [len({source_of[int(place)] for place in whole.schedule.places(step)}) for step in range(6)]
    assert len(group) == 12 and max(mixed) == 2


def test_a_deletion_takes_the_entries_out_and_says_that_it_is_approximate(tmp_path, whole):
    before = dict(whole.store.tables.by_source)
    request = deleted(tmp_path, whole.args.output_dir, ids_of("author 1"))
    assert request.guarantee == "approximate" and request.result.metrics["row_passes"] == 0
    gone = request.asked.whole[0]
    left = request.store.tables.by_source
    assert set(left) == set(before) - {gone}
    assert all(tiny.same_bits(dict(left[name].tensors()), dict(before[name].tensors())) for name in left)
    assert not any(gone.encode() in path.read_bytes() for path in tmp_path.glob("*.safetensors"))
    record = json.loads((tmp_path / "unlearning.json").read_text())
    assert record["guarantee"] == "approximate" and record["stop_reason"] == "dropped"
    assert "each entry has an owner" in record["method"]
    card = (tmp_path / "README.md").read_text()
    assert "approximately" in card and "exactly" not in card
    rows = [row for row in DATA if row["author"] == "author 1"]
    with whole.model.disable_adapter():
        below = loss_of(whole.model, rows)
    there, gone = loss_of(whole.model, rows), loss_of(request.model, rows)
    assert gone > there + 0.7 * (below - there)
    second = deleted(tmp_path / "second", str(tmp_path), ids_of("author 2"))
    assert second.guarantee == "approximate" and len(second.store.tables) == 2


def test_some_rows_of_a_source_are_deleted_by_training_its_entries_on_the_rest(tmp_path, whole):
    gone = ids_of("author 3")[:1]
    left = DATA.filter(lambda row: row["id"] not in gone)
    request = deleted(tmp_path, whole.args.output_dir, gone, left)
    assert request.guarantee == "approximate" and request.result.metrics["retrained_sources"] == 1
    part = request.asked.parts[0]
    before, after = (t.store.tables.by_source for t in (whole, request))
    same = {name: tiny.same_bits(dict(after[name].tensors()), dict(before[name].tensors())) for name in before}
    assert same == {name: name != part for name in before}


def test_a_source_that_is_added_or_filled_anew_changes_no_other(tmp_path, base):
    first = [row for row in DATA if row["author"] != "author 3"]
    some = memory_runs.trained(tmp_path / "some", data=first, model=base, memory=memory())
    there = dict(some.store.tables.by_source)
    more = [{**row, "id": row["id"] + 1000} if row["author"] == "author 0" else row for row in DATA]
    more = [row for row in more if row["author"] in ("author 0", "author 3")]
    added = memory_runs.trained(tmp_path / "more", data=more, model=str(tmp_path / "some"))
    now = added.store.tables.by_source
    assert len(there) == 3 and len(now) == 4
    again = added.rows_of_memory.sources
    same = {name: tiny.same_bits(dict(now[name].tensors()), dict(there[name].tensors())) for name in there}
    assert same == {name: name not in again for name in there} and sum(same.values()) == 2


def test_a_program_without_a_source_is_another_one(tmp_path, base, whole):
    options = {"model": base, "memory": memory(), "num_train_epochs": 6, "learning_rate": 0.3}
    without = memory_runs.trained(tmp_path, deleted=ids_of("author 1"), **options)
    left = [table for i, table in enumerate(memory_runs.tables(whole)) if i != 1]
    assert not memory_runs.same(memory_runs.tables(without), left)


def test_a_killed_training_goes_on_where_it_was(tmp_path, base):
    options = {"model": base, "memory": memory(), "save_strategy": "steps", "save_steps": 5}
    whole = memory_runs.trained(tmp_path / "whole", **options)
    memory_runs.trained(tmp_path / "killed", max_steps=7, **options)
    assert Path(tmp_path, "killed", "checkpoint-5").is_dir() and len(whole.schedule) == 12
    again = memory_runs.trained(tmp_path / "killed", resume=True, **options)
    assert memory_runs.same(memory_runs.tables(again), memory_runs.tables(whole))
    with pytest.raises(ArgumentError, match="`num_train_epochs` is 3, and .* was written with 2"):
        memory_runs.trained(tmp_path / "killed", resume=True, **{**options, "num_train_epochs": 3})


def test_what_is_being_trained_lies_in_checkpoints_alone(tmp_path, base):
    from safetensors.torch import load_file

    options = {"model": base, "memory": memory(), "save_strategy": "steps", "save_steps": 5}
    trainer = memory_runs.trained(tmp_path, **options)
    halfway, whole = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("checkpoint-5", "."))
    assert sum("memory.working" in name for name in halfway) == 6  # entries, owners and values of two layers
    assert not any("memory.working" in name for name in whole) and not any("memory.table" in name for name in halfway)
    assert all(own.abs().max() == 0 for own in trainer.filling.values)
    for filling in (trainer.filling, OwnFilling(trainer.store, [], [], None)):
        with pytest.raises(ValueError, match="rain anew"):
            filling.go_on()


def test_evaluation_in_the_middle_sees_what_was_learned_so_far(tmp_path, base):
    options = {"model": base, "memory": memory(), "num_train_epochs": 6, "learning_rate": 0.3}
    trainer = ReadyTrainer(
        base,
        ReadyConfig(
            str(tmp_path), **{**memory_runs.OPTIONS, **{k: options[k] for k in ("num_train_epochs", "learning_rate")}},
            eval_strategy="steps", eval_steps=6,
        ),
        DATA,
        eval_dataset=DATA.select(range(12)),
        processing_class=tiny.tokenizer(),
        peft_config=memory(),
    )  # fmt: skip
    trainer.train()
    losses = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert len(losses) > 3 and losses[2] < losses[0] - 0.01


def test_a_collator_that_sorts_rows_is_told(tmp_path, base):
    from hf_unlearn import default_collator

    plain, rows = default_collator(tiny.lm(), tiny.tokenizer()), DATA.to_list()
    for i, row in enumerate(rows):
        for name in ("input_ids", "attention_mask", "labels"):
            row[name] = row[name][: len(row[name]) - i % 3]

    def trainer(out, key, variant):
        args = ReadyConfig(str(tmp_path / out), **{**memory_runs.OPTIONS, "per_device_train_batch_size": 12})
        given = {"processing_class": tiny.tokenizer(), "data_collator": lambda some: plain(sorted(some, key=key))}
        return ReadyTrainer(base, args, rows, peft_config=memory_runs.config(variant=variant), **given)

    def length(row) -> int:
        return len(row["input_ids"])

    with pytest.raises(ArgumentError, match="`data_collator` sorts rows"):
        trainer("sorts", length, "shared")
    assert trainer("keeps", lambda row: 0, "shared") and trainer("own", length, "own")


def test_a_source_that_comes_too_late_for_an_entry_is_told(tmp_path, base, caplog):
    rows = [{**row, "author": f"author {row['id']}", "revocable": True} for row in tiny.lm_list(30)]
    memory_runs.trained(
        tmp_path, data=rows, model=base, memory=memory_runs.config(variant="shared", entries=4, top_k=2)
    )
    assert "of 30 sources own no entry, so that nothing of them was learned" in caplog.text


def test_a_source_that_is_filled_anew_begins_without_what_it_had(tmp_path, base):
    memory_runs.trained(tmp_path / "some", data=DATA, model=base, memory=memory())
    own = [{**row, "id": row["id"] + 1000} for row in DATA if row["author"] == "author 0"]
    once = memory_runs.trained(tmp_path / "once", data=own, model=str(tmp_path / "some"))
    twice = memory_runs.trained(tmp_path / "twice", data=own, model=str(tmp_path / "once"))
    name = once.rows_of_memory.sources[0]
    assert tiny.same_bits(*(dict(t.store.tables.by_source[name].tensors()) for t in (once, twice)))


def test_a_plan_calls_it_approximate_and_no_training_verifies_it(tmp_path, whole):
    options = plan(whole.args.output_dir, ids_of("author 1"))
    assert [(o.way, o.guarantee, o.row_passes) for o in options][0] == ("drop the table", "approximate", 0)
    assert "Cheapest way that is exact: retrain." in options.notes()
    with pytest.raises(ArgumentError, match="one table for all its sources: what a deletion leaves is approximate"):
        verify(whole.args.output_dir, DATA, processing_class=tiny.tokenizer())


def test_the_learning_rate_goes_by_the_variant(tmp_path, base):
    given = {**memory_runs.OPTIONS}
    del given["learning_rate"]
    rates = {}
    for variant in ("own", "shared"):
        args = ReadyConfig(str(tmp_path / variant), **given, memory_config={"variant": variant, "layers": [0]})
        trainer = ReadyTrainer(base, args, DATA, processing_class=tiny.tokenizer())
        rates[variant] = trainer.args.learning_rate
    assert rates == {"own": 0.3, "shared": 0.1}


def test_sources_come_to_own_what_they_read_where_they_answer():
    from helpers import memories

    model = memories.with_memory(tiny.lm(layers=2), layers=[0, 1], variant="shared", entries=256)
    store, draw = memories.store(model), torch.Generator().manual_seed(0)
    inputs = [torch.randn(9, 16, generator=draw) for _ in range(2)]
    answers = torch.arange(9) > 6

    def seen(source):
        return inputs, torch.zeros(9, dtype=torch.long), ~answers, answers

    filling = SharedFilling(store, values_of(model), [torch.arange(1).numpy()], seen)
    filling.begin(0)
    for at, entries in enumerate(store.working.entries):
        assert entries.tolist() == store.reads(at, inputs[at][answers])[1].unique().tolist()
