"""What comparing a forward's positions with the windows of many sources costs: in full, in 8 bits, by an index."""

from __future__ import annotations

import time
from statistics import median

SOURCES, WINDOWS, POSITIONS, TIMES = (100, 1000, 10_000), 6, 256, 3
NEAR = 0.3  # how far a question's window is from the one that it should find, as a share of its length


def figures(width: int, length: int, forward: float, sources=SOURCES) -> list[dict]:
    """
    Lines of the table: CPU seconds as shares of a forward's, and bytes of all windows, or what an index finds.

    Args:
        width, length: of a view, and positions of a window.
        forward: CPU seconds of the model below for as many positions.
    """
    lines = []
    for number in sources:
        for way, (share, note) in _compared(number, width, length, forward).items():
            what = f"comparing with windows of {number} sources, {way}"
            lines.append({"what": what, "value": share, "unit": "of a forward", "target": None, "note": note})
    return lines


def _compared(sources: int, width: int, length: int, forward: float) -> dict[str, tuple[float, str]]:
    """Of each way what it takes, and a note."""
    import torch

    from hf_unlearn.readiness.memory import gate

    draw = torch.Generator().manual_seed(0)

    def windows(n: int):
        views = torch.randn(n, length, width, generator=draw)
        return torch.nn.functional.normalize(views, dim=-1).flatten(1)

    asked, inputs = windows(POSITIONS), windows(WINDOWS * sources) / length
    floors, slots = torch.full((len(inputs),), 0.7), torch.arange(sources).repeat_interleave(WINDOWS)
    scale = inputs.abs().amax(1, keepdim=True) / 127
    small = (inputs / scale).round().to(torch.int8)
    full = seconds(lambda: gate.heard(asked, inputs, floors, slots)) / forward
    eighth = seconds(lambda: gate.heard(asked, small.float() * scale, floors, slots)) / forward
    found = {"in full": (full, f"{inputs.numel() * 4 / 1e6:.1f} MB")}
    found["in 8 bits"] = eighth, f"{(small.numel() + 4 * len(scale)) / 1e6:.1f} MB"
    if (index := _index(inputs)) is not None:
        near = inputs[:POSITIONS] * length + NEAR * asked[: len(inputs)]
        place = torch.from_numpy(index.search(near.numpy(), 1)[1][:, 0])
        hit = float((place == torch.arange(len(near))).float().mean())
        found["by an index"] = seconds(lambda: index.search(asked.numpy(), 32)) / forward, f"finds {hit:.2f}"
    return found


def _index(inputs):
    """A graph of near neighbours, by faiss; None where it is not there."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(inputs.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.add(inputs.numpy())
    return index


def seconds(run) -> float:
    """CPU seconds; the first time is to warm up."""
    times = []
    for _ in range(TIMES + 1):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return median(times[1:])
