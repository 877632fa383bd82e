"""`UnlearnTrainer`: a `transformers.Trainer` that takes rows out of a model and stops by itself.

How its steps run is in `unlearn_steps.py`; where τ, the forget set and the retain sample are measured in
`measuring_tau.py`; what is done between steps in `unlearn_looks.py`, by the stop rule of `unlearning/stop_rule.py`;
what a checkpoint and the record hold in `unlearn_record.py`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from ..config import UnlearnConfig, step_rows
from ..data.alternates import alternate_rows
from ..data.checks import kind_problems, reference_losses, reference_problems, split_sets
from ..data.columns import FLAG, has_tokens
from ..data.order import PairedDataset
from ..objectives.base import BOTH
from ..objectives.registry import objective_of
from ..unlearning import schedule, stop_rule
from ..unlearning.defaults import OF_ADAPTERS, with_fitting_options, with_request_defaults
from ..unlearning.ending import Ending
from ..unlearning.look import RARELY, look_every
from ..utils.checks import ArgumentError, Wrong, problems_of, raise_problems
from . import checkpointing, general_texts, known_rows, records, removed_by_steps, unlearn_record
from .base import ForgettingTrainer
from .callbacks import ScheduleCallback
from .engines import decided_by_first
from .general_term import GeneralTerm
from .measuring_tau import Measurements
from .memory_request import has_memory
from .models import chance_loss, has_adapter, name_of
from .objective_needs import engine_problems, unmet_needs
from .references import References
from .replay_request import OtherWeights, is_replayed, plan_of, tell_why_not
from .row_gradients import Saliency
from .taken_in import take_in
from .unlearn_looks import UnlearnLooks
from .unlearn_steps import UnlearnSteps
from .weights_digest import weights_digest

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    RowSet = Dataset | Sequence[dict[str, Any]]

logger = logging.getLogger(__name__)

LEFT = ("forget_loss", "retain_loss", "shortfall", "tau")  # of the weights at the end, in the log


def _seed(args: UnlearnConfig) -> int:
    """Of what is drawn of the rows."""
    return args.seed if args.data_seed is None else args.data_seed


def _readiness(wanted: str, own: str | None) -> tuple[dict | None, bool]:
    """
    `(readiness.json by the option `readiness_from`, whether the hub does not say if the model has one)`.

    Args:
        own: name or path of the model.

    Raises:
        ValueError: if what was named is not there, or cannot be read.
    """
    if wanted == "none":
        return None, False
    if wanted != "auto":
        found = records.find_readiness(wanted)
        if found is None and records.find_file(wanted, known_rows.FILE) is None:  # which an unlearned model has
            raise ArgumentError([f"`readiness_from` is {wanted!r}, but there is no {records.READINESS}."])
        return found, False
    try:
        return records.find_readiness(own), False
    except records.NoAnswer as silence:
        logger.warning(
            "Whether %s recommends values for a request, and which rows it was trained on, is not known: %s",
            own,
            silence,
        )
        return None, True


class UnlearnTrainer(ForgettingTrainer):
    """
    Unlearns the forget rows with ∇τ (Trippa et al. 2024), or with a baseline of the same registry, and stops by itself.

    It needs nothing but the rows: α, the number of passes and τ follow from them. The run ends when the loss of the
    whole forget set has reached τ, and stayed there where the objective holds it, while the retain rows' loss is within
    its budget; where the target stands still, it goes on for twice as many passes at most, or a hundred steps in all,
    until their labels are 98 % as likely as they were, and a run that loses its target again ends with the last weights
    that had it. The retain loss may rise during the run if it falls again. Where the model becomes no better than
    guessing on retain rows, or their loss is still beyond the budget at the end, the last weights within it are put
    back. With `resistance="relearn"` the target counts as reached only when simulated recoveries fail, too. Why the run
    ended is in `stop_reason`, in the log (`trainer.state`) and in the result's metrics.

    Args:
        model: a model, or the name or path of one, which is then loaded after the checks.
        args: an [`UnlearnConfig`].
        forget_dataset: rows to remove. For an objective that compares them with the model before the request (`npo`), a
            column `reference_nll` may hold the sum of each row's losses before it, in nats; where there is none, they
            are measured before the first step.
        retain_dataset: rows to keep: the rest of what the model was trained on.
        unseen_dataset: rows of the same kind that the model was never trained on; their mean loss is τ.
        eval_dataset, data_collator, processing_class, callbacks, …: as in `transformers.Trainer`.
        peft_config: unlearns with this adapter; the model's own weights stay as they are.
        general_dataset: rows that no row of the request stands for, so that a language model keeps its general ability
            ([`hf_unlearn.unlearning.general`]): every other one comes beside the retain rows, the others are measured
            and have the budget `general_budget`. "auto": texts that the model writes itself before the first step,
            stored beside the result; none where it is no language model that can write, no tokenizer is passed as
            `processing_class`, or it has nothing to say beside its rows. A file, a folder or a hub id: its texts or
            chats. "none", or None: none.

    Attributes:
        objective: what the steps minimise ([`hf_unlearn.objectives`]).
        rule, request_state: the fixed and the moving part of the request ([`hf_unlearn.unlearning.schedule`]).
        targets: mean loss in nats that each forget row is to have; [] where the objective sets none.
        references: sum of each forget row's losses before the request, nats; [] where the objective needs none.
        before: what rows bring from before the request beside a loss ([`hf_unlearn.trainers.references`]).
        alternates, alternate_references: the rows with another answer, and the sums of their losses before the request.
        ending: what the weights know with which the run ended ([`hf_unlearn.unlearning.ending`]); None before its end.

    Raises:
        ArgumentError: with all problems of the data at once, before a model is loaded.
    """

    card_roles = ("ready_unlearned", "unlearned")
    record_name = records.UNLEARNING
    own_callbacks = (*ForgettingTrainer.own_callbacks, ScheduleCallback)

    def __new__(cls, model=None, args=None, *rest, **kwargs):
        """A [`ReplayTrainer`] where the request is replayed, a [`MemoryDeletionTrainer`] where tables are dropped."""
        if args is None and model is not None:
            args = UnlearnConfig("unlearned")
        if cls is UnlearnTrainer and has_memory(model, args):
            from .memory_deletion import MemoryDeletionTrainer

            return MemoryDeletionTrainer(model, args, *rest, **kwargs)
        replays = isinstance(args, UnlearnConfig) and args.method != "objective"
        if replays and cls is not UnlearnTrainer and args.method == "replay":
            said = f'is "replay", and a {cls.__name__} takes steps on a loss. Use `UnlearnTrainer` itself.'
            raise ArgumentError([Wrong("method", said)])
        if replays and cls is UnlearnTrainer:
            from .replay import ReplayTrainer

            forget = rest[0] if rest else kwargs.get("forget_dataset")
            peft_config = rest[6] if len(rest) > 6 else kwargs.get("peft_config")
            if decided_by_first(lambda: is_replayed(model, args, forget, peft_config)):
                try:
                    return ReplayTrainer(model, args, *rest, **kwargs)
                except OtherWeights as why:
                    if args.method == "replay":
                        raise
                    tell_why_not(problems_of(why), args)
        return super().__new__(cls)

    def __init__(
        self,
        model: torch.nn.Module | str | os.PathLike,
        args: UnlearnConfig | None = None,
        forget_dataset: RowSet | None = None,
        retain_dataset: RowSet | None = None,
        unseen_dataset: RowSet | None = None,
        eval_dataset: RowSet | dict[str, RowSet] | None = None,
        data_collator: Callable[[list[dict]], dict] | None = None,
        processing_class: (
            PreTrainedTokenizerBase | ImageProcessingMixin | FeatureExtractionMixin | ProcessorMixin | None
        ) = None,
        peft_config: PeftConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        general_dataset: RowSet | str | None = general_texts.AUTO,
        **kwargs: Any,
    ):
        args = UnlearnConfig("unlearned") if args is None else args
        own = {"eval_dataset": eval_dataset, "data_collator": data_collator, "processing_class": processing_class}
        others = {**kwargs, **own, "peft_config": peft_config, "callbacks": callbacks}
        given = forget_dataset, retain_dataset, unseen_dataset

        def take_rows(limits, plain):
            sets, wrong = split_sets(*given, limits, plain, processing_class)
            own = None if wrong else sets[0]
            self.limits = limits
            self.general_dataset, bad = general_texts.taken_in(general_dataset, processing_class, limits, plain, own)
            return sets, wrong + bad

        sets, problems = take_in(model, args, UnlearnConfig, others, "request's", take_rows)
        forget_dataset, retain_dataset, unseen_dataset = sets
        args = self._settle_arguments(args, model, problems, has_tokens(forget_dataset))
        self.objective = objective_of(args)
        self.step_rows = step_rows(args)
        problems += general_texts.unread_budget(args, self.general_dataset)
        problems += unmet_needs(self.objective, args, kwargs.get("optimizers"), peft_config)
        if kwargs.get("compute_loss_func") is not None:
            problems.append(
                "`compute_loss_func` is set, but the loss of a request is its objective's. Leave it out; a loss of "
                "your own is an objective of your own (`hf_unlearn.objectives` says how)."
            )
        problems += kind_problems(self.objective, forget_dataset)
        if self.objective.reference == "loss":
            problems += reference_problems(forget_dataset)
        self.alternates = None  # the row with another answer that stands beside each forget row
        if self.objective.alternates != "none" and not problems:
            found = alternate_rows(self.objective, forget_dataset, processing_class, _seed(args), self.limits)
            self.alternates, problems = found
        self._known, self._known_rows = known_rows.Known(), None  # of the model as it comes, as it is saved
        rows = None if problems else (retain_dataset, unseen_dataset)
        self._known, found = decided_by_first(lambda: self._rows_known(args, model, rows, processing_class))
        problems += [problem for problem in found if problem not in problems]
        raise_problems(problems or self._resistance_problems(args, len(forget_dataset)))
        self._weights: str | None = None  # digest of the weights as they are saved, where a replay may follow
        self.removed_by_steps = decided_by_first(lambda: self._for_a_replay(args, model, forget_dataset))

        self.forget_dataset, self.retain_dataset, self.unseen_dataset = forget_dataset, retain_dataset, unseen_dataset
        self.measurements, self.before = Measurements(self), References(self)
        passes = self._passes(args)
        super().__init__(
            model,
            args,
            train_dataset=PairedDataset(
                forget_dataset, retain_dataset, passes, _seed(args), self.alternates, numbered=bool(self.before.kinds)
            ),
            **others,
        )
        self._model_takes_items = self.model_accepts_loss_kwargs
        self.model_accepts_loss_kwargs = True  # with `num_items_in_batch` at hand: our loss is the step's mean already
        raise_problems(engine_problems(args, self.accelerator, self.objective, self.model))
        self.saliency = Saliency(self, args.saliency)
        wanted = {*args.given, *((self.readiness or {}).get("request") or ())}
        if "learning_rate" not in wanted and has_adapter(self.model):
            rate = OF_ADAPTERS[has_tokens(forget_dataset)]
            vars(args)["learning_rate"] = rate  # not by assignment, which would count as given
        self.rule = self._rule(passes)
        self.general, self.general_term = general_texts.GeneralRows(), GeneralTerm(self)
        self.request_state: schedule.State | None = None
        self.targets: list[float] = []
        self.references: list[float] = []
        self.alternate_references: list[float] = []
        self.ending: Ending | None = None
        self.steps = UnlearnSteps(self)
        # Where batches do not tell both losses, looks must measure them: they come more rarely.
        rarely = RARELY if self.objective.side != BOTH or self.steps.layer is not None else 1
        self.looks = UnlearnLooks(self, rarely * look_every(len(forget_dataset), self.step_rows))
        self.add_callback(ScheduleCallback(self))

    def _settle_arguments(self, args: UnlearnConfig, model, problems: list[str], of_tokens: bool) -> UnlearnConfig:
        """The arguments with what a ready checkpoint recommends and what "auto" stands for; adds to the problems."""
        self.readiness, self._hub_is_silent = None, False
        try:
            # Asked on the first process: where the hub answers some processes alone, the others would run on with
            # other values.
            found = decided_by_first(lambda: _readiness(args.readiness_from, name_of(model)))
            self.readiness, self._hub_is_silent = found
            settled = with_fitting_options(with_request_defaults(args, self.readiness), of_tokens)
            problems += settled.idle_options(settled.given, settled=True)
            return settled
        except (TypeError, ValueError) as error:
            problems += problems_of(error)
            return args

    def _rows_known(self, args: UnlearnConfig, model, rows: tuple[RowSet, RowSet] | None, tokenizer) -> tuple:
        """
        What the model's folder tells of its rows, and what is wrong with that or, of the retain and the unseen `rows`,
        does not go with it; None: there are other problems, so that only files at hand are read.
        """
        named = [args.readiness_from] if args.readiness_from not in ("auto", "none") else []
        own = [] if self._hub_is_silent else [name_of(model)]  # to ask again would take as long again
        known, wrong = known_rows.read_of(s for s in (*own, *named) if rows or (s and os.path.exists(s)))
        earlier, more = known_rows.read_of([args.output_dir] if os.path.isdir(args.output_dir) else [])
        wrong += more
        if rows and not wrong:
            if args.readiness_from == "auto":
                known_rows.tell_adapter_of_unknown_folder(model, ["name it by `readiness_from`"])
            known_rows.tell_earlier_request(earlier, rows[0])
            wrong = known_rows.problems(known, tokenizer, retain=rows[0], unseen=rows[1])
        return known, wrong

    def _for_a_replay(self, args: UnlearnConfig, model, rows) -> removed_by_steps.RemovedBySteps | None:
        """What a later replay is to know of this request; None where the model's training cannot be replayed."""
        named = None if args.readiness_from in ("auto", "none") else str(args.readiness_from)
        source, before = plan_of(name_of(model), named)
        if not (before or "replay" in (self.readiness or {}) or os.path.isdir(source or "")):
            return None
        return removed_by_steps.of_request(source, before, rows, args.salt_file)

    def replay_record(self) -> dict:
        """Of `unlearning.json`: what a later replay is to know."""
        if self.removed_by_steps is None:
            return {}
        return {removed_by_steps.KEY: self.removed_by_steps.to_dict(), "weights": self._weights}

    def _resistance_problems(self, args: UnlearnConfig, n_forget: int) -> list[str]:
        if args.resistance != "none" and min(self.step_rows, n_forget) < 2:
            return ["`resistance` divides the forget rows of a step; there is one. Raise the batch size."]
        return []

    def _passes(self, args: UnlearnConfig) -> int:
        """Forget passes at most."""
        if args.passes != "auto":
            return int(args.passes)
        return schedule.most_passes(len(self.forget_dataset), len(self.retain_dataset), self.step_rows)

    def _rule(self, passes: int) -> schedule.Rule:
        """The fixed part of the request."""
        args = self.args
        alpha0 = schedule.initial_alpha(len(self.forget_dataset), len(self.retain_dataset))
        return schedule.Rule(
            alpha0=alpha0 if args.alpha is None else args.alpha,
            passes=passes,
            target=args.target,
            chance=chance_loss(self.model),
            stop=args.stop,
            retain_budget=args.retain_budget,
            recovers=self.objective.recovers,
            holds=self.objective.stops_at_target,
            fewest=schedule.fewest_passes(len(self.forget_dataset), self.step_rows),
        )

    # ---- where the request is ----

    @property
    def alpha(self) -> float:
        """α of the coming step."""
        passes = self.rule.passes
        return schedule.alpha_at(self.rule.alpha0, min(self.forget_pass, passes - 1), passes)

    @property
    def forget_pass(self) -> int:
        """Forget passes done."""
        return self.state.global_step * self.step_rows // len(self.forget_dataset)

    @property
    def stop_reason(self) -> str | None:
        """Why the run ended, a key of `hf_unlearn.unlearning.stop_rule.STOP_REASONS`; None before its end."""
        return None if self.request_state is None else self.request_state.stop_reason

    @property
    def weights_of_step(self) -> int:
        """
        The step whose weights the model has: the last one, or that of weights which were put back; 0: the first ones,
        put back or never moved. After a step that led beyond the target they are those on the way back that a look
        ended with.
        """
        step = self.state.global_step if self.looks.restored_step is None else self.looks.restored_step
        return step if self.looks.moved_at is not None and step >= self.looks.moved_at else 0

    @property
    def unlearned(self) -> bool:
        """Whether the request has ended with other weights than it began with."""
        return self.stop_reason is not None and self.weights_of_step > 0

    @property
    def card_tags(self) -> tuple[str, ...]:
        return ("unlearned",) if self.unlearned else ()

    def row_losses(self, rows: RowSet) -> tuple[np.ndarray, np.ndarray]:
        """
        Loss of each row under the current model in eval mode: `(nll_sum (N,), n_labels (N,))`, float64, in order, the
        same on every process. `per_device_eval_batch_size` rows at a time, at most as many as in a training batch.
        """
        return self.measurements.row_losses(rows)

    # ---- hooks of the Trainer ----

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)  # the data set is the schedule

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.stop_reason is not None:
            return [], None  # resumed from the checkpoint of the last step
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, self.steps.take(batches, device)

    def micro_step(self, model, inputs, num_items_in_batch=None):
        inputs = self.steps.begin_micro_batch(model, inputs)
        loss = self.steps.checked(super().micro_step(model, inputs, num_items_in_batch))
        if self.accelerator.sync_gradients:
            self.saliency.mask_gradients()
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The objective's value, with its gradient by way of the linear surrogate of [`hf_unlearn.objectives`]."""
        if not (model.training and FLAG in inputs):
            items = num_items_in_batch if self._model_takes_items else None
            return super().compute_loss(model, inputs, return_outputs, items)
        return self.steps.loss(model, inputs)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        `Trainer.train`; the result's `metrics` also hold `row_passes`, `stop_reason`, `weights_of_step`, the step whose
        weights the model has (0 where those from before the request were put back, or no step has moved any), and
        `guarantee`: `approximate` where the request ended by reaching its target, else `not_forgotten`; and `end`, the
        losses of the weights that are left ([`hf_unlearn.unlearning.ending.Ending`]).
        """
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.request_state.stop_reason is None:
            self.request_state = dataclasses.replace(self.request_state, stop_reason=stop_rule.INTERRUPTED)
        elif self.args.should_save:  # weights that still know the rows, needed only to resume, as this run cannot be
            for folder in checkpointing.folders(self.args.output_dir).values():
                checkpointing.drop(folder, unlearn_record.SNAPSHOTS_FILE)
        reason = self.request_state.stop_reason
        self.ending = self.looks.at_the_end()
        end = self.ending.to_dict()
        self.log({"stop_reason": reason, "unlearn_steps": self.state.global_step, **{f"end_{k}": end[k] for k in LEFT}})
        logger.info("Stopped after %d steps: %s.", self.state.global_step, stop_rule.STOP_REASONS[reason])
        self.looks.warn_at_the_end()
        result.metrics.update(stop_reason=reason, weights_of_step=self.weights_of_step, end=end)
        result.metrics["row_passes"] = self.cost["row_passes"]  # with those of the last measurement
        result.metrics[records.GUARANTEE] = unlearn_record.guarantee(reason, self.weights_of_step)
        return result

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if self.removed_by_steps is not None:  # by all processes: where parameters are sharded they are gathered
            self._weights = weights_digest(self.accelerator.unwrap_model(self.model))
        super().save_model(output_dir, _internal_call)
        if _internal_call and output_dir:
            unlearn_record.save_snapshots(self, output_dir)

    # ---- the request ----

    def begin_request(self) -> None:
        """Before the first step: measures τ and the retain rows, or restores the state of the checkpoint."""
        self.steps.reset()
        self.looks.reset()
        resumed = bool(self.resumed_from) and unlearn_record.take_up(self, self.resumed_from)
        self._settle_general(resumed)
        if resumed:
            return
        self.before.begin(resumed=None)
        self.saliency.choose()
        if self.alternates is not None:
            self.alternate_references = self.row_losses(self.alternates)[0].tolist()
        self.request_state, start = self.measurements.before_first_step()
        if self.objective.reference == "loss":
            given = reference_losses(self.forget_dataset)
            self.keep_row_values(self.row_losses(self.forget_dataset)[0].tolist() if given is None else given)
        else:
            self.keep_row_values(self.objective.targets(start) or [])
        if self.objective.edits:
            self.looks.edit()

    def _settle_general(self, resumed: bool) -> None:
        """The general rows, and their budget where there are any."""
        self.general = general_texts.settled(self, self.general_dataset, resumed)
        if self.general:
            self.general_term.listen(resumed)
        self.rule = dataclasses.replace(self.rule, general_budget=self.general.budget(self.args))

    def keep_row_values(self, values: list[float]) -> None:
        """Takes what each forget row brings: its reference or its target, whichever the objective asks for."""
        if self.objective.reference == "loss":
            self.references = values
        else:
            self.targets = values

    def end_of_step(self) -> bool:
        """After each optimizer step; True ends the run."""
        return self.looks.after_step()

    def known_rows(self) -> list[known_rows.KnownRows]:
        if self._known_rows is None:
            earlier = [*self._known.salts, *filter(None, [self.removed_by_steps and self.removed_by_steps.salt])]
            salt = records.salt_for(self.args.output_dir, earlier)
            own = known_rows.commit(
                known_rows.FORGOTTEN, self.forget_dataset, salt, processing_class=self.processing_class
            )
            self._known_rows = [*self._known.sets, *own]
        return self._known_rows

    def run_rows(self) -> dict:
        return {"forget": self.forget_dataset, "retain": self.retain_dataset, "unseen": self.unseen_dataset}

    def run_options(self) -> dict:
        given = self.general_dataset if isinstance(self.general_dataset, str) else general_texts.digest(self)
        return {"alpha": self.rule.alpha0, "passes": self.rule.passes, "general_dataset": given}

    def record(self) -> dict:
        return unlearn_record.record(self)

    @property
    def card_rows(self):
        return self.forget_dataset

    def card_info(self) -> dict:
        return unlearn_record.card_info(self)
