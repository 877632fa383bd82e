"""`hf-unlearn plan`: what a request costs, of rows named by flags or by a recipe, before anything runs."""

from __future__ import annotations

import json

import pytest
from helpers.recipes import PEOPLE, problems_of, refusal
from helpers.replays import trained

from hf_unlearn.cli import main, plan
from hf_unlearn.report.plan_pictures import options_picture


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    trained(folder / "ready")
    rows = [{"id": i, "question": f"Who is {i}?", "answer": f"Number {i}."} for i in range(24)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "ids.txt").write_bytes("\ufeff0\r\n\r\n 20 \r\n".encode())  # as some editors save it
    recipe = {"dataset_name": folder / "rows.jsonl", "forget_by": "id", "forget_values": "['0', '20']", "unseen": 0.1}
    recipe |= {"output_dir": folder, "readiness": "replay", "ready.tail": 0.6}
    (folder / "my.yaml").write_text("\n".join(f"{key}: {value}" for key, value in recipe.items()))
    return folder


def told(outputs, capsys, *words):
    assert main.main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_named_in_three_ways_are_one_request(outputs, capsys):
    ready = ["--readiness", str(outputs / "ready")]
    listed = told(outputs, capsys, *ready, "--ids", "0", "20")
    assert listed["rows"] == 2 and listed["options"][0]["way"] == "replay"
    assert told(outputs, capsys, *ready, "--ids_file", str(outputs / "ids.txt")) == listed
    recipe = ["--config", str(outputs / "my.yaml")]
    assert told(outputs, capsys, *recipe) == listed  # `readiness: replay` there is the training's
    one = told(outputs, capsys, *recipe, "--ids", "20")
    assert one["rows"] == 1 and one["options"][0]["row_passes"] <= listed["options"][0]["row_passes"]


def test_the_table_says_in_words_what_is_cheapest_and_the_picture_what_is_exact(outputs, capsys, tmp_path):
    words = ["--readiness", str(outputs / "ready"), "--ids", "0", "1", "--picture", str(tmp_path / "p.svg")]
    assert main.main(["plan", *words]) == 0
    out = capsys.readouterr().out
    assert "To take 2 rows out of" in out and "Cheapest way that is exact: retrain." in out
    assert "'replay' cannot be done now: 1 of 2 asked rows (ids 1) are stable" in out
    svg = (tmp_path / "p.svg").read_text()
    assert "cannot be done now" in svg and 'xmlns="http://www.w3.org/2000/svg"' in svg and "dark" in svg


def test_a_bar_is_as_long_as_its_share_and_hollow_where_it_is_approximate():
    options = [
        {"way": way, "guarantee": kind, "share_of_retraining": share, "possible": True}
        for way, kind, share in (("a", "exact", 0.25), ("b", "approximate", 0.5), ("c", "exact", 1.0))
    ]
    svg = options_picture(options)
    assert all(f">{100 * one['share_of_retraining']:.3g} %" in svg for one in options)
    assert svg.count("stroke: var(--forget)") == 1 and svg.count("fill: var(--unlearned)") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --readiness"),
        (["--readiness", "nowhere"], "Give --ids or --ids_file"),
        (["--readiness", "x", "--ids", "1", "--ids_file", "none.txt"], "Give one of the two"),
        (["--readiness", "x", "--ids_file", "none.txt"], "`ids_file` is 'none.txt', and there is no such file"),
        (["--readiness", "x", "--ids", "1", "--salt_file", "salt"], "`salt_file` is 'salt', and there is no such file"),
        (["--readiness", "x", "--ids", "1", "--snapshots", "s"], "`snapshots` is 's', and there is no such folder"),
        (["--readiness", "x", "--ids", "1", "--picture", "p.png"], "`picture` is 'p.png'"),
        (["--ask", "0.02"], "Give --config"),
        (["--ask", "0.02", "--readiness", "x", "--limit", "9"], "`readiness` is of a request"),
        (["--ask", "-1", "--limit", "9"], "`ask` is -1.0"),
        (["--readiness", "x", "--ids", "1", "--ids", "2"], "`--ids` is given 2 times"),
    ],
)
def test_flags_that_say_too_little_or_two_things_are_refused(words, said, monkeypatch):
    (problem, *_) = problems_of(refusal(plan.main, words, monkeypatch))
    assert said in problem


def test_all_that_is_wrong_with_the_flags_is_said_at_once(monkeypatch):
    words = ["--readiness", "x", "--ids", "1", "--ids_file", "none.txt", "--picture", "p.png", "--salt_file", "salt"]
    assert len(problems_of(refusal(plan.main, words, monkeypatch))) == 4


def test_a_recipe_without_its_model_says_which_verb_makes_it(outputs, tmp_path, monkeypatch):
    said = refusal(plan.main, ["--config", str(outputs / "my.yaml"), "--output_dir", str(tmp_path)], monkeypatch)
    assert "Train it first by the verb ready" in said


def test_a_key_that_no_flag_has_is_told_with_its_file(outputs, tmp_path, monkeypatch):
    text = (outputs / "my.yaml").read_text()
    (tmp_path / "other.yaml").write_text(f"{text}\nplan.picutre: p.svg\n")
    said = refusal(plan.main, ["--config", str(tmp_path / "other.yaml")], monkeypatch)
    assert "There is no key `plan.picutre` in" in said and "did you mean `plan.picture`" in said


def test_rows_that_were_never_trained_on_are_told(outputs, monkeypatch):
    said = refusal(plan.main, ["--readiness", str(outputs / "ready"), "--ids", "0", "77"], monkeypatch)
    assert "1 of 2 asked rows (ids 77) were not in the training" in said


def test_before_a_training_tails_and_slices_are_weighed_by_the_recipe_s_groups(capsys, tmp_path):
    assert main.main(["plan", *PEOPLE, "--ask", "0.02", "--slices", "2", "--picture", str(tmp_path / "p.svg")]) == 0
    out = capsys.readouterr().out
    assert "8 revocable rows of 2 groups" in out and "← this config" in out
    assert "0.04 requests" in out and "kB" in out
    assert "% revocable" in (tmp_path / "p.svg").read_text()


def test_a_tail_and_slices_of_the_command_line_are_weighed_too_and_those_who_ask_more_count_more(outputs, capsys):
    rows = [json.loads(line) for line in (outputs / "rows.jsonl").read_text().splitlines()]
    rows = [{**row, "odds": 3.0 if row["id"] == 20 else 1.0} for row in rows]
    (outputs / "odds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = ["--config", str(outputs / "my.yaml"), "--dataset_name", str(outputs / "odds.jsonl"), "--max_steps", "40"]
    recipe += ["--model_type", "llama", "--config_overrides", "hidden_size=16", "--ask", "0.5"]
    own = [*recipe, "--tail", "0.35", "--slices", "2"]
    alike, skewed = (told(outputs, capsys, *own, *more) for more in ([], ["--ask_weight", "odds"]))
    assert alike["retraining"] == skewed["retraining"] == 1.0
    chosen = [next(one for one in found["choices"] if one["chosen"]) for found in (alike, skewed)]
    assert [(one["tail"], one["slices"]) for one in chosen] == [(0.35, 2)] * 2
    assert chosen[1]["request"] < chosen[0]["request"]
