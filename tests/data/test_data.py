"""Splits, checks, orders, pairs and collators: who is where, and what bad rows are told."""

from __future__ import annotations

import collections
import logging

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import ClassLabel, Dataset
from helpers.tiny import bert, image_rows, lm, lm_list, lm_rows, text_class_rows, tokenizer, vit
from torch.utils.data import BatchSampler, SequentialSampler

from hf_unlearn import ArgumentError, default_collator, find_duplicates, split
from hf_unlearn.data import batch, checks, columns, order
from hf_unlearn.data.batch import select_rows
from hf_unlearn.data.collate import FlagCollator
from hf_unlearn.data.columns import FLAG, FORGET_INDEX
from hf_unlearn.data.order import PairedDataset, SpreadSampler, spread_order

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


# ---- split ----


def test_by_id_takes_just_these_rows():
    parts = split(people(), by="id", values=[1003, 1059])
    check_partition(parts, people())
    assert ids(parts["forget"]) == [1003, 1059]
    assert len(parts["unseen"]) == 6  # a tenth of the rest


def test_ids_may_come_as_text_and_alone():
    assert ids(split(people(), by="id", values=["1003", 1004])["forget"]) == [1003, 1004]
    assert ids(split(people(), by="id", values=1003)["forget"]) == [1003]


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
    ({"by": "class", "values": [0, 1, 2]}, r"No rows are left for 'retain'"),
    ({"by": "id", "values": []}, r"No rows are left for 'forget'"),
])  # fmt: skip
def test_what_a_wrong_split_is_told(options, words):
    with pytest.raises(ArgumentError, match=words):
        split(people(), **options)


# ---- duplicates and checks ----


def as_list(rows):
    return [dict(row) for row in rows]


@pytest.mark.parametrize("rows", [lm_rows(4), text_class_rows(4), image_rows(4)], ids=["lm", "class", "image"])
def test_the_same_content_is_found_whatever_holds_it(rows):
    second = rows.select([2, 0])
    for a in (rows, as_list(rows), rows.with_format("torch")):
        for b in (second, as_list(second), second.with_format("numpy")):
            assert find_duplicates(a, b) == [(2, 0), (0, 1)]


def test_content_is_inputs_and_labels_and_the_first_twin_is_named():
    rows = lm_rows(3)
    changed = as_list(rows)
    for row in changed:
        row["id"] += 50
        row["revocable"] = True
    assert find_duplicates(rows, changed) == [(0, 0), (1, 1), (2, 2)]
    changed[1]["labels"][2] = -100
    assert find_duplicates(rows, changed) == [(0, 0), (2, 2)]
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
    assert checks.split_problems(a, b, c) == []
    assert len(checks.split_problems(a, b, a)) == 1
    assert columns.row_ids(b) == [4, 5, 6, 7]
    assert checks.revocable_problems(rows, "revocable") == []
    assert set(split(rows, by="class", values=[1])["forget"][0]) == {"pixel_values", "labels"}


def test_good_sets_have_no_problems_also_as_lists():
    assert checks.split_problems(lm_rows(4), lm_rows(6, 10), lm_rows(3, 20)) == []
    assert checks.split_problems(lm_list(4), lm_list(6, 10), lm_list(3, 20)) == []


def test_labels_all_ignored_are_counted_and_named():
    rows = lm_list(9)
    for row in rows[2:]:
        row["labels"] = [row["labels"][2], *[-100] * (len(row["labels"]) - 1)]  # place 0 is never predicted
    (problem,) = checks.label_problems("forget", rows)
    assert problem.startswith("7 forget row(s)") and "ids 2, 3, 4, 5, 6, … (7 in all)" in problem
    (problem,) = checks.label_problems("unseen", Dataset.from_list([{"id": 3, "labels": -100}, {"id": 4, "labels": 0}]))
    assert "1 unseen row(s)" in problem and "ids 3" in problem
    (problem,) = checks.label_problems("retain", people().remove_columns("label"))
    assert "no `labels` column" in problem and "'id', 'person', 'text'" in problem


def test_holes_in_the_attention_mask_are_found_but_padding_is_not_a_hole():
    rows = lm_list(4, short=6)
    rows[0]["attention_mask"][:2] = [0, 0]
    rows[1]["attention_mask"][-2:] = [0, 0]
    rows[3]["attention_mask"][2] = 0
    (problem,) = checks.label_problems("training", rows)
    assert "1 training row(s) have holes" in problem and "ids 3" in problem


def test_each_overlap_is_counted_with_the_first_ids():
    forget, retain, unseen = lm_rows(8), lm_rows(8, 2), lm_rows(3, 20)
    (problem,) = checks.split_problems(forget, retain, unseen)
    assert "6 id(s) are in forget and in retain: 2, 3, 4, 5, 6, … (6 in all)" in problem
    (problem,) = checks.split_problems(forget, lm_rows(4, 30), lm_rows(2, 7))
    assert "1 id(s) are in forget and in unseen: 7" in problem and "never have been trained on" in problem
    (problem,) = checks.split_problems(forget, lm_rows(4, 30), lm_rows(9, 33))
    assert "1 id(s) are in retain and in unseen: 33" in problem


def test_the_same_content_under_another_id_is_found():
    renamed = [{**row, "id": row["id"] + 500} for row in lm_list(3)]
    (problem,) = checks.split_problems(lm_rows(4), Dataset.from_list(renamed + lm_list(2, 30)), lm_rows(3, 20))
    assert "3 retain row(s) have the content of a forget row (forget = retain): 0 = 500, 1 = 501, 2 = 502" in problem
    without = [{k: v for k, v in row.items() if k != "id"} for row in lm_list(4)]
    (problem,) = checks.split_problems(without, lm_list(2, 30), without[3:] + lm_list(3, 20))
    assert "1 unseen row(s) have the content of a forget row (forget = unseen): 3 = 0" in problem


def test_empty_and_missing_sets_are_all_named():
    problems = checks.split_problems(lm_rows(0), None, lm_rows(0))
    assert len(problems) == 3
    assert "forget set is empty" in problems[0] and "unseen set is empty" in problems[2]
    assert "`retain_dataset` is NoneType" in problems[1]
    streamed = checks.split_problems(lm_rows(2), lm_rows(2, 5).to_iterable_dataset(), lm_rows(2, 9))
    assert streamed == ["`retain_dataset` is IterableDataset; it must be a data set with a length."]


def test_what_is_wrong_with_the_revocable_column():
    def told(rows, column="revocable"):
        return checks.revocable_problems(rows, column)

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


# ---- orders ----


@pytest.mark.parametrize("n, flagged", [(40, 10), (41, 7), (17, 16), (17, 1), (30, 13), (8, 0), (8, 8)])
def test_an_epoch_is_a_permutation_with_the_flagged_rows_in_every_window(n, flagged):
    flags = np.zeros(n, bool)
    flags[np.random.default_rng(0).permutation(n)[:flagged]] = True
    order = spread_order(flags, n, seed=3, epoch=2)
    assert sorted(order.tolist()) == list(range(n))
    for width in range(1, n + 1):
        windows = np.lib.stride_tricks.sliding_window_view(flags[order], width).sum(1)
        aligned = windows[::width]
        assert aligned.min() >= np.floor(width * flagged / n) and aligned.max() <= np.ceil(width * flagged / n)
        assert windows.max() - windows.min() <= 2


def test_an_order_is_a_pure_function_of_seed_and_epoch():
    flags = np.arange(24) % 3 == 0
    np.random.seed(1)
    first = spread_order(flags, 24, 5, 1).tolist()
    np.random.seed(2)
    order.permutation.cache_clear()
    assert spread_order(flags, 24, 5, 1).tolist() == first
    assert all(spread_order(flags, 24, *key).tolist() != first for key in ((5, 0), (5, 2), (6, 1)))
    # the flagged and the other rows are both shuffled
    other = spread_order(flags, 24, 5, 2).tolist()
    for kind in (True, False):
        assert [i for i in first if flags[i] == kind] != [i for i in other if flags[i] == kind]
    assert spread_order(None, 24, 5, 1).tolist() != list(range(24))


def test_the_sampler_reads_the_epoch_when_it_is_asked_for_an_order():
    epoch = [0]
    sampler = SpreadSampler(np.arange(10) % 2 == 0, 10, 7, epoch=lambda: epoch[0])
    first, again = list(sampler), list(sampler)
    epoch[0] = 1
    assert first == again != list(sampler) and len(sampler) == 10
    assert first == spread_order(np.arange(10) % 2 == 0, 10, 7, 0).tolist()


def test_each_pass_sees_every_forget_row_once_and_each_retain_row_once_before_any_twice():
    forget, retain, passes = [f"f{i}" for i in range(7)], [f"r{i}" for i in range(17)], 6
    pairs = PairedDataset(forget, retain, passes, seed=2)
    items = [pairs[i] for i in range(len(pairs))]
    assert len(items) == 42
    orders = [tuple(f for f, _, _ in items[e * 7 : (e + 1) * 7]) for e in range(passes)]
    assert all(sorted(order) == forget for order in orders) and len(set(orders)) > 1
    assert all(forget[place] == f for f, _, place in items)
    seen = [r for _, r, _ in items]
    for start in (0, 17):
        assert sorted(seen[start : start + 17]) == sorted(retain)
    assert len(set(seen[34:])) == 8 and seen[:17] != seen[17:34]
    for wrong in (42, -1):
        with pytest.raises(IndexError):
            pairs[wrong]


def test_pairs_are_pure_in_any_order_and_differ_by_seed():
    def make(seed):
        return PairedDataset(list(range(5)), list(range(9)), 4, seed)

    forwards = [make(1)[i] for i in range(20)]
    torch.manual_seed(4)
    order.permutation.cache_clear()
    backwards = [make(1)[i] for i in reversed(range(20))][::-1]
    assert forwards == backwards != [make(2)[i] for i in range(20)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_shards_see_in_a_step_what_one_process_sees(accumulation):
    pairs = PairedDataset(list(range(8)), list(range(100, 120)), 4, seed=0)

    def steps(world, rows):
        loaders = []
        for rank in range(world):
            batches = BatchSampler(SequentialSampler(pairs), rows, drop_last=False)
            loaders.append(list(BatchSamplerShard(batches, world, rank) if world > 1 else batches))
        found = []
        for k in range(0, len(loaders[0]), accumulation):
            found.append(sorted(i for loader in loaders for batch in loader[k : k + accumulation] for i in batch))
        return found

    one, two = steps(1, 4), steps(2, 2)
    assert one == two and len(one) == 8 // accumulation
    assert [i for step in one for i in step] == list(range(32))


# ---- collators ----


@pytest.mark.parametrize("side", ["right", "left"])
def test_language_rows_are_padded_on_the_tokenizers_side(side):
    rows = lm_list(4)
    rows[0].pop("attention_mask"), rows[1].pop("attention_mask")
    batch = default_collator(lm(), tokenizer(side))(rows[:2])
    width = max(len(row["input_ids"]) for row in rows[:2])
    for i, row in enumerate(rows[:2]):
        n = len(row["input_ids"])
        real = slice(0, n) if side == "right" else slice(width - n, width)
        assert batch["input_ids"][i, real].tolist() == row["input_ids"]
        assert batch["labels"][i, real].tolist() == row["labels"]
        assert batch["attention_mask"][i].sum() == n and batch["attention_mask"][i, real].all()
        assert (batch["labels"][i] != -100).sum() == sum(y != -100 for y in row["labels"])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_a_mask_of_its_own_is_kept_where_pad_is_a_token_of_the_text():
    row = {"input_ids": [5, 0, 6], "attention_mask": [1, 1, 1], "labels": [5, 0, 6]}
    longer = {"input_ids": [5, 6, 7, 8], "attention_mask": [1] * 4, "labels": [5, 6, 7, 8]}
    batch = default_collator(lm(), tokenizer())([row, longer])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist()[0] == [5, 0, 6, -100]


def test_classifier_and_image_rows():
    batch = default_collator(bert(), tokenizer())(list(text_class_rows(3)))
    assert batch["labels"].tolist() == [0, 1, 2] and batch["input_ids"].shape[0] == 3 and "id" not in batch
    renamed = [{("label" if k == "labels" else k): v for k, v in row.items()} for row in text_class_rows(3)]
    assert default_collator(bert(), tokenizer())(renamed)["labels"].tolist() == [0, 1, 2]
    batch = default_collator(vit())(list(image_rows(3)))
    assert batch["pixel_values"].shape == (3, 1, 8, 8) and batch["labels"].tolist() == [0, 1, 2]
    assert set(batch) == {"pixel_values", "labels"}


def test_flags_of_pairs_and_of_revocable_rows():
    collator = FlagCollator(default_collator(lm(), tokenizer()), None, "revocable")
    rows = lm_list(9)
    batch = collator(rows[3:6])
    assert batch[FLAG].tolist() == [False, True, False] and batch[FLAG].dtype == torch.bool
    batch = collator([(rows[0], rows[6], 5), (rows[1], rows[7], 2)])
    assert batch[FLAG].tolist() == [True, True, False, False]
    assert batch[FORGET_INDEX].tolist() == [5, 2, -1, -1]
    for i, row in enumerate((rows[0], rows[1], rows[6], rows[7])):
        assert batch["input_ids"][i, : len(row["input_ids"])].tolist() == row["input_ids"]
    plain = collator([{k: v for k, v in row.items() if k != "revocable"} for row in rows[:2]])
    assert FLAG not in plain


def test_a_users_collator_does_not_see_the_flag_and_with_names_only_those():
    seen = []

    def mine(rows):
        seen.extend(rows)
        return {"labels": torch.zeros(len(rows))}

    FlagCollator(mine, None, "revocable")(lm_list(1))
    FlagCollator(mine, {"labels"}, "revocable")(lm_list(1))
    assert set(seen[0]) == {"id", "input_ids", "attention_mask", "labels"} and set(seen[1]) == {"labels"}


def test_select_rows_cuts_what_has_a_row_each_and_drops_the_flags():
    mask = torch.tensor([True, False, True])
    batch = {"x": torch.arange(6).view(3, 2), "table": torch.zeros(4, 2), "k": 3}
    batch |= {FLAG: mask, FORGET_INDEX: mask.long()}
    part = select_rows(batch, mask)
    assert set(part) == {"x", "table", "k"}
    assert part["x"].tolist() == [[0, 1], [4, 5]] and len(part["table"]) == 4 and part["k"] == 3


def test_labels_are_counted_without_the_place_that_is_never_predicted():
    assert int(batch.count_labels(torch.tensor([[5, 1, -100], [-100, 2, 3]]))) == 3
    assert int(batch.count_labels(torch.tensor([5, -100, 1]))) == 2


def test_another_request_keeps_the_rows_unseen_that_were_kept_out():
    rows = Dataset.from_list([{"id": i, "who": i // 4, "text": f"row {i}"} for i in range(80)])
    first = split(rows, by="column", column="who", values=list(range(10)), unseen=0.2)
    out = first["unseen"]["id"]
    again = split(rows, by="column", column="who", values=[3], unseen=out)
    assert list(again["unseen"]["id"]) == list(out)
    assert set(again["forget"]["id"]) == {12, 13, 14, 15}
    trained = set(first["forget"]["id"]) | set(first["retain"]["id"])
    assert set(again["forget"]["id"]) | set(again["retain"]["id"]) == trained
    with pytest.raises(ArgumentError, match="4 row.s. to forget were kept out of training"):
        split(rows, by="column", column="who", values=[first["unseen"]["who"][0]], unseen=out)


def test_rows_with_the_same_content_are_twins_whoever_they_belong_to():
    rows = [{"id": i, "who": i % 5, "text": f"row {i}"} for i in range(40)] + [{"id": 99, "who": 4, "text": "row 0"}]
    parts = split(Dataset.from_list(rows), by="column", column="who", values=[0], unseen=0.25)
    assert 99 in parts["forget"]["id"]


@pytest.mark.parametrize("make", [list, Dataset.from_list], ids=["list", "arrow"])
def test_pairs_read_as_a_batch_are_the_pairs_read_one_by_one(make):
    forget, retain = ([{"id": i} for i in range(start, start + n)] for start, n in ((0, 5), (100, 7)))
    pairs = PairedDataset(make(forget), make(retain), 3, 42)
    places = [14, 0, 3, 7, 7]
    wanted = [(forget[f], retain[r], f) for f, r in map(pairs.indices, places)]
    assert pairs.__getitems__(places) == wanted == [pairs[i] for i in places]
    with pytest.raises(IndexError):
        pairs.__getitems__([0, 15])


def test_drawn_requests_use_each_row_once_before_any_twice_and_depend_on_nothing_else():
    pool = np.array([3, 5, 8, 13, 21, 34, 55])
    turns = [order.draw_request(pool, 3, 1, turn) for turn in range(7)]
    drawn = np.concatenate(turns).reshape(3, 7)
    assert all(sorted(part) == pool.tolist() for part in drawn) and not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(order.draw_request(pool, 3, 1, 4), turns[4])
    assert sorted(order.draw_request(pool, 9, 1, 4)) == pool.tolist()
    assert not np.array_equal(order.draw_request(pool, 3, 2, 0), turns[0])


def test_drawn_groups_are_whole_until_there_are_rows_enough_and_never_all():
    codes = np.repeat(np.arange(5), [4, 1, 6, 2, 3])
    for turn in range(20):
        rows, chosen = order.draw_groups(codes, 5, 0, turn)
        assert len(rows) == min(5, np.isin(codes, chosen).sum()) and len(set(rows)) == len(rows)
        assert np.isin(codes[rows], chosen).all() and len(chosen) < 5
        assert len(chosen) == 1 or np.isin(codes, chosen[:-1]).sum() < 5  # none too many
    everything, chosen = order.draw_groups(codes, 100, 0, 0)
    assert len(chosen) == 4 and len(everything) == np.isin(codes, chosen).sum()
