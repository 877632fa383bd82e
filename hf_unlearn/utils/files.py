"""
Files that are written whole or not at all; JSON files carry a digest of their content, which is checked on reading.

A file `X` is written as `X.PROCESS@HOST.part` beside its place and moved there. What a killed process has left of such
files goes when the same file is written again, or a run takes the folder (`clear_parts`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

DIGEST, PREFIX = "digest", "sha256:"  # name and beginning of the digest: a flipped byte leaves one of them
PART = re.compile(r"(.+)\.(\d+)@([^@/]*)\.part")  # file, process, host
DAY = 86400.0  # seconds after which a file beside is taken for left over where nobody knows of its process


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


def replace_files(contents: Mapping[str | Path, bytes | None], private: bool = False) -> None:
    """
    Writes all beside their files, then moves them over these; on a full disk all the old ones stay. A file whose
    content is None goes, if it is there, once the others are written.
    """
    new = {Path(path): content for path, content in contents.items() if content is not None}
    beside = {path: part_of(path) for path in new}
    for folder in {path.parent for path in beside}:
        clear_parts(folder, {path.name for path in beside})
    try:
        for part, content in zip(beside.values(), new.values(), strict=True):
            if private:
                part.touch(0o600)
                make_private(part)
            part.write_bytes(content)
        for path in [path for path, content in contents.items() if content is None]:
            Path(path).unlink(missing_ok=True)
        for path, part in beside.items():
            os.replace(part, path)
    except BaseException:  # an interrupt, too
        for part in beside.values():
            with suppress(OSError):
                part.unlink()
        raise


def part_of(path: Path) -> Path:
    """Where this process writes a file before it moves it into its place: no other process does so there."""
    return path.with_name(f"{path.name}.{os.getpid()}@{_host()}.part")


def clear_parts(folder, names: Iterable[str] | None = None) -> None:
    """
    Deletes what processes that have ended have left beside the files of these names; None: of all in the folder. Of a
    process of another host nobody knows whether it has ended: its files go after a day.
    """
    names = None if names is None else set(names)
    with suppress(OSError):  # no such folder, or nothing may be deleted in it
        for path in Path(folder).iterdir():
            found = PART.fullmatch(path.name)
            if found and (names is None or found[1] in names) and _is_left(path, int(found[2]), found[3]):
                path.unlink(missing_ok=True)


def _is_left(path: Path, process: int, host: str) -> bool:
    written = path.stat().st_mtime
    if host != _host():
        return time.time() - written > DAY
    if process == os.getpid():
        return False
    began = process_began(process)
    return began is None or began > written + 1  # another process has its number now


def process_began(pid: int) -> float | None:
    """When the process of this host with this number began, in seconds since 1970; None if there is none."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except (psutil.Error, TypeError, ValueError):
        return None


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


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


def replace_sealed(path, content: bytes) -> None:
    """Writes the content and its SHA-256 (32 bytes), by which [`read_sealed`] knows it."""
    replace_bytes(path, content + hashlib.sha256(content).digest())


def read_sealed(path) -> bytes:
    """
    The content that [`replace_sealed`] wrote.

    Raises:
        ValueError: if it is another one.
    """
    data = Path(path).read_bytes()
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise ValueError(f"{path} is damaged: its content is not what was written. Restore it from a copy.")
    return data[:-32]


def sha256_of(paths: Iterable[str | Path], once: bool = False) -> list[str]:
    """
    SHA-256 (hex) of each file, several at a time.

    Args:
        once: a file that was read so before, and has the size and the time that it had then, is not read again.
    """
    with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter's lock
        return list(pool.map(_sha256_once if once else _sha256, paths))


def _sha256_once(path) -> str:
    stat = os.stat(path)
    return _sha256_as_of(os.path.realpath(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1 << 14)
def _sha256_as_of(path: str, *stamp: int) -> str:
    return _sha256(path)


def _sha256(path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def short(text: str, most: int = 80) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"
