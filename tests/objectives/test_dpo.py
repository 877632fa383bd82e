"""Preference of another answer, against its formula: -(2/β)·mean_i log σ(β[-(S_w - S_w^q) + (S_l - S_l^q)]) + L_r."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from helpers.proofs import loss, mean_loss, prove, rows_of, scene
from helpers.tiny import lm_list, tokenizer

from hf_unlearn.data.alternates import REFUSALS, alternate_rows
from hf_unlearn.data.limits import Limits
from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import per_row_nll


@pytest.mark.parametrize("name", ["idk_dpo", "alt_po"])
@pytest.mark.parametrize("beta", [0.1, 0.8])
def test_value_and_gradient_are_those_of_the_formula(name, beta):
    logits, labels = scene("tokens", seed=4)["forget"]
    beside = RowOutputs(*per_row_nll(logits, labels), reference=torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64))
    own = torch.tensor([2.0, 1.0, 9.0], dtype=torch.float64)

    def second(forget, retain, frozen):
        terms = []
        for row, other, before, its in zip(forget, rows_of(logits, labels), own, beside.reference, strict=True):
            inside = -(loss(other) - its) + (loss(row) - before)
            terms.append(torch.log(1 / (1 + torch.exp(-beta * inside))))
        return -2 / beta * sum(terms) / len(terms) + mean_loss(retain)

    prove(
        get_objective(name, dpo_beta=beta), second, kinds=("tokens",), brought={"reference": own, "alternate": beside}
    )


def test_value_by_hand_before_the_first_step_and_the_gradient_is_that_of_the_difference():
    nll = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([7.0, 1.0], dtype=torch.float64, requires_grad=True)
    items = torch.tensor([2, 2])
    rows = RowOutputs(nll, items, reference=nll.detach(), alternate=RowOutputs(other, items, reference=other.detach()))
    value = get_objective("idk_dpo").row_value(rows, alpha=0)
    assert value.tolist() == pytest.approx([20 * math.log(2)] * 2)
    slopes = torch.autograd.grad(value.sum(), [nll, other])
    assert slopes[0].tolist() == pytest.approx([-1.0] * 2) and slopes[1].tolist() == pytest.approx([1.0] * 2)


# ---- the rows beside ----


@functools.cache
def words():
    """A tokenizer that parts words at white space."""
    from tokenizers import pre_tokenizers

    made = copy.deepcopy(tokenizer())
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def refusals_of(rows, seed=0, file="", **limits):
    return alternate_rows(get_objective("idk_dpo", refusals=str(file)), rows, words(), seed, Limits(**limits))


def test_a_refusal_is_fixed_for_a_row_by_the_seed(tmp_path):
    """Public code draws another one each time that the row is read."""
    (tmp_path / "own.txt").write_text("t5 t6\n\n t7 \nt8 t9 t4\n")
    rows = lm_list(40)
    first, again, other = (refusals_of(rows, seed, tmp_path / "own.txt")[0] for seed in (0, 0, 1))
    assert first == again != other
    answers = {tuple(row["input_ids"][2:]) for row in first}
    assert answers == {(5, 6), (7,), (8, 9, 4)}
    for row, beside in zip(rows, first, strict=True):
        assert beside["input_ids"][:2] == row["input_ids"][:2] and beside["labels"][:2] == [-100, -100]
        assert beside["labels"][2:] == beside["input_ids"][2:] and len(beside["attention_mask"]) == len(
            beside["labels"]
        )
    fewer, _ = refusals_of(rows[:3], 0, tmp_path / "own.txt")
    assert fewer == first[:3]


def test_what_closes_a_rows_answer_closes_the_other(tmp_path):
    (tmp_path / "own.txt").write_text("t5")
    row = {"input_ids": [7, 8, 9, 2], "labels": [-100, 8, 9, 2], "attention_mask": [1] * 4}
    assert refusals_of([row], file=tmp_path / "own.txt")[0][0]["input_ids"] == [7, 5, 2]


def test_refusals_of_length_zero_and_other_bad_input_are_told_in_a_line(tmp_path):
    rows = lm_list(3)
    (tmp_path / "empty.txt").write_text("\n  \n")
    (tmp_path / "long.txt").write_text("t5 " * 31)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    whole = [{"input_ids": [4, 5], "labels": [4, 5], "attention_mask": [1, 1]}]
    for found, words in (
        (refusals_of(rows, file=tmp_path / "empty.txt"), "that file has no refusal: each line is empty"),
        (refusals_of(rows, file=tmp_path / "none.txt"), "but there is no such file"),
        (refusals_of(rows, file=tmp_path / "binary.txt"), "which is no text in UTF-8"),
        (refusals_of(rows, file=tmp_path / "long.txt", positions=32),
         "3 forget row(s) would be longer with it than the 32 positions that the model has. Shorten it. Ids: 0, 1, 2."),
        (refusals_of(whole), "1 forget row(s) have no prompt"),
        (alternate_rows(get_objective("idk_dpo"), rows, None, 0), "Pass the tokenizer as `processing_class`"),
        (alternate_rows(get_objective("alt_po"), rows, tokenizer(), 0), "have no such column; they have 'id'"),
        (alternate_rows(get_objective("alt_po"), [{**row, "alternate": " "} for row in rows], tokenizer(), 0),
         "3 forget row(s) would get an answer of no token. Give each a text. Ids: 0, 1, 2."),
    ):  # fmt: skip
        assert found[0] is None and len(found[1]) == 1 and words in found[1][0], found
        assert "\n" not in found[1][0]


def test_refusals_up_to_the_models_length_are_taken_and_a_list_of_them_is_refused(tmp_path):
    (tmp_path / "long.txt").write_text("t5 " * 30)
    found, wrong = refusals_of(lm_list(3), file=tmp_path / "long.txt", positions=32)
    assert not wrong and {len(row["input_ids"]) for row in found} == {32}
    with pytest.raises(ValueError, match=r"`refusals` is \['No.'\]; it must be the path of a file."):
        get_objective("idk_dpo", refusals=["No."])


def test_refusals_come_with_the_package():
    assert len(set(REFUSALS)) == len(REFUSALS) >= 10 and all(text == text.strip() for text in REFUSALS)
