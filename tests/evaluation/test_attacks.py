"""The registry of attacks: an attack is one file, found by its folder or added by `register`."""

from __future__ import annotations

import pytest
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn.cli import arguments
from hf_unlearn.cli import evaluate as verb
from hf_unlearn.evaluation import Attack, attack_names, catalogue, evaluate, register
from hf_unlearn.evaluation.attacks import registry
from hf_unlearn.evaluation.gates import gate_names


@pytest.fixture
def count_weights(monkeypatch):
    """An attack from outside of the package, as one file would hold it."""
    monkeypatch.setattr(registry, "ADDED", {})
    monkeypatch.setattr(catalogue, "MEASURES", catalogue.MEASURES)
    catalogue.add(catalogue.Measure("weights_large", "Large weights", "How many.", section=catalogue.WEIGHTS))

    def run(subject):
        large = sum(int((p.abs() > 0.05).sum()) for p in subject.model.parameters())
        subject.seen.details["large"] = {"weights": large, "rows": len(subject.splits["forget"])}
        subject.seen.tables["forget_again"] = subject.table_of("forget", "again")

    def measures(seen, retrained):
        if "large" not in seen.details:
            return {}
        return {"weights_large": {"value": seen.details["large"]["weights"], "low": None, "high": None, "n": 1}}

    return register(Attack("count_weights", "count the large weights", run, measures))


@pytest.fixture(scope="module")
def splits():
    rows = lm_rows(8)
    return {"forget": rows.select(range(4)), "unseen": rows.select(range(4, 8))}


def test_a_registered_attack_runs_and_is_in_the_score_card_and_the_report(count_weights, splits, tmp_path):
    how = {"processing_class": tokenizer(), "resamples": 5}
    card = evaluate({"unlearned": lm(), "original": lm(1)}, splits, attacks=["count_weights"], **how)
    for run in card.runs:
        assert run.measures["weights_large"]["value"] == run.details["large"]["weights"] > 0
        assert run.measures["forget_again_loss"]["value"] == run.measures["forget_loss"]["value"]
    assert "Large weights" in card.to_html(tmp_path / "report.html").read_text()
    plain = evaluate(lm(), splits, **how)["unlearned"]
    assert "weights_large" not in plain.measures and "large" not in plain.details


def test_a_registered_attack_is_accepted_on_the_command_line(count_weights):
    assert "count_weights" in attack_names() and "count_weights" in arguments.EvaluateArguments().attacks
    own = arguments.EvaluateArguments(attacks=["count_weights", "guess"])
    problems = verb.flag_problems(own, {"unlearned": "somewhere"}, {})
    assert problems == [
        "`--attacks` is guess; expected some of none, count_weights, generate, quantise, relearn, weights."
    ]


def test_a_name_can_be_registered_once(count_weights):
    with pytest.raises(ValueError, match="an attack 'count_weights' already"):
        register(count_weights)
    with pytest.raises(ValueError, match="an attack 'relearn' already"):
        register(Attack("relearn", "", print))


def test_attacks_are_found_by_their_files_and_those_that_train_run_last():
    assert attack_names() == ["generate", "quantise", "relearn", "weights"]
    assert [attack.name for attack in registry.attacks()] == ["quantise", "generate", "weights", "relearn"]
    for attack in registry.attacks():
        assert attack.help and (attack.gate is None or attack.gate in gate_names())
    made = {line.made_by for line in catalogue.MEASURES} - {"measure", "compare"}
    assert made <= set(attack_names())


def test_an_unknown_attack_is_named_with_those_that_exist(splits):
    with pytest.raises(ValueError, match="unknown attack 'guess' in `attacks`: expected some of generate, quantise"):
        evaluate(lm(), splits, attacks=["guess"], processing_class=tokenizer())
