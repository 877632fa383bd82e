"""Whether a training can move any weight: their precision, the user's own optimizer, and the way of the gradient."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from ..data.columns import first_ids
from ..utils.checks import ArgumentError

logger = logging.getLogger(__name__)


def precision_problems(model: torch.nn.Module) -> list[str]:
    """Of trainable weights whose numbers end far below those of float32 (float16: at 65504)."""
    narrow = [
        (name, p.dtype)
        for name, p in model.named_parameters()
        if p.requires_grad and p.is_floating_point() and torch.finfo(p.dtype).max < 1e30
    ]
    if not narrow:
        return []
    return [
        f"Trainable weights are {narrow[0][1]} ({first_ids([name for name, _ in narrow], 2)}): gradients overflow "
        "and small steps are lost. Load the model in float32, `from_pretrained(…, dtype=torch.float32)`, and set "
        "`bf16=True` to save memory; or train an adapter (`peft_config`), whose weights are float32."
    ]


def optimizer_problems(model: torch.nn.Module, optimizers: tuple) -> list[str]:
    """
    Of an optimizer and a schedule that were made before the trainer. A warning tells of an optimizer that holds only
    some of the trainable weights.

    Args:
        model: with its adapter, if it gets one.
        optimizers: `(optimizer, schedule)`, as `transformers.Trainer` takes them; either may be None.
    """
    optimizer, schedule = optimizers
    problems = []
    if schedule is not None and getattr(schedule, "optimizer", optimizer) is not optimizer:
        problems.append(
            "The schedule in `optimizers` belongs to another optimizer than the one beside it, whose learning rate "
            "would stay as it is. Pass `(optimizer, schedule_of_that_optimizer)`, or set `lr_scheduler_type`."
        )
    if optimizer is None:
        return problems
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = {name: id(p) in held for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, there in names.items() if not there]
    if len(missing) == len(names):
        problems.append(
            f"The optimizer in `optimizers` holds none of the {len(names)} trainable weights "
            f"({first_ids(missing, 2)}): nothing would be trained. Make it after the adapter is on the model "
            "(`model = get_peft_model(model, config)`, then `optimizers=`, without `peft_config`), or set `optim` and "
            "`learning_rate` in the config instead."
        )
    elif missing:
        logger.warning(
            "The optimizer in `optimizers` holds %d of %d trainable weights; the others stay as they are (%s).",
            len(names) - len(missing), len(names), first_ids(missing, 2),
        )  # fmt: skip
    return problems


def check_gradients(trainable: Iterable[torch.nn.Parameter]) -> None:
    """
    After the first step's backward.

    Raises:
        ArgumentError: if no weight got a gradient.
    """
    if all(p.grad is None for p in trainable):
        raise ArgumentError(
            [
                "No gradient reaches any of the trainable weights, so that nothing would be trained. Some part between "
                "them and the loss has no backward, as the layers of a model after `quantize_dynamic`. Load the model "
                "in float32."
            ]
        )
