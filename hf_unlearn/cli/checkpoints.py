"""What can be said of checkpoints before a model is loaded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from ..utils import manifest
from ..utils.adapter_configs import adapter_config_at
from ..utils.architectures import architectures
from ..utils.checks import Wrong, gather, raise_problems
from . import loading, named
from .arguments import DataArguments, ModelArguments
from .encoding import PROCESSING, Prepared

ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")
READ = (  # JSON files that models, tokenizers and processors are loaded from
    ADAPTER, "added_tokens.json", "chat_template.json", "config.json", "generation_config.json", INDEX, PROCESSING,
    "processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
)  # fmt: skip


def is_checkpoint(folder) -> bool:
    """Whether a folder holds a model or an adapter as `save_pretrained` writes them."""
    return any(Path(folder, name).is_file() for name in ("config.json", ADAPTER))


def place_problems(name: str, where: str, prefix: str = "") -> list[str]:
    """
    What is wrong with a place that a flag names, if no hub has to be asked: a folder that is not there, no checkpoint,
    or files in it that are damaged or broken; of large ones only sizes and headers are looked at ([`check_contents`]).

    Args:
        name: of the flag.
        prefix: what the flag's value has before the place: "original=".
    """
    folder, got = Path(where).expanduser(), f"is {prefix + where!r}"
    if folder.is_dir():
        if not is_checkpoint(folder):
            return [Wrong(name, f"{got}: that folder holds no config.json: expected what `save_pretrained` writes.")]
        damaged = manifest.damage(folder, manifest.SMALL)
        return damaged or [f"{path} is broken: {why}" for path, why in broken_files(folder)]
    if folder.is_file():
        return [Wrong(name, f"{got}, a file: give its folder, as `save_pretrained` writes it.")]
    if not is_meant_as_folder(where):
        return []
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    close = difflib.get_close_matches(folder.name, [path.name for path in beside if is_checkpoint(path)], 1)
    hint = f"Did you mean {str(folder.parent / close[0])!r}?" if close else f"Looked in {str(Path.cwd())!r}."
    return [Wrong(name, f"{got}, but there is no such folder. {hint}")]


def named_place_problems(data: DataArguments, model: ModelArguments, given: dict | None = None) -> list[str]:
    """
    [`place_problems`] of --model_name_or_path, and where they are none, and it is a folder, what its config has against
    the flags; of the hub that is asked for with the rows ([`with_named`]).

    Args:
        given: `model_init_kwargs` of the training config.
    """
    where = model.model_name_or_path
    problems = place_problems("model_name_or_path", where)
    if problems or not Path(where).expanduser().is_dir():
        return problems
    trusted = loading.init_of(model, given=given).get("trust_remote_code", False)
    problems = loading.code_problems("model_name_or_path", where, trusted)
    return problems or named.named_problems(data, model, given)


def with_named(read_rows: Callable, data: DataArguments, model: ModelArguments, given: dict | None = None):
    """
    The rows, if nothing is wrong with them nor with a model of the hub that is named, as far as its config tells.

    Raises:
        ArgumentError: with the problems of both.
    """
    where = model.model_name_or_path
    if not where or Path(where).expanduser().is_dir():
        return read_rows()
    if wrong := named.named_problems(data, model, given):
        gather(lambda: raise_problems(wrong), read_rows)
    return read_rows()


def above(output_dir) -> str:
    """A hint where an output folder is the folder of one of its models; empty where it is none."""
    folder = Path(output_dir).expanduser()
    return (
        f" That folder is a model itself: did you mean --output_dir {folder.parent}?" if is_checkpoint(folder) else ""
    )


def check_contents(places: Iterable[str | None]) -> None:
    """
    Reads the files of models' folders, on the first process and once a run, before anything is loaded from them.

    Raises:
        ArgumentError: on all processes, if one is not what was written ([`hf_unlearn.utils.manifest`]).
    """
    from ..trainers.engines import decided_by_first

    def damage() -> list[str]:
        return [line for where in places if where for line in manifest.damage(Path(where).expanduser())]

    decided_by_first(lambda: raise_problems(damage()))


def is_meant_as_folder(where: str) -> bool:
    """Whether a name that is no folder was meant as one: it is no hub id, or its parent folder holds checkpoints."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(where)
    except HFValidationError:
        return True
    parent = Path(where).parent
    return where.startswith(".") or ("/" in where and parent.is_dir() and any(map(is_checkpoint, parent.iterdir())))


def broken_files(folder: Path) -> list[tuple[Path, str]]:
    """
    (file, why) of those in a model's folder that its loaders read and cannot: JSON, headers and sizes of safetensors.
    What else lies there is nobody's business.
    """
    found: list[tuple[Path, str]] = []
    weights = {folder / name for name in WEIGHTS}
    for path in (folder / name for name in READ if (folder / name).is_file()):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            found.append((path, f"it is no JSON ({' '.join(str(error).split())})."))
            continue
        if path.name in ("config.json", ADAPTER) and not isinstance(content, dict):
            found.append((path, f"it holds a {type(content).__name__} instead of settings by name."))
        shards = content.get("weight_map") if isinstance(content, dict) else None
        if path.name == INDEX and isinstance(shards, dict):
            named = {folder / name for name in shards.values()}
            found += [(path, "it is not there.") for path in sorted(named) if not path.is_file()]
            weights |= named
    for path in sorted(path for path in weights if path.is_file()):
        if why := safetensors_problem(path):
            found.append((path, why))
    names = [path.name for kind in ("safetensors", "bin") for path in folder.glob(f"*.{kind}")]
    if not found and not set(names) - {"training_args.bin"}:
        found.append((folder, "it holds no weights, such as model.safetensors."))
    return found


def safetensors_problem(path: Path) -> str | None:
    """What the header of a safetensors file and its size say against it; its numbers are not read."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return f"it has {size} bytes, fewer than its header is long."
        try:
            header = json.loads(file.read(length))
            end = max(
                (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "its header is no description of tensors."
    if size != 8 + length + end:
        return f"it has {size} bytes, and its header speaks of {8 + length + end}: the copy may have been cut short."
    return None


def other_model_problems(model: ModelArguments, role: str, folder: Path) -> list[str]:
    """Where the flags describe a new model, and OUTPUT_DIR holds one of another type or size: what differs."""
    from transformers import AutoConfig

    from .model import parse_overrides

    if not model.model_type or not (folder / "config.json").is_file():
        return []
    try:
        found = AutoConfig.from_pretrained(folder).to_dict()
        same_type = found["model_type"] == model.model_type
        asked = {
            "model_type": model.model_type,
            **(parse_overrides(model.config_overrides, found) if same_type else {}),
        }
    except (ValueError, OSError):
        return []  # told elsewhere
    other = {key: value for key, value in asked.items() if _plain(found.get(key)) != _plain(value)}
    return [
        f"`{key}` is {value!r} by the flags, but the {role} model in {folder} was made with {found.get(key)!r}. Train "
        "it again, or give the flags that it was trained with."
        for key, value in other.items()
    ]


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def check_checkpoint(
    data: DataArguments, labels: list[str] | None, role: str, where: str, model: ModelArguments | None = None
) -> None:
    """
    What can be said of a checkpoint from its config, before any model is loaded.

    Args:
        model: whose flags say whether code of its own is run; None: it is not.

    Raises:
        ValueError: if it is no checkpoint, of another kind than the task, or a classifier of other classes.
    """
    from transformers import AutoConfig

    config = folder = Path(where).expanduser()
    own = loading.files_of(model or ModelArguments(), where)
    if (folder / ADAPTER).is_file():
        adapter = adapter_config_at(folder)
        config, own["revision"] = adapter.base_model_name_or_path, adapter.revision
    try:
        name = config if config != folder else str(folder) if folder.is_dir() else where
        found = AutoConfig.from_pretrained(name, **own)
    except (OSError, ValueError) as error:
        said = loading.said_of(error)
        raise ValueError(f'"{role}": {str(config)!r} is no folder here, and the hub gave no config ({said})') from error
    names = architectures(named.MAPPINGS.get(data.task, ""))
    kind = (found.architectures or [None])[0]
    own_code = data.task in named.MAPPINGS and named.auto_class(data.task).__name__ in (
        getattr(found, "auto_map", None) or {}
    )
    if names and kind is not None and config == folder and kind not in names and not own_code:
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


def processing_of(
    named: str | None, models: dict[str, str], data: DataArguments, model: ModelArguments | None = None
) -> str | None:
    """
    Where the tokenizer or processor of several checkpoints comes from: the first that brings one.

    Raises:
        ValueError: if there are checkpoints, none is named, and one of text or all of the others bring none.
    """
    if named:
        return named
    if data.task in ("image_classification", "audio_classification"):
        bring = [where for where in models.values() if not Path(where).is_dir() or Path(where, PROCESSING).is_file()]
        if models and not bring:
            raise ValueError(
                f"None of {', '.join(models.values())} holds a {PROCESSING}, so no rows can be made. Save it beside "
                "the weights, or name one by --processing_from."
            )
        return next(iter(bring), None)
    for role, where in models.items():
        _tokenizer(where, role, model)
    return next(iter(models.values()), None)


def _tokenizer(where: str, role: str, model: ModelArguments | None = None):
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
    missing = Path(where).is_dir() and not any(Path(where, name).is_file() for name in files)
    try:
        if not missing:
            return AutoTokenizer.from_pretrained(where, **loading.files_of(model or ModelArguments(), where))
    except Exception as error:  # a broken file is another type in each library
        cause = loading.said_of(error)
        here = "" if Path(where).is_dir() else ", which is no folder here"
        raise ValueError(f'The tokenizer of "{role}" ({where}{here}) cannot be loaded: {cause}') from error
    raise ValueError(
        f'The checkpoint of "{role}" ({where}) has no tokenizer, so no rows can be made. Save it beside the '
        "weights, or name one by --processing_from."
    )


def same_tokens(
    data: DataArguments, prepared: Prepared, role: str, where: str, model: ModelArguments | None = None
) -> None:
    """
    Raises:
        ValueError: if a checkpoint brings a tokenizer that makes other tokens of the forget rows than were made.
    """
    files = ("tokenizer.json", "tokenizer_config.json")
    if data.task not in ("causal_lm", "sequence_classification") or not Path(where).is_dir():
        return
    if not any(Path(where, name).is_file() for name in files):
        return  # one was named for all
    tokenizer = _tokenizer(where, role, model)
    rows = prepared.splits["forget"]
    made, again = prepared.again(rows)["input_ids"], prepared.again(rows, tokenizer)["input_ids"]
    other = [i for i, (a, b) in enumerate(zip(made, again, strict=False)) if list(a) != list(b)]
    other += range(min(len(made), len(again)), max(len(made), len(again)))
    if other:
        raise ValueError(
            f'Unequal tokenisation: the tokenizer of "{role}" ({where}) makes other tokens of {len(other)} of the '
            f"{len(rows)} forget rows (the first is row {other[0]}). Losses per token cannot be compared; models must "
            "share a tokenizer."
        )


def by_plan(splits: dict, source: str, salt_file: str | None = None) -> dict:
    """
    The splits beside a model whose folder holds a plan, which knows its rows: those that it was trained on are to be
    kept and the others are unseen, also where a recipe that names somebody else now draws others. Deleted rows are in
    neither. Where there is no plan, or no salt to open it with, they are as they were drawn.
    """
    import numpy as np
    from datasets import concatenate_datasets

    from ..trainers import replay_plan

    try:
        plan = replay_plan.read(source, salt_file) if Path(source).expanduser().is_dir() else None
    except ValueError:  # told by a replay, which cannot do without
        plan = None
    if plan is None:
        return splits
    rows = concatenate_datasets([splits["retain"], splits["unseen"]])
    numbers = plan.numbers_of_rows(rows, plan.key)
    kept, unseen = (numbers >= 0) & ~np.isin(numbers, plan.holes), numbers < 0
    if not kept.any() or np.array_equal(np.flatnonzero(kept), np.arange(len(splits["retain"]))):
        return splits  # rows of another training are told where they are compared with the model's
    return {**splits, "retain": rows.select(np.flatnonzero(kept)), "unseen": rows.select(np.flatnonzero(unseen))}
