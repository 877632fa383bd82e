"""What the verb ready makes of the rows that it is given."""

from __future__ import annotations

import pytest
from datasets import Dataset

from hf_unlearn.cli import parsing, ready
from hf_unlearn.cli.arguments import DataArguments


@pytest.mark.parametrize("own", [{}, {"revocable": ["no", "yes"]}])
def test_the_split_says_which_rows_are_revocable_whatever_the_file_has_in_a_column_of_that_name(own):
    rows = Dataset.from_dict({"id": ["1", "2"], **own})
    assert ready.marked(rows, True)["revocable"] == [True, True]


@pytest.mark.parametrize(
    ("by", "column", "found"),
    [("column", "person", "person"), ("class", None, "labels"), ("class", "kind", "labels"), ("random", None, None)],
)
def test_rows_that_a_request_names_together_lie_in_one_slice(by, column, found):
    rows = Dataset.from_dict({"id": ["1", "2"], "person": ["a", "b"], "labels": [0, 1]})
    assert ready.group_column(DataArguments(forget_by=by, forget_column=column), rows) == found


def test_an_adapter_alone_on_a_new_model_is_refused(tmp_path):
    words = ["--forget_column", "person", "--forget_fraction", "0.1", "--output_dir", str(tmp_path), "--use_cpu", "1"]
    (tmp_path / "my.yaml").write_text("model_type: llama\nunlearn.lora_r: 4\n")
    words += ["--config", str(tmp_path / "my.yaml")]
    parsing.parse("ready", words, ready.flag_problems)
    with pytest.raises(ValueError, match="`lora_r` is 4, and the model is a new one: .*`unlearn.lora_r`"):
        parsing.parse("ready", [*words, "--lora_r", "4"], ready.flag_problems)


def test_rows_of_several_labels_lie_in_slices_one_by_one():
    rows = Dataset.from_dict({"id": ["1", "2"], "labels": [[0.0, 1.0], [1.0, 1.0]]})
    assert ready.group_column(DataArguments(forget_by="class"), rows) is None
