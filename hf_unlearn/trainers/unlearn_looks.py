"""
What is done between the steps of a request: τ, looks and snapshots; decided by [`hf_unlearn.unlearning`].

Differs from the paper: it measures τ only; looks, snapshots and the way back from beyond τ are ours.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..report.words.ending import told
from ..unlearning import look, schedule, stop_rule
from ..unlearning.ending import Ending, ending
from ..unlearning.momenta import clear_momenta
from ..unlearning.snapshots import Snapshots
from ..unlearning.step import HingeGate
from .engines import total
from .row_gradients import edit_weights

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

logger = logging.getLogger(__name__)

JUDGED = ("shortfall", "retain_loss", "recovered_loss", "general_loss")  # what the stop rule reads of a look


class UnlearnLooks:
    """
    Carries out, after each step of an [`UnlearnTrainer`], what schedule and stop rule decide.

    Args:
        every: steps between two decisions about a look.

    Attributes:
        restored_step: of weights that were put back; None: none were.
        moved_at: the first step after which a weight differs from the first ones; None: all are as they came, as with
            a learning rate of 0.
        latest: step of the present weights and what a look found of them; None: they were not looked at.
    """

    def __init__(self, trainer: UnlearnTrainer, every: int):
        self.trainer, self.every = trainer, every
        self.snapshots: Snapshots | None = None
        self.restored_step: int | None = None
        self.moved_at: int | None = None
        self.latest: tuple[int, dict[str, float]] | None = None

    def reset(self) -> None:
        """The present weights are the first snapshot."""
        self.restored_step = self.moved_at = self.latest = None
        self.snapshots = Snapshots(lambda: self.trainer.trainable, self.trainer.state.global_step)

    def after_step(self) -> bool:
        """Moves the objective and the request's state on; True ends the run."""
        trainer, step = self.trainer, self.trainer.state.global_step
        if self.moved_at is None and self._moved():  # a snapshot is one of the first weights up to here
            self.moved_at = step
        if trainer.objective.moving:
            trainer.objective = trainer.objective.after_step(*trainer.steps.window[-1][:2])
        last = step >= trainer.state.max_steps or trainer.forget_pass >= trainer.rule.passes
        measured = self._tau(step)
        if last or step % self.every == 0:
            measured |= self._look(step, last)
        found = {k: measured.get(k) for k in JUDGED}
        state = stop_rule.update(trainer.rule, trainer.request_state, forget_pass=trainer.forget_pass, **found)
        if lines := {f"look_{k}" if k != "unseen_loss" else k: v for k, v in measured.items()}:
            trainer.log({**lines, "tau": state.tau})
        if state.stop_reason is None and last:
            losses = {k: found[k] for k in ("retain_loss", "general_loss")}
            state = stop_rule.end(trainer.rule, state, **losses)
        trainer.request_state = state
        if stop_rule.ends_where_reached(trainer.rule, state) and self.snapshots.reached is not None:
            self._restore_reached()
        elif state.stop_reason in stop_rule.SPENT:
            self._restore_good()
        return state.stop_reason is not None

    def edit(self) -> None:
        """The whole request of an objective that edits the weights: the edit counts as one step, then comes a look."""
        trainer = self.trainer
        most = edit_weights(trainer)
        trainer.state.global_step = 1
        self.moved_at = 1 if self._moved() else None
        if self.moved_at is None:
            sizes = len(trainer.forget_dataset), len(trainer.forget_dataset) + len(trainer.retain_dataset)
            logger.warning(
                "No weight has moved: the model is as it came, and nothing is forgotten. %s",
                trainer.objective.idle_edit(most, *sizes),
            )
        self.latest = 1, trainer.measurements.look()
        found = {k: self.latest[1].get(k) for k in ("shortfall", "retain_loss", "general_loss")}
        for _ in range(stop_rule.PATIENCE):  # no other look follows that could say something else
            state = stop_rule.update(trainer.rule, trainer.request_state, forget_pass=trainer.rule.passes, **found)
            trainer.request_state = replace(state, stop_reason=None)
        trainer.request_state = state
        if state.stop_reason in stop_rule.SPENT:
            self._restore_good()

    def _moved(self) -> bool:
        """Whether the step has moved a weight; the same on every process, whose shards are its own."""
        accelerator = self.trainer.accelerator
        differ = torch.tensor(float(self.snapshots.differ_from_good()), device=accelerator.device)
        return bool(total(accelerator, differ) > 0)

    def _tau(self, step: int) -> dict[str, float]:
        """Measures τ again where it is due."""
        trainer = self.trainer
        steps_of_a_pass = max(1, math.ceil(len(trainer.forget_dataset) / trainer.step_rows))
        every = int(trainer.args.unseen_every)
        if not schedule.measures_tau(trainer.rule, step, every=every, steps_of_a_pass=steps_of_a_pass):
            return {}
        loss = trainer.measurements.unseen_loss()
        trainer.request_state = schedule.retarget(trainer.rule, trainer.request_state, loss)
        return {"unseen_loss": loss}

    def _look(self, step: int, last: bool) -> dict[str, float]:
        """Keeps a snapshot, and measures the whole forget set and the retain sample, where the batches call for it."""
        trainer, snapshots = self.trainer, self.snapshots
        forget, retain, recovered = trainer.steps.means_since_look()
        if not trainer.rule.stop:
            return {}
        lacking = trainer.objective.shortfall_of_mean(forget, tau=trainer.request_state.tau, targets=trainer.targets)
        plan = look.plan_look(
            trainer.rule,
            trainer.request_state,
            shortfall=lacking,
            retain_loss=retain,
            recovered_loss=recovered,
            forget_pass=trainer.forget_pass,
            last=last,
        )
        if plan.kept:
            snapshots.accept_candidate(plan.short)
        snapshots.candidate = snapshots.now(step) if plan.snapshot else None
        if not (plan.measure or math.isnan(forget) or math.isnan(retain)):
            return {}
        found = trainer.measurements.look()
        resisting = trainer.steps.resisting
        if look.goes_back(
            found["shortfall"] + trainer.request_state.ahead,
            tolerance=trainer.request_state.tolerance,
            has_targets=bool(trainer.targets),
            lifted=resisting and trainer.objective.stops_at_target,
            steps=step - snapshots.short_of_target[0],
            every=self.every,
            holds=trainer.rule.holds,
            kept=self._within(found),
        ):
            found = self._go_back()
            recovered = math.nan  # of other weights
        if resisting:
            found["recovered_loss"] = recovered
        short = found["shortfall"] > trainer.request_state.tolerance
        if short:
            trainer.steps.gate = HingeGate()  # it is open, whatever the last forget rows of a step said
        self.latest = step, found
        if self._within(found):
            snapshots.accept_now(step, short)
        judged = {k: found.get(k) for k in JUDGED}
        there = stop_rule.at_target(trainer.rule, trainer.request_state, **judged)
        if there and stop_rule.keeps_reached(trainer.rule):
            snapshots.reached = snapshots.good
        return found

    def _within(self, found: dict[str, float]) -> bool:
        """Whether a look's losses are within the budgets."""
        trainer = self.trainer
        losses = found["retain_loss"], found.get("general_loss")
        return stop_rule.within(trainer.rule, trainer.request_state, *losses)

    def _go_back(self) -> dict[str, float]:
        """
        From beyond τ, or from further beyond it than where the rows began; the optimizer's momenta, which would drive
        them out again, are cleared.
        """
        trainer, state = self.trainer, self.trainer.request_state
        found = self.snapshots.go_back(trainer.measurements.look, state.tolerance, state.ahead)
        trainer.steps.gate = HingeGate()
        clear_momenta(trainer.optimizer.state)
        return found

    def at_the_end(self) -> Ending:
        """What the weights that are left know, measured unless the last look was of them."""
        trainer = self.trainer
        seen = self.latest is not None and self.latest[0] == trainer.state.global_step and self.restored_step is None
        found = self.latest[1] if seen else trainer.measurements.look()
        return ending(trainer.rule, trainer.request_state, found, trainer.objective.meets_by_rows)

    def _restore_reached(self) -> None:
        trainer = self.trainer
        trainer.request_state = replace(trainer.request_state, stop_reason=stop_rule.REACHED)
        if self.snapshots.reached[0] == trainer.state.global_step:
            return
        self.restored_step = self.snapshots.restore_reached()
        logger.warning(
            "The run had reached its target, and lost it afterwards; the weights of step %d, which were at the target "
            "and within the budgets, were put back.", self.restored_step
        )  # fmt: skip

    def told(self) -> str:
        """How the run has ended, after its end, and what to do."""
        trainer = self.trainer
        own = {"strength": trainer.objective.strength, "has_gap": trainer.objective.stops_at_target}
        return told(trainer.ending.to_dict(), trainer.stop_reason, **own)

    def warn_at_the_end(self) -> None:
        """Of weights that have not moved, that still know the rows, or by which the rows stand out as deleted."""
        trainer = self.trainer
        if self.moved_at is not None:
            if not trainer.ending.forgotten or trainer.ending.beyond:
                logger.warning("%s", self.told())
        elif not trainer.objective.edits:  # else the edit has told
            logger.warning(
                "No weight has moved (steps: %d, skipped: %d, `learning_rate` %g): the model is as it came, and "
                "nothing is forgotten.", trainer.state.global_step, trainer.skipped_steps, trainer.args.learning_rate
            )  # fmt: skip

    def _restore_good(self) -> None:
        measured = self.trainer.measurements
        self.restored_step = self.snapshots.restore_good(lambda: self._within(measured.budgets()))
        name = "general" if self.trainer.request_state.stop_reason == stop_rule.GENERAL else "retain"
        if self.restored_step:
            logger.warning("The %s budget was spent; the weights of step %d were put back.", name, self.restored_step)
        else:
            _, milder = self.trainer.objective.strength or ("", "Lower `learning_rate`")
            logger.warning(
                "The %s budget was spent; the weights from before the request were put back, and nothing is "
                "forgotten. %s, or raise `%s_budget`.", name, milder, name
            )  # fmt: skip
