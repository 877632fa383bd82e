"""`evaluate` and what it returns: the score card, its files, and how it shows itself."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest
import torch
from helpers.tiny import image_rows, vit
from transformers import default_data_collator

from hf_unlearn.evaluation import ModelScores, Scorecard, catalogue, evaluate
from hf_unlearn.evaluation.gates import Status
from hf_unlearn.evaluation.judge import judge
from hf_unlearn.evaluation.row_keys import keyed_card

COST = {"steps": 12, "row_passes": 96, "seconds": 1.5}
HISTORY = [{"step": 1, "forget_loss": 0.1, "alpha": 0.05}, {"step": 2, "forget_loss": math.nan, "loss": 3.0}]


@pytest.fixture(scope="module")
def splits():
    return {"forget": image_rows(6), "unseen": image_rows(5, 6), "test": image_rows(4, 11)}


@pytest.fixture(scope="module")
def card(splits):
    return evaluate(
        {"unlearned": vit(1), "original": vit(0)},
        splits,
        reference=vit(2),
        data_collator=default_data_collator,
        task="digits",
        seed=7,
        cost={"unlearned": COST},
        stop_reason={"unlearned": "forget_loss_reached_target"},
        history={"unlearned": HISTORY},
        resamples=20,
    )


def test_scorecard_schema(card, tmp_path):
    assert card.save(tmp_path) == tmp_path / "scorecard.json"

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads((tmp_path / "scorecard.json").read_text(), parse_constant=refuse)
    assert set(read) == {"schema", "runs", "provenance", "digest"} and read["schema"] == 3
    assert [run["model"] for run in read["runs"]] == ["original", "unlearned", "retrained"]
    for run in read["runs"]:
        assert set(run) == {"task", "model", "seed", "measures", "cost", "stop_reason", "guarantee", "details"}
        assert run["task"] == "digits" and run["seed"] == 7
        assert set(run["cost"]) == {"steps", "row_passes", "seconds"}
        assert {"forget_loss", "test_accuracy", "forget_mia_loss_auc", "forget_mia_entropy_tpr_at_1fpr"} <= set(
            run["measures"]
        )
        for measured in run["measures"].values():
            assert {"value", "low", "high", "n"} <= set(measured) and isinstance(measured["n"], int)
    assert read["runs"][1]["cost"] == COST and read["runs"][1]["stop_reason"] == "forget_loss_reached_target"
    assert read["runs"][0]["cost"] == dict.fromkeys(COST) and read["runs"][0]["stop_reason"] is None


def test_save_and_load_keep_everything(card, splits, tmp_path):
    card.save(tmp_path)
    again = Scorecard.load(tmp_path)
    assert again.to_dict() == keyed_card(card.to_dict(), tmp_path)
    for before, after in zip(card.runs, again.runs, strict=True):
        ours, theirs = (
            {s: t.drop_columns("row_hash").to_pydict() for s, t in run.tables.items()} for run in (before, after)
        )
        assert ours == theirs  # row hashes are keyed on the disk
    assert again["unlearned"].history == [HISTORY[0], {"step": 2, "forget_loss": None, "loss": 3.0}]
    # Saved tables stand for the models: same numbers, no model.
    tables = again.tables("unlearned", task="digits", seed=7)
    later = evaluate(tables_of(again), None, reference=again.tables("retrained"), task="digits", seed=7, resamples=20)
    assert later["unlearned"].measures == card["unlearned"].measures
    assert later["retrained"].measures == card["retrained"].measures
    with pytest.raises(ValueError, match="6 rows, the split has 5"):
        evaluate({"unlearned": tables}, {**splits, "forget": splits["forget"].select(range(5))})
    (tmp_path / "scorecard.json").write_text('{"schema": 4, "runs": []}')
    with pytest.raises(ValueError, match="schema 4"):
        Scorecard.load(tmp_path)


def tables_of(card):
    return {role: card.tables(role) for role in ("original", "unlearned")}


def test_evaluate_one_model_with_plain_values(splits):
    card = evaluate(
        vit(),
        splits,
        data_collator=default_data_collator,
        role="ready_unlearned",
        measures=["forget_loss"],
        cost=COST,
        stop_reason="max_steps",
        history=HISTORY,
        resamples=20,
    )
    run = card["ready_unlearned"]
    assert list(run.measures) == ["forget_loss"] and run.cost == COST and run.stop_reason == "max_steps"
    model, rows = vit().eval(), splits["forget"]
    with torch.no_grad():
        expected = model(**default_data_collator(rows)).loss.item()
    assert run.measures["forget_loss"]["value"] == pytest.approx(expected, rel=1e-5)
    default = evaluate(vit(), splits, measures=["forget_loss"], resamples=20)  # without a collator of the caller's
    assert default["unlearned"].measures == run.measures


def test_evaluate_names_what_is_wrong(splits):
    with pytest.raises(ValueError) as error:
        evaluate({"forgotten": vit()}, {"forget": [], "unseen": splits["unseen"]}, measures=["nope"])
    for part in ("'forgotten'", "ready_unlearned", "split `forget` is empty", "['nope']", "unseen_accuracy"):
        assert part in str(error.value)
    with pytest.raises(ValueError, match="`splits` is empty"):
        evaluate(vit(), {})
    with pytest.raises(ValueError, match="`cost` is one value for the models"):
        evaluate({"original": vit(), "ready": vit()}, splits, cost=COST)
    with pytest.raises(ValueError, match=r"`stop_reason` names \['ready'\]"):
        evaluate(vit(), splits, stop_reason={"ready": "x"})
    with pytest.raises(ValueError, match="give one"):
        evaluate({"retrained": vit()}, splits, reference=vit())
    rows = [{k: v for k, v in row.items() if k != "labels"} for row in splits["forget"]]
    with pytest.raises(ValueError, match="The forget rows have no `labels` column"):
        evaluate(vit(), {"forget": rows})
    with pytest.raises(ValueError, match="split `forget`, .* has no labels: .* or give a `data_collator` that makes"):
        evaluate(vit(), {"forget": rows}, data_collator=default_data_collator)


def test_cards_add_up():
    def run(value, **kwargs):
        measured = {"forget_loss": {"value": value, "low": None, "high": None, "n": 1}}
        return ModelScores(**{"task": "a", "model": "original", "seed": 0, "measures": measured, **kwargs})

    both = Scorecard([run(1.0)]) + Scorecard([run(1.0), run(2.0, seed=1), run(3.0, task="b")])
    assert [(r.task, r.seed) for r in both.runs] == [("a", 0), ("a", 1), ("b", 0)]
    with pytest.raises(ValueError, match="different numbers"):
        Scorecard([run(1.0)]).merge(Scorecard([run(2.0)]))


# ---- how it shows itself ---------------------------------------------------------------------------------------------


def scores(value=1.0, **more):
    measured = {"forget_loss": {"value": value, "low": 0.5, "high": None, "n": 4}}
    return ModelScores(**{"task": "people", "model": "unlearned", "seed": 0, "measures": measured, **more})


def test_repr_is_a_line_for_each_task(card):
    lines = repr(card).splitlines()
    count = len(card["unlearned"].measures)
    assert lines[0] == "Scorecard of 3 runs" and len(lines) == 2
    assert lines[1].startswith("  digits: original, unlearned, retrained; seed 7; ") and str(count) in lines[1]
    both = repr(card + Scorecard([scores(), scores(2.0, seed=1)]))
    assert "  people: unlearned; seeds 0, 1; 1 measures" in both and len(both) < 300
    assert len(repr(card["unlearned"])) < 200 and "model='unlearned', seed=7" in repr(card["unlearned"])


def test_a_name_is_a_role_or_a_task(card):
    both = card + Scorecard([scores()], {"people": {"asked": "these"}})
    assert both["unlearned"] is card["unlearned"]
    people = both["people"]
    assert [run.key for run in people.runs] == [("people", "unlearned", 0)] and people["unlearned"] is people.runs[0]
    assert people.provenance == {"people": {"asked": "these"}} and set(both["digits"].provenance) == {"digits"}
    with pytest.raises(KeyError, match=r"'nobody'; there are the roles .*retrained.* and the tasks .*digits.*people"):
        both["nobody"]


def test_to_pandas_has_a_line_for_each_measure(card):
    frame = (card + Scorecard([scores(None, seed=3)])).to_pandas()
    assert list(frame.columns) == ["task", "role", "seed", "measure", "value", "low", "high", "n"]
    assert len(frame) == sum(len(run.measures) for run in card.runs) + 1
    line = frame[(frame.task == "digits") & (frame.role == "unlearned") & (frame.measure == "forget_loss")].iloc[0]
    found = card["unlearned"].measures["forget_loss"]
    assert [line.value, line.low, line.high, line.n, line.seed] == [
        *(found[k] for k in ("value", "low", "high", "n")),
        7,
    ]
    last = frame.iloc[-1]
    assert math.isnan(last.value) and last.low == 0.5 and last.n == 4
    assert Scorecard().to_pandas().empty


def test_a_notebook_shows_the_table_without_scripts_and_names_are_escaped(card):
    shown = (card + Scorecard([scores(task="<people>")]))._repr_html_()
    assert "<h4>digits</h4>" in shown and "&lt;people&gt;" in shown and "<people>" not in shown
    assert shown.count("<details open>") == 2 and "<script" not in shown
    assert "Loss (nats per label)</th>" in shown and "<td title='0.5 – '>" not in shown
    assert Scorecard()._repr_html_() == "<p>Scorecard without runs</p>"


def answered(*splits: str) -> Scorecard:
    """A card with answers to two rows of each split, in clear."""
    texts = {"prompt": ["Who?", "Where?"], "reference": ["Ann", "here"], "generation": ["Bob", "there"]}
    tables = {split: pa.table(texts) for split in splits}
    return Scorecard([ModelScores("t", "unlearned", 0, {"forget_rougeL_recall": {"value": 0.5}}, generations=tables)])


def test_answers_in_clear_are_told_of_and_left_out_where_that_is_asked_for(tmp_path, caplog):
    answered("forget", "retain").save(tmp_path)
    assert "generations.parquet" in caplog.text
    assert "4 prompts and answers in clear, 2 of them of the forget rows" in caplog.text
    assert "--no_generations" in caplog.text and "generations=False" in caplog.text
    caplog.clear()
    answered("forget", "retain").save(tmp_path, generations=False)
    assert not (tmp_path / "generations.parquet").exists() and not caplog.text  # also that of an earlier save
    assert Scorecard.load(tmp_path)["unlearned"].measures["forget_rougeL_recall"]["value"] == 0.5
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"Ann" in path.read_bytes()]
    answered().save(tmp_path / "none")
    assert not caplog.text


@pytest.mark.parametrize("schema", [1, 2])
def test_what_changed_its_meaning_has_another_name_in_an_older_card(schema, tmp_path):
    """Their zlib score was of the summed loss, their PrivLeak the plain ratio of AUCs: not to be taken for today's."""
    old = ("forget_loss", "forget_mia_zlib_auc", "forget_mia_zlib_privleak", "forget_mia_min_k_privleak")
    new = ("forget_loss", "forget_mia_zlib_sum_auc", "forget_mia_zlib_sum_rel_diff", "forget_mia_min_k_rel_diff")
    measures = {name: {"value": float(i), "low": None, "high": None, "n": 3} for i, name in enumerate(old)}
    run = {"task": "t", "model": "unlearned", "seed": 0, "measures": measures, "cost": {}, "stop_reason": None}
    (tmp_path / "scorecard.json").write_text(json.dumps({"schema": schema, "runs": [run]}))
    card = Scorecard.load(tmp_path)
    found = card["unlearned"].measures
    assert {name: one["value"] for name, one in found.items()} == {name: float(i) for i, name in enumerate(new)}
    assert catalogue.find("forget_mia_zlib_sum_auc").label == "By zlib sum: AUC"
    card.save(tmp_path / "again")
    assert Scorecard.load(tmp_path / "again")["unlearned"].measures == found  # once, not twice
    (tmp_path / "scorecard.json").write_text(json.dumps({"schema": 3, "runs": [run]}))
    assert tuple(Scorecard.load(tmp_path)["unlearned"].measures) == old


def test_a_classifiers_results_stand_by_class(tmp_path):
    """Whose rows are still answered right? `details["classes"]`, from the labels of the rows; data for the report."""
    model = vit()
    model.config.id2label = {0: "cat", 1: "dog", 2: "owl"}
    rows = [{**row, "labels": label} for row, label in zip(image_rows(5).to_list(), [2, 0, 2, 2, 0], strict=True)]
    splits = {"forget": rows[:3], "unseen": rows[3:]}
    card = evaluate(model, splits, data_collator=default_data_collator, resamples=2)
    found = card["unlearned"].details["classes"]
    assert [(one["label"], one["name"], one["n"]) for one in found["forget"]] == [(0, "cat", 1), (2, "owl", 2)]
    table, whole = card["unlearned"].tables["forget"], card["unlearned"].measures
    assert table["label"].to_pylist() == [2, 0, 2]
    losses, right = table["nll_sum"].to_numpy(), table["n_correct"].to_numpy()
    assert found["forget"][1]["loss"] == pytest.approx(losses[[0, 2]].mean())
    assert found["forget"][1]["accuracy"] == right[[0, 2]].mean()
    assert sum(one["n"] * one["loss"] for one in found["forget"]) / 3 == pytest.approx(whole["forget_loss"]["value"])
    card.save(tmp_path)
    again = Scorecard.load(tmp_path)
    assert again["unlearned"].details["classes"] == found
    tables = {"unlearned": again.tables("unlearned")}
    assert evaluate(tables, resamples=2)["unlearned"].details["classes"] == found  # from saved tables, without a model
    old = {split: table.drop_columns(["label"]) for split, table in tables["unlearned"].items()}
    assert "classes" not in evaluate({"unlearned": old}, resamples=2)["unlearned"].details


def test_a_function_is_told_how_much_of_each_model_is_measured(splits, capsys):
    told = []
    how = {"data_collator": default_data_collator, "batch_size": 3, "resamples": 20, "attacks": ["weights"]}
    evaluate({"unlearned": vit(1), "original": vit(0)}, splits, progress=lambda *one: told.append(one), **how)
    assert [role for role, *_ in told[:: len(told) - 1]] == ["original", "unlearned"]
    for role in ("original", "unlearned"):
        own = [(stage, share) for name, stage, share in told if name == role]
        assert list(dict.fromkeys(stage for stage, _ in own)) == ["forget", "unseen", "test", "weights", ""]
        shares = [share for _, share in own]
        assert shares == sorted(shares) and ("forget", 0.125) in own and shares[-1] == 1.0
    assert capsys.readouterr().err == ""  # no bar


def test_a_classifiers_card_holds_measures_of_classifiers_only_and_its_gates_know_it(card):
    found = card["unlearned"].measures
    assert catalogue.kind_of(found) == "classifier" and {"forget_accuracy", "test_accuracy"} <= set(found)
    assert all("classifier" in catalogue.find(name).measure.kinds for name in found)
    gates = judge(card.to_dict())[0].gates
    assert gates["extraction"].status is Status.NOT_APPLICABLE
    assert gates["auc_gap"].weak == ("forget_mia_entropy_auc_gap", "forget_mia_loss_auc_gap")


def test_a_report_in_the_place_of_a_folder_is_refused_before_it_is_made(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: give the path of a file, such as .*report.html"):
        Scorecard([], {}).to_html(tmp_path)


def test_a_word_for_whether_answers_are_written_is_refused_and_not_taken_for_true(tmp_path):
    with pytest.raises(ValueError, match="`generations` is 'no'; it must be True or False"):
        answered("forget").save(tmp_path, generations="no")
    assert list(tmp_path.iterdir()) == []
