"""The study's arithmetic: from cells to values of a seed, from these to figures with n, seeds and interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # one less the confidence of an interval; and the p-value below which samples count as told apart
FEWEST = 3  # seeds for an interval
CONTROL, READY, PLAIN, RETRAINED = "equal", "ready", "plain", "retrained"
METHOD = "nabla_tau"
SERIES = "three in a row"
Seeds = Mapping[int, float | None]  # seed -> value; None: not measured


@dataclass(frozen=True)
class Passes:
    """Row passes until an event; where it never came (`reached` is False), those of the last look: it takes more."""

    count: float
    reached: bool


# ---- statistics -----------------------------------------------------------------------------------------------------


def mean(values: Seeds) -> dict:
    """
    Mean over seeds with the 95 % t-interval: mean ± t(.975, n − 1) · s / √n, s with n − 1.

    Returns:
        `{"value", "low", "high", "n", "seeds"}`; low and high are None below FEWEST seeds, value too without one.
    """
    known = {seed: float(v) for seed, v in sorted(values.items()) if v is not None and math.isfinite(v)}
    found = np.array(list(known.values()))
    low = high = None
    if len(found) >= FEWEST:
        from scipy.stats import t

        half = t.ppf(1 - LEVEL / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found))
        low, high = float(found.mean() - half), float(found.mean() + half)
    value = float(found.mean()) if len(found) else None
    return {"value": value, "low": low, "high": high, "n": len(known), "seeds": list(known)}


def difference(ours: Seeds, others: Seeds) -> dict:
    """[`mean`] of ours − others, seed by seed; `apart`: "above" or "below" where the interval excludes 0, else None."""
    both = [s for s in ours if s in others and ours[s] is not None and others[s] is not None]
    found = mean({seed: ours[seed] - others[seed] for seed in both})
    return {**found, "apart": _apart(found, 0.0)}


def ratio(control: Mapping[int, Passes], ready: Mapping[int, Passes]) -> dict:
    """
    How many times the row passes of `ready` does `control` take? r = control / ready in each seed that both have; the
    geometric mean over seeds, with the 95 % t-interval of log r.

    Where only the control never finished, its last look stands for it and r is a lower bound; where only ready never
    did (a lost seed), r is an upper bound; where neither did, the seed says nothing. The mean is then a bound too (with
    bounds on both sides none), and has no interval: a bound in place of an outlier would narrow it.

    Returns:
        [`mean`]'s keys; `bound`: "", "≥", "≤" or "?"; `apart`: "above" or "below" where the interval excludes 1;
        `at_least`, `lost`, `neither`: the seeds of each kind.
    """
    logs, at_least, lost, neither = {}, [], [], []
    for seed in sorted(set(control) & set(ready)):
        a, b = control[seed], ready[seed]
        if not (a.reached or b.reached):
            neither.append(seed)
            continue
        logs[seed] = math.log(a.count / b.count)
        if not a.reached:
            at_least.append(seed)
        if not b.reached:
            lost.append(seed)
    found = mean(logs)
    bound = "?" if at_least and lost else "≥" if at_least else "≤" if lost else ""
    if bound:
        found |= {"low": None, "high": None}
    apart = _apart(found, 0.0)
    found |= {key: None if found[key] is None else math.exp(found[key]) for key in ("value", "low", "high")}
    return {**found, "bound": bound, "apart": apart, "at_least": at_least, "lost": lost, "neither": neither}


def _apart(found: Mapping, point: float) -> str | None:
    if found["low"] is None or found["low"] <= point <= found["high"]:
        return None
    return "above" if found["low"] > point else "below"


def median(values: Mapping[int, Passes]) -> dict:
    """
    Median over seeds and the range; a seed that never finished is above all others.

    Returns:
        `{"value", "least", "most", "n", "seeds", "never"}`: value and ends are None where they fall on a seed that
        `never` (a list of seeds) finished.
    """
    return _middle({s: p.count if p.reached else math.inf for s, p in values.items()})


def _middle(values: Mapping[int, float]) -> dict:
    seeds = sorted(values)
    found = np.array(sorted(values.values()), float)
    value = least = most = None
    if len(found):
        lower, upper = found[(len(found) - 1) // 2], found[len(found) // 2]
        value, least, most = (_finite(x) for x in ((lower + upper) / 2, found[0], found[-1]))
    never = [seed for seed in seeds if math.isinf(values[seed])]
    return {"value": value, "least": least, "most": most, "n": len(seeds), "seeds": seeds, "never": never}


def break_even(extra: Mapping[int, float], plain: Mapping[int, Passes], ready: Mapping[int, Passes]) -> dict:
    """
    Requests after which the dearer training is paid back: `extra` row passes of training / row passes that a request
    saves (plain − ready), in each seed that all three have; the median over seeds. Never, where a request saves
    nothing or ready does not finish. Where plain never finished its last look stands for it: at most so many.

    Returns:
        [`median`]'s keys and `at_most`: the seeds with an upper bound.
    """
    found, at_most = {}, []
    for seed in sorted(set(extra) & set(plain) & set(ready)):
        saved = plain[seed].count - ready[seed].count
        if not ready[seed].reached or saved <= 0:
            found[seed] = math.inf
            continue
        found[seed] = max(0.0, extra[seed]) / saved
        if not plain[seed].reached:
            at_most.append(seed)
    return {**_middle(found), "at_most": at_most}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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
        with `ks_rows`, `area` (kind -> [`area`]), and the `recovery` curves.
    """
    from scipy.stats import ks_2samp

    from recipes import trial

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


def area_of(values: Mapping[int, Mapping], kind: str) -> dict[int, float | None]:
    return {seed: (v.get("after", {}).get("area") or {}).get(kind) for seed, v in values.items()}


def arm_figures(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """Figures of an arm: its own, and against the control, plain and retrained models of the same seeds."""
    from recipes.trial import KINDS

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
        found["utility"] = difference(accuracy_before(values, worth), accuracy_before(plain, worth) if plain else {})
    if arm == RETRAINED:
        return found
    passes = passes_of(values)
    p = {seed: x for seed, x in _after(values, "ks_p").items() if x is not None}
    found |= {
        "passes": median(passes),
        "kept": mean(kept_of(values)),
        "after_accuracy": mean({seed: (a or {}).get(outer) for seed, a in _after(values, "accuracy").items()}),
        "auc_gap": difference(_after(values, "auc_gap"), dict.fromkeys(values, 0.0)),
        "ks_p": {**_middle(p), "apart": sum(x < LEVEL for x in p.values())},
        **{f"area_{kind}": mean(area_of(values, kind)) for kind in KINDS},
    }
    if arm != CONTROL:
        found["ratio"] = ratio(passes_of(control), passes)
        found["kept_difference"] = difference(kept_of(values), kept_of(control))
        for kind in KINDS:
            found[f"area_{kind}_difference"] = difference(area_of(values, kind), area_of(control, kind))
    if arm != PLAIN:
        extra = {s: values[s]["training"][0] - plain[s]["training"][0] for s in values if s in plain}
        found["break_even"] = break_even(extra, passes_of(plain), passes)
    return found


def curves_of(values: Mapping[int, Mapping]) -> dict[str, list[float]]:
    """Kind of fine-tune -> mean loss over seeds, look by look."""
    some = [v["recovery"] for v in values.values() if v.get("recovery")]
    return {kind: np.mean([curves[kind] for curves in some], 0).tolist() for kind in (some[0] if some else ())}


def scenario_figures(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
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


def method_figures(arms: Mapping[str, Mapping[int, Mapping]], arm: str) -> dict[str, dict]:
    """Method -> `passes`, `kept`, `ratio` to the control by the same method."""
    values, found = arms[arm], {}
    for method in dict.fromkeys(r["method"] for v in values.values() for r in v["requests"]):
        passes = passes_of(values, method)
        found[method] = {"passes": median(passes), "kept": mean(kept_of(values, method))}
        if arm != CONTROL:
            found[method]["ratio"] = ratio(passes_of(arms.get(CONTROL, {}), method), passes)
    return found


def study(cells: Sequence[Mapping]) -> dict[str, dict]:
    """
    Args:
        cells: of `recipes.study.build`, in the order in which tasks and arms are shown.

    Returns:
        task -> `rows` (split -> number, of the first seed), `seeds`, `values` (arm -> seed -> [`values_of`]),
        `figures` ([`arm_figures`]), `curves` ([`curves_of`]), `scenarios`, `methods`: each arm -> …
    """
    by = {(cell["task"], cell["arm"], cell["seed"]): cell for cell in cells}
    found: dict[str, dict] = {}
    for (task, arm, seed), cell in by.items():
        one = found.setdefault(task, {"rows": cell["rows"], "seeds": set(), "values": {}})
        one["seeds"].add(seed)
        plain, retrained = (by.get((task, name, seed)) for name in (PLAIN, RETRAINED))
        one["values"].setdefault(arm, {})[seed] = values_of(cell, plain, retrained)
    for one in found.values():
        arms = one["values"]
        asked = [arm for arm in arms if arm != RETRAINED]
        one["seeds"] = sorted(one["seeds"])
        one["figures"] = {arm: arm_figures(arms, arm) for arm in arms}
        one["curves"] = {arm: curves_of(values) for arm, values in arms.items()}
        one["scenarios"] = {arm: found_ for arm in asked if (found_ := scenario_figures(arms, arm))}
        one["methods"] = {arm: found_ for arm in asked if len(found_ := method_figures(arms, arm)) > 1}
    return found
