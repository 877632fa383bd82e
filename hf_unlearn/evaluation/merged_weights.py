"""The parameters of a model with what its active adapters add to them, by the names they have without adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .forward import prompt_adapters, signature_of
from .weights import listed, unsharded

if TYPE_CHECKING:
    import torch


@dataclass
class Merged:
    """A parameter and what active adapters add to it: (key of the addend, function that makes it)."""

    parameter: torch.Tensor
    added: tuple[tuple[tuple, Callable[[], torch.Tensor]], ...] = ()

    @property
    def key(self) -> tuple:
        return (id(self.parameter), *(key for key, _ in self.added))

    def terms(self) -> list[torch.Tensor]:
        """Tensors of the parameter's shape whose sum is the merged weight."""
        return [unsharded(self.parameter.detach()), *(unsharded(make().detach()) for _, make in self.added)]


def merged_parameters(model: torch.nn.Module) -> dict[str, Merged]:
    """Parameters by the name that they have without adapters; tied ones under each of their names."""
    refused = prompt_adapters(model)
    found = dict(_walk(signature_of(model)[0], "", refused))
    if refused:
        raise ValueError(
            f"adapters that cannot be merged into the weights here: {listed(refused)}. Supported are LoRA on linear, "
            "embedding and convolution layers, DoRA on linear ones, and modules_to_save; merge others first "
            "(`merge_and_unload`), or leave out the attack `weights`."
        )
    packed = [name for name, one in found.items() if not one.parameter.is_floating_point()]
    if packed:
        raise ValueError(f"weights are not floating-point numbers in {listed(packed)}: load the model unquantised.")
    meta = [name for name, one in found.items() if one.parameter.is_meta]
    if meta:
        raise ValueError(f"weights have no values (meta device) in {listed(meta)}: load the model whole.")
    return found


def _walk(module: torch.nn.Module, prefix: str, refused: list[str]) -> Iterator[tuple[str, Merged]]:
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
            yield name, Merged(one.parameter, (*one.added, *extra))
        return
    if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
        refused.append(f"{where} ({type(module).__module__.split('.')[-2]}.{type(module).__name__})")
        return
    for name, parameter in module._parameters.items():  # `named_parameters` would leave out a second name
        if parameter is not None:
            yield prefix + name, Merged(parameter)
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
    alone = adapters[0] if len(adapters) == 1 and sign > 0 else None
    if alone in layer.lora_magnitude_vector and isinstance(layer, lora.Linear):
        return {"weight": (((id(layer), alone), lambda: _dora_addend(layer, alone)),)}
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


def _dora_addend(layer, adapter: str) -> torch.Tensor:
    """
    What DoRA adds to a linear layer's weight W, (out, in) or of a `Conv1D` (in, out): m·(W + ΔW)/‖W + ΔW‖ - W, the norm
    along the inputs, m the learnt lengths (out,) (Liu et al. 2024, arXiv:2402.09353, eq. 5).
    """
    import torch

    weight = unsharded(layer.get_base_layer().weight.detach())
    wide = weight if weight.dtype == torch.float64 else weight.float()
    inputs = 0 if layer.fan_in_fan_out else 1
    summed = wide + layer.get_delta_weight(adapter).to(wide.dtype)
    lengths = layer.lora_magnitude_vector[adapter].weight.to(wide.dtype).unsqueeze(inputs)
    return lengths * summed / torch.linalg.norm(summed, dim=inputs, keepdim=True) - wide
