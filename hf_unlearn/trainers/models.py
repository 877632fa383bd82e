"""Which models are taken in, and what their loss of guessing is; how one is loaded by name is in loading.py."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..data.columns import LABELS
from ..data.given import collating_problems
from ..data.limits import MULTI_LABEL
from ..data.row_digests import random_state_kept
from ..evaluation import evaluating
from ..evaluation.forward import signature_of
from ..evaluation.model_checks import is_one_of
from ..evaluation.model_checks import model_problems as unmeasurable
from ..readiness.packed_weights import is_packed
from ..utils import manifest
from ..utils.architectures import PIPELINE_TAGS
from ..utils.checks import shown
from .engines import class_name, wrapper_problem

CAUSAL_LM = PIPELINE_TAGS["text-generation"]
DEFAULT_ADAPTER = "default"  # what PEFT saves at the top of a folder, and loads from there
CLASSIFIERS = [mapping for mapping in PIPELINE_TAGS.values() if mapping != CAUSAL_LM]


def base_model(model):
    """The model itself, without adapters and wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def name_of(model) -> str | None:
    """Where a model is from: what was passed for it, or what its config says; None of a file, which is refused."""
    if isinstance(model, (str, os.PathLike)):
        name = os.path.expanduser(model)
        return None if os.path.isfile(name) else name
    return getattr(getattr(model, "config", None), "_name_or_path", None)


def is_causal_lm(model) -> bool:
    """Also of a class derived from one that Transformers knows; one that it does not know must generate text."""
    base = base_model(model)
    if is_one_of(base, CAUSAL_LM) or is_one_of(base, *CLASSIFIERS):
        return is_one_of(base, CAUSAL_LM)
    return bool(getattr(base, "can_generate", bool)()) and not getattr(base.config, "is_encoder_decoder", False)


def chance_loss(model) -> float:
    """
    Loss of guessing in nats: the log of the number of classes, or of the vocabulary's size; of several labels a row
    log 2, since each is there or not. (Who knows how rare labels are guesses better than that.)
    """
    config = base_model(model).config
    if is_causal_lm(model):
        return math.log(config.get_text_config().vocab_size)
    if getattr(config, "problem_type", None) == MULTI_LABEL:
        return math.log(2)
    return math.log(config.num_labels)


def settle_problem_type(model, rows) -> None:
    """
    Writes into the config of a classifier what the rows say where it says nothing: that a row has several labels.
    Transformers does the same at the first loss; here it must be known before, and stand in what is saved.
    """
    config = base_model(model).config
    if getattr(config, "problem_type", None) is not None or is_causal_lm(model):
        return
    with random_state_kept():
        row = rows[0]
    labels = next((row[name] for name in LABELS if name in row), None) if isinstance(row, Mapping) else None
    if np.ndim(labels) == 1 and np.asarray(labels).dtype.kind == "f":
        config.problem_type = MULTI_LABEL


# ---- what a trainer does not take -----------------------------------------------------------------------------------


def argument_problems(model: Any, peft_config: Any, others: Mapping[str, Any]) -> list[str]:
    """
    What is wrong with a trainer's arguments before the model is looked at.

    Args:
        others: its further keyword arguments.
    """
    problems = []
    if others.get("model_init") is not None:
        problems.append(
            "`model_init` makes another model at each call of `train`, for searches. Leave it out, and pass `model`."
        )
    if "train_dataset" in others:  # of the trainer that has an argument of this name, it is none of the others
        problems.append(
            "`train_dataset` was passed, but a request has three sets of rows: `forget_dataset`, `retain_dataset` and "
            "`unseen_dataset`."
        )
    if model is None:
        problems.append("`model` is None; pass a model, or the name or path of one.")
    elif not isinstance(model, (str, os.PathLike)) and not isinstance(model, torch.nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else shown(model)
        problems.append(f"`model` is {got}; it must be a model, or the name or path of one.")
    elif not isinstance(model, torch.nn.Module) and _is_no_folder(os.path.expanduser(model)):
        problems.append(f"`model` is {os.fspath(model)!r}, but there is no such folder (looked in {os.getcwd()!r}).")
    elif not isinstance(model, torch.nn.Module) and os.path.isfile(os.path.expanduser(model)):
        folder = os.path.dirname(os.fspath(model)) or "."
        problems.append(f"`model` is {os.fspath(model)!r}, a file; give its folder: {folder!r}.")
    elif not isinstance(model, torch.nn.Module) and _is_empty_folder(os.path.expanduser(model)):
        said = "that folder holds no config.json: expected what `save_pretrained` writes"
        problems.append(f"`model` is {os.fspath(model)!r}, but {said}.")
    elif not isinstance(model, torch.nn.Module):
        problems += manifest.damage(os.path.expanduser(model), manifest.SMALL)  # of the others when they are loaded
    problems += _kind_problems(others)
    if peft_config is not None and (isinstance(peft_config, type) or not hasattr(peft_config, "peft_type")):
        problems.append(f"`peft_config` is {shown(peft_config)}; it must be a config of peft, such as `LoraConfig(…)`.")
    return problems


def _kind_problems(others: Mapping[str, Any]) -> list[str]:
    """Arguments of another kind than `transformers.Trainer` takes, on which it would stumble later."""
    problems = collating_problems(others.get("data_collator"), others.get("processing_class"))
    if isinstance(rows := others.get("eval_dataset"), (str, os.PathLike)):
        problems.append(f"`eval_dataset` is {shown(rows)}; pass the rows themselves, or a dict of such sets.")
    if not isinstance(others.get("callbacks") or [], list):
        problems.append(f"`callbacks` is {shown(others['callbacks'])}; it must be a list of callbacks.")
    pair = others.get("optimizers")
    if pair is not None and not (isinstance(pair, (list, tuple)) and len(pair) == 2):
        said = "it must be a pair, `(optimizer, schedule)` or `(optimizer, None)`."
        problems.append(f"`optimizers` is of type {type(pair).__name__}; {said}")
    return problems


def _is_no_folder(name: str) -> bool:
    """Whether a name is that of a folder that is not there: it can be no hub id, which is `owner/name`."""
    return not os.path.exists(name) and (name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name)


def _is_empty_folder(name: str) -> bool:
    files = ("config.json", "adapter_config.json")
    return os.path.isdir(name) and not any(os.path.isfile(os.path.join(name, file)) for file in files)


def config_problems(args: Any, wanted: type) -> list[str]:
    """Whether a trainer got its own config."""
    if isinstance(args, wanted):
        return args.problems()
    article = "an" if wanted.__name__[0] in "AEIOU" else "a"
    return [
        f"`args` is {shown(args) if isinstance(args, (str, dict)) else f'of type {type(args).__name__}'}; this trainer "
        f"needs {article} `{wanted.__name__}`, which takes all arguments of `TrainingArguments`."
    ]


def model_problems(model) -> list[str]:
    """What is wrong with a model itself, before an adapter is put on it."""
    if problem := wrapper_problem(model):
        return [problem]
    base = base_model(model)
    if not hasattr(base, "config"):
        return [f"`model` ({class_name(base)}) has no `config`; it must be a model of Transformers, or made like one."]
    problems = [f"`model` {problem}" for problem in unmeasurable(model)] + _saved_below(model)
    if signature_of(base)[1] is None:
        problems.append(
            f"`model` ({class_name(base)}) does not name what its forward takes, so columns of the rows cannot be "
            "matched with it. Name them: `forward(self, input_ids, attention_mask=None, labels=None)`, say."
        )
    elif not problems and "labels" not in signature_of(base)[1] and _is_of_transformers(base):
        problems.append(
            f"`model` ({class_name(base)}) takes no `labels` and returns no loss: it serves for inference. Load the "
            "class that is trained in its place, such as `DeiTForImageClassification` for `…WithTeacher`."
        )
    kind = getattr(base.config, "problem_type", None)
    if kind == "regression":
        problems.append(
            "`problem_type` is 'regression'; classifiers of one class or of several labels a row have a loss of "
            "guessing."
        )
    elif is_one_of(base, *CLASSIFIERS) and base.config.num_labels == 1 and kind != MULTI_LABEL:
        problems.append(
            "`num_labels` of the model's config is 1, which is a regression; only a classification, of two classes or "
            "more, has a loss of guessing."
        )
    return problems


def _saved_below(model) -> list[str]:
    """Adapters that are trained and that PEFT would not save at the top of the model's folder, where it loads from."""
    if not hasattr(model, "get_base_model"):
        return []  # of the adapters that Transformers puts on a model it saves the active one
    if not (below := [name for name in getattr(model, "active_adapters", []) if name != DEFAULT_ADAPTER]):
        return []
    return [
        f"The model trains its adapter {', '.join(map(repr, below))}, which PEFT saves in a folder below the model's; "
        f"whoever loads that folder gets {DEFAULT_ADAPTER!r} alone. Train an adapter of that name: make or load it "
        "without `adapter_name`, as `PeftModel.from_pretrained(base, its_folder, is_trainable=True)` does, or switch "
        f"to it by `model.set_adapter({DEFAULT_ADAPTER!r})`."
    ]


def frozen_problems(model) -> list[str]:
    """What is wrong with a model, with its adapter on it, none of whose weights a step could move."""
    layers = [module for module in model.modules() if hasattr(module, "merged") and hasattr(module, "active_adapters")]
    if any(module.merged is True for module in layers):
        return [
            "The model's adapter is merged into its weights, and a merged adapter does not learn. Take it apart with "
            "`model.unmerge_adapter()` to train it on."
        ]
    if is_packed(model) and not has_adapter(model):
        return [
            "The weights of the model are packed (quantised), and packed weights do not learn. Train an adapter on it "
            '(`peft_config=LoraConfig(r=16, target_modules="all-linear")`), or load it without quantisation.'
        ]
    if any(p.is_inference() for p in model.parameters()):
        return ["The model's weights were made in `torch.inference_mode()` and cannot learn. Load it outside of it."]
    if any(p.requires_grad for p in model.parameters()):
        return []
    if not has_adapter(model):
        return [
            "No weight of the model is trainable (`requires_grad` is False for all), as after `merge_and_unload()`. "
            "`model.requires_grad_(True)` trains it whole; `peft_config` trains an adapter on it."
        ]
    if any(getattr(module, "disable_adapters", False) is True for module in layers):
        return ["The model's adapter is switched off. Switch it on with `model.enable_adapter_layers()`."]
    return [
        "The model's adapter was loaded for inference, and none of its weights is trainable. Load it with "
        "`PeftModel.from_pretrained(base, name, is_trainable=True)`; a new one needs a config whose `inference_mode` "
        "is False."
    ]


def keeps_the_form(model) -> bool:
    """Whether a model's forward is Transformers' own, of a class that returns a loss and logits as it promises."""
    base = base_model(model)
    return _is_of_transformers(base) and is_one_of(base, CAUSAL_LM, *CLASSIFIERS)


def _is_of_transformers(base) -> bool:
    return type(base).forward.__module__.partition(".")[0] == "transformers"


def output_problems(model, batch: Mapping[str, Any]) -> list[str]:
    """
    What is wrong with what a model's forward returns, by a pass in eval mode without gradients.

    Args:
        batch: collated, on the model's device.
    """
    with torch.random.fork_rng(), evaluating(model), torch.no_grad():
        output = model(**batch)
    name, logits = class_name(base_model(model)), getattr(output, "logits", None)
    if logits is None:
        return [
            f"`model` ({name}) returns a {type(output).__name__} without `logits`. Let its forward return a "
            "`ModelOutput` with `loss` and `logits`, as the models of Transformers do."
        ]
    if logits.dim() not in (2, 3):
        shape = "(rows, positions, vocabulary) or (rows, classes)"
        return [f"`model` ({name}) returns logits of {logits.dim()} dimension(s); they must be {shape}."]
    return []


# ---- adapters --------------------------------------------------------------------------------------------------------


def has_adapter(model) -> bool:
    """Whether a PEFT adapter is on the model; of a merged one its config may be left."""
    if not hasattr(model, "peft_config"):
        return False
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())


def has_trained_adapter(model) -> bool:
    """
    Whether an adapter is on the model that has learnt: a new one changes nothing, by weights that are all zero (LoRA)
    or all one (IA3). Learnt prompts are not known by that.
    """
    if isinstance(model, (str, os.PathLike)) or not has_adapter(model):
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    parts = [getattr(layer, name) for layer in layers for name in layer.adapter_layer_names if hasattr(layer, name)]
    weights = [weight for part in parts if hasattr(part, "parameters") for weight in part.parameters()]
    return bool(weights) and not any((weight == weight.flatten()[:1]).all() for weight in weights)
