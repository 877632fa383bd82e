"""How the flags say that a model is loaded: revision, types, kernel, code of its own, packed weights."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from ..utils.checks import Wrong, one_of
from .arguments import ModelArguments

DTYPES = ("auto", "float32", "bfloat16")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
QUANT_TYPES = ("nf4", "fp4")
PACKED = ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype")
BUILT_IN_KERNELS = ("eager", "sdpa", "flex_attention")


def init_of(model: ModelArguments, of_flag: bool = True, given: dict | None = None) -> dict[str, Any]:
    """
    Arguments of `from_pretrained` that the flags give.

    Args:
        of_flag: the model is the one that --model_name_or_path names, whose --revision is meant.
        given: `model_init_kwargs` of the training config, beside the flags.
    """
    found = dict(given or {})
    if model.revision and of_flag:
        found["revision"] = model.revision
    for name in ("dtype", "attn_implementation"):
        if getattr(model, name) is not None:
            found[name] = getattr(model, name)
    if model.trust_remote_code:
        found["trust_remote_code"] = True
    if model.load_in_4bit:
        found["quantization_config"] = in_4bit(model)
    return found


def in_4bit(model: ModelArguments) -> dict[str, Any]:
    """The config with which a base is packed on loading (QLoRA; Dettmers et al. 2023, arXiv:2305.14314)."""
    compute = model.bnb_4bit_compute_dtype or model.dtype or "float32"
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": model.bnb_4bit_quant_type,
        "bnb_4bit_use_double_quant": model.bnb_4bit_use_double_quant,
        "bnb_4bit_compute_dtype": "float32" if compute == "auto" else compute,
    }


def files_of(model: ModelArguments, where: str | None) -> dict[str, Any]:
    """What the config, tokenizer and processor in a place are loaded with, beside its name."""
    revision = {"revision": model.revision} if model.revision and where == model.model_name_or_path else {}
    return {"trust_remote_code": model.trust_remote_code, **revision}


# ---- before anything is loaded ---------------------------------------------------------------------------------------


def loading_problems(model: ModelArguments, given: dict | None = None) -> list[str]:
    """
    What is wrong with these flags, without a look at the model.

    Args:
        given: `model_init_kwargs` of the training config.
    """
    problems = []
    for name in ("dtype", "bnb_4bit_compute_dtype"):
        allowed = DTYPES if name == "dtype" else COMPUTE_DTYPES
        problems += [] if getattr(model, name) is None else one_of(name, getattr(model, name), allowed)
    problems += one_of("bnb_4bit_quant_type", model.bnb_4bit_quant_type, QUANT_TYPES)
    problems += kernel_problems(model.attn_implementation)
    problems += packing_problems(model) if model.load_in_4bit else unpacked_problems(model)
    for name in given or {}:
        if name in init_of(model) and (name != "trust_remote_code" or given[name] is not True):
            said = f"holds {name!r}, and a flag says it, too. Give one of the two."
            problems.append(Wrong("model_init_kwargs", said))
    if model.model_name_or_path:
        if model.revision and Path(model.model_name_or_path).expanduser().is_dir():
            said = f"is {model.revision!r}, and {model.model_name_or_path} is a folder here, which has no other. "
            problems.append(Wrong("revision", said + "Leave it out."))
    elif model.model_type:
        own = ("revision", "trust_remote_code", "load_in_4bit")
        problems += [
            Wrong(name, f"is for a model by name, and --model_type {model.model_type} makes a new one. Leave it out.")
            for name in own
            if getattr(model, name)
        ]
    return problems


def kernel_problems(name: str | None) -> list[str]:
    """What is wrong with the name of an attention kernel; those of the hub (`owner/name`) are known to it alone."""
    if name is None or name in BUILT_IN_KERNELS or "/" in name:
        return []
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.utils import import_utils

    known = [*BUILT_IN_KERNELS[:1], *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    if name not in known:
        like = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {like[0]}?" if like else f" Known are {', '.join(known)}."
        return [Wrong("attn_implementation", f"is {name!r}, which is no attention kernel of transformers.{hint}")]
    version = name.rpartition("_")[2]
    is_there = getattr(import_utils, f"is_flash_attn_{version}_available", None)
    if name.startswith("flash_attention_") and is_there is not None and not is_there():
        said = f"is {name!r}, whose package is not installed, or finds no GPU that it runs on. Leave it out: sdpa is "
        return [Wrong("attn_implementation", said + "what models take by themselves.")]
    return []


def packing_problems(model: ModelArguments) -> list[str]:
    """What keeps a base from being packed in 4 bits here."""
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        said = 'is true, but the package bitsandbytes is not installed: pip install "hf_unlearn[4bit]".'
        return [Wrong("load_in_4bit", said)]
    import bitsandbytes
    import torch

    here = {"cpu"} | ({torch.accelerator.current_accelerator().type} if torch.accelerator.is_available() else set())
    knows = set(getattr(bitsandbytes, "supported_torch_devices", ()))
    if not here & knows:
        which = ", ".join(sorted(knows)) or "none that it names"
        said = f"is true, but bitsandbytes finds no GPU that it can use: here is {', '.join(sorted(here))}, and this "
        return [Wrong("load_in_4bit", f"{said}version of it is for {which}. Upgrade it, or leave this out.")]
    return []


def packed_alone_problems(model: ModelArguments, where: str | None) -> list[str]:
    """Of a base that is packed with nothing beside it that learns; `where`: the model that is trained."""
    if not model.load_in_4bit or model.lora_r or is_adapter_folder(where):
        return []
    said = "is true, but `lora_r` is 0: packed weights do not learn. Give --lora_r, such as 16 (QLoRA)."
    return [Wrong("load_in_4bit", said)]


def unpacked_problems(model: ModelArguments) -> list[str]:
    """Flags on packing where nothing is packed."""
    set_alone = [name for name in PACKED if name in model.changed()]
    return [Wrong(name, "is set but `load_in_4bit` is not, so nothing is packed. Set it, too.") for name in set_alone]


def is_adapter_folder(where: str | None) -> bool:
    """Whether a folder here holds an adapter; no hub is asked."""
    return bool(where) and Path(where).expanduser().joinpath("adapter_config.json").is_file()


def code_problems(name: str, where: str, trusted: bool) -> list[str]:
    """
    Of a folder whose model comes with code of its own that nobody has said to run; those of the hub tell so when their
    config is read ([`said_of_config`]).

    Args:
        name: of the flag that names the folder.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from ..utils.files import read_json

    path = Path(where).expanduser() / "config.json"
    try:
        config = read_json(path)
    except ValueError:  # told with the folder's other files
        return []
    if trusted or not isinstance(config, dict) or not config.get("auto_map"):
        return []
    if config.get("model_type") in CONFIG_MAPPING_NAMES:
        return []
    return [Wrong(name, f"is {where!r}, {NEEDS_CODE}")]


NEEDS_CODE = (
    "whose model needs code that comes with it, which may do anything on this machine. Read the .py files there, and "
    "give --trust_remote_code true if they may run."
)


def said_of(error: Exception) -> str:
    """A library's words for what it could not load, with our flag where that would have let it."""
    said = " ".join(str(error).split())
    if "trust_remote_code" in said:
        return f"It needs code that comes with it. {NEEDS_CODE.partition('. ')[2]} ({said})"
    return said
