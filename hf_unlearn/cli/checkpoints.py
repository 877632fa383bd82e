"""What can be said of checkpoints before a model is loaded."""

from __future__ import annotations

from pathlib import Path

from ..utils.architectures import architectures
from .arguments import DataArguments
from .prepare import PROCESSING, Prepared, text_encoder

MAPPINGS = {  # task -> names of the classes that do it
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "sequence_classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image_classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio_classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
}


def is_checkpoint(folder) -> bool:
    """Whether a folder holds a model or an adapter as `save_pretrained` writes them."""
    return any(Path(folder, name).is_file() for name in ("config.json", "adapter_config.json"))


def check_checkpoint(data: DataArguments, labels: list[str] | None, role: str, where: str) -> None:
    """
    What can be said of a checkpoint from its config, before any model is loaded.

    Raises:
        ValueError: if it is no checkpoint, of another kind than the task, or a classifier of other classes.
    """
    from transformers import AutoConfig

    config = folder = _folder(role, where)
    if (folder / "adapter_config.json").is_file():
        from peft import PeftConfig

        config = PeftConfig.from_pretrained(where).base_model_name_or_path
    elif folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f'{where!r} for "{role}" holds no config.json: expected what `save_pretrained` writes.')
    found = AutoConfig.from_pretrained(config if config != folder else where)
    names = architectures(MAPPINGS.get(data.task, ""))
    kind = (found.architectures or [None])[0]
    if names and kind is not None and config == folder and kind not in names:
        raise ValueError(f'"{role}" ({where}) is a {kind}, which is no model for {data.task}.')
    if labels is None or config != folder:
        return
    own = [str(found.id2label[key]) for key in sorted(found.id2label)]
    generic = all(name.startswith("LABEL_") for name in own)
    if len(own) != len(labels) or (not generic and own != [str(label) for label in labels]):
        other = next((i for i, pair in enumerate(zip(own, labels, strict=False)) if pair[0] != str(pair[1])), None)
        shown = f"; class {other} is {own[other]!r} there and {labels[other]!r} here" if other is not None else ""
        raise ValueError(
            f'Label spaces differ: "{role}" ({where}) has {len(own)} classes, the rows {len(labels)}{shown}. The same '
            "number must mean the same class in the rows and in all models."
        )


def _folder(role: str, where: str) -> Path:
    folder = Path(where).expanduser()
    if not folder.is_dir() and (where.startswith((".", "/", "~")) or where.count("/") > 1):
        raise ValueError(f'There is no folder {where!r} for "{role}".')
    return folder


def processing_of(named: str | None, models: dict[str, str], data: DataArguments) -> str | None:
    """
    Where the tokenizer or processor of several checkpoints comes from: the first that brings one.

    Raises:
        ValueError: if a text checkpoint brings no tokenizer and none is named.
    """
    if named:
        return named
    if data.task in ("image_classification", "audio_classification"):
        return next((where for where in models.values() if Path(where, PROCESSING).is_file()), None)
    for role, where in models.items():
        _folder(role, where)
        _tokenizer(where, role)
    return next(iter(models.values()), None)


def _tokenizer(where: str, role: str):
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
    missing = Path(where).is_dir() and not any(Path(where, name).is_file() for name in files)
    try:
        if not missing:
            return AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f'The tokenizer of "{role}" ({where}) cannot be loaded: {cause}') from error
    raise ValueError(
        f'The checkpoint of "{role}" ({where}) has no tokenizer, so no rows can be made. Save it beside the '
        "weights, or name one by --processing_from."
    )


def same_tokens(data: DataArguments, prepared: Prepared, role: str, where: str) -> None:
    """
    Raises:
        ValueError: if a checkpoint brings a tokenizer that makes other tokens of the forget rows than were made.
    """
    files = ("tokenizer.json", "tokenizer_config.json")
    if data.task not in ("causal_lm", "sequence_classification") or not Path(where).is_dir():
        return
    if not any(Path(where, name).is_file() for name in files):
        return  # one was named for all
    tokenizer = _tokenizer(where, role)
    rows = prepared.splits["forget"]
    made = rows["input_ids"]
    again = text_encoder(data, tokenizer, prepared.labels)(rows)
    other = [i for i, (a, b) in enumerate(zip(made, again["input_ids"], strict=True)) if list(a) != list(b)]
    if other:
        raise ValueError(
            f'Unequal tokenisation: the tokenizer of "{role}" ({where}) makes other tokens of {len(other)} of the '
            f"{len(rows)} forget rows (the first is row {other[0]}). Losses per token cannot be compared; models must "
            "share a tokenizer."
        )
