"""The study of requests on pretrained models: what is asked for, what counts as reached, and its table."""

from __future__ import annotations

import copy
import json

import numpy as np
from datasets import Dataset

from recipes.study import requests, requests_cells

POOL = Dataset.from_list(
    [{"id": f"r{i}", "author": i // 4, "input_ids": [i, i + 1] if i != 7 else [2, 3]} for i in range(16)]
)
ROW = {
    "task": "TOFU SmolLM2 LoRA", "what": "10 rows", "seed": 0, "steps": 16, "stop_reason": "forget_loss_reached_target",
    "guarantee": "approximate", "row_passes": 800.0, "rows": {"retain": 160},
    "before": {"forget": {"loss": 0.1, "accuracy": 1.0, "quartiles": [0.1, 0.1, 0.1]},
               "retain": {"loss": 0.1, "accuracy": 1.0}, "unseen": {"loss": 2.4, "quartiles": [1.5, 2.1, 2.9]},
               "tofu chat": {"loss": 4.0}, "probes": 6},
    "after": {"forget": {"loss": 2.3, "accuracy": 0.0}, "retain": {"loss": 0.12, "accuracy": 1.0},
              "unseen": {"loss": 2.5, "quartiles": [1.6, 2.2, 3.0]}, "tofu chat": {"loss": 4.04}, "probes": 5},
}  # fmt: skip


def test_what_is_asked_for_is_drawn_by_the_seed_with_its_twins():
    task = requests_cells.TASKS["TOFU SmolLM2 LoRA"]
    whole = requests_cells.chosen(POOL, task, requests_cells.Asked(groups=1), 0, None)
    some = requests_cells.chosen(POOL, task, requests_cells.Asked(groups=1, rows=2), 0, None)
    assert (some <= whole).all() and 2 <= some.sum() <= 3 and 4 <= whole.sum() <= 5
    assert (whole == requests_cells.chosen(POOL, task, requests_cells.Asked(groups=1), 0, None)).all()
    twins = np.array([2, 7])
    for seed in range(8):
        mask = requests_cells.chosen(POOL, task, requests_cells.Asked(rows=3), seed, None)
        assert mask[twins].all() or not mask[twins].any()


def test_a_request_is_near_by_its_loss_and_reached_by_its_reason():
    assert requests.near(ROW) and requests.reached(ROW) == "yes"
    far = copy.deepcopy(ROW)
    far["after"]["forget"]["loss"] = 5.8
    assert not requests.near(far) and requests.near(far | {"retrained": {"forget": {"loss": 5.5}}})
    assert requests.reached(ROW | {"stop_reason": "all_passes_done"}) == "all_passes_done"
    gone = copy.deepcopy(ROW) | {"what": "2 intents"}
    assert requests.near(gone)
    gone["after"]["forget"]["accuracy"] = 0.4
    assert not requests.near(gone)


def test_the_table_has_a_line_a_request_and_says_how_many_reached_their_target():
    other = ROW | {"seed": 1, "stop_reason": "general_budget_spent"}
    text = requests.markdown([ROW, other])
    assert text.count("| TOFU SmolLM2 LoRA |") == 2 and "0.10 → 2.30" in text and "1.04" in text
    other = {"forget": {"loss": 2.5}, "test": {"accuracy": 0.94}, "probes": 4}
    tested = {part: ROW[part] | {"test": {"accuracy": 0.95}} for part in ("before", "after")}
    compared = requests.markdown([ROW | tested | {"retrained": other}])
    assert "2.30 (2.50)" in compared and "0.950 → 0.950 (0.940)" in compared and "6 → 5 (4)" in compared
    assert "6 → 5" in text and "1 of 2 requests by the defaults reached their target; 1 of these" in text
    assert text.endswith("; 0 were that already before the request.")
    little = {**ROW, "before": {**ROW["before"], "forget": {**ROW["before"]["forget"], "loss": 2.0}}}
    assert requests.markdown([little]).endswith("; 1 were that already before the request.")


def test_tokens_are_told_of_language_models_and_the_table_is_of_the_committed_results(tmp_path, capsys):
    seen = {"retain": {"loss": 0.021, "accuracy": 0.9, "token_accuracy": 0.984}}
    assert requests.known(seen | {"probes": 8}) == "0.02, 0.900, 0.984" and requests.known(seen) == "0.02, 0.900"
    requests.main(["--table", "--output_dir", str(tmp_path)])
    assert "| Banking77 MiniLM | 200 rows | 0 |" in capsys.readouterr().out


def test_replayed_and_pushed_requests_are_no_requests_by_the_defaults():
    replayed = ROW | {"what": "2 authors, replayed", "guarantee": "exact"}
    pushed = ROW | {"what": "2 authors, pushed", "stop_reason": "general_budget_spent"}
    text = requests.markdown([replayed, pushed])
    assert "| exact |" in text and "| general_budget_spent |" in text and "0 of 0 requests by the defaults" in text


def test_the_same_request_takes_the_place_of_the_older_one():
    new = ROW | {"steps": 9}
    assert requests.over([ROW, ROW | {"seed": 1}], [new]) == [new, ROW | {"seed": 1}]


def test_what_a_smoke_run_has_made_is_printed_and_not_published(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(requests, "RESULTS", tmp_path / "requests.json")
    (tmp_path / "task").mkdir()
    for seed, smoke in ((0, False), (1, True)):
        one = ROW | {"seed": seed, "smoke": smoke, "schema": requests.SCHEMA}
        (tmp_path / "task" / f"asked_{seed}.json").write_text(json.dumps(one))
    requests.main(["--table", "--output_dir", str(tmp_path)])
    assert "| 10 rows | 1 |" in capsys.readouterr().out
    requests.main(["--table", "--publish", "--output_dir", str(tmp_path)])
    assert [one["seed"] for one in json.loads(requests.RESULTS.read_text())] == [0]


def test_rows_that_say_the_same_in_other_writing_are_asked_for_together():
    pool = Dataset.from_dict({"id": list(range(4)), "text": ["Yes, a card.", "no", "yes a  CARD", "a card"]})
    asked = np.array([True, False, False, False])
    assert requests_cells.with_twins(asked, pool, None).tolist() == [True, False, True, False]


def test_a_request_costs_a_share_of_the_epochs_over_the_rows_that_stay():
    epochs = {name: task.epochs for name, task in requests_cells.TASKS.items()}
    assert (epochs["TOFU SmolLM2 LoRA"], epochs["Banking77 MiniLM"], epochs["Banking77 MiniLM LoRA"]) == (10, 4, 6)
    assert requests.cost(ROW) == 0.5 and "| 16 | 0.50 |" in requests.markdown([ROW])
