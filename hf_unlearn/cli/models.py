"""The model that the flags describe."""

from __future__ import annotations

from .arguments import DataArguments, ModelArguments
from .parsing import fail, problems_in
from .preparing import Prepared


def check_model(model: ModelArguments) -> None:
    """
    Raises:
        ArgumentError: with all that can be said of the model's flags without it.
    """
    from . import building

    problems = []
    if bool(model.model_name_or_path) == bool(model.model_type):
        problems.append("Give either --model_name_or_path, or --model_type for a new model.")
    elif model.model_type:
        try:
            building.model_settings(model.model_type, model.config_overrides)
        except ValueError as error:
            problems += problems_in(error)
    if model.lora_r < 0:
        problems.append(f"`--lora_r` is {model.lora_r}; it must be 0 (all weights) or a rank.")
    fail(problems)


def new_model(data: DataArguments, model: ModelArguments, prepared: Prepared, seed: int):
    """The named model, or a new one from a config; what is drawn of it is the same for the same seed."""
    import torch

    from . import building

    if model.model_name_or_path:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of a head that is drawn
            return building.load_model(data.task, model.model_name_or_path, prepared.labels)
    return building.build_model(
        data.task,
        model.model_type,
        model.config_overrides,
        prepared.processing_class,
        prepared.labels,
        prepared.image_size,
        prepared.num_channels,
        seed,
    )


def adapter(data: DataArguments, model: ModelArguments):
    """The `LoraConfig` that the flags describe, or None."""
    if not model.lora_r:
        return None
    from peft import LoraConfig

    modules = model.lora_target_modules
    kinds = {"causal_lm": "CAUSAL_LM", "sequence_classification": "SEQ_CLS"}  # others have no type of their own
    return LoraConfig(
        r=model.lora_r,
        lora_alpha=model.lora_alpha,
        target_modules=modules if modules == "all-linear" else modules.split(","),
        task_type=kinds.get(data.task),
    )
