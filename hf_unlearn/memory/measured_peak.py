"""Measures the peak of a run, on CUDA and on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable


def peak_bytes(run: Callable[[], object], device=None) -> int:
    """
    Bytes of tensors that `run()` holds at its peak, on top of those that are there when it begins.

    On CUDA the caching allocator's count. On the CPU the allocator's events as the profiler records them: every
    allocation, those inside an operation too, exact and the same in each run. Not seen there: the scratch memory of
    libraries that call malloc themselves, and the release of tensors that are older than the run or that other threads
    release (collectives over gloo).

    Args:
        device: "cpu", "cuda", "cuda:1" or a `torch.device`; None: CUDA if there is one, else the CPU.

    Raises:
        ValueError: for another kind of device.
    """
    import torch

    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` is {str(device)!r}; peaks are measured on 'cpu' and 'cuda'.")
    gc.collect()  # what waits there to be released would be released at any time during the run
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events, open_ = [], list(profiler.profiler.kineto_results.experimental_event_tree())
    while open_:
        event = open_.pop()
        open_ += event.children
        if event.name == "[memory]" and event.extra_fields.device.type == "cpu":
            events.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    sizes: dict[int, int] = {}  # by address; the profiler also reports blocks that an earlier run has left
    now = peak = 0
    for _, address, size in sorted(events):
        if size > 0:
            sizes[address] = size
            now += size
        else:
            now -= sizes.pop(address, 0)
        peak = max(peak, now)
    return peak
