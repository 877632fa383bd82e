"""Duplicates, and what bad rows are told before a model is loaded."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from helpers.tiny import image_rows, lm_list, lm_rows, text_class_rows

from hf_unlearn import ArgumentError, find_duplicates, split
from hf_unlearn.data import checks, columns
from hf_unlearn.data.given import as_rows
from hf_unlearn.data.limits import Limits
from hf_unlearn.data.row_checks import row_problems


def split_problems(*sets, **how):
    return checks.split_sets(*sets, **how)[1]


def training_problems(*rows, **how):
    return checks.training_set(*rows, **how)[1]


def as_list(rows):
    return [dict(row) for row in rows]


@pytest.mark.parametrize("rows", [lm_rows(4), text_class_rows(4), image_rows(4)], ids=["lm", "class", "image"])
def test_the_same_content_is_found_whatever_holds_it(rows):
    second = rows.select([2, 0])
    for a in (rows, as_list(rows), rows.with_format("torch")):
        for b in (second, as_list(second), second.with_format("numpy")):
            assert find_duplicates(a, b) == [(2, 0), (0, 1)]


def test_content_is_inputs_without_labels_and_the_first_twin_is_named():
    rows = lm_rows(3)
    changed = as_list(rows)
    for row in changed:
        row["id"] += 50
        row["revocable"] = True
    assert find_duplicates(rows, changed) == [(0, 0), (1, 1), (2, 2)]
    changed[1]["input_ids"][2] += 1
    assert find_duplicates(rows, changed) == [(0, 0), (2, 2)]
    changed[2]["labels"][2] = -100  # another label is no other content, where it is not asked for
    assert find_duplicates(rows, changed) == [(0, 0), (2, 2)]
    assert find_duplicates(rows, changed, ["input_ids", "labels"]) == [(0, 0)]
    assert find_duplicates(as_list(rows) * 2, changed[2:]) == [(2, 0)]


def test_long_rows_that_differ_in_the_middle_are_not_the_same():
    rows = [{"id": k, "words": [None, *["a"] * 3000]} for k in range(2)]
    rows[1]["words"][1500] = "b"
    assert find_duplicates(rows[:1], rows[1:]) == []
    for row in rows:
        row["words"] = [[1.0, 2.0], [3.0], *[[4.0 + 1e-3 * (row["id"] == 1 and i == 700)] for i in range(1500)]]
    assert find_duplicates(Dataset.from_list(rows[:1]), Dataset.from_list(rows[1:])) == []


def test_rows_behind_a_transform_are_checked_as_they_are_stored():
    """The usual image pipeline: the stored columns are `image` and `label`, the model's are made on the way out."""
    stored = image_rows(12).rename_columns({"pixel_values": "image", "labels": "label"})
    rows = stored.with_transform(
        lambda batch: {"pixel_values": torch.tensor(batch["image"]), "labels": torch.tensor(batch["label"])}
    )
    a, b, c = rows.select(range(4)), rows.select(range(4, 8)), rows.select(range(8, 12))
    assert split_problems(a, b, c) == []
    assert len(split_problems(a, b, a)) == 1
    assert columns.row_ids(b) == [4, 5, 6, 7]
    assert training_problems(rows, None) == []
    assert set(split(rows, by="class", values=[1])["forget"][0]) == {"pixel_values", "labels"}


def test_good_sets_have_no_problems_also_as_lists():
    assert split_problems(lm_rows(4), lm_rows(6, 10), lm_rows(3, 20)) == []
    assert split_problems(lm_list(4), lm_list(6, 10), lm_list(3, 20)) == []


def test_labels_all_ignored_are_counted_and_named():
    rows = lm_list(9)
    for row in rows[2:]:
        row["labels"] = [row["labels"][2], *[-100] * (len(row["labels"]) - 1)]  # place 0 is never predicted
    (problem,) = row_problems("forget", rows)
    assert problem.startswith("7 forget row(s)") and "ids 2, 3, 4, 5, 6, … (7 in all)" in problem
    (problem,) = row_problems("unseen", Dataset.from_list([{"id": 3, "labels": -100}, {"id": 4, "labels": 0}]))
    assert "1 unseen row(s)" in problem and "ids 3" in problem
    (problem,) = row_problems("retain", Dataset.from_list([{"id": 0, "input_ids": [3, 4], "text": "row 0"}]))
    assert "no `labels` column" in problem and "'id', 'input_ids', 'text'" in problem


def test_holes_in_the_attention_mask_are_found_but_padding_is_not_a_hole():
    rows = lm_list(4, short=6)
    rows[0]["attention_mask"][:2] = [0, 0]
    rows[1]["attention_mask"][-2:] = [0, 0]
    rows[3]["attention_mask"][2] = 0
    (problem,) = row_problems("training", rows)
    assert "1 training row(s) have holes" in problem and "ids 3" in problem


def test_each_overlap_is_counted_with_the_first_ids():
    forget, retain, unseen = lm_rows(8), lm_rows(8, 2), lm_rows(3, 20)
    (problem,) = split_problems(forget, retain, unseen)
    assert "6 id(s) are in forget and in retain: 2, 3, 4, 5, 6, … (6 in all)" in problem
    (problem,) = split_problems(forget, lm_rows(4, 30), lm_rows(2, 7))
    assert "1 id(s) are in forget and in unseen: 7" in problem and "never have been trained on" in problem
    (problem,) = split_problems(forget, lm_rows(4, 30), lm_rows(9, 33))
    assert "1 id(s) are in retain and in unseen: 33" in problem


def test_the_same_content_under_another_id_is_found():
    renamed = [{**row, "id": row["id"] + 500} for row in lm_list(3)]
    (problem,) = split_problems(lm_rows(4), Dataset.from_list(renamed + lm_list(2, 30)), lm_rows(3, 20))
    assert "3 retain row(s) have the content of a forget row (forget = retain): 0 = 500, 1 = 501, 2 = 502" in problem
    without = [{k: v for k, v in row.items() if k != "id"} for row in lm_list(4)]
    others = [{k: v for k, v in row.items() if k != "id"} for row in lm_list(3, 20)]
    (problem,) = split_problems(without, lm_list(2, 30), without[3:] + others)
    assert "1 unseen row(s) have the content of a forget row (forget = unseen): 3 = 0" in problem


def test_empty_and_missing_sets_are_all_named():
    problems = split_problems(lm_rows(0), None, lm_rows(0))
    assert len(problems) == 3
    assert "forget set is empty" in problems[0] and "unseen set is empty" in problems[2]
    assert "`retain_dataset` is NoneType" in problems[1]
    streamed = split_problems(lm_rows(2), lm_rows(2, 5).to_iterable_dataset(), lm_rows(2, 9))
    (problem,) = streamed
    assert problem.startswith("`retain_dataset` is IterableDataset; it must be a data set with a length")
    assert "`Dataset.from_list(list(rows))`" in problem


def test_problems_of_the_revocable_column_are_named():
    def told(rows, column="revocable"):
        return training_problems(rows, column)

    assert told(lm_rows(8)) == told(lm_rows(8), None) == told(lm_list(8)) == []
    assert "NoneType" in told(None)[0]
    assert told(lm_rows(0)) == ["`train_dataset` is empty."]
    (problem,) = told(lm_rows(8), "asked")
    assert "'asked'" in problem and "'revocable'" in problem and "`revocable=None`" in problem
    numbers = [{**row, "revocable": int(row["revocable"])} for row in lm_list(8)]
    assert "must hold booleans; 8 rows do not, e.g. 1" in told(Dataset.from_list(numbers))[0]
    gaps = [{**row, "revocable": None if row["id"] == 3 else True} for row in lm_list(8)]
    assert "1 rows do not, e.g. None" in told(Dataset.from_list(gaps))[0]
    assert "No row is revocable" in told(lm_rows(3, 1, every=50))[0]
    assert "Every row is revocable" in told(lm_rows(3, every=1))[0]


SHOWN = ["input_ids", "attention_mask"]


@pytest.mark.parametrize("hide", [
    lambda rows, shown: rows.with_format("torch", columns=shown),
    lambda rows, shown: rows.with_transform(lambda batch: {name: batch[name] for name in shown}),
], ids=["format", "transform"])  # fmt: skip
def test_a_column_that_is_hidden_from_the_rows_is_named(hide):
    """`column_names` shows it all the same."""
    (said,) = training_problems(hide(lm_rows(8), [*SHOWN, "labels"]), "revocable")
    assert said.startswith("The rows are read without their column 'revocable': `with_format(columns=…)`")
    (said,) = checks.column_codes(hide(lm_rows(8), [*SHOWN, "labels"]), "id")
    assert "without their column 'id'" in said
    assert not training_problems(hide(lm_rows(8), [*SHOWN, "labels", "revocable"]), "revocable")
    (said,) = training_problems(hide(lm_rows(8), [*SHOWN, "revocable"]), "revocable")
    assert "without their column 'labels'" in said
    shown, hidden = [*SHOWN, "labels", "id"], hide(lm_rows(4, 8), [*SHOWN, "id"])
    (said,) = split_problems(hide(lm_rows(4), shown), hidden, hide(lm_rows(4, 100), shown))
    assert said.startswith("The retain rows are read without their column 'labels'")
    assert not training_problems(hide(lm_rows(8), [*SHOWN, "revocable"]), "revocable", plain=False)  # it may make them


def test_rows_numbered_anew_in_each_set_are_told_to_be_other_rows():
    """They share ids and nothing else: it would mislead to say that a row is in two sets."""
    sets = [[{**row, "id": i} for i, row in enumerate(lm_list(n, start))] for n, start in ((4, 0), (6, 10), (3, 20))]
    told = split_problems(*sets)
    assert len(told) == 3
    assert all("rows of unlike content: number the rows of all sets through" in one for one in told)
    sets[1][2] = {**lm_list(1)[0], "id": 9}  # a twin among them is still found
    assert any("0 = 9" in one for one in split_problems(*sets))


def test_a_data_set_may_hold_tensors_alone():
    """As torch's own do: also ids, flags and labels are tensors then."""

    class Rows(torch.utils.data.Dataset):
        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, place):
            return {name: torch.tensor(value) for name, value in self.rows[place].items()}

    assert training_problems(Rows(lm_list(8)), "revocable") == []
    assert training_problems(Rows(text_class_rows(8)), "revocable") == []
    assert split_problems(*(Rows(lm_list(n, start)) for n, start in ((4, 0), (6, 10), (3, 20)))) == []
    (told,) = split_problems(Rows(lm_list(4)), Rows(lm_list(6, 10)), Rows(lm_list(1)))
    assert told.startswith("1 id(s) are in forget and in unseen: 0. Unseen rows")


def test_rows_of_a_language_model_without_labels_are_told_how_to_get_them():
    rows = [{k: v for k, v in row.items() if k != "labels"} for row in lm_list(4)]
    (told,) = row_problems("forget", rows, Limits(causal_lm=True))
    assert told.endswith('`rows = rows.map(lambda row: {"labels": row["input_ids"]})`.')


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_rows_that_are_tables_are_read_as_dicts(kind):
    rows = lm_rows(3).with_format(kind, columns=["input_ids", "labels"])
    taken, problems = as_rows(rows, "rows")
    assert problems == [] and taken[1] == lm_rows(3).select_columns(["input_ids", "labels"])[1]
    assert row_problems("forget", taken) == []


@pytest.mark.parametrize("as_kind", [Dataset.from_list, list], ids=["dataset", "list"])
def test_columns_of_content_are_one_name_or_several_that_the_rows_have(as_kind):
    first, second = as_kind([{"text": "a", "n": 1}, {"text": "b", "n": 2}]), as_kind([{"text": "b", "n": 3}])
    assert find_duplicates(first, second, columns="text") == find_duplicates(first, second, ["text"]) == [(1, 0)]
    named = "`columns` names 'txt', which `first` has not; it has 'text', 'n'"
    for wanted, words in (("txt", named), ([], "`columns` is empty")):
        with pytest.raises(ArgumentError, match=words):
            find_duplicates(first, second, columns=wanted)
    with pytest.raises(ArgumentError, match="1 problem.*\n.*`columns` names 'n', which `second` has not"):
        find_duplicates(first, as_kind([{"text": "b"}]), columns=["text", "n"])
