"""Which general texts the verb evaluate measures, and what it refuses before a model is loaded."""

from __future__ import annotations

import json

import pytest
from helpers.tiny import lm

from hf_unlearn import ArgumentError
from hf_unlearn.cli import evaluate, general_texts
from hf_unlearn.cli.arguments import DataArguments, EvaluateArguments
from hf_unlearn.cli.prepare import Prepared
from hf_unlearn.data.encode.text import build_tokenizer
from hf_unlearn.data.general_texts import FILE

TOKENIZER = build_tokenizer(["The cat has eaten fish number 0 1 2 3 4 5 6 7."], 300)


@pytest.fixture
def models(tmp_path):
    """A model with texts beside it, three of them held out, and one without."""
    lm().config.save_pretrained(tmp_path / "original")
    lm().config.save_pretrained(tmp_path / "unlearned")
    rows = [{"id": f"general-{i}", "text": f"fish {i}", "held": i % 2 == 0} for i in range(5)]
    (tmp_path / "unlearned" / FILE).write_text("\n".join(map(json.dumps, rows)))
    return {role: str(tmp_path / role) for role in ("original", "unlearned")}


def encoded(models, name="auto", **data):
    return general_texts.encoded(EvaluateArguments(general_dataset=name), DataArguments(**data), models, TOKENIZER)


def problems(models, **own):
    return general_texts.problems(EvaluateArguments(**own), DataArguments(), models)


def test_texts_that_a_request_held_out_are_a_split_of_their_own(models):
    made = encoded(models)
    assert made["text"][:] == ["fish 0", "fish 2", "fish 4"]
    assert made["labels"][:] == made["input_ids"][:] and len(made["input_ids"][0]) > 1
    assert list(general_texts.split(EvaluateArguments(), DataArguments(), models, TOKENIZER)) == ["own_words"]
    none = {"original": models["original"]}
    assert general_texts.split(EvaluateArguments(), DataArguments(), none, TOKENIZER) == {}
    prepared = Prepared({"forget": made, "retain": made, "unseen": made}, TOKENIZER, None, beside={"general": made})
    assert evaluate.splits_of(DataArguments(), prepared)["general"] is made
    assert encoded({"original": models["original"]}) is None and encoded(models, "none") is None
    assert encoded(models, task="sequence_classification") is None


def test_of_named_rows_those_that_a_request_trained_on_are_left_out(models, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": f"fish {i}"}) + "\n" for i in range(8)))
    assert encoded(models, str(file))["text"][:] == [f"fish {i}" for i in (0, 2, 4, 5, 6, 7)]
    own = EvaluateArguments(general_dataset=str(file))
    assert list(general_texts.split(own, DataArguments(), models, TOKENIZER)) == ["general"]
    file.write_text(json.dumps({"text": "fish 1"}))
    with pytest.raises(ArgumentError, match="a request has trained on all its rows"):
        encoded(models, str(file))


def test_long_texts_are_cut_to_the_positions_of_the_model(models, tmp_path):
    file = tmp_path / "long.jsonl"
    file.write_text(json.dumps({"text": "fish " * 700}))
    most = lm().config.max_position_embeddings
    assert max(map(len, encoded(models, str(file))["input_ids"])) == min(most, general_texts.LONGEST)


def test_what_is_wrong_is_told_before_a_model_is_loaded(models, tmp_path):
    assert problems(models) == [] == problems(models, fail_on=["general"])
    (said,) = problems({"original": models["original"]}, fail_on=["general"])
    assert said.startswith("`fail_on` is general: that needs general texts. Name some by --general_dataset")
    (said,) = problems(models, general_dataset=str(tmp_path / "no.jsonl"))
    assert "no.jsonl" in said and "general_dataset" in said
    (tmp_path / "unlearned" / FILE).write_text("{")
    (said,) = problems(models)
    assert "_general.jsonl, line 1 is no JSON" in said
    own, data = EvaluateArguments(general_dataset="a.jsonl"), DataArguments(task="image_classification")
    assert "it is of language models" in general_texts.problems(own, data, models)[0]


def test_rows_of_no_known_shape_are_told_with_the_flag(models, tmp_path):
    file = tmp_path / "odd.jsonl"
    file.write_text(json.dumps({"body": "fish"}))
    with pytest.raises(ArgumentError, match="`general_dataset` is .*: give texts in a column `text`; these rows have"):
        encoded(models, str(file))


def test_rows_that_the_request_stored_as_the_model_takes_them_are_measured_so(models, tmp_path):
    made = {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "labels": [-100, 2, 3]}
    (tmp_path / "unlearned" / FILE).write_text(json.dumps({"id": "general-0", "text": "ab", "held": True, **made}))
    assert encoded(models)[0] == {"text": "ab", **made}


def test_of_rows_that_were_given_to_a_request_the_half_that_it_held_out_is_measured(models, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": f"cat {i}"}) + "\n" for i in range(8)))
    (tmp_path / "unlearned" / "unlearning.json").write_text(json.dumps({"general": {"source": "given"}}))
    made = encoded(models, str(file))
    texts = [TOKENIZER.decode(ids, skip_special_tokens=True) for ids in made["input_ids"]]
    assert texts == [f"cat {i}" for i in (1, 3, 5, 7)]
