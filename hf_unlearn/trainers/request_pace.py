"""Carries out [`hf_unlearn.readiness.pacing`] in a training: hands it losses and gains, and says what it decides."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TYPE_CHECKING

import torch

from ..config import step_rows
from ..readiness import pacing
from ..readiness.replay_cost import passes_of_request
from ..readiness.terms import Terms
from .engines import total
from .models import chance_loss

if TYPE_CHECKING:
    from .ready import ReadyTrainer

logger = logging.getLogger(__name__)


class RequestPace:
    """
    When simulated requests come, where the loss says so (`meta_start="auto"`).

    Attributes:
        state: of the step that comes next; the same on all processes.
    """

    def __init__(self, trainer: ReadyTrainer):
        self.trainer = trainer
        self.restart()

    def __repr__(self) -> str:
        return f"RequestPace(is_on={self.is_on}, {self.state})"

    @property
    def is_on(self) -> bool:
        return self.trainer.args.is_paced

    def restart(self) -> None:
        """For a training from its first step."""
        self.state, self._loss, self._rule = pacing.Pace(), torch.zeros(()), None

    def to_record(self) -> dict:
        """What a record of the training holds of it, JSON-ready."""
        if not self.is_on:
            return {}
        return {"meta_budget": self.trainer.args.meta_budget, "pace": self.state.to_dict()}

    def resume(self, found: dict | None) -> None:
        """Goes on from what a record holds."""
        self.restart()
        if found:
            self.state = pacing.Pace.from_dict(found)

    @property
    def rule(self) -> pacing.Rule:
        if self._rule is None:
            trainer, args = self.trainer, self.trainer.args
            self._rule = pacing.Rule(
                steps=trainer.state.max_steps,
                warmup=args.get_warmup_steps(trainer.state.max_steps),
                chance=chance_loss(trainer.model),
                budget=args.meta_budget,
                turn_cost=self._turn_cost,
                every=int(args.meta_every),
            )
        return self._rule

    @property
    def _turn_cost(self) -> float:
        """
        Row passes that a request adds to its step, as a share of the step's: as if its rows came in several
        micro-batches, which is the dearest, so that neither cut nor number of processes changes the pace.
        """
        trainer, args, rows = self.trainer, self.trainer.args, step_rows(self.trainer.args)
        flags, drawn = trainer.simulated.flags, trainer.simulated.drawn
        named = args.revocable_share if flags is None else float(flags.mean())
        request = named * rows
        if drawn:
            most = math.inf if flags is None else int(flags.sum())
            request = min(most, args.request_rows * (2 if args.resistance_weight else 1))
        own = request / 2 if args.resistance_weight else request
        kept = min(args.meta_rows, 1 - named) * rows
        passes = passes_of_request(args, [own / 2] * 2, [request - own or kept], [kept])
        return (passes - (0 if drawn else own)) / rows

    def is_due(self) -> bool:
        """Whether the step that comes next simulates a request, if it has the rows."""
        return pacing.is_due(self.rule, self.state)

    @property
    def terms(self) -> Terms:
        """Of the request that comes next."""
        terms = self.trainer.terms
        if not self.is_on:
            return terms
        weight = pacing.weight(self.rule, self.state)
        return dataclasses.replace(terms, lambda_efficiency=weight * terms.lambda_efficiency)

    def took_turn(self, gain: torch.Tensor | None) -> None:
        """After a request's passes; `gain` (), the same on all processes."""
        if self.is_on:
            self.state = pacing.took_turn(self.rule, self.state, None if gain is None else float(gain))

    def saw_loss(self, loss: torch.Tensor, is_last: bool) -> None:
        """After each micro-batch, with what it adds to the logged loss of its process, (); `is_last` of its step."""
        if not self.is_on:
            return
        self._loss = loss.detach().float() + self._loss.to(loss.device)
        if is_last:
            accelerator, before = self.trainer.accelerator, self.state
            mean = float(total(accelerator, self._loss)) / accelerator.num_processes
            self._loss = torch.zeros(())
            self.state = pacing.saw_loss(self.rule, before, mean)
            self._tell(before)

    def _tell(self, before: pacing.Pace) -> None:
        pace, last = self.state, self.state.means[-1] if self.state.means else 0.0
        if pace.began is not None and before.began is None:
            logger.info(
                "From step %d on requests are simulated, at most %d: the loss was %.3g at first and is %.3g.",
                pace.began, self.rule.turns, pace.means[0], last,
            )  # fmt: skip
        elif pace.backed_off > before.backed_off:
            self._warn(
                "Step %d: the loss is %.3g, and was %.3g at its lowest since requests are simulated. They pause until "
                "it is back, and then come half as often.", pace.step, last, before.lowest
            )  # fmt: skip

    def tell_at_the_end(self) -> None:
        """A warning where the requests have not brought what they cost."""
        pace, cap = self.state, self.trainer.terms.efficiency_cap
        if self.is_on and self.trainer.terms.efficiency == "gain" and not pacing.gain_came(pace, cap):
            self._warn(
                "Simulated requests raised the loss of their rows by %.2g nats at the end, and by %.2g at first; %.2g "
                "were looked for (`gain_cap`). Expect a request to take about as many steps as on a plainly trained "
                "model. Raise `inner_lr` or `meta_budget`, or train with `readiness=\"replay\"`, whose requests are "
                "exact.", pace.gain, pace.gain_first, cap
            )  # fmt: skip

    def why_not_ready(self) -> str:
        """Why no request was simulated."""
        pace, rule = self.state, self.rule
        if not rule.turns:
            return (
                f"`meta_budget` {rule.budget:g} of {rule.steps} steps pays for no request, each of which adds "
                f"{rule.turn_cost:.2g} of a step. Raise it, or lower `request_rows` and `meta_rows`"
            )
        if pace.began is None:
            first, last = (pace.means or (math.nan,) * 2)[0], (pace.means or (math.nan,))[-1]
            return (
                f"The loss, {first:.3g} at first, is {last:.3g} and was still falling, or had not begun to; requests "
                "are not simulated before the model has learned. Train longer, or set `meta_start` to a share"
            )
        return "Of the steps with readiness terms none has moved these weights"

    def _warn(self, *said) -> None:
        logger.log(logging.WARNING if self.trainer.is_world_process_zero() else logging.DEBUG, *said)
