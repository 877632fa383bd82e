"""
Moves weights in place and puts them back bit for bit; arithmetic on gradients.

All of it works on this rank's shards: under FSDP2 nothing is gathered, and sums over shards are the caller's `reduce`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .packed_weights import packed_layers

PRODUCTS_PIECE = 1 << 18  # products of an inner product at a time on a CPU; on a GPU 64 times as many


def local_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a DTensor, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def copies_of(params: Iterable[Tensor], device=None) -> list[Tensor]:
    """Copies of this rank's shards of the tensors, on `device` or where they are."""
    return [local_shard(p.detach()).to(device or p.device, copy=True) for p in params]


@torch.no_grad()
def put_(params: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """params = values, in place on local shards."""
    for p, value in zip(params, values, strict=True):
        local_shard(p.detach()).copy_(value)
    torch.clear_autocast_cache()  # half-precision copies of other values, under an autocast of the caller's


@contextmanager
def shielded():
    """Holds Ctrl-C back until the end of the block; a second one is let through. Main thread only, else a no-op."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    previous = signal.getsignal(signal.SIGINT)

    def hold(signum, frame):
        if held:
            raise KeyboardInterrupt
        held.append((signum, frame))

    if previous is None:  # installed outside Python: leave it
        yield
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held and callable(previous):  # Python's own raises KeyboardInterrupt
            previous(*held[0])
        elif held and previous == signal.SIG_DFL:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def restored(params: Iterable[Tensor]):
    """
    Puts the tensors back bit for bit at the end, also after an error. Ctrl-C is held back until they are back.

    Undoing a move by subtraction would leave 4 to 5 % of fp32 weights not bit-equal; the copy costs their memory once.
    """
    params = list(params)
    with shielded():
        copies = copies_of(params)
        try:
            yield copies
        finally:
            put_(params, copies)


def moving_buffers(model: torch.nn.Module) -> list[Tensor]:
    """
    Buffers that a forward pass in training mode may move, BatchNorm's statistics for one; masks and what belongs to
    packed weights are left out.
    """
    packed = {id(buffer) for layer in packed_layers(model).values() for buffer in layer.buffers(recurse=False)}
    return [buffer for buffer in model.buffers() if buffer.dtype != torch.bool and id(buffer) not in packed]


def _add_(to: Tensor, value: Tensor, factor: Tensor | float) -> None:
    """to += factor·value, without a buffer for the product."""
    value = value.to(to.dtype)
    if torch.is_tensor(factor):
        to.addcmul_(value, factor.to(device=to.device, dtype=to.dtype))
    else:
        to.add_(value, alpha=factor)


@torch.no_grad()
def move_(params: Sequence[Tensor], direction: Sequence[Tensor | None], factor: Tensor | float) -> None:
    """params += factor·direction, in place on local shards. A None direction leaves its parameter."""
    for p, d in zip(params, direction, strict=True):
        if d is not None:
            _add_(local_shard(p.detach()), local_shard(d), factor)
    torch.clear_autocast_cache()


@contextmanager
def perturbed(params: Sequence[Tensor], direction: Sequence[Tensor | None], radius: Tensor | float):
    """Moves params by radius·direction for the block, in place on local shards; the exit restores bit for bit."""
    params = list(params)
    with restored(params) as copies:
        move_(params, direction, radius)
        yield copies


def gradients(params: Iterable[Tensor]) -> list[Tensor | None]:
    """The gradients themselves, not copies; they stay in `.grad`."""
    return [p.grad for p in params]


def take_gradients(params: Iterable[Tensor]) -> list[Tensor | None]:
    """The gradients themselves, not copies; `.grad` is None afterwards."""
    taken = []
    for p in params:
        taken.append(p.grad)
        p.grad = None
    return taken


@torch.no_grad()
def add_gradients_(params: Iterable[Tensor], values: Iterable[Tensor | None], factor: Tensor | float = 1.0) -> None:
    """.grad += factor·value for each parameter; None stands for zero."""
    for p, value in zip(params, values, strict=True):
        if value is None:
            continue
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        _add_(local_shard(p.grad), local_shard(value), factor)


@torch.no_grad()
def scale_gradients_(params: Iterable[Tensor], factor: Tensor | float) -> None:
    """.grad *= factor for each parameter that has one."""
    for p in params:
        if p.grad is not None:
            local_shard(p.grad).mul_(factor)


@torch.no_grad()
def inner_product(a: Sequence[Tensor | None], b: Sequence[Tensor | None], reduce=lambda x: x) -> Tensor:
    """⟨a, b⟩ over all tensors, float64 (); `reduce` sums it over shards where tensors are sharded."""
    parts = [_dot(local_shard(x), local_shard(y)) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return reduce(torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """
    ⟨x, y⟩, float64 (), piece by piece: no second buffer of the tensors' size. Half precision goes through float32. (One
    `torch.dot` over 10⁸ normal float32 values was 0.8 % off on a CPU, this 5e-9.)
    """
    if not (x.is_contiguous() and y.is_contiguous()):
        return (x.double() * y.double()).sum()
    if x.dtype in (torch.float16, torch.bfloat16):
        y = y.float()
    piece = PRODUCTS_PIECE if x.device.type == "cpu" else 64 * PRODUCTS_PIECE
    if x.numel() <= piece:  # most tensors of a model are biases and norms
        return (x.view(-1) * y.view(-1)).sum().double()
    pieces = zip(x.view(-1).split(piece), y.view(-1).split(piece), strict=True)
    return torch.stack([(u * v).sum() for u, v in pieces]).double().sum()


def norm(tensors: Sequence[Tensor | None], reduce=lambda x: x) -> Tensor:
    """‖·‖ over all tensors, float64 (); `reduce` as in [`inner_product`]."""
    return inner_product(tensors, tensors, reduce).sqrt()
