"""
What stands in a model card, as Markdown: the verdict in five lines, what the model is, and the scores.

`card_file.py` puts these sections into a README.md, `model_index.py` the numbers into its header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..evaluation.judge import judge, tasks_of
from . import markdown
from .tables import WEAK_NOTE, score_table
from .templating import template
from .words.benchmarks import notes
from .words.findings import lines
from .words.gates import gate_rows
from .words.model_card import verdict, what
from .words.names import heading, reason_text

INFO = {  # of a model, all optional
    "kind": None,  # one of `words/model_card.py`
    "rows": None,  # how many were asked for: "12 rows"
    "asked": None,  # which, in a sentence
    "method": None,  # a paragraph
    "base_model": None,
    "settings": {},  # of the readiness or the request
    "training": {},  # of the Trainer
    "evaluations": (),  # dicts of the same keys, one an evaluation
    "stop_reason": None,
    "limits": (),
    "how_to_load": None,  # code
    "versions": {},
    "citation": None,
}


def render_card_section(card: Mapping[str, Any] | None, info: Mapping[str, Any], role: str | None = None) -> str:
    """
    The body of a model card in Markdown, without YAML header. Every string that is handed in is shown as it is, and
    never read as Markdown or HTML.

    Args:
        card: score card of schema 1 to 3, or None if there is none yet.
        info: `title` and what `INFO` lists.
        role: of the model that the card is of; None: all that were unlearned.
    """
    title = [f"# {markdown.escaped(info['title'])}\n"] if info.get("title") else []
    return "\n".join([*title, *(text for text in sections(card, info, role).values() if text)])


def sections(card: Mapping[str, Any] | None, info: Mapping[str, Any] | None, role: str | None = None) -> dict[str, str]:
    """
    The sections by name, in the order in which they stand: `verdict`, `model`, `scores`; the first and the last are
    empty without a score card, the second is not there where `info` is None.
    """
    card = card if card and card.get("runs") else None
    found = {"verdict": filled("card_verdict.md", lines=verdict(card, role)) if card else ""}
    if info is not None:
        info = {**INFO, **info}
        info["stop_text"] = reason_text(info["stop_reason"]) if info["stop_reason"] else None
        info["settings"] = {name: _short(value) for name, value in info["settings"].items()}
        found["model"] = filled("card_model.md", info=info, what=what(info["kind"]))
    found["scores"] = ""
    if card:
        judged = [finding for finding in judge(card) if role in (None, finding.model)]
        found["scores"] = filled(
            "card_scores.md",
            findings=lines(card),
            judged=[{"heading": heading(finding), "gates": gate_rows(finding)} for finding in judged],
            tables=[{**score_table(card, task), "notes": notes(card, task)} for task in tasks_of(card)],
            weak_note=WEAK_NOTE,
        )
    return found


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def filled(name: str, **values: Any) -> str:
    """A template with these values, ended by one line break; empty where nothing came of it."""
    text = re.sub(r"\n{3,}", "\n\n", template(name).render(**values)).strip()
    return f"{text}\n" if text else ""
