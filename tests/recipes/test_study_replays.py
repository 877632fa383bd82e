"""The study of replays: what it runs, what is asked of a model, and its tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recipes.study import replay_tables, replays
from recipes.study.replays import AGAIN, ARMS, PLAIN, REPLAY, RETRAINED


def test_all_tails_are_tried_on_two_tasks_and_what_others_are_measured_against_comes_first():
    assert replays.arms_of("tofu", None) == [PLAIN, RETRAINED, AGAIN, REPLAY, replays.BOTH]
    assert set(ARMS) == set(replays.arms_of("people", None))
    assert replays.arms_of("digits", ["tail 2"]) == [PLAIN, "tail 2"]


def test_any_order_is_an_arm_by_its_name():
    assert replays.arms_of("digits", ["often .8 full .5 early"]) == [PLAIN, "often .8 full .5 early"]
    arm = replays.arm_of("often .8 full .5 early")
    assert (arm.often, arm.full, arm.early, arm.is_default) == (0.8, 0.5, True, False)
    assert replays.arm_of("often 1 full .25").early is None and not replays.is_arm("often full")
    assert replays.arm_of("often 1 full .25 late").early is False and all(
        replays.arm_of(name) == arm for name, arm in ARMS.items() if replays.ORDER.fullmatch(name)
    )
    assert ARMS[REPLAY].is_default and ARMS[replays.BOTH].is_default and not ARMS[replays.OFTEN].is_default


@pytest.mark.parametrize(("early", "step"), [(True, 60), (False, 80)])
def test_a_decay_begins_a_tails_length_before_the_tail_or_at_its_start_and_leaves_no_trace(early, step):
    from hf_unlearn.data.replay_order import ReplayOrder
    from hf_unlearn.readiness import replay

    order, plain = ReplayOrder(90, (10,), 10, 100, 80, seed=0), replay.falls_from
    with replays.decay(early):
        assert replay.falls_from(order) == step
    assert replay.falls_from is plain


class Plan:
    """Numbers 10, 11, … in the order of the ids given."""

    key = "salt"

    def __init__(self, ids):
        self.ids = ids

    def numbers_of_ids(self, ids, key):
        return np.array([10 + self.ids.index(i) for i in ids])


@pytest.mark.parametrize(
    ("groups", "one", "half"),
    [(["a", "a", "b", "b", "c", "c", "d", "d"], ["4", "5"], 4), (["a"] * 8, ["4"], 4)],
)
def test_one_group_of_the_middle_half_of_them_and_all_are_asked_for(groups, one, half):
    rows = {"id": [str(i) for i in range(8)], "person": groups}
    found = replays.asked_ids(rows, Plan(rows["id"]), "person", seed=0)
    assert found["one"] == one and len(found["half"]) == half and found["all"] == rows["id"]
    assert found["half"] == replays.asked_ids(rows, Plan(rows["id"]), "person", seed=0)["half"]


def cells(root):
    """Three seeds of a task, made up."""
    curve = {kind: [0.0, 1.0, 2.0] for kind in replay_tables.FINE_TUNED_ON}
    before = {"forget": [0.1, 0.9], "retain": [0.1, 1.0], "unseen": [2.0, 0.0]}
    judged = {"replayed": {"verdict": "not told apart"}, AGAIN: {"verdict": "told apart"}}
    for seed in range(3):
        for arm in (PLAIN, RETRAINED, AGAIN, REPLAY, "tail 2"):
            cell = {"schema": replays.SCHEMA, "task": "people", "arm": arm, "seed": seed, "smoke": False}
            cell["training"] = {"row_passes": 1000.0, "seconds": 10.0, "snapshot_seconds": 0.1, "snapshots": 1}
            cell |= {"before": {**before, "retain": [0.1, 0.98 if ARMS[arm].readiness else 1.0]}, "membership": 0.5}
            if arm in (RETRAINED, AGAIN):
                cell |= {"recovery": curve, "before": {**before, "forget": [2.0, 0.0]}}
            if ARMS[arm].readiness:
                cell["plan"] = {"crowd": 0.25, "expected": 0.1, "snapshot_bytes": 30, "model_bytes": 10}
            if arm == REPLAY:
                after = {"asked": [2.0, 0.0], "retain": [0.1, 1.0], "others": [0.1, 0.9]}
                asked = {"share_of_retraining": 0.1 * (1 + seed), "after": after, "membership": 0.5}
                requests = [{"what": what, **asked} for what in ("one", "half")]
                cell["requests"] = [*requests, {"what": "all", **asked, "recovery": curve}]
                cell |= {"equals_training_without": True if seed == 0 else None, "judged": judged}
            path = root / "people" / f"{arm.replace(' ', '_')}-{seed}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(cell))


def test_tables_are_means_over_seeds_with_intervals(tmp_path):
    cells(tmp_path)
    found = replay_tables.gather(tmp_path)
    (head, line), (_, left), (_, *tails) = (
        table(found["tasks"]) for table in (replay_tables.costs, replay_tables.results, replay_tables.tails)
    )
    cost = dict(zip(head, line, strict=True))
    assert cost["training cost, × plain"] == "1 (all alike)" and cost["all"] == "0.2 (−0.0484 to 0.448)"
    assert cost["accuracy before: test or retain rows, points"] == "−2.0 (all alike)"
    assert left[-3:] == ["0 of 3", "3 of 3", "1 of 1"] and [line[1] for line in tails] == [
        "by default",
        "2 × the share",
    ]
    assert "| people |" in replay_tables.markdown(found)


def test_new_cells_take_the_place_of_published_ones_and_the_others_stay(tmp_path):
    cells(tmp_path)
    published = replay_tables.gather(tmp_path)
    kept = json.loads(json.dumps(published))
    kept["tasks"]["people"][PLAIN]["0"]["training"]["row_passes"] = 7
    found = {**published, "tasks": {"people": {PLAIN: {"0": published["tasks"]["people"][PLAIN]["0"]}}}}
    merged = replay_tables.over(kept, found)["tasks"]["people"]
    assert merged[PLAIN]["0"]["training"]["row_passes"] == 1000.0
    assert merged[REPLAY] == kept["tasks"]["people"][REPLAY] and set(merged[PLAIN]) == {"0", "1", "2"}


@pytest.mark.slow
def test_the_study_in_a_smoke_size(tmp_path, capsys):
    replays.main(["--task", "digits", "--seeds", "0", "--arms", REPLAY, "--smoke", "--output_dir", str(tmp_path)])
    cell = json.loads((tmp_path / "digits" / "replay-0.json").read_text())
    assert cell["equals_training_without"] is True
    for request in cell["requests"]:
        assert request["row_passes"] == request["planned"] and request["guarantee"] == "exact"
    assert "4 of 4 cells to do" in capsys.readouterr().out
    replays.main(["--task", "digits", "--seeds", "0", "--arms", REPLAY, "--smoke", "--output_dir", str(tmp_path)])
    assert "0 of 4 cells to do" in capsys.readouterr().out
