"""The pass over general rows that stands before the ordinary passes of a request's step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..config import micro_batch_rows
from ..data.batch import count_labels
from ..evaluation import evaluating
from ..objectives.row_nll import IGNORE_INDEX, behind_prompts, labels_by_position
from ..unlearning import general
from .engines import decided_by_first, total
from .general_texts import SAID_FILE, stored
from .passes import RowsPass, dealt_out

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

PLACES = "general_places"  # in a batch: which of the general rows each row is


class GeneralTerm:
    """
    Keeps what the model says at the labels of the general rows.

    Attributes:
        said: `(words, log-probabilities)` of each row's labels before the first step, (labels, k) each, on the CPU.
    """

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer
        self.said: list[tuple[Tensor, Tensor]] = []

    def listen(self, resumed: bool) -> None:
        """
        What the model before the request says: the present one, by forward passes, or that of the run `resumed`.

        Raises:
            ArgumentError: if what the latter said is gone.
        """
        trainer = self.trainer
        if resumed:
            self.said = decided_by_first(lambda: _saved(stored(trainer.args.output_dir, SAID_FILE)))
            return
        self.said = self._now()
        if trainer.args.should_save:
            path = Path(trainer.args.output_dir, SAID_FILE)
            words, logs = (torch.cat(parts).numpy() for parts in zip(*self.said, strict=True))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, words=words, logs=logs, labels=np.array([len(one) for one, _ in self.said]))

    def _now(self) -> list[tuple[Tensor, Tensor]]:
        trainer, said = self.trainer, []
        size, rows = micro_batch_rows(trainer.args), len(trainer.general.learnt)
        trainer.count_rows(rows, 1 / 3)
        with evaluating(trainer.model), torch.no_grad():
            for start in range(0, rows, size):
                batch = trainer._prepare_inputs(self._batch(range(start, min(start + size, rows))))
                with trainer.compute_loss_context_manager():
                    logits, labels = self._logits(trainer.model, batch)
                for i in range(len(labels)):
                    words, logs = general.top_of(_labelled(logits[i : i + 1], labels[i : i + 1]))
                    said.append((words.int().cpu(), logs.cpu()))
        return said

    @property
    def rows_each_step(self) -> int:
        """General rows of a step, on all processes."""
        return min(len(self.trainer.general.learnt), max(1, round(general.SHARE * self.trainer.step_rows)))

    def add_gradient(self, model) -> Tensor:
        """
        `.grad` += (1 - α)·∇KL, with KL the mean over the labels of the step's general rows: they weigh as much as the
        retain rows. Returns (1 - α)·KL, detached, ().
        """
        trainer, accelerator = self.trainer, self.trainer.accelerator
        numbers = general.rows_of_step(trainer.state.global_step, self.rows_each_step, len(trainer.general.learnt))
        parts = dealt_out(numbers, accelerator.process_index, accelerator.num_processes, micro_batch_rows(trainer.args))
        batches = [(self._batch(some), counts) for some, counts in parts]
        labels = sum(int(count_labels(batch["labels"])) for batch, counts in batches if counts)
        items = float(total(accelerator, torch.tensor(float(labels), device=trainer.args.device)))
        passed = RowsPass(trainer, model, batches, items, sum_of=self._sum)
        weight = 1 - trainer.alpha
        divergence = passed.add_gradient(weight)
        trainer.track(general_kl=divergence)
        return weight * divergence

    def _batch(self, numbers) -> dict:
        batch = dict(self.trainer.data_collator([self.trainer.general.learnt[i] for i in numbers]))
        return {**batch, PLACES: torch.tensor(list(numbers))}

    def _sum(self, model, batch: dict) -> Tensor:
        """KL(q ‖ p), summed over the labels of the rows, ()."""
        logits, labels = self._logits(model, batch)
        said = [self.said[i] for i in batch[PLACES].tolist()]
        words, logs = (torch.cat(parts).to(logits.device) for parts in zip(*said, strict=True))
        return general.divergence(_labelled(logits, labels), words.long(), logs).sum()

    def _logits(self, model, batch: dict) -> tuple[Tensor, Tensor]:
        """Logits and labels by position: of a language model (B, T, V) and (B, T), else (B, C) and (B,)."""
        rows = {name: value for name, value in batch.items() if name not in (PLACES, "labels")}
        logits = behind_prompts(model(**rows).logits, batch["labels"])
        return logits, labels_by_position(logits, batch["labels"])


def _saved(path: Path) -> list[tuple[Tensor, Tensor]]:
    with np.load(path) as saved:
        parts = [torch.from_numpy(saved[name]).split(saved["labels"].tolist()) for name in ("words", "logs")]
    return list(zip(*parts, strict=True))


def _labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits (n, V) where there is a label."""
    return logits[labels.ne(IGNORE_INDEX)]
