"""JSON files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_json(path, content: dict) -> None:
    """
    Writes beside the file and moves it over the file, so that a kill leaves the old content or the new one.

    Raises:
        ValueError: for NaN and inf, which JSON does not have.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    os.replace(beside, path)


def read_json(path) -> dict | None:
    """The file's content; None if there is no such file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.is_file() else None
