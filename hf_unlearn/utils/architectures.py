"""Which task a class of transformers is for, by the library's own lists."""

from __future__ import annotations

PIPELINE_TAGS = {  # of the tasks that are supported -> the list of their classes
    "text-generation": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio-classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
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
