"""Which micro-batch of an optimizer step is at hand, by count."""

from __future__ import annotations

import torch


class MicroBatches:
    """The micro-batches of one step, in the order in which the Trainer trains on them."""

    def __init__(self, batches: list[dict]):
        self.shapes = [_shapes(batch) for batch in batches]
        self.done = 0

    def __repr__(self) -> str:
        return f"MicroBatches({self.done} of {len(self.shapes)} done)"

    def next(self, inputs: dict) -> int:
        """
        The place of the micro-batch that comes now, 0 … n - 1.

        Raises:
            RuntimeError: if the step has no further one, or if the shape of any tensor is not the one that was read.
        """
        place, found = self.done, _shapes(inputs)
        if place == len(self.shapes):
            rows = [shapes["labels"][0] for shapes in self.shapes]
            raise RuntimeError(
                f"The Trainer read {len(rows)} micro-batch(es) for this step, of {rows} rows, and now trains on one "
                f"more, of {found['labels'][0]} rows."
            )
        read = self.shapes[place]
        if found != read:
            names = [name for name in {**read, **found} if read.get(name) != found.get(name)]
            raise RuntimeError(
                f"Micro-batch {place + 1} of {len(self.shapes)} of this step was read with {_in_words(read, names)}, "
                f"but the Trainer trains on one with {_in_words(found, names)} in its place."
            )
        self.done += 1
        return place


def _shapes(batch: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in batch.items() if torch.is_tensor(value)}


def _in_words(shapes: dict[str, tuple[int, ...]], names: list[str]) -> str:
    return ", ".join(f"`{name}` {shapes[name]}" if name in shapes else f"no `{name}`" for name in names)
