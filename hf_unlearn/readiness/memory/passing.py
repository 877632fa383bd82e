"""The forward at hand, as the memory must know it: where tokens are, and what the positions before have recognised."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class RecognisedLayer(DynamicLayer):
    """
    What each position has recognised, and its view, as one more layer of a model's cache: it is cut, repeated and
    reordered with the others, as beams are. Keys are (B, 1, T, k + width), values (B, 1, T, k).
    """

    owner: int  # number of the memory that it is of: there may be several


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

    _numbers = count()

    def __init__(self, causal: bool):
        self.causal, self.number = causal, next(self._numbers)
        self.mask: Tensor | None = None  # (B, T' + T), 1 where there is a token
        self.cache: Cache | None = None

    def listen(self, model) -> list:
        """Handles of the hooks by which it knows of a model's forwards."""
        before = model.register_forward_pre_hook(self.before_forward, with_kwargs=True)
        return [before, model.register_forward_hook(self.after_forward, always_call=True)]

    def before_forward(self, model, args, kwargs):
        """Hook of the model, before each of its forwards."""
        by_place = dict(zip(inspect.signature(model.forward).parameters, args, strict=False)) if args else {}
        given = {**by_place, **kwargs}
        mask, cache, uses = (given.get(name) for name in ("attention_mask", "past_key_values", "use_cache"))
        self.mask = mask if torch.is_tensor(mask) and mask.dim() == 2 else None
        uses = getattr(model.config, "use_cache", False) if uses is None else uses
        if cache is None and uses and self.causal and not model.training and "past_key_values" not in by_place:
            cache = kwargs["past_key_values"] = DynamicCache(config=model.config)
        self.cache = cache if isinstance(cache, Cache) else None
        return args, kwargs

    def after_forward(self, model, *_):
        """
        Hook of the model, after each of its forwards: modules of its own that are called by themselves know no mask.
        In training it stays, since checkpointed layers run again in the backward pass.
        """
        if not model.training:
            self.mask = self.cache = None

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
        return next((layer for layer in layers if self._is_own(layer)), None)

    def _is_own(self, layer) -> bool:
        return isinstance(layer, RecognisedLayer) and layer.owner == self.number

    def _layer(self, layers: int) -> RecognisedLayer:
        if (own := self._own()) is not None:
            return own
        make = self.cache.layer_class_to_replicate
        while make is not None and len(self.cache.layers) < layers:
            self.cache.layers.append(make())
        own = RecognisedLayer()
        own.owner = self.number
        self.cache.layers.append(own)
        return own
