"""The tables of the study's page, and of its README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hf_unlearn.evaluation import catalogue
from recipes.study.judgement import level_of, outcome
from recipes.study.outcomes import CONTROL, METHOD, PLAIN, READY, SERIES
from recipes.study.seeds import FEWEST
from recipes.study.trial import FINE_TUNED_ON
from recipes.study.words import COLUMN_ARMS, cell, inline, name_of, nothing, number, points, seeds_text, share, signed

METHOD_NAMES = {  # how they are written; one that is not here is shown by its own name
    "nabla_tau": "∇τ",
    "nabla_tau, LoRA": "∇τ, LoRA",
    "gradient_ascent": "gradient ascent",
    "grad_diff": "GradDiff",
    "npo": "NPO",
}
SCENARIO_NAMES = {
    "half stable rows": "half of the rows were never named",
    "stable rows": "no row was ever named",
    "after a fine-tune": "after an epoch on the retain rows, at a tenth of the learning rate",
    SERIES: "three requests in a row",
}
SHOWN = (  # measures of verdicts
    *("forget_loss", "forget_quality", "forget_mia_loss_auc_gap", "forget_extraction_strength"),
    *("retain_accuracy", "test_accuracy"),
)
HEAD = (
    *("task", "seeds", "training cost, × plain", "row passes of a request: plain model", "equal compute", "ready"),
    *("times fewer: equal compute ÷ ready", "kept by the request: ready less equal compute, points"),
    "accuracy before the request: ready against plain, %",
    "forget rows known before it: ready less plain, points",
    *("recovery area, real rows: equal compute", "ready", "break-even: pays after so many requests"),
)


def summary(tasks: Mapping[str, Mapping]) -> list[list[str]]:
    """Lines of the README's table, by HEAD: each figure with its interval or range, and n where it is not all seeds."""
    lines = []
    for task, one in tasks.items():
        there = [arm for arm in COLUMN_ARMS if arm in one["figures"]]
        if not there:
            continue
        seeds = sorted({seed for arm in there for seed in one["values"][arm]})

        def of(arm: str, name: str, text: Callable[[float], str] = number, one=one, seeds=seeds) -> str:
            return inline(outcome(one, arm, name), text, usual=len(seeds))

        lines.append(
            [
                task,
                seeds_text(seeds),
                of(READY, "training"),
                *(of(arm, "passes") for arm in COLUMN_ARMS),
                of(READY, "ratio"),
                of(READY, "kept_difference", points),
                of(READY, "utility", points),
                of(READY, "forget_before", points),
                *(of(arm, "area_real") for arm in (CONTROL, READY)),
                of(READY, "break_even"),
            ]
        )
    return lines


def for_readme(tasks: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Tasks of which ready and the control were asked with FEWEST seeds or more."""
    asked = {task: outcome(one, READY, "ratio") for task, one in tasks.items()}
    return {task: tasks[task] for task, f in asked.items() if f and f["n"] + len(f["neither"]) >= FEWEST}


def markdown(tasks: Mapping[str, Mapping]) -> str:
    """The README's table."""
    lines = [list(HEAD), ["---"] * len(HEAD), *summary(tasks)]
    return "\n".join("| " + " | ".join(line).replace("\u00a0", " ") + " |" for line in lines)


def arm_table(one: Mapping) -> dict:
    """All arms of a task, a line each."""
    outer = next(iter(one["figures"].values()), {})
    outer = "test" if "test_accuracy" in outer else "unseen"
    columns = [
        ("training passes, ×plain", "training", number),
        ("peak memory, ×plain", "memory", number),
        ("before: forget loss", "forget_loss", number),
        ("forget accuracy", "forget_accuracy", share),
        ("retain accuracy", "retain_accuracy", share),
        (f"{outer} accuracy", f"{outer}_accuracy", share),
        ("row passes to forgotten and kept", "passes", number),
        ("equal compute to ready ÷ this", "ratio", number),
        ("kept", "kept", share),
        (f"{outer} accuracy after", "after_accuracy", share),
        ("break-even, requests", "break_even", number),
        ("forget loss after", "after_loss", number),
        ("membership AUC", "membership", number),
        ("gap to retrained", "auc_gap", signed),
        ("KS p", "ks_p", number),
        *((f"recovery area, {kind} rows", f"area_{kind}", number) for kind in FINE_TUNED_ON),
    ]
    lines = []
    memory = one.get("memory", {})
    for arm, found in one["figures"].items():
        cells = {name: cell(found.get(name), text) for _, name, text in columns}
        if arm in memory and PLAIN in memory:
            held, title = memory[arm], f"{memory[arm] / 1e6:.1f} MB, by estimate"
            cells["memory"] = {"value": number(held / memory[PLAIN]), "small": [], "title": title}
        done = found.get("passes")
        if done and done["never"]:
            forgot = [s for s in done["never"] if any(r["forgotten"] for r in by_tau(one["values"][arm][s]))]
            cells["passes"]["small"].append(f"{len(forgot)} forgot, but did not keep")
        p = found.get("ks_p")
        if p and p["n"]:
            cells["ks_p"]["small"].append(f"< .05 in {p['apart']}")
        lines.append({"name": name_of(arm), "cells": list(cells.values())})
    rows = next((v["after"]["ks_rows"] for v in _every(one) if "ks_rows" in v.get("after", {})), None)
    return {"head": [label for label, _, _ in columns], "lines": lines, "ks_rows": rows}


def _every(one: Mapping):
    return [v for seeds in one["values"].values() for v in seeds.values()]


def by_tau(values: Mapping) -> list[Mapping]:
    """Requests by ∇τ, one a learning rate."""
    return [r for r in values["requests"] if r["method"] == METHOD]


def compared(found: Mapping[str, Mapping[str, Mapping]], names: Mapping[str, str], one: Mapping | None) -> dict | None:
    """
    Scenarios or methods, a line each, with the row passes of each arm.

    Args:
        found: arm -> scenario or method -> figures.
        names: of what makes a line.
        one: a task whose requests as planned are the first line; None: without it.
    """
    arms = [arm for arm in COLUMN_ARMS if arm in found]
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
    some = [k for k in range(len(head)) if not all(line["cells"][k].get("nothing") for line in lines)]
    lines = [{**line, "cells": [line["cells"][k] for k in some]} for line in lines]
    return {"head": [head[k] for k in some], "lines": lines}


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


def resisting(one: Mapping) -> dict | None:
    """Requests with resistance, a line an arm."""
    arms = [arm for arm in COLUMN_ARMS if arm in one["resisted"]]
    if not arms:
        return None
    columns = [
        ("row passes until forgotten, by its own stop rule", "passes", number),
        ("kept", "kept", share),
        ("forget loss after", "after_loss", number),
        ("gap to retrained, AUC", "auc_gap", signed),
    ]
    for kind in FINE_TUNED_ON:
        columns.append((f"recovery area, {kind} rows", f"area_{kind}", number))
        columns.append(("more than after the best request", f"area_{kind}_gain", signed))
    lines = [
        {"name": name_of(arm), "cells": [cell(one["resisted"][arm].get(name), text) for _, name, text in columns]}
        for arm in arms
    ]
    return {"head": [label for label, _, _ in columns], "lines": lines}


def told(one: Mapping) -> list[dict]:
    """Verdicts on unlearned plain models: a table a yardstick, in it a line a gap and learning rate."""
    yardsticks = dict.fromkeys(v["yardstick"] for v in one["verdicts"])
    return [_told([v for v in one["verdicts"] if v["yardstick"] == name]) for name in yardsticks]


def _told(verdicts: Sequence[Mapping]) -> dict:
    there = {name for v in verdicts for name in v["measures"]}
    measures = [name for name in SHOWN if name in there]
    lines = []
    for v in verdicts:
        counts = [(word, len(seeds)) for word, seeds in sorted(v["verdicts"].items())]
        n = len(v["seeds"])
        cells = [
            {"value": f"{v['rate']:g}", "small": [], "title": ""} if v["rate"] else nothing(),
            {
                "value": ", ".join(f"{word} {count} of {n}" for word, count in counts),
                "small": [],
                "title": f"seeds {seeds_text(v['seeds'])}",
                "level": level_of(v).value,
            },
            {
                "value": ", ".join(f"{gate.replace('_', ' ')} {len(seeds)}" for gate, seeds in v["failed"].items())
                or "none",
                "small": [],
                "title": "",
            },
            cell(v["share"], share),
            *(cell(v["measures"].get(name)) for name in measures),
        ]
        lines.append({"name": v["gap"], "cells": cells})
    head = ["learning rate", "verdict, seeds", "gates failed, seeds", "row passes, of retraining's"]
    again = next((v for v in verdicts if v["gap"] == "retrained again"), None)
    unseen = again and again["unseen"]
    counted = bool(unseen and unseen["n"])
    said = f"KS p below .05 in {unseen['apart']} of {unseen['n']} seeds" if counted else ""
    differs = counted and bool(unseen["apart"])
    head += [catalogue.find(name).title for name in measures]
    found = {"head": head, "lines": lines, "unseen": said, "differs": differs}
    return found | {"yardstick": verdicts[0]["yardstick"]}
