"""Options that nobody set: those that fit the others."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from hf_unlearn import UnlearnConfig
from hf_unlearn.unlearning.defaults import with_fitting_options, with_request_defaults

QUIET = {"report_to": [], "use_cpu": True}


def rates(out, recommended=None, steps=10, **options):
    """The learning rates of the first five steps, as shares of the highest."""
    args = UnlearnConfig(str(out), learning_rate=1.0, **QUIET, **options)
    args = with_fitting_options(with_request_defaults(args, {"request": recommended or {}}))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps)
    found = []
    for _ in range(5):
        found.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("recommended, options", [
    ({}, {"warmup_steps": 4}), ({"warmup_steps": 4}, {}), ({}, {"warmup_steps": 0.4}),
    ({"warmup_steps": 4, "lr_scheduler_type": "constant"}, {}),
    ({}, {"warmup_steps": 4, "lr_scheduler_type": "constant"}),
], ids=str)  # fmt: skip
def test_warmup_steps_warm_up_with_the_default_schedule_whoever_has_set_them(tmp_path, recommended, options):
    assert rates(tmp_path, recommended, **options) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_without_warmup_and_with_another_schedule_nothing_changes(tmp_path):
    assert rates(tmp_path) == [1.0] * 5
    assert rates(tmp_path, lr_scheduler_type="linear") == [1.0, 0.9, 0.8, 0.7, 0.6]
    assert rates(tmp_path, {"lr_scheduler_type": "linear"}, warmup_steps=2) == [0.0, 0.5, 1.0, 0.875, 0.75]
