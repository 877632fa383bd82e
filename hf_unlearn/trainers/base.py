"""What both trainers share: the guarded step, checkpoints, the record beside the weights, and the model card."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import nullcontext
from functools import cached_property

import torch
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from ..data.collate import FlagCollator, default_collator, signature_columns
from ..data.columns import FLAG, FORGET_INDEX
from ..readiness.moving_weights import moving_buffers
from ..utils.checks import raise_problems
from ..utils.files import write_json
from . import checkpoints
from .callbacks import FiniteGuard, NonFiniteError
from .engines import class_name, keeps_shards, reshard, steps_in_backward, total, whole_state
from .models import base_model, is_causal_lm, load_model, model_problems

logger = logging.getLogger(__name__)

SKIPS_IN_A_ROW = 3  # non-finite steps, one after the other, that end a run (ours)


class ForgettingTrainer(Trainer):
    """`transformers.Trainer` with what readiness and unlearning share. Not used by itself."""

    card_tags: tuple[str, ...] = ()
    record_name: str

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
        self.source = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", "")
        if isinstance(model, str):
            model = load_model(model)
        if peft_config is not None:
            from peft import PeftModel, get_peft_model

            if isinstance(model, PeftModel):
                raise ValueError(
                    "`peft_config` was given with a model that has an adapter already. Merge that adapter first "
                    "(`model = model.merge_and_unload()`), or leave `peft_config` out to train it on."
                )
            set_seed(args.seed)  # as `Trainer` does after the model is there; the adapter's first weights are drawn
            model = get_peft_model(model, peft_config)
        if problems := model_problems(model) + self._precision_problems(model, args):
            raise_problems(problems)
        collator = data_collator or default_collator(model, processing_class)
        names = signature_columns(model) if args.remove_unused_columns else None
        self._flag = flag
        self._components: dict[str, list[torch.Tensor]] = {}
        self.row_passes = 0.0  # rows through forward and backward on all processes; a forward alone counts a third
        self.seconds = 0.0  # wall time of `train`
        self._began: float | None = None  # the clock when the present `train` began
        self._resume_from: str | None = None  # the checkpoint that the present `train` went on from
        self.scorecard = None  # a `Scorecard` put here goes into the model card
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
        self.skipped_steps = 0  # steps with NaN or inf, which have changed nothing
        self._skips_in_a_row = 0
        self._good_since_log = False
        self._all_finite = torch.ones((), device=self.args.device)  # 0 after a non-finite loss on this process
        self._last_loss = torch.zeros((), device=self.args.device)
        self._grad_norm: torch.Tensor | float | None = None
        self._kept_buffers: list[torch.Tensor] = []
        self.add_callback(FiniteGuard(self))
        if self.accelerator.mixed_precision == "fp16":
            raise_problems(["fp16 rescales gradients between passes, which these trainers do not support. Use bf16."])

    def _precision_problems(self, model, args) -> list[str]:
        return []

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        if self._flag and self._flag not in self._signature_columns:
            self._signature_columns.append(self._flag)

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
        inputs = {k: v for k, v in inputs.items() if k not in (FLAG, FORGET_INDEX)}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """
        `Trainer.train`. Its result's `metrics` also hold `row_passes` (forward and backward of one row; a forward
        alone counts a third) and `skipped_steps` (steps whose loss or gradient held NaN or inf: they change neither
        the weights nor the optimizer's state).

        Args:
            resume_from_checkpoint: True takes the last checkpoint that is whole ([`hf_unlearn.trainers.checkpoints`]),
                and starts from the beginning where a kill has left none that is.

        Raises:
            ArgumentError: if the folder to resume from is not whole.
            NonFiniteError: after three such steps in a row; the last good weights are then in `output_dir`. On
                DeepSpeed, which steps inside backward, after the first, and no weights are saved.
        """
        resume = checkpoints.resume_from(resume_from_checkpoint, self.args.output_dir)
        self._resume_from = None if resume is True else resume
        if self._resume_from:
            self._take_up(self._resume_from)
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

    # ---- the step ----

    def micro_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """One micro-batch, forward and backward; returns what the Trainer logs as its loss, ()."""
        return super().training_step(model, inputs, num_items_in_batch)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = self.micro_step(model, inputs, num_items_in_batch)
        finite = torch.isfinite(loss)
        self._all_finite = self._all_finite * finite
        self._last_loss = torch.where(finite, loss, self._last_loss)  # one NaN would hide all other losses of a line
        return self._last_loss

    def _get_grad_norm(self, model, grad_norm=None):
        self._grad_norm = super()._get_grad_norm(model, grad_norm)
        return self._grad_norm

    @cached_property
    def buffers(self) -> list[torch.Tensor]:
        """What forward passes may move beside the weights."""
        return moving_buffers(self.model)

    def keep_buffers(self) -> None:
        """Before a step: copies what its forward passes move (BatchNorm's statistics), should it have to be undone."""
        self._kept_buffers = [buffer.clone() for buffer in self.buffers]

    def skip_if_not_finite(self) -> None:
        """
        After the passes of a step, before the optimizer: where a loss or the gradient is not finite on any process,
        takes the gradients away, so that the optimizer's step changes neither weights nor its own state.

        Raises:
            NonFiniteError: if this is the third such step in a row, or where the engine has stepped already.
        """
        norm, self._grad_norm = self._grad_norm, None
        if norm is None:  # a Trainer without that hook (transformers 5.2)
            grads = [p.grad for p in self.trainable if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads) if grads else 0.0
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else torch.as_tensor(norm)
        good = self._all_finite * torch.isfinite(norm.to(self._all_finite.device))
        self._all_finite = torch.ones_like(self._all_finite)
        if total(self.accelerator, good) == self.accelerator.num_processes:
            self._skips_in_a_row = 0
            self._good_since_log = True
            return
        self.skipped_steps += 1
        self._skips_in_a_row += 1
        step = self.state.global_step + 1
        if steps_in_backward(self.accelerator):
            raise NonFiniteError(
                f"Step {step}: the loss or the gradient is not finite, and DeepSpeed has stepped already. Go back to "
                "the last checkpoint (`resume_from_checkpoint=True`)."
            )
        for p in self.trainable:
            p.grad = None
        for buffer, kept in zip(self.buffers, self._kept_buffers, strict=True):
            buffer.copy_(kept)
        logger.warning("Step %d was skipped: its loss or gradient is not finite. Look for broken rows.", step)
        if self._skips_in_a_row >= SKIPS_IN_A_ROW:
            self.tell_skipped()
            raise NonFiniteError(
                f"Steps {step - SKIPS_IN_A_ROW + 1} to {step}: the loss or the gradient is not finite. Look for broken "
                "rows, or lower `learning_rate`."
            )

    def tell_skipped(self) -> None:
        """Logs the count after a step that was skipped."""
        if self._skips_in_a_row:
            self.log({"skipped_steps": self.skipped_steps})

    # ---- checkpoints ----

    def _take_up(self, folder: str) -> None:
        """Takes up what the checkpoint's record holds beside the Trainer's own state."""

    def _resume_counts(self, record: dict) -> None:
        self.row_passes, self.seconds = record["cost"]["row_passes"], record["cost"]["seconds"]
        skipped = record.get("skipped") or {}
        self.skipped_steps, self._skips_in_a_row = skipped.get("steps", 0), skipped.get("in_a_row", 0)

    def _save_checkpoint(self, model, trial) -> None:
        """The Trainer's, and then its manifest. Older checkpoints are deleted only when that is there."""
        run_dir = self._get_output_dir(trial)
        folder = os.path.join(run_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self._resume_from and os.path.realpath(folder) == os.path.realpath(self._resume_from):
            return  # no step was taken since, and a kill while it is written anew would leave nothing
        if self.args.should_save:
            checkpoints.remove(folder)  # of a killed run: its files must not be mixed with the new ones
        self.accelerator.wait_for_everyone()
        self._limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
            if not self.args.push_to_hub:
                self._complete(folder)
        finally:
            self.args.save_total_limit = self._limit
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self._complete(checkpoint_folder)  # it is pushed with its manifest
        super()._push_from_checkpoint(checkpoint_folder)

    def _complete(self, folder: str) -> None:
        """Writes the manifest; from here on older checkpoints may go."""
        self.args.save_total_limit = self._limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            arguments = os.path.join(folder, TRAINING_ARGS_NAME)
            if os.path.exists(arguments):
                torch.save(self.args, arguments)  # the Trainer wrote them without the limit
            checkpoints.write_manifest(folder)
            if self._limit:
                checkpoints.remove_leftovers(os.path.dirname(folder), self.state.global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if not self._load_renamed(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if not self._load_renamed(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_renamed(self, folder: str) -> bool:
        """
        Loads weights that have other names in the file than in the model, as `save_pretrained` gives them for some
        architectures (ViT); the Trainer leaves those as they were (transformers issue 43701). False: no such names.
        """
        model = self.model
        if keeps_shards(self.accelerator) or not isinstance(model, PreTrainedModel):
            return False
        if checkpoints.weight_names(folder) <= model.state_dict().keys():
            return False
        widest = max((p.dtype for p in model.parameters()), key=lambda dtype: dtype.itemsize)  # a cast back is exact
        model.load_state_dict(type(model).from_pretrained(folder, dtype=widest).state_dict())
        return True

    @property
    def cost(self) -> dict:
        """Steps, row passes and seconds so far, as the scorecard takes them."""
        return {
            "steps": self.state.global_step,
            "row_passes": round(self.row_passes, 3),
            "seconds": round(self._seconds_so_far, 3),
        }

    @property
    def skipped(self) -> dict:
        """Steps that were not finite, and how many of them the last steps were."""
        return {"steps": self.skipped_steps, "in_a_row": self._skips_in_a_row}

    @property
    def _seconds_so_far(self) -> float:
        return self.seconds + (0.0 if self._began is None else time.perf_counter() - self._began)

    def count_rows(self, rows: int, passes: float = 1.0) -> None:
        """Counts row passes of this process, and as many for each of the others; 1/3 for a forward alone."""
        self.row_passes += rows * passes * self.accelerator.num_processes

    def track(self, **components) -> None:
        """Keeps detached scalars () for the next log line, which holds their mean since the last one."""
        for name, value in components.items():
            value = torch.as_tensor(value, device=self.args.device).detach().float()
            self._components.setdefault(name, []).append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._components and "loss" in logs:
            names = sorted(self._components)
            means = torch.stack([torch.stack(self._components[name]).nanmean() for name in names])
            means = total(self.accelerator, means) / self.accelerator.num_processes
            found = {name: round(value, 6) for name, value in zip(names, means.tolist(), strict=True)}
            logs.update({name: value for name, value in found.items() if math.isfinite(value)})
            self._components.clear()
        if self._skips_in_a_row:  # the gradient's norm is that of a step that was skipped
            logs.pop("grad_norm", None)
        if "loss" in logs:
            if not self._good_since_log:
                del logs["loss"]  # all steps of the line were skipped
            self._good_since_log = False
        for name in [name for name, value in logs.items() if isinstance(value, float) and not math.isfinite(value)]:
            del logs[name]  # no NaN in `trainer_state.json`
        super().log(logs, start_time)

    # ---- records and cards ----

    def record(self) -> dict:
        """What [`save_model`] writes beside the weights, JSON-ready."""
        raise NotImplementedError

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        with nullcontext() if _internal_call else whole_state(self.accelerator):
            super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folders = {output_dir or self.args.output_dir, self.args.output_dir}  # the latter is what a push uploads
            for folder in folders:
                os.makedirs(folder, exist_ok=True)
                write_json(os.path.join(folder, self.record_name), self.record())

    def card_info(self) -> dict:
        """Kind, settings, limits and loading code for the body of the model card."""
        raise NotImplementedError

    def loading_code(self) -> str:
        """Lines that load the saved model with public names of transformers and peft alone."""
        name = self.hub_model_id or self.args.hub_model_id or self.args.output_dir
        base = base_model(self.model)
        kind = class_name(base)
        if not hasattr(self.model, "peft_config"):
            return f'from transformers import {kind}\n\nmodel = {kind}.from_pretrained("{name}")'
        source = next(iter(self.model.peft_config.values())).base_model_name_or_path
        if not source:
            return (
                "from peft import PeftModel\n\n"
                f'model = PeftModel.from_pretrained(base, "{name}")  # base: the {kind} it was trained on'
            )
        if is_causal_lm(base):
            auto = "AutoPeftModelForCausalLM"
            return f'from peft import {auto}\n\nmodel = {auto}.from_pretrained("{name}")'
        return (
            f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
            f'base = {kind}.from_pretrained("{source}", num_labels={base.config.num_labels}, '
            "ignore_mismatched_sizes=True)\n"
            f'model = PeftModel.from_pretrained(base, "{name}")'
        )

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
        if not self.is_world_process_zero():
            return
        tags = [tags] if isinstance(tags, str) else list(tags or [])
        tags += [tag for tag in (*self.card_tags, "hf_unlearn") if tag not in tags]
        super().create_model_card(
            language=language,
            license=license,
            tags=list(tags),
            model_name=model_name,
            finetuned_from=finetuned_from,
            tasks=tasks,
            dataset_tags=dataset_tags,
            dataset=dataset,
            dataset_args=dataset_args,
        )
        from huggingface_hub import ModelCard

        from ..report.card_section import render_card_section

        path = os.path.join(self.args.output_dir, "README.md")
        card = ModelCard.load(path, ignore_metadata_errors=True)
        if missing := [tag for tag in tags if tag not in (card.data.tags or [])]:  # peft 0.21 writes its own over them
            card.data.tags = [*missing, *(card.data.tags or [])]
            card.save(path)
        scores = self.scorecard.to_dict() if self.scorecard is not None else None
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n" + render_card_section(scores, self.card_info()) + "\n")
