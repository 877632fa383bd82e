"""The manifest of a model's folder: which files it covers, what is found damaged, and what may change."""

from __future__ import annotations

import json
import os

import pytest

from hf_unlearn.utils import files, manifest

WRITTEN = {"model.safetensors": b"w" * 300, "config.json": b'{"a": 1}', "tokenizer.json": b"{}", "vocab.txt": b"a\nb",
           "training_args.bin": b"t" * 40, "README.md": b"# card"}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A model's folder in which somebody had a file before, and to which somebody adds one."""
    (tmp_path / "mine.json").write_text("{}")
    with manifest.of_what_is_saved(tmp_path):
        for name, content in WRITTEN.items():
            (tmp_path / name).write_bytes(content)
        (tmp_path / "log.txt").write_text("saving")  # by another program, meanwhile
        files.write_json(tmp_path / "readiness.json", {"schema": 1, "ready": True})
        files.replace_sealed(tmp_path / "rows.digests", b"r" * 24)
        files.write_json(tmp_path / "_revocable_salt.json", {"salt": "0" * 32}, private=True)
    (tmp_path / "handler.py").write_text("x = 1")
    return tmp_path


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_it_lists_what_was_saved_and_leaves_the_files_of_others_alone(folder):
    listed = json.loads((folder / "_complete.json").read_text())
    assert listed["files"] == {name: len(content) for name, content in WRITTEN.items()}
    assert listed["sha256"].keys() == WRITTEN.keys()
    for name in ("mine.json", "log.txt", "handler.py"):
        (folder / name).write_text("other")
    assert manifest.damage(folder) == []


@pytest.mark.parametrize("name", sorted(WRITTEN.keys() - {"README.md"}))
def test_a_flipped_byte_in_a_file_that_was_saved_is_one_line_that_names_it(folder, name):
    flip(folder / name)
    (line,) = manifest.damage(folder)
    assert line.startswith(f"{folder} is damaged: the content is not what was written in {name}. Restore it")
    assert "delete _complete.json" in line and "\n" not in line


@pytest.mark.parametrize("name", ["readiness.json", "_revocable_salt.json", "rows.digests", "_complete.json"])
def test_a_flipped_byte_in_a_file_with_its_own_digest_is_found(folder, name):
    flip(folder / name, len((folder / name).read_bytes()) // 2)
    (line,) = manifest.damage(folder)
    assert line.startswith(f"{folder / name} ") and "is damaged" in line


def test_sizes_and_small_files_are_told_before_large_ones_are_read(folder, monkeypatch):
    flip(folder / "model.safetensors")
    assert manifest.damage(folder, up_to=100) == []
    flip(folder / "config.json")
    assert "written in config.json." in manifest.damage(folder, up_to=100)[0]
    monkeypatch.setattr(manifest, "sha256_of", None)
    os.truncate(folder / "model.safetensors", 299)
    assert "the size is wrong of model.safetensors (299 bytes for 300)" in manifest.damage(folder)[0]
    (folder / "model.safetensors").unlink()
    assert "it lacks model.safetensors" in manifest.damage(folder)[0]


def test_a_large_file_is_read_once_in_a_process_as_long_as_it_stays_the_same(folder, monkeypatch):
    read, real = [], files._sha256
    monkeypatch.setattr(files, "_sha256", lambda path: read.append(os.path.basename(path)) or real(path))
    for _ in range(3):
        assert manifest.damage(folder) == []
    assert sorted(read) == sorted(WRITTEN)
    flip(folder / "model.safetensors")
    assert manifest.damage(folder) and read[len(WRITTEN):] == ["model.safetensors"]


def test_what_people_edit_or_delete_on_purpose_stops_no_run(folder, caplog):
    (folder / "README.md").write_text("# my words")
    for name in ("training_args.bin", "tokenizer.json"):  # another is named by --processing_from
        (folder / name).unlink()
    record = json.loads((folder / "readiness.json").read_text())
    del record["digest"]
    (folder / "readiness.json").write_text(json.dumps({**record, "ready": False}))
    assert manifest.damage(folder) == [] == manifest.damage(folder)
    (told,) = caplog.messages
    assert told.startswith(f"{folder / 'README.md'} has changed since it was written")
    manifest.renew(folder, "README.md")  # as after we have written into it
    assert manifest.damage(folder) == [] and len(caplog.messages) == 1


def test_a_second_save_lists_anew_and_one_that_was_cut_short_leaves_no_list(folder):
    with manifest.of_what_is_saved(folder):
        (folder / "model.safetensors").write_bytes(b"x" * 300)
    assert manifest.damage(folder) == []
    assert json.loads((folder / "_complete.json").read_text())["files"].keys() == WRITTEN.keys()
    with pytest.raises(OSError, match="full"), manifest.of_what_is_saved(folder):
        (folder / "model.safetensors").write_bytes(b"y")
        raise OSError("full")
    assert not (folder / "_complete.json").exists() and manifest.damage(folder) == []  # is loaded as before
    manifest.renew(folder, "README.md")
    assert not (folder / "_complete.json").exists()


def test_the_folder_of_an_adapter_s_base_is_looked_at_too(folder, tmp_path_factory):
    adapter = tmp_path_factory.mktemp("adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    assert manifest.damage(adapter) == []
    flip(folder / "model.safetensors")
    assert manifest.damage(adapter)[0].startswith(f"{folder} is damaged")


def test_an_adapter_in_a_folder_of_its_own_is_listed(tmp_path):
    with manifest.of_what_is_saved(tmp_path):
        for name in ("second", "checkpoint-1", "_old"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "adapter_config.json").write_text("{}")
    assert list(json.loads((tmp_path / "_complete.json").read_text())["files"]) == ["second/adapter_config.json"]


def test_a_checkpoint_as_a_model_is_held_against_its_own_list_but_for_what_no_model_is_loaded_from(folder):
    (folder / "_complete.json").unlink()
    (folder / "optimizer.pt").write_bytes(b"o" * 9)
    manifest.write(folder)
    (folder / "optimizer.pt").unlink()
    assert manifest.damage(folder) == [] and manifest.problem(folder) == "it lacks optimizer.pt"
    flip(folder / "model.safetensors")
    assert "written in model.safetensors" in manifest.damage(folder)[0]
