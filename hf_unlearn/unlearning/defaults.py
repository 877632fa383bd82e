"""The options of a request that nobody set: those that a ready checkpoint carries, and those that fit the others."""

from __future__ import annotations

import copy
import logging

from ..config import UnlearnConfig
from ..options import request_problems
from ..utils import records
from ..utils.checks import ArgumentError
from ..utils.given import with_values

logger = logging.getLogger(__name__)


def with_request_defaults(args: UnlearnConfig, readiness: dict | None) -> UnlearnConfig:
    """
    The config with the values that a ready checkpoint recommends, but for those that the user has given, also where
    these equal the class's default.

    Raises:
        ArgumentError: if the checkpoint names an option that does not exist.
    """
    wanted = (readiness or {}).get("request") or {}
    if problems := request_problems(wanted):
        raise ArgumentError([f"{records.READINESS}: {problem}" for problem in problems])
    changed = {k: v for k, v in wanted.items() if k not in args.given and v != getattr(args, k)}
    if not changed:
        return args
    logger.info("Defaults from the checkpoint's %s: %s.", records.READINESS, changed)
    return with_values(args, changed)


def with_fitting_gap(args: UnlearnConfig) -> UnlearnConfig:
    """
    The config with the gap that "auto" stands for: the paper's hinge, but where that cannot do what is asked (ours).
    Where a recovery is simulated it is the squared one, since what makes that fail drives the forget loss beyond τ and
    the hinge has nothing to bring it back; for the target "chance" the hinge on each row, since to remove a class no
    row of it may stay answered behind others driven far up.
    """
    if args.gap != "auto":
        return args
    gap = "squared" if args.resistance != "none" else "rows" if args.target == "chance" else "hinge"
    args = copy.copy(args)
    vars(args)["gap"] = gap  # not by assignment: nobody has given it
    if args.objective == "nabla_tau" and args.gap != "hinge":
        logger.info("`gap` is %r: the hinge on the mean cannot do what is asked.", args.gap)
    return args
