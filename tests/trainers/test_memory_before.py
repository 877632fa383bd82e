"""A training that adds to a memory: of the same program, with ids of its own, beside tables whose owners are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers import memories, memory_runs, tiny

from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer
from hf_unlearn.trainers.replaying import RAN_ELSEWHERE

DATA = memory_runs.rows()


def rows(*authors: str, **changed):
    return [{**row, **changed} for row in DATA if row["author"] in authors]


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """A memory of three sources; its folder."""
    folder = tmp_path_factory.mktemp("some")
    tiny.lm(layers=2).save_pretrained(folder / "base")
    first = [row for row in DATA if row["author"] != "author 3"]
    options = {"model": str(folder / "base"), "memory": memory_runs.config()}
    memory_runs.trained(folder / "ready", data=first, **options, num_train_epochs=3)
    return folder / "ready"


def added(out, some, data, **options):
    model = some if isinstance(some, torch.nn.Module) else str(some)
    return memory_runs.trained(out, data=data, model=model, **{"num_train_epochs": 3, **options})


def refused(out, some, data, **options) -> str:
    with pytest.raises(ArgumentError) as error:
        added(out, some, data, **options)
    return str(error.value)


def test_tables_of_one_memory_are_filled_by_one_program(tmp_path, some):
    said = refused(tmp_path, some, rows("author 3"), num_train_epochs=2, learning_rate=0.5)
    assert "`num_train_epochs` is 2" in said and "were filled with 3" in said and "`learning_rate` is 0.5" in said
    options = {**memory_runs.OPTIONS}
    del options["num_train_epochs"], options["learning_rate"]
    from hf_unlearn import ReadyConfig, ReadyTrainer

    trainer = ReadyTrainer(
        str(some), ReadyConfig(str(tmp_path / "own"), **options), rows("author 3"), processing_class=tiny.tokenizer()
    )
    assert trainer.args.num_train_epochs == 3 and trainer.args.learning_rate == 0.05


def test_a_memory_that_holds_tables_stays_as_it_is(tmp_path, some):
    said = refused(tmp_path, some, rows("author 3"), memory=memory_runs.config(entries=256))
    assert "`entries` of the memory is 64" in said and "256 is asked for" in said
    assert "`top_k`" in refused(tmp_path, some, rows("author 3"), memory_config='{"top_k": 2}')
    same = {"memory": memory_runs.config(layers=[-1, 0])}
    assert len(added(tmp_path / "same", some, rows("author 3"), **same).store.tables) == 4


def test_an_id_that_a_row_of_another_source_has_is_refused(tmp_path, some):
    said = refused(tmp_path, some, rows("author 3", id=0)[:1])
    assert "1 row(s) have ids that rows of other sources" in said and "already (0)" in said
    plain = [{k: v for k, v in row.items() if k != "id"} for row in rows("author 3")]
    assert "Give each row an `id` of its own" in refused(tmp_path, some, plain)


def test_rows_of_a_known_source_take_the_place_of_its_own_and_that_is_told(tmp_path, some, caplog):
    both = added(tmp_path, some, rows("author 0")[:2], log_level="warning")
    assert "1 source(s) have a table already" in caplog.text and "1 of their rows before are not among" in caplog.text
    assert len(both.store.tables) == 3 and len(both.all_rows) == 8


def test_tables_of_which_nobody_knows_whose_they_are_are_refused(tmp_path, some):
    from peft import PeftModel

    folder = tmp_path / "copy"
    shutil.copytree(some, folder)
    (folder / "memory.rows").unlink()
    assert "no memory.rows" in refused(tmp_path / "a", folder, rows("author 3"))
    (folder / "readiness.json").unlink()
    assert "nothing says whose they are" in refused(tmp_path / "b", folder, rows("author 3"))
    model = PeftModel.from_pretrained(tiny.lm(layers=2), str(some), is_trainable=True)
    assert "nothing says whose they are" in refused(tmp_path / "c", model, rows("author 3"))
    memories.store(model).tables.drop(list(memories.store(model).tables.by_source))
    assert len(added(tmp_path / "d", model, rows("author 3")).store.tables) == 1


def test_the_salt_must_be_beside_a_memory_that_is_added_to(tmp_path, some):
    folder = tmp_path / "copy"
    shutil.copytree(some, folder)
    (folder / "_revocable_salt.json").unlink()
    assert "Put it into that folder" in refused(tmp_path / "a", folder, rows("author 3"))


def test_a_machine_that_some_tables_were_filled_on_is_not_forgotten(tmp_path, some, monkeypatch):
    from hf_unlearn.trainers import memory

    here = memory.machine
    monkeypatch.setattr(memory, "machine", lambda trainer: {**here(trainer), "threads": 99})
    both = added(tmp_path / "both", some, rows("author 3"))
    assert both.record()["memory"][RAN_ELSEWHERE] == {"threads": [torch.get_num_threads(), 99]}
    left = [row for row in DATA if row["author"] == "author 3"][1:]
    asked = [row["id"] for row in rows("author 3")][:1]
    args = UnlearnConfig(str(tmp_path / "out"), **tiny.QUIET)
    request = UnlearnTrainer(str(tmp_path / "both"), args, asked, left, processing_class=tiny.tokenizer())
    request.train()
    assert request.guarantee == "approximate" and "threads" in request.record()["memory"][RAN_ELSEWHERE]
    assert Path(some, "readiness.json").is_file()
