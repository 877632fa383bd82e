"""What both trainers share: the model as it is taken in, the guarded step, its cost, the log, and the model card."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import torch

from ..data.collate import FlagCollator, check_labels, default_collator, signature_columns
from ..data.columns import ROW_KEYS
from ..data.order import PairedDataset
from ..readiness.moving_weights import moving_buffers
from ..report import card_file
from ..utils import manifest
from ..utils.checks import raise_problems
from . import card, checkpointing, same_run
from .checkpointing import CheckpointingTrainer
from .engines import decided_by_first, keeps_shards, reshard, steps_in_backward
from .finite import FiniteGuard, NonFiniteError
from .loading import load_model, with_adapter
from .micro_batches import MicroBatches
from .models import (
    base_model,
    frozen_problems,
    keeps_the_form,
    model_problems,
    output_problems,
    settle_problem_type,
)
from .moving import check_gradients, optimizer_problems, precision_problems
from .output_lock import one_run_in
from .step_log import StepLog
from .taken_in import later_problems


class ForgettingTrainer(CheckpointingTrainer):
    """
    `transformers.Trainer` with what readiness and unlearning share. Not used by itself.

    Args:
        flag: column that says of a training row which part it plays; the collator brings it into the batch.
        codes: value of that column -> number, where it names groups.
        peft_config: trains this adapter; the model's own weights stay as they are.
        model, args, data_collator, processing_class, …: as in `transformers.Trainer`.
    """

    replays = False  # whether the run is the rest of a training, from a snapshot on
    drops = False  # whether the run takes tables out of a memory
    first_step = 0  # step before which the run begins: of a replay, that of its snapshot
    own_callbacks: tuple[type, ...] = (FiniteGuard,)
    card_tags: tuple[str, ...] = ()
    card_roles: tuple[str, ...] = ()  # in an evaluation, of what it trains; the first that is in the scores

    def __init__(
        self,
        model,
        args,
        *,
        flag=None,
        codes=None,
        data_collator=None,
        processing_class=None,
        peft_config=None,
        **kwargs,
    ):
        if isinstance(model, (str, os.PathLike)):
            model = self.load(os.path.expanduser(model), args.model_init_kwargs or {})
        raise_problems(model_problems(model))
        if peft_config is not None:
            model = with_adapter(model, peft_config, args.seed)
        kwargs = {name: value for name, value in kwargs.items() if name != "optimizers" or value is not None}
        problems = frozen_problems(model) or optimizer_problems(model, kwargs.get("optimizers") or (None, None))
        raise_problems(problems + self._precision_problems(model, args))
        collator = data_collator or default_collator(model, processing_class)
        names = signature_columns(model) if args.remove_unused_columns else None
        self.columns_taken = signature_columns(model) if data_collator is None else None  # None: not known
        given = {**kwargs, "data_collator": data_collator}
        self.own_parts, self.own_code = same_run.own_parts(given), same_run.own_code(given)
        self.rows_of_run: dict | None = None  # digests of [`same_run`], from the first checkpoint on
        self._flagged = flag is not None or isinstance(kwargs["train_dataset"], PairedDataset)
        self._step_log = StepLog()
        self.row_passes = 0.0  # rows through forward and backward on all processes; a forward alone counts a third
        self.seconds = 0.0  # wall time of `train`
        self._learns = False  # whether a gradient has reached any weight
        self._began: float | None = None  # the clock when the present `train` began
        self.scorecard = None  # a `Scorecard` put here goes into the model card
        self.card_facts = card.CardFacts()  # what the card says beside what the trainer knows
        self.card_steps: dict[str, int] = {}  # folder -> step at which its card was written last
        super().__init__(
            model=model,
            args=args,
            data_collator=FlagCollator(collator, names, flag, codes),
            processing_class=processing_class,
            **kwargs,
        )
        reentrant = (args.gradient_checkpointing_kwargs or {"use_reentrant": False}).get("use_reentrant", True)
        some_frozen = not all(p.requires_grad for p in self.model.parameters())
        if args.gradient_checkpointing and reentrant and some_frozen:
            base_model(self.model).enable_input_require_grads()  # it drops all gradients where the input needs none
        self._set_signature_columns_if_needed()
        if flag and flag not in self._signature_columns:
            self._signature_columns.append(flag)  # the Trainer drops columns that the model's forward does not name
        self.finite_guard = FiniteGuard(self)
        self.add_callback(self.finite_guard)
        self.rows_taken_in = {**self.run_rows(), "training": self.train_dataset}
        settle_problem_type(self.model, next(iter(self.run_rows().values())))
        if self.accelerator.mixed_precision == "fp16":
            raise_problems(["fp16 rescales gradients between passes, which these trainers do not support. Use bf16."])
        if not keeps_the_form(self.model) and not keeps_shards(self.accelerator):
            batch = self._prepare_inputs(self.data_collator([self.train_dataset[0]]))
            raise_problems(
                output_problems(self.model, {k: v for k, v in batch.items() if k not in ROW_KEYS})
            )

    def load(self, source: str, init: dict):
        """
        The model by that name; a folder is first held against its manifest, on the first process.

        Args:
            init: of `from_pretrained`, by [`hf_unlearn.trainers.loading.load_model`].

        Raises:
            ArgumentError: if a file in it is damaged.
        """
        decided_by_first(lambda: raise_problems(manifest.damage(source)))
        return load_model(source, **init)

    def _precision_problems(self, model, args) -> list[str]:
        return precision_problems(model)

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        """Where parameters are sharded, the shards; not to be asked for between a forward and its backward."""
        reshard(self.model)
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def hidden_size(self) -> int:
        """Of the model's config; 1 where it names none."""
        return getattr(getattr(base_model(self.model), "config", None), "hidden_size", None) or 1

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = {k: v for k, v in inputs.items() if k not in ROW_KEYS}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        `Trainer.train`. Its result's `metrics` also hold `row_passes` (forward and backward of one row; a forward
        alone counts a third) and `skipped_steps` (steps whose loss or gradient held NaN or inf: they change neither
        the weights nor the optimizer's state).

        Args:
            resume_from_checkpoint: True takes the last complete checkpoint; where a killed run has left only
                incomplete ones, the run starts from the beginning ([`hf_unlearn.trainers.checkpointing`]).

        Raises:
            ArgumentError: if another run is at work in `output_dir`; if the folder to resume from is not complete, or
                of a run of other rows or options ([`hf_unlearn.trainers.same_run`]; a longer or shorter run may go on).
            NonFiniteError: after three such steps in a row; the last good weights are then in `output_dir`. On
                DeepSpeed, which steps inside backward, after the first, and no weights are saved.
        """
        with ExitStack() as held:
            self.rows_of_run = None
            resume = decided_by_first(lambda: self._begin(held, resume_from_checkpoint))
            return self._train_from(resume, *args, **kwargs)

    def _train_from(self, resume: str | bool | None, *args, **kwargs):
        self.resumed_from = None if resume is True else resume
        if self.resumed_from:
            self.resume_record(self.resumed_from)
        else:  # of an earlier `train` of this trainer
            self.resume_costs({"cost": {"row_passes": 0.0, "seconds": 0.0}})
        self._began = time.perf_counter()
        try:
            result = super().train(resume, *args, **kwargs)
        except NonFiniteError as error:
            if steps_in_backward(self.accelerator):
                raise  # the weights are not good any more
            self.save_model(self.args.output_dir)
            raise NonFiniteError(f"{error} The last good weights are in {self.args.output_dir}.") from error
        finally:
            self.seconds, self._began = self._seconds_so_far, None
        result.metrics["row_passes"] = round(self.row_passes, 3)
        result.metrics["skipped_steps"] = self.skipped_steps
        return result

    def _begin(self, held: ExitStack, wanted) -> str | bool | None:
        """On the first process: takes the output folder, and decides from where to go on."""
        raise_problems(later_problems(self))
        held.enter_context(one_run_in(self.args.output_dir))
        resume = checkpointing.resume_from(wanted, self.args.output_dir)
        raise_problems(self.resume_problems(resume) if resume and resume is not True else [])
        return resume

    def resume_problems(self, folder: str) -> list[str]:
        """Why a complete checkpoint is none of this run."""
        return same_run.problems(self, folder)

    # ---- what the run is made of ----

    def run_rows(self) -> dict:
        """The sets of rows that the run is made of, by name."""
        raise NotImplementedError

    def run_options(self) -> dict:
        """What stands behind options that may be left open, by their names."""
        return {}

    @property
    def step_has_rows(self) -> bool:
        """Whether any process has rows in this step."""
        return True

    @property
    def columns_read(self) -> set[str]:
        """Columns that this trainer reads itself."""
        return set()

    # ---- the step ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            check_labels(batch, self.data_collator, self._flagged)
        self._micro_batches = MicroBatches(batches)
        return batches, items

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.place = self._micro_batches.next(inputs)
        if callable(getattr(self.optimizer, "train", None)):  # as the Trainer does, whose step not every pass goes by
            self.optimizer.train()
        loss = self.micro_step(model, inputs, num_items_in_batch)
        known = self._learns or steps_in_backward(self.accelerator) or not self.step_has_rows
        if self.accelerator.sync_gradients and not known:
            check_gradients(self.trainable)
            self._learns = True
        return self.finite_guard.saw_loss(loss)

    def micro_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """
        Forward and backward of one micro-batch, the one at `self.place` of the step. Returns what the Trainer logs as
        its loss, ().
        """
        return super().training_step(model, inputs, num_items_in_batch)

    def step_was_skipped(self) -> None:
        """Called after the passes of a step that changes nothing, since its loss or gradient is not finite."""

    @cached_property
    def buffers(self) -> list[torch.Tensor]:
        """What forward passes may move beside the weights."""
        return moving_buffers(self.model)

    # ---- cost and log ----

    def resume_record(self, folder: str) -> None:
        """Restores what the checkpoint's record holds beside the Trainer's own state."""

    def resume_costs(self, record: dict) -> None:
        self.row_passes, self.seconds = record["cost"]["row_passes"], record["cost"]["seconds"]
        self.finite_guard.resume(record.get("skipped"))

    @property
    def skipped_steps(self) -> int:
        """Steps with NaN or inf, which have changed nothing."""
        return self.finite_guard.skipped_steps

    @property
    def cost(self) -> dict:
        """Steps, row passes and seconds so far, as the scorecard takes them."""
        return {
            "steps": self.state.global_step,
            "row_passes": round(self.row_passes, 3),
            "seconds": round(self._seconds_so_far, 3),
        }

    @property
    def _seconds_so_far(self) -> float:
        return self.seconds + (0.0 if self._began is None else time.perf_counter() - self._began)

    def count_rows(self, rows: int, passes: float = 1.0) -> None:
        """Counts row passes of this process, and as many for each of the others; 1/3 for a forward alone."""
        self.row_passes += rows * passes * self.accelerator.num_processes

    def track(self, **components) -> None:
        """Keeps detached scalars () for the next log line, which holds their mean since the last one."""
        for name, value in components.items():
            self._step_log.add(name, value, self.args.device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._step_log.take_means(self.accelerator))
        self.finite_guard.clean(logs)
        super().log(logs, start_time)

    # ---- the model card ----

    @property
    def card_rows(self):
        """The rows whose data set the card names."""
        return self.train_dataset

    @property
    def own_schedule(self) -> dict[str, str]:
        """What the card says of the learning rates, where it is not what the arguments say."""
        return {}

    def card_info(self) -> dict:
        """Kind, settings, limits and what else the trainer knows for the body of the model card."""
        raise NotImplementedError

    def loading_code(self) -> str:
        """Lines that load the saved model with public names of transformers and peft alone."""
        return card.loading_code(self.model, self.hub_model_id, self.processing_class)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """
        `Trainer.save_model`, with the model's card beside the weights: the one that `push_to_hub` uploads; and with
        `_complete.json`, by which damage to the folder is found when a model is loaded from it. What that covers is in
        [`hf_unlearn.utils.manifest`].
        """
        folder = output_dir or self.args.output_dir
        before = card.text_before(folder)  # `save_pretrained` of an adapter fills PEFT's template over it
        with self.listing(folder):
            super().save_model(output_dir, _internal_call)
            if not self.args.should_save:
                return
            if not self.in_checkpoint:
                card.write(self, folder, before)
                return
        Path(folder, card_file.NAME).unlink(missing_ok=True)  # PEFT's; the card is in the output folder
        if self.pushes_checkpoints:
            card.write(self, self.args.output_dir)

    def create_model_card(
        self,
        language=None,
        license=None,
        tags=None,
        model_name=None,
        finetuned_from=None,
        tasks=None,
        dataset_tags=None,
        dataset=None,
        dataset_args=None,
    ) -> None:
        """
        Writes README.md: our sections, each between two marks, and a header that the hub reads. What else is in it
        stays. Arguments as in `transformers.Trainer`; what is None is found out: the license and the name of the base
        model from that model's card, the task from the class, the data set from the rows.
        """
        if self.is_world_process_zero():
            card.write(
                self,
                self.args.output_dir,
                language=language,
                license=license,
                tags=tags,
                model_name=model_name,
                finetuned_from=finetuned_from,
                tasks=tasks,
                dataset_tags=dataset_tags,
                dataset=dataset,
            )
