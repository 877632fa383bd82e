"""The quickstart, two steps of everything."""

from __future__ import annotations

import re

import pytest
import transformers
from helpers.recipes import strict_json

from hf_unlearn.cli.arguments import ROLES
from recipes import quickstart


@pytest.mark.slow
def test_quickstart_in_a_smoke_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transformers.logging, "set_verbosity_error", lambda: None)
    quickstart.main(["--output-dir", str(tmp_path), "--smoke"])
    out = capsys.readouterr().out
    assert "What readiness bought" in out
    table = out.partition("What readiness bought")[2]
    for task in quickstart.TASKS:
        assert len(re.findall(rf"^{task} .*(original|ready) +2 ", table, re.M)) == 2, table
    card = strict_json(tmp_path / "scorecard.json")
    roles = set(ROLES)
    found = {(run["task"], run["model"]) for run in card["runs"]}
    assert found == {(task, role) for task in quickstart.TASKS for role in roles}
    assert len(card["runs"]) == 18
    page = (tmp_path / "report.html").read_text()
    assert all(task in page for task in quickstart.TASKS)
    assert not re.search(r"(src|href)=\"https?:", page)
