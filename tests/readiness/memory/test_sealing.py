"""What a memory knows of the model below it."""

from __future__ import annotations

import pytest
import torch

from hf_unlearn.readiness.memory.sealing import VALUES, base_sample


@pytest.mark.parametrize("size", [1, 5, 16, 1000, 49152 * 576])  # the last: an embedding, beyond what float32 counts
def test_values_of_a_weight_are_evenly_spaced_from_its_first_to_its_last(size):
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(1).expand(size) if size > 1000 else torch.arange(float(size)))
    found = base_sample(model)
    assert found.shape == (1, VALUES)
    if size <= 1000:
        assert found[0, 0] == 0 and found[0, -1] == size - 1 and (found.diff() >= 0).all()
