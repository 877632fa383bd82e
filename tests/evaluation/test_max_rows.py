"""Of a large split some rows are measured, evenly spaced, and the score card, the report and the model card say so."""

from __future__ import annotations

import pytest
from helpers.tiny import lm, lm_list, tokenizer

from hf_unlearn import evaluate
from hf_unlearn.evaluation.rows import at_most
from hf_unlearn.report.card_section import sections
from hf_unlearn.report.tables import score_table
from hf_unlearn.report.words.asking import some_of


@pytest.mark.slow
def test_of_a_large_split_some_rows_are_measured_and_the_card_says_so(tmp_path):
    forget, unseen = lm_list(9), lm_list(4, 20)
    how = {"processing_class": tokenizer(), "resamples": 5}
    card = evaluate(lm(), {"forget": forget, "unseen": unseen}, max_rows=5, **how)
    data = card.to_dict()["provenance"]["task"]["data"]
    assert (data["forget"]["rows"], data["forget"]["of"]) == (5, 9) and "of" not in data["unseen"]
    some = evaluate(lm(), {"forget": forget[::2], "unseen": unseen}, **how)
    assert [run.measures for run in card.runs] == [run.measures for run in some.runs]
    said = "Measured were 5 of 9 forget rows, evenly spaced."
    assert score_table(card.to_dict(), "task")["some"] == said
    assert said in sections(card.to_dict(), None)["scores"]
    assert "5 of 9, evenly spaced" in card.to_html(tmp_path / "report.html").read_text()
    assert "evenly" not in sections(some.to_dict(), None)["scores"]


def test_splits_that_others_count_the_rows_of_stay_whole():
    rows = [{"input_ids": [i]} for i in range(9)]
    splits = {"forget": rows, "forget_perturbed": rows, "retain": rows, "unseen": rows}

    class Saved:
        num_rows = 9

    found, of = at_most(splits, 4, [{"unseen": Saved}])
    assert of == {"retain": 9} and {name: len(own) for name, own in found.items()} == {
        "forget": 9, "forget_perturbed": 9, "retain": 4, "unseen": 9
    }  # fmt: skip
    assert found["retain"] == [rows[i] for i in (0, 2, 5, 8)]
    assert at_most(splits, None, []) == (splits, {}) and at_most(splits, 9, []) == (splits, {})


def test_the_number_of_rows_is_checked_and_told_in_words():
    with pytest.raises(ValueError, match="`max_rows` is 0"):
        evaluate(lm(), {"forget": lm_list(2)}, max_rows=0)
    data = {"forget": {"rows": 10_000, "of": 1_000_000}, "retain": {"rows": 3}, "test": {"rows": 10, "of": 20}}
    assert some_of(data).count(" of ") == 2 and some_of({"retain": {"rows": 3}}) == ""
