"""How far a model's weights are from another's, whole and by layer; a hash that names the weights of a model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PIECE = 1 << 16  # weights at a time on a CPU: buffers stay in the cache, ten times as fast as 1 << 22 (measured)
PIECE_ELSEWHERE = 1 << 22
SHOWN = 5  # names listed in an error


def weight_distance(model: torch.nn.Module, other: torch.nn.Module) -> dict:
    """
    Relative L2 distance ‖θ - θ_o‖ / ‖θ_o‖ of the parameters of `model` to those of `other`, whole and by layer.

    Of unlearned vision classifiers, Siddiqui et al. 2025 (arXiv:2505.22310) found that the L2 distance to the model
    before unlearning predicts how well they withstand relearning: close by, what was forgotten comes back with a few
    steps on retain rows. Dividing by the norm and the sums by layer are ours.

    Sums are in float64, tensor by tensor: no second copy of a model is made. The models may be on different devices
    and of different dtypes. Weights tied in both models count once. A PEFT model on either side is taken with its
    active LoRA adapters added to the base weights, not rounded to the base's dtype, and with its own copies of
    `modules_to_save`; nothing in it changes. Buffers are left out. Sharded models: every process must call this.

    Args:
        model: the model in question.
        other: the model it is compared with, of the same architecture.

    Returns:
        `{"whole": float, "layers": {name: float}}`. A layer is a parameter's name up to and including its first number
        (`model.layers.3`), outside of blocks the name of the parameter's module (`lm_head`); layers come in the order
        of the model. Where θ_o is all zero the distance is 0.0 for equal weights, else inf.

    Raises:
        ValueError: if names or shapes of the parameters differ, if a weight is not finite, not a floating-point
            number (a model loaded in 4 or 8 bits) or on the meta device, or if an adapter is of a kind that cannot be
            merged here (the first few are listed).
    """
    import torch

    ours, theirs = _merged_parameters(model), _merged_parameters(other)
    _check_same(ours, theirs)
    sums: dict[str, tuple[float, float]] = {}  # layer -> (‖θ - θ_o‖², ‖θ_o‖²)
    broken, seen = [], set()
    with torch.no_grad():
        for name, mine in ours.items():
            pair = (mine.key, theirs[name].key)
            if pair in seen:
                continue
            seen.add(pair)
            difference, norm = _squares(mine, theirs[name])
            if not math.isfinite(difference + norm):
                broken.append(name)
            layer = layer_of(name)
            before = sums.get(layer, (0.0, 0.0))
            sums[layer] = before[0] + difference, before[1] + norm
    if broken:
        raise FloatingPointError(f"weights are not finite in {_first(broken)}: a run that diverged has no distance.")
    whole = [math.fsum(column) for column in zip(*sums.values(), strict=True)]
    return {"whole": _ratio(*whole), "layers": {layer: _ratio(*both) for layer, both in sums.items()}}


def weights_hash(model: torch.nn.Module) -> str:
    """
    Name of a model's weights: blake2b over names, shapes, dtypes and bytes of all parameters and of the buffers that
    are saved with them, 32 hexadecimal characters (ours).

    Equal in every run and on every device, and for a model saved and loaded; one bit changes it. Of a PEFT model it
    covers base and adapters, which adapters are active, and their scaling. Takes about a second a GB, and the memory
    of the largest tensor on the CPU. Sharded models: every process must call this.

    Raises:
        ValueError: for weights on the meta device.
    """
    import torch

    model = _unwrapped(model)
    digests: dict[int, bytes] = {}  # tied weights are read once
    whole = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if not isinstance(tensor, torch.Tensor):  # a module's extra state
            continue
        if id(tensor) not in digests:
            digests[id(tensor)] = _digest(name, tensor)
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode() + digests[id(tensor)])
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and hasattr(module, "active_adapters"):
            state = (name, sorted(module.active_adapters), sorted(scaling.items()), module.disable_adapters)
            whole.update(repr(state).encode())
    return whole.hexdigest()


@contextmanager
def put_back(tensors: Iterable[torch.Tensor]):
    """
    Puts the tensors back bit for bit at the end of the block, also after an error, from one copy on the CPU. Unlike
    [`~hf_unlearn.readiness.moving_weights.restored`], which is for moments, it lets Ctrl-C end the block; the way back
    itself is shielded.
    """
    from ..readiness.moving_weights import _shielded, copies_of, put_

    tensors = list(tensors)
    copies = copies_of(tensors, "cpu")
    try:
        yield
    finally:
        with _shielded():
            put_(tensors, copies)


def layer_of(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `model.layers.3`, `lm_head.weight` -> `lm_head`."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1]) or name


# ---- the parameters of a model, adapters merged ---------------------------------------------------------------------


@dataclass
class _Merged:
    """A parameter and what active adapters add to it: (key of the addend, function that makes it)."""

    parameter: torch.Tensor
    added: tuple[tuple[tuple, Callable[[], torch.Tensor]], ...] = ()

    @property
    def key(self) -> tuple:
        return (id(self.parameter), *(key for key, _ in self.added))

    def terms(self) -> list[torch.Tensor]:
        """Tensors of the parameter's shape whose sum is the merged weight."""
        return [_whole(self.parameter.detach()), *(_whole(make().detach()) for _, make in self.added)]


def _merged_parameters(model: torch.nn.Module) -> dict[str, _Merged]:
    """Parameters by the name that they have without adapters; tied ones under each of their names."""
    from .forward import _signature

    refused = _prompt_adapters(model)
    found = dict(_walk(_signature(model)[0], "", refused))
    if refused:
        raise ValueError(
            f"adapters that cannot be merged into the weights here: {_first(refused)}. Supported are plain LoRA on "
            "linear, embedding and convolution layers, and modules_to_save; merge others first (`merge_and_unload`)."
        )
    packed = [name for name, one in found.items() if not one.parameter.is_floating_point()]
    if packed:
        raise ValueError(f"weights are not floating-point numbers in {_first(packed)}: load the model unquantised.")
    meta = [name for name, one in found.items() if one.parameter.is_meta]
    if meta:
        raise ValueError(f"weights have no values (meta device) in {_first(meta)}: load the model whole.")
    return found


def _walk(module: torch.nn.Module, prefix: str, refused: list[str]) -> Iterator[tuple[str, _Merged]]:
    """Yields (name, parameter) below `module`, going through adapters to what they wrap."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    where = prefix.removesuffix(".")
    if isinstance(module, ModulesToSaveWrapper):
        active = module.active_adapters
        own = not module.disable_adapters and active and active[0] in module.modules_to_save
        yield from _walk(module.modules_to_save[active[0]] if own else module.original_module, prefix, refused)
        return
    if isinstance(module, LoraLayer):
        added = _lora_terms(module, where, refused)
        for name, one in _walk(module.base_layer, prefix, refused):
            extra = added.get(name[len(prefix) :], ())
            yield name, _Merged(one.parameter, (*one.added, *extra))
        return
    if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
        refused.append(f"{where} ({type(module).__module__.split('.')[-2]}.{type(module).__name__})")
        return
    for name, parameter in module._parameters.items():  # `named_parameters` would leave out a second name
        if parameter is not None:
            yield prefix + name, _Merged(parameter)
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.", refused)


def _lora_terms(layer, where: str, refused: list[str]) -> dict[str, tuple]:
    """What LoRA adds to the weight and bias of its base layer, in the state in which the layer's forward is."""
    from peft.tuners.lora import layer as lora

    if layer.disable_adapters:  # merged ones are taken out again by the next forward
        adapters, sign = layer.merged_adapters, -1.0
    else:
        adapters, sign = ([] if layer.merged else layer.active_adapters), 1.0
    adapters = [a for a in adapters if a in layer.lora_A or a in layer.lora_embedding_A]
    if not adapters:
        return {}
    kinds = (lora.Linear, lora.Embedding, lora.Conv1d, lora.Conv2d, lora.Conv3d)
    if not isinstance(layer, kinds) or any(a in layer.lora_variant for a in adapters):
        variants = [type(layer.lora_variant[a]).__name__ for a in adapters if a in layer.lora_variant]
        refused.append(f"{where} (lora.{(variants or [type(layer).__name__])[0]})")
        return {}
    weight, bias = [], []
    for adapter in adapters:
        key = (id(layer), adapter)
        weight.append((key, lambda a=adapter: sign * layer.get_delta_weight(a)))
        if layer.lora_bias.get(adapter):
            bias.append((key, lambda a=adapter: sign * layer.scaling[a] * layer.lora_B[a].bias))
    return {"weight": tuple(weight), "bias": tuple(bias)}


def _prompt_adapters(model: torch.nn.Module) -> list[str]:
    """Adapters that are no weights of the model: learnt prompts."""
    for module in (model, getattr(model, "_orig_mod", None), getattr(model, "module", None)):
        configs = getattr(module, "peft_config", None)
        if isinstance(configs, dict):
            active = getattr(module, "active_adapters", configs)
            active = active() if callable(active) else active
            return [f"{a} ({configs[a].peft_type.value})" for a in active if configs[a].is_prompt_learning]
    return []


def _check_same(ours: dict[str, _Merged], theirs: dict[str, _Merged]) -> None:
    problems = []
    for names, which in ((ours.keys() - theirs.keys(), "model"), (theirs.keys() - ours.keys(), "other")):
        if names:
            problems.append(f"only `{which}` has {_first(sorted(names))}")
    shapes = [
        f"{name} {tuple(one.parameter.shape)} and {tuple(theirs[name].parameter.shape)}"
        for name, one in ours.items()
        if name in theirs and one.parameter.shape != theirs[name].parameter.shape
    ]
    if shapes:
        problems.append(f"shapes differ in {_first(shapes)}")
    if problems:
        raise ValueError(
            f"`model` and `other` have different parameters: {'; '.join(problems)}. Compare models of one architecture."
        )


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def _squares(mine: _Merged, theirs: _Merged) -> tuple[float, float]:
    """(‖a - b‖², ‖b‖²) of two merged weights, piece by piece, on the first's device (CPU for one without float64)."""
    import torch

    ours, others = ([term.reshape(-1) for term in one.terms()] for one in (mine, theirs))
    device = ours[0].device if ours[0].device.type != "mps" else torch.device("cpu")
    difference = norm = torch.zeros((), dtype=torch.float64, device=device)
    piece = piece_on(device)
    for start in range(0, ours[0].numel(), piece):
        a, b = (
            sum(term[start : start + piece].to(device).to(torch.float64) for term in terms) for terms in (ours, others)
        )
        difference = difference + (a - b).square().sum()
        norm = norm + b.square().sum()
    return float(difference), float(norm)


def piece_on(device: torch.device) -> int:
    return PIECE if device.type == "cpu" else PIECE_ELSEWHERE


def _ratio(difference: float, norm: float) -> float:
    if norm == 0:
        return 0.0 if difference == 0 else math.inf
    return math.sqrt(difference / norm)


def _digest(name: str, tensor: torch.Tensor) -> bytes:
    import torch

    if tensor.is_meta:
        raise ValueError(f"weights have no values (meta device) in {name}: load the model whole.")
    data = _whole(tensor.detach()).cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(data.numpy(), digest_size=16).digest()


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All shards of a sharded tensor, or the tensor itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside of a compiled or data-parallel one; a PEFT model stays."""
    while not hasattr(model, "peft_config"):
        inside = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inside is None or not hasattr(inside, "forward"):
            break
        model = inside
    return model


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
