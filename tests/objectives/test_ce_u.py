"""CE-U, against its formula: CE to softmax(z with z_y = -∞), detached, without each row's first label."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove, scene, step_value

from hf_unlearn.data.checks import kind_problems
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import row_outputs


def by_formula(skipped):
    def second(forget, retain, frozen):
        terms = []
        for row, before in zip(forget, frozen, strict=True):
            for (z, y), (z0, _) in list(zip(row, before, strict=True))[skipped:]:
                others = [v for v in range(len(z)) if v != y]
                whole = sum(math.exp(float(z0[v])) for v in others)
                wanted = {v: math.exp(float(z0[v])) / whole for v in others}
                terms.append(-sum(t * z.log_softmax(0)[v] for v, t in wanted.items()))
        return sum(terms) / len(terms) + mean_loss(retain)

    return second


def test_value_and_gradient_are_those_of_the_formula():
    prove(get_objective("ce_u"), by_formula(1), kinds=("tokens",))
    prove(get_objective("ce_u"), by_formula(0), kinds=("classes",))  # a class is the whole answer


def test_value_by_hand():
    rows = row_outputs(torch.zeros(1, 3), torch.tensor([0]), "logits")
    assert get_objective("ce_u").row_value(rows, alpha=0).tolist() == pytest.approx([math.log(3)])


@pytest.mark.parametrize("answers, refused", [((1, 1), True), ((1, 2), False)])
def test_rows_that_are_all_of_one_label_leave_nothing_to_forget(answers, refused):
    rows = [{"input_ids": [4] * 4, "labels": [-100] * (4 - n) + [4] * n} for n in answers]
    found = kind_problems(get_objective("ce_u"), rows)
    assert len(found) == refused and all("no forget row has another one" in told for told in found)
    assert not kind_problems(get_objective("grad_diff"), rows)


def test_the_first_label_of_a_row_has_no_say_and_a_row_of_one_label_counts_nothing():
    sides = scene("tokens")
    logits, labels = sides["forget"]
    before = step_value(get_objective("ce_u"), sides["forget"], sides["retain"])
    moved = logits.clone()
    moved[0, 1] += torch.randn(5)  # predicts the first label of the first row
    assert torch.equal(before, step_value(get_objective("ce_u"), (moved, labels), sides["retain"]))
    alone = (logits[:1], torch.tensor([[-100, -100, -100, -100, -100, -100, 1]]))
    joined = (torch.cat([logits, alone[0]]), torch.cat([labels, alone[1]]))
    torch.testing.assert_close(before, step_value(get_objective("ce_u"), joined, sides["retain"]))
