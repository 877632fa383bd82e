"""Long studies: many models, each trained in a job of its own, side by side, resumable by the files they leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

QUIET = {  # `TrainingArguments` of a run that says and keeps nothing on its way
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "dataloader_pin_memory": False,
}
QUIET_FLAGS = [word for key, value in QUIET.items() for word in (f"--{key}", str(value).lower())]


def each(work: Callable[..., Any], todo: list[tuple], jobs: int) -> Iterator[tuple[tuple, Any]]:
    """
    Yields `(arguments, work(*arguments))` as they are done.

    Args:
        work: a function of a module, so that other processes find it.
        jobs: how many run at a time, each in a process of its own; with 1 all run here.
    """
    if jobs == 1 or len(todo) < 2:
        for job in todo:
            yield job, work(*job)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (jobs,)) as workers:
        running = {workers.submit(work, *job): job for job in todo}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(jobs: int) -> None:
    quiet()
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))


def quiet() -> None:
    """No progress bars and no network: a line a model is enough, and all data are at hand."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
