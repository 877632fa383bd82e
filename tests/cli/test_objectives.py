"""The verb that lists the objectives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hf_unlearn.cli.main import main
from hf_unlearn.objectives.registry import OBJECTIVES, option_fields


def test_each_objective_is_listed_with_formula_source_needs_bound_and_cost(capsys):
    assert main(["objectives"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == list(OBJECTIVES)
    for block, cls in zip(blocks, OBJECTIVES.values(), strict=True):
        text = " ".join(block.split())
        for said in (cls.formula, cls.citation, cls.bound, "needs", "cost", "for"):
            assert " ".join(said.split()) in text
        assert max(map(len, block.split("\n"))) <= 100 and len(block.split("\n")) < 14


def test_one_by_name_has_its_options_and_its_cost(capsys):
    assert main(["objectives", "idk_dpo", "rmu", "ssd", "scrub"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in option_fields(OBJECTIVES["idk_dpo"]):
        assert f"--{field.name} {field.default}" in text
    for said in ("3 row passes a forget row and step (forget and retain row, and the other answer)",
                 "2 row passes a forget row and step (forget and retain row) of the layers up to that one",
                 "no steps: forward and backward of each forget and retain row, once",
                 "1 row pass a forget row and step (by turns)"):  # fmt: skip
        assert said in text


def test_a_name_that_is_none_is_told_with_a_hint(capsys):
    with pytest.raises(SystemExit) as left:
        main(["objectives", "simpno"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "hf-unlearn objectives: there is no objective 'simpno'. Did you mean 'simnpo'?\n"


def test_the_list_answers_without_torch():
    code = "import sys; from hf_unlearn.cli.main import main; main(['objectives']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
