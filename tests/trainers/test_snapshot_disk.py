"""How much disk the snapshots take is said before a training starts, and where there is not as much it does not."""

from __future__ import annotations

import errno
import os
import re

import pytest
from helpers.replays import replayed, trained

from hf_unlearn import ArgumentError
from hf_unlearn.readiness.replay import border_before
from hf_unlearn.trainers import replay, snapshot_size

ABOUT = r"(\d+) snapshots? of about ([\d.]+) kB will be written into (\S+): ([\d.]+) kB together"


def said(caplog) -> list[tuple]:
    found = [re.match(ABOUT, record.getMessage()) for record in caplog.records]
    return [(int(one[1]), float(one[2]), one[3], float(one[4])) for one in found if one]


def test_a_training_says_how_many_snapshots_of_what_size_go_where(tmp_path, caplog):
    ready = trained(tmp_path / "ready")
    ((count, each, where, total),) = said(caplog)
    assert count == len(ready.program.borders) and where == ready.program.folder
    assert total == pytest.approx(count * each, rel=0.01)
    taken = snapshot_size.bytes_in(ready.program.folder)
    assert 0.1 * taken < 1000 * total - count * snapshot_size.BESIDE < taken < 1000 * total


def test_a_replay_says_only_those_that_it_writes_anew(tmp_path, caplog):
    ready = trained(tmp_path / "ready")
    late, first = (
        next(i for i in range(0, 24, 4) if border(ready, i) == end(ready.plan.order.borders)) for end in (max, min)
    )
    caplog.clear()
    replayed(tmp_path / "late", tmp_path / "ready", [late])
    assert said(caplog) == []
    replayed(tmp_path / "first", tmp_path / "ready", [first])
    assert [one[0] for one in said(caplog)] == [len(ready.program.borders) - 1]


def test_a_replay_onto_another_disk_says_those_that_it_copies_too_and_when_there_is_no_room(
    tmp_path, caplog, monkeypatch
):
    ready = trained(tmp_path / "ready", max_steps=8)
    late = next(i for i in range(0, 24, 4) if border(ready, i) == ready.plan.order.borders.max())
    caplog.clear()
    disks = iter((1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(replay, "disk_of", lambda folder: next(disks))
        replayed(tmp_path / "out", tmp_path / "ready", [late])
    assert [one[0] for one in said(caplog)] == [len(ready.program.borders)]

    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(replay, "take_over", no_room)
    with pytest.raises(OSError, match="No space is left for the snapshot before step .* Free some, and go on"):
        replayed(tmp_path / "full", tmp_path / "ready", [late])


def border(ready, i: int) -> int:
    return border_before(ready.plan.order, ready.plan.numbers_of_ids([i], ready.plan.key))


def test_a_disk_without_room_is_told_before_a_step(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot_size, "free_bytes", lambda folder: 1000)
    with pytest.raises(ArgumentError, match=r"3 snapshots of about .* and 1.00 kB are free there.*`slices`"):
        trained(tmp_path / "ready")
    assert not os.path.exists(tmp_path / "ready" / "model.safetensors")


def test_what_a_training_deletes_first_counts_as_free(tmp_path, monkeypatch):
    trained(tmp_path / "ready")
    monkeypatch.setattr(snapshot_size, "free_bytes", lambda folder: 0)
    monkeypatch.setattr(snapshot_size, "bytes_in", lambda folder: 10**7)
    assert trained(tmp_path / "ready").is_ready


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_one_above(tmp_path):
    assert snapshot_size.free_bytes(str(tmp_path / "a" / "b")) > 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"x" * 100)
    assert snapshot_size.bytes_in(str(tmp_path / "a")) == 100
    os.link(tmp_path / "a" / "one", tmp_path / "other")
    assert snapshot_size.bytes_in(str(tmp_path / "a")) == 0
