"""Unlearning objectives: what the steps of a request minimise. One file each, and one registry that finds them here.

An objective is a frozen dataclass of pure functions ([`~hf_unlearn.objectives.base.Objective`] is the contract). To add
one, put one file into this folder. Its fields become options of `UnlearnConfig` and flags, its name stands in help and
error messages, its citation in records and model cards; nothing else is to be touched:

    from __future__ import annotations

    from dataclasses import dataclass, field
    from functools import partial
    from typing import ClassVar

    from ..utils.checks import number
    from .base import RowOutputs
    from .retaining import Retaining


    @dataclass(frozen=True)
    class Unlikelihood(Retaining):
        "Unlikelihood: -Σ log(1 - p^power) / M over the step's M forget labels, + beta·R."

        name: ClassVar[str] = "unlikelihood"
        citation: ClassVar[str] = "Welleck et al. 2020, Neural Text Generation with Unlikelihood Training"
        formula: ClassVar[str] = "-Σ log(1 - p^power) / M + beta·R"
        bound: ClassVar[str] = "each label's probability: the gradient fades with it"
        needs: ClassVar[str] = "token_nll"
        average: ClassVar[str] = "labels"
        power: float = field(
            default=1.0, metadata={"help": "Larger: less for unlikely labels.", "check": partial(number, low=0.1)}
        )

        def row_value(self, rows: RowOutputs, *, alpha: float):
            return -(-(-self.power * rows.token_nll.clamp_min(1e-6)).expm1()).log().mul(rows.labels.ne(-100)).sum(1)

`R` is the retain term, an argument of all that derive from [`~hf_unlearn.objectives.retaining.Retaining`]; without it
derive from `Objective`. `hf-unlearn objectives` lists what there is, with formula, bound and cost.

The step is everything between two optimizer updates: all micro-batches on all processes. What depends on a mean over
the step is in general not linear in the batch (the hinge opens on the mean), so it is never evaluated on a micro-batch.
Instead [`~hf_unlearn.objectives.surrogate.slopes`] takes its derivatives at the step's means, and the trainer
differentiates the linear surrogate ``slope_f * L_f + slope_r * L_r``, whose gradient is the objective's.

No module of this folder may import torch at its top: `--help` reads the registry, and must answer at once.
"""
