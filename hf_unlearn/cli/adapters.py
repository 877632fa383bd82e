"""The adapter that the flags describe, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..utils.checks import Wrong, whole
from .arguments import DataArguments, ModelArguments
from .loading import is_adapter_folder

ALL_LINEAR = "all-linear"
OF_PATTERNS = set("\\^$*+?()[]{}|")  # what no name of a module has
ONLY_WITH_RANK = ("lora_alpha", "lora_dropout", "lora_target_modules", "lora_modules_to_save", "use_rslora", "use_dora")
KINDS = {"causal_lm": "CAUSAL_LM", "sequence_classification": "SEQ_CLS"}  # others have no type of their own


def adapter(data: DataArguments, model: ModelArguments, new: Iterable[str] = (), revision: str | None = None):
    """
    The `LoraConfig` that the flags describe, or None.

    Args:
        new: modules of the model with weights that no file holds: they are trained whole, and saved with the adapter.
        revision: commit of the base, which whoever loads the adapter then gets.
    """
    if not model.lora_r:
        return None
    from peft import LoraConfig

    whole_ones = list(dict.fromkeys([*names_of(model.lora_modules_to_save), *new]))
    return LoraConfig(
        r=model.lora_r,
        lora_alpha=model.lora_alpha,
        lora_dropout=model.lora_dropout,
        target_modules=target_modules(model.lora_target_modules),
        modules_to_save=whole_ones or None,
        use_rslora=model.use_rslora,
        use_dora=model.use_dora,
        task_type=KINDS.get(data.task),
        revision=revision,
    )


def target_modules(words: str) -> str | list[str]:
    """`all-linear` and patterns as they are, names as a list."""
    return words if words == ALL_LINEAR or is_pattern(words) else names_of(words)


def is_pattern(words: str) -> bool:
    return bool(OF_PATTERNS & set(words))


def broken(pattern: str) -> str | None:
    """Why a pattern cannot be read."""
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def names_of(words: str | None) -> list[str]:
    """Names that are separated by commas."""
    return [name.strip() for name in (words or "").split(",") if name.strip()]


def adapter_problems(model: ModelArguments, is_trained: bool = True) -> list[str]:
    """
    What is wrong with the adapter's flags, without the model.

    Args:
        is_trained: the model is trained by this verb, so that two adapters would be one too many.
    """
    problems = list(whole("lora_r", model.lora_r, low=0))
    if not model.lora_r:
        return problems + [
            Wrong(name, "is set but `lora_r` is 0, so no adapter is trained. Set `lora_r`, e.g. to 16.")
            for name in ONLY_WITH_RANK
            if name in model.changed()
        ]
    if not target_modules(model.lora_target_modules):
        problems.append(Wrong("lora_target_modules", f"is empty. Name modules, or {ALL_LINEAR}."))
    elif is_pattern(model.lora_target_modules) and (why := broken(model.lora_target_modules)):
        said = f"is {model.lora_target_modules!r}, which is no pattern: {why}."
        problems.append(Wrong("lora_target_modules", said))
    if is_trained and is_adapter_folder(model.model_name_or_path):
        problems.append(two_adapters(model.lora_r, model.model_name_or_path))
    return problems


def two_adapters(rank: int, where: str | Path) -> Wrong:
    """The problem of a new adapter on a model that has one."""
    said = (
        f"is {rank}, but {where} is an adapter already, and one on top of another is not trained here. Leave it out to "
        "go on with that adapter; or merge it first (`model.merge_and_unload().save_pretrained(…)`)."
    )
    return Wrong("lora_r", said)


def module_problems(model: ModelArguments, bare) -> list[str]:
    """
    Modules that the flags name and the model does not have.

    Args:
        bare: the model, without numbers maybe.
    """
    names = [name for name, _ in bare.named_modules()]
    lasts = sorted({name.rpartition(".")[2] for name, one in bare.named_modules() if hasattr(one, "weight")})
    has = f"{type(bare).__name__} has {', '.join(name for name in lasts if not name.isdigit())}."
    problems = []
    words = model.lora_target_modules
    if model.lora_r and words != ALL_LINEAR and not (is_pattern(words) and broken(words)):  # that is told without it
        wanted = [words] if is_pattern(words) else names_of(words)
        lacking = [one for one in wanted if not _matches(one, names, is_pattern(words))]
        if lacking:
            said = f"is {words!r}, and no module of the model is {', '.join(lacking)}; {has}"
            problems.append(Wrong("lora_target_modules", said))
    whole_ones = names_of(model.lora_modules_to_save) if model.lora_r else []
    if lacking := [one for one in whole_ones if not _matches(one, names, False)]:
        said = f"is {model.lora_modules_to_save!r}, and no module of the model is {', '.join(lacking)}; {has}"
        problems.append(Wrong("lora_modules_to_save", said))
    return problems


def _matches(wanted: str, names: list[str], is_a_pattern: bool) -> bool:
    """Whether a module is meant, as PEFT reads names: a whole name, or the end of one after a dot."""
    if is_a_pattern:
        return any(re.fullmatch(wanted, name) for name in names)
    return any(name == wanted or name.endswith(f".{wanted}") for name in names)
