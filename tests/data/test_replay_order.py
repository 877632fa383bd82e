"""The order of a training that can be replayed: every row as often as elsewhere, revocable ones last, none moved."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from torch.utils.data import Dataset

from hf_unlearn.data.replay_order import ReplayOrder, _within
from hf_unlearn.data.replay_schedule import BATCH, ROW, EpochOfSchedule, ReplaySchedule

PILOT = ReplayOrder(360, (40,), 32, 500, 375, seed=0)
ORDERS = [
    PILOT,
    dataclasses.replace(PILOT, slices=(4,) * 10),
    dataclasses.replace(PILOT, slices=(10, 20, 10), spread=0.8, often=0.6),
    dataclasses.replace(PILOT, slices=(1, 39), drop_last=True, seed=3),
    ReplayOrder(18, (2, 2, 2), 4, 16, 8, seed=42),
    ReplayOrder(5, (1,), 7, 9, 6, seed=1),  # fewer rows than a step has places
    ReplayOrder(50, (7,), 1, 130, 90, seed=1),
]


def all_rows(order: ReplayOrder) -> list[np.ndarray]:
    return [order.step(step) for step in range(order.steps)]


@pytest.mark.parametrize("order", ORDERS)
def test_every_row_comes_as_often_as_in_a_plain_training_or_as_often_as_said(order):
    times = np.bincount(np.concatenate(all_rows(order)), minlength=order.rows)
    epochs = order.sizes.sum() / order.rows
    assert times[: order.stable].max() - times[: order.stable].min() <= 1
    assert np.abs(times[order.stable :] - order.often * epochs).max() <= 1 + 1e-9
    assert order.often < 1 or np.abs(times[: order.stable] - epochs).max() <= 1 + 1e-9
    assert times.sum() == order.sizes.sum()


@pytest.mark.parametrize("order", ORDERS)
def test_no_revocable_row_comes_before_its_border(order):
    steps = all_rows(order)
    ends = np.cumsum(order.slices) + order.stable
    for border, begin, end in zip(order.borders, [order.stable, *ends], ends, strict=False):
        coming = [step for step, rows in enumerate(steps) if ((rows >= begin) & (rows < end)).any()]
        assert coming[0] == border >= order.tail_start


@pytest.mark.parametrize("order", [PILOT, ORDERS[4]])
def test_the_tail_of_one_slice_has_the_same_share_of_revocable_rows_in_every_step(order):
    order = dataclasses.replace(order, slices=(sum(order.slices),))
    counts = [np.count_nonzero(rows >= order.stable) for rows in all_rows(order)]
    tail = order.sizes[order.tail_start :]
    share = np.array(counts[order.tail_start :]) - order.visits.sum() / tail.sum() * tail
    assert not any(counts[: order.tail_start]) and np.abs(share).max() <= 1


def test_within_a_stream_each_row_comes_once_before_any_comes_twice():
    stable = [row for rows in all_rows(PILOT) for row in rows if row < PILOT.stable]
    assert all(len(set(stable[k : k + 360])) == 360 for k in range(0, len(stable) - 360, 360))


def test_borders_lie_in_the_first_part_of_the_tail_and_rows_come_evenly_from_there_on():
    order = dataclasses.replace(ORDERS[1], spread=0.5)
    long = order.steps - order.tail_start
    first = np.repeat(order.borders, 4)
    assert np.abs(order.borders - order.tail_start - 0.05 * np.arange(10) * long).max() <= 3
    steps = all_rows(order)
    for row, border in zip(range(order.stable, order.rows), first, strict=True):
        coming = np.repeat(np.arange(order.steps), [np.count_nonzero(rows == row) for rows in steps])
        even = border + (np.arange(len(coming)) + 0.5) * (order.steps - border) / len(coming)
        assert np.abs(coming - even).max() < 1.5 * (order.steps - border) / len(coming)  # steps from visit to visit


def test_what_a_step_has_no_room_for_comes_in_the_next_one():
    assert _within(np.array([1, 5, 0, 2]), np.array([3, 3, 1, 3])).tolist() == [1, 3, 1, 3]
    assert _within(np.array([0, 1, 5]), np.array([3, 2, 2])).tolist() == [2, 2, 2]


def test_the_places_of_a_step_are_what_a_loader_of_all_rows_would_give_it():
    order = ORDERS[4]  # 24 rows in steps of 4
    assert order.steps_an_epoch == 6 and order.sizes.tolist() == [4] * 16
    ragged = dataclasses.replace(order, step_rows=5)
    assert ragged.sizes.tolist() == [5, 5, 5, 5, 4] * 3 + [5]
    assert dataclasses.replace(ragged, drop_last=True).sizes.tolist() == [5] * 16


@pytest.mark.parametrize("parts", [1, 3, 4])
@pytest.mark.parametrize("order", ORDERS[3:])
def test_passes_are_the_rows_left_and_one_for_each_part_that_has_none(order, parts):
    holes = np.arange(order.stable, order.rows)[::2]
    for first in (0, order.tail_start, int(order.borders[-1])):
        wanted = 0
        for step in range(first, order.steps):
            left = [np.count_nonzero(~np.isin(part, holes)) for part in order.parts(step, parts)]
            wanted += sum(left) + (left.count(0) if any(left) else 0)
        assert order.passes(first, holes, parts) == wanted
    assert order.passes(order.steps, holes, parts) == 0


def test_an_order_of_a_few_rows_written_out():
    """Two stable rows and one revocable row, two places a step, three steps; the last one has both."""
    order = ReplayOrder(2, (1,), 2, 3, 1, seed=0)
    assert order.sizes.tolist() == [2, 1, 2]  # an epoch has three rows: two steps
    assert order.visits.tolist() == [2] and order.revocable.tolist() == [0, 1, 1]
    assert sorted(order.step(0).tolist()) == [0, 1] and order.step(1).tolist() == [2]
    assert sorted(order.step(2).tolist())[1] == 2


# ---- the data set ----


def _unseeded(*key: int) -> None:
    pass


def test_generators_are_seeded_for_each_row_that_may_be_drawn_and_for_each_micro_batch():
    class Drawn(Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, i):
            return {"id": i}

    seeded: list[tuple] = []
    schedule = ReplaySchedule(Drawn(), ORDERS[4], np.arange(24), 2, "asked", lambda *key: seeded.append(key))
    rows = schedule[7]
    assert seeded == [*((3, row["id"], ROW) for row in rows), (3, 1, BATCH)]
    schedule.rows = [{"id": n} for n in range(24)]  # rows that are stored, and read at once
    assert schedule[7] == rows and seeded[-1:] == [(3, 1, BATCH)] and len(seeded) == len(rows) + 2


def test_a_deleted_row_leaves_its_places_empty_and_moves_no_other():
    order, rows = ORDERS[4], [{"id": n} for n in range(24)]
    whole = ReplaySchedule(rows, order, np.arange(24), 2, "revocable", _unseeded)
    at = np.arange(24)
    at[[19, 22]] = -1
    without = ReplaySchedule(rows, order, at, 2, "revocable", _unseeded)
    for step in range(order.steps):
        for a, b in zip(whole.numbers(step), without.numbers(step), strict=True):
            assert [n for n in a if n not in (19, 22)] == b.tolist()


def test_items_are_the_micro_batches_and_rows_say_whether_they_are_revocable():
    order, rows = ORDERS[4], [{"id": n} for n in range(24)]
    schedule = ReplaySchedule(rows, order, np.arange(24)[::-1].copy(), 2, "asked", _unseeded)
    assert len(schedule) == 2 * 16
    for i in (0, 1, 17, 31):
        numbers = order.parts(*[i // 2, 2])[i % 2]
        assert schedule[i] == [{"id": 23 - n, "asked": n >= 18} for n in numbers]


def test_a_micro_batch_without_rows_holds_one_for_its_shape():
    order = ReplayOrder(5, (1,), 1, 12, 6, seed=1)
    at = np.array([0, 1, 2, 3, 4, -1])
    schedule = ReplaySchedule([{"id": n} for n in range(6)], order, at, 1, "asked", _unseeded)
    empty = next(step for step in range(12) if order.step(step)[0] == 5)
    assert schedule.numbers(empty)[0].size == 0 and schedule[empty] == [{"id": 0, "asked": False}]


def test_an_epoch_of_the_schedule_ends_where_the_training_ends():
    schedule = ReplaySchedule([{"id": 0}] * 24, ORDERS[4], np.arange(24), 2, "asked", _unseeded)
    epoch = [0]
    sampler = EpochOfSchedule(schedule, lambda: epoch[0])
    assert len(sampler) == 12 and list(sampler) == list(range(12))
    epoch[0] = 2
    assert list(sampler) == list(range(24, 32))
