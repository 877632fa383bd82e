"""The study of what simulated requests cost and save: its cells, its arms, its table."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from recipes.study import readiness


def cell(arm: str, passes: float, test: float, steps: int, forgotten=(3, 96.0)) -> dict:
    before = {"forget": [0.1, 0.9], "retain": [0.1, 1.0], "test": [0.3, test]}
    after = {**before, "forget": [2.5, 0.0]}
    asked = [{"learning_rate": 1e-3, "forgotten": forgotten, "done": None, "last": []}]
    own = {"steps": steps, "row_passes": 64.0, "stop_reason": "reached", "tau": 2.6, "kept": 0.98, "after": after}
    found = {"schema": readiness.SCHEMA, "task": "people", "arm": arm, "seed": 0, "smoke": False, "before": before}
    return {**found, "training": {"row_passes": passes}, "default": own, "asked": asked}


def test_a_line_says_what_a_model_costs_against_the_plain_one_and_what_it_saves():
    cells = [cell("ready", 1250.0, 0.87, 10), cell("plain", 1000.0, 0.88, 64), cell("--meta_every 2", 1500.0, 0.8, 9)]
    head, _, plain, ready, flags = readiness.table(cells).splitlines()
    assert head.startswith("| task | arm | seed | training, × |")
    assert plain.startswith("| people | plain | 0 | 1.00 | +0.0 | +0.0 | 64 |")
    line = "| people | ready | 0 | 1.25 | -1.0 | +0.0 | 10 | reached | 2.50 (2.60) | 0.980 | 3 at 0.001 | never |"
    assert ready == line
    assert flags.startswith("| people | --meta_every 2 | 0 | 1.50 | -8.0 |")


def test_flags_are_an_arm_and_have_a_file_of_their_own(tmp_path):
    arm = "--meta_start 0.5 --meta_every 4"
    words = readiness.words_of("people", arm, 0, tmp_path, None, False)
    assert words[-6:] == ["--ready.readiness", "meta", "--meta_start", "0.5", "--meta_every", "4"]
    assert readiness.words_of("people", "ready", 0, tmp_path, None, False) == words[:-4]
    paths = {readiness.cell_path(tmp_path, "people", one, 0) for one in ("plain", "ready", arm, arm.replace("4", "2"))}
    assert len(paths) == 4
    assert readiness.protected(["--arms", arm, "--seeds", "0"]) == ["--arms", f" {arm}", "--seeds", "0"]


def test_a_few_authors_are_taken_out_of_tofu(tmp_path):
    lines = [json.dumps({"question": f"q{i}", "answer": f"a{i}"}) for i in range(20 * readiness.AUTHORS)]
    os.makedirs(tmp_path / "data/tofu")
    (tmp_path / "data/tofu/full.jsonl").write_text("\n".join(lines))
    words = readiness.words_of("SmolLM2, two authors", "ready", 0, tmp_path / "out", str(tmp_path / "data"), False)
    rows = [json.loads(line) for line in Path(words[words.index("--data_files") + 1]).read_text().splitlines()]
    assert len(rows) == readiness.AUTHORS * readiness.ROWS_EACH
    assert rows[readiness.ROWS_EACH] == {"author": 1, "question": "q20", "answer": "a20"}


def test_a_study_that_was_killed_goes_on_and_publishes_over_the_same_cells(tmp_path, monkeypatch, capsys):
    made, results = [], tmp_path / "results.json"
    results.write_text(json.dumps({"schema": 1, "cells": [cell("plain", 9.0, 0.1, 1), cell("--old", 9.0, 0.1, 1)]}))
    monkeypatch.setattr(readiness, "RESULTS", results)

    def measure(name, arm, seed, *rest):
        made.append(arm)
        return cell(arm, 1000.0 if arm == "plain" else 1250.0, 0.88, 5)

    monkeypatch.setattr(readiness, "measure", measure)
    for words in (["--task", "people", "--arms", "plain"], ["--task", "people", "--table", "--publish"]):
        readiness.main([*words, "--output_dir", str(tmp_path / "out")])
    assert made == ["plain", "ready"] and "| people | ready | 0 | 1.25 |" in capsys.readouterr().out
    found = {one["arm"]: one for one in json.loads(results.read_text())["cells"]}
    assert set(found) == {"plain", "ready", "--old"} and found["plain"]["default"]["steps"] == 5


@pytest.mark.parametrize("words, said", [
    (["--task", "penguins"], "no task or arm is called penguins"), (["--seeds", "0"], "name a --task"),
    (["--task", "people", "--arms", "best"], "no task or arm is called best"),
])  # fmt: skip
def test_wrong_words_are_told(words, said, capsys):
    with pytest.raises(SystemExit):
        readiness.main(words)
    assert said in capsys.readouterr().err
