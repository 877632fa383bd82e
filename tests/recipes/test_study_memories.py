"""The study of memories: its rows, and its tables."""

from __future__ import annotations

from helpers import tiny

from hf_unlearn.data.rows.people import people
from recipes.study import memories


def found(arm: str = "own", seed: int = 0) -> dict:
    looked = {name: {"loss": 1.0, "right": 0.5} for name in ("learned", "asked otherwise", "others")}
    one = {"arm": arm, "sources": 20, "seed": seed, "seconds": 3.0, "row_passes": 2400.0}
    one |= {"after": looked, "below": {**looked, "others": {"loss": 2.0, "right": 0.0}}}
    if arm == "own":
        gone = {"share": 0.1, "rows": 8, "milliseconds": 0.4, "others_same_bits": True}
        one |= {"bytes": 139_000.0, "deleted": [{**gone, "gone": looked["learned"], "others": looked["learned"]}]}
    return one


def test_questions_asked_otherwise_have_the_same_answers_in_other_words():
    rows = list(people(5))
    for row, other in zip(rows, memories.asked_otherwise(rows), strict=True):
        assert row["person"] in other["question"] and other["question"] != row["question"]
        assert (row["id"], row["answer"]) == (other["id"], other["answer"])


def test_public_rows_are_of_no_source():
    row = memories.encoded(list(people(1)), tiny.tokenizer(), person=False)[0]
    assert row["person"] is None and row["labels"][-1] == 2 and row["labels"][0] == -100


def test_tables_have_a_line_for_each_arm_and_for_each_deletion():
    said = memories.table([found(), found(seed=1), found("LoRA")])
    lines = [line.split() for line in said.splitlines()]
    assert lines[1][:3] == ["LoRA", "20", "1"] and lines[2][:3] == ["own", "20", "2"]
    assert "1.000 (2.000)" in said and lines[2][-1] == "139"
    assert said.count("10%") == 2 and "yes" in said
