"""`UnlearnTrainer`: a `transformers.Trainer` that takes rows out of a model and stops by itself."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from . import checkpoints, records, schedule
from .callbacks import ScheduleCallback
from .config import UnlearnConfig
from .data import FLAG, FORGET_INDEX, PairedDataset, count_labels, select_rows, split_problems
from .distributed import accumulation_problem, total, unsynchronised
from .evaluation import evaluating
from .meta import scale_gradients_
from .objectives import get_objective, per_row_nll, slopes
from .options import ArgumentError, request_problems
from .trainer import ForgettingTrainer, chance_loss

logger = logging.getLogger(__name__)

RETAIN_SAMPLE = 256  # retain rows measured for the budget, at least (ours); as many as forget rows if these are more
BISECTIONS = 6  # halvings of the way back from a step that overshot τ, at most (ours)
NEAR = 0.2  # a look at the whole forget set is taken from this share of the gap on (ours)

_Snapshot = tuple[int, list[torch.Tensor]] | None  # step, trainable weights on the CPU

SNAPSHOTS = "_request_weights.pt"  # in a checkpoint; `push_to_hub` leaves out what begins with an underscore

LIMITS = (
    "Unlearning is approximate: the rows' loss is moved to that of unseen rows, which is no proof of deletion.",
    "A mean can match while single rows stay recognisable; see the membership measures and the histograms.",
    "Fine-tuning on the removed rows, or on rows like them, brings knowledge back faster than first training did.",
)


class UnlearnTrainer(ForgettingTrainer):
    """
    Unlearns the forget rows with ∇τ (Trippa et al. 2024), or with a baseline of the same registry, and stops by itself.

    The rows are all it needs. α, the number of passes, τ and its refresh come from their sizes; the run ends when the
    whole forget set's loss has reached τ and stayed while the retain rows' loss is within its budget. What is kept may
    dip on the way and recover; where it becomes no better than guessing, or is still beyond the budget at the end, the
    last weights within the budget are put back. The reason is in `stop_reason`, in the log (`trainer.state`) and in
    the result's metrics.

    Args:
        model: a model, or the name or path of one, which is then loaded after the checks.
        args: an [`UnlearnConfig`].
        forget_dataset: rows to remove.
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
            args = with_request_defaults(args, self.readiness)
        except (TypeError, ValueError) as error:
            problems += getattr(error, "problems", [str(error)])
        if problems:
            raise ArgumentError(problems)

        self.objective = get_objective(args.objective, **args.objective_parameters())
        step_rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
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
        if deferred and (problem := accumulation_problem(self.accelerator)):
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
        self.targets: list[float] = []
        self._window: list[torch.Tensor] = []
        self._good: _Snapshot = None  # the last weights known to be within the budget, or that batches say this of
        self._measured: _Snapshot = None  # the last weights that the retain sample has shown to be within it
        self._below: _Snapshot = None  # the last of them that were short of τ
        self._candidate: _Snapshot = None  # weights that the coming batches have still to say this of
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
        """Why the run ended, a key of `hf_unlearn.schedule.STOP_REASONS`; None before its end."""
        return None if self.request is None else self.request.stop_reason

    # ---- the step ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.stop_reason is not None:
            return [], None  # taken up from the checkpoint of the last step
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.zeros(3, dtype=torch.float64)
        for batch in batches:
            forget = batch[FLAG]
            counts[0] += count_labels(batch["labels"][forget]).cpu()
            counts[1] += count_labels(batch["labels"][~forget]).cpu()
            counts[2] += forget.sum().cpu()
        counts = total(self.accelerator, counts.float().to(device))
        self._step = _UnlearnStep(batches, counts[0], counts[1], counts[2])
        return batches, counts[0] + counts[1]

    def micro_step(self, model, inputs, num_items_in_batch=None):
        step = self._step
        rows = len(inputs["labels"])
        self._count_rows(rows)
        if len(step.batches) == 1 or self.objective.by_rows:
            return super().micro_step(model, inputs, num_items_in_batch)
        # A gate on the mean of several micro-batches: all forget rows first, with their bare gradient, which is scaled
        # once the mean is known; then the retain rows.
        if inputs is step.batches[0]:
            self._ascend(model, step, num_items_in_batch)
        retain = {**select_rows(inputs, ~inputs[FLAG]), FLAG: torch.zeros(rows - int(inputs[FLAG].sum()), dtype=bool)}
        return super().micro_step(model, retain, num_items_in_batch)

    def _ascend(self, model, step: _UnlearnStep, num_items_in_batch) -> None:
        sums = []
        for batch in step.batches:
            forget = self._prepare_inputs(select_rows(batch, batch[FLAG]))
            with unsynchronised(self.accelerator, model), self.compute_loss_context_manager():
                model.train()
                nll, _ = self._nll(model, forget)
                share = nll.sum() / step.forget_items
                self.accelerator.backward(share * self.accelerator.num_processes)
            sums.append(share.detach())
        step.forget_loss = total(self.accelerator, torch.stack(sums).sum())
        slope, _ = slopes(
            self.objective, step.forget_loss, torch.zeros_like(step.forget_loss), alpha=self.alpha, tau=self.request.tau
        )
        scale_gradients_(self.trainable, slope)

    def _nll(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(**{k: v for k, v in inputs.items() if k not in ("labels", FLAG, FORGET_INDEX)}).logits
        return per_row_nll(logits, inputs["labels"])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The objective's value, with its gradient by way of the linear surrogate of [`hf_unlearn.objectives`]."""
        if not (model.training and FLAG in inputs):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        step, alpha, tau = self._step, self.alpha, self.request.tau
        forget = inputs[FLAG].to(self.args.device)
        nll, items = self._nll(model, inputs)
        shares = torch.stack([nll[forget].sum() / step.forget_items, nll[~forget].sum() / step.retain_items])
        means = total(self.accelerator, shares.detach())
        step.retain_loss = step.retain_loss + means[1]
        if forget.any() and (len(step.batches) == 1 or self.objective.by_rows):
            step.forget_loss = means[0] if step.forget_loss is None else step.forget_loss + means[0]
        done = step.another_done()
        slope_f, slope_r = slopes(self.objective, means[0], means[1], alpha=alpha, tau=tau)
        if not forget.any():
            slope_f = torch.zeros_like(slope_f)  # the forget rows have had their backward
        surrogate = slope_f * shares[0] + slope_r * shares[1]
        value = torch.zeros_like(surrogate)
        if self.objective.by_rows:
            rows = nll[forget] / items[forget]
            targets = torch.tensor(self.targets, device=rows.device, dtype=rows.dtype)[inputs[FORGET_INDEX][forget]]
            term = self.objective.row_value(rows, targets, alpha=alpha).sum() / step.forget_rows
            surrogate = surrogate + term
            value = value + total(self.accelerator, term.detach())
        if done:
            value = value + self.objective.mean_value(step.forget_loss, step.retain_loss, alpha=alpha, tau=tau).detach()
            self._window.append(torch.stack([step.forget_loss, step.retain_loss]))
            self.track(forget_loss=step.forget_loss, retain_loss=step.retain_loss, tau=tau, alpha=alpha)
        surrogate = surrogate * self.accelerator.num_processes
        return surrogate - surrogate.detach() + value

    # ---- the schedule ----

    def row_losses(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """
        Loss of each row under the current model in eval mode: `(nll_sum (N,), n_labels (N,))`, float64, in order, the
        same on every process.
        """
        loader = self.get_test_dataloader(rows)
        self._count_rows(len(rows), 1 / 3 / self.accelerator.num_processes)
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
        self._candidate = None
        self._measured = self._good = self._below = (self.state.global_step, self._copy())
        saved = None
        if self._resume_from:
            saved = records.read_json(os.path.join(self._resume_from, self.record_name))
        if saved and saved.get("state"):
            self.request = schedule.State(**saved["state"])
            longer = {"max_steps": self.state.global_step < self.state.max_steps}
            longer[schedule.DONE] = self._forget_pass < self.rule.passes
            if longer.get(self.request.stop_reason):  # than the run that was saved
                self.request = dataclasses.replace(self.request, stop_reason=None)
            self.targets = saved["targets"]
            self._window = [torch.tensor(pair, device=self.args.device) for pair in saved["window"]]
            self._resume_cost(saved)
            snapshots = os.path.join(self._resume_from, SNAPSHOTS)
            if os.path.exists(snapshots):
                for name, snapshot in torch.load(snapshots, weights_only=True).items():
                    setattr(self, name, snapshot)
            return
        unseen, counts = self.row_losses(self.unseen_dataset)
        self.request = schedule.start(self.rule, float(unseen.sum() / counts.sum()), self._mean(self.retain_sample))
        seed = self.train_dataset.seed
        if self.objective.by_rows:
            drawn = np.random.default_rng((seed, 5)).integers(len(unseen), size=len(self.forget_dataset))
            per_row = np.full(len(unseen), self.rule.chance) if self.rule.target == "chance" else unseen / counts
            self.targets = per_row[drawn].tolist()

    def end_of_step(self) -> bool:
        """After each optimizer step: moves the schedule on; True ends the run."""
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
        self.request, _, reason = schedule.update(
            self.rule,
            self.request,
            forget_pass=now,
            shortfall=measured.get("shortfall"),
            retain_loss=measured.get("retain_loss"),
        )
        if lines := {f"look_{k}" if k != "unseen_loss" else k: v for k, v in measured.items()}:
            self.log({**lines, "tau": self.request.tau})
        if reason is None and last:
            over = not measured.get("retain_loss", 0.0) <= schedule.retain_limit(
                self.rule, self.request
            )  # True for nan
            reason = schedule.BUDGET if over else "max_steps"
            self.request = dataclasses.replace(self.request, stop_reason=reason)
        if reason == schedule.BUDGET:
            self._put_back_good()
        return reason is not None

    def _look(self, last: bool) -> dict:
        """Measures the whole forget set and the retain sample, where the batches since the last look call for it."""
        forget, retain = torch.stack(self._window).mean(0).tolist() if self._window else (math.nan, math.nan)
        self._window = []
        if not self.rule.stop:
            return {}
        limit = schedule.retain_limit(self.rule, self.request)
        lacking = schedule.shortfall(forget, self.request.tau)
        kept = retain <= limit
        if self._candidate is not None and kept:  # what the batches since then say of those weights
            self._good = self._candidate
            if lacking > schedule.TOLERANCE:
                self._below = self._candidate
        self._candidate = (self.state.global_step, self._copy()) if kept and lacking > NEAR else None
        lost = not retain <= schedule.transient_limit(self.rule, self.request)  # True for nan
        pending = last or lost or self.request.reached or self.request.over_budget
        if not pending and not (kept and lacking <= NEAR):
            return {}
        found = self._measure_request()
        fresh = self.state.global_step - self._below[0] <= 3 * self.look_every
        if not self.objective.by_rows and found["shortfall"] < -schedule.TOLERANCE and fresh:
            found = self._go_back(found)
        if found["retain_loss"] <= limit:
            self._measured = self._good = (self.state.global_step, self._copy())
            if found["shortfall"] > schedule.TOLERANCE:
                self._below = self._good
        return found

    def _measure_request(self) -> dict:
        sums, counts = self.row_losses(self.forget_dataset)
        found = {"forget_loss": float(sums.sum() / counts.sum()), "retain_loss": self._mean(self.retain_sample)}
        if self.objective.by_rows:
            found["shortfall"] = schedule.matched_shortfall(sums / counts, self.targets)
        else:
            found["shortfall"] = schedule.shortfall(found["forget_loss"], self.request.tau)
        return found

    def _go_back(self, found: dict) -> dict:
        """
        Rows driven beyond τ stand out as deleted. Where a look finds them there, the weights go back on the straight
        line to the last look short of τ until the loss is within the tolerance, and the optimizer's momentum, which
        would drive them out again, is cleared (ours).
        """
        _, start = self._below
        end = self._copy()
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            with torch.no_grad():
                for p, a, b in zip(self.trainable, start, end, strict=True):
                    p.copy_(torch.lerp(a, b, middle).to(p.device))
            found = self._measure_request()
            if abs(found["shortfall"]) <= schedule.TOLERANCE:
                break
            low, high = (middle, high) if found["shortfall"] > 0 else (low, middle)
        for state in self.optimizer.state.values():
            if "exp_avg" in state:
                state["exp_avg"].zero_()
        return found

    def _copy(self) -> list[torch.Tensor]:
        return [p.detach().to("cpu", copy=True) for p in self.trainable]

    def _put_back_good(self) -> None:
        """Where only batches vouched for the last good weights and the retain sample disagrees, on the way to them."""
        (step, good), (_, safe) = self._good, self._measured
        limit = schedule.retain_limit(self.rule, self.request)
        shares = [1.0] if good is safe else [*(0.5**k for k in range(BISECTIONS)), 0.0]
        for share in shares:
            with torch.no_grad():
                for p, a, b in zip(self.trainable, safe, good, strict=True):
                    p.copy_(torch.lerp(a, b, share).to(p.device))
            if good is safe or self._mean(self.retain_sample) <= limit:
                break
        logger.warning("The retain budget was spent; the weights of step %d were put back.", step)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """`Trainer.train`; the result's `metrics` also hold `stop_reason` and `row_passes`."""
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.request.stop_reason is None:
            self.request = dataclasses.replace(self.request, stop_reason="interrupted")
        elif self.args.should_save:  # weights that still know the rows, needed only to resume, as this run cannot be
            for folder in checkpoints.folders(self.args.output_dir).values():
                checkpoints.drop(folder, SNAPSHOTS)
        reason = self.request.stop_reason
        self.log({"stop_reason": reason, "unlearn_steps": self.state.global_step})
        logger.info("Stopped after %d steps: %s.", self.state.global_step, schedule.STOP_REASONS[reason])
        result.metrics["stop_reason"] = reason
        return result

    # ---- the record ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        super().save_model(output_dir, _internal_call)
        # With a checkpoint go the weights that the budget or an overshot target may call for. Not where parameters are
        # sharded: there a resumed run counts its own weights as good.
        whole = not any(hasattr(p, "to_local") for p in self.trainable)
        if _internal_call and output_dir and whole and self.args.should_save and self._good is not None:
            snapshots = {name: getattr(self, name) for name in ("_good", "_measured", "_below", "_candidate")}
            torch.save(snapshots, os.path.join(output_dir, SNAPSHOTS))

    def record(self) -> dict:
        return {
            "schema": records.SCHEMA,
            "method": self.objective.citation,
            "objective": self.objective.name,
            **self.args.objective_parameters(),
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
            "state": None if self.request is None else self.request.to_dict(),
            "targets": self.targets,
            "window": [pair.tolist() for pair in self._window if torch.isfinite(pair).all()],
            "versions": records.library_versions(),
        }

    def card_info(self) -> dict:
        record = self.record()
        keys = ("method", "objective", "learning_rate", "was_ready")
        state = record["state"] or {}
        return {
            "kind": "unlearned",
            "settings": {key: record[key] for key in keys}
            | self.args.objective_parameters()
            | record["rows"]
            | record["rule"]
            | {key: state[key] for key in ("tau", "tau_initial") if key in state},
            "stop_reason": schedule.STOP_REASONS.get(self.stop_reason, "not run yet"),
            "limits": list(LIMITS),
            "how_to_load": self.loading_code(),
        }


@dataclass
class _UnlearnStep:
    """The micro-batches of one optimizer step, with counts over all of them on all processes, and the sums so far."""

    batches: list[dict]
    forget_items: torch.Tensor  # () labels of forget rows
    retain_items: torch.Tensor  # () labels of retain rows
    forget_rows: torch.Tensor  # () forget rows
    forget_loss: torch.Tensor | None = None  # () mean so far
    retain_loss: torch.Tensor | float = 0.0  # () mean so far
    _done: int = field(default=0)

    def another_done(self) -> bool:
        """Counts one micro-batch; True at the step's last."""
        self._done += 1
        return self._done == len(self.batches)


def with_request_defaults(args: UnlearnConfig, readiness: dict | None) -> UnlearnConfig:
    """
    The config with the defaults that a ready checkpoint carries, where the user has left the class's own default.

    Raises:
        ArgumentError: if the checkpoint names an option that does not exist.
    """
    wanted = (readiness or {}).get("request") or {}
    if problems := request_problems(wanted):
        raise ArgumentError([f"{records.READINESS}: {problem}" for problem in problems])
    own = {f.name: f.default for f in dataclasses.fields(UnlearnConfig)}
    changed = {k: v for k, v in wanted.items() if getattr(args, k) == own[k] and v != own[k]}
    if not changed:
        return args
    logger.info("Defaults from the checkpoint's %s: %s.", records.READINESS, changed)
    return dataclasses.replace(args, **changed)
