"""Which pictures a task gets: from its runs, rows and training logs to figures with labels and legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.catalogue import FINE_TUNES, SCORES, SPLITS, score_label
from ..evaluation.roles import BEFORE, ROLE_LABELS, ROLE_MEANINGS, ROLES
from .plots import (
    BINS,
    class_dots,
    loss_curves,
    loss_histogram,
    relearning_curves,
    roc_curves,
    shares,
    smoothing,
    top_loss,
    weight_lines,
)
from .words.names import fine_tune

ROC_ROLES = ("original", "unlearned", "ready_unlearned", "retrained")  # more lines could not be told from each other
CLASS_SPLITS = ("test", "retain", "unseen", "forget")  # whose rows are drawn class by class
MOST_CLASSES = 40


def panels(
    card: Mapping[str, Any],
    task: str,
    rows: Sequence[Mapping[str, Any]],
    histories: Sequence[Mapping[str, Any]],
    prefix: str,
) -> dict[str, Any]:
    """All of a task's pictures, by kind; `prefix` keeps the ids of a page's pictures apart."""
    return {
        **_curves(histories, task, f"c{prefix}"),
        **_relearning(card, task, f"r{prefix}"),
        **_rocs(rows, task, f"o{prefix}"),
        **_histograms(rows, task, f"h{prefix}"),
        **_weights(card, task, f"w{prefix}"),
        **_classes(card, task, f"k{prefix}"),
    }


def _relearning(card: Mapping[str, Any], task: str, prefix: str) -> dict[str, Any]:
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
    kinds = [*(k for k in FINE_TUNES if k in curves), *(k for k in curves if k not in FINE_TUNES)]
    return {
        "relearning": [
            {
                "label": f"Fine-tuned on {fine_tune(kind)}",
                "svg": relearning_curves(curves[kind], top, f"{prefix}-{j}"),
            }
            for j, kind in enumerate(kinds)
        ],
        "relearning_roles": _roles_in(line[0] for lines in curves.values() for line in lines),
    }


def _rocs(rows: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
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
            {"label": f"By {score_label(s)}", "svg": roc_curves(lines[s], f"{prefix}-{j}")}
            for j, s in enumerate(scores)
        ],
        "roc_roles": _roles_in(line[0] for some in lines.values() for line in some),
    }


def _weights(card: Mapping[str, Any], task: str, prefix: str) -> dict[str, Any]:
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


def _classes(card: Mapping[str, Any], task: str, prefix: str) -> dict[str, Any]:
    """One figure per split whose rows are of several classes, with a dot per model, the mean over its seeds."""
    request = ((card.get("provenance") or {}).get(task) or {}).get("request") or {}
    asked = [str(name) for name in request.get("values") or []] if request.get("by") == "class" else []
    found: dict[str, dict[str, dict[str, list[float]]]] = {}  # split -> role -> class -> shares
    for run in _in_order(card, task):
        for split, classes in ((run.get("details") or {}).get("classes") or {}).items():
            for one in classes if run["model"] in ROC_ROLES else ():
                name = str(one["name"] if one.get("name") is not None else one["label"])
                if one.get("accuracy") is not None:
                    of = found.setdefault(split, {}).setdefault(run["model"], {})
                    of.setdefault(name, []).append(one["accuracy"])
    figures, used = [], []
    for split in (split for split in CLASS_SPLITS if split in found):
        lines = [(role, {name: float(np.mean(s)) for name, s in of.items()}) for role, of in found[split].items()]
        names = list(dict.fromkeys(name for _, right in lines for name in right))
        if len(names) > 1:
            shown = _most_moved(names, dict(lines), asked)
            few = f" ({len(shown)} of {len(names)} classes, those that moved most)" if len(shown) < len(names) else ""
            svg = class_dots(shown, lines, asked, f"{prefix}-{split}")
            figures.append({"label": f"{SPLITS[split]}{few}", "svg": svg})
            used += [role for role, _ in lines]
    return {"classes": figures, "class_roles": _roles_in(used)}


def _most_moved(names: Sequence[str], lines: Mapping[str, Mapping[str, float]], first: Sequence[str]) -> list[str]:
    """At most MOST_CLASSES, in their order: those that were asked for, then those on which the models differ most."""

    def spread(name: str) -> float:
        shares = [right[name] for right in lines.values() if name in right]
        return max(shares) - min(shares)

    chosen = sorted(names, key=lambda name: (name not in first, -spread(name)))[:MOST_CLASSES]
    return [name for name in names if name in chosen]


def _in_order(card: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    runs = [run for run in card["runs"] if run["task"] == task]
    return sorted(runs, key=lambda run: (ROLES.index(run["model"]), run["seed"]))


def _roles_in(roles: Iterable[str]) -> list[dict[str, str]]:
    roles = set(roles)
    return [{"name": role, "label": ROLE_LABELS[role]} for role in ROLES if role in roles]


def _finite(values) -> np.ndarray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _curves(histories: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
    """One figure per unlearned model, all with one loss axis."""
    curves: list[dict[str, Any]] = []
    legend: dict[str, dict[str, str]] = {}
    logs_of = {
        role: [h["log_history"] for h in histories if h["task"] == task and h["model"] == role] for role in BEFORE
    }
    top = top_loss([log for logs in logs_of.values() for log in logs])
    for role, logs in logs_of.items():
        drawn = loss_curves(logs, f"{prefix}-{role}", top) if logs else None
        if drawn:
            window = max(map(smoothing, logs))
            curves.append({"label": ROLE_LABELS[role], "svg": drawn[0], "seeds": len(logs), "window": window})
            legend.update({item["label"]: item for item in drawn[1]})
    return {"curves": curves, "legend": list(legend.values())}


def _histograms(rows: Sequence[Mapping[str, Any]], task: str, prefix: str) -> dict[str, Any]:
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
    if most > 0 and np.median(everything) < 0.05 * end:  # on a linear axis most rows would be one bar
        start = max(float(np.quantile(everything, 0.01)), 1e-6 * end)
        edges = np.geomspace(start, end, BINS + 1)
    else:
        edges = np.linspace(0, end, BINS + 1)
    top = max(float(shares(part, edges).max()) for pooled in losses.values() for part in pooled.values())
    return {
        "histograms": [
            {
                "label": ROLE_LABELS[role],
                "meaning": ROLE_MEANINGS[role],
                "svg": loss_histogram(pooled["forget"], pooled["unseen"], edges, f"{prefix}-{role}", top),
            }
            for role, pooled in losses.items()
        ],
        "clipped": bool(everything.max() > edges[-1] or everything.min() < edges[0]),
        "logarithmic": bool(edges[0] > 0),
    }
