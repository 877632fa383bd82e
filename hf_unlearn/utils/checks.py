"""Checks of arguments and of rows. Each returns a list of problems, so that all of them can be told in one error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any


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
        ArgumentError: with all of them.
    """
    if problems:
        raise ArgumentError(problems)


def one_of(name: str, value, allowed) -> list[str]:
    """The problem of an argument that is none of the allowed values."""
    if value in allowed:
        return []
    return [Wrong(name, f"is {value!r}; it must be one of {', '.join(map(repr, allowed))}.")]


def whole(name: str, value, *, low: int) -> list[str]:
    """The problem of an argument that is no whole number from `low` on; NaN is none."""
    if isinstance(value, (int, float)) and value >= low and value % 1 == 0:
        return []
    return [Wrong(name, f"is {value!r}; it must be a whole number of at least {low}.")]


def number(name: str, value, *, low: float, high: float = math.inf, open_low: bool = False) -> list[str]:
    """The problem of an argument that is no finite number of the range; `open_low`: `low` itself is outside."""
    good = isinstance(value, (int, float)) and value <= high and (value > low if open_low else value >= low)
    if good and math.isfinite(value):
        return []
    edge = f"{'above' if open_low else 'at least'} {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
    return [Wrong(name, f"is {value!r}; it must be a finite number {edge}.")]


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
