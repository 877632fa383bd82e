"""What both trainers look at first: their arguments, before a model is loaded; and what has become of them later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..data.checks import evaluation_problems
from ..data.limits import Limits, limits_of
from ..data.row_checks import transform_problems
from ..utils.checks import raise_problems
from ..utils.salts import salt_problems
from .engines import decided_by_first
from .loading import of_config
from .models import argument_problems, config_problems

if TYPE_CHECKING:
    from .base import ForgettingTrainer


def take_in(
    model: Any,
    args: Any,
    config: type,
    others: Mapping[str, Any],
    whose: str,
    take_rows: Callable[[Limits, bool], tuple[list, list[str]]],
) -> tuple[list, list[str]]:
    """
    `(the sets of rows as data sets, all that is wrong with the arguments)`, the same on every process as far as it is
    read from `output_dir`.

    Args:
        config: the class that `args` is to be of.
        others: the trainer's further arguments by name, without the rows that it trains on.
        whose: of what those rows are, for messages.
        take_rows: of what the model takes, and of whether the default collator makes the batches:
            `(the sets, what is wrong with them)`.

    Raises:
        ArgumentError: at once where `args` are wrong, since what follows takes them at their word.
    """
    wrong = config_problems(args, config)
    init = None if wrong else args.model_init_kwargs
    plain, limits = others.get("data_collator") is None, limits_of(model, **of_config(init or {}))
    limits = limits.with_padding_of(others.get("processing_class"))
    sets, bad_rows = take_rows(limits, plain)
    problems = argument_problems(model, others.get("peft_config"), others) + wrong + bad_rows
    if init and isinstance(model, torch.nn.Module):
        problems.append(
            "`model_init_kwargs` say how a model is loaded by its name, and `model` is loaded already. Leave them out."
        )
    problems += evaluation_problems("evaluation", others.get("eval_dataset"), limits, plain)
    if wrong:
        raise_problems(problems)
    if args.remove_unused_columns and not bad_rows:
        problems += [one for rows in sets for one in transform_problems(whose, rows, limits)][:1]
    return sets, problems + decided_by_first(lambda: salt_problems(args.output_dir))


def later_problems(trainer: ForgettingTrainer) -> list[str]:
    """What was set on a trainer, or taken off it, since its arguments were looked at, and cannot be."""
    now = {**trainer.run_rows(), "training": trainer.train_dataset}
    problems = [
        f"The {name} rows of the trainer are others than those that it was made with, which "
        "were looked at and put in order. Make a new trainer with these rows."
        for name, rows in trainer.rows_taken_in.items()
        if now[name] is not rows
    ]
    there = tuple(map(type, trainer.callback_handler.callbacks))
    lacking = [kind.__name__ for kind in trainer.own_callbacks if kind not in there]
    if lacking:
        problems.append(f"The trainer's own callback(s) {', '.join(lacking)} were removed, and it cannot do without.")
    return problems
