"""From measures to something a person reads: the score table, `report.html`, the body of a model card.

Only dicts and arrays come in here, so a score card that was saved years ago is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import findings as words
from . import verdict as gates
from .answers import BY_LOSS, RECOVERY, SCORES, answers, asked, badge, capped, worst_first
from .faithfulness import WEAK_BY_KIND
from .figures import BINS, loss_curves, loss_histogram, relearning_curves, roc_curves, weight_lines
from .findings import BEFORE, ROLE_LABELS, ROLE_MEANINGS, ROLES, amount, findings, reason_text, tasks_of
from .verdict import number, percent
from .versions import library_versions

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
ROC_ROLES = ("original", "unlearned", "ready_unlearned", "retrained")  # more lines could not be told from each other
UNSEEN_IDEAL = {"loss": "low", "perplexity": "low"}
_MIA = re.compile(r"forget_(?:mia_)?(.+)_(auc_gap|privleak|auc|tpr_at_1fpr|tpr_at_01fpr|accuracy)")

GLOSSARY = (
    ("Forget rows", "The rows that were asked to be deleted."),
    ("Retain rows", "Rows the model was trained on and should go on knowing."),
    ("Unseen rows", "Rows of the same kind that the model was never trained on: the yardstick for having forgotten."),
    ("Test rows", "Rows that were used for no decision at all; they show what the model is worth."),
    (
        "Retrained model",
        "The same model trained from the start without the forget rows. It is the yardstick where it exists; "
        "training it is what unlearning is meant to save.",
    ),
    (
        "Noise floor",
        "How far two retrained models differ that differ in their seed alone. A difference within it means nothing.",
    ),
    (
        "Ready",
        "Trained so that a later request for deletion is quick to meet (“unlearning readiness”); nothing has been "
        "deleted from a ready model yet.",
    ),
    (
        "Loss",
        "How surprised the model is by the right answer, in nats (natural-log units) per label. 0 is certainty. For a "
        "language model a label is a token.",
    ),
    (
        "τ (target)",
        "The loss that the forget rows should reach: by default that of the unseen rows, measured again as the model "
        "changes.",
    ),
    ("α (forget weight)", "Weight of forgetting against keeping in each step; it falls to zero during the run."),
    (
        "Over-forgetting",
        "The forget rows do so much worse than rows never seen that the deletion itself shows. It is a failure, too.",
    ),
    (
        "Membership test",
        "An attacker sees how well the model does on a row and guesses whether the row was in its training data. "
        "AUC: shown one forget row and one unseen row, how often the guess is right; 0.5 is blind guessing, 1 is "
        "certainty. Clearly below 0.5 the rows stand out as deleted.",
    ),
    (
        "ROC, TPR, FPR",
        "An attacker who accuses more rows finds more forget rows (true positives, TPR) and wrongly accuses more "
        "unseen rows (false positives, FPR); the ROC curve shows the one over the other. The start of the curve "
        "counts most: rows found at 1 % false alarms are found almost for certain.",
    ),
    (
        "Min-K%, zlib, U-LiRA",
        "Other membership tests: on the least likely tokens of a row; on the loss against how well the text "
        "compresses; against a few “shadow” models that unlearned the row and some that never saw it.",
    ),
    (
        "PrivLeak",
        "AUC against the retrained model's, in per cent of it. Above 0 more leaks, below 0 is over-forgetting.",
    ),
    (
        "Word for word",
        "Every labelled token of the answer is the model's first choice when the right answer so far is given "
        "(teacher forcing).",
    ),
    (
        "Extraction strength",
        "The share of an answer, at its end, that the model gives by itself once the part before is given.",
    ),
    (
        "Truth ratio",
        "How likely wrong answers are beside the right one in other words. A model that never saw a row has no reason "
        "to prefer either.",
    ),
    (
        "Forget quality",
        "p-value of a test (Kolmogorov-Smirnov) that the forget rows' values look alike in the unlearned and in the "
        "retrained model. Near 0: they do not.",
    ),
    (
        "Power",
        "What a test could have seen. With few rows a difference can be there and not show: a test that is passed "
        "without power proves nothing.",
    ),
    (
        "Relearning",
        "Fine-tuning for a few steps, to see whether the forget rows come back faster than a model learns them that "
        "never saw them.",
    ),
    (
        "Quantisation",
        "Rounding the weights to 8 or 4 bits, as is done to run a model on small machines. Small changes that "
        "unlearning made can be rounded away.",
    ),
    (
        "Interval",
        "95 % bootstrap interval over rows: what other rows of the same kind could have given with this same model. "
        "It does not contain the spread between training seeds.",
    ),
    ("Steps, row passes", "Weight updates of the run, and how many rows went forward and backward through the model."),
)
LIMITS = (
    "Only the attacks named on this page were tried, with the rows and steps that it names. Others, or the same with "
    "more of them, may still bring something back; no measure proves that no trace is left in the weights.",
    "“Unseen rows” are a yardstick only if they are of the same kind as the forget rows and were never trained on. "
    "Where a whole class was removed, look at the retrained model instead.",
    "Compared with unseen rows only, that is without a retrained model, nobody can say what the model would have been "
    "without these rows: rows can be easier or harder than unseen ones for reasons of their own.",
    "A test that is passed shows no more than it could have seen; the page says where that is too little.",
    "The words yes, partly, no and too much, and the limits of the gates, are thresholds of this project (listed "
    "below), not a standard.",
)
THRESHOLDS = (
    ("forgot: yes, from this share of the unseen loss", words.FORGOT_LOSS_SHARE),
    ("forgot: partly, from this share of the way", words.PARTLY_SHARE),
    ("still told apart: AUC interval above", words.SEPARABLE_AUC),
    ("too much: AUC interval below", gates.OVER_AUC),
    ("… and below the retrained model's by", gates.OVER_AUC_MARGIN),
    ("… or forget loss above the unseen and the retrained model's, times", gates.OVER_LOSS_RATIO),
    ("still answered right: more often than the yardstick by", words.STILL_KNOWN_EXCESS),
    ("damage: unseen loss above that before, times", words.DAMAGE_RATIO),
    ("kept: yes, from this share", gates.KEPT_WELL),
    ("kept: partly, from this share", gates.KEPT_PARTLY),
    ("gate: forget quality at least (or the noise floor, if lower)", gates.QUALITY_FLOOR),
    ("gate: AUC from the retrained model's at most", gates.AUC_GAP),
    ("gate: utility, share of the retrained model's at least", gates.KEPT_SHARE),
    ("gate: extraction strength above the retrained model's at most", gates.EXTRACTION_EXCESS),
    ("gate: relearning area, share of the retrained model's at least", gates.RECOVERY_AREA),
    ("gate: right after quantisation beyond the retrained model's at most", gates.QUANTISED_EXCESS),
)


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


def render_html(
    card: Mapping[str, Any],
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    histories: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
    about: str | Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """
    The report: one self-contained HTML page that loads nothing.

    Args:
        card: score card of schema 1 or 2.
        rows: dicts with `task`, `model`, `seed`, `split` and `loss`, an array of the rows' mean losses (nats), and
            perhaps `scores`, a dict of membership score -> array (the lower the more likely a member); drawn as
            histograms, where seeds are pooled, and as ROC curves, where they are overlaid.
        histories: dicts with `task`, `model`, `seed` and `log_history`; drawn as curves. Seeds are overlaid.
        title: of the page.
        about: what was asked for, in a sentence; or a dict of task -> sentence. Where there is none, that of the card's
            provenance.
        versions: library -> version with which the page was made; `None`: those installed.
    """
    said = findings(card)
    provenance = card.get("provenance") or {}
    tasks = []
    for i, task in enumerate(tasks_of(card)):
        found = [f for f in said if f["task"] == task and f["kind"] == "run"]
        made = provenance.get(task) or {}
        blocks = _blocks(card, found)
        bought = next((f for f in said if f["task"] == task and f["kind"] == "readiness"), None)
        if bought and any(block["forgotten_short"] == BY_LOSS for block in blocks):  # no more than the blocks say
            bought = {
                **bought,
                "parts": [part.replace("forgot:", "forgot, by their loss:") for part in bought["parts"]],
            }
        given = about.get(task) if isinstance(about, Mapping) else about if i == 0 else None
        tasks.append(
            {
                "name": task,
                "id": f"t{i}",
                "about": given or made.get("asked"),
                "asked": asked(card, task),
                "blocks": blocks,
                "findings": [{**f, "badge": badge(f)} for f in found],
                "readiness": bought,
                "table": score_table(card, task),
                "made": {"commands": [], "models": {}, "data": {}, "versions": {}, **made} if made else {},
                **_task_curves(histories, task, f"c{i}"),
                **_task_relearning(card, task, f"r{i}"),
                **_task_rocs(rows, task, f"o{i}"),
                **_task_histograms(rows, task, f"h{i}"),
                **_task_weights(card, task, f"w{i}"),
            }
        )
    return _template("report.html").render(
        title=title or "What was forgotten, and what was kept",
        tasks=tasks,
        glossary=GLOSSARY,
        limits=LIMITS,
        thresholds=THRESHOLDS,
        weak_note=WEAK_NOTE,
        role_labels=ROLE_LABELS,
        versions=dict(versions) if versions is not None else library_versions(),
    )


def _blocks(card: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One per unlearned model: the seed with the worst verdict, and in a sentence what the others say."""
    blocks = []
    for role in BEFORE:
        shown, *others = worst_first([f for f in found if f["model"] == role]) or (None,)
        if shown is None:
            continue
        share = f", {capped(shown['kept'])}" if shown["kept"] is not None else ""
        short = {"name": ROLE_LABELS[role], "kept_short": f"{shown['kept_level']}{share}"}
        block = {"finding": shown, **short, **answers(card, shown)}
        if others:
            rest = "; ".join(f"seed {f['seed']}: {f['verdict']['verdict']}, forgot: {f['forgot']}" for f in others)
            block["sure"].append(f"Shown is seed {shown['seed']}, no seed is worse. The others: {rest}.")
        for part in ("forgotten", "kept", "sure"):
            block[part] = [_glued(sentence) for sentence in block[part]]
        block["attacker"]["points"] = [_glued(sentence) for sentence in block["attacker"]["points"]]
        blocks.append(block)
    return blocks


def _glued(text: str) -> str:
    """No line breaks between a number and its per-cent sign."""
    return text.replace(" %", "\u00a0%")


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
    text = _template("model_card.md").render(
        info=info,
        findings=findings(card) if card else [],
        tables=[score_table(card, task) for task in tasks_of(card)] if card else [],
        weak_note=WEAK_NOTE,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _task_relearning(card: Mapping[str, Any], task: str, prefix: str) -> dict[str, Any]:
    """One figure per kind of fine-tune, with a line per run; one loss axis for all."""
    curves: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for run in _in_order(card, task):
        for kind, curve in ((run.get("details") or {}).get("recovery") or {}).items():
            points = [(p["step"], p["loss"]) for p in curve if p.get("loss") is not None]
            if points:
                curves.setdefault(kind, []).append((run["model"], *np.array(points, float).T))
    if not curves:
        return {"relearning": [], "relearning_roles": []}
    top = max(float(loss.max()) for lines in curves.values() for _, _, loss in lines)
    kinds = [*(k for k in RECOVERY if k in curves), *(k for k in curves if k not in RECOVERY)]
    return {
        "relearning": [
            {
                "label": f"Fine-tuned on {RECOVERY.get(kind, f'{kind} rows')}",
                "svg": relearning_curves(curves[kind], top, f"{prefix}-{j}"),
            }
            for j, kind in enumerate(kinds)
        ],
        "relearning_roles": _roles_in(line[0] for lines in curves.values() for line in lines),
    }


def _task_rocs(rows: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
    """One figure per membership score, with a line per model and seed."""
    found: dict[tuple[str, int], dict[str, dict[str, np.ndarray]]] = {}  # (role, seed) -> split -> score -> values
    for r in rows:
        if r["task"] == task and r["split"] in ("forget", "unseen") and r["model"] in ROC_ROLES:
            values = {"loss": r["loss"], **(r.get("scores") or {})}
            found.setdefault((r["model"], r["seed"]), {})[r["split"]] = {k: _finite(v) for k, v in values.items()}
    lines: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for role, seed in sorted(found, key=lambda key: (ROLES.index(key[0]), key[1])):
        sides = found[role, seed]
        if len(sides) == 2:
            for score, forget in sides["forget"].items():
                unseen = sides["unseen"].get(score, np.empty(0))
                if len(forget) and len(unseen):
                    lines.setdefault(score, []).append((role, forget, unseen))
    scores = [*(s for s in SCORES if s in lines), *(s for s in lines if s not in SCORES)]
    return {
        "rocs": [
            {"label": f"By {SCORES.get(s, s.replace('_', ' '))}", "svg": roc_curves(lines[s], f"{prefix}-{j}")}
            for j, s in enumerate(scores)
        ],
        "roc_roles": _roles_in(line[0] for some in lines.values() for line in some),
    }


def _task_weights(card: Mapping[str, Any], task: str, prefix: str) -> dict[str, Any]:
    figures, used = [], []
    for key, label in (
        ("to_original", "From the model before the request"),
        ("to_retrained", "From the retrained model"),
    ):
        lines = [
            (run["model"], layers)
            for run in _in_order(card, task)
            if (layers := (((run.get("details") or {}).get("weights") or {}).get(key) or {}).get("layers"))
        ]
        if lines:
            figures.append({"label": label, "svg": weight_lines(lines, f"{prefix}-{key}")})
            used += [role for role, _ in lines]
    return {"weights": figures, "weight_roles": _roles_in(used)}


def _in_order(card: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    runs = [run for run in card["runs"] if run["task"] == task]
    return sorted(runs, key=lambda run: (ROLES.index(run["model"]), run["seed"]))


def _roles_in(roles) -> list[dict[str, str]]:
    roles = set(roles)
    return [{"name": role, "label": ROLE_LABELS[role]} for role in ROLES if role in roles]


def _finite(values) -> np.ndarray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _task_curves(histories: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
    curves: list[dict[str, Any]] = []
    legend: dict[str, dict[str, str]] = {}
    for role in BEFORE:
        logs = [h["log_history"] for h in histories if h["task"] == task and h["model"] == role]
        drawn = loss_curves(logs, f"{prefix}-{role}") if logs else None
        if drawn:
            curves.append({"label": ROLE_LABELS[role], "svg": drawn[0], "seeds": len(logs)})
            legend.update({item["label"]: item for item in drawn[1]})
    return {"curves": curves, "legend": list(legend.values())}


def _task_histograms(rows: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
    losses: dict[str, dict[str, np.ndarray]] = {}
    for role in ROLES:
        pooled = {}
        for split in ("forget", "unseen"):
            parts = [
                np.asarray(r["loss"], float) for r in rows if (r["task"], r["model"], r["split"]) == (task, role, split)
            ]
            pooled[split] = np.concatenate(parts) if parts else np.empty(0)
            pooled[split] = pooled[split][np.isfinite(pooled[split])]
        if all(len(p) for p in pooled.values()):
            losses[role] = pooled
    if not losses:
        return {"histograms": [], "clipped": False, "logarithmic": False}
    everything = np.concatenate([p for pooled in losses.values() for p in pooled.values()])
    most, end = float(everything.max()), float(np.quantile(everything, 0.99))
    end = (most if most <= 1.25 * end else end) or most or 1.0  # few rows far out shall not squeeze the others
    if (
        most > 0 and np.median(everything) < 0.05 * end
    ):  # most rows would be one bar: tell them apart on a logarithmic axis
        start = max(float(np.quantile(everything, 0.01)), 1e-6 * end)
        edges = np.geomspace(start, end, BINS + 1)
    else:
        edges = np.linspace(0, end, BINS + 1)
    return {
        "histograms": [
            {
                "label": ROLE_LABELS[role],
                "meaning": ROLE_MEANINGS[role],
                "svg": loss_histogram(pooled["forget"], pooled["unseen"], edges, f"{prefix}-{role}"),
            }
            for role, pooled in losses.items()
        ],
        "clipped": bool(everything.max() > edges[-1] or everything.min() < edges[0]),
        "logarithmic": bool(edges[0] > 0),
    }


def _template(name: str):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["md"] = lambda value: " ".join(str(value).split()).replace("|", "\\|")
    return environment.get_template(name)
