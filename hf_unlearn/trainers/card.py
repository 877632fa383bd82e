"""
The model card that the trainers write beside the weights: what they know of the model, and the code that loads it.

`report/card_section.py` writes the sections, `report/card_file.py` puts them into README.md; what stands in them comes
from `card_info()` of the trainers and from `card_facts`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.columns import hub_id
from ..evaluation.judge import is_trial
from ..report import card_file
from ..report.card_section import sections
from ..report.markdown import literal
from ..report.model_index import named_rows, results_of
from ..report.words.model_card import request_text
from ..utils.architectures import pipeline_tag
from ..utils.files import replace_bytes
from ..utils.versions import library_versions
from .loading import THEIR_CODE
from .models import base_model, has_adapter, is_causal_lm

if TYPE_CHECKING:
    from .base import ForgettingTrainer

logger = logging.getLogger(__name__)

HERE = "."  # where the card is read, if the model is not on the hub
LICENSE = ("license", "license_name", "license_link")
HUB_SECONDS = 5.0  # that the hub has to say what the license of the base model is
EVALUATIONS = 20  # the last ones of a training that the card shows


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says that the trainer cannot know.

    Args:
        role: in the evaluation: "original", "retrained", ….
        request: which rows are asked, or may be asked, to be forgotten, by [`hf_unlearn.data.asked.asked`]; with
            `dataset`, the name of the rows, and `rows`, how many those are.
        made_from_rows: what was made from all rows before the training, such as "the tokenizer"; None: not known.
    """

    role: str | None = None
    request: Mapping[str, Any] | None = None
    made_from_rows: tuple[str, ...] | None = None


# ---- how the model is loaded -----------------------------------------------------------------------------------------


def loading_code(model, name: str | None = None, processing_class=None) -> str:
    """
    Lines that load the saved model, and its tokenizer or processor, with transformers and peft alone.

    Args:
        name: hub id; None: the model is in the folder of the card, where the lines run.
        processing_class: what was saved beside the model.
    """
    base = base_model(model)
    where = literal(name or HERE)
    if name is None:
        where += "  # the folder of this card; or the model's name, once it is on the hub"
    processing = auto_class_of(processing_class)
    lines = _imports(model, base, processing)
    lines += ["", f"name = {where}", *_loading(model, base)]
    if processing:
        variable = {"AutoTokenizer": "tokenizer"}.get(processing, "processor")
        lines.append(f"{variable} = {processing}.from_pretrained(name)")
    return "\n".join(lines)


def _imports(model, base, processing: str | None) -> list[str]:
    kind, _ = _class_of(base)
    if not has_adapter(model):
        return [f"from transformers import {', '.join(sorted(filter(None, (kind, processing))))}"]
    from ..readiness.memory.model import tuner_of  # which imports peft

    adapter = "AutoPeftModelForCausalLM" if _loads_by_auto(model, base) else "PeftModel"
    names = [None if _loads_by_auto(model, base) else kind, processing]
    theirs = [f"from transformers import {', '.join(sorted(filter(None, names)))}"] if any(names) else []
    ours = ["from hf_unlearn import MemoryConfig  # makes the method known to PEFT"] if tuner_of(model) else []
    return [f"from peft import {adapter}", *theirs, *ours]


def _loading(model, base) -> list[str]:
    kind, remote = _class_of(base)
    trust = ", trust_remote_code=True" if remote else ""
    if not has_adapter(model):
        return [f"model = {kind}.from_pretrained(name{trust})"]
    if _loads_by_auto(model, base):
        return [f"model = AutoPeftModelForCausalLM.from_pretrained(name{trust})"]
    source = _adapters_base(model)
    if not source:  # it was made from a config, and its weights are nowhere but in the run that trained the adapter
        return [
            f'base = {kind}.from_pretrained("base")  # the model that the adapter was trained on: save it, too',
            "model = PeftModel.from_pretrained(base, name)",
        ]
    head = "" if is_causal_lm(base) else f", num_labels={base.config.num_labels}, ignore_mismatched_sizes=True"
    where = "  # a folder of the machine that trained the adapter" if os.path.isdir(source) else ""
    return [
        f"base = {kind}.from_pretrained({literal(source)}{head}{trust}){where}",
        "model = PeftModel.from_pretrained(base, name)",
    ]


def _loads_by_auto(model, base) -> bool:
    return bool(_adapters_base(model)) and is_causal_lm(base)


def _adapters_base(model) -> str | None:
    return next(iter(model.peft_config.values())).base_model_name_or_path or None


def _class_of(base) -> tuple[str, bool]:
    """Name of the class in transformers that loads a model, and whether its code comes with the checkpoint."""
    kinds = type(base).__mro__
    if any(kind.__module__.startswith(THEIR_CODE) for kind in kinds):
        architecture = next(kind.__name__ for kind in kinds if kind.__module__.startswith(THEIR_CODE))
        autos = getattr(base.config, "auto_map", None) or {}
        return next((auto for auto, path in autos.items() if path.endswith(f".{architecture}")), "AutoModel"), True
    return next((kind.__name__ for kind in kinds if kind.__module__.startswith("transformers.")), "AutoModel"), False


def auto_class_of(processing_class) -> str | None:
    """The auto class that loads a tokenizer, image processor, feature extractor or processor; None: there is none."""
    from transformers import FeatureExtractionMixin, PreTrainedTokenizerBase, ProcessorMixin
    from transformers.image_processing_base import ImageProcessingMixin

    kinds = {
        ProcessorMixin: "AutoProcessor",
        PreTrainedTokenizerBase: "AutoTokenizer",
        ImageProcessingMixin: "AutoImageProcessor",
        FeatureExtractionMixin: "AutoFeatureExtractor",
    }
    return next((name for kind, name in kinds.items() if isinstance(processing_class, kind)), None)


# ---- what the base model's card says ---------------------------------------------------------------------------------


def source_of(model) -> str | None:
    """Folder or hub id of the model that was trained on; None where it was made from a config."""
    if has_adapter(model) and (source := _adapters_base(model)):
        return source
    return getattr(getattr(base_model(model), "config", None), "_name_or_path", None) or None


def said_of_base(source: str | None) -> dict[str, Any]:
    """
    `base_model`, where that has a name on the hub, and the license that its card gives, as metadata of a card; only
    what was found. A model in a folder is as its own card says; without a network the cache is read.
    """
    if not source:
        return {}
    if not os.path.isdir(source):
        said = _said_on_hub(source) if card_file.is_hub_id(source) else {}
        return {**{key: said[key] for key in LICENSE if said.get(key)}, **_named(source)}
    try:
        text = card_file.read(Path(source, card_file.NAME))
        said = card_file.parsed(text).data.to_dict() if text else {}
    except ValueError as error:
        logger.warning("The card of the base model in %s says nothing: %s", source, error)
        said = {}
    return {**{key: said[key] for key in LICENSE if said.get(key)}, **_named(said.get("base_model"))}


def _named(base: str | list[str] | None) -> dict[str, Any]:
    """`base_model`, where it can be published."""
    names = [base] if isinstance(base, str) else base or []
    return {"base_model": base} if names and all(map(card_file.is_hub_id, names)) else {}


@lru_cache(maxsize=16)
def _said_on_hub(name: str) -> dict[str, Any]:
    """The header of a card on the hub: from the cache, else asked for once, without retries."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(name, card_file.NAME)
    try:
        if isinstance(cached, str):
            return card_file.parsed(card_file.read(cached) or "").data.to_dict()
        said = HfApi().model_info(name, timeout=HUB_SECONDS).card_data
        return said.to_dict() if said else {}
    except Exception as error:  # the hub's client raises errors of several libraries; what is not known is left out
        logger.info("The license of %s could not be asked for: %s", name, error)
        return {}


# ---- the card --------------------------------------------------------------------------------------------------------


def write(trainer: ForgettingTrainer, folder: str, before: str | None = None, **given: Any) -> None:
    """
    Writes the card into `folder`; where the one that is there cannot be read, or ours cannot be made, it stays, and a
    warning says so: the weights beside it are saved already. What an evaluation has written into it stays as long as
    the weights do.

    Args:
        before: its text before the weights were saved, since PEFT writes over it; None: the one that is there.
        given: arguments of `create_model_card`, as in `transformers.Trainer`.
    """
    try:
        _write(trainer, folder, before, given)
    except Exception as error:  # of whatever the log, the base model's card or a subclass's `card_info` hold
        with suppress(OSError):
            if before:
                replace_bytes(Path(folder, card_file.NAME), before.encode())
        what = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
        logger.warning("%s in %s was left as it is: %s", card_file.NAME, folder, what)


def _write(trainer: ForgettingTrainer, folder: str, before: str | None, given: Mapping[str, Any]) -> None:
    scores = trainer.scorecard.to_dict() if trainer.scorecard is not None else None
    role = role_in(scores, trainer)
    parts = sections(scores, info_of(trainer), role)
    measured = scores is not None or trainer.card_steps.get(folder) != trainer.state.global_step
    card_file.write(
        folder,
        {**parts, "verified": ""} if measured else {"model": parts["model"]},
        metadata_of(trainer, folder, given) | {"eval_results": results(trainer, scores, role, given, measured)},
        chosen={
            "license": given.get("license"),
            "language": given.get("language"),
            "base_model": given.get("finetuned_from"),
        },
        title=given.get("model_name") or name_of(trainer),
        before=before,
        afresh=True,
    )
    trainer.card_steps[folder] = trainer.state.global_step


def text_before(folder: str) -> str | None:
    """The card of a folder; "" where there is none, None where it cannot be read."""
    try:
        return card_file.read(Path(folder, card_file.NAME)) or ""
    except (ValueError, OSError):
        return None


def name_of(trainer: ForgettingTrainer) -> str:
    """As `Trainer.push_to_hub` calls the model."""
    return (trainer.hub_model_id or "").rpartition("/")[2] or Path(trainer.args.output_dir).resolve().name


def role_in(scores: Mapping[str, Any] | None, trainer: ForgettingTrainer) -> str | None:
    """The trainer's model in a score card: that of its facts, else the first that a trainer of its kind makes."""
    there = {run["model"] for run in scores["runs"]} if scores else set()
    candidates = (trainer.card_facts.role, *trainer.card_roles)
    return next((role for role in candidates if role in there), None)


def info_of(trainer: ForgettingTrainer) -> dict[str, Any]:
    """What the section on the model holds."""
    from transformers.modelcard import extract_hyperparameters_from_trainer, parse_log_history

    request = trainer.card_facts.request
    evaluations = parse_log_history(trainer.state.log_history)[1] or []
    shown = [{key: _short(value) for key, value in line.items()} for line in evaluations[-EVALUATIONS:]]
    base = said_of_base(source_of(trainer.model)).get("base_model")
    return {
        "asked": request_text(request, request.get("rows")) if request else None,
        "base_model": ", ".join(base) if isinstance(base, list) else base,
        "training": extract_hyperparameters_from_trainer(trainer) | trainer.own_schedule,
        "evaluations": [line for line in shown if line.keys() == shown[0].keys()],
        "how_to_load": trainer.loading_code(),
        "versions": library_versions(),
        **trainer.card_info(),
    }


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def metadata_of(trainer: ForgettingTrainer, folder: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The header, but for the results: of what is given, of the base model and of the rows."""
    adapter = has_adapter(trainer.model)
    tags = _listed(given.get("tags")) + _listed(getattr(trainer.model, "model_tags", None))
    if adapter:  # of PEFT: the adapter's method and its base
        there = card_file.read(Path(folder, card_file.NAME))
        tags += [tag for tag in card_file.parsed(there).data.tags or [] if tag not in card_file.STATES] if there else []
    return {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": tag_of(trainer, given),
        "datasets": dataset_of(trainer, given)["ids"] or None,
        **said_of_base(source_of(trainer.model)),
        "tags": list(dict.fromkeys([*trainer.card_tags, card_file.OURS, "generated_from_trainer", *tags])),
    }


def tag_of(trainer: ForgettingTrainer, given: Mapping[str, Any]) -> str | None:
    """The pipeline tag: the one that is given, else that of the model's class."""
    return next(iter(_listed(given.get("tasks"))), None) or pipeline_tag(_class_of(base_model(trainer.model))[0])


def dataset_of(trainer: ForgettingTrainer, given: Mapping[str, Any]) -> dict[str, Any]:
    """`ids` on the hub, and for the results the `id` of the first and a `name`, each None where nobody knows it."""
    request = trainer.card_facts.request or {}
    known = named_rows(request.get("dataset") or hub_id(trainer.card_rows))
    ids = list(filter(card_file.is_hub_id, _listed(given.get("dataset_tags")) or _listed(known.get("id"))))
    name = next(iter(_listed(given.get("dataset"))), known.get("name"))
    return {"ids": ids, "id": next(iter(ids), None), "name": name}


def results(
    trainer: ForgettingTrainer,
    scores: Mapping[str, Any] | None,
    role: str | None,
    given: Mapping[str, Any],
    measured: bool,
) -> list | None:
    """What was measured of this model, for the header; None: what is there stays."""
    if not measured:
        return None
    tag = tag_of(trainer, given)
    run = next((run for run in scores["runs"] if run["model"] == role), None) if scores else None
    if not run or not tag or is_trial(scores, run["task"]):
        return []
    return results_of(run, tag, dataset_of(trainer, given))


def _listed(value: Any) -> list:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
