"""
`ReadyTrainer`: a `transformers.Trainer` whose models are ready to forget.

Differs from the paper: requests drawn beside the batch, whole groups of rows, requests for any row (`revocable=None`)
and a later start of the terms, paced by the loss (`meta_start`, `meta_budget`), are ours.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from ..config import EXACT_CHECKPOINTING, ReadyConfig, step_rows
from ..data.checks import column_codes, column_or_none, training_set
from ..data.columns import FLAG, column_values, row_ids
from ..data.order import SpreadSampler
from ..options import GAIN_CAP, INNER_LR, INNER_LR_ADAPTER
from ..readiness.terms import FD_EPSILON, FD_EPSILON_BF16, Terms
from ..report.words import model_card
from ..utils.checks import raise_problems
from ..utils.files import read_json
from ..utils.versions import library_versions
from . import known_rows, making_plans, records, replaying, snapshots
from .engines import decided_by_first, several_backwards_problem
from .main_loss import MainLoss
from .models import chance_loss, has_adapter, name_of
from .passes import RowsPass
from .ready_passes import ReadyPasses
from .replay_request import TRAINED_AFTER, ids_of, plan_before
from .replaying import ReplayableTrainer
from .simulated_requests import SKIPPED, SimulatedRequests
from .taken_in import take_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from datasets import Dataset
    from peft import PeftConfig
    from transformers import (
        BaseImageProcessor,
        FeatureExtractionMixin,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
        TrainerCallback,
    )

    from .replay_plan import ReplayPlan

    ProcessingClass = PreTrainedTokenizerBase | BaseImageProcessor | FeatureExtractionMixin | ProcessorMixin

logger = logging.getLogger(__name__)

METHOD = "Ready2Unlearn, reconstructed (arXiv:2505.10845)"
LIMITS = (
    "Readiness is a reconstruction: the paper behind it publishes its objectives, not its equations.",
    "A ready model was trained on the revocable rows, too: nothing has been unlearned before a request.",
    "Readiness is for the rows that were revocable in training; requests for other rows can take longer.",
)

PROBE = "ready_"  # what the measures of the simulated request begin with in the log


def _rows_known(folders, model, rows, processing_class) -> tuple[known_rows.Known, list[str]]:
    """
    What a model's folders tell of its rows, and what is wrong with that or, of the training rows, does not go with it;
    None: there are other problems, or a plan says which of them are trained on.
    """
    known, wrong = known_rows.read_of(folder for folder in folders if folder and os.path.isdir(folder))
    if rows is not None and not wrong:
        known_rows.tell_adapter_of_unknown_folder(model, ())
        wrong = known_rows.problems(known, processing_class, training=rows)
    return known, wrong


class ReadyTrainer(ReplayableTrainer):
    """
    Drop-in for `transformers.Trainer` that trains a model ready for later deletion requests.

    `readiness="replay"`, the default, puts the rows that may be asked for last, with snapshots before them, at the row
    passes of a plain training; a request then goes back to a snapshot and runs the rest without its rows, exactly
    ([`hf_unlearn.readiness.replay`]). What comes when is a plan of its own, also the learning rate unless you set
    `lr_scheduler_type`. All rows need a column `id`.

    `readiness="meta"` leaves rows and loss as the stock Trainer has them, the revocable rows spread evenly over the
    batches. Some steps also simulate a request and add the terms of [`hf_unlearn.readiness`], which reward a request
    that removes its rows and penalise one that harms the others. The request is for `request_rows` revocable rows that
    are drawn beside the batch; with `request_rows` 0 it is for those in the batch. Since the terms slow down a model
    that is still learning, they begin when the loss says that it has learned, pause where the loss rises again, and
    cost `meta_budget` row passes at most ([`hf_unlearn.readiness.pacing`]); or, with `meta_start` a number, they come
    on every `meta_every`-th step after that share of the steps. It is not recommended for pretrained models, for which
    no gain is shown (recipes/study/README.md).
    `"replay+meta"` does both. With `readiness="none"`, or with all λ = 0, the run is the stock Trainer's, bit for bit,
    in the same row order; only where a loss ignores `num_items_in_batch` the gradient is not multiplied by the number
    of micro-batches and processes, as it is there ([`hf_unlearn.trainers.main_loss`]). A `compute_loss_func` is the
    loss of all passes.

    With `readiness="replay"` the revocable rows come last, behind snapshots ([`hf_unlearn.readiness.replay`]); with
    `"replay+meta"` requests are simulated, too, for rows of slices that have begun
    ([`hf_unlearn.data.requests_in_replay`]).

    With `readiness="memory"` the model stays as it is, and each source (`request_group`) fills a table of its own,
    which a request drops ([`hf_unlearn.trainers.memory`]).

    Args:
        model: a model, or the name or path of one, which is then loaded after the checks.
        args: a [`ReadyConfig`].
        train_dataset: rows with labels, and with the boolean column `revocable`; with `readiness="none"` they may lack
            it.
        revocable: name of that column. None, for "meta" alone: any row may be asked for one day; on each step a random
            `revocable_share` of the batch plays the request, or the rows of random values of `request_group`.
        deleted: with a replay's order, ids of rows to leave out: the very program without them, what a replay equals.
        plan: of an earlier training, whose rows these are, less those that were deleted.
        eval_dataset, data_collator, processing_class, callbacks, …: as in `transformers.Trainer`.
        peft_config: trains this adapter; θ is then the adapter's weights.
        deleted: with `replay`, ids of rows whose places stay empty: the program that a replay must equal.
        plan: of an earlier training, whose program is run; `train_dataset` may then lack rows that are deleted.

    Raises:
        ArgumentError: with all problems of the data at once, before a model is loaded.
    """

    record_name = records.READINESS
    card_roles = ("ready", "original", "retrained", "retrained_again")

    @property
    def card_tags(self) -> tuple[str, ...]:
        return ("unlearning-ready",) if self.is_ready else ()

    def __new__(cls, model=None, args=None, *rest, **kwargs):
        """A [`MemoryTrainer`] where `readiness` is "memory"."""
        if cls is ReadyTrainer and getattr(args, "readiness", None) == "memory":
            from .memory import MemoryTrainer

            return MemoryTrainer(model, args, *rest, **kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        model: PreTrainedModel | str | os.PathLike,
        args: ReadyConfig | None = None,
        train_dataset: Dataset | None = None,
        revocable: str | None = "revocable",
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        data_collator: Callable[[list[dict]], dict] | None = None,
        processing_class: ProcessingClass | None = None,
        peft_config: PeftConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        deleted: Iterable = (),
        plan: ReplayPlan | None = None,
        **kwargs,
    ):
        args = ReadyConfig("ready") if args is None else args
        own = {"eval_dataset": eval_dataset, "data_collator": data_collator, "processing_class": processing_class}
        others = {**kwargs, **own, "peft_config": peft_config, "callbacks": callbacks}

        if getattr(args, "readiness", None) == "none" and revocable == "revocable":
            revocable = column_or_none(train_dataset, revocable)  # nothing reads it; another name was given, so meant
        marked = None if plan is not None else revocable  # a plan knows its rows
        causal_lm = True

        def take_rows(limits, plain):
            nonlocal causal_lm
            causal_lm = limits.causal_lm is not False
            rows, wrong = training_set(train_dataset, marked, limits, plain, processing_class)
            return [rows], wrong

        (train_dataset,), problems = take_in(model, args, ReadyConfig, others, "training", take_rows)
        groups = None  # (value of `request_group` -> number, number (N,) of each row)
        if args.request_group and revocable is not None:
            problems.append(
                f"`request_group` says what anybody may ask for, `revocable={revocable!r}` who; pass one of the two."
            )
        elif args.request_group and args.readiness_is_on and not problems:
            found = column_codes(train_dataset, args.request_group)
            problems += found if isinstance(found, list) else []
            groups = None if problems else found
        elif revocable is None and args.readiness_is_on and step_rows(args) * args.revocable_share < 1:
            problems.append(
                f"`revocable_share` {args.revocable_share} of {step_rows(args)} row(s) a step is less than one row: no "
                "step would hold a request. Raise the share or the batch size."
            )
        problems += args.idle_beside_rows(args.given, named=revocable is not None)
        rows = None if problems or plan is not None else train_dataset
        folders = self.folders_of(model)
        self._known, found = decided_by_first(lambda: _rows_known(folders, model, rows, processing_class))
        deleted = ids_of(deleted)
        if args.is_replayable:
            problems += making_plans.argument_problems(args, revocable, callbacks)
            problems += snapshots.place_problems(args.snapshots, args.output_dir)
        elif deleted or plan is not None:
            problems.append('`deleted` and `plan` are for `readiness="replay"`; elsewhere leave the rows out yourself.')
        raise_problems(problems + [problem for problem in found if problem not in problems])
        self.revocable, made = revocable, None
        self._flags = None if marked is None else np.array(column_values(train_dataset, revocable), dtype=bool)
        if args.is_replayable:
            made, problems = making_plans.planned(
                args, train_dataset, self._flags, deleted, plan, processing_class, causal_lm
            )
            raise_problems(problems)
            train_dataset, self._flags = made.rows, made.flags
            raise_problems(decided_by_first(lambda: self._history_problems(made.rows, plan is None, processing_class)))
        self._plan_before = decided_by_first(lambda: None if args.is_replayable else plan_before(name_of(model)))
        self._commitment: dict | None = None
        self._known_rows: list[known_rows.KnownRows] | None = None
        self._best: dict | None = None  # of the best checkpoint's record, while its weights are in the model
        super().__init__(
            model,
            args,
            flag=args.request_group if groups else revocable,
            codes=groups and groups[0],
            train_dataset=train_dataset,
            **others,
        )
        if made is not None:
            self.take_program(made)
        if args.readiness_is_on:
            problem = several_backwards_problem(self.accelerator, "The readiness gradient")
            raise_problems([problem] if problem else [])
        self.terms = make_terms(args, self.model, self.accelerator.mixed_precision)
        self.simulated = SimulatedRequests(self, self._flags, groups and groups[1])
        self.main_loss = MainLoss(self)
        self._passes = ReadyPasses(self)

    def folders_of(self, model) -> list[str | None]:
        """Folders that may say of the model which rows it knows."""
        return [name_of(model)]

    def _history_problems(self, rows, is_new: bool, processing_class) -> list[str]:
        """Rows of a program that the model has met before it, or that were to be forgotten."""
        if is_new:
            return known_rows.met_before(self._known, rows, self._flags, processing_class)
        return known_rows.problems(self._known, processing_class, training=rows)

    def _precision_problems(self, model, args) -> list[str]:
        problems = super()._precision_problems(model, args)
        checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        if checkpointed and args.meta_gradient == "exact":
            problems.append(EXACT_CHECKPOINTING)
        half = any(p.requires_grad and p.dtype == torch.bfloat16 for p in model.parameters())
        if half and args.readiness_is_on and args.meta_gradient == "finite_difference":
            problems.append(
                "The trainable weights are torch.bfloat16, which cannot hold the perturbation of "
                '`meta_gradient="finite_difference"`. Load the model in float32 (and train with `bf16=True`), or use '
                '"first_order".'
            )
        return problems

    # ---- the order of the rows ----

    def _get_train_sampler(self, train_dataset=None):
        strategy = self.args.train_sampling_strategy
        if strategy == "sequential":
            return SequentialSampler(self.train_dataset)
        if strategy != "random":
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return SpreadSampler(
            self._flags, len(self.train_dataset), seed, epoch=lambda: int((self.state.epoch or 0) + 1e-6)
        )

    # ---- the step ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._best = None  # the weights move on
        self._step = self.simulated.prepare(batches)
        return batches, items

    def micro_step(self, model, inputs, num_items_in_batch=None):
        if not self.step_has_rows:
            return torch.zeros((), device=self.args.device)
        step = self._step
        make = self._ready_step if step.active else self._plain_step
        loss = make(model, step, inputs, num_items_in_batch)
        self.simulated.pace.saw_loss(loss, is_last=self.place == len(step.batches) - 1)
        return loss

    def _ready_step(self, model, step, inputs, num_items_in_batch) -> torch.Tensor:
        """A micro-batch of a step with readiness terms, whose gradient comes with the first one."""
        loss = torch.zeros((), device=self.args.device)
        if self.place == 0:
            self.simulated.steps_with_readiness_terms += 1
            self.simulated.skipped_with_readiness_terms += not self._steps_move
            loss = loss + self._passes.add_gradient(model, step)
        rest = RowsPass(self, model, [step.rest(self.place)], step.items["all"])
        return loss + rest.add_local_gradient()

    def _plain_step(self, model, step, inputs, num_items_in_batch) -> torch.Tensor:
        """A micro-batch of a step without readiness terms: the stock Trainer's, where that is the step's mean."""
        inputs = {k: v for k, v in inputs.items() if k != FLAG}
        if self.place == 0:
            if self.program is not None:  # known without asking the model: a plan says what each step costs
                self._is_share = self.plan.parts == 1
            else:
                self._is_share = self.main_loss.is_share(model, inputs, len(step.batches), num_items_in_batch)
            if not self._is_share:
                step.count_all(self.simulated.sum)
        if self._is_share:
            self.count_rows(len(inputs["labels"]))
            return super().micro_step(model, inputs, num_items_in_batch)
        return RowsPass(self, model, [(inputs, True)], step.items["all"]).add_local_gradient()

    @property
    def _steps_move(self) -> bool:
        """Whether the learning rate lets a step move weights."""
        return any(group.get("lr") != 0 for group in getattr(self.optimizer, "param_groups", [{}]))

    def step_was_skipped(self):
        self.simulated.skipped_with_readiness_terms += self._step.active and self._steps_move

    # ---- the record ----

    def known_rows(self) -> list[known_rows.KnownRows]:
        if self._known_rows is None:
            salt = records.salt_for(self.args.output_dir, self._known.salts)
            rows, tokenizer = self.train_dataset, self.processing_class
            own = known_rows.commit(known_rows.TRAINED, rows, salt, self.columns_read, tokenizer)
            self._known_rows = [*self._known.sets, *own]
        return self._known_rows

    @property
    def is_ready(self) -> bool:
        """Whether a readiness step has moved the present weights, or the whole program with its snapshots was run."""
        if self.program is not None:
            return self.has_ended
        return self.args.readiness_is_on and self._saw_requests

    @property
    def _saw_requests(self) -> bool:
        steps = self._record_of_weights()["steps"]
        return steps["with_readiness_terms"] > steps.get(SKIPPED, 0)

    def _record_of_weights(self) -> dict:
        """`steps` and `probe` of the record, of the present weights: those of the last step, or the best ones."""
        if self._best is not None:
            return self._best
        last = self._step_log.last
        return {
            "steps": {"all": self.state.global_step, **self.simulated.to_dict()},
            "probe": {name.removeprefix(PROBE): value for name, value in last.items() if name.startswith(PROBE)},
        }

    def _load_best_model(self):
        super()._load_best_model()
        record = read_json(os.path.join(self.state.best_model_checkpoint, self.record_name))
        self._best = {key: record[key] for key in ("steps", "probe")} if record else None

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """`Trainer.train`, of `ForgettingTrainer`; warns where no readiness step has moved the weights at its end."""
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.args.readiness_is_on and not self._saw_requests:
            steps = self._record_of_weights()["steps"]["all"]
            if self.args.is_paced:
                why = self.simulated.pace.why_not_ready()
            else:
                why = f"These begin after the share `meta_start` ({self.args.planned_start:g}) of the training's "
                why += f"{self.state.max_steps} steps{'' if self.program is None else ', where a slice has begun'}"
            logger.warning(
                "The model is not ready for %s: its weights, those of step %d, saw no readiness step that moved them. "
                "%s; `learning_rate` is %g.", "deletion" if self.program is None else "steps on a loss", steps,
                why, self.args.learning_rate,
            )  # fmt: skip
        self.simulated.pace.tell_at_the_end()
        return result

    def _train_from(self, resume, *args, **kwargs):
        self.simulated.pace.restart()
        return super()._train_from(resume, *args, **kwargs)

    def run_rows(self) -> dict:
        return {"training": self.train_dataset}

    def run_options(self) -> dict:
        terms = {name: getattr(self.terms, name) for name in ("inner_lr", "gain_cap")}
        return {"revocable": self.revocable, **(terms if self.args.readiness_is_on else {})}

    @property
    def columns_read(self) -> set[str]:
        return {self.revocable, self.args.request_group} - {None}

    def resume_record(self, folder):
        super().resume_record(folder)
        if record := read_json(os.path.join(folder, self.record_name)):
            self.simulated.resume(record["steps"])
            self.simulated.pace.resume(record.get("pace"))
            self._step_log.last = {f"{PROBE}{name}": value for name, value in record["probe"].items()}
            self.resume_costs(record)

    def record(self) -> dict:
        if self._commitment is None:
            ids = row_ids(self.train_dataset)
            chosen = ids if self._flags is None else [i for i, flag in zip(ids, self._flags, strict=True) if flag]
            salt = records.salt_for(self.args.output_dir)
            self._commitment = {
                "revocable": "any" if self.revocable is None else "named",
                "revocable_rows": len(chosen),
                "revocable_fraction": len(chosen) / len(ids),
                "revocable_commitment": records.commitment(chosen, salt),
            }
        methods = [] if self.plan is None else [replaying.METHOD]
        methods += [METHOD] if self.plan is None or self.args.readiness_is_on else []
        return {
            "schema": records.SCHEMA,
            "method": "; ".join(methods),
            "ready": self.is_ready,
            "readiness": self.args.readiness,
            **self.replay_record(),
            **({TRAINED_AFTER: self._plan_before} if self._plan_before else {}),
            **asdict(self.terms),
            "meta_every": int(self.args.meta_every),
            "meta_rows": self.args.meta_rows,
            "request_rows": int(self.args.request_rows) if self.simulated.drawn else 0,
            "request_group": self.args.request_group,
            "meta_start": self.args.meta_start,
            **self.simulated.pace.to_record(),
            **self._commitment,
            **self._record_of_weights(),
            "cost": self.cost,
            "skipped": self.finite_guard.to_dict(),
            "request": self.args.request_defaults(),
            "versions": library_versions(),
        }

    def card_info(self) -> dict:
        if self.plan is not None and not self.args.readiness_is_on:
            return self.replay_card()
        if not self.args.readiness_is_on:
            role = self.card_facts.role
            return {"kind": role if role in model_card.PLAIN_ROLES else model_card.PLAIN}
        record = self.record()
        keys = ("method", "meta_gradient", "inner_lr", "inner_steps", "inner_normalize", "meta_every", "meta_rows")
        keys += ("lambda_efficiency", "lambda_retention", "lambda_resistance", "efficiency", "resistance", "gain_cap")
        keys += ("request_rows", "request_group", "meta_start", *(("meta_budget",) if self.args.is_paced else ()))
        keys += ("revocable", "revocable_rows", "revocable_fraction", "revocable_commitment")
        info = {
            "kind": model_card.READY if record["ready"] else model_card.NOT_READY,
            "settings": {key: record[key] for key in keys} | record["steps"],
            "limits": list(LIMITS) if record["ready"] else [],
        }
        if self.plan is None:
            return info
        own = self.replay_card()
        joined = {"settings": own["settings"] | info["settings"], "limits": [*own["limits"], *info["limits"]]}
        return {**own, **joined}


def make_terms(args: ReadyConfig, model, mixed_precision: str) -> Terms:
    """The numbers of the readiness gradient, with the defaults that depend on the model."""
    chance = chance_loss(model)
    inner_lr = INNER_LR_ADAPTER if has_adapter(model) else INNER_LR
    return Terms(
        inner_lr=inner_lr if args.inner_lr is None else args.inner_lr,
        inner_steps=int(args.inner_steps),
        inner_normalize=args.inner_normalize,
        meta_gradient=args.meta_gradient,
        lambda_efficiency=args.lambda_efficiency,
        lambda_retention=args.lambda_retention,
        lambda_resistance=args.resistance_weight,
        efficiency=args.efficiency,
        resistance=args.resistance,
        gain_cap=min(GAIN_CAP, chance) if args.gain_cap is None else args.gain_cap,
        cap=chance if args.gain_cap is None else max(chance, args.gain_cap),
        fd_epsilon=FD_EPSILON_BF16 if mixed_precision == "bf16" else FD_EPSILON,
    )
