"""The registry of attacks: an attack is one file, found by its folder or added by `register`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn.cli import arguments, attack_checks
from hf_unlearn.cli import evaluate as verb
from hf_unlearn.evaluation import (
    Attack,
    Attempt,
    AttemptRule,
    Gate,
    GateRule,
    Status,
    attack_names,
    catalogue,
    evaluate,
    judge,
    register,
)
from hf_unlearn.evaluation.attacks import registry
from hf_unlearn.evaluation.attacks.generate import GenerateOptions
from hf_unlearn.evaluation.gate_rules import gate_names
from hf_unlearn.evaluation.gates import Level, status_of
from hf_unlearn.evaluation.run_measures import value_of
from hf_unlearn.report.words import first_screen, gates, names


@dataclass(frozen=True)
class Options:
    above: float = field(default=0.05, metadata={"help": "what counts as large.", "flag": 0.1})


@pytest.fixture
def count_weights(monkeypatch):
    """An attack from outside of the package, as one file would hold it."""
    monkeypatch.setattr(registry, "ADDED", {})
    monkeypatch.setattr(catalogue, "MEASURES", catalogue.MEASURES)
    catalogue.add(catalogue.Measure("weights_large", "Large weights", "How many.", section=catalogue.WEIGHTS))

    def run(subject, options):
        large = sum(int((p.abs() > options.above).sum()) for p in subject.model.parameters())
        subject.seen.details["large"] = {"weights": large, "rows": len(subject.splits["forget"])}
        subject.seen.tables["forget_again"] = subject.table_of("forget", "again")

    def measures(seen, retrained):
        if "large" not in seen.details:
            return {}
        return {"weights_large": {"value": seen.details["large"]["weights"], "low": None, "high": None, "n": 1}}

    def judge(sides):
        large = value_of(sides.mine, "weights_large")
        return Gate("small_weights", status_of(None if large is None else large == 0), numbers={"value": large or 0})

    def attempt(run, sides):
        large = value_of(sides.mine, "weights_large")
        return None if large is None else Attempt("counting", large > 0, {"value": large})

    return register(
        Attack(
            "count_weights",
            "count the large weights",
            run,
            measures,
            gate=GateRule("small_weights", judge, title="Only small weights", against="large weights are left"),
            attempt=AttemptRule("counting", "counting weights", attempt, clause="see large weights"),
            options=Options,
        )
    )


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


def test_the_gate_and_the_attempt_of_a_registered_attack_are_judged_and_have_words(count_weights, splits):
    how = {"processing_class": tokenizer(), "resamples": 5, "attacks": ["count_weights"]}
    card = evaluate(lm(), splits, **how)
    (found,) = judge.judge(card.to_dict())
    assert found.status("small_weights") is Status.FAILED and "small_weights" in gate_names()
    assert card.failed_gates(["small_weights"]) and names.gate_title("small_weights") == "Only small weights"
    assert gates.gate_text(found.gates["small_weights"]).startswith("Value ")
    said = first_screen.attacker(found.attacker)
    assert "see large weights" in said["lead"]
    assert any(point.startswith("Counting weights: value ") for point in said["points"])
    untried = first_screen.attacker(judge.judge(evaluate(lm(), splits, **{**how, "attacks": ()}).to_dict())[0].attacker)
    assert "counting weights" in untried["points"][-1]
    ghost = replace(found.forgotten, level=Level.YES, against=("small_weights",))
    assert "Against it: large weights are left." in first_screen.forgotten(replace(found, forgotten=ghost))


def test_options_of_an_attack_are_given_by_name_and_checked_before_a_model_runs(count_weights, splits):
    how = {"processing_class": tokenizer(), "resamples": 5, "attacks": ["count_weights"]}
    few, many = (
        evaluate(lm(), splits, attack_options={"count_weights": {"above": above}}, **how)["unlearned"]
        for above in (0.05, 0.001)
    )
    assert 0 < few.measures["weights_large"]["value"] < many.measures["weights_large"]["value"]
    wrong = {"count_weights": {"below": 1}, "guess": {}, "relearn": {"steps": 0}}
    with pytest.raises(ValueError) as error:
        evaluate(lm(), splits, attack_options=wrong, **{**how, "attacks": ["count_weights", "relearn"]})
    for said in (
        "attack 'count_weights' has no option 'below': it has above.",
        "`attack_options` names 'guess': expected some of ",
        "options of the attack 'relearn': `steps` is 0: expected an integer of at least 1.",
    ):
        assert said in str(error.value)


def test_the_options_with_a_flag_are_flags(count_weights):
    assert ("count_weights", "above", float) in [(name, one.name, kind) for name, one, kind in arguments.attack_flags()]
    flags = {f"{attack}_{option.name}": option.metadata["flag"] for attack, option, _ in arguments.attack_flags()}
    own = arguments.EvaluateArguments(relearn_steps=7)
    assert own.relearn_learning_rate == flags["relearn_learning_rate"] == 1e-3
    registry.ADDED.clear()
    found = own.attack_options()
    assert found["generate"] == {"rows": 100} and found["relearn"] == {"steps": 7, "learning_rate": 1e-3}


def told(own):
    """What the verb finds wrong with its flags, but for the place of the model."""
    own = replace(own, models=["unlearned=somewhere"])
    problems = map(str, verb.flag_problems(own, arguments.DataArguments(), arguments.ModelArguments()))
    return [problem for problem in problems if "somewhere" not in problem and "--data" not in problem]


def test_a_registered_attack_is_accepted_on_the_command_line(count_weights):
    assert "count_weights" in attack_names() and "count_weights" in arguments.EvaluateArguments().attacks
    own = arguments.EvaluateArguments(attacks=["count_weights", "guess"])
    assert told(own) == [f"`--attacks` is guess; expected some of none, {', '.join(attack_names())}."]


def test_each_wrong_option_of_an_attack_is_told_under_its_flag_beside_the_other_flags():
    own = arguments.EvaluateArguments(
        generate_rows=0,
        relearn_steps=-1,
        relearn_learning_rate=float("nan"),
        shadows=3,
        attacks=["generate", "relearn"],
    )
    assert told(own) == [
        "`--shadows` is 3; expected 0 or an even number from 4.",
        "`--generate_rows` is 0: expected an integer of at least 1.",
        "`--relearn_steps` is -1: expected an integer of at least 1.",
        "`--relearn_learning_rate` is nan: expected a finite number above 0.",
    ]
    assert not told(replace(own, attacks=["none"], shadows=0))


def test_options_that_an_attack_refuses_together_are_one_problem(count_weights):
    @dataclass
    class Between:
        low: int = field(default=1, metadata={"help": "", "flag": 1})
        high: int = field(default=9, metadata={"help": "", "flag": 9})

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("`low` must not be above `high`.")

    registry.ADDED.clear()
    register(Attack("between", "", print, options=Between))
    own = SimpleNamespace(attacks=["between"], attack_options=lambda: {"between": {"low": 5, "high": 4}}, given={})
    assert attack_checks.attack_problems(own) == ["`--between_low` must not be above `--between_high`."]


def test_options_of_an_attack_may_be_integers_of_numpy():
    given = {"steps": np.int64(3), "seed": np.uint8(1), "k": np.int32(2), "learning_rate": np.float32(0.1)}
    found = {attack.name: attack for attack in registry.attacks()}["relearn"].options_of(given)
    assert (found.steps, found.k, GenerateOptions(rows=np.int64(5)).rows) == (3, 2, 5)


def test_a_name_can_be_registered_once(count_weights):
    with pytest.raises(ValueError, match="'count_weights' and a gate 'small_weights' and an attempt 'counting'"):
        register(count_weights)
    with pytest.raises(ValueError, match="there is an attack 'relearn' already"):
        register(Attack("relearn", "", print))
    with pytest.raises(ValueError, match="there is a gate 'kept' already"):
        register(Attack("race", "", print, gate=GateRule("kept", print)))
    with pytest.raises(ValueError, match="there is an attempt 'membership' already"):
        register(Attack("race", "", print, attempt=AttemptRule("membership", "", print)))
    assert "race" not in attack_names()


def test_attacks_are_found_by_their_files_and_those_that_train_run_last():
    files = {path.stem for path in Path(registry.__file__).parent.glob("*.py")} - set(registry.NO_ATTACKS)
    assert set(attack_names()) == files >= {"generate", "quantise", "relearn", "weights"}
    order = [attack.name for attack in registry.attacks()]
    assert order.index("quantise") < order.index("weights") < order.index("relearn") == len(order) - 1
    for attack in registry.attacks():
        assert attack.help and (attack.gate is None or attack.gate.name in gate_names())
    made = {line.made_by for line in catalogue.MEASURES} - {"measure", "compare", "before", "benchmark"}
    assert made <= set(attack_names())


def test_an_unknown_attack_is_named_with_those_that_exist(splits):
    with pytest.raises(ValueError, match="unknown attack 'guess' in `attacks`: expected some of generate, "):
        evaluate(lm(), splits, attacks=["guess"], processing_class=tokenizer())
