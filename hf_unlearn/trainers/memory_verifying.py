"""Is each table of a memory what its source's rows give? Fills them again and compares them, bit for bit."""

from __future__ import annotations

import dataclasses
import os
import tempfile

import torch
from transformers import PrinterCallback, TrainingArguments

from ..config import UnlearnConfig
from ..utils.checks import ArgumentError
from . import records, verdict
from .memory_deletion import MemoryDeletionTrainer
from .memory_request import MemoryAll, MemoryAsked, memory_of
from .memory_sources import read_rows
from .models import base_model
from .replaying import machine
from .verdict import FROM_THE_START, TOLERANCE, Verdict
from .weights_digest import weights_digest

SHARED = (
    "The memory of {} is one table for all its sources: what a deletion leaves is approximate, and no training gives "
    "its bits. Hold it against a model trained without the rows: `ReadyTrainer(…, deleted=ids)`, and `retrained` "
    "of an evaluation."
)


class VerifyingMemory(MemoryDeletionTrainer):
    """Fills all tables of a folder again, from rows that are theirs; saves nothing."""

    def __init__(self, model, args, rows, folder: str, salt_file: str | None = None, **kwargs):
        self._folder, self._salt_file = folder, salt_file
        super().__init__(model, args, [], rows, **kwargs)
        self.remove_callback(PrinterCallback)

    def _content_problems(self, rows, processing_class) -> list[str]:
        return []  # other rows give other tables: that is what it is to find

    def _look_up(self, model, args, asked) -> MemoryAsked:
        rows = read_rows(self._folder, self._salt_file)
        found = records.find_readiness(self._folder)
        return MemoryAll(self._folder, found, rows, [], rows.numbers_of([]))


def verify_memory(
    folder: str,
    rows,
    model=None,
    data_collator=None,
    processing_class=None,
    salt_file: str | None = None,
    args: TrainingArguments | None = None,
    callbacks=None,
    record: bool = False,
) -> Verdict:
    """
    Fills each table of a memory again, from the rows of its source alone, and compares it with the one in the folder.

    What the folder knows of public rows (views, idf, inputs) is taken as it is: it is of no source.

    Args:
        folder: of a model trained with `readiness="memory"`, or of a request's result.
        rows: all rows of its sources, in any order; others are passed over.
        model: what the memory lies beside (a model, or its folder or hub id); None: the one that the folder names.
        data_collator, processing_class, salt_file, args, callbacks, record: as of [`hf_unlearn.verify`].

    Raises:
        ArgumentError: if rows are missing, the salt is not at hand, the model below is another one, or one table is
            shared by all sources, whose deletions are approximate.
    """
    if records.find_readiness(folder)["memory"]["variant"] != "own":
        raise ArgumentError([SHARED.format(folder)])
    quiet = TrainingArguments(folder, report_to=[], disable_tqdm=True) if args is None else args
    names = {f.name for f in dataclasses.fields(UnlearnConfig)} & {f.name for f in dataclasses.fields(quiet)}
    shared = {name: getattr(quiet, name) for name in names if name in ("use_cpu", "report_to", "disable_tqdm")}
    with tempfile.TemporaryDirectory() as out:
        config = UnlearnConfig(out, **shared, logging_strategy="no")
        trainer = VerifyingMemory(
            folder if model is None else beside(model, folder),
            config,
            rows,
            folder,
            salt_file,
            data_collator=data_collator,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        there = dict(trainer.store.tables.by_source)
        trainer.train()
    differs, distance = _compared(there, trainer.store.tables.by_source)
    other = trainer.other_machine
    near = differs is not None and bool(other) and distance is not None and distance <= TOLERANCE
    passed = differs is None
    digest = weights_digest(trainer.accelerator.unwrap_model(trainer.model)) if passed else None
    found = Verdict(
        passed, FROM_THE_START, None if near else differs, other, distance if other else None, digest, None
    )
    if record and trainer.is_world_process_zero():
        verdict.record(found, folder, machine(trainer))
    return found


def beside(model, folder: str):
    """The model with the memory of a folder on it."""
    from peft import PeftModel

    from .loading import load_model

    model = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    attention = memory_of(folder)[1]["memory"]["machine"]["attention"]
    base_model(model).set_attn_implementation(attention)
    return PeftModel.from_pretrained(model, folder, is_trainable=True)


def _compared(there: dict, now: dict) -> tuple[str | None, float | None]:
    """(what differs first, in a sentence, largest difference as a share of the largest value); None: nothing."""
    first, share = None, 0.0
    for number, (source, table) in enumerate(there.items()):
        for (name, then), (_, again) in zip(table.tensors(), now[source].tensors(), strict=True):
            if torch.equal(then, again):
                continue
            first = first or f"`{name}` of table {number + 1} of {len(there)} is other than what its rows give."
            if then.shape != again.shape or name.startswith("entries"):
                return first, None
            gap = (then.float() - again.float()).abs().max() / then.float().abs().max().clamp_min(1e-12)
            share = max(share, float(gap))
    return first, share if first else None
