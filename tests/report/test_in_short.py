"""The page's first lines: what was asked, the answers in a word or two, what to do."""

import pytest
from helpers.cards import GOOD, NOT_FINITE, ORIGINAL, RETRAINED, card, m, run

from hf_unlearn.evaluation.gates import Level
from hf_unlearn.evaluation.judge import Verdict, gains, judge
from hf_unlearn.report.words import findings, first_screen, in_short
from hf_unlearn.report.words.asking import asked, beside
from hf_unlearn.report.words.findings import gain_parts
from hf_unlearn.unlearning.stop_rule import DONE, REACHED


def judged(*others, role="unlearned", stop_reason=None, guarantee=None, details=None, **changed):
    how = {"stop_reason": stop_reason, "guarantee": guarantee, "details": details}
    found = judge(card(run(role, **how, **{**GOOD, **changed}), *others))
    return next(finding for finding in found if finding.model == role)


def word(title, *others, **changed):
    answers = {answer.title: answer for answer in in_short.in_short(judged(*others, **changed))}
    return answers[title].word, answers[title].level


PERSON = {"by": "column", "column": "person", "fraction": None, "count": 1, "values": []}
CLASS = {"by": "class", "column": "label", "fraction": None, "count": 2, "values": ["card_arrival", "top_up"]}
IDS = {"by": "id", "column": "id", "fraction": None, "count": 7, "values": [str(i) for i in range(7)]}


@pytest.mark.parametrize(
    ("request_", "rows", "said"),
    [
        ({**PERSON, "fraction": 0.1, "count": 12}, 48, "48 rows of 12 people, a tenth of all"),
        ({**PERSON, "values": ["Ada Lovelace"]}, 4, "4 rows of person Ada Lovelace"),
        ({**PERSON, "column": "speaker", "count": 3, "values": ["a", "b", "c"]}, 9, "9 rows of 3 speakers: a, b and c"),
        ({**PERSON, "column": "user_id", "fraction": 0.07, "count": 5}, 9, "9 rows of 5 values of user_id, 7 % of all"),
        ({**PERSON, "column": "city", "count": 2}, 1234, "1\u202f234 rows of 2 cities"),
        (CLASS, 90, "90 rows of 2 classes: card_arrival and top_up"),
        ({**CLASS, "count": 1, "values": ["dog"]}, 90, "90 rows of class dog"),
        (IDS, 7, "7 rows, by id: 0, 1, 2, 3, 4 and 2 more"),
        ({**IDS, "count": 1, "values": ["4711"]}, 1, "1 row, id 4711"),
        ({"by": "random", "column": None, "fraction": 0.1, "values": []}, 144, "144 rows, a random tenth"),
        ({"by": "random", "fraction": 0.07}, 9, "9 rows, a random 7 %"),
        ({"by": "random"}, 9, "9 rows, drawn at random"),
        (None, 48, "48 rows"),
        ({}, None, "rows"),
    ],
)
def test_a_request_is_told_by_names_and_numbers(request_, rows, said):
    assert asked(request_, rows) == said


def test_rows_beside_which_was_measured():
    counts = {"forget": 48, "retain": 200, "unseen": 40}
    assert beside(counts) == "Measured beside 200 retain and 40 unseen rows." and beside({"forget": 1}) == ""


def test_the_result_in_a_sentence():
    slow = {"recovery_real_area": {"value": 0.5}}
    assert in_short.sentence_of(in_short.in_short(judged(ORIGINAL, RETRAINED, **slow))) == (
        "Forgotten: yes by their loss only. Not repeated any more: yes. Can be brought back by fine-tuning: yes. "
        "The rest kept: yes, 99.1 %. Told apart from a retrained model: not by these tests."
    )


def test_no_answer_has_the_colour_of_a_success_that_a_test_contradicts():
    slow = {"recovery_real_area": {"value": 0.5}}
    assert word("Forgotten", ORIGINAL, RETRAINED) == ("yes", Level.YES)
    assert word("Forgotten", ORIGINAL, RETRAINED, **slow) == ("yes by their loss only", Level.PARTLY)


def test_nothing_is_said_of_a_before_that_was_not_measured():
    assert word("Not repeated any more", ORIGINAL)[0] == "yes"
    assert word("Not repeated any more", RETRAINED)[0] == "yes, none is; not measured before"


def test_repeated_is_by_counts_and_more_than_none_is_said():
    title, images = in_short.REPEATED["exact_match"], in_short.REPEATED["accuracy"]
    assert word(title, ORIGINAL, RETRAINED) == ("yes", Level.YES)
    assert word(title, ORIGINAL, RETRAINED, forget_exact_match=1 / 48) == ("1 of 48 still", Level.PARTLY)
    assert word(title, ORIGINAL, RETRAINED, forget_exact_match=0.5) == ("24 of 48 still", Level.NO)
    same = run("retrained", forget_accuracy=0.5)
    assert word(images, same, forget_exact_match=m(None), forget_accuracy=0.5) == (
        "24 of 48 still, no more than when retrained",
        Level.YES,
    )
    never = run("original", forget_exact_match=0.0)
    assert word(title, never) == ("cannot be said: none was before", Level.UNKNOWN)


def test_what_brings_rows_back():
    slow, fast = {"recovery_real_area": {"value": 1.0}}, {"recovery_real_area": {"value": 0.5}}
    rounded = {"forget_int4_exact_match": 0.5}
    assert word(in_short.BACK, RETRAINED) == ("not tried", Level.UNKNOWN)
    assert word(in_short.BACK, RETRAINED, **slow) == ("no", Level.YES)
    assert word(in_short.BACK, RETRAINED, **fast) == ("yes", Level.NO)
    assert word(in_short.BACK, RETRAINED, **fast, **rounded) == ("yes; also by rounding the weights", Level.NO)
    images = {"forget_loss": 2.0, "unseen_loss": 2.0, "forget_accuracy": 0.0}
    (found,) = judge(card(run("unlearned", **images, **fast), run("retrained", **images)))
    (weak,) = (answer for answer in in_short.in_short(found) if answer.title == in_short.BACK)
    assert (weak.word, weak.level) == ("perhaps, by a weak test", Level.PARTLY)
    assert "relearn" not in in_short.advice(found)
    assert word(in_short.BACK, RETRAINED, **slow, **rounded) == ("no; but by rounding the weights", Level.NO)


def test_every_verdict_has_a_word_and_advice():
    assert set(in_short.TOLD_APART) == set(Verdict)
    assert set(in_short.OTHERWISE) | {Verdict.TOLD_APART, Verdict.OVER_FORGOTTEN} == set(Verdict)


@pytest.mark.parametrize(
    ("others", "changed", "said"),
    [
        ((RETRAINED,), {"recovery_real_area": {"value": 0.5}},
         'Retrain without these rows or unlearn again with resistance="relearn".'),
        ((RETRAINED,), {"forget_loss": 9.0}, 'Retrain without these rows or unlearn again with gap="squared".'),
        ((RETRAINED,), {"forget_loss": 1.0, "stop_reason": DONE},
         "Retrain without these rows or unlearn again with a higher learning_rate or more passes."),
        ((RETRAINED,), {"forget_loss": 3.0, "stop_reason": REACHED, "forget_mia_loss_auc_gap": m(0.2, 0.1, 0.3)},
         'Retrain without these rows or unlearn again with gap="matched".'),
        ((RETRAINED,), {"forget_loss": 1.0, "stop_reason": DONE, "retain_token_accuracy": 0.5},
         "Retrain without these rows or unlearn again with a lower learning_rate, a LoRA adapter or more retain rows."),
        ((RETRAINED,), {"retain_token_accuracy": 0.5},
         "Retrain without these rows or unlearn again with a lower learning_rate, a LoRA adapter or more retain rows."),
        ((run("retrained", **{**RETRAINED["measures"], "forget_extraction_strength": 0.1}),),
         {"forget_extraction_strength": 0.5}, "Retrain without these rows."),
        ((RETRAINED,), {},
         "Measure more rows, and run the attacks that were not tried, before you rely on this."),
        ((), {}, "Train a model without these rows to compare with; without one nobody can tell."),
    ],
)  # fmt: skip
def test_advice_follows_from_what_was_found(others, changed, said):
    assert in_short.advice(judged(*others, **changed)) == said


@pytest.mark.parametrize(
    ("guarantee", "said", "level"),
    [
        ("exact", "exact by construction", Level.YES),
        ("approximate", "approximate, measured", Level.PARTLY),
        ("not_forgotten", "approximate, short of its target", Level.NO),
    ],
)
def test_what_a_run_says_of_its_deletion_comes_first(guarantee, said, level):
    first = in_short.in_short(judged(RETRAINED, guarantee=guarantee))[0]
    assert (first.title, first.word, first.level) == ("Deletion", said, level)
    assert in_short.in_short(judged(RETRAINED))[0].title == "Forgotten"


def test_an_exact_deletion_needs_nothing_more_whatever_the_tests_find():
    apart = {"forget_mia_loss_auc_gap": m(0.2, 0.1, 0.3), "guarantee": "exact"}
    assert in_short.advice(judged(RETRAINED, **apart)) == "Nothing more: hf-unlearn verify shows anew that it is exact."


def test_rows_that_were_never_seen_are_forgotten_whatever_they_measure():
    """A model without the rows may still answer some, or lose less on them than on others: that is no memory."""
    right = {"forget_exact_match": 0.5, "forget_loss": 0.5, "recovery_real_area": {"value": 0.5}}
    exact, other = (judged(ORIGINAL, RETRAINED, guarantee=said, **right) for said in ("exact", "approximate"))
    told = [{answer.key: (answer.word, answer.level) for answer in in_short.in_short(one)} for one in (exact, other)]
    assert told[0]["forgotten"] == (in_short.NEVER_SEEN, Level.YES) and told[1]["forgotten"] == ("no", Level.NO)
    assert told[0]["repeated"] == ("24 of 48 still, without having seen them", Level.YES)
    first = first_screen.forgotten(exact)
    assert first[0] == "Yes, exactly: these weights never saw the rows." and "loss 0.5 against" in first[2]
    assert first_screen.answers(exact)["attacker"]["lead"].endswith(
        "None of that comes from the rows: they were never trained on."
    )
    assert "None of that" not in first_screen.answers(other)["attacker"]["lead"]
    assert "forgot: yes, never seen;" in findings.line(exact) and "forgot: no;" in findings.line(other)
    assert in_short.overall([exact, other]).startswith(
        "Of 2 unlearned models, 1 never saw the rows (exact), 0 more forgot as far as the tests can show"
    )
    assert in_short.overall([exact]).startswith("Of 1 unlearned model, 1 never saw the rows (exact), 1 kept")


def test_what_readiness_bought_begins_with_an_exact_deletion():
    runs = [ORIGINAL, RETRAINED, run("unlearned", steps=40, **GOOD)]
    for guarantee, said in (
        ("exact", ["an exact deletion", "10 steps instead of 40"]),
        (None, ["10 steps instead of 40"]),
    ):
        made = card(*runs, run("ready_unlearned", steps=10, guarantee=guarantee, **GOOD))
        (gain,) = gains(judge(made), made)
        assert [part.split(" (")[0] for part in gain_parts(gain)][: len(said)] == said


def test_a_count_is_told_only_of_what_some_model_could_answer():
    slow = {"recovery_real_area": {"value": 0.5}}
    assert in_short.overall([judged(), judged(forget_loss=0.5)]) == (
        "Of 2 unlearned models, 1 forgot as far as the tests can show."
    )
    assert in_short.overall([judged(RETRAINED, **slow), judged(forget_loss=0.5)]) == (
        "Of 2 unlearned models, 0 forgot as far as the tests can show, 1 kept the rest, 1 can be brought back by "
        "fine-tuning and 0 are told apart from a retrained model."
    )
    assert in_short.overall([]) == ""


BEFORE_IT = run("original", forget_loss=0.02, general_perplexity=m(40.0, n=64))


@pytest.mark.parametrize(
    ("perplexity", "ratio", "said", "level"),
    [
        (m(41.0, n=64), m(1.03, 1.01, 1.04), "yes, perplexity 1.03 times", Level.YES),
        (m(104.0, n=64), m(2.6, 2.3, 2.9), "no, perplexity 2.60 times", Level.NO),
        (m(43.0, n=64), m(1.08, 1.01, 1.2), "perhaps not, perplexity 1.08 times: too few texts to tell", Level.PARTLY),
        (NOT_FINITE, NOT_FINITE, "no, not a finite perplexity", Level.NO),
    ],
)
def test_general_ability_is_an_answer_of_its_own(perplexity, ratio, said, level):
    measured = {"general_perplexity": perplexity, "general_perplexity_ratio": ratio}
    assert word("General ability kept", BEFORE_IT, RETRAINED, **measured) == (said, level)


def test_without_general_texts_nothing_is_said_of_general_ability():
    assert "General" not in in_short.sentence_of(in_short.in_short(judged(ORIGINAL, RETRAINED)))


def test_lost_general_ability_is_told_on_the_first_screen_and_asks_for_a_gentler_request():
    lost = {"general_perplexity": m(104.0, n=64), "general_perplexity_ratio": m(2.6, 2.3, 2.9)}
    found = judged(BEFORE_IT, RETRAINED, **lost)
    said = "Perplexity on 64 general texts 104, before the request 40: 2.60 times (2.30 to 2.90), limit 1.05."
    first = first_screen.answers(found)
    assert first["kept"][0] == "No: general ability was lost." and first["kept_level"] == "no" and said in first["kept"]
    assert said in findings.line(found) and "a lower learning_rate, a LoRA adapter" in in_short.advice(found)
    fine = judged(BEFORE_IT, RETRAINED, **{**lost, "general_perplexity_ratio": m(1.0, 0.9, 1.1)})
    assert first_screen.answers(fine)["kept"][0] == "Yes." and "learning_rate" not in in_short.advice(fine)
    assert "0 kept general ability" in in_short.overall([found])
    assert "1 kept general ability" in in_short.overall([fine])


def probed(right, of=10):
    return {"probes": [{"question": f"q{i}", "accepted": ["x"], "answer": "x", "right": i < right} for i in range(of)]}


@pytest.mark.parametrize(
    ("before", "now", "said", "level"),
    [
        (9, 9, "9 of 10, as many as before", Level.YES),
        (8, 9, "9 of 10, before 8", Level.YES),
        (9, 7, "7 of 10, before 9", Level.PARTLY),
        (6, 1, "1 of 10, before 6", Level.NO),
        (None, 9, "9 of 10; not measured before", Level.UNKNOWN),
    ],
)
def test_probe_questions_are_counted_before_and_after(before, now, said, level):
    others = [run("original", forget_loss=0.02, details=probed(before))] if before is not None else []
    assert word("Probe questions right", *others, details=probed(now)) == (said, level)


def test_where_no_question_was_right_before_none_is_told():
    found = judged(run("original", forget_loss=0.02, details=probed(0)), details=probed(0))
    assert "Probe" not in in_short.sentence_of(in_short.in_short(found)) and len(first_screen.kept(found)) == 2


def test_questions_that_a_request_cost_are_told_on_the_first_screen():
    found = judged(run("original", forget_loss=0.02, details=probed(6)), details=probed(1))
    assert first_screen.kept(found)[0] == "No: general ability was lost."
    said = "Of 10 general questions it answers 1 right, before the request 6: a loss that chance does not explain."
    assert said in first_screen.kept(found) and said in findings.line(found)
    assert "a lower learning_rate" in in_short.advice(found)
    few = judged(run("original", forget_loss=0.02, details=probed(6)), details=probed(5))
    assert "cannot tell from chance" in first_screen.kept(few)[2] and first_screen.answers(few)["kept_level"] != "no"
