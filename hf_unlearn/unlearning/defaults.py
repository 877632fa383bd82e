"""The options of a request that nobody set: those that a ready checkpoint carries, and those that fit the others."""

from __future__ import annotations

import copy
import logging

from ..config import UnlearnConfig
from ..objectives.registry import OBJECTIVES
from ..options import request_problems
from ..utils.checks import ArgumentError, problems_of
from ..utils.given import with_values

logger = logging.getLogger(__name__)

OF_ADAPTERS = {True: 3e-4, False: 1e-3}  # learning rate where an adapter alone is moved: of language models, of others


def with_request_defaults(args: UnlearnConfig, readiness: dict | None) -> UnlearnConfig:
    """
    The config with the values that a ready checkpoint recommends, but for those that the user has given, also where
    these equal the class's default; a warning tells of the recommendations that are passed over for that.

    Raises:
        ArgumentError: if the checkpoint names an option that does not exist.
    """
    wanted = (readiness or {}).get("request") or {}
    if problems := request_problems(wanted):
        raise ArgumentError([f"readiness.json: {problem}" for problem in problems])
    other = {k: v for k, v in wanted.items() if v != getattr(args, k)}
    if passed_over := {k: v for k, v in other.items() if k in args.given}:
        told = ", ".join(f"`{k}` {v!r} (used: {getattr(args, k)!r})" for k, v in passed_over.items())
        logger.log(
            logging.WARNING if args.process_index == 0 else logging.DEBUG,
            "The checkpoint's readiness.json recommends %s; what is used instead was set in the arguments.",
            told,
        )
    changed = {k: v for k, v in other.items() if k not in args.given}
    if not changed:
        return args
    logger.info("Defaults from the checkpoint's readiness.json: %s.", changed)
    try:
        return with_values(args, changed)
    except ValueError as error:
        raise ArgumentError([f"With what readiness.json recommends: {p}" for p in problems_of(error)]) from error


def with_fitting_options(args: UnlearnConfig, of_tokens: bool = False) -> UnlearnConfig:
    """
    A copy of the config, which its owner may use again, with what "auto" stands for in the objective's own options,
    given the others, and with a schedule of the learning rate that knows `warmup_steps`: transformers' "constant"
    leaves them out.

    Args:
        of_tokens: the rows are those of a language model.
    """
    found = dict(OBJECTIVES[args.objective].fitting(args, of_tokens=of_tokens))
    schedule = args.lr_scheduler_type
    if args.warmup_steps and schedule == "constant":
        found["lr_scheduler_type"] = type(schedule)("constant_with_warmup")
    args = copy.copy(args)
    if found:
        vars(args).update(found)  # not by assignment: nobody has given these
        logger.info("Options that fit the others: %s.", found)
    return args
