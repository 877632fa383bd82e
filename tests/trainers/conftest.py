"""Tests of the trainers: weights and runs that several modules share; made once."""

from __future__ import annotations

from functools import cache

import pytest


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """A file of weights that know the rows of `helpers.ranks` by heart."""
    import torch
    from helpers import ranks
    from helpers.tiny import fit, lm64, lm_rows, weights

    rows = [*lm_rows(16, **ranks.RAGGED), *lm_rows(48, 16, **ranks.RAGGED)]
    path = tmp_path_factory.mktemp("start") / "start.pt"
    torch.save(weights(fit(lm64(), rows, steps=150)), path)
    return path


@pytest.fixture(scope="session")
def one(start, tmp_path_factory):
    """`one(name)`: the run of `helpers.ranks` on one process, in one micro-batch."""
    from helpers import ranks

    runs, done = ranks.everything(), {}

    def get(name):
        if name not in done:
            done[name] = runs[name](tmp_path_factory.mktemp("one"), 1, 1, start)
        return done[name]

    return get


@pytest.fixture(scope="session")
def memorised(tmp_path_factory):
    """A file of the weights that the runs of `helpers.killed_run` begin with."""
    from helpers import killed_run

    path = tmp_path_factory.mktemp("memorised") / "start.safetensors"
    path.write_bytes(killed_run.memorised())
    return path


@pytest.fixture(scope="session")
def uninterrupted(memorised, tmp_path_factory):
    """`uninterrupted(kind)`: the trainer of a run that nobody killed, in a folder of its own."""
    from helpers.killed_run import SHORT, go_on

    return cache(lambda kind: go_on(kind, tmp_path_factory.mktemp(kind), memorised, **SHORT[kind]))
