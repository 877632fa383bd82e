"""A model as it is when served in 8 or 4 bits: round-to-nearest, in place, for the length of a block."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

from ..forward import signature_of
from ..gates import QUANTISED_EXCESS, Gate, GateRule, Sides, Status, difference_interval, status_of, within
from ..run_measures import RIGHT, count_of, right_of, value_of
from ..weights import listed, piece_on, put_back
from .base import Attack, Attempt, AttemptRule, Subject

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

BITS = (8, 4)
ROUNDED = tuple(f"int{bits}" for bits in BITS)  # splits of the forget rows under rounded weights, after `forget_`


@contextmanager
def quantised(model: torch.nn.Module, bits: int, *, skip: Iterable[str] | None = None):
    """
    Rounds the weights of linear and convolution layers to `bits` bits for the block; the exit restores them bit for
    bit, also after an error. What unlearning moved by less than a rounding step can come back (Zhang et al. 2025,
    Catastrophic Failure of LLM Unlearning via Quantization, ICLR, arXiv:2410.16454).

    ```python
    with quantised(model, 4):
        table = collect(model, forget, collator)
    ```

    Round-to-nearest, symmetric, one scale s per output channel: s = max|w| / (2^(bits-1) - 1), w ← s·round(w / s), so
    an entry moves by at most s / 2. Arithmetic is in float32 (float64 for float64 weights), the result is in the
    weight's dtype. A channel of zeros stays zero. Nothing is packed: the model takes no less memory and runs no faster.

    Rounded are `torch.nn.Linear`, transformers' `Conv1D` (its output is the second dimension) and `torch.nn.Conv1d`,
    `Conv2d`, `Conv3d`. Norms, biases, embeddings and whatever shares its weight with an embedding stay; so do experts
    kept in one stacked parameter and transposed convolutions. The output head, tied or not, and the last layer of a
    classifier stay too, as in transformers' quantised loading (`get_keys_to_not_convert`). Of a PEFT model the base
    weights are rounded and the adapters stay, as QLoRA serves them (Dettmers et al. 2023, arXiv:2305.14314); merge the
    adapter first to round the sum.

    Args:
        model: any model with floating-point weights.
        bits: 8 or 4.
        skip: names of modules, as in `model.named_modules()`, that stay with all below them, in place of the output
            head and last layer; `()` rounds those too. None: as above.

    Yields:
        The model.

    Raises:
        ValueError: for other `bits`, a name in `skip` that is no module, a model with no layer to round, or with
            weights that are not floating-point numbers (already quantised).
    """
    import torch

    if bits not in BITS:
        raise ValueError(f"`bits` is {bits!r}: it must be one of {', '.join(map(str, BITS))}.")
    chosen = _weights(model, skip)
    with put_back(weight for weight, _ in chosen):
        with torch.no_grad():
            for weight, channels in chosen:
                for block in _blocks(weight.detach(), channels):
                    block.copy_(_rounded(block, bits, channels))
        torch.clear_autocast_cache()
        yield model


def _blocks(weight: torch.Tensor, channels: int) -> Iterable[torch.Tensor]:
    """Views of some output channels each, small enough for fast arithmetic; a sharded weight stays whole."""
    if hasattr(weight, "full_tensor") or not weight.numel():
        return [weight]
    each = weight.numel() // weight.shape[channels]
    return weight.split(max(1, piece_on(weight.device) // each), channels)


def _rounded(weight: torch.Tensor, bits: int, channels: int) -> torch.Tensor:
    """The weight after rounding, in its dtype or a wider one; `channels` is the output dimension."""
    import torch

    wide = weight if weight.dtype == torch.float64 else weight.float()
    most = 2 ** (bits - 1) - 1
    others = [d for d in range(wide.dim()) if d != channels]
    scale = wide.abs().amax(dim=others, keepdim=True) / most
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (wide / safe).round().clamp(-most, most) * scale


def _weights(model: torch.nn.Module, skip: Iterable[str] | None) -> list[tuple[torch.Tensor, int]]:
    """(weight, its output dimension) of all layers to be rounded, each weight once."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = {torch.nn.Linear: 0, Conv1D: 1, torch.nn.Conv1d: 0, torch.nn.Conv2d: 0, torch.nn.Conv3d: 0}
    adapters = _of_adapters(model)
    base = [(name, module) for name, module in model.named_modules() if id(module) not in adapters]
    stays = {id(p) for _, m in base if isinstance(m, torch.nn.Embedding) for p in m.parameters(recurse=False)}
    for module in _heads(model, base) if skip is None else _named(model, skip):
        stays |= {id(p) for p in module.parameters()}
    found: dict[int, tuple[torch.Tensor, int]] = {}
    packed = []
    for name, module in base:
        channels = next((d for kind, d in kinds.items() if isinstance(module, kind)), None)
        weight = getattr(module, "weight", None)
        if channels is None or weight is None or id(weight) in stays:
            continue
        if not weight.is_floating_point():
            packed.append(name)
        found[id(weight)] = (weight, channels)
    if packed:
        raise ValueError(f"weights are not floating-point numbers in {listed(packed)}: load the model unquantised.")
    if not found:
        raise ValueError(
            f"`model` ({type(model).__name__}) has no linear or convolution layer to round beside those that stay; "
            "`skip=()` rounds the output head too."
        )
    return list(found.values())


def _of_adapters(model: torch.nn.Module) -> set[int]:
    """Modules that belong to adapters: all below an adapted layer but what it wraps."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found = set()
    for module in model.modules():
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            inside = module.base_layer if isinstance(module, BaseTunerLayer) else module.original_module
            found |= {id(m) for m in module.modules()} - {id(m) for m in inside.modules()}
    return found


def _heads(model: torch.nn.Module, base: list[tuple[str, torch.nn.Module]]) -> list[torch.nn.Module]:
    """The output head of a language model, and the module of the last parameter (the head of a classifier)."""
    inner = signature_of(model)[0]
    head = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    last = [module for _, module in base if any(True for _ in module.parameters(recurse=False))][-1:]
    return [module for module in (head, *last) if module is not None]


def _named(model: torch.nn.Module, skip: Iterable[str]) -> list[torch.nn.Module]:
    modules = dict(model.named_modules(remove_duplicate=False))
    skip = [skip] if isinstance(skip, str) else list(skip)
    unknown = [name for name in skip if name not in modules]
    if unknown:
        raise ValueError(
            f"`skip` names {listed(unknown)}, but `model` has no such module: give names of `model.named_modules()`."
        )
    return [modules[name] for name in skip]


def _run(subject: Subject) -> None:
    """The forget rows again with rounded weights, as splits `forget_int8` and `forget_int4`."""
    from ...readiness.packed_weights import is_packed

    if is_packed(subject.model):
        logger.warning("The weights of %r are packed, as they are served: they are not rounded again.", subject.role)
    elif "forget" in subject.splits:
        for bits, name in zip(BITS, ROUNDED, strict=True):
            with quantised(subject.model, bits):
                subject.seen.tables[f"forget_{name}"] = subject.table_of("forget", note=name)


def _gate(sides: Sides) -> Gate:
    """
    Numbers: `right`: (bits, share of forget rows right, the retrained model's) for each width and way of being right,
    and `excess`, the limit of their difference.
    """
    found, within_limit = [], []
    for bits, kind in product(ROUNDED, RIGHT):
        name = f"forget_{bits}_{kind}"
        a, b = (value_of(side, name) for side in (sides.mine, sides.reference))
        if a is not None and b is not None:
            low, _ = difference_interval(sides.mine[name], sides.reference[name])
            found.append((bits, a, b))
            within_limit.append(within(a - b, QUANTISED_EXCESS, low))
    if not found:
        return Gate("quantisation", Status.UNDECIDED)
    ok = False if False in within_limit else None if None in within_limit else True
    numbers = {"right": found, "excess": QUANTISED_EXCESS}
    return Gate("quantisation", status_of(ok), True if ok is False else None, numbers)


def _attempt(run: Mapping[str, Any], sides: Sides) -> Attempt | None:
    """
    Rows right with rounded weights: `kind`, `n`, `right` (bits -> rows), `plain` (not rounded), `retrained` (bits ->
    rows, or None). Possible where rounding brings back rows, more than a retrained model has.
    """
    found = {bits: right for bits in ROUNDED if (right := right_of(sides.mine, f"forget_{bits}"))}
    if not found:
        return None
    kind, n = next((kind, n) for kind, _, n in found.values())
    plain = count_of(sides.mine, f"forget_{kind}")
    theirs = {bits: count_of(sides.reference, f"forget_{bits}_{kind}") for bits in found}
    right = {bits: count for bits, (_, count, _) in found.items()}
    back = any(count > max(theirs[bits] or 0, plain or 0) + QUANTISED_EXCESS * n for bits, count in right.items())
    retrained = None if None in theirs.values() else theirs
    return Attempt("quantised", back, {"kind": kind, "n": n, "right": right, "plain": plain, "retrained": retrained})


ATTACK = Attack(
    "quantise",
    "measure the forget rows again with weights rounded to int8 and int4",
    _run,
    gate=GateRule(
        "quantisation",
        _gate,
        title="Stays forgotten in int8 and int4",
        needs="Not measured: needs a retrained model under the same quantisation.",
        against="answers come back when the weights are rounded",
    ),
    attempt=AttemptRule(
        "quantised", "rounding the weights", _attempt, clause="get answers back by rounding the weights"
    ),
    turn=1,
)
