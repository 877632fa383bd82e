"""
What a large set of rows costs before the first step: CPU seconds a million rows and bytes a row beyond the rows
themselves, at the peak. Each deed runs in a process of its own, on rows of random tokens that Arrow holds in memory.

    python -m recipes.tools.bench.rows unlearn 100000 64
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

VOCABULARY, LETTERS = 2000, 258  # tokens; those of single bytes, which come first


@dataclass(frozen=True)
class Deed:
    """`seconds`: CPU seconds a million that it may take; `size`: bytes a row."""

    what: str
    seconds: float | None = None
    size: float | None = None


DEEDS = {
    "split": Deed("split, by a column of persons", 15, 64),
    "split_text": Deed("the same, rows of text", 15, 64),
    "unlearn": Deed("UnlearnTrainer(…)", 25, 64),
    "unlearn_tokenizer": Deed("the same, with a tokenizer"),
    "replay": Deed("ReadyTrainer(…), a replay with its plan", 25, 64),
    "evaluate": Deed("checks and hashes of evaluate, rows as they are taken", 25, 64),
    "evaluate_all": Deed("the same, of all rows"),
}


def token_rows(n: int, length: int):
    """n rows of random tokens, four of a person."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    draw = np.random.default_rng(0)
    ends = pa.array(np.arange(n + 1, dtype=np.int32) * length)
    ids = pa.ListArray.from_arrays(ends, pa.array(draw.integers(LETTERS, VOCABULARY, n * length, dtype=np.int32)))
    mask = pa.ListArray.from_arrays(ends, pa.array(np.ones(n * length, np.int8)))
    names = pa.array(f"row {i}" for i in range(n))
    persons = pa.array(f"person {i // 4}" for i in range(n))
    flags = pa.array(np.arange(n) % 10 == 0)
    columns = {"id": names, "person": persons, "revocable": flags}
    return Dataset(pa.table({**columns, "input_ids": ids, "attention_mask": mask, "labels": ids}))


def text_rows(n: int, length: int):
    """n rows of a question and an answer, of so many words together."""
    import numpy as np
    from datasets import Dataset

    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(draw.choice(letters, draw.integers(3, 9))) for _ in range(5000)])
    half = max(1, length // 8)
    said = {
        name: [" ".join(row) for row in words[draw.integers(0, 5000, (n, half))]] for name in ("question", "answer")
    }
    return Dataset.from_dict({"id": range(n), "person": [f"person {i // 4}" for i in range(n)], **said})


def tokenizer():
    """A small one of byte pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator((row["question"] for row in text_rows(2000, 64)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>")


def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **size))


def prepared(deed: str, n: int, length: int, folder: str):
    """A function that does it; what it is done with is made before."""
    import numpy as np

    import hf_unlearn

    if deed.startswith("split"):
        rows = (text_rows if deed == "split_text" else token_rows)(n, length)
        return lambda: hf_unlearn.split(rows, by="column", column="person", fraction=0.1)
    rows, common = token_rows(n, length), {"report_to": [], "use_cpu": True, "disable_tqdm": True}
    if deed == "replay":
        subject = model()
        args = hf_unlearn.ReadyConfig(folder, readiness="replay", slice_by="person", num_train_epochs=1, **common)

        def ready():
            trainer = hf_unlearn.ReadyTrainer(subject, args, rows)
            trainer.replay_record()  # commits to the rows

        return ready
    share = np.arange(n) // 4 % 10  # as `split` divides persons: rows of all places
    places = {"forget": share == 0, "retain": share > 1, "unseen": share == 1}
    sets = {name: rows.remove_columns(["revocable"]).select(np.flatnonzero(own)) for name, own in places.items()}
    subject = model()
    if deed.startswith("unlearn"):
        reader = tokenizer() if deed == "unlearn_tokenizer" else None
        args = hf_unlearn.UnlearnConfig(folder, **common)
        return lambda: hf_unlearn.UnlearnTrainer(subject, args, *sets.values(), processing_class=reader)
    return lambda: checked(subject, sets, n if deed == "evaluate_all" else None)


def checked(subject, sets: dict, most: int | None) -> None:
    """What `evaluate` does with the rows before its first pass."""
    from hf_unlearn.evaluation.rows import MOST_ROWS, at_most, row_hashes
    from hf_unlearn.evaluation.split_checks import RowChecks, twin_problems

    splits, _ = at_most(sets, MOST_ROWS if most is None else most, [])
    RowChecks(splits, True).problems([subject])
    hashes = {name: row_hashes(rows) for name, rows in splits.items()}
    twin_problems(splits, hashes, None, str)


def measured(deed: str, n: int, length: int) -> dict[str, float]:
    """CPU seconds and bytes of a deed, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        prepared(deed, 400, length, os.path.join(folder, "before"))()  # imports what it needs
        do = prepared(deed, n, length, os.path.join(folder, "out"))
        before, began = _memory(restart=True), time.process_time()
        do()
        return {"seconds": time.process_time() - began, "bytes": _memory() - before}


def _memory(restart: bool = False) -> int:
    """The most bytes that this process had in memory; since now, where the system can say so."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if restart:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def figures(n: int, length: int) -> list[dict]:
    """A line for each deed."""
    lines = []
    for deed, own in DEEDS.items():
        command = [sys.executable, "-m", "recipes.tools.bench.rows", deed, str(n), str(length)]
        where = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join([where, os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        out = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        line = {"key": f"rows_{deed}", "what": own.what, "rows": n, "seconds_a_million": found["seconds"] * 1e6 / n}
        line |= {"seconds_allowed": own.seconds, "bytes_a_row": found["bytes"] / n, "bytes_allowed": own.size}
        line["met"] = None if own.seconds is None else line["seconds_a_million"] <= own.seconds
        lines.append(line)
    return lines


def table(lines: list[dict]) -> str:
    head = ("rows", "CPU seconds a million", "may be", "bytes a row beyond them", "may be")
    cells = [head]
    for line in lines:
        allowed = [("" if own is None else f"≤ {own:g}") for own in (line["seconds_allowed"], line["bytes_allowed"])]
        cells.append(
            (line["what"], f"{line['seconds_a_million']:.1f}", allowed[0], f"{line['bytes_a_row']:.0f}", allowed[1])
        )
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
