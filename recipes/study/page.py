"""What the study found, for people: a page, the README's table and pictures, and the figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import hf_unlearn
from hf_unlearn.utils.versions import library_versions
from recipes.study import answers, forest, memory, outcomes, plots, tables, words
from recipes.study import cells as study_
from recipes.study.judgement import outcome
from recipes.study.outcomes import METHOD, NEVER_ASKED, READY, RETRAINED, SERIES
from recipes.study.seeds import Passes
from recipes.study.tasks import ARMS, TASKS, VERDICT
from recipes.study.trial import FINE_TUNED_ON, KEPT_MARK, TOLERANCE
from recipes.study.words import ANY, COLUMN_ARMS, name_of, seeds_text

HERE = Path(__file__).resolve().parent
RESULTS = forest.RESULTS
PICTURE = HERE.parents[1] / ".github" / "study.png"
DIGITS = 4  # significant ones kept of a value
REQUEST_KEYS = ("rate", "passes", "reached", "kept", "forgotten", "kept_then")  # the last two of ∇τ only
MARKS = {"o": "●", "s": "■", "D": "◆", ">": "▶", "v": "▼", "P": "✚", "X": "✖", "d": "♦"}
GLOSSARY = (
    (
        "Row passes",
        "Rows whose gradient is taken, once each time; a forward alone counts a third. Gradient ascent is counted with "
        "the retain rows that its steps carry and do not use: without them it would be half.",
    ),
    ("Plain", "Trained on all rows by the stock trainer."),
    (
        "Peak memory",
        "Tensors at the peak of a training step on a CPU, by the library's estimate (`python -m hf_unlearn.memory`); "
        "text rows as long as the recipe allows.",
    ),
    ("Equal compute", "Trained plainly with as many row passes as the ready model: the control."),
    ("Ready", "Trained with readiness for requests; the rows that will be asked for were named."),
    (
        "Ready for any row, any group",
        'The same without names: requests are drawn from all rows, or from whole groups; "three long steps": with '
        "three inner steps, each twice as long.",
    ),
    (
        "Forgotten and kept",
        f"The first look that finds the forget loss at {100 * (1 - TOLERANCE):g} % of the unseen rows' or more, under "
        "the same model, so that each has a target of its own (for a class: no more right than by guessing) and the "
        f"retain accuracy at {100 * KEPT_MARK:g} % of the plain model's before or more. It does not ask "
        "whether too much was forgotten.",
    ),
    (
        "Fewest row passes",
        "Each arm is asked at several learning rates; in each seed its best counts, chosen by the same look. The looks "
        "(after each of the first ten steps, then when a tenth more have been done) read rows too and are not counted, "
        "so this is what a request takes that knows when to stop; the trainer's own rule looks less often and counts "
        "its looks.",
    ),
    (
        "Never",
        "No learning rate came there by the end of its passes. Then the last look stands for it, marked ≥ or ≤. Of a "
        "break-even: a request saves nothing.",
    ),
    (
        "Accuracy before",
        "Of test rows where a task has some (images, intents), else of retain rows: unseen facts cannot be known.",
    ),
    (
        "Ratio",
        "Geometric mean over seeds of the control's row passes over the arm's, with a t-interval on the log. Where a "
        "seed never finished, the median from six seeds on, with the sign test's interval, which needs no more than "
        "the order; a bound without interval below six.",
    ),
    ("Interval", "95 %, over seeds, from 3 seeds on. It is for one figure; of twenty such one is expected to miss."),
    ("Kept", "Accuracy on up to 300 retain rows when done, relative to the plain model's before."),
    (
        "Membership AUC",
        "Chance that a forget row has a lower loss than an unseen one: .5, nobody can tell. The gap is to the model "
        "retrained without the forget rows, with the same seed.",
    ),
    (
        "KS p",
        "Kolmogorov-Smirnov test of the forget rows' losses against those under the retrained model. Where nothing "
        "else is said that one was trained for as many epochs as the plain one.",
    ),
    (
        "Recovery area",
        "Area under the loss of held-out forget rows while someone fine-tunes the model, over the retrained model's: "
        "below 1, the rows come back faster than a model learns them that never saw them.",
    ),
    (
        "Verdict",
        "Of the library's report: a model unlearned by the trainer's own stop rule, against one retrained without the "
        "rows. Indistinguishable: every gate is passed and each could have seen a difference; not told apart: no gate "
        "is failed, but one could not see the model before the request either, or could not decide.",
    ),
    (
        "Retrained again",
        "A second model retrained with another seed, judged in the same way and by the same limits, so that it says "
        "how often two retrained models are told apart. Retraining for as many epochs makes fewer steps, since the "
        "rows are fewer; for as many steps, as many as the plain model made.",
    ),
    (
        "With resistance",
        "Asked once more with a simulated recovery in each step (`--resistance relearn`), at learning rate "
        f"{study_.RESISTING_RATE:g} and "
        "with the squared gap, until the trainer's own stop. Never: that stop did not find the rows forgotten; what "
        "comes back is shown of the others. The best request differs in rate and gap too. Kept: of all retain rows.",
    ),
    (
        "Break-even",
        "Requests that pay for the dearer training: its extra row passes over what a request saves. A request here "
        "asks for all rows that were named, so the same model cannot be asked so often: above 1, naming rows makes a "
        "request short, and the whole dearer.",
    ),
)


# ---- pictures -------------------------------------------------------------------------------------------------------


def legend(arms: Sequence[str]) -> list[dict]:
    return [{"name": name_of(a), "series": plots.look_of(a)[0], "mark": MARKS[plots.look_of(a)[1]]} for a in arms]


def pictured(svg: str, label: str, arms: Sequence[str], note: str = "") -> dict:
    return {"svg": svg, "label": label, "legend": legend(arms), "note": note}


def trade_offs(one: Mapping, prefix: str) -> list[dict]:
    found, missing = {}, {}
    for arm, seeds in one["values"].items():
        for seed, values in seeds.items():
            for r in tables.by_tau(values):
                if r["forgotten"] is not None and r["kept_then"] is not None:
                    found.setdefault(arm, {}).setdefault(r["rate"], []).append((r["forgotten"], r["kept_then"]))
                else:
                    missing.setdefault(arm, {}).setdefault(r["rate"], []).append(seed)
    shown = []
    for i, arms in enumerate(plots.panels([arm for arm in one["values"] if arm not in NEVER_ASKED])):
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
    groups = plots.panels([arm for arm in one["curves"] if arm not in NEVER_ASKED])
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
            for kind in FINE_TUNED_ON
        ]
        if len(there) > 1:
            note = f"Never finished, so without a curve: {', '.join(none)}." if none else ""
            n = {arm: sum("recovery" in v for v in one["values"][arm].values()) for arm in there}
            names = legend(there)
            for arm, item in zip(there, names, strict=True):
                item["name"] += f" (n\u00a0=\u00a0{n[arm]})"
            shown.append({"legend": names, "kinds": kinds, "note": note})
    return shown


def seeds_passes(values: Mapping[int, Mapping], method: str = METHOD) -> list[Passes]:
    return list(outcomes.passes_of(values, method).values())


def method_picture(one: Mapping, prefix: str) -> dict | None:
    arms = [arm for arm in COLUMN_ARMS if arm in one["methods"]]
    methods = list(dict.fromkeys(method for arm in arms for method in one["methods"][arm]))
    if not methods:
        return None
    found = {
        tables.METHOD_NAMES.get(method, method): {
            arm: some for arm in arms if (some := seeds_passes(one["values"][arm], method))
        }
        for method in methods
    }
    return pictured(plots.passes(found, prefix, "Row passes of each method"), "Methods", arms)


def size_pictures(tasks: Mapping[str, Mapping]) -> list[dict]:
    """For recipes with several sizes of request: the ratio over the size."""
    groups: dict[tuple, list[str]] = {}
    for task in tasks:
        if task in TASKS:
            groups.setdefault((TASKS[task].recipe, TASKS[task].base), []).append(task)
    shown = []
    for i, ((recipe, _), names) in enumerate(groups.items()):
        lines: dict[str, list] = {}
        there = []
        for task in names:
            rows = tasks[task]["rows"]
            for arm in (READY, *ANY):
                found = outcome(tasks[task], arm, "ratio")
                if found and found["n"]:
                    asked = rows["forget"] / (rows["forget"] + rows["retain"])
                    lines.setdefault(arm, []).append((asked, found))
                    there += [task] if task not in there else []
        lines = {arm: sorted(found, key=lambda point: point[0]) for arm, found in lines.items()}
        if max(map(len, lines.values()), default=0) > 1:
            label, note = ", ".join(there), f"{Path(recipe).stem}. Hollow: a bound."
            shown.append(pictured(plots.sizes(lines, f"z{i}"), label, list(lines), note))
    return shown


def picture_points(tasks: Mapping[str, Mapping]) -> dict[str, dict[str, list]]:
    """Of the README's picture: task -> arm -> seeds' row passes."""
    found = {}
    for task, one in tasks.items():
        some = {arm: seeds_passes(one["values"][arm]) for arm in (*COLUMN_ARMS, "any group") if arm in one["values"]}
        if any(some.values()):
            found[task] = {arm: seeds for arm, seeds in some.items() if seeds}
    return found


# ---- what is written ------------------------------------------------------------------------------------------------


def gather(root: Path) -> list[dict]:
    """
    All cells that are there, in the study's order. Those of another schema, of a run to see that it runs, measured in
    another way than now, or a control of another cost than its model are left out and named.
    """
    found, old, other = [], [], []
    for path in sorted(Path(root).glob("*/*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if not {"task", "arm", "seed"} <= set(cell):
            continue
        place = (cell["task"], cell["arm"])
        if cell.get("schema") != study_.SCHEMA:
            old.append(path.name)
        elif (
            cell.get("smoke")
            or study_.other_measures(cell, *place)
            or study_.other_steps(root, *place, cell["seed"], cell.get("training", {}))
        ):
            other.append(f"{cell['task']}, {path.stem}")
        else:
            found.append(cell)
    if old:
        print(f"Left out, of another schema than {study_.SCHEMA}: {', '.join(old)}.")
    if other:
        print(f"Left out, of a smoke test, or trained or measured in another way than now: {'; '.join(other)}.")
    tasks, arms = list(TASKS), list(ARMS)

    def place(names: list[str], name: str) -> tuple[int, str]:
        return (names.index(name) if name in names else len(names), name)

    return sorted(found, key=lambda c: (place(tasks, c["task"]), place(arms, c["arm"]), c["seed"]))


def page(tasks: Mapping[str, Mapping], command: str, versions: Mapping[str, str], models: int) -> str:
    import jinja2

    environment = jinja2.Environment(
        finalize=lambda value: value.replace(" %", "\u00a0%") if type(value) is str else value,
        loader=jinja2.FileSystemLoader([HERE / "templates", Path(hf_unlearn.__file__).parent / "report" / "templates"]),
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
            "role": TASKS[task].role if task in TASKS else "",
            "goal": TASKS[task].goal if task in TASKS else "",
            "arms": tables.arm_table(one),
            "trade_offs": trade_offs(one, f"t{i}"),
            "recoveries": recoveries(one, f"r{i}"),
            "method_picture": method_picture(one, f"m{i}"),
            "methods": tables.compared(one["methods"], tables.METHOD_NAMES, None),
            "scenarios": tables.compared(one["scenarios"], tables.SCENARIO_NAMES, one),
            "series": tables.series(one),
            "resisted": tables.resisting(one),
            "verdicts": tables.told(one),
        }
        for i, (task, one) in enumerate(tasks.items())
    ]
    return environment.get_template("study.html").render(
        cards=answers.cards(tasks),
        details=answers.details(tasks),
        head=tables.HEAD,
        summary=tables.summary(tasks),
        tasks=shown,
        sizes=size_pictures(tasks),
        glossary=GLOSSARY,
        kept=KEPT_MARK,
        models=models,
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
        for part in ("curves", "scenarios", "methods", "resisted"):
            tasks[task][part] = {arm: line(_seeds(some)) for arm, some in found[part].items() if some}
        if found.get("memory"):
            tasks[task]["memory"] = line(found["memory"])
        tasks[task]["verdicts"] = [line(_seeds(one)) for one in found["verdicts"]]
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


def write(root: Path, command: str, results: Path | None = None, picture: Path | None = None) -> dict:
    """
    Gathers the cells in `root`: `results` (JSON), root/study.html and, of tasks with enough seeds ([`for_readme`]),
    `picture` (PNG), beside it the ratios ([`forest.draw`]), and a table, printed. By default study.json and study.png
    beside the page.

    Returns:
        task -> what was found ([`outcomes.study`]), with the peak memory of its arms.

    Raises:
        ValueError: where there is no cell.
    """
    results, picture = results or root / "study.json", picture or root / "study.png"
    cells = gather(root)
    if not cells:
        raise ValueError(f"No cell in {str(root)!r}: run some tasks first, `python -m recipes.study --task digits`.")
    tasks = outcomes.study(cells)
    folders = [(c["task"], c["arm"], study_.cell_path(root, c["task"], c["arm"], c["seed"])) for c in cells]
    peaks = memory.peaks((task, arm, path.with_suffix("")) for task, arm, path in folders)
    for task, one in tasks.items():
        one["memory"] = peaks.get(task, {})
    head = {"schema": study_.SCHEMA, "command": command, "versions": library_versions(), "cells": len(cells)}
    table = tables.markdown(tables.for_readme(tasks))
    head |= {"kept": KEPT_MARK, "request": list(REQUEST_KEYS), "table": table.splitlines()}
    save({**head, "tasks": tasks}, results)
    out = Path(root) / "study.html"
    models = sum(c["arm"] != VERDICT for c in cells)
    out.write_text(page(tasks, command, head["versions"], models), encoding="utf-8")
    drawn = picture_points(tables.for_readme(tasks))
    if drawn:
        plots.picture(drawn, words.ARM_NAMES, picture)
        forest.draw(forest.lines(tables.for_readme(tasks)), picture.with_name(forest.PICTURE.name))
    print(table)
    print(f"\n{out} shows all of it, {results.name} holds the figures.")
    return tasks
