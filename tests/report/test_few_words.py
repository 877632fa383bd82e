"""The result on a terminal: a table of a few words."""

from __future__ import annotations

from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, run

from hf_unlearn.evaluation.judge import judge
from hf_unlearn.report.words import few_words
from hf_unlearn.report.words.in_short import TRIAL, in_short


def test_each_question_is_a_line_and_each_unlearned_model_a_column():
    found = card(ORIGINAL, run("unlearned", **GOOD), run("ready_unlearned", **GOOD), RETRAINED)
    lines, findings = few_words.table(found).splitlines(), judge(found)
    assert lines[0].split() == ["people", "unlearned", "ready,", "then", "unlearned"] and len(findings) == 2
    for answer in in_short(findings[0]):
        (line,) = [line for line in lines if line.startswith(answer.title)]
        assert line.removeprefix(answer.title).strip().startswith(answer.word)
    assert all(len(line) <= 150 for line in lines)


def test_a_trial_run_claims_nothing_and_a_card_without_a_request_says_so():
    found = {**card(ORIGINAL, run("unlearned", **GOOD)), "provenance": {"people": {"smoke": True}}}
    assert few_words.table(found) == f"people: {TRIAL}"
    assert few_words.table({"schema": 2, "runs": [], "provenance": {}}) == few_words.NOBODY


def test_columns_are_one_below_the_other():
    assert few_words.columns([("a", "b", "c"), ("long", "x", "")]) == ["a     b  c", "long  x"]
