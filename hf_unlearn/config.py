"""Configurations of the two trainers. All problems of the arguments come in one error, when the config is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy, SchedulerType

from .objectives import registry
from .options import ReadyOptions, UnlearnOptions
from .utils.checks import Wrong, gather, raise_problems, whole
from .utils.given import RecordsGiven

EXACT_CHECKPOINTING = (
    '`meta_gradient="exact"` (double backward) is silently wrong with gradient checkpointing, whose second forward '
    'runs at other weights. Use "finite_difference", or no checkpointing.'
)


def _shared_problems(args: TrainingArguments) -> list[str]:
    problems = [
        *whole("per_device_train_batch_size", args.per_device_train_batch_size, low=1),
        *whole("per_device_eval_batch_size", args.per_device_eval_batch_size, low=1),
        *whole("gradient_accumulation_steps", args.gradient_accumulation_steps, low=1),
    ]
    if args.label_smoothing_factor:
        problems.append(
            Wrong(
                "label_smoothing_factor",
                f"is {args.label_smoothing_factor}; smoothed losses cannot be compared with the unseen rows' loss. Set "
                "it to 0.",
            )
        )
    if args.fp16:
        problems.append("`fp16` rescales gradients between passes, which these trainers do not support. Use `bf16`.")
    if args.n_gpu > 1:
        problems.append(
            f"`torch.nn.DataParallel` would be used on {args.n_gpu} GPUs; it hides rows from the trainer. Start one "
            "process per GPU with `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one."
        )
    return problems


@dataclass
class ReadyConfig(ReadyOptions, TrainingArguments, RecordsGiven):
    """
    `transformers.TrainingArguments` and the options of readiness ([`~hf_unlearn.options.ReadyOptions`]).

    One default differs from `TrainingArguments`: `logging_nan_inf_filter` is False, since the filter hides a broken
    run behind a running mean; a non-finite step is skipped, counted and told instead, and three in a row end the run.

    `given` holds the names of the values that somebody set, also where they equal the default
    ([`~hf_unlearn.UnlearnConfig`] says how).

    Raises:
        ArgumentError: with all problems at once.
    """

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Hide losses that are not finite from the log."}
    )

    def __post_init__(self):
        gather(super().__post_init__, lambda: raise_problems(self._problems()))

    def _problems(self) -> list[str]:
        problems = self.option_problems() + _shared_problems(self)
        if self.meta_gradient == "exact" and self.world_size > 1:
            problems.append(
                '`meta_gradient="exact"` (double backward) is silently wrong under data parallelism; it runs on one '
                'device. Use "finite_difference".'
            )
        if self.meta_gradient == "exact" and self.gradient_checkpointing:
            problems.append(EXACT_CHECKPOINTING)
        return problems


@dataclass
class UnlearnConfig(UnlearnOptions, TrainingArguments, RecordsGiven):
    """
    `transformers.TrainingArguments` and the options of unlearning ([`~hf_unlearn.options.UnlearnOptions`]).

    `per_device_train_batch_size` counts *forget* rows; each brings one retain row with it. Defaults that differ:

    * `learning_rate` 3e-4, constant: what the authors of ∇τ used for text; for images they decay 1e-3 linearly to a
      tenth, the same order. A request is a short run, and the stop rule ends it, so a decay would only slow its end.
    * `per_device_train_batch_size` 16, `logging_steps` 1: requests take tens of steps.
    * `weight_decay` 0: decay would move the weights away from everything that the run is to keep.
    * `save_strategy` "no": `save_model` at the end; choose "steps" for runs to resume.
    * `logging_nan_inf_filter` False: a non-finite step is skipped and counted, and three in a row end the run.

    `given` holds the names of the values that somebody set, also where they equal the default: what a ready checkpoint
    recommends fills in the others alone, and a warning tells what it passes over. `UnlearnConfig(…)` with the values
    that you mean, `dataclasses.replace`, assignment, and the command line and YAML of `hf-unlearn` all record that. A
    call that names most fields does not tell what was set (`HfArgumentParser(UnlearnConfig)`,
    `UnlearnConfig(**other.to_dict())`): there a value that equals its default counts as not set. To insist on a default
    there, assign it afterwards: `args.learning_rate = 3e-4`.

    Raises:
        ArgumentError: with all problems at once.
    """

    learning_rate: float = field(
        default=3e-4, metadata={"help": "Step size; the authors' for text. Raise it where too little is forgotten."}
    )
    lr_scheduler_type: SchedulerType | str = field(
        default="constant", metadata={"help": "How the learning rate moves: constant, linear, cosine, …."}
    )
    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "Forget rows of a step on one device. Lower it where memory runs out."}
    )
    num_train_epochs: float = field(
        default=1.0, metadata={"help": "Leave it at 1: `passes` sets the length of a request."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Steps between two lines of the log."})
    weight_decay: float = field(
        default=0.0, metadata={"help": "How strongly each step shrinks the weights. Leave at 0 in a request."}
    )
    save_strategy: SaveStrategy | str = field(
        default="no", metadata={"help": "When to save checkpoints for a run that may be killed: no, steps or epoch."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Hide losses that are not finite from the log."}
    )

    def __post_init__(self):
        gather(super().__post_init__, lambda: raise_problems(self._problems()))

    def _problems(self) -> list[str]:
        problems = self.option_problems() + registry.foreign_options(self, self.given) + _shared_problems(self)
        if self.dataloader_drop_last:
            problems.append(
                "`dataloader_drop_last` would leave rows out of the request and of the measurement of τ. Set it False."
            )
        if self.push_to_hub and "checkpoint" in str(getattr(self.hub_strategy, "value", self.hub_strategy)):
            problems.append(
                "`hub_strategy` would push checkpoints of the request, which hold weights that still know the rows. "
                'Use "end" or "every_save".'
            )
        if self.load_best_model_at_end:
            problems.append(
                "`load_best_model_at_end` would undo the request: the best evaluation is that of weights that still "
                "know the rows. Leave it out; where a request ends is for its stop rule to say."
            )
        if self.num_train_epochs != 1:
            said = f"is {self.num_train_epochs}; the length of a request is `passes` (forget passes)."
            problems.append(Wrong("num_train_epochs", said))
        return problems
