"""Made-up cells of the study."""

from __future__ import annotations

import json

import numpy as np

from recipes.study import cells, outcomes
from recipes.study.seeds import Passes
from recipes.study.tasks import YARDSTICKS

RATES = (3e-4, 1e-3)
ROW_COUNTS = {"forget": 40, "retain": 360, "unseen": 40, "test": 80}


def asked(done: float | None, *, method="nabla_tau", rate=1e-3, forgotten=True, kept=0.98, end=9000.0) -> dict:
    """A request that is done after so many row passes, or never; where forgotten, it is so from half of them on."""
    last = end if done is None else done
    looks = [[k + 1, last * (k + 1) / 4, 0.5 + k / 2, 0.9 - k / 4, kept - 0.02 * (k < 3), 2.0] for k in range(4)]
    return {
        "method": method,
        "learning_rate": rate,
        "looks": looks,
        "forgotten": 1 if forgotten else None,
        "done": None if done is None else 3,
    }


def splits(rng, forget: float, *, retain=0.99, test=0.95) -> dict:
    found = {}
    for name in ROW_COUNTS:
        loss = {"forget": forget, "unseen": 2.0}.get(name, 0.1)
        found[name] = {"loss": loss, "accuracy": {"retain": retain, "test": test, "unseen": 0.4}.get(name, 0.5)}
        if name in ("forget", "unseen"):
            found[name]["rows"] = np.abs(loss + 0.3 * rng.standard_normal(ROW_COUNTS[name])).round(5).tolist()
    return found


def recovery(level: float) -> dict:
    return {kind: [round(2.0 - level * k / 6, 4) for k in range(7)] for kind in ("retain", "similar", "real")}


def cell(task: str, arm: str, seed: int, passes: float | None = 1000.0, **given) -> dict:
    """
    As of `recipes.study.build`.

    Args:
        passes: of the best request; None: it never finishes.
        given: `training` (row passes), `methods` and `scenarios` (True: there are such), `level` (how much comes back),
            `forgotten`, `retain` (accuracy before).
    """
    level, retain = given.get("level", 0.6), given.get("retain", 1.0)
    rng = np.random.default_rng([seed, len(arm), len(task)])
    found = {"schema": cells.SCHEMA, "task": task, "arm": arm, "seed": seed, "rows": ROW_COUNTS, "seconds": 1.0}
    found["training"] = {"steps": 10, "row_passes": given.get("training", 10_000.0), "seconds": 1.0, "batch_size": 32}
    found["before"] = splits(rng, 1.9 if arm in outcomes.NEVER_ASKED else 0.05, retain=retain)
    if arm in outcomes.NEVER_ASKED:
        return {**found, "recovery": recovery(0.3)}
    some = {"forgotten": given.get("forgotten", True)}
    found["requests"] = [
        asked(None if passes is None else passes * (k + 1), rate=rate, **some) for k, rate in enumerate(RATES)
    ]
    if given.get("methods"):
        for factor, method in ((3, "gradient_ascent"), (2, "grad_diff"), (1.5, "npo")):
            never = passes is None or method == "gradient_ascent"
            found["requests"] += [asked(None if never else passes * factor, method=method, rate=r) for r in RATES]
    if given.get("methods"):
        end = {"splits": splits(rng, 2.1, retain=0.9), "recovery": recovery(0.2)}
        reached = "forget_loss_reached_target" if seed else "all_passes_done"
        found["resisted"] = {"learning_rate": 1e-3, "steps": 9, "row_passes": 700.0, "stop_reason": reached, **end}
    if passes is not None:
        after = {"splits": splits(rng, 1.7, retain=0.97), "recovery": recovery(level)}
        found["after"] = {"learning_rate": RATES[0], "row_passes": passes, **after}
        if given.get("scenarios"):
            parts = {"requests": [asked(passes) for _ in range(3)], "unseen_loss": 2.0}
            parts["end"] = [{"loss": loss, "accuracy": 0.1} for loss in (1.5, 1.8, 2.1)]
            found["scenarios"] = {"half stable rows": asked(passes * 1.2), "stable rows": asked(passes * 1.5)}
            found["scenarios"] |= {"after a fine-tune": asked(None), "three in a row": parts}
    return found


def verdict_cell(task: str, seed: int) -> dict:
    """As of `recipes.study.judge`: the ranked gap fails in seed 0 against the model retrained for as many epochs."""
    found = []
    for yardstick in YARDSTICKS:
        word = "told apart" if seed == 0 and yardstick == "as many epochs" else "not told apart"
        lines = [judged("retrained again", 0.0, None), judged("hinge", 1e-3, 900.0, "told apart")]
        lines += [judged("ranked", 1e-3, 1000.0 + 100 * seed, word), judged("ranked", 1e-4, 500.0, "told apart")]
        found += [{"yardstick": yardstick, **line} for line in lines]
    head = {"schema": cells.SCHEMA, "task": task, "arm": "verdict", "seed": seed}
    return {**head, "rows": ROW_COUNTS, "verdicts": found, "seconds": 1.0}


def judged(gap: str, rate: float, passes: float | None, verdict="not told apart") -> dict:
    """As of `recipes.trial.judged`, with its request."""
    gates = {"forget_quality": verdict != "told apart", "kept": True, "extraction": None}
    measures = {"forget_loss": 2.0, "forget_quality": 0.5}
    return {"gap": gap, "learning_rate": rate, "row_passes": passes, "verdict": verdict, "gates": gates} | {
        "measures": measures
    }


def many(seeds: int = 3, tasks=("digits", "people"), arms=("retrained", "plain", "ready", "equal")) -> list[dict]:
    """A study in which readiness halves the row passes, more or less."""
    found = []
    for task in tasks:
        for seed in range(seeds):
            for arm in (arm for arm in arms if arm != "verdict"):
                full = arm in ("plain", "ready", "equal")
                factor = {"plain": 1.2, "ready": 0.5}.get(arm, 1.0) * (1 + 0.1 * seed if arm == "ready" else 1)
                passes = 3000.0 * factor
                if (task, arm, seed) == ("people", "equal", 1) or arm == "no retention":
                    passes = None
                training = 20_000.0 if arm in ("ready", "equal") else 10_000.0
                level = {"ready": 0.5, "relearn": 0.4}.get(arm, 0.8) + 0.02 * seed
                given = {
                    "methods": full,
                    "scenarios": full,
                    "training": training,
                    "level": level,
                }
                found.append(cell(task, arm, seed, passes, **given, retain=1.0 - 0.01 * (arm == "ready")))
            found.append(verdict_cell(task, seed))
    return found


def put(found, root) -> None:
    for one in found:
        path = cells.cell_path(root, one["task"], one["arm"], one["seed"])
        path.parent.mkdir(parents=True, exist_ok=True)
        measured = cells.measured_as(one["task"], one["arm"])
        path.write_text(json.dumps({"measured": measured, **one}), encoding="utf-8")


def gone(*counts: float | None) -> dict[int, Passes]:
    """Seeds 0, 1, …: row passes; negative: never, up to so many."""
    return {seed: Passes(abs(c), c > 0) for seed, c in enumerate(counts) if c is not None}
