"""`split(…, deleted=ids)`: rows of earlier requests are in none of the parts, and nothing else moves."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_unlearn import ArgumentError, split
from hf_unlearn.cli import arguments, prepare

ROWS = Dataset.from_list([{"id": f"r{i}", "label": i % 4, "text": f"row {i}"} for i in range(40)])
A, B = ([f"r{i}" for i in range(40) if i % 4 == c] for c in (0, 1))


def ids(parts) -> dict[str, set]:
    return {name: set(part["id"]) for name, part in parts.items()}


@pytest.mark.parametrize("request_", [
    {"by": "class", "values": [1]}, {"by": "id", "values": B}, {"by": "random", "fraction": 0.2},
    {"by": "column", "column": "label", "values": [1], "group": "id", "unseen": 0.4},
], ids=str)  # fmt: skip
def test_deleted_rows_are_in_no_part_and_the_unseen_rows_are_those_of_before(request_):
    without, found = ids(split(ROWS, **request_)), ids(split(ROWS, **request_, deleted=A))
    assert not set(A) & set.union(*found.values())
    assert found["unseen"] == without["unseen"] - set(A)
    if request_["by"] != "random":  # whose draw is of the rows that are there
        assert found["forget"] == without["forget"] and found["retain"] == without["retain"] - set(A)
    assert len(found["forget"]) == len(without["forget"])


def test_copies_of_deleted_rows_go_with_them_whatever_their_label(caplog):
    rows = Dataset.from_list([*ROWS.to_list(), {"id": "copy", "label": 3, "text": "row 4"}])
    found = ids(split(rows, by="class", values=[1], deleted=["r4"]))
    assert not {"copy", "r4"} & set.union(*found.values())
    assert "1 row(s) have the content of a deleted row and are left out, too, ids copy." in caplog.text


def test_ids_of_any_type_are_found_and_unknown_ones_are_named():
    rows = Dataset.from_list([{"id": i, "label": i % 4, "text": f"row {i}"} for i in range(40)])
    for deleted in (["0", "4"], [0, 4]):
        assert not {0, 4} & set.union(*ids(split(rows, by="class", values=[1], deleted=deleted)).values())
    assert 7 not in set.union(*ids(split(rows, by="class", values=[1], deleted=7)).values())
    with pytest.raises(ArgumentError, match="`deleted` has ids that no row has: nobody; ids are such as 0, 1"):
        split(rows, by="class", values=[1], deleted=["nobody", 3])
    with pytest.raises(ArgumentError, match="No rows are left for 'forget'"):
        split(ROWS, by="class", values=[1], deleted=B)


def test_the_verbs_leave_them_out_by_a_flag(tmp_path):
    ROWS.to_json(tmp_path / "rows.jsonl")
    data = arguments.DataArguments(dataset_name=str(tmp_path / "rows.jsonl"), task="sequence_classification")
    data.forget_by, data.forget_values, data.deleted = "class", ["1"], A
    found = prepare.prepare(data, arguments.ModelArguments())
    assert not set(A) & set.union(*(set(part["id"]) for part in found.splits.values()))
    kept_out = sorted(found.splits["unseen"]["id"])
    data.forget_by, data.forget_values, data.unseen_ids = "id", ["r1", "r2"], kept_out  # asked for in another way
    again = prepare.prepare(data, arguments.ModelArguments()).splits
    assert sorted(again["unseen"]["id"]) == kept_out and not set(A) & {*again["retain"]["id"]}
