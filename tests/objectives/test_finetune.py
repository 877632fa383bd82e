"""Fine-tuning on the retain rows alone."""

from __future__ import annotations

from helpers.proofs import mean_loss, prove

from hf_unlearn.objectives.base import RETAIN
from hf_unlearn.objectives.registry import get_objective


def test_it_is_the_retain_loss_alone():
    prove(
        get_objective("finetune"), lambda forget, retain, frozen: mean_loss(retain) + 0 * mean_loss(forget), rises=False
    )
    assert get_objective("finetune").side == RETAIN and get_objective("finetune").row_passes == 1
