"""The figures of `recipes.study.replays`, and its tables: means over seeds with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from hf_unlearn.evaluation.judge import Verdict
from hf_unlearn.utils.versions import library_versions
from recipes.study.outcomes import area
from recipes.study.replays import AGAIN, BOTH, PLAIN, REPLAY, RETRAINED, SCHEMA, arm_of, is_arm
from recipes.study.seeds import difference, mean
from recipes.study.trial import FINE_TUNED_ON
from recipes.study.words import inline, number, points, seeds_text

TOLD = Verdict.TOLD_APART.value


def gather(root: Path) -> dict:
    """All cells of a folder: task -> arm -> seed -> what was measured, with areas in place of relearning's curves."""
    found: dict = {}
    for path in sorted(root.glob("*/*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell.get("schema") == SCHEMA and is_arm(cell.get("arm", "")) and not cell.get("smoke"):
            found.setdefault(cell["task"], {}).setdefault(cell["arm"], {})[str(cell["seed"])] = cell
    for arms in found.values():
        for arm, seeds in arms.items():
            for seed, cell in seeds.items():
                reference = arms.get(RETRAINED, {}).get(seed)
                if arm != RETRAINED and reference and "recovery" in reference:  # else the areas are there
                    _with_areas(cell, reference["recovery"])
    for arms in found.values():
        for cell in arms.get(RETRAINED, {}).values():
            cell.pop("recovery", None)
    return {"schema": SCHEMA, "versions": library_versions(), "tasks": found}


def over(published: Mapping, found: Mapping) -> dict:
    """What was published, with the cells that were found in place of the same ones."""
    tasks = {task: {arm: dict(seeds) for arm, seeds in arms.items()} for task, arms in published["tasks"].items()}
    for task, arms in found["tasks"].items():
        for arm, seeds in arms.items():
            tasks.setdefault(task, {}).setdefault(arm, {}).update(seeds)
    return {**published, **found, "tasks": tasks}


def _with_areas(cell: dict, reference: Mapping) -> None:
    for one in (cell, *cell.get("requests", ())):
        if curves := one.pop("recovery", None):
            one["areas"] = {kind: area(curves[kind], reference[kind]) for kind in FINE_TUNED_ON}


def of_seeds(arms: Mapping, arm: str, take: Callable[[Mapping], float | None]) -> dict[int, float | None]:
    """Seed -> a value of the arm's cells."""
    return {int(seed): take(cell) for seed, cell in arms.get(arm, {}).items()}


def accuracy(part: str) -> Callable[[Mapping], float | None]:
    return lambda cell: cell["before"][part][1] if part in cell["before"] else None


def asked(what: str, take: Callable[[Mapping], float | None]) -> Callable[[Mapping], float | None]:
    return lambda cell: next((take(one) for one in cell["requests"] if one["what"] == what), None)


def after(part: str) -> Callable[[Mapping], float | None]:
    return lambda one: one["after"][part][1] if part in one["after"] else None


def ratio_to_plain(arms: Mapping, arm: str) -> dict:
    """Row passes of an arm's training, × plain."""
    plain = of_seeds(arms, PLAIN, lambda cell: cell["training"]["row_passes"])
    own = of_seeds(arms, arm, lambda cell: cell["training"]["row_passes"])
    return mean({seed: own[seed] / plain[seed] for seed in own if plain.get(seed)})


def lost(arms: Mapping, arm: str, part: str) -> dict:
    """Accuracy of an arm less plain's, before any request."""
    return difference(of_seeds(arms, arm, accuracy(part)), of_seeds(arms, PLAIN, accuracy(part)))


def outer(arms: Mapping) -> str:
    """The split that tells accuracy best: test rows, or else retain rows."""
    return "test" if any("test" in cell["before"] for cell in arms.get(PLAIN, {}).values()) else "retain"


def shown(
    arms: Mapping, arm: str, take: Callable[[Mapping], float | None], text=number, usual: int | None = None
) -> str:
    """Mean over the seeds of an arm, with its interval."""
    return inline(mean(of_seeds(arms, arm, take)), text, usual=usual)


def costs(tasks: Mapping, arm: str = REPLAY) -> list[list[str]]:
    """What the order costs, and what a request does."""
    head = [
        *("training cost, × plain", "snapshots, share of the time", "disk, × the model"),
        *("accuracy before: test or retain rows, points", "revocable rows, points"),
        *("one group: share of retraining, mean of all groups", "half", "all"),
    ]

    def cells(arms: Mapping, n: int) -> Iterable[str]:
        of = partial(shown, arms, arm, usual=n)
        yield inline(ratio_to_plain(arms, arm), number, usual=n)
        yield of(lambda cell: cell["training"]["snapshot_seconds"] / cell["training"]["seconds"])
        yield of(lambda cell: cell["plan"]["snapshot_bytes"] / cell["plan"]["model_bytes"])
        for part in (outer(arms), "forget"):
            yield inline(lost(arms, arm, part), points, usual=n)
        yield of(lambda cell: cell["plan"]["expected"])
        for what in ("half", "all"):
            yield of(asked(what, lambda one: one["share_of_retraining"]))

    return _by_task(tasks, arm, head, cells)


def results(tasks: Mapping, arm: str = REPLAY) -> list[list[str]]:
    """What is left of the rows, beside retrained models."""
    head = [
        *("all asked: right of them", "retrained", "retain rows, points against retrained"),
        *("others after half, points against before", "membership AUC", "retrained", "retrained again"),
        *(f"recovery area, {kind} rows: replayed | retrained again" for kind in FINE_TUNED_ON),
        *("told apart from retrained", "a second retrained model", "equal to the training without, bit for bit"),
    ]

    def cells(arms: Mapping, n: int) -> Iterable[str]:
        of = partial(shown, arms, usual=n)

        def against(what: str, part: str, which: str, before: str) -> str:
            own = of_seeds(arms, arm, asked(what, after(part)))
            return inline(difference(own, of_seeds(arms, which, accuracy(before))), points, usual=n)

        yield of(arm, asked("all", after("asked")))
        yield of(RETRAINED, accuracy("forget"))
        yield against("all", "retain", RETRAINED, "retain")
        yield against("half", "others", arm, "forget")
        yield of(arm, asked("all", lambda one: one["membership"]))
        for which in (RETRAINED, AGAIN):
            yield of(which, lambda cell: cell["membership"])
        for kind in FINE_TUNED_ON:
            own = of(arm, asked("all", lambda one, kind=kind: one["areas"][kind]))
            yield own + " | " + of(AGAIN, lambda cell, kind=kind: cell["areas"][kind])
        verdicts = [cell["judged"] for cell in arms[arm].values()]
        for who in ("replayed", AGAIN):
            yield f"{sum(one[who]['verdict'] == TOLD for one in verdicts)} of {len(verdicts)}"
        equal = [cell["equals_training_without"] for cell in arms[arm].values()]
        yield f"{sum(one is True for one in equal)} of {sum(one is not None for one in equal)}"

    return _by_task(tasks, arm, head, cells)


def _by_task(
    tasks: Mapping, arm: str, head: list[str], cells: Callable[[Mapping, int], Iterable[str]]
) -> list[list[str]]:
    """A line for each task that has the arm; `cells` takes a task's arms and its number of seeds."""
    lines = [
        [task, seeds_text([int(seed) for seed in arms[arm]]), *cells(arms, len(arms[arm]))]
        for task, arms in tasks.items()
        if arm in arms
    ]
    return [["task", "seeds", *head], *lines]


def tails(tasks: Mapping) -> list[list[str]]:
    """Shorter and longer tails."""
    head = [
        *("task", "tail", "seeds", "of a tail step revocable", "accuracy before: test or retain rows, points"),
        *("revocable rows, points", "one group: share of retraining"),
    ]
    lines = [head]
    for task, arms in tasks.items():
        for arm in (arm for arm in arms if arm == REPLAY or not arm_of(arm).is_default):
            n = len(arms[arm])
            lines.append(
                [
                    task,
                    name_of_tail(arm),
                    seeds_text([int(seed) for seed in arms[arm]]),
                    shown(arms, arm, lambda cell: cell["plan"]["crowd"], usual=n),
                    inline(lost(arms, arm, outer(arms)), points, usual=n),
                    inline(lost(arms, arm, "forget"), points, usual=n),
                    shown(arms, arm, lambda cell: cell["plan"]["expected"], usual=n),
                ]
            )
    return lines


def name_of_tail(arm: str) -> str:
    one = arm_of(arm)
    if one.own_schedule:
        return "by default, the plain training's schedule"
    if one.full:
        early = "" if one.early is None else ", the rate falls early" if one.early else ", the rate falls late"
        return f"{one.often:g} of the plain training's visits, {one.full:g} of a step revocable{early}"
    return "by default" if one.times is None else f"{one.times:g} × the share"


def markdown(found: Mapping) -> str:
    """All tables."""
    tasks = found["tasks"]
    parts = [costs(tasks), results(tasks), tails(tasks), costs(tasks, BOTH), results(tasks, BOTH)]
    return "\n\n".join(_table(lines) for lines in parts if len(lines) > 1)


def _table(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line).replace("\u00a0", " ") + " |" for line in lines)
