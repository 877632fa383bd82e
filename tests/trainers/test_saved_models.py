"""The folders that `save_model` leaves: what their manifest covers, and what a trainer says of one that is damaged."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from helpers import tiny
from helpers.cards import GOOD, ORIGINAL
from helpers.cards import run as measured
from helpers.unlearning import trainer as unlearn
from peft import LoraConfig

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, Scorecard
from hf_unlearn.evaluation import ModelScores
from hf_unlearn.trainers import base
from hf_unlearn.utils import files, manifest


def ready(out, model=None, peft_config=None, **options):
    config = ReadyConfig(str(out), **{**tiny.QUIET, "readiness": "meta", **options})
    model = tiny.lm() if model is None else model
    return ReadyTrainer(model, config, tiny.lm_rows(8), processing_class=tiny.tokenizer(), peft_config=peft_config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "ready"
    run = ready(folder)
    run.save_model()
    run.save_state()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    folder = tmp_path / "ready"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def listed(folder) -> set[str]:
    return set(json.loads((folder / "_complete.json").read_text())["files"])


def test_every_file_of_a_saved_model_is_listed_or_carries_its_own_digest(saved):
    names = {path.name for path in saved.iterdir()} - {"_complete.json"}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "trainer_state.json"} <= listed(saved)
    assert names - listed(saved) == {"readiness.json", "rows.digests", "_revocable_salt.json"}
    assert manifest.damage(saved) == []


@pytest.mark.parametrize("name", [
    "model.safetensors", "config.json", "tokenizer_config.json", "training_args.bin", "trainer_state.json",
    "readiness.json", "rows.digests", "_revocable_salt.json",
])  # fmt: skip
def test_a_request_does_not_start_from_a_folder_with_a_flipped_byte(copy, tmp_path, monkeypatch, name):
    monkeypatch.setattr(base, "load_model", lambda where, **_: pytest.fail("was loaded"))
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        unlearn(tmp_path / "out", str(copy))
    (told,) = caught.value.problems
    assert name in told and "damaged" in told and "\n" not in told


def test_large_weights_are_read_when_all_else_is_right_and_before_they_are_loaded(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "load_model", lambda where, **_: pytest.fail("was loaded"))
    monkeypatch.setattr(manifest, "SMALL", 100)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(ArgumentError, match="`passes`"):
        unlearn(tmp_path / "out", str(copy), passes=-1)
    with pytest.raises(ArgumentError, match="not what was written in model.safetensors"):
        unlearn(tmp_path / "out", str(copy))


def test_a_folder_without_a_list_is_loaded_as_before_and_one_that_is_whole_too(copy, tmp_path):
    unlearn(tmp_path / "out", str(copy))
    (copy / "_complete.json").unlink()
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    unlearn(tmp_path / "out", str(copy))


def test_the_first_process_reads_the_folder_and_the_others_hear_of_it(copy, monkeypatch):
    second = SimpleNamespace(num_processes=2, is_main_process=False)
    monkeypatch.setattr("hf_unlearn.trainers.engines.PartialState", lambda: second)
    monkeypatch.setattr(manifest, "damage", lambda *args: pytest.fail("was read"))

    def broadcast(found):
        found[:] = [None, ArgumentError(["what the first one found"])]

    monkeypatch.setattr("hf_unlearn.trainers.engines.broadcast_object_list", broadcast)
    with pytest.raises(ArgumentError, match="what the first one found"):
        ReadyTrainer.load(None, str(copy), {})


def test_what_an_evaluation_and_people_add_keeps_the_folder_whole(copy, caplog):
    card = Scorecard([ModelScores(**one) for one in (ORIGINAL, measured("unlearned", **GOOD))])
    card.to_model_card(copy, "unlearned")
    record = files.read_json(copy / "readiness.json")
    files.write_json(copy / "readiness.json", {**record, "break_even": {"requests": 2}})
    (copy / "photo.png").write_bytes(b"mine")
    (copy / "notes.json").write_text("no JSON")
    assert manifest.damage(copy) == [] and not caplog.messages
    (copy / "README.md").write_text((copy / "README.md").read_text() + "\nMine.\n")
    assert manifest.damage(copy) == [] and "README.md has changed" in caplog.text


def test_a_save_while_the_model_is_pushed_lists_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: SimpleNamespace(upload_folder=lambda **given: given))
    monkeypatch.setattr(ReadyTrainer, "init_hf_repo", lambda self, **kwargs: setattr(self, "hub_model_id", "user/m"))
    run = ready(tmp_path, push_to_hub=True, hub_model_id="user/m")
    run.save_model()
    assert "model.safetensors" in listed(tmp_path) and manifest.damage(tmp_path) == []
    assert "_*" in run.push_to_hub()["ignore_patterns"]  # so it stays here
    assert "model.safetensors" in listed(tmp_path) and manifest.damage(tmp_path) == []


def test_weights_that_a_checkpoint_s_push_copies_are_not_held_against_an_older_list(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: SimpleNamespace(upload_folder=lambda **given: given))
    monkeypatch.setattr(ReadyTrainer, "init_hf_repo", lambda self, **kwargs: setattr(self, "hub_model_id", "user/m"))
    ready(tmp_path).save_model()
    seen = []
    monkeypatch.setattr(
        ReadyTrainer, "_push_from_checkpoint", lambda self, folder: seen.append((tmp_path / "_complete.json").exists())
    )
    for strategy, there in (("end", True), ("every_save", False)):
        run = ready(tmp_path, push_to_hub=True, hub_model_id="user/m", hub_strategy=strategy, save_strategy="steps")
        run.create_optimizer_and_scheduler(2)
        run._save_checkpoint(run.model, None)
        assert seen.pop() is there
    assert (tmp_path / "checkpoint-0/complete.json").exists()
    assert not (tmp_path / "checkpoint-0/_complete.json").exists()


def test_an_adapter_s_folder_is_listed_and_its_base_is_looked_at(copy, tmp_path):
    model = type(tiny.lm()).from_pretrained(copy)
    ready(tmp_path / "lora", model, LoraConfig(r=2, target_modules="all-linear")).save_model()
    assert "adapter_model.safetensors" in listed(tmp_path / "lora")
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(ArgumentError, match=f"{copy} is damaged"):
        unlearn(tmp_path / "out", str(tmp_path / "lora"))
