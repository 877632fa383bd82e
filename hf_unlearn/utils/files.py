"""
Files that are written whole or not at all; JSON files carry a digest of their content, which is checked on reading.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

DIGEST, PREFIX = "digest", "sha256:"  # name and beginning of the digest: a flipped byte leaves one of them


def write_json(path, content: dict, private: bool = False) -> None:
    """
    Writes beside the file and moves it over the file, so that a kill leaves the old content or the new one.

    Args:
        private: only the owner may read it.

    Raises:
        ValueError: for NaN and inf, which JSON does not have.
    """
    replace_bytes(path, json_bytes(content), private)


def json_bytes(content: dict) -> bytes:
    """The content as a JSON file, with its digest."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != DIGEST}, allow_nan=False))
    text = json.dumps({**plain, DIGEST: _digest(plain)}, indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def _digest(content: dict) -> str:
    """Of the content, however it is laid out: a file that somebody has indented anew is the same."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()


def replace_bytes(path, content: bytes, private: bool = False) -> None:
    """Writes beside the file and moves it over the file; on a full disk the old one stays."""
    replace_files({path: content}, private)


def replace_files(contents: Mapping[str | Path, bytes], private: bool = False) -> None:
    """Writes all beside their files, then moves them over these; on a full disk all the old ones stay."""
    beside = {Path(path): Path(path).with_name(Path(path).name + ".part") for path in contents}
    try:
        for part, content in zip(beside.values(), contents.values(), strict=True):
            if private:
                part.touch(0o600)
                make_private(part)
            part.write_bytes(content)
        for path, part in beside.items():
            os.replace(part, path)
    except OSError:
        for part in beside.values():
            with suppress(OSError):
                part.unlink()
        raise


def make_private(path) -> None:
    """Readable by its owner alone, where the file system knows that and the file is ours."""
    with suppress(OSError):
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o600)


def read_json(path) -> dict | None:
    """
    The file's content without its digest; None if there is no such file. A file without a digest is taken as it is.

    Raises:
        ValueError: if it is no JSON, or if its content is not what was written.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read, it is damaged or no JSON: {short(str(error))}.") from error
    if not isinstance(content, dict):
        return content
    if not any(key == DIGEST or str(value).startswith(PREFIX) for key, value in content.items()):
        return content
    found = content.pop(DIGEST, None)
    if found != _digest(content):
        raise ValueError(
            f"{path} is damaged: its content does not have the digest that was written with it. Restore it from a "
            f"copy; where you have edited it yourself, delete the line `{DIGEST}`."
        )
    return content


def sha256_of(paths: Iterable[str | Path]) -> list[str]:
    """SHA-256 (hex) of each file, several at a time."""
    with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter's lock
        return list(pool.map(_sha256, paths))


def _sha256(path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def short(text: str, most: int = 80) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"
