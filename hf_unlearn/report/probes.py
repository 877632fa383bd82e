"""The probe questions of a task as a table: what each model answered, and whether that is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evaluation.roles import ROLE_LABELS, ROLES


def probe_table(card: Mapping[str, Any], task: str) -> dict[str, Any] | None:
    """
    Of each role the first run that was asked; None where none was.

    Returns:
        `roles`: columns, `{"name", "label", "right", "of"}` in the order of ROLES. `rows`: `question`, `accepted` (a
        list of words) and `cells`, one a role: `{"answer", "right"}`, or None where that model was not asked this.
    """
    by_role: dict[str, list[Mapping[str, Any]]] = {}
    for run in card["runs"]:
        answered = (run.get("details") or {}).get("probes")
        if run["task"] == task and answered:
            by_role.setdefault(run["model"], answered)
    roles = [role for role in ROLES if role in by_role]
    accepted = {one["question"]: one["accepted"] for role in roles for one in by_role[role]}
    said = {role: {one["question"]: one for one in by_role[role]} for role in roles}
    if not roles:
        return None
    counts = [(sum(map(bool, (one["right"] for one in by_role[role]))), len(by_role[role])) for role in roles]
    return {
        "roles": [
            {"name": role, "label": ROLE_LABELS[role], "right": right, "of": of}
            for role, (right, of) in zip(roles, counts, strict=True)
        ],
        "rows": [
            {"question": question, "accepted": words, "cells": [said[role].get(question) for role in roles]}
            for question, words in accepted.items()
        ],
    }
