"""All objectives by name."""

from __future__ import annotations

from dataclasses import fields

from .base import Objective
from .grad_diff import GradDiff
from .gradient_ascent import GradientAscent
from .nabla_tau import NablaTau
from .npo import Npo

OBJECTIVES: dict[str, type[Objective]] = {cls.name: cls for cls in (NablaTau, GradientAscent, GradDiff, Npo)}


def get_objective(name: str, **parameters) -> Objective:
    """
    The objective registered under `name`, with its parameters.

    Raises:
        ValueError: for a name that is not registered or a parameter that the objective does not have; the message
            lists what exists.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"`objective` is {name!r}; it must be one of {', '.join(map(repr, OBJECTIVES))}.")
    known = [field.name for field in fields(OBJECTIVES[name])]
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(
            f"The objective {name!r} has no parameter {', '.join(map(repr, unknown))}; it has {known or 'none'}."
        )
    return OBJECTIVES[name](**parameters)
