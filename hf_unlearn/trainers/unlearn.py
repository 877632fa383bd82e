"""`UnlearnTrainer`: a `transformers.Trainer` that takes rows out of a model and stops by itself."""

from __future__ import annotations

import dataclasses
import logging
import math
import os

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from ..config import UnlearnConfig
from ..data.batch import count_labels, count_positions, forward_together, select_rows
from ..data.checks import reference_losses, reference_problems, split_problems
from ..data.columns import FLAG, FORGET_INDEX
from ..data.order import PairedDataset
from ..evaluation import evaluating
from ..objectives.base import Objective, RowOutputs, Start
from ..objectives.gaps import TOLERANCE
from ..objectives.registry import objective_of
from ..objectives.row_nll import per_row_nll, row_outputs
from ..objectives.surrogate import slopes
from ..readiness.moving_weights import add_gradients_, scale_gradients_, take_gradients
from ..readiness.recovery import recovery_gradient
from ..unlearning import schedule, stop_rule
from ..unlearning.defaults import with_fitting_options, with_request_defaults
from ..unlearning.snapshots import WayBack
from ..unlearning.step import IN_TURN, RETAIN_ONLY, TOGETHER, Gate, Recovery, UnlearnStep
from ..utils.checks import ArgumentError
from ..utils.files import read_json
from ..utils.versions import library_versions
from . import checkpointing, records
from .base import ForgettingTrainer
from .callbacks import ScheduleCallback
from .engines import (
    accumulation_problem,
    gradients_at_hand,
    several_backwards_problem,
    shard_sum,
    steps_in_backward,
    total,
)
from .models import chance_loss
from .passes import RowsPass

logger = logging.getLogger(__name__)

RETAIN_SAMPLE = 256  # retain rows measured for the budget, at least (ours); as many as forget rows if these are more
NEAR = 0.2  # a look at the whole forget set is taken from this share of the gap on (ours)

SNAPSHOTS = "_request_weights.pt"  # in a checkpoint; `push_to_hub` leaves out what begins with an underscore

PROVIDED = {"needs": ("row_nll", "token_nll", "logits"), "reference": ("none", "loss")}

LIMITS = (
    "Unlearning is approximate: the rows' loss is moved to that of unseen rows, which is no proof of deletion.",
    "A mean can match while single rows stay recognisable; see the membership measures and the histograms.",
    "Fine-tuning on the removed rows, or on rows like them, brings knowledge back faster than first training did.",
)


def unmet_needs(objective: Objective) -> list[str]:
    """What an objective asks for that [`UnlearnTrainer`] does not provide."""
    lacking = []
    if objective.needs not in PROVIDED["needs"]:
        lacking.append(f"{objective.needs} of the forward pass (there are {', '.join(PROVIDED['needs'])})")
    if objective.reference not in PROVIDED["reference"]:
        lacking.append(f"{objective.reference} from before the request (there are {', '.join(PROVIDED['reference'])})")
    if objective.has("edit_weights"):
        lacking.append("a change of the weights without steps")
    return [f"The objective {objective.name!r} needs {what}; `UnlearnTrainer` has none." for what in lacking]


class UnlearnTrainer(ForgettingTrainer):
    """
    Unlearns the forget rows with ∇τ (Trippa et al. 2024), or with a baseline of the same registry, and stops by itself.

    The rows are all it needs. α, the number of passes, τ and its refresh come from their sizes; the run ends when the
    whole forget set's loss has reached τ and stayed while the retain rows' loss is within its budget. What is kept may
    dip on the way and recover; where it becomes no better than guessing, or is still beyond the budget at the end, the
    last weights within the budget are put back. With `resistance="relearn"` simulated recoveries must fail too, before
    the target counts as reached. The reason is in `stop_reason`, in the log (`trainer.state`) and in the result's
    metrics.

    Args:
        model: a model, or the name or path of one, which is then loaded after the checks.
        args: an [`UnlearnConfig`].
        forget_dataset: rows to remove. For `objective="npo"` a column `reference_nll` may hold the sum of each row's
            losses before the request, in nats; where there is none, they are measured before the first step.
        retain_dataset: rows to keep: the rest of what the model was trained on.
        unseen_dataset: rows of the same kind that the model was never trained on; their mean loss is τ.
        eval_dataset, data_collator, processing_class, callbacks, …: as in `transformers.Trainer`.
        peft_config: unlearns with this adapter; the model's own weights stay as they are.

    Raises:
        ArgumentError: with all problems of the data at once, before a model is loaded.
    """

    card_tags = ("unlearned",)
    record_name = records.UNLEARNING

    def __init__(
        self,
        model,
        args: UnlearnConfig | None = None,
        forget_dataset=None,
        retain_dataset=None,
        unseen_dataset=None,
        eval_dataset=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        callbacks=None,
        **kwargs,
    ):
        args = UnlearnConfig("unlearned") if args is None else args
        problems = split_problems(forget_dataset, retain_dataset, unseen_dataset)
        name = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", None)
        try:
            self.readiness = None
            if args.readiness != "none":
                self.readiness = records.find_readiness(name if args.readiness == "auto" else args.readiness)
                if self.readiness is None and args.readiness != "auto":
                    problems.append(f"`readiness` is {args.readiness!r}, but there is no {records.READINESS}.")
            args = with_fitting_options(with_request_defaults(args, self.readiness))
        except (TypeError, ValueError) as error:
            problems += getattr(error, "problems", [str(error)])
        self.objective = objective_of(args)
        problems += unmet_needs(self.objective)
        if self.objective.reference == "loss":
            problems += reference_problems(forget_dataset)
        step_rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        if args.resistance != "none" and not problems and min(step_rows, len(forget_dataset)) < 2:
            problems.append("`resistance` divides the forget rows of a step; there is one. Raise the batch size.")
        if problems:
            raise ArgumentError(problems)

        passes = schedule.forget_passes(len(forget_dataset), len(retain_dataset))
        if args.passes != "auto":
            passes = int(args.passes)
        self.forget_dataset, self.retain_dataset, self.unseen_dataset = forget_dataset, retain_dataset, unseen_dataset
        self.step_rows = step_rows
        self.look_every = schedule.look_every(len(forget_dataset), step_rows)
        n_sample = min(len(retain_dataset), max(RETAIN_SAMPLE, len(forget_dataset)))
        places = np.linspace(0, len(retain_dataset) - 1, n_sample).round().astype(int)
        self.retain_sample = [retain_dataset[int(i)] for i in places]
        seed = args.seed if args.data_seed is None else args.data_seed
        super().__init__(
            model,
            args,
            data_collator=data_collator,
            processing_class=processing_class,
            peft_config=peft_config,
            train_dataset=PairedDataset(forget_dataset, retain_dataset, passes, seed),
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            **kwargs,
        )
        self.model_accepts_loss_kwargs = True  # with `num_items_in_batch` at hand: our loss is the step's mean already
        deferred = args.gradient_accumulation_steps > 1 and not self.objective.by_rows
        problem = accumulation_problem(self.accelerator) if deferred else None
        if args.forget_forward == "in_turn" and not problem:
            problem = several_backwards_problem(self.accelerator, '`forget_forward="in_turn"`')
        if args.resistance != "none" and not problem:
            problem = several_backwards_problem(self.accelerator, "`resistance`")
        if problem:
            raise ArgumentError([problem])
        alpha0 = schedule.initial_alpha(len(forget_dataset), len(retain_dataset))
        self.rule = schedule.Rule(
            alpha0=alpha0 if args.alpha is None else args.alpha,
            passes=passes,
            target=args.target,
            chance=chance_loss(self.model),
            stop=args.stop,
            retain_budget=args.retain_budget,
            recovers=self.objective.recovers,
        )
        self.request: schedule.State | None = None
        self.targets: list[float] = []  # mean loss that each forget row is to have; []: the objective sets none
        self.references: list[float] = []  # sum of each forget row's losses before the request; []: not needed
        self._window: list[torch.Tensor] = []
        self._gate = Gate()
        self._recovery_gate = Gate()
        self._told_broken = False
        self._way_back: WayBack | None = None
        self.add_callback(ScheduleCallback(self))

    # ---- the data ----

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)  # the data set is the schedule

    @property
    def alpha(self) -> float:
        """α of the coming step."""
        passes = self.rule.passes
        return schedule.alpha_at(self.rule.alpha0, min(self._forget_pass, passes - 1), passes)

    @property
    def _forget_pass(self) -> int:
        return self.state.global_step * self.step_rows // len(self.forget_dataset)

    @property
    def stop_reason(self) -> str | None:
        """Why the run ended, a key of `hf_unlearn.unlearning.stop_rule.STOP_REASONS`; None before its end."""
        return None if self.request is None else self.request.stop_reason

    # ---- the step ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.stop_reason is not None:
            return [], None  # taken up from the checkpoint of the last step
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.zeros(5, dtype=torch.float64)
        for batch in batches:
            forget = batch[FLAG]
            counts[0] += count_labels(batch["labels"][forget]).cpu()
            counts[1] += count_labels(batch["labels"][~forget]).cpu()
            counts[2] += forget.sum().cpu()
            counts[3] += (~forget).sum().cpu()
            counts[4] += count_positions(batch, self.hidden_size)
        counts = total(self.accelerator, counts.float().to(device))
        positions = float(counts[4]) / max(1, len(batches) * self.accelerator.num_processes)
        self._step = UnlearnStep(batches, *counts[:4], positions)
        return batches, counts[0] + counts[1]

    def _plan(self, step: UnlearnStep) -> str:
        """The same on every process: it rests on global numbers alone."""
        gate, shut = self._gate, self._shut
        if shut and gate.unlooked + 1 < int(self.args.gate_every):
            return RETAIN_ONLY
        if steps_in_backward(self.accelerator):  # one backward a step
            return TOGETHER
        if len(step.batches) > 1 and not self.objective.by_rows:
            return IN_TURN  # the gate's slope belongs to the mean of all forget micro-batches
        if self.args.forget_forward != "auto":
            return self.args.forget_forward
        return TOGETHER if not shut and forward_together(step.positions, self.args.device.type) else IN_TURN

    def micro_step(self, model, inputs, num_items_in_batch=None):
        step = self._step
        if inputs is step.batches[0]:
            if self._resisting:
                self._resist(model, step)
            step.plan = self._plan(step)
            if step.plan == RETAIN_ONLY:
                self._gate.unlooked += 1
            elif step.plan == IN_TURN:
                self._forget_first(model, step)
        if step.plan != TOGETHER:
            retain = ~inputs[FLAG]
            inputs = {**select_rows(inputs, retain), FLAG: torch.zeros(int(retain.sum()), dtype=bool)}
        self.count_rows(len(inputs["labels"]))
        return super().micro_step(model, inputs, num_items_in_batch)

    @property
    def _resisting(self) -> bool:
        return self.args.resistance != "none"

    def _resist(self, model, step: UnlearnStep) -> None:
        """
        Before the step's ordinary passes: a simulated recovery from half of its forget rows, and on the other half the
        gradient of λ·α·ReLU(τ - L)² after it, with a gate like that of the ordinary term.
        """
        gate, tau = self._recovery_gate, self.request.tau
        shut = gate.loss is not None and bool(gate.loss >= tau)
        if shut and gate.unlooked + 1 < int(self.args.gate_every):
            gate.unlooked += 1
            return
        world, rank = self.accelerator.num_processes, self.accelerator.process_index

        def reduce(value):
            return total(self.accelerator, value.to(self.args.device))

        parts = Recovery(step.batches, self.args.per_device_train_batch_size, world, rank, reduce)
        if not parts.possible:
            return
        strength = self.args.lambda_resistance * self.alpha

        def sum_of(model, rows):
            return self._nll(model, rows)[0].sum()

        def gap(loss):
            return torch.relu(tau - loss) + 0 * loss  # not 0 for inf

        step.recovered_loss = recovery_gradient(
            self.trainable,
            **{k: RowsPass(self, model, parts.parts(k), parts.items[k], sum_of=sum_of) for k in ("held", "proxy")},
            steps=int(self.args.recovery_steps),
            lr=self.args.recovery_lr,
            slope=lambda loss: -2 * strength * gap(loss),
            buffers=self.buffers,
            reduce=shard_sum(self.accelerator),
        )
        step.resistance_term = strength * gap(step.recovered_loss) ** 2
        gate.look(step.recovered_loss)

    def _forget_first(self, model, step: UnlearnStep) -> None:
        """The step's forget rows, before its retain rows: their forward, and their backward if the gate is open."""
        model.train()
        batches = []
        for batch in step.batches:
            rows = {**select_rows(batch, batch[FLAG]), FORGET_INDEX: batch[FORGET_INDEX][batch[FLAG]]}
            batches.append(self._prepare_inputs(rows))
        if self.objective.by_rows or len(batches) == 1:
            for batch in batches:
                with gradients_at_hand(self.accelerator, model):
                    with self.compute_loss_context_manager():
                        term = self._forget_term(step, self._outputs(model, batch), batch[FORGET_INDEX])
                    self._backward_if_open(term, len(batch["labels"]))
            return
        if self._shut:  # probably it still is: look before a backward is spent
            with torch.no_grad(), self.compute_loss_context_manager():
                losses = [self._nll(model, batch)[0].sum() / step.forget_items for batch in batches]
            self.count_rows(sum(len(batch["labels"]) for batch in batches), 1 / 3)
            step.add_forget(total(self.accelerator, torch.stack(losses).sum()))
            self._gate.look(step.forget_loss)
            if self._shut:
                return
        # The bare gradient of each, scaled once the mean of all is known: no second buffer, activations of one.
        before = take_gradients(self.trainable)
        losses = []
        for batch in batches:
            with gradients_at_hand(self.accelerator, model):
                with self.compute_loss_context_manager():
                    share = self._nll(model, batch)[0].sum() / step.forget_items
                self.accelerator.backward(share * self.accelerator.num_processes)
            self.count_rows(len(batch["labels"]))
            losses.append(share.detach())
        step.forget_loss = total(self.accelerator, torch.stack(losses).sum())
        self._gate.look(step.forget_loss)
        scale_gradients_(self.trainable, self._forget_slope(step.forget_loss))
        add_gradients_(self.trainable, before)

    def _backward_if_open(self, term: torch.Tensor, rows: int) -> None:
        if not self.objective.by_rows and self._shut:
            self.count_rows(rows, 1 / 3)
            return
        self.accelerator.backward(term * self.accelerator.num_processes)
        self.count_rows(rows)

    def _nll(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        return per_row_nll(self._logits(model, inputs), inputs["labels"])

    def _logits(self, model, inputs) -> torch.Tensor:
        return model(**{k: v for k, v in inputs.items() if k not in ("labels", FLAG, FORGET_INDEX)}).logits

    def _outputs(self, model, inputs) -> RowOutputs:
        return row_outputs(self._logits(model, inputs), inputs["labels"], self.objective.needs)

    @property
    def _shut(self) -> bool:
        """Whether forget rows have no gradient, by the last look at them and the target of now."""
        return self._gate.loss is not None and bool(self._forget_slope(self._gate.loss) == 0)

    def _forget_slope(self, forget_loss: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(forget_loss)
        return slopes(self.objective, forget_loss, zero, alpha=self.alpha, tau=self.request.tau)[0]

    def _forget_term(self, step: UnlearnStep, rows: RowOutputs, places: torch.Tensor) -> torch.Tensor:
        """What to differentiate for these forget rows, (): this process's part of the linear surrogate."""
        share = rows.nll.sum() / step.forget_items
        step.add_forget(total(self.accelerator, share.detach()))
        if not self.objective.by_rows:
            self._gate.look(step.forget_loss)
            return self._forget_slope(step.forget_loss) * share
        rows = dataclasses.replace(
            rows,
            places=places,
            target=self._of_rows(self.targets, places, rows.nll),
            reference=self._of_rows(self.references, places, rows.nll),
        )
        value = self.objective.row_value(rows, alpha=self.alpha)
        return self._row_term(step, value, step.forget_rows, step.forget_items)

    def _of_rows(self, values: list[float], places: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
        return torch.tensor(values, device=like.device, dtype=like.dtype)[places] if values else None

    def _row_term(self, step: UnlearnStep, value: torch.Tensor, n_rows, n_labels) -> torch.Tensor:
        """The share of the step's mean () that values of rows (n,) have; counted as part of the step's loss."""
        term = value.sum() / (n_rows if self.objective.average == "rows" else n_labels)
        step.row_term = step.row_term + total(self.accelerator, term.detach())
        return term

    def _retain_term(self, step: UnlearnStep, rows: RowOutputs) -> torch.Tensor:
        share = rows.nll.sum() / step.retain_items
        mean = total(self.accelerator, share.detach())
        step.retain_loss = step.retain_loss + mean
        zero = torch.zeros_like(mean)
        term = slopes(self.objective, zero, mean, alpha=self.alpha, tau=self.request.tau)[1] * share
        if self.objective.has("retain_row_value"):
            value = self.objective.retain_row_value(rows, alpha=self.alpha)
            term = term + self._row_term(step, value, step.retain_rows, step.retain_items)
        return term

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The objective's value, with its gradient by way of the linear surrogate of [`hf_unlearn.objectives`]."""
        if not (model.training and FLAG in inputs):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        step = self._step
        forget = inputs[FLAG].to(self.args.device)
        rows = self._outputs(model, inputs)
        surrogate = self._retain_term(step, rows.select(~forget))
        if step.plan == TOGETHER:
            surrogate = surrogate + self._forget_term(step, rows.select(forget), inputs[FORGET_INDEX][forget])
        value = torch.zeros_like(surrogate)
        if step.another_done():
            value = value + self._end_of_batches(step)
        surrogate = surrogate * self.accelerator.num_processes
        return surrogate - surrogate.detach() + value

    def _end_of_batches(self, step: UnlearnStep) -> torch.Tensor:
        """After the last micro-batch: the step's losses for the schedule and the log; returns the objective, ()."""
        alpha, tau = self.alpha, self.request.tau
        seen = step.forget_loss is not None
        forget_loss = step.forget_loss if seen else self._gate.loss
        means = [forget_loss if seen else forget_loss * math.nan, step.retain_loss]
        if self._resisting:
            recovered = step.recovered_loss
            means.append(step.retain_loss * math.nan if recovered is None else recovered)
            if recovered is not None:
                self.track(recovered_loss=recovered)
        means = torch.stack(means)
        self._window.append(torch.where(torch.isfinite(means), means, math.nan))
        self.track(retain_loss=step.retain_loss, tau=tau, alpha=alpha)
        if seen:
            self.track(forget_loss=forget_loss)
        return step.value(self.objective, forget_loss=forget_loss, alpha=alpha, tau=tau)

    # ---- the schedule ----

    def row_losses(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """
        Loss of each row under the current model in eval mode: `(nll_sum (N,), n_labels (N,))`, float64, in order, the
        same on every process. `per_device_eval_batch_size` rows at a time, but no more than a step takes: a look must
        not be what a device has no memory for.
        """
        given = self.args.per_device_eval_batch_size
        self.args.per_device_eval_batch_size = min(given, self.args.per_device_train_batch_size)
        try:
            loader = self.get_test_dataloader(rows)
        finally:
            self.args.per_device_eval_batch_size = given
        self.count_rows(len(rows), 1 / 3 / self.accelerator.num_processes)
        sums, counts = [], []
        with evaluating(self.model), torch.no_grad():
            for batch in loader:
                batch = self._prepare_inputs(batch)
                with self.compute_loss_context_manager():
                    pair = self._nll(self.model, batch)
                nll, n = self.accelerator.gather_for_metrics((pair[0].double(), pair[1]))
                sums.append(nll.cpu().numpy())
                counts.append(n.cpu().numpy())
        return np.concatenate(sums), np.concatenate(counts)

    def _mean(self, rows) -> float:
        sums, counts = self.row_losses(rows)
        return float(sums.sum() / counts.sum())

    def begin_request(self) -> None:
        """Before the first step: measures τ and the retain rows, or takes up the state of the checkpoint."""
        self._window = []
        self._gate, self._recovery_gate = Gate(), Gate()
        self._way_back = WayBack(lambda: self.trainable, self.state.global_step)
        saved = None
        if self.resumed_from:
            saved = read_json(os.path.join(self.resumed_from, self.record_name))
        if saved and saved.get("state"):
            self.request = schedule.State(**saved["state"])
            longer = {"max_steps": self.state.global_step < self.state.max_steps}
            longer[stop_rule.DONE] = self._forget_pass < self.rule.passes
            if longer.get(self.request.stop_reason):  # than the run that was saved
                self.request = dataclasses.replace(self.request, stop_reason=None)
            self.objective = dataclasses.replace(self.objective, **saved.get("objective_state", {}))
            self._put_row_values([math.nan if x is None else x for x in saved["targets"]])
            pairs = [[math.nan if x is None else x for x in pair] for pair in saved["window"]]
            precise = any(p.dtype == torch.float64 for p in self.trainable)
            like = torch.zeros((), device=self.args.device, dtype=torch.float64 if precise else torch.float32)
            self._window = [like.new_tensor(pair) for pair in pairs if len(pair) == 2 + self._resisting]
            self._gate = Gate.from_dict(saved.get("gate"), like)
            self._recovery_gate = Gate.from_dict(saved.get("recovery_gate"), like)
            self._resume_counts(saved)
            snapshots = os.path.join(self.resumed_from, SNAPSHOTS)
            if os.path.exists(snapshots):
                self._way_back.load(torch.load(snapshots, weights_only=True))
            return
        unseen, counts = self.row_losses(self.unseen_dataset)
        self.request = schedule.start(self.rule, float(unseen.sum() / counts.sum()), self._mean(self.retain_sample))
        if self.objective.reference == "loss":
            given = reference_losses(self.forget_dataset)
            self._put_row_values(self.row_losses(self.forget_dataset)[0].tolist() if given is None else given)
            return
        start = Start(
            n=len(self.forget_dataset),
            target=self.rule.target,
            tau=self.request.tau,
            unseen=unseen / counts,
            measure=lambda: np.divide(*self.row_losses(self.forget_dataset)),
            seed=self.train_dataset.seed,
        )
        self._put_row_values(self.objective.targets(start) or [])

    def _put_row_values(self, values: list[float]) -> None:
        """What was measured for each forget row before the first step; the record calls either "targets"."""
        if self.objective.reference == "loss":
            self.references = values
        else:
            self.targets = values

    def end_of_step(self) -> bool:
        """After each optimizer step: moves the objective and the schedule on; True ends the run."""
        if self.objective.moving:
            self.objective = self.objective.after_step(*self._window[-1][:2])
        measured = {}
        now = self._forget_pass
        steps_of_a_pass = max(1, math.ceil(len(self.forget_dataset) / self.step_rows))
        if (
            self.rule.target == "current"
            and self.state.global_step % (int(self.args.unseen_every) * steps_of_a_pass) == 0
        ):
            measured["unseen_loss"] = self._mean(self.unseen_dataset)
            self.request = schedule.retarget(self.rule, self.request, measured["unseen_loss"])
        last = self.state.global_step >= self.state.max_steps
        if last or self.state.global_step % self.look_every == 0:
            measured |= self._look(last)
        self.request, _, reason = stop_rule.update(
            self.rule,
            self.request,
            forget_pass=now,
            shortfall=measured.get("shortfall"),
            retain_loss=measured.get("retain_loss"),
            recovered_loss=measured.get("recovered_loss"),
        )
        if lines := {f"look_{k}" if k != "unseen_loss" else k: v for k, v in measured.items()}:
            self.log({**lines, "tau": self.request.tau})
        if reason is None and last:
            over = not measured.get("retain_loss", 0.0) <= stop_rule.retain_limit(
                self.rule, self.request
            )  # True for nan
            reason = stop_rule.BUDGET if over else "max_steps"
            self.request = dataclasses.replace(self.request, stop_reason=reason)
        if reason == stop_rule.BUDGET:
            self._put_back_good()
        return reason is not None

    def _look(self, last: bool) -> dict:
        """Measures the whole forget set and the retain sample, where the batches since the last look call for it."""
        means = torch.stack(self._window).nanmean(0).tolist() if self._window else [math.nan] * 3
        for i, gate in ((0, self._gate), (2, self._recovery_gate)):
            if i < len(means) and math.isnan(means[i]) and gate.loss is not None:  # not looked at since
                means[i] = float(gate.loss)
        forget, retain, recovered = *means[:2], means[-1] if self._resisting else None
        self._window = []
        if not self.rule.stop:
            return {}
        limit = stop_rule.retain_limit(self.rule, self.request)
        lacking = self.objective.shortfall_of_mean(forget, tau=self.request.tau, targets=self.targets)
        kept = retain <= limit
        back = self._way_back
        if kept:
            back.vouch(lacking > TOLERANCE)
        weak = not stop_rule.resists(self.request, recovered)  # a look could not end the run
        back.candidate = back.now(self.state.global_step) if kept and (lacking > NEAR or weak) else None
        lost = not retain <= stop_rule.transient_limit(self.rule, self.request)  # True for nan
        pending = last or lost or self.request.reached or self.request.over_budget
        if not pending and not (kept and lacking <= NEAR and not weak):
            return {}
        found = self._measure_request()
        fresh = self.state.global_step - back.below[0] <= 3 * self.look_every
        # Where the objective stops at τ, the recovery's term alone drives rows beyond it; going back would undo that.
        lifted = self._resisting and self.objective.stops_at_target
        beyond = found["shortfall"] < -TOLERANCE and not lifted
        if not self.targets and beyond and fresh:
            found = self._go_back()
            recovered = math.nan  # of other weights
        if self._resisting:
            found["recovered_loss"] = recovered
        if found["shortfall"] > TOLERANCE:
            self._gate = Gate()  # it is open, whatever the last forget rows of a step said
        if found["retain_loss"] <= limit:
            back.confirm(self.state.global_step, found["shortfall"] > TOLERANCE)
        return found

    def _measure_request(self) -> dict:
        sums, counts = self.row_losses(self.forget_dataset)
        good = np.isfinite(sums)
        if not good.all() and not self._told_broken:
            self._told_broken = True
            places = np.flatnonzero(~good)
            named = ", ".join(map(str, places[:8])) + (", …" if len(places) > 8 else "")
            logger.warning(
                "%d forget row(s) have a loss that is not finite and are left out of the looks; every step that holds "
                "one is skipped. Their places in the forget set: %s.", len(places), named
            )  # fmt: skip
        if not good.any():
            good[:] = True
        targets = [target for target, fine in zip(self.targets, good, strict=True) if fine] if self.targets else []
        sums, counts = sums[good], counts[good]
        found = {"forget_loss": float(sums.sum() / counts.sum()), "retain_loss": self._mean(self.retain_sample)}
        found["shortfall"] = self.objective.shortfall(
            found["forget_loss"], sums / counts, tau=self.request.tau, targets=targets
        )
        return found

    def _go_back(self) -> dict:
        """From beyond τ; the optimizer's momentum, which would drive the rows out again, is cleared (ours)."""
        found = self._way_back.retreat(self._measure_request, TOLERANCE)
        self._gate = Gate()
        for state in self.optimizer.state.values():
            if "exp_avg" in state:
                state["exp_avg"].zero_()
        return found

    def _put_back_good(self) -> None:
        limit = stop_rule.retain_limit(self.rule, self.request)
        step = self._way_back.restore(lambda: self._mean(self.retain_sample) <= limit)
        logger.warning("The retain budget was spent; the weights of step %d were put back.", step)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """`Trainer.train`; the result's `metrics` also hold `stop_reason` and `row_passes`."""
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.request.stop_reason is None:
            self.request = dataclasses.replace(self.request, stop_reason="interrupted")
        elif self.args.should_save:  # weights that still know the rows, needed only to resume, as this run cannot be
            for folder in checkpointing.folders(self.args.output_dir).values():
                checkpointing.drop(folder, SNAPSHOTS)
        reason = self.request.stop_reason
        self.log({"stop_reason": reason, "unlearn_steps": self.state.global_step})
        logger.info("Stopped after %d steps: %s.", self.state.global_step, stop_rule.STOP_REASONS[reason])
        result.metrics["stop_reason"] = reason
        return result

    # ---- the record ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        super().save_model(output_dir, _internal_call)
        # With a checkpoint go the weights that the budget or an overshot target may call for. Not where parameters are
        # sharded: there a resumed run counts its own weights as good.
        whole = not any(hasattr(p, "to_local") for p in self.trainable)
        if _internal_call and output_dir and whole and self.args.should_save and self._way_back is not None:
            torch.save(self._way_back.to_dict(), os.path.join(output_dir, SNAPSHOTS))

    def record(self) -> dict:
        return {
            "schema": records.SCHEMA,
            "method": self.objective.citation,
            "objective": self.objective.name,
            **self.objective.settings(),
            **self.args.resistance_parameters(),
            "learning_rate": self.args.learning_rate,
            "rule": dataclasses.asdict(self.rule),
            "rows": {
                "forget": len(self.forget_dataset),
                "retain": len(self.retain_dataset),
                "unseen": len(self.unseen_dataset),
            },
            "was_ready": bool(self.readiness and self.readiness.get("ready")),
            "stop_reason": self.stop_reason,
            "cost": self.cost,
            "skipped": self._finite.to_dict(),
            "state": None if self.request is None else self.request.to_dict(),
            **({"objective_state": self.objective.state()} if self.objective.moving else {}),
            "targets": [x if math.isfinite(x) else None for x in self.targets or self.references],
            "window": [[x if math.isfinite(x) else None for x in pair.tolist()] for pair in self._window],
            "gate": self._gate.to_dict(),
            "recovery_gate": self._recovery_gate.to_dict(),
            "versions": library_versions(),
        }

    def card_info(self) -> dict:
        record = self.record()
        keys = ("method", "objective", "learning_rate", "was_ready")
        state = record["state"] or {}
        return {
            "kind": "unlearned",
            "settings": {key: record[key] for key in keys}
            | self.objective.settings()
            | self.args.resistance_parameters()
            | record["rows"]
            | record["rule"]
            | {key: state[key] for key in ("tau", "tau_initial") if key in state},
            "stop_reason": stop_rule.STOP_REASONS.get(self.stop_reason, "not run yet"),
            "limits": list(LIMITS),
            "how_to_load": self.loading_code(),
        }
