"""SCRUB, against its formula: by turns -KL(q ‖ p) on forget rows, and KL(q ‖ p) + L_r on retain rows."""

from __future__ import annotations

import math

import torch
from helpers.proofs import mean_loss, prove

from hf_unlearn.objectives.base import FORGET, RETAIN
from hf_unlearn.objectives.scrub import Scrub


def kl(rows, before):
    terms = []
    for row, own in zip(rows, before, strict=True):
        for (z, _), (zq, _) in zip(row, own, strict=True):
            q = zq.softmax(0)
            terms.append((q * (q.log() - z.log_softmax(0))).sum())
    return sum(terms) / len(terms)


def test_each_turn_is_its_formula():
    def down(forget, retain, frozen, before):
        return kl(retain, before[1]) + mean_loss(retain)

    prove(Scrub(), down, with_before=True, rises=False, falls=False)  # what was said before may outweigh the labels
    prove(Scrub(turn=0.0), lambda f, r, frozen, before: -kl(f, before[0]), with_before=True, rises=False)


def test_the_turns_alternate_and_begin_with_a_step_down():
    nan, turn, sides = torch.tensor(math.nan), Scrub(), []
    for _ in range(4):
        sides.append(turn.side)
        turn = turn.after_step(nan, nan)
    assert sides == [RETAIN, FORGET, RETAIN, FORGET] and Scrub().state() == {"turn": 1.0} and not Scrub().settings()


def test_up_drives_away_from_what_was_said_before():
    from hf_unlearn.objectives.row_nll import row_outputs

    logits = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    rows = row_outputs(logits, torch.tensor([0]), "logits")
    rows = type(rows)(**{**vars(rows), "reference_logits": torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)})
    (slope,) = torch.autograd.grad(Scrub(turn=0.0).row_value(rows, alpha=0).sum(), logits)
    assert float(slope[0, 0]) > 0  # descending lowers the label that was likely before
