"""The section that a score card gets in a model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..evaluation.judge import judge, tasks_of
from .tables import WEAK_NOTE, score_table
from .templating import template
from .words.findings import lines
from .words.gates import gate_rows
from .words.names import heading, reason_text


def render_card_section(card: Mapping[str, Any] | None, info: Mapping[str, Any]) -> str:
    """
    The body of a model card in Markdown, without YAML header.

    Args:
        card: score card of schema 1 or 2, or None if there is none yet.
        info: `title`, `kind` ("unlearning-ready" or "unlearned"), `method` (a paragraph), `base_model`, `settings`
            (dict), `stop_reason`, `limits` (list of str), `how_to_load` (code), `versions` (dict), `citation`; each is
            optional.
    """
    card = card if card and card.get("runs") else None
    info = {
        "title": None,
        "kind": None,
        "method": None,
        "base_model": None,
        "settings": {},
        "stop_reason": None,
        "limits": [],
        "how_to_load": None,
        "versions": {},
        "citation": None,
        **info,
    }
    info["stop_text"] = reason_text(info["stop_reason"]) if info["stop_reason"] else None
    text = template("model_card.md").render(
        info=info,
        findings=lines(card) if card else [],
        judged=[{"heading": heading(f), "gates": gate_rows(f)} for f in judge(card)] if card else [],
        tables=[score_table(card, task) for task in tasks_of(card)] if card else [],
        weak_note=WEAK_NOTE,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
