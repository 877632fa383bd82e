"""Numbers as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def number(value: float) -> str:
    if abs(value) >= 1e5:
        return f"{value:.2g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1g}"


def signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"


def times(value: float) -> str:
    """A ratio near one: always with two decimals below 10, since "1 times" would say less than was measured."""
    return f"{value:.2f}" if abs(value) < 10 else number(value)


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def interval(measure: Mapping[str, Any], text: Callable[[float], str]) -> str:
    """ "2 to 9 %", where the numbers hold two ends `low` and `high`."""
    low, high = measure.get("low"), measure.get("high")
    return "" if None in (low, high) or low == high else f"{text(low).removesuffix(' %')} to {text(high)}"


def kept_percent(share: float) -> str:
    """A share of a yardstick; above 100 % that is all it says, since more is no gain."""
    return "100 % or more" if share > 1 else percent(share)


def amount(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{int(value):,}".replace(",", "\u202f") if float(value).is_integer() else number(value)


def in_thousands(count: int) -> str:
    """ "69 thousand", "1.2 million", "7 billion"."""
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= unit:
            return f"{float(f'{count / unit:.3g}'):g} {name}"
    return amount(count)


def hundred(value: float, up: bool = False) -> int:
    """Times in 100."""
    return math.ceil(round(100 * value, 6)) if up else round(100 * value)


def rows(share: float, of: int | None) -> str:
    """A share of rows as a number of them; in per cent where their number is not known."""
    return str(round(share * of)) if of else percent(share)


def listed(parts: Sequence[str], last: str = "and") -> str:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def plain_numbers(numbers: Mapping[str, Any]) -> str:
    """Numbers under the names that they have."""
    shown = {key: value for key, value in numbers.items() if isinstance(value, (int, float))}
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in shown.items()) or "no numbers"


def in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
