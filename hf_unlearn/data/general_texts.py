"""Texts that have nothing to do with a request, as a request stores them beside the weights that it made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

AUTO, NONE = "auto", "none"  # in the place of rows: those that the model wrote itself, and no rows
FILE = "_general.jsonl"  # in a model's folder; names with an underscore in front are not pushed to a hub
MADE = ("input_ids", "attention_mask", "labels")


class GeneralTexts(NamedTuple):
    """
    `held`: rows that a request measured alone, with `text` and, where it stored them, what the model takes (MADE).
    `trained`: texts that it trained on.
    """

    held: tuple[dict[str, Any], ...]
    trained: tuple[str, ...]


def read(folders: Iterable[str | Path]) -> GeneralTexts:
    """
    The texts that stand beside these models, each once. One that any request trained on is not held out.

    Args:
        folders: of models; those without the file count for nothing.

    Raises:
        ValueError: if a line of a file is no JSON object with a string `text` and a boolean `held`.
    """
    rows = [row for folder in folders for row in _rows_of(Path(folder, FILE))]
    trained = dict.fromkeys(row["text"] for row in rows if not row["held"])
    held = {row["text"]: row for row in rows if row["held"] and row["text"] not in trained}
    whole = all(name in row for row in held.values() for name in MADE)
    columns = ("text", *(MADE if whole else ()))
    return GeneralTexts(tuple({name: row[name] for name in columns} for row in held.values()), tuple(trained))


def _rows_of(path: Path) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            said = f"{path}, line {number} is no JSON ({error.msg}). Run the request again."
            raise ValueError(said) from error
        if not (isinstance(row, dict) and isinstance(row.get("text"), str) and isinstance(row.get("held"), bool)):
            raise ValueError(
                f"{path}, line {number} is no object with `text` (words) and `held` (true or false), which says "
                "that the text was never trained on. Run the request again."
            )
        found.append(row)
    return found
