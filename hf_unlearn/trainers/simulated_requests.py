"""Simulated requests of the training: on which step one is made, and which rows play it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..config import micro_batch_rows
from ..data.columns import FLAG
from ..data.order import draw_groups, draw_request
from ..readiness.step_rows import ReadyStep
from .engines import total
from .passes import dealt_out
from .request_pace import RequestPace

if TYPE_CHECKING:
    from .ready import ReadyTrainer

SKIPPED = "skipped_with_readiness_terms"  # in a record's steps, where there are any


class SimulatedRequests:
    """
    Says of each optimizer step which rows play the request and which the recovery data ("proxy").

    Args:
        flags: (N,) of the training set's rows, True for the revocable ones; None: any row may be asked for.
        codes: group (N,) of each row, 0 … G - 1, where requests are for whole groups; None: they are for rows.
    """

    def __init__(self, trainer: ReadyTrainer, flags: np.ndarray | None, codes: np.ndarray | None):
        self.trainer, self.flags, self.codes = trainer, flags, codes
        self.in_replay = None if trainer.plan is None else trainer.plan.requests  # which rows on which step, planned
        self.pace = RequestPace(trainer)
        self.steps_with_revocable_rows = 0
        self.steps_with_readiness_terms = 0
        self.skipped_with_readiness_terms = 0  # of these, with NaN or inf or a learning rate of 0: they moved no weight

    def __repr__(self) -> str:
        return f"SimulatedRequests(drawn={self.drawn}, {self.to_dict()})"

    def to_dict(self) -> dict:
        skipped = self.skipped_with_readiness_terms
        return {
            "with_revocable_rows": self.steps_with_revocable_rows,
            "with_readiness_terms": self.steps_with_readiness_terms,
            **({SKIPPED: skipped} if skipped else {}),
        }

    def resume(self, steps: dict) -> None:
        """Goes on from the counts of a record."""
        self.steps_with_revocable_rows = steps["with_revocable_rows"]
        self.steps_with_readiness_terms = steps["with_readiness_terms"]
        self.skipped_with_readiness_terms = steps.get(SKIPPED, 0)

    @property
    def drawn(self) -> bool:
        """Whether requests are drawn beside the batch; without names and groups a part of the batch plays them."""
        return bool(self.trainer.args.request_rows) and (self.flags is not None or self.codes is not None)

    def prepare(self, batches: list[dict]) -> ReadyStep:
        """The step over these micro-batches; `active` where it is its turn and it has the rows it needs."""
        trainer, args, step = self.trainer, self.trainer.args, ReadyStep(batches)
        if not (args.readiness_is_on and batches and self._have_begun):
            return step
        turn_has_come = self._turn_has_come
        if not turn_has_come and (self.drawn or args.is_paced):
            self.steps_with_revocable_rows += self.drawn
            return step
        with_proxy = trainer.terms.lambda_resistance > 0
        numbers = self._draw(step, with_proxy) if self.drawn else None
        step.divide(
            share=args.revocable_share if self.flags is None and self.codes is None else None,
            used=args.meta_rows,
            with_proxy=with_proxy,
            world=trainer.accelerator.num_processes,
            rank=trainer.accelerator.process_index,
            reduce=self.sum,
            drawn=self.drawn,
        )
        step.count(self.sum, trainer.hidden_size)
        if numbers is not None:
            cut = math.ceil(len(numbers) / 2) if with_proxy else len(numbers)
            step.draw("request", self._parts_of(numbers[:cut]), self.sum)
            step.draw("proxy", self._parts_of(numbers[cut:]), self.sum)
        if step.items["request"] > 0 and step.items["kept"] > 0:
            step.active = turn_has_come
            self.steps_with_revocable_rows += 1
        return step

    @property
    def _have_begun(self) -> bool:
        step, args = self.trainer.state.global_step, self.trainer.args
        if self.in_replay is not None:
            return step >= self.in_replay.first
        if args.is_paced:
            return self.pace.state.began is not None
        return step >= args.planned_start * self.trainer.state.max_steps

    @property
    def _turn_has_come(self) -> bool:
        if self.in_replay is not None:
            return self.in_replay.has_turn(self.trainer.state.global_step)
        if self.trainer.args.is_paced:
            return self.pace.is_due()
        return self.steps_with_revocable_rows % int(self.trainer.args.meta_every) == 0

    def sum(self, counts: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        return total(self.trainer.accelerator, counts.to(self.trainer.args.device))

    def _draw(self, step: ReadyStep, with_proxy: bool) -> np.ndarray:
        """
        Numbers of the rows that play request and proxy: places in the training set, in a program those of its order.
        Rows of the step that share their groups are flagged.
        """
        args, turn = self.trainer.args, self.steps_with_readiness_terms
        if self.in_replay is not None:
            return self.in_replay.numbers(self.trainer.state.global_step)
        k = int(args.request_rows) * (2 if with_proxy else 1)
        if self.codes is None:
            return draw_request(np.flatnonzero(self.flags), k, args.seed, turn)
        places, chosen = draw_groups(self.codes, k, args.seed, turn)
        for batch in step.batches:
            batch[FLAG] = torch.isin(batch[FLAG], torch.as_tensor(chosen, device=batch[FLAG].device))
        return places

    def _parts_of(self, numbers: np.ndarray) -> list[tuple[dict, bool]]:
        """
        Those of these rows that are there, dealt out to the processes, in batches of the usual size: as many passes on
        every process, with a row that counts nothing where there is none left.
        """
        trainer = self.trainer
        if self.in_replay is not None:
            numbers = numbers[trainer.program.schedule.at[numbers] >= 0]
        world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
        parts = []
        for some, counts in dealt_out(numbers, rank, world, micro_batch_rows(trainer.args)):
            rows = trainer.data_collator(self._read(some))
            parts.append(({k: v for k, v in rows.items() if k != FLAG}, counts))
        return parts

    def _read(self, numbers: np.ndarray) -> list[dict]:
        if self.in_replay is not None:
            return self.trainer.program.schedule.read(self.trainer.state.global_step, numbers)
        return [self.trainer.train_dataset[int(i)] for i in numbers]
