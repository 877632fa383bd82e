"""Which rows are those of a language model."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import image_rows, lm_rows, text_class_rows

from hf_unlearn.data.columns import has_tokens


@pytest.mark.parametrize("rows, found", [
    (lm_rows(2), True), (lm_rows(2).with_format("torch"), True), ([{"labels": torch.tensor([-100, 3])}], True),
    (text_class_rows(2), False), (image_rows(2), False), ([{"labels": [0.0, 1.0]}], False),  # several labels a row
    ([], False), (None, False), ([{"input_ids": [1]}], False), (7, False),
])  # fmt: skip
def test_rows_of_a_language_model_have_a_list_of_tokens_for_labels(rows, found):
    assert has_tokens(rows) is found
