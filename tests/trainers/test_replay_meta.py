"""Both kinds of readiness at once: simulated requests are a part of the program that a request replays."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.replays import replayed, trained
from helpers.tiny import same_bits, slow, weights

BOTH = {"readiness": "replay+meta", "request_rows": 3, "inner_lr": 0.05}
RELEARN = {"resistance": "relearn", "lambda_resistance": 0.1}


def rows_of_slice(trainer, k: int) -> list[int]:
    """Ids of the rows of a slice."""
    ends = trainer.plan.order.stable + np.cumsum([0, *trainer.plan.order.slices])
    places = trainer.program.schedule.at[ends[k] : ends[k + 1]]
    return [trainer.train_dataset[int(place)]["id"] for place in places]


@pytest.mark.parametrize(
    "kind, accumulation, options",
    [
        ("language model", 1, {}),
        slow("language model", 2, RELEARN),
        slow("text", 1, {"request_rows": 0, "meta_every": 2}),
        ("text", 2, {"meta_gradient": "finite_difference", "meta_every": 2, "meta_rows": 0.7}),
        slow("batch norm", 1, {"meta_rows": 0.7}),
    ],
)
def test_a_replay_with_simulated_requests_is_the_training_that_never_saw_the_rows(
    tmp_path, kind, accumulation, options
):
    cut = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    cut |= {**BOTH, **options}
    ready = trained(tmp_path / "ready", kind, **cut)
    assert ready.is_ready and ready.simulated.steps_with_readiness_terms > 1
    assert ready.row_passes == pytest.approx(ready.plan.passes(0, ready.plan.holes), abs=1e-3)
    without = trained(tmp_path / "without", kind, deleted=[8, 20], **cut)
    request = replayed(tmp_path / "out", tmp_path / "ready", [8, 20], kind)
    assert request.result.metrics["guarantee"] == "exact"
    assert same_bits(weights(request.model), weights(without.model))
    assert not same_bits(weights(request.model), weights(ready.model))
    assert request.simulated.to_dict() == without.simulated.to_dict()
    passes = request.plan.passes(request.border, request.plan.holes)
    assert request.row_passes == pytest.approx(passes, abs=1e-3) and request.plan.passes_are_exact


def test_a_slice_without_rows_simulates_no_request(tmp_path):
    """Until the second slice begins all that is drawn are holes, and a step without a request is a plain one."""
    ready = trained(tmp_path / "ready", **BOTH)
    gone, borders = rows_of_slice(ready, 0), ready.program.borders
    without = trained(tmp_path / "without", deleted=gone, **BOTH)
    steps = without.plan.order.steps
    assert ready.simulated.steps_with_readiness_terms == steps - borders[0]
    assert without.simulated.steps_with_readiness_terms == steps - borders[1]
    assert without.row_passes == pytest.approx(without.plan.passes(0, without.plan.holes), abs=1e-3)
    request = replayed(tmp_path / "out", tmp_path / "ready", gone)
    assert same_bits(weights(request.model), weights(without.model))


def test_card_and_record_tell_of_both_kinds(tmp_path):
    ready = trained(tmp_path, **BOTH, request='{"learning_rate": 0.001}')
    record, info = ready.record(), ready.card_info()
    assert record["ready"] and "replay" in record and record["request"] == {"learning_rate": 0.001}
    assert "Ready2Unlearn" in record["method"] and "SISA" in record["method"]
    assert (tmp_path / "README.md").read_text().count("the plan's: warm-up, constant, linear decay") == 1
    assert info["kind"] == "replayable" and {"readiness", "inner_lr", "with_readiness_terms"} <= info["settings"].keys()


def test_a_training_without_any_simulated_request_says_so(tmp_path, caplog):
    ready = trained(tmp_path, **BOTH, meta_start=1.0)
    assert ready.is_ready and "not ready for steps on a loss" in caplog.text
