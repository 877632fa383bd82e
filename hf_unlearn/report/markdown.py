"""Text that somebody else gave, as Markdown that shows it and does nothing else."""

from __future__ import annotations

import html
import json
import re
from typing import Any

# What opens code, emphasis, links, cells or mathematics; an underscore inside a word opens nothing.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_BLOCKS = re.compile(r"^(#+(?= |$)|[-+](?= )|\d{1,9}(?=[.)] ))")  # what opens a heading or a list, at the beginning
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\u202a-\u202e\u2066-\u2069]")  # control characters, turned text
_PLAIN_CODE = re.compile(r"[\w.,:/=+@%-]+( [\w.,:/=+@%-]+)*")


def escaped(value: Any) -> str:
    """One line of Markdown that reads as `value`: no tag, link, emphasis, heading or table cell comes of it."""
    text = _UNSEEN.sub("", " ".join(str(value).split()))
    text = _MARKS.sub(lambda mark: f"\\{mark[0]}", html.escape(text, quote=False))
    return _BLOCKS.sub(lambda block: f"{block[1]}\\" if block[1].isdigit() else f"\\{block[1]}", text)


def code(value: Any) -> str:
    """`value` as code inside a line or a table cell."""
    text = str(value)
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) else f"<code>{escaped(text)}</code>"


def fenced(text: str) -> str:
    """A block of Python; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{text.strip()}\n{fence}"


def literal(text: Any) -> str:
    """A string as a Python literal without a `<`, so that what reads the page as HTML finds no tag in it."""
    return json.dumps(str(text), ensure_ascii=False).replace("<", "\\x3c").replace("&", "\\x26")
