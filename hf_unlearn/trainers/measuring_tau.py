"""
Where τ, the forget set and the retain sample are measured: forward passes in eval mode, on all processes.

Differs from the paper: it measures τ only; the retain sample and its size are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.collate import check_labels
from ..data.row_digests import is_stored
from ..evaluation import evaluating
from ..objectives.base import Start
from ..unlearning import schedule
from ..unlearning.schedule import State

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

logger = logging.getLogger(__name__)

RETAIN_SAMPLE = 256  # retain rows measured for the budget, at least; as many as forget rows if these are more
PLACES_NAMED = 8  # places of broken rows that a warning names, at most


class Measurements:
    """The losses of a trainer's rows under its present model."""

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer
        n, n_forget = len(trainer.retain_dataset), len(trainer.forget_dataset)
        places = np.linspace(0, n - 1, min(n, max(RETAIN_SAMPLE, n_forget))).round().astype(int)
        rows = trainer.retain_dataset
        stored = hasattr(rows, "select") and is_stored(rows)  # others may be drawn when they are read: once, here
        if not stored:
            self.retain_sample = [rows[int(i)] for i in places]
        else:  # all of them as they are: a selection would be a copy
            self.retain_sample = rows if len(places) == n else rows.select(places)
        self._told_broken = False

    def row_losses(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """`(nll_sum (N,), n_labels (N,))` of the rows, float64, in order, the same on every process."""
        trainer, sums, counts = self.trainer, [], []
        with closing(self.batches(rows)) as batches:
            for batch in batches:
                pair = trainer.steps.nll(trainer.model, batch)
                nll, n = trainer.accelerator.gather_for_metrics((pair[0].double(), pair[1]))
                sums.append(nll.cpu().numpy())
                counts.append(n.cpu().numpy())
        return np.concatenate(sums), np.concatenate(counts)

    def batches(self, rows) -> Iterator[dict]:
        """
        The rows, batch by batch, for a forward of each in eval mode without gradients; `gather_for_metrics` brings the
        processes' parts together, in order. Close it (`contextlib.closing`): it holds these modes until its end.
        """
        trainer = self.trainer
        args, accelerator = trainer.args, trainer.accelerator
        given = args.per_device_eval_batch_size
        # Capped at the training batch size, so that a measurement needs no more memory than a step.
        args.per_device_eval_batch_size = min(given, args.per_device_train_batch_size)
        try:
            loader = trainer.get_test_dataloader(rows)
        finally:
            args.per_device_eval_batch_size = given
        trainer.count_rows(len(rows), 1 / 3 / accelerator.num_processes)
        with evaluating(trainer.model), torch.no_grad():
            for batch in loader:
                check_labels(batch, trainer.data_collator)
                batch = trainer._prepare_inputs(batch)
                with trainer.compute_loss_context_manager():
                    yield batch

    def mean_loss(self, rows) -> float:
        """Mean loss over all labels of the rows, nats."""
        sums, counts = self.row_losses(rows)
        return float(sums.sum() / counts.sum())

    def unseen_loss(self) -> float:
        """The mean loss of the unseen rows, nats: τ, where the target is "current"."""
        return self.mean_loss(self.trainer.unseen_dataset)

    def retain_loss(self) -> float:
        """The mean loss of the retain sample, nats."""
        return self.mean_loss(self.retain_sample)

    def budgets(self) -> dict[str, float]:
        """What has a budget, in nats: `retain_loss` and, where there are general texts, `general_loss`."""
        found = {"retain_loss": self.retain_loss()}
        if held := self.trainer.general.held:
            found["general_loss"] = self.mean_loss(held)
        return found

    def before_first_step(self) -> tuple[State, Start]:
        """Measures τ and the retain loss of the model as it came; also what the rows' targets are made from."""
        trainer, rule = self.trainer, self.trainer.rule
        unseen, counts = self.row_losses(trainer.unseen_dataset)
        tau, short_by = float(unseen.sum() / counts.sum()), trainer.objective.tolerance
        if rule.target != "chance" and not trainer.objective.meets_by_rows and np.isfinite(unseen).all():
            short_by = schedule.tolerance(unseen / counts, len(trainer.forget_dataset), tau)
        state = schedule.start(rule, tau, **self.budgets(), short_by=short_by)
        if rule.stop and not trainer.objective.meets_by_rows:
            state = self._set_out(state)
        return state, Start(
            n=len(trainer.forget_dataset),
            target=rule.target,
            tau=state.tau,
            unseen=unseen / counts,
            measure=lambda: np.divide(*self.row_losses(trainer.forget_dataset)),
            seed=trainer.train_dataset.seed,
        )

    def _set_out(self, state: State) -> State:
        """Where the forget rows stand before the first step; says so where their mean leaves nothing to forget."""
        trainer = self.trainer
        sums, counts = self.row_losses(trainer.forget_dataset)
        good = np.isfinite(sums)
        loss = float(sums[good].sum() / counts[good].sum()) if good.any() else float("nan")
        lacking = trainer.objective.shortfall_of_mean(loss, tau=state.tau, targets=[])
        if lacking <= state.tolerance:
            by_rows = '; `gap="ranked"` looks at each row' if trainer.objective.stops_at_target else ""
            logger.warning(
                "Before the first step the forget rows' loss is %.3g nats, and the target %.3g: by their mean there is "
                "nothing to forget. Rows that the model knows well may stand behind others that it does not%s.",
                loss, state.tau, by_rows
            )  # fmt: skip
        return schedule.set_out(state, lacking)

    def look(self) -> dict[str, float]:
        """`forget_loss` of the whole forget set and what [`budgets`] has, nats, and the `shortfall`."""
        trainer = self.trainer
        sums, counts = self.row_losses(trainer.forget_dataset)
        good = np.isfinite(sums)
        self._tell_broken(np.flatnonzero(~good))
        if not good.any():
            good[:] = True
        targets = np.array(trainer.targets)[good].tolist() if trainer.targets else []
        sums, counts = sums[good], counts[good]
        found = {"forget_loss": float(sums.sum() / counts.sum()), **self.budgets()}
        found["shortfall"] = trainer.objective.shortfall(
            found["forget_loss"], sums / counts, tau=trainer.request_state.tau, targets=targets
        )
        return found

    def _tell_broken(self, places: np.ndarray) -> None:
        if not len(places) or self._told_broken:
            return
        self._told_broken = True
        named = ", ".join(map(str, places[:PLACES_NAMED])) + (", …" if len(places) > PLACES_NAMED else "")
        logger.warning(
            "%d forget row(s) have a loss that is not finite and are left out of the looks; every step that holds "
            "one is skipped. Their places in the forget set: %s.", len(places), named
        )  # fmt: skip
