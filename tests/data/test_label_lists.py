"""Several labels a row, in whatever form a file holds them."""

from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_unlearn import split
from hf_unlearn.data.asked import asked
from hf_unlearn.data.encode.columns import class_labels, class_names, with_labels
from hf_unlearn.data.label_lists import from_columns, from_words

LISTS = [["joy", "fear"], [], ["fear"], ["joy"], ["anger"], ["anger", "joy"]]
VECTORS = [[0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]  # anger, fear, joy
NAMES = ["anger", "fear", "joy"]


def rows(labels, feature=None, name="label") -> Dataset:
    ids = [f"r{i}" for i in range(len(labels))]
    features = {"id": Value("string"), "text": Value("string"), name: feature} if feature is not None else None
    texts = [f"{one} alone" for one in "abcdefgh"[: len(labels)]]
    return Dataset.from_dict({"id": ids, "text": texts, name: labels}, Features(features) if features else None)


FORMS = {
    "names": rows(LISTS),
    "declared": rows([[NAMES.index(one) for one in own] for own in LISTS], List(ClassLabel(names=NAMES))),
    "0 and 1": rows(VECTORS),
    "with a point": rows([[float(x) for x in own] for own in VECTORS]),
    "true or false": rows([[bool(x) for x in own] for own in VECTORS]),
    "numbers": rows([[NAMES.index(one) for one in own] for own in LISTS]),
    "one word": from_words(rows([" ; ".join(own) for own in LISTS]), "label", ";"),
    "written lists": from_words(rows([str(own) for own in LISTS]), "label"),
}
FORMS["columns"] = from_columns(
    Dataset.from_dict({"id": [f"r{i}" for i in range(6)], "text": FORMS["names"]["text"]} | {
        name: [str(int(name in own)) for own in LISTS] for name in NAMES}),
    NAMES, "label",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_vectors(form):
    names, vectors = class_labels(FORMS[form], "label", None)
    assert vectors == VECTORS
    expected = NAMES if form in ("names", "declared", "one word", "written lists", "columns") else ["0", "1", "2"]
    assert names == expected == class_names(FORMS[form], "label")
    labels = with_labels(FORMS[form].remove_columns("label"), names, vectors).features["labels"]
    assert labels == List(Value("float32"), length=3)


@pytest.mark.parametrize("form", FORMS)
def test_a_request_by_class_takes_the_rows_that_have_the_label(form):
    value = "joy" if class_names(FORMS[form], "label") == NAMES else 2
    parts = split(FORMS[form], by="class", values=[value], unseen=["r1"])
    assert parts["forget"]["id"] == ["r0", "r3", "r5"] and parts["unseen"]["id"] == ["r1"]
    said = asked(FORMS[form], parts["forget"], by="class", column="label", values=[value])
    assert said["count"] == 1 and said["values"] == [str(value)]
    by_number = split(FORMS["declared"], by="class", values=[2], unseen=["r1"])
    assert by_number["forget"]["id"] == parts["forget"]["id"]
    drawn = split(FORMS[form], by="class", fraction=0.3, unseen=["r1"])["forget"]
    assert asked(FORMS[form], drawn, by="class", column="label", fraction=0.3)["count"] == 1


def test_a_label_that_no_row_has_is_told_with_those_that_are_there():
    with pytest.raises(ValueError, match="Not in the column 'label': grief. It has anger, fear, joy"):
        split(FORMS["names"], by="class", values=["grief"])


def test_numbers_may_count_given_names():
    assert class_labels(FORMS["numbers"], "label", NAMES) == (NAMES, VECTORS)


@pytest.mark.parametrize("labels, names, words", [
    ([["joy"], None], None, "1 row(s) have no list of labels in the column 'label', ids r1: a row without"),
    ([["joy"], ["grief"]], NAMES, "none that is known: 'grief' (rows r1). Known are anger, fear, joy."),
    ([[0.5], [1.0]], None, "have 0.5 among the labels in the column 'label', ids r0"),
    ([[-1, 2], [0]], None, "have a number below 0 in the column 'label', ids r0"),
    ([[[1]], [[2]]], None, "have [1] among the labels"),
    ([[0, 1, 1], [1, 0, 0]], ["a", "b"], "says 0 or 1 of 3 labels, and there are 2"),
    ([["joy"], [None]], None, "have None among the labels in the column 'label', ids r1"),
], ids=["none", "unknown", "shares", "below 0", "nested", "width", "none within"])  # fmt: skip
def test_what_is_no_list_of_labels_is_told(labels, names, words):
    with pytest.raises(ValueError) as told:
        class_labels(rows(labels), "label", names)
    assert words in str(told.value)


def test_columns_that_are_no_labels_are_told_all_at_once():
    raw = rows(["1", "0", "maybe"], name="joy").add_column("label", [1, 2, 3])
    with pytest.raises(ValueError) as told:
        from_columns(raw, ["joy", "fear"], "label")
    assert "names 'fear', which is no column" in str(told.value)
    assert "`label_column` is 'label', a column that the rows have beside" in str(told.value)
    with pytest.raises(ValueError, match="neither 0 nor 1 but 'maybe' in 1 row.s., ids r2"):
        from_columns(raw, ["joy"], "labels")


def test_a_word_in_brackets_is_a_word_where_others_are_none():
    assert from_words(rows(["[x]", "y"]), "label").features["label"] == Value("string")
    with pytest.raises(ValueError, match="there are no words to cut up, such as 1.5 .id r0."):
        from_words(rows([1.5, 2.5]), "label", ",")


def test_a_separator_that_stands_nowhere_is_told(caplog):
    from_words(rows(["a,b", "b"]), "label", ",")
    assert not caplog.records
    from_words(rows(["a,b", "b"]), "label", ";")
    assert "The separator ';' stands in no value of the column 'label', such as 'a,b'" in caplog.text
