"""
Ranks over gloo that are forked from this process, which has imported everything: what `torchrun` would start, without
ten seconds of imports a rank.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState

BY_EXCEPTION = 70


def on_ranks(run: Callable[[], int | None], out, world: int = 2, seconds: int = 600) -> tuple[int, list[str]]:
    """
    The exit status of the first rank, and the lines that it has printed.

    Args:
        run: is called on each rank, where accelerate finds the others; it returns an exit status, None: 0.
        out: folder for what the ranks print.

    Raises:
        AssertionError: a rank ended by an exception or a signal, or not in time; with what it has printed. Also where
            torch sees a GPU: its autograd then has threads, which no fork takes along.
    """
    assert not torch.cuda.is_available(), "set CUDA_VISIBLE_DEVICES= for tests that fork their ranks"
    out = Path(out)
    out.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    left = {_fork(run, out, rank, world, port): rank for rank in range(world)}
    statuses, deadline = {}, time.monotonic() + seconds
    try:
        while left:
            time.sleep(0.02)
            assert time.monotonic() < deadline, f"ranks {list(left.values())} do not end"
            for pid, rank in list(left.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    statuses[left.pop(pid)] = status = os.waitstatus_to_exitcode(status)
                    assert 0 <= status != BY_EXCEPTION, (out / f"{rank}.err").read_text()[-20000:]
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return statuses[0], (out / "0.out").read_text().splitlines()


def print_into(out, errors) -> None:
    """From here on this process prints into two files, whatever the test captures."""
    for number, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), line_buffering=True) for number in (1, 2)
    )


def _fork(run, out: Path, rank: int, world: int, port: str) -> int:
    """The process id of a rank."""
    pid = os.fork()
    if pid == 0:
        status = BY_EXCEPTION
        try:
            print_into(out / f"{rank}.out", out / f"{rank}.err")
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"})
            status = _alone_no_more(run) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def _alone_no_more(run) -> int | None:
    """`run` in a process group; what this process has found out about engines before the fork is forgotten."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState(cpu=True)
    status = run()
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return status
