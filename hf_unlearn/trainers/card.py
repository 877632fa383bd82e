"""
The model card: what we add to the Trainer's own, and the lines of code that load the saved model.

`report/card_section.py` writes our section from the template `report/templates/model_card.md`; what stands in it comes
from `card_info()` of the trainers.
"""

from __future__ import annotations

from .engines import class_name
from .models import base_model, is_causal_lm


def loading_code(model, name: str) -> str:
    """Lines that load the model saved as `name` (folder or hub id) with transformers and peft alone."""
    base = base_model(model)
    kind = class_name(base)
    if not hasattr(model, "peft_config"):
        return f'from transformers import {kind}\n\nmodel = {kind}.from_pretrained("{name}")'
    source = next(iter(model.peft_config.values())).base_model_name_or_path
    if not source:
        return (
            "from peft import PeftModel\n\n"
            f'model = PeftModel.from_pretrained(base, "{name}")  # base: the {kind} it was trained on'
        )
    if is_causal_lm(base):
        auto = "AutoPeftModelForCausalLM"
        return f'from peft import {auto}\n\nmodel = {auto}.from_pretrained("{name}")'
    return (
        f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
        f'base = {kind}.from_pretrained("{source}", num_labels={base.config.num_labels}, '
        "ignore_mismatched_sizes=True)\n"
        f'model = PeftModel.from_pretrained(base, "{name}")'
    )


def add_to_card(path: str, tags: list[str], info: dict, scores: dict | None) -> None:
    """
    Adds our section, and tags that are not there, to a card that is written already.

    Args:
        info: kind, settings, limits and loading code, see `card_info` of the trainers.
        scores: a score card as a dict.
    """
    from huggingface_hub import ModelCard

    from ..report.card_section import render_card_section

    card = ModelCard.load(path, ignore_metadata_errors=True)
    if missing := [tag for tag in tags if tag not in (card.data.tags or [])]:  # peft 0.21 writes its own over them
        card.data.tags = [*missing, *(card.data.tags or [])]
        card.save(path)
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" + render_card_section(scores, info) + "\n")
