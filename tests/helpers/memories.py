"""Tiny models with a memory, and a table of theirs, that the tests share."""

from __future__ import annotations

import torch
from helpers import tiny

SIZES = {"entries": 64, "top_k": 4, "entries_per_source": 16, "view_size": 8, "gate_floor": 0.2}


def with_memory(model=None, **options):
    from peft import get_peft_model

    from hf_unlearn import MemoryConfig

    model = tiny.lm(layers=3) if model is None else model
    return get_peft_model(model, MemoryConfig(**{"layers": [1, 2], **SIZES, **options}))


def store(model):
    from hf_unlearn.readiness.memory.model import store_of

    return store_of(model)


def inputs_of(model, batch) -> list[torch.Tensor]:
    """Of each memory layer, its inputs (n, hidden) where there are tokens."""
    with store(model).record() as found, torch.no_grad():
        found.positions = tokens_of(batch)
        model(**batch)
    return [torch.cat(found.inputs[at]) for at in sorted(found.inputs)]


def tokens_of(batch) -> torch.Tensor:
    if "attention_mask" in batch:
        return batch["attention_mask"].bool()
    return torch.ones(len(batch["labels"]), 5, dtype=torch.bool)  # of an image, its patches and what stands for all


def begun(model, batch):
    """What `Store.begin` makes of a batch that is one source's rows."""
    tokens, labels = tokens_of(batch), batch["labels"]
    of_tokens = labels.dim() == 2
    asks = (labels == -100) if of_tokens else tokens
    answers = labels.roll(-1, 1) != -100 if of_tokens else tokens
    rows = torch.arange(len(labels)).unsqueeze(1).expand_as(tokens)
    return store(model).begin(inputs_of(model, batch), *(one[tokens] for one in (rows, asks, answers)))


def put(model, source: str, batch, seed: int = 0) -> None:
    """Gives a source a table of drawn values."""
    from hf_unlearn.readiness.memory.tables import Table

    working = begun(model, batch)
    draw = torch.Generator().manual_seed(seed)
    hidden = model.config.get_text_config().hidden_size
    values = [torch.randn(len(entries), hidden, generator=draw) for entries in working.entries]
    store(model).tables.put(source, Table(working.entries, values, working.inputs, working.floors))
