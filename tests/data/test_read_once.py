"""Sets of rows that are no table, as those of torch: each row is read once, and no more is held than is needed."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import image_rows, lm_list, text_class_rows, tokenizer
from PIL import Image

from hf_unlearn import find_duplicates
from hf_unlearn.data import read_once
from hf_unlearn.data.checks import split_sets, training_set
from hf_unlearn.data.row_checks import row_problems


class Rows(torch.utils.data.Dataset):
    """Counts how often each row is read, and how many of the pictures it gave are alive while it reads the next."""

    def __init__(self, rows, dress=lambda name, value: value):
        self.rows, self.dress = list(rows), dress
        self.read, self.given, self.most_alive = Counter(), [], 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        self.read[i] += 1
        self.most_alive = max(self.most_alive, sum(picture() is not None for picture in self.given))
        row = {name: self.dress(name, value) for name, value in self.rows[i].items()}
        if hasattr(row.get("pixel_values"), "shape"):
            self.given.append(weakref.ref(row["pixel_values"]))
        return row

    def times(self) -> set[int]:
        """How often the rows were read, the first one left out, which tells what columns there are."""
        return {self.read[i] for i in range(1, len(self))}


def tensors(name, value):
    return torch.tensor(value, dtype=torch.float32 if name == "pixel_values" else torch.int64)


def arrays(name, value):
    return np.asarray(value, np.float32 if name == "pixel_values" else np.int64)


@pytest.mark.parametrize("rows", [lm_list, text_class_rows, image_rows], ids=["tokens", "texts", "pictures"])
@pytest.mark.parametrize("dress", [tensors, arrays])
def test_each_row_is_read_once_by_all_checks_together(rows, dress):
    sets = [Rows(rows(n, start), dress) for n, start in ((4, 0), (12, 10), (5, 100))]
    assert split_sets(*sets, processing_class=tokenizer())[1] == []
    assert [own.times() for own in sets] == [{1}, {1}, {1}]
    training = Rows({**row, "revocable": i % 3 == 0} for i, row in enumerate(rows(9, 0)))
    assert training_set(training, "revocable", processing_class=tokenizer())[1] == []
    assert training.times() == {1}


def test_a_picture_is_let_go_before_the_next_but_one_is_read():
    rows = Rows(image_rows(30), arrays)
    assert row_problems("forget", rows) == []
    assert rows.most_alive <= 2


def test_what_is_made_of_some_rows_at_a_time_is_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr(read_once, "BATCH_BYTES", 1000)
    rows = [{"input_ids": np.arange(length), "labels": 1} for length in (3, 40, 70, 300, 5, 5, 5)]  # of 8 bytes
    parts = [part["input_ids"] for _, part in read_once.batches(Rows(rows), ["input_ids", "labels"])]
    assert [len(part) for part in parts] == [3, 1, 3]
    assert [start for start, _ in read_once.batches(rows, ["labels"])] == [0, 3, 4]
    monkeypatch.setattr(read_once, "BATCH_ROWS", 2)
    assert [start for start, _ in read_once.batches(rows, ["labels"])] == [0, 2, 3, 4, 6]


def test_a_set_of_torch_says_what_a_table_says():
    """Pictures as arrays of any kind, as lists and stored in a table have one content."""
    table = image_rows(6)
    for dress in (tensors, arrays, lambda name, value: value):
        same = Rows(table, dress)
        assert find_duplicates(table, same) == find_duplicates(same, table) == [(i, i) for i in range(6)]
    whole = [{"pixel_values": np.full((1, 2, 2), i, np.uint8), "labels": 0} for i in range(3)]
    floats = Dataset.from_list([{"pixel_values": [[[float(i)] * 2] * 2], "labels": 1} for i in range(3)])
    assert find_duplicates(whole, floats) == []  # numbers of another kind
    mixed = [*whole[:2], {"pixel_values": np.full((1, 2, 2), 2, np.float32), "labels": 0}]
    assert find_duplicates(mixed, floats) == [(0, 0), (1, 1), (2, 2)]  # as a table makes floats of all
    drawn = [Image.fromarray(np.full((4, 4, 3), i, np.uint8)) for i in (0, 1, 0)]
    assert find_duplicates([{"image": drawn[0]}, {"image": drawn[1]}], [{"image": drawn[2]}]) == [(0, 0)]


@pytest.mark.parametrize("value, words", [
    (None, "None in `pixel_values`"), ("cat.png", "text in `pixel_values`"),
    (np.zeros((1, 8, 8), bool), "true or false in `pixel_values`"),
    (np.zeros((1, 4, 8), np.float32), "another shape than the first row"),
    (np.zeros((1, 8, 0), np.float32), "another shape than the first row"),
    (Image.new("L", (8, 8)), "no numbers in `pixel_values`"),
])  # fmt: skip
def test_a_picture_that_cannot_be_taken_is_named(value, words):
    rows = [dict(row) for row in Rows(image_rows(5), arrays)]
    rows[3]["pixel_values"] = value
    (problem,) = row_problems("forget", rows)
    assert problem.startswith("1 forget row(s) have ") and words in problem and "ids 3" in problem


def test_half_precision_is_read_too():
    rows = [{"pixel_values": torch.full((1, 2, 2), i / 4, dtype=torch.bfloat16), "labels": 0} for i in (1, 2, 1)]
    assert find_duplicates(rows[:2], rows[2:]) == [(0, 0)] and row_problems("forget", rows) == []
