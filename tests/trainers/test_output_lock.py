"""Two runs do not work in one output folder; what a killed one has left does not stand in the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from helpers.tiny import lm
from helpers.unlearning import trainer

from hf_unlearn import ArgumentError
from hf_unlearn.trainers import output_lock
from hf_unlearn.trainers.output_lock import FILE, one_run_in

HOLD = "import sys, time\nfrom hf_unlearn.trainers.output_lock import one_run_in\n"
HOLD += "with one_run_in(sys.argv[1]):\n    print('here', flush=True)\n    time.sleep(60)"


@pytest.fixture
def other(tmp_path):
    """A process that is at work in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_says_which_one_is_there_and_a_killed_one_counts_no_more(other, tmp_path):
    run = trainer(tmp_path, lm(), max_steps=1)
    with pytest.raises(
        ArgumentError, match=rf"another run is at work: process {other.pid} on host {socket.gethostname()}"
    ):
        run.train()
    other.kill()
    other.wait()
    assert (tmp_path / FILE).exists()  # a kill leaves it
    run.train()
    assert not (tmp_path / FILE).exists()
    trainer(tmp_path, lm(), max_steps=1).train()  # one after the other


def test_a_folder_is_free_again_after_an_error_and_within_one_process(tmp_path):
    with pytest.raises(RuntimeError), one_run_in(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
        with one_run_in(tmp_path / "x" / ".."):
            pass
        assert (tmp_path / FILE).exists()
        raise RuntimeError
    assert not (tmp_path / FILE).exists()
    with one_run_in(tmp_path):
        pass


@pytest.mark.parametrize("left, free", [
    ({}, True), ({"pid": 2**22 + 5, "host": "here", "began": 1.0}, True), ({"host": "here"}, True),
    ({"pid": os.getppid(), "host": "here", "began": "now"}, False),  # a process that lives
    ({"pid": os.getppid(), "host": "here", "began": 1.0}, True),  # another process has its number now
    ({"pid": os.getppid(), "host": "elsewhere", "began": "now"}, True), ("no dict", True),
], ids=str)  # fmt: skip
def test_where_there_are_no_locks_the_process_is_looked_up(tmp_path, monkeypatch, left, free):
    monkeypatch.setattr(output_lock, "_lock", lambda file: False)
    if isinstance(left, dict) and left.get("host") == "here":
        left = {**left, "host": socket.gethostname()}
    if isinstance(left, dict) and left.get("began") == "now":
        left = {**left, "began": output_lock._began(os.getppid()), "since": time.time()}
    (tmp_path / FILE).write_text(json.dumps(left))
    if free:
        with one_run_in(tmp_path):
            assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
        assert not (tmp_path / FILE).exists()
        return
    with pytest.raises(ArgumentError, match=f"process {os.getppid()} on host"), one_run_in(tmp_path):
        pass
    assert json.loads((tmp_path / FILE).read_text()) == left
