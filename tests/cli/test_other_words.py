"""Other words for the same facts, from columns, files or the people's phrasings."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from hf_unlearn.cli import other_words
from hf_unlearn.data.rows import people as embedded_people


def encode(rows):
    return rows.add_column("encoded", list(range(len(rows))))


def test_people_are_asked_and_answered_in_other_words():
    rows = embedded_people.people(60).to_list()
    said = other_words.people_in_other_words(rows)
    assert [{k: row[k] for k in rows[0]} for row in said] == rows
    for row in said:
        assert row["person"] in row["paraphrased_question"] != row["question"]
        assert row["paraphrased_answer"] != row["answer"]
        assert len(set(row["perturbed_answer"])) == other_words.WRONG
        assert row["paraphrased_answer"] not in row["perturbed_answer"]
    town = next(row for row in said if row["id"].endswith("-town"))
    form = embedded_people.ATTRIBUTES["town"][1]
    values = [row["answer"] for row in said if row["id"].endswith("-town")]
    name = next(word.strip(".") for word in town["answer"].split() if word[0].isupper() and word not in ("In", "The"))
    assert name in town["paraphrased_answer"] and len(form) == 3 and len(values) > 5
    assert other_words.people_in_other_words(rows) == said


def test_every_phrasing_is_read_back():
    """A row written in each phrasing gives its value back: the paraphrase of the paraphrase comes home."""
    for attribute, (questions, forms, _) in embedded_people.ATTRIBUTES.items():
        value = {"birthday": "6 July 1944", "town": "Foxhaven", "book": "Hidden Bell"}.get(attribute, "a red goat")
        for asked in range(3):
            for answered in range(3):
                text = other_words.sentence(forms[answered], value)
                row = {"id": f"p001-{attribute}", "person": "A B", "question": questions[asked].format(name="A B")}
                assert other_words.parse_row({**row, "answer": text}) == (attribute, asked, answered, value)
    with pytest.raises(ValueError, match="not one of the embedded people's"):
        other_words.people_in_other_words([{"id": "x", "person": "A", "question": "Why?", "answer": "So."}])


def test_columns_of_the_rows_come_first():
    rows = [
        {
            "question": f"q{i}",
            "answer": f"a{i}",
            "paraphrased_answer": f"other a{i}",
            "perturbed_answer": [f"wrong {i}", f"false {i}"],
            "paraphrased_question": f"other q{i}",
            "labels": [1],
            "input_ids": [1],
        }
        for i in range(3)
    ]
    splits = {"forget": Dataset.from_list(rows[:2]), "retain": Dataset.from_list(rows[2:]), "test": None}
    found = other_words.extra_splits({k: v for k, v in splits.items() if v}, "mine", None, encode)
    assert set(found) == {"forget_perturbed", "forget_paraphrased", "forget_rephrased"} | {
        "retain_perturbed",
        "retain_paraphrased",
    }
    assert found["forget_perturbed"]["answer"][:] == ["wrong 0", "false 0", "wrong 1", "false 1"]
    assert found["forget_perturbed"]["group"][:] == [0, 0, 1, 1]
    assert found["forget_rephrased"].to_list()[1] == {"question": "other q1", "answer": "a1", "encoded": 1}
    plain = {"forget": Dataset.from_list([{"question": "q", "answer": "a"}])}
    assert other_words.extra_splits(plain, "x", None, encode) == {}


def test_tofu_files_are_found_beside_the_rows(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(4)]
    write("full.jsonl", rows)
    write("forget10_perturbed.jsonl", [{**rows[1], "perturbed_answer": ["x", "y"], "paraphrased_answer": "z"}])
    write("real_authors_perturbed.jsonl", [{"question": "who", "answer": "she", "perturbed_answer": ["he"]}])
    splits = {"forget": Dataset.from_list(rows[:2]), "retain": Dataset.from_list(rows[2:])}
    found = other_words.extra_splits(splits, "tofu", str(tmp_path / "full.jsonl"), encode)
    assert set(found) == {"forget_perturbed", "forget_paraphrased", "real_authors", "real_authors_perturbed"}
    assert found["forget_perturbed"]["group"][:] == [1, 1] and found["forget_paraphrased"]["answer"][:] == ["z"]
    assert found["real_authors"]["answer"][:] == ["she"] and found["real_authors_perturbed"]["group"][:] == [0]
    assert other_words.extra_splits(splits, "tofu", str(tmp_path), encode).keys() == found.keys()


def test_many_rows_are_thinned_evenly():
    rows = [{"question": f"q{i}", "answer": "a", "perturbed_answer": ["w"]} for i in range(1000)]
    found = other_words.extra_splits({"retain": Dataset.from_list(rows)}, "mine", None, encode)
    groups = found["retain_perturbed"]["group"][:]
    assert len(groups) == len(set(groups)) == other_words.MOST_ROWS and groups[0] == 0 and groups[-1] == 999
