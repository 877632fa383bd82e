"""Which kind of text rows these are: the columns that are there decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .columns import check_texts, name_rows

NEEDED = {  # kind of rows -> the columns that tell it, in the order in which they are looked for
    "messages": ("messages",),
    "completion": ("prompt", "completion"),
    "question": ("question", "answer"),
    "instruction": ("instruction", "output"),
    "text": ("text",),
}
BESIDE = {"instruction": ("input",)}  # columns that such rows may have, too
ALSO = {"messages": "conversations"}  # usual name -> another one that is as usual
NOT_READ = ("tools", "system", "context", "history", "documents", "images", "chat_template_kwargs")  # often meant, too
COLUMNS = tuple(column for kind, needed in NEEDED.items() for column in (*needed, *BESIDE.get(kind, ())))


@dataclass(frozen=True)
class Shape:
    """
    How rows say what a language model learns.

    Args:
        kind: a key of `NEEDED`.
        columns: usual name -> name of the column in these rows.
    """

    kind: str
    columns: Mapping[str, str]

    def of(self, name: str) -> str | None:
        """The column that goes by this usual name; None where the rows have none."""
        return self.columns.get(name)

    @property
    def holds_documents(self) -> bool:
        return self.kind == "text"


def shape_of(there: Sequence[str], named: Mapping[str, str] | None = None) -> Shape:
    """
    The shape of rows with these columns: that of the columns that were named, first of all of those that were named
    otherwise than usual; else the first of `NEEDED` whose columns are all there.

    Args:
        there: names of the rows' columns.
        named: usual name -> name of the column in these rows; others have their usual names.

    Raises:
        ValueError: if a column that was named is not there, columns of two shapes are named, or no shape fits. The
            message lists the columns that are there and names the argument, `question_column`, say.
    """
    asked = {name: column for name, column in (named or {}).items() if name in COLUMNS}
    named = {name: column for name, column in asked.items() if column != name}
    kinds = _kinds_of(named)
    if len(kinds) > 1:
        flags = " and ".join(f"`{name}_column`" for name in named)
        raise ValueError(f"{flags} name columns of rows of different kinds: give those of one of {_all_kinds()}.")
    if not kinds:
        kinds = [kind for kind in _kinds_of(asked) if set(NEEDED[kind]) <= set(there)]
    if not kinds:
        named = {name: also for name, also in ALSO.items() if name not in there and also in there}
    fits = [kind for kind in kinds or NEEDED if {named.get(name, name) for name in NEEDED[kind]} <= set(there)]
    if fits:
        names = (*NEEDED[fits[0]], *BESIDE.get(fits[0], ()))
        found = {name: named.get(name, name) for name in names}
        if lacking := [column for name, column in found.items() if name in named and column not in there]:
            raise ValueError(_lacking(lacking, there, list(named)))
        return Shape(fits[0], {name: column for name, column in found.items() if column in there})
    if kinds:
        wanted = {name: named.get(name, name) for name in NEEDED[kinds[0]]}
        lacking = {name: column for name, column in wanted.items() if column not in there}
        raise ValueError(_lacking(list(lacking.values()), there, list(lacking)))
    raise ValueError(
        f"A language model's rows are told by their columns ({_all_kinds()}), and these have "
        f"{', '.join(map(repr, there))}. If yours have other names, say them: by `question_column` and "
        "`answer_column`, `text_column`, `messages_column`, …."
    )


def unread(there: Sequence[str], shape: Shape) -> str | None:
    """What to say of columns that others read beside those of such rows, and that are not read here; None: of none."""
    idle = [name for name in NOT_READ if name in there and name not in shape.columns.values()]
    if not idle or shape.holds_documents:
        return None
    read = ", ".join(map(repr, shape.columns.values()))
    return (
        f"What stands in the column(s) {', '.join(map(repr, idle))} is not read: a model learns from {read} alone. If "
        "it is part of what the model is told, write it there."
    )


def _kinds_of(names: Mapping[str, str]) -> list[str]:
    """The kinds of rows that have some of these columns, by their usual names."""
    return [kind for kind in NEEDED if set(names) & {*NEEDED[kind], *BESIDE.get(kind, ())}]


def _all_kinds() -> str:
    return "; ".join(" and ".join(needed) for needed in NEEDED.values())


def _lacking(columns: list[str], there: Sequence[str], names: list[str]) -> str:
    flags = " and ".join(f"`{name}_column`" for name in names)
    return (
        f"There is no column {', '.join(map(repr, columns))}; the rows have {', '.join(map(repr, there))}. If yours "
        f"has another name, say it by {flags}."
    )


def asked_and_said(batch: Mapping[str, list], shape: Shape) -> tuple[list[str], list[str]]:
    """`(what is asked, what is to be learnt)` of rows of question and answer, or of instruction and output."""
    if shape.kind == "question":
        return batch[shape.of("question")], batch[shape.of("answer")]
    more = batch[shape.of("input")] if shape.of("input") else [None] * len(batch[shape.of("instruction")])
    asked = zip(batch[shape.of("instruction")], more, strict=True)
    asked = [f"{task}\n\n{given}" if given and given.strip() else task for task, given in asked]
    return asked, batch[shape.of("output")]


def texts_of(rows, shape: Shape) -> list[str]:
    """All that the rows say, for a tokenizer that is made from it."""
    found: list[str] = []
    for column in shape.columns.values():
        for value in rows[column]:
            parts = value if isinstance(value, list) else [{"content": value}]
            found += [turn["content"] for turn in parts if isinstance(turn.get("content"), str)]
    return found


def check_content(rows, shape: Shape) -> None:
    """
    Raises:
        ValueError: if a row holds no text where it should, or nothing to learn; it names the rows.
    """
    if shape.kind == "messages":
        return  # looked at turn by turn
    optional = BESIDE.get(shape.kind, ())
    texts = [column for name, column in shape.columns.items() if name not in optional]
    if shape.kind == "completion" and any(isinstance(value, list) for value in rows[:1][texts[0]]):
        return
    check_texts(rows, *texts)
    for name in optional:
        if column := shape.of(name):
            check_texts(rows.select([i for i, value in enumerate(rows[column]) if value is not None]), column)
    learnt = texts[-1]
    if empty := [i for i, value in enumerate(rows[learnt]) if not value.strip()]:
        what = "text" if shape.holds_documents else "answer"
        raise ValueError(f"{len(empty)} rows have no {what} in column {learnt!r}: {name_rows(rows, empty)}.")
