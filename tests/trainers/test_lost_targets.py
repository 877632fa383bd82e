"""Requests that pass their target or lose it again: from where they go back, and what a resumed run does."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers.tiny import Weights, same_bits, weights
from helpers.unlearning import ROWS, AsAtTheKill, known_by_heart, mean_loss, memorised, trainer

from hf_unlearn.trainers import checkpointing, unlearn_looks
from hf_unlearn.trainers.unlearn_record import SNAPSHOTS_FILE
from hf_unlearn.unlearning import look, stop_rule

STEPS = {"passes": "3", "per_device_train_batch_size": 3}  # six steps, with a decision about a look after each
STILL = {**STEPS, "target": "frozen"}


@pytest.fixture
def finding(monkeypatch):
    """
    Makes a run's looks find given shortfalls, which it keeps in `found`; the last one from then on. None is measured up
    to a step.
    """

    def given(run, shortfalls, over=0.05, unseen_up_to=0):
        retain = mean_loss(memorised(), ROWS["retain"])
        scripted = itertools.chain(shortfalls, itertools.repeat(shortfalls[-1]))
        found, run.found = {"forget_loss": 2.0, "retain_loss": retain + over}, []

        def measure():
            run.found.append(next(scripted))
            return {**found, "shortfall": run.found[-1]}

        monkeypatch.setattr(run.measurements, "look", measure)

        def plan(*args, **kwargs):
            return look.Look(kept=True, short=False, snapshot=False, measure=run.state.global_step > unseen_up_to)

        monkeypatch.setattr(unlearn_looks.look, "plan_look", plan)
        return run

    return given


@pytest.mark.parametrize("copies", ["all", "of an older version", "none"])
def test_a_resumed_run_goes_back_to_the_target_of_before_its_checkpoint(tmp_path, finding, copies):
    saving = {**STILL, "save_strategy": "steps", "save_steps": 3}
    whole = finding(trainer(tmp_path, callbacks=[AsAtTheKill(tmp_path / "killed")], **saving), [0.5, 0.0, 0.5])
    assert whole.train().metrics["weights_of_step"] == 2
    assert not list(tmp_path.glob(f"checkpoint-*/{SNAPSHOTS_FILE}"))  # what knows the rows is gone
    file = tmp_path / "killed" / "checkpoint-3" / SNAPSHOTS_FILE
    if copies == "of an older version":
        torch.save({k: v for k, v in torch.load(file, weights_only=True).items() if k != "reached"}, file)
    elif copies == "none":  # as where parameters are sharded
        file.unlink()
    (file.parent / checkpointing.MANIFEST).unlink()
    checkpointing.write_manifest(file.parent)
    again = finding(trainer(tmp_path, **saving), [0.5])
    metrics = again.train(resume_from_checkpoint=str(file.parent)).metrics
    if copies == "all":
        assert same_bits(weights(again.model), weights(whole.model)) and again.request_state == whole.request_state
    else:
        assert (metrics["stop_reason"], metrics["weights_of_step"]) == (stop_rule.DONE, again.state.global_step)
        assert metrics["guarantee"] == "not_forgotten"


def test_weights_on_the_way_back_from_beyond_the_target_are_what_a_lost_target_is_found_again_by(tmp_path, finding):
    keep = Weights()
    run = finding(trainer(tmp_path, callbacks=[keep], **STILL), [-0.5, 0.0, 0.5])
    metrics = run.train().metrics
    assert (metrics["stop_reason"], metrics["weights_of_step"]) == (stop_rule.REACHED, 1)
    first = known_by_heart()
    halfway = {name: torch.lerp(first[name], step, 0.5) for name, step in keep.steps[0].items()}
    assert all(torch.equal(p, halfway[name]) for name, p in run.model.named_parameters())


LATE = {"unseen_up_to": 4}  # later than `look.FRESH` looks after the last weights short of the target


@pytest.mark.parametrize("options, over, ended, found", [
    ({"objective": "npo"}, 0.05, (stop_rule.REACHED, 5), [-0.5, 0.5, 0.0]),
    ({"objective": "npo"}, 0.2, (stop_rule.BUDGET, 0), [-0.5, 0.5, 0.0]),  # a budget is spent on the way back, too
    ({"gap": "hinge"}, 0.05, (stop_rule.DONE, 6), [-0.5, 0.5]),  # the retain rows bring them back, or nothing does
], ids=str)  # fmt: skip
def test_where_nothing_holds_the_rows_a_run_within_its_budgets_goes_back_a_long_way(
    tmp_path, finding, options, over, ended, found
):
    run = finding(trainer(tmp_path, **STILL, **options), [-0.5, 0.5, 0.0], over, **LATE)
    metrics = run.train().metrics
    assert (metrics["stop_reason"], metrics["weights_of_step"], run.found) == (*ended, found)


def test_the_target_that_is_found_again_is_one_where_simulated_recoveries_fail(tmp_path, finding, monkeypatch):
    run = finding(trainer(tmp_path, resistance="relearn", **STILL), [0.5, 0.0, 0.0, 0.5])
    recovered = iter([0.0, 99.0, *[0.0] * 9])
    monkeypatch.setattr(run.steps, "means_since_look", lambda: (2.0, 0.0, next(recovered)))
    metrics = run.train().metrics
    assert (metrics["stop_reason"], metrics["weights_of_step"]) == (stop_rule.REACHED, 2)


def test_a_recovery_before_the_way_back_says_nothing_of_the_weights_there(tmp_path, finding, monkeypatch):
    run = finding(trainer(tmp_path, resistance="relearn", objective="npo", **STILL), [-0.5, 0.0])
    monkeypatch.setattr(run.steps, "means_since_look", lambda: (2.0, 0.0, 99.0))
    run.train()
    assert (run.stop_reason, run.state.global_step) == (stop_rule.REACHED, 2) and run.found == [-0.5, 0.0, 0.0]


def test_one_look_at_the_target_after_the_last_step_counts(tmp_path, finding, caplog):
    run = finding(trainer(tmp_path, max_steps=1, **STILL), [0.0])
    metrics = run.train().metrics
    assert (metrics["stop_reason"], metrics["guarantee"]) == (stop_rule.REACHED, "approximate")
    assert run.found == [0.0] and "were put back" not in caplog.text  # these are the weights that it ends with
    moving = finding(trainer(tmp_path, max_steps=1, target="current", **STEPS), [0.0])
    assert moving.train().metrics["stop_reason"] == stop_rule.MAX_STEPS
    assert moving.looks.snapshots.reached is None  # a copy that nothing would put back
