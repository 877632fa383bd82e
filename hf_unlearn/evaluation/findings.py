"""What a score card says in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..unlearning.stop_rule import STOP_REASONS
from .roles import BEFORE, ROLE_LABELS, ROLES
from .verdict import kept_share, number, over_forgotten, percent, value_of, verdict

# All ours.
FORGOT_LOSS_SHARE = 0.95  # the forget loss counts as having reached the unseen loss from this share of it
PARTLY_SHARE = 0.5  # share of the way from the loss before the request to the unseen loss that counts as "partly"
SEPARABLE_AUC = 0.6  # an AUC whose whole interval lies above: forget rows can still be told as trained on
DAMAGE_RATIO = 1.5  # that many times the unseen loss before the request: said as damage to the whole model
STILL_KNOWN_EXCESS = 0.05  # forget rows right beyond those of the yardstick, its interval left: still known


def findings(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    What a score card says, in plain language: for each task one finding per unlearned run, then, where
    both were run, one on what readiness bought (`kind` "readiness").

    Each finding is a dict with `text` (the whole of it) and `kind`, `task`, `model`, `seed`; for runs also `forgot`
    ("yes", "partly", "no", "too much", "unknown"), `forgot_because` (list of sentences), `kept` (ratio or None),
    `kept_level` ("yes", "partly", "no", "unknown"), `kept_text`, `stopped_text`, `verdict` (what
    [`~hf_unlearn.evaluation.verdict.verdict`] returns). The rules are [`judge`]'s.
    """
    found = []
    for task in tasks_of(card):
        runs = [run for run in card["runs"] if run["task"] == task]
        judged = []
        for run in sorted(
            (r for r in runs if r["model"] in BEFORE), key=lambda r: (r["seed"], ROLES.index(r["model"]))
        ):
            peers = peers_of(card, task, run["model"], run["seed"])
            before, retrained, again = (peers[name] for name in ("before", "retrained", "again"))
            told = verdict(run, before=before, retrained=retrained, again=again)
            stopped = _stopped(run.get("stop_reason"))
            judged.append({**judge(run, before=before, retrained=retrained), "stopped_text": stopped, "verdict": told})
        several = len({finding["seed"] for finding in judged}) > 1
        for finding in judged:
            seed = f", seed {finding['seed']}" if several else ""
            parts = [f"forgot: {finding['forgot']}", f"kept: {finding['kept_text']}", finding["stopped_text"]]
            finding["name"] = f"{ROLE_LABELS[finding['model']]}{seed}"
            finding["text"] = f"{task} ({finding['name']}): {'; '.join(parts)}. {' '.join(finding['forgot_because'])}"
            finding["text"] += f" {finding['verdict']['text']}" if finding["verdict"]["verdict"] != "unknown" else ""
        found += judged
        bought = _readiness(task, runs, judged)
        if bought:
            found.append(bought)
    return found


def peers_of(card: Mapping[str, Any], task: str, model: str, seed: int) -> dict[str, Mapping[str, Any] | None]:
    """
    The runs beside an unlearned one: `run`, `before`, `retrained`, `again`.

    A retrained model of another seed still shows what a model without these rows does.
    """
    runs = [run for run in card["runs"] if run["task"] == task]
    same = {run["model"]: run for run in runs if run["seed"] == seed}
    any_of = {run["model"]: run for run in reversed(runs)}
    return {
        "run": same[model],
        "before": next((same[name] for name in BEFORE[model] if name in same), None),
        "retrained": same.get("retrained") or any_of.get("retrained"),
        "again": same.get("retrained_again") or any_of.get("retrained_again"),
    }


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
            ratio = f" ({number(max(a, b) / min(a, b))} times {'fewer' if a < b else 'more'})"
        parts.append(f"{amount(a)} steps instead of {amount(b)}{ratio}")
    ready, plain = ([by_key[s, role]["kept"] for s in seeds] for role in ("ready_unlearned", "unlearned"))
    if None not in ready and None not in plain:
        parts.append(f"kept {percent(float(np.mean(ready)))} instead of {percent(float(np.mean(plain)))}")
    ready, plain = (
        " / ".join(dict.fromkeys(by_key[s, role]["forgot"] for s in seeds)) for role in ("ready_unlearned", "unlearned")
    )
    parts.append(f"forgot: {ready}, without readiness: {plain}")
    counted = "one run of each" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    text = f"{task}, what readiness bought: {'; '.join(parts)} ({counted})."
    found = {"kind": "readiness", "task": task, "model": None, "seed": None}
    return {**found, "parts": parts, "runs": counted, "text": text}


def _stopped(reason: str | None) -> str:
    return f"stopped because {reason_text(reason)}" if reason else "why it stopped was not recorded"


def reason_text(reason: str) -> str:
    if reason in STOP_REASONS:
        return STOP_REASONS[reason]
    return reason.rstrip(".") if " " in reason else reason.replace("_", " ")


def tasks_of(card: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["task"] for run in card["runs"]))


def amount(value: float) -> str:
    return f"{int(value):,}".replace(",", "\u202f") if float(value).is_integer() else number(value)


def judge(
    run: Mapping[str, Any], before: Mapping[str, Any] | None = None, retrained: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    The verdict on one unlearned run; all thresholds are ours.

    *Forgot* is decided in this order.
    "unknown": there is no finite forget loss, or nothing to hold it against.
    "too much": by [`~hf_unlearn.evaluation.verdict.over_forgotten`].
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
    kept, level, kept_text = kept_share(measures, before, retrained)
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
    }


def _forgot(run: Mapping, before: Mapping | None, retrained: Mapping | None) -> tuple[str, list[str]]:
    measures = run["measures"]
    reference = retrained["measures"] if retrained else {}
    loss, unseen, aim = (
        value_of(measures, "forget_loss"),
        value_of(measures, "unseen_loss"),
        value_of(reference, "forget_loss"),
    )
    if loss is None:
        broken = "forget_loss" in measures
        return "unknown", [
            "The forget loss is not a finite number." if broken else "The forget rows were not measured."
        ]
    yardstick, whose = (unseen, "rows it never saw") if unseen is not None else (aim, "the same rows when retrained")
    if yardstick is None:
        return "unknown", [f"The forget loss is {number(loss)}, and there are no unseen rows to hold it against."]

    because = [f"Loss of the forget rows {number(loss)}, of {whose} {number(yardstick)}."]
    if retrained is None:
        because.append("No retrained model: compared with unseen rows only.")
    elif unseen is not None and aim is not None:
        because.append(f"A retrained model gives the forget rows {number(aim)}.")
    start = value_of(before["measures"], "forget_loss") if before else None
    start_yardstick = value_of(before["measures"], "unseen_loss") if before else None
    reached = loss >= FORGOT_LOSS_SHARE * yardstick
    if start is not None and start_yardstick is not None and start >= FORGOT_LOSS_SHARE * start_yardstick:
        because.append(
            "Even before the request these rows looked like unseen ones by their loss, so the loss cannot show "
            "forgetting here."
        )

    over = over_forgotten(measures, reference)
    auc = measures.get("forget_mia_loss_auc") or {}
    if unseen is not None and start_yardstick is not None and unseen > DAMAGE_RATIO * start_yardstick:
        because.append(
            f"The unseen loss itself rose from {number(start_yardstick)} to {number(unseen)}: the model suffered."
        )
    if over:
        shows = f" (membership AUC {number(auc['value'])})" if auc.get("value") is not None else ""
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
            told = f"AUC {number(auc['value'])}" + (f", retrained {number(reference[name]['value'])}" if theirs else "")
            because.append(f"A membership test on the {score} still tells them from unseen rows ({told}).")
    known, sentence = _still_known(measures, reference)
    if sentence:
        because.append(sentence)
    if reached:
        return ("partly" if separable or known else "yes"), because
    if start is not None and start < yardstick:
        share = (loss - start) / (yardstick - start)
        because.append(f"The loss came {percent(max(share, 0.0))} of the way from before the request.")
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
