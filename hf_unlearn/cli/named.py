"""A model by its name: what its config says of it before it is loaded, and its head where that is new."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.adapter_configs import adapter_config_at
from ..utils.checks import Wrong
from .adapters import module_problems
from .arguments import TASKS, DataArguments, ModelArguments
from .loading import NEEDS_CODE, init_of, is_adapter_folder, said_of

if TYPE_CHECKING:
    from .prepare import Prepared

logger = logging.getLogger(__name__)

MAPPINGS = {  # task -> names of the classes that do it
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "sequence_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image_classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio_classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
}


def auto_class(task: str):
    """The Auto class of Transformers for a task."""
    import transformers

    if task not in TASKS:
        raise ValueError(f"Unknown `task` {task!r}; choose one of {', '.join(TASKS)}.")
    return {
        "causal_lm": transformers.AutoModelForCausalLM,
        "sequence_classification": transformers.AutoModelForSequenceClassification,
        "image_classification": transformers.AutoModelForImageClassification,
        "audio_classification": transformers.AutoModelForAudioClassification,
    }[task]


def forms_of(task: str, model_type: str) -> set[str]:
    """Names of the classes of Transformers by which a type of model does a task; empty: it cannot."""
    from transformers.models.auto import modeling_auto

    found = getattr(modeling_auto, MAPPINGS[task]).get(model_type, ())
    return {found} if isinstance(found, str) else set(found)


def label_maps(labels) -> dict:
    """Of a config: class names by number, and back; `labels`: the names, or how many."""
    names = [f"LABEL_{i}" for i in range(labels)] if isinstance(labels, int) else list(labels)
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


# ---- before it is loaded ---------------------------------------------------------------------------------------------


def config_of(model: ModelArguments, given: dict | None = None):
    """`(the config of the named model, or of the base of the named adapter; whether it is an adapter)`."""
    from transformers import AutoConfig

    from ..trainers.loading import is_adapter, of_config

    where, init = os.path.expanduser(model.model_name_or_path), init_of(model, given=given)
    own = of_config(init)
    if adapted := is_adapter(where, init.get("revision")):
        found = adapter_config_at(where, init.get("revision"))
        where, own["revision"] = found.base_model_name_or_path, found.revision
    return AutoConfig.from_pretrained(where, **own), adapted


def bare_model(task: str, model: ModelArguments):
    """The named model, or the base of the named adapter, without numbers: to be called on the meta device."""
    config, _ = config_of(model)
    return auto_class(task).from_config(config, trust_remote_code=model.trust_remote_code)


def named_problems(data: DataArguments, model: ModelArguments, given: dict | None = None) -> list[str]:
    """What the config of the named model has against the flags, its own absence among it; a hub may be asked."""
    import torch

    if not model.model_name_or_path or data.task not in TASKS:
        return []
    name = model.model_name_or_path
    try:
        config, adapted = config_of(model, given)
    except Exception as error:  # each library and each config has its own
        return [Wrong("model_name_or_path", f"is {name!r}, and its config cannot be had: {said_of(error)}")]
    auto = auto_class(data.task)
    own_code = auto.__name__ in (getattr(config, "auto_map", None) or {})
    forms = forms_of(data.task, config.model_type)
    if not forms and not own_code:
        said = f"is {name!r}, a {config.model_type} model, which has no form for task {data.task}."
        return [Wrong("model_name_or_path", said)]
    trusted = init_of(model, given=given).get("trust_remote_code", False)
    if not forms and not trusted:
        return [Wrong("model_name_or_path", f"is {name!r}, {NEEDS_CODE}")]
    problems = []
    if adapted and model.lora_r and not is_adapter_folder(name):  # of a folder it is told without its config
        from .adapters import two_adapters

        problems.append(two_adapters(model.lora_r, name))
    if getattr(config, "quantization_config", None) is not None and not (adapted or model.lora_r):
        said = f"is {name!r}, whose weights are packed, and those do not learn. Give --lora_r, such as 16."
        problems.append(Wrong("model_name_or_path", said))
    if model.lora_r and {"lora_target_modules", "lora_modules_to_save"} & model.changed():
        try:
            with torch.device("meta"):
                bare = auto.from_config(config, trust_remote_code=trusted)
        except Exception:  # told where it is loaded, with what the library says
            return problems
        problems += module_problems(model, bare)
    return problems


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_named(task: str, name_or_path, prepared: Prepared, seed: int, **init) -> tuple:
    """
    `(the model, the modules of it whose weights are drawn, by name)`. Whole models are float32 unless `init` says
    otherwise; a folder of an adapter loads with its base, trainable.

    Args:
        task: "causal_lm", "sequence_classification", "image_classification" or "audio_classification".
        name_or_path: a folder written by `save_pretrained`, or a hub id.
        prepared: the rows, with their class names: where the checkpoint's head has another size, a new head is drawn;
            and their tokenizer, whose padding a classifier that reads from left to right must know.
        seed: of what is drawn. The global generator is left as it was.
        init: of `from_pretrained`.

    Raises:
        ValueError: unknown task; a model of another task; an adapter of another number of classes.
        FileNotFoundError: written as a path ("./x", "/x", "x/y/z") but no such folder.
    """
    import torch

    from ..trainers import loading

    auto, name = auto_class(task), os.path.expanduser(str(name_or_path))
    if not os.path.isdir(name) and (name.startswith((".", "/")) or name.count("/") > 1):
        raise FileNotFoundError(
            f"No model folder {name!r} (looked in {os.getcwd()!r}). Fix: give a folder written by `save_pretrained`, "
            "or a Hub id."
        )
    labels = None if task == "causal_lm" else prepared.labels
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if loading.is_adapter(name, init.get("revision")):
            init = {"dtype": "float32", **loading.recorded_base(name), **init}
            found, new = _of_task(task, loading.load_model(name, **init), name, labels), []
        else:
            init = {"dtype": "float32", **init}
            more = {} if labels is None else {**label_maps(labels), "ignore_mismatched_sizes": True}
            found, info = auto.from_pretrained(name, output_loading_info=True, **more, **loading.taken(init))
            new = drawn(found, info)
    if new and labels is None:
        raise ValueError(f"The files of {name!r} lack weights of {', '.join(new)}, which would be drawn anew.")
    if new:
        logger.warning(
            "%s of %s is new: its files have no such weights, or for another number of classes than %d. What is drawn "
            "goes by the seed, %d: ready, original and retrained begin with the same.",
            ", ".join(new), name, len(labels), seed,
        )  # fmt: skip
    if task == "sequence_classification":
        give_padding(found, prepared.processing_class)
    return found, new


def _of_task(task: str, found, name: str, labels):
    """An adapter's model, if it is of the task's form and has these classes."""
    base = found.get_base_model()
    forms = forms_of(task, base.config.model_type)
    own_code = auto_class(task).__name__ in (getattr(base.config, "auto_map", None) or {})
    if not forms & {kind.__name__ for kind in type(base).__mro__} and not own_code:
        raise ValueError(f"{name} is an adapter of a {type(base).__name__}, which is none for this task.")
    if labels is not None and base.config.num_labels != len(labels):
        raise ValueError(
            f"{name} is an adapter with a head of {base.config.num_labels} classes, and the rows have {len(labels)}: "
            f"{', '.join(map(str, labels[:5]))}, …. Merge it, and save it, to train a new head on it."
        )
    if labels is not None:
        base.config.update(label_maps(labels))
    return found


def drawn(model, info: dict) -> list[str]:
    """The modules with weights that loading has drawn: a whole head, or below the trunk the layer itself."""
    keys: Iterable = [*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]
    trunk = f"{model.base_model_prefix}."
    return sorted({key.rpartition(".")[0] if key.startswith(trunk) else key.partition(".")[0] for key in keys})


def give_padding(model, tokenizer) -> None:
    """
    A classifier that reads from left to right takes the last token that is no padding, so its config must know that.

    Raises:
        ValueError: if neither it nor the tokenizer has a pad token.
    """
    config = getattr(model, "config", None)
    if config is None or getattr(config, "pad_token_id", None) is not None:
        return
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        raise ValueError(
            "Neither the model's config nor its tokenizer has a pad token, without which rows of several lengths make "
            "no batch. Save a tokenizer that has one beside the model (`tokenizer.pad_token = tokenizer.eos_token`)."
        )
    config.pad_token_id = pad
    if hasattr(config, "get_text_config"):
        config.get_text_config().pad_token_id = pad


def commit_of(name_or_path: str | None, revision: str | None = None) -> str | None:
    """The commit of a hub id that its config was read at; None of a folder."""
    if not name_or_path or Path(name_or_path).expanduser().is_dir():
        return None
    from transformers.utils import cached_file

    path = cached_file(name_or_path, "config.json", revision=revision)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", Path(path).as_posix()) if path else None
    return found[1] if found else revision
