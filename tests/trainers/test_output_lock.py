"""Two runs do not work in one output folder; what a killed one has left does not stand in the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers.tiny import lm
from helpers.unlearning import trainer

from hf_unlearn import ArgumentError
from hf_unlearn.cli import evaluate, running
from hf_unlearn.trainers import output_lock
from hf_unlearn.trainers.output_lock import FILE, one_run_in
from hf_unlearn.utils import files
from hf_unlearn.utils.files import process_began

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


def test_a_folder_that_was_made_for_a_run_which_writes_nothing_goes_with_it(tmp_path):
    with one_run_in(tmp_path / "a"):
        assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a").exists()
    with one_run_in(tmp_path / "a"):
        (tmp_path / "a/file").write_text("")
    assert (tmp_path / "a/file").exists()
    (tmp_path / "b").mkdir()  # by somebody else
    with one_run_in(tmp_path / "b"):
        pass
    assert (tmp_path / "b").is_dir()


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
        left = {**left, "began": process_began(os.getppid()), "since": time.time()}
    (tmp_path / FILE).write_text(json.dumps(left))
    if free:
        with one_run_in(tmp_path):
            assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
        assert not (tmp_path / FILE).exists()
        return
    with pytest.raises(ArgumentError, match=f"process {os.getppid()} on host"), one_run_in(tmp_path):
        pass
    assert json.loads((tmp_path / FILE).read_text()) == left


def test_a_folder_is_a_run_s_until_model_state_and_card_are_saved_and_pushed(tmp_path, monkeypatch):
    run, held = trainer(tmp_path, lm(), max_steps=1, save_strategy="no"), []
    for name in ("train", "save_model", "save_state", "push_to_hub"):
        monkeypatch.setattr(run, name, lambda name=name, **kwargs: held.append((name, (tmp_path / FILE).exists())))
    run.args.push_to_hub = True
    rows = SimpleNamespace(request={}, recipe={}, splits={"forget": []}, made_from_rows=None)
    running.train_and_save(run, "unlearned", rows)
    assert held == [(name, True) for name in ("train", "save_model", "save_state", "push_to_hub")]
    assert not (tmp_path / FILE).exists()


def test_a_second_run_is_told_before_it_trains_and_a_second_evaluation_before_rows_are_read(
    other, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate.prepare, "prepare", lambda *args: pytest.fail("rows were made"))
    with pytest.raises(ArgumentError, match=f"another run is at work: process {other.pid} on host"):
        running.train_and_save(
            trainer(tmp_path, lm()),
            "unlearned",
            SimpleNamespace(request={}, recipe={}, splits={"forget": []}, made_from_rows=None),
        )
    lm().save_pretrained(tmp_path / "original")
    words = ["--output_dir", str(tmp_path), "--forget_column", "person", "--forget_fraction", "0.1", "--limit", "60"]
    with pytest.raises(ArgumentError, match=f"another run is at work: process {other.pid} on host"):
        evaluate.main(words)


def test_a_card_is_not_written_into_a_folder_where_a_training_is_at_work(other, tmp_path, caplog):
    card = SimpleNamespace(to_model_card=lambda folder, role: pytest.fail("was written"))
    assert evaluate.write_cards(card, {"ready": str(tmp_path)}) == []
    assert f"was left as it is: `output_dir` is '{tmp_path}'" in caplog.text


def test_what_a_killed_run_has_left_beside_its_files_goes_when_the_next_one_takes_the_folder(tmp_path):
    left = tmp_path / f"readiness.json.{2**22 + 5}@{files._host()}.part"
    left.write_text("half")
    (tmp_path / "film.part").write_text("somebody's")
    with one_run_in(tmp_path):
        assert not left.exists() and (tmp_path / "film.part").exists()
