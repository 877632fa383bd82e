"""Which micro-batch of an optimizer step is at hand, by count."""

from __future__ import annotations


class MicroBatches:
    """The micro-batches of one step, in the order in which the Trainer trains on them."""

    def __init__(self, batches: list[dict]):
        self.rows = [_rows(batch) for batch in batches]
        self.done = 0

    def __repr__(self) -> str:
        return f"MicroBatches({self.done} of {len(self.rows)} done)"

    def next(self, inputs: dict) -> int:
        """
        The place of the micro-batch that comes now, 0 … n - 1.

        Raises:
            RuntimeError: if the step has no further one, or one of another size.
        """
        place, rows = self.done, _rows(inputs)
        if place == len(self.rows):
            raise RuntimeError(
                f"The Trainer read {len(self.rows)} micro-batch(es) for this step, of {self.rows} rows, and now trains "
                f"on one more, of {rows} rows."
            )
        if rows != self.rows[place]:
            raise RuntimeError(
                f"Micro-batch {place + 1} of {len(self.rows)} of this step has {self.rows[place]} rows as it was read, "
                f"but the Trainer trains on one of {rows} rows in its place."
            )
        self.done += 1
        return place


def _rows(batch: dict) -> int:
    return len(batch["labels"])
