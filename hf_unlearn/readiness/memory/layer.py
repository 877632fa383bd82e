"""An MLP with a memory beside it, as a layer of PEFT."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .store import Store


class MemoryLayer(nn.Module, BaseTunerLayer):
    """
    Adds to the MLP's output what the memory says. `memory_values` holds the values that are being trained; those of
    all tables are in the [`Store`], which the layers share.

    Args:
        base_layer: the MLP.
    """

    adapter_layer_names = ("memory_values",)
    other_param_names = ("memory_stores", "memory_places")

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer
        self.memory_values = nn.ParameterDict({})
        self.memory_stores: dict[str, Store] = {}
        self.memory_places: dict[str, int] = {}

    def add(self, adapter: str, store: Store, at: int, hidden: int, device: torch.device) -> None:
        """
        Args:
            at: place of the layer among the adapter's memory layers.
            hidden: size of the MLP's output.
        """
        self.memory_values[adapter] = nn.Parameter(torch.zeros(store.config.entries_per_source, hidden, device=device))
        self.memory_stores[adapter], self.memory_places[adapter] = store, at

    def forward(self, h: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        out = self.base_layer(h, *args, **kwargs)
        if self.disable_adapters:
            return out
        for adapter in self.active_adapters:
            if adapter in self.memory_stores:
                store, at = self.memory_stores[adapter], self.memory_places[adapter]
                with torch.autocast(h.device.type, enabled=False):  # what is recognised is a matter of a few percent
                    added = store.added(at, h, self.memory_values[adapter], self.training)
                out = out if added is None else out + added
        return out

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError("A memory cannot be merged into the weights: what it adds is no linear map of its input.")
