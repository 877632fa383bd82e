"""FSDP2: functions and trainers on sharded weights, two ranks over gloo, against one process with whole ones."""

from __future__ import annotations

import pytest
import torch
from helpers import rank_cores, ranks
from helpers.same_runs import assert_same_run, assert_saved, assert_skipped

pytestmark = pytest.mark.slow

ROUNDING = 1e-9  # float64 throughout; a finite difference loses some digits
RUNS = [(name, accumulation) for name, accumulation in ranks.cuts("fsdp2") if "poisoned" not in name]


@pytest.fixture(scope="module")
def two(start, tmp_path_factory):
    return ranks.two("fsdp2", start, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def core():
    return rank_cores.Cores(rank_cores.Tower()).everything()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("terms", rank_cores.TERMS_ON_SHARDS)
@pytest.mark.parametrize("mode", rank_cores.MODES)
def test_the_readiness_gradient_on_shards(two, core, mode, terms, steps):
    grads, parts, _ = core[f"{mode} {terms} {steps}"]
    for rank in two:
        got, got_parts, same = rank["cores"][f"{mode} {terms} {steps}"]
        assert same  # the weights, bit for bit
        assert ranks.apart(got, grads) < ROUNDING
        assert got_parts == pytest.approx(parts, rel=ROUNDING, abs=1e-12)


@pytest.mark.parametrize("gap", ["hinge", "squared"])
def test_nabla_tau_on_shards(two, core, gap):
    wanted = core[f"nabla_tau {gap}"]
    assert max(float(g.norm()) for g in wanted) > 1e-3  # the gate is open
    for rank in two:
        assert ranks.apart(rank["cores"][f"nabla_tau {gap}"], wanted) < ROUNDING


@pytest.mark.parametrize("name", ["readiness", "nabla_tau"])
def test_trajectories_on_shards(two, core, name):
    wanted = core[f"trajectory of {name}"]
    assert all(ranks.apart(rank["cores"][f"trajectory of {name}"], wanted) < ROUNDING for rank in two)


def test_norms_moves_and_sums_on_shards(two, core):
    wanted = core["small parts"]
    for rank in two:
        got = rank["cores"]["small parts"]
        assert got["restored"]
        for name in ("norm", "inner product"):
            assert got[name] == pytest.approx(wanted[name], rel=1e-12)
        for name in ("moved", "twice"):
            assert ranks.apart(got[name], wanted[name]) < 1e-14


def test_weights_left_whole_by_a_pass_without_backward_are_shards_again(two):
    for rank in two:
        assert any(rank["cores"]["whole after a pass"])  # else nothing is shown
        assert not any(rank["cores"]["whole after reshard"])


@pytest.mark.parametrize("name, accumulation", RUNS)
def test_the_trainers_on_shards(one, two, name, accumulation):
    runs = [rank[f"{name} / {accumulation}"] for rank in two]
    assert all(run["engine"] in ("FSDPGPT2LMHeadModel", "FSDPPeftModel") for run in runs)
    assert_same_run(two, name, accumulation, one(name))
    if name.startswith("unlearn"):
        assert all(run["went_back"] == one(name)["went_back"] for run in runs)
        assert all(run["stop_reason"] == one(name)["stop_reason"] for run in runs)
    for run in runs:
        if "saved" in run:
            assert_saved(run)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_nan_on_one_rank_is_skipped_on_both(one, two, accumulation):
    assert_skipped(two, one, accumulation)


def test_what_is_saved_are_the_last_weights(two):
    for rank in two:
        run = rank["unlearn: budget / 1"]
        assert_saved(run)
        assert "model = GPT2LMHeadModel.from_pretrained(name)" in run["loading_code"]


# ---- on a GPU: `pytest -m gpu` ----


@pytest.fixture(scope="module")
def on_gpu(start, tmp_path_factory):
    return ranks.on_gpu(start, tmp_path_factory.mktemp("gpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", ranks.GPU_RUNS)
def test_the_trainers_on_one_gpu(one, on_gpu, name, accumulation):
    """accelerate's own way to FSDP2, world size 1, float64, against one process on the CPU."""
    run = on_gpu[f"{name} / {accumulation}"]
    assert run["engine"].startswith("FSDP")
    assert_same_run([on_gpu] * 2, name, accumulation, one(name))
    if "saved" in run:
        assert_saved(run)
    if name.startswith("unlearn"):
        assert run["stop_reason"] == one(name)["stop_reason"] and run["went_back"] == one(name)["went_back"]
