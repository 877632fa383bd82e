"""The answers that the study's page begins with, and what they rest on: the judgement of `judgement`, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hf_unlearn.evaluation.gates import Level
from recipes.study.judgement import (
    CHEAP,
    GAP_BY_LOSS,
    KNOWN,
    UTILITY,
    Standing,
    again_of,
    best_verdicts,
    like_retraining,
    not_told,
    outcome,
    pays_for,
    sides,
    standing,
    told_by_arm,
)
from recipes.study.outcomes import PLAIN, READY
from recipes.study.tasks import TASKS
from recipes.study.trial import FINE_TUNED_ON
from recipes.study.words import ANY, cell, inline, name_of, number, points, share, signed

RESISTING = ("relearn", "align")


def measured(tasks: Mapping[str, Mapping], name: str, arms: Sequence[str]) -> dict[str, dict]:
    """Case (a task, with more arms than one "task, arm") -> figure, of those that have some seeds."""
    found = {
        task if len(arms) == 1 else f"{task}, {name_of(arm)}": outcome(one, arm, name)
        for task, one in tasks.items()
        for arm in arms
    }
    return {case: f for case, f in found.items() if f and (f["n"] or f.get("neither"))}


def extremes(found: Mapping[str, Mapping], text: Callable[[float], str]) -> str:
    """ "2.31 (1.9–2.8, n = 5) on people"; of more cases the lowest and the highest."""
    cases = sorted((c for c, f in found.items() if f["value"] is not None), key=lambda c: found[c]["value"])
    low, *_, high = [f"{inline(found[case], text)} on {case}" for case in cases] * 2 or ("", "")
    if len(cases) < 3:
        return low if len(cases) < 2 else f"{low}, {high}"
    return f"from {low} to {high}"


def badge(found: Standing) -> dict[str, str]:
    """Level (a colour) and words: on how many of the cases with an interval the good side is shown."""
    if not found.known:
        word = "too few seeds to say" if found.few else "not measured yet"
    else:
        word = f"yes, on {found.good} of {found.known}" if found.good else f"not shown on any of {found.known}"
    return {"level": found.level.value, "word": word}


def sentences(
    parts: Mapping[str, Mapping], words: Mapping[str, str], text: Callable[[float], str]
) -> list[tuple[str, str]]:
    """What was found on which side, as `(lead, rest)`; `words`: of "above" and "below"."""
    words = {**words, "open": "Not told apart from equal compute:"}
    found = [(words[key], f"{extremes(parts[key], text)}.") for key in ("above", "below", "open") if parts[key]]
    if parts["few"]:
        found.append(("Too few seeds, or too few that finished, for an interval:", f"{', '.join(parts['few'])}."))
    return found


def pays(tasks: Mapping[str, Mapping]) -> dict:
    asked = measured(tasks, "ratio", [READY])
    parts = sides(asked)
    words = {"above": "Times fewer row passes than with equal compute:", "below": "More row passes (below 1):"}
    said = sentences(parts, words, number)
    for label, name, text in (
        ("Kept when done, ready − equal compute, points:", "kept_difference", points),
        ("Held-out accuracy when done, ready − equal compute, points:", "after_difference", points),
        ("Accuracy before any request, ready ÷ plain − 1, %:", "utility", points),
        ("Forget rows right before any request, ready − plain, points:", "forget_before", points),
        ("Requests of the same size until the dearer training is paid back:", "break_even", number),
    ):
        found = measured(tasks, name, [READY])
        if shown := extremes(found, text):
            said.append(("", f"{label} {shown}."))
        if name == "break_even" and (never := [task for task, f in found.items() if f["value"] is None]):
            said.append(("Never paid back in half of the seeds or more:", f"{', '.join(never)}."))
    paying = pays_for(tasks, asked)
    word = {"word": f"by all marks on {paying.good} of {paying.known}", "level": paying.level.value}
    shown = word if paying.known else badge(standing(parts))
    marks = "half the row passes, interval beyond 1; not shown to keep less; on average no more lost before the "
    marks += f"request than {share(-UTILITY)} of plain's accuracy and {share(-KNOWN)} of the forget rows. "
    said.append(("All marks:", f"{marks}They do not ask whether requests pay for training."))
    return {"question": "Does readiness pay?", **shown, "said": said}


def pays_for_any(tasks: Mapping[str, Mapping]) -> dict:
    parts = sides(measured(tasks, "ratio", ANY))
    words = {"above": "Times fewer row passes than with equal compute:", "below": "More row passes (below 1):"}
    return {"question": "And if no row was named?", **badge(standing(parts)), "said": sentences(parts, words, number)}


def recovers(tasks: Mapping[str, Mapping]) -> dict:
    name = "area_real_difference"
    words = {"above": "Comes back more slowly (area, + is slower):", "below": "Comes back faster:"}
    parts = sides(measured(tasks, name, [READY]))
    said = sentences(parts, words, signed)
    if shown := extremes(measured(tasks, "area_real", [READY]), number):
        said.append(("", f"Against a retrained model (1): {shown}."))
    for arm in (READY, PLAIN):
        asked = {task: f for task, one in tasks.items() if (f := one["resisted"].get(arm, {}).get("area_real"))}
        if shown := extremes({task: f for task, f in asked.items() if f["n"]}, number):
            said.append(("", f"Where {arm} models forgot under resistance, against a retrained model (1): {shown}."))
    if shown := extremes(measured(tasks, name, RESISTING), signed):
        said.append(("", f"With a resistance term in training, − equal compute: {shown}."))
    return {"question": "Does it resist recovery from real rows?", **badge(standing(parts)), "said": said}


def said_of_verdicts(tasks: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    best, said = best_verdicts(tasks), []
    for task, lines in best.items():
        tried = [v for v in tasks[task]["verdicts"] if v["rate"]]
        gaps, rates = (len({v[key] for v in tried}) for key in ("gap", "rate"))
        chosen = f"(the best of {gaps} gaps over all tasks, and of {rates} rates here, by this very mark):"
        said.append((f"{task}, gap {lines[0]['gap']} at {lines[0]['rate']:g}", chosen))
        for line in lines:
            again = again_of(tasks[task], line["yardstick"])
            noise = f" (a second retrained model: {not_told(again)} of {len(again['seeds'])})" if again else ""
            n, passes = len(line["seeds"]), f"{inline(line['share'], share)} of its row passes"
            against = f"against retraining for {line['yardstick']}, not told apart in {not_told(line)} of {n} seeds"
            gap = line["measures"].get(GAP_BY_LOSS)
            over = f"; AUC gap over all seeds {inline(gap, signed)}" if gap and gap["n"] else ""
            said.append(("", f"{against}{noise}, by {passes}{over}."))
    return said


def matches(tasks: Mapping[str, Mapping]) -> dict:
    """∇τ against retraining, from plain and from ready models."""
    said, told = said_of_verdicts(tasks), told_by_arm(tasks)
    for arm, by_task in told.items():
        known = [task for task, one in by_task.items() if one is not None]
        if known:
            gaps = extremes(measured({task: tasks[task] for task in known}, "auc_gap", [arm]), signed)
            below, n = (sum(outcome(tasks[t], arm, "ks_p")[key] for t in known) for key in ("apart", "n"))
            apart = ", ".join(task for task in known if by_task[task]) or "none"
            rest = f"{apart}. AUC gap: {gaps}. KS p below .05 in {below} of {n} seeds."
            said.append((f"From {arm} models, at their first good look, told apart from retrained:", rest))
    few = [f"{task} from {arm}" for arm, by_task in told.items() for task, one in by_task.items() if one is None]
    if few:
        said.append(("Too few seeds that finished:", f"{', '.join(few)}."))
    seen = [one for by_task in told.values() for one in by_task.values() if one is not None]
    classes = [task for task in tasks if task in TASKS and TASKS[task].goal == "chance"]
    if classes and seen:
        said.append(("", f"For a class ({', '.join(classes)}) the target is guessing, not the retrained model's loss."))
    said.append(("", "Not told apart is no proof of a match: with few rows and seeds only large differences show."))
    like = like_retraining(tasks)
    if like:
        rule = f"not told apart as often as a second retrained model, by {share(CHEAP)} of its row passes at most, "
        said.append(("Like retraining:", f"{rule}the AUC gap over all seeds not apart from 0."))
        shown = {"level": like.level.value, "word": f"like retraining in {like.good} of {like.known} cases"}
    elif not seen:
        shown = badge(Standing(Level.UNKNOWN, 0, 0, bool(few)))
    else:
        level = Level.NO if all(seen) else Level.PARTLY if any(seen) else Level.UNKNOWN
        shown = {"level": level.value, "word": f"told apart in {sum(seen)} of {len(seen)} cases"}
    return {"question": "Does ∇τ match retraining?", **shown, "said": said}


def cards(tasks: Mapping[str, Mapping]) -> list[dict]:
    found = [pays(tasks), pays_for_any(tasks), recovers(tasks), matches(tasks)]
    return [{**card, "said": card["said"] or [("", "No model that is here says anything of it.")]} for card in found]


def details(tasks: Mapping[str, Mapping]) -> dict:
    """What the cards rest on, a line a task."""
    columns = [
        ("row passes, equal compute ÷ ready", READY, "ratio", number),
        *((f"equal compute ÷ {arm}", arm, "ratio", number) for arm in ANY),
        ("kept, ready − equal, points", READY, "kept_difference", points),
        ("accuracy before, ready ÷ plain − 1, %", READY, "utility", points),
        *(
            (f"recovery area, {kind} rows, ready − equal", READY, f"area_{kind}_difference", signed)
            for kind in FINE_TUNED_ON
        ),
        ("AUC gap to retrained, from plain", PLAIN, "auc_gap", signed),
        ("AUC gap, from ready", READY, "auc_gap", signed),
    ]
    columns = [c for c in columns if any(outcome(one, *c[1:3]) for one in tasks.values())]
    lines = []
    for task, one in tasks.items():
        cells = []
        for _, arm, name, text in columns:
            found = outcome(one, arm, name)
            good = {"above": "yes", "below": "no"} if name != "auc_gap" else {"above": "no", "below": "no"}
            cells.append({**cell(found, text), "level": good.get(found and found["apart"], "")})
        lines.append({"name": task, "cells": cells})
    return {"head": [c[0] for c in columns], "lines": lines}
