"""Counts the bytes of the tensors that are alive, by what they are for, and remembers the count at the peak."""

from __future__ import annotations

import weakref
from collections import Counter
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """
    Counts the bytes of all storages that are alive, by part, and keeps the count of the peak.

    Args:
        share: of a part's bytes that one process holds, where it is not 1.
        vocabulary: a tensor whose last dimension has this size counts as "logits"; None: none does.
        casts: operands of mixed types are copied to one type first, as the CPU does it.
    """

    def __init__(self, share: dict[str, float], vocabulary: int | None, casts: bool = False):
        super().__init__()
        self.share, self.vocabulary, self.casts = share, vocabulary, casts
        self.part, self.moment = "weights", ""
        self.now: Counter = Counter()
        self.total = self.peak = 0
        self.at_peak: dict[str, int] = {}
        self.peak_moment = ""
        self._alive: dict[int, tuple] = {}  # by address of the storage: (weak reference, part, bytes)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        if self.casts and torch.Tag.pointwise in function.tags and isinstance(out, Tensor):
            operands = [x for x in args if isinstance(x, Tensor) and x.dim() and x.is_floating_point()]
            copies = sum(x.numel() * out.element_size() for x in operands if x.dtype != out.dtype)
            if len(operands) > 1 and out.is_floating_point() and copies:
                self.add(self.part, copies)
                self.add(self.part, -copies)
        return out

    def add(self, part: str, size: int) -> None:
        self.now[part] += size
        self.total += size
        if self.total > self.peak:
            self.peak, self.at_peak, self.peak_moment = self.total, dict(self.now), self.moment

    def hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        part = self.part
        if part == "activations" and tensor.dim() and tensor.shape[-1] == self.vocabulary:
            part = "logits"
        size = int(storage.nbytes() * self.share.get(part, 1))
        self._alive[key] = (weakref.ref(storage, lambda _: self._release(key)), part, size)
        self.add(part, size)

    def _release(self, key: int) -> None:
        _, part, size = self._alive.pop(key)
        self.add(part, -size)

    def turn_into(self, tensor: Tensor, part: str) -> None:
        """What was counted as one part turns out to be another."""
        storage = tensor.untyped_storage()
        self._release(storage._cdata)
        before, self.part = self.part, part
        self.hold(tensor)
        self.part = before

    @contextmanager
    def during(self, part: str, moment: str | None = None):
        before = self.part, self.moment
        self.part, self.moment = part, self.moment if moment is None else moment
        try:
            yield
        finally:
            self.part, self.moment = before
