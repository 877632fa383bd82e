"""What a model asks of its rows: which arguments it takes, how many classes, tokens and positions it knows."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, replace
from typing import Any

from ..utils.adapter_configs import adapter_config_at

MULTI_LABEL = "multi_label_classification"  # `problem_type` of a config, as Transformers has it
SEVERAL = {MULTI_LABEL: True, "single_label_classification": False}


@dataclass(frozen=True)
class Limits:
    """
    What is known of a model before it runs; None: not known, or no limit.

    Args:
        arguments: names that its forward takes.
        causal_lm: True: one label a token; False: one class a row, or several.
        classes: of a classifier.
        several: of a classifier, whether a row has several labels, each of them there or not, or one class.
        tokens: rows of its table of input embeddings.
        label_tokens: tokens that it tells apart in its output.
        positions: tokens of a row at most, where the model has a table of positions. A model with rotary or relative
            positions has no such table and takes longer rows.
        position_ids: rows of that table that explicit `position_ids` may name; in RoBERTa and its kin more than
            `positions`, since their tokens begin behind the padding's row.
        types: kinds of tokens (`token_type_ids`) that it tells apart.
        pads: column of sounds whose rows may have unlike lengths, since the feature extractor pads them, and how many
            dimensions a row of it has; of the feature extractor, not of the model.
    """

    arguments: frozenset[str] | None = None
    causal_lm: bool | None = None
    classes: int | None = None
    several: bool | None = None
    tokens: int | None = None
    label_tokens: int | None = None
    positions: int | None = None
    position_ids: int | None = None
    types: int | None = None
    pads: tuple[str, int] | None = None

    def with_padding_of(self, processing_class: Any) -> Limits:
        """These limits, where the default collator makes batches with that processing class."""
        padder = sound_padder(processing_class)
        dimensions = 2 if getattr(padder, "feature_size", 1) > 1 else 1
        return replace(self, pads=None if padder is None else (padder.model_input_names[0], dimensions))

    @property
    def problems(self) -> list[str]:
        """What is wrong with the model itself, as far as its rows are concerned."""
        if self.classes != 1 or self.several:
            return []
        return [
            "The model has one output (`num_labels` is 1), which is regression; causal language models and "
            "classifiers with two classes or more can be unlearned and measured. Load it with `num_labels=2`; where a "
            "row has that one label or not, with `problem_type='multi_label_classification'`."
        ]


def sound_padder(processing_class: Any) -> Any:
    """The feature extractor of sounds that can pad rows: what was given, or what is in a processor; None: neither."""
    inside = getattr(processing_class, "feature_extractor", processing_class)
    return inside if hasattr(inside, "sampling_rate") and callable(getattr(inside, "pad", None)) else None


def bare_model(model: Any) -> Any:
    """The model itself, without adapters and wrappers."""
    while (inside := getattr(model, "_orig_mod", None) or getattr(model, "module", None)) is not None:
        model = inside  # `_orig_mod`: of `torch.compile`
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def limits_of(model: Any, revision: str | None = None, trust_remote_code: bool = False) -> Limits:
    """
    Of a model, or of a name or path by the config that lies there. Where nothing can be read there is no limit: loading
    the model tells why.

    Args:
        revision, trust_remote_code: of `AutoConfig.from_pretrained`, for a name.
    """
    if isinstance(model, (str, os.PathLike)):
        config, adapter = _config_at(str(model), revision, trust_remote_code)
        found = _of_config(config, (getattr(config, "architectures", None) or [""])[0]) if config else Limits()
        return replace(found, classes=None, several=None) if adapter else found  # it may bring a head of its own
    if not hasattr(model, "forward"):
        return Limits()
    bare = bare_model(model)
    config = getattr(bare, "config", None)
    found = _of_config(config, type(bare).__name__) if hasattr(config, "get_text_config") else Limits()
    inputs, outputs = input_embeddings(bare), _embeddings(bare, "get_output_embeddings")
    tokens = getattr(inputs, "num_embeddings", None)
    positions, position_ids = _positions(bare) if found.positions else (None, None)
    return Limits(
        arguments=_arguments(bare),
        causal_lm=found.causal_lm,
        classes=found.classes,
        several=found.several,
        tokens=tokens or (found.tokens if inputs is None else None),
        label_tokens=getattr(outputs, "out_features", None) or found.label_tokens,
        positions=positions,
        position_ids=position_ids,
        types=found.types,
    )


def positions_of(model: Any, revision: str | None = None, trust_remote_code: bool = False) -> int | None:
    """
    Tokens of a row at most that the config of a model of text tells, also of one with rotary positions; None where it
    does not.

    Args:
        model: a model, its config, or a name or path.
        revision, trust_remote_code: as of [`limits_of`].
    """
    if isinstance(model, (str, os.PathLike)):
        config, _ = _config_at(str(model), revision, trust_remote_code)
    else:
        config = model if hasattr(model, "get_text_config") else getattr(bare_model(model), "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else None
    found = getattr(text, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _config_at(name_or_path: str, revision: str | None, trust_remote_code: bool) -> tuple[Any, bool]:
    """The config, None where it cannot be read, and whether it is that of the base of an adapter."""
    from transformers import AutoConfig
    from transformers.utils import find_adapter_config_file

    adapter = False
    try:
        if adapter := find_adapter_config_file(name_or_path, revision=revision) is not None:
            own = adapter_config_at(name_or_path, revision)
            name_or_path, revision = own.base_model_name_or_path, own.revision
        found = AutoConfig.from_pretrained(name_or_path, revision=revision, trust_remote_code=trust_remote_code)
        return found, adapter
    except Exception:  # no such folder, no network, no JSON: loading the model meets the same, and says what it is
        return None, adapter


def _of_config(config: Any, architecture: str) -> Limits:
    from transformers.models.auto import modeling_auto

    def is_one_of(mapping: str) -> bool:
        values = getattr(modeling_auto, mapping, {}).values()
        return any(architecture == value or architecture in value for value in values if architecture)

    causal = is_one_of("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    classifier = any(is_one_of(f"MODEL_FOR_{kind}_CLASSIFICATION_MAPPING_NAMES") for kind in _CLASSIFIERS)
    text = config.get_text_config()
    tokens = getattr(text, "vocab_size", None)
    positions = getattr(text, "max_position_embeddings", None) if _has_table(text) else None
    return Limits(
        causal_lm=True if causal else False if classifier else None,
        classes=config.num_labels if classifier else None,
        several=SEVERAL.get(getattr(config, "problem_type", None)) if classifier else None,
        tokens=tokens,
        label_tokens=tokens if causal else None,
        positions=positions,
        position_ids=positions,
        types=getattr(text, "type_vocab_size", None) or None,
    )


_CLASSIFIERS = ("SEQUENCE", "IMAGE", "AUDIO")


def _has_table(config: Any) -> bool:
    """Whether a model of this config looks its positions up in a table: none that are rotary, relative or biases."""
    if any(getattr(config, name, None) for name in ("rope_parameters", "rope_theta", "alibi", "relative_attention")):
        return False
    relative = "relative" in str(getattr(config, "position_embedding_type", "absolute"))
    return not relative and getattr(config, "position_biased_input", True)


def input_embeddings(model: Any) -> Any:
    """The layer that a model's inputs go through first; None where it does not tell, as with convolutions."""
    return _embeddings(model, "get_input_embeddings")


def _embeddings(model: Any, getter: str) -> Any:
    try:
        return getattr(model, getter)()
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _arguments(model: Any) -> frozenset[str] | None:
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return frozenset(named) or None


def _positions(model: Any) -> tuple[int | None, int | None]:
    """
    Of the model's table of positions: its rows for tokens (where it has a padding row, those behind that one), and the
    rows that `position_ids` may name.
    """
    for name, module in model.named_modules():
        rows = getattr(module, "num_embeddings", None)
        if rows and name.rpartition(".")[2] in ("position_embeddings", "embed_positions", "wpe", "embed_position"):
            named, padding = rows - getattr(module, "offset", 0), getattr(module, "padding_idx", None)
            return (named if padding is None else rows - (padding + 1)), named
    return None, None
