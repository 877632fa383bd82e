"""`encode`: how long rows of text are, what that cuts, and that nothing is cut without a word; other tasks."""

from __future__ import annotations

import doctest
import logging

import datasets
import numpy as np
import pytest

from hf_unlearn import ArgumentError, encode, split
from hf_unlearn.data.encode import length
from hf_unlearn.data.encode.columns import all_class_names
from hf_unlearn.data.encode.images import build_image_processor
from hf_unlearn.data.encode.length import Length, length_for
from hf_unlearn.data.encode.sound import build_feature_extractor
from tests.helpers import tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def encoded(people, tokenizer):
    return encode(people, tokenizer, max_length=1000)


def test_the_default_is_the_99th_percentile_within_what_the_model_takes(tokenizer):
    lengths = np.array([10] * 980 + [21] * 15 + [400] * 5)
    assert length_for(lengths, None, tokenizer) == Length(24, "percentile")
    assert length_for(lengths, 16, tokenizer) == Length(16, "positions")
    assert length_for(np.array([3000]), None, tokenizer) == Length(3000, "percentile")
    assert length_for(np.array([3000]), None, tokenizer, documents=True) == Length(1024, "percentile")


def test_the_default_goes_by_the_rows_that_nobody_may_ask_for(tokenizer):
    answers = ["Here and there. " * 30, *(39 * ["Here."])]
    rows = [{"id": str(i), "question": f"Where is {i}?", "answer": answer} for i, answer in enumerate(answers)]
    parts = encode(split(rows, by="id", values=["0"]), tokenizer)
    longest = max(map(len, parts["retain"]["input_ids"]))
    assert len(parts["forget"]["input_ids"][0]) == 8 * -(-longest // 8)


def test_what_is_cut_is_counted_and_said(tokenizer, caplog):
    rows = [{"id": str(i), "question": "Where?", "answer": "Here" + " again" * i} for i in range(4)]
    whole = encode(rows, tokenizer, max_length=99)
    sizes = [len(ids) for ids in whole["input_ids"]]
    with caplog.at_level(logging.INFO, "hf_unlearn"):
        cut = encode(rows, tokenizer, max_length=sizes[1])
    gone = sum(sizes[2:]) - 2 * sizes[1]
    kept = sum(label != -100 for labels in whole["labels"] for label in labels)
    assert [len(ids) for ids in cut["input_ids"]] == [sizes[0]] + 3 * [sizes[1]]
    assert cut["input_ids"] == [ids[: sizes[1]] for ids in whole["input_ids"]]
    (told,) = caplog.messages
    assert told == (f"Rows have at most {sizes[1]} tokens a row: 2 of 4 rows are cut, and {gone} of {kept} labels go.")
    assert caplog.records[0].levelno == logging.WARNING
    assert cut.features == whole.features and cut.format["type"] is None


def test_a_row_that_would_lose_all_its_labels_is_refused(people, encoded, tokenizer):
    context = max(sum(label == -100 for label in labels) for labels in encoded["labels"])
    cut = encode(people, tokenizer, max_length=context + 1)
    assert max(len(ids) for ids in cut["input_ids"]) == context + 1
    said = rf"{len(people)} rows have no label left after truncation to max_length=6: id p000.*longest of them has \d+"
    with pytest.raises(ValueError, match=said):
        encode(people, tokenizer, max_length=6)


def test_labels_and_lengths_are_counted_as_python_counts_them(encoded):
    some = encoded.select([5, 2, 9])  # by an index, which Arrow's own columns do not know
    assert length.lengths_of(some).tolist() == [len(ids) for ids in some["input_ids"]]
    for most in (None, 12):
        expected = [sum(label != -100 for label in labels[:most]) for labels in some["labels"]]
        assert length.labels_of(some, most).tolist() == expected


def test_texts_of_a_classifier_end_with_the_tokenizers_closing_token(people, caplog):
    from hf_unlearn.data.encode.text import build_tokenizer

    tokenizer = build_tokenizer(people["question"], append_eos=True)
    rows = [{"text": "a " * size, "label": "ab"[size % 2]} for size in (1, 2, 30)]
    found = encode(rows, tokenizer, task="sequence_classification", max_length=8)
    assert [len(ids) <= 8 for ids in found["input_ids"]] == [True] * 3
    assert all(ids[-1] == tokenizer.eos_token_id for ids in found["input_ids"])
    assert caplog.messages[-1].endswith("1 of 3 rows is cut.")
    bounded = encode(rows, tokenizer, task="sequence_classification", model=tiny.bert())  # of 32 positions
    assert max(len(ids) for ids in bounded["input_ids"]) == 32


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("causal_lm", "own/model", r"is 'own/model', and .* `AutoTokenizer.from_pretrained\('own/model'\)`"),
        ("sequence_classification", None, "is None, and .* `AutoTokenizer"),
        ("causal_lm", build_image_processor(8), "`AutoTokenizer"),
        ("audio_classification", None, "`AutoFeatureExtractor"),
        ("image_classification", "own/model", "`AutoImageProcessor"),
    ],
)
def test_what_is_no_processing_class_is_told_with_what_makes_one(task, given, said):
    with pytest.raises(ArgumentError, match=f"`processing_class` .*{said}"):
        encode([{"question": "a", "answer": "b"}], given, task=task)


def test_a_tokenizer_reads_no_images(tokenizer):
    with pytest.raises(ArgumentError, match="`AutoImageProcessor"):
        encode([{"image": [[0]], "label": 0}], tokenizer, task="image_classification")


def test_numbers_that_measure_something_are_told(caplog):
    rows = datasets.Dataset.from_dict({"label": [float(i) for i in range(20)]})
    all_class_names(rows, "label")
    assert "20 different numbers in 20 rows" in caplog.text and "regression" in caplog.text
    caplog.clear()
    all_class_names(datasets.Dataset.from_dict({"label": [float(i % 2) for i in range(20)]}), "label")
    assert not caplog.records


def test_classes_that_differ_in_case_or_white_space_alone_are_told(caplog):
    all_class_names(datasets.Dataset.from_dict({"label": ["yes", "Yes ", "no"]}), "label")
    assert "taken for different ones: 'Yes ', 'yes'." in caplog.text


@pytest.mark.parametrize(
    ("task", "good", "bad"),
    [
        ("causal_lm", {"question": "a", "answer": "b"}, {"question": "a", "answer": None}),
        ("sequence_classification", {"text": "a", "label": "x"}, {"text": "a", "label": None}),
    ],
)
def test_rows_of_all_parts_that_cannot_be_read_are_told_at_once(task, good, bad, tokenizer):
    names = {"sequence_classification": {"names": ["x", "y"]}}.get(task, {})
    parts = {name: datasets.Dataset.from_list([{"id": f"{name}{i}", **(bad if i else good)} for i in range(2)])
             for name in ("forget", "retain", "unseen")}  # fmt: skip
    with pytest.raises(ValueError) as told:
        encode(parts, tokenizer, task=task, **names)
    assert all(f"(id {name}1)" in str(told.value) for name in parts)


def test_the_example_of_encode_runs():
    (found,) = doctest.DocTestFinder(recurse=False).find(encode, "encode", globs={})
    assert found.examples and not doctest.DocTestRunner().run(found).failed


def test_pictures_and_sounds_go_by_the_same_function():
    rows = datasets.Dataset.from_dict(
        {"id": list("abcd"), "pixels": [np.full((4, 4), k).tolist() for k in range(4)], "kind": ["x", "y"] * 2}
    )
    parts = encode(split(rows, by="id", values=["a"], unseen=["b"]), None, task="image_classification",
                   image_column="pixels", label_column="kind", image_size=8)  # fmt: skip
    assert parts["forget"].features["pixel_values"].shape == (1, 8, 8) and parts["retain"]["labels"] == [0, 1]
    assert parts["unseen"].features["labels"].names == ["x", "y"]  # the classes are those of all parts
    waves = [{"array": [0.0, 0.1] * 300, "sampling_rate": 16_000}] * 2
    sounds = datasets.Dataset.from_dict({"audio": waves, "label": ["x", "y"]})
    extractor = build_feature_extractor("wav2vec2", {})
    found = encode(sounds, extractor, task="audio_classification", max_seconds=0.05)
    assert len(found[0]["input_values"]) == 800 and found["labels"] == [0, 1]
