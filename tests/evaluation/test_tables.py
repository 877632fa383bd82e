import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from helpers.tiny import batch_of, bert, image_rows, lm, lm_rows, text_class_rows, tokenizer, vit

from hf_unlearn import default_collator
from hf_unlearn.evaluation import Scorecard, collect, evaluate, load_tables, save_tables, weights_hash
from hf_unlearn.evaluation.row_keys import DATA_KEY, KEY
from hf_unlearn.evaluation.rows import row_hashes
from hf_unlearn.evaluation.table_checks import value_problems
from hf_unlearn.evaluation.tables import described, is_causal_lm, with_description


@pytest.fixture(scope="module")
def model():
    return lm()


@pytest.fixture(scope="module")
def splits():
    rows = lm_rows(12)
    return {"forget": rows.select(range(4)), "retain": rows.select(range(4, 8)), "unseen": rows.select(range(8, 12))}


@pytest.fixture(scope="module")
def tables(model, splits):
    collator = default_collator(model, tokenizer())
    return {s: collect(model, rows, collator, processing_class=tokenizer()) for s, rows in splits.items()}


def test_without_a_collator_rows_are_collected_by_the_default_one(model, tables, splits):
    assert collect(model, splits["forget"], None, processing_class=tokenizer()).equals(tables["forget"])
    with pytest.raises(ValueError, match="`data_collator` is the class dict; pass one made of it"):
        collect(model, splits["forget"], dict)


def test_a_table_says_what_it_is_of(model, tables, splits):
    said = described(tables["forget"])
    assert said["schema"] == 2 and said["kind"] == "causal_lm" and said["labels"] is None
    assert said["model"] == weights_hash(model) != weights_hash(lm(1))
    assert len({described(table)["data"] for table in tables.values()}) == 3
    assert tables["forget"]["row_hash"].to_pylist() == row_hashes(splits["forget"])
    again = collect(model, splits["forget"], default_collator(model, tokenizer("left")), batch_size=1)
    assert described(again)["data"] == said["data"]  # not a matter of batches or padding
    assert again["nll_sum"].to_pylist() == pytest.approx(tables["forget"]["nll_sum"].to_pylist(), rel=1e-5)
    assert "zlib_bytes" not in again.column_names and min(tables["forget"]["zlib_bytes"].to_pylist()) > 8
    images = collect(vit(), image_rows(3), default_collator(vit()))
    assert described(images)["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"] and "token_nll" not in images.column_names
    assert not is_causal_lm({"test": images}) and is_causal_lm(tables)


def test_rows_are_hashed_by_content_whatever_holds_them(splits):
    rows = splits["forget"].to_list()
    expected = row_hashes(splits["forget"])
    arrays = [{k: np.asarray(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    tensors = [{k: torch.tensor(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    assert row_hashes(rows) == row_hashes(arrays) == row_hashes(tensors) == expected
    assert row_hashes(splits["forget"].with_format("torch")) == expected
    assert row_hashes([{**row, "id": "other", "revocable": None} for row in rows]) == expected
    rows[1]["labels"] = [*rows[1]["labels"][:-1], 5]
    assert [a == b for a, b in zip(row_hashes(rows), expected, strict=True)] == [True, False, True, True]


def test_saved_tables_are_the_same_and_know_where_they_belong(model, tables, splits, tmp_path):
    save_tables(tables, tmp_path)
    again = load_tables(tmp_path, model=weights_hash(model), splits=splits)
    assert again.keys() == tables.keys()
    for split, table in tables.items():
        said = {k: v for k, v in described(again[split]).items() if k not in (KEY, DATA_KEY)}
        assert again[split].drop_columns("row_hash").equals(table.drop_columns("row_hash"))
        assert said == {**described(table), "data": said["data"]} and said["data"] != described(table)["data"]
    with pytest.raises(ValueError, match="are of another model"):
        load_tables(tmp_path, model=weights_hash(lm(1)))
    rounded = {**described(tables["forget"]), "model": f"{weights_hash(model)} int8"}
    save_tables({"forget_int8": with_description(tables["forget"], rounded)}, tmp_path / "rounded")
    assert load_tables(tmp_path / "rounded", model=weights_hash(model))
    with pytest.raises(ValueError, match="`forget` is of other data: 4 of 4 rows differ in content"):
        load_tables(tmp_path, splits={"forget": splits["retain"]})
    with pytest.raises(ValueError, match="has 4 rows, the split has 3"):
        load_tables(tmp_path, splits={"forget": splits["forget"].select(range(3))})
    with pytest.raises(FileNotFoundError, match="no saved table"):
        load_tables(tmp_path / "elsewhere")


def test_evaluate_refuses_saved_tables_of_other_rows(model, tables, splits):
    swapped = {**splits, "forget": splits["forget"].select([1, 0, 2, 3])}
    with pytest.raises(ValueError, match=r'"original" for split `forget` is of other data: 2 of 4 .*rows 0, 1'):
        evaluate({"original": tables, "unlearned": model}, swapped, processing_class=tokenizer())
    other = {**tables, "forget": tables["retain"].append_column("x", pa.array([0] * 4)).drop_columns("x")}
    with pytest.raises(ValueError) as error:  # two sets of tables alone: of each other's rows
        evaluate({"original": tables, "unlearned": other})
    assert "other data" in str(error.value) and "share 4 row(s)" in str(error.value)


def test_evaluate_refuses_splits_that_share_rows(model, splits):
    rows = splits["retain"]
    both = {**splits, "test": Dataset.from_list([*splits["unseen"].to_list()[:1], *rows.to_list()[:2]])}
    with pytest.raises(ValueError) as error:
        evaluate(model, both, processing_class=tokenizer())
    assert "`retain` and `test` share 2 row(s) (row 0 of `retain` is row 1 of `test`)" in str(error.value)
    assert "`unseen` and `test` share 1 row(s)" in str(error.value) and "`forget`" not in str(error.value)
    evaluate(model, {**splits, "mine": rows}, processing_class=tokenizer(), resamples=2)  # a split of one's own may


def test_evaluate_refuses_models_that_answer_other_questions():
    rows = {"forget": text_class_rows(4), "unseen": text_class_rows(4, start=4)}
    first, second = bert(0), bert(1)
    first.config.id2label = {0: "yes", 1: "no", 2: "perhaps"}
    second.config.id2label = {0: "yes", 1: "perhaps", 2: "no"}
    models = {"original": first, "unlearned": second}
    with pytest.raises(ValueError, match="class 1 is 'no' for \"original\" and 'perhaps' for \"unlearned\""):
        evaluate(models, rows, processing_class=tokenizer(), resamples=2)
    second.config.id2label = {i: f"LABEL_{i}" for i in range(3)}  # no names: nothing to hold against each other
    evaluate(models, rows, processing_class=tokenizer(), resamples=2)
    second.config.id2label = {i: f"LABEL_{i}" for i in range(4)}
    with pytest.raises(ValueError, match='label spaces differ: "original" 3, "unlearned" 4 classes'):
        evaluate(models, rows, processing_class=tokenizer(), resamples=2)


def test_a_label_beyond_the_models_classes_is_named():
    rows = [{**row, "labels": 7} for row in image_rows(2).to_list()]
    with pytest.raises(ValueError, match="label 7 is beyond the model's 3 classes"):
        collect(vit(), rows, default_collator(vit()))


def test_the_margin_is_the_logit_of_the_probability_also_where_it_is_one():
    model, rows = vit(), image_rows(5)
    with torch.no_grad():
        logits = model.eval()(**{k: v for k, v in batch_of(model, rows).items() if k != "labels"}).logits.double()
    p = logits.softmax(1).gather(1, torch.tensor(rows["labels"])[:, None])[:, 0]
    found = collect(model, rows, default_collator(model))
    assert found["margin"].to_pylist() == pytest.approx((p.log() - (1 - p).log()).tolist(), rel=1e-5)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([60.0, 0.0, 0.0]))
        model.classifier.weight.zero_()
    sure = collect(model, rows, default_collator(model)).to_pydict()
    assert sure["margin"][0] == pytest.approx(60 - np.log(2), rel=1e-9)  # p rounds to 1, its logit does not
    assert sure["nll_sum"][0] == pytest.approx(2 * np.exp(-60), abs=1e-9)


def test_logits_of_minus_infinity_and_ties():
    class Fixed(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor(logits), requires_grad=False)

        def forward(self, pixel_values=None):
            return {"logits": self.logits.expand(len(pixel_values), -1)}

    rows = [{"pixel_values": np.zeros(1, "float32"), "labels": i} for i in range(3)]

    def statistics(logits, rows):
        return collect(Fixed(logits), rows, default_collator(Fixed(logits))).to_pydict()

    infinite = statistics([0.0, 0.0, -float("inf")], rows[:2])
    assert infinite["entropy_sum"] == pytest.approx([np.log(2)] * 2)
    assert infinite["nll_sum"] == pytest.approx([np.log(2)] * 2)
    assert infinite["n_correct"] == [1, 0]  # of equal logits the first is the answer
    assert statistics([1.0, 1.0, 1.0], rows)["n_correct"] == [1, 0, 0]
    with pytest.raises(ValueError, match="`nll_sum` is inf in row 2"):  # a label that the model holds impossible
        statistics([0.0, 0.0, -float("inf")], rows)


def test_bfloat16_and_prompts_that_are_long_cost_nothing_in_exactness(model, splits):
    """Only labelled positions go through the head: the statistics are those of all of them."""
    rows = splits["forget"].to_list()
    padded = [
        {
            "input_ids": [3] * 9 + row["input_ids"],
            "attention_mask": [0] * 9 + row["attention_mask"],
            "labels": [-100] * 9 + row["labels"],
        }
        for row in rows
    ]
    seen = []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    collator = default_collator(model, tokenizer())
    found = collect(model, padded, collator, batch_size=4)
    handle.remove()
    assert seen[0] <= max(len(row["input_ids"]) for row in rows) - 2 < max(len(row["input_ids"]) for row in padded)
    with torch.no_grad():
        for i, row in enumerate(padded):
            output = model.eval()(**{k: torch.tensor([v]) for k, v in row.items()})
            n = found["n_labels"][i].as_py()
            assert found["nll_sum"][i].as_py() / n == pytest.approx(output.loss.item(), rel=1e-5)
    half = collect(lm().bfloat16(), splits["forget"], collator)
    whole = collect(lm(), splits["forget"], collator)
    assert half["nll_sum"].to_pylist() == pytest.approx(whole["nll_sum"].to_pylist(), rel=0.02)
    assert described(half)["dtype"] == "bfloat16" and described(half)["model"] != described(whole)["model"]


def test_a_model_is_not_compared_with_itself(model, tables, splits, caplog):
    with pytest.raises(ValueError, match='"unlearned" and "retrained" have the same weights'):
        evaluate(model, splits, reference=model, processing_class=tokenizer(), resamples=2)
    with pytest.raises(ValueError) as error:
        evaluate({"ready_unlearned": tables, "retrained": tables, "retrained_again": tables}, resamples=2)
    assert "cannot be told from itself" in str(error.value) and "no noise floor" in str(error.value)
    with pytest.raises(ValueError, match='"original" and "retrained" have the same weights'):
        evaluate({"original": tables, "retrained": tables}, resamples=2)
    evaluate({"original": tables, "unlearned": tables}, resamples=2)  # a request that changed nothing is a finding
    assert "'original' and 'unlearned' have the same weights: no request has moved them" in caplog.text


def test_what_is_no_model_and_no_table_is_named(splits):
    with pytest.raises(ValueError) as error:
        evaluate({"original": "me/model", "unlearned": {"forget": 3}}, splits)
    assert '"original" is a str: expected a model' in str(error.value)
    assert '"unlearned" is a dict, but not of split -> table' in str(error.value)
    with pytest.raises(ValueError, match="pass the tokenizer as `processing_class`"):
        evaluate(lm(), splits)


def test_rows_with_inputs_of_other_names_are_told_apart():
    rows = [{"x": [float(i)], "labels": 0, "id": i} for i in range(3)]
    assert len(set(row_hashes(rows))) == 3
    assert row_hashes(rows) == row_hashes([{**row, "id": 9} for row in rows])


def test_cards_of_one_task_must_be_of_the_same_rows(tables):
    first = evaluate({"original": tables}, task="t", resamples=2, provenance={"commands": ["a"]})
    other = {**tables, "forget": tables["retain"], "retain": tables["forget"]}
    with pytest.raises(ValueError, match="task 't', but of other rows \\(forget, retain\\)"):
        first + evaluate({"unlearned": other}, task="t", resamples=2)
    both = first + evaluate({"unlearned": tables}, task="t", resamples=2, provenance={"commands": ["b"]})
    assert set(both.provenance["t"]["models"]) == {"original", "unlearned"}
    assert both.provenance["t"]["commands"] == ["a", "b"]


def test_a_model_that_diverged_is_refused_with_its_rows(splits):
    broken = lm()
    broken.lm_head.weight.data[:] = float("nan")
    with pytest.raises(ValueError) as error:
        evaluate({"original": lm(1), "unlearned": broken}, splits, processing_class=tokenizer(), resamples=2)
    said = str(error.value)
    assert 'split `forget`, model "unlearned": `nll_sum` is nan in rows 0, 1, 2, 3' in said
    assert "`entropy_sum` is nan in rows 0, 1, 2, 3" in said and "diverged" in said and "float16" in said


def test_tables_of_schema_1_are_taken_as_they_are(tables):
    old = {s: t.select(["row", "nll_sum", "n_labels", "n_correct", "entropy_sum"]) for s, t in tables.items()}
    old = {s: t.replace_schema_metadata(None) for s, t in old.items()}
    card = evaluate({"unlearned": old}, resamples=5)
    now = evaluate({"unlearned": tables}, resamples=5)
    mine, theirs = card["unlearned"].measures, now["unlearned"].measures
    assert set(mine) < set(theirs) and all(mine[name] == theirs[name] for name in mine)
    assert "forget_extraction_strength" in set(theirs) - set(mine) and "forget_mia_min_k_auc" in set(theirs) - set(mine)
    json.dumps(card.to_dict(), allow_nan=False)


def damaged(table, column, row, value):
    """The table with another value in a row of a column."""
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values, table.schema.field(column).type))


IMPOSSIBLE = [  # column, value of row 2, what is said of it
    ("nll_sum", float("nan"), "`nll_sum` is nan in row 2: expected a finite number of at least 0"),
    ("nll_sum", float("inf"), "`nll_sum` is inf in row 2"),
    ("nll_sum", -3.0, "`nll_sum` is -3.0 in row 2"),
    ("nll_sum", None, "`nll_sum` has no value in row 2"),
    ("entropy_sum", float("-inf"), "`entropy_sum` is -inf in row 2"),
    ("n_labels", 0, "`n_labels` is 0 in row 2: expected at least 1"),
    ("n_correct", 99, "`n_correct` is 99 in row 2: expected 0 to `n_labels`"),
    ("n_correct", -1, "`n_correct` is -1 in row 2"),
    ("n_suffix", 99, "`n_suffix` is 99 in row 2: expected 0 to `n_correct`"),
    ("zlib_bytes", 0, "`zlib_bytes` is 0 in row 2: expected at least 1"),
    ("token_nll", [0.5, float("nan")], "`token_nll` is nan in row 2"),
    ("token_nll", [-7.0], "`token_nll` is -7.0 in row 2"),
    ("token_z", [float("inf")], "`token_z` is inf in row 2: expected a finite number"),
]


@pytest.mark.parametrize(("column", "value", "said"), IMPOSSIBLE)
def test_values_that_no_model_gives_are_named_by_split_row_and_column(tables, column, value, said):
    problem, *_ = value_problems("retrained", {**tables, "forget": damaged(tables["forget"], column, 2, value)})
    assert problem.startswith('the table of "retrained" for split `forget`: ') and said in problem


def test_what_a_row_has_no_value_for_is_no_problem(tables):
    """Optional columns may be absent, in a table or in a row; so may the recall of a reference without words."""
    table = tables["forget"]
    for column, value in (("zlib_bytes", None), ("token_nll", None), ("token_z", None), ("n_suffix", None)):
        assert value_problems("unlearned", {"forget": damaged(table, column, 0, value)}) == []
    assert value_problems("unlearned", {"forget": table.drop_columns(["zlib_bytes", "token_z"])}) == []
    recall = pa.table({"row": [0, 1], "rougeL_recall": [float("nan"), 1.0]})
    assert value_problems("unlearned", {"forget": recall}) == []
    (problem,) = value_problems("unlearned", {"forget": damaged(recall, "rougeL_recall", 1, 1.5)})
    assert "`rougeL_recall` is 1.5 in row 1: expected a share, 0 to 1" in problem


def test_one_nan_in_a_saved_table_is_refused_wherever_it_is_read(tables, tmp_path):
    """Else the verdict of such a card turns from "told apart" into "not told apart"."""
    broken = {**tables, "unseen": damaged(tables["unseen"], "nll_sum", 1, float("nan"))}
    save_tables(broken, tmp_path / "tables")
    with pytest.raises(ValueError, match="for split `unseen`: `nll_sum` is nan in row 1"):
        load_tables(tmp_path / "tables")
    with pytest.raises(ValueError) as error:  # the retrained model's, and all problems at once
        evaluate({"unlearned": {**tables, "retain": damaged(tables["retain"], "n_correct", 0, -1)}}, reference=broken)
    assert '"retrained" for split `unseen`' in str(error.value)
    assert '"unlearned" for split `retain`: `n_correct` is -1 in row 0' in str(error.value)
    card = evaluate({"unlearned": tables}, resamples=2)
    card["unlearned"].tables = broken
    card.save(tmp_path / "card")
    with pytest.raises(ValueError, match='"unlearned" for split `unseen`: `nll_sum` is nan in row 1'):
        Scorecard.load(tmp_path / "card")


def test_attacks_on_saved_tables_alone_are_told_not_to_be_run(caplog):
    rows = {"forget": lm_rows(3), "unseen": lm_rows(3, 50)}
    tables = evaluate(lm(), rows, processing_class=tokenizer()).tables("unlearned")
    card = evaluate(tables, attacks=["quantise"])
    assert "No attack (quantise) is run: it needs a model" in caplog.text
    assert not any("int8" in name for name in card["unlearned"].measures)
