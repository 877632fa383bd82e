"""Which row comes when: epochs, simulated requests, pairs of a request; pure in seed and place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler

from hf_unlearn.data import order
from hf_unlearn.data.order import PairedDataset, SpreadSampler, spread_order


@pytest.mark.parametrize("n, flagged", [(40, 10), (41, 7), (17, 16), (17, 1), (30, 13), (8, 0), (8, 8)])
def test_an_epoch_is_a_permutation_with_the_flagged_rows_in_every_window(n, flagged):
    flags = np.zeros(n, bool)
    flags[np.random.default_rng(0).permutation(n)[:flagged]] = True
    order = spread_order(flags, n, seed=3, epoch=2)
    assert sorted(order.tolist()) == list(range(n))
    for width in range(1, n + 1):
        windows = np.lib.stride_tricks.sliding_window_view(flags[order], width).sum(1)
        aligned = windows[::width]
        assert aligned.min() >= np.floor(width * flagged / n) and aligned.max() <= np.ceil(width * flagged / n)
        assert windows.max() - windows.min() <= 2


def test_an_order_is_a_pure_function_of_seed_and_epoch():
    flags = np.arange(24) % 3 == 0
    np.random.seed(1)
    first = spread_order(flags, 24, 5, 1).tolist()
    np.random.seed(2)
    order.permutation.cache_clear()
    assert spread_order(flags, 24, 5, 1).tolist() == first
    assert all(spread_order(flags, 24, *key).tolist() != first for key in ((5, 0), (5, 2), (6, 1)))
    # the flagged and the other rows are both shuffled
    other = spread_order(flags, 24, 5, 2).tolist()
    for kind in (True, False):
        assert [i for i in first if flags[i] == kind] != [i for i in other if flags[i] == kind]
    assert spread_order(None, 24, 5, 1).tolist() != list(range(24))


def test_the_sampler_reads_the_epoch_when_it_is_asked_for_an_order():
    epoch = [0]
    sampler = SpreadSampler(np.arange(10) % 2 == 0, 10, 7, epoch=lambda: epoch[0])
    first, again = list(sampler), list(sampler)
    epoch[0] = 1
    assert first == again != list(sampler) and len(sampler) == 10
    assert first == spread_order(np.arange(10) % 2 == 0, 10, 7, 0).tolist()


def test_each_pass_sees_every_forget_row_once_and_each_retain_row_once_before_any_twice():
    forget, retain, passes = [f"f{i}" for i in range(7)], [f"r{i}" for i in range(17)], 6
    pairs = PairedDataset(forget, retain, passes, seed=2)
    items = [pairs[i] for i in range(len(pairs))]
    assert len(items) == 42
    orders = [tuple(f for f, _, _ in items[e * 7 : (e + 1) * 7]) for e in range(passes)]
    assert all(sorted(order) == forget for order in orders) and len(set(orders)) > 1
    assert all(forget[place] == f for f, _, place in items)
    seen = [r for _, r, _ in items]
    for start in (0, 17):
        assert sorted(seen[start : start + 17]) == sorted(retain)
    assert len(set(seen[34:])) == 8 and seen[:17] != seen[17:34]
    for wrong in (42, -1):
        with pytest.raises(IndexError):
            pairs[wrong]


def test_pairs_are_pure_in_any_order_and_differ_by_seed():
    def make(seed):
        return PairedDataset(list(range(5)), list(range(9)), 4, seed)

    forwards = [make(1)[i] for i in range(20)]
    torch.manual_seed(4)
    order.permutation.cache_clear()
    backwards = [make(1)[i] for i in reversed(range(20))][::-1]
    assert forwards == backwards != [make(2)[i] for i in range(20)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_shards_see_in_a_step_what_one_process_sees(accumulation):
    pairs = PairedDataset(list(range(8)), list(range(100, 120)), 4, seed=0)

    def steps(world, rows):
        loaders = []
        for rank in range(world):
            batches = BatchSampler(SequentialSampler(pairs), rows, drop_last=False)
            loaders.append(list(BatchSamplerShard(batches, world, rank) if world > 1 else batches))
        found = []
        for k in range(0, len(loaders[0]), accumulation):
            found.append(sorted(i for loader in loaders for batch in loader[k : k + accumulation] for i in batch))
        return found

    one, two = steps(1, 4), steps(2, 2)
    assert one == two and len(one) == 8 // accumulation
    assert [i for step in one for i in step] == list(range(32))
