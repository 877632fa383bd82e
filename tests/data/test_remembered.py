"""What was made of a table is made once; a bar tells of many rows."""

from __future__ import annotations

from datasets import Dataset

from hf_unlearn import find_duplicates
from hf_unlearn.data import read_once, remembered, said


def test_a_table_is_read_once_for_its_content(monkeypatch):
    read, real = [], said.batches
    monkeypatch.setattr(said, "batches", lambda rows, columns: read.append(len(rows)) or real(rows, columns))
    rows = Dataset.from_list([{"id": i, "text": f"said {i % 5} and no more, {i % 5}"} for i in range(10)])
    first, second = rows.select(range(5)), rows.select(range(5, 10))
    twins = [(i, i) for i in range(5)]
    assert find_duplicates(first, second) == find_duplicates(first, second) == twins and read == [5, 5]
    assert find_duplicates(first, second.map(lambda row: {"text": row["text"] + " now"})) == [] and len(read) == 3
    assert find_duplicates(list(first), list(second)) == twins and len(read) == 5


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(remembered, "MOST_BYTES", 200)
    monkeypatch.setattr(remembered, "_KEPT", type(remembered._KEPT)())
    tables = [Dataset.from_list([{"text": f"row {i} of {k}"} for i in range(8)]) for k in range(3)]
    for rows in tables:
        said.column_texts(rows, ["text"], said.fast)  # 8 · (16 + 4) bytes
        assert len(remembered._KEPT) == 1


def test_a_bar_tells_of_many_rows(monkeypatch):
    told = []

    class Bar:
        def __init__(self, **how):
            told.append(how)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, rows):
            told.append(rows)

    monkeypatch.setattr("datasets.utils.tqdm", Bar)
    monkeypatch.setattr(read_once, "BATCH_ROWS", 4)
    rows = Dataset.from_dict({"x": range(10)})
    assert [start for start, _ in read_once.batches(rows, ["x"])] == [0, 4, 8]
    assert told[0]["delay"] == 2 and told[0]["total"] == 10 and told[1:] == [4, 4, 2]
    assert len(list(read_once.batches(rows.select(range(4)), ["x"]))) == 1 and len(told) == 4  # few rows, no bar
