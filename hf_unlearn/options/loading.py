"""How a model that is given by name is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..utils.checks import Wrong, shown


@dataclass
class LoadingOptions:
    """What `transformers.Trainer` leaves to whoever loads the model."""

    model_init_kwargs: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Arguments of `from_pretrained` where the model is given by its name: dtype, revision, "
            "attn_implementation, trust_remote_code, quantization_config, …. The verbs have a flag for each."
        },
    )

    def loading_problems(self) -> list[Wrong]:
        """What is wrong with them."""
        given = self.model_init_kwargs
        if given is None:
            return []
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
            said = f"is {shown(given)}; it must be a dict of arguments of `from_pretrained` by name."
            return [Wrong("model_init_kwargs", said)]
        if not isinstance(given.get("trust_remote_code", False), bool):
            said = f"has `trust_remote_code` {shown(given['trust_remote_code'])}; it must be True or False."
            return [Wrong("model_init_kwargs", said)]
        return []
