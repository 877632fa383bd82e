"""The tuner of PEFT that puts a memory beside the MLPs of a model, and writes and reads its tables."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from .layer import MemoryLayer
from .mlp_modules import chosen_layers, mlps
from .passing import Passing
from .sealing import opened, sealed
from .shared import SharedStore
from .store import Store

STORES = {"own": Store, "shared": SharedStore}


class MemoryModel(BaseTuner):
    """Used by way of `get_peft_model(model, MemoryConfig(…))`."""

    prefix = "memory_"
    tuner_layer_cls = MemoryLayer
    uses_shared_state = True

    def _prepare_adapter_config(self, peft_config, model_config):
        return peft_config

    def _prepare_model(self, peft_config, model):
        names = mlps([name for name, _ in model.named_modules()], self._model_type(model), peft_config.mlp_modules)
        peft_config.layers = chosen_layers(peft_config.layers, names)
        peft_config.target_modules = {names[layer] for layer in peft_config.layers}
        hidden = [_sizes(model, names[layer])[0] for layer in peft_config.layers]
        passing = Passing(causal=bool(getattr(model, "can_generate", bool)()))
        self._hooks = [*getattr(self, "_hooks", []), *passing.listen(model)]
        self._place_of = {names[layer]: at for at, layer in enumerate(peft_config.layers)}
        self._coming = STORES[peft_config.variant](peft_config, hidden, passing, depth=len(names))

    @staticmethod
    def _model_type(model) -> str | None:
        config = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return getattr(text, "model_type", None)

    @staticmethod
    def _check_target_module_exists(peft_config, key):
        return key.removesuffix(".base_layer") in peft_config.target_modules

    def _create_and_replace(self, peft_config, adapter_name, target, target_name, parent, current_key):
        layer = target if isinstance(target, MemoryLayer) else MemoryLayer(target)
        weight = next(target.parameters(), None)
        device = torch.device("cpu") if weight is None else weight.device
        hidden = _sizes(self.model, current_key)[1]
        layer.add(adapter_name, self._coming, self._place_of[current_key], hidden, device)
        if layer is not target:
            setattr(parent, target_name, layer)

    def _replace_module(self, parent, child_name, new_module, child):
        setattr(parent, child_name, new_module)  # an MLP, whose weights are not handed over one by one

    @property
    def stores(self) -> dict[str, Store]:
        """By the names of the adapters."""
        layers = (module for module in self.model.modules() if isinstance(module, MemoryLayer))
        return {name: store for layer in layers for name, store in layer.memory_stores.items()}

    @classmethod
    def _get_adapter_state_dict(cls, model, config, adapter_name, state_dict, unwanted_adapter_names):
        return sealed(store_of(model, adapter_name).tensors(), tuner_of(model).model)

    @classmethod
    def _remove_adapter_name_from_key(cls, key, adapter_name):
        return key

    @classmethod
    def _remap_adapter_state_dict_for_load(cls, model, config, adapter_name, state_dict):
        store_of(model, adapter_name).load(opened(state_dict, tuner_of(model).model))
        own = f".memory_values.{adapter_name}"
        return {name: torch.zeros(p.shape, dtype=p.dtype) for name, p in model.named_parameters() if name.endswith(own)}

    def unload(self):
        for hook in self._hooks:
            hook.remove()
        return super().unload()

    def merge_and_unload(self, *args, **kwargs):
        raise ValueError("A memory cannot be merged into the weights: what it adds is no linear map of its input.")


def _sizes(model: nn.Module, name: str) -> tuple[int, int]:
    """(size of the input, size of the output) of an MLP: a linear layer's own, else those of the model's config."""
    module = model.get_submodule(name)
    module = getattr(module, "base_layer", module)
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features
    hidden = model.config.get_text_config().hidden_size
    return hidden, hidden


def tuner_of(model) -> MemoryModel | None:
    """The memory on a model, through wrappers; None where it has none."""
    while not isinstance(model, MemoryModel):
        inner = next((found for name in ("module", "_orig_mod", "base_model") if (found := _part(model, name))), None)
        if inner is None or inner is model:
            return None
        model = inner
    return model


def _part(model, name: str):
    return model.__dict__.get("_modules", {}).get(name)


def store_of(model, adapter_name: str = "default") -> Store:
    """
    The [`Store`] of a model's memory.

    Raises:
        ValueError: if the model has none.
    """
    tuner = tuner_of(model)
    if tuner is None or adapter_name not in (stores := tuner.stores):
        raise ValueError("The model has no memory: it is put on by `get_peft_model(model, MemoryConfig(…))`.")
    return stores[adapter_name]


def values_of(model, adapter_name: str = "default") -> list[Tensor]:
    """Of each memory layer, the parameter (M, hidden) with the values that are being trained."""
    tuner = tuner_of(model)
    layers = [module for module in tuner.model.modules() if isinstance(module, MemoryLayer)]
    by_place = {layer.memory_places[adapter_name]: layer for layer in layers if adapter_name in layer.memory_places}
    return [by_place[at].memory_values[adapter_name] for at in sorted(by_place)]
