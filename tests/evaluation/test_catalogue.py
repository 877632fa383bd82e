"""The catalogue of measures: what a line brings about, how names are looked up, that all it says holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hf_unlearn.evaluation import catalogue, evaluate, measure
from hf_unlearn.report import tables as report_tables

ROOT = Path(__file__).resolve().parents[2]


def table(losses, first=0):
    n = len(losses)
    columns = {"row": range(n), "nll_sum": losses, "n_labels": [1] * n, "n_correct": [1] * n, "entropy_sum": losses}
    return pa.table({**columns, "row_hash": [str(first + i) for i in range(n)]})


@pytest.fixture
def bits(monkeypatch):
    """A formula and a line in the catalogue: all that a new measure takes."""

    def bits_of(columns):
        return columns["nll_sum"] / columns["n_labels"] / np.log(2)

    line = catalogue.Measure(
        "{split}_bits",
        "Bits per label",
        "Mean over the rows of the loss in bits.",
        unit="bits",
        good="low",
        saw="lower",
        weak={"classifier": ("forget",)},
        over="rows",
        formula=bits_of,
        inputs="losses",
    )
    monkeypatch.setattr(catalogue, "MEASURES", (*catalogue.MEASURES, line))
    return line


def test_a_new_line_is_in_score_card_report_and_faithfulness_study(bits):
    losses = np.log(2) * np.array([1.0, 2.0, 3.0])
    given = {"unlearned": {"forget": table(losses), "retain": table(losses + 1, 5)}}
    card = evaluate(given, resamples=20)
    found = card["unlearned"].measures["forget_bits"]
    assert found["value"] == pytest.approx(2) and found["low"] < 2 < found["high"] and found["n"] == 3
    assert list(evaluate(given, measures=["forget_bits"])["unlearned"].measures) == ["forget_bits"]

    groups = {group["title"]: group for group in report_tables.score_table(card.to_dict(), "task")["groups"]}
    row = next(row for row in groups["Forget rows"]["rows"] if row["name"] == "forget_bits")
    assert (row["label"], row["ideal"], row["weak"]) == ("Bits per label", "as unseen rows", True)
    assert row["explanation"] == bits.explanation and row["cells"][0]["value"] == "2"
    row = next(row for row in groups["Retain rows"]["rows"] if row["name"] == "retain_bits")
    assert (row["ideal"], row["weak"]) == ("low", False)
    assert catalogue.claim("forget_bits") == "lower" and catalogue.claim("retain_bits") is None


def test_every_formula_exists():
    for line in catalogue.MEASURES:
        assert callable(line.function), line.name


def test_every_line_is_found_by_its_names():
    places = {"split": ("retain", "mine"), "score": ("mia_loss", "lira"), "rows": ("retain", "other"), "": ("",)}
    for line in catalogue.MEASURES:
        for place in line.splits or places[line.placeholder]:
            entry = catalogue.find(line.at(place))
            assert entry == (line, place), line.at(place)
            assert "{" not in entry.label


@pytest.mark.parametrize(
    ("name", "pattern", "place"),
    [
        ("forget_mia_loss_accuracy", "forget_{score}_accuracy", "mia_loss"),
        ("forget_int8_accuracy", "{split}_accuracy", "forget_int8"),
        ("retain_token_accuracy", "{split}_token_accuracy", "retain"),
        ("forget_mia_min_k_plus_plus_auc_gap", "forget_{score}_auc_gap", "mia_min_k_plus_plus"),
        ("forget_lira_auc", "forget_{score}_auc", "lira"),
        ("forget_quality", "forget_quality", ""),
        ("weights_to_retrained", "weights_to_retrained", ""),
        ("recovery_real_area", "recovery_{rows}_area", "real"),
    ],
)
def test_names_are_looked_up_by_what_they_spell_out(name, pattern, place):
    entry = catalogue.find(name)
    assert (entry.measure.name, entry.place) == (pattern, place)


def test_a_name_without_a_line_is_not_found():
    assert catalogue.find("whatever") is None and catalogue.claim("whatever") is None
    assert not catalogue.is_weak("whatever", "classifier")


def test_other_formulas_for_some_splits_are_lines_of_their_own():
    assert catalogue.find("forget_truth_ratio").measure.metric == "forget_truth_ratio"
    assert catalogue.find("retain_truth_ratio").measure.metric == ""
    assert catalogue.find("real_authors_prob").measure.metric == "choice_prob"
    names = [m.name for m in catalogue.of_split("real_authors", "causal_lm")]
    assert names.count("{split}_prob") == 1


def test_ideals_depend_on_split_and_retrained_model():
    def ideal(name, retrained=False):
        entry = catalogue.find(name)
        return entry.measure.ideal_at(entry.place, retrained)

    assert ideal("forget_loss") == "as unseen rows" and ideal("forget_int4_loss", True) == "as retrained"
    assert ideal("unseen_loss") == ideal("retain_loss") == "low"
    assert ideal("unseen_accuracy") == ideal("test_accuracy") == "high"
    assert ideal("unseen_exact_match") == "" and ideal("weights_to_retrained", True) == "low"
    assert ideal("forget_mia_loss_auc") == "0.5" and ideal("forget_mia_loss_auc", True) == "as retrained"
    assert ideal("forget_quality", True) == "high" and ideal("recovery_real_area", True) == "1 or more"


def test_a_line_that_cannot_be_is_refused(monkeypatch):
    monkeypatch.setattr(catalogue, "MEASURES", catalogue.MEASURES)  # puts it back
    with pytest.raises(ValueError, match="`section` is 'nowhere'.*`over` is 'x'"):
        catalogue.Measure("a", "A", "", section="nowhere", over="x")
    with pytest.raises(ValueError, match="has a measure '{split}_loss' already"):
        catalogue.add(catalogue.MEASURES[0])
    line = catalogue.add(catalogue.Measure("mine", "Mine", "", section=catalogue.OTHER))
    assert catalogue.find("mine").measure is line


def test_measures_of_saved_tables_follow_the_catalogue():
    found = measure({"forget": table([1.0, 2.0]), "unseen": table([1.0, 2.0], 7)}, resamples=5)
    for name in found:
        assert catalogue.find(name).measure.made_by == "measure"


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import hf_unlearn.evaluation.catalogue, hf_unlearn.evaluation.attacks.registry as r, sys; r.attack_names();"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
