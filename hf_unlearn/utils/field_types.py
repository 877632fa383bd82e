"""The values of a dataclass's fields against the types that they are declared with, where these are simple."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from enum import Enum

from .checks import Wrong, any_number, one_of, plain, true_or_false, whole

# No `from __future__ import annotations` here: `typing.get_type_hints` of Python 3.10 refuses `InitVar` as a string.

CHECKS: dict[type, Callable] = {bool: true_or_false, int: whole, float: any_number}


@functools.cache
def simple_fields(cls: type) -> dict[str, tuple[type, bool]]:
    """Name -> (bool, int, float or an enum; whether None is allowed) of the fields that are declared as such."""
    hints, found = typing.get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        kinds = set(typing.get_args(hints[field.name])) or {hints[field.name]}
        optional = type(None) in kinds or field.default is None
        kinds -= {type(None)}
        if enums := {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)}:
            kinds = enums if kinds <= enums | {str} else kinds  # a choice may be written as a word
        if len(kinds) == 1 and (enums or kinds <= set(CHECKS)):
            found[field.name] = (kinds.pop(), optional)
    return found


def type_problems(config, none=()) -> list[Wrong]:
    """
    What is wrong with the types of a dataclass's values, and with words that are none of an enum's.

    Args:
        none: names of fields that may be None, whatever their declaration says.
    """
    problems = []
    for name, (kind, optional) in simple_fields(type(config)).items():
        value = getattr(config, name)
        if not (value is None and (optional or name in none)):
            problems += _problems(kind, name, value)
    return problems


def _problems(kind: type, name: str, value) -> list[Wrong]:
    if issubclass(kind, Enum):
        return one_of(name, getattr(value, "value", value), [choice.value for choice in kind])
    return CHECKS[kind](name, value)


def with_plain_numbers(config) -> None:
    """Turns numbers of numpy, and whole floats where a whole number is declared, into Python's own; in place."""
    for name, (kind, _) in simple_fields(type(config)).items():
        value = getattr(config, name)
        if kind in CHECKS and type(value) is not kind and value is not None and not CHECKS[kind](name, value):
            vars(config)[name] = plain(value) if kind is float else kind(value)

