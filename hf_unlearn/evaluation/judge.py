"""The judgement on a score card, as data: the gates and the verdict, what was forgotten, what was kept, what an
attacker could still do, how sure that is. `report.words` puts it into sentences.

Differs from the paper: the verdict is a conjunction of gates of ours (see `gates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from ..utils.guarantees import EXACT
from . import catalogue
from .attacker import Attacker, attacker_of
from .forgotten import Forgotten, forgotten_of
from .gate_rules import IN_VERDICT, gate_names, gate_rules
from .gates import Gate, Kept, Level, Sides, Status, kept_of, outcome_of
from .probing import Probes, probes_of
from .roles import BEFORE, ROLES
from .run_measures import aucs, ends_of, value_of

KEPT_MORE = 1.02  # the report remarks on a test accuracy above the retrained model's by this factor: it is no gain
SPLITS = ("forget", "retain", "unseen", "test")


class Verdict(str, Enum):
    """Can the model be told from a retrained one? In the order of [`worst_first`]."""

    OVER_FORGOTTEN = "over-forgotten"  # told apart, and by that
    TOLD_APART = "told apart"  # a gate failed
    UNKNOWN = "unknown"  # no retrained model, or nothing measured
    NOT_TOLD_APART = "not told apart"  # no gate failed, but some are undecided or blind
    INDISTINGUISHABLE = "indistinguishable"  # every gate is passed, none of them blind

    @property
    def status(self) -> Status:
        known = {Verdict.INDISTINGUISHABLE: Status.PASSED}
        known |= dict.fromkeys((Verdict.TOLD_APART, Verdict.OVER_FORGOTTEN), Status.FAILED)
        return known.get(self, Status.UNDECIDED)


@dataclass(frozen=True)
class Evidence:
    """
    What a judgement rests on: `rows` (split -> number), training `seeds` of this model, whether there is a `retrained`
    model and one with `another_seed`. `gap`: the smallest difference of AUCs that so few rows could have shown, `shift`
    the same of the Kolmogorov-Smirnov distance in `shift_of`; where neither is known, `spread`: half of the widest
    interval of an AUC.
    """

    rows: Mapping[str, int]
    seeds: int
    retrained: bool
    another_seed: bool
    gap: float | None = None
    shift: float | None = None
    shift_of: str = "loss"
    spread: float | None = None


@dataclass(frozen=True)
class Finding:
    """The judgement on one unlearned run. `several`: unlearned runs of other seeds stand beside it."""

    task: str
    model: str
    seed: int
    verdict: Verdict
    gates: Mapping[str, Gate]
    forgotten: Forgotten
    kept: Kept
    attacker: Attacker
    evidence: Evidence
    stop_reason: str | None = None
    guarantee: str | None = None  # "exact", "approximate" or "not_forgotten", as its run says
    several: bool = False
    utility: tuple[float, float | None] | None = None  # model utility and the retrained model's
    no_gain: tuple[tuple[str, float, float], ...] = field(default=())  # kind, test accuracy, the retrained model's
    probes: Probes | None = None  # general questions, where some were asked

    def status(self, gate: str) -> Status:
        """
        Of a gate, or of "verdict".

        Raises:
            ValueError: for a gate that does not exist, listing those that do.
        """
        if gate == "verdict":
            return self.verdict.status
        if gate not in self.gates:
            raise ValueError(f"there is no gate {gate!r}: expected one of {', '.join(gate_names())}.")
        return self.gates[gate].status

    def named(self, status: Status) -> list[str]:
        """Gates of the verdict with this status."""
        return [name for name in IN_VERDICT if self.gates[name].status is status]

    @property
    def blind(self) -> list[str]:
        """Gates of the verdict that are passed and could not have shown a difference."""
        return [name for name in IN_VERDICT if self.gates[name].blind]


@dataclass(frozen=True)
class Gain:
    """What readiness bought in a task, as (ready, plain): means over the `seeds` that have both, None if not known."""

    task: str
    seeds: int
    steps: tuple[float, float] | None
    kept: tuple[float, float] | None
    forgotten: tuple[tuple[Level, ...], tuple[Level, ...]]  # the different levels of the seeds
    is_exact: bool = False  # whether the ready models' deletions are


def judge(card: Mapping[str, Any]) -> list[Finding]:
    """
    A finding per unlearned run of a score card (as a dict, of schema 1 to 3), task by task, in the order of seeds and
    roles. Where a seed has no retrained model, that of another seed stands in.
    """
    found = []
    for task in tasks_of(card):
        runs = [run for run in card["runs"] if run["task"] == task]
        asked = sorted((r for r in runs if r["model"] in BEFORE), key=lambda r: (r["seed"], ROLES.index(r["model"])))
        several = len({run["seed"] for run in asked}) > 1
        for run in asked:
            same = {r["model"]: r for r in runs if r["seed"] == run["seed"]}
            any_seed = {r["model"]: r for r in reversed(runs)}
            found.append(
                judge_run(
                    run,
                    before=next((same[name] for name in BEFORE[run["model"]] if name in same), None),
                    retrained=same.get("retrained") or any_seed.get("retrained"),
                    again=same.get("retrained_again") or any_seed.get("retrained_again"),
                    seeds=len({r["seed"] for r in asked if r["model"] == run["model"]}),
                    several=several,
                )
            )
    return found


def judge_run(
    run: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    retrained: Mapping[str, Any] | None = None,
    again: Mapping[str, Any] | None = None,
    seeds: int = 1,
    several: bool = False,
) -> Finding:
    """
    Args:
        run, before, retrained, again: runs of a score card (dicts with `measures`): the model, the one that it started
            from, the retrained one, and one retrained with another seed, whose differences are the noise floor.
        seeds: training seeds of this model in the card.
        several: whether runs of other seeds stand beside this one.
    """
    measures = [(other or {}).get("measures", {}) for other in (run, before, retrained, again)]
    sides = Sides(*measures, retrained=bool(retrained))
    sides = replace(sides, kind=catalogue.kind_of(sides.names))
    gates = {name: outcome_of(rule, sides) for name, rule in gate_rules().items()}
    if run.get("guarantee") == EXACT and not retrained:  # rows that it never saw, whatever their loss beside others'
        gates["over_forgetting"] = Gate("over_forgetting", Status.NOT_APPLICABLE)
    attacker = attacker_of(run, sides)
    utility, theirs = (value_of(side, "model_utility") for side in (sides.mine, sides.reference))
    return Finding(
        run.get("task", ""),
        run.get("model", ""),
        run.get("seed", 0),
        verdict_of(gates, bool(retrained)),
        gates,
        forgotten_of(sides, gates, attacker.contradicting),
        kept_of(sides),
        attacker,
        _evidence(sides, gates["auc_gap"], seeds, again is not None),
        run.get("stop_reason"),
        run.get("guarantee"),
        several,
        None if utility is None else (utility, theirs),
        tuple(_no_gain(sides)),
        probes_of(run, before),
    )


def verdict_of(gates: Mapping[str, Gate], retrained: bool) -> Verdict:
    """The verdict from the gates of IN_VERDICT; one that is not applicable to such a model does not count."""
    over = gates["over_forgetting"].status is Status.FAILED
    if over or not retrained:
        return Verdict.OVER_FORGOTTEN if over else Verdict.UNKNOWN
    counted = [gates[name] for name in IN_VERDICT if gates[name].status is not Status.NOT_APPLICABLE]
    statuses = {gate.status for gate in counted}
    if Status.FAILED in statuses:
        return Verdict.TOLD_APART
    if statuses == {Status.UNDECIDED}:
        return Verdict.UNKNOWN
    if Status.UNDECIDED in statuses or any(gate.blind for gate in counted):
        return Verdict.NOT_TOLD_APART
    return Verdict.INDISTINGUISHABLE


def gains(findings: Iterable[Finding], card: Mapping[str, Any]) -> list[Gain]:
    """Ready against plain, for each task where some seed has both."""
    by_task: dict[str, dict[tuple[int, str], Finding]] = {}
    for finding in findings:
        by_task.setdefault(finding.task, {})[finding.seed, finding.model] = finding
    steps = {(r["task"], r["seed"], r["model"]): (r.get("cost") or {}).get("steps") for r in card["runs"]}
    found = []
    for task, by in by_task.items():
        seeds = sorted(seed for seed, model in by if model == "ready_unlearned" and (seed, "unlearned") in by)
        if not seeds:
            continue
        pairs = [[(seed, role) for seed in seeds] for role in ("ready_unlearned", "unlearned")]
        taken = [[steps[(task, *key)] for key in keys] for keys in pairs]
        shares = [[by[key].kept.share for key in keys] for keys in pairs]
        levels = tuple(tuple(dict.fromkeys(by[key].forgotten.level for key in keys)) for keys in pairs)
        exact = all(by[key].guarantee == EXACT for key in pairs[0])
        found.append(Gain(task, len(seeds), _means(taken), _means(shares), levels, exact))
    return found


def _means(pair: Sequence[Sequence[float | None]]) -> tuple[float, float] | None:
    return None if any(None in side for side in pair) else tuple(float(np.mean(side)) for side in pair)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one model's seeds, the worst verdict first; among equals the least kept, then the lowest seed."""
    order, last = list(Verdict), 2.0  # where the share is not known
    return sorted(
        findings, key=lambda f: (order.index(f.verdict), last if f.kept.share is None else f.kept.share, f.seed)
    )


def tasks_of(card: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["task"] for run in card["runs"]))


def is_trial(card: Mapping[str, Any], task: str) -> bool:
    """Whether a task was run only to see that it runs (`smoke` of its provenance)."""
    return bool(((card.get("provenance") or {}).get(task) or {}).get("smoke"))


def rows_of(card: Mapping[str, Any], task: str) -> dict[str, int]:
    """Split -> number of rows, as far as the losses tell."""
    counts: dict[str, int] = {}
    for run in card["runs"]:
        if run["task"] == task:
            for split in SPLITS:
                if "n" in (loss := run["measures"].get(f"{split}_loss") or {}):
                    counts.setdefault(split, loss["n"])
    return counts


def _no_gain(sides: Sides) -> Iterable[tuple[str, float, float]]:
    """Test accuracies above the retrained model's: no gain, since they may come from what that model cannot answer."""
    for kind in ("accuracy", "token_accuracy"):
        value, aim = (value_of(side, f"test_{kind}") for side in (sides.mine, sides.reference))
        if value is not None and aim and value / aim > KEPT_MORE:
            yield kind, value, aim


def _evidence(sides: Sides, auc_gap: Gate, seeds: int, another_seed: bool) -> Evidence:
    rows = {split: m["n"] for split in ("forget", "unseen") if (m := sides.mine.get(f"{split}_loss"))}
    gap = auc_gap.numbers.get("detectable")
    quality = sides.mine.get("forget_quality") or {}
    widths = [(ends_of(m)[1] - ends_of(m)[0]) / 2 for m in aucs(sides.mine).values() if m.get("low") is not None]
    return Evidence(
        rows,
        seeds,
        sides.retrained,
        another_seed,
        gap or None,
        quality.get("detectable") or None,
        quality.get("of", "loss"),
        max(widths, default=None),
    )
