"""The study of objectives: what it runs, which point stands for an objective, its table and its picture."""

from __future__ import annotations

import json

import pytest

from hf_unlearn.cli import parsing
from hf_unlearn.objectives.registry import OBJECTIVES
from hf_unlearn.unlearning.stop_rule import BUDGET, REACHED
from recipes.study import compare, compare_plot, compare_table
from recipes.study.compare import AGAIN, METHODS, PLAIN, REPLAY, RETRAINED, SALIENCY, TASKS, Place

CURVE = [2.5, 2.0, 1.5]


def cell(method, factor=None, forget=2.5, kept=1.0, seed=0, task="people", **more) -> dict:
    found = {"schema": compare.SCHEMA, "task": task, "method": method, "factor": factor, "seed": seed, "smoke": False}
    found |= {"goal": "unseen", "rate": factor and 3e-4 * factor, "stop_reason": REACHED if factor else None}
    found |= {"splits": {"forget": [forget, 0.1], "retain": [0.1, 0.9 * kept], "unseen": [3.0, 0.0]}, "steps": 40}
    found |= {"membership": 0.5, "row_passes": 1000.0, "recovery": dict.fromkeys(compare.KINDS, CURVE)}
    return {**found, **more}


MODELS = [cell(PLAIN, forget=0.1, membership=0.9), cell(RETRAINED, row_passes=4000.0)]


def test_all_objectives_are_compared_and_classifiers_get_those_that_are_for_them():
    assert set(METHODS) - {SALIENCY} == set(OBJECTIVES)
    assert compare.methods_of(TASKS["people"], ["all"]) == list(METHODS)
    of_classes = compare.methods_of(TASKS["digits"], ["all"])
    assert set(METHODS) - set(of_classes) == {"alt_po", "idk_dpo"} and SALIENCY in of_classes
    first, *rates, last = compare.cells_of(TASKS["digits"], ["npo", "rmu"], (1.0, 3.0))
    assert first == [(PLAIN, None), (RETRAINED, None)] and last == [(AGAIN, None), (REPLAY, None)]
    assert rates == [[("npo", 1.0), ("rmu", 1.0)], [("npo", 3.0), ("rmu", 3.0)]]
    assert compare.cells_of(TASKS["tofu"], ["npo"], (1.0,))[-1] == [(REPLAY, None)]


@pytest.mark.parametrize("method", METHODS)
def test_the_flags_of_every_method_are_taken(method, tmp_path):
    words = [*METHODS[method].split(), *compare.stronger(method, 9e-4, 3.0), "--output_dir", str(tmp_path)]
    args = parsing.parse("unlearn", words)[3]
    assert args.objective == method.split(",")[0]
    assert args.learning_rate == 9e-4 or (method == "ssd" and args.ssd_alpha == 1.0)


def test_each_cell_has_a_file_of_its_own(tmp_path):
    place = Place("people", 2, tmp_path)
    assert place.cell("npo", 1 / 3) == tmp_path / "people" / "npo_0.0001-2.json"
    assert place.cell("retrained again", None).name == "retrained_again-2.json"


def best(*cells):
    return compare_table.points([*MODELS, *cells])["people"]["npo"][0]


def test_of_the_rates_that_keep_enough_the_nearest_to_the_retrained_model_stands_for_an_objective():
    near, far = cell("npo", 1.0, forget=2.4), cell("npo", 3.0, forget=4.0)
    assert best(near, far)["rate"] == best(far, near)["rate"] == pytest.approx(3e-4)
    assert best({**near, "splits": {**near["splits"], "retain": [0.1, 0.5]}}, far)["rate"] == pytest.approx(9e-4)
    losing = [cell("npo", 1.0, kept=0.5), cell("npo", 3.0, forget=4.0, kept=0.7)]
    assert best(*losing)["kept"] == pytest.approx(0.7)
    broken = {key: value for key, value in cell("npo", 3.0).items() if key not in ("splits", "membership", "recovery")}
    assert best(broken | {"stop_reason": compare.NOT_FINITE}, losing[0])["kept"] == pytest.approx(0.5)


def test_a_class_is_forgotten_where_its_rows_are_not_answered_whatever_their_loss():
    def of_class(factor, loss, right):
        splits = {**MODELS[0]["splits"], "forget": [loss, right]}
        return cell("npo", factor, goal="chance", splits=splits)

    assert best(of_class(1.0, 2.5, 0.4), of_class(3.0, 6.0, 0.0))["right"] == 0.0


def test_a_line_is_held_against_plain_and_retrained_models_of_its_seed():
    line = compare_table.line_of(cell("npo", 1.0, forget=2.0, kept=0.98), *MODELS)
    assert line["beyond"] == -0.5 and line["auc_gap"] == 0.0 and line["cost"] == 0.25
    assert line["kept"] == pytest.approx(0.98) and line["areas"] == {"retain": 1.0, "real": 1.0}
    tested = {**cell("npo", 1.0)["splits"], "test": [0.1, 0.45]}
    plain = {**MODELS[0], "splits": {**MODELS[0]["splits"], "test": [0.1, 0.9]}}
    assert compare_table.line_of(cell("npo", 1.0, splits=tested), plain, MODELS[1])["kept"] == 0.5


def many(task="people", goal="unseen"):
    cells = []
    for seed in range(3):
        cells += [{**model, "seed": seed, "task": task, "goal": goal} for model in MODELS]
        more = {"seed": seed, "task": task, "goal": goal}
        cells += [cell("npo", 1.0, 2.4 + seed / 10, **more), cell("rmu", 1.0, 2.0, 0.9, **more)]
        cells += [cell("simnpo", 1.0, 2.2, **more, stop_reason=BUDGET if seed else REACHED)]
    return cells


def test_the_table_has_a_line_an_objective_with_intervals_and_those_that_keep_enough_first():
    head, _, *lines = compare_table.markdown(many()).splitlines()[2:]
    assert head.startswith("| objective | learning rate | reached |")
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert names == [PLAIN, RETRAINED, "npo", "simnpo", "rmu"]
    assert lines[2].startswith("| npo | 0.0003 | 3 of 3 | 40 | 0 (−0.248 to +0.248) |") and "| 1 of 3 |" in lines[3]
    assert "90.0 % (90.0–90.0 %)" in lines[4] or "90.0 % (all alike)" in lines[4]


def test_what_has_no_learning_rate_shows_what_is_in_its_place():
    cells = [*MODELS, cell("ssd", 3.0), cell("npo", 3.0)]
    text = compare_table.markdown([{**one, "rate": one["factor"] and 9e-4} for one in cells])
    assert "| ssd | ssd_alpha 1 |" in text and "| npo | 0.0009 |" in text and f"| {PLAIN} |  |" in text


def test_cells_are_published_over_the_same_ones_and_smoke_runs_are_not(tmp_path):
    path, folder = tmp_path / "results.json", tmp_path / "cells" / "people"
    folder.mkdir(parents=True)
    compare_table.write([cell("npo", 1.0, forget=9.0), cell("rmu", 1.0)], path)
    (folder / "npo-0.json").write_text(json.dumps(cell("npo", 1.0)))
    (folder / "ssd-0.json").write_text(json.dumps({**cell("ssd", 1.0), "smoke": True}))
    (folder / "alternates-0.json").write_text(json.dumps(["another answer"]))
    found = compare_table.over(compare_table.read(path), compare_table.gather(tmp_path / "cells"))
    assert {one["method"]: one["splits"]["forget"][0] for one in found} == {"npo": 2.5, "rmu": 2.5}


def test_the_picture_has_a_row_a_task_and_labels_that_do_not_cover_each_other(tmp_path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    tasks = compare_table.points([*many(), *many("digits", "chance")])
    compare_plot.draw(tasks, tmp_path / "objectives.png")
    assert 10_000 < (tmp_path / "objectives.png").stat().st_size < 120_000
    figure = Figure(figsize=(5, 4))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    compare_plot.place_labels(axis, [(0.5, 0.5, "npo"), (0.5, 0.5, "simnpo"), (0.51, 0.5, "grad_diff")])
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    assert len(boxes) == 3 and not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_a_study_that_was_killed_goes_on(tmp_path, monkeypatch, capsys):
    made = []

    def measure(place, method, factor):
        made.append((method, factor))
        if method == "rmu" and len(made) == 4:
            raise KeyboardInterrupt
        return {key: value for key, value in cell(method, factor).items() if key not in ("task", "factor", "seed")}

    monkeypatch.setattr(compare, "measure", measure)
    words = ["--task", "people", "--seeds", "0", "--objectives", "npo", "rmu", "--factors", "1"]
    with pytest.raises(KeyboardInterrupt):
        compare.main([*words, "--output_dir", str(tmp_path)])
    compare.main([*words, "--output_dir", str(tmp_path), "--table"])
    assert made[3:] == [("rmu", 1.0), ("rmu", 1.0), (AGAIN, None), (REPLAY, None)]
    assert "people, seeds 0" in capsys.readouterr().out


@pytest.mark.parametrize("words, said", [
    (["--task", "penguins"], "no task or objective is called penguins"), (["--seeds", "0"], "name a --task"),
    (["--task", "people", "--objectives", "best"], "no task or objective is called best"),
    (["--task", "tofu"], "by --data"), (["--task", "people", "--factors", "0"], "above 0"),
])  # fmt: skip
def test_wrong_words_are_told(words, said, capsys):
    with pytest.raises(SystemExit):
        compare.main(words)
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_in_a_smoke_size(tmp_path):
    words = ["--task", "digits", "--seeds", "0", "--factors", "1", "--objectives", "npo", "ssd", "--smoke"]
    compare.main([*words, "--output_dir", str(tmp_path)])
    cells = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "digits").glob("*.json")}
    assert len(cells) == 6 and cells["replay-0"]["stop_reason"] == "replayed"
    for one in cells.values():
        assert set(one["splits"]) == {"forget", "retain", "unseen", "test"}
        assert set(one["recovery"]) == {"retain", "real"}
