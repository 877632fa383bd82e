"""What is wrong with the arguments of `split`, and what its values stand for in a column."""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..utils.checks import Wrong, is_number, raise_problems, whole
from .columns import LABELS, column_names, column_values, first_ids, row_ids
from .duplicates import kind_of
from .label_lists import holds_lists, inner_feature

WAYS = ("id", "class", "column", "random")
SHOWN = 5  # values of a column that a message names


def argument_problems(dataset, by, values, fraction, columns, group, seed, unseen, duplicates, content) -> list[str]:
    """
    All that is wrong with the arguments, before a value is looked up.

    Args:
        columns: those that the request is by: several, where it is by several at once.
    """
    names, problems = column_names(dataset), []
    column = columns[0] if columns else None
    if by not in WAYS and len(columns) < 2:
        problems.append(
            Wrong("by", f"is {by!r}; it must be 'id', 'class', 'column' or 'random', or rows be named by `where`.")
        )
    if by == "column" and column is None:
        problems.append("`by` is 'column', which needs `column`: the name of the column that holds the values.")
    for name in dict.fromkeys(name for name in (*columns, group, *(content or ())) if name is not None):
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            problems.append(f"There is no column {name!r}; the rows have {', '.join(map(repr, names))}.{hint}")
        elif by == "class" and name == column and holds_lists(dataset, name):
            continue  # several labels a row
        elif name in (*columns, group) and (kind_of(dataset, name) == "array" or _holds_lists(dataset, name)):
            problems.append(
                f"The column {name!r} holds lists, files or values of several types; it must hold one word or number "
                "a row, and in all rows the same type."
            )
    if by == "random" and values is not None:
        problems.append("`by` is 'random': it takes `fraction`, not `values`.")
    if by == "random" and column is not None:
        problems.append(
            "`by` is 'random', which draws single rows and reads no `column`. For a share of the values of that "
            f"column: `by='column', column={column!r}, fraction=…`."
        )
    if (values is None) == (fraction is None):
        problems.append("Give either `values` or `fraction`.")
    if fraction is not None and not _is_share(fraction):
        problems.append(Wrong("fraction", f"is {fraction!r}; it must be above 0 and below 1."))
    if values is not None and not alone_or_several(values):
        problems.append("`values` is empty: it names no row to forget.")
    elif values is not None and any(is_missing(value) for value in alone_or_several(values)):
        problems.append("`values` holds None or NaN, which stands for no row; name values that the column has.")
    problems += whole("seed", seed, low=0)
    if isinstance(unseen, (Real, np.number)) and not _is_share(unseen):
        problems.append(
            Wrong("unseen", f"is {unseen!r}; it must be above 0 and below 1, or ids: τ is measured on unseen rows.")
        )
    elif not isinstance(unseen, (Real, np.number, str)) and not isinstance(unseen, Iterable):
        problems.append(Wrong("unseen", f"is {unseen!r}; it must be a share above 0 and below 1, or ids of rows."))
    if duplicates not in ("move", "error", "keep"):
        problems.append(Wrong("duplicates", f"is {duplicates!r}; it must be 'move', 'error' or 'keep'."))
    return problems


def two_labels(dataset) -> list[str]:
    """What is wrong where rows have `label` and `labels`, both of class numbers, that differ."""
    names = column_names(dataset)
    if not set(LABELS) <= set(names) or any(kind_of(dataset, name) == "array" for name in LABELS):
        return []
    pairs = [list(map(_class_number, column_values(dataset, name))) for name in ("label", "labels")]
    differ = [i for i, (one, other) in enumerate(zip(*pairs, strict=True)) if None not in (one, other) and one != other]
    if not differ:
        return []
    ids, one, other = row_ids(dataset), *(numbers[differ[0]] for numbers in pairs)
    return [
        f"The rows have a column 'label' and a column 'labels', whose classes differ in {len(differ)} row(s), ids "
        f"{first_ids([ids[i] for i in differ])}: {one} and {other} in the first. A model is trained on 'labels'. Take "
        "'label' out or rename it, or say by `column` which of the two `values` are of."
    ]


def _class_number(value: Any) -> int | None:
    """The whole number that a label is, also where it is written as text; None: it is a name."""
    try:
        return int(value) if is_number(value) or isinstance(value, str) else None
    except (ValueError, OverflowError):  # a name; infinity
        return None


def _holds_lists(dataset, name: str) -> bool:
    """Whether a column of text is one of lists of texts."""
    feature = (getattr(dataset, "features", None) or {}).get(name)
    return isinstance(feature, (dict, list)) or hasattr(feature, "feature")


def _is_share(value: Any) -> bool:
    return isinstance(value, (Real, np.number)) and not isinstance(value, (bool, np.bool_)) and bool(0 < value < 1)


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def alone_or_several(values: Any) -> list:
    """Several values, also in an array or a tensor, or one that stands alone; of rows their ids; none for None."""
    if values is None:
        return []
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        return [values]
    found = [value["id"] if isinstance(value, Mapping) and "id" in value else value for value in values]
    return [value.item() if hasattr(value, "item") else value for value in found]


def as_values(values: Any, keys: Sequence, dataset, column: str) -> list:
    """
    Values as the column stores them: class names become class numbers, "3" becomes 3, "false" becomes False.

    Args:
        keys: the column.

    Raises:
        ArgumentError: if some are not there; it names some that are.
    """
    feature = inner_feature(dataset, column)
    known = {key for key in keys if not is_missing(key)}
    by_text = {str(key): key for key in known}
    found, missing = [], []
    for value in alone_or_several(values):
        stored = _stored_value(value, known, by_text, feature)
        (missing if stored is None else found).append(value if stored is None else stored)
    if missing:
        listed = [value for value in missing if isinstance(value, str) and _lists(value, by_text)]
        fix = f" Give each value by itself: {first_ids(listed)} is several." if listed else ""
        raise_problems([f"Not in the column {column!r}: {first_ids(missing)}. {_there(missing, known, feature)}{fix}"])
    return found


def _lists(value: str, by_text: Mapping[str, Any]) -> bool:
    """Whether a word is several values of the column with commas between them."""
    words = [word.strip() for word in value.split(",")]
    return len(words) > 1 and all(word in by_text for word in words)


def _stored_value(value, known: set, by_text: dict[str, Any], feature) -> Any:
    """The value of the column that a given one stands for, or None."""
    try:
        if value in known and not (isinstance(value, bool) and str(value) not in by_text):
            return value
    except TypeError:  # a list
        return None
    if hasattr(feature, "str2int") and value in feature.names:
        return feature.str2int(value) if feature.str2int(value) in known else None
    if str(value) in by_text:
        return by_text[str(value)]
    read = _read(value) if isinstance(value, str) else value
    same_number = read in known and not isinstance(read, bool)  # True == 1, but nobody means 1 by it
    midnight = f"{read} 00:00:00" if type(read) is datetime.date else None  # the day of a column of moments
    return read if same_number else by_text.get(str(read), by_text.get(midnight))


def _read(word: str):
    """
    What a word stands for: 1.5 for 1.50, 10 for 0010, 1 for 0x1, False for no, a date for 2020-01-01; else the word.
    YAML would read 0010 as 8 and 1:00 as 60, and the rows of somebody else would be forgotten.
    """
    import yaml

    if re.fullmatch(r"[+-]?[0-9]+", word):
        return int(word)
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", word):
        return float(word)
    if re.fullmatch(r"0x[0-9a-fA-F]+", word):
        return int(word, 16)
    try:
        value = yaml.safe_load(word)
    except (yaml.YAMLError, ValueError):
        return word
    return value if isinstance(value, (bool, datetime.date)) else word  # a datetime is a date, too


def _there(missing: list, known: set, feature) -> str:
    """Some values that a column has, those first that are written much like the missing ones."""
    names = getattr(feature, "names", None)
    words = sorted(str(names[key]) if names and 0 <= key < len(names) else str(key) for key in known)
    if not words:
        return "The column has no value."
    like = [word for value in missing[:SHOWN] for word in difflib.get_close_matches(str(value), words[:10_000], 2)]
    return f"It has {first_ids(list(dict.fromkeys([*like, *words])), SHOWN)}."
