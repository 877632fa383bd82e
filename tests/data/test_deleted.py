"""`split(…, deleted=ids)`: rows of earlier requests are in none of the parts, and nothing else moves."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_unlearn import ArgumentError, split
from hf_unlearn.cli import arguments, prepare
from hf_unlearn.data import deleted

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
    for named in (["0", "4"], [0, 4]):
        assert not {0, 4} & set.union(*ids(split(rows, by="class", values=[1], deleted=named)).values())
    assert 7 not in set.union(*ids(split(rows, by="class", values=[1], deleted=7)).values())
    with pytest.raises(ArgumentError, match="`deleted` has ids that no row has: nobody; ids are such as 0, 1"):
        split(rows, by="class", values=[1], deleted=["nobody", 3])


PEOPLE = ROWS.add_column("person", [f"p{i // 2}" for i in range(40)])  # 20 of two rows each


@pytest.mark.parametrize("request_", [
    {"by": "column", "column": "person"}, {"by": "id"}, {"by": "class", "column": "person"},
], ids=lambda request_: request_["by"])  # fmt: skip
def test_a_draw_is_of_those_that_are_not_deleted_and_as_many_are_asked_as_of_all(request_):
    first = split(PEOPLE, **request_, fraction=0.2)
    second = split(PEOPLE, **request_, fraction=0.2, deleted=first["forget"]["id"])  # the same seed
    column = "id" if request_["by"] == "id" else "person"
    asked = [set(parts["forget"][column]) for parts in (first, second)]
    assert not asked[0] & asked[1] and len(asked[0]) == len(asked[1]) == (8 if column == "id" else 4)


def test_a_draw_leaves_out_whoever_was_kept_out_of_the_training():
    first = split(PEOPLE, by="column", column="person", fraction=0.2, unseen=0.4)
    out = {"unseen": first["unseen"]["id"], "deleted": first["forget"]["id"]}
    for seed in range(5):
        again = split(PEOPLE, by="column", column="person", fraction=0.2, seed=seed, **out)
        assert ids(again)["unseen"] == ids(first)["unseen"] and len(again["forget"]) == 8


@pytest.mark.parametrize("request_, named", [
    ({"by": "class", "values": [1]}, "1"), ({"by": "id", "values": ["r2", "r1", "r5"]}, "r1, r5"),
    ({"by": "column", "column": "id", "values": "r1"}, "r1"),
    ({"by": "id", "values": [*A, *B]}, r"r1, .* \(10 in all\)"),
])  # fmt: skip
def test_values_whose_rows_are_all_deleted_are_told_by_name(request_, named):
    with pytest.raises(ArgumentError, match=f"`values` asks for {named}, whose rows are all deleted already"):
        split(ROWS, **request_, deleted=B)


def test_of_a_person_whose_rows_are_deleted_in_part_the_others_are_forgotten():
    request_ = {"by": "column", "column": "person", "values": ["p3"], "deleted": ["r6"]}
    assert ids(split(PEOPLE, **request_))["forget"] == {"r7"}
    with pytest.raises(ArgumentError, match="1 row.s. to forget were kept out of training, ids r7"):
        split(PEOPLE, **request_, unseen=["r7"])


def test_unknown_ids_and_values_come_in_one_error_and_where_all_are_deleted_that_is_said():
    with pytest.raises(ArgumentError) as caught:
        split(ROWS, by="id", values=["nobody"], unseen=["noone"], deleted=["none"])
    assert len(caught.value.problems) == 3
    with pytest.raises(
        ArgumentError, match="No rows are left for 'forget'. Earlier requests have deleted 40 of the 40"
    ):
        split(ROWS, by="random", fraction=0.2, deleted=ROWS["id"])


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


def test_the_work_grows_with_the_rows_and_not_with_rows_times_deleted_ones(monkeypatch):
    held = []
    monkeypatch.setattr(deleted, "set", lambda of=(): held.append(len(found := set(of))) or found, raising=False)
    split(ROWS, by="id", values=["r39"], unseen=["r38"], deleted=[f"r{i}" for i in range(30)])
    assert 0 < sum(held) <= 2 * (40 + 30)  # values that were put into sets
