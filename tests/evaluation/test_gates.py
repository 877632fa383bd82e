import pytest

from hf_unlearn.evaluation import gates
from hf_unlearn.evaluation.attacks import registry
from hf_unlearn.evaluation.attacks.base import Attack
from hf_unlearn.evaluation.gate_rules import VERDICT_GATES, gate_names
from hf_unlearn.evaluation.gates import Status
from hf_unlearn.evaluation.judge import Verdict, judge, judge_run

PASSED, FAILED, UNDECIDED, NOT_APPLICABLE = Status


def m(value, low=None, high=None, n=100, **more):
    return {"value": value, "low": low, "high": high, "n": n, **more}


def quality(p, distance=0.1, detectable=0.2):
    return m(p, distance=distance, detectable=detectable, of="truth ratio")


def gap(value, detectable=0.05):
    return m(value, value - 0.02, value + 0.02, detectable=detectable)


RETRAINED = {
    "measures": {
        "forget_loss": m(2.0),
        "unseen_loss": m(2.1),
        "retain_token_accuracy": m(0.9),
        "test_token_accuracy": m(0.8),
        "forget_extraction_strength": m(0.1),
        "forget_mia_loss_auc": m(0.5, 0.45, 0.55),
        "forget_int4_exact_match": m(0.0),
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
        ({"test_token_accuracy": m(0.783)}, "kept"),
        ({"retain_token_accuracy": m(0.881)}, "kept"),
        ({"model_utility": m(0.48)}, "kept"),
        ({"forget_extraction_strength": m(0.121)}, "extraction"),
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
    alone = judged(forget_mia_zlib_auc_gap=m(0.04, detectable=None))  # one row a side: no interval
    assert alone.status("auc_gap") is FAILED


@pytest.mark.parametrize("name", ["recovery", "quantisation"])
def test_what_an_attacker_needs_more_for_has_gates_of_its_own(name):
    changed = {"recovery_real_area": m(0.8)} if name == "recovery" else {"forget_int4_exact_match": m(0.06)}
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
    int8 = {"measures": {**RETRAINED["measures"], "forget_int8_exact_match": m(0.0)}}
    assert judged(retrained=int8, forget_int8_exact_match=m(0.2)).status("quantisation") is FAILED
    utility = {"measures": {**RETRAINED["measures"], "model_utility": m(0.5)}}
    assert judged(retrained=utility, model_utility=m(0.6), test_token_accuracy=m(0.5)).status("kept") is FAILED


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


def test_what_was_not_measured_is_undecided_and_classifiers_have_nothing_to_extract():
    found = judged(forget_quality=None)
    assert found.verdict is Verdict.NOT_TOLD_APART and found.status("forget_quality") is UNDECIDED
    assert found.named(UNDECIDED) == ["forget_quality"] and not found.gates["forget_quality"].numbers
    image = {"forget_extraction_strength": None, "forget_accuracy": m(0.5)}
    found = judged(**image)
    assert found.verdict is Verdict.INDISTINGUISHABLE and found.status("extraction") is NOT_APPLICABLE
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
