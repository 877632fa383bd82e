"""`meta_start="auto"`: a training that simulates requests once its loss says so, within a budget."""

from __future__ import annotations

import logging

import pytest
from helpers.ready_runs import config, train
from helpers.tiny import lm, lm_rows, same_bits, tokenizer, weights

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer
from hf_unlearn.readiness import pacing

PACED = {"meta_start": "auto", "optim": "adamw_torch", "learning_rate": 0.01, "request_rows": 4}


@pytest.fixture
def soon(monkeypatch):
    """A loss that has fallen by half counts as learned, so that short trainings get there."""
    monkeypatch.setattr(pacing, "LEARNED", 0.9)


def test_requests_begin_with_the_loss_and_keep_within_the_budget(tmp_path, soon):
    plain = train(tmp_path / "plain", lm(), max_steps=40, meta_budget=1e-3, **PACED)
    run = train(tmp_path / "run", lm(), max_steps=40, **PACED)
    pace = run.record()["pace"]
    assert 2 <= pace["began"] < 30 and pace["turns"] == run.simulated.steps_with_readiness_terms == 5
    assert plain.simulated.steps_with_readiness_terms == 0
    assert 1.1 < run.row_passes / plain.row_passes <= 1.25
    assert run.record()["meta_budget"] == 0.25 and run.card_info()["settings"]["meta_budget"] == 0.25


@pytest.mark.parametrize("options", [
    {"request_rows": 3, "meta_rows": 0.5}, {"request_rows": 0},
    {"meta_gradient": "finite_difference", "inner_steps": 2},
    {"resistance": "relearn", "lambda_resistance": 0.1}, {"request_rows": 12, "per_device_train_batch_size": 4},
], ids=str)  # fmt: skip
def test_what_a_request_costs_is_known_before_it_is_made(tmp_path, soon, options):
    run = train(tmp_path, lm(), max_steps=20, meta_budget=3.0, **{**PACED, **options})
    turns, rows = run.simulated.steps_with_readiness_terms, run.args.per_device_train_batch_size
    assert turns > 2
    added = (run.row_passes - 20 * rows) / turns / rows
    assert added <= run.simulated.pace.rule.turn_cost + 1e-6 <= 1.35 * added


def test_a_model_that_has_not_learned_sees_no_request_and_says_so(tmp_path, caplog):
    run = train(tmp_path, lm(), max_steps=6, meta_budget=1.0, **{**PACED, "learning_rate": 1e-6})
    assert run.simulated.steps_with_readiness_terms == 0 and not run.is_ready
    assert "still falling, or had not begun to" in caplog.text and "Train longer" in caplog.text


def test_a_budget_for_no_request_says_so(tmp_path, soon, caplog):
    train(tmp_path, lm(), max_steps=20, meta_budget=1e-3, **PACED)
    assert "`meta_budget` 0.001 of 20 steps pays for no request" in caplog.text


def test_a_gain_that_never_comes_is_told(tmp_path, soon, caplog):
    train(tmp_path, lm(), max_steps=20, inner_lr=1e-6, **PACED)
    assert "Expect a request to take about as many steps as on a plainly trained model" in caplog.text


def test_a_gain_that_comes_is_not_told(tmp_path, soon, caplog):
    train(tmp_path, lm(), max_steps=20, inner_lr=0.3, gain_cap=0.1, **PACED)
    assert "Expect a request" not in caplog.text


def test_a_rising_loss_makes_the_requests_pause_and_is_told(tmp_path, soon, caplog, monkeypatch):
    monkeypatch.setattr(pacing, "RISE", -0.5)
    run = train(tmp_path, lm(), max_steps=20, meta_budget=2.0, **PACED)
    assert run.record()["pace"]["backed_off"] >= 1
    assert "They pause until it is back" in caplog.text


def test_a_resumed_training_keeps_its_pace_bit_for_bit(tmp_path, soon):
    options = {**PACED, "max_steps": 24, "save_strategy": "steps", "save_steps": 9, "meta_budget": 0.6}
    whole = train(tmp_path / "a", lm(), **options)
    run = ReadyTrainer(lm(), config(tmp_path / "a", **options), lm_rows(16), processing_class=tokenizer())
    run.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-9"))
    assert run.record()["pace"] == whole.record()["pace"] and run.row_passes == whole.row_passes
    assert same_bits(weights(run.model), weights(whole.model))


def test_a_second_training_begins_its_pace_anew(tmp_path, soon):
    run = train(tmp_path, lm(), max_steps=20, **PACED)
    run.train()
    assert run.record()["pace"]["step"] == 20


def test_its_beginning_is_in_the_log(tmp_path, soon, caplog):
    caplog.set_level(logging.INFO)
    train(tmp_path, lm(), max_steps=20, **PACED)
    assert "requests are simulated, at most" in caplog.text


@pytest.mark.parametrize("options, said", [
    ({"meta_start": "late"}, '`meta_start` is .late.; it must be "auto" or a share of the steps'),
    ({"meta_start": "1.5"}, "`meta_start` is 1.5"), ({"meta_start": True}, "`meta_start`"),
    ({"meta_budget": 0.0}, "`meta_budget` is 0.0; it must be a finite number above 0"),
    ({"meta_budget": 0.5, "meta_start": 0.5}, "`meta_budget` is 0.5, but nothing reads it"),
    ({"meta_budget": 0.5, "readiness": "replay+meta"}, "`meta_budget` is 0.5, but nothing reads it"),
])  # fmt: skip
def test_wrong_values_are_told(tmp_path, options, said):
    with pytest.raises(ArgumentError, match=said):
        ReadyConfig(str(tmp_path), **{"readiness": "meta", **options})


@pytest.mark.parametrize("start, planned, paced", [("auto", 0.5, True), (0.25, 0.25, False), ("0.25", 0.25, False)])
def test_a_number_takes_requests_from_that_share_of_the_steps_on(tmp_path, start, planned, paced):
    args = ReadyConfig(str(tmp_path), readiness="meta", meta_start=start)
    assert (args.planned_start, args.is_paced) == (planned, paced)
    assert not ReadyConfig(str(tmp_path), readiness="replay+meta", meta_start=start).is_paced
