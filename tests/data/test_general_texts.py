"""Texts that a request keeps beside its result, read again."""

from __future__ import annotations

import json

import pytest

from hf_unlearn.data import general_texts


def write(folder, *rows):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"id": f"general-{i}", "text": text, "held": held}) for i, (text, held) in enumerate(rows)]
    (folder / general_texts.FILE).write_text("\n".join(lines) + "\n")
    return folder


def test_a_text_that_any_request_trained_on_is_not_held_out(tmp_path):
    first = write(tmp_path / "a", ("one", True), ("two", False), ("three", True))
    second = write(tmp_path / "b", ("three", False), ("one", True), ("four", True))
    found = general_texts.read([first, tmp_path / "no such folder", second])
    assert found == (({"text": "one"}, {"text": "four"}), ("two", "three"))


def test_what_the_model_takes_is_kept_where_all_rows_have_it(tmp_path):
    made = {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [-100, 2]}
    rows = [{"text": text, "held": True, **made} for text in ("one", "two")]
    (tmp_path / general_texts.FILE).write_text("\n".join(map(json.dumps, rows)))
    assert general_texts.read([tmp_path]).held == tuple({"text": text, **made} for text in ("one", "two"))


@pytest.mark.parametrize(
    "line", ["{", '["a"]', '{"text": "a"}', '{"text": 1, "held": true}', '{"text": "a", "held": 1}']
)
def test_a_damaged_file_is_told_with_its_line(tmp_path, line):
    path = write(tmp_path / "a", ("one", True)) / general_texts.FILE
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match="_general.jsonl, line 2.*Run the request again"):
        general_texts.read([path.parent])
