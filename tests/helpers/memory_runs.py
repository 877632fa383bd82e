"""Trainings of a memory on tiny models, that the tests share."""

from __future__ import annotations

from datasets import Dataset
from helpers import memories, tiny

from hf_unlearn import MemoryConfig, ReadyConfig, ReadyTrainer

SOURCES = 4
OPTIONS = {**tiny.QUIET, "readiness": "memory", "request_group": "author", "num_train_epochs": 2}
OPTIONS |= {"per_device_train_batch_size": 2, "learning_rate": 0.05, "logging_steps": 5}


def rows(n: int = 12, public: int = 4) -> Dataset:
    """n rows of [`SOURCES`] authors in turn, and public ones behind them."""
    found = tiny.lm_list(n + public)
    for i, row in enumerate(found):
        row["author"] = f"author {i % SOURCES}" if i < n else None
        del row["revocable"]
    return Dataset.from_list(found)


def config(**options) -> MemoryConfig:
    return MemoryConfig(**{"layers": [0, 1], **memories.SIZES, "gate_floor": 0.0, **options})


def trained(out, data=None, model=None, deleted=(), resume=None, memory=None, **options):
    """A trainer after its training; its model is saved."""
    trainer = ReadyTrainer(
        tiny.lm(layers=2) if model is None else model,
        ReadyConfig(str(out), **{**OPTIONS, **options}),
        rows() if data is None else data,
        processing_class=tiny.tokenizer(),
        peft_config=config() if memory is None and model is None else memory,
        deleted=deleted,
    )
    trainer.result = trainer.train(resume)
    trainer.save_model()
    return trainer


def tables(trainer) -> list[dict]:
    """The tensors of each table, in the order of the rows; the names of the sources depend on the folder's salt."""
    return [dict(trainer.store.tables.by_source[source].tensors()) for source in trainer.all_rows.sources]


def same(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(tiny.same_bits(a, b) for a, b in zip(one, other, strict=True))
