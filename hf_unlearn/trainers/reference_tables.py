"""Arrow files of what rows bring from before a request: a line a row, read from the disk where it is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch

Row = np.ndarray  # (T_i, d): a line for each label of a row


def write_table(path: str, about: dict, places: list[int], first: list[Row], more: Iterator[list[Row]]) -> None:
    """
    Writes the rows, batch by batch, beside the file, and moves it there.

    Args:
        about: kind, digest and dtype of what is stored.
        places: of the rows in their set, rising.
    """
    import pyarrow as pa

    width = first[0].shape[1]
    kinds = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
    schema = pa.schema(
        [("place", pa.int64()), ("values", pa.large_list(kinds[about["dtype"]]))],
        metadata={"about": json.dumps({**about, "width": width})},
    )
    done = 0
    with pa.OSFile(f"{path}.part", "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in chain([first], more):
            offsets = np.cumsum([0, *(row.size for row in rows)])
            flat = pa.array(np.concatenate([row.ravel() for row in rows]))
            values = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
            own = pa.array(places[done : done + len(rows)], pa.int64())
            writer.write_batch(pa.record_batch([own, values], schema=schema))
            done += len(rows)
    if done != len(places):
        raise RuntimeError(f"{done} rows were written where {len(places)} were to be.")
    os.replace(f"{path}.part", path)


class Table:
    """
    One such file, mapped into memory.

    Attributes:
        about: `digest`, `kind`, `dtype` and `width` (d) of what is stored.
        places: of the rows in their set.
    """

    def __init__(self, path: str):
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        self.about = json.loads(table.schema.metadata[b"about"])
        self._column = table.column("values")
        self.places: list[int] = table.column("place").to_pylist()
        self._lines = {place: i for i, place in enumerate(self.places)}

    def __repr__(self) -> str:
        return f"Table({len(self._lines)} rows, {self.about['kind']}, {self.about['dtype']})"

    def values(self, places: list[int]) -> torch.Tensor:
        """(M, d): the labels' lines of the rows at these places, in order."""
        found = [self._column[self._lines[place]].values.to_numpy(zero_copy_only=False) for place in places]
        return torch.from_numpy(np.concatenate(found)).view(-1, self.about["width"])
