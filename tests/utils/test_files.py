"""Our files are written whole or not at all, and a flipped byte in one is found."""

from __future__ import annotations

import json
import os

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
