"""The forward at hand, as the memory must know it: where tokens are, and what the positions before have recognised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class RecognisedLayer(DynamicLayer):
    """
    What each position has recognised, and its view, as one more layer of a model's cache: it is cut, repeated and
    reordered with the others, as beams are. Keys are (B, 1, T, k + width), values (B, 1, T, k).
    """


@dataclass
class Earlier:
    """
    Of the positions in a cache.

    Args:
        r, slots: (B, T, k) of whom they have recognised.
        z: (B, T, width) their views.
    """

    r: Tensor
    slots: Tensor
    z: Tensor


class Passing:
    """
    Args:
        causal: whether a position of the model knows those up to it, or all.
    """

    def __init__(self, causal: bool):
        self.causal = causal
        self.mask: Tensor | None = None  # (B, T' + T), 1 where there is a token
        self.cache: Cache | None = None

    def before_forward(self, model, args, kwargs):
        """Hook of the model, before each of its forwards."""
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        self.mask = mask if torch.is_tensor(mask) and mask.dim() == 2 else None
        uses = kwargs.get("use_cache")
        uses = getattr(model.config, "use_cache", False) if uses is None else uses
        if cache is None and uses and self.causal and not model.training:
            cache = kwargs["past_key_values"] = DynamicCache(config=model.config)
        self.cache = cache if isinstance(cache, Cache) else None
        return args, kwargs

    def of_tokens(self, shape: tuple[int, int]) -> Tensor | None:
        """(B, T) bool, True where there is a token; None: everywhere."""
        if self.mask is None or self.mask.shape[0] != shape[0] or self.mask.shape[1] < shape[1]:
            return None
        return self.mask[:, -shape[1] :].bool()

    def earlier(self, z: Tensor) -> Earlier | None:
        """What the cache knows of the positions before those with views z (B, T, width); None: nothing."""
        layer = self._own()
        if layer is None or not layer.get_seq_length():
            return None
        keys, slots = layer.keys[:, 0].to(z), layer.values[:, 0].long().to(z.device)
        return Earlier(keys[..., : slots.shape[-1]], slots, keys[..., slots.shape[-1] :])

    def keep(self, r: Tensor, slots: Tensor, z: Tensor, layers: int) -> None:
        """
        Puts what these positions have recognised, each (B, T, k), and their views into the cache, for later ones.

        Args:
            layers: of the model.
        """
        if self.cache is not None:
            self._layer(layers).update(torch.cat([r, z], dim=-1).unsqueeze(1), slots.to(r.dtype).unsqueeze(1))

    def _own(self) -> RecognisedLayer | None:
        layers = [] if self.cache is None else self.cache.layers
        return next((layer for layer in layers if isinstance(layer, RecognisedLayer)), None)

    def _layer(self, layers: int) -> RecognisedLayer:
        if (own := self._own()) is not None:
            return own
        make = self.cache.layer_class_to_replicate
        while make is not None and len(self.cache.layers) < layers:
            self.cache.layers.append(make())
        self.cache.layers.append(RecognisedLayer())
        return self.cache.layers[-1]
