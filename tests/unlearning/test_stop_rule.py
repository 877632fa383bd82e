"""The stop rule: which looks end a request, and the reason that it gives."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from hf_unlearn.unlearning import stop_rule
from hf_unlearn.unlearning.schedule import Rule, State, retarget, set_out, start
from hf_unlearn.unlearning.stop_rule import BUDGET, DONE, GENERAL, REACHED, update

RULE = Rule(alpha0=0.3, passes=10, target="current", chance=3.0, stop=True, retain_budget=0.1)


def rule(**changes):
    return dataclasses.replace(RULE, **changes)


def feed(rule, state, looks, first=0):
    """Feeds one look a pass; returns the state and the reasons given."""
    reasons = []
    for i, look in enumerate(looks):
        state = update(rule, state, forget_pass=first + i, **look)
        reasons.append(state.stop_reason)
    return state, reasons


def test_the_target_counts_as_reached_after_two_looks_in_a_row():
    near, far = ({"shortfall": s, "retain_loss": 0.11} for s in (0.05, 0.0501))
    _, reasons = feed(RULE, start(RULE, 2.0, 0.1), [near, far, near, {}, {"retain_loss": 0.1}, near])
    assert reasons == [None] * 5 + [REACHED]
    over = [{**near, "shortfall": -0.1}] * 2
    assert feed(RULE, start(RULE, 2.0, 0.1), over)[1] == [None, REACHED]
    assert feed(RULE, start(RULE, 2.0, 0.1), [{**near, "shortfall": -0.1001}] * 4)[1] == [None] * 4
    assert feed(RULE, start(RULE, 2.0, 0.1), [{**near, "shortfall": math.nan}] * 4)[1] == [None] * 4


def test_a_run_that_has_reached_its_target_goes_on_until_the_retain_rows_recover_or_thrice_as_long():
    there = {"shortfall": 0.0}
    low, high = ({**there, "retain_loss": 0.1 + more} for more in (0.02, 0.03))
    far = {"shortfall": 0.5, "retain_loss": 0.1}
    kept = start(RULE, 2.0, 0.1)
    still = rule(target="frozen")
    assert feed(RULE, kept, [far, far, high, high])[1] == [None] * 3 + [REACHED]  # a moving target may be lost
    assert feed(still, kept, [far, far, high, high, low, low])[1] == [None] * 5 + [REACHED]
    state, reasons = feed(still, kept, [far, far, *[high] * 6])
    assert reasons == [None] * 7 + [REACHED] and state.first_reached == 2  # passes 6 and 7 are thrice as long
    assert feed(rule(fewest=8, target="frozen"), kept, [far, far, *[high] * 8])[1] == [None] * 9 + [REACHED]
    last = feed(rule(passes=4, target="frozen"), kept, [far, far, high, high, high])[1]
    assert last == [None] * 4 + [REACHED]
    many = feed(rule(fewest=99, passes=42, target="frozen"), kept, [far, far, *[high] * 40])[1]
    assert many.index(REACHED) == 38  # of the forty passes after pass 2 the last five are not for recovering
    unable = rule(recovers=False, target="frozen")  # nothing brings them back
    assert feed(unable, kept, [high, high])[1] == [None, REACHED]
    narrow = rule(retain_budget=0.01, target="frozen")
    assert feed(narrow, kept, [{**there, "retain_loss": 0.109}] * 2)[1] == [None, REACHED]


def test_where_nothing_holds_the_rows_at_the_target_the_first_look_there_ends_the_run():
    there, far = {"shortfall": 0.0, "retain_loss": 0.15}, {"shortfall": 0.5, "retain_loss": 0.15}
    for target in ("current", "frozen"):
        assert feed(rule(holds=False, target=target), start(RULE, 2.0, 0.1), [far, there])[1] == [None, REACHED]


@pytest.mark.parametrize("reason", [DONE, stop_rule.MAX_STEPS, BUDGET, GENERAL])
def test_a_run_that_ends_without_its_target_goes_back_to_where_it_had_it(reason):
    had = dataclasses.replace(start(RULE, 2.0, 0.1), first_reached=3, stop_reason=reason)
    still = rule(target="frozen")
    assert stop_rule.ends_where_reached(still, had) and not stop_rule.ends_where_reached(RULE, had)
    assert not stop_rule.ends_where_reached(rule(target="frozen", stop=False), had)
    for other in ({"first_reached": None}, {"stop_reason": REACHED}, {"stop_reason": None}):
        assert not stop_rule.ends_where_reached(still, dataclasses.replace(had, **other))


def test_rows_that_began_beyond_the_target_may_stay_there():
    began = start(RULE, 2.0, 0.1)
    state = set_out(began, -1.3)
    for shortfall, reason in ((-1.3, REACHED), (-1.39, REACHED), (-1.41, None), (0.0, REACHED), (0.1, None)):
        assert feed(RULE, state, [{"shortfall": shortfall, "retain_loss": 0.11}] * 2)[1][-1] == reason
    assert set_out(began, 0.9) == set_out(began, math.nan) == began
    assert State(**json.loads(json.dumps(state.to_dict()))) == state


def test_a_wider_tolerance_holds_on_both_sides_of_the_target():
    state = start(RULE, 2.0, 0.1, short_by=0.2)
    for shortfall, reason in ((0.2, REACHED), (-0.2, REACHED), (0.201, None), (-0.201, None)):
        assert feed(RULE, state, [{"shortfall": shortfall, "retain_loss": 0.11}] * 2)[1][-1] == reason


@pytest.mark.parametrize("retain", [0.2001, 0.55, math.nan])
def test_the_target_is_not_reached_while_the_retain_rows_are_beyond_the_budget(retain):
    near, dip = {"shortfall": 0.0, "retain_loss": 0.2}, {"shortfall": 0.0, "retain_loss": retain}
    assert feed(RULE, start(RULE, 2.0, 0.1), [near, dip, near, near])[1] == [None, None, None, REACHED]


@pytest.mark.parametrize("retain", [0.2001, 0.55, math.nan])
def test_a_run_that_ends_beyond_the_budget_says_so(retain):
    look = {"shortfall": 0.5, "retain_loss": retain}
    assert update(RULE, start(RULE, 2.0, 0.1), forget_pass=10, **look).stop_reason == BUDGET
    assert update(rule(stop=False), start(RULE, 2.0, 0.1), forget_pass=10, **look).stop_reason == DONE
    assert update(RULE, start(RULE, 2.0, 0.1), forget_pass=10, shortfall=0.5, retain_loss=0.2).stop_reason == DONE


def test_the_budget_is_spent_after_two_looks_in_a_row_far_beyond_it_and_nan_spends_it():
    state = start(RULE, 2.0, 0.1)
    assert stop_rule.retain_limit(RULE, state) == pytest.approx(0.1 + 0.1)
    assert stop_rule.transient_limit(RULE, state) == 3.0
    assert stop_rule.transient_limit(rule(recovers=False), state) == pytest.approx(0.2)
    in_, out, nan = {"retain_loss": 2.9999}, {"retain_loss": 3.0001}, {"retain_loss": math.nan}
    assert feed(RULE, state, [out, in_, out, {}, out])[1] == [None] * 4 + [BUDGET]
    assert feed(RULE, state, [nan, nan])[1] == [None, BUDGET]
    assert feed(RULE, state, [nan, out])[1] == [None, BUDGET]


def test_the_budget_is_counted_from_the_first_retain_loss_whatever_the_target_does():
    state = update(RULE, retarget(RULE, start(RULE, 2.0, 0.1), 3.0), forget_pass=1, retain_loss=0.15)
    assert stop_rule.retain_limit(RULE, state) == pytest.approx(0.2)
    assert stop_rule.retain_limit(RULE, start(RULE, 0.5, 1.0)) == pytest.approx(1.1)


def test_a_destroyed_model_is_not_reported_as_having_reached_its_target():
    both = {"shortfall": -1.0, "retain_loss": 9.0}
    assert feed(RULE, start(RULE, 2.0, 0.1), [both, both])[1] == [None, BUDGET]


def test_the_last_pass_ends_the_run_and_the_reason_is_kept():
    state, reasons = feed(RULE, start(RULE, 2.0, 0.1), [{}, {}], first=9)
    assert reasons == [None, DONE]
    assert state.stop_reason == DONE and state.forget_pass == 10


def test_the_last_step_of_max_steps_has_its_own_stop_reason():
    state = start(RULE, 2.0, 0.1)
    for loss, reason in ((None, "max_steps"), (0.2, "max_steps"), (0.2001, BUDGET), (math.nan, BUDGET)):
        assert stop_rule.end(RULE, state, retain_loss=loss).stop_reason == reason


def with_texts(general=2.0):
    """`(rule, state)` of a request with general texts, whose budget is .05 nats."""
    made = rule(general_budget=0.05)
    return made, start(made, 2.0, 0.1, general)


@pytest.mark.parametrize("general", [2.0501, 2.5, math.nan])
def test_the_target_is_not_reached_while_general_texts_are_beyond_their_budget(general):
    made, state = with_texts()
    near, dip = ({"shortfall": 0.0, "retain_loss": 0.12, "general_loss": loss} for loss in (2.05, general))
    assert feed(made, state, [near, dip, near, near])[1] == [None, None, None, REACHED]


def test_general_texts_far_beyond_their_budget_twice_in_a_row_end_the_run():
    made, state = with_texts()
    out, in_ = ({"retain_loss": 0.15, "general_loss": loss} for loss in (2.0501 + math.log(2), 2.74))
    assert feed(made, state, [out, in_, out, out])[1] == [None, None, None, GENERAL]
    assert feed(made, state, [{**out, "general_loss": math.nan}] * 2)[1] == [None, GENERAL]
    assert feed(rule(stop=False, general_budget=0.05), state, [out] * 4)[1] == [None] * 4


def test_a_run_that_ends_with_general_texts_beyond_their_budget_says_so():
    made, state = with_texts()
    for general, retain, reason in ((2.06, 0.15, GENERAL), (2.04, 0.15, DONE), (2.04, 0.3, BUDGET)):
        look = {"retain_loss": retain, "general_loss": general}
        assert update(made, state, forget_pass=10, shortfall=0.5, **look).stop_reason == reason
        found = stop_rule.end(made, state, **look).stop_reason
        assert found == ("max_steps" if reason == DONE else reason)


def test_fixed_length_ends_only_with_the_last_pass():
    fixed = rule(stop=False)
    look = {"shortfall": -1.0, "retain_loss": math.nan}
    state, reasons = feed(fixed, start(fixed, 2.0, 0.1), [look] * 11)
    assert reasons == [None] * 10 + [DONE]


def test_update_leaves_its_arguments_and_a_state_survives_json():
    before = start(RULE, 2.0, 0.1)
    copy = dataclasses.replace(before)
    after = update(RULE, before, forget_pass=4, shortfall=0.01, retain_loss=9.0)
    assert before == copy and after != before
    assert State(**json.loads(json.dumps(after.to_dict()))) == after


def test_every_stop_reason_has_a_sentence():
    ended = {"max_steps", "interrupted", "replayed", "dropped"}
    assert {REACHED, BUDGET, GENERAL, DONE} | ended == set(stop_rule.STOP_REASONS)
