"""The answers that the study's page begins with, and what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recipes.study.figures import PLAIN, READY
from recipes.study.seeds import FEWEST, side
from recipes.study.tasks import TASKS
from recipes.study.trial import KINDS
from recipes.study.words import ANY, cell, inline, name_of, number, points, share, signed

RESISTING = ("relearn", "align")
UTILITY = -0.01  # of plain's accuracy, that readiness may cost before any request
KNOWN = -0.1  # of the forget rows, that may be wrong before any request and are right for plain
NOT_TOLD = ("indistinguishable", "not told apart")
AUC_GAP = "forget_mia_loss_auc_gap"
CHEAP = 0.2  # of retraining's row passes, that a match may cost


def figure(one: Mapping, arm: str, name: str) -> dict | None:
    return one["figures"].get(arm, {}).get(name)


def measured(tasks: Mapping[str, Mapping], name: str, arms: Sequence[str]) -> dict[str, dict]:
    """Case (a task, with more arms than one "task, arm") -> figure, of those that have some seeds."""
    found = {
        task if len(arms) == 1 else f"{task}, {name_of(arm)}": figure(one, arm, name)
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


def sides(found: Mapping[str, Mapping]) -> dict[str, dict]:
    """ "above", "below", "open" (not told apart) and "few" (seeds, too few for an interval) -> its cases."""
    parts: dict[str, dict] = {"above": {}, "below": {}, "open": {}, "few": {}}
    for case, f in found.items():
        few = f["low"] is None and f["high"] is None and f.get("of") != "median"
        parts["few" if few else f["apart"] or "open"][case] = f
    return parts


def verdict(parts: Mapping[str, Mapping]) -> dict[str, str]:
    """Level (a colour) and words of a badge: on how many of the cases with an interval the good side is shown."""
    good, known = len(parts["above"]), sum(len(parts[key]) for key in ("above", "below", "open"))
    if not known:
        return {"level": "unknown", "word": "too few seeds to say" if parts["few"] else "not measured yet"}
    level = "yes" if good == known else "partly" if good else "no"
    return {"level": level, "word": f"yes, on {good} of {known}" if good else f"not shown on any of {known}"}


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
    known = [task for task, f in asked.items() if f["n"] + len(f["neither"]) >= FEWEST]
    good = [task for task in known if by_all_marks(tasks[task])]
    badge = verdict(parts)
    if known:
        level = "yes" if len(good) == len(known) else "partly" if good else "no"
        badge = {"level": level, "word": f"by all marks on {len(good)} of {len(known)}"}
    marks = "half the row passes, interval beyond 1; not shown to keep less; on average no more lost before the "
    marks += f"request than {share(-UTILITY)} of plain's accuracy and {share(-KNOWN)} of the forget rows. "
    said.append(("All marks:", f"{marks}They do not ask whether requests pay for training."))
    return {"question": "Does readiness pay?", **badge, "said": said}


def by_all_marks(one: Mapping) -> bool:
    """
    Half the row passes of equal compute with an interval beyond 1; not shown to keep less; before the request an
    accuracy whose mean is within 1 % of plain's, and on the forget rows within ten points: what has half forgotten
    already is not ready (that mark is ours).
    """
    ratio, kept = (figure(one, READY, name) for name in ("ratio", "kept_difference"))
    faster = ratio["apart"] == "above" and ratio["value"] >= 2
    before = [(figure(one, READY, "utility"), UTILITY), (figure(one, READY, "forget_before"), KNOWN)]
    as_good = all(found and found["value"] is not None and found["value"] >= least for found, least in before)
    return faster and as_good and not (kept and kept["apart"] == "below")


def pays_for_any(tasks: Mapping[str, Mapping]) -> dict:
    parts = sides(measured(tasks, "ratio", ANY))
    words = {"above": "Times fewer row passes than with equal compute:", "below": "More row passes (below 1):"}
    return {"question": "And if no row was named?", **verdict(parts), "said": sentences(parts, words, number)}


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
    return {"question": "Does it resist recovery from real rows?", **verdict(parts), "said": said}


def told_apart(one: Mapping, arm: str) -> bool | None:
    """
    From the retrained model: the interval of the AUC gap excludes 0, or the KS p-value is below .05 in more than half
    of the seeds. None where fewer than 3 seeds finished.
    """
    gap, p = figure(one, arm, "auc_gap"), figure(one, arm, "ks_p")
    if not gap or gap["low"] is None:
        return None
    return gap["apart"] is not None or 2 * p["apart"] > p["n"]


def not_told(line: Mapping) -> int:
    """Seeds of a line of verdicts that were not told apart."""
    return sum(len(line["verdicts"].get(word, ())) for word in NOT_TOLD)


def level_of(line: Mapping) -> str:
    """Colour of a line of verdicts: no seed was told apart, some were, all were."""
    good = not_told(line)
    return "yes" if good == len(line["seeds"]) else "partly" if good else "no"


def best_verdicts(tasks: Mapping[str, Mapping]) -> dict[str, list[Mapping]]:
    """
    Task -> its lines of verdicts, one a yardstick, by one gap for all tasks and the learning rate that is best for the
    task, both chosen by the smallest share of seeds that are told apart.
    """
    found: dict[str, dict[str, list[Mapping]]] = {}
    for task, one in tasks.items():
        lines: dict[tuple[str, float], list[Mapping]] = {}
        for line in one["verdicts"]:
            if line["rate"]:
                lines.setdefault((line["gap"], line["rate"]), []).append(line)
        for (gap, _), some in lines.items():
            best = found.setdefault(gap, {}).get(task)
            if best is None or _share_not_told(some) > _share_not_told(best):
                found[gap][task] = some
    return max(found.values(), key=lambda by: sum(map(_share_not_told, by.values())), default={})


def _share_not_told(lines: Sequence[Mapping]) -> float:
    return sum(map(not_told, lines)) / sum(len(line["seeds"]) for line in lines)


def again_of(one: Mapping, yardstick: str) -> Mapping | None:
    """The line of a yardstick's second retrained model."""
    return next((v for v in one["verdicts"] if not v["rate"] and v["yardstick"] == yardstick), None)


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
            gap = line["measures"].get(AUC_GAP)
            over = f"; AUC gap over all seeds {inline(gap, signed)}" if gap and gap["n"] else ""
            said.append(("", f"{against}{noise}, by {passes}{over}."))
    return said


def as_retrained(one: Mapping, line: Mapping) -> bool | None:
    """
    Whether a line is not told apart as often as the second retrained model, by CHEAP of retraining's row passes at
    most, and over all seeds the AUC gap to retraining has an interval that holds 0. None where it cannot be said: no
    such model, or it is always told apart itself, or no row passes to compare.
    """
    again, passes = again_of(one, line["yardstick"]), line["share"]["value"]
    if not again or not not_told(again) or passes is None:
        return None
    as_often = not_told(line) * len(again["seeds"]) >= not_told(again) * len(line["seeds"])
    gap = line["measures"].get(AUC_GAP)
    return as_often and passes <= CHEAP and not (gap and side(gap, 0.0))


def matches(tasks: Mapping[str, Mapping]) -> dict:
    """∇τ against retraining, from plain and from ready models."""
    said, seen, few = said_of_verdicts(tasks), [], []
    for arm in (PLAIN, READY):
        told = {task: told_apart(one, arm) for task, one in tasks.items() if figure(one, arm, "passes")}
        known = [task for task, one in told.items() if one is not None]
        few += [f"{task} from {arm}" for task, one in told.items() if one is None]
        seen += [told[task] for task in known]
        if known:
            shown = extremes(measured({task: tasks[task] for task in known}, "auc_gap", [arm]), signed)
            below, n = (sum(figure(tasks[t], arm, "ks_p")[key] for t in known) for key in ("apart", "n"))
            apart = ", ".join(task for task in known if told[task]) or "none"
            rest = f"{apart}. AUC gap: {shown}. KS p below .05 in {below} of {n} seeds."
            said.append((f"From {arm} models, at their first good look, told apart from retrained:", rest))
    if few:
        said.append(("Too few seeds that finished:", f"{', '.join(few)}."))
    classes = [task for task in tasks if task in TASKS and TASKS[task].goal == "chance"]
    if classes and seen:
        said.append(("", f"For a class ({', '.join(classes)}) the target is guessing, not the retrained model's loss."))
    said.append(("", "Not told apart is no proof of a match: with few rows and seeds only large differences show."))
    best = [
        (line, as_retrained(tasks[task], line))
        for task, lines in best_verdicts(tasks).items()
        for line in lines
        if len(line["seeds"]) >= FEWEST
    ]
    best = [(line, good) for line, good in best if good is not None]
    if best:
        good = sum(good for _, good in best)
        some = any(not_told(line) for line, _ in best)
        level = "yes" if good == len(best) else "partly" if some else "no"
        word = f"like retraining in {good} of {len(best)} cases"
        like = f"not told apart as often as a second retrained model, by {share(CHEAP)} of its row passes at most, "
        like += "the AUC gap over all seeds not apart from 0."
        said.append(("Like retraining:", like))
        found = {"level": level, "word": word}
    elif not seen:
        found = {"level": "unknown", "word": "too few seeds to say" if few else "not measured yet"}
    else:
        level = "no" if all(seen) else "partly" if any(seen) else "unknown"
        found = {"level": level, "word": f"told apart in {sum(seen)} of {len(seen)} cases"}
    return {"question": "Does ∇τ match retraining?", **found, "said": said}


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
        *((f"recovery area, {kind} rows, ready − equal", READY, f"area_{kind}_difference", signed) for kind in KINDS),
        ("AUC gap to retrained, from plain", PLAIN, "auc_gap", signed),
        ("AUC gap, from ready", READY, "auc_gap", signed),
    ]
    columns = [c for c in columns if any(figure(one, *c[1:3]) for one in tasks.values())]
    lines = []
    for task, one in tasks.items():
        cells = []
        for _, arm, name, text in columns:
            found = figure(one, arm, name)
            good = {"above": "yes", "below": "no"} if name != "auc_gap" else {"above": "no", "below": "no"}
            cells.append({**cell(found, text), "level": good.get(found and found["apart"], "")})
        lines.append({"name": task, "cells": cells})
    return {"head": [c[0] for c in columns], "lines": lines}
