"""Score tables of the report and the model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation import catalogue
from ..evaluation.catalogue import SPLIT
from ..evaluation.roles import ROLE_LABELS, ROLE_MEANINGS, ROLES
from .words.asking import some_of
from .words.names import GUARANTEES, reason_text
from .words.numbers import amount, number, percent, signed

WEAK_NOTE = "told models that saw such rows lightly from models that did not in fewer than 90 % of pairs"
NO_SIDE = "no better side"  # where neither a low nor a high value is to be hoped for
Section = tuple[str, str]  # a section of the catalogue, and of SPLIT the split
FIRST: tuple[Section, ...] = (  # the sections that answer "was it forgotten?"; then the other splits, then LAST
    *((SPLIT, "forget"), (catalogue.MEMBERSHIP, ""), (catalogue.AGAINST, "")),
    *((SPLIT, split) for split in catalogue.FORGET_SPLITS if split != "forget"),
    (catalogue.RECOVERY, ""),
)
LAST: tuple[Section, ...] = tuple(
    (s, "") for s in (catalogue.MODEL, catalogue.WEIGHTS, catalogue.BENCHMARKS, catalogue.OTHER)
)


def score_table(card: Mapping[str, Any], task: str) -> dict[str, Any]:
    """
    The score table of one task as plain text, from the lines of the catalogue.

    Returns:
        `roles`: columns, in the order of ROLES. `groups`: one per split, and those of the model as a whole, with
        `title`, `section` (of the catalogue), `n` (rows of the split) and `rows`, each with `name`, `label`,
        `explanation`, `ideal`, `cells`, `noise`, `weak`. `cost`: rows of `label`, `cells`, `ideal`. `some`: of which
        splits a part was measured, a sentence. `seeds`. `noise` and `weak`: whether any row has one.

        A cell is `{"value", "interval"}`, both strings, or None. With several seeds it shows their mean and lowest –
        highest. `noise` of a row is how far `retrained_again` is from `retrained`, a string, empty where there is none;
        of a measure that itself compares with the retrained model, it is what that gives for `retrained_again`.
    """
    runs = [run for run in card["runs"] if run["task"] == task]
    roles = [role for role in ROLES if any(run["model"] == role for run in runs)]
    by_role = {role: [run for run in runs if run["model"] == role] for role in roles}
    groups = _groups(runs, by_role)
    return {
        "task": task,
        "roles": [{"name": role, "label": ROLE_LABELS[role], "meaning": ROLE_MEANINGS[role]} for role in roles],
        "groups": groups,
        "cost": _cost(by_role),
        "some": some_of(((card.get("provenance") or {}).get(task) or {}).get("data") or {}),
        "seeds": sorted({run["seed"] for run in runs}),
        "noise": any(row["noise"] for group in groups for row in group["rows"]),
        "weak": any(row["weak"] for group in groups for row in group["rows"]),
    }


def _groups(runs: Sequence[Mapping], by_role: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for run in runs for name in run["measures"]))
    kind = catalogue.kind_of(names) or "classifier"
    sections: dict[Section, list[str]] = {}
    for name in names:
        sections.setdefault(_section(name), []).append(name)
    splits = [(SPLIT, split) for split in catalogue.SPLITS]
    groups = []
    for section in dict.fromkeys((*FIRST, *splits, *(s for s in sections if s not in LAST), *LAST)):
        inside = sorted(sections.get(section, ()), key=_place)
        if inside:
            counts = {m["n"] for run in runs for name in inside if "n" in (m := run["measures"].get(name) or {})}
            n = max(counts) if section[0] == SPLIT and counts else None
            rows = [_row(name, by_role, kind) for name in inside]
            groups.append({"title": _title(section), "section": section[0], "n": n, "rows": rows})
    return groups


def _cost(by_role: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    found = []
    for key, label in (("steps", "Steps"), ("row_passes", "Row passes"), ("seconds", "Seconds")):
        cells = []
        for some in by_role.values():
            values = [v for run in some if (v := (run.get("cost") or {}).get(key)) is not None]
            cells.append(_spread(values, amount) if values else None)
        if any(cells):
            found.append({"label": label, "cells": cells, "ideal": "low"})
    reasons = [
        "; ".join(dict.fromkeys(reason_text(run["stop_reason"]) for run in some if run.get("stop_reason")))
        for some in by_role.values()
    ]
    found += _said("Stopped because", reasons)
    guarantees = [
        "; ".join(dict.fromkeys(GUARANTEES[run["guarantee"]] for run in some if run.get("guarantee") in GUARANTEES))
        for some in by_role.values()
    ]
    return found + _said("Deletion", guarantees)


def _said(label: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """A line of texts, one a role; none where nothing is said."""
    cells = [{"value": text, "interval": ""} if text else None for text in texts]
    return [{"label": label, "cells": cells, "ideal": ""}] if any(cells) else []


def _row(name: str, by_role: Mapping[str, Sequence[Mapping]], kind: str) -> dict[str, Any]:
    entry, text = catalogue.find(name), text_of(name)
    return {
        "name": name,
        "label": entry.label if entry else name,
        "explanation": entry.measure.explanation if entry else "",
        "ideal": (entry.measure.ideal_at(entry.place, "retrained" in by_role) if entry else "") or NO_SIDE,
        "cells": [_cell([run["measures"].get(name) for run in some], text) for some in by_role.values()],
        "noise": _noise(name, bool(entry and entry.measure.compares), text, by_role),
        "weak": catalogue.is_weak(name, kind),
    }


def _place(name: str) -> tuple:
    entry = catalogue.find(name)
    return (0, entry.order) if entry else (1, ())


def _section(name: str) -> Section:
    entry = catalogue.find(name)
    if entry is None:
        return catalogue.OTHER, ""
    return entry.measure.section, entry.place if entry.measure.section == SPLIT else ""


def _title(section: Section) -> str:
    kind, split = section
    return catalogue.SPLITS.get(split, f"{split} rows") if kind == SPLIT else catalogue.SECTIONS[kind]


def text_of(name: str) -> Callable[[float], str]:
    """How values of a measure are written, by its unit."""
    entry = catalogue.find(name)
    return FORMATS.get(entry.measure.unit, number) if entry else number


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


FORMATS: dict[str, Callable[[float], str]] = {  # unit of the catalogue -> how its values are written; others: `number`
    "share": percent,
    "probability": _two_digits,
    "difference of AUCs": signed,
    "difference of shares": signed,
    "per cent of the AUC": signed,
}


def _noise(name: str, compares: bool, text: Callable[[float], str], by_role: Mapping[str, Sequence[Mapping]]) -> str:
    values = []
    for role in ("retrained", "retrained_again"):
        found = [(run["measures"].get(name) or {}).get("value") for run in by_role.get(role, ())]
        found = [value for value in found if value is not None]
        values.append(float(np.mean(found)) if found else None)
    first, again = values
    if again is None:
        return ""
    if compares:
        return text(again)
    return text(abs(first - again)) if first is not None else ""


def _cell(found: Sequence[Mapping | None], text: Callable[[float], str]) -> dict[str, str] | None:
    found = [m for m in found if m]
    if not found:
        return None
    if len(found) > 1:
        values = [m["value"] for m in found if m["value"] is not None]
        return _spread(values, text) if values else {"value": "not finite", "interval": ""}
    m = found[0]
    if m["value"] is None:
        return {"value": "–", "interval": ""}
    interval = _range(m.get("low"), m.get("high"), text)
    if m.get("distance") is not None:
        interval = f"KS distance {number(m['distance'])}"
    return {"value": text(m["value"]), "interval": interval}


def _spread(values: Sequence[float], text: Callable[[float], str]) -> dict[str, str]:
    return {
        "value": text(float(np.mean(values))),
        "interval": _range(min(values), max(values), text) if len(values) > 1 else "",
    }


def _range(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    if low is None or high is None:
        return ""
    return f"{text(low).removesuffix(' %')} – {text(high)}"
