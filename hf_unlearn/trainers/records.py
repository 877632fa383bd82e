"""
The records that travel with a model, and the commitment to row ids in one of them.

`readiness.json`, beside the weights that [`ReadyTrainer`] saves: the method and its settings, how many rows are
revocable with the commitment to their ids, steps with and without readiness terms, the last logged readiness measures
("probe"), the cost, and what a later request should be run with ("request"). `UnlearnTrainer` reads it. Its keys are
those of [`ReadyTrainer.record`].

`unlearning.json`, beside the weights that [`UnlearnTrainer`] saves: objective, settings and rule of the request,
numbers of rows, why the run stopped, its cost, and the state of the schedule, from which a checkpoint is resumed. Its
keys are those of `record` in `unlearn_record.py`.

`_revocable_salt.json`, in the output folder of a [`ReadyTrainer`]: the salt of the commitment. The owner keeps it:
`push_to_hub` leaves out files whose names begin with an underscore.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from ..utils.files import make_private, read_json, write_json

SCHEMA = 1
READINESS = "readiness.json"
UNLEARNING = "unlearning.json"
SALT = "_revocable_salt.json"


def commitment(ids, salt: str) -> str:
    """
    SHA-256 (hex) over the salt and the sorted row ids. Whoever has ids and salt can check later which rows were
    revocable; without the salt it tells nothing about them.
    """
    text = "\n".join([salt, *sorted(map(str, ids))])
    return hashlib.sha256(text.encode()).hexdigest()


def salt_for(folder: str) -> str:
    """
    The salt kept in `folder`, in a file that its owner alone can read; the first call draws it.

    Raises:
        ValueError: if the file is damaged.
    """
    path = Path(folder) / SALT
    if (salt := _read_salt(path)) is not None:
        return salt
    salt = secrets.token_hex(16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"salt": salt}, private=True)
    return salt


def known_salts(*folders: str) -> dict[str, str]:
    """Those kept in the folders, by [`salt_id`]."""
    found = (_read_salt(Path(folder) / SALT) for folder in folders)
    return {salt_id(salt): salt for salt in found if salt is not None}


def salt_id(salt: str) -> str:
    """A name for a salt that does not tell it (16 hex characters)."""
    return hashlib.sha256(b"salt " + salt.encode()).hexdigest()[:16]


def _read_salt(path: Path) -> str | None:
    try:
        content = read_json(path)
    except ValueError:
        content = {}
    if content is None:
        return None
    salt = content.get("salt") if isinstance(content, dict) else None
    if not (isinstance(salt, str) and len(salt) >= 32):
        raise ValueError(
            f"{path} is damaged: it should hold the salt that opens what this folder's records commit to. Restore it "
            "from a copy; without one delete it: a new salt is drawn, and what was committed to before stays closed."
        )
    make_private(path)
    return salt


def find_readiness(source: str | None) -> dict | None:
    """
    `readiness.json` of a folder, of a file, or of a hub id (from the cache when offline); None if there is none.

    Raises:
        ValueError: if it is there but this version does not read its schema.
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
