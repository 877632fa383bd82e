"""What a step measures beside its loss, for the log: kept on the device, reduced once a line."""

from __future__ import annotations

import math

import torch

from .engines import total


class StepLog:
    """Scalars () by name, of the steps since the last line of the log. No step waits for a device to hand them over."""

    def __init__(self):
        self._values: dict[str, list[torch.Tensor]] = {}
        self.last: dict[str, float] = {}  # what a line held last, by name

    def __repr__(self) -> str:
        return f"StepLog({', '.join(sorted(self._values))})"

    def add(self, name: str, value, device: torch.device) -> None:
        self._values.setdefault(name, []).append(torch.as_tensor(value, device=device).detach().float())

    def take_means(self, accelerator) -> dict[str, float]:
        """Means over steps and processes since the last call, without those that are not finite."""
        if not self._values:
            return {}
        names = sorted(self._values)
        means = torch.stack([torch.stack(self._values[name]).nanmean() for name in names])
        means = total(accelerator, means) / accelerator.num_processes
        self._values.clear()
        found = {name: round(value, 6) for name, value in zip(names, means.tolist(), strict=True)}
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        self.last.update(found)
        return found
