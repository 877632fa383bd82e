"""What is said of the weights that a request leaves."""

from __future__ import annotations

import dataclasses
import math

import pytest

from hf_unlearn.report.words.ending import told
from hf_unlearn.unlearning.ending import Ending, ending
from hf_unlearn.unlearning.schedule import Rule, State
from hf_unlearn.unlearning.stop_rule import BUDGET, DONE, REACHED

RULE = Rule(alpha0=0.3, passes=10, target="current", chance=10.8, stop=True, retain_budget=0.5)
STATE = State(tau=3.7, tau_initial=3.4, retain_initial=0.1)


def left(forget, retain=0.12, tau=3.7, by_rows=False, **more) -> Ending:
    found = {"forget_loss": forget, "shortfall": (tau - forget) / tau, "retain_loss": retain}
    rule = dataclasses.replace(RULE, general_budget=0.05 if more else None)
    return ending(rule, dataclasses.replace(STATE, general_initial=2.0 if more else None), found | more, by_rows)


@pytest.mark.parametrize(
    ("forget", "forgotten", "beyond"),
    [(0.98, False, False), (3.6, True, False), (3.9, True, False), (5.85, True, True), (math.nan, False, False)],
)
def test_forgotten_is_within_a_twentieth_of_the_target_or_beyond_it(forget, forgotten, beyond):
    end = left(forget)
    assert (end.forgotten, end.beyond) == (forgotten, beyond)
    assert end.to_dict()["forgotten"] is forgotten


def test_what_is_not_forgotten_is_said_with_its_number_and_what_to_do():
    end = left(0.98).to_dict()
    said = told(end, DONE)
    assert said.startswith("Not forgotten: the forget rows' loss is 0.98 nats, of 3.7.") and "`passes`" in said
    assert "`learning_rate`" in told(end, BUDGET) and told(end, BUDGET) != said


def test_rows_that_stand_out_as_deleted_and_a_budget_that_is_passed_are_said():
    assert "gap=" in told(left(5.85).to_dict(), DONE) and "gap=" not in told(left(3.6).to_dict(), DONE)
    over = left(3.6, retain=0.8)
    assert not over.kept and "0.6 that the budget allows" in told(over.to_dict(), DONE)
    assert "budget" not in told(left(3.6).to_dict(), DONE)


def test_what_general_texts_have_lost_is_said_as_a_perplexity_and_only_where_there_are_any():
    assert "general" not in told(left(3.6).to_dict(), DONE)
    kept, lost = (left(3.6, general_loss=loss) for loss in (2.04, 2.7))
    assert kept.able and "1.04 times what it was." in told(kept.to_dict(), DONE)
    assert not lost.able and "2.01 times what it was: more than the 1.05." in told(lost.to_dict(), DONE)
    assert not left(3.6, general_loss=math.nan).able
    gone = left(3.6, general_loss=5000.0)
    assert "inf times what it was" in told(gone.to_dict(), DONE)


def test_of_rows_with_targets_of_their_own_no_mean_is_said_to_be_reached_or_missed():
    there, far = left(3.6, by_rows=True), left(3.6, by_rows=True, shortfall=0.3)
    said = told(there.to_dict(), REACHED)
    assert said.startswith("Forgotten, row by row: their shortfall is 0.027, of at most 0.05; their mean loss is 3.6")
    assert told(far.to_dict(), DONE).startswith("Not forgotten, row by row: their shortfall is 0.3, of at most 0.05;")


def test_rows_that_are_forgotten_where_the_run_did_not_end_by_that_are_not_claimed():
    assert "`not_forgotten`" in told(left(3.6).to_dict(), DONE)
    assert "`not_forgotten`" not in told(left(3.6).to_dict(), REACHED)
