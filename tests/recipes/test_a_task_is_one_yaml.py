"""To add a task is to write one YAML: it is trained, unlearned and measured, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.recipes import SMALL, problems_of, refusal, strict_json

from hf_unlearn import Scorecard
from hf_unlearn.cli import evaluate
from hf_unlearn.cli.main import main
from hf_unlearn.trainers.loading import load_model

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
ready.warmup_steps: 0
ready.use_cpu: true
unlearn.max_steps: 2
unlearn.use_cpu: true
unlearn.target: chance
evaluate.attacks: none
"""


@pytest.fixture(autouse=True)
def small_reports(monkeypatch):
    monkeypatch.setattr(Scorecard, "to_html", lambda self, path: Path(path).write_text("<!doctype html>"))


def test_a_yaml_of_one_s_own_is_a_task_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    for verb in ("ready", "unlearn", "evaluate"):
        assert main([verb, "--config", "mine.yaml"]) == 0
    assert strict_json(tmp_path / "mine/ready/readiness.json")["steps"]["all"] == 2
    assert strict_json(tmp_path / "mine/ready_unlearned/unlearning.json")["cost"]["steps"] <= 2
    card = strict_json(tmp_path / "mine/scorecard.json")
    assert [run["model"] for run in card["runs"]] == ["ready", "ready_unlearned"]
    assert card["provenance"]["mine"]["commands"] == ["hf-unlearn evaluate --config mine.yaml"]
    assert (tmp_path / "mine/report.html").is_file()


def test_a_copy_of_a_retrained_classifier_passes_the_gates_that_can_be_passed_and_the_others_are_refused(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "mine.yaml").write_text(TASK.replace("limit: 160", "limit: 80").replace("max_steps: 2", "max_steps: 1"))
    monkeypatch.chdir(tmp_path)
    main(["ready", "--config", "mine.yaml", "--role", "retrained"])
    copy = load_model("mine/retrained")
    with torch.no_grad():
        next(copy.parameters()).view(-1)[0] += 1e-6  # other weights, the same answers
    copy.save_pretrained("mine/unlearned")
    argv = ["--config", "mine.yaml"]
    assert evaluate.main([*argv, "--fail_on", "kept", "over_forgetting"]) == 0
    assert "All gates passed: kept, over_forgetting." in capsys.readouterr().out
    others = ["verdict", "forget_quality", "auc_gap", "extraction", "recovery", "quantisation"]
    for gates in (others[:1], others):
        (told,) = problems_of(refusal(evaluate.main, [*argv, "--fail_on", "kept", *gates], monkeypatch))
        assert f"`fail_on` is {', '.join(gates)}" in told and "image_classification" in told
        assert "can be passed: kept, over_forgetting." in told
