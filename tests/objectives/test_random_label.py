"""Random labels, against their formula: CE to a random other label, fixed for a row by the seed, + L_r."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.proofs import mean_loss, prove, rows_of, scene

from hf_unlearn.objectives.drawing import other_labels
from hf_unlearn.objectives.registry import get_objective
from hf_unlearn.objectives.row_nll import labels_by_position, row_outputs


@pytest.mark.parametrize("kind", ["tokens", "classes"])
def test_value_and_gradient_are_those_of_the_formula(kind):
    logits, labels = scene(kind)["forget"]
    by_place = labels_by_position(logits, labels)
    drawn = other_labels(by_place, torch.arange(3), logits.shape[-1], 0).view(3, -1)
    drawn = [[int(y) for y in row if y >= 0] for row in drawn.where(by_place.view(3, -1) != -100, torch.tensor(-1))]

    def second(forget, retain, frozen):
        terms = [-z.log_softmax(0)[y] for row, own in zip(forget, drawn, strict=True)
                 for (z, _), y in zip(row, own, strict=True)]  # fmt: skip
        return sum(terms) / len(terms) + mean_loss(retain)

    for row, own in zip(rows_of(logits, labels), drawn, strict=True):
        assert all(y != other for (_, y), other in zip(row, own, strict=True))
    prove(get_objective("random_label"), second, kinds=(kind,), rises=False)


def test_value_by_hand():
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]])
    rows = row_outputs(logits, torch.tensor([0]), "logits")
    rows = type(rows)(**{**vars(rows), "places": torch.tensor([7])})
    assert get_objective("random_label").row_value(rows, alpha=0).tolist() == pytest.approx([-math.log(3 / 4)])


def test_what_is_drawn_is_even_never_the_label_itself_and_the_same_in_every_batch():
    places = torch.arange(4000)
    labels = places % 10
    drawn = other_labels(labels, places, 10, seed=3)
    assert (drawn != labels).all() and drawn.min() == 0 and drawn.max() == 9
    offsets = torch.bincount((drawn - labels) % 10, minlength=10)
    assert offsets[0] == 0 and (offsets[1:] - 4000 / 9).abs().max() < 90  # four standard deviations
    assert torch.equal(other_labels(labels[5:9], places[5:9], 10, seed=3), drawn[5:9])
    assert (other_labels(labels, places, 10, seed=4) != drawn).float().mean() > 0.8
    tokens = torch.tensor([[-100, 3, 1, 2], [3, 1, 2, -100]])  # the same row, padded on either side
    left, right = other_labels(tokens, torch.tensor([5, 5]), 50, seed=0)
    assert left[1:].tolist() == right[:3].tolist() and len(set(left[1:].tolist())) == 3
