"""Statistics of the study: means, ratios, medians and bounds over seeds, and the figures of one seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.study import asked, cell, gone
from scipy import stats

from recipes.study import judgement, outcomes, words
from recipes.study import seeds as statistics

# ---- statistics -----------------------------------------------------------------------------------------------------


def test_mean_and_its_interval():
    values = {0: 1.0, 1: 2.0, 4: 6.0, 7: None}
    found = statistics.mean(values)
    low, high = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem([1.0, 2.0, 6.0]))
    assert found == {"value": 3.0, "low": pytest.approx(low), "high": pytest.approx(high), "n": 3, "seeds": [0, 1, 4]}
    assert statistics.mean({0: 1.0, 1: 3.0}) == {"value": 2.0, "low": None, "high": None, "n": 2, "seeds": [0, 1]}
    assert statistics.mean({}) == {"value": None, "low": None, "high": None, "n": 0, "seeds": []}


def test_difference_is_paired():
    ours, others = {0: 1.0, 1: 2.1, 2: 3.2, 3: 9.0}, {0: 0.0, 1: 1.0, 2: 2.0, 3: None, 4: 5.0}
    found = statistics.difference(ours, others)
    assert (found["n"], found["seeds"], found["apart"]) == (3, [0, 1, 2], "above")
    assert found["value"] == pytest.approx(1.1)
    assert statistics.difference(others, ours)["apart"] == "below"
    assert statistics.difference({0: 1.0, 1: -1.0, 2: 0.1}, dict.fromkeys(range(3), 0.0))["apart"] is None
    assert statistics.difference(ours, {})["n"] == 0


def test_ratio_is_geometric_and_paired():
    found = statistics.ratio(gone(200.0, 400.0, 800.0, 1.0), gone(100.0, 100.0, 100.0))
    assert found["value"] == pytest.approx(4.0) and found["seeds"] == [0, 1, 2] and found["bound"] == ""
    half = stats.t.ppf(0.975, 2) * math.log(2) / math.sqrt(3)
    assert [math.log(found[key] / 4) for key in ("low", "high")] == pytest.approx([-half, half])
    assert found["apart"] is None  # 0.7 to 22
    assert statistics.ratio(gone(200.0, 210.0, 190.0), gone(100.0, 100.0, 100.0))["apart"] == "above"
    assert statistics.ratio(gone(50.0, 51.0, 49.0), gone(100.0, 100.0, 100.0))["apart"] == "below"
    two = statistics.ratio(gone(200.0, 200.0), gone(100.0, 100.0))
    assert (two["value"], two["low"], two["n"], two["apart"]) == (pytest.approx(2.0), None, 2, None)


def test_a_seed_that_never_finished_is_a_bound_and_stays():
    ready = gone(100.0, 100.0, 100.0)
    found = statistics.ratio(gone(-300.0, 310.0, 290.0), ready)
    assert (found["bound"], found["at_least"], found["n"], found["apart"]) == ("≥", [0], 3, None)
    lost = statistics.ratio(gone(300.0, 310.0, 290.0), gone(-100.0, 100.0, 100.0))
    assert (lost["bound"], lost["lost"], lost["n"], lost["apart"]) == (
        "≤",
        [0],
        3,
        None,
    )  # above 1 by a bound from above
    worse = statistics.ratio(gone(30.0, 31.0, 29.0), gone(-100.0, 100.0, 100.0))
    assert (worse["bound"], worse["apart"], worse["low"], worse["high"]) == ("≤", None, None, None)
    known = statistics.ratio(gone(3000.0, 310.0, 290.0), ready)  # the same seed, had it been waited for
    assert known["apart"] is None and known["low"] < 1
    both = statistics.ratio(gone(-300.0, 310.0, 290.0), gone(100.0, -100.0, 100.0))
    assert (both["bound"], both["apart"]) == ("?", None)
    neither = statistics.ratio(gone(-300.0, -300.0), gone(-100.0, 100.0))
    assert (neither["neither"], neither["n"], neither["at_least"]) == ([0], 1, [1])
    assert words.inline(found).startswith("≥\u00a03 (") and "control never in 1" in words.inline(found)
    assert words.inline(lost).startswith("≤\u00a03 (") and "ready never in 1" in words.inline(lost)
    assert words.inline(statistics.ratio(gone(-1.0), gone(-1.0))) == "neither finished (1 of 1 seeds)"


def test_six_seeds_bound_the_median_where_some_never_finished():
    ready = gone(*[100.0] * 6)
    found = statistics.ratio(gone(300.0, -900.0, 200.0, 400.0, -500.0, 250.0), ready)
    assert (found["of"], found["bound"], found["n"], found["apart"]) == ("median", "", 6, "above")
    assert found["value"] == pytest.approx(math.sqrt(12.0))  # between the third, 3, and the fourth, 4
    assert (found["low"], found["high"]) == (pytest.approx(2.0), None)
    assert words.inline(found, lambda x: f"{x:.1f}").startswith("3.5 (median, 2.0 or more, ")
    most = statistics.ratio(gone(300.0, -900.0, -200.0, -400.0, -500.0, 250.0), ready)
    assert (most["bound"], most["value"], most["low"]) == ("≥", pytest.approx(math.sqrt(12.0)), pytest.approx(2.0))
    lost = statistics.ratio(gone(*[20.0 + k for k in range(6)]), gone(100.0, -100.0, 100.0, 100.0, 100.0, 100.0))
    assert (lost["apart"], lost["low"], lost["high"]) == ("below", None, pytest.approx(0.25))
    five = statistics.ratio(gone(*[300.0] * 5, -900.0), gone(*[100.0] * 5, -90.0))  # and nothing of the sixth
    assert (five["value"], five["low"], five["high"], five["n"]) == (pytest.approx(3.0), None, None, 5)
    assert five["neither"] == [5] and "neither in 1" in words.inline(five)
    ends = gone(100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 900.0), gone(*[100.0] * 6, -100.0)
    between = statistics.ratio(*ends)  # the median is between 3 and 4
    assert (between["bound"], between["value"]) == ("≥", pytest.approx(3.0))
    both = statistics.ratio(gone(*[300.0] * 5, -300.0), gone(-100.0, *[100.0] * 5))
    assert (both["low"], both["high"], both["apart"], both["value"]) == (None, None, None, pytest.approx(3.0))
    assert judgement.sides({"a": both})["open"] and not judgement.sides({"a": both})["few"]
    same = statistics.ratio(gone(300.0, 300.0, 300.0), gone(100.0, 100.0, 100.0))
    assert same["low"] == same["high"] and same["apart"] is None and "all alike" in words.inline(same)
    assert statistics.order_interval(range(9), range(9)) == (1, 7)  # P(B(9, ½) < 2) = 10 / 512
    assert statistics.order_interval([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]) == (None, None)


def test_a_seed_that_never_finished_counts_as_the_largest_in_a_median():
    found = statistics.median(gone(300.0, -50.0, 100.0))
    assert found == {"value": 300.0, "least": 100.0, "most": None, "n": 3, "seeds": [0, 1, 2], "never": [1]}
    assert statistics.median(gone(1.0, -1.0))["value"] is None
    assert words.inline(statistics.median(gone(-1.0, -1.0))) == "never (2 of 2 seeds)"
    assert words.inline(found) == "300 (100–never, never in 1 of 3 seeds)"


def test_break_even_is_extra_training_over_savings_of_a_request():
    extra = {0: 1000.0, 1: 1000.0, 2: 1000.0, 3: 1000.0}
    found = statistics.break_even(extra, gone(300.0, 300.0, -200.0, 300.0), gone(100.0, 400.0, 100.0, -50.0))
    assert found["never"] == [1, 3] and found["at_most"] == [2] and found["least"] == 5.0  # 1000 / 200; 1000 / ≥100
    assert found["value"] is None and found["most"] is None
    assert statistics.break_even({0: 1000.0, 1: 1000.0}, gone(300.0, 600.0), gone(100.0, 100.0))["value"] == 3.5
    assert statistics.break_even({0: -5.0}, gone(2.0), gone(1.0))["value"] == 0.0


# ---- a seed ---------------------------------------------------------------------------------------------------------


def test_request_and_the_fewest_over_rates():
    r = outcomes.request(asked(4000.0, kept=0.99), 0.9)
    assert (r["passes"], r["reached"], r["forgotten"]) == (4000.0, True, 2000.0)
    assert (r["kept"], r["kept_then"]) == pytest.approx((1.1, 0.97 / 0.9))
    never = outcomes.request(asked(None, forgotten=False, end=50.0), 0.9)
    assert (never["passes"], never["reached"], never["kept"], never["forgotten"]) == (50.0, False, None, None)
    assert outcomes.request(asked(1.0), 0.0)["kept"] is None
    assert outcomes.request({**asked(1.0), "looks": []}, 1.0) is None
    assert outcomes.fewest([never, r]) is r
    assert outcomes.fewest([{**never, "passes": 70.0}, never]) is never  # the fewest is at least 50
    assert outcomes.fewest([r], "npo") is None


def test_the_area_of_the_study_is_the_recovery_area_of_the_library():
    from hf_unlearn.evaluation import recovery_area

    losses, reference = [2.0, 1.0, 0.5], [2.0, 1.8, 1.7]
    curves = [[{"step": 5 * k, "loss": x} for k, x in enumerate(some)] for some in (losses, reference)]
    assert outcomes.area(losses, reference) == pytest.approx(recovery_area(*curves))
    assert outcomes.area([1.0, math.nan], [1.0, 1.0]) is None and outcomes.area([1.0, 1.0], [0.0, 0.0]) is None


def test_values_are_against_the_models_of_the_same_seed():
    cells = {arm: cell("digits", arm, 0, training=15_000.0, scenarios=True) for arm in ("retrained", "ready")}
    plain = cell("digits", "plain", 0, training=10_000.0, retain=0.5)
    found = outcomes.values_of(cells["ready"], plain, cells["retrained"])
    after, gone_from = (
        cells["ready"]["after"]["splits"]["forget"]["rows"],
        cells["retrained"]["before"]["forget"]["rows"],
    )
    assert found["training"] == [15_000.0, 1.5]
    assert found["requests"][0]["kept"] == pytest.approx(0.98 / 0.5)
    assert found["after"]["ks_p"] == stats.ks_2samp(after, gone_from).pvalue and found["after"]["ks_rows"] == [40, 40]
    unseen = cells["ready"]["after"]["splits"]["unseen"]["rows"]
    auc = np.mean([(a < b) + (a == b) / 2 for a in after for b in unseen])
    assert found["membership"] == pytest.approx(auc)
    assert found["after"]["area"]["real"] == pytest.approx(1.7 / 1.85)
    assert found["scenarios"]["three in a row"]["passes"] == 3000.0
    assert found["scenarios"]["three in a row"]["beyond_unseen"] == pytest.approx([-0.5, -0.2, 0.1])
    alone = outcomes.values_of(cells["ready"], None, None)
    assert alone["training"][1] is None and alone["requests"][0]["kept"] is None and "ks_p" not in alone["after"]
