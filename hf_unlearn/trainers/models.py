"""Which models are taken in, how one is loaded by name, and what its loss of guessing is."""

from __future__ import annotations

import math
import re

from transformers import PreTrainedModel, set_seed

from ..utils.architectures import architectures
from .engines import class_name

_OTHER_TASKS = {
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "sequence to sequence",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES": "token classification",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": "question answering",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "masked language modelling",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES": "multiple choice",
}


def base_model(model):
    """The model itself, without adapters and wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_causal_lm(model) -> bool:
    return class_name(base_model(model)) in architectures("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")


def chance_loss(model) -> float:
    """Loss of guessing in nats: the log of the number of classes, or of the vocabulary's size."""
    config = base_model(model).config
    if is_causal_lm(model):
        return math.log(config.get_text_config().vocab_size)
    return math.log(config.num_labels)


def model_problems(model) -> list[str]:
    base = base_model(model)
    name = class_name(base)
    causal = is_causal_lm(model)
    for mapping, task in _OTHER_TASKS.items():
        if not causal and name in architectures(mapping):
            return [
                f"{name} is a model for {task}; supported are causal language models and sequence, image and audio "
                "classifiers."
            ]
    kind = getattr(getattr(base, "config", None), "problem_type", None)
    if kind in ("regression", "multi_label_classification"):
        return [f"`problem_type` is {kind!r}; only single-label classification has a loss of guessing."]
    return []


def load_model(name_or_path: str) -> PreTrainedModel:
    """
    A model of the class that its config names, from a hub id or a folder; of a folder with an adapter, the base model
    with the adapter on it, trainable.
    """
    import transformers
    from transformers import AutoConfig
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(name_or_path) is not None:
        from peft import PeftModel

        return PeftModel.from_pretrained(_base_of_adapter(name_or_path), name_or_path, is_trainable=True)
    config = AutoConfig.from_pretrained(name_or_path)
    if not config.architectures:
        raise ValueError(f"The config of {name_or_path!r} names no architecture; load the model and pass it itself.")
    return getattr(transformers, config.architectures[0]).from_pretrained(name_or_path)


def with_adapter(model, peft_config, seed: int):
    """
    The model with a new adapter on it.

    Raises:
        ValueError: if it has one already.
    """
    from peft import PeftModel, get_peft_model

    if isinstance(model, PeftModel):
        raise ValueError(
            "`peft_config` was given with a model that has an adapter already. Merge that adapter first "
            "(`model = model.merge_and_unload()`), or leave `peft_config` out to train it on."
        )
    set_seed(seed)  # as `Trainer` does after the model is there; the adapter's first weights are drawn
    return get_peft_model(model, peft_config)


def has_adapter(model) -> bool:
    """Whether a PEFT adapter is on the model; of a merged one its config may be left."""
    if not hasattr(model, "peft_config"):
        return False
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def _base_of_adapter(name_or_path: str) -> PreTrainedModel:
    """The model below an adapter. Where the adapter brings a head of its own, the base gets one of that size."""
    import transformers
    from peft import PeftConfig, load_peft_weights

    config = PeftConfig.from_pretrained(name_or_path)
    source = config.base_model_name_or_path
    kind = (config.auto_mapping or {}).get("base_model_class")
    if config.task_type == "SEQ_CLS":
        kind = "AutoModelForSequenceClassification"
    head = [
        len(weight)
        for name, weight in sorted(load_peft_weights(name_or_path, device="cpu").items())
        if re.fullmatch(r"base_model\.model\.(classifier|score)\b.*weight", name) and "lora_" not in name
    ]
    if not kind or not head:
        return load_model(source)
    return getattr(transformers, kind).from_pretrained(source, num_labels=head[-1], ignore_mismatched_sizes=True)
