"""Whether runs on two processes went where the run on one process goes."""

from __future__ import annotations

import pytest
import torch
from helpers import ranks

CLOSE = 1e-6  # relative; float64 but for the shares of labels


def assert_same_run(results, name, accumulation, wanted):
    """Both ranks ended with the same bits, and where `wanted` did."""
    first, second = (rank[f"{name} / {accumulation}"] for rank in results)
    assert all(torch.equal(first["weights"][k], second["weights"][k]) for k in first["weights"])
    for run in (first, second):
        assert run["restored"]
        assert run["steps"] == wanted["steps"]
    assert len(first["grads"]) == len(wanted["grads"])
    for got, want in zip(first["grads"], wanted["grads"], strict=True):
        assert ranks.apart(got, want) < CLOSE
    assert first["weights"].keys() == wanted["weights"].keys()
    assert ranks.apart(first["weights"], wanted["weights"]) < CLOSE
    assert len(first["logs"]) == len(wanted["logs"])
    for got, want in zip(first["logs"], wanted["logs"], strict=True):
        assert got.keys() == want.keys()
        if run.get("skipped"):  # the line's loss is each process's last finite one
            got, want = ({k: v for k, v in line.items() if k != "loss"} for line in (got, want))
        assert got == pytest.approx(want, rel=1e-5, abs=2e-6)  # components are logged with six places


def assert_saved(run):
    """The file holds the weights of the run's end, but for a tied head."""
    assert run["saved"].keys() | {"lm_head.weight"} >= run["weights"].keys()
    assert all(torch.equal(run["saved"][k], run["weights"][k]) for k in run["weights"])


def assert_skipped(results, one, accumulation):
    """What is NaN on one rank is a skipped step on both; three in a row end the run with the good weights saved."""
    for name in ("poisoned", "poisoned gradient", "poisoned to the end"):
        wanted = one(f"ready: {name}")
        for rank in results:
            run = rank[f"ready: {name} / {accumulation}"]
            assert (run["skipped"], run["steps"]) == ((3, 4) if "end" in name else (2, 5))
            assert ranks.apart(run["weights"], wanted["weights"]) < CLOSE
            if "end" in name:
                assert run["error"].startswith("Steps 3 to 5: the loss or the gradient is not finite")
                assert_saved(run)
