"""Whole and half-written checkpoints: manifests, rotation, and runs that are killed, at bad moments and at random."""

from __future__ import annotations

import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

import datasets
import peft.peft_model
import pytest
import safetensors.torch
import torch
import transformers.modeling_utils
from helpers import killed_run
from helpers.killed_run import go_on, ready, saved, unlearn
from helpers.tiny import cheap_collections, fit, image_rows, same_bits, vit, weights
from transformers import TrainerState

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnTrainer
from hf_unlearn.cli import ready as ready_recipe
from hf_unlearn.readiness import moving_weights
from hf_unlearn.trainers import checkpointing
from hf_unlearn.trainers.unlearn_record import SNAPSHOTS
from hf_unlearn.unlearning import stop_rule

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def short_collections():
    yield from cheap_collections()


# ---- manifests ----


def whole(parent, step=1) -> Path:
    """A made-up checkpoint with a subfolder."""
    folder = Path(parent, f"checkpoint-{step}")
    (folder / "adapter").mkdir(parents=True)
    for name, size in {"model.safetensors": 100, "optimizer.pt": 30, "adapter/a.bin": 7, "empty.txt": 0}.items():
        (folder / name).write_bytes(b"x" * size)
    checkpointing.write_manifest(str(folder))
    return folder


def test_a_manifest_lists_every_file_with_its_size(tmp_path):
    folder = whole(tmp_path)
    written = json.loads((folder / "complete.json").read_text())
    sizes = {"adapter/a.bin": 7, "empty.txt": 0, "model.safetensors": 100, "optimizer.pt": 30}
    assert written == {"schema": 1, "files": sizes}
    assert checkpointing.problem(folder) is None
    (folder / "later.txt").write_text("a file more does no harm")
    assert checkpointing.problem(folder) is None
    checkpointing.write_manifest(folder)
    assert json.loads((folder / "complete.json").read_text())["files"].keys() == {*sizes, "later.txt"}


@pytest.mark.parametrize("harm, why", [
    (lambda f: (f / "complete.json").unlink(), "it has no complete.json"),
    (lambda f: (f / "complete.json").rename(f / "complete.json.part"), "it has no complete.json"),
    (lambda f: (f / "complete.json").write_text('{"schema": 1, "fil'), "its complete.json cannot be read"),
    (lambda f: (f / "optimizer.pt").unlink(), "it lacks optimizer.pt"),
    (lambda f: shutil.rmtree(f / "adapter"), "it lacks adapter/a.bin"),
    (lambda f: os.truncate(f / "model.safetensors", 50), "model.safetensors (50 bytes for 100)"),
    (lambda f: (f / "model.safetensors").write_bytes(b"x" * 101), "model.safetensors (101 bytes for 100)"),
    (lambda f: (f / "empty.txt").unlink(), "it lacks empty.txt"),
    (shutil.rmtree, "there is no such folder"),
])  # fmt: skip
def test_what_is_not_whole_is_told(tmp_path, harm, why):
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


def test_what_a_run_resumes_from(tmp_path, caplog):
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


def test_leftovers_of_later_steps_go_and_whole_ones_stay(tmp_path):
    for step in (1, 3, 4, 5):
        whole(tmp_path, step)
    for step in (1, 4):
        (tmp_path / f"checkpoint-{step}" / "complete.json").unlink()
    checkpointing.remove_leftovers(tmp_path, above=3)
    assert list(checkpointing.folders(tmp_path)) == [1, 3, 5]


# ---- the trainers' checkpoints ----


@cache
def memorised() -> bytes:
    rows = [*killed_run.ROWS["forget"], *killed_run.ROWS["retain"]]
    return safetensors.torch.save(weights(fit(killed_run.model(), rows, steps=40)))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights on file that the runs begin with."""
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    path.write_bytes(memorised())
    return path


OPTIONS = {"ready": {"max_steps": 4}, "unlearn": {"passes": "6"}, "ascent": {}}  # short, for the tests of every day


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    """By kind: the trainer of a run that nobody killed, in a folder of its own."""
    return cache(lambda kind: go_on(kind, tmp_path_factory.mktemp(kind), start, **OPTIONS[kind]))


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


def test_the_checkpoints_of_a_finished_run_are_whole_and_hold_no_weights_that_still_know(uninterrupted):
    for kind in OPTIONS:
        run = uninterrupted(kind)
        folders = checkpointing.folders(run.args.output_dir)
        assert len(folders) == 2 and max(folders) == run.state.global_step, kind  # `save_total_limit`
        assert [checkpointing.problem(folder) for folder in folders.values()] == [None, None]
        assert not any(Path(folder, SNAPSHOTS).exists() for folder in folders.values())
    run = uninterrupted("ascent")
    assert run.stop_reason == stop_rule.BUDGET and run.state.global_step == 6 < run.state.max_steps


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_a_request_that_has_ended_takes_no_further_step(uninterrupted, start, tmp_path, monkeypatch, strategy):
    """
    Its last checkpoint holds the end: also weights that were put back, whose copies are deleted by then. It is not
    written anew: a kill would take it away.
    """
    before = uninterrupted("ascent")
    shutil.copytree(before.args.output_dir, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(checkpointing, "remove", None)
    after = go_on("ascent", tmp_path, start, save_strategy=strategy)
    assert same_bits(saved(tmp_path), saved(before.args.output_dir)) and after.progress == before.progress
    assert after.state.global_step == before.state.global_step == 6
    assert list(checkpointing.folders(tmp_path)) == [4, 6]


def test_a_request_ended_from_outside_can_still_be_resumed_from(start, tmp_path, uninterrupted):
    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 4

    run = unlearn(tmp_path, start, **OPTIONS["unlearn"])
    run.add_callback(Stop())
    run.train()
    assert run.stop_reason == "interrupted" and (tmp_path / "checkpoint-4" / SNAPSHOTS).exists()
    go_on("unlearn", tmp_path, start, **OPTIONS["unlearn"])
    assert same_bits(saved(tmp_path), saved(uninterrupted("unlearn").args.output_dir))


def test_a_request_that_was_too_short_goes_on(start, tmp_path):
    short = go_on("unlearn", tmp_path, start, max_steps=1, **OPTIONS["unlearn"])
    assert short.stop_reason == "max_steps"
    more = go_on("unlearn", tmp_path, start, max_steps=2, **OPTIONS["unlearn"])
    assert more.state.global_step == 2


def test_the_best_checkpoint_is_loaded_whole(tmp_path):
    """A ViT's weights have other names in the file than in the model; the Trainer would leave those as they are."""
    options = {"max_steps": 3, "learning_rate": 0.5, "lr_scheduler_type": "constant", "save_steps": 1, "eval_steps": 1}
    options |= {"load_best_model_at_end": True, "eval_strategy": "steps", "meta_start": 0.9}
    args = ReadyConfig(str(tmp_path), **{**killed_run.QUIET, **options})
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


# ---- killed at the worst moments ----


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(count, then=None, when=lambda *args: True):
    """A function that dies at its count-th call for which `when` holds, and else is `then`."""
    left = [count]

    def call(*args, **kwargs):
        left[0] -= when(*args)
        if left[0] == 0:
            die()
        return then(*args, **kwargs)

    return call


def half_and_die(path, data: bytes):
    Path(path).write_bytes(data[: len(data) // 2])
    die()


def named(name):
    return lambda *args: any(str(a).endswith(name) for a in args if isinstance(a, (str, os.PathLike)))


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
    os.unlink = die_at(3 + count, os.unlink, lambda path, *args, **kwargs: True)  # what `shutil.rmtree` calls


def before_the_put_back(count):
    UnlearnTrainer._put_back_good = die_at(count, UnlearnTrainer._put_back_good)


def before_copies_are_deleted(count):
    checkpointing.drop = die_at(count, checkpointing.drop)


def with_copies_deleted_from_the_manifest_only(count):
    Path.unlink = die_at(count, Path.unlink, named(SNAPSHOTS))


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
def test_killed_and_resumed_it_ends_in_the_same_weights(moment, start, uninterrupted, tmp_path):
    kind, where, count, left = (MOMENTS | MORE_MOMENTS)[moment]
    killed(lambda: go_on(kind, tmp_path, start, **OPTIONS[kind]), lambda: where(count))
    found = {n: checkpointing.problem(folder) is None for n, folder in checkpointing.folders(tmp_path).items()}
    assert found == left
    for folder in checkpointing.folders(tmp_path).values():
        if checkpointing.problem(folder) is not None:
            Path(folder, "stale.bin").touch()  # of an attempt that wrote more files
    again, whole = go_on(kind, tmp_path, start, **OPTIONS[kind]), uninterrupted(kind)
    assert same_bits(saved(tmp_path), saved(whole.args.output_dir))
    records_ = [run.record() for run in (again, whole)]
    for key in ("steps", "probe") if kind == "ready" else ("stop_reason", "state", "targets"):
        assert records_[0][key] == records_[1][key]
    assert again.row_passes == pytest.approx(whole.row_passes, abs=2e-3)
    assert all(checkpointing.problem(folder) is None for folder in checkpointing.folders(tmp_path).values())
    assert not list(tmp_path.rglob("stale.bin"))


@pytest.mark.slow
def test_a_recipe_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    flags = ["--config", str(ROOT / "recipes/vision/digits_vit.yaml"), "--limit", "60", "--max_steps", "3"]
    flags += ["--save_strategy", "steps", "--save_steps", "1", "--meta_start", "0", "--use_cpu", "true"]
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


KILLS = 20
LONGEST = 2.5  # seconds that a life may last from its first step on; a whole run takes some more
AT_START = 5  # every so manieth life is killed soon after its very beginning instead


class Lives:
    """Interpreters in which a run can begin or go on; while one is at it the next one does its imports."""

    def __init__(self, log):
        self.log, self.waiting = log, []

    def next(self) -> subprocess.Popen:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        for _ in range(2 - len(self.waiting)):
            with open(self.log, "a") as log:
                command = [sys.executable, killed_run.__file__]
                self.waiting.append(
                    subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
                )
        return self.waiting.pop(0)

    def end(self):
        for process in self.waiting:
            process.communicate("")  # nothing to do: it ends


def live(process, run, seconds: float | None, at_start: bool) -> str | None:
    """
    Lets the run go on for some seconds, then kills it. Returns the phase that the kill fell into, or None where the
    run came to its end before; with None for seconds it always does.
    """
    marks = Path(f"{run[1]}-marks")
    marks.unlink(missing_ok=True)
    process.stdin.write(json.dumps([*map(str, run), str(marks)]) + "\n")
    process.stdin.close()
    awaited = "+start" if at_start else "-start"
    while not (marks.exists() and awaited in marks.read_text()) and process.poll() is None:
        time.sleep(0.002)
    try:
        process.wait(seconds if seconds is not None else 120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        assert seconds is not None, "the run does not end"
        return (killed_run.open_phases(marks) or ["step"])[-1]
    assert process.returncode == 0
    return None


@pytest.mark.slow
def test_after_random_kills_runs_end_in_the_same_weights(start, tmp_path, capsys):
    """The figure in README.md. `pytest -n 0 -m slow -k random tests/test_checkpoints.py` shows where the kills fell."""
    began, times = time.monotonic(), random.Random(20)
    phases, torn, finished, lives = Counter(), 0, 0, Lives(tmp_path / "log")
    try:
        for kind in ("ready", "unlearn"):
            whole = saved(go_on(kind, tmp_path / kind, start).args.output_dir)
            kills = 0
            while kills < KILLS // 2:
                out = tmp_path / f"{kind}-{finished}"
                while True:
                    at_start = kills % AT_START == 0
                    seconds = times.uniform(0, LONGEST / 5 if at_start else LONGEST)
                    run = (kind, out, start)
                    phase = live(lives.next(), run, seconds if kills < KILLS // 2 else None, at_start)
                    if phase is None:
                        break
                    kills += 1
                    phases[phase] += 1
                    torn += any(checkpointing.problem(folder) for folder in checkpointing.folders(out).values())
                assert same_bits(saved(out), whole), f"{kind} after {kills} kills"
                finished += 1
    finally:
        lives.end()
        errors = (tmp_path / "log").read_text()
    assert "Traceback" not in errors, errors
    with capsys.disabled():
        where = ", ".join(f"{count} in {phase}" for phase, count in phases.most_common())
        print(
            f"\n{phases.total()} kills ({where}; {torn} left a checkpoint that is not whole), {finished} runs ended in "
            f"the uninterrupted run's weights, bit for bit; {time.monotonic() - began:.0f} s"
        )
    assert phases.total() == KILLS
    assert phases["perturbed"] and phases["write"] + phases["delete"] and torn  # else the test says little
