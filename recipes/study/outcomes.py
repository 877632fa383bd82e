"""The study's arithmetic: from cells to values of a seed, from these to figures with n, seeds and interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hf_unlearn.evaluation import catalogue
from hf_unlearn.unlearning.stop_rule import REACHED
from recipes.study.seeds import LEVEL, Passes, break_even, difference, mean, median, middle, ratio
from recipes.study.tasks import VERDICT, YARDSTICKS

CONTROL, READY, PLAIN, RETRAINED = "equal", "ready", "plain", "retrained"
NEVER_ASKED = tuple(name for pair in YARDSTICKS.values() for name in pair)
METHOD = "nabla_tau"
SERIES = "three in a row"


# ---- a seed ---------------------------------------------------------------------------------------------------------


def request(asked: Mapping, kept_before: float) -> dict | None:
    """
    What counts of a request (`recipes.trial.ask`): row passes until forgotten and kept, and at its first being
    forgotten, with the retain accuracy there relative to the plain model's before. None where nobody looked.
    """
    looks = asked["looks"]
    if not looks:
        return None

    def at(event: str) -> tuple[float | None, float | None]:
        if asked[event] is None:
            return None, None
        look = looks[asked[event]]
        return look[1], look[4] / kept_before if kept_before else None

    done, kept = at("done")
    forgotten, kept_then = at("forgotten")
    return {
        "method": asked["method"],
        "rate": asked["learning_rate"],
        "passes": looks[-1][1] if done is None else done,
        "reached": done is not None,
        "kept": kept,
        "forgotten": forgotten,
        "kept_then": kept_then,
    }


def fewest(requests: Sequence[Mapping], method: str = METHOD) -> dict | None:
    """
    The request of a method (its learning rates) that finished in the fewest row passes. Where none did: that with the
    fewest at its last look, since the fewest over learning rates are at least these.
    """
    tried = [r for r in requests if r["method"] == method]
    return min(tried, key=lambda r: (not r["reached"], r["passes"]), default=None)


def area(losses: Sequence[float], reference: Sequence[float]) -> float | None:
    """[`recovery_area`] of the losses at evenly spaced steps; None where it is not defined."""
    from hf_unlearn.evaluation import recovery_area

    curves = [[{"step": k, "loss": loss} for k, loss in enumerate(some)] for some in (losses, reference)]
    if not (np.isfinite(losses).all() and np.isfinite(reference).all() and any(reference)):
        return None
    return recovery_area(*curves)


def values_of(cell: Mapping, plain: Mapping | None, retrained: Mapping | None) -> dict:
    """
    What the figures are made of, without losses of rows.

    Args:
        cell: of `recipes.study.build`.
        plain, retrained: those of the same task and seed; None where they are not there.

    Returns:
        `training` (row passes, and relative to plain), `before` (split -> loss, accuracy), `requests` ([`request`]),
        `scenarios` (name -> [`request`]; "three in a row": row passes of all three, `beyond_unseen`: each part's loss
        at the end less the unseen rows'), `membership` (AUC; of the model after its best request, or as it is where it
        is asked nothing), `after`: `loss`, `accuracy` (of splits), `auc_gap` and `ks_p` against the retrained model
        with `ks_rows`, `area` (kind -> [`area`]), and the `recovery` curves. `resisted` ([`resisted_of`]) if measured.
    """
    from scipy.stats import ks_2samp

    from recipes.study import trial

    kept_before = (plain or {}).get("before", {}).get("retain", {}).get("accuracy")
    passes, before = cell["training"]["row_passes"], cell["before"]
    found = {
        "training": [passes, passes / plain["training"]["row_passes"] if plain else None],
        "before": {split: [seen["loss"], seen["accuracy"]] for split, seen in before.items()},
        "requests": [one for asked in cell.get("requests", ()) if (one := request(asked, kept_before))],
        "scenarios": {},
        "membership": None,
    }
    for name, asked in cell.get("scenarios", {}).items():
        if name != SERIES:
            found["scenarios"][name] = request(asked, kept_before)
            continue
        parts = [request(one, kept_before) for one in asked["requests"]]
        if all(parts):
            found["scenarios"][name] = {
                "method": parts[-1]["method"],
                "rate": parts[-1]["rate"],
                "passes": sum(part["passes"] for part in parts),
                "reached": all(part["reached"] for part in parts),
                "kept": parts[-1]["kept"],
                "beyond_unseen": [end["loss"] - asked["unseen_loss"] for end in asked["end"]],
            }
    if "requests" not in cell:
        found["membership"] = trial.membership({name: before[name]["rows"] for name in ("forget", "unseen")})
        found["recovery"] = cell["recovery"]
    elif "after" in cell:
        after = cell["after"]["splits"]
        losses = {name: after[name]["rows"] for name in ("forget", "unseen")}
        found["membership"] = trial.membership(losses)
        found["after"] = {"loss": after["forget"]["loss"], "accuracy": {k: v["accuracy"] for k, v in after.items()}}
        found["recovery"] = cell["after"]["recovery"]
        if retrained:
            others = {name: retrained["before"][name]["rows"] for name in ("forget", "unseen")}
            curves = retrained["recovery"]
            found["after"] |= {
                "auc_gap": found["membership"] - trial.membership(others),
                "ks_p": float(ks_2samp(losses["forget"], others["forget"]).pvalue),
                "ks_rows": [len(losses["forget"]), len(others["forget"])],
                "area": {kind: area(losses, curves[kind]) for kind, losses in found["recovery"].items()},
            }
    if "resisted" in cell:
        found["resisted"] = resisted_of(cell["resisted"], kept_before, retrained)
    return found


def verdicts_of(cell: Mapping, plain: Mapping | None, retrained: Mapping[str, Mapping | None]) -> dict:
    """
    Verdicts and their control.

    Args:
        cell: of `recipes.study.cells.judge`.
        retrained: yardstick -> the cell of its retrained model.

    Returns:
        `lines` (dicts of [`recipes.study.trial.verdicts`], with the row passes as `share` of that retraining's) and
        `unseen` (yardstick -> p of a Kolmogorov-Smirnov test between plain and retrained on rows that neither ever
        saw).
    """
    from scipy.stats import ks_2samp

    lines, unseen = [], {}
    for one in cell["verdicts"]:
        whole = retrained.get(one["yardstick"])
        known = one["row_passes"] is not None and whole
        lines.append({**one, "share": one["row_passes"] / whole["training"]["row_passes"] if known else None})
    for name, other in retrained.items():
        if plain and other:
            unseen[name] = float(ks_2samp(*(side["before"]["unseen"]["rows"] for side in (plain, other))).pvalue)
    return {"lines": lines, "unseen": unseen}


def resisted_of(one: Mapping, kept_before: float | None, retrained: Mapping | None) -> dict:
    """
    What counts of a request with resistance (`recipes.trial.resisted`): `passes` until its own stop rule, `reached`
    (did that find the rows forgotten?), `kept` relative to the plain model's before, `loss` of the forget rows, and
    `auc_gap` and `area` against the retrained model.
    """
    from recipes.study import trial

    after = one["splits"]
    found = {
        "passes": one["row_passes"],
        "reached": one["stop_reason"] == REACHED,
        "kept": after["retain"]["accuracy"] / kept_before if kept_before else None,
        "loss": after["forget"]["loss"],
    }
    if retrained:
        ours, theirs = ({n: side[n]["rows"] for n in ("forget", "unseen")} for side in (after, retrained["before"]))
        found["auc_gap"] = trial.membership(ours) - trial.membership(theirs)
        found["area"] = {kind: area(losses, retrained["recovery"][kind]) for kind, losses in one["recovery"].items()}
    return found


# ---- a task ---------------------------------------------------------------------------------------------------------


def passes_of(values: Mapping[int, Mapping], method: str = METHOD) -> dict[int, Passes]:
    """Seed -> fewest row passes over the learning rates."""
    best = {seed: fewest(v["requests"], method) for seed, v in values.items()}
    return {seed: Passes(r["passes"], r["reached"]) for seed, r in best.items() if r}


def scenario_passes(values: Mapping[int, Mapping], name: str) -> dict[int, Passes]:
    found = {seed: v["scenarios"].get(name) for seed, v in values.items()}
    return {seed: Passes(r["passes"], r["reached"]) for seed, r in found.items() if r}


def kept_of(values: Mapping[int, Mapping], method: str = METHOD) -> dict[int, float | None]:
    """Seed -> retain accuracy relative to plain's before, where [`fewest`] was done; None where it never was."""
    best = {seed: fewest(v["requests"], method) for seed, v in values.items()}
    return {seed: r and r["kept"] for seed, r in best.items()}


def held_out(values: Mapping[int, Mapping]) -> str:
    """The split that tells what a model is worth: test rows where there are some, else unseen ones."""
    return "test" if all("test" in v["before"] for v in values.values()) else "unseen"


def utility_split(values: Mapping[int, Mapping]) -> str:
    """Test rows where there are some, else retain rows: unseen facts cannot be known."""
    return "test" if all("test" in v["before"] for v in values.values()) else "retain"


def accuracy_before(values: Mapping[int, Mapping], split: str) -> dict[int, float]:
    return {seed: v["before"][split][1] for seed, v in values.items()}


def _after(values: Mapping[int, Mapping], name: str) -> dict:
    return {seed: v.get("after", {}).get(name) for seed, v in values.items()}


def accuracy_after(values: Mapping[int, Mapping], split: str) -> dict[int, float | None]:
    return {seed: (found or {}).get(split) for seed, found in _after(values, "accuracy").items()}


def area_of(values: Mapping[int, Mapping], kind: str) -> dict[int, float | None]:
    return {seed: (v.get("after", {}).get("area") or {}).get(kind) for seed, v in values.items()}


def arm_outcomes(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """Figures of an arm: its own, and against the control, plain and retrained models of the same seeds."""
    from recipes.study.trial import FINE_TUNED_ON

    values, plain, control = arms[arm], arms.get(PLAIN, {}), arms.get(CONTROL, {})
    outer, worth = held_out(values), utility_split(values)
    found = {
        "training": mean({seed: v["training"][1] for seed, v in values.items()}),
        "forget_loss": mean({seed: v["before"]["forget"][0] for seed, v in values.items()}),
        "forget_accuracy": mean(accuracy_before(values, "forget")),
        "retain_accuracy": mean(accuracy_before(values, "retain")),
        f"{outer}_accuracy": mean(accuracy_before(values, outer)),
        "membership": mean({seed: v["membership"] for seed, v in values.items()}),
    }
    if arm != PLAIN:
        theirs = accuracy_before(plain, worth) if plain else {}
        relative = {s: a / theirs[s] for s, a in accuracy_before(values, worth).items() if theirs.get(s)}
        found["utility"] = {**difference(relative, dict.fromkeys(relative, 1.0)), "split": worth}
        before = accuracy_before(plain, "forget") if plain else {}
        found["forget_before"] = difference(accuracy_before(values, "forget"), before)
    if arm in NEVER_ASKED:
        return found
    passes = passes_of(values)
    p = {seed: x for seed, x in _after(values, "ks_p").items() if x is not None}
    found |= {
        "passes": median(passes),
        "kept": mean(kept_of(values)),
        "after_loss": mean(_after(values, "loss")),
        "after_accuracy": mean(accuracy_after(values, outer)),
        "auc_gap": difference(_after(values, "auc_gap"), dict.fromkeys(values, 0.0)),
        "ks_p": {**middle(p), "apart": sum(x < LEVEL for x in p.values())},
        **{f"area_{kind}": mean(area_of(values, kind)) for kind in FINE_TUNED_ON},
    }
    if arm != CONTROL:
        found["ratio"] = ratio(passes_of(control), passes)
        found["kept_difference"] = difference(kept_of(values), kept_of(control))
        if outer == worth:  # of unseen facts no model knows one
            found["after_difference"] = difference(accuracy_after(values, outer), accuracy_after(control, outer))
        for kind in FINE_TUNED_ON:
            found[f"area_{kind}_difference"] = difference(area_of(values, kind), area_of(control, kind))
    if arm != PLAIN:
        extra = {s: values[s]["training"][0] - plain[s]["training"][0] for s in values if s in plain}
        found["break_even"] = break_even(extra, passes_of(plain), passes)
    return found


def curves_of(values: Mapping[int, Mapping]) -> dict[str, list[float]]:
    """Kind of fine-tune -> mean loss over seeds, look by look."""
    some = [v["recovery"] for v in values.values() if v.get("recovery")]
    return {kind: np.mean([curves[kind] for curves in some], 0).tolist() for kind in (some[0] if some else ())}


def scenario_outcomes(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """Scenario -> `passes`, `kept`, `ratio` to the control, and of the series `beyond_unseen`, a mean for each part."""
    values, found = arms[arm], {}
    names = list(dict.fromkeys(name for v in values.values() for name in v["scenarios"]))
    for name in names:
        there = {seed: v["scenarios"][name] for seed, v in values.items() if v["scenarios"].get(name)}
        passes = scenario_passes(values, name)
        found[name] = {
            "passes": median(passes),
            "kept": mean({seed: r["kept"] for seed, r in there.items()}),
        }
        if arm != CONTROL:
            found[name]["ratio"] = ratio(scenario_passes(arms.get(CONTROL, {}), name), passes)
        if name == SERIES:
            parts = [r["beyond_unseen"] for r in there.values()]
            found[name]["beyond_unseen"] = [
                mean({seed: r["beyond_unseen"][k] for seed, r in there.items()}) for k in range(len(parts[0]))
            ]
    return found


def method_outcomes(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """Method -> `passes`, `kept`, `ratio` to the control by the same method."""
    values, found = arms[arm], {}
    for method in dict.fromkeys(r["method"] for v in values.values() for r in v["requests"]):
        passes = passes_of(values, method)
        found[method] = {"passes": median(passes), "kept": mean(kept_of(values, method))}
        if arm != CONTROL:
            found[method]["ratio"] = ratio(passes_of(arms.get(CONTROL, {}), method), passes)
    return found


def resisted_outcomes(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """
    Of requests with resistance: as in [`arm_outcomes`], of the seeds whose rows were forgotten by the trainer's own
    stop rule, and each area less that of the arm's best request without.
    """
    values = arms[arm]
    there = {seed: v["resisted"] for seed, v in values.items() if v.get("resisted")}
    if not there:
        return {}
    passes = median({seed: Passes(r["passes"], r["reached"]) for seed, r in there.items()})
    there = {seed: r for seed, r in there.items() if r["reached"]}  # else there was nothing to bring back
    zero = dict.fromkeys(there, 0.0)
    found = {
        "passes": passes,
        "kept": mean({seed: r["kept"] for seed, r in there.items()}),
        "after_loss": mean({seed: r["loss"] for seed, r in there.items()}),
        "auc_gap": difference({seed: r.get("auc_gap") for seed, r in there.items()}, zero),
    }
    for kind in next(iter(there.values()), {}).get("area", ()):
        areas = {seed: r.get("area", {}).get(kind) for seed, r in there.items()}
        found[f"area_{kind}"] = mean(areas)
        found[f"area_{kind}_gain"] = difference(areas, area_of(values, kind))
    return found


def verdict_outcomes(values: Mapping[int, Mapping]) -> list[dict]:
    """
    Of each yardstick, gap and learning rate: `yardstick`, `gap`, `rate`, `seeds`, `verdicts` (word -> seeds), `failed`
    (gate -> seeds), `share` (mean of the row passes relative to retraining's) and `measures` (means; of p-values
    medians). A second retrained model's line has `unseen` too: median of [`verdicts_of`]'s p, and `apart`, the seeds in
    which it is below .05.
    """
    lines: dict[tuple, dict[int, Mapping]] = {}
    for seed, v in values.items():
        for one in v["lines"]:
            lines.setdefault((one["yardstick"], one["gap"], one["learning_rate"]), {})[seed] = one
    found = []
    for (yardstick, gap, rate), some in lines.items():
        line = {"yardstick": yardstick, "gap": gap, "rate": rate, "seeds": sorted(some), "verdicts": {}, "failed": {}}
        for seed, one in sorted(some.items()):
            line["verdicts"].setdefault(one["verdict"], []).append(seed)
            for gate in (gate for gate, passed in one["gates"].items() if passed is False):
                line["failed"].setdefault(gate, []).append(seed)
        line["share"] = mean({seed: one["share"] for seed, one in some.items()})
        names = dict.fromkeys(name for one in some.values() for name in one["measures"])
        measures = {name: {s: one["measures"].get(name) for s, one in some.items()} for name in names}
        line["measures"] = {name: _summary(name, values) for name, values in measures.items()}
        if not rate:
            p = {s: values[s]["unseen"][yardstick] for s in some if yardstick in values[s]["unseen"]}
            line["unseen"] = {**middle(p), "apart": sum(x < LEVEL for x in p.values())}
        found.append(line)
    return sorted(found, key=lambda line: line["yardstick"])


def _summary(name: str, values: Mapping[int, float | None]) -> dict:
    """Mean and interval; of p-values, median and range."""
    entry = catalogue.find(name)
    if entry is None or entry.measure.unit != "p-value":
        return mean(values)
    return middle({seed: v for seed, v in values.items() if v is not None})


def study(cells: Sequence[Mapping]) -> dict[str, dict]:
    """
    Args:
        cells: of `recipes.study.build`, in the order in which tasks and arms are shown.

    Returns:
        task -> `rows` (split -> number, of the first seed), `seeds`, `values` (arm -> seed -> [`values_of`]),
        `judged` (seed -> [`verdicts_of`]), `figures` ([`arm_outcomes`]), `curves` ([`curves_of`]), `scenarios`,
        `methods`, `resisted`: each arm -> …; `verdicts` ([`verdict_outcomes`]).
    """
    by = {(cell["task"], cell["arm"], cell["seed"]): cell for cell in cells}
    found: dict[str, dict] = {}
    for (task, arm, seed), cell in by.items():
        one = found.setdefault(task, {"rows": cell["rows"], "seeds": set(), "values": {}, "judged": {}})
        one["seeds"].add(seed)
        plain, retrained = (by.get((task, name, seed)) for name in (PLAIN, RETRAINED))
        if arm == VERDICT:
            others = {name: by.get((task, pair[0], seed)) for name, pair in YARDSTICKS.items()}
            one["judged"][seed] = verdicts_of(cell, plain, others)
            continue
        one["values"].setdefault(arm, {})[seed] = values_of(cell, plain, retrained)
    for one in found.values():
        arms = one["values"]
        asked = [arm for arm in arms if arm not in NEVER_ASKED]
        one["seeds"] = sorted(one["seeds"])
        one["figures"] = {arm: arm_outcomes(arms, arm) for arm in arms}
        one["curves"] = {arm: curves_of(values) for arm, values in arms.items()}
        one["scenarios"] = {arm: found_ for arm in asked if (found_ := scenario_outcomes(arms, arm))}
        methods = {arm: method_outcomes(arms, arm) for arm in asked}
        one["methods"] = methods if any(len(some) > 1 for some in methods.values()) else {}
        one["resisted"] = {arm: found_ for arm in asked if (found_ := resisted_outcomes(arms, arm))}
        one["verdicts"] = verdict_outcomes(one["judged"])
    return found
