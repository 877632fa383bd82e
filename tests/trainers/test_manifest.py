"""Manifests of checkpoints: what is whole, what a run resumes from, what is deleted in which order."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.trainers import checkpointing
from hf_unlearn.utils import manifest

SIZES = {"adapter/a.bin": 7, "empty.txt": 0, "model.safetensors": 100, "optimizer.pt": 30, "trainer_state.json": 5}


def whole(parent, step=1) -> Path:
    """A made-up checkpoint with a subfolder."""
    folder = Path(parent, f"checkpoint-{step}")
    (folder / "adapter").mkdir(parents=True)
    for name, size in SIZES.items():
        (folder / name).write_bytes(b"x" * size)
    checkpointing.write_manifest(str(folder))
    return folder


def test_a_manifest_lists_every_file_with_its_size(tmp_path):
    folder = whole(tmp_path)
    written = json.loads((folder / "complete.json").read_text())
    assert written["schema"] == 1 and written["files"] == SIZES
    assert checkpointing.problem(folder) is None
    (folder / "later.txt").write_text("a file more does no harm")
    assert checkpointing.problem(folder) is None
    checkpointing.write_manifest(folder)
    assert json.loads((folder / "complete.json").read_text())["files"].keys() == {*SIZES, "later.txt"}


@pytest.mark.parametrize("harm, why", [
    (lambda f: (f / "complete.json").unlink(), "it has no complete.json"),
    (lambda f: (f / "complete.json").rename(f / "complete.json.part"), "it has no complete.json"),
    (lambda f: (f / "complete.json").write_text('{"schema": 1, "fil'), "complete.json cannot be read, or is damaged"),
    (lambda f: (f / "optimizer.pt").unlink(), "it lacks optimizer.pt"),
    (lambda f: shutil.rmtree(f / "adapter"), "it lacks adapter/a.bin"),
    (lambda f: os.truncate(f / "model.safetensors", 50), "model.safetensors (50 bytes for 100)"),
    (lambda f: (f / "model.safetensors").write_bytes(b"x" * 101), "model.safetensors (101 bytes for 100)"),
    (lambda f: (f / "empty.txt").unlink(), "it lacks empty.txt"),
    (shutil.rmtree, "there is no such folder"),
])  # fmt: skip
def test_the_problem_of_an_incomplete_checkpoint_is_named(tmp_path, harm, why):
    folder = whole(tmp_path)
    harm(folder)
    assert why in checkpointing.problem(folder)


def test_the_last_whole_checkpoint_is_found_and_the_skipped_ones_are_named(tmp_path, caplog):
    assert checkpointing.last_complete(tmp_path / "nothing") is None
    for step in (2, 9, 10, 11):
        whole(tmp_path, step)
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-11" / "complete.json").unlink()
    for name in ("checkpoint-x", "checkpoint-12.old", "my-checkpoint-13"):
        shutil.copytree(tmp_path / "checkpoint-9", tmp_path / name)
    (tmp_path / "checkpoint-14").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        assert checkpointing.last_complete(tmp_path) == str(tmp_path / "checkpoint-9")
    assert [m.split("checkpoint-")[-1] for m in caplog.messages] == [
        "11: it has no complete.json, the file that is written last.", "10: it lacks optimizer.pt."
    ]  # fmt: skip


def test_a_run_resumes_only_from_a_complete_checkpoint(tmp_path, caplog):
    resume = checkpointing.resume_from
    assert resume(None, tmp_path) is None and resume(False, tmp_path) is None
    assert resume(True, tmp_path) is True and resume(True, tmp_path / "nothing") is True  # the Trainer's own error
    folder = whole(tmp_path)
    assert resume(True, tmp_path) == resume(folder, "elsewhere") == resume(str(folder), "elsewhere") == str(folder)
    (folder / "optimizer.pt").unlink()
    assert resume(True, tmp_path) is None and "starts from the beginning" in caplog.messages[-1]
    with pytest.raises(ArgumentError, match=r"Cannot resume from .*checkpoint-1: it lacks optimizer.pt.$"):
        resume(str(folder), tmp_path)
    (folder / "complete.json").unlink()
    said = "no complete.json.*If you know it is complete, say so by `hf_unlearn.trainers.checkpointing.write_manifest"
    with pytest.raises(ArgumentError, match=said):
        resume(str(folder), tmp_path)
    checkpointing.write_manifest(folder)
    assert resume(True, tmp_path) == str(folder)
    with pytest.raises(ArgumentError, match="no such folder.$"):
        resume(str(tmp_path / "checkpoint-7"), tmp_path)


def test_a_folder_that_is_no_checkpoint_is_told_what_to_do_in_place_of_resuming(tmp_path):
    with manifest.of_what_is_saved(tmp_path):
        (tmp_path / "config.json").write_text("{}")
    said = "it has no trainer_state.json, which a checkpoint has. To start from its weights, pass it as `model`"
    with pytest.raises(ArgumentError, match=said):
        checkpointing.resume_from(str(tmp_path), tmp_path)
    checkpointing.write_manifest(tmp_path)  # as one was told to do
    with pytest.raises(ArgumentError, match=said):
        checkpointing.resume_from(tmp_path, tmp_path)
    (tmp_path / "complete.json").unlink()
    (tmp_path / "trainer_state.json").write_text("{}")  # of `save_state`
    with pytest.raises(ArgumentError, match="it is the folder of a saved model.*and no checkpoint. To start from"):
        checkpointing.resume_from(str(tmp_path), tmp_path)
    whole(tmp_path, 3)
    with pytest.raises(ArgumentError, match="no checkpoint. Its checkpoints: checkpoint-3.$"):
        checkpointing.resume_from(str(tmp_path), tmp_path)


def test_deletions_cut_short_leave_nothing_that_looks_whole(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("killed")

    folder = whole(tmp_path)
    with monkeypatch.context() as cut:
        cut.setattr(shutil, "rmtree", refuse)
        with pytest.raises(OSError, match="killed"):
            checkpointing.remove(folder)
    assert (folder / "model.safetensors").exists() and checkpointing.problem(folder) is not None
    checkpointing.remove(folder)
    checkpointing.remove(folder)
    assert not folder.exists()
    # a file that is no longer needed, on the other hand, goes without a moment at which the folder is not whole
    folder = whole(tmp_path)
    with monkeypatch.context() as cut:
        cut.setattr(Path, "unlink", refuse)
        with pytest.raises(OSError, match="killed"):
            checkpointing.drop(folder, "optimizer.pt")
    assert (folder / "optimizer.pt").exists() and checkpointing.problem(folder) is None
    checkpointing.drop(folder, "optimizer.pt")
    checkpointing.drop(folder, "optimizer.pt")
    assert not (folder / "optimizer.pt").exists() and checkpointing.problem(folder) is None
    (folder / "complete.json").unlink()
    checkpointing.drop(folder, "model.safetensors")  # half-written: the weights go all the same
    assert not (folder / "model.safetensors").exists() and not (folder / "complete.json").exists()


def test_incomplete_checkpoints_go_before_complete_ones(tmp_path):
    for step in (1, 2, 3, 4, 5):
        whole(tmp_path, step)
        os.utime(tmp_path / f"checkpoint-{step}", (100 * step, 100 * step))
    for step in (1, 4):
        (tmp_path / f"checkpoint-{step}" / "complete.json").unlink()  # which makes it the newest by its time
    checkpointing.put_leftovers_first(tmp_path, step=3)
    assert list(checkpointing.folders(tmp_path)) == [1, 2, 3, 5]
    checkpointing.rotate_checkpoints(str(tmp_path), save_total_limit=3, use_mtime=True)
    assert list(checkpointing.folders(tmp_path)) == [2, 3, 5]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def test_a_flipped_byte_in_any_file_of_a_checkpoint_is_found_on_resume(tmp_path):
    folder = whole(tmp_path)
    earlier = checkpointing.problem(folder, contents=True)
    assert earlier is None
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for place in range(0, len(data), max(1, len(data) // 40)):
            path.write_bytes(flipped(data, place))
            assert checkpointing.problem(folder, contents=True) is not None, (path.name, place)
        path.write_bytes(data)
    (folder / "adapter" / "a.bin").write_bytes(b"xxxyxxx")
    with pytest.raises(ArgumentError, match="checkpoint-1: damaged: the content is not what was .* in adapter/a.bin.$"):
        checkpointing.resume_from(str(folder), tmp_path)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_named(tmp_path, caplog):
    for step in (1, 2):
        whole(tmp_path, step)
    (tmp_path / "checkpoint-2" / "optimizer.pt").write_bytes(b"y" * 30)
    assert checkpointing.resume_from(True, tmp_path) == str(tmp_path / "checkpoint-1")
    assert "checkpoint-2: damaged: the content is not what was written in optimizer.pt" in caplog.text


def test_a_manifest_of_an_older_version_is_taken_by_sizes(tmp_path):
    folder = whole(tmp_path)
    manifest = json.loads((folder / "complete.json").read_text())
    (folder / "complete.json").write_text(json.dumps({"schema": 1, "files": manifest["files"]}))
    assert checkpointing.problem(folder, contents=True) is None
    assert checkpointing.resume_from(str(folder), tmp_path) == str(folder)
