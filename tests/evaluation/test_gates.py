import dataclasses

import pytest

from hf_unlearn.evaluation import ModelScores, Scorecard, catalogue, gates
from hf_unlearn.evaluation.attacks import registry
from hf_unlearn.evaluation.attacks.base import Attack
from hf_unlearn.evaluation.gate_rules import VERDICT_GATES, gate_names, gate_rules
from hf_unlearn.evaluation.gates import Status
from hf_unlearn.evaluation.judge import Verdict, judge, judge_run
from hf_unlearn.evaluation.passable import Obstacle, obstacles

PASSED, FAILED, UNDECIDED, NOT_APPLICABLE = Status


def m(value, low=None, high=None, n=100, **more):
    return {"value": value, "low": low, "high": high, "n": n, **more}


def sure(value, width=0.0):
    """A measure whose interval is narrow."""
    return m(value, value - width, value + width)


def quality(p, distance=0.1, detectable=0.2):
    return m(p, distance=distance, detectable=detectable, of="truth ratio")


def gap(value, detectable=0.05):
    return m(value, value - 0.02, value + 0.02, detectable=detectable)


RETRAINED = {
    "measures": {
        "forget_loss": m(2.0),
        "unseen_loss": m(2.1),
        "retain_token_accuracy": sure(0.9),
        "test_token_accuracy": sure(0.8),
        "forget_extraction_strength": sure(0.1),
        "forget_mia_loss_auc": m(0.5, 0.45, 0.55),
        "forget_int4_exact_match": sure(0.0),
    }
}
BEFORE = {
    "measures": {
        "forget_quality": quality(1e-9),
        "forget_mia_loss_auc_gap": gap(0.4),
        "forget_extraction_strength": m(0.9),
    }
}
GOOD = {
    "forget_loss": m(2.05),
    "unseen_loss": m(2.1),
    "retain_token_accuracy": m(0.9),
    "test_token_accuracy": m(0.79),
    "forget_quality": quality(0.5),
    "forget_mia_loss_auc": m(0.51, 0.46, 0.56),
    "forget_mia_loss_auc_gap": gap(0.01),
    "forget_mia_min_k_auc_gap": gap(-0.03),
    "forget_extraction_strength": m(0.12),
    "recovery_retain_area": m(0.95),
    "recovery_real_area": m(1.2),
    "forget_int4_exact_match": m(0.05),
}


def judged(before=BEFORE, retrained=RETRAINED, again=None, **changed):
    measures = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    return judge_run({"measures": measures}, before=before, retrained=retrained, again=again)


def test_all_gates_passed_by_tests_that_can_see_is_indistinguishable():
    found = judged()
    assert found.verdict is Verdict.INDISTINGUISHABLE and found.status("verdict") is PASSED
    assert list(found.gates) == [name for name in gate_names() if name != "verdict"]
    assert all(found.status(name) is PASSED for name in (*VERDICT_GATES, "recovery", "quantisation", "verdict"))
    assert found.gates["forget_quality"].able and found.gates["auc_gap"].able


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({"forget_quality": quality(0.049)}, "forget_quality"),
        ({"forget_mia_min_k_auc_gap": gap(-0.051)}, "auc_gap"),
        ({"forget_mia_zlib_auc_gap": gap(0.051)}, "auc_gap"),
        ({"test_token_accuracy": sure(0.783)}, "kept"),
        ({"retain_token_accuracy": sure(0.881)}, "kept"),
        ({"model_utility": m(0.48)}, "kept"),
        ({"forget_extraction_strength": sure(0.121)}, "extraction"),
    ],
)
def test_one_failed_gate_is_enough(changed, failed):
    retrained = {"measures": {**RETRAINED["measures"], "model_utility": m(0.5)}}
    found = judged(retrained=retrained, **changed)
    assert found.verdict is Verdict.TOLD_APART and found.status("verdict") is FAILED
    assert found.named(FAILED) == [failed]


def test_a_gap_beyond_the_limit_whose_interval_is_not_is_undecided():
    found = judged(forget_mia_zlib_auc_gap=gap(0.045))
    assert found.status("auc_gap") is UNDECIDED and found.verdict is Verdict.NOT_TOLD_APART
    assert found.named(UNDECIDED) == ["auc_gap"]
    assert found.gates["auc_gap"].numbers["score"] == "zlib" and found.gates["auc_gap"].numbers["value"] == 0.045
    both = judged(
        forget_mia_zlib_auc_gap=gap(0.045), forget_mia_min_k_auc_gap=m(-0.04, -0.045, -0.035, detectable=0.01)
    )
    assert both.status("auc_gap") is FAILED and both.gates["auc_gap"].numbers["score"] == "min_k"
    assert both.gates["auc_gap"].numbers["value"] == -0.04  # the one that is certain, though the other is larger
    alone = judged(forget_mia_zlib_auc_gap=m(0.04, detectable=None))  # one row a side: no interval, so no power
    assert alone.status("auc_gap") is UNDECIDED


@pytest.mark.parametrize("name", ["recovery", "quantisation"])
def test_what_an_attacker_needs_more_for_has_gates_of_its_own(name):
    changed = {"recovery_real_area": m(0.8)} if name == "recovery" else {"forget_int4_exact_match": sure(0.06)}
    found = judged(**changed)
    assert found.verdict is Verdict.INDISTINGUISHABLE and found.status(name) is FAILED


def test_over_forgetting_is_called_by_its_name():
    found = judged(forget_loss=m(9.0), forget_mia_loss_auc=m(0.05, 0.01, 0.1))
    assert found.verdict is Verdict.OVER_FORGOTTEN and found.status("verdict") is FAILED
    assert found.status("over_forgetting") is FAILED
    alone = judged(retrained=None, forget_loss=m(9.0), forget_mia_loss_auc=m(0.05, 0.01, 0.1))
    assert alone.verdict is Verdict.OVER_FORGOTTEN


def test_a_loss_far_above_both_yardsticks_is_enough():
    """Half of the rows driven far up, the others left alone: the AUC sees nothing, the mean does."""
    found = judged(forget_loss=m(9.0, 5.0, 13.0))
    assert found.verdict is Verdict.OVER_FORGOTTEN and found.status("over_forgetting") is FAILED
    assert judged(forget_loss=m(9.0, 4.0, 14.0)).verdict is Verdict.INDISTINGUISHABLE  # with its interval, not without
    high = judged(forget_loss=m(9.0, 5.0, 13.0), unseen_loss=m(5.0))  # the unseen rows suffered, too: no such case
    assert high.status("over_forgetting") is PASSED


def test_every_bit_width_and_the_worst_split_count():
    int8 = {"measures": {**RETRAINED["measures"], "forget_int8_exact_match": sure(0.0)}}
    assert judged(retrained=int8, forget_int8_exact_match=sure(0.2)).status("quantisation") is FAILED
    utility = {"measures": {**RETRAINED["measures"], "model_utility": m(0.5)}}
    assert judged(retrained=utility, model_utility=m(0.6), test_token_accuracy=sure(0.5)).status("kept") is FAILED


def test_without_a_retrained_model_nothing_is_claimed():
    found = judged(retrained=None, forget_quality=None, forget_mia_loss_auc_gap=None, forget_mia_min_k_auc_gap=None)
    assert found.verdict is Verdict.UNKNOWN
    assert found.status("verdict") is UNDECIDED and found.status("forget_quality") is UNDECIDED
    assert found.status("over_forgetting") is PASSED


def test_a_test_that_does_not_see_the_model_before_has_no_power():
    blind = {"measures": {**BEFORE["measures"], "forget_quality": quality(0.3)}}
    found = judged(before=blind)
    assert found.verdict is Verdict.NOT_TOLD_APART and found.status("verdict") is UNDECIDED
    assert found.gates["forget_quality"].able is False and found.gates["forget_quality"].blind
    assert found.blind == ["forget_quality"] and found.gates["forget_quality"].numbers["control"] == 0.3
    blind = {"measures": {**BEFORE["measures"], "forget_mia_loss_auc_gap": gap(0.02)}}
    assert judged(before=blind).gates["auc_gap"].able is False


def test_without_a_model_before_the_power_is_that_of_the_sample():
    able = judged(before=None)
    assert able.verdict is Verdict.INDISTINGUISHABLE
    few = judged(
        before=None,
        forget_quality=quality(0.5, detectable=0.4),
        forget_mia_min_k_auc_gap=gap(-0.03, detectable=0.2),
    )
    assert few.verdict is Verdict.NOT_TOLD_APART
    assert not few.gates["forget_quality"].able and not few.gates["auc_gap"].able
    assert [few.gates[name].numbers["detectable"] for name in ("forget_quality", "auc_gap")] == [0.4, 0.2]


def test_two_retrained_models_lower_the_floor():
    again = {"measures": {"forget_quality": quality(0.01), "forget_mia_loss_auc_gap": gap(0.02)}}
    assert judged(forget_quality=quality(0.02)).status("forget_quality") is FAILED
    found = judged(forget_quality=quality(0.02), again=again)
    assert found.status("forget_quality") is PASSED and found.gates["forget_quality"].numbers["limit"] == 0.01
    assert found.gates["auc_gap"].numbers["between"] == 0.02
    alike = {"measures": {"forget_quality": quality(0.9)}}  # a high floor asks for no more than the usual limit
    assert judged(forget_quality=quality(0.06), again=alike).status("forget_quality") is PASSED


def test_what_was_not_measured_is_undecided():
    found = judged(forget_quality=None)
    assert found.verdict is Verdict.NOT_TOLD_APART and found.status("forget_quality") is UNDECIDED
    assert found.named(UNDECIDED) == ["forget_quality"] and not found.gates["forget_quality"].numbers
    assert judged(recovery_retain_area=None, recovery_real_area=None).verdict is Verdict.INDISTINGUISHABLE
    empty = judge_run({"measures": {}}, retrained={"measures": {}})
    assert empty.verdict is Verdict.UNKNOWN and empty.status("verdict") is UNDECIDED


def test_unknown_gates_are_listed():
    with pytest.raises(ValueError, match="'speed'.*forget_quality.*verdict"):
        judged().status("speed")


def test_the_noise_floor_of_a_card_is_found():
    def run(model, measures, seed=0):
        return {"task": "t", "model": model, "seed": seed, "measures": measures, "cost": {}, "stop_reason": None}

    runs = [
        run("original", BEFORE["measures"]),
        run("unlearned", {**GOOD, "forget_quality": quality(0.02)}),
        run("retrained", RETRAINED["measures"]),
        run("retrained_again", {"forget_quality": quality(0.01)}),
    ]
    (finding,) = judge({"schema": 2, "runs": runs})
    assert finding.verdict is Verdict.INDISTINGUISHABLE and finding.evidence.another_seed
    (finding,) = judge({"schema": 2, "runs": runs[:-1]})
    assert finding.verdict is Verdict.TOLD_APART


def test_limits_are_those_of_the_documentation():
    assert (gates.AUC_GAP, gates.KEPT_SHARE, gates.EXTRACTION_EXCESS) == (0.03, 0.98, 0.02)


def test_what_does_not_apply_to_classifiers_is_no_pass_without_a_retrained_model_either():
    classifier = {"measures": {"forget_accuracy": m(0.9), "forget_loss": m(0.1), "unseen_loss": m(0.5)}}
    assert judge_run(classifier).status("extraction") is NOT_APPLICABLE


def test_one_forget_row_is_over_forgotten_by_its_loss_or_not_decided():
    changed = {"forget_loss": m(50.0, n=1), "forget_mia_loss_auc": m(0.0, n=2)}
    assert judged(**changed).verdict is Verdict.OVER_FORGOTTEN
    assert judged(**changed, retrained=None).status("over_forgetting") is UNDECIDED


def test_forget_rows_too_few_for_any_distance_are_said_so():
    found = judged(forget_quality=m(1.0, distance=1.0, detectable=None, of="loss", n=1))
    assert found.gates["forget_quality"].able is True  # the control saw
    assert found.gates["forget_quality"].numbers["detectable"] is None


def test_a_control_whose_interval_reaches_into_the_limit_shows_no_power():
    before = {"measures": {**BEFORE["measures"], "forget_mia_loss_auc_gap": m(0.05, -0.2, 0.3, detectable=0.25)}}
    assert judged(before=before).gates["auc_gap"].able is False


def test_an_attack_brings_its_gate_which_is_no_part_of_the_verdict(monkeypatch):
    def judge(sides):
        return gates.Gate("speed", FAILED, numbers={"value": 0.5})

    monkeypatch.setitem(registry.ADDED, "race", Attack("race", "", print, gate=gates.GateRule("speed", judge)))
    found = judged()
    assert found.status("speed") is FAILED and found.verdict is Verdict.INDISTINGUISHABLE
    assert "speed" in gate_names() and gate_names()[-1] == "verdict"


def test_two_gates_of_one_name_are_refused(monkeypatch):
    monkeypatch.setitem(registry.ADDED, "race", Attack("race", "", print, gate=gates.GateRule("kept", print)))
    with pytest.raises(ValueError, match="there are two gates 'kept'"):
        gate_names()


# ---- what holds for every gate ------------------------------------------------------------------------------------

CLASSIFIER = {
    "forget_loss": sure(0.12, 0.02),
    "unseen_loss": sure(0.13, 0.02),
    "retain_accuracy": sure(1.0),
    "test_accuracy": sure(0.95),
}
BASE = {"causal_lm": (GOOD, RETRAINED["measures"]), "classifier": (CLASSIFIER, CLASSIFIER)}
AS_IF_SEEN = {"lower": m(1e-9, 0.0, 1e-8), "higher": m(0.95, 0.94, 0.96)}  # side that a measure claims -> a sure find
AS_IF_NOT = {"lower": m(1.1, 1.0, 1.2), "higher": m(0.0, 0.0, 0.0)}


def weak_ones(kind, values):
    """Every weak measure of a kind as the gates may find it, with what goes with it, on the side that `values` says."""
    more = {"detectable": 0.01, "distance": 0.9, "of": "loss"}
    return {name: {**values[catalogue.claim(name)], **more} for name in catalogue.weak_names(kind)}


@pytest.mark.parametrize("kind", ["causal_lm", "classifier"])
@pytest.mark.parametrize("values", [AS_IF_SEEN, AS_IF_NOT])
@pytest.mark.parametrize("name", [name for name in gate_names() if name != "verdict"])
def test_no_gate_rests_on_a_measure_that_the_study_calls_weak(kind, values, name):
    mine, retrained = BASE[kind]
    weak = weak_ones(kind, values)
    nothing = {other: {**m(0.0, 0.0, 0.0), "detectable": 0.01, "distance": 0.0, "of": "loss"} for other in weak}
    plain = judge_run({"measures": mine}, retrained={"measures": retrained}).gates[name]
    found = judge_run({"measures": {**mine, **weak}}, retrained={"measures": {**retrained, **nothing}}).gates[name]
    assert found.status is plain.status
    assert set(found.weak) <= set(weak) and (not found.weak or (found.status, found.able) == (UNDECIDED, False))


def test_a_gate_that_has_nothing_but_weak_measures_says_so_with_their_numbers():
    weak = weak_ones("classifier", AS_IF_SEEN)
    nothing = {name: sure(0.0) for name in weak}
    found = judge_run({"measures": {**CLASSIFIER, **weak}}, retrained={"measures": {**CLASSIFIER, **nothing}})
    assert found.gates["forget_quality"].weak == ("forget_quality",) and found.gates["forget_quality"].numbers["value"]
    assert found.gates["auc_gap"].weak == ("forget_mia_entropy_auc_gap", "forget_mia_loss_auc_gap")
    assert set(found.gates["quantisation"].weak) == {"forget_int4_accuracy", "forget_int8_accuracy"}
    assert found.gates["recovery"].weak == tuple(f"recovery_{rows}_area" for rows in ("real", "retain", "similar"))
    assert found.verdict is Verdict.NOT_TOLD_APART and found.status("extraction") is NOT_APPLICABLE
    assert judged(forget_mia_entropy_auc_gap=gap(0.5)).verdict is Verdict.INDISTINGUISHABLE  # there are others


def test_a_classifier_that_clearly_remembers_is_told_apart_by_its_loss():
    """The loss is not weak; what seeds alone make is less than fourfold."""
    retrained = {"measures": CLASSIFIER}
    found = judge_run({"measures": {**CLASSIFIER, "forget_loss": sure(0.004, 0.001)}}, retrained=retrained)
    assert found.named(FAILED) == ["forget_quality"] and found.gates["forget_quality"].able
    found = judge_run({"measures": {**CLASSIFIER, "forget_loss": sure(0.04, 0.005)}}, retrained=retrained)
    assert found.status("forget_quality") is UNDECIDED and found.verdict is Verdict.NOT_TOLD_APART


@pytest.mark.parametrize("name", [name for name in gate_names() if name != "verdict"])
def test_a_failed_gate_without_power_is_undecided(name):
    for able, status in ((False, UNDECIDED), (True, FAILED), (None, FAILED)):
        failed = gates.Gate(name, FAILED, able, {"value": 1.0})
        rule = dataclasses.replace(gate_rules()[name], judge=lambda sides, failed=failed: failed)
        assert gates.outcome_of(rule, gates.Sides({})).status is status


@pytest.mark.parametrize(
    ("name", "changed", "wide"),
    [
        ("kept", "test_token_accuracy", m(0.7, 0.5, 0.9)),
        ("extraction", "forget_extraction_strength", m(0.3, 0.05, 0.55)),
        ("quantisation", "forget_int4_exact_match", m(0.25, 0.0, 0.75)),
        ("auc_gap", "forget_mia_zlib_auc_gap", m(0.2, -0.1, 0.5, detectable=0.3)),
    ],
)
def test_a_value_beyond_its_limit_whose_interval_is_not_is_undecided(name, changed, wide):
    found = judged(**{changed: wide})
    assert found.status(name) is UNDECIDED and found.gates[name].numbers
    narrow = m(wide["value"], wide["value"] - 0.01, wide["value"] + 0.01, detectable=0.01)
    assert judged(**{changed: narrow}).status(name) is FAILED
    assert judged(**{changed: {**narrow, "low": None, "high": None}}).status(name) is UNDECIDED  # no interval, no power


def test_extraction_and_what_is_kept_are_compared_in_pairs_where_that_was_measured():
    wide = {"forget_extraction_strength": m(0.3, 0.05, 0.55), "test_token_accuracy": m(0.7, 0.5, 0.9)}
    paired = {"forget_extraction_gap": m(0.2, 0.15, 0.25), "test_kept": m(0.875, 0.85, 0.9)}
    found = judged(**wide, **paired)
    assert found.named(FAILED) == ["kept", "extraction"]
    assert (found.gates["extraction"].numbers["low"], found.gates["extraction"].numbers["high"]) == (0.15, 0.25)
    assert (found.kept.low, found.kept.high) == (0.85, 0.9)


# ---- gates that can be passed at all --------------------------------------------------------------------------------


def test_a_classifier_has_no_measure_strong_enough_for_most_gates_and_a_language_model_can_pass_all():
    assert obstacles("causal_lm") == {}
    never = ("forget_quality", "auc_gap", "extraction", "general", "recovery", "quantisation", "verdict")
    assert set(obstacles("classifier")) == set(never) and set(obstacles("classifier").values()) == {Obstacle.KIND}


def test_a_measure_that_the_study_no_longer_calls_weak_opens_its_gate(monkeypatch):
    """From the rules and the catalogue, not from a list of names."""
    strong = [dataclasses.replace(m, weak={}) if m.name == "recovery_{rows}_area" else m for m in catalogue.MEASURES]
    monkeypatch.setattr(catalogue, "MEASURES", tuple(strong))
    assert "recovery" not in obstacles("classifier") and "auc_gap" in obstacles("classifier")
    both = dict.fromkeys(catalogue.MODEL_KINDS, ("",))
    weak = [dataclasses.replace(m, weak=both) if m.name == "forget_quality" else m for m in strong]
    monkeypatch.setattr(catalogue, "MEASURES", tuple(weak))
    assert obstacles("causal_lm") == {"forget_quality": Obstacle.KIND, "verdict": Obstacle.KIND}


def test_gates_that_need_a_retrained_model_or_an_attack_cannot_be_passed_without():
    alone = obstacles("causal_lm", retrained=False)
    assert set(alone) == {*gate_names()} - {"over_forgetting", "general"}
    assert set(alone.values()) == {Obstacle.RETRAINED}
    assert obstacles("causal_lm", attacks=["quantise"]) == {"recovery": Obstacle.ATTACK}


@pytest.mark.parametrize("judge", [lambda sides: gates.Gate("speed", UNDECIDED), lambda sides: sides.mine["no such"]])
def test_a_gate_of_which_nothing_is_known_can_be_asked_for(judge, monkeypatch):
    monkeypatch.setitem(registry.ADDED, "race", Attack("race", "", print, gate=gates.GateRule("speed", judge)))
    assert "speed" not in obstacles("causal_lm") and "speed" not in obstacles("classifier", retrained=False)


def test_a_card_of_classifiers_refuses_gates_that_no_classifier_can_pass():
    runs = [ModelScores("digits", role, 0, CLASSIFIER) for role in ("unlearned", "retrained")]
    card = Scorecard(runs)
    assert card.failed_gates(["kept", "over_forgetting"]) == []
    with pytest.raises(ValueError, match="'digits'.*verdict, auc_gap.*can be passed: kept, over_forgetting"):
        card.failed_gates(["verdict", "auc_gap", "kept"])
    people = [ModelScores("people", role, 0, RETRAINED["measures"]) for role in ("unlearned", "retrained")]
    assert Scorecard(people).failed_gates("extraction") == []
    assert len(Scorecard(people).failed_gates(["auc_gap", "auc_gap"])) == 1
