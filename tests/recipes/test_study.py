"""The study's figures, table and page, on cells made up for it."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from recipes.study import answers, cells, judgement, outcomes, page, tables, words
from recipes.study import seeds as statistics
from recipes.study.seeds import Passes
from recipes.study.tasks import ARMS, YARDSTICKS

RATES = (3e-4, 1e-3)
ROWS = {"forget": 40, "retain": 360, "unseen": 40, "test": 80}


def asked(done: float | None, *, method="nabla_tau", rate=1e-3, forgotten=True, kept=0.98, end=9000.0) -> dict:
    """A request that is done after so many row passes, or never; where forgotten, it is so from half of them on."""
    last = end if done is None else done
    looks = [[k + 1, last * (k + 1) / 4, 0.5 + k / 2, 0.9 - k / 4, kept - 0.02 * (k < 3), 2.0] for k in range(4)]
    return {
        "method": method,
        "learning_rate": rate,
        "looks": looks,
        "forgotten": 1 if forgotten else None,
        "done": None if done is None else 3,
    }


def splits(rng, forget: float, *, retain=0.99, test=0.95) -> dict:
    found = {}
    for name in ROWS:
        loss = {"forget": forget, "unseen": 2.0}.get(name, 0.1)
        found[name] = {"loss": loss, "accuracy": {"retain": retain, "test": test, "unseen": 0.4}.get(name, 0.5)}
        if name in ("forget", "unseen"):
            found[name]["rows"] = np.abs(loss + 0.3 * rng.standard_normal(ROWS[name])).round(5).tolist()
    return found


def recovery(level: float) -> dict:
    return {kind: [round(2.0 - level * k / 6, 4) for k in range(7)] for kind in ("retain", "similar", "real")}


def cell(task: str, arm: str, seed: int, passes: float | None = 1000.0, **given) -> dict:
    """
    As of `recipes.study.build`.

    Args:
        passes: of the best request; None: it never finishes.
        given: `training` (row passes), `methods` and `scenarios` (True: there are such), `level` (how much comes back),
            `forgotten`, `retain` (accuracy before).
    """
    level, retain = given.get("level", 0.6), given.get("retain", 1.0)
    rng = np.random.default_rng([seed, len(arm), len(task)])
    found = {"schema": cells.SCHEMA, "task": task, "arm": arm, "seed": seed, "rows": ROWS, "seconds": 1.0}
    found["training"] = {"steps": 10, "row_passes": given.get("training", 10_000.0), "seconds": 1.0, "batch_size": 32}
    found["before"] = splits(rng, 1.9 if arm in outcomes.NEVER_ASKED else 0.05, retain=retain)
    if arm in outcomes.NEVER_ASKED:
        return {**found, "recovery": recovery(0.3)}
    some = {"forgotten": given.get("forgotten", True)}
    found["requests"] = [
        asked(None if passes is None else passes * (k + 1), rate=rate, **some) for k, rate in enumerate(RATES)
    ]
    if given.get("methods"):
        for factor, method in ((3, "gradient_ascent"), (2, "grad_diff"), (1.5, "npo")):
            never = passes is None or method == "gradient_ascent"
            found["requests"] += [asked(None if never else passes * factor, method=method, rate=r) for r in RATES]
    if given.get("methods"):
        end = {"splits": splits(rng, 2.1, retain=0.9), "recovery": recovery(0.2)}
        reached = "forget_loss_reached_target" if seed else "all_passes_done"
        found["resisted"] = {"learning_rate": 1e-3, "steps": 9, "row_passes": 700.0, "stop_reason": reached, **end}
    if passes is not None:
        after = {"splits": splits(rng, 1.7, retain=0.97), "recovery": recovery(level)}
        found["after"] = {"learning_rate": RATES[0], "row_passes": passes, **after}
        if given.get("scenarios"):
            parts = {"requests": [asked(passes) for _ in range(3)], "unseen_loss": 2.0}
            parts["end"] = [{"loss": loss, "accuracy": 0.1} for loss in (1.5, 1.8, 2.1)]
            found["scenarios"] = {"half stable rows": asked(passes * 1.2), "stable rows": asked(passes * 1.5)}
            found["scenarios"] |= {"after a fine-tune": asked(None), "three in a row": parts}
    return found


def verdict_cell(task: str, seed: int) -> dict:
    """As of `recipes.study.judge`: the ranked gap fails in seed 0 against the model retrained for as many epochs."""
    found = []
    for yardstick in YARDSTICKS:
        word = "told apart" if seed == 0 and yardstick == "as many epochs" else "not told apart"
        lines = [judged("retrained again", 0.0, None), judged("hinge", 1e-3, 900.0, "told apart")]
        lines += [judged("ranked", 1e-3, 1000.0 + 100 * seed, word), judged("ranked", 1e-4, 500.0, "told apart")]
        found += [{"yardstick": yardstick, **line} for line in lines]
    head = {"schema": cells.SCHEMA, "task": task, "arm": "verdict", "seed": seed}
    return {**head, "rows": ROWS, "verdicts": found, "seconds": 1.0}


def judged(gap: str, rate: float, passes: float | None, verdict="not told apart") -> dict:
    """As of `recipes.trial.judged`, with its request."""
    gates = {"forget_quality": verdict != "told apart", "kept": True, "extraction": None}
    measures = {"forget_loss": 2.0, "forget_quality": 0.5}
    return {"gap": gap, "learning_rate": rate, "row_passes": passes, "verdict": verdict, "gates": gates} | {
        "measures": measures
    }


def many(seeds: int = 3, tasks=("digits", "people"), arms=("retrained", "plain", "ready", "equal")) -> list[dict]:
    """A study in which readiness halves the row passes, more or less."""
    found = []
    for task in tasks:
        for seed in range(seeds):
            for arm in (arm for arm in arms if arm != "verdict"):
                full = arm in ("plain", "ready", "equal")
                factor = {"plain": 1.2, "ready": 0.5}.get(arm, 1.0) * (1 + 0.1 * seed if arm == "ready" else 1)
                passes = 3000.0 * factor
                if (task, arm, seed) == ("people", "equal", 1) or arm == "no retention":
                    passes = None
                training = 20_000.0 if arm in ("ready", "equal") else 10_000.0
                level = {"ready": 0.5, "relearn": 0.4}.get(arm, 0.8) + 0.02 * seed
                given = {
                    "methods": full,
                    "scenarios": full,
                    "training": training,
                    "level": level,
                }
                found.append(cell(task, arm, seed, passes, **given, retain=1.0 - 0.01 * (arm == "ready")))
            found.append(verdict_cell(task, seed))
    return found


def put(found, root) -> None:
    for one in found:
        path = cells.cell_path(root, one["task"], one["arm"], one["seed"])
        path.parent.mkdir(parents=True, exist_ok=True)
        measured = cells.measured_as(one["task"], one["arm"])
        path.write_text(json.dumps({"measured": measured, **one}), encoding="utf-8")


def gone(*counts: float | None) -> dict[int, Passes]:
    """Seeds 0, 1, …: row passes; negative: never, up to so many."""
    return {seed: Passes(abs(c), c > 0) for seed, c in enumerate(counts) if c is not None}


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


def test_median_puts_never_last():
    found = statistics.median(gone(300.0, -50.0, 100.0))
    assert found == {"value": 300.0, "least": 100.0, "most": None, "n": 3, "seeds": [0, 1, 2], "never": [1]}
    assert statistics.median(gone(1.0, -1.0))["value"] is None
    assert words.inline(statistics.median(gone(-1.0, -1.0))) == "never (2 of 2 seeds)"
    assert words.inline(found) == "300 (100–never, never in 1 of 3 seeds)"


def test_break_even():
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


def test_area_is_the_librarys():
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


# ---- what is written ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study of two tasks, one with all arms: `(tasks, folder)`."""
    root = tmp_path_factory.mktemp("study")
    cells = many(tasks=["people"], arms=ARMS) + many(seeds=2, tasks=["people 30 %"])
    put(cells, root)
    page.write(root, "python -m recipes.study --page", root / "study.json", root / "study.png")
    return outcomes.study(page.gather(root)), root


def test_figures_of_a_task(written):
    one = written[0]["people"]
    ready = one["figures"]["ready"]
    assert (ready["ratio"]["bound"], ready["ratio"]["at_least"], ready["ratio"]["n"]) == ("≥", [1], 3)
    assert ready["passes"]["value"] == pytest.approx(1650.0) and ready["training"]["value"] == 2.0
    assert ready["break_even"]["value"] == pytest.approx(10_000 / (3600 - 1650))
    assert (ready["area_real_difference"]["value"] > 0, ready["area_real_difference"]["n"]) == (True, 2)
    assert one["figures"]["no retention"]["passes"]["never"] == [0, 1, 2]
    assert one["figures"]["plain"]["ratio"]["value"] and "ratio" not in one["figures"]["equal"]
    assert one["methods"]["ready"]["gradient_ascent"]["passes"]["never"] == [0, 1, 2]
    assert one["scenarios"]["ready"]["after a fine-tune"]["ratio"]["neither"] == [0, 2]
    assert "never" not in one["figures"]["retrained"] and "passes" not in one["figures"]["retrained"]


def test_resistance_is_set_against_none(written):
    one, values = written[0]["people"]["resisted"], written[0]["people"]["values"]["ready"]
    assert set(one) == {"plain", "ready", "equal"} and one["ready"]["passes"]["never"] == [0]
    assert one["ready"]["kept"]["value"] == pytest.approx(0.9) and one["ready"]["after_loss"]["value"] == 2.1
    losses = [2.0 - 0.2 * k / 6 for k in range(7)], [2.0 - 0.3 * k / 6 for k in range(7)]
    resisting = outcomes.area(*(np.round(some, 4).tolist() for some in losses))
    assert one["ready"]["area_real"]["value"] == pytest.approx(resisting)
    without = statistics.mean({s: v["after"]["area"]["real"] for s, v in values.items() if s})["value"]
    assert one["ready"]["area_real"]["n"] == 2  # of those that forgot
    assert one["ready"]["area_real_gain"]["value"] == pytest.approx(resisting - without)


def test_verdicts_are_counted_by_yardstick_gap_and_rate(written):
    tasks, root = written
    again, hinge, ranked, slow = tasks["people"]["verdicts"][:4]
    assert {v["yardstick"] for v in (again, hinge, ranked, slow)} == {"as many epochs"}
    assert (again["gap"], again["share"]["n"]) == ("retrained again", 0)
    assert again["unseen"]["n"] == 3 and "unseen" not in ranked
    assert hinge["verdicts"] == {"told apart": [0, 1, 2]} and hinge["failed"] == {"forget_quality": [0, 1, 2]}
    assert ranked["verdicts"] == {"told apart": [0], "not told apart": [1, 2]}
    assert ranked["share"]["value"] == pytest.approx(1100.0 / 10_000)
    assert [judgement.level_of(v) for v in (again, hinge, ranked)] == ["yes", "no", "partly"]
    steps = [v for v in tasks["people"]["verdicts"] if v["yardstick"] == "as many steps"]
    assert judgement.level_of(steps[2]) == "yes" and steps[2]["share"]["n"] == 3
    assert judgement.best_verdicts(tasks)["people"] == [ranked, steps[2]]
    assert not judgement.as_retrained(tasks["people"], ranked)
    text = (root / "study.html").read_text(encoding="utf-8")
    assert "Can it be told from a retrained model?" in text and "told apart 3 of 3" in text
    apart = again["unseen"]["apart"]
    assert f"plain against retrained: KS p below .05 in {apart} of 3 seeds" in text.replace("\u00a0", " ")
    assert len(json.loads((root / "study.json").read_text())["tasks"]["people"]["verdicts"]) == 8


def test_a_match_is_as_often_as_a_second_retrained_model(written):
    tasks, _ = written
    people = tasks["people"]
    again, _, ranked, *_ = people["verdicts"]
    only = {**people, "verdicts": [again, ranked]}
    card = answers.matches({"people": only})
    words = "like retraining in {} of 1 cases"
    assert (card["level"], card["word"]) == ("partly", words.format(0))
    said = " ".join(rest for _, rest in card["said"]).replace("\u00a0", " ")
    assert "not told apart in 2 of 3 seeds (a second retrained model: 3 of 3)" in said
    assert "by 11.0 % (8.5–13.5 %, n = 3) of its row passes" in said
    assert "the best of 1 gaps over all tasks, and of 1 rates here, by this very mark" in said

    def answer(*lines) -> tuple[str, str]:
        card = answers.matches({"people": {**people, "verdicts": list(lines)}})
        return card["level"], card["word"]

    noisy = {**again, "verdicts": {"told apart": [0], "not told apart": [1, 2]}}
    assert answer(noisy, ranked) == ("yes", words.format(1))
    dear = {**ranked, "share": {**ranked["share"], "value": 0.3}}
    assert answer(noisy, dear) == ("partly", words.format(0))
    never = {**ranked, "verdicts": {"told apart": [0, 1, 2]}}
    assert answer(again, never) == ("no", words.format(0))
    blind = {**again, "verdicts": {"told apart": [0, 1, 2]}}
    unpaid = {**ranked, "share": statistics.mean({})}
    for lines in ((blind, never), (blind, ranked), (again, unpaid), (ranked,)):  # nothing to be as often as
        assert "like retraining" not in answer(*lines)[1]


def test_markdown(written):
    tasks, _ = written
    lines = tables.markdown(tables.for_readme(tasks)).splitlines()
    assert len(lines) == 3 and len({line.count("|") for line in lines}) == 1  # a task of two seeds does not go in
    people = lines[2].removeprefix("| ").split(" | ")
    assert people[:3] == ["people", "0–2", "2 (all alike)"]
    assert people[3:6] == ["3600 (all alike)", "3000 (3000–never, never in 1 of 3 seeds)", "1650 (1500–1800)"]
    assert people[6].startswith("≥ ") and "n =" not in people[6]  # the seeds say it
    assert "n = 2" in people[10] and "n =" not in people[11]
    assert len(people) == len(tables.HEAD)
    small = tables.summary(tasks)[1]
    assert small[0] == "people 30 %" and "(" not in small[6]  # no interval from two seeds


def test_the_readme_says_what_the_results_say():
    readme = (cells.HERE / "study" / "README.md").read_text(encoding="utf-8").replace("\u00a0", " ")
    shown = readme[readme.index("| " + " | ".join(tables.HEAD)) :].split("\n\n")[0].splitlines()
    published = json.loads(page.RESULTS.read_text(encoding="utf-8"))
    asked = {name: one["figures"].get("ready", {}).get("ratio") for name, one in published["tasks"].items()}
    ready = [one["figures"]["ready"] for name, one in published["tasks"].items() if asked[name]]
    assert len(shown) - 2 == sum(one["passes"]["n"] > 2 for one in ready) >= 4
    assert shown == published["table"]
    tasks = {name: whole(published["tasks"][name]) for name, ratio in asked.items() if ratio}
    good = [name for name, one in tasks.items() if judgement.by_all_marks(one)]
    wanted = ["digits", "people", "banking77", "cifar10", "digits 1 %", "digits 10 %", "people 1 %"]
    assert "on five tasks" in readme and good == wanted


def whole(one) -> dict:
    """A task of the JSON with the keys that it leaves out."""
    ready = {name: {"value": None, "apart": None, **found} for name, found in one["figures"]["ready"].items()}
    return {"figures": {"ready": ready}}


def test_told_apart_by_the_gap_or_by_most_seeds():
    def one(gaps, apart):
        gap = statistics.difference(dict(enumerate(gaps)), dict.fromkeys(range(len(gaps)), 0.0))
        return {"figures": {"plain": {"auc_gap": gap, "ks_p": {"apart": apart, "n": len(gaps)}}}}

    assert judgement.told_apart(one([0.1, 0.11, 0.12], 0), "plain")
    assert not judgement.told_apart(one([0.1, -0.1, 0.0], 1), "plain")
    assert judgement.told_apart(one([0.1, -0.1, 0.0], 2), "plain")
    assert judgement.told_apart(one([0.1, 0.11], 2), "plain") is None


def test_a_match_has_no_gap_over_all_seeds(written):
    people = written[0]["people"]
    again, _, ranked, *_ = people["verdicts"]
    noisy = {**again, "verdicts": {"told apart": [0], "not told apart": [1, 2]}}

    def answer(gaps):
        measures = {**ranked["measures"], judgement.AUC_GAP: statistics.mean(dict(enumerate(gaps)))}
        return judgement.as_retrained({**people, "verdicts": [noisy]}, {**ranked, "measures": measures})

    assert answer([0.02, -0.02, 0.01]) and not answer([0.04, 0.05, 0.045])


def test_a_page_of_verdicts_alone(tmp_path):
    put([verdict_cell("people", 0)], tmp_path)
    page.write(tmp_path, "command", tmp_path / "study.json", tmp_path / "study.png")
    text = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "0 models were trained" in text and "Retrained for as many steps" in text


def test_peak_memory_is_that_of_the_arms_flags(tmp_path):
    from transformers import ViTConfig

    from recipes.study import memory

    folder = tmp_path / "plain-0"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(**sizes, patch_size=2, image_size=8, num_channels=1, num_labels=10)
    config.architectures = ["ViTForImageClassification"]
    config.save_pretrained(folder)
    arms = ("plain", "equal", "ready", "finite difference", "any row", "any group far")
    cells = [("digits", arm, folder) for arm in arms]
    gone = [("digits", "relearn", tmp_path / "gone"), ("digits", "align", tmp_path), ("no task", "plain", folder)]
    unknown = [("digits", "no retention", folder), ("digits", "verdict", folder), ("digits", "no arm", folder)]
    found = memory.peaks([*cells, *gone, *unknown])
    assert set(found) == {"digits"} and set(found["digits"]) == set(arms)
    peak = found["digits"]
    assert peak["plain"] == peak["equal"] < peak["any row"] < peak["any group far"]
    assert peak["any row"] == pytest.approx(peak["ready"], rel=0.01)  # in the batch, and as many beside it
    assert peak["ready"] < peak["finite difference"]
    one = {"figures": {arm: {} for arm in arms}, "values": {arm: {} for arm in arms}, "memory": peak}
    table = tables.arm_table(one)
    shown = {line["name"]: line["cells"][table["head"].index("peak memory, ×plain")] for line in table["lines"]}
    ratio = words.number(peak["ready"] / peak["plain"])
    assert (shown["plain"]["value"], shown["ready"]["value"]) == ("1", ratio)
    assert "MB, by estimate" in shown["ready"]["title"]


def test_json_is_small_and_holds_no_rows(written):
    tasks, root = written
    text = (root / "study.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert (
        found["command"] == "python -m recipes.study --page"
        and found["versions"]
        and found["cells"] == len(ARMS) * 3 + 10
    )
    assert len(text) < 1500 * found["cells"] and '"rows":[' not in text and "looks" not in text
    assert '"seeds":"0–2"' in text
    ready = found["tasks"]["people"]["figures"]["ready"]["ratio"]
    assert ready["value"] == pytest.approx(tasks["people"]["figures"]["ready"]["ratio"]["value"], rel=1e-3)
    best = min(r[1] for r in found["tasks"]["people"]["values"]["ready"]["0"]["requests"]["nabla_tau"])
    assert found["request"][1] == "passes" and best == 1500.0
    assert max(map(len, text.splitlines())) < 3000


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe")
        assert not any(re.match(r"(https?:)?//", attrs.get(key) or "") for key in ("src", "href"))
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_hides_no_failure(written):
    text = (written[1] / "study.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not page.open and len(page.ids) == len(set(page.ids))
    assert "never (3 of 3 seeds)" in text and "ready without retention" in text
    assert "never in 1 of 3 seeds" in text and "control never in 1" in text
    assert "Too few seeds, or too few that finished, for an interval:" in text and "people 30\u00a0%" in text
    words = re.sub(r"<svg.*?</svg>|<style>.*?</style>|<[^>]*>", " ", text, flags=re.S).lower()
    assert "people" in words and not re.search(r"\b(nan|inf)\b", words)
    assert (written[1] / "study.png").stat().st_size < 60_000


@pytest.mark.parametrize("arms", [["plain"], ["retrained"], ["ready", "equal"], ["equal", "any row"]])
def test_what_is_there_is_enough(arms, tmp_path, capsys):
    put([cell("digits", arm, 0, None if arm == "equal" else 50.0, forgotten=False) for arm in arms], tmp_path)
    page.write(tmp_path, "x", tmp_path / "a.json", tmp_path / "a.png")
    _Page((tmp_path / "study.html").read_text(encoding="utf-8"))
    assert "study.html shows all of it" in capsys.readouterr().out


def test_methods_that_plain_models_alone_were_asked_by(tmp_path):
    arms = ("plain", "ready", "equal")
    put([cell("tofu", arm, seed, 50.0 + seed, methods=arm == "plain") for arm in arms for seed in range(3)], tmp_path)
    page.write(tmp_path, "x", tmp_path / "a.json", tmp_path / "a.png")
    found = tables.compared(outcomes.study(page.gather(tmp_path))["tofu"]["methods"], {}, None)
    lines = {line["name"]: [c["value"] for c in line["cells"]] for line in found["lines"]}
    assert lines["nabla_tau"][:4] == ["51", "51", "51", "1"] and lines["npo"][1:4] == ["–", "–", "–"]


def test_other_cells_are_named_and_none_is_an_error(tmp_path, capsys):
    with pytest.raises(ValueError, match="run some tasks first"):
        page.write(tmp_path, "x", tmp_path / "a.json", tmp_path / "a.png")
    put([cell("digits", "plain", 0), {**cell("digits", "plain", 1), "schema": 0}], tmp_path)
    assert [one["seed"] for one in page.gather(tmp_path)] == [0]
    assert "plain-1.json" in capsys.readouterr().out
    smoke = cell("digits", "plain", 2)
    smoke["smoke"] = True
    put([{**cell("digits", "plain", 1), "measured": {"attack": 1.0}}, smoke], tmp_path)
    assert [one["seed"] for one in page.gather(tmp_path)] == [0]
    assert "trained or measured in another way than now: digits, plain-1; digits, plain-2." in capsys.readouterr().out


def test_the_flag_gathers(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(page, "write", lambda *given: seen.append(given))
    cells.main(["--page", "--output_dir", str(tmp_path)])
    cells.main(["--page", "--publish", "--output_dir", str(tmp_path)])
    command = f"python -m recipes.study --page --output_dir {tmp_path}"
    published = f"python -m recipes.study --page --publish --output_dir {tmp_path}"
    assert seen == [(tmp_path, command), (tmp_path, published, page.RESULTS, page.PICTURE)]


def test_answers_count_what_is_shown():
    def one(ratios, kept=0.0, utility=0.0, known=-0.02):
        shown = {"ratio": ratios, "kept_difference": of(kept), "utility": of(utility), "forget_before": of(known)}
        return {"figures": {"ready": shown, "equal": {}, "plain": {}}}

    def of(value):
        return statistics.difference({s: value + s / 1e4 for s in range(3)}, dict.fromkeys(range(3), 0.0))

    better = statistics.ratio(gone(200.0, 210.0, 190.0), gone(100.0, 100.0, 100.0))
    worse = statistics.ratio(gone(50.0, 51.0, 49.0), gone(100.0, 100.0, 100.0))
    few = statistics.ratio(gone(200.0), gone(100.0))
    card = answers.pays({"a": one(better), "b": one(worse), "c": one(few)})
    assert (card["level"], card["word"]) == ("no", "by all marks on 0 of 2")  # a geometric mean of 1.998
    lost = statistics.ratio(gone(200.0, 210.0, 190.0), gone(-100.0, -100.0, -100.0))
    best = statistics.ratio(gone(300.0, 310.0, 290.0), gone(100.0, 100.0, 100.0))
    assert answers.pays({"a": one(best), "b": one(lost)})["word"] == "by all marks on 1 of 2"
    card = answers.pays({"a": one(best), "b": one(worse), "c": one(few)})
    assert (card["level"], card["word"]) == ("partly", "by all marks on 1 of 2")
    said = " ".join(lead + " " + rest for lead, rest in card["said"])
    assert "on a." in said and "More row passes (below 1): 0.5" in said and "for an interval: c." in said
    assert answers.pays({"b": one(worse)})["level"] == "no"
    assert answers.pays({"c": one(few)})["word"] == "too few seeds to say"
    assert answers.pays({})["word"] == "not measured yet"
    assert answers.pays({"a": one(best)})["level"] == "yes"
    assert answers.pays({"a": one(best, kept=-0.01)})["level"] == "no"  # less kept
    assert answers.pays({"a": one(best, utility=-0.02)})["level"] == "no"  # paid for in advance
    assert answers.pays({"a": one(best, known=-0.11)})["level"] == "no"  # forgotten in advance


def test_sizes_are_compared_among_models_that_are_trained_alike():
    ratio = statistics.ratio(*({s: Passes(n + s, True) for s in (0, 1)} for n in (100.0, 50.0)))
    names = ("people", "people 1 %", "people 30 %", "people LoRA", "digits")
    one = {"rows": {"forget": 1, "retain": 9}, "figures": {"ready": {"ratio": ratio}}}
    shown = page.size_pictures(dict.fromkeys(names, one))
    assert len(shown) == 1 and "people, people 1 %, people 30 %" in str(shown) and "LoRA" not in str(shown)


def test_numbers_as_text():
    assert words.seeds_text([3, 0, 1, 2, 7]) == "0–3, 7"
    assert [words.points(x) for x in (-0.0111, 0.0, 0.004, -0.0004)] == ["−1.1", "0.0", "+0.4", "0.0"]
    assert [words.signed(x) for x in (-0.5, 0.25, 0.0)] == ["−0.5", "+0.25", "0"]
    assert words.span(-0.1, 0.2, words.signed) == "−0.1 to +0.2"
    assert words.span(-0.02, 0.98, words.share) == "−2.0\u00a0% to 98.0\u00a0%"
    assert [words.number(x) for x in (-0.25, 2e-05)] == ["−0.25", "2e-05"]
    assert words.span(0.97, 0.98, words.share) == "97.0–98.0\u00a0%"
