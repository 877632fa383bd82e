"""What was asked for, in a few words, from the data of `hf_unlearn.data.asked`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .numbers import amount, listed, percent

SHARES = {0.5: "half", 1 / 3: "a third", 0.25: "a quarter", 0.2: "a fifth", 0.1: "a tenth", 0.05: "a twentieth"}
PLURALS = {"person": "people", "class": "classes", "id": "ids"}
MOST_NAMES = 5  # values that a line names


def asked(request: Mapping[str, Any] | None, rows: int | None) -> str:
    """ "48 rows of 12 people, a tenth of all"; `rows`: how many were to be forgotten, None: not known."""
    request = request or {}
    skipped = request.get("skipped")
    return _asked(request, rows) + (f" ({amount(skipped)} of all could not be read)" if skipped else "")


def _asked(request: Mapping[str, Any], rows: int | None) -> str:
    some = "rows" if rows is None else "1 row" if rows == 1 else f"{amount(rows)} rows"
    by, count, fraction = (request.get(key) for key in ("by", "count", "fraction"))
    if by == "random":
        return f"{some}, {f'a random {_share(fraction)}' if fraction else 'drawn at random'}"
    if not count:
        return some
    if by == "where":  # several columns at once
        named = request.get("values") or []
        return f"{some} with {listed(named)}" if named else f"{some}, by {request.get('column')}"
    column = "class" if by == "class" else str(request.get("column"))
    share = f", {_share(fraction, a='')} of all" if fraction else ""
    names = [str(name) for name in request.get("values") or []]
    if count == 1 and names:
        return f"{some} of {column} {names[0]}{share}" if by != "id" else f"{some}, id {names[0]}"
    shown = names[:MOST_NAMES]
    rest = [f"{count - len(shown)} more"] if count > len(shown) else []
    which = f": {listed([*shown, *rest])}" if shown else ""
    of = f" of {_several(column, count)}" if by != "id" else ", by id"
    return f"{some}{of}{share}{which}"


def beside(counts: Mapping[str, int]) -> str:
    """The rows that the forget rows were measured beside (split -> number); empty where there are none."""
    others = [f"{amount(counts[split])} {split}" for split in ("retain", "unseen", "test") if split in counts]
    return f"Measured beside {listed(others)} rows." if others else ""


def some_of(data: Mapping[str, Mapping]) -> str:
    """Of which splits a part was measured; empty where there is none."""
    parts = [f"{amount(own['rows'])} of {amount(own['of'])} {split}" for split, own in data.items() if own.get("of")]
    return f"Measured were {listed(parts)} rows, evenly spaced." if parts else ""


def _share(fraction: float, a: str = "a ") -> str:
    for known, word in SHARES.items():
        if abs(fraction - known) < 1e-9:
            return word if not a else word.removeprefix("a ")
    return percent(fraction)


def _several(column: str, count: int) -> str:
    """A number of values of a column, by its name where that is a plain word: "12 people", "3 values of user_id"."""
    if count == 1:
        return f"1 {column}" if column.isalpha() else f"1 value of {column}"
    if column in PLURALS:
        return f"{amount(count)} {PLURALS[column]}"
    if not (column.isalpha() and column.islower()) or column.endswith(("s", "x", "z", "sh", "ch")):
        return f"{amount(count)} values of {column}"
    plural = f"{column[:-1]}ies" if column.endswith("y") and column[-2:-1] not in "aeiou" else f"{column}s"
    return f"{amount(count)} {plural}"
