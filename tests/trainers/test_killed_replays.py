"""Replays that are killed at random end in the weights of a run that never saw the rows."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import safetensors.torch
from helpers.replays import replayed, trained
from helpers.tiny import same_bits

from hf_unlearn.trainers import checkpointing

GONE = [0, 8]
SAVING = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}


def weights_in(folder) -> dict:
    return safetensors.torch.load_file(Path(folder, "model.safetensors"))


def lives(run, out, seconds: float, kills: int, seed: int) -> int:
    """Runs in processes that are killed at random moments until one comes to its end; how many were killed."""
    draw, killed = random.Random(seed), 0
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                run(bool(checkpointing.folders(out)) or None)
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        if killed < kills:
            time.sleep(draw.uniform(0.05, seconds))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        if not os.WIFSIGNALED(status):
            return killed
        killed += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_training_killed_at_random_has_the_same_weights_and_snapshots(tmp_path, seed):
    whole = trained(tmp_path / "whole", **SAVING)
    out = tmp_path / "out"
    assert lives(lambda resume: trained(out, resume=resume, **SAVING), out, 0.8, 6, seed) > 0
    assert same_bits(weights_in(out), weights_in(tmp_path / "whole"))
    for border in whole.program.borders:
        mine, theirs = (f"{root}/_snapshots/checkpoint-{border}" for root in (out, tmp_path / "whole"))
        assert checkpointing.problem(mine, contents=True) is None
        assert same_bits(weights_in(mine), weights_in(theirs))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_replay_killed_at_random_is_exact_and_its_beginning_stays_whole(tmp_path, seed):
    trained(tmp_path / "ready")
    trained(tmp_path / "without", deleted=GONE)
    out = tmp_path / "out"
    before = weights_in(tmp_path / "ready")
    assert lives(lambda resume: replayed(out, tmp_path / "ready", GONE, resume=resume, **SAVING), out, 0.6, 6, seed) > 0
    assert same_bits(weights_in(out), weights_in(tmp_path / "without"))
    assert same_bits(weights_in(tmp_path / "ready"), before)
    trained(tmp_path / "both", deleted=[*GONE, 20])
    assert same_bits(
        replayed(tmp_path / "next", out, [20], gone=GONE).model.state_dict(), weights_in(tmp_path / "both")
    )
