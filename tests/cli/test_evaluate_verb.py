"""What the verb evaluate leaves behind: score card, report, and the cards of the models it measured."""

from __future__ import annotations

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features
from helpers.cards import GOOD, ORIGINAL, run
from helpers.row_tables import table
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn import ArgumentError, Scorecard
from hf_unlearn.cli import evaluate, parsing, prepare, running, saved_runs, unlearn
from hf_unlearn.cli.arguments import DataArguments, EvaluateArguments
from hf_unlearn.evaluation import ModelScores, save_tables
from hf_unlearn.evaluation.rows import row_hashes
from hf_unlearn.trainers import known_rows, records
from hf_unlearn.utils.files import write_json


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A score card of two models, their folders, and a place for what comes of it."""
    monkeypatch.setattr(Scorecard, "to_html", lambda self, path: path.write_text("<!doctype html>"))
    folders = {role: str(tmp_path / role) for role in ("original", "unlearned")}
    for role in folders:
        (tmp_path / role).mkdir()
        (tmp_path / role / "README.md").write_text(f"# {role}\n\nMy words.\n")
    card = Scorecard([ModelScores(**one) for one in (ORIGINAL, run("unlearned", **GOOD))])
    texts = {"prompt": ["Who?"], "reference": ["Ann"], "generation": ["Bob"]}
    card.runs[1].generations = {"forget": pa.table(texts)}
    return card, folders, tmp_path


def test_the_cards_of_the_measured_models_tell_what_was_measured(measured, capsys):
    card, folders, path = measured
    evaluate.conclude(card, EvaluateArguments(str(path / "out")), folders, [])
    assert "in the model cards (README.md) of original, unlearned." in capsys.readouterr().out
    for role in folders:
        text = (path / role / "README.md").read_text()
        assert "My words." in text and "## Scores: people" in text
        assert ("**Forgotten**" in text) == (role == "unlearned")
    assert (path / "out/generations.parquet").is_file()


def test_cards_and_answers_in_clear_can_be_left_out(measured, capsys):
    card, folders, path = measured
    own = EvaluateArguments(str(path / "out"), generations=False, model_cards=False)
    evaluate.conclude(card, own, folders, [])
    assert (path / "unlearned/README.md").read_text() == "# unlearned\n\nMy words.\n"
    assert "README.md" not in capsys.readouterr().out
    assert not (path / "out/generations.parquet").exists() and (path / "out/scorecard.json").is_file()


def test_answers_to_probe_questions_are_left_out_with_the_others(measured):
    card, folders, path = measured
    card.runs[1].details["probes"] = [{"question": "Who?", "accepted": ["I"], "answer": "Ann", "right": False}]
    card.save(path / "mine", generations=False)
    kept = Scorecard.load(path / "mine")["unlearned"].details["probes"][0]
    assert kept == {"question": "Who?", "accepted": ["I"], "answer": None, "right": False}
    assert card["unlearned"].details["probes"][0]["answer"] == "Ann"
    evaluate.conclude(card, EvaluateArguments(str(path / "out"), generations=False, model_cards=False), folders, [])
    assert card["unlearned"].details["probes"][0]["answer"] is None


def test_a_card_that_cannot_be_written_is_told_and_the_others_are(measured, caplog):
    card, folders, path = measured
    (path / "original/README.md").write_text("---\na: [\n---\n")
    assert evaluate.write_cards(card, {**folders, "retrained": "org/model"}) == ["unlearned"]
    assert "original was left as it is: its header cannot be read" in caplog.text
    (path / "original/README.md").write_text("---\npipeline_tag: [x]\n---\n")  # YAML, but no card
    assert evaluate.write_cards(card, folders) == ["unlearned"]
    assert "original was left as it is: unhashable" in caplog.text


def test_tables_that_lack_a_split_are_refused(tmp_path):
    rows = [{"input_ids": [1, 2 + i], "labels": [1, 2]} for i in range(3)]
    tables = {name: table(row_hash=row_hashes(rows)) for name in ("retain", "unseen")}
    save_tables(tables, tmp_path)
    with pytest.raises(ValueError, match="has no forget.parquet: copy the whole folder"):
        evaluate.whole_tables(str(tmp_path), dict.fromkeys(tables, rows))


def test_a_record_of_another_kind_is_told_with_its_file(tmp_path):
    (tmp_path / "unlearning.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"unlearning.json should hold a JSON object and holds \[1, 2\]"):
        saved_runs.saved_run(tmp_path)


def test_that_rows_were_deleted_exactly_is_said_of_those_rows_alone(tmp_path, caplog):
    rows = lm_rows(6)
    salt = records.salt_for(str(tmp_path))
    known_rows.write(tmp_path / known_rows.FILE, known_rows.commit(known_rows.FORGOTTEN, rows.select([0, 4]), salt))
    write_json(tmp_path / records.UNLEARNING, {"guarantee": "exact", "stop_reason": "replayed"})
    folder = str(tmp_path)

    def said(chosen: list[int]):
        prepared = prepare.Prepared({"forget": rows.select(chosen)}, tokenizer(), None)
        return saved_runs.said_of_runs({"unlearned": folder}, prepared)

    assert said([4])["guarantee"] == {"unlearned": "exact"} and not caplog.text
    assert said([4, 5])["guarantee"] == {}
    (tmp_path / records.SALT).unlink()
    caplog.clear()
    assert said([4]) == {"cost": {}, "stop_reason": {"unlearned": "replayed"}, "guarantee": {}, "history": {}}
    assert "it is not known here that these are the forget rows" in caplog.text and records.SALT in caplog.text


@pytest.mark.parametrize("named", ["model_type: llama", "model_name_or_path: folder"])
@pytest.mark.parametrize("verb", [unlearn, evaluate])
def test_a_revision_of_no_model_is_one_problem(tmp_path, named, verb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "my.yaml").write_text(f"{named}\noutput_dir: out\n")
    with pytest.raises(ArgumentError) as caught:
        parsing.parse(verb.__name__.rpartition(".")[2], ["--config", "my.yaml", "--revision", "v1"], verb.flag_problems)
    assert len([one for one in caught.value.problems if "revision" in one]) == 1


def test_both_can_be_said_on_the_command_line_and_in_a_file(tmp_path):
    (tmp_path / "my.yaml").write_text("generations: false\nmodel_cards: true\n")
    own = parsing.parse("evaluate", ["--config", str(tmp_path / "my.yaml"), "--no_model_cards"])[0]
    assert (own.generations, own.model_cards) == (False, False)
    own = parsing.parse("evaluate", ["--no_generations"])[0]
    assert (own.generations, own.model_cards) == (False, True)


BY_NAME = {"by": "column", "column": "person", "fraction": None, "count": 2, "values": ["Ann Lee", "Bob"]}


def test_who_asked_is_told_in_clear_unless_that_is_left_out(measured, caplog):
    card, _, path = measured
    card.provenance["people"] = {"request": BY_NAME}
    card.save(path / "out")
    assert "names 2 value(s) of `person` in clear, as does the report" in caplog.text
    assert "--no_generations" in caplog.text
    caplog.clear()
    card.save(path / "out", generations=False)
    assert "in clear" not in caplog.text and "Ann Lee" not in (path / "out/scorecard.json").read_text()
    said = Scorecard.load(path / "out").provenance["people"]["request"]
    assert said == {**BY_NAME, "values": []} and card.provenance["people"]["request"] == BY_NAME
    card.provenance["people"] = {"request": {**BY_NAME, "by": "class", "column": "label"}}  # nobody's name
    card.save(path / "out", generations=False)
    assert Scorecard.load(path / "out").provenance["people"]["request"]["values"] == ["Ann Lee", "Bob"]


def test_without_generations_no_file_of_an_evaluation_names_who_asked():
    argv = ["--forget_column", "person", "--forget-values", "Ann Lee", "Bob", "--evaluate.deleted=p1-x", "--limit", "9"]
    argv += ["--unseen_ids", "p2-x"]
    own, data = EvaluateArguments(), DataArguments(forget_values=["Ann Lee", "Bob"])
    said = evaluate.said_of(own, data, argv, BY_NAME)
    assert said["request"] == BY_NAME and "'Ann Lee' Bob" in said["commands"][0] and "p1-x" in said["commands"][0]
    own.generations = False
    said = evaluate.said_of(own, data, argv, BY_NAME)
    assert said["request"] == {**BY_NAME, "values": []}
    flags = said["commands"][0].partition("--")[2]
    left = "'<LEFT_OUT>'"
    assert flags == (
        f"forget_column person --forget-values {left} '--evaluate.deleted=<LEFT_OUT>' --limit 9 --unseen_ids {left}"
    )
    data.forget_by = "class"
    assert "Bob" in evaluate.said_of(own, data, argv, BY_NAME)["commands"][0]


@pytest.mark.parametrize(
    ("there", "use_cpu", "on_cpu"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_on_the_cpu_though_there_is_a_gpu(there, use_cpu, on_cpu, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: there)
    monkeypatch.setattr("accelerate.PartialState", lambda cpu=False: cpu)
    assert running.processes(use_cpu) is on_cpu


def test_half_precision_is_that_of_every_model_that_is_measured(tmp_path, monkeypatch):
    seen, rows, told = [], lm_rows(4), []
    monkeypatch.setattr("hf_unlearn.trainers.loading.load_model", lambda folder: lm())
    monkeypatch.setattr(
        "hf_unlearn.evaluate",
        lambda subjects, *more, provenance, **how: seen.append(subjects["ready"]()) or told.append(provenance),
    )
    prepared = prepare.Prepared({"retain": rows, "forget": rows, "unseen": rows}, tokenizer(), None)
    data = DataArguments(task="image_classification")
    with pytest.raises(AttributeError):  # there is no card
        evaluate.measure(tmp_path, data, prepared, task="x", models={"ready": "m"}, bf16=True)
    assert hasattr(seen[0].forward, "__wrapped__") and told[0]["bf16"] is True


@pytest.mark.parametrize(("asked", "left"), [([0, 0], [1, 1, 2]), ([0, 1], [0, 0, 1, 1, 2]), ([], [0, 0, 1, 1, 2])])
def test_test_rows_of_a_class_that_is_to_go_are_not_measured(asked, left):
    """All rows of class 0 are asked for; one of two of 0 and 1; none."""
    kinds = Features({"labels": ClassLabel(names=["a", "b", "c"])})

    def rows(labels):
        return Dataset.from_dict({"labels": labels}, features=kinds)

    retain = [1, 2] if asked == [0, 0] else [0, 1, 2]
    splits = {"forget": rows(asked), "retain": rows(retain), "test": rows([0, 0, 1, 1, 2])}
    assert list(evaluate.of_classes_that_stay(splits)["labels"]) == left


def test_test_rows_of_texts_and_of_several_labels_are_all_measured():
    several = Dataset.from_dict({"labels": [[1.0, 0.0], [0.0, 1.0]]})
    assert evaluate.of_classes_that_stay({"forget": several, "retain": several, "test": several}) is several


def test_a_limit_in_a_file_makes_no_trial_run(tmp_path):
    recipe = tmp_path / "own.yaml"
    recipe.write_text("dataset_name: people\ntask: causal_lm\nlimit: 40\nforget_fraction: 0.2\n")
    words = ["--config", str(recipe), "--output_dir", str(tmp_path)]
    for more, is_a_try in (([], False), (["--limit", "20"], True), (["--limit", "null"], False)):
        assert evaluate.is_a_try(parsing.parse("evaluate", [*words, *more])[1]) == is_a_try
