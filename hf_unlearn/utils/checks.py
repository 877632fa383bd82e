"""Checks of arguments and of rows. Each returns a list of problems, so that all of them can be told in one error."""

from __future__ import annotations

import json
import math
import numbers
import os
import sys
from collections.abc import Callable
from typing import Any

LARGEST = sys.float_info.max
SHOWN = 80  # characters of a value in a message, at most


class ArgumentError(ValueError):
    """
    All problems of the arguments or of the data, in one message. `problems` is the list of them. The headline holds
    wherever one is raised: some checks need the model, its engine or a checkpoint, but all come before a step.
    """

    def __init__(self, problems: list[str]):
        self.problems = list(problems)
        head = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        bullets = "\n".join("  - " + problem.replace("\n", "\n    ") for problem in self.problems)
        super().__init__(f"{head} to mend before anything runs:\n{bullets}")

    def __reduce__(self):
        return type(self), (self.problems,)  # for copies and pickles, as between processes


class Wrong(str):
    """
    The problem of one argument's value: "`name` is …". Who knows where the value comes from, can say it in `name`'s
    place.

    Args:
        said: what is wrong, after the name.
    """

    name: str
    said: str

    def __new__(cls, name: str, said: str):
        made = super().__new__(cls, f"`{name}` {said}")
        made.name, made.said = name, said
        return made

    def __getnewargs__(self):
        return self.name, self.said  # for copies and pickles


def raise_problems(problems: list[str]) -> None:
    """
    Does nothing where there are none.

    Raises:
        ArgumentError: with all of them, each told once.
    """
    if problems:
        raise ArgumentError(list(dict.fromkeys(problems)))


def shown(value) -> str:
    """A value for a message: as Python writes it, cut where that is long."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes out
        return f"a {type(value).__name__} of very many digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def one_of(name: str, value, allowed) -> list[str]:
    """The problem of an argument that is none of the allowed values."""
    if value in tuple(allowed):  # not in a dict, which would hash it
        return []
    return [Wrong(name, f"is {shown(value)}; it must be one of {', '.join(map(repr, allowed))}.")]


def path(name: str, value) -> list[str]:
    """The problem of an argument that is no path: of a list, say."""
    good = isinstance(value, (str, os.PathLike))
    return [] if good else [Wrong(name, f"is {shown(value)}; it must be the path of a file.")]


def true_or_false(name: str, value) -> list[str]:
    """The problem of an argument that is no boolean: of "no", say, which Python takes for true."""
    if isinstance(plain(value), bool) or (is_number(value) and value in (0, 1)):
        return []
    return [Wrong(name, f"is {shown(value)}; it must be True or False.")]


def whole(name: str, value, *, low: int | None = None, high: int | None = None) -> list[str]:
    """The problem of an argument that is no whole number from `low` to `high`; NaN is none, and neither is True."""
    value = plain(value)
    within = is_number(value) and not (low is not None and value < low) and not (high is not None and value > high)
    if within and value % 1 == 0:  # False for NaN and inf
        return []
    edges = [f"of at least {low}" if low is not None else "", f"at most {high}" if high is not None else ""]
    edge = " and ".join(filter(None, edges))
    return [Wrong(name, f"is {shown(value)}; it must be a whole number{edge and ' '}{edge}.")]


def number(
    name: str,
    value,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> list[str]:
    """
    The problem of an argument that is no finite number of the range; `open_low`, `open_high`: `low` or `high` itself is
    outside. NaN is none, and neither is True, which Python takes for 1.
    """
    value = plain(value)
    good = is_number(value) and abs(value) <= LARGEST
    good = good and (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if good:
        return []
    edges = [f"{'above' if open_low else 'at least'} {low:g}"] if math.isfinite(low) else []
    edges += [f"{'below' if open_high else 'at most'} {high:g}"] if math.isfinite(high) else []
    edge = " and ".join(edges)
    return [Wrong(name, f"is {shown(value)}; it must be a finite number{edge and ' '}{edge}.")]


def any_number(name: str, value) -> list[str]:
    """The problem of an argument that is no number; NaN is none, infinity is one."""
    good = is_number(plain(value)) and value == value
    return [] if good else [Wrong(name, f"is {shown(value)}; it must be a number.")]


def is_number(value) -> bool:
    """Whether a value is a real number, of Python or of numpy; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def plain(value):
    """A number of numpy, or of another kind that is no int and no float, as Python's own; all else as it is."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return float(value) if is_number(value) and not isinstance(value, (int, float)) else value


def problems_of(error: Exception) -> list[str]:
    """All problems that an error tells: those of an `ArgumentError`, else its message."""
    if isinstance(error, json.JSONDecodeError):
        return [f"{error.doc[:80]!r} is no JSON: {error}."]
    return getattr(error, "problems", [str(error)])


def gather(*checks: Callable[[], Any]) -> list:
    """
    Results of the checks, each called without arguments.

    Raises:
        ArgumentError: with the problems of all of them, each told once.
    """
    results, problems = [], []
    for check in checks:
        try:
            results.append(check())
        except (ValueError, OSError) as error:
            problems += [problem for problem in problems_of(error) if problem not in problems]
    raise_problems(problems)
    return results
