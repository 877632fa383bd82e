"""The records that travel with a checkpoint: `readiness.json` and `unlearning.json`, and the commitment to row ids."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from .files import read_json, write_json

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
