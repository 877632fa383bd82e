"""Configurations of the two trainers. All problems of the arguments come in one error, when the config is made."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from functools import partial

from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy, SchedulerType

from .objectives import registry
from .options import LoadingOptions, ReadyOptions, UnlearnOptions, request_problems
from .utils.checks import Wrong, gather, number, raise_problems, shown, whole
from .utils.field_types import type_problems, with_plain_numbers
from .utils.given import RecordsGiven, renamed

EXACT_CHECKPOINTING = (
    '`meta_gradient="exact"` (double backward) is silently wrong with gradient checkpointing, whose second forward '
    'runs at other weights. Use "finite_difference", or no checkpointing.'
)

RANGES = {  # argument of the Trainer -> check of its value, where it is not None
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_accumulation_steps",
        ),
        partial(whole, low=1),
    ),
    **dict.fromkeys(("seed", "data_seed"), partial(whole, low=0, high=2**32 - 1)),  # what numpy takes
    **dict.fromkeys(("learning_rate", "weight_decay", "adam_epsilon", "warmup_steps"), partial(number, low=0)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), partial(number, low=0, high=1, open_high=True)),
    "num_train_epochs": partial(number, low=0, open_low=True),
    "dataloader_num_workers": partial(whole, low=0),
}
EVERY = {"logging_steps": "logging_strategy", "save_steps": "save_strategy", "eval_steps": "eval_strategy"}


def micro_batch_rows(args: TrainingArguments) -> int:
    """Rows of a micro-batch on one process; of a request, its forget rows."""
    split = args.accelerator_config.split_batches  # a loader's batch is then that of all processes together
    return int(args.per_device_train_batch_size) // (args.world_size if split else 1)


def step_rows(args: TrainingArguments) -> int:
    """Rows of an optimizer step, over all its micro-batches on all processes; of a request, its forget rows."""
    return micro_batch_rows(args) * int(args.gradient_accumulation_steps) * args.world_size


class Arguments(TrainingArguments):
    """
    `transformers.TrainingArguments` with its numbers checked, and with its token for the hub kept out of `repr` and of
    files: a pickle, such as the Trainer's `training_args.bin`, holds None in its place. Not used by itself.
    """

    __repr__ = TrainingArguments.__repr__  # a dataclass would make one that shows the token

    def __getstate__(self):
        return {**vars(self), "hub_token": None}

    def __copy__(self):
        made = type(self).__new__(type(self))
        vars(made).update(vars(self))
        return made

    def __deepcopy__(self, memo):
        made = type(self).__new__(type(self))
        vars(made).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return made

    def check(self) -> None:
        """
        The checks of the Trainer's class and our own, for `__post_init__`.

        Raises:
            ArgumentError: with all problems.
        """
        with_plain_numbers(self)
        wrong = {problem.name: getattr(self, problem.name) for problem in self._type_problems()}
        # The Trainer's checks compare without looking at types; there will be an error, so they may have the defaults.
        vars(self).update({f.name: f.default for f in fields(self) if f.name in wrong})
        found = [self.value_problems]

        def stock():
            try:
                TrainingArguments.__post_init__(self)
            except TypeError as error:  # an unknown key of `accelerator_config`, say
                raise ValueError(f"The Trainer's arguments are refused: {error}") from error
            found[0] = self.problems

        def own():
            vars(self).update(wrong)
            raise_problems(found[0]())

        gather(stock, own)

    def problems(self) -> list[str]:
        """What is wrong with the arguments, also with what was assigned to them since they were made."""
        return self.value_problems() + self._engine_problems()

    def value_problems(self) -> list[str]:
        """What can be said of the values alone, without the engine. A number of numpy becomes one of Python's own."""
        with_plain_numbers(self)
        problems = self.option_problems() + self._range_problems() + self.loading_problems()
        for check in (self._type_problems, lambda: self.idle_options(self.given)):
            named = {problem.name for problem in problems if isinstance(problem, Wrong)}
            problems += [problem for problem in check() if problem.name not in named]
        return problems

    def _type_problems(self) -> list[Wrong]:
        return type_problems(self, none=("max_grad_norm",))  # None: no clipping

    def _range_problems(self) -> list[str]:
        nullable = {f.name for f in fields(self) if f.default is None}
        problems = []
        for name, check in RANGES.items():
            value = getattr(self, name)
            problems += check(name, value) if value is not None or name not in nullable else []
        for name, strategy in EVERY.items():
            value, when = getattr(self, name), getattr(self, strategy)
            if str(getattr(when, "value", when)) == "steps" and not (value is None and name == "eval_steps"):
                problems += number(name, value, low=0, open_low=True)
        if whole("max_steps", self.max_steps, low=1) and self.max_steps != -1:
            said = f"is {shown(self.max_steps)}; it must be -1 (no limit) or a whole number of at least 1."
            problems.append(Wrong("max_steps", said))
        if self.label_smoothing_factor:
            problems.append(
                Wrong(
                    "label_smoothing_factor",
                    f"is {shown(self.label_smoothing_factor)}; smoothed losses cannot be compared with the unseen "
                    "rows' loss. Set it to 0.",
                )
            )
        return problems

    def _engine_problems(self) -> list[str]:
        """What is wrong with what the run is to go on, which is known once the Trainer's class has looked at it."""
        problems = []
        if self.fp16 is True:
            problems.append(
                "`fp16` rescales gradients between passes, which these trainers do not support. Use `bf16`."
            )
        if self.auto_find_batch_size is True:
            problems.append(
                "`auto_find_batch_size` would go on, where memory runs out in the middle, from weights that have "
                "moved, with rows, losses and costs that belong to the first try. Leave it out, and lower "
                "`per_device_train_batch_size`: with `gradient_accumulation_steps` raised as much, the run stays the "
                "same. `hf-unlearn memory` estimates what fits."
            )
        if self.accelerator_config.split_batches:
            for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
                rows = getattr(self, name)
                if not whole(name, rows, low=1) and rows % self.world_size:
                    said = f"is {rows}; with `split_batches` it must be a multiple of {self.world_size}, the number of "
                    problems.append(Wrong(name, said + "processes."))
        if self.n_gpu > 1:
            problems.append(
                f"`torch.nn.DataParallel` would be used on {self.n_gpu} GPUs; it hides rows from the trainer. Start "
                "one process per GPU with `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one."
            )
        return problems


@dataclass
class ReadyConfig(ReadyOptions, LoadingOptions, Arguments, RecordsGiven):
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

    __repr__ = Arguments.__repr__

    def __post_init__(self):
        self.check()

    def value_problems(self) -> list[str]:
        return super().value_problems() + [f"`request`: {problem}" for problem in self._request_problems()]

    def _request_problems(self) -> list[str]:
        """What a request would refuse of the recommended values."""
        try:
            values = self.request_defaults()
        except ValueError:
            return []  # it is told already
        if not values or request_problems(values):
            return []
        return UnlearnConfig.with_values_alone(values).value_problems()

    def _engine_problems(self) -> list[str]:
        problems = super()._engine_problems()
        if self.meta_gradient == "exact" and self.world_size > 1:
            problems.append(
                '`meta_gradient="exact"` (double backward) is silently wrong under data parallelism; it runs on one '
                'device. Use "finite_difference".'
            )
        if self.meta_gradient == "exact" and self.gradient_checkpointing:
            problems.append(EXACT_CHECKPOINTING)
        return problems


@renamed(readiness="readiness_from")
@dataclass
class UnlearnConfig(UnlearnOptions, LoadingOptions, Arguments, RecordsGiven):
    """
    `transformers.TrainingArguments` and the options of unlearning ([`~hf_unlearn.options.UnlearnOptions`]).

    `per_device_train_batch_size` counts *forget* rows; each brings one retain row with it. Defaults that differ:

    * `learning_rate` 1e-4; where an adapter alone is moved 3e-4 of a language model, 1e-3 of others; constant. Chosen
      on a pretrained encoder and a pretrained language model (recipes/study/README.md). The authors of ∇τ used 3e-4 for
      text, which suits small new models, and for images decayed 1e-3 to a tenth. A request is a short run and
      the stop rule ends it, so a decay would only slow its end.
    * `per_device_train_batch_size` 16, `logging_steps` 1: requests take tens of steps.
    * `weight_decay` 0: decay would move the weights away from everything that the run is to keep.
    * `save_strategy` "no": `save_model` at the end; choose "steps" for runs to resume.
    * `logging_nan_inf_filter` False: a non-finite step is skipped and counted, and three in a row end the run.

    `given` holds the names of the values that somebody set, also where they equal the default: what a ready checkpoint
    recommends fills in the others alone, and a warning tells what it passes over. `UnlearnConfig(…)` with the values
    that you mean, `dataclasses.replace`, assignment, and the command line and YAML of `hf-unlearn` all record that. A
    call that names most fields does not tell what was set (`HfArgumentParser(UnlearnConfig)`,
    `UnlearnConfig(**other.to_dict())`): there a value that equals its default counts as not set. To insist on a default
    there, assign it afterwards: `args.learning_rate = 1e-4`.

    Raises:
        ArgumentError: with all problems at once.
    """

    learning_rate: float = field(
        default=1e-4,
        metadata={
            "help": "Step size; left out, 3e-4 for a language model's adapter and 1e-3 for others. Raise it where too "
            "little is forgotten, lower it where too much is lost."
        },
    )
    lr_scheduler_type: SchedulerType | str = field(
        default="constant",
        metadata={"help": "How the learning rate moves: constant (after `warmup_steps`), linear, cosine, …."},
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

    __repr__ = Arguments.__repr__

    def __post_init__(self):
        self.check()

    @classmethod
    def with_values_alone(cls, values: dict) -> UnlearnConfig:
        """A config for [`value_problems`] only: making a whole one resets what processes know of each other."""
        made = cls.__new__(cls, **values)
        vars(made).update({f.name: f.default for f in fields(cls)} | values)
        return made

    def value_problems(self) -> list[str]:
        problems = super().value_problems() + registry.foreign_options(self, self.given)
        if self.dataloader_drop_last is True:
            problems.append(
                "`dataloader_drop_last` would leave rows out of the request and of the measurement of τ. Set it False."
            )
        if self.push_to_hub is True and "checkpoint" in str(getattr(self.hub_strategy, "value", self.hub_strategy)):
            problems.append(
                "`hub_strategy` would push checkpoints of the request, which hold weights that still know the rows. "
                'Use "end" or "every_save".'
            )
        if self.load_best_model_at_end is True:
            problems.append(
                "`load_best_model_at_end` would undo the request: the best evaluation is that of weights that still "
                "know the rows. Leave it out; where a request ends is for its stop rule to say."
            )
        if self.train_sampling_strategy != "random":
            said = f"is {shown(self.train_sampling_strategy)}; the rows of a request come in the order of its own "
            problems.append(Wrong("train_sampling_strategy", said + "schedule. Leave it out."))
        if number("num_train_epochs", self.num_train_epochs, low=1, high=1):
            problems = [p for p in problems if getattr(p, "name", None) != "num_train_epochs"]
            said = f"is {shown(self.num_train_epochs)}; the length of a request is `passes` (forget passes)."
            problems.append(Wrong("num_train_epochs", said))
        return problems
