"""Rows that hold several texts in one sequence are told; those that are padded on either side hold one."""

from __future__ import annotations

import numpy as np
import pytest

from hf_unlearn.data.packed_rows import of_several_texts
from hf_unlearn.data.row_checks import row_problems


@pytest.mark.parametrize(("rows", "packed"), [
    ([[0, 1, 2, 0, 1], [0, 1, 2]], [0]),
    ([[0, 1, 2], [0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]], []),
    ([[0, 1, 0], [0, 1, 2, 3], [0, 1, 0, 1, 0]], [0, 2]),
    ([[3, 4]], []),
])  # fmt: skip
def test_positions_that_begin_again_are_of_several_texts(rows, packed):
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    assert of_several_texts(np.concatenate(rows), owner).tolist() == packed


def test_packed_rows_are_named_by_id():
    row = {"input_ids": [3, 4, 5, 6], "labels": [3, 4, 5, 6]}
    rows = [{"id": "a", **row, "position_ids": [0, 1, 0, 1]}, {"id": "b", **row, "position_ids": [0, 1, 2, 3]}]
    (problem,) = row_problems("forget", rows)
    assert problem.startswith("1 forget row(s) hold several texts each: their `position_ids` begin again, ids a: ")
    assert "without packing" in problem
