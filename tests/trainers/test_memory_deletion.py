"""Deletion from a memory: tables are dropped at once, and what is left is what a training without the rows gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import memory_runs, tiny

from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    tiny.lm(layers=2).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, base):
    return memory_runs.trained(tmp_path_factory.mktemp("whole") / "ready", model=base, memory=memory_runs.config())


def ids_of(author: str) -> list[int]:
    return [row["id"] for row in memory_runs.rows() if row["author"] == author]


def deleted(out, source, asked, retain=None, **options):
    args = UnlearnConfig(str(out), **{**tiny.QUIET, **options})
    trainer = UnlearnTrainer(source, args, asked, retain, processing_class=tiny.tokenizer(), general_dataset=None)
    trainer.result = trainer.train()
    trainer.save_model()
    return trainer


def test_a_deleted_source_leaves_what_a_training_without_it_gives_bit_for_bit(tmp_path, whole, base):
    gone = ids_of("author 1")
    request = deleted(tmp_path / "request", whole.args.output_dir, gone)
    never = memory_runs.trained(tmp_path / "never", model=base, memory=memory_runs.config(), deleted=gone)
    assert memory_runs.same(memory_runs.tables(request), memory_runs.tables(never))
    assert request.result.metrics["guarantee"] == "exact" and request.result.metrics["row_passes"] == 0
    assert request.result.metrics["drop_seconds"] < 0.05 and request.state.global_step == 0


def test_the_models_of_both_answer_alike_where_the_salt_is_the_same(tmp_path, whole, base):
    gone = ids_of("author 0")
    request = deleted(tmp_path / "request", whole.args.output_dir, gone)
    (tmp_path / "never").mkdir()
    name = "_revocable_salt.json"
    (tmp_path / "never" / name).write_bytes(Path(whole.args.output_dir, name).read_bytes())
    never = memory_runs.trained(tmp_path / "never", model=base, memory=memory_runs.config(), deleted=gone)
    assert tiny.same_bits(request.store.tensors(), never.store.tensors())
    batch = tiny.batch_of(request.model, memory_runs.rows())
    with torch.no_grad():
        assert torch.equal(request.model.eval()(**batch).logits, never.model.eval()(**batch).logits)


def test_one_request_after_the_other_is_one_request_for_both(tmp_path, whole):
    rows = memory_runs.rows().filter(lambda row: row["author"] == "author 0")
    first = deleted(tmp_path / "first", whole.args.output_dir, rows)
    second = deleted(tmp_path / "second", first.args.output_dir, ids_of("author 2"))
    at_once = deleted(tmp_path / "once", whole.args.output_dir, ids_of("author 0") + ids_of("author 2"))
    assert memory_runs.same(memory_runs.tables(second), memory_runs.tables(at_once))
    assert len(second.store.tables) == 2
    with pytest.raises(ArgumentError, match="was asked to forget .* they would be learned again"):
        memory_runs.trained(tmp_path / "back", data=rows, model=second.args.output_dir)
    with pytest.raises(ArgumentError, match="are of no source in the memory"):
        deleted(tmp_path / "again", second.args.output_dir, ids_of("author 0"))


def test_some_rows_of_a_source_are_deleted_by_filling_its_table_from_the_rest(tmp_path, whole, base):
    gone = ids_of("author 3")[:1]
    data = memory_runs.rows()
    left = data.filter(lambda row: row["id"] not in gone).shuffle(seed=1)
    request = deleted(tmp_path / "request", whole.args.output_dir, gone, left)
    never = memory_runs.trained(tmp_path / "never", model=base, memory=memory_runs.config(), deleted=gone)
    assert memory_runs.same(memory_runs.tables(request)[:3], memory_runs.tables(never)[:3])
    assert request.result.metrics["retrained_sources"] == 1 and request.state.global_step > 0
    own = [tables(request)[request.asked.parts[0]]]
    assert tiny.same_bits(own[0], memory_runs.tables(never)[3])
    with pytest.raises(ArgumentError, match="2 of these 2 are not in `retain_dataset`"):
        deleted(tmp_path / "without", whole.args.output_dir, gone)


def test_rows_that_say_something_else_than_at_the_training_fill_no_table(tmp_path, whole):
    left = [{**row, "input_ids": row["input_ids"][::-1]} for row in memory_runs.rows() if row["author"] == "author 3"]
    with pytest.raises(ArgumentError, match="2 of 2 rows .* are not those that .* was trained on"):
        deleted(tmp_path, whole.args.output_dir, ids_of("author 3")[:1], left)


def test_a_model_that_lacks_tables_of_the_record_is_refused(tmp_path, whole):
    from peft import PeftModel

    model = PeftModel.from_pretrained(tiny.lm(layers=2), whole.args.output_dir, is_trainable=True)
    given = {"readiness_from": whole.args.output_dir}
    assert deleted(tmp_path / "in", model, ids_of("author 1"), **given).guarantee == "exact"
    with pytest.raises(ArgumentError, match="lacks the tables of 1 of 4 sources .* Pass that folder"):
        deleted(tmp_path / "out", model, ids_of("author 2"), **given)


def test_a_memory_whose_training_was_stopped_is_no_model_to_delete_from(tmp_path, base):
    memory_runs.trained(tmp_path / "short", model=base, memory=memory_runs.config(), max_steps=5)
    with pytest.raises(ArgumentError, match="was stopped before each source had its table"):
        deleted(tmp_path / "out", str(tmp_path / "short"), ids_of("author 0"))


def test_most_rows_of_many_sources_are_looked_up_at_once():
    import time

    import numpy as np

    from hf_unlearn.trainers.memory_request import MemoryAsked
    from hf_unlearn.trainers.memory_sources import MemoryRows

    n = 2000
    rows = MemoryRows("", "", [str(i) for i in range(n)], np.zeros((2 * n, 16), np.uint8), np.arange(2 * n) // 2)
    began = time.process_time()
    asked = MemoryAsked("", {}, rows, [], np.arange(3 * n // 2))
    assert len(asked.whole) == 3 * n // 4 and not asked.parts and len(asked.rest_of_parts) == 0
    part = MemoryAsked("", {}, rows, [], np.arange(n + 1))
    assert part.parts == [str(n // 2)] and len(part.rest_of_parts) == 1
    assert time.process_time() - began < 0.5


def tables(trainer) -> dict:
    return {source: dict(table.tensors()) for source, table in trainer.store.tables.by_source.items()}


def test_the_folder_holds_nothing_of_the_source_and_says_what_was_done(tmp_path, whole):
    from safetensors import safe_open

    request = deleted(tmp_path, whole.args.output_dir, memory_runs.rows().filter(lambda r: r["author"] == "author 2"))
    gone = request.asked.whole[0]
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert not any(gone in name for name in names) and sum(".inputs" in name for name in names) == 4  # public ones, too
    assert bytes.fromhex(gone) not in (tmp_path / "memory.rows").read_bytes()
    record = json.loads((tmp_path / "unlearning.json").read_text())
    assert record["guarantee"] == "exact" and record["stop_reason"] == "dropped" and record["dropped_sources"] == 1
    ready = json.loads((tmp_path / "readiness.json").read_text())
    assert ready["ready"] and ready["memory"]["sources"] == 3
    card = (tmp_path / "README.md").read_text()
    assert "deleted exactly" in card and "personal data" in card


def bytes_of(folder) -> dict[str, bytes]:
    """Of each tensor of a memory's file, as they lie on the disk."""
    content = Path(folder, "adapter_model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    heads = json.loads(content[8:begin])
    heads.pop("__metadata__", None)
    return {name: content[slice(*(begin + at for at in head["data_offsets"]))] for name, head in heads.items()}


def test_bytes_of_other_sources_are_on_the_disk_as_they_were_before(tmp_path, whole):
    request = deleted(tmp_path / "whole", whole.args.output_dir, ids_of("author 1"))
    before, after = bytes_of(whole.args.output_dir), bytes_of(tmp_path / "whole")
    assert after == {name: own for name, own in before.items() if request.asked.whole[0] not in name}
    left = memory_runs.rows().filter(lambda row: row["author"] == "author 3" and row["id"] != 3)
    part = deleted(tmp_path / "part", whole.args.output_dir, [3], left)
    after = bytes_of(tmp_path / "part")
    changed = {name for name, own in before.items() if after[name] != own}
    assert before.keys() == after.keys() and changed and all(part.asked.parts[0] in name for name in changed)


def test_the_card_of_tables_that_were_filled_anew_elsewhere_says_so(tmp_path, whole, monkeypatch):
    from hf_unlearn.trainers import memory_deletion

    here = memory_deletion.machine
    monkeypatch.setattr(memory_deletion, "machine", lambda trainer: {**here(trainer), "threads": 99})
    left = memory_runs.rows().filter(lambda row: row["author"] == "author 3" and row["id"] != 3)
    request = deleted(tmp_path, whole.args.output_dir, [3], left)
    assert request.guarantee == "approximate"
    assert "tables filled anew elsewhere than at its training" in (tmp_path / "README.md").read_text()


def test_digests_of_a_model_know_its_tables_and_nothing_of_a_source_stays_beside_them(tmp_path, whole):
    from hf_unlearn.evaluation import weights_hash
    from hf_unlearn.trainers.loading import load_model
    from hf_unlearn.trainers.weights_digest import weights_digest

    request = deleted(tmp_path, whole.args.output_dir, ids_of("author 3"))
    for name in (weights_hash, weights_digest):
        before, after = name(whole.model), name(request.model)
        assert before != after
        assert name(load_model(whole.args.output_dir)) == before and name(load_model(str(tmp_path))) == after
    with request.model.disable_adapter():
        assert weights_hash(request.model) != weights_hash(load_model(str(tmp_path)))


def test_the_model_before_is_deleted_only_where_that_is_asked_for(tmp_path, whole):
    kept = deleted(tmp_path / "kept", whole.args.output_dir, ids_of("author 1"))
    assert Path(whole.args.output_dir).is_dir() and kept.not_deleted[0]["why"] == "kept"
    gone = deleted(tmp_path / "gone", kept.args.output_dir, ids_of("author 2"), keep_superseded=False)
    assert not Path(kept.args.output_dir).exists() and gone.not_deleted[0]["why"] == "out of reach"


def test_a_table_file_that_was_changed_is_told_before_anything_is_deleted(tmp_path, whole):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(whole.args.output_dir, folder)
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="adapter_model.safetensors"):
        deleted(tmp_path / "out", str(folder), ids_of("author 1"))


def test_an_objective_that_tables_do_not_need_is_told(tmp_path, whole, caplog):
    deleted(tmp_path, whole.args.output_dir, ids_of("author 1"), objective="npo", npo_beta=0.2)
    said = "The request drops tables of the memory, and is not taken by steps on a loss; nothing reads `npo_beta` 0.2, "
    assert f"{said}`objective` 'npo'." in caplog.text


def test_what_cannot_be_is_refused(tmp_path, whole):
    with pytest.raises(ArgumentError, match="`output_dir` is the folder of the model itself"):
        deleted(whole.args.output_dir, whole.args.output_dir, ids_of("author 1"))
    with pytest.raises(ArgumentError, match="a memory is not taken out by steps"):
        deleted(tmp_path, whole.args.output_dir, ids_of("author 1"), method="objective")
    with pytest.raises(ArgumentError, match="are of no source in the memory"):
        deleted(tmp_path, whole.args.output_dir, ["nobody's"])
    (Path(whole.args.output_dir) / "_revocable_salt.json").rename(tmp_path / "salt.json")
    try:
        with pytest.raises(ArgumentError, match="Name it by `salt_file`"):
            deleted(tmp_path / "a", whole.args.output_dir, ids_of("author 1"))
        deleted(tmp_path / "b", whole.args.output_dir, ids_of("author 1"), salt_file=str(tmp_path / "salt.json"))
    finally:
        (tmp_path / "salt.json").rename(Path(whole.args.output_dir) / "_revocable_salt.json")
