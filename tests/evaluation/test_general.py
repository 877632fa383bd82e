"""General ability: perplexity on texts that have nothing to do with the request, against the model before it."""

from __future__ import annotations

import math

import pytest
from helpers.cards import NOT_FINITE, m
from helpers.row_tables import table
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn import evaluate
from hf_unlearn.evaluation.gates import Status
from hf_unlearn.evaluation.judge import judge_run

PASSED, FAILED, UNDECIDED, NOT_APPLICABLE = Status
RATIO = "general_perplexity_ratio"


def judged(ratio=None, perplexity=None, before=None):
    mine = {"forget_token_accuracy": m(0.1)} | ({RATIO: ratio} if ratio else {})
    mine |= {"general_perplexity": perplexity} if perplexity else {}
    found = judge_run({"measures": mine}, before={"measures": {"general_perplexity": before} if before else {}})
    return found.gates["general"]


def test_the_ratio_is_of_the_same_texts_in_pairs_and_of_the_model_before_the_request():
    before, after = ({"general": table(nll_sum=own)} for own in ([1.0, 2.0, 6.0], [1.5, 2.0, 6.1]))
    card = evaluate({"original": before, "unlearned": after})
    found = card["unlearned"].measures[RATIO]
    assert found["value"] == pytest.approx(math.exp(0.6 / 6))
    assert found["low"] == pytest.approx(1) and found["high"] == pytest.approx(math.exp(0.5 / 2)) and found["n"] == 3
    assert card["unlearned"].measures["general_perplexity"]["value"] == pytest.approx(math.exp(9.6 / 6))
    assert RATIO not in card["original"].measures


def test_a_ready_model_is_the_one_before_its_own_request():
    one, two = {"general": table()}, {"general": table(nll_sum=[5.0, 5.0, 5.0])}
    card = evaluate({"original": two, "ready": one, "ready_unlearned": one, "unlearned": one})
    assert card["ready_unlearned"].measures[RATIO]["value"] == 1
    assert card["unlearned"].measures[RATIO]["value"] < 1


def test_a_models_texts_are_a_split_like_the_others():
    rows = {"forget": lm_rows(3), "general": lm_rows(4, start=3)}
    card = evaluate({"original": lm(0), "unlearned": lm(1)}, rows, processing_class=tokenizer(), resamples=50)
    found = card["unlearned"].measures
    both = [card[role].measures["general_perplexity"]["value"] for role in ("unlearned", "original")]
    assert found[RATIO]["value"] == pytest.approx(both[0] / both[1]) and found[RATIO]["n"] == 4


@pytest.mark.parametrize(
    ("ratio", "status"),
    [
        (m(1.04, 0.9, 1.2), PASSED),
        (m(1.3, 1.06, 1.6), FAILED),
        (m(1.3, 1.04, 1.6), UNDECIDED),
        ({**m(1.3), "low": None}, UNDECIDED),
    ],
)
def test_the_gate_goes_by_the_whole_interval(ratio, status):
    gate = judged(ratio, m(50), m(40))
    assert gate.status is status and gate.numbers["limit"] == 1.05 and gate.numbers["before"] == 40


def test_without_texts_the_gate_does_not_apply_and_without_a_model_before_nothing_is_decided():
    assert judged().status is NOT_APPLICABLE
    assert judged(None, m(50)).status is UNDECIDED and not judged(None, m(50)).numbers
    assert judged(None, m(41), m(40)).status is PASSED  # cards of other makers, without the pairs


def test_a_model_that_diverged_has_lost_its_general_ability():
    assert judged(NOT_FINITE, NOT_FINITE, m(40)).status is FAILED
    assert judged(None, NOT_FINITE, NOT_FINITE).status is UNDECIDED
