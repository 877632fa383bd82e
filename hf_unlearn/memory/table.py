"""Bytes as text and back, and the table of an estimate."""

from __future__ import annotations

import argparse
import re

from .estimate import CONTEXT, PARTS, Estimate


def parse_bytes(text: str) -> int:
    """
    "24GB" (10⁹), "24GiB" (2³⁰), "800MB", "16e9" in bytes.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(?:([KMGT])(i?)B?|B)?\s*", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; write it like 24GB, 24GiB or 800MB.")
    number, unit, binary = match.groups()
    if unit is None and float(number) < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is {number} bytes; write it like {number}GB.")
    power = " KMGT".index((unit or " ").upper())
    return int(float(number) * (1024 if binary else 1000) ** power)


def bytes_as_text(size: float) -> str:
    """ "1.50 GB": three digits or more, powers of ten."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}B"
    return f"{size:.0f} B"


def table(estimates: list[Estimate], memory: int | None = None) -> str:
    """The estimates of one run's verbs side by side."""
    one = estimates[0]
    run = one.run
    images = run.task == "image_classification" or "Image" in one.architecture
    rows = f"{run.batch_size} row{'s' * (run.batch_size > 1)}" + ("" if images else f" of {run.length} tokens")
    lines = [
        f"{one.architecture}: {_count(one.weights_count)} weights, {_count(one.trainable_count)} trainable"
        + (f" ({run.peft})" if run.peft else ""),
        f"{run.dtype}, {rows}{', gradient checkpointing' * run.gradient_checkpointing}, {run.optim}, "
        + (run.engine if run.engine == "single" else f"{run.engine}, one of {run.processes} processes"),
        "",
        " " * 14 + "".join(f"{e.run.verb:>12}" for e in estimates),
    ]
    for part, meaning in PARTS.items():
        if any(e.parts[part] for e in estimates):
            sizes = "".join(f"{bytes_as_text(e.parts[part]):>12}" for e in estimates)
            lines.append(f"{part:<14}{sizes}   {meaning}")
    lines.append(f"{'peak':<14}" + "".join(f"{bytes_as_text(e.peak):>12}" for e in estimates))
    if any(e.host for e in estimates):
        lines.append(
            f"{'on the host':<14}" + "".join(f"{bytes_as_text(e.host) if e.host else '':>12}" for e in estimates)
            + "   copies of the trainable weights"
        )  # fmt: skip
    lines.append("")
    for e in estimates:
        part = max(e.parts, key=e.parts.__getitem__)
        second = max((p for p in e.parts if p != part), key=e.parts.__getitem__)
        lines.append(f"{e.run.verb}: most in {e.moment}; the largest parts are {part} and {second}.")
    if memory is not None:
        lines.append("")
        more = f", with {bytes_as_text(CONTEXT)} for the GPU's own use" if run.device == "cuda" else ""
        for e in estimates:
            fits = "fits" if e.needed <= memory else "DOES NOT FIT"
            lines.append(f"{e.run.verb}: {fits} {bytes_as_text(memory)}: needs {bytes_as_text(e.needed)}{more}.")
    return "\n".join(lines)


def _count(number: int) -> str:
    """1,100.0 M, 0.5 M, 8.2 k."""
    return f"{number / 1e6:,.1f} M" if number >= 1e5 or not number else f"{number / 1e3:.1f} k"
