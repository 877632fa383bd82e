"""The report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation import verdict as gates
from ..evaluation.catalogue import FINE_TUNES as RECOVERY
from ..evaluation.catalogue import SCORES, score_label
from ..evaluation.findings import (
    DAMAGE_RATIO,
    FORGOT_LOSS_SHARE,
    PARTLY_SHARE,
    SEPARABLE_AUC,
    STILL_KNOWN_EXCESS,
    findings,
    tasks_of,
)
from ..evaluation.roles import BEFORE, ROLE_LABELS, ROLE_MEANINGS, ROLES
from ..utils.versions import library_versions
from .answers import BY_LOSS, answers, asked, badge, capped, worst_first
from .plots import BINS, loss_curves, loss_histogram, relearning_curves, roc_curves, weight_lines
from .tables import WEAK_NOTE, score_table
from .templating import template

ROC_ROLES = ("original", "unlearned", "ready_unlearned", "retrained")  # more lines could not be told from each other
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
    ("forgot: yes, from this share of the unseen loss", FORGOT_LOSS_SHARE),
    ("forgot: partly, from this share of the way", PARTLY_SHARE),
    ("still told apart: AUC interval above", SEPARABLE_AUC),
    ("too much: AUC interval below", gates.OVER_AUC),
    ("… and below the retrained model's by", gates.OVER_AUC_MARGIN),
    ("… or forget loss above the unseen and the retrained model's, times", gates.OVER_LOSS_RATIO),
    ("still answered right: more often than the yardstick by", STILL_KNOWN_EXCESS),
    ("damage: unseen loss above that before, times", DAMAGE_RATIO),
    ("kept: yes, from this share", gates.KEPT_WELL),
    ("kept: partly, from this share", gates.KEPT_PARTLY),
    ("gate: forget quality at least (or the noise floor, if lower)", gates.QUALITY_FLOOR),
    ("gate: AUC from the retrained model's at most", gates.AUC_GAP),
    ("gate: utility, share of the retrained model's at least", gates.KEPT_SHARE),
    ("gate: extraction strength above the retrained model's at most", gates.EXTRACTION_EXCESS),
    ("gate: relearning area, share of the retrained model's at least", gates.RECOVERY_AREA),
    ("gate: right after quantisation beyond the retrained model's at most", gates.QUANTISED_EXCESS),
)


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
    return template("report.html").render(
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
            {"label": f"By {score_label(s)}", "svg": roc_curves(lines[s], f"{prefix}-{j}")}
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
