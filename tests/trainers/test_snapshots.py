"""Where the snapshots of a training are kept, what they hold, and what becomes of them."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import tiny
from helpers.replays import replayed, trained
from helpers.tiny import same_bits, weights

from hf_unlearn import ArgumentError
from hf_unlearn.trainers import checkpointing
from hf_unlearn.trainers.ready import ReadyTrainer

GONE = [0, 8]
BRIEF = {"max_steps": 8, "slices": "2"}
OFTEN = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}


def test_snapshots_are_kept_where_the_run_s_own_checkpoints_are_deleted(tmp_path):
    ready = trained(tmp_path / "ready", **OFTEN, **BRIEF)
    assert list(checkpointing.folders(tmp_path / "ready")) == [8]
    assert list(checkpointing.folders(tmp_path / "ready" / "_snapshots")) == ready.program.borders != []
    assert not ready.program.missing and ready.is_ready


def test_a_snapshot_of_an_adapter_holds_its_weights_alone(tmp_path):
    ready = trained(tmp_path / "ready", lora=True, **BRIEF)
    (folder, *_) = checkpointing.folders(ready.program.folder).values()
    saved = safetensors.torch.load_file(Path(folder, "adapter_model.safetensors"))
    trainable = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    assert sum(tensor.numel() for tensor in saved.values()) == trainable
    assert not Path(folder, "model.safetensors").exists()
    moments = torch.load(Path(folder, "optimizer.pt"), weights_only=False)["state"].values()
    assert sum(one["exp_avg"].numel() + one["exp_avg_sq"].numel() for one in moments) == 2 * trainable


def test_a_snapshot_holds_moving_buffers_optimizer_schedule_generators_and_step(tmp_path):
    ready = trained(tmp_path / "ready", "batch norm", **BRIEF)
    (folder, *_) = checkpointing.folders(ready.program.folder).values()
    saved = safetensors.torch.load_file(Path(folder, "model.safetensors"))
    assert any(name.endswith("running_mean") and tensor.any() for name, tensor in saved.items())
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(os.listdir(folder))


def test_another_folder_keeps_the_snapshots_and_a_request_finds_them(tmp_path):
    ready = trained(tmp_path / "ready", snapshots=str(tmp_path / "kept"), **BRIEF)
    assert not (tmp_path / "ready" / "_snapshots").exists() and ready.is_ready
    reference = trained(tmp_path / "without", deleted=GONE, **BRIEF)
    with pytest.raises(ArgumentError, match="`snapshots` is .*kept', where the result's own checkpoints would be"):
        replayed(tmp_path / "kept", tmp_path / "ready", GONE)
    request = replayed(tmp_path / "out", tmp_path / "ready", GONE)
    assert same_bits(weights(request.model), weights(reference.model))


def test_a_folder_of_snapshots_that_was_named_as_seen_from_here_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained("ready", snapshots="kept", **BRIEF)
    assert replayed("out", "ready", GONE).guarantee == "exact"


def test_a_training_anew_clears_its_own_snapshots_and_a_resumed_one_keeps_them(tmp_path):
    first = trained(tmp_path / "ready", snapshots=str(tmp_path / "kept"), **OFTEN, **BRIEF)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.safetensors")}
    resumed = trained(tmp_path / "ready", snapshots=str(tmp_path / "kept"), resume=True, **OFTEN, **BRIEF)
    assert resumed.is_ready
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.safetensors")} == stamps
    again = trained(tmp_path / "ready", snapshots=str(tmp_path / "kept"), max_steps=4, slices="2")
    assert list(checkpointing.folders(tmp_path / "kept")) == again.program.borders != first.program.borders


def test_a_training_that_goes_on_behind_a_lost_snapshot_says_so_and_is_not_called_ready(tmp_path, caplog):
    ready = trained(tmp_path / "ready", **{**OFTEN, "save_total_limit": None}, **BRIEF)
    lost, *_ = ready.program.borders
    checkpointing.remove(tmp_path / "ready" / f"checkpoint-{BRIEF['max_steps']}")
    checkpointing.remove(ready.program.snapshot(lost))
    again = trained(tmp_path / "ready", resume=True, **OFTEN, **BRIEF)
    assert not again.is_ready and again.plan.training["row_passes"] == ready.plan.training["row_passes"]
    assert f"no whole snapshot before step {lost}, and this run begins later" in caplog.text


def test_a_request_that_needs_no_lost_snapshot_is_exact(tmp_path, caplog):
    ready = trained(tmp_path / "ready", **BRIEF)
    lost, *_ = ready.program.borders
    rows = np.arange(0, 24, 4)
    numbers = ready.plan.numbers_of_ids(rows, ready.plan.key)
    late = [int(i) for i in rows[numbers >= ready.plan.order.rows - ready.plan.order.slices[-1]]]
    (Path(ready.program.snapshot(lost)) / "optimizer.pt").write_bytes(b"damaged")
    request = replayed(tmp_path / "out", tmp_path / "ready", late)
    assert request.guarantee == "exact" and request.unlearned and not request.is_ready
    assert f"no whole snapshot before step {lost}" in caplog.text
    assert not os.path.exists(request.program.snapshot(lost))


def test_a_training_does_not_go_on_without_the_salt_of_its_snapshots(tmp_path):
    trained(tmp_path / "ready", **OFTEN, **BRIEF)
    (tmp_path / "ready" / "_revocable_salt.json").unlink()
    for _ in range(2):  # and draws none
        with pytest.raises(ArgumentError, match="the salt that opens these is not in .*_revocable_salt.json. Restore"):
            trained(tmp_path / "ready", resume=True, **OFTEN, **BRIEF)


def test_a_training_does_not_go_on_with_rows_in_other_slices(tmp_path):
    """A snapshot from before would have met rows that the plan has behind it."""
    rows = [{**row, "weight": float(row["id"])} for row in tiny.lm_list(24)]
    other = [{**row, "weight": 24.0 - row["id"]} for row in rows]
    own = {"max_steps": 8, "slices": "2", "ask_weight": "weight", "save_strategy": "steps", "save_steps": 6}
    ready = trained(tmp_path, rows=rows, **own)
    for folder in (tmp_path / "checkpoint-6", ready.program.snapshot(max(ready.program.borders))):
        with pytest.raises(ArgumentError, match="there the rows have other places in the order, by other ids, or"):
            trained(tmp_path, rows=other, resume=str(folder), **own)
    trained(tmp_path, rows=rows, resume=str(tmp_path / "checkpoint-6"), **own)


@pytest.mark.parametrize("kind", ["of another training", "of a plain training", "the output folder", "a file"])
def test_a_folder_that_holds_what_is_not_the_training_s_own_is_refused_and_nothing_is_lost(tmp_path, kind):
    place, said = tmp_path / "kept", "which holds .* \\(checkpoint-.*\\): they would be deleted"
    if kind == "of another training":
        trained(tmp_path / "first", snapshots=str(place), **BRIEF)
    elif kind == "of a plain training":
        (place / "checkpoint-500").mkdir(parents=True)
    elif kind == "the output folder":
        place, said = tmp_path / "ready", "`output_dir` itself"
        place.mkdir()
    else:
        place.write_text("mine")
        said = "a file; it must be a folder"
    before = sorted(place.rglob("*"))
    with pytest.raises(ArgumentError, match=f"`snapshots` is .*{said}"):
        trained(tmp_path / "ready", snapshots=str(place), **BRIEF)
    assert sorted(place.rglob("*")) == before


def test_a_full_disk_ends_the_training_in_one_line_and_nothing_half_written_counts(tmp_path, monkeypatch):
    """As PyTorch writes: an error that says nothing of a disk."""
    save, plan = torch.save, {}

    def full(content, path, *args, **kwargs):
        if f"checkpoint-{plan.get('border')}{os.sep}optimizer" in str(path) and "_snapshots" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        return save(content, path, *args, **kwargs)

    at_border = ReadyTrainer.at_border

    def last(trainer, step):
        plan["border"] = trainer.program.borders[-1]
        at_border(trainer, step)

    reference = trained(tmp_path / "whole", **BRIEF)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        patched.setattr(ReadyTrainer, "at_border", last)
        patched.setattr("hf_unlearn.utils.full_disk.LEFT", 1 << 60)  # bytes; the disk is not really full
        with pytest.raises(OSError, match="No space is left for the snapshot before step") as caught:
            trained(tmp_path / "ready", **OFTEN, **BRIEF)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename.endswith(f"checkpoint-{plan['border']}")
    assert list(checkpointing.folders(tmp_path / "ready" / "_snapshots")) == reference.program.borders[:-1]
    resumed = trained(tmp_path / "ready", resume=True, **OFTEN, **BRIEF)
    assert resumed.is_ready and same_bits(weights(resumed.model), weights(reference.model))


def test_another_error_in_the_writing_of_a_snapshot_is_told_as_it_is(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(ReadyTrainer, "save_snapshot", broken)
    with pytest.raises(RuntimeError, match="something else"):
        trained(tmp_path / "ready", **BRIEF)


def test_a_push_says_that_snapshots_and_salt_stay_here(tmp_path, caplog, monkeypatch):
    ready = trained(tmp_path / "ready", **BRIEF)
    pushed = []
    monkeypatch.setattr("transformers.Trainer.push_to_hub", lambda *args, **kwargs: pushed.append(args))
    with caplog.at_level(logging.WARNING):
        ready.push_to_hub()
    assert pushed and f"The snapshots in {ready.program.folder} and the salt" in caplog.text
