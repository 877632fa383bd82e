"""`recipes/tools/check_engine.py` passes on engines that work, and fails where one does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.forked_ranks import on_ranks
from helpers.ranks import shard_on_cpu

import hf_unlearn
from hf_unlearn.trainers import passes
from recipes.tools import check_engine

pytestmark = pytest.mark.slow
RUNS = 2 * (len(check_engine.READY) + len(check_engine.UNLEARN))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(capsys):
    """Runs the script in this process: its exit status and its lines."""

    def run(*words, steps: int = 2):
        status = check_engine.main(["--use_cpu", "--steps", str(steps), *words])
        return status, capsys.readouterr().out.splitlines()

    return run


def verdicts(lines) -> dict[tuple[str, int], str]:
    """PASS, FAIL or refused by case and number of micro-batches."""
    found = {}
    for line in lines:
        if match := re.match(r"(ready|unlearn) +(\S.*?) +([12]) micro-batch(?:es)? +(.*)", line):
            verb, name, cut, rest = match.groups()
            found[f"{verb} {name}", int(cut)] = "refused" if rest.startswith("refused") else rest.split()[-1]
    return found


def failed(lines) -> set[str]:
    return {name for (name, _), verdict in verdicts(lines).items() if verdict == "FAIL"}


@pytest.mark.parametrize("words, steps", [([], 4), (["--peft"], 2), (["--dtype", "float64"], 2)], ids=str)
def test_one_process_passes(check, words, steps):
    status, lines = check(*words, steps=steps)
    assert status == 0 and lines[-1] == f"PASS: {RUNS} runs agree"
    assert lines[0].startswith("NO, 1 process(es), cpu; ") and "tolerance" in lines[0]
    assert len(verdicts(lines)) == RUNS and set(verdicts(lines).values()) == {"PASS"}


def test_two_processes_pass_as_the_script_is_launched():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu2.yaml"]
    command += ["--main_process_port", port, "recipes/tools/check_engine.py", "--use_cpu", "--steps", "2"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (lines, done.stderr[-5000:])
    assert lines[-1] == f"PASS: {RUNS} runs agree" and "MULTI_CPU, 2 process(es)" in lines[0]


def test_shards_pass(tmp_path):
    def on_shards():
        for kind in (hf_unlearn.ReadyTrainer, hf_unlearn.UnlearnTrainer):

            def sharded(self, *args, init=kind.__init__, **kwargs):
                shard_on_cpu()
                init(self, *args, **kwargs)

            kind.__init__ = sharded
        return check_engine.main(["--use_cpu", "--steps", "2"])

    status, lines = on_ranks(on_shards, tmp_path)
    assert status == 0, lines
    assert any("FSDP, 2 process(es)" in line for line in lines)
    found = verdicts(lines)
    assert len(found) == RUNS and set(found.values()) == {"PASS"}
    assert lines[-1] == f"PASS: {RUNS} runs agree"


def test_gradients_that_stay_local_fail(tmp_path):
    """The inner gradient of each process for itself, as it is inside `no_sync`."""

    def on_its_own():
        passes.synchronised = lambda accelerator, model: nullcontext()
        return check_engine.main(["--use_cpu", "--steps", "2"])

    status, lines = on_ranks(on_its_own, tmp_path)
    assert status == 1, lines
    found = verdicts(lines)
    assert {case for case, verdict in found.items() if verdict == "FAIL"} == {
        (f"ready {name}", 2) for name in check_engine.READY
    }
    assert lines[-1].startswith("FAIL: ready first_order 2 micro-batches; ")


BROKEN = {
    "an inner step too long by a thousandth": (
        "hf_unlearn.readiness.gradient._step_factor",
        lambda real: lambda *args: real(*args) * 1.001,
        {f"ready {name}" for name in check_engine.READY},
    ),
    "no curvature": (
        "hf_unlearn.readiness.gradient._Pullback.add_hessian_product",
        lambda real: lambda *args: None,
        {"ready finite_difference", "ready finite_difference, relearn"},
    ),
    "an α that does not decay": (
        "hf_unlearn.unlearning.schedule.alpha_at",
        lambda real: lambda alpha0, forget_pass, passes: alpha0,
        {f"unlearn {name}" for name in check_engine.UNLEARN if name != "npo"},
    ),
    "a gate that ignores the sign": (
        "hf_unlearn.objectives.nabla_tau.NablaTau.mean_value",
        lambda real: lambda self, f, r, *, alpha, tau: real(self, 2 * tau - f, r, alpha=alpha, tau=tau),
        {"unlearn hinge", "unlearn hinge, in turn"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_fails_and_nothing_else(check, monkeypatch, what):
    import importlib

    path, change, cases = BROKEN[what]
    owner, _, name = path.rpartition(".")
    try:
        holder = importlib.import_module(owner)
    except ModuleNotFoundError:
        holder = getattr(importlib.import_module(owner.rpartition(".")[0]), owner.rpartition(".")[2])
    monkeypatch.setattr(holder, name, change(getattr(holder, name)))
    status, lines = check(steps=4 if "decay" in what else 2)  # it would after a pass of two steps
    assert failed(lines) == cases
    assert status == 1 and lines[-1].startswith("FAIL: ")


def test_a_refusal_where_there_is_no_reason_for_one_fails(check, monkeypatch):
    monkeypatch.setattr("hf_unlearn.trainers.ready.several_backwards_problem", lambda *args: "not today")
    status, lines = check()
    assert status == 1 and lines[-1].startswith("FAIL: ready first_order 1 micro-batch; ")
    assert all("refused: not today" in line for line in lines if line.startswith("ready"))


def test_an_odd_number_of_steps_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        check_engine.main(["--steps", "3"])
    assert end.value.code == 2 and "even number" in capsys.readouterr().err
