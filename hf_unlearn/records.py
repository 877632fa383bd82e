"""The records that travel with a checkpoint: `readiness.json` and `unlearning.json`, and the commitment to row ids."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

SCHEMA = 1
READINESS = "readiness.json"
UNLEARNING = "unlearning.json"
SALT = "_revocable_salt.json"  # `push_to_hub` leaves out what begins with an underscore


def commitment(ids, salt: str) -> str:
    """
    SHA-256 (hex) over the salt and the sorted row ids: says later which rows were revocable, and tells nothing before
    the salt is shown (ours).
    """
    text = "\n".join([salt, *sorted(map(str, ids))])
    return hashlib.sha256(text.encode()).hexdigest()


def salt_for(folder: str) -> str:
    """The salt kept in `folder`, made on the first call. It stays with the owner: it is not pushed."""
    path = Path(folder) / SALT
    if path.exists():
        return json.loads(path.read_text())["salt"]
    salt = secrets.token_hex(16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"salt": salt})
    return salt


def write_json(path, content: dict) -> None:
    """Whole or not at all: written beside the file and moved over it."""
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    os.replace(beside, path)


def read_json(path) -> dict | None:
    path = Path(path)
    return json.loads(path.read_text()) if path.is_file() else None


def break_even(ready: float, plain: float, ready_request: float, plain_request: float) -> dict:
    """
    After how many requests has the dearer training paid for itself (ours)? All costs in row passes.

    Args:
        ready, plain: of the two trainings.
        ready_request, plain_request: of the same request to the model of each.

    Returns:
        `{"training_extra", "request_saves", "requests"}`; `requests` is None where a request saves nothing, and 0 where
        the training was not dearer.
    """
    extra, saves = ready - plain, plain_request - ready_request
    requests = None if saves <= 0 else max(0.0, round(extra / saves, 2))
    return {"training_extra": round(extra, 3), "request_saves": round(saves, 3), "requests": requests}


def find_readiness(source: str | None) -> dict | None:
    """
    `readiness.json` of a folder, of a file, or of a hub id (from the cache when offline); None if there is none.

    Raises:
        ValueError: if it is there but its schema is not known.
    """
    if not source:
        return None
    path = Path(source)
    if path.is_dir():
        found = read_json(path / READINESS)
    elif path.is_file():
        found = read_json(path)
    else:
        from transformers.utils import cached_file

        try:
            cached = cached_file(source, READINESS, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError):  # offline without a cached copy, or no such repository
            cached = None
        found = read_json(cached) if cached else None
    if found is not None and found.get("schema") != SCHEMA:
        raise ValueError(f"{READINESS} of {source} has schema {found.get('schema')!r}; this version reads {SCHEMA}.")
    return found
