"""
How the passes of a request's step run: a simulated recovery first (if any), then general rows (if any), then its forget
and its retain rows.

The objective is not linear in the mean forget loss, so its derivatives must be taken at the means of the whole step
([`hf_unlearn.objectives.surrogate`]), not at those of a micro-batch. With accumulation the forget rows of all
micro-batches therefore come first; their gradient is scaled once the mean loss of all is known; the retain rows follow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch

from ..config import micro_batch_rows
from ..data.batch import count_labels, count_later_labels, count_positions, forward_together, select_rows
from ..data.columns import ALTERNATES, FLAG, FORGET_INDEX, RETAIN_INDEX
from ..objectives.base import FORGET, NEEDS, RETAIN, RowOutputs
from ..objectives.row_nll import behind_prompts, per_row_nll, row_outputs
from ..objectives.surrogate import is_linear, slopes
from ..readiness.moving_weights import add_gradients_, scale_gradients_, take_gradients
from ..readiness.recovery import recovery_gradient
from ..unlearning.step import FORGET_ONLY, IN_TURN, RETAIN_ONLY, TOGETHER, HingeGate, Recovery, UnlearnStep
from .engines import gradients_at_hand, shard_sum, steps_in_backward, total
from .forwards import hidden_of, labels_of, layers_of, logits_of
from .passes import RowsPass

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer


class UnlearnSteps:
    """
    The steps of an [`UnlearnTrainer`], one after the other.

    Attributes:
        gate, recovery_gate: the hinge gates of the forget rows and of the simulated recovery.
        window: mean losses of each step since the last look: forget, retain and, with `resistance`, after recovery.
    """

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer
        self.step: UnlearnStep | None = None
        self.linear = is_linear(trainer.objective)  # whatever moves in it
        self.layer, self.depth = None, 1.0  # the layer at which forwards stop, and how much of the stack that is
        if trainer.objective.needs == "hidden_states":
            _, layers = layers_of(trainer.model)
            place = trainer.objective.hidden_layer(len(layers))
            self.layer, self.depth = layers[place], (place + 1) / len(layers)
            vars(trainer.args)["ddp_find_unused_parameters"] = True  # what lies behind the layer gets no gradient
        self.reset()

    def reset(self) -> None:
        """Forgets what earlier steps have found."""
        self.window: list[torch.Tensor] = []
        self.gate, self.recovery_gate = HingeGate(), HingeGate()

    @property
    def resisting(self) -> bool:
        return self.trainer.args.resistance != "none"

    @property
    def is_closed(self) -> bool:
        """Whether forget rows have no gradient, by the last look at them and the current τ."""
        return self.gate.is_closed(self.slope_at)

    def slope_at(self, forget_loss: torch.Tensor) -> torch.Tensor:
        """The objective's derivative () at a mean forget loss ()."""
        trainer, zero = self.trainer, torch.zeros_like(forget_loss)
        return slopes(trainer.objective, forget_loss, zero, alpha=trainer.alpha, tau=trainer.request_state.tau)[0]

    def _total(self, value: torch.Tensor) -> torch.Tensor:
        return total(self.trainer.accelerator, value)

    # ---- what a step holds, and what is done with it ----

    def take(self, batches: list[dict], device: torch.device) -> torch.Tensor:
        """Begins a step with these micro-batches; returns its number of labels on all processes, ()."""
        trainer = self.trainer
        counts = torch.zeros(7, dtype=torch.float64)
        for batch in batches:
            forget = batch[FLAG]
            counts[0] += count_labels(batch["labels"][forget]).cpu()
            counts[1] += count_labels(batch["labels"][~forget]).cpu()
            counts[2] += forget.sum().cpu()
            counts[3] += (~forget).sum().cpu()
            counts[4] += count_later_labels(batch["labels"][forget]).cpu()
            counts[5] += count_later_labels(batch["labels"][~forget]).cpu()
            counts[6] += count_positions(batch, trainer.hidden_size)
        counts = self._total(counts.float().to(device))
        positions = float(counts[6]) / max(1, len(batches) * trainer.accelerator.num_processes)
        self.step = UnlearnStep(batches, *counts[:6], positions)
        return counts[0] + counts[1]

    def begin_micro_batch(self, model, inputs: dict) -> dict:
        """
        The rows of a micro-batch that are left for the Trainer's own pass. Before the first of a step: the simulated
        recovery, the general rows, and the forget rows of all its micro-batches where these come first.
        """
        step, self._asked = self.step, False
        if self.trainer.place == 0:
            if self.resisting:
                self.resist(model, step)
            if self.trainer.general:
                step.general_term = self.trainer.general_term.add_gradient(model)
            step.plan = self._plan(step)
            if step.plan == RETAIN_ONLY:
                self.gate.unlooked += 1
            elif step.plan == IN_TURN:
                self._forget_first(model, step)
        if step.plan != TOGETHER:
            kept = inputs[FLAG] if step.plan == FORGET_ONLY else ~inputs[FLAG]
            own = {name: inputs[name][kept] for name in (FLAG, FORGET_INDEX, RETAIN_INDEX) if name in inputs}
            if step.plan == FORGET_ONLY and ALTERNATES in inputs:
                own[ALTERNATES] = inputs[ALTERNATES]
            inputs = {**select_rows(inputs, kept), **own}
        self.trainer.count_rows(_rows_in(inputs), self.depth)
        return inputs

    def checked(self, loss: torch.Tensor) -> torch.Tensor:
        """
        The loss of a micro-batch, as it came.

        Raises:
            ValueError: if it is none of ours, as where a subclass replaces `compute_loss`: that would train on the
                forget rows.
        """
        if self._asked:
            return loss
        raise ValueError(
            f"`compute_loss` of {type(self.trainer).__name__} takes no loss from `UnlearnTrainer.compute_loss`, which "
            "is the objective's: the forget rows would be learned. Call `super().compute_loss(…)` in it; a loss of "
            "your own is an objective of your own (`hf_unlearn.objectives` says how)."
        )

    def _plan(self, step: UnlearnStep) -> str:
        """The same on every process: it rests on global numbers alone."""
        args, objective = self.trainer.args, self.trainer.objective
        if objective.side == RETAIN:
            return RETAIN_ONLY
        waits = len(step.batches) > 1 and not objective.by_rows and not self.linear  # for the mean over all of them
        if objective.side == FORGET and not waits:
            return FORGET_ONLY
        closed = self.is_closed
        if closed and self.gate.unlooked + 1 < int(args.gate_every):
            return RETAIN_ONLY
        if steps_in_backward(self.trainer.accelerator):  # one backward a step
            return TOGETHER
        if waits:
            return IN_TURN  # the objective's slope belongs to the mean of all forget micro-batches
        if args.forget_forward != "auto":
            return args.forget_forward
        return TOGETHER if not closed and forward_together(step.positions, args.device.type) else IN_TURN

    def resist(self, model, step: UnlearnStep) -> None:
        """
        Before the step's ordinary passes: a simulated recovery from half of its forget rows, and on the other half the
        gradient of λ·α·ReLU(τ - L)² after it, with a gate like that of the ordinary term.
        """
        trainer, gate, tau = self.trainer, self.recovery_gate, self.trainer.request_state.tau
        args, accelerator = trainer.args, trainer.accelerator
        closed = gate.loss is not None and bool(gate.loss >= tau)
        if closed and gate.unlooked + 1 < int(args.gate_every):
            gate.unlooked += 1
            return
        parts = Recovery(
            step.batches,
            micro_batch_rows(args),
            accelerator.num_processes,
            accelerator.process_index,
            lambda value: self._total(value.to(args.device)),
        )
        if not parts.possible:
            return
        strength = args.lambda_resistance * trainer.alpha

        def sum_of(model, rows):
            return self.nll(model, rows)[0].sum()

        def gap(loss):
            return torch.relu(tau - loss) + 0 * loss  # not 0 for inf

        step.recovered_loss = recovery_gradient(
            trainer.trainable,
            **{k: RowsPass(trainer, model, parts.parts(k), parts.items[k], sum_of=sum_of) for k in ("held", "proxy")},
            steps=int(args.recovery_steps),
            lr=args.recovery_lr,
            slope=lambda loss: -2 * strength * gap(loss),
            buffers=trainer.buffers,
            reduce=shard_sum(accelerator),
        )
        step.resistance_term = strength * gap(step.recovered_loss) ** 2
        gate.look(step.recovered_loss)

    # ---- forget rows before retain rows ----

    def _forget_first(self, model, step: UnlearnStep) -> None:
        """The step's forget rows, before its retain rows: their forward, and their backward if the gate is open."""
        trainer = self.trainer
        model.train()
        batches = []
        for batch in step.batches:
            own = {FORGET_INDEX: batch[FORGET_INDEX][batch[FLAG]]}
            if ALTERNATES in batch:
                own[ALTERNATES] = batch[ALTERNATES]
            batches.append(trainer._prepare_inputs({**select_rows(batch, batch[FLAG]), **own}))
        if trainer.objective.by_rows or self.linear or len(batches) == 1:
            for batch in batches:
                with gradients_at_hand(trainer.accelerator, model):
                    with trainer.compute_loss_context_manager():
                        rows = self._outputs(model, batch, trainer.objective.needs)
                        rows = self._with_reference("forget", rows, batch[FORGET_INDEX])
                        rows = self._with_alternates(model, rows, batch)
                        term = self._forget_term(step, rows)
                    self._backward_if_open(term, _rows_in(batch))
        elif not (self.is_closed and self._still_closed(model, step, batches)):
            self._backward_of_the_mean(model, step, batches)

    def _still_closed(self, model, step: UnlearnStep, batches: list[dict]) -> bool:
        """Looks at the forget rows by a forward alone, before a backward is spent; True if the gate is still closed."""
        trainer = self.trainer
        with torch.no_grad(), trainer.compute_loss_context_manager():
            losses = [self.nll(model, batch)[0].sum() / step.forget_items for batch in batches]
        trainer.count_rows(sum(len(batch["labels"]) for batch in batches), 1 / 3)
        step.add_forget(self._total(torch.stack(losses).sum()))
        self.gate.look(step.forget_loss)
        return self.is_closed

    def _backward_of_the_mean(self, model, step: UnlearnStep, batches: list[dict]) -> None:
        """
        The gradient of the forget rows' mean loss over several micro-batches, scaled by the objective's slope once
        that mean is known: no second buffer, activations of one micro-batch.
        """
        trainer = self.trainer
        before = take_gradients(trainer.trainable)
        losses = []
        for batch in batches:
            with gradients_at_hand(trainer.accelerator, model):
                with trainer.compute_loss_context_manager():
                    share = self.nll(model, batch)[0].sum() / step.forget_items
                trainer.accelerator.backward(share * trainer.accelerator.num_processes)
            trainer.count_rows(len(batch["labels"]))
            losses.append(share.detach())
        step.forget_loss = self._total(torch.stack(losses).sum())
        self.gate.look(step.forget_loss)
        scale_gradients_(trainer.trainable, self.slope_at(step.forget_loss))
        add_gradients_(trainer.trainable, before)

    def _backward_if_open(self, term: torch.Tensor, rows: int) -> None:
        trainer = self.trainer
        if not trainer.objective.by_rows and self.is_closed:
            trainer.count_rows(rows, self.depth / 3)
            return
        trainer.accelerator.backward(term * trainer.accelerator.num_processes)
        trainer.count_rows(rows, self.depth)

    # ---- the terms of the loss ----

    def nll(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """`(sum of losses (B,), number of labels (B,))` of each row."""
        return per_row_nll(logits_of(model, inputs), inputs["labels"])

    def forward(self, model, inputs, needs: str) -> torch.Tensor:
        """What the objective reads of the rows: logits (B, T, V) or (B, C), or hidden states (B, T, d)."""
        if needs != "hidden_states":
            return logits_of(model, inputs)
        return hidden_of(model, inputs, self.layer, self.trainer.accelerator.unwrap_model(model))

    def _outputs(self, model, inputs, needs: str) -> RowOutputs:
        found, labels = self.forward(model, inputs, needs), inputs["labels"]
        if needs != "hidden_states":
            return row_outputs(found, labels, needs)
        found = behind_prompts(found, labels)
        places = labels_of(found, inputs)
        own = places if labels.dim() == 2 and not labels.is_floating_point() else labels.view(len(labels), -1)
        return RowOutputs(found.new_zeros(len(found)), own.ne(-100).sum(1), labels=places, hidden_states=found)

    def _with_reference(self, side: str, rows: RowOutputs, places: torch.Tensor) -> RowOutputs:
        """The rows of one side with what they bring from before the request."""
        references, rows = self.trainer.before, dataclasses.replace(rows, places=places)
        kind = references.kinds.get(side)
        if kind == "logits":
            found = references.logits(side, places, rows.labels, rows.logits)
            return dataclasses.replace(rows, reference_logits=found)
        if kind == "hidden_states":
            found = references.hidden(side, places, rows.labels, rows.hidden_states)
            return dataclasses.replace(rows, reference_hidden=found)
        return rows

    def _with_alternates(self, model, rows: RowOutputs, inputs: dict) -> RowOutputs:
        """Forget rows with the outputs of the row that stands beside each."""
        if ALTERNATES not in inputs:
            return rows
        pair = self.nll(model, inputs[ALTERNATES])
        before = _of_rows(self.trainer.alternate_references, rows.places, pair[0])
        return dataclasses.replace(rows, alternate=RowOutputs(*pair, reference=before))

    def _forget_term(self, step: UnlearnStep, rows: RowOutputs) -> torch.Tensor:
        """What to differentiate for these forget rows, (): this process's part of the linear surrogate."""
        trainer = self.trainer
        share = rows.nll.sum() / step.forget_items
        if self.layer is None:  # else no loss is known
            step.add_forget(self._total(share.detach()))
        if not trainer.objective.by_rows:
            self.gate.look(step.forget_loss)
            return self.slope_at(step.forget_loss) * share
        rows = dataclasses.replace(
            rows,
            target=_of_rows(trainer.targets, rows.places, rows.nll),
            reference=_of_rows(trainer.references, rows.places, rows.nll),
            seed=trainer.train_dataset.seed,
        )
        value = trainer.objective.row_value(rows, alpha=trainer.alpha)
        return self._row_term(step, value, step.value_count(trainer.objective.average, forget=True))

    def _retain_term(self, step: UnlearnStep, rows: RowOutputs) -> torch.Tensor:
        """What to differentiate for these retain rows, ()."""
        trainer = self.trainer
        share = rows.nll.sum() / step.retain_items
        mean = self._total(share.detach())
        if self.layer is None:
            step.add_retain(mean)
        zero = torch.zeros_like(mean)
        term = slopes(trainer.objective, zero, mean, alpha=trainer.alpha, tau=trainer.request_state.tau)[1] * share
        if trainer.objective.retains_by_rows:
            value = trainer.objective.retain_row_value(rows, alpha=trainer.alpha)
            term = term + self._row_term(step, value, step.value_count(trainer.objective.retain_average, forget=False))
        return term

    def _row_term(self, step: UnlearnStep, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """The share of the step's mean, (), that values of rows (n,) have; counted as part of the step's loss."""
        term = value.sum() / count
        step.row_term = step.row_term + self._total(term.detach())
        return term

    def loss(self, model, inputs: dict) -> torch.Tensor:
        """
        The loss of the Trainer's own pass over a micro-batch, (): the objective's value at the step's last one, else 0,
        with the gradient of the linear surrogate.
        """
        step, self._asked = self.step, True
        objective, forget = self.trainer.objective, inputs[FLAG].to(self.trainer.args.device)
        sides = {FORGET_ONLY: (objective.needs,), TOGETHER: (objective.needs, objective.retain_needs)}
        needs = max(sides.get(step.plan, (objective.retain_needs,)), key=NEEDS.index)
        rows, surrogate = self._outputs(model, inputs, needs), 0.0
        if step.plan != FORGET_ONLY:
            own = rows.only(objective.retain_needs).select(~forget)
            if RETAIN_INDEX in inputs:
                own = self._with_reference("retain", own, inputs[RETAIN_INDEX][~forget])
            surrogate = self._retain_term(step, own)
        if step.plan in (TOGETHER, FORGET_ONLY):
            own = rows.only(objective.needs).select(forget)
            own = self._with_reference("forget", own, inputs[FORGET_INDEX][forget])
            surrogate = surrogate + self._forget_term(step, self._with_alternates(model, own, inputs))
        value = torch.zeros_like(surrogate)
        if step.end():
            value = value + self._end_of_batches(step)
        surrogate = surrogate * self.trainer.accelerator.num_processes
        return surrogate - surrogate.detach() + value

    def _end_of_batches(self, step: UnlearnStep) -> torch.Tensor:
        """After the last micro-batch: the step's losses for the looks and the log; returns the objective, ()."""
        trainer = self.trainer
        alpha, tau = trainer.alpha, trainer.request_state.tau
        seen, kept = step.forget_loss is not None, step.retain_loss is not None
        like = step.forget_loss if seen else step.retain_loss if kept else step.row_term
        nan = torch.full_like(like, math.nan)
        means = [step.forget_loss if seen else nan, step.retain_loss if kept else nan]
        if self.resisting:
            recovered = step.recovered_loss
            means.append(nan if recovered is None else recovered)
            if recovered is not None:
                trainer.track(recovered_loss=recovered)
        means = torch.stack(means)
        self.window.append(torch.where(torch.isfinite(means), means, math.nan))
        trainer.track(tau=tau, alpha=alpha, **({"retain_loss": step.retain_loss} if kept else {}))
        if seen:
            trainer.track(forget_loss=step.forget_loss)
        known = step.forget_loss if seen else torch.zeros_like(nan) if self.gate.loss is None else self.gate.loss
        return step.value(trainer.objective, forget_loss=known, alpha=alpha, tau=tau)

    def means_since_look(self) -> tuple[float, float, float | None]:
        """
        `(forget, retain, recovered)` loss in nats over the steps since the last call; what was not looked at since is
        taken from the gates, nan where these do not know it either. `recovered` is None without `resistance`.
        """
        means = torch.stack(self.window).nanmean(0).tolist() if self.window else [math.nan] * 3
        for i, gate in ((0, self.gate), (2, self.recovery_gate)):
            if i < len(means) and math.isnan(means[i]) and gate.loss is not None:
                means[i] = float(gate.loss)
        self.window = []
        return means[0], means[1], means[-1] if self.resisting else None


def _rows_in(batch: dict) -> int:
    """Rows of a batch that pass through the model, with those that stand beside them."""
    return len(batch["labels"]) + (len(batch[ALTERNATES]["labels"]) if ALTERNATES in batch else 0)


def _of_rows(values: list[float], places: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """The values (n,) at these places of the forget set; None where there are none."""
    return torch.tensor(values, device=like.device, dtype=like.dtype)[places] if values else None
