import pytest
from helpers.cards import GOOD, NOT_FINITE, ORIGINAL, RETRAINED, card, m, run

from hf_unlearn.evaluation import roles
from hf_unlearn.evaluation.forgotten import Why
from hf_unlearn.evaluation.gates import Level, Status
from hf_unlearn.evaluation.judge import Gain, Verdict, gains, judge, judge_run, rows_of, worst_first


def judged(before=ORIGINAL, retrained=RETRAINED, **changed):
    return judge_run(run("unlearned", **{**GOOD, **changed}), before=before, retrained=retrained)


def why(finding) -> dict[Why, dict]:
    return {reason.why: reason.numbers for reason in finding.forgotten.reasons}


@pytest.mark.parametrize(
    ("changed", "level", "reason", "numbers"),
    [
        ({}, Level.YES, Why.LOSSES, {"loss": 3.95, "yardstick": 4.0, "of": "unseen"}),
        # the loss got there ...
        ({"forget_loss": 3.8}, Level.YES, Why.RETRAINED, {"loss": 3.9}),
        ({"forget_exact_match": m(3 / 48, 0.0, 0.13)}, Level.YES, Why.RECALLED, {"right": 3, "n": 48, "known": False}),
        # ... but half of the rows are still known, or told apart
        ({"forget_exact_match": m(0.3, 0.18, 0.42, n=40)}, Level.PARTLY, Why.RECALLED, {"right": 12, "known": True}),
        ({"forget_mia_loss_auc": m(0.75, 0.66, 0.83)}, Level.PARTLY, Why.SEPARABLE, {"score": "loss", "auc": 0.75}),
        ({"forget_mia_entropy_auc": m(0.8, 0.7, 0.9)}, Level.PARTLY, Why.SEPARABLE, {"score": "entropy"}),
        # the loss did not get there
        ({"forget_loss": 3.79}, Level.PARTLY, Why.WAY, {"share": pytest.approx(0.947, abs=5e-4)}),
        ({"forget_loss": 2.02}, Level.PARTLY, Why.WAY, {"share": pytest.approx(0.503, abs=5e-4)}),
        ({"forget_loss": 1.9}, Level.NO, Why.WAY, {"share": pytest.approx(0.472, abs=5e-4)}),
        ({"forget_loss": 0.02}, Level.NO, Why.WAY, {"share": 0.0}),
        ({"forget_loss": m(1.0, 0.1, 4.4), "unseen_loss": m(4.0, 3.0, 5.0)}, Level.PARTLY, Why.FEW_ROWS, {}),
        # too far
        ({"forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}, Level.TOO_MUCH, Why.OVER, {"auc": 0.1}),
        # nothing to say
        ({"forget_loss": NOT_FINITE}, Level.UNKNOWN, Why.NOT_FINITE, {}),
        # the yardstick itself ran away
        ({"forget_loss": 9.0, "unseen_loss": 9.0}, Level.YES, Why.DAMAGE, {"before": 4.0, "after": 9.0}),
    ],
)
def test_level_of_forgetting_and_its_reason(changed, level, reason, numbers):
    found = judged(**changed)
    assert found.forgotten.level is level
    assert why(found)[reason].items() >= numbers.items()


def test_over_forgetting_without_a_retrained_model():
    found = judged(retrained=None, forget_loss=9.0, forget_mia_loss_auc=m(0.3, 0.22, 0.39))
    assert found.forgotten.level is Level.TOO_MUCH and Why.WHOLE_CLASS in why(found)
    assert judged(retrained=None, forget_mia_loss_auc=m(0.3, 0.22, 0.41)).forgotten.level is Level.YES


def test_rows_that_a_model_never_saw_are_not_over_forgotten():
    measures = {**GOOD, "forget_loss": 9.0, "forget_mia_loss_auc": m(0.3, 0.22, 0.39)}  # a class that is gone, say
    exact = {**run("unlearned", **measures), "guarantee": "exact"}
    alone = judge_run(exact, before=ORIGINAL)
    assert alone.verdict is Verdict.UNKNOWN and alone.status("over_forgetting") is Status.NOT_APPLICABLE
    assert judge_run({**exact, "guarantee": "approximate"}, before=ORIGINAL).verdict is Verdict.OVER_FORGOTTEN
    beside = judge_run(exact, before=ORIGINAL, retrained=RETRAINED)  # one of another program tells its losses
    assert beside.status("over_forgetting") is Status.FAILED


def test_a_removed_class_is_held_against_the_retrained_model():
    retrained = run("retrained", forget_loss=8.0, unseen_loss=0.2, forget_mia_loss_auc=m(0.01, 0.0, 0.02))
    retrained["measures"]["forget_accuracy"] = m(0.0)
    same = {"unseen_loss": 0.2, "forget_mia_loss_auc": m(0.01, 0.0, 0.02), "before": None, "retrained": retrained}

    def level(loss, accuracy):
        return judged(forget_loss=loss, forget_accuracy=accuracy, **same).forgotten.level

    assert level(7.0, m(0.0)) is Level.YES  # as far as retraining goes
    assert level(30.0, m(0.0)) is Level.TOO_MUCH
    assert level(1.0, m(0.6, 0.5, 0.7)) is Level.YES  # a language model's exact match decides before the accuracy
    measures = {"forget_loss": 1.0, "unseen_loss": 0.2, "forget_accuracy": m(0.6, 0.5, 0.7, n=10)}
    half = judge_run(run("unlearned", **measures), retrained=retrained)
    assert half.forgotten.level is Level.PARTLY
    assert why(half)[Why.RECALLED].items() >= {"kind": "accuracy", "right": 6, "n": 10, "known": True}.items()


def test_what_the_retrained_model_shows_too_is_no_membership():
    shifted = run("retrained", **{**GOOD, "forget_mia_loss_auc": m(0.75, 0.65, 0.85)})
    assert judged(retrained=shifted, forget_mia_loss_auc=m(0.75, 0.66, 0.84)).forgotten.level is Level.YES


def test_without_unseen_rows():
    measures = {"forget_loss": 3.9, "retain_token_accuracy": 0.9}
    alone = judge_run(run("unlearned", **measures))
    assert list(why(alone)) == [Why.NO_YARDSTICK] and alone.forgotten.level is Level.UNKNOWN
    assert alone.kept.share is None and alone.kept.against is None and alone.kept.value == 0.9
    assert judge_run(run("unlearned", **measures), retrained=RETRAINED).forgotten.level is Level.YES
    assert judge_run(run("unlearned", forget_loss=8.0), retrained=RETRAINED).forgotten.level is Level.TOO_MUCH
    unmeasured = judge_run(run("unlearned", test_accuracy=1.0)).forgotten
    assert unmeasured.level is Level.UNKNOWN and unmeasured.reasons[0].why is Why.NOT_MEASURED


@pytest.mark.parametrize("retrained", [None, RETRAINED])
def test_what_the_model_before_the_request_would_pass_too_cannot_be_called_forgotten(retrained):
    """A smoke run, or rows that nothing had remembered: the loss was that of unseen rows from the first."""
    found = judged(before=run("original", forget_loss=3.9, unseen_loss=4.0), retrained=retrained)
    assert found.forgotten.level is found.forgotten.overall is Level.UNKNOWN
    assert found.forgotten.blind and Why.BLIND in why(found) and found.forgotten.against == ()
    assert judged(retrained=retrained).forgotten.level is Level.YES and not judged().forgotten.blind
    assert Why.BLIND not in why(judged())


def test_what_another_test_saw_before_the_request_is_forgotten_though_the_loss_was_blind():
    known = {"forget_exact_match": 1.0, "unseen_exact_match": 0.0}
    found = judged(before=run("original", forget_loss=3.9, unseen_loss=4.0, **known), unseen_exact_match=0.0)
    assert found.forgotten.level is Level.YES and not found.forgotten.blind
    class_gone = {"unseen_loss": 0.2, "forget_loss": 7.0, "forget_accuracy": 0.0}
    before = run("original", forget_loss=0.2, unseen_loss=0.2, forget_accuracy=0.98)
    retrained = run("retrained", forget_loss=8.0, unseen_loss=0.2, forget_accuracy=0.0)
    found = judge_run(run("unlearned", **class_gone), before=before, retrained=retrained)
    assert found.forgotten.level is Level.YES and not found.forgotten.blind


def test_what_still_gives_the_rows_away_is_said_though_the_loss_was_blind():
    before = run("original", forget_loss=3.9, unseen_loss=4.0)
    told = {"forget_mia_loss_auc": m(0.75, 0.66, 0.83)}
    assert judged(before=before, **told).forgotten.level is Level.PARTLY
    over = {"forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}
    assert judged(before=before, **over).forgotten.level is Level.TOO_MUCH


def test_kept_is_the_worse_of_test_and_retain():
    retrained = run("retrained", test_accuracy=0.5, retain_accuracy=1.0)
    kept = judge_run(run("unlearned", test_accuracy=0.6, retain_accuracy=0.72), retrained=retrained).kept
    assert (kept.level, kept.against, kept.split, kept.kind) == (Level.NO, "retrained", "retain", "accuracy")
    assert kept.share == pytest.approx(0.72) and kept.others == (("test", pytest.approx(1.2)),)
    kept = judge_run(run("unlearned", test_accuracy=0.76), before=run("original", test_accuracy=0.8)).kept
    assert (kept.level, kept.against, kept.share) == (Level.PARTLY, "before", pytest.approx(0.95))


def test_more_than_the_retrained_model_on_test_rows_is_no_gain():
    reference = run("retrained", retain_token_accuracy=1.0, test_token_accuracy=0.8)
    assert judged(retrained=reference, test_token_accuracy=0.9).no_gain == (("token_accuracy", 0.9, 0.8),)
    assert judged(retrained=reference, test_token_accuracy=0.812).no_gain == ()
    assert judged(retrained=None, test_token_accuracy=0.9).no_gain == ()


def test_a_yes_by_the_loss_is_contradicted_by_what_is_left():
    assert judged().forgotten.against == () and judged().forgotten.overall is Level.YES
    reference = {"forget_extraction_strength": 0.2, "forget_int4_exact_match": 0.0}
    retrained = run("retrained", **{**RETRAINED["measures"], **reference})
    slow = {"recovery_real_area": {"value": 0.5}}
    found = judged(retrained=retrained, **slow).forgotten
    assert (found.level, found.overall, found.against) == (Level.YES, Level.YES, ("recovery",))
    for name, value, test in (
        ("forget_extraction_strength", 0.3, "extraction"),
        ("forget_int4_exact_match", 0.3, "quantisation"),
        ("forget_mia_loss_auc_gap", m(-0.2, -0.3, -0.1), "auc_gap"),
        ("forget_lira_auc", m(0.78, 0.7, 0.86), "shadows"),
    ):
        found = judged(retrained=retrained, **{name: value}, **slow).forgotten
        assert found.level is Level.YES and found.overall is Level.PARTLY
        assert found.against == (test, "recovery")
    assert judged(forget_lira_auc=m(0.42, 0.3, 0.49)).forgotten.against == ()  # the other way round is no finding
    half = judged(retrained=retrained, forget_loss=2.02, **slow).forgotten
    assert half.level is half.overall is Level.PARTLY and half.against == ()


def test_recalled_rows_are_counted_beside_those_before_and_of_the_retrained_model():
    recall = judged().forgotten.recall
    assert (recall.kind, recall.right, recall.n, recall.before, recall.retrained) == ("exact_match", 0, 48, 48, 0)
    alone = judged(before=None, retrained=None, forget_exact_match=0.25, unseen_exact_match=0.0).forgotten.recall
    assert (alone.right, alone.unseen, alone.of) == (12, 0, 48)
    images = {"forget_exact_match": NOT_FINITE, "forget_accuracy": 0.5}
    assert judged(**images).forgotten.recall.kind == "accuracy"


def test_evidence_says_what_so_few_rows_could_not_show():
    power = {
        "forget_mia_loss_auc_gap": {**m(0.01, -0.04, 0.06, n=96), "detectable": 0.05},
        "forget_mia_zlib_auc_gap": {**m(0.0, -0.01, 0.01, n=96), "detectable": 0.01},  # not the one that decides
        "forget_quality": {**m(0.6), "distance": 0.1, "detectable": 0.278, "of": "loss"},
    }
    found = judged(**power).evidence
    assert found.rows == {"forget": 48, "unseen": 48} and found.seeds == 1 and found.retrained
    assert (found.gap, found.shift, found.shift_of, found.another_seed) == (0.05, 0.278, "loss", False)
    alone = judged(retrained=None).evidence
    assert alone.gap is None and alone.shift is None and alone.spread == pytest.approx(0.09) and not alone.retrained


def test_a_card_is_judged_by_task_and_seed():
    runs = [run("unlearned", seed=s, task=t, **GOOD) for t in ("a", "b") for s in (0, 1)]
    runs += [run("original", seed=1, task="b", forget_loss=3.95, unseen_loss=4.0)]
    found = judge(card(*runs))
    assert [(f.task, f.seed) for f in found] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [f.forgotten.blind for f in found] == [False, False, False, True]
    assert all(f.several and f.evidence.seeds == 2 for f in found)
    assert judge(card(ORIGINAL)) == []


def test_the_worst_seed_comes_first():
    bad = {**GOOD, "forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}
    less = {**GOOD, "retain_token_accuracy": 0.985}
    runs = [run("unlearned", seed=s, **measures) for s, measures in enumerate((GOOD, less, bad, GOOD))]
    found = worst_first(judge(card(*runs, RETRAINED)))
    assert [f.seed for f in found] == [2, 1, 0, 3]
    assert [f.verdict for f in found] == [Verdict.OVER_FORGOTTEN, *[Verdict.NOT_TOLD_APART] * 3]


def test_gain_of_readiness():
    def of(*runs):
        return gains(judge(card(*runs)), card(*runs))

    plain = run("unlearned", steps=44, **GOOD)
    ready = run("ready_unlearned", steps=11, **{**GOOD, "retain_token_accuracy": 0.9})
    (gain,) = of(plain, ready, RETRAINED)
    assert gain == Gain("people", 1, (11.0, 44.0), (0.9, 0.991), ((Level.YES,), (Level.YES,)))
    runs = [
        run(r, seed=s, steps=n, **GOOD)
        for s, a in ((0, 10), (1, 20))
        for r, n in zip(roles.BEFORE, (3 * a, a), strict=True)
    ]
    (gain,) = of(*runs)
    assert gain.seeds == 2 and gain.steps == (15.0, 45.0)
    assert of(plain, RETRAINED) == []
    (gain,) = of(run("unlearned", **GOOD), ready)
    assert gain.steps is None and gain.kept is None


def test_rows_are_counted_by_split():
    counted = run("unlearned", forget_loss=3.0, retain_loss=m(0.1, n=200), unseen_loss=m(4.0, n=40))
    assert rows_of(card(counted), "people") == {"forget": 48, "retain": 200, "unseen": 40}
    assert rows_of(card(counted), "other") == {}
