"""Checkpoints of both trainers: at every moment one is whole; which weights they hold; what a request resumes from."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import transformers.modeling_utils
from helpers import killed_run
from helpers.killed_run import SHORT, go_on, ready, saved, unlearn
from helpers.tiny import image_rows, same_bits, vit, weights

from hf_unlearn import ReadyConfig, ReadyTrainer
from hf_unlearn.trainers import checkpointing
from hf_unlearn.trainers.unlearn_record import SNAPSHOTS_FILE
from hf_unlearn.unlearning import stop_rule

ROOT = Path(__file__).resolve().parents[2]


class Events:
    """Calls a function before every file that Python opens, moves or deletes below a folder."""

    def __init__(self):
        self.folder, self.call, self.inside = None, None, False
        sys.addaudithook(self.seen)  # cannot be taken back: it does nothing outside the block

    def seen(self, event, args):
        if self.folder is None or self.inside or event not in ("open", "os.remove", "os.rename", "os.rmdir"):
            return
        in_a_tree = event in ("os.remove", "os.rmdir") and args[1] != -1  # `shutil.rmtree`'s names are relative
        named = isinstance(args[0], (str, os.PathLike))
        if in_a_tree or named and os.path.abspath(args[0]).startswith(self.folder):
            self.inside = True
            self.call()
            self.inside = False

    def watch(self, folder, call):
        self.folder, self.call = str(folder), call
        return self

    def __enter__(self):
        pass

    def __exit__(self, *exc):
        self.folder = None


EVENTS = Events()


def test_at_every_moment_there_is_a_whole_checkpoint_of_this_save_or_the_last(tmp_path):
    """With `save_total_limit=1` the older one may go only when the newer one is whole."""
    run = ready(tmp_path, max_steps=3, save_total_limit=1, meta_every=1, lambda_resistance=0.0, resistance="none")
    behind = Counter()

    def look():
        step = run.state.global_step
        found = [n for n, folder in checkpointing.folders(tmp_path).items() if checkpointing.problem(folder) is None]
        if step > 1:
            behind[step - max(found, default=-99)] += 1

    with EVENTS.watch(tmp_path, look):
        run.train()
    assert behind.keys() == {0, 1} and min(behind.values()) > 10
    assert list(checkpointing.folders(tmp_path)) == [3]
    folder = tmp_path / "checkpoint-3"
    assert checkpointing.problem(folder) is None
    arguments = torch.load(folder / "training_args.bin", weights_only=False)
    assert arguments.save_total_limit == run.args.save_total_limit == 1
    listed = json.loads((folder / "complete.json").read_text())["files"]
    assert {p.name for p in folder.iterdir()} == {*listed, "complete.json"}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
            "readiness.json", "training_args.bin"} <= listed.keys()  # fmt: skip


def test_checkpoints_of_a_finished_request_are_complete_and_hold_no_snapshots(uninterrupted):
    for kind in SHORT:
        run = uninterrupted(kind)
        folders = checkpointing.folders(run.args.output_dir)
        assert len(folders) == 2 and max(folders) == run.state.global_step, kind  # `save_total_limit`
        assert [checkpointing.problem(folder) for folder in folders.values()] == [None, None]
        assert not any(Path(folder, SNAPSHOTS_FILE).exists() for folder in folders.values())
    run = uninterrupted("ascent")
    assert run.stop_reason == stop_rule.BUDGET and run.state.global_step == 6 < run.state.max_steps


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_a_request_that_has_ended_takes_no_further_step(uninterrupted, memorised, tmp_path, monkeypatch, strategy):
    """
    Its last checkpoint holds the end: also weights that were put back, whose copies are deleted by then. It is not
    written anew: a kill would take it away.
    """
    before = uninterrupted("ascent")
    shutil.copytree(before.args.output_dir, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(checkpointing, "remove", None)
    after = go_on("ascent", tmp_path, memorised, save_strategy=strategy)
    assert same_bits(saved(tmp_path), saved(before.args.output_dir)) and after.request_state == before.request_state
    assert after.state.global_step == before.state.global_step == 6
    assert list(checkpointing.folders(tmp_path)) == [4, 6]


def test_a_request_ended_from_outside_can_still_be_resumed_from(memorised, tmp_path, uninterrupted):
    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 4

    run = unlearn(tmp_path, memorised, **SHORT["unlearn"])
    run.add_callback(Stop())
    run.train()
    assert run.stop_reason == "interrupted" and (tmp_path / "checkpoint-4" / SNAPSHOTS_FILE).exists()
    go_on("unlearn", tmp_path, memorised, **SHORT["unlearn"])
    assert same_bits(saved(tmp_path), saved(uninterrupted("unlearn").args.output_dir))


def test_a_request_that_was_too_short_goes_on(memorised, tmp_path):
    short = go_on("unlearn", tmp_path, memorised, max_steps=1, **SHORT["unlearn"])
    assert short.stop_reason == "max_steps"
    more = go_on("unlearn", tmp_path, memorised, max_steps=2, **SHORT["unlearn"])
    assert more.state.global_step == 2


def test_the_best_checkpoint_is_loaded_whole(tmp_path):
    """A ViT's weights have other names in the file than in the model; the Trainer would leave those as they are."""
    options = {"max_steps": 3, "learning_rate": 0.5, "lr_scheduler_type": "constant", "save_steps": 1, "eval_steps": 1}
    options |= {"load_best_model_at_end": True, "eval_strategy": "steps", "meta_start": 0.9}
    args = ReadyConfig(str(tmp_path), **{**killed_run.QUIET, "readiness": "meta", **options})
    run = ReadyTrainer(vit(), args, image_rows(16), eval_dataset=image_rows(8, 40))
    run.train()
    best = run.state.best_model_checkpoint
    assert best.endswith("checkpoint-1") and list(checkpointing.folders(tmp_path)) == [1, 2, 3]
    assert same_bits(weights(run.model), weights(type(run.model).from_pretrained(best)))
    assert not checkpointing.weight_names(best) <= run.model.state_dict().keys()


def test_names_of_the_weights_in_a_folder(tmp_path):
    assert checkpointing.weight_names(tmp_path) == set()
    model = killed_run.model()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    for folder in ("one", "shards"):
        assert checkpointing.weight_names(tmp_path / folder) == model.state_dict().keys()
