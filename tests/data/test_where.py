"""Rows named by the values of several columns at once."""

from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset

from hf_unlearn import ArgumentError, split
from hf_unlearn.data.asked import asked
from hf_unlearn.report.words import asking


def orders(n=60) -> Dataset:
    rows = [
        {
            "id": i,
            "customer": 4700 + i // 6,
            "year": str(2018 + i % 3),
            "city": "Bern, BE" if i % 2 else "Zug",
            "text": f"order {i}",
        }
        for i in range(n)
    ]
    return Dataset.from_list(rows).add_column("kind", [i % 2 for i in range(n)]).cast_column(
        "kind", ClassLabel(names=["cash", "card"])
    )  # fmt: skip


def forgotten(**how) -> list[int]:
    return split(orders(), **how)["forget"]["id"][:]


def test_one_column_is_a_request_by_that_column():
    for value in (4703, "4703", [4703], ["4703.0"]):
        parts = split(orders(), where={"customer": value})
        again = split(orders(), by="column", column="customer", values=[4703])
        assert {name: rows["id"][:] for name, rows in parts.items()} == {n: r["id"][:] for n, r in again.items()}


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"customer": 4703, "year": 2020}, [20, 23]),
        ({"customer": "4703", "year": ["2020", 2018]}, [18, 20, 21, 23]),
        ({"customer": [4703, 4704], "city": "Bern, BE", "year": "2019"}, [19, 25]),
        ({"kind": "card", "customer": 4700}, [1, 3, 5]),
        ({"kind": 0, "id": ["2", 4, 5]}, [2, 4]),
    ],
)
def test_all_columns_must_hold_and_ints_and_strings_compare_alike(where, ids):
    parts = split(orders(), where=where)
    assert parts["forget"]["id"][:] == ids
    assert len(parts["unseen"]) == round(0.1 * (60 - len(ids)))  # single rows of those that stay
    assert not set(ids) & {*parts["retain"]["id"], *parts["unseen"]["id"]}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"where": {"customer": 470, "year": 2031}}, "Not in the column 'customer': 470. It has 4709, 4708, 4700"),
        ({"where": {"customer": 470, "year": 2031}}, "Not in the column 'year': 2031. It has 2019, 2018, 2020."),
        ({"where": {"custmer": 4703}}, "no column 'custmer'; .* Did you mean 'customer'?"),
        ({"where": {"customer": 4703, "jear": 2020}}, "no column 'jear'; .* Did you mean 'year'?"),
        ({"where": {"id": 3, "customer": 4703}}, "No row has id=3, customer=4703 at once; there are 1 with id=3, 6"),
        ({"where": {"id": 3, "customer": 4703}}, "With customer=4703, 'id' is 18, 19, 20, 21, 22, … \\(6 in all\\)."),
        ({"where": {"kind": "cash", "id": 3}}, "With id=3, 'kind' is card."),
        ({"where": {"id": 3}, "by": "id", "values": [3]}, "`by` is 'id', but `where` says which rows"),
        ({"where": {}}, "`where` is {}; it must be values by column"),
        ({"where": [("id", 3)]}, "it must be values by column"),
        ({"where": {"id": None}}, "`where` names no value for the column 'id': it is None"),
        ({"where": {"id": []}}, "names no value for the column 'id'"),
        ({"where": {"id": 3, "year": 2018}, "deleted": [3]}, "asks for id=3, year=2018, whose rows are all deleted"),
        ({}, "`by` is None; it must be 'id', 'class', 'column' or 'random', or rows be named by `where`"),
    ],
)  # fmt: skip
def test_what_matches_nothing_is_told_with_what_is_there(how, words):
    with pytest.raises(ArgumentError, match=words):
        forgotten(**how)


def test_a_record_says_the_conditions_and_a_card_the_columns_alone():
    how = {"where": {"customer": 4703, "year": ["2020", 2018]}}
    found = asked(orders(), split(orders(), **how)["forget"], **how)
    said = {"by": "where", "column": "customer and year", "fraction": None, "count": 3}
    assert found == {**said, "values": ["customer=4703", "year=2020 or 2018"]}
    assert asking.asked(found, 4) == "4 rows with customer=4703 and year=2020 or 2018"
    assert asking.asked({**found, "values": []}, 4) == "4 rows, by customer and year"
    one = asked(orders(), orders(), where={"customer": "4703"})
    assert one == {"by": "column", "column": "customer", "fraction": None, "count": 1, "values": ["4703"]}
    assert asked(orders(), orders(), where={"kind": 1, "id": 2})["values"] == ["kind=card", "id=2"]
