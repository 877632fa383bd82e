"""That sentences carry the numbers of the judgement; what is judged is tested with the judgement."""

import pytest
from helpers.cards import GOOD, NOT_FINITE, ORIGINAL, RETRAINED, card, m, run

from hf_unlearn.evaluation.attacker import attempt_rules
from hf_unlearn.evaluation.gate_rules import VERDICT_GATES, gate_rules
from hf_unlearn.evaluation.gates import Gate, Level, Status
from hf_unlearn.evaluation.judge import Verdict, judge, judge_run
from hf_unlearn.report.words import findings, first_screen, gates, in_short, names, numbers
from hf_unlearn.unlearning.stop_rule import REACHED, STOP_REASONS


def judged(*others, details=None, **changed):
    found = judge(card(run("unlearned", details=details, **{**GOOD, **changed}), *others))
    return next(finding for finding in found if finding.model == "unlearned")


def test_a_finding_in_a_line():
    unlearned = run("unlearned", stop_reason=REACHED, **GOOD)
    (line,) = findings.lines(card(ORIGINAL, unlearned, RETRAINED))
    assert line.startswith(
        "people (unlearned): forgot: yes; kept: 99.1 % of the retrained model's token accuracy on retain rows; "
        f"stopped because {STOP_REASONS[REACHED]}. Loss of the forget rows 3.95, of rows it never saw 4. A retrained "
        "model gives the forget rows 3.9. None of the 48 answers is given word for word any more. Not told apart"
    )
    several = [run("unlearned", seed=s, **GOOD) for s in (0, 1)]
    assert findings.lines(card(*several))[1].startswith("people (unlearned, seed 1): ")


def test_gain_of_readiness_in_a_line():
    plain = run("unlearned", steps=44, **GOOD)
    ready = run("ready_unlearned", steps=11, **{**GOOD, "retain_token_accuracy": 0.9})
    *_, line = findings.lines(card(plain, ready, RETRAINED))
    assert line == (
        "people, what readiness bought: 11 steps instead of 44 (4 times fewer); kept 90 % instead of 99.1 %; "
        "forgot: yes, without readiness: yes (one run of each)."
    )
    *_, line = findings.lines(card(run("unlearned", steps=10, **GOOD), run("ready_unlearned", steps=30, **GOOD)))
    assert "30 steps instead of 10 (3 times more)" in line


def test_more_than_all_is_never_said_to_be_kept():
    reference = {"retain_token_accuracy": 0.5, "test_token_accuracy": 0.5}
    found = judged(run("retrained", **reference), test_token_accuracy=0.9)
    said = "100 % or more of the retrained model's token accuracy on test rows (100 % or more on retain rows)"
    assert said in findings.line(found) and said in " ".join(first_screen.kept(found))
    assert said in gates.gate_text(found.gates["kept"])
    assert in_short.in_short(found)[-2].word == "yes, 100 % or more"


@pytest.mark.parametrize(
    ("others", "changed", "expected"),
    [
        (
            (ORIGINAL, RETRAINED),
            {},
            "Yes, as far as these rows can show. None of 48 answers still come word for word (before 48, retrained 0). "
            "They surprise the model as much as rows it never saw (loss 3.95 against 4; retrained 3.9).",
        ),
        (
            (),
            {"forget_loss": 2.0, "forget_exact_match": 0.25, "unseen_exact_match": 0.0},
            "Partly. 12 of 48 answers still come word for word (unseen rows 0 of 48). They surprise the model less "
            "than rows it never saw (loss 2 against 4).",
        ),
        (
            (RETRAINED,),
            {"forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)},
            "Too much: over-forgetting, which is a failure. The rows stand out as deleted. None of 48 answers still "
            "come word for word (retrained 0). They surprise the model far more than rows it never saw (loss 9 against "
            "4; retrained 3.9).",
        ),
        (
            (run("original", forget_loss=3.9, unseen_loss=4.0),),
            {"forget_exact_match": NOT_FINITE, "forget_accuracy": 0.5},
            "Cannot be said. 24 of 48 forget rows are still answered right. They surprise the "
            "model as much as rows it never saw (loss 3.95 against 4). That was so before the request, too, so it "
            "shows no forgetting.",
        ),
    ],
)
def test_answer_on_what_was_forgotten(others, changed, expected):
    assert " ".join(first_screen.forgotten(judged(*others, **changed))) == expected


def test_answer_without_numbers():
    def said(**measures):
        return " ".join(first_screen.forgotten(judge_run(run("unlearned", **measures))))

    assert said(test_accuracy=0.9) == "Cannot be said. The forget rows were not measured."
    assert said(forget_loss=NOT_FINITE) == "Cannot be said. Their loss is not a finite number."
    assert said(forget_loss=2.0).endswith("Their loss is 2, and there are no unseen rows to hold it against.")


def test_answer_on_an_attacker():
    reference = {"forget_mia_loss_auc": 0.5, "forget_extraction_strength": 0.03, "forget_int8_exact_match": 0.0}
    changed = {
        "forget_mia_loss_auc": m(0.1, 0.05, 0.2),
        "forget_mia_loss_tpr_at_1fpr": 0.125,
        "forget_lira_auc": m(0.78, 0.7, 0.86),
        "forget_lira_tpr_at_1fpr": 0.375,
        "forget_extraction_strength": m(0.06, 0.02, 0.11),
        "forget_rephrased_exact_match": 0.25,
        "recovery_retain_area": {"value": 0.95},
        "recovery_real_area": {"value": 0.7, "k": 12},
        "forget_int8_exact_match": 0.5,
    }
    found = first_screen.attacker(
        judged(run("retrained", **reference), details={"lira": {"shadows": 8}}, **changed).attacker
    )
    assert found["lead"] == (
        "tell forget rows from unseen ones better than with a retrained model, tell by shadow models which rows were "
        "unlearned, draw more of the answers out of it than from a retrained model, get answers by asking in other "
        "words, bring rows back by fine-tuning and get answers back by rounding the weights."
    )
    assert [point for point in found["points"] if not point.startswith("Not tried")] == [
        "Which of two rows is the forget row? Right 90 times in 100, by loss, taking the one that does worse (blind "
        "guessing 50, retrained 50). The forget rows stand out as doing worse: an attacker sees that they were "
        "deleted.",
        "Found with no false alarm in 48: 6 of 48 forget rows.",
        "Unlearned or never seen, by 8 shadow models (U-LiRA)? Right 78 times in 100 (blind guessing 50, retrained not "
        "measured); found with no false alarm in 48: 18 of 48 forget rows.",
        "Given the beginning of an answer, the model completes the last 6 % (2 to 11 %, retrained 3 %).",
        "Asked in other words: 12 of 48 answers word for word (as in training 0).",
        "Fine-tuned on 12 forget rows (0.7): the others come back faster than a retrained model learns them; not so on "
        "retain rows (0.95). (1 = as fast as the retrained model.)",
        "Weights rounded to int8: 24 of 48 answers word for word (not rounded 0, retrained 0).",
    ]
    nothing = first_screen.attacker(judged(forget_mia_loss_auc=NOT_FINITE).attacker)
    assert nothing == {"lead": "do what nobody has measured: no attack was tried.", "points": []}
    alone = first_screen.attacker(judged().attacker)
    assert alone["lead"] == "do nothing that the one attack tried would show."
    untried = "Not tried: shadow models, rephrased questions, relearning and rounding the weights"
    assert alone["points"][-1].replace(" and ", ", ").startswith(untried.replace(" and ", ", "))


def test_answer_on_how_sure_that_is():
    power = {
        "forget_mia_loss_auc_gap": {**m(0.01, -0.04, 0.06, n=96), "detectable": 0.05},
        "forget_quality": {**m(0.6), "distance": 0.1, "detectable": 0.278, "of": "loss"},
        "forget_extraction_strength": 0.0,
    }
    retrained = run("retrained", **{**RETRAINED["measures"], "forget_extraction_strength": 0.0})
    found = judged(retrained, run("retrained_again", forget_loss=3.9), **power)
    assert found.verdict is Verdict.INDISTINGUISHABLE
    assert first_screen.sure(found) == [
        "Indistinguishable from a retrained model by every test on this page.",
        "This rests on 48 forget and 48 unseen rows, one training seed and a retrained model.",
        "So few rows cannot show a difference of fewer than 5 in 100 guesses or a shift in loss of fewer than 28 in "
        "100 rows.",
        "The noise floor was measured.",
    ]
    alone = first_screen.sure(judged())
    assert alone[0] == "Compared with unseen rows only." and alone[2:] == [
        "This rests on 48 forget and 48 unseen rows, one training seed and no retrained model.",
        "Other rows of the same kind could give ±9 in 100 guesses.",
    ]
    less = judged(RETRAINED, retain_token_accuracy=0.5)
    assert first_screen.sure(less)[0] == "Told apart from a retrained model by: what it kept."


def test_failed_gates_are_named_with_what_was_found():
    found = [judged(RETRAINED, retain_token_accuracy=0.5)]
    lines = findings.failed_lines(found, [*VERDICT_GATES, "recovery", "quantisation", "verdict"])
    assert [line.removeprefix("people (unlearned): ").split(".")[0] for line in lines] == [
        "forget_quality could not be decided",
        "auc_gap could not be decided",
        "kept not passed",
        "extraction could not be decided",
        "recovery could not be decided",
        "quantisation could not be decided",
        "verdict not passed",
    ]
    assert "50 % of the retrained model's token accuracy on retain rows. Limit 98 %." in lines[2]


def test_everything_that_can_be_judged_has_words():
    assert set(names.BADGES) == set(Verdict)
    assert set(names.STATUSES) == set(Status) and set(first_screen.FORGOT) == set(Level)
    assert set(findings.REASONS) == set(findings.Why)
    for name, rule in gate_rules().items():
        assert gates.gate_text(Gate(name, Status.UNDECIDED)).startswith(("Needs", "Not"))
        assert names.gate_title(name) == rule.title != ""
    for rule in attempt_rules().values():
        assert rule.label


def test_numbers_as_text():
    values = (0, 1.2345, 123.4, 123456, 0.00012)
    assert [numbers.number(x) for x in values] == ["0", "1.23", "123", "1.2e+05", "0.0001"]
    assert [numbers.signed(x) for x in (0.5, -0.5)] == ["+0.5", "−0.5"]
    assert [numbers.percent(x) for x in (0.5, 0.991)] == ["50 %", "99.1 %"]
    assert [numbers.kept_percent(x) for x in (1.0, 1.01)] == ["100 %", "100 % or more"]
    assert [numbers.in_thousands(x) for x in (999, 68_930, 1_240_000_000)] == ["999", "68.9 thousand", "1.24 billion"]
    assert [numbers.amount(x) for x in (12, 12_345, 1.5)] == ["12", "12\u202f345", "1.5"]
    assert numbers.listed(["a", "b", "c"], "or") == "a, b or c"


def test_what_cannot_be_said_has_no_green_and_no_yes():
    before = run("original", forget_loss=3.9, unseen_loss=4.0)
    assert first_screen.answers(judged(before))["forgotten_level"] == "unknown"
    first = in_short.in_short(judged(before))[0]
    assert (first.title, first.word, first.level) == ("Forgotten", "cannot be said", Level.UNKNOWN)
    assert "forgot: cannot be said;" in findings.line(judged(before))
