"""
What the file of a memory says of itself: a digest of each table, by which a changed one is found, and a sample of the
model below, by which another one is.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from .store import PUBLIC, TABLE, VIEW, WORKING

BASE, DIGEST = "memory.base", "digest"
SIZE = 16  # bytes of a digest
VALUES = 16  # of each weight below, evenly spaced, that are kept
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)  # one model may be at hand in any of them


def sealed(found: dict[str, Tensor], base: nn.Module) -> dict[str, Tensor]:
    """
    A memory's tensors with their digests and the sample of the model below, as they go into a file.

    Args:
        found: of `Store.tensors`, by name.
        base: the model with the memory on it.
    """
    sample = base_sample(base)
    found = found if sample is None else {**found, BASE: sample}
    return {**found, **{f"{part}.{DIGEST}": digest(own) for part, own in _parts(found).items()}}


def opened(found: dict[str, Tensor], base: nn.Module) -> dict[str, Tensor]:
    """
    The tensors of a file, without what it says of itself.

    Raises:
        ValueError: if a table or what all share was changed or is not whole, or the model below is another one.
    """
    digests = {name.removesuffix(f".{DIGEST}"): own for name, own in found.items() if name.endswith(f".{DIGEST}")}
    found = {name: own for name, own in found.items() if not name.endswith(f".{DIGEST}")}
    parts = _parts(found)
    changed = [part for part in (*parts, *(set(digests) - set(parts))) if not _is(digests.get(part), parts.get(part))]
    if changed:
        tables = sum(part.startswith(TABLE) for part in changed)
        whole = sum(part.startswith(TABLE) for part in parts)
        what = f"{tables} of {whole} tables" if tables else "what all tables share"
        raise ValueError(
            f"The file of the memory was changed, or is not whole: {what} is not as it was saved. Take the file again "
            "from where it came; or fill the tables again from their rows."
        )
    _check_base(found.pop(BASE, None), base)
    return found


def digest(own: dict[str, Tensor]) -> Tensor:
    """(16,) uint8, BLAKE2b of names, types, shapes and bytes."""
    made = hashlib.blake2b(digest_size=SIZE)
    for name in sorted(own):
        tensor = own[name].detach().cpu().contiguous()
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        made.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return torch.tensor(list(made.digest()), dtype=torch.uint8)


def _parts(found: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors by what is sealed as one: each table by itself, and all the rest."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        part = "memory"
        if name.startswith(f"{TABLE}."):
            part = f"{TABLE}.{name.removeprefix(f'{TABLE}.').partition('.')[0]}"
        elif not name.startswith((VIEW, PUBLIC, BASE, WORKING)):
            continue
        parts.setdefault(part, {})[name] = tensor
    return parts


def _is(then: Tensor | None, own: dict[str, Tensor] | None) -> bool:
    return then is not None and own is not None and torch.equal(then.cpu(), digest(own))


def base_sample(model: nn.Module) -> Tensor | None:
    """
    (p, 16) float32, evenly spaced values of each weight below the memory, in the order of their names; None where they
    cannot be read so: packed, sharded or not there yet.
    """
    named = [(name, p.detach()) for name, p in model.named_parameters() if "memory_values" not in name]
    if not named or any(_unreadable(p) for _, p in named):
        return None
    rows = []
    for _, p in sorted(named, key=lambda pair: pair[0].replace(".base_layer.", ".")):
        flat = p.reshape(-1)
        places = torch.arange(VALUES) * (len(flat) - 1) // (VALUES - 1)  # whole numbers, exact for weights of any size
        rows.append(flat[places.to(flat.device)].float().cpu())
    return torch.stack(rows)


def _unreadable(p: Tensor) -> bool:
    return not len(p.reshape(-1)) or not p.is_floating_point() or p.is_meta or hasattr(p, "full_tensor")


def _check_base(then: Tensor | None, model: nn.Module) -> None:
    now = None if then is None else base_sample(model)
    if now is None:
        return
    rounded = then.shape == now.shape and any(
        torch.equal(then.to(dtype).float(), now) or torch.equal(then, now.to(dtype).float()) for dtype in PRECISIONS
    )
    if not rounded:
        raise ValueError(
            "The model below is another one than the memory was filled beside, so that its tables mean nothing there. "
            "Put it on the model that `base_model_name_or_path` in its adapter_config.json names."
        )
