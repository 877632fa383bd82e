"""What a user's own function or object does, by the values that it was made with and by its code."""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from functools import partial

from helpers import tiny
from transformers import DataCollatorForLanguageModeling

from hf_unlearn.trainers.given_functions import code_of_given, values_of

WIDTH = 3


def plain(rows, most=8, model=None):
    return [row[:WIDTH] for row in rows[:most]]


def shortened(width, rows):
    return [row[:width] for row in rows]


def closure(width):
    def collate(rows):
        return [row[:width] for row in rows]

    return collate


class Kept:
    def __init__(self, width, model=None):
        self.width, self.model, self.calls = width, model, 0

    def __call__(self, rows):
        self.calls += 1
        return rows[: self.width]

    def method(self, rows):
        return rows[: self.width]


@dataclass
class Fields:
    width: int = 4

    def __call__(self, rows):
        return rows


def test_values_are_those_of_arguments_closures_defaults_fields_and_the_module():
    assert values_of(None) == {} == values_of(len)
    assert values_of(plain) == {"WIDTH": 3, "most": 8, "model": None}
    assert values_of(partial(partial(plain, most=2), model=object())) == {"WIDTH": 3, "most": 2}
    assert values_of(partial(shortened, 2)) == {"width": 2}
    assert values_of(closure(5)) == {"width": 5}
    kept = Kept(6, object())
    kept([])
    assert values_of(kept) == values_of(kept.method) == {"width": 6}  # what it counts is none of them
    assert values_of(Fields(7)) == {"width": 7}
    padding = DataCollatorForLanguageModeling(tiny.tokenizer(), mlm=False, pad_to_multiple_of=8)
    assert {"pad_to_multiple_of": 8, "mlm": False}.items() <= values_of(padding).items()


def written(name: str, *lines: str):
    """A function of a module of these lines, whose source can be read as that of a cell of a notebook."""
    source = "\n".join(lines) + "\n"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    module = {"__name__": name}
    exec(compile(source, name, "exec"), module)
    return module["collate"]


def test_code_is_the_same_in_another_layout_and_another_where_it_or_what_it_calls_does_something_else():
    helper = ("def half(n):", "    return n // 2")
    one = written("one", *helper, "def collate(rows):", "    return rows[:half(8)]")
    laid_out = ("def collate(rows):", '    "It collates."', "    # the first ones", "    return rows[: half(8)]")
    same = written("same", *helper, *laid_out)
    other = written("other", *helper, "def collate(rows):", "    return rows[:half(6)]")
    calls = written("calls", "def half(n):", "    return n // 3", "def collate(rows):", "    return rows[:half(8)]")
    assert code_of_given(one) == code_of_given(same) == code_of_given(partial(one, rows=[]))
    assert len({code_of_given(one), code_of_given(other), code_of_given(calls)}) == 3
    assert code_of_given(closure(3)) == code_of_given(closure(4)) is not None
    assert code_of_given(Kept(1)) == code_of_given(Kept(2)) != code_of_given(Fields())
    padding = DataCollatorForLanguageModeling(tiny.tokenizer(), mlm=False)
    assert code_of_given(None) is code_of_given(padding) is code_of_given(len) is None  # a library's has a version
