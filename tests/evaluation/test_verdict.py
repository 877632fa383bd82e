import pytest

from hf_unlearn.evaluation import verdict as module
from hf_unlearn.evaluation.findings import findings
from hf_unlearn.evaluation.verdict import GATES, passed, verdict


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
    return verdict({"measures": measures}, before=before, retrained=retrained, again=again)


def gate(found, name):
    return next(one for one in found["gates"] if one["name"] == name)


def test_all_gates_passed_by_tests_that_can_see_is_indistinguishable():
    found = judged()
    assert found["verdict"] == "indistinguishable" and passed(found, "verdict") is True
    assert [one["name"] for one in found["gates"]] == [name for name in GATES if name != "verdict"]
    assert all(passed(found, name) for name in GATES)
    assert gate(found, "forget_quality")["able"] and gate(found, "auc_gap")["able"]
    assert all(one["title"] and one["text"].endswith(".") for one in found["gates"])


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
    assert found["verdict"] == "told apart" and passed(found, "verdict") is False
    assert [one["name"] for one in found["gates"] if one["passed"] is False] == [failed]
    assert failed.replace("_", " ") in found["text"]


def test_a_gap_beyond_the_limit_whose_interval_is_not_is_undecided():
    found = judged(forget_mia_zlib_auc_gap=gap(0.045))
    assert passed(found, "auc_gap") is None and found["verdict"] == "not told apart"
    assert (
        "cannot decide" in gate(found, "auc_gap")["text"] and "look more like members" in gate(found, "auc_gap")["text"]
    )
    both = judged(
        forget_mia_zlib_auc_gap=gap(0.045), forget_mia_min_k_auc_gap=m(-0.04, -0.045, -0.035, detectable=0.01)
    )
    assert passed(both, "auc_gap") is False and "min k" in gate(both, "auc_gap")["text"]
    assert "look less like members" in gate(both, "auc_gap")["text"]
    alone = judged(forget_mia_zlib_auc_gap=m(0.04, detectable=None))  # one row a side: no interval
    assert passed(alone, "auc_gap") is False


@pytest.mark.parametrize("name", ["recovery", "quantisation"])
def test_what_an_attacker_needs_more_for_has_gates_of_its_own(name):
    changed = {"recovery_real_area": m(0.8)} if name == "recovery" else {"forget_int4_exact_match": m(0.06)}
    found = judged(**changed)
    assert found["verdict"] == "indistinguishable" and passed(found, name) is False


def test_over_forgetting_is_called_by_its_name():
    found = judged(forget_loss=m(9.0), forget_mia_loss_auc=m(0.05, 0.01, 0.1))
    assert found["verdict"] == "over-forgotten" and passed(found, "verdict") is False
    assert "Over-forgotten" in found["text"] and passed(found, "over_forgetting") is False
    alone = judged(retrained=None, forget_loss=m(9.0), forget_mia_loss_auc=m(0.05, 0.01, 0.1))
    assert alone["verdict"] == "over-forgotten"


def test_a_loss_far_above_both_yardsticks_is_enough():
    """Half of the rows driven far up, the others left alone: the AUC sees nothing, the mean does."""
    found = judged(forget_loss=m(9.0, 5.0, 13.0))
    assert found["verdict"] == "over-forgotten" and passed(found, "over_forgetting") is False
    assert judged(forget_loss=m(9.0, 4.0, 14.0))["verdict"] == "indistinguishable"  # with its interval, not without
    high = judged(forget_loss=m(9.0, 5.0, 13.0), unseen_loss=m(5.0))  # the unseen rows suffered, too: no such case
    assert passed(high, "over_forgetting") is True


def test_every_bit_width_and_the_worst_split_count():
    int8 = {"measures": {**RETRAINED["measures"], "forget_int8_exact_match": m(0.0)}}
    assert passed(judged(retrained=int8, forget_int8_exact_match=m(0.2)), "quantisation") is False
    utility = {"measures": {**RETRAINED["measures"], "model_utility": m(0.5)}}
    assert passed(judged(retrained=utility, model_utility=m(0.6), test_token_accuracy=m(0.5)), "kept") is False


def test_without_a_retrained_model_nothing_is_claimed():
    found = judged(retrained=None, forget_quality=None, forget_mia_loss_auc_gap=None, forget_mia_min_k_auc_gap=None)
    assert found["verdict"] == "unknown" and "unseen rows only" in found["text"]
    assert passed(found, "verdict") is None and passed(found, "forget_quality") is None
    assert passed(found, "over_forgetting") is True


def test_a_test_that_does_not_see_the_model_before_has_no_power():
    blind = {"measures": {**BEFORE["measures"], "forget_quality": quality(0.3)}}
    found = judged(before=blind)
    assert found["verdict"] == "not told apart" and passed(found, "verdict") is None
    assert gate(found, "forget_quality")["able"] is False and gate(found, "forget_quality")["passed"]
    assert "no power" in gate(found, "forget_quality")["text"] and "forget quality" in found["text"]
    blind = {"measures": {**BEFORE["measures"], "forget_mia_loss_auc_gap": gap(0.02)}}
    assert gate(judged(before=blind), "auc_gap")["able"] is False


def test_without_a_model_before_the_power_is_that_of_the_sample():
    able = judged(before=None)
    assert able["verdict"] == "indistinguishable"
    few = judged(
        before=None,
        forget_quality=quality(0.5, detectable=0.4),
        forget_mia_min_k_auc_gap=gap(-0.03, detectable=0.2),
    )
    assert few["verdict"] == "not told apart"
    assert not gate(few, "forget_quality")["able"] and not gate(few, "auc_gap")["able"]
    assert "0.4" in gate(few, "forget_quality")["text"] and "0.2" in gate(few, "auc_gap")["text"]


def test_two_retrained_models_lower_the_floor():
    again = {"measures": {"forget_quality": quality(0.01), "forget_mia_loss_auc_gap": gap(0.02)}}
    assert passed(judged(forget_quality=quality(0.02)), "forget_quality") is False
    found = judged(forget_quality=quality(0.02), again=again)
    assert passed(found, "forget_quality") is True and "0.01" in gate(found, "forget_quality")["text"]
    assert "Two retrained models differ by 0.02" in gate(found, "auc_gap")["text"]
    alike = {"measures": {"forget_quality": quality(0.9)}}  # a high floor asks for no more than the usual limit
    assert passed(judged(forget_quality=quality(0.06), again=alike), "forget_quality") is True


def test_what_was_not_measured_is_undecided_and_classifiers_have_nothing_to_extract():
    found = judged(forget_quality=None)
    assert found["verdict"] == "not told apart" and passed(found, "forget_quality") is None
    assert "not decided: forget quality" in found["text"]
    image = {"forget_extraction_strength": None, "forget_accuracy": m(0.5)}
    found = judged(**image)
    assert found["verdict"] == "indistinguishable" and passed(found, "extraction") is None
    assert judged(recovery_retain_area=None, recovery_real_area=None)["verdict"] == "indistinguishable"
    empty = verdict({"measures": {}}, retrained={"measures": {}})
    assert empty["verdict"] == "unknown" and passed(empty, "verdict") is None


def test_unknown_gates_are_listed():
    with pytest.raises(ValueError, match="'speed'.*forget_quality.*verdict"):
        passed(judged(), "speed")


def test_findings_carry_the_verdict_and_find_the_noise_floor():
    def run(model, measures, seed=0):
        return {"task": "t", "model": model, "seed": seed, "measures": measures, "cost": {}, "stop_reason": None}

    runs = [
        run("original", BEFORE["measures"]),
        run("unlearned", {**GOOD, "forget_quality": quality(0.02)}),
        run("retrained", RETRAINED["measures"]),
        run("retrained_again", {"forget_quality": quality(0.01)}),
    ]
    (finding,) = findings({"schema": 2, "runs": runs})
    assert finding["verdict"]["verdict"] == "indistinguishable"
    assert finding["text"].endswith(finding["verdict"]["text"])
    (finding,) = findings({"schema": 2, "runs": runs[:-1]})
    assert finding["verdict"]["verdict"] == "told apart"


def test_limits_are_those_of_the_documentation():
    assert (module.AUC_GAP, module.KEPT_SHARE, module.EXTRACTION_EXCESS) == (0.03, 0.98, 0.02)


def test_what_does_not_apply_to_classifiers_is_no_pass_without_a_retrained_model_either():
    classifier = {"measures": {"forget_accuracy": m(0.9), "forget_loss": m(0.1), "unseen_loss": m(0.5)}}
    assert passed(verdict(classifier), "extraction") is None


def test_one_forget_row_is_over_forgotten_by_its_loss_or_not_decided():
    changed = {"forget_loss": m(50.0, n=1), "forget_mia_loss_auc": m(0.0, n=2)}
    assert judged(**changed)["verdict"] == "over-forgotten"
    assert passed(judged(**changed, retrained=None), "over_forgetting") is None


def test_forget_rows_too_few_for_any_distance_are_said_so():
    found = judged(forget_quality=m(1.0, distance=1.0, detectable=None, of="loss", n=1))
    assert gate(found, "forget_quality")["able"] is True  # the control saw
    assert "so few could not show" in gate(found, "forget_quality")["text"]


def test_a_control_whose_interval_reaches_into_the_limit_shows_no_power():
    before = {"measures": {**BEFORE["measures"], "forget_mia_loss_auc_gap": m(0.05, -0.2, 0.3, detectable=0.25)}}
    assert gate(judged(before=before), "auc_gap")["able"] is False
