"""What to change where a run does not fit, the cheapest change first."""

from __future__ import annotations

from dataclasses import replace

from ..utils.checks import ArgumentError
from .estimate import Estimate, estimate
from .run import Run


def changes(run: Run, config=None) -> list[tuple[str, Run]]:
    """Ways to need less, the ones that cost least first: `(in words, the run with it)`."""
    ways = []
    if not run.gradient_checkpointing:
        ways.append(("--gradient_checkpointing", {"gradient_checkpointing": True}))
    if run.batch_size > 1:
        ways.append(("--batch_size 1, with accumulation", {"batch_size": 1, "request_rows": None}))
    if run.together:
        ways.append(("forget and retain rows in turn", {"together": False}))
    if not run.peft:
        ways.append(("--peft lora:r=16", {"peft": "lora:r=16"}))
    if run.dtype in ("auto", "float32", "bf16-mixed"):
        ways.append(("--dtype bfloat16", {"dtype": "bfloat16"}))
    return [(words, replace(run, **values)) for words, values in ways]


def advice(first: Estimate, memory: int, config=None) -> list[tuple[str, Estimate]]:
    """Changes on top of each other until it fits, each with the estimate after it; those that bring < 1 % left out."""
    taken: list[tuple[str, Estimate]] = []
    now, tried = first, set()
    while now.needed > memory:
        words, run = next(((w, r) for w, r in changes(now.run) if w not in tried), (None, None))
        if words is None:
            break
        tried.add(words)
        try:
            after = estimate(run, config)
        except ArgumentError:
            continue
        if after.needed < 0.99 * now.needed:
            now = after
            taken.append((words, after))
    return taken
