"""The figures of `recipes.study.compare`: each objective at its own best point, means over seeds with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hf_unlearn.unlearning.stop_rule import REACHED
from hf_unlearn.utils.versions import library_versions
from recipes.study.compare import MODELS, NOT_FINITE, SCHEMA, stronger
from recipes.study.outcomes import area
from recipes.study.replays import AGAIN, PLAIN, REPLAY, RETRAINED
from recipes.study.seeds import mean
from recipes.study.trial import KEPT_MARK
from recipes.study.words import inline, number, seeds_text, share, signed

RESULTS = Path(__file__).parent / "results" / "compare.json"
ORDER = ("task", "method", "factor", "seed")


# ---- cells ----------------------------------------------------------------------------------------------------------


def gather(root: Path) -> list[dict]:
    """All cells of a folder, without those of smoke runs."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("*/*.json")))
    cells = (cell for cell in found if isinstance(cell, dict) and cell.get("schema") == SCHEMA and "method" in cell)
    return [cell for cell in cells if not cell["smoke"]]


def over(old: Iterable[dict], new: Iterable[dict]) -> list[dict]:
    """What is there, with the same cells replaced."""
    cells = {tuple(cell[key] for key in ORDER): cell for cell in [*old, *new]}
    return [cells[key] for key in sorted(cells, key=lambda key: [str(part) for part in key])]


def read(path: Path = RESULTS) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else []


def write(cells: Sequence[dict], path: Path = RESULTS) -> None:
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    head = json.dumps({"schema": SCHEMA, "versions": library_versions()})
    path.write_text(f'{head[:-1]}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")


# ---- a seed ---------------------------------------------------------------------------------------------------------


def line_of(cell: Mapping, plain: Mapping, retrained: Mapping) -> dict:
    """
    What counts of a cell, against the plain and the retrained model of its seed: `beyond`, the forget loss less the
    retrained model's, nats; `auc`, and `auc_gap` likewise; `right`, share of the forget rows; `kept`, the least of the
    accuracies on retain and test rows as shares of plain's; `cost`, row passes as a share of the retraining's; `areas`
    (kind of fine-tune -> [`area`]).
    """
    found = {key: cell.get(key) for key in ("method", "factor", "rate", "steps", "stop_reason", "goal", "seed")}
    if cell.get("stop_reason") == NOT_FINITE:
        return found | {"beyond": None, "kept": 0.0}
    own, before, theirs = (one["splits"] for one in (cell, plain, retrained))
    curves = retrained.get("recovery", {})
    return found | {
        "beyond": own["forget"][0] - theirs["forget"][0],
        "right": own["forget"][1],
        "auc": cell["membership"],
        "auc_gap": cell["membership"] - retrained["membership"],
        "kept": min(own[part][1] / before[part][1] for part in ("retain", "test") if part in own),
        "cost": cell["row_passes"] / retrained["row_passes"],
        "areas": {kind: area(losses, curves[kind]) for kind, losses in cell.get("recovery", {}).items()},
    }


def best(lines: Sequence[Mapping]) -> Mapping:
    """
    The line of an objective that stands for it: of those that keep 97 % the one that is nearest to the retrained model,
    by the forget loss, or for a whole class by the share of its rows that are still answered right (then by the loss);
    where none keeps so much, the one that keeps most.
    """
    keeping = [line for line in lines if line["kept"] >= KEPT_MARK and line["beyond"] is not None]
    if not keeping:
        return max(lines, key=lambda line: line["kept"])
    return min(keeping, key=distance)


def distance(line: Mapping) -> tuple[float, float]:
    return (line["right"] if line["goal"] == "chance" else 0.0), abs(line["beyond"])


def points(cells: Sequence[Mapping]) -> dict[str, dict[str, dict[int, Mapping]]]:
    """Task -> method -> seed -> its [`best`] line, of the seeds that have a plain and a retrained model."""
    tried: dict[tuple, list[Mapping]] = {}
    for cell in cells:
        tried.setdefault((cell["task"], cell["seed"], cell["method"]), []).append(cell)
    found: dict[str, dict[str, dict[int, Mapping]]] = {}
    for (task, seed, method), some in tried.items():
        pair = [tried.get((task, seed, role)) for role in (PLAIN, RETRAINED)]
        if all(pair):
            lines = [line_of(cell, pair[0][0], pair[1][0]) for cell in some]
            found.setdefault(task, {}).setdefault(method, {})[seed] = best(lines)
    return found


# ---- over seeds -----------------------------------------------------------------------------------------------------


def figures(by_seed: Mapping[int, Mapping]) -> dict[str, dict]:
    """Name -> mean over seeds with its interval."""

    def of(take) -> dict:
        return mean({seed: take(line) if line["beyond"] is not None else None for seed, line in by_seed.items()})

    kinds = dict.fromkeys(kind for line in by_seed.values() for kind in line.get("areas", ()))
    return {
        "distance": of(lambda line: abs(line["beyond"])),
        "beyond": of(lambda line: line["beyond"]),
        "right": of(lambda line: line["right"]),
        "auc_distance": of(lambda line: abs(line["auc_gap"])),
        "auc_gap": of(lambda line: line["auc_gap"]),
        "kept": mean({seed: line["kept"] for seed, line in by_seed.items()}),
        "cost": of(lambda line: line["cost"]),
        **{f"area_{kind}": of(lambda line, kind=kind: line["areas"][kind]) for kind in kinds},
    }


def ordered(task: Mapping[str, Mapping[int, Mapping]]) -> list[str]:
    """The models first; then the objectives, those that keep enough by their distance, the others by what they keep."""

    def place(method: str) -> tuple:
        found, by_seed = figures(task[method]), task[method].values()
        kept = found["kept"]["value"]
        if kept < KEPT_MARK or found["distance"]["value"] is None:
            return 1, -kept
        by = "right" if next(iter(by_seed))["goal"] == "chance" else "distance"
        return 0, round(found[by]["value"], 2), found["distance"]["value"]

    models = [role for role in (PLAIN, RETRAINED, AGAIN, REPLAY) if role in task]
    return models + sorted((method for method in task if method not in MODELS), key=place)


def strength(line: Mapping) -> str:
    """The learning rate of a request, or what an objective without one has in its place."""
    if line["rate"] is None:
        return ""
    flag, value = stronger(line["method"], line["rate"], line["factor"])
    return value if flag == "--learning_rate" else f"{flag.removeprefix('--')} {value}"


def reached(by_seed: Mapping[int, Mapping]) -> str:
    """In how many seeds the stop rule found the rows forgotten and the others kept."""
    reasons = [line["stop_reason"] for line in by_seed.values()]
    if not any(reasons):
        return ""
    return f"{reasons.count(REACHED)} of {len(reasons)}"


HEAD = (
    *("objective", "learning rate", "reached", "steps", "forget loss less retrained's", "AUC less retrained's"),
    *("forget rows right", "kept", "cost, of a retraining", "recovery area: retain rows", "real rows"),
)


def table(task: Mapping[str, Mapping[int, Mapping]]) -> list[list[str]]:
    """A line a method."""
    lines, usual = [list(HEAD)], max(len(by_seed) for by_seed in task.values())
    for method in ordered(task):
        by_seed, found = task[method], figures(task[method])
        rates = dict.fromkeys(strength(line) for line in sorted(by_seed.values(), key=lambda line: line["rate"] or 0))
        steps = sorted({line["steps"] for line in by_seed.values() if line["steps"] is not None})
        shown = (("beyond", signed), ("auc_gap", signed), ("right", share), ("kept", share), ("cost", share))
        shown += (("area_retain", number), ("area_real", number))
        lines.append(
            [
                method,
                ", ".join(rates),
                "exact" if method == REPLAY else reached(by_seed),
                "–".join(map(str, dict.fromkeys([*steps[:1], *steps[-1:]]))),
                *(inline(found.get(name), text, usual) for name, text in shown),
            ]
        )
    return lines


def markdown(cells: Sequence[Mapping]) -> str:
    """A table a task."""
    parts = []
    for name, task in points(cells).items():
        seeds = sorted({seed for by_seed in task.values() for seed in by_seed})
        lines = table(task)
        lines = [lines[0], ["---"] * len(HEAD), *lines[1:]]
        text = "\n".join("| " + " | ".join(line).replace("\u00a0", " ") + " |" for line in lines)
        parts.append(f"{name}, seeds {seeds_text(seeds)}\n\n{text}")
    return "\n\n".join(parts)


def show(root: Path, publish: bool) -> str:
    """The tables of what is in a folder; with `publish` over the published cells, which are written, and a picture."""
    cells = gather(root)
    if publish:
        from recipes.study import compare_plot

        cells = over(read(), cells)
        write(cells)
        compare_plot.draw(points(cells), compare_plot.PICTURE)
    return markdown(cells)
