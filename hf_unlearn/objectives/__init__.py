"""Unlearning objectives: what the steps of a request minimise. One file each, and one registry that finds them here.

An objective is a frozen dataclass of pure functions ([`~hf_unlearn.objectives.base.Objective`] is the contract). To add
one, put one file into this folder. Its fields become options of `UnlearnConfig` and flags, its name stands in help and
error messages, its citation in records and model cards; nothing else is to be touched:

    from __future__ import annotations

    from dataclasses import dataclass, field
    from functools import partial
    from typing import ClassVar

    from ..utils.checks import number
    from .base import Objective


    @dataclass(frozen=True)
    class Wga(Objective):
        "Weighted gradient ascent: -Σ sg[p^wga_beta]·log(1/p) / M over the step's M forget labels, + L_r."

        name: ClassVar[str] = "wga"
        citation: ClassVar[str] = "Wang et al. 2025, Rethinking LLM Unlearning Objectives"
        needs: ClassVar[str] = "token_nll"
        average: ClassVar[str] = "labels"
        wga_beta: float = field(
            default=1.0, metadata={"help": "Larger: less for unlikely labels.", "check": partial(number, low=0)}
        )

        def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
            return retain_loss

        def row_value(self, rows, *, alpha):
            return -((-self.wga_beta * rows.token_nll).exp().detach() * rows.token_nll).sum(1)

The step is everything between two optimizer updates: all micro-batches on all processes. What depends on a mean over
the step is in general not linear in the batch (the hinge opens on the mean), so it is never evaluated on a micro-batch.
Instead [`~hf_unlearn.objectives.surrogate.slopes`] takes its derivatives at the step's means, and the trainer
differentiates the linear surrogate ``slope_f * L_f + slope_r * L_r``, whose gradient is the objective's.

No module of this folder may import torch at its top: `--help` reads the registry, and must answer at once.
"""
