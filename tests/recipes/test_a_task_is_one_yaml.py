"""To add a task is to write one YAML: it is trained, unlearned and measured, from any folder."""

from __future__ import annotations

from pathlib import Path

from helpers.recipes import SMALL, strict_json

from hf_unlearn import Scorecard
from hf_unlearn.cli.main import main

TASK = f"""\
# hf-unlearn ready --config mine.yaml   (then unlearn, evaluate)
dataset_name: digits
task: image_classification
limit: 160
test_fraction: 0.2
forget_by: class
forget_values: "7"
model_type: vit
config_overrides: {SMALL},patch_size=4
output_dir: mine
ready.max_steps: 2
ready.meta_start: 0
ready.use_cpu: true
unlearn.max_steps: 2
unlearn.use_cpu: true
unlearn.target: chance
evaluate.attacks: none
"""


def test_a_yaml_of_one_s_own_is_a_task_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))
    for verb in ("ready", "unlearn", "evaluate"):
        assert main([verb, "--config", "mine.yaml"]) == 0
    assert strict_json(tmp_path / "mine/ready/readiness.json")["steps"]["all"] == 2
    assert strict_json(tmp_path / "mine/ready_unlearned/unlearning.json")["cost"]["steps"] <= 2
    card = strict_json(tmp_path / "mine/scorecard.json")
    assert [run["model"] for run in card["runs"]] == ["ready", "ready_unlearned"]
    assert card["provenance"]["mine"]["commands"] == ["hf-unlearn evaluate --config mine.yaml"]
    assert (tmp_path / "mine/report.html").is_file()
