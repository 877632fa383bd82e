"""
Proofs that tests of objectives share: agreement with a second formulation, finite differences in float64, direction.

A second formulation is a function `second(forget, retain, frozen) -> loss ()`, written from the formula with loops over
rows and labels. Each side is a list of rows, a row a list of `(logits (V,), label)` of its labelled positions, in
order; `frozen` is the forget side again as it stood before the step, for what carries no gradient.
"""

from __future__ import annotations

import dataclasses
import functools

import torch

from hf_unlearn.data.batch import count_labels, count_later_labels
from hf_unlearn.objectives.base import FORGET, RETAIN
from hf_unlearn.objectives.row_nll import labels_by_position, row_outputs

TOKENS = {  # prompts of unlike lengths, padding, a hole, a row of one label, and a label at the first place
    "forget": [[-100, -100, 1, 2, 0, 3, -100], [-100, 4, -100, 2, -100, -100, -100], [-100, 3, 1, 4, 0, 2, 1]],
    "retain": [[-100, 1, 1, -100, -100, -100, -100], [2, 0, 4, 3, 1, -100, -100]],
}
CLASSES = {"forget": [0, 2, 1], "retain": [1, 0]}


def scene(kind: str, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(logits, labels) of both sides: of a language model ("tokens") or of a classifier ("classes"); logits float64."""
    torch.manual_seed(seed)
    found = {}
    for side, labels in (TOKENS if kind == "tokens" else CLASSES).items():
        labels = torch.tensor(labels)
        shape = (*labels.shape, 5) if kind == "tokens" else (len(labels), 4)
        found[side] = (2 * torch.randn(shape, dtype=torch.float64), labels)
    return found


def rows_of(logits, labels) -> list[list[tuple[torch.Tensor, int]]]:
    """One side as a second formulation takes it."""
    if labels.dim() == 1:
        return [[(z, int(y))] for z, y in zip(logits, labels, strict=True)]
    return [
        [(row[t], int(own[t + 1])) for t in range(len(own) - 1) if own[t + 1] != -100]
        for row, own in zip(logits, labels, strict=True)
    ]


def loss(row) -> torch.Tensor:
    """The sum of a row's losses."""
    return sum(-torch.log(torch.exp(z[y]) / torch.exp(z).sum()) for z, y in row)


def mean_loss(rows) -> torch.Tensor:
    """The mean over all labels of the rows."""
    return sum(loss(row) for row in rows) / sum(len(row) for row in rows)


def before_of(sides, kind: str) -> dict[str, dict]:
    """What the rows of both sides bring: logits of another model, by position, as a trainer hands them over."""
    torch.manual_seed(9)
    found = {}
    for side, (z, y) in sides.items():
        there = labels_by_position(z, y) != -100
        found[side] = {"reference_logits": torch.where(there[..., None], 1.5 * torch.randn_like(z), 0.0)}
    return found


def step_value(objective, forget, retain, *, alpha=0.3, tau=4.0, brought=None, retain_brought=None, seed=0):
    """The loss of a step () of these rows, by the contract of `Objective`; each side is (logits, labels)."""
    sides = []
    needs = (objective.needs, objective.retain_needs)
    for (logits, labels), need, more in zip((forget, retain), needs, (brought, retain_brought), strict=True):
        rows = row_outputs(logits, labels, need)
        sides.append(dataclasses.replace(rows, **{"places": torch.arange(len(labels)), "seed": seed, **(more or {})}))
    means = [rows.nll.sum() / rows.items.sum() for rows in sides]
    value = objective.mean_value(*means, alpha=alpha, tau=tau)
    if objective.by_rows and objective.side != RETAIN:
        value = value + objective.row_value(sides[0], alpha=alpha).sum() / count(objective.average, forget[1])
    if objective.retains_by_rows and objective.side != FORGET:
        own = objective.retain_row_value(sides[1], alpha=alpha).sum()
        value = value + own / count(objective.retain_average, retain[1])
    return value


def count(average: str, labels) -> torch.Tensor:
    counts = {"rows": lambda y: torch.tensor(len(y)), "labels": count_labels, "later_labels": count_later_labels}
    return counts[average](labels)


def prove(objective, second, kinds=("tokens", "classes"), rises=True, falls=True, with_before=False, **brought) -> None:
    """
    Value and gradient are those of the second formulation (1e-6) and of its finite difference; what stands at places
    without labels has no say; a small step down raises the forget loss (`rises`), and lowers the retain loss
    (`falls`) where retain rows have a gradient.

    Args:
        with_before: rows bring logits from before the request; `second` takes them as two more lists of rows.
    """
    for kind in kinds:
        sides = scene(kind)
        (zf, yf), (zr, yr) = sides["forget"], sides["retain"]
        start = rows_of(zf.clone(), yf)
        zf.requires_grad_(), zr.requires_grad_()
        own, formula = dict(brought), second
        if with_before:
            before = before_of(sides, kind)
            own |= {"brought": before["forget"], "retain_brought": before["retain"]}
            lists = [rows_of(before[side]["reference_logits"], sides[side][1]) for side in ("forget", "retain")]
            formula = functools.partial(second, before=lists)
        value = step_value(objective, (zf, yf), (zr, yr), **own)
        wanted = formula(rows_of(zf, yf), rows_of(zr, yr), start)
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-12)
        got = gradients(value, zf, zr)
        for own, want in zip(got, gradients(wanted, zf, zr), strict=True):
            torch.testing.assert_close(own, want, rtol=1e-6, atol=1e-12)
        for side, (z, y, slope) in enumerate(((zf, yf, got[0]), (zr, yr, got[1]))):
            unlabelled = torch.ones_like(slope, dtype=torch.bool)
            unlabelled[:, :-1] = (y[:, 1:] == -100)[..., None] if kind == "tokens" else False
            if kind == "tokens":
                assert not slope[unlabelled].any()
            direction = torch.randn_like(z)
            ends = []
            for sign in (1, -1):
                moved = [zf.detach(), zr.detach()]
                moved[side] = moved[side] + sign * 1e-5 * direction
                ends.append(formula(rows_of(moved[0], yf), rows_of(moved[1], yr), start))
            along, difference = float((slope * direction).sum()), float((ends[0] - ends[1]) / 2e-5)
            assert abs(along - difference) <= 1e-6 * max(abs(along), 1e-3), (kind, side, along, difference)
        losses = [
            [float(mean_loss(rows_of((z - step * g).detach(), y))) for z, y, g in ((zf, yf, got[0]), (zr, yr, got[1]))]
            for step in (0.0, 1e-4)
        ]
        if rises:
            assert losses[1][0] > losses[0][0]
        if falls:
            assert losses[1][1] < losses[0][1] if got[1].any() else losses[1][1] == losses[0][1]


def gradients(value, *of):
    found = torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(z) if g is None else g for z, g in zip(of, found, strict=True)]
