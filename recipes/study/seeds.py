"""Statistics over seeds: means, paired differences, ratios and medians of values that may be missing or censored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # one less the confidence of an interval; and the p-value below which samples count as told apart
FEWEST = 3  # seeds for an interval
Seeds = Mapping[int, float | None]  # seed -> value; None: not measured


@dataclass(frozen=True)
class Passes:
    """Row passes until an event; where it never came (`reached` is False), those of the last look: it takes more."""

    count: float
    reached: bool


def mean(values: Seeds) -> dict:
    """
    Mean over seeds with the 95 % t-interval: mean ± t(.975, n − 1) · s / √n, s with n − 1.

    Returns:
        `{"value", "low", "high", "n", "seeds"}`; low and high are None below FEWEST seeds, value too without one. Where
        all seeds agree both are the value, which proves nothing: see [`side`].
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
    return {**found, "apart": side(found, 0.0)}


def ratio(control: Mapping[int, Passes], ready: Mapping[int, Passes]) -> dict:
    """
    How many times the row passes of `ready` does `control` take? r = control / ready in each seed that both have; the
    geometric mean over seeds, with the 95 % t-interval of log r.

    Where only the control never finished, its last look stands for it and r is a lower bound; where only ready never
    did (a lost seed), r is an upper bound; where neither did, nothing is known of r. The mean of the known and the
    bounds is then a bound too (with bounds on both sides none), and has no t-interval: a bound in place of an outlier
    would narrow it. With enough seeds the median and its distribution-free interval ([`order_interval`], at least 95 %)
    take the mean's place, as they need no more than bounds, and none for a seed where neither finished.

    Returns:
        [`mean`]'s keys, low or high alone None where it is not bounded; n and seeds without those of `neither`; `of`:
        "mean" or "median"; `bound` of the value: "", "≥", "≤" or "?"; `apart`: "above" or "below" where the interval
        excludes 1; `at_least`, `lost`, `neither`: the seeds of each kind.
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
    found = {**mean(logs), "of": "mean", "bound": _bound(bool(lost), bool(at_least))}
    if at_least or lost or neither:
        unknown = [math.inf] * len(neither)
        lower = [-math.inf if seed in lost else x for seed, x in logs.items()] + [-x for x in unknown]
        upper = [math.inf if seed in at_least else x for seed, x in logs.items()] + unknown
        low, high = order_interval(lower, upper)
        found |= {"low": _finite(low), "high": _finite(high)}
        if low is not None and logs:
            least, most = _middle(lower), _middle(upper)
            found |= {"of": "median", "bound": _bound(math.isinf(least), math.isinf(most))}
            if found["bound"] != "?":
                found["value"] = most if math.isinf(least) else least
            if found["bound"] == "" and least != most:
                found["bound"] = "≥"
    found |= {"apart": side(found, 0.0), "at_least": at_least, "lost": lost, "neither": neither}
    return found | {key: None if found[key] is None else math.exp(found[key]) for key in ("value", "low", "high")}


def _bound(below: bool, above: bool) -> str:
    """Sign of a value that may be lower, higher, or both."""
    return "?" if below and above else "≤" if below else "≥" if above else ""


def _middle(values: Sequence[float]) -> float:
    """The median; infinite where one of the two in the middle is."""
    found = sorted(values)
    return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


def order_interval(lower: Sequence[float], upper: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """
    Distribution-free interval of a median (the sign test's): of n values the k-th least and the k-th greatest, k the
    greatest with P(Binomial(n, ½) < k) ≤ .025; all of them for six seeds.

    Args:
        lower, upper: bounds of each value, in any order.

    Returns:
        Its ends, infinite where they are not bounded; `(None, None)` below six values.
    """
    from scipy.stats import binom

    k = int(binom.ppf(LEVEL / 2, len(lower), 0.5))
    return (sorted(lower)[k - 1], sorted(upper)[-k]) if k else (None, None)


def side(found: Mapping, point: float) -> str | None:
    """
    On which side of a point an interval lies: "above", "below"; None: the point is in it, there is none, or it has no
    width (counts that come in steps agree in a few seeds by chance).
    """
    if found["low"] is not None and found["low"] == found["high"]:
        return None
    if found["low"] is not None and found["low"] > point:
        return "above"
    return "below" if found["high"] is not None and found["high"] < point else None


def median(values: Mapping[int, Passes]) -> dict:
    """
    Median over seeds and the range; a seed that never finished is above all others.

    Returns:
        `{"value", "least", "most", "n", "seeds", "never"}`: value and ends are None where they fall on a seed that
        `never` (a list of seeds) finished.
    """
    return middle({s: p.count if p.reached else math.inf for s, p in values.items()})


def middle(values: Mapping[int, float]) -> dict:
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
    nothing or only ready does not finish. Where only plain never finished its last look stands for it: at most so many,
    or, where ready took more than that look, `unknown`, as where neither finished; such seeds are left out.

    Returns:
        [`median`]'s keys, `at_most`: the seeds with an upper bound, and `unknown`.
    """
    found, at_most, unknown = {}, [], []
    for seed in sorted(set(extra) & set(plain) & set(ready)):
        saved = plain[seed].count - ready[seed].count
        if not plain[seed].reached and (saved <= 0 or not ready[seed].reached):
            unknown.append(seed)
        elif not ready[seed].reached or saved <= 0:
            found[seed] = math.inf
        else:
            found[seed] = max(0.0, extra[seed]) / saved
            at_most += [] if plain[seed].reached else [seed]
    return {**middle(found), "at_most": at_most, "unknown": unknown}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
