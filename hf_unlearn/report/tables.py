"""Score tables of the report and the model card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation import verdict as gates
from ..evaluation.faithfulness import WEAK_BY_KIND
from ..evaluation.findings import amount, reason_text
from ..evaluation.roles import ROLE_LABELS, ROLE_MEANINGS, ROLES
from ..evaluation.verdict import number, percent
from .answers import RECOVERY, SCORES

# Measures that told models that saw the rows from models that did not in fewer than 90 % of pairs: whole names, or what
# comes after the split.
WEAK_NOTE = "told models that saw such rows lightly from models that did not in fewer than 90 % of pairs"
SPLITS = {
    "forget": "Forget rows",
    "forget_int8": "Forget rows, int8 weights",
    "forget_int4": "Forget rows, int4 weights",
    "forget_rephrased": "Forget rows, asked in other words",
    "unseen": "Unseen rows",
    "retain": "Retain rows",
    "test": "Test rows",
    "real_authors": "Questions on real authors",
    "world_facts": "Questions on world facts",
}
FORGET_SPLITS = tuple(split for split in SPLITS if split.startswith("forget"))
MEMBERSHIP, AGAINST, RECOVERED, UTILITY, WEIGHTS, OTHER = (
    "Membership: forget rows against unseen rows",
    "Against the retrained model",
    "Recovery: relearning, area under the loss curve against the retrained model's",
    "The whole model",
    "Weights: relative distance",
    "Other",
)
GROUPS = ("forget", MEMBERSHIP, AGAINST, *FORGET_SPLITS[1:], RECOVERED)  # then the other splits, then the rest
MEASURES = {  # name after the split -> (label, shown as a share, what to hope for on forget rows, elsewhere)
    "loss": ("Loss (nats per label)", False, "as unseen rows", "low"),
    "accuracy": ("Answered right", True, "as unseen rows", "high"),
    "token_accuracy": ("Tokens predicted right", True, "as unseen rows", "high"),
    "prob": ("Probability of the answer", "short", "as unseen rows", "high"),
    "exact_memorisation": ("Share of a row recalled", True, "as unseen rows", "high"),
    "exact_match": ("Rows recalled word for word", True, "as unseen rows", "high"),
    "extraction_strength": ("Extraction strength", True, "as unseen rows", ""),
    "rougeL_recall": ("ROUGE-L recall of its own answer", True, "as unseen rows", "high"),
    "truth_ratio": ("Truth ratio", False, "", "high"),
    "perplexity": ("Perplexity", False, "as unseen rows", "low"),
}
MEMBERSHIP_MEASURES = {  # name after the score -> (label, share, what to hope for)
    "auc": ("AUC", False, "0.5"),
    "tpr_at_1fpr": ("found at 1 % false alarms", True, "1 %"),
    "tpr_at_01fpr": ("found at 0.1 % false alarms", True, "0.1 %"),
    "accuracy": ("guessed right", True, "50 %"),
}
AGAINST_MEASURES = {"auc_gap": ("AUC, difference", "0"), "privleak": ("PrivLeak (%)", "0")}
UNSEEN_IDEAL = {"loss": "low", "perplexity": "low"}
_MIA = re.compile(r"forget_(?:mia_)?(.+)_(auc_gap|privleak|auc|tpr_at_1fpr|tpr_at_01fpr|accuracy)")


def score_table(card: Mapping[str, Any], task: str) -> dict[str, Any]:
    """
    The score table of one task as plain text: `roles` (columns, in the order of ROLES), `groups` (one per split, and
    those of the model as a whole: `title`, `n`, `rows` of `name`, `label`, `ideal`, `cells`, `noise`, `weak`), `cost`
    (rows of `label`, `cells`), `seeds`, `noise` and `weak` (whether any row has one). A cell is `{"value",
    "interval"}`, both strings, or None. With several seeds a cell shows their mean and lowest – highest. `noise` of a
    row is how far `retrained_again` is from `retrained`, a string, empty where there is none; of a measure that itself
    compares with the retrained model, it is what that gives for `retrained_again`.
    """
    runs = [run for run in card["runs"] if run["task"] == task]
    roles = [role for role in ROLES if any(run["model"] == role for run in runs)]
    by_role = {role: [run for run in runs if run["model"] == role] for role in roles}
    places: dict[str, dict[str, dict[str, Any]]] = {}  # group -> name -> what is known of the measure
    for name in dict.fromkeys(name for run in runs for name in run["measures"]):
        known = _describe(name, "retrained" in roles)
        places.setdefault(known["group"], {})[name] = known
    splits = [*SPLITS, *(g for g in places if g not in (*SPLITS, *GROUPS, UTILITY, WEIGHTS, OTHER))]
    order = [*GROUPS, *(split for split in splits if split not in GROUPS), UTILITY, WEIGHTS, OTHER]
    text = any(name.endswith("_token_accuracy") for run in runs for name in run["measures"])
    weak_here = WEAK_BY_KIND["causal_lm" if text else "classifier"]
    groups = []
    for group in order:
        inside = sorted(places.get(group, {}).items(), key=lambda item: item[1]["order"])
        rows = []
        for name, known in inside:
            cells = [_cell([run["measures"].get(name) for run in by_role[role]], known["text"]) for role in roles]
            noise = _noise(name, known, by_role)
            weak = name.removeprefix("forget_") in weak_here
            listed = {key: known[key] for key in ("label", "ideal")}
            rows.append({"name": name, **listed, "cells": cells, "noise": noise, "weak": weak})
        if rows:
            counts = {m["n"] for run in runs for name, _ in inside if "n" in (m := run["measures"].get(name) or {})}
            title = SPLITS.get(group, f"{group} rows" if group in splits else group)
            groups.append({"title": title, "n": max(counts) if group in splits and counts else None, "rows": rows})
    cost = []
    for key, label in (("steps", "Steps"), ("row_passes", "Row passes"), ("seconds", "Seconds")):
        cells = []
        for role in roles:
            values = [(run.get("cost") or {}).get(key) for run in by_role[role]]
            values = [v for v in values if v is not None]
            cells.append(_spread(values, lambda v: amount(v)) if values else None)
        if any(cells):
            cost.append({"label": label, "cells": cells})
    reasons = [
        "; ".join(dict.fromkeys(reason_text(r["stop_reason"]) for r in by_role[role] if r.get("stop_reason")))
        for role in roles
    ]
    if any(reasons):
        cells = [{"value": reason, "interval": ""} if reason else None for reason in reasons]
        cost.append({"label": "Stopped because", "cells": cells})
    return {
        "task": task,
        "roles": [{"name": role, "label": ROLE_LABELS[role], "meaning": ROLE_MEANINGS[role]} for role in roles],
        "groups": groups,
        "cost": cost,
        "seeds": sorted({run["seed"] for run in runs}),
        "noise": any(row["noise"] for group in groups for row in group["rows"]),
        "weak": any(row["weak"] for group in groups for row in group["rows"]),
    }


def _describe(name: str, retrained: bool) -> dict[str, Any]:
    """Of a measure's name: `group`, `kind` (without its split), `label`, `text` (of a value), `ideal`, `order`."""
    found = {"group": OTHER, "kind": name, "label": name, "text": number, "ideal": "", "order": (99, 0), "own": False}
    if name == "forget_quality":
        return {
            **found,
            "group": AGAINST,
            "label": "Forget quality (p-value)",
            "ideal": "high",
            "order": (0, 0),
            "own": True,
        }
    if name == "model_utility":
        return {**found, "group": UTILITY, "label": "Model utility", "ideal": "high"}
    if name.startswith("weights_to_"):
        of = name.removeprefix("weights_to_")
        label = {"original": "To the model before the request", "retrained": "To the retrained model"}.get(
            of, f"To {of}"
        )
        return {**found, "group": WEIGHTS, "label": label, "order": (0, of), "own": of == "retrained"}
    if name.startswith("recovery_") and name.endswith("_area"):
        kind = name.removeprefix("recovery_").removesuffix("_area")
        order = list(RECOVERY).index(kind) if kind in RECOVERY else len(RECOVERY)
        label = f"Fine-tuned on {RECOVERY.get(kind, f'{kind} rows')}"
        return {**found, "group": RECOVERED, "label": label, "ideal": "1 or more", "order": (order, kind), "own": True}
    match = _MIA.fullmatch(name)
    if match and (name.startswith("forget_mia_") or match[1] == "lira"):
        score, kind = match.groups()
        shown = SCORES.get(score, score.replace("_", " "))
        at = list(SCORES).index(score) if score in SCORES else len(SCORES)
        of = f"{score}_{kind}" if score == "lira" else f"mia_{score}_{kind}"
        found = {**found, "kind": of}
        if kind in AGAINST_MEASURES:
            label, ideal = AGAINST_MEASURES[kind]
            order = (1 + list(AGAINST_MEASURES).index(kind), at)
            text = gates.signed
            label = f"By {shown}: {label}"
            return {
                **found,
                "group": AGAINST,
                "label": label,
                "text": text,
                "ideal": ideal,
                "order": order,
                "own": True,
            }
        label, share, ideal = MEMBERSHIP_MEASURES[kind]
        ideal = "as retrained" if retrained else ideal
        order = (at, list(MEMBERSHIP_MEASURES).index(kind))
        text = percent if share else number
        return {
            **found,
            "group": MEMBERSHIP,
            "label": f"By {shown}: {label}",
            "text": text,
            "ideal": ideal,
            "order": order,
        }
    for kind in sorted(MEASURES, key=len, reverse=True):
        if name.endswith(f"_{kind}"):
            split = name.removesuffix(f"_{kind}")
            label, share, on_forget, elsewhere = MEASURES[kind]
            ideal = elsewhere
            if split in FORGET_SPLITS:
                ideal = "as retrained" if retrained else on_forget
            elif split == "unseen":
                ideal = UNSEEN_IDEAL.get(kind, "")
            text = _two_digits if share == "short" else percent if share else number
            order = (list(MEASURES).index(kind), 0)
            return {
                "group": split,
                "kind": kind,
                "label": label,
                "text": text,
                "ideal": ideal,
                "order": order,
                "own": False,
            }
    return found


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


def _noise(name: str, known: Mapping[str, Any], by_role: Mapping[str, Sequence[Mapping]]) -> str:
    values = []
    for role in ("retrained", "retrained_again"):
        found = [(run["measures"].get(name) or {}).get("value") for run in by_role.get(role, ())]
        found = [value for value in found if value is not None]
        values.append(float(np.mean(found)) if found else None)
    first, again = values
    if again is None:
        return ""
    if known["own"]:
        return known["text"](again)
    return known["text"](abs(first - again)) if first is not None else ""


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
