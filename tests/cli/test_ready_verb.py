"""What the verb ready makes of the rows that it is given."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_unlearn.cli import ready


@pytest.mark.parametrize("own", [{}, {"revocable": ["no", "yes"]}])
def test_the_split_says_which_rows_are_revocable_whatever_the_file_has_in_a_column_of_that_name(own):
    rows = Dataset.from_dict({"id": ["1", "2"], **own})
    assert ready.marked(rows, True)["revocable"] == [True, True]
