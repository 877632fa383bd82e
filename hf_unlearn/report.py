"""From measures to something a person reads: findings in plain language, `report.html`, the body of a model card.

Only dicts and arrays come in here, so a score card that was saved years ago is enough. The thresholds behind the
words "yes", "partly", "no" and "too much" are ours; they are the named constants below, and the report prints them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .schedule import STOP_REASONS

ROLES = ("original", "ready", "unlearned", "ready_unlearned", "retrained")
ROLE_LABELS = {
    "original": "original",
    "ready": "ready",
    "unlearned": "unlearned",
    "ready_unlearned": "ready, then unlearned",
    "retrained": "retrained",
}
ROLE_MEANINGS = {
    "original": "trained as usual, before the request",
    "ready": "trained to be ready for deletion, before the request",
    "unlearned": "the original model after the request",
    "ready_unlearned": "the ready model after the request",
    "retrained": "trained from the start without the forget rows: what unlearning tries to reach",
}
BEFORE = {"unlearned": ("original",), "ready_unlearned": ("ready", "original")}  # what a run started from

# Verdicts, all ours.
FORGOT_LOSS_SHARE = 0.95  # the forget loss counts as having reached the unseen loss from this share of it
PARTLY_SHARE = 0.5  # share of the way from the loss before the request to the unseen loss that counts as "partly"
SEPARABLE_AUC = 0.6  # an AUC whose whole interval lies above: forget rows can still be told as trained on
OVER_AUC = 0.4  # an AUC whose whole interval lies below: forgotten so hard that the deletion shows
OVER_AUC_MARGIN = 0.1  # where a retrained model exists: that much below the low end of its interval, or
OVER_LOSS_RATIO = 2.0  # that many times its forget loss
DAMAGE_RATIO = 1.5  # that many times the unseen loss before the request: said as damage to the whole model
STILL_KNOWN_EXCESS = 0.05  # forget rows right beyond those of the yardstick, its interval left: still known
KEPT_WELL = 0.97  # share of the yardstick's utility from which it is called kept
KEPT_PARTLY = 0.90

UTILITIES = ("test", "retain"), ("accuracy", "token_accuracy")  # what was kept is the worst of these

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


# ----------------------------------------------------------------------------------------------------------------
# findings
# ----------------------------------------------------------------------------------------------------------------


def findings(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    What a score card (schema 1) says, in plain language: for each task one finding per unlearned run, then, where
    both were run, one on what readiness bought (`kind` "readiness").

    Each finding is a dict with `text` (the whole of it) and `kind`, `task`, `model`, `seed`; for runs also `forgot`
    ("yes", "partly", "no", "too much", "unknown"), `forgot_because` (list of sentences), `kept` (ratio or None),
    `kept_level` ("yes", "partly", "no", "unknown"), `kept_text`, `stopped_text`. The rules are [`judge`]'s.
    """
    found = []
    for task in _tasks(card):
        runs = [run for run in card["runs"] if run["task"] == task]
        judged = []
        for run in sorted(
            (r for r in runs if r["model"] in BEFORE), key=lambda r: (r["seed"], ROLES.index(r["model"]))
        ):
            peers = {r["model"]: r for r in runs if r["seed"] == run["seed"]}
            # A retrained model of another seed still shows what a model without these rows does.
            retrained = peers.get("retrained") or next((r for r in runs if r["model"] == "retrained"), None)
            before = next((peers[name] for name in BEFORE[run["model"]] if name in peers), None)
            judged.append(judge(run, before=before, retrained=retrained))
        several = len({finding["seed"] for finding in judged}) > 1
        for finding in judged:
            seed = f", seed {finding['seed']}" if several else ""
            parts = [f"forgot: {finding['forgot']}", f"kept: {finding['kept_text']}", finding["stopped_text"]]
            finding["name"] = f"{ROLE_LABELS[finding['model']]}{seed}"
            finding["text"] = f"{task} ({finding['name']}): {'; '.join(parts)}. {' '.join(finding['forgot_because'])}"
        found += judged
        bought = _readiness(task, runs, judged)
        if bought:
            found.append(bought)
    return found


def judge(
    run: Mapping[str, Any], before: Mapping[str, Any] | None = None, retrained: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    The verdict on one unlearned run; all thresholds are ours.

    *Forgot* is decided in this order.
    "unknown": there is no finite forget loss, or nothing to hold it against.
    "too much": the interval of `forget_mia_loss_auc` lies below OVER_AUC, so the rows stand out as deleted (the
    Streisand effect); with a retrained model only if it also lies OVER_AUC_MARGIN below the retrained model's, or the
    forget loss is above OVER_LOSS_RATIO times the retrained model's (after removing a whole class the retrained
    model's AUC is low, too).
    "yes": the forget loss is at least FORGOT_LOSS_SHARE of the unseen loss, no membership AUC's interval lies above
    SEPARABLE_AUC (nor above the retrained model's), and the forget rows are not answered right (word for word, for
    language models) more often than by the retrained model, or, without one, than the unseen rows are. More often
    means: by more than STILL_KNOWN_EXCESS and with intervals that do not overlap.
    "partly": the loss got there but one of the others did not; or it came at least PARTLY_SHARE of the way from
    before the request. "no": anything less.

    A loss that fell short, but whose interval overlaps the unseen rows', is "partly": so few rows cannot tell.

    *Kept* is accuracy (token accuracy for language models) as a ratio to the retrained model's, else to that before
    the request; of test and retain rows the worse, since a gain on one cannot pay for a loss on the other.
    """
    measures = run["measures"]
    forgot, because = _forgot(run, before, retrained)
    kept, level, kept_text = _kept(measures, before, retrained)
    return {
        "kind": "run",
        "task": run["task"],
        "model": run["model"],
        "seed": run["seed"],
        "forgot": forgot,
        "forgot_because": because,
        "kept": kept,
        "kept_level": level,
        "kept_text": kept_text,
        "stopped_text": _stopped(run.get("stop_reason")),
    }


def _kept(measures: Mapping, before: Mapping | None, retrained: Mapping | None) -> tuple[float | None, str, str]:
    splits, kinds = UTILITIES
    found = [(split, kind, _value(measures, f"{split}_{kind}")) for split in splits for kind in kinds]
    found = [(split, kind, value) for split, kind, value in found if value is not None]
    for other in (retrained, before):
        ratios = []
        for split, kind, value in found:
            yardstick = _value(other["measures"], f"{split}_{kind}") if other else None
            if yardstick:
                ratios.append((value / yardstick, split, kind.replace("_", " ")))
        if ratios:
            kept, split, what = min(ratios)
            level = "yes" if kept >= KEPT_WELL else "partly" if kept >= KEPT_PARTLY else "no"
            whose = "the retrained model's" if other is retrained else "its own"
            text = f"{_percent(kept)} of {whose} {what} on {split} rows"
            text += "" if other is retrained else " before the request"
            rest = [
                f"{_percent(ratio)} on {other_split} rows" for ratio, other_split, _ in ratios if other_split != split
            ]
            return kept, level, text + (f" ({', '.join(rest)})" if rest else "")
    if not found:
        return None, "unknown", "not measured"
    split, kind, value = found[0]
    return None, "unknown", f"{kind.replace('_', ' ')} {_percent(value)} on {split} rows, no model to compare with"


def _forgot(run: Mapping, before: Mapping | None, retrained: Mapping | None) -> tuple[str, list[str]]:
    measures = run["measures"]
    reference = retrained["measures"] if retrained else {}
    loss, unseen, aim = (
        _value(measures, "forget_loss"),
        _value(measures, "unseen_loss"),
        _value(reference, "forget_loss"),
    )
    if loss is None:
        broken = "forget_loss" in measures
        return "unknown", [
            "The forget loss is not a finite number." if broken else "The forget rows were not measured."
        ]
    yardstick, whose = (unseen, "rows it never saw") if unseen is not None else (aim, "the same rows when retrained")
    if yardstick is None:
        return "unknown", [f"The forget loss is {_number(loss)}, and there are no unseen rows to hold it against."]

    because = [f"Loss of the forget rows {_number(loss)}, of {whose} {_number(yardstick)}."]
    if retrained is None:
        because.append("No retrained model: compared with unseen rows only.")
    elif unseen is not None and aim is not None:
        because.append(f"A retrained model gives the forget rows {_number(aim)}.")
    start = _value(before["measures"], "forget_loss") if before else None
    start_yardstick = _value(before["measures"], "unseen_loss") if before else None
    reached = loss >= FORGOT_LOSS_SHARE * yardstick
    if start is not None and start_yardstick is not None and start >= FORGOT_LOSS_SHARE * start_yardstick:
        because.append(
            "Even before the request these rows looked like unseen ones by their loss, so the loss cannot show "
            "forgetting here."
        )

    auc = measures.get("forget_mia_loss_auc") or {}
    auc_reference = (reference.get("forget_mia_loss_auc") or {}).get("low")
    over = False
    if auc.get("high") is not None:
        over = auc["high"] < OVER_AUC
        if over and auc_reference is not None:
            far = aim is not None and loss > OVER_LOSS_RATIO * aim
            over = auc["high"] < auc_reference - OVER_AUC_MARGIN or far
    elif unseen is None:
        over = loss > OVER_LOSS_RATIO * yardstick
    if unseen is not None and start_yardstick is not None and unseen > DAMAGE_RATIO * start_yardstick:
        because.append(
            f"The unseen loss itself rose from {_number(start_yardstick)} to {_number(unseen)}: the model suffered."
        )
    if over:
        shows = f" (membership AUC {_number(auc['value'])})" if auc.get("value") is not None else ""
        because.append(
            f"The forget rows do so much worse than rows the model never saw{shows} that the deletion itself shows: "
            "over-forgetting is a failure, too."
        )
        if retrained is None:
            because.append("If a whole class was to be removed, only a retrained model can tell.")
        return "too much", because

    separable = False
    for score in ("loss", "entropy"):
        name = f"forget_mia_{score}_auc"
        auc, theirs = measures.get(name) or {}, (reference.get(name) or {}).get("high")
        if auc.get("low") is not None and auc["low"] > max(SEPARABLE_AUC, theirs or 0.0):
            separable = True
            told = f"AUC {_number(auc['value'])}" + (
                f", retrained {_number(reference[name]['value'])}" if theirs else ""
            )
            because.append(f"A membership test on the {score} still tells them from unseen rows ({told}).")
    known, sentence = _still_known(measures, reference)
    if sentence:
        because.append(sentence)
    if reached:
        return ("partly" if separable or known else "yes"), because
    if start is not None and start < yardstick:
        share = (loss - start) / (yardstick - start)
        because.append(f"The loss came {_percent(max(share, 0.0))} of the way from before the request.")
    else:
        share = loss / yardstick
    high, low = ((measures.get(name) or {}).get(end) for name, end in (("forget_loss", "high"), ("unseen_loss", "low")))
    if None not in (high, low) and high > low and not (separable or known):
        because.append("It falls short by no more than so few rows can tell apart.")
        return "partly", because
    return ("partly" if share >= PARTLY_SHARE else "no"), because


def _still_known(measures: Mapping, reference: Mapping) -> tuple[bool, str]:
    """Whether forget rows are answered right clearly more often than the yardstick says, and what to say of it."""
    for kind in ("exact_match", "accuracy"):
        mine = measures.get(f"forget_{kind}")
        if not mine or mine["value"] is None:
            continue
        right = round(mine["value"] * mine["n"])
        theirs, whose = reference.get(f"forget_{kind}"), "by the retrained model"
        if not theirs or theirs["value"] is None:
            theirs, whose = measures.get(f"unseen_{kind}"), "of the unseen rows"
        how = "given word for word" if kind == "exact_match" else "answered right"
        noun = "answers are" if kind == "exact_match" else "forget rows are"
        if not theirs or theirs["value"] is None:
            known = False
            than = ""
        else:
            intervals = None not in (mine["low"], theirs["high"])
            apart = mine["low"] > theirs["high"] if intervals else True
            known = apart and mine["value"] - theirs["value"] > STILL_KNOWN_EXCESS
            than = f" ({whose}: {round(theirs['value'] * theirs['n'])} of {theirs['n']})"
        if known:
            return True, f"But {right} of {mine['n']} {noun} still {how}{than}."
        if kind == "exact_match":  # said even where it is within the yardstick: it is what people ask
            if right:
                return False, f"But {right} of {mine['n']} {noun} still {how}{than}."
            return False, f"None of the {mine['n']} answers is given word for word any more."
    return False, ""


def _readiness(task: str, runs: Sequence[Mapping], judged: Sequence[Mapping]) -> dict[str, Any] | None:
    """Ready against plain: mean over the seeds that have both."""
    by_key = {(f["seed"], f["model"]): f for f in judged}
    steps_of = {(r["seed"], r["model"]): (r.get("cost") or {}).get("steps") for r in runs}
    seeds = sorted(s for s, model in by_key if model == "ready_unlearned" and (s, "unlearned") in by_key)
    if not seeds:
        return None
    parts = []
    ready, plain = ([steps_of[s, role] for s in seeds] for role in ("ready_unlearned", "unlearned"))
    if None not in ready and None not in plain:
        a, b = float(np.mean(ready)), float(np.mean(plain))
        ratio = ""
        if min(a, b) > 0 and a != b:
            ratio = f" ({_number(max(a, b) / min(a, b))} times {'fewer' if a < b else 'more'})"
        parts.append(f"{_amount(a)} steps instead of {_amount(b)}{ratio}")
    ready, plain = ([by_key[s, role]["kept"] for s in seeds] for role in ("ready_unlearned", "unlearned"))
    if None not in ready and None not in plain:
        parts.append(f"kept {_percent(float(np.mean(ready)))} instead of {_percent(float(np.mean(plain)))}")
    ready, plain = (
        " / ".join(dict.fromkeys(by_key[s, role]["forgot"] for s in seeds)) for role in ("ready_unlearned", "unlearned")
    )
    parts.append(f"forgot: {ready}, without readiness: {plain}")
    counted = "one run of each" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    text = f"{task}, what readiness bought: {'; '.join(parts)} ({counted})."
    found = {"kind": "readiness", "task": task, "model": None, "seed": None}
    return {**found, "parts": parts, "runs": counted, "text": text}


def _stopped(reason: str | None) -> str:
    return f"stopped because {_reason(reason)}" if reason else "why it stopped was not recorded"


def _reason(reason: str) -> str:
    if reason in STOP_REASONS:
        return STOP_REASONS[reason]
    return reason.rstrip(".") if " " in reason else reason.replace("_", " ")


def _value(measures: Mapping[str, Any], name: str) -> float | None:
    return (measures.get(name) or {}).get("value")


def _tasks(card: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["task"] for run in card["runs"]))


def _amount(value: float) -> str:
    return f"{int(value):,}".replace(",", "\u202f") if float(value).is_integer() else _number(value)


def _number(value: float) -> str:
    if abs(value) >= 1e5:
        return f"{value:.2g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


# ----------------------------------------------------------------------------------------------------------------
# tables
# ----------------------------------------------------------------------------------------------------------------


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
            cells.append(_spread(values, lambda v: _amount(v)) if values else None)
        if any(cells):
            cost.append({"label": label, "cells": cells})
    reasons = [
        "; ".join(dict.fromkeys(_reason(r["stop_reason"]) for r in by_role[role] if r.get("stop_reason")))
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
    text = (lambda v: _percent(v)) if share else _number
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


# ----------------------------------------------------------------------------------------------------------------
# figures
# ----------------------------------------------------------------------------------------------------------------

# Drawn in sentinel colours, which become CSS colours: one drawing for light, dark and paper.
_INK, _GRID = "#010203", "#010204"
_SERIES = {"forget": "#010205", "unseen": "#010206", "retain": "#010207", "alpha": "#010208", "tau": "#010209"}
_CSS = {_INK: "currentColor", _GRID: "var(--grid)", **{hex_: f"var(--{name})" for name, hex_ in _SERIES.items()}}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.unicode_minus": False,
}
_CURVES_SIZE = (4.6, 3.2)  # inches: about the width of a phone, so that the letters stay readable there
_HISTOGRAM_SIZE = (3.5, 2.1)
_MAX_POINTS = 300  # of one curve
_BINS = 24
CURVES = (  # key in the log, series, line style, label
    ("forget_loss", "forget", "-", "forget rows, batch"),
    ("look_forget_loss", "forget", ":", "forget rows, all"),
    ("unseen_loss", "unseen", "-", "unseen rows, all"),
    ("tau", "tau", "--", "τ, the target"),
    ("retain_loss", "retain", "-", "retain rows, batch"),
    ("look_retain_loss", "retain", ":", "retain rows, all"),
)


def loss_curves(histories: Sequence[Sequence[Mapping[str, Any]]], prefix: str) -> tuple[str, list[dict]] | None:
    """
    Loss over the steps of an unlearning run, α below. `histories`: logs of the seeds of one run (lists of dicts with
    `step` and any of the keys of CURVES and `alpha`). Returns the SVG and its legend, or None if nothing was logged.
    """
    present = [curve for curve in CURVES if any(_series(history, curve[0])[0].size for history in histories)]
    with_alpha = any(_series(history, "alpha")[0].size for history in histories)
    if not present:
        return None

    def draw(figure):
        ratios = [3, 1] if with_alpha else [1]
        axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
        for history in histories:
            for key, series, line, _ in present:
                steps, values = _series(history, key)
                dots = {"marker": "o", "markersize": 2.5} if line == ":" or len(steps) < 3 else {}
                axes[0].plot(steps, values, linestyle=line, color=_SERIES[series], linewidth=1.3, **dots)
            if with_alpha:
                axes[1].plot(*_series(history, "alpha"), color=_SERIES["alpha"], linewidth=1.3)
        axes[0].set_ylabel("loss (nats)")
        axes[0].set_ylim(bottom=0)
        if with_alpha:
            axes[1].set_ylabel("α")
            axes[1].set_ylim(bottom=0)
            axes[1].locator_params(axis="y", nbins=3)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        figure.align_ylabels(axes)

    labels = {key: label for key, _, _, label in present}
    svg = _svg(draw, _CURVES_SIZE, prefix, f"Loss curves: {', '.join(labels.values())}")
    legend = [{"series": series, "line": line, "label": label} for _, series, line, label in present]
    if with_alpha:
        legend.append({"series": "alpha", "line": "-", "label": "α, the forget weight"})
    return svg, legend


def loss_histogram(forget: np.ndarray, unseen: np.ndarray, edges: np.ndarray, prefix: str) -> str:
    """
    SVG: share of forget (filled) and unseen rows (outline) by row loss (nats). Rows beyond an end are counted in its
    bin. The axis is logarithmic where the first edge is above 0.
    """

    def draw(figure):
        axis = figure.subplots()
        for series, losses in (("forget", forget), ("unseen", unseen)):
            share = _shares(losses, edges)
            if series == "forget":
                axis.stairs(share, edges, fill=True, color=_SERIES[series], alpha=0.55, linewidth=0)
            else:
                axis.stairs(share, edges, color=_SERIES[series], linewidth=1.6)
        if edges[0] > 0:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
            axis.minorticks_off()
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("loss of a row (nats)")
        axis.set_ylabel("share of rows")
        axis.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")

    return _svg(draw, _HISTOGRAM_SIZE, prefix, "Histogram of the losses of forget and unseen rows")


def _shares(losses: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(losses, edges[0], edges[-1]), edges)[0] / max(len(losses), 1)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [
        (e["step"], e[key]) for e in history if e.get("step") is not None and isinstance(e.get(key), (int, float))
    ]
    if not points:
        return np.empty(0), np.empty(0)
    steps, values = np.array(points, float).T
    if len(steps) > _MAX_POINTS:
        keep = np.unique(np.linspace(0, len(steps) - 1, _MAX_POINTS).round().astype(int))
        steps, values = steps[keep], values[keep]
    return steps, values


def _svg(draw, size: tuple[float, float], prefix: str, description: str) -> str:
    """An inline SVG: no ids shared with another figure, no address of any kind, colours from the page."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": prefix}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for sentinel, colour in _CSS.items():
        svg = svg.replace(sentinel, colour)
    svg = re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg, count=1)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


# ----------------------------------------------------------------------------------------------------------------
# pages
# ----------------------------------------------------------------------------------------------------------------


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
    for i, task in enumerate(_tasks(card)):
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
        ("forgot: yes, from this share of the unseen loss", FORGOT_LOSS_SHARE),
        ("forgot: partly, from this share of the way", PARTLY_SHARE),
        ("still told apart: AUC interval above", SEPARABLE_AUC),
        ("too much: AUC interval below", OVER_AUC),
        ("… and below the retrained model's by", OVER_AUC_MARGIN),
        ("… or forget loss above the retrained model's, times", OVER_LOSS_RATIO),
        ("still answered right: more often than the yardstick by", STILL_KNOWN_EXCESS),
        ("damage: unseen loss above that before, times", DAMAGE_RATIO),
        ("kept: yes, from this share", KEPT_WELL),
        ("kept: partly, from this share", KEPT_PARTLY),
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
    info["stop_text"] = _reason(info["stop_reason"]) if info["stop_reason"] else None
    text = _template("model_card.md").render(
        info=info,
        findings=findings(card) if card else [],
        tables=[score_table(card, task) for task in _tasks(card)] if card else [],
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
        edges = np.geomspace(start, end, _BINS + 1)
    else:
        edges = np.linspace(0, end, _BINS + 1)
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
