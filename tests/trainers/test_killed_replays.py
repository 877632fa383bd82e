"""Replays that are killed at random end in the weights of a run that never saw the rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import safetensors.torch
from helpers.deaths import STEP, Deaths
from helpers.replays import replayed, trained
from helpers.tiny import same_bits

from hf_unlearn.trainers import checkpointing

pytestmark = pytest.mark.slow
GONE = [0, 8]
KILLS = 10  # of a training, and of a replay
BRIEF = {"max_steps": 10, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}


def weights_in(folder) -> dict:
    return safetensors.torch.load_file(Path(folder, "model.safetensors"))


def resume(out) -> bool | None:
    return bool(checkpointing.folders(out)) or None


def test_a_training_killed_at_random_has_the_same_weights_and_snapshots(tmp_path):
    whole = trained(tmp_path / "whole", **BRIEF)
    deaths = Deaths(("snapshot", STEP, "checkpoint", "model"), KILLS, seed=0)
    while deaths.left:
        out = Path(tempfile.mkdtemp(dir=tmp_path), "run")
        deaths.lives(lambda out=out: trained(out, resume=resume(out), **BRIEF))
        assert same_bits(weights_in(out), weights_in(tmp_path / "whole"))
        for border in whole.program.borders:
            mine, theirs = (f"{root}/_snapshots/checkpoint-{border}" for root in (out, tmp_path / "whole"))
            assert checkpointing.problem(mine, contents=True) is None
            assert same_bits(weights_in(mine), weights_in(theirs))
    without = trained(tmp_path / "without", deleted=GONE, **BRIEF)
    assert same_bits(replayed(tmp_path / "request", out, GONE).model.state_dict(), without.model.state_dict())


def test_a_replay_killed_at_random_is_exact_and_leaves_the_old_state_or_the_new_one(tmp_path):
    trained(tmp_path / "ready", **BRIEF)
    trained(tmp_path / "without", deleted=GONE, **BRIEF)
    before = weights_in(tmp_path / "ready")
    often = {name: value for name, value in BRIEF.items() if name.startswith("save_")}
    deaths = Deaths(("taking over", "snapshot", STEP, "checkpoint", "deletion", "model"), KILLS, seed=1)
    while deaths.left:
        out, asked = map(Path(tempfile.mkdtemp(dir=tmp_path)).joinpath, ("out", "asked"))
        shutil.copytree(tmp_path / "ready", asked)
        deaths.lives(lambda out=out, asked=asked: replayed(out, asked, GONE, resume=resume(out), **often))
        assert same_bits(weights_in(out), weights_in(tmp_path / "without"))
        assert same_bits(weights_in(asked), before)
    both = trained(tmp_path / "both", deleted=[*GONE, 20], **BRIEF)
    assert same_bits(replayed(tmp_path / "next", out, [20], gone=GONE).model.state_dict(), both.model.state_dict())
