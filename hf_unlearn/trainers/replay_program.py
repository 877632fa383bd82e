"""
A training that can be replayed, at the hooks of the Trainer: its rows, its generators, its snapshots.

What comes when is decided in `data/replay_order.py` and `readiness/replay.py`. Here the steps are run so that the same
program without some rows is well defined: before each step all generators are seeded from (seed, step, process), so
neither a row less nor an evaluation more changes what is drawn later; a micro-batch whose rows are all deleted is one
row that counts nothing; a step without rows leaves weights and optimizer as they are.
"""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.replay_order import ReplayOrder
from ..data.replay_schedule import EpochOfSchedule, ReplaySchedule
from ..objectives.row_nll import IGNORE_INDEX
from . import checkpointing

if TYPE_CHECKING:
    from .ready import ReadyTrainer

FOLDER = "_snapshots"  # in the output folder; `push_to_hub` leaves out what begins with an underscore


def seed_all(*key: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch, those of every device, from some whole numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # where it would put the call stack into words for each kind of device that is not there
        torch.default_generator.manual_seed(seed)


class ReplayProgram:
    """
    Args:
        order: which row number comes when.
        at: (N,) place in the training set of each row number; -1: deleted.
        folder: where the snapshots are, as folders `checkpoint-STEP`.
    """

    def __init__(self, trainer: ReadyTrainer, order: ReplayOrder, at: np.ndarray, folder: str):
        self.trainer, self.order, self.folder = trainer, order, folder
        args = trainer.args
        parts = args.gradient_accumulation_steps * args.world_size
        seeded = partial(seed_all, args.seed)
        self.schedule = ReplaySchedule(trainer.train_dataset, order, at, parts, trainer.revocable, seeded)
        self.elsewhere: set[int] = set()  # borders whose snapshot is not to be in the folder, such as those on the hub
        self.is_empty = False  # whether the present step has no rows

    def __repr__(self) -> str:
        return f"ReplayProgram({self.order.steps} steps, snapshots before {self.borders})"

    @property
    def borders(self) -> list[int]:
        """Steps before which a snapshot stands."""
        return sorted({int(border) for border in self.order.borders if border < self.order.steps})

    def snapshot(self, border: int) -> str:
        """Folder of the snapshot before a step."""
        return os.path.join(self.folder, f"checkpoint-{border}")

    def clear(self) -> None:
        """Deletes what an earlier training has left in the folder."""
        for folder in checkpointing.folders(self.folder).values():
            checkpointing.remove(folder)

    def loader(self):
        trainer = self.trainer
        return trainer._get_dataloader(
            dataset=self.schedule,
            description="Training",
            batch_size=1,
            sampler_fn=lambda schedule: EpochOfSchedule(schedule, lambda: int((trainer.state.epoch or 0) + 1e-6)),
            is_training=True,
        )

    def before_step(self) -> None:
        if (step := self.trainer.state.global_step) in self.borders:
            self.trainer.at_border(step)

    def take(self, batches: list[dict]) -> None:
        """Takes the labels of the micro-batches that count nothing."""
        world, rank = self.trainer.accelerator.num_processes, self.trainer.accelerator.process_index
        rows = [len(numbers) for numbers in self.schedule.numbers(self.trainer.state.global_step)]
        self.is_empty = sum(rows) == 0
        for k, batch in enumerate(batches):
            if not rows[k * world + rank]:
                batch["labels"] = torch.full_like(batch["labels"], IGNORE_INDEX)
        self.seed_step()  # what is drawn beside the batch, too

    def seed_step(self) -> None:
        """Seeds all generators for the step that begins."""
        trainer = self.trainer
        seed_all(trainer.args.seed, trainer.state.global_step, trainer.accelerator.process_index)

    @property
    def missing(self) -> list[int]:
        """Borders whose snapshot is not whole."""
        here = [border for border in self.borders if border not in self.elsewhere]
        return [border for border in here if checkpointing.problem(self.snapshot(border)) is not None]
