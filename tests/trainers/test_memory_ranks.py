"""A memory on two processes: tables are dropped there as on one, and filled on one alone."""

from __future__ import annotations

import pytest
import safetensors.torch
from helpers import memory_runs, tiny
from helpers.forked_ranks import on_ranks

from hf_unlearn import ArgumentError, UnlearnConfig, UnlearnTrainer

WHOLE = [row["id"] for row in memory_runs.rows() if row["author"] == "author 1"]


def deleted(out, source, asked, retain=None):
    args = UnlearnConfig(str(out), **tiny.QUIET)
    trainer = UnlearnTrainer(str(source), args, asked, retain, processing_class=tiny.tokenizer())
    trainer.train()
    trainer.save_model()
    return trainer


@pytest.mark.slow
def test_two_processes_drop_tables_and_refuse_to_fill_any(tmp_path):
    tiny.lm(layers=2).save_pretrained(tmp_path / "base")
    options = {"model": str(tmp_path / "base"), "memory": memory_runs.config()}
    memory_runs.trained(tmp_path / "ready", **options)
    deleted(tmp_path / "one", tmp_path / "ready", WHOLE)

    def on_each_rank():
        request = deleted(tmp_path / "two", tmp_path / "ready", WHOLE)
        assert request.accelerator.num_processes == 2 and request.guarantee == "exact"
        with pytest.raises(ArgumentError, match="A memory is trained on one process"):
            deleted(tmp_path / "part", tmp_path / "ready", WHOLE[:1], memory_runs.rows())
        with pytest.raises(ArgumentError, match="A memory is trained on one process"):
            memory_runs.trained(tmp_path / "again", **options)

    on_ranks(on_each_rank, tmp_path / "printed")
    one, two = (safetensors.torch.load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert tiny.same_bits(one, two)
