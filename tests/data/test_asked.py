"""`asked`: what a score card keeps of a request."""

from datasets import ClassLabel, Dataset

from hf_unlearn import split
from hf_unlearn.data.asked import MOST_VALUES, asked


def rows(n=60) -> Dataset:
    found = [{"id": 1000 + i, "person": f"p{i // 6}", "label": i % 3, "text": f"row {i}"} for i in range(n)]
    return Dataset.from_list(found).cast_column("label", ClassLabel(names=["cat", "dog", "fox"]))


def said(**named) -> dict:
    return asked(rows(), split(rows(), **named)["forget"], **{"column": None, **named})


def test_a_drawn_share_of_people_is_counted_and_nobody_is_named():
    found = said(by="column", column="person", fraction=0.2)
    assert found == {"by": "column", "column": "person", "fraction": 0.2, "count": 2, "values": []}
    assert said(by="random", fraction=0.1) == {
        "by": "random", "column": None, "fraction": 0.1, "count": None, "values": []
    }  # fmt: skip


def test_rows_without_a_value_are_no_value_and_deleted_ones_change_no_count():
    some = Dataset.from_list([{"id": i, "who": None if i < 10 else f"p{i % 4}", "text": f"row {i}"} for i in range(50)])
    named = {"by": "column", "column": "who", "fraction": 0.3}
    first = split(some, **named)["forget"]
    second = split(some, **named, deleted=first["id"])["forget"]
    for forget in (first, second):
        assert asked(some, forget, **named)["count"] == len(set(forget["who"])) == 1  # .3 of 4


def test_what_was_named_is_listed_once_and_not_without_end():
    found = said(by="column", column="person", values=["p1", "p2", "p1"])
    assert (found["count"], found["values"]) == (2, ["p1", "p2"])
    assert said(by="column", column="person", values="p1")["values"] == ["p1"]
    many = said(by="id", values=list(range(1000, 1040)))
    assert (many["column"], many["count"]) == ("id", 40)
    assert many["values"] == [str(i) for i in range(1000, 1000 + MOST_VALUES)]


def test_classes_are_listed_by_their_names_also_where_they_were_drawn():
    assert said(by="class", column="label", values=[1])["values"] == ["dog"]
    assert said(by="class", column="label", values=["2", "cat"])["values"] == ["fox", "cat"]
    drawn = said(by="class", column="label", fraction=0.3)
    assert drawn["count"] == 1 and drawn["values"][0] in ("cat", "dog", "fox")
