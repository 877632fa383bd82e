"""Data parallelism: two processes over gloo take the steps that one takes, whatever the cut into micro-batches."""

from __future__ import annotations

import pytest
import torch
from helpers import ranks
from helpers.same_runs import assert_same_run, assert_saved, assert_skipped
from helpers.tiny import lm_list

from hf_unlearn.data.columns import FLAG
from hf_unlearn.readiness.step_rows import ReadyStep

READY, UNLEARN = ranks.ready_runs(), ranks.unlearn_runs()
CUTS = ranks.cuts("ddp")


@pytest.fixture(scope="module")
def two(start, tmp_path_factory):
    return ranks.two("ddp", start, tmp_path_factory.mktemp("two"))


@pytest.mark.slow
@pytest.mark.parametrize("name, accumulation", [cut for cut in CUTS if cut[0].startswith("gradient: ")])
def test_a_steps_gradient_is_that_of_one_process(one, two, name, accumulation):
    assert_same_run(two, name, accumulation, one(name))


@pytest.mark.slow
@pytest.mark.parametrize("name, accumulation", [cut for cut in CUTS if cut[0].startswith("ready: ")])
def test_training_on_two_processes_ends_in_the_weights_of_one_process(one, two, name, accumulation):
    assert_same_run(two, name, accumulation, one(name))


@pytest.mark.slow
@pytest.mark.parametrize("name, accumulation", [cut for cut in CUTS if cut[0].startswith("unlearn: ")])
def test_a_request_on_two_processes_ends_in_the_weights_of_one_process(one, two, name, accumulation):
    wanted = one(name)
    assert_same_run(two, name, accumulation, wanted)
    for rank in two:
        run = rank[f"{name} / {accumulation}"]
        assert run["stop_reason"] == wanted["stop_reason"] and run["went_back"] == wanted["went_back"]


@pytest.mark.slow
def test_the_compared_requests_close_their_gates_and_stop_for_different_reasons(one):
    """The hinge closes on the way, one run ends at the target after a way back, one at the budget."""
    lines = [line for line in one("unlearn: hinge")["logs"] if "forget_loss" in line]
    assert lines[0]["forget_loss"] < 0.2 and len(lines) == 10
    assert any(line["forget_loss"] > line["tau"] for line in lines)
    looked = one("unlearn: gate every 3")["looked"]
    assert looked[0] and 3 < sum(looked) < 10  # shut on a part of the way
    seen = ["recovered_loss" in line for line in one("unlearn: resistance, gate")["logs"] if "loss" in line]
    assert all(seen[:4]) and 4 < sum(seen) < 18  # its gate is shut on a part of the way
    assert one("unlearn: target")["stop_reason"] == "forget_loss_reached_target"
    assert one("unlearn: target")["went_back"]
    assert one("unlearn: budget")["stop_reason"] == "retain_budget_spent"
    assert ranks.apart(one("ready: first_order")["weights"], one("ready: finite_difference")["weights"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_what_is_nan_on_one_rank_is_skipped_on_both(one, two, accumulation):
    assert_skipped(two, one, accumulation)


@pytest.mark.slow
def test_what_is_saved_are_the_last_weights(two):
    for rank in two:
        run = rank["unlearn: budget / 2"]
        assert_saved(run)
        assert "model = GPT2LMHeadModel.from_pretrained(name)" in run["loading_code"]


@pytest.mark.slow
def test_double_backward_is_refused_on_two_processes(two):
    assert all("silently wrong under data parallelism" in rank["exact"] for rank in two)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [8])  # of two micro-batches are the runs on two processes
@pytest.mark.parametrize("name", [
    *(f"ready: {name}" for name in READY if "poisoned" not in name), *(f"unlearn: {name}" for name in UNLEARN)
])  # fmt: skip
def test_on_one_process_the_cut_into_micro_batches_does_not_matter(start, one, name, accumulation, tmp_path):
    """2 × 4 and 8 × 1 rows of 4 to 23 tokens are 1 × 8."""
    run = ranks.everything()[name](tmp_path, 1, accumulation, start)
    assert_same_run([{f"{name} / 1": run}] * 2, name, 1, one(name))


# ---- which rows play which part, without processes ----


@pytest.mark.parametrize("used", [1.0, 0.6])
@pytest.mark.parametrize("share", [None, 0.4])
@pytest.mark.parametrize("world, sizes", [
    (1, [[5], [5], [5]]),
    (2, [[8, 7]]),
    (2, [[4, 4], [4, 3]]),
    (2, [[4, 4], [4, 1], [1, 1]]),
    (3, [[2, 2, 2], [2, 2, 2], [1, 1, 1]]),
])  # fmt: skip
def test_which_part_a_row_plays_depends_on_its_place_in_the_step_and_not_on_the_cut(world, sizes, share, used):
    """Micro-batch by micro-batch, rank by rank; also with uneven batches at the end."""
    rows = lm_list(15, every=3)
    whole = parts([[rows]], 1, share, used)
    sizes_of = {"request": 3, "proxy": 2, "stable": 10} if share is None else {"request": 3, "proxy": 3, "stable": 9}
    sizes_of["kept"] = sizes_of["stable"] if used == 1 else 9 - sizes_of["request"] - sizes_of["proxy"]
    assert {kind: len(ids) for kind, ids in whole.items()} == sizes_of and whole["kept"] <= whole["stable"]
    left = iter(rows)
    cut = [[[next(left) for _ in range(size)] for size in micro] for micro in sizes]
    assert parts(cut, world, share, used) == whole


def parts(cut, world, share, used) -> dict[str, set[int]]:
    """Ids by part, of all ranks; cut[i][r] are the rows of micro-batch i on rank r."""
    sent = []

    def divide(rank, reduce):
        step = ReadyStep([
            {"labels": torch.tensor([row["id"] for row in micro[rank]]),
             FLAG: torch.tensor([row["revocable"] for row in micro[rank]])}
            for micro in cut
        ])  # fmt: skip
        step.divide(share, used, True, world, rank, reduce)
        return step

    for rank in range(world):  # first what each rank sends, then what each makes of the sum
        divide(rank, lambda counts: sent.append(counts) or counts)
    found = {"request": set(), "proxy": set(), "stable": set(), "kept": set()}
    for rank in range(world):
        step = divide(rank, lambda counts: torch.stack(sent).sum(0))
        for batch, masks in zip(step.batches, step.masks, strict=True):
            for kind, mask in masks.items():
                found[kind] |= set(batch["labels"][mask].tolist())
    return found
