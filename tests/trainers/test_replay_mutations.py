"""
What the tests of equality would not miss: a replay that goes wrong by one row, one draw or one step ends in other bits.

Each mutation is one of the replay alone; the training, and the one that never saw the rows, are as they should be.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.replays import replayed, trained
from helpers.tiny import same_bits, weights
from torch.optim.lr_scheduler import LambdaLR

from hf_unlearn.data.replay_order import ReplayOrder
from hf_unlearn.data.replay_schedule import ReplaySchedule
from hf_unlearn.trainers.ready import ReadyTrainer
from hf_unlearn.trainers.replay_program import ReplayProgram, seed_all

GONE = [8, 20]
BRIEF = {"max_steps": 12, "slices": "2"}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("ready"), **BRIEF)


@pytest.fixture(scope="module")
def never(tmp_path_factory):
    return weights(trained(tmp_path_factory.mktemp("never"), deleted=GONE, **BRIEF).model)


def is_exact(ready, never, out) -> bool:
    return same_bits(weights(replayed(out, ready.args.output_dir, GONE).model), never)


def a_row_one_place_off(monkeypatch):
    step = ReplayOrder.step

    def shifted(order, at):
        rows, before = step(order, at), step(order, at - 1)
        return np.concatenate([before[-1:], rows[:-1]]) if at > order.tail_start else rows

    monkeypatch.setattr(ReplayOrder, "step", shifted)


def two_rows_of_a_step_swapped(monkeypatch):
    """Each row finds the dropout of the other."""
    numbers = ReplaySchedule.numbers
    monkeypatch.setattr(ReplaySchedule, "numbers", lambda *at: [rows[::-1] for rows in numbers(*at)])


def a_hole_that_shifts_what_is_drawn(monkeypatch):
    def seed_step(program):
        step = program.trainer.state.global_step
        seed_all(program.trainer.args.seed, step, 0)
        holes = program.order.sizes[step] - sum(map(len, program.schedule.numbers(step)))
        torch.rand(int(holes))

    monkeypatch.setattr(ReplayProgram, "seed_step", seed_step)


def generators_seeded_once_a_run(monkeypatch):
    seeded = []

    def seed_step(program):
        if not seeded:
            seed_all(program.trainer.args.seed)
        seeded.append(1)

    monkeypatch.setattr(ReplayProgram, "seed_step", seed_step)


def a_hole_kept_as_another_row(monkeypatch):
    def numbers(schedule, step):
        return [
            np.where(schedule.at[rows] >= 0, rows, schedule.stand_in)
            for rows in schedule.order.parts(step, schedule.parts)
        ]

    monkeypatch.setattr(ReplaySchedule, "numbers", numbers)


def the_optimizers_state_forgotten(monkeypatch):
    monkeypatch.setattr(ReadyTrainer, "_load_optimizer_and_scheduler", lambda *_: None)


def the_learning_rate_a_step_late(monkeypatch):
    load = LambdaLR.load_state_dict

    def late(schedule, state):
        load(schedule, {**state, "last_epoch": state["last_epoch"] - 1})

    monkeypatch.setattr(LambdaLR, "load_state_dict", late)


MUTATIONS = [
    a_row_one_place_off,
    two_rows_of_a_step_swapped,
    a_hole_that_shifts_what_is_drawn,
    generators_seeded_once_a_run,
    a_hole_kept_as_another_row,
    the_optimizers_state_forgotten,
    the_learning_rate_a_step_late,
]


def test_without_a_mutation_the_replay_is_exact(ready, never, tmp_path):
    assert is_exact(ready, never, tmp_path)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_of_the_replay_is_seen(ready, never, tmp_path, monkeypatch, mutation):
    mutation(monkeypatch)
    assert not is_exact(ready, never, tmp_path)


def test_a_snapshot_taken_a_step_late_is_seen(never, tmp_path, monkeypatch):
    def late(program):
        state = program.trainer.state
        if state.global_step - 1 in program.borders:
            state.global_step -= 1
            program.trainer.at_border(state.global_step)
            state.global_step += 1

    with monkeypatch.context() as patched:
        patched.setattr(ReplayProgram, "before_step", late)
        ready = trained(tmp_path / "ready", **BRIEF)
    assert ready.is_ready  # nothing but the bits tells it
    assert not is_exact(ready, never, tmp_path / "out")
