"""The scripts on two processes of one CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.recipes import PEOPLE, ROOT

from hf_unlearn.cli import ready, unlearn
from hf_unlearn.trainers import checkpointing


@pytest.mark.slow
def test_two_processes_log_what_one_does(tmp_path):
    """`cpu2.yaml` as its header says: 1 × 16 rows a step and 2 × 8 are one run, for training and for the request."""
    flags = [*PEOPLE, "--logging_steps", "1", "--max_steps", "2", "--warmup_steps", "0"]
    save = {"one": ["--save_strategy", "no"], "two": ["--save_strategy", "steps"]}
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    logs = {}
    for folder, rows in (("one", 16), ("two", 8)):
        argv = [*flags, *save[folder], "--output_dir", str(tmp_path / folder)]
        argv += ["--per_device_train_batch_size", str(rows)]
        for script, more in (("ready", ["--readiness", "meta", "--meta_start", "0"]), ("unlearn", ["--stop", "false"])):
            if folder == "one":
                {"ready": ready, "unlearn": unlearn}[script].main([*argv, *more, "--use_cpu", "true"])
        if folder == "two":
            _launch([*argv, "--readiness", "meta", "--meta_start", "0"], [*argv, "--stop", "false"], env)
        for role in ("ready", "ready_unlearned"):
            history = json.loads((tmp_path / folder / role / "trainer_state.json").read_text())["log_history"]
            logs[folder, role] = [line for line in history if "loss" in line]
    for role in ("ready", "ready_unlearned"):
        one, two = logs["one", role], logs["two", role]
        assert len(one) == len(two) == 2
        for a, b in zip(one, two, strict=True):
            assert a.keys() == b.keys()
            assert all(a[key] == pytest.approx(b[key], rel=2e-5, abs=1e-5) for key in a)
        checkpoint = tmp_path / "two" / role / "checkpoint-2"
        assert checkpointing.problem(checkpoint) is None and (checkpoint / "rng_state_1.pth").exists()


def _launch(ready_flags, unlearn_flags, env) -> None:
    """Both scripts one after the other under one `accelerate launch`: the imports are what takes time."""
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport json\nfrom hf_unlearn.cli import ready, unlearn\n"
        "ready.main(json.loads(sys.argv[2]))\nunlearn.main(json.loads(sys.argv[3]))\n"
    )
    script = Path(ready_flags[ready_flags.index("--output_dir") + 1]).with_name("both.py")
    script.write_text(code)
    with socket.socket() as free:  # the default port may be another launch's
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu2.yaml"]
    launch += ["--main_process_port", port]
    words = [str(script), str(ROOT), json.dumps(ready_flags), json.dumps(unlearn_flags)]
    done = subprocess.run([*launch, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-30000:]
    assert done.stdout.count("2 steps; saved in") == 1  # one process speaks
