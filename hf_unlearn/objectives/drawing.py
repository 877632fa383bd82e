"""What is drawn once for a row: a pure function of seed and place, the same in every batch and on every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mixed(numbers: Tensor) -> Tensor:
    """Hashes of int64 numbers, from 0 to 2³¹ - 1: the finaliser of SplitMix64 (Steele et al. 2014) in int64."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        numbers = (numbers ^ ((numbers >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return (numbers ^ ((numbers >> 31) & ((1 << 33) - 1))) & 0x7FFFFFFF


def other_labels(labels: Tensor, places: Tensor, classes: int, seed: int) -> Tensor:
    """
    A label for each, evenly from all `classes` but its own; 0 where there is none (-100).

    Args:
        labels: (n,) or (n, T), int64. Which of a row's labels one is counts, not its position: padding moves nothing.
        places: of the rows in their set, (n,).
    """
    if labels.dim() == 1:
        return other_labels(labels[:, None], places, classes, seed)[:, 0]
    which = labels.ne(-100).cumsum(1) - 1
    hashes = mixed(mixed(mixed(places.new_tensor(seed) + 1) + places + 1)[:, None] + which + 1)
    return ((labels + 1 + hashes % (classes - 1)) % classes).where(labels.ne(-100), 0 * labels)
