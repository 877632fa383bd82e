"""`benchmark.py --only memory`: a line for each number of sources and kind of rows; the figures are not tested."""

from __future__ import annotations

import argparse

import pytest

from recipes.tools import benchmark
from recipes.tools.bench import memories

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}


def test_forwards_deletion_and_files_are_measured_on_rows_that_name_a_source_and_on_others():
    args = argparse.Namespace(length=16, cpu=True, rounds=1)
    lines = memories.figures(args, SHAPE, {5: 1.1, 6: 9999.0}, searched=(2,))
    assert [line["what"] for line in lines[:2]] == [
        "forward of rows that name nobody, 5 sources", "forward of rows that name a source, 5 sources",
    ]  # fmt: skip
    assert lines[3]["met"] and all(line["value"] > 0 for line in lines)
    said = memories.table(lines)
    assert len(said.splitlines()) == len(lines) + 1 and "≤ 50 ms" in said


def test_rows_that_name_a_source_open_its_gate_and_others_do_not():
    args = argparse.Namespace(length=16, cpu=True, rounds=1)
    model, store, batch = memories.parts(args, SHAPE)
    store.tables, names = memories.tables_of(model, store, batch, 5)
    model(input_ids=names, use_cache=False)
    assert len(set((store._gates.at // names.shape[1]).tolist())) == memories.ROWS
    before = len(store._gates.at)
    model(input_ids=batch(memories.ROWS, names.shape[1]), use_cache=False)
    assert len(store._gates.at) < before


def test_its_figures_stand_alone(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--only", "memory", "unlearn_open"])
    assert "stands alone" in capsys.readouterr().err
