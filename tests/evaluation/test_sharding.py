"""Row tables on two processes: shared out, and the same as on one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from helpers.forked_ranks import on_ranks
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn import collect, default_collator, evaluate
from hf_unlearn.evaluation import load_tables, save_tables, weights_hash
from hf_unlearn.evaluation.tables import described
from hf_unlearn.utils.salts import salt_for

ROWS, BATCH = 13, 2  # seven batches on two processes: the last turn is taken by one of them


def measured(model) -> tuple:
    """The table of all rows, and how many forwards this process took."""
    count = []
    handle = model.register_forward_hook(lambda *_: count.append(1))
    rows = lm_rows(ROWS, long=20)
    found = collect(model, rows, default_collator(model, tokenizer()), processing_class=tokenizer(), batch_size=BATCH)
    handle.remove()
    return found, len(count)


def broken(model) -> str:
    """What each process says where only one of them meets the bad row."""
    rows = lm_rows(ROWS).to_list()
    rows[3]["labels"] = [-100] * len(rows[3]["labels"])
    try:
        collect(model, Dataset.from_list(rows), default_collator(model, tokenizer()), batch_size=BATCH)
    except ValueError as error:
        return str(error)
    return "nothing"


def on_each(folder: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    rank = dist.get_rank()
    for name in ("whole", "sharded"):
        model = lm()
        if name == "sharded":
            fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        found, forwards = measured(model)
        save_tables({name: found}, f"{folder}/{rank}")
        Path(folder, f"{rank}-{name}.txt").write_text(f"{forwards}\n{broken(model)}")
        dist.barrier()
    rows = lm_rows(ROWS)
    splits = {"forget": rows.select(range(6)), "unseen": rows.select(range(6, ROWS))}
    card = evaluate(lm(), splits, reference=lm(1), processing_class=tokenizer(), batch_size=BATCH, resamples=20)
    card.save(f"{folder}/card{rank}")


@pytest.mark.slow
def test_two_processes_share_the_rows_out_and_get_the_table_of_one(tmp_path):
    salt_for(tmp_path)  # above both cards: their hashes are keyed by it
    on_ranks(lambda: on_each(tmp_path), tmp_path / "printed")
    one, forwards = measured(lm())
    assert forwards == 7
    numbers = ("nll_sum", "entropy_sum")
    for rank in (0, 1):
        for name, table in load_tables(tmp_path / str(rank)).items():
            for column in set(one.column_names) - {*numbers, "token_nll", "token_z", "row_hash"}:
                assert table[column].equals(one[column]), column
            for column in numbers:
                assert table[column].to_pylist() == pytest.approx(one[column].to_pylist(), rel=1e-6)
            assert described(table)["model"] == weights_hash(lm()) == described(one)["model"]
            taken, message = (tmp_path / f"{rank}-{name}.txt").read_text().split("\n")
            assert int(taken) == 4  # half of the seven, and one that keeps the other company
            assert "row 3 of `dataset`" in message
    cards = [(tmp_path / f"card{rank}/scorecard.json").read_text() for rank in (0, 1)]
    assert cards[0] == cards[1]


def test_one_process_takes_one_forward_a_batch():
    found, forwards = measured(lm())
    assert forwards == -(-ROWS // BATCH) and found.num_rows == ROWS


def test_a_process_may_measure_alone():
    torch.manual_seed(0)
    found = collect(lm(), lm_rows(3), default_collator(lm(), tokenizer()), shard=False)
    assert found.num_rows == 3
