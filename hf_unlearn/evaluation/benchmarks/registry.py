"""All benchmarks by name."""

from __future__ import annotations

from .base import Benchmark
from .choices import MMLU, WMDP
from .muse import MUSE

BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in (MUSE, WMDP, MMLU)}


def benchmark_names() -> list[str]:
    """Names of all benchmarks."""
    return list(BENCHMARKS)
