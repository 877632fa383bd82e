"""Exact deletion: a replay ends in the weights of the same training that never saw the rows, bit for bit."""

from __future__ import annotations

import os
import shutil
from functools import cache
from itertools import permutations

import pytest
from helpers.replays import KINDS, replayed, trained
from helpers.tiny import same_bits, slow, weights
from peft import PeftModel

REVOCABLE = [i for i in range(24) if i % 4 == 0]


QUICK = [("language model", 4), *((kind, 1) for kind in KINDS if kind != "language model")]
CUTS = [(kind, n) for kind in KINDS for n in (1, 4) if n == 1 or kind != "batch norm"]


@pytest.mark.parametrize("kind, accumulation", [cut if cut in QUICK else slow(*cut) for cut in CUTS])
def test_a_replay_is_the_training_that_never_saw_the_rows(tmp_path, kind, accumulation):
    cut = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    ready = trained(tmp_path / "ready", kind, **cut)
    assert ready.is_ready
    without = trained(tmp_path / "without", kind, deleted=[8, 20], **cut)
    request = replayed(tmp_path / "out", tmp_path / "ready", [8, 20], kind)
    assert request.result.metrics["guarantee"] == "exact"
    assert request.cost["steps"] == request.plan.order.steps - request.border
    assert same_bits(weights(request.model), weights(without.model))
    assert not same_bits(weights(request.model), weights(ready.model))


@pytest.mark.parametrize(
    "kind, accumulation", [("language model", 1), slow("text", 4), slow("image", 1), slow("sound", 2)]
)
def test_a_replay_of_an_adapter_is_exact_too(tmp_path, kind, accumulation):
    cut = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    trained(tmp_path / "ready", kind, lora=True, **cut)
    without = trained(tmp_path / "without", kind, deleted=[0], lora=True, **cut)
    model = PeftModel.from_pretrained(KINDS[kind][0](), tmp_path / "ready", is_trainable=True)
    request = replayed(
        tmp_path / "out", tmp_path / "ready", [0], kind, model=model, readiness_from=str(tmp_path / "ready")
    )
    assert same_bits(weights(request.model), weights(without.model))


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """`known(*deleted)`: the trainer of the training without these rows, run once. Requests start from a copy of it."""
    return cache(lambda *deleted: trained(tmp_path_factory.mktemp("known"), deleted=deleted))


ORDERS = [*([[one] for one in order] for order in permutations([0, 8, 20])), [[8, 20], [0]], [REVOCABLE]]


@pytest.mark.parametrize("order", [[[0], [0, 8], [20, 0]], *map(slow, ORDERS)], ids=str)
def test_requests_in_a_row_end_where_one_for_all_of_them_ends(tmp_path, known, order):
    source, gone = shutil.copytree(known().args.output_dir, tmp_path / "ready"), []
    for turn, asked in enumerate(order):
        request = replayed(tmp_path / str(turn), source, asked, gone=gone)
        source, gone = tmp_path / str(turn), sorted({*gone, *asked})
        assert same_bits(weights(request.model), weights(known(*gone).model)), (turn, asked)


def test_row_passes_of_a_replay_are_what_its_plan_says(tmp_path):
    for accumulation in (1, 4):
        cut = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
        ready = trained(tmp_path / "ready", **cut)
        order, parts = ready.plan.order, accumulation
        assert ready.row_passes == order.passes(0, ready.plan.holes, parts) == 16 * 4
        request = replayed(tmp_path / "out", tmp_path / "ready", [0, 4, 8])
        assert request.row_passes == order.passes(request.border, request.plan.holes, parts)
        whole = replayed(tmp_path / "all", tmp_path / "ready", REVOCABLE)
        assert whole.row_passes == order.passes(whole.border, whole.plan.holes, parts) < ready.row_passes


def test_a_checkpoint_more_or_another_log_changes_no_bit(tmp_path, known):
    busy = {"logging_strategy": "steps", "logging_steps": 2, "save_strategy": "steps", "save_steps": 5}
    source = shutil.copytree(known().args.output_dir, tmp_path / "ready")
    request = replayed(tmp_path / "out", source, [4], **busy)
    assert same_bits(weights(request.model), weights(known(4).model))
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith("checkpoint-")]
    logged = [line["step"] for line in request.state.log_history if "loss" in line and line["step"] > request.border]
    assert logged == list(range(request.border // 2 * 2 + 2, 17, 2)) and request.state.save_steps == 5  # its own
