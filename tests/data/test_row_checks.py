"""Rows that a model cannot take are named before it runs: labels, tokens, masks, ids, and what stands for a set."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict
from helpers.tiny import bert, image_rows, lm, lm64, lm_list, lm_rows, text_class_rows, tokenizer, vit
from PIL import Image
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    default_data_collator,
)

from hf_unlearn import (
    ArgumentError,
    ReadyConfig,
    ReadyTrainer,
    UnlearnConfig,
    UnlearnTrainer,
    default_collator,
    evaluate,
    find_duplicates,
)
from hf_unlearn.data.checks import evaluation_problems, split_sets, training_set
from hf_unlearn.data.given import as_rows
from hf_unlearn.data.limits import Limits, limits_of
from hf_unlearn.data.row_checks import row_problems

LM = Limits(causal_lm=True, tokens=50, label_tokens=50)
CLASSIFIER = Limits(causal_lm=False, classes=3, tokens=50, positions=32)
PARTS = (("forget", 4, 0), ("retain", 8, 10), ("unseen", 4, 20))  # name, rows, first id


def class_list(n: int, start: int = 0) -> list[dict]:
    return [dict(row) for row in text_class_rows(n, start)]


def pictures(n: int) -> list[dict]:
    return [dict(row) for row in image_rows(n)]


def changed(rows: list[dict], at: tuple[int, ...], **values) -> list[dict]:
    """The rows, of which those at these places have other values (or what a function makes of the row)."""
    for i in at:
        rows[i] |= {key: value(rows[i]) if callable(value) else value for key, value in values.items()}
    return rows


def both_ways(rows: list[dict]):
    """The rows as a list, and as a table where Arrow can hold them."""
    yield rows
    try:
        yield Dataset.from_list(rows)
    except (TypeError, ValueError):  # values of unlike types
        return


@pytest.mark.parametrize("column, value, words", [
    ("labels", 7, "outside 0 … 2, the model's classes, such as 7"),
    ("labels", -1, "such as -1, ids 2: -1 often stands for rows whose class is not known"),
    ("labels", None, "None in `labels`"),
    ("labels", "cat", "text in `labels`"),
    ("labels", True, "true or false in `labels`"),
    ("labels", 0.9, "numbers with a point in `labels`"),
    ("labels", lambda row: [0.0, 1.0, 0.0], "numbers with a point in `labels`"),
    ("input_ids", lambda row: [99, *row["input_ids"][1:]], "tokens outside 0 … 49, which the model knows, such as 99"),
    ("input_ids", lambda row: [-1, *row["input_ids"][1:]], "tokens outside 0 … 49"),
    ("input_ids", lambda row: [None, *row["input_ids"][1:]], "None in `input_ids`"),
    ("input_ids", lambda row: [t + 0.5 for t in row["input_ids"]], "numbers with a point in `input_ids`"),
    ("input_ids", "cat", "text in `input_ids`"),
    ("attention_mask", lambda row: [*row["attention_mask"], 1], "`attention_mask` of another length than `input_ids`"),
    ("attention_mask", lambda row: [0] * len(row["input_ids"]), "an `attention_mask` of zeros alone"),
])  # fmt: skip
def test_a_classifiers_row_that_cannot_be_taken_is_named(column, value, words):
    for rows in both_ways(changed(class_list(4), (2,), **{column: value})):
        (problem,) = row_problems("forget", rows, CLASSIFIER)
        assert words in problem and "ids 2" in problem and problem.startswith("1 forget row(s)")


@pytest.mark.parametrize("values, words", [
    ({"labels": lambda row: row["labels"][:-1]}, "`labels` of another length than `input_ids`, such as"),
    ({"labels": lambda row: [*row["labels"], 5]}, "`labels` of another length than `input_ids`, such as"),
    ({"labels": lambda row: [*row["labels"][:-1], 99]}, "labels outside 0 … 49, the model's tokens, such as 99"),
    ({"labels": 1}, "`labels` of another shape or type than the first row"),
    ({"input_ids": [5], "attention_mask": [1], "labels": [5]}, "teach nothing; the first token of a row is never"),
    ({"input_ids": [], "attention_mask": [], "labels": []}, "have no token"),
])  # fmt: skip
def test_a_language_models_row_that_cannot_be_taken_is_named(values, words):
    for rows in both_ways(changed(lm_list(4), (1,), **values)):
        problems = row_problems("retain", rows, LM)
        assert any(words in problem and "ids 1" in problem for problem in problems)


def test_all_rows_of_a_column_of_another_type_are_counted():
    rows = changed(class_list(8), tuple(range(8)), labels=lambda row: "abc"[row["labels"]])
    for own in both_ways(rows):
        (problem,) = row_problems("forget", own, CLASSIFIER)
        assert (
            problem.startswith("8 forget row(s) have text in `labels`") and "class_encode_column('labels')" in problem
        )


def test_labels_of_another_kind_than_the_model_takes_are_told():
    (problem,) = row_problems("forget", class_list(4), LM)
    assert "another kind than the model takes: `labels` is to be a list with one for each token" in problem
    (problem,) = row_problems("forget", lm_list(4), CLASSIFIER)
    assert "`labels` is to be one whole number a row" in problem


def test_a_row_longer_than_the_table_of_positions_is_named_and_one_of_a_rotary_model_is_not():
    long = {"input_ids": [5] * 40, "attention_mask": [1] * 40}
    (problem,) = row_problems("forget", changed(class_list(4), (3,), **long), limits_of(bert()))
    assert "longer than the 32 positions" in problem and "ids 3" in problem and "max_length=32" in problem
    rows = changed(lm_list(4), (3,), **long, labels=[5] * 40)
    assert row_problems("forget", rows, limits_of(lm())) == []
    assert len(row_problems("forget", rows, limits_of(lm64()))) == 1


def test_pictures_that_are_no_numbers_or_of_other_shapes_are_named():
    for value, words in ((None, "None in `pixel_values`"), ("cat.png", "text in `pixel_values`")):
        (problem,) = row_problems("forget", changed(pictures(4), (1,), pixel_values=value), Limits())
        assert words in problem and "ids 1" in problem
    rows = pictures(4)
    for row in rows:
        row["pixel_values"] = (np.array(row["pixel_values"]) > 0).tolist()
    (problem,) = row_problems("forget", Dataset.from_list(rows), Limits())
    assert problem.startswith("4 forget row(s) have true or false in `pixel_values`")
    smaller = changed(pictures(4), (2,), pixel_values=lambda row: [half[:4] for half in row["pixel_values"]])
    (problem,) = row_problems("forget", Dataset.from_list(smaller), Limits())
    assert "another shape than the first row" in problem and "ids 2" in problem
    for good in (image_rows(4), image_rows(4).with_format("torch"), pictures(4)):
        assert row_problems("forget", good, limits_of(vit())) == []


def test_rows_with_other_keys_and_ids_that_are_no_names_are_told_by_their_number():
    rows = class_list(4)
    del rows[2]["labels"]
    (problem,) = row_problems("forget", rows, CLASSIFIER)
    assert "have other keys than the first row" in problem and "ids 2" in problem
    for value, words in (
        ([0], "an `id` such as [0]"),
        (None, "no `id`"),
        (float("nan"), "no `id`"),
        (1.5, "such as 1.5"),
    ):
        (problem,) = row_problems("forget", changed(class_list(4), (3,), id=value), CLASSIFIER)
        assert words in problem and "row numbers 3" in problem


def test_text_that_is_not_tokenized_is_told_with_the_line_to_do_it():
    rows = [{"id": i, "text": f"row {i}", "labels": i % 3} for i in range(4)]
    (problem,) = row_problems("forget", rows, CLASSIFIER)
    assert "Tokenize first" in problem and "tokenizer(row['text'], truncation=True)" in problem
    (problem,) = row_problems("forget", [{"id": i, "text": f"row {i}"} for i in range(4)], LM)
    assert 'then `rows = rows.map(lambda row: {"labels": row["input_ids"]})`' in problem
    assert row_problems("forget", rows, CLASSIFIER, plain=False) == []  # a collator of one's own may tokenize


def test_a_row_far_down_in_a_table_is_named():
    n = 25_000
    ids = np.random.default_rng(0).integers(3, 50, (n, 8))
    ids[22_222, 3] = 99
    rows = Dataset.from_dict({"input_ids": ids, "labels": np.full((n, 8), 5), "attention_mask": np.ones_like(ids)})
    (problem,) = row_problems("forget", rows, LM)
    assert problem.startswith("1 forget row(s) have tokens outside") and "ids 22222" in problem
    assert "ids 12223" in row_problems("forget", rows.select(range(9_999, n)), LM)[0]


# ---- several sets ------------------------------------------------------------------------------


def told(forget, retain, unseen, limits=CLASSIFIER, **how) -> list[str]:
    return split_sets(forget, retain, unseen, limits, **how)[1]


def test_sets_that_name_their_labels_differently_or_lack_a_column_are_told():
    renamed = [{("label" if k == "labels" else k): v for k, v in row.items()} for row in class_list(4)]
    (problem,) = told(renamed, class_list(6, 20), class_list(4, 40))
    assert "go by two names: forget 'label', retain 'labels', unseen 'labels'" in problem
    bare = [{k: v for k, v in row.items() if k != "attention_mask"} for row in class_list(4)]
    (problem,) = told(bare, class_list(6, 20), class_list(4, 40))
    assert "The forget rows have no column 'attention_mask', the retain, unseen rows do" in problem
    assert not any(
        "attention_mask" in p for p in told(bare, class_list(6, 20), class_list(4, 40), processing_class=tokenizer())
    )


def test_one_id_may_not_stand_for_two_rows_but_a_row_may_come_twice():
    (problem,) = told(changed(class_list(4), (1,), id=0), class_list(6, 20), class_list(4, 40))
    assert "1 id(s) stand for two forget rows of unlike content: 0" in problem
    assert told(class_list(4) * 2, class_list(6, 20), class_list(4, 40)) == []


def test_a_model_with_one_output_is_refused():
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=1, **sizes))
    rows = changed(class_list(4), range(4), labels=0)
    (problem,) = told(
        rows,
        changed(class_list(6, 20), range(6), labels=0),
        [dict(row, labels=0) for row in class_list(4, 40)],
        limits_of(model),
    )
    assert "`num_labels` is 1" in problem and "regression" in problem


def test_rows_that_are_evaluated_on_are_checked_in_every_set():
    bad = changed(class_list(4), (1,), labels=7)
    (problem,) = evaluation_problems("evaluation", {"a": class_list(3), "b": bad}, CLASSIFIER, True)
    assert problem.startswith("1 evaluation b row(s) have labels outside")
    assert evaluation_problems("evaluation", None, CLASSIFIER, True) == []


# ---- what stands for a set ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [pd.DataFrame, lambda rows: Dataset.from_list(rows).to_dict(), Dataset.from_list, list]
)
def test_tables_of_any_kind_are_taken(kind):
    rows, problems = as_rows(kind(lm_list(5)), "forget_dataset")
    assert problems == [] and len(rows) == 5
    assert [dict(rows[i])["input_ids"] for i in range(5)] == [row["input_ids"] for row in lm_list(5)]


@pytest.mark.parametrize("value, words", [
    (DatasetDict(train=lm_rows(2), test=lm_rows(2)), "is DatasetDict of 'train', 'test'; pass one of these sets, such"),
    ({"train": lm_list(2)}, "is dict of 'train'; pass one of these sets, such as `rows['train']`"),
    (lm_rows(2).to_iterable_dataset(), "`Dataset.from_list(list(rows))`"),
    ((row for row in lm_list(2)), "must be a data set with a length"),
    ("rows.json", "pass the rows themselves"),
    (None, "is NoneType"),
    (3, "is int"),
    ([[1, 2], [3]], "whose rows are list; a row must be a dict"),
    (lm_list(1)[0], "is dict, one row by its keys 'id', 'input_ids'"),
    (torch.utils.data.TensorDataset(torch.zeros(3, 2)), "whose rows are tuple; a row must be a dict"),
])  # fmt: skip
def test_what_is_no_set_of_rows_is_told_with_what_to_pass(value, words):
    rows, (problem,) = as_rows(value, "forget_dataset")
    assert rows is None and words in problem and problem.startswith("`forget_dataset`")


def test_trainers_take_a_frame_and_tell_all_of_two_sets_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", lambda *a, **k: pytest.fail("a model was loaded"))
    lm().config.save_pretrained(tmp_path)
    bad = changed(lm_list(4), (1,), input_ids=lambda row: [99, *row["input_ids"][1:]])
    sets = bad, changed(lm_list(6, 20), (5,), labels=lambda row: row["labels"][1:]), pd.DataFrame(lm_list(3, 40))
    with pytest.raises(ArgumentError) as error:
        UnlearnTrainer(str(tmp_path), UnlearnConfig(str(tmp_path / "u")), *sets, processing_class=tokenizer())
    assert len(error.value.problems) == 2 and "ids 1" in str(error.value) and "ids 25" in str(error.value)
    with pytest.raises(ArgumentError, match="tokens outside 0 … 49"):
        ReadyTrainer(str(tmp_path), ReadyConfig(str(tmp_path / "r")), pd.DataFrame(bad), processing_class=tokenizer())


def test_an_evaluation_tells_its_rows_before_a_model_runs(monkeypatch):
    model = lm()
    monkeypatch.setattr(model, "forward", lambda *a, **k: pytest.fail("the model ran"))
    splits = {"forget": changed(lm_list(4), (1,), input_ids=lambda row: [99, *row["input_ids"][1:]])}
    splits |= {"retain": changed(lm_list(6, 20), (5,), labels=lambda row: row["labels"][1:])}
    with pytest.raises(ValueError) as error:
        evaluate(model, splits, processing_class=tokenizer())
    assert "forget row(s) have tokens outside 0 … 49" in str(error.value) and "ids 25" in str(error.value)
    with pytest.raises(ValueError, match="forget row.s. have tokens outside"):  # of a function: when it has loaded
        evaluate({"unlearned": lambda: model}, {"forget": splits["forget"]}, processing_class=tokenizer())
    with pytest.raises(ValueError, match="is DatasetDict of 'train'"):
        evaluate(model, {"forget": DatasetDict(train=lm_rows(3))})
    with pytest.raises(ValueError, match="`splits` is Dataset: give a dict"):
        evaluate(model, lm_rows(3), data_collator=default_data_collator)


# ---- rows that are revocable and kept at once ---------------------


def test_a_row_may_not_be_revocable_and_stable_at_once():
    twin = {**lm_list(1)[0], "id": 90, "revocable": False}
    (problem,) = training_set([*lm_list(8), twin], "revocable", LM)[1]
    assert "1 stable row(s) have the content of a revocable row (revocable = stable): 0 = 90" in problem
    assert training_set([*lm_list(8), {**twin, "revocable": True}], "revocable", LM)[1] == []
    assert training_set([*lm_list(8), twin], None, LM)[1] == []


def test_an_adapter_s_own_head_is_not_refused_by_the_classes_of_its_base(tmp_path):
    body = bert()
    body.config.num_labels = 2
    body.config.architectures = ["BertForSequenceClassification"]
    body.config.save_pretrained(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    adapter = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(adapter))
    assert limits_of(str(tmp_path / "base")).classes == 2
    found = limits_of(str(tmp_path / "adapter"))
    assert found.classes is None and found.causal_lm is False and found.tokens == 50


def test_a_collator_of_ones_own_may_make_numbers_of_words():
    rows = [{"id": i, "text": f"row {i}", "labels": "abc"[i % 3]} for i in range(4)]
    assert row_problems("forget", rows, CLASSIFIER, plain=False) == []
    assert row_problems("forget", Dataset.from_list(rows), CLASSIFIER, plain=False) == []


def test_nested_tokens_and_rows_that_nothing_pads_are_told():
    nested = [{**row, "input_ids": [row["input_ids"]]} for row in lm_list(4)]
    assert any("not one list of tokens, ids 0, 1, 2, 3" in problem for problem in row_problems("forget", nested, LM))
    with pytest.raises(ValueError, match="unlike lengths and nothing pads them: pass the tokenizer as `processing_cl"):
        default_collator(lm())(lm_list(4))


def test_an_id_is_the_same_as_a_number_and_as_a_word():
    renamed = [{**row, "id": str(row["id"] - 20)} for row in class_list(6, 20)]
    (problem,) = told(class_list(2), renamed, class_list(4, 40))
    assert "2 id(s) are in forget and in retain: 0, 1" in problem


def test_duplicates_are_looked_for_in_tables_of_any_kind():
    assert find_duplicates(pd.DataFrame(lm_list(3)), lm_rows(2)) == [(0, 0), (1, 1)]
    with pytest.raises(ArgumentError, match="`second` is NoneType"):
        find_duplicates(lm_rows(3), None)


def test_a_transform_that_needs_a_column_which_the_trainer_takes_out_is_told(tmp_path):
    stored = image_rows(4).rename_columns({"pixel_values": "image"})
    rows = stored.with_transform(lambda batch: {"pixel_values": batch["image"], **batch})
    with pytest.raises(ArgumentError, match="reads the column 'image', which `remove_unused_columns` takes out"):
        ReadyTrainer(vit(), ReadyConfig(str(tmp_path), use_cpu=True), rows)


@pytest.mark.parametrize("column, value, told", [
    ("attention_mask", 2, "have `attention_mask` outside 0 … 1 such as 2, ids 1"),
    ("attention_mask", 0.5, "have `attention_mask` outside 0 … 1 such as 0.5, ids 1"),
    ("token_type_ids", 5, "have `token_type_ids` outside 0 … 1 such as 5, ids 1"),
    ("position_ids", 32, "have `position_ids` outside 0 … 31 such as 32, ids 1"),
])  # fmt: skip
def test_values_beside_the_tokens_that_the_model_has_no_row_for_are_named(column, value, told):
    limits = limits_of(bert())
    rows = [{**row, column: [1] * len(row["input_ids"])} for row in class_list(4)]
    assert row_problems("forget", rows, limits) == []
    rows = changed(rows, (1,), **{column: lambda row: [value] * len(row["input_ids"])})
    (one,) = row_problems("forget", rows, limits)
    assert told in one


def test_position_ids_may_name_all_rows_of_the_table_of_positions():
    """RoBERTa's tokens have the positions 2 … 33 here, OPT's 0 … 31, of tables of 34 rows."""
    few = {"num_labels": 5, "vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    few["pad_token_id"] = 1
    roberta = RobertaForSequenceClassification(RobertaConfig(**few, max_position_embeddings=34, intermediate_size=8))
    opt = OPTForCausalLM(OPTConfig(**few, max_position_embeddings=32, ffn_dim=8, word_embed_proj_dim=8))
    for model, rows, last in ((roberta, class_list(4), 33), (opt, lm_list(4), 31)):
        limits = limits_of(model)
        kept, beyond = ([{**r, "position_ids": [i] * len(r["input_ids"])} for r in rows] for i in (last, last + 1))
        assert row_problems("forget", kept, limits) == [] and limits.positions == 32
        (one,) = row_problems("forget", [kept[0], beyond[1], *kept[2:]], limits)
        assert f"outside 0 … {last} such as {last + 1}, ids 1" in one
        tokens = torch.ones(1, 2, dtype=torch.long)
        model(input_ids=tokens, position_ids=tokens * last)
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=tokens, position_ids=tokens * (last + 1))


def test_a_collator_may_make_the_labels(tmp_path):
    """As that of Transformers for language models does: such rows are tokens alone."""
    bare = {n: [{"id": row["id"], "input_ids": row["input_ids"]} for row in lm_list(k, s)] for n, k, s in PARTS}
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    config = UnlearnConfig(str(tmp_path), max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True)
    UnlearnTrainer(lm(), config, *bare.values(), data_collator=collator).train()
    assert evaluate(lm(), bare, data_collator=collator, processing_class=tokenizer(), resamples=5).runs
    with pytest.raises(ValueError, match="`data_collator` .DataCollatorWithPadding. has made a batch without `labels`"):
        UnlearnTrainer(lm(), config, *bare.values(), data_collator=DataCollatorWithPadding(tokenizer())).train()


def test_labels_on_padding_are_told_in_a_warning(caplog):
    """Copies of padded tokens: the mean loss would be that of the padding."""
    rows = [{**row, "attention_mask": [1] * (len(row["input_ids"]) - 1) + [0]} for row in lm_list(3)]
    assert row_problems("forget", rows, LM) == []
    assert "3 forget row(s) have labels where `attention_mask` is 0, ids 0, 1, 2" in caplog.text
    caplog.clear()
    rows = changed(rows, (0, 1, 2), labels=lambda row: [*row["labels"][:-1], -100])
    assert row_problems("forget", rows, LM) == [] and not caplog.text


def test_evaluate_checks_a_split_once_for_all_models_that_ask_the_same_of_it(monkeypatch, caplog):
    """Models come as functions that load them, one after the other; what labels stand on padding is told once."""
    checked = []
    monkeypatch.setattr(
        "hf_unlearn.data.row_checks.row_problems",
        lambda name, rows, limits=None, *more, **how: (
            checked.append((name, limits)) or row_problems(name, rows, limits, *more, **how)
        ),
    )
    rows = [{**row, "attention_mask": [1] * (len(row["input_ids"]) - 1) + [0]} for row in lm_list(6)]
    splits = {"forget": rows[:3], "unseen": rows[3:]}
    models = {"original": lambda: lm(1), "unlearned": lambda: lm(2), "ready": lambda: lm64(3)}
    evaluate({**models, "retrained": lm(4)}, splits, processing_class=tokenizer(), resamples=2)
    assert sorted(name for name, _ in checked) == ["forget"] * 2 + ["unseen"] * 2  # a Llama's limits and a GPT-2's
    assert len(set(checked)) == 4
    for name in splits:
        assert caplog.text.count(f"3 {name} row(s) have labels where `attention_mask` is 0") == 1


def test_rows_whose_id_is_an_empty_text_have_none():
    found = row_problems("forget", lm_rows(3).map(lambda row: {"id": ""}))
    assert found[0].startswith("3 forget row(s) have no `id`, row numbers 0, 1, 2")


SOUNDS = [{"input_values": [0.5] * (4 + i), "label": i % 3} for i in range(3)]


def test_sounds_of_unlike_lengths_are_taken_where_the_feature_extractor_pads_them():
    hears = Limits(frozenset({"input_values", "labels"}), causal_lm=False)
    (problem,) = row_problems("forget", SOUNDS, hears)
    assert "another shape than the first row, ids 1, 2: pass the feature extractor as `processing_class`" in problem
    assert not row_problems("forget", SOUNDS, hears.with_padding_of(Wav2Vec2FeatureExtractor()))
    assert row_problems("forget", SOUNDS, hears.with_padding_of(tokenizer()))
    (problem,) = row_problems("forget", changed(pictures(2), (1,), pixel_values=[[1.0]]), limits_of(vit()))
    assert "feature extractor" not in problem


@pytest.mark.parametrize("kind, column", [("text", "a word"), ("image", Image.new("L", (4, 4)))])
def test_rows_for_a_model_whose_inputs_go_by_another_name_are_told_so(kind, column):
    own = Limits(frozenset({"ids", "labels"}))
    rows = [{"input_ids": [1, 2], "labels": [1, 2], kind: column}]
    (problem,) = row_problems("forget", rows, own)
    assert "have none of the model's inputs" in problem and "the model takes ids, labels" in problem
    assert "not tokenized" in row_problems("forget", [{"text": "a", "labels": 1}], CLASSIFIER)[0]
