"""What the study writes: figures, tables, page, JSON, and the lines of its README."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.study import cell, gone, many, put, verdict_cell

from recipes.study import answers, cells, judgement, outcomes, page, tables, words
from recipes.study import seeds as statistics
from recipes.study.seeds import Passes
from recipes.study.tasks import ARMS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study of two tasks, one with all arms: `(tasks, folder)`."""
    root = tmp_path_factory.mktemp("study")
    cells = many(tasks=["people"], arms=ARMS) + many(seeds=2, tasks=["people 30 %"])
    put(cells, root)
    return page.write(root, "python -m recipes.study --page", root / "study.json", root / "study.png"), root


def test_figures_of_a_task_follow_from_its_cells(written):
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


def test_the_table_of_the_readme_has_a_line_for_each_task_with_enough_seeds(written):
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
    readme = (cells.RECIPES / "study" / "README.md").read_text(encoding="utf-8").replace("\u00a0", " ")
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
        measures = {**ranked["measures"], judgement.GAP_BY_LOSS: statistics.mean(dict(enumerate(gaps)))}
        return judgement.as_retrained({**people, "verdicts": [noisy]}, {**ranked, "measures": measures})

    assert answer([0.02, -0.02, 0.01]) and not answer([0.04, 0.05, 0.045])


def test_a_page_of_verdicts_alone(tmp_path):
    put([verdict_cell("people", 0)], tmp_path)
    page.write(tmp_path, "command", tmp_path / "study.json", tmp_path / "study.png")
    text = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "0 models were trained" in text and "Retrained for as many steps" in text


@pytest.mark.slow
def test_peak_memory_is_that_of_the_arms_flags(tmp_path):
    from transformers import ViTConfig

    from recipes.study import memory

    folder = tmp_path / "plain-0"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
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
    assert (written[1] / "study_ratios.png").is_file()


@pytest.mark.parametrize("arms", [["plain"], ["retrained"], ["ready", "equal"], ["equal", "any row"]])
def test_the_page_is_written_from_any_subset_of_arms(arms, tmp_path, capsys):
    put([cell("digits", arm, 0, None if arm == "equal" else 50.0, forgotten=False) for arm in arms], tmp_path)
    page.write(tmp_path, "x", tmp_path / "a.json", tmp_path / "a.png")
    _Page((tmp_path / "study.html").read_text(encoding="utf-8"))
    assert "study.html shows all of it" in capsys.readouterr().out


def test_methods_that_plain_models_alone_were_asked_by(tmp_path):
    arms = ("plain", "ready", "equal")
    put([cell("tofu", arm, seed, 50.0 + seed, methods=arm == "plain") for arm in arms for seed in range(3)], tmp_path)
    tasks = page.write(tmp_path, "x", tmp_path / "a.json", tmp_path / "a.png")
    found = tables.compared(tasks["tofu"]["methods"], {}, None)
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


def test_flag_page_gathers_the_cells_and_flag_publish_names_the_published_files(tmp_path, monkeypatch):
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


def test_numbers_are_written_with_signs_units_and_spans():
    assert words.seeds_text([3, 0, 1, 2, 7]) == "0–3, 7"
    assert [words.points(x) for x in (-0.0111, 0.0, 0.004, -0.0004)] == ["−1.1", "0.0", "+0.4", "0.0"]
    assert [words.signed(x) for x in (-0.5, 0.25, 0.0)] == ["−0.5", "+0.25", "0"]
    assert words.span(-0.1, 0.2, words.signed) == "−0.1 to +0.2"
    assert words.span(-0.02, 0.98, words.share) == "−2.0\u00a0% to 98.0\u00a0%"
    assert [words.number(x) for x in (-0.25, 2e-05)] == ["−0.25", "2e-05"]
    assert words.span(0.97, 0.98, words.share) == "97.0–98.0\u00a0%"
