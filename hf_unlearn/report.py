"""From measures to something a person reads: the score table, `report.html`, the body of a model card.

Only dicts and arrays come in here, so a score card that was saved years ago is enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from . import findings as words
from . import verdict as gates
from .figures import BINS, loss_curves, loss_histogram
from .findings import BEFORE, ROLE_LABELS, ROLE_MEANINGS, ROLES, amount, findings, reason_text, tasks_of
from .verdict import number, percent

SPLITS = {"forget": "Forget rows", "unseen": "Unseen rows", "retain": "Retain rows", "test": "Test rows"}
MEASURES = {  # name after the split -> (label, share of a whole, what to hope for on forget rows, elsewhere)
    "loss": ("Loss (nats per label)", False, "as unseen rows", "low"),
    "accuracy": ("Answered right", True, "as unseen rows", "high"),
    "token_accuracy": ("Tokens predicted right", True, "as unseen rows", "high"),
    "exact_memorisation": ("Share of a row recalled", True, "as unseen rows", "high"),
    "exact_match": ("Rows recalled word for word", True, "as unseen rows", "high"),
    "perplexity": ("Perplexity", False, "as unseen rows", "low"),
    "mia_loss_auc": ("Membership by loss: AUC", False, "0.5", ""),
    "mia_loss_tpr_at_1fpr": ("Membership by loss: found at 1 % false alarms", True, "1 %", ""),
    "mia_loss_accuracy": ("Membership by loss: guessed right", True, "50 %", ""),
    "mia_entropy_auc": ("Membership by entropy: AUC", False, "0.5", ""),
    "mia_entropy_tpr_at_1fpr": ("Membership by entropy: found at 1 % false alarms", True, "1 %", ""),
    "mia_entropy_accuracy": ("Membership by entropy: guessed right", True, "50 %", ""),
}
UNSEEN_IDEAL = {"loss": "low", "perplexity": "low"}

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
        "Membership test",
        "An attacker sees how well the model does on a row and guesses whether the row was in its training data. "
        "AUC 0.5 is blind guessing, 1 is certainty. Clearly below 0.5 the rows stand out as deleted. “Found at 1 % "
        "false alarms” counts the forget rows an attacker finds who accuses almost nobody wrongly.",
    ),
    (
        "Word for word",
        "Every labelled token of the answer is the model's first choice when the right answer so far is given "
        "(teacher forcing).",
    ),
    (
        "Interval",
        "95 % bootstrap interval over rows: what other rows of the same kind could have given with this same model. "
        "It does not contain the spread between training seeds.",
    ),
    ("Steps, row passes", "Weight updates of the run, and how many rows went forward and backward through the model."),
)
LIMITS = (
    "The measures look at the model's answers. They do not prove that no trace of the forget rows is left in its "
    "weights: relearning, quantising or other attacks may still bring something back.",
    "“Unseen rows” are a yardstick only if they are of the same kind as the forget rows and were never trained on. "
    "Where a whole class was removed, look at the retrained model instead.",
    "The words yes, partly, no and too much follow fixed thresholds of this project (listed below), not a standard.",
)


def score_table(card: Mapping[str, Any], task: str) -> dict[str, Any]:
    """
    The score table of one task as plain text: `roles` (columns, in the order of ROLES), `groups` (one per split:
    `title`, `n`, `rows` of `name`, `label`, `ideal`, `cells`), `cost` (rows of `label`, `cells`), `seeds`. A cell is
    `{"value", "interval"}`, both strings, or None. With several seeds a cell shows their mean and lowest – highest.
    """
    runs = [run for run in card["runs"] if run["task"] == task]
    roles = [role for role in ROLES if any(run["model"] == role for run in runs)]
    by_role = {role: [run for run in runs if run["model"] == role] for role in roles}
    names = list(dict.fromkeys(name for run in runs for name in run["measures"]))
    order = [*SPLITS, *dict.fromkeys(_parse(n)[0] for n in names if _parse(n)[0] not in SPLITS)]
    groups = []
    for split in order:
        kinds = list(MEASURES)
        inside = sorted(
            (n for n in names if _parse(n)[0] == split),
            key=lambda n: kinds.index(_parse(n)[1]) if _parse(n)[1] in kinds else len(kinds),
        )
        rows = []
        for name in inside:
            kind = _parse(name)[1]
            label, share, on_forget, elsewhere = MEASURES.get(kind, (name, False, "", ""))
            ideal = on_forget if split == "forget" else UNSEEN_IDEAL.get(kind, "") if split == "unseen" else elsewhere
            if split == "forget" and ideal.startswith("as ") and "retrained" in roles:
                ideal = "as retrained"
            cells = [_cell([run["measures"].get(name) for run in by_role[role]], share) for role in roles]
            rows.append({"name": name, "label": label, "ideal": ideal, "cells": cells})
        if rows:
            counts = {m["n"] for run in runs for n in inside if "_mia_" not in n and (m := run["measures"].get(n))}
            title = SPLITS.get(split, f"{split} rows" if split else "Other")
            groups.append({"title": title, "n": max(counts) if counts else None, "rows": rows})
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
    }


def _parse(name: str) -> tuple[str, str]:
    """`forget_mia_loss_auc` -> (forget, mia_loss_auc); a name of no known measure -> ("", name)."""
    for kind in sorted(MEASURES, key=len, reverse=True):
        if name.endswith(f"_{kind}"):
            return name.removesuffix(f"_{kind}"), kind
    return "", name


def _cell(found: Sequence[Mapping | None], share: bool) -> dict[str, str] | None:
    found = [m for m in found if m]
    if not found:
        return None
    text = (lambda v: percent(v)) if share else number
    if len(found) > 1:
        values = [m["value"] for m in found if m["value"] is not None]
        return _spread(values, text) if values else {"value": "not finite", "interval": ""}
    m = found[0]
    if m["value"] is None:
        return {"value": "–", "interval": ""}
    return {"value": text(m["value"]), "interval": _range(m["low"], m["high"], text)}


def _spread(values: Sequence[float], text) -> dict[str, str]:
    return {
        "value": text(float(np.mean(values))),
        "interval": _range(min(values), max(values), text) if len(values) > 1 else "",
    }


def _range(low: float | None, high: float | None, text) -> str:
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
        card: score card of schema 1.
        rows: dicts with `task`, `model`, `seed`, `split` and `loss`, an array of the rows' mean losses (nats); drawn
            as histograms. Seeds are pooled.
        histories: dicts with `task`, `model`, `seed` and `log_history`; drawn as curves. Seeds are overlaid.
        title: of the page.
        about: what was asked for, in a sentence; or a dict of task -> sentence.
        versions: library -> version; `None`: those installed.
    """
    said = findings(card)
    tasks = []
    for i, task in enumerate(tasks_of(card)):
        table = score_table(card, task)
        tasks.append(
            {
                "name": task,
                "about": about.get(task) if isinstance(about, Mapping) else about if i == 0 else None,
                "asked": _asked(card, task),
                "findings": [f for f in said if f["task"] == task and f["kind"] == "run"],
                "readiness": next((f for f in said if f["task"] == task and f["kind"] == "readiness"), None),
                "table": table,
                **_task_curves(histories, task, f"c{i}"),
                **_task_histograms(rows, task, f"h{i}"),
            }
        )
    thresholds = [
        ("forgot: yes, from this share of the unseen loss", words.FORGOT_LOSS_SHARE),
        ("forgot: partly, from this share of the way", words.PARTLY_SHARE),
        ("still told apart: AUC interval above", words.SEPARABLE_AUC),
        ("too much: AUC interval below", gates.OVER_AUC),
        ("… and below the retrained model's by", gates.OVER_AUC_MARGIN),
        ("… or forget loss above the retrained model's, times", gates.OVER_LOSS_RATIO),
        ("still answered right: more often than the yardstick by", words.STILL_KNOWN_EXCESS),
        ("damage: unseen loss above that before, times", words.DAMAGE_RATIO),
        ("kept: yes, from this share", gates.KEPT_WELL),
        ("kept: partly, from this share", gates.KEPT_PARTLY),
    ]
    return _template("report.html").render(
        title=title or "What was forgotten, and what was kept",
        tasks=tasks,
        glossary=GLOSSARY,
        limits=LIMITS,
        thresholds=thresholds,
        versions=dict(versions) if versions is not None else library_versions(),
    )


def render_card_section(card: Mapping[str, Any] | None, info: Mapping[str, Any]) -> str:
    """
    The body of a model card in Markdown, without YAML header.

    Args:
        card: score card of schema 1, or None if there is none yet.
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
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def library_versions() -> dict[str, str]:
    """Versions of the libraries a result depends on, without importing them."""
    found = {}
    for name in ("hf_unlearn", "torch", "transformers", "datasets", "peft", "accelerate", "numpy", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "hf_unlearn" not in found:
        from . import __version__

        found = {"hf_unlearn": __version__, **found}
    return found


def _asked(card: Mapping[str, Any], task: str) -> str:
    """What was asked for, as far as the numbers tell."""
    counts: dict[str, int] = {}
    for run in card["runs"]:
        if run["task"] == task:
            for split in SPLITS:
                loss = run["measures"].get(f"{split}_loss")
                if loss:
                    counts.setdefault(split, loss["n"])
    if "forget" not in counts:
        return ""
    n = counts["forget"]
    rows = "1 row" if n == 1 else f"{n} rows"
    others = [f"{counts[s]} {s}" for s in ("retain", "unseen", "test") if s in counts]
    measured = ""
    if others:
        listed = others[0] if len(others) == 1 else ", ".join(others[:-1]) + " and " + others[-1]
        measured = f" Measured beside {listed} rows."
    return f"The request: forget {rows}.{measured}"


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
