"""Runs that are killed, at bad moments and at random, end in the weights of a run that nobody killed."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import datasets
import peft.peft_model
import pytest
import safetensors.torch
import torch
import transformers.modeling_utils
from helpers import killed_run
from helpers.killed_run import SHORT, go_on, saved
from helpers.tiny import same_bits
from transformers import TrainerState

from hf_unlearn import ArgumentError
from hf_unlearn.cli import ready as ready_recipe
from hf_unlearn.readiness import moving_weights
from hf_unlearn.trainers import checkpointing
from hf_unlearn.trainers.unlearn_looks import UnlearnLooks
from hf_unlearn.trainers.unlearn_record import SNAPSHOTS_FILE

ROOT = Path(__file__).resolve().parents[2]


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(count, then=None, when=lambda *args, **kwargs: True):
    """A function that dies at its count-th call for which `when` holds, and else is `then`."""
    left = [count]

    def call(*args, **kwargs):
        left[0] -= when(*args, **kwargs)
        if left[0] == 0:
            die()
        return then(*args, **kwargs)

    return call


def half_and_die(path, data: bytes):
    Path(path).write_bytes(data[: len(data) // 2])
    die()


def named(name):
    return lambda *args, **kwargs: any(str(a).endswith(name) for a in args if isinstance(a, (str, os.PathLike)))


def between_perturb_and_restore(count):
    moving_weights.move_ = die_at(count, moving_weights.move_)


def in_the_optimizers_file(count):
    real, left = torch.save, [count]

    def save(content, path, *args, **kwargs):
        left[0] -= named("optimizer.pt")(path)
        if left[0] == 0:
            data = io.BytesIO()
            real(content, data)
            half_and_die(path, data.getvalue())
        real(content, path, *args, **kwargs)

    torch.save = save


def in_the_weights(count):
    for module in (transformers.modeling_utils, peft.peft_model):
        real = module.safe_save_file

        def save(tensors, path, metadata=None, real=real, left=[count]):  # noqa: B006
            left[0] -= 1
            if left[0] == 0:
                half_and_die(path, safetensors.torch.save(tensors, metadata))
            real(tensors, path, metadata)

        module.safe_save_file = save


def in_the_trainers_state(count):
    real, left = TrainerState.save_to_json, [count]

    def save(state, path):
        real(state, path)
        left[0] -= 1
        if left[0] == 0:
            half_and_die(path, Path(path).read_bytes())

    TrainerState.save_to_json = save


def before_the_manifest(count):
    checkpointing.write_manifest = die_at(count, checkpointing.write_manifest)


def with_the_manifest_still_beside(count):
    os.replace = die_at(count, os.replace, named("complete.json"))


def after_the_manifest_before_the_rotation(count):
    checkpointing.rotate_checkpoints = die_at(count, checkpointing.rotate_checkpoints)


def within_the_rotation(count):
    os.unlink = die_at(3 + count, os.unlink, lambda path, **kwargs: "dir_fd" in kwargs)  # as `shutil.rmtree` calls it


def before_the_put_back(count):
    UnlearnLooks._restore_good = die_at(count, UnlearnLooks._restore_good)


def before_copies_are_deleted(count):
    checkpointing.drop = die_at(count, checkpointing.drop)


def with_copies_deleted_from_the_manifest_only(count):
    Path.unlink = die_at(count, Path.unlink, named(SNAPSHOTS_FILE))


def killed(run, prepare) -> None:
    """Runs in a process of its own, prepared to end by SIGKILL at some moment."""
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            run()
        finally:
            os._exit(1)  # it was to be killed
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("hangs")
        time.sleep(0.01)
    assert os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) == signal.SIGKILL


MOMENTS = {  # kind, where, at which such call, what is left behind: by step, whether it is whole
    "perturbed": ("ready", between_perturb_and_restore, 6, {1: True, 2: True}),
    "optimizer": ("ready", in_the_optimizers_file, 3, {1: True, 2: True, 3: False}),
    "manifest": ("ready", before_the_manifest, 2, {1: True, 2: False}),
    "first weights": ("ready", in_the_weights, 1, {1: False}),
    "copies": ("ascent", with_copies_deleted_from_the_manifest_only, 1, {4: True, 6: True}),
    "after copies": ("ascent", in_the_weights, 3, {4: True, 6: True}),
}
MORE_MOMENTS = {
    "weights": ("ready", in_the_weights, 3, {1: True, 2: True, 3: False}),
    "state": ("ready", in_the_trainers_state, 4, {2: True, 3: True, 4: False}),
    "beside": ("ready", with_the_manifest_still_beside, 3, {1: True, 2: True, 3: False}),
    "before rotation": ("ready", after_the_manifest_before_the_rotation, 4, {2: True, 3: True, 4: True}),
    "rotation": ("ready", within_the_rotation, 1, {1: False, 2: True, 3: True}),
    "last weights": ("ready", in_the_weights, 5, {3: True, 4: True}),
    "adapter": ("unlearn", in_the_weights, 3, {2: True, 4: True, 6: False}),
    "request": ("unlearn", in_the_optimizers_file, 4, {4: True, 6: True, 8: False}),
    "put back": ("unlearn", before_the_put_back, 1, {6: True, 8: True}),
    "before copies": ("unlearn", before_copies_are_deleted, 2, {8: True, 9: True}),
    "last adapter": ("unlearn", in_the_weights, 6, {8: True, 9: True}),
    "early put back": ("ascent", before_the_put_back, 1, {4: True}),
    "early state": ("ascent", in_the_trainers_state, 2, {4: True, 6: False}),
}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(moment, marks=[] if moment in ("copies", "manifest") else [pytest.mark.slow])
        for moment in (*MOMENTS, *MORE_MOMENTS)
    ],
)
def test_a_run_killed_at_a_bad_moment_resumes_to_the_same_weights(moment, memorised, uninterrupted, tmp_path):
    kind, where, count, left = (MOMENTS | MORE_MOMENTS)[moment]
    killed(lambda: go_on(kind, tmp_path, memorised, **SHORT[kind]), lambda: where(count))
    found = {n: checkpointing.problem(folder) is None for n, folder in checkpointing.folders(tmp_path).items()}
    assert found == left
    for folder in checkpointing.folders(tmp_path).values():
        if checkpointing.problem(folder) is not None:
            Path(folder, "stale.bin").touch()  # of an attempt that wrote more files
    again, whole = go_on(kind, tmp_path, memorised, **SHORT[kind]), uninterrupted(kind)
    assert same_bits(saved(tmp_path), saved(whole.args.output_dir))
    records_ = [run.record() for run in (again, whole)]
    for key in ("steps", "probe") if kind == "ready" else ("stop_reason", "state", "targets"):
        assert records_[0][key] == records_[1][key]
    assert again.row_passes == pytest.approx(whole.row_passes, abs=2e-3)
    folders = checkpointing.folders(tmp_path)
    assert max(folders) == max(checkpointing.folders(whole.args.output_dir))
    assert all(checkpointing.problem(folder) is None for folder in folders.values())
    assert not list(tmp_path.rglob("stale.bin"))


@pytest.mark.slow
def test_a_killed_recipe_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    flags = ["--config", str(ROOT / "recipes/vision/digits_vit.yaml"), "--limit", "60", "--max_steps", "3"]
    flags += ["--save_strategy", "steps", "--save_steps", "1", "--use_cpu", "true"]
    flags += ["--per_device_train_batch_size", "8", "--disable_tqdm", "true", "--report_to", "none"]

    def run(out, *more):
        ready_recipe.main([*flags, "--output_dir", str(tmp_path / out), *more])

    run("whole")
    killed(lambda: run("cut"), lambda: in_the_optimizers_file(3))
    shutil.copytree(tmp_path / "cut", tmp_path / "again")
    run("cut", "--resume_from_checkpoint", "true")
    run("again", "--resume_from_checkpoint", str(tmp_path / "again" / "ready" / "checkpoint-1"))
    for out in ("cut", "again"):
        assert same_bits(saved(tmp_path / out / "ready"), saved(tmp_path / "whole" / "ready"))
    with pytest.raises(ArgumentError, match="checkpoint-9: there is no such folder"):
        run("again", "--resume_from_checkpoint", str(tmp_path / "again" / "ready" / "checkpoint-9"))


# ---- killed at random ----


KILLS = int(os.environ.get("HF_UNLEARN_KILLS", "12"))
LONGEST = 2.5  # seconds that a life may last from its first step on; a whole run takes some more
AT_START = 5  # every so manieth life is killed soon after its very beginning instead
FRESH = 1  # after so many kills a life is an interpreter of its own, with other hashes; the others are forked here


def live(process, marks, seconds: float | None, at_start: bool) -> str | None:
    """
    Lets a life go on for some seconds, then kills it. Returns the phase that the kill fell into, or None where the run
    came to its end before; with None for seconds it always does.
    """
    marks.unlink(missing_ok=True)
    process.start()
    awaited = "+start" if at_start else "-start"
    while not (marks.exists() and awaited in marks.read_text()) and process.is_alive():
        time.sleep(0.002)
    process.join(seconds if seconds is not None else 120)
    if process.is_alive():
        process.kill()
        process.join()
        assert seconds is not None, "the run does not end"
        return (killed_run.open_phases(marks) or ["step"])[-1]
    assert process.exitcode == 0
    return None


@pytest.mark.slow
def test_after_random_kills_runs_end_in_the_same_weights(memorised, tmp_path, capsys):
    """
    The figure in recipes/README.md: `HF_UNLEARN_KILLS=20 pytest -n 0 -m slow -k random` on this file, which shows where
    the kills fell, too.
    """
    began, times = time.monotonic(), random.Random(20)
    phases, torn, finished, log = Counter(), 0, 0, tmp_path / "log"
    for kind in ("ready", "unlearn"):
        whole = saved(go_on(kind, tmp_path / kind, memorised).args.output_dir)
        kills = 0
        while kills < KILLS // 2:
            out, marks = tmp_path / f"{kind}-{finished}", tmp_path / "marks"
            while True:
                at_start = kills % AT_START == 0
                seconds = times.uniform(0, LONGEST / 5 if at_start else LONGEST) if kills < KILLS // 2 else None
                birth = multiprocessing.get_context("spawn" if kills == FRESH else "fork")
                process = birth.Process(target=killed_run.life, args=(kind, out, memorised, marks, log))
                phase = live(process, marks, seconds, at_start)
                if phase is None:
                    break
                kills += 1
                phases[phase] += 1
                torn += any(checkpointing.problem(folder) for folder in checkpointing.folders(out).values())
            assert same_bits(saved(out), whole), f"{kind} after {kills} kills"
            finished += 1
    assert "Traceback" not in log.read_text(), log.read_text()
    with capsys.disabled():
        where = ", ".join(f"{count} in {phase}" for phase, count in phases.most_common())
        print(
            f"\n{phases.total()} kills ({where}; {torn} left a checkpoint that is not whole), {finished} runs ended in "
            f"the uninterrupted run's weights, bit for bit; {time.monotonic() - began:.0f} s"
        )
    assert phases.total() == KILLS
    assert torn and phases["perturbed"] + phases["write"] + phases["delete"]  # else the test says little
