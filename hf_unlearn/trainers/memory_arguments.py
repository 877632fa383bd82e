"""The arguments of a memory's training: those that say what a table is filled with, its own defaults, what is wrong."""

from __future__ import annotations

import numpy as np

from ..config import ReadyConfig
from ..data.columns import row_ids
from ..readiness.memory.config import MemoryConfig
from ..utils.checks import Wrong, problems_of
from .making_plans import selected
from .replay_request import ids_of

# Defaults of a memory's training: its values begin at 0, far from where they end, and what is shared is read by all.
LEARNING_RATES, EPOCHS = {"own": 0.3, "shared": 0.1}, 30.0
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "sgd", "rmsprop", "adagrad")  # those that work value by value
OF_THE_SCHEDULE = ("num_train_epochs", "per_device_train_batch_size", "seed")
# What a table depends on, beside rows, memory and the model below:
ARGUMENTS = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "seed", "weight_decay", "optim")
ARGUMENTS += ("max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "neftune_noise_alpha")
ARGUMENTS += ("bf16", "fp16", "tf32", "torch_compile", "use_liger_kernel", "per_device_eval_batch_size")


def with_defaults(args: ReadyConfig, variant: str) -> ReadyConfig:
    """The arguments with the learning rate and epochs of a memory's variant, where the user has set none."""
    if "learning_rate" not in args.given:
        args.learning_rate = LEARNING_RATES[variant]
    if "num_train_epochs" not in args.given:
        args.num_train_epochs = EPOCHS
    return args


def argument_problems(args, kwargs, peft_config, plan) -> list[str]:
    """What is wrong with the arguments of a memory's training."""
    problems = []
    if plan is not None:
        problems.append('`plan` is of `readiness="replay"`. Leave it out.')
    if not args.request_group:
        problems.append("`request_group` is not set: name the column that says from whom each row is.")
    if args.gradient_accumulation_steps != 1:
        said = f"is {args.gradient_accumulation_steps}; the rows of a source are few, and a step takes one batch of "
        problems.append(Wrong("gradient_accumulation_steps", said + "them. Leave it at 1."))
    if args.num_train_epochs != int(args.num_train_epochs):
        said = f"is {args.num_train_epochs}; each source has whole epochs over its rows."
        problems.append(Wrong("num_train_epochs", said))
    optim = str(getattr(args.optim, "value", args.optim))
    if optim not in OPTIMIZERS:
        said = f"is {optim!r}; a source's table may depend on no other, so it must be one of {', '.join(OPTIMIZERS)}."
        problems.append(Wrong("optim", said))
    if kwargs.get("optimizers", (None, None)) not in ((None, None), None):
        problems.append("`optimizers` are not taken with a memory: each source begins with a new one. Set `optim`.")
    try:
        MemoryConfig(**args.memory_values())
    except (TypeError, ValueError) as error:
        problems += [f"`memory_config`: {problem}" for problem in problems_of(error)]
    if peft_config is not None and not isinstance(peft_config, MemoryConfig):
        problems.append(f"`peft_config` is a {type(peft_config).__name__}; a memory's is a `MemoryConfig`.")
    return problems


def without_rows(rows, deleted) -> tuple:
    """`(the rows without those of some ids, what is wrong with the ids)`."""
    asked = {str(one) for one in ids_of(deleted)}
    if not asked:
        return rows, []
    ids = list(map(str, row_ids(rows)))
    if unknown := sorted(asked - set(ids)):
        return rows, [f"`deleted` has ids that no row has: {', '.join(unknown[:5])}."]
    return selected(rows, np.flatnonzero([one not in asked for one in ids])), []
