"""What was made of the rows of a table, by its fingerprint: a trainer that is made again, or an evaluation of the rows
of a request, reads it here. In memory alone, and bounded; the rows themselves are not held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]
MOST_BYTES = 1 << 26
_KEPT: OrderedDict[Hashable, Arrays] = OrderedDict()


def remembered(rows: Any, what: Hashable, make: Callable[[], Arrays | None]) -> Arrays | None:
    """
    `make()`, or what it gave when it was called for a table of this fingerprint. Not to be written into.

    Args:
        what: is made, and how: all that it depends on beside the rows as they are stored.
    """
    name = getattr(rows, "_fingerprint", None)
    if name is None:
        return make()
    key = (name, what)
    if key in _KEPT:
        _KEPT.move_to_end(key)
        return _KEPT[key]
    found = make()
    if found is not None and _size(found) <= MOST_BYTES:
        _KEPT[key] = found
        while sum(map(_size, _KEPT.values())) > MOST_BYTES:
            _KEPT.popitem(last=False)
    return found


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)
