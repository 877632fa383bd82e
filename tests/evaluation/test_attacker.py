import pytest
from helpers.cards import GOOD, NOT_FINITE, RETRAINED, m, run

from hf_unlearn.evaluation.gates import Status
from hf_unlearn.evaluation.judge import judge_run

UNMEASURED = {"forget_mia_loss_auc": NOT_FINITE}


def attempts(reference=None, details=None, **changed):
    retrained = None if reference is None else run("retrained", **reference)
    found = judge_run(run("unlearned", details=details, **{**GOOD, **changed}), retrained=retrained)
    return {attempt.attack: attempt for attempt in found.attacker.attempts}


@pytest.mark.parametrize(
    ("attack", "reference", "changed", "possible", "numbers"),
    [
        (
            "membership",
            {"forget_mia_loss_auc": 0.51, "forget_mia_zlib_auc": 0.5},
            {"forget_mia_loss_auc": 0.52, "forget_mia_zlib_auc": m(0.6, 0.56, 0.64)},
            True,
            {"score": "zlib", "value": 0.6, "retrained": 0.5, "how": "better", "certain": True},
        ),
        (
            "membership",
            {"forget_mia_loss_auc": 0.51},
            {"forget_mia_loss_auc": m(0.58, 0.45, 0.7)},
            True,
            {"how": "better", "certain": False},
        ),
        (  # a removed class: the retrained model shows it, too
            "membership",
            {"forget_mia_loss_auc": m(0.01, 0.0, 0.02)},
            {"forget_mia_loss_auc": m(0.03, 0.01, 0.05)},
            False,
            {"value": 0.03, "how": None, "deleted": True, "deleted_by_retraining": True},
        ),
        ("membership", None, {"forget_mia_loss_auc": m(0.6, 0.51, 0.7)}, True, {"how": "guessing", "retrained": None}),
        ("membership", None, {}, False, {"how": None, "found": None}),
        (
            "membership",
            {"forget_mia_loss_auc": 0.5, "forget_mia_loss_tpr_at_1fpr": 0.0},
            {"forget_mia_loss_tpr_at_1fpr": 0.125, "forget_lira_tpr_at_1fpr": 0.0},
            False,
            {"found": {"score": "loss", "value": 0.125, "retrained": 0.0}, "forget": 48, "unseen": 48},
        ),
        (
            "extraction",
            {"forget_extraction_strength": 0.03},
            {"forget_extraction_strength": 0.06},
            True,
            {"value": 0.06, "yardstick": 0.03, "against": "retrained"},
        ),
        (
            "extraction",
            None,
            {"forget_extraction_strength": 0.04, "unseen_extraction_strength": 0.03},
            False,
            {"yardstick": 0.03, "against": "unseen"},
        ),
        (
            "rephrased",
            {"forget_rephrased_exact_match": 0.0},
            {"forget_rephrased_exact_match": 0.25},
            True,
            {"kind": "exact_match", "right": 12, "n": 48, "plain": 0, "retrained": 0},
        ),
        (
            "recovery",
            {},
            {
                "recovery_retain_area": {"value": 0.95},
                "recovery_similar_area": {"value": 1.2},
                "recovery_real_area": {"value": 0.7, "k": 12},
            },
            True,
            {
                "areas": {
                    "retain": {"value": 0.95, "k": None, "fast": False},
                    "similar": {"value": 1.2, "k": None, "fast": False},
                    "real": {"value": 0.7, "k": 12, "fast": True},
                }
            },
        ),
        ("recovery", {}, {"recovery_retain_area": {"value": 1.0}, "recovery_real_area": {"value": 0.9}}, False, {}),
        (
            "quantised",
            {"forget_int4_exact_match": 0.0},
            {"forget_exact_match": 0.5, "forget_int4_exact_match": 0.5},  # rounding brings nothing back
            False,
            {"right": {"int4": 24}, "plain": 24, "retrained": {"int4": 0}},
        ),
        (
            "quantised",
            {"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.0},
            {"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.5},
            True,
            {"right": {"int8": 0, "int4": 24}, "n": 48, "kind": "exact_match"},
        ),
        ("quantised", None, {"forget_int4_exact_match": 0.02}, False, {"right": {"int4": 1}, "retrained": None}),
    ],
)
def test_what_an_attacker_could_still_do(attack, reference, changed, possible, numbers):
    found = attempts(reference, **changed)[attack]
    assert found.possible is possible
    assert found.numbers.items() >= numbers.items()


def gap(value, low, high):
    return m(value, low, high, n=96)


@pytest.mark.parametrize(
    ("mine", "theirs", "gaps", "numbers", "status"),
    [
        # the score that is farther off than the retrained model's is shown, not the one that guesses best
        (
            {"loss": m(0.08, 0.05, 0.12), "entropy": m(0.1, 0.07, 0.15)},
            {"loss": m(0.05, 0.02, 0.08), "entropy": m(0.17, 0.12, 0.22)},
            {"loss": gap(0.036, 0.003, 0.069), "entropy": gap(-0.035, -0.095, 0.02)},
            {"score": "entropy", "value": 0.1, "retrained": 0.17, "how": "better"},
            Status.UNDECIDED,
        ),
        # the paired gap decides, though each interval is wide, and a gap that is shown goes before a larger one
        (
            {"loss": m(0.7, 0.5, 0.9), "zlib": m(0.62, 0.5, 0.7)},
            {"loss": m(0.51, 0.4, 0.6), "zlib": m(0.52, 0.4, 0.6)},
            {"loss": gap(0.19, -0.01, 0.3), "zlib": gap(0.1, 0.04, 0.16)},
            {"score": "zlib", "value": 0.62, "retrained": 0.52, "how": "better"},
            Status.FAILED,
        ),
        # on the other side of 0.5 the gap shows a difference, and no better guess
        (
            {"zlib": m(0.34, 0.23, 0.45)},
            {"zlib": m(0.56, 0.45, 0.67)},
            {"zlib": gap(-0.22, -0.35, -0.11)},
            {"score": "zlib", "how": "less", "deleted": True, "deleted_by_retraining": False},
            Status.FAILED,
        ),
        # unless all of its interval is farther off
        (
            {"loss": m(0.2, 0.1, 0.3)},
            {"loss": m(0.51, 0.4, 0.6)},
            {"loss": gap(-0.31, -0.4, -0.2)},
            {"how": "better"},
            Status.FAILED,
        ),
        # a class that was not removed looks like members, and a retrained model's AUC is far off
        (
            {"loss": m(0.5, 0.4, 0.6)},
            {"loss": m(0.05, 0.02, 0.08)},
            {"loss": gap(0.45, 0.4, 0.5)},
            {"score": "loss", "value": 0.5, "retrained": 0.05, "how": "more"},
            Status.FAILED,
        ),
        (
            {"loss": m(0.52, 0.4, 0.6)},
            {"loss": m(0.5, 0.4, 0.6)},
            {"loss": gap(0.02, -0.1, 0.1)},
            {"value": 0.52, "how": None},
            Status.PASSED,
        ),
    ],
)
def test_membership_is_that_of_one_score_and_agrees_with_the_gate(mine, theirs, gaps, numbers, status):
    mine, reference = ({f"forget_mia_{s}_auc": v for s, v in side.items()} for side in (mine, theirs))
    gaps = {f"forget_mia_{s}_auc_gap": v for s, v in gaps.items()}
    changed = {**UNMEASURED, **mine, **gaps}
    found = judge_run(run("unlearned", **{**GOOD, **changed}), retrained=run("retrained", **reference))
    attempt = found.attacker.attempts[0]
    assert attempt.attack == "membership" and attempt.numbers.items() >= numbers.items()
    assert found.status("auc_gap") is status
    assert attempt.numbers["certain"] == (status is not Status.UNDECIDED)


def test_none_found_is_not_said_where_the_rows_do_worse():
    low = m(0.1, 0.05, 0.2)
    rates = {"forget_mia_loss_tpr_at_1fpr": 0.0, "forget_mia_zlib_auc": 0.4, "forget_mia_zlib_tpr_at_1fpr": 0.0}
    for reference in (None, {"forget_mia_loss_auc": 0.5, "forget_mia_loss_tpr_at_1fpr": 0.0}):
        numbers = attempts(reference, forget_mia_loss_auc=low, **rates)["membership"].numbers
        assert numbers["found"] is None and numbers["deleted"] and not numbers["deleted_by_retraining"]
    rates["forget_mia_zlib_tpr_at_1fpr"] = 0.25  # by another score some are found, all the same
    numbers = attempts(forget_mia_loss_auc=low, **rates)["membership"].numbers
    assert numbers["score"] == "loss" and numbers["found"] == {"score": "zlib", "value": 0.25, "retrained": None}
    same = {"forget_mia_loss_auc": 0.5, "forget_mia_zlib_tpr_at_1fpr": 0.25}
    assert attempts(same, forget_mia_loss_auc=low, **rates)["membership"].numbers["found"] is None
    above = attempts(forget_mia_loss_auc=0.6, forget_mia_loss_tpr_at_1fpr=0.0)["membership"].numbers
    assert above["found"]["value"] == 0.0


def test_shadow_models_find_rows_above_blind_guessing_only():
    lira = {"forget_lira_auc": m(0.78, 0.7, 0.86), "forget_lira_tpr_at_1fpr": 0.375}
    found = attempts(RETRAINED["measures"], {"lira": {"shadows": 8}}, **lira)["shadows"]
    assert found.possible and found.numbers.items() >= {"value": 0.78, "models": 8, "found": 0.375}.items()
    assert found.numbers["retrained"] is None and found.numbers["compared"]
    found = attempts(forget_lira_auc=m(0.42, 0.3, 0.49), forget_lira_tpr_at_1fpr=0.375)["shadows"]
    assert not found.possible and found.numbers["found"] is None


def test_attacks_that_were_not_tried_are_named():
    def attacker(details=None, **changed):
        return judge_run(run("unlearned", details=details, **{**GOOD, **changed})).attacker

    assert attacker(**UNMEASURED).attempts == ()
    usual = {"shadows", "rephrased", "recovery", "quantised"}
    assert usual <= set(attacker().untried)
    tried = {"forget_rephrased_exact_match": 0.0, "forget_int8_exact_match": 0.0, "recovery_real_area": {"value": 1.0}}
    assert not usual & set(attacker(**tried, forget_lira_auc=0.5).untried)
    broken = {"recovery_real_area": {"value": None}, "forget_lira_auc": {"value": None, "low": None, "high": None}}
    assert not {"recovery", "shadows"} & set(attacker(**broken).untried)  # tried, and no number came of it
    curve = [{"step": 0, "loss": 4.0}, {"step": 15, "loss": None}, {"step": 30, "loss": 1.0}]
    found = attacker({"recovery": {"retain": curve, "real": []}})
    assert "recovery" not in found.untried
    assert found.attempts[1].numbers["curves"] == {"retain": {"first": 4.0, "last": 1.0, "steps": 30}}
    images = judge_run(run("unlearned", forget_loss=1.0, forget_accuracy=0.5)).attacker
    assert "rephrased" not in images.untried  # classifiers are asked nothing
