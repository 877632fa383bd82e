"""The model of a run, from its config alone."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..utils.adapter_configs import adapter_config_at
from ..utils.checks import ArgumentError, Wrong, whole
from .run import MODEL_TASKS, Run


def build_model(run: Run, config, task: str, dtype, adapters_in_float32: bool):
    """
    The model on the meta device, with its adapter, as a trainer would get it.

    Raises:
        ArgumentError: if no model for the task can be made of the config.
    """
    import torch
    import transformers

    kinds = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForImageClassification")
    auto = getattr(transformers, kinds[MODEL_TASKS.index(task)])
    own_code = auto.__name__ in (getattr(config, "auto_map", None) or {})
    if type(config) not in auto._model_mapping and not own_code:  # the library would list some two hundred
        raise ArgumentError([Wrong("model_type", f"is {config.model_type!r}, which has no model for task {task}.")])
    if task == "sequence_classification" and config.pad_token_id is None:
        config.pad_token_id = 0
    with torch.device("meta"):
        try:
            code = {"trust_remote_code": run.trust_remote_code}
            model = auto.from_config(config, dtype=dtype, attn_implementation=run.attn_implementation, **code)
        except (TypeError, ValueError) as error:
            raise ArgumentError([f"No {task} model can be made of this config: {error}"]) from error
        if run.load_in_4bit:
            from .packed import pack_

            compute = getattr(torch, run.bnb_4bit_compute_dtype) if run.bnb_4bit_compute_dtype else dtype
            pack_(model, run.bnb_4bit_use_double_quant, compute)
        if run.peft:
            from peft import get_peft_model

            model = get_peft_model(model, adapter_config(run.peft, task), autocast_adapter_dtype=adapters_in_float32)
    if run.gradient_checkpointing:
        if hasattr(model, "activation_checkpointing_enable"):  # transformers 5.20 or so; the other name goes with 6
            model.activation_checkpointing_enable()
        else:
            model.gradient_checkpointing_enable()
    return model


def batches_of(run: Run, config, task: str) -> Callable[[int], dict]:
    """A function of n that makes n rows of zeros, of the sizes that the run names."""
    import torch

    def images(n: int) -> dict:
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        pixels = torch.zeros(n, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": pixels, "labels": torch.zeros(n, dtype=torch.int64)}

    def texts(n: int) -> dict:
        ids = torch.zeros(n, run.length, dtype=torch.int64)
        labels = torch.zeros_like(ids) if task == "causal_lm" else torch.zeros(n, dtype=torch.int64)
        padded = run.batch_size > 1 if run.padded is None else run.padded
        mask = {"attention_mask": torch.ones_like(ids)} if padded else {}
        return {"input_ids": ids, "labels": labels, **mask}

    return images if task == "image_classification" else texts


def task_of(config) -> str:
    """
    What the config's architecture is for, one of MODEL_TASKS.

    Raises:
        ArgumentError: if it names no architecture of these tasks.
    """
    from transformers.models.auto import modeling_auto

    names = ("MODEL_FOR_CAUSAL_LM", "MODEL_FOR_SEQUENCE_CLASSIFICATION", "MODEL_FOR_IMAGE_CLASSIFICATION")
    wanted = (getattr(config, "architectures", None) or [None])[0]
    for name, task in zip(names, MODEL_TASKS, strict=True):
        for value in getattr(modeling_auto, f"{name}_MAPPING_NAMES").values():
            if wanted in ([value] if isinstance(value, str) else value):
                return task
    raise ArgumentError([f"The config names {wanted or 'no architecture'}; say with `task` what it is for."])


def read_config(run: Run):
    """
    `(config, run)`: the config that the run names; of a folder with an adapter the base model's, the adapter in `peft`.

    Raises:
        ArgumentError: if none or two are named, or one cannot be read.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.utils import find_adapter_config_file

    if bool(run.model) == bool(run.model_type):
        raise ArgumentError(["Give either `model` (folder, hub id or config.json) or `model_type`."])
    try:
        if run.model_type:
            if run.model_type not in CONFIG_MAPPING_NAMES:
                near = difflib.get_close_matches(run.model_type, CONFIG_MAPPING_NAMES)
                hint = f" Did you mean {', '.join(near)}?" if near else ""
                raise ArgumentError([f"There is no `model_type` {run.model_type!r}.{hint}"])
            known = AutoConfig.for_model(run.model_type).to_dict()
            values = pairs_of(run.config_overrides)
            if unknown := sorted(set(values) - set(known) - {"num_labels"}):
                raise ArgumentError([f"A {run.model_type} config has no {', '.join(unknown)}."])
            return AutoConfig.for_model(run.model_type, **values), run
        source = os.fspath(run.model)
        if (source.endswith(".json") or source.startswith((".", "/", "~"))) and not Path(source).exists():
            raise ArgumentError([f"There is no file or folder {source!r}."])
        if Path(source).is_dir() and find_adapter_config_file(source) is not None:
            run = replace(run, peft=run.peft or source)
            own = adapter_config_at(source)
            source, run = own.base_model_name_or_path, replace(run, revision=own.revision)
        return AutoConfig.from_pretrained(source, revision=run.revision, trust_remote_code=run.trust_remote_code), run
    except ArgumentError:
        raise
    except Exception as error:  # whatever a config's own checks raise
        raise ArgumentError([f"The config of {str(source)!r} cannot be used: {first_line(error)}"]) from error


def first_line(error: Exception) -> str:
    """Of the error's text, or the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def pairs_of(text: str) -> dict:
    """ "r=16,target_modules=q_proj+v_proj" as a dict; values by JSON where they are JSON, `+` makes a list."""
    found = {}
    for pair in filter(None, re.split(r",(?![^\[({]*[\])}])", text)):  # none in brackets, as of a pattern
        name, equals, value = pair.partition("=")
        if not equals:
            raise ArgumentError([f"{pair!r} is not of the form name=value."])
        try:
            found[name] = json.loads(value)
        except ValueError:
            is_list = "+" in value and not set("\\*(|[") & set(value)  # and no pattern
            found[name] = value.split("+") if is_list else {"True": True, "False": False}.get(value, value)
    return found


def adapter_config(text: str, task: str):
    """The adapter's config from a folder, a hub id, a JSON file, or "lora:r=16,…" (all linear layers by default)."""
    from peft import LoraConfig, get_peft_config

    kinds = dict(zip(MODEL_TASKS, ("CAUSAL_LM", "SEQ_CLS", None), strict=True))
    try:
        if text.partition(":")[0] == "lora":
            values = {"target_modules": "all-linear", "task_type": kinds[task], **pairs_of(text[len("lora:") :])}
            for name in ("target_modules", "modules_to_save"):  # one name alone, which PEFT would take for a pattern
                if isinstance(value := values.get(name), str) and re.fullmatch(r"[\w.]+", value):
                    values[name] = [value]
            if wrong := whole("r", values.get("r", 8), low=1):
                raise ArgumentError(wrong)
            return LoraConfig(**values)
        if Path(text).is_file():
            config = get_peft_config(json.loads(Path(text).read_text()))
        else:
            config = adapter_config_at(text)
        config.inference_mode = False
        return config
    except (OSError, KeyError, TypeError, ValueError) as error:
        problem = " ".join(getattr(error, "problems", str(error).splitlines()[:1]))
        raise ArgumentError([f"`peft` is {text!r}: {problem} Give a folder, a JSON file, or lora:r=16."]) from error
