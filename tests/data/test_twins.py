"""Rows that say the same in other bits: padding, case, punctuation, label. And rows that say nearly the same."""

from __future__ import annotations

import logging
import re
import unicodedata

import numpy as np
import pytest
from datasets import Dataset, Image
from helpers.tiny import lm_list, tokenizer
from PIL import Image as Pictures

from hf_unlearn import ArgumentError, evaluate, find_duplicates, split
from hf_unlearn.data import near_twins
from hf_unlearn.data.checks import split_sets, warn_of_near_twins
from hf_unlearn.data.duplicates import contents
from hf_unlearn.data.reading import normalised

SAID = "Velra Langdale lives in Coldcombe near the old bridge"


@pytest.mark.parametrize("other", [
    SAID.upper(), SAID + "!", f"  {SAID}\n", SAID.replace(" ", "  "), f"“{SAID}.”", SAID.replace("Velra", "Ｖｅｌｒａ"),
])  # fmt: skip
def test_text_is_the_same_whatever_its_case_punctuation_and_white_space(other):
    assert normalised(other) == normalised(SAID)


@pytest.mark.parametrize("a, b", [
    ("1.5 metres", "15 metres"), ("rooms 1 2", "rooms 12"), ("-5 degrees", "5 degrees"), ("C", "C++"), ("…", "!"),
    ("ice cream", "iced cream"), ("naïve", "naive"),
])  # fmt: skip
def test_text_that_says_something_else_stays_apart(a, b):
    assert normalised(a) != normalised(b)


@pytest.mark.parametrize("text", [
    "1 2 3", "1  2", "1, 2", "-5-6", "--5", "a-5", "5 -6", "x -7.5%", "3-D", "a_-1", "1_2", "٣.٤", "Ａ－1", "2²",
    "ⅷ 1.", "", " ", "?!", "no digit, here.", "naïve—no", "1\n2", "\ue0001", "$1,000.50", "10:30", "1.",
])  # fmt: skip
def test_plain_text_and_numbers_are_read_as_all_text_is(text):
    """By the definition in words: marks between digits and before one, then all signs and white space away."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    marked = re.sub(r"(?<=\d)\W+(?=\d)|(?<!\w)-(?=\d)", lambda m: "\ue000" if m[0].isspace() else "\ue001", folded)
    kept = "".join(c for c in marked if unicodedata.category(c)[0] not in "PZC" or c in "\ue000\ue001")
    assert normalised(text) == (kept or folded)


def people(text: str, **more) -> Dataset:
    rows = [{"id": i, "person": f"p{i // 6}", "label": i % 3, "text": f"{SAID}, number {i}"} for i in range(60)]
    return Dataset.from_list([*rows, {"id": 100, "person": "p9", "label": 0, "text": text, **more}])


@pytest.mark.parametrize("text", [f"{SAID.upper()}, NUMBER 1", f"{SAID}, number 1!", f"{SAID} - number  1"])
def test_split_moves_rows_that_say_the_same_also_with_another_label(text, caplog):
    with caplog.at_level(logging.WARNING):
        parts = split(people(text, label=2), by="id", values=[1])
    assert sorted(parts["forget"]["id"]) == [1, 100] and "moved to the forget set" in caplog.text
    by_class = split(people(text, label=2), by="class", values=[1], unseen=0.3)
    assert {1, 100} <= set(by_class["forget"]["id"])
    with pytest.raises(ArgumentError, match="ids 100"):
        split(people(text), by="id", values=[1], duplicates="error")


def test_split_goes_by_the_columns_that_are_named():
    rows = Dataset.from_list([{"id": i, "uttered": f"number {i % 29}", "place": f"place {i}"} for i in range(30)])
    assert split(rows, by="id", values=[0])["forget"]["id"] == [0]
    assert split(rows, by="id", values=[0], content=["uttered"])["forget"]["id"] == [0, 29]
    with pytest.raises(ArgumentError, match="no column 'words'"):
        split(rows, by="id", values=[1], content=["words"])


def test_near_twins_stay_and_are_named_with_how_much_alike_they_are(caplog):
    texts = [f"{word * 4} {word}" for word in "abcdefghijklmnopqrstuvwxyz"]
    rows = [{"id": i, "text": text} for i, text in enumerate([SAID, *texts, SAID.replace("the old", "the cold")])]
    with caplog.at_level(logging.WARNING):
        parts = split(Dataset.from_list(rows), by="id", values=[0], unseen=[3])
    assert parts["forget"]["id"] == [0]
    assert "1 pair(s) of one forget and one retain row are much alike" in caplog.text and "0 ≈ 27 (85%)" in caplog.text


def test_a_padded_row_is_the_same_row():
    row = lm_list(1)[0]
    padded = {k: [*v, 0, 0] if isinstance(v, list) else v for k, v in row.items()}
    padded |= {"id": 77, "labels": [*row["labels"], -100, -100], "attention_mask": [*row["attention_mask"], 0, 0]}
    assert find_duplicates([row], [padded]) == [(0, 0)]
    assert find_duplicates(Dataset.from_list([row]), Dataset.from_list([padded])) == [(0, 0)]
    unmasked = [{k: v for k, v in own.items() if k != "attention_mask"} for own in (row, padded)]
    assert find_duplicates(unmasked[:1], unmasked[1:]) == []  # without a mask 0 may be a token
    assert find_duplicates(unmasked[:1], unmasked[1:], processing_class=tokenizer()) == [(0, 0)]
    (problem,) = split_sets(lm_list(4), [*lm_list(4, 20), padded], lm_list(3, 40))[1]
    assert "(forget = retain): 0 = 77" in problem


class Reader:
    """A tokenizer of two ids a letter: a small one and a capital one."""

    pad_token_id = None

    def batch_decode(self, rows, skip_special_tokens):
        return ["".join(chr(i) for i in ids) for ids in rows]


def encoded(text: str, start: int, **more) -> dict:
    return {"id": start, "input_ids": list(map(ord, text)), "labels": list(map(ord, text)), **more}


def test_text_is_read_from_the_ids_by_the_tokenizer():
    one, other = encoded(SAID, 0), encoded(SAID.upper() + "!", 1)
    assert find_duplicates([one], [other]) == []
    assert find_duplicates([one], [other], processing_class=Reader()) == [(0, 0)]
    sets = [one], [encoded("something else, of that length", 2)], [other]
    (problem,) = split_sets(*sets, processing_class=Reader())[1]
    assert "(forget = unseen): 0 = 1" in problem and "never have been trained on" in problem


def test_text_columns_beside_the_ids_are_read_without_a_tokenizer():
    one, other = encoded(SAID, 0) | {"text": SAID}, encoded(SAID.upper(), 1) | {"text": SAID.upper()}
    assert find_duplicates([one], [other]) == [(0, 0)]
    assert find_duplicates(Dataset.from_list([one]), Dataset.from_list([other])) == [(0, 0)]
    names = [encoded(f"{i}{i}{i}", i, person="Velra Langdale") for i in range(4)]  # a name alone is no content
    assert find_duplicates(names[:2], names[2:]) == []


def test_splits_of_an_evaluation_that_say_the_same_are_refused():
    from helpers.tiny import lm

    splits = {
        "forget": lm_list(3),
        "unseen": [{**lm_list(1)[0], "labels": [-100] * 3 + lm_list(1)[0]["labels"][3:], "id": 9}],
    }
    with pytest.raises(ValueError, match="1 row.s. of split `unseen` say the same as a row of `forget` .row 0 of"):
        evaluate(lm(), splits, processing_class=tokenizer())


def test_pictures_are_compared_as_they_are_stored_and_not_decoded(monkeypatch):
    made = [Pictures.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 9, 0)]
    rows = Dataset.from_dict({"image": made, "label": [0, 1, 2]}).cast_column("image", Image())
    monkeypatch.setattr(Image, "decode_example", lambda *a, **k: pytest.fail("a picture was decoded"))
    assert find_duplicates(rows.select([0, 1]), rows.select([2])) == [(0, 0)]


def test_near_twins_of_many_rows_are_found_in_bounded_time():
    draw = np.random.default_rng(0)
    words = [f"w{i}" for i in range(3000)]
    rows = [
        {"text": "Question of the day: " + " ".join(words[i] for i in draw.integers(0, 3000, 20))} for _ in range(4000)
    ]
    twin = [{"text": rows[17]["text"].replace(" ", ", ", 3).upper() + " w1"}]
    first, second = contents(
        [rows, twin + rows[:0] + [{"text": f"row {i} of its own kind, {i * i}"} for i in range(50)]]
    )
    (pair,) = near_twins.near_twins(first, second)
    assert pair[:2] == (17, 0) and pair[2] > 0.9


def test_similarity_is_that_of_jaccard():
    first, second = contents([[{"text": "abcdefghijklmnopqrstuvwxyz"}], [{"text": "abcdefghijklmnopqrstuvwxyz 1"}]])
    ((_, _, similarity),) = near_twins.near_twins(first, second)
    assert similarity == pytest.approx(22 / 24)  # 22 runs of five characters, and two more


def test_many_long_rows_stay_within_one_budget(monkeypatch, caplog):
    monkeypatch.setattr(near_twins, "MOST_IN_ALL", 4000)
    few = [{"id": f"f{i}", "text": f"{i} " * 40 + SAID} for i in range(4)]
    many = [{"id": f"m{i}", "text": f"{i * i} of {i} " * 20} for i in range(200)]
    first, second = contents([few, [*many, {"id": "twin", "text": few[0]["text"] + " end"}]])
    places = near_twins.compared_rows(first, second)
    assert len(places[0]) == 4 and 1 < len(places[1]) < 40  # the few whole, of the many some
    shingles = sum(one.texts.sizes[own].sum() for one, own in zip((first, second), places, strict=True))
    assert shingles < 4400
    ids = [row["id"] for row in few], [f"m{i}" for i in range(200)] + ["twin"]
    for _ in range(2):
        warn_of_near_twins(first, second, *ids, "forget", "retain")
    assert caplog.text.count("f0 ≈ twin") == 1  # told once
    assert f"Compared were {len(places[1])} of 201 retain rows, evenly spaced." in caplog.text


def test_near_twins_are_sought_by_the_first_process_of_a_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("hf_unlearn.data.checks.near_twins", lambda *sets: pytest.fail("sought"))
    one, other = contents([[{"text": SAID}], [{"text": SAID + " now"}]])
    warn_of_near_twins(one, other, [0], [1], "forget", "retain")


def test_chats_are_the_same_by_what_is_said_in_them():
    said = [("user", "Where does Velra live?"), ("assistant", "In Coldcombe.")]
    first = [{"id": "a", "messages": [{"role": who, "content": words} for who, words in said]}]
    second = [{"id": "b", "messages": [{"content": words.upper(), "role": who, "name": "x"} for who, words in said]}]
    assert find_duplicates(first, second) == [(0, 0)]
    assert contents([Dataset.from_list(first)])[0].texts.at(np.array([0])) == ["Where does Velra live?\nIn Coldcombe."]
    other = [{"id": "c", "messages": [first[0]["messages"][0], {"role": "assistant", "content": "In Dunmere."}]}]
    assert find_duplicates(first, other) == []
