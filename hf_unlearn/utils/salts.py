"""
The salt of what is committed to in a folder: rows and ids under HMAC-SHA256, so that whoever has the salt can tell
which rows were meant, and nobody else can. The owner keeps it: `push_to_hub` leaves out files whose names begin with an
underscore, and the file is its owner's alone to read.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .files import make_private, read_json, write_json

SALT = "_revocable_salt.json"
ABOVE = 3  # folders above one in which its salt is sought, too


def salt_for(folder: str, earlier: Iterable[str] = ()) -> str:
    """
    The salt kept in `folder`, in a file that its owner alone can read; the first call draws it.

    Args:
        earlier: salts of the model that this folder's goes on from; they are kept, too, and the first one is taken
            where there would be a new one.

    Raises:
        ValueError: if the file is damaged, or may be read by another user alone.
    """
    path = Path(folder) / SALT
    here = _own_salts(path)
    salts = list(dict.fromkeys([*here, *earlier])) or [secrets.token_hex(16)]
    if salts != here:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"salt": salts[0], **({"earlier": salts[1:]} if salts[1:] else {})}, private=True)
    return salts[0]


def salt_problems(folder: str) -> list[str]:
    """Why [`salt_for`] could not give the folder's salt; nothing is drawn or written."""
    try:
        _own_salts(Path(folder) / SALT)
    except ValueError as error:
        return [str(error)]
    return []


def known_salts(*folders: str) -> dict[str, str]:
    """Those kept in the folders or files, by [`salt_id`]; a file that only another user may read is none."""
    files = [Path(folder) if Path(folder).is_file() else Path(folder) / SALT for folder in folders]
    return {salt_id(salt): salt for file in files for salt in _readable_salts(file)}


def salt_id(salt: str) -> str:
    """A name for a salt that does not tell it (16 hex characters)."""
    return hashlib.sha256(b"salt " + salt.encode()).hexdigest()[:16]


def _own_salts(path: Path) -> list[str]:
    try:
        return _read_salts(path)
    except PermissionError as error:
        raise ValueError(
            f"{path} is another user's to read, and what is written beside it would be committed to under its salt. "
            "Run as that user, or write into an output folder of your own."
        ) from error


def _readable_salts(path: Path) -> list[str]:
    try:
        return _read_salts(path)
    except PermissionError:
        return []


def _read_salts(path: Path) -> list[str]:
    """The folder's own salt first; [] where there is no file."""
    if not path.exists():
        return []
    try:
        content = read_json(path)
        found = [content["salt"], *content.get("earlier", ())]
    except (ValueError, TypeError, LookupError, AttributeError, IsADirectoryError):
        found = [None]
    if not all(isinstance(salt, str) and len(salt) >= 32 for salt in found):
        raise ValueError(
            f"{path} is damaged: it should hold the salt that opens what this folder's records commit to. Restore it "
            "from a copy; without one delete it: a new salt is drawn, and what was committed to before stays closed."
        )
    with suppress(PermissionError):  # another user's file, which this one was given leave to read
        make_private(path)
    return found


def nearest_salt(folder) -> str:
    """The salt of the folder or of the nearest one above it; where none has one, the folder gets one."""
    folder = Path(folder).resolve()
    for one in [folder, *folder.parents][: ABOVE + 1]:
        if (one / SALT).is_file():
            return salt_for(one)
    return salt_for(folder)


def salts_near(folder) -> dict[str, str]:
    """Those of the folder and of the ones above it, by [`salt_id`]."""
    folder = Path(folder).resolve()
    return known_salts(*[folder, *folder.parents][: ABOVE + 1])
