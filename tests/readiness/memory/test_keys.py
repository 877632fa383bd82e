"""Product keys: the few entries that are found are those that scoring all N would find."""

from __future__ import annotations

import torch

from hf_unlearn.readiness.memory.keys import ProductKeys


def test_top_entries_are_those_of_all_scores():
    keys, z = ProductKeys(width=6, side=9, seed=3, key_size=4), torch.randn(20, 6) * 2
    weights, numbers = keys.top(z, 5)
    query, first, second = keys.weights
    one, two = (z @ query).chunk(2, -1)
    scores = ((one @ first.T).unsqueeze(-1) + (two @ second.T).unsqueeze(-2)).flatten(1)  # a·side + b
    best = scores.topk(5)
    assert torch.equal(numbers, best.indices)
    torch.testing.assert_close(weights, best.values.softmax(-1))


def test_keys_are_drawn_from_the_seed_alone():
    torch.manual_seed(1)
    one = ProductKeys(4, 4, seed=0).weights
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, ProductKeys(4, 4, seed=0).weights, strict=True))
    assert not torch.equal(one[0], ProductKeys(4, 4, seed=1).weights[0])


def test_a_million_entries_are_never_held_at_once():
    weights, numbers = ProductKeys(8, side=1024, seed=0).top(torch.randn(3, 8), 8)
    assert weights.shape == numbers.shape == (3, 8)
    assert int(numbers.min()) >= 0 and int(numbers.max()) < 1024**2
