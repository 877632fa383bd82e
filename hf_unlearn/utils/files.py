"""JSON files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path


def write_json(path, content: dict, private: bool = False) -> None:
    """
    Writes beside the file and moves it over the file, so that a kill leaves the old content or the new one.

    Args:
        private: only the owner may read it.

    Raises:
        ValueError: for NaN and inf, which JSON does not have.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if private:
        beside.touch(0o600)
        make_private(beside)
    beside.write_text(text)
    os.replace(beside, path)


def make_private(path) -> None:
    """Readable by its owner alone, where the file system knows that and the file is ours."""
    with suppress(OSError):
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o600)


def read_json(path) -> dict | None:
    """The file's content; None if there is no such file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.is_file() else None
