"""`recipes/tools/benchmark.py`: what it counts is exact; what it clocks is not tested."""

from __future__ import annotations

import json

import pytest

from recipes.tools import benchmark

SMALL = ["--hidden_size", "16", "--layers", "1", "--length", "6", "--vocab_size", "30", "--batch_size", "8", "--cpu"]


def run(capsys, *flags) -> dict:
    benchmark.main([*SMALL, *flags, "--json"])
    return json.loads(capsys.readouterr().out)


def test_counted_row_passes_are_the_theoretical_least(capsys):
    wanted = {
        "ready_first_order": 2.0,
        "ready_sparse": 1.125,
        "ready_finite_difference": 2.5,
        "unlearn_open": 2.0,
        "unlearn_closed_every_8": 1 + 1 / 24,
        "npo": 2.0,
        "npo_held": 2.0,
        "rmu": 2.0,  # of the one layer here it runs all
        "features_off": 1.0,
        "vs_npo_kl": 2 / (2 + 2 / 3),
    }
    found = run(capsys, "--rounds", "1", "--only", *wanted)
    assert set(wanted) < set(found) and all(found[key] > 0 for key in wanted)
    passes = {line["key"]: line["passes"] for line in found["figures"]}
    assert passes == pytest.approx(wanted)


def test_a_row_table_is_timed_against_bare_forwards(capsys):
    found = run(capsys, "--rounds", "2", "--only", "collect", "collect_images")
    assert found["collect"] > 0 and found["collect_images"] > 0
    assert all(line["quartiles"][0] <= line["value"] <= line["quartiles"][1] for line in found["figures"])


@pytest.mark.slow
def test_bytes_and_the_error_against_double_backward(capsys):
    flags = ["finite_difference_error", "finite_difference_activations", "fd_vs_exact_memory", "ready_extra_memory"]
    found = run(capsys, "--rounds", "1", "--only", *flags, "unlearn_open_activations")
    again = run(capsys, "--rounds", "1", "--only", *flags, "unlearn_open_activations")
    assert found == again  # nothing here depends on a clock
    assert found["finite_difference_error"] < 0.01 and found["fd_vs_exact_memory"] < 0.5
    assert 1.0 <= found["ready_extra_memory"] < 1.05
    assert found["unlearn_open_activations"] == pytest.approx(2, abs=0.05)  # so small that one forward takes both


def test_wrong_flags_of_the_benchmark_are_refused(capsys):
    for flags in (["--only", "speed"], ["--rounds", "0"], ["--batch_size", "6"]):
        with pytest.raises(SystemExit):
            benchmark.main(flags)
    assert "there are rows, memory, ready_first_order" in capsys.readouterr().err
