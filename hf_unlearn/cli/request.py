"""Which rows are asked for, in the user's own words: by ids, by conditions such as customer=4711, or by --forget_by."""

from __future__ import annotations

import re
from pathlib import Path

from ..utils.checks import ArgumentError, Wrong, gather
from .arguments import DataArguments

WAYS = ("forget_ids", "forget_where", "forget_values", "forget_fraction")  # of which the one given last counts
CONDITION = "COLUMN=VALUE, such as customer=4711"
MOST_IDS = 5  # ids of matched rows that are told


def chosen(data: DataArguments) -> list[str]:
    """
    The ways in which rows are named: those of the command line, else of the verb's own keys in the file, else of the
    plain ones. Several only where they were given at one place.
    """
    given = [name for name in WAYS if getattr(data, name) is not None]
    last = max((_place(data, name) for name in given), default=0)
    return [name for name in given if _place(data, name) == last]


def _place(data: DataArguments, name: str) -> int:
    """Where a flag is from: 0 a plain key of the file or Python, 1 the verb's own key, 2 the command line."""
    one = data.given.get(name)
    return 0 if one is None else 2 if one.file is None else 1 if one.prefix else 0


def problems(data: DataArguments) -> list[str]:
    """What is wrong with the flags that name rows, before a row is read."""
    ways = chosen(data)
    found: list[str] = []
    words = [name for name in ways if name in ("forget_ids", "forget_where")]
    if words and len(ways) > 1:
        others = ", ".join(f"--{name}" for name in ways if name != words[0])
        found.append(Wrong(words[0], f"is given beside {others}. Give one of them."))
    for name in words[:1]:
        beside = [other for other in ("forget_by", "forget_column") if _names_another_way(data, name, other)]
        found += [
            Wrong(other, f"is {getattr(data, other)!r}, but --{name} says by what rows are named. Give one of the two.")
            for other in beside
        ]
    for read in {"forget_ids": ids_of, "forget_where": conditions}.items():
        if read[0] in words:
            try:
                read[1](data)
            except ArgumentError as error:
                found += error.problems
    return found


def _names_another_way(data: DataArguments, way: str, other: str) -> bool:
    """Whether a flag that tells by what rows are named stands at the same place, and tells something else."""
    if other not in data.given or getattr(data, other) is None or _place(data, other) < _place(data, way):
        return False
    return way == "forget_where" or data.forget_by != "id"


def superseded(data: DataArguments) -> set[str]:
    """Names of flags on what to forget that were given, and that a nearer one makes idle."""
    ways = chosen(data)
    found = {name for name in WAYS if getattr(data, name) is not None and name not in ways}
    for way in {"forget_ids", "forget_where"} & set(ways):
        others = [name for name in ("forget_by", "forget_column") if name in data.given]
        names_rows = way == "forget_where" or data.forget_by != "id"
        found |= {name for name in others if names_rows and _place(data, name) < _place(data, way)}
    return found


def ids_of(data: DataArguments, name: str = "forget_ids") -> list[str]:
    """
    The ids of `--forget_ids`, `--unseen_ids` or `--deleted`: its words, and of a word that is the name of a file here,
    but of no image or sound, whose path may be an id itself, the file's lines.

    Raises:
        ArgumentError: if there is no such file, or it holds no ids.
    """
    parts = gather(*(lambda word=word: _ids_of_word(word, name) for word in getattr(data, name) or ()))
    return list(dict.fromkeys(one for part in parts for one in part))


def _ids_of_word(word: str, name: str) -> list[str]:
    from ..data.rows.media import KINDS

    if not word.strip():
        raise ArgumentError([Wrong(name, "has an empty word. Name ids, or a file with one id a line.")])
    path = Path(word).expanduser()
    if path.suffix.lower() in KINDS:
        return [word]
    if path.is_file():
        return lines_of(word, name)
    if path.is_dir() or path.suffix.lower() in (".txt", ".csv", ".json", ".jsonl"):
        what = "a folder" if path.is_dir() else "and there is no such file"
        raise ArgumentError([Wrong(name, f"is {word!r}, {what}. Name a file with one id a line, or ids.")])
    return [word]


def lines_of(path: str, name: str) -> list[str]:
    """
    Ids of a file, one a line.

    Args:
        name: the flag, for the errors.

    Raises:
        ArgumentError: if it is no text, or holds none.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"is {path!r}, which is no text in UTF-8 (byte {error.start}: {error.reason}); save it in that encoding."
        raise ArgumentError([Wrong(name, said)]) from error
    if Path(path).suffix.lower() in (".json", ".jsonl") and text.lstrip()[:1] in ("[", "{"):
        raise ArgumentError([Wrong(name, f"is {path!r}, which holds JSON: expected ids alone, one a line.")])
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise ArgumentError([Wrong(name, f"is {path!r}, which holds no id: expected one a line.")])
    return found


def conditions(data: DataArguments) -> dict[str, list[str]]:
    """
    The values of `--forget_where` by column; a column that is named twice has either value.

    Raises:
        ArgumentError: with all words that are no condition.
    """
    found: dict[str, list[str]] = {}
    wrong: list[str] = []
    for word in data.forget_where:
        column, equals, value = word.partition("=")
        value = value.removeprefix("=").strip()
        if not equals or not column.strip() or not value:
            wrong.append(Wrong("forget_where", f"has {word!r}; expected {CONDITION}."))
        elif re.search(r"[!<>~]\s*$", column):
            wrong.append(Wrong("forget_where", f"has {word!r}; a condition is that a column has a value: {CONDITION}."))
        else:
            found.setdefault(column.strip(), []).append(value)
    if wrong or not found:
        raise ArgumentError(wrong or [Wrong("forget_where", f"is empty; expected {CONDITION}.")])
    return {column: list(dict.fromkeys(values)) for column, values in found.items()}


def named(data: DataArguments) -> dict:
    """
    How rows are named, as [`hf_unlearn.split`] and [`hf_unlearn.data.asked.asked`] take it. Conditions on the class of
    a classifier ask for that class.

    Raises:
        ArgumentError: as [`ids_of`] and [`conditions`].
    """
    way = (chosen(data) or [None])[0]
    if way == "forget_ids":
        column = data.forget_column if data.forget_by == "id" else None
        return {"by": "id", "values": ids_of(data), "column": column}
    if way == "forget_where":
        where = conditions(data)
        if list(where) == [data.label_column] and data.task != "causal_lm":
            return {"by": "class", "values": where[data.label_column], "column": data.label_column}
        return {"where": where}
    defaults = {"class": data.forget_column or data.label_column, "random": None}
    column = defaults.get(data.forget_by, data.forget_column)
    alone = way is not None and len(chosen(data)) == 1  # else both count, and `split` says that they are two
    fraction = None if alone and way == "forget_values" else data.forget_fraction
    values = None if alone and way == "forget_fraction" else data.forget_values
    return {"by": data.forget_by, "values": values, "fraction": fraction, "column": column}


def way_of(data: DataArguments) -> str:
    """The flag that names rows."""
    return (chosen(data) or ["forget_values"])[0]


def columns_of(data: DataArguments) -> list[str]:
    """The columns whose values are asked for as a whole: of people, classes; none, where single rows are named."""
    if way_of(data) == "forget_ids":
        return []
    found = named(data)
    if "where" in found:
        return list(found["where"])
    return [found["column"]] if found["by"] in ("class", "column") and found["column"] else []


def by_class(data: DataArguments) -> bool:
    """Whether classes are asked for, which are nobody's names."""
    return way_of(data) != "forget_ids" and named(data).get("by") == "class"


def told(request: dict, forget, title: str = "To forget", names: bool = True) -> str:
    """
    "To forget: 12 rows of person Ada Lovelace, ids 3, 4, 5, 6, 7, … (12 in all)".

    Args:
        request: by [`hf_unlearn.data.asked.asked`].
        forget: the rows.
        names: False leaves out what may tell who asked.
    """
    from ..data.columns import first_ids
    from ..data.who_asked import without_names
    from ..report.words.asking import asked

    said = asked(request if names else without_names(request), len(forget))
    ids = f"; ids {first_ids(forget['id'], MOST_IDS)}" if names and request.get("by") != "id" else ""
    return f"{title}: {said}{ids}"
