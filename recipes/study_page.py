"""What the study found, for people: a page, the README's table and picture, and the figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from hf_unlearn.report import library_versions
from hf_unlearn.verdict import number as digits
from recipes import study as study_
from recipes import study_figures as figures
from recipes import study_plots as plots
from recipes.study_figures import CONTROL, METHOD, PLAIN, READY, RETRAINED, SERIES
from recipes.trial import KEPT, KINDS, TOLERANCE

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "study.json"
PICTURE = HERE.parent / ".github" / "study.png"
DIGITS = 4  # significant ones kept of a value
ARM_NAMES = {
    "retrained": "retrained",
    "plain": "plain",
    "equal": "equal compute",
    "reweighted": "forget rows at half weight",
    "ready": "ready",
    "finite difference": "ready, finite difference",
    "batch rows": "ready, requests from the batch",
    "no efficiency": "ready without efficiency",
    "no retention": "ready without retention",
    "relearn": "ready, resisting relearning",
    "align": "ready, resisting by alignment",
    "any row": "ready for any row",
    "any group": "ready for any group",
}
METHOD_NAMES = {"nabla_tau": "∇τ", "gradient_ascent": "gradient ascent", "grad_diff": "GradDiff", "npo": "NPO"}
SCENARIO_NAMES = {
    "half stable rows": "half of the rows were never named",
    "stable rows": "no row was ever named",
    "after a fine-tune": "after an epoch on the retain rows",
    SERIES: "three requests in a row",
}
MAIN = (PLAIN, CONTROL, READY)
ANY = ("any row", "any group")
RESISTING = ("relearn", "align")
REQUEST_KEYS = ("rate", "passes", "reached", "kept", "forgotten", "kept_then")  # the last two of ∇τ only
MARKS = {"o": "●", "s": "■", "D": "◆", ">": "▶", "v": "▼", "P": "✚", "X": "✖", "d": "♦"}
HEAD = (
    *("task", "seeds", "training passes, ×plain", "row passes to forgotten and kept: plain / equal compute / ready"),
    *("ratio equal÷ready (95 % interval)", "kept, equal / ready", "recovery area (real rows), equal / ready"),
    "break-even, requests",
)
GLOSSARY = (
    ("Row passes", "Rows whose gradient is taken, once each time; a forward alone counts a third."),
    ("Plain", "Trained on all rows by the stock trainer."),
    ("Equal compute", "Trained plainly with as many row passes as the ready model: the control."),
    ("Ready", "Trained with readiness for requests; the rows that will be asked for were named."),
    ("Ready for any row, any group", "The same without names: requests are drawn from all rows, or from whole groups."),
    (
        "Forgotten and kept",
        f"The first look that finds the forget loss at {100 * (1 - TOLERANCE):g} % of the unseen rows' or more (for "
        f"a class: no more right than by guessing) and the retain accuracy at {100 * KEPT:g} % of the plain model's "
        "before or more. It does not ask whether too much was forgotten.",
    ),
    (
        "Fewest row passes",
        "Each arm is asked at several learning rates; in each seed its best counts, chosen by the same look.",
    ),
    ("Never", "No learning rate came there by the end of its passes. Then the last look stands for it, marked ≥ or ≤."),
    ("Ratio", "Geometric mean over seeds of the control's row passes over the arm's, with a t-interval on the log."),
    ("Interval", "95 %, over seeds, from 3 seeds on. It is for one figure; of twenty such one is expected to miss."),
    ("Kept", "Accuracy on up to 300 retain rows when done, relative to the plain model's before."),
    (
        "Membership AUC",
        "Chance that a forget row has a lower loss than an unseen one: .5, nobody can tell. The gap is to the model "
        "retrained without the forget rows, with the same seed.",
    ),
    ("KS p", "Kolmogorov-Smirnov test of the forget rows' losses against those under the retrained model."),
    (
        "Recovery area",
        "Area under the loss of held-out forget rows while someone fine-tunes the model, over the retrained model's: "
        "below 1, the rows come back faster than a model learns them that never saw them.",
    ),
    ("Break-even", "Requests that pay for the dearer training: its extra row passes over what a request saves."),
)


# ---- numbers as text ------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    text = digits(value)
    return f"−{text[1:]}" if text.startswith("-") else text


def share(value: float) -> str:
    return f"{'−' if value <= -0.0005 else ''}{abs(100 * value):.1f}\u00a0%"


def signed(value: float) -> str:
    text = number(abs(value)) if abs(value) >= 5e-5 else "0"
    return text if text == "0" else f"{'−' if value < 0 else '+'}{text}"


def points(value: float) -> str:
    """A difference of shares in per cent."""
    text = f"{abs(100 * value):.1f}"
    return text if text == "0.0" else f"{'−' if value < 0 else '+'}{text}"


def span(low: float | None, high: float | None, text: Callable[[float], str]) -> str:
    low, high = ("never" if x is None else text(x) for x in (low, high))
    return f"{low} to {high}" if low[0] in "−+" or high[0] in "−+" else f"{low.removesuffix(chr(160) + '%')}–{high}"


def seeds_text(seeds: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0–2, 5"."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in runs)


def cell(found: Mapping | None, text: Callable[[float], str] = number) -> dict:
    """Value, below it interval (or range) and n, as title the seeds."""
    if not found or not found["n"]:
        neither = len((found or {}).get("neither", ()))
        value = f"neither finished ({neither} of {neither} seeds)" if neither else "–"
        return {"value": value, "small": [], "title": ""}
    if "least" in found:
        return _middle_cell(found, text)
    small = [span(found["low"], found["high"], text)] if found["low"] is not None else []
    bound = found.get("bound", "")
    value = f"{'not bounded, ' if bound == '?' else bound and bound + chr(160)}{text(found['value'])}"
    if bound:
        for key, words in (("at_least", "control never"), ("lost", "ready never"), ("neither", "neither")):
            small += [f"{words} in {len(found[key])}"] if found[key] else []
    return {
        "value": value,
        "small": [*small, f"n\u00a0=\u00a0{found['n']}"],
        "title": f"seeds {seeds_text(found['seeds'])}",
    }


def _middle_cell(found: Mapping, text: Callable[[float], str]) -> dict:
    n, never = found["n"], len(found.get("never", ()))
    title = f"seeds {seeds_text(found['seeds'])}"
    if never == n:
        return {"value": f"never ({n} of {n} seeds)", "small": [], "title": title}
    value = "never" if found["value"] is None else text(found["value"])
    if found.get("at_most"):
        value = f"≤\u00a0{value}"
    small = [span(found["least"], found["most"], text)] if n > 1 else []
    small += [f"never in {never} of {n} seeds"] if never else [f"n\u00a0=\u00a0{n}"]
    return {"value": value, "small": small, "title": title}


def inline(found: Mapping | None, text: Callable[[float], str] = number) -> str:
    """The same on a line: 2.31 (1.9–2.8, n = 5)."""
    shown = cell(found, text)
    return f"{shown['value']} ({', '.join(shown['small'])})" if shown["small"] else shown["value"]


def name_of(arm: str) -> str:
    return ARM_NAMES.get(arm, arm)


# ---- the answers ----------------------------------------------------------------------------------------------------


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
        parts["few" if f["low"] is None else f["apart"] or "open"][case] = f
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
        found.append(("Too few seeds for an interval:", f"{', '.join(parts['few'])}."))
    return found


def pays(tasks: Mapping[str, Mapping]) -> dict:
    parts = sides(measured(tasks, "ratio", [READY]))
    words = {"above": "Times fewer row passes than with equal compute:", "below": "More row passes (below 1):"}
    said = sentences(parts, words, number)
    for label, name, text in (
        ("Kept when done, ready − equal compute, points:", "kept_difference", points),
        ("Accuracy before any request, ready − plain, points:", "utility", points),
        ("Requests until the dearer training is paid back:", "break_even", number),
    ):
        found = measured(tasks, name, [READY])
        if shown := extremes(found, text):
            said.append(("", f"{label} {shown}."))
        if name == "break_even" and (never := [task for task, f in found.items() if f["value"] is None]):
            said.append(("Never paid back in half of the seeds or more:", f"{', '.join(never)}."))
    return {"question": "Does readiness pay?", **verdict(parts), "said": said}


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
    if shown := extremes(measured(tasks, name, RESISTING), signed):
        said.append(("", f"With a resistance term, − equal compute: {shown}."))
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


def matches(tasks: Mapping[str, Mapping]) -> dict:
    """∇τ against retraining, from plain and from ready models."""
    said, seen, few = [], [], []
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
            said.append((f"From {arm} models told apart:", rest))
    if few:
        said.append(("Too few seeds that finished:", f"{', '.join(few)}."))
    classes = [task for task in tasks if task in study_.TASKS and study_.TASKS[task].goal == "chance"]
    if classes and seen:
        said.append(("", f"For a class ({', '.join(classes)}) the target is guessing, not the retrained model's loss."))
    said.append(("", "Not told apart is no proof of a match: with few rows and seeds only large differences show."))
    if not seen:
        found = {"level": "unknown", "word": "too few seeds to say" if few else "not measured yet"}
    else:
        level = "no" if all(seen) else "partly" if any(seen) else "yes"
        found = {"level": level, "word": f"told apart in {sum(seen)} of {len(seen)} cases"}
    return {"question": "Does ∇τ match retraining?", **found, "said": said}


def cards(tasks: Mapping[str, Mapping]) -> list[dict]:
    found = [pays(tasks), pays_for_any(tasks), recovers(tasks), matches(tasks)]
    return [{**card, "said": card["said"] or [("", "No model that is here says anything of it.")]} for card in found]


def details(tasks: Mapping[str, Mapping]) -> dict:
    """What the cards rest on, a line a task."""
    columns = [
        ("row passes, equal compute ÷ ready", READY, "ratio", number),
        ("equal compute ÷ any row", ANY[0], "ratio", number),
        ("equal compute ÷ any group", ANY[1], "ratio", number),
        ("kept, ready − equal, points", READY, "kept_difference", points),
        ("accuracy before, ready − plain, points", READY, "utility", points),
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


# ---- tables ---------------------------------------------------------------------------------------------------------


def summary(tasks: Mapping[str, Mapping]) -> list[list[str]]:
    """Lines of the README's table, by HEAD."""
    lines = []
    for task, one in tasks.items():

        def of(name: str, arms: Sequence[str], text: Callable[[float], str], one=one) -> str:
            return " / ".join(_short(figure(one, arm, name), text) for arm in arms)

        if not any(arm in one["figures"] for arm in MAIN):
            continue
        there = [arm for arm in MAIN if arm in one["figures"]]
        seeds = sorted({seed for arm in there for seed in one["values"][arm]})
        lines.append(
            [
                task,
                seeds_text(seeds),
                of("training", [READY], number),
                of("passes", MAIN, number),
                inline(figure(one, READY, "ratio")),
                of("kept", [CONTROL, READY], share),
                of("area_real", [CONTROL, READY], number),
                inline(figure(one, READY, "break_even")),
            ]
        )
    return lines


def _short(found: Mapping | None, text: Callable[[float], str]) -> str:
    if not found or not found["n"]:
        return "–"
    never = len(found.get("never", ()))
    if never and found["value"] is None:
        return f"never ({never} of {found['n']} seeds)"
    return text(found["value"]) + (f" (never in {never} of {found['n']} seeds)" if never else "")


def markdown(tasks: Mapping[str, Mapping]) -> str:
    lines = [list(HEAD), ["---"] * len(HEAD), *summary(tasks)]
    return "\n".join("| " + " | ".join(line).replace("\u00a0", " ") + " |" for line in lines)


def arm_table(one: Mapping) -> dict:
    """All arms of a task, a line each."""
    outer = next(iter(one["figures"].values()))
    outer = "test" if "test_accuracy" in outer else "unseen"
    columns = [
        ("training passes, ×plain", "training", number),
        ("before: forget loss", "forget_loss", number),
        ("forget accuracy", "forget_accuracy", share),
        ("retain accuracy", "retain_accuracy", share),
        (f"{outer} accuracy", f"{outer}_accuracy", share),
        ("row passes to forgotten and kept", "passes", number),
        ("equal compute ÷ this", "ratio", number),
        ("kept", "kept", share),
        (f"{outer} accuracy after", "after_accuracy", share),
        ("break-even, requests", "break_even", number),
        ("membership AUC", "membership", number),
        ("gap to retrained", "auc_gap", signed),
        ("KS p", "ks_p", number),
        *((f"recovery area, {kind} rows", f"area_{kind}", number) for kind in KINDS),
    ]
    lines = []
    for arm, found in one["figures"].items():
        cells = [cell(found.get(name), text) for _, name, text in columns]
        done = found.get("passes")
        if done and done["never"]:
            forgot = [s for s in done["never"] if any(r["forgotten"] for r in _tau(one["values"][arm][s]))]
            at = [name for _, name, _ in columns].index("passes")
            cells[at]["small"].append(f"{len(forgot)} forgot, but did not keep")
        p = found.get("ks_p")
        if p and p["n"]:
            at = [name for _, name, _ in columns].index("ks_p")
            cells[at]["small"].append(f"< .05 in {p['apart']}")
        lines.append({"name": name_of(arm), "cells": cells})
    rows = next((v["after"]["ks_rows"] for v in _every(one) if "ks_rows" in v.get("after", {})), None)
    return {"head": [label for label, _, _ in columns], "lines": lines, "ks_rows": rows}


def _every(one: Mapping):
    return [v for seeds in one["values"].values() for v in seeds.values()]


def _tau(values: Mapping) -> list[Mapping]:
    return [r for r in values["requests"] if r["method"] == METHOD]


def compared(found: Mapping[str, Mapping[str, Mapping]], names: Mapping[str, str], one: Mapping | None) -> dict | None:
    """
    Scenarios or methods, a line each, with the row passes of each arm.

    Args:
        found: arm -> scenario or method -> figures.
        names: of what makes a line.
        one: a task whose requests as planned are the first line; None: without it.
    """
    arms = [arm for arm in MAIN if arm in found]
    keys = list(dict.fromkeys(key for arm in arms for key in found[arm]))
    if not keys:
        return None
    planned = {arm: {"": one["figures"][arm]} for arm in arms} if one else {}
    lines = []
    for key in [*([""] if one else []), *keys]:
        some = {arm: (planned if key == "" else found).get(arm, {}).get(key, {}) for arm in arms}
        cells = [cell(some[arm].get("passes")) for arm in arms]
        cells.append(cell(some.get(READY, {}).get("ratio")))
        cells += [cell(some[arm].get("kept"), share) for arm in arms]
        lines.append({"name": names.get(key, key) if key else "as planned", "cells": cells})
    head = [f"row passes, {name_of(arm)}" for arm in arms] + ["equal compute ÷ ready"]
    head += [f"kept, {name_of(arm)}" for arm in arms]
    return {"head": head, "lines": lines}


def series(one: Mapping) -> dict | None:
    """Three requests in a row: how far each part's loss is from the unseen rows' in the end, by arm."""
    found = {arm: s[SERIES] for arm, s in one["scenarios"].items() if SERIES in s}
    if not found:
        return None
    return {
        "head": [f"part {k}" for k in (1, 2, 3)],
        "lines": [
            {"name": name_of(arm), "cells": [cell(f, signed) for f in some["beyond_unseen"]]}
            for arm, some in found.items()
        ],
    }


# ---- pictures -------------------------------------------------------------------------------------------------------


def legend(arms: Sequence[str]) -> list[dict]:
    return [{"name": name_of(a), "series": plots.look_of(a)[0], "mark": MARKS[plots.look_of(a)[1]]} for a in arms]


def pictured(svg: str, label: str, arms: Sequence[str], note: str = "") -> dict:
    return {"svg": svg, "label": label, "legend": legend(arms), "note": note}


def trade_offs(one: Mapping, prefix: str) -> list[dict]:
    found, missing = {}, {}
    for arm, seeds in one["values"].items():
        for seed, values in seeds.items():
            for r in _tau(values):
                if r["forgotten"] is not None and r["kept_then"] is not None:
                    found.setdefault(arm, {}).setdefault(r["rate"], []).append((r["forgotten"], r["kept_then"]))
                else:
                    missing.setdefault(arm, {}).setdefault(r["rate"], []).append(seed)
    shown = []
    for i, arms in enumerate(plots.panels([arm for arm in one["values"] if arm != RETRAINED])):
        lines = {arm: found[arm] for arm in arms if arm in found}
        gaps = [
            f"{name_of(arm)} at {rate:g} ({len(seeds)} of {len(one['values'][arm])} seeds)"
            for arm in arms
            for rate, seeds in missing.get(arm, {}).items()
        ]
        note = f"Not forgotten: {', '.join(gaps)}." if gaps else ""
        svg = plots.trade_off(lines, f"{prefix}-{i}") if lines else ""
        shown.append(pictured(svg, "Readiness and its variants" if i else "Arms", list(lines), note))
    return shown


def recoveries(one: Mapping, prefix: str) -> list[dict]:
    """One row of pictures per group of arms: a picture a kind, all on one loss axis."""
    everything = [x for curves in one["curves"].values() for some in curves.values() for x in some]
    if not everything:
        return []
    low, high = min(everything), max(everything)
    room = 0.05 * (high - low or 1.0)
    shown = []
    groups = plots.panels([arm for arm in one["curves"] if arm != RETRAINED])
    for i, arms in enumerate(groups):
        there = [arm for arm in [RETRAINED, *arms] if one["curves"].get(arm)]
        none = [name_of(arm) for arm in arms if arm not in there]
        kinds = [
            {
                "label": f"Fine-tuned on {kind} rows",
                "svg": plots.recovery(
                    {arm: one["curves"][arm][kind] for arm in there},
                    0 if low < 0.5 * high else low - room,
                    high + room,
                    f"{prefix}-{i}{kind}",
                ),
            }
            for kind in KINDS
        ]
        if len(there) > 1:
            note = f"Never finished, so without a curve: {', '.join(none)}." if none else ""
            shown.append({"legend": legend(there), "kinds": kinds, "note": note})
    return shown


def seeds_passes(values: Mapping[int, Mapping], method: str = METHOD) -> list[figures.Passes]:
    return list(figures.passes_of(values, method).values())


def method_picture(one: Mapping, prefix: str) -> dict | None:
    arms = [arm for arm in MAIN if arm in one["methods"]]
    methods = list(dict.fromkeys(method for arm in arms for method in one["methods"][arm]))
    if not methods:
        return None
    found = {
        METHOD_NAMES.get(method, method): {arm: seeds_passes(one["values"][arm], method) for arm in arms}
        for method in methods
    }
    return pictured(plots.passes(found, prefix, "Row passes of each method"), "Methods", arms)


def size_pictures(tasks: Mapping[str, Mapping]) -> list[dict]:
    """For recipes with several sizes of request: the ratio over the size."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        if task in study_.TASKS:
            groups.setdefault(study_.TASKS[task].recipe, []).append(task)
    shown = []
    for i, (recipe, names) in enumerate(groups.items()):
        lines: dict[str, list] = {}
        for task in names:
            rows = tasks[task]["rows"]
            for arm in (READY, *ANY):
                found = figure(tasks[task], arm, "ratio")
                if found and found["n"]:
                    asked = rows["forget"] / (rows["forget"] + rows["retain"])
                    lines.setdefault(arm, []).append((asked, found))
        lines = {arm: sorted(found, key=lambda point: point[0]) for arm, found in lines.items()}
        if max(map(len, lines.values()), default=0) > 1:
            label, note = ", ".join(names), f"{Path(recipe).stem}. Hollow: a bound."
            shown.append(pictured(plots.sizes(lines, f"z{i}"), label, list(lines), note))
    return shown


def picture_points(tasks: Mapping[str, Mapping]) -> dict[str, dict[str, list]]:
    """Of the README's picture: task -> arm -> seeds' row passes."""
    found = {}
    for task, one in tasks.items():
        some = {arm: seeds_passes(one["values"][arm]) for arm in (*MAIN, "any group") if arm in one["values"]}
        if any(some.values()):
            found[task] = {arm: seeds for arm, seeds in some.items() if seeds}
    return found


# ---- what is written ------------------------------------------------------------------------------------------------


def gather(root: Path) -> list[dict]:
    """All cells that are there, in the study's order; those of another schema are left out and named."""
    found, old = [], []
    for path in sorted(Path(root).glob("*/*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if not {"task", "arm", "seed"} <= set(cell):
            continue
        if cell.get("schema") == study_.SCHEMA:
            found.append(cell)
        else:
            old.append(path.name)
    if old:
        print(f"Left out, of another schema than {study_.SCHEMA}: {', '.join(old)}.")
    tasks, arms = list(study_.TASKS), list(study_.ARMS)

    def place(names: list[str], name: str) -> tuple[int, str]:
        return (names.index(name) if name in names else len(names), name)

    return sorted(found, key=lambda c: (place(tasks, c["task"]), place(arms, c["arm"]), c["seed"]))


def page(tasks: Mapping[str, Mapping], command: str, versions: Mapping[str, str], cells: int) -> str:
    import jinja2

    environment = jinja2.Environment(
        finalize=lambda value: value.replace(" %", "\u00a0%") if type(value) is str else value,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    shown = [
        {
            "name": task,
            "id": f"t{i}",
            "rows": one["rows"],
            "seeds": seeds_text(one["seeds"]),
            "goal": study_.TASKS[task].goal if task in study_.TASKS else "",
            "arms": arm_table(one),
            "trade_offs": trade_offs(one, f"t{i}"),
            "recoveries": recoveries(one, f"r{i}"),
            "method_picture": method_picture(one, f"m{i}"),
            "methods": compared(one["methods"], METHOD_NAMES, None),
            "scenarios": compared(one["scenarios"], SCENARIO_NAMES, one),
            "series": series(one),
        }
        for i, (task, one) in enumerate(tasks.items())
    ]
    return environment.get_template("study.html").render(
        cards=cards(tasks),
        details=details(tasks),
        head=HEAD,
        summary=summary(tasks),
        tasks=shown,
        sizes=size_pictures(tasks),
        glossary=GLOSSARY,
        kept=KEPT,
        cells=cells,
        command=command,
        versions=versions,
    )


def rounded(value):
    """The same with DIGITS significant digits, whole numbers as such; no NaN or inf in JSON."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.{DIGITS}g}")
        return int(short) if short.is_integer() else short
    if isinstance(value, Mapping):
        return {str(key): rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def save(result: Mapping, path: Path) -> None:
    """JSON with a line for each seed of an arm and for the figures of each arm, by kind."""
    one = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    slots: dict[str, str] = {}

    def line(value) -> str:
        slots[f"@{len(slots)}@"] = one(value)
        return f"@{len(slots) - 1}@"

    tasks = {}
    for task, found in result["tasks"].items():
        tasks[task] = {"rows": line(found["rows"]), "values": {}}
        for arm, seeds in found["values"].items():
            tasks[task]["values"][arm] = {seed: line(_slim(values)) for seed, values in seeds.items()}
        tasks[task]["figures"] = {
            arm: {name: line(_seeds(figure)) for name, figure in some.items()} for arm, some in found["figures"].items()
        }
        for part in ("curves", "scenarios", "methods"):
            tasks[task][part] = {arm: line(_seeds(some)) for arm, some in found[part].items() if some}
    text = json.dumps({**result, "tasks": tasks}, indent=1, ensure_ascii=False, allow_nan=False)
    for slot, value in slots.items():
        text = text.replace(f'"{slot}"', value, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _slim(values: Mapping) -> dict:
    """Requests as lists by REQUEST_KEYS, under their method; curves are kept as means only."""
    found = {key: v for key, v in values.items() if key not in ("recovery", "requests", "scenarios")}
    found["requests"] = {}
    for r in values["requests"]:
        keys = REQUEST_KEYS if r["method"] == METHOD else REQUEST_KEYS[:4]
        found["requests"].setdefault(r["method"], []).append([r[key] for key in keys])
    found["scenarios"] = {
        name: [r[key] for key in (*REQUEST_KEYS[:4], *(["beyond_unseen"] if name == SERIES else []))]
        for name, r in values["scenarios"].items()
        if r
    }
    return rounded(_full(found))


def _full(found: Mapping) -> dict:
    """Without what is not there."""
    return {key: v for key, v in found.items() if v is not None and v != "" and v != [] and v != {}}


def _seeds(found):
    """Seeds as text: "0–4"; what is not there is left out."""
    if isinstance(found, Mapping):
        return {k: seeds_text(v) if k == "seeds" else _seeds(v) for k, v in _full(found).items()}
    return [_seeds(v) for v in found] if isinstance(found, list) else rounded(found)


def write(root: Path, command: str, results: Path = RESULTS, picture: Path = PICTURE) -> None:
    """
    Gathers the cells in `root`: `results` (JSON), root/study.html, `picture` (PNG), and the README's table, printed.

    Raises:
        ValueError: where there is no cell.
    """
    cells = gather(root)
    if not cells:
        raise ValueError(f"No cell in {str(root)!r}: run some tasks first, `python recipes/study.py --task digits`.")
    tasks = figures.study(cells)
    head = {"schema": study_.SCHEMA, "command": command, "versions": library_versions(), "cells": len(cells)}
    save({**head, "kept": KEPT, "request": list(REQUEST_KEYS), "tasks": tasks}, results)
    out = Path(root) / "study.html"
    out.write_text(page(tasks, command, head["versions"], len(cells)), encoding="utf-8")
    drawn = picture_points(tasks)
    if drawn:
        plots.picture(drawn, ARM_NAMES, picture)
    print(markdown(tasks))
    print(f"\n{out} shows all of it, {results.name} holds the figures.")
