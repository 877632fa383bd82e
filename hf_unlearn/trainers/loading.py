"""
A model by name: a folder or a hub id, of a whole model or of an adapter, which is loaded with its base.

How a base was loaded cannot be told from an adapter's files, and the same adapter on a base of another type or packed
otherwise is another model. The records (readiness.json, unlearning.json) beside an adapter say it under `base`:

    dtype                  of its weights, such as "float32"
    quantization_config    how it was packed on loading, as `from_pretrained` takes it
    pad_token_id,          that its config was given: of a classifier that reads from left to right, and of one of
    problem_type           several labels a row
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, set_seed

from ..readiness.packed_weights import is_packed
from ..utils.adapter_configs import adapter_config_at
from ..utils.files import read_json
from . import records
from .engines import this_device

THEIR_CODE = "transformers_modules"  # package into which Transformers puts the code of checkpoints
BASE = "base"  # key of the records
OF_ITS_CONFIG = ("pad_token_id", "problem_type")
OF_CONFIGS = ("revision", "trust_remote_code")  # of a model's arguments, those that its config and tokenizer take, too


def of_config(init: Mapping[str, Any]) -> dict[str, Any]:
    """
    Those of a model's arguments that its config and tokenizer take, too. Code of a checkpoint's own is run where that
    was said, and nobody is asked.
    """
    return {"trust_remote_code": False} | {name: init[name] for name in OF_CONFIGS if init.get(name) is not None}


def load_model(name_or_path: str, **init: Any) -> PreTrainedModel:
    """
    A model of the class that its config names, from a hub id or a folder; of a folder with an adapter, the base model
    with the adapter on it, trainable. Learnt prompts are trained on as they are: PEFT saves no network that made them.

    Args:
        init: of `from_pretrained`: `dtype`, `revision`, `attn_implementation`, `trust_remote_code`,
            `quantization_config` (also a dict), …. Below an adapter they are the base's, with what the record beside
            the adapter says in the place of what is not given; `revision` is that of the adapter, whose config has the
            base's.

    Raises:
        ValueError: if its config names no class, its files lack weights of it, or it needs code of its own and
            `trust_remote_code` is not given.
    """
    from transformers import AutoConfig

    if is_adapter(name_or_path, init.get("revision")):
        return _with_its_base(name_or_path, init)
    config = AutoConfig.from_pretrained(name_or_path, **of_config(init))
    if not config.architectures:
        raise ValueError(f"The config of {name_or_path!r} names no architecture; load the model and pass it itself.")
    model, found = class_by(config.architectures[0], config).from_pretrained(
        name_or_path, output_loading_info=True, **taken(init)
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"The files of {name_or_path!r} lack {len(missing)} weight(s) of a {config.architectures[0]}, such as "
            f"{', '.join(missing[:3])}: they would be drawn anew. Save the whole model there, or train it first."
        )
    return model


def in_bfloat16(model):
    """
    The model, whose forward passes compute in bfloat16 from now on and return float32, as the Trainer's do with
    `bf16`. Its weights stay what they are. So it is under an adapter and in `generate`, too.
    """
    import torch
    from accelerate.utils import convert_outputs_to_fp32

    from ..evaluation.forward import signature_of

    inner, _ = signature_of(model)
    device = next(inner.parameters()).device.type
    inner.forward = convert_outputs_to_fp32(torch.autocast(device, dtype=torch.bfloat16)(inner.forward))
    return model


def taken(init: Mapping[str, Any]) -> dict[str, Any]:
    """
    A model's arguments as `from_pretrained` takes them: a packed model is put on this process's device, since it can be
    moved to no other one.
    """
    found = {**init, **of_config(init)}
    if (how := found.get("quantization_config")) is not None:
        if isinstance(how, Mapping):
            from transformers.quantizers import AutoQuantizationConfig

            found["quantization_config"] = AutoQuantizationConfig.from_dict(dict(how))
        found.setdefault("device_map", {"": this_device()})
    return found


def class_by(architecture: str, config):
    """What loads a model of this class: the class in Transformers, or the auto class for which the config has code."""
    import transformers

    own = getattr(config, "auto_map", None) or {}
    auto = next((name for name, path in own.items() if path.rpartition(".")[2] == architecture), None)
    found = getattr(transformers, auto or architecture, None)
    if found is None:
        raise ValueError(
            f"The config names a {architecture}, which is not in this version of transformers. Load the model and pass "
            "it itself."
        )
    return found


def is_adapter(name_or_path: str, revision: str | None = None) -> bool:
    """Whether a folder or hub id is of an adapter."""
    from transformers.utils import find_adapter_config_file

    return find_adapter_config_file(name_or_path, revision=revision) is not None


def _with_its_base(name_or_path: str, init: Mapping[str, Any]):
    from peft import PeftModel

    revision = init.get("revision")
    config = adapter_config_at(name_or_path, revision)
    prompts = config.is_prompt_learning  # which PEFT loads for inference alone
    base = _base_of_adapter(name_or_path, config, {**recorded_base(name_or_path), **init})
    model = PeftModel.from_pretrained(base, name_or_path, is_trainable=not prompts, revision=revision)
    if prompts:
        model.prompt_encoder.requires_grad_(True)
    return model


def _base_of_adapter(name_or_path: str, config, init: Mapping[str, Any]) -> PreTrainedModel:
    """The model below an adapter. Where the adapter brings a head of its own, the base gets one of that size."""
    import transformers
    from peft import load_peft_weights

    own, settled = init.get("revision"), {name: init.get(name) for name in OF_ITS_CONFIG}
    init = {name: value for name, value in init.items() if name not in OF_ITS_CONFIG} | {"revision": config.revision}
    source = config.base_model_name_or_path
    kind = (config.auto_mapping or {}).get("base_model_class")
    if config.task_type == "SEQ_CLS":
        kind = "AutoModelForSequenceClassification"
    head = [
        len(weight)
        for name, weight in sorted(load_peft_weights(name_or_path, device="cpu", revision=own).items())
        if re.fullmatch(r"base_model\.model\.(classifier|score)\b.*weight", name) and "lora_" not in name
    ]
    if not kind or not head:
        base = load_model(source, **init)
    else:
        sizes = {"num_labels": head[-1], "ignore_mismatched_sizes": True}
        base = getattr(transformers, kind).from_pretrained(source, **sizes, **taken(init))
    for name, value in settled.items():
        if value is not None and getattr(base.config, name, None) is None:
            setattr(base.config, name, value)
    return base


def recorded_base(name_or_path: str) -> dict[str, Any]:
    """How the base of an adapter was loaded at its training, as the record beside it says; empty: none says it."""
    for name in (records.UNLEARNING, records.READINESS):
        try:
            path = records.find_file(name_or_path, name)
            found = read_json(path) if path else None
        except (ValueError, OSError):  # told where the record itself is read
            continue
        if isinstance(found, Mapping) and isinstance(base := found.get(BASE), Mapping):
            known = ("dtype", "quantization_config", *OF_ITS_CONFIG)
            return {key: base[key] for key in known if base.get(key) is not None}
    return {}


def base_record(model) -> dict:
    """Of a record: how the model below an adapter was loaded; empty where all weights are in the files beside it."""
    from .models import base_model, has_adapter

    if not has_adapter(model):
        return {}
    base = base_model(model)
    config = getattr(base, "config", None)
    frozen = [p for p in base.parameters() if not p.requires_grad and p.is_floating_point()]
    found: dict[str, Any] = {"dtype": str(frozen[0].dtype).removeprefix("torch.")} if frozen else {}
    if is_packed(base) and (how := getattr(config, "quantization_config", None)) is not None:
        found["quantization_config"] = how if isinstance(how, Mapping) else how.to_dict()
    found |= {name: value for name in OF_ITS_CONFIG if (value := getattr(config, name, None)) is not None}
    return {BASE: found}


def code_of(model) -> dict[str, str]:
    """
    Digest of the code that came with a checkpoint (`trust_remote_code`), which another commit may have otherwise;
    empty for models whose code is in transformers, or is the user's own.
    """
    from .models import base_model

    kinds = [kind for kind in type(base_model(model)).__mro__ if kind.__module__.startswith(THEIR_CODE)]
    if not kinds:
        return {}
    sources = {kind.__module__: inspect.getsource(sys.modules[kind.__module__]) for kind in kinds}
    return {"code": hashlib.sha256("".join(sources.values()).encode()).hexdigest()}


def packing_of(model) -> dict[str, Any]:
    """How the weights below an adapter were packed, by option: a product of them depends on its type, too."""
    from .models import base_model

    how = base_record(model).get(BASE, {}).get("quantization_config") or {}
    return {f"quantization_config.{name}": value for name, value in how.items()} if is_packed(base_model(model)) else {}


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
