"""Which task a class of transformers is for, by the library's own lists."""

from __future__ import annotations

import re
from typing import Any

PIPELINE_TAGS = {  # of the tasks that are supported -> the list of their classes
    "text-generation": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio-classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
}

_GENERATES_TEXT = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")
# Lists whose models can be taken too: two classes a pair of texts, one class a video or series; a pretraining head is
# looked at by what it returns.
_LIKE_OURS = {"NEXT_SENTENCE_PREDICTION", "VIDEO_CLASSIFICATION", "TIME_SERIES_CLASSIFICATION", "PRETRAINING"}
_IN_WORDS = {
    "CTC": "speech recognition (CTC)",
    "MASKED_LM": "masked language modelling",
    "SEQ_TO_SEQ_CAUSAL_LM": "sequence to sequence",
    "SPEECH_SEQ_2_SEQ": "sequence to sequence",
}


def architectures(mapping: str) -> set[str]:
    """Names of the classes in a list of `transformers.models.auto.modeling_auto`; empty for an unknown one."""
    from transformers.models.auto import modeling_auto

    names: set[str] = set()
    for value in getattr(modeling_auto, mapping, {}).values():
        names.update([value] if isinstance(value, str) else value)
    return names


def pipeline_tag(architecture: str | None) -> str | None:
    """The hub's name of the task that a class is for; None for a class that does none of ours."""
    return next((tag for tag, mapping in PIPELINE_TAGS.items() if architecture in architectures(mapping)), None)


def other_task(model: Any) -> str | None:
    """
    The task, in words, of a model of Transformers whose logits and labels do not belong together as ours do: they stand
    position by position without a shift, are of unlike lengths, or there are none. None: it may be one of ours.
    """
    from transformers.models.auto import modeling_auto

    kinds = {kind.__name__ for kind in type(model).__mro__}
    if any(kinds & architectures(mapping) for mapping in PIPELINE_TAGS.values()):
        return None
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) is True:
        return _IN_WORDS["SEQ_TO_SEQ_CAUSAL_LM"]
    if any(kinds & architectures(mapping) for mapping in _GENERATES_TEXT):
        return None
    found = (re.fullmatch("MODEL_FOR_(.+)_MAPPING_NAMES", name) for name in dir(modeling_auto))
    for task in sorted({name[1] for name in found if name} - _LIKE_OURS):
        if kinds & architectures(f"MODEL_FOR_{task}_MAPPING_NAMES"):
            return _IN_WORDS.get(task, task.lower().replace("_", " "))
    return None
