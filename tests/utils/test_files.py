"""Our files are written whole or not at all, and a flipped byte in one is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from hf_unlearn.utils import files

CONTENT = {"schema": 1, "ready": True, "request": {"learning_rate": 1e-4, "gap": "hinge"}, "τ": [1.5, None, -3, "é"]}


def test_what_is_written_is_read_and_every_flipped_bit_is_found_or_harmless(tmp_path):
    path = tmp_path / "readiness.json"
    files.write_json(path, CONTENT)
    assert files.read_json(path) == CONTENT
    data, found = path.read_bytes(), 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
        try:
            assert files.read_json(path) == CONTENT, place
        except ValueError as error:
            assert str(error).startswith(f"{path} ") and "damaged" in str(error)
            found += 1
    assert found > 0.7 * len(data)


def test_a_file_is_the_same_however_it_is_laid_out_and_may_be_edited_without_its_digest(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, CONTENT)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, indent=7, sort_keys=True))
    assert files.read_json(path) == CONTENT
    path.write_text(json.dumps({**content, "ready": False}))
    with pytest.raises(ValueError, match="a.json is damaged.* edited it yourself, delete the line `digest`"):
        files.read_json(path)
    del content["digest"]
    path.write_text(json.dumps({**content, "ready": False}))  # also a file of an older version
    assert files.read_json(path) == {**CONTENT, "ready": False}
    files.write_json(path, {**json.loads(path.read_text()), "digest": "sha256:old", 3: 4})
    assert files.read_json(path) == {**CONTENT, "ready": False, "3": 4}


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, CONTENT)
    before = path.read_bytes()

    def full(self, content):
        with open(self, "wb") as out:
            out.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"schema": 2})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.json"]


LEAVE = "import os, sys; from hf_unlearn.utils import files; os.replace = lambda *a: os._exit(9)"


def leave(path) -> str:
    """What a process leaves beside the file that is killed before it moves its own there; name of it."""
    killed = subprocess.Popen([sys.executable, "-c", f"{LEAVE}; files.replace_bytes(sys.argv[1], b'half')", str(path)])
    assert killed.wait() == 9
    return f"{path.name}.{killed.pid}@{files._host()}.part"


def test_what_a_killed_process_has_left_beside_a_file_goes_when_it_is_written_again(tmp_path):
    path = tmp_path / "a.json"
    left = leave(path)
    of_others = [f"a.json.{os.getppid()}@{files._host()}.part", "a.json.7@elsewhere.part", "b.json.1@elsewhere.part"]
    of_others += ["a.json.part", "film.part"]  # of somebody else's program
    for name in of_others:
        (tmp_path / name).write_text("")
    assert {path.name for path in tmp_path.iterdir()} == {left, *of_others}
    files.write_json(path, CONTENT)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", *of_others}
    for name in of_others:
        os.utime(tmp_path / name, (time.time() - 2 * files.DAY,) * 2)
    os.utime(tmp_path / of_others[0], (time.time() + 60,) * 2)
    files.clear_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", of_others[0], "a.json.part", "film.part"}
    os.utime(tmp_path / of_others[0], (1.0, 1.0))  # older than the process that has this number now
    files.clear_parts(tmp_path)
    assert not (tmp_path / of_others[0]).exists()


def test_two_processes_do_not_write_into_one_file_beside(tmp_path, monkeypatch):
    mine = files.part_of(tmp_path / "a.json")
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert files.part_of(tmp_path / "a.json") != mine
    monkeypatch.setattr("socket.gethostname", lambda: "b/c")  # a process of another machine may have the same number
    assert files.part_of(tmp_path / "a.json").name == "a.json.7@b_c.part"


def test_an_interrupt_leaves_nothing_beside(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.write_json(tmp_path / "a.json", CONTENT)
    assert os.listdir(tmp_path) == []


def test_files_that_are_to_go_stay_until_the_others_are_written(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).write_bytes(b"old")

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        files.replace_files({tmp_path / "a": b"new", tmp_path / "b": None})
    assert (tmp_path / "b").read_bytes() == b"old"
    monkeypatch.undo()
    files.replace_files({tmp_path / "b": None, tmp_path / "a": b"new", tmp_path / "no such": None})
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"new"
