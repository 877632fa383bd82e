"""The quickstart, two steps of everything."""

from __future__ import annotations

import re

import pytest
import transformers
from helpers.cards import run
from helpers.recipes import strict_json

from hf_unlearn.cli.arguments import ROLES
from hf_unlearn.evaluation import ModelScores, Scorecard
from hf_unlearn.evaluation.gates import Level, Status
from hf_unlearn.evaluation.judge import judge, judge_run
from hf_unlearn.report.words import first_screen
from recipes import quickstart


def test_kept_is_the_same_in_terminal_table_and_report():
    """The lowest share over test and retain rows and model utility, of the retrained model's."""
    measures = {"forget_loss": 4.0, "unseen_loss": 4.0, "test_accuracy": 0.9, "retain_accuracy": 1.0}
    less = {**measures, "test_accuracy": 0.855}  # 95 % of it
    runs = [run(role, **(less if "unlearned" in role else measures)) for role in ROLES]
    for one in runs:
        one["cost"] = {"steps": 3, "row_passes": 9.0, "seconds": 1.0}
    scores = Scorecard([ModelScores(**one) for one in runs])
    assert quickstart.requests_table(scores).count("  95 %  ") == 2
    finding = judge(scores.to_dict())[0]
    assert finding.gates["kept"].numbers["value"] == finding.kept.share == pytest.approx(0.95)
    assert "kept: 95 % of the retrained model's accuracy on test rows" in scores.findings()[0]
    answer, share = first_screen.kept(finding)
    assert answer == "Partly." and share.startswith("95 % of the retrained model's accuracy on test rows")


def test_kept_yes_is_a_passed_gate_and_model_utility_counts_too():
    for share, utility, level, status in (
        (0.979, 1.0, Level.PARTLY, Status.FAILED),
        (0.981, 1.0, Level.YES, Status.PASSED),
        (1.0, 0.97, Level.PARTLY, Status.FAILED),
    ):
        none = {"low": None, "high": None}
        kept = {"test_token_accuracy": 0.9 * share, "model_utility": {"value": 0.6 * utility, **none}}
        theirs = {"test_token_accuracy": 0.9, "model_utility": {"value": 0.6, **none}}
        found = judge_run(run("unlearned", **kept), retrained=run("retrained", **theirs))
        assert (found.kept.level, found.status("kept")) == (level, status)


@pytest.mark.slow
def test_quickstart_in_a_smoke_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.logging, "set_verbosity_error", lambda: None)
    quickstart.main(["--output-dir", str(tmp_path), "--smoke"])
    out = capsys.readouterr().out
    assert out.count("This was a trial run") == len(quickstart.TASKS) and "What the requests cost" not in out
    card = strict_json(tmp_path / "scorecard.json")
    roles = set(ROLES)
    found = {(run["task"], run["model"]) for run in card["runs"]}
    assert found == {(task, role) for task in quickstart.TASKS for role in roles}
    assert len(card["runs"]) == 18
    steps = {(run["model"], run["cost"]["steps"]) for run in card["runs"] if "unlearned" in run["model"]}
    assert steps == {("unlearned", 2), ("ready_unlearned", 1)}  # of a training of two steps the second is replayed
    page = (tmp_path / "report.html").read_text()
    assert all(task in page for task in quickstart.TASKS)
    assert page.count("This was a trial run") == 1 and 'class="badge' not in page and "Told apart" not in page
    assert not re.search(r"(src|href)=\"https?:", page)
