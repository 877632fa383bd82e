"""What keeps a model from being measured, and hence from being trained here; told before any pass."""

from __future__ import annotations

from typing import Any

from ..utils.architectures import PIPELINE_TAGS, architectures, other_task
from .forward import signature_of
from .weights import listed

HEADLESS = "MODEL_MAPPING_NAMES"  # what `AutoModel` loads


def model_problems(model: Any) -> list[str]:
    """What is wrong with a model, each without its subject: "is a LlamaModel, which …"."""
    if not hasattr(model, "parameters") or isinstance(model, type):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"of type {type(model).__name__}"
        return [f"is {kind}; it must be a model."]
    inner, problems = signature_of(model)[0], []
    if is_one_of(inner, HEADLESS) and not is_one_of(inner, *PIPELINE_TAGS.values()):
        name = named_class(inner, HEADLESS)
        problems.append(
            f"is a {name}, which has no head and returns no logits. Load it with one: by `AutoModelForCausalLM`, or by "
            "`AutoModelForSequenceClassification` or its kin for images and audio, and not by `AutoModel`."
        )
    elif task := other_task(inner):
        problems.append(
            f"is a {type(inner).__name__}, a model for {task}; supported are causal language models and sequence, "
            "image and audio classifiers."
        )
    if getattr(getattr(inner, "config", None), "return_dict", True) is False:
        problems.append("returns tuples: `return_dict` of its config is False. Set it to True.")
    tensors = [*model.named_parameters(), *model.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        problems.append(
            f"has {len(empty)} weights without values (meta device): {listed(empty)}. Load the model whole: by "
            "`from_pretrained`, without a `device_map` that offloads."
        )
    return problems


def is_one_of(model, *mappings: str) -> bool:
    """Whether a model is of a class in one of these lists of Transformers, or derived from one."""
    return any(named_class(model, mapping) for mapping in mappings)


def named_class(model, mapping: str) -> str | None:
    """Name of the class in a list of Transformers that a model is of, or derived from; None: it is of none."""
    names = architectures(mapping)
    return next((kind.__name__ for kind in type(model).__mro__ if kind.__name__ in names), None)
