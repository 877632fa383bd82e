"""
One run at a time in an output folder: `_running.json` says which process is at it. The system's lock on that file goes
with the process, so what a killed run has left does not count. Where the file system has no locks, the process is
looked up by the number and the host in the file.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from ..utils.checks import ArgumentError
from ..utils.files import clear_parts, process_began

logger = logging.getLogger(__name__)

FILE = "_running.json"
TAKEN = (errno.EACCES, errno.EAGAIN)
OUTPUT = "`output_dir` is {}, where another run is at work: {}. Their files would be mixed. Wait for its end, or take "
OUTPUT += "another one."
SNAPSHOTS = "The snapshots in {} are in use by another run: {}. It may delete or replace them. Wait for its end, and "
SNAPSHOTS += "start from its result."
_HELD: dict[str, int] = {}  # folder -> process that has it: to open the file there once more would end its lock


@contextmanager
def one_run_in(folder: str, said: str = OUTPUT):
    """
    The folder is this process's in the block, also where it has it already.

    Args:
        said: of the folder and of the run that has it.

    Raises:
        ArgumentError: if another run is at it.
    """
    key = os.path.realpath(folder)
    if _HELD.get(key) == os.getpid():  # an outer run of this process; a process that was forked from it has it not
        yield
        return
    is_new = not os.path.exists(folder)
    file = _take(folder, said)
    _HELD[key] = os.getpid()
    clear_parts(folder)
    try:
        yield
    finally:
        del _HELD[key]
        if file is not None:
            with suppress(OSError):
                os.unlink(Path(folder, FILE))  # before the lock goes: another run that takes it then sees a new file
            os.close(file)
        if is_new:
            with suppress(OSError):  # something was written there
                os.rmdir(folder)


def _take(folder: str, said: str) -> int | None:
    """The open file, locked; None where nothing can be written, and so nothing mixed."""
    path = Path(folder, FILE)
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            logger.debug("No lock in %s: %s.", folder, error)
            return None
        there = _read(file)
        try:
            locks = _lock(file)
        except BlockingIOError:
            os.close(file)
            raise ArgumentError([_said(said, folder, there)]) from None
        if not locks and there and _alive(there):
            os.close(file)
            raise ArgumentError([_said(said, folder, there)])
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                break
        os.close(file)  # its run ended between our two steps
    if there:
        logger.info("%s was left by a run that has ended: %s.", path, there)
    here = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "began": process_began(os.getpid())}
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, (json.dumps(here) + "\n").encode())
    return file


def _lock(file: int) -> bool:
    """
    Whether the system has locked the file; False where it has none to give.

    Raises:
        BlockingIOError: if another process has it.
    """
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return False
    except OSError as error:
        if error.errno in TAKEN:
            raise BlockingIOError from error
        return False
    return True


def _read(file: int) -> dict:
    try:
        found = json.loads(os.read(file, 4096).decode())
    except ValueError:  # nothing yet
        return {}
    return found if isinstance(found, dict) else {}


def _alive(there: dict) -> bool:
    """Whether the process that wrote this is there; on another host nobody knows, and it counts as ended."""
    if there.get("host") != socket.gethostname():
        logger.warning("%s says that %s is at it; whether it still is cannot be told from here.", FILE, there)
        return False
    began = process_began(there.get("pid") or 0)
    return began is not None and abs(began - (there.get("began") or 0)) < 1


def _said(said: str, folder: str, there: dict) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(there["since"])) if there.get("since") else "an unknown time"
    run = f"process {there.get('pid', '?')} on host {there.get('host', '?')}, since {since}"
    return said.format(repr(os.fspath(folder)), run)
