"""The forward at hand, as the memory must know it: where tokens are, and what the positions before have recognised."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class RecognisedLayer(DynamicLayer):
    """
    What each position has recognised, (B, 1, T, k) twice, as one more layer of a model's cache: it is cut, repeated and
    reordered with the others, as beams are.
    """


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

    def carry(self, r: Tensor, slots: Tensor, layers: int) -> tuple[Tensor, Tensor] | None:
        """
        What earlier positions have recognised, each (B, T', k); that of these is kept in the cache for later ones.

        Args:
            layers: of the model.
        """
        if self.cache is None:
            return None
        layer = self._layer(layers)
        past = layer.get_seq_length()
        before = None
        if past:
            k = min(layer.keys.shape[-1], r.shape[-1])
            before = layer.keys[:, 0, :, :k].to(r), layer.values[:, 0, :, :k].long().to(slots.device)
        layer.update(r.detach().unsqueeze(1), slots.to(r.dtype).unsqueeze(1))
        return before

    def _layer(self, layers: int) -> RecognisedLayer:
        own = [layer for layer in self.cache.layers if isinstance(layer, RecognisedLayer)]
        if own:
            return own[0]
        make = self.cache.layer_class_to_replicate
        while make is not None and len(self.cache.layers) < layers:
            self.cache.layers.append(make())
        self.cache.layers.append(RecognisedLayer())
        return self.cache.layers[-1]
