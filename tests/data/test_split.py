"""`split`: which rows are forgotten, kept and unseen, and what a wrong call is told."""

from __future__ import annotations

import collections
import datetime
import logging

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset

from hf_unlearn import ArgumentError, split

N = 60


def people(n=N) -> Dataset:
    """Six rows a person, three classes, text that differs in each row."""
    rows = [{"id": 1000 + i, "person": f"p{i // 6}", "label": i % 3, "text": f"row {i}"} for i in range(n)]
    return Dataset.from_list(rows)


def ids(rows) -> list:
    return list(rows["id"])


def check_partition(parts, dataset):
    got = [ids(parts[name]) for name in ("forget", "retain", "unseen")]
    assert sorted(sum(got, [])) == sorted(ids(dataset))
    assert all(got)
    assert set(parts) == {"forget", "retain", "unseen"}


def test_by_id_takes_just_these_rows():
    parts = split(people(), by="id", values=[1003, 1059])
    check_partition(parts, people())
    assert ids(parts["forget"]) == [1003, 1059]
    assert len(parts["unseen"]) == 6  # a tenth of the rest


def test_ids_may_come_as_text_and_alone():
    assert ids(split(people(), by="id", values=["1003", 1004])["forget"]) == [1003, 1004]
    assert ids(split(people(), by="id", values=1003)["forget"]) == [1003]


@pytest.mark.parametrize("column, values, forgotten", [
    ([False, True], ["false"], {False}),
    ([False, True], ["yes"], {True}),
    ([False, True], "off", {False}),
    ([1.5, 2.0], ["1.50"], {1.5}),
    ([1.5, 2.0], ["2"], {2.0}),
    ([1, 2, 3], ["0x1", "03"], {1, 3}),
    ([1, 2, 3], ["2.0"], {2}),
    (list(range(1, 13)), ["010", "1e1"], {10}),  # and not 8, as YAML reads it
    ([str(i) for i in range(1, 13)], ["0010"], {"10"}),
    (["1.50", "1.5"], ["1.50"], {"1.50"}),
    (["no", "yes"], ["no"], {"no"}),
    (["False", "True"], ["false"], {"False"}),
    ([f"2020-01-0{d}" for d in (1, 2)], ["2020-01-01"], {"2020-01-01"}),
    ([datetime.datetime(2020, 1, d) for d in (1, 2)], ["2020-01-01T00:00:00"], {datetime.datetime(2020, 1, 1)}),
    ([datetime.datetime(2020, 1, d) for d in (1, 2)], ["2020-01-01"], {datetime.datetime(2020, 1, 1)}),
])  # fmt: skip
def test_words_stand_for_the_values_that_the_column_has(column, values, forgotten):
    rows = people().add_column("asked", [column[i % len(column)] for i in range(N)])
    parts = split(rows, by="column", column="asked", values=values, group="person")
    assert set(parts["forget"]["asked"]) == forgotten


@pytest.mark.parametrize("column, word", [
    ([0, 1], "yes"), ([0, 1], "true"), (["a", "1"], "a: b"), ([1, 2], "x"), ([1, 60], "1:00"), (["10", "60"], "1_0"),
])  # fmt: skip
def test_a_word_that_stands_for_no_value_of_the_column_is_told(column, word):
    rows = people().add_column("asked", [column[i % 2] for i in range(N)])
    with pytest.raises(ArgumentError, match=f"Not in the column 'asked': {word}"):
        split(rows, by="column", column="asked", values=[word])


def test_by_class_by_number_and_by_name():
    rows = people().cast_column("label", ClassLabel(names=["cat", "dog", "emu"]))
    for values in ([2], ["emu"], "emu"):
        parts = split(rows, by="class", values=values)
        check_partition(parts, rows)
        assert set(parts["forget"]["label"]) == {2} and 2 not in parts["retain"]["label"]
    # the unseen rows are drawn before: they hold the forgotten class too, τ is that of any unseen row
    assert 2 in split(rows, by="class", values=[2], unseen=0.3)["unseen"]["label"]


def test_by_column_keeps_whole_persons_unseen():
    parts = split(people(), by="column", column="person", values=["p2", "p7"], unseen=0.25)
    check_partition(parts, people())
    assert collections.Counter(parts["forget"]["person"]) == {"p2": 6, "p7": 6}
    assert sorted(collections.Counter(parts["unseen"]["person"]).values()) == [6, 6]
    assert not set(parts["unseen"]["person"]) & set(parts["retain"]["person"])


def test_by_random_takes_a_fraction_of_all_rows():
    parts = split(people(), by="random", fraction=0.2, unseen=0.1)
    check_partition(parts, people())
    assert (len(parts["forget"]), len(parts["unseen"])) == (12, 6)
    grouped = split(people(), by="random", fraction=0.2, unseen=0.2, group="person")
    assert sorted(collections.Counter(grouped["unseen"]["person"]).values()) == [6, 6]
    assert not set(grouped["unseen"]["person"]) & {*grouped["retain"]["person"], *grouped["forget"]["person"]}


def test_a_fraction_of_the_values_draws_whole_values():
    parts = split(people(), by="column", column="person", fraction=0.3)
    assert sorted(collections.Counter(parts["forget"]["person"]).values()) == [6, 6, 6]
    assert len(set(split(people(), by="class", fraction=0.3)["forget"]["label"])) == 1
    assert len(split(people(), by="id", fraction=0.2)["forget"]) == 12


@pytest.mark.parametrize("options", [
    {"by": "random", "fraction": 0.2},
    {"by": "class", "fraction": 0.4},
    {"by": "column", "column": "person", "fraction": 0.3},
])  # fmt: skip
def test_the_same_call_gives_the_same_rows_and_another_seed_others(options):
    np.random.seed(0)
    one = split(people(), seed=3, **options)
    np.random.seed(1)
    two = split(people(), seed=3, **options)
    assert all(ids(one[name]) == ids(two[name]) for name in one)
    others = [split(people(), seed=s, **options) for s in range(4, 9)]
    assert any(ids(o["unseen"]) != ids(one["unseen"]) for o in others)
    assert any(ids(o["forget"]) != ids(one["forget"]) for o in others)


def test_training_time_and_request_time_keep_the_same_rows_unseen():
    """A class that is named only later: the unseen rows were drawn before it, so nothing unseen was trained on."""
    unseen = [ids(split(people(), by="class", values=[c], seed=1)["unseen"]) for c in range(3)]
    assert unseen[0] == unseen[1] == unseen[2]


def with_twins():
    rows = [{"id": i, "text": f"row {i}", "label": i % 2} for i in range(40)]
    rows += [{"id": 100 + i, "text": f"row {i}", "label": i % 2} for i in (0, 1)]  # twins of rows 0 and 1
    return Dataset.from_list(rows)


def test_twins_of_forget_rows_are_named_and_moved(caplog):
    with caplog.at_level(logging.WARNING):
        parts = split(with_twins(), by="id", values=[0, 1])
    assert sorted(ids(parts["forget"])) == [0, 1, 100, 101]
    assert "2 row(s)" in caplog.text and "100, 101" in caplog.text and "moved to the forget set" in caplog.text
    check_partition(parts, with_twins())


def test_twins_are_an_error_or_stay_when_asked():
    with pytest.raises(ArgumentError, match=r"2 row\(s\).*100, 101"):
        split(with_twins(), by="id", values=[0, 1], duplicates="error")
    kept = split(with_twins(), by="id", values=[0, 1], duplicates="keep")
    assert ids(kept["forget"]) == [0, 1]
    with pytest.raises(ArgumentError, match="`duplicates` is 'drop'"):
        split(with_twins(), by="id", values=[0, 1], duplicates="drop")


def test_unseen_rows_with_a_twin_in_retain_go_to_retain(caplog):
    rows = Dataset.from_list([{"id": i, "text": f"row {i // 2}"} for i in range(40)])  # everything twice
    with caplog.at_level(logging.WARNING):
        parts = split(rows, by="id", values=[0], unseen=0.2)
    assert "moved to retain" in caplog.text
    assert sorted(ids(parts["forget"])) == [0, 1]
    assert not set(parts["unseen"]["text"]) & set(parts["retain"]["text"])
    check_partition(parts, rows)


def test_all_problems_of_a_split_come_at_once():
    with pytest.raises(ArgumentError) as caught:
        split(people(), by="column", column="author", group="team", values=[1], fraction=2.0, unseen=0.0)
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    for part in ("'author'", "'team'", "'id', 'person', 'label', 'text'", "`values` or `fraction`", "2.0", "`unseen`"):
        assert part in text


@pytest.mark.parametrize("options, words", [
    ({"by": "id", "values": [1003, 7, "x"]}, r"Not in the column 'id': 7, x"),
    ({"by": "id", "values": list(range(9))}, r"0, 1, 2, 3, 4, … \(9 in all\)"),
    ({"by": "class", "values": [9]}, r"Not in the column 'label': 9"),
    ({"by": "author", "values": [9]}, r"`by` is 'author'"),
    ({"by": "column", "values": [9]}, r"needs `column`"),
    ({"by": "random", "values": [9]}, r"takes `fraction`"),
    ({"by": "random"}, r"either `values` or `fraction`"),
    ({"by": "random", "fraction": float("nan")}, r"`fraction` is nan"),
    ({"by": "random", "fraction": 0.5, "unseen": float("nan")}, r"`unseen` is nan"),
    ({"by": "class", "values": [0, 1, 2]}, r"No rows are left for 'retain'. Of \d+ rows \d+ are to be"),
    ({"by": "id", "values": []}, r"`values` is empty: it names no row to forget"),
])  # fmt: skip
def test_wrong_split_arguments_are_refused_with_the_reason(options, words):
    with pytest.raises(ArgumentError, match=words):
        split(people(), **options)


def test_where_all_rows_have_the_value_that_is_asked_for_it_is_told():
    rows = [{"id": str(i), "label": "x", "text": f"t{i}"} for i in range(20)]
    with pytest.raises(ArgumentError, match="'retain'. Of 20 rows 18 are .* All have one value in column 'label'"):
        split(rows, by="class", fraction=0.1)


# ---- what used to be misread -----------------------------------------------------------------------------------------


def test_unseen_ids_are_taken_whole_alone_or_several_and_unknown_ones_are_told():
    for unseen in ("1057", ["1057"], [1057], np.array([1057])):
        assert ids(split(people(), by="id", values=[1001], unseen=unseen)["unseen"]) == [1057]
    with pytest.raises(ArgumentError, match="`unseen` names ids that no row has: 7, x. The rows have 1000, 1001"):
        split(people(), by="id", values=[1001], unseen=[1003, 7, "x"])


def test_rows_of_a_class_that_were_kept_out_stay_unseen_at_a_later_request():
    out = ids(split(people(), by="class", values=[1])["unseen"])
    parts = split(people(), by="class", values=[2], unseen=out)
    assert ids(parts["unseen"]) == out and set(parts["forget"]["label"]) == {2}
    check_partition(parts, people())


def test_rows_without_a_value_are_never_drawn():
    rows = people().add_column("who", [None if i % 3 == 0 else f"p{i % 3}" for i in range(N)])
    for seed in range(6):
        assert None not in split(rows, by="column", column="who", fraction=0.5, group="id", seed=seed)["forget"]["who"]


def test_some_values_that_are_there_are_listed_the_like_ones_first():
    with pytest.raises(
        ArgumentError, match=r"Not in the column 'person': p77\. It has p7, p0, p1, p2, p3, … \(10 in all"
    ):
        split(people(), by="column", column="person", values=["p77"])
    rows = people().cast_column("label", ClassLabel(names=["cat", "dog", "emu"]))
    with pytest.raises(ArgumentError, match="Not in the column 'label': dgo. It has dog, cat, emu"):
        split(rows, by="class", values=["dgo"])


@pytest.mark.parametrize("options, words", [
    ({"by": "column", "column": "lists", "values": [[1]]}, "The column 'lists' holds lists, files"),
    ({"by": "column", "column": "person", "values": [None]}, "`values` holds None or NaN"),
    ({"by": "column", "column": "person", "values": [float("nan")]}, "`values` holds None or NaN"),
    ({"by": "random", "fraction": 0.2, "seed": -1}, "`seed` is -1"),
    ({"by": "random", "fraction": 0.2, "seed": 1.5}, "`seed` is 1.5"),
    ({"by": "random", "fraction": "a"}, "`fraction` is 'a'"),
    ({"by": "random", "fraction": True}, "`fraction` is True"),
    ({"by": "random", "fraction": 0.2, "unseen": None}, "`unseen` is None"),
    ({"by": "random", "fraction": 0.2, "unseen": True}, "`unseen` is True"),
])  # fmt: skip
def test_arguments_of_another_kind_are_refused_by_name(options, words):
    with pytest.raises(ArgumentError, match=words):
        split(people().add_column("lists", [[i] for i in range(N)]), **options)


def test_other_tables_are_taken_and_what_is_none_is_told():
    for rows in (people().to_list(), people().to_dict(), people().to_pandas()):
        assert ids(split(rows, by="id", values=1003)["forget"]) == [1003]
    assert ids(
        split(people().add_column("v", [1.5, 2.5] * 30), by="column", column="v", values=1.5, group="id")["forget"]
    )
    for rows, words in (
        (None, "`dataset` is NoneType"),
        ([], "`dataset` is empty"),
        ({"train": people()}, "of 'train'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            split(rows, by="id", values=[1])


def test_a_call_may_hold_a_tensor_an_array_or_one_word():
    rows = people()
    for kind in (torch.tensor, np.array, list):
        parts = split(rows, by="id", values=kind([1003, 1004]), unseen=kind([1010, 1011]), deleted=kind([1020]))
        assert (ids(parts["forget"]), ids(parts["unseen"])) == ([1003, 1004], [1010, 1011])
        assert len(parts["retain"]) == N - 5
    one = split(rows, by="id", values=[1003], content="text")
    assert ids(one["retain"]) == ids(split(rows, by="id", values=[1003], content=["text"])["retain"])


def test_true_is_no_class_and_random_reads_no_column():
    with pytest.raises(ArgumentError, match="Not in the column 'label': True"):
        split(people(), by="class", values=[True])
    with pytest.raises(ArgumentError, match="by='column', column='person', fraction="):
        split(people(), by="random", fraction=0.1, column="person")


def test_rows_without_a_group_are_no_group():
    rows = people().map(lambda row: {"person": row["person"] if row["id"] % 2 else None})
    parts = split(rows, by="id", values=[1003], group="person")
    unseen = zip(ids(parts["unseen"]), parts["unseen"]["person"], strict=True)
    assert len({person or i for i, person in unseen}) == 4  # a tenth of 10 persons and 30 rows of nobody known


def test_a_column_of_two_values_needs_a_group_and_is_told_so():
    rows = people().map(lambda row: {"revocable": row["id"] < 1010})
    with pytest.raises(ArgumentError, match="No rows are left for 'retain'. Unseen rows are drawn as whole groups of"):
        split(rows, by="column", column="revocable", values=[True])
    parts = split(rows, by="column", column="revocable", values=[True], group="id")
    assert [len(parts[name]) for name in ("forget", "retain", "unseen")] == [10, 45, 5]


def test_rows_stand_for_their_ids_and_none_for_no_rows():
    rows = Dataset.from_list([{"id": i, "text": f"number {i}", "label": i % 2} for i in range(12)])
    first = split(rows, by="id", values=[1], unseen=[5, 8])
    for kept in (first["unseen"], list(first["unseen"]), first["unseen"]["id"]):
        for gone in (first["forget"], [1]):
            parts = split(rows, by="id", values=[3], unseen=kept, deleted=gone)
            assert parts["unseen"]["id"][:] == [5, 8] and not {1, 3} & set(parts["retain"]["id"])
    assert split(rows, by="id", values=first["forget"], deleted=None)["forget"]["id"][:] == [1]


def test_a_class_is_not_looked_up_in_a_column_that_is_not_trained_on():
    rows = [{"id": i, "label": i % 3, "labels": (i + 1) % 3, "x": [float(i)]} for i in range(30)]
    with pytest.raises(ArgumentError, match="'label' and a column 'labels'.* 30 row.*: 0 and 1 in the first") as told:
        split(rows, by="class", values=[1])
    assert len(told.value.problems) == 1 and "`column`" in str(told.value)
    assert set(split(rows, by="class", column="labels", values=[1])["forget"]["labels"]) == {1}
    named = [{**row, "label": ["cat", "dog", "cow"][row["labels"]]} for row in rows]  # names beside numbers
    assert set(split(named, by="class", values=["dog"])["forget"]["labels"]) == {1}
    same = [{**row, "label": str(row["labels"])} for row in rows]
    assert set(split(same, by="class", values=[1])["forget"]["labels"]) == {1}
    tokens = [{**row, "labels": [1, 2]} for row in rows]  # of a language model
    assert set(split(tokens, by="class", values=[1])["forget"]["label"]) == {1}
