"""The study's judgement, as data: which side of the control an interval lies on, what counts as paying, as told apart
and as like retraining. `answers` puts it into sentences.

Differs from the paper: all marks are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_unlearn.evaluation.gates import Level
from hf_unlearn.evaluation.judge import Verdict
from recipes.study.outcomes import PLAIN, READY
from recipes.study.seeds import FEWEST, side

UTILITY = -0.01  # of plain's accuracy, that readiness may cost before any request
KNOWN = -0.1  # of the forget rows, that may be wrong before any request and are right for plain
FASTER = 2.0  # equal compute's row passes over ready's at least
NOT_TOLD = (Verdict.INDISTINGUISHABLE, Verdict.NOT_TOLD_APART)
GAP_BY_LOSS = "forget_mia_loss_auc_gap"
CHEAP = 0.2  # of retraining's row passes, that a match may cost


@dataclass(frozen=True)
class Standing:
    """Of `known` cases `good` are good; `few`: there are cases with too few seeds to say. `level` is their colour."""

    level: Level
    good: int
    known: int
    few: bool


def outcome(one: Mapping, arm: str, name: str) -> dict | None:
    """A figure of a task's arm, as `recipes.study.outcomes` made it."""
    return one["figures"].get(arm, {}).get(name)


def sides(found: Mapping[str, Mapping]) -> dict[str, dict]:
    """ "above", "below", "open" (not told apart) and "few" (seeds, too few for an interval) -> its cases."""
    parts: dict[str, dict] = {"above": {}, "below": {}, "open": {}, "few": {}}
    for case, f in found.items():
        few = f["low"] is None and f["high"] is None and f.get("of") != "median"
        parts["few" if few else f["apart"] or "open"][case] = f
    return parts


def standing(parts: Mapping[str, Mapping]) -> Standing:
    """On how many of the cases with an interval the good side ("above") is shown; `parts`: of [`sides`]."""
    good, known = len(parts["above"]), sum(len(parts[key]) for key in ("above", "below", "open"))
    return Standing(share_level(good, known), good, known, bool(parts["few"]))


def share_level(good: int, known: int) -> Level:
    if not known:
        return Level.UNKNOWN
    return Level.YES if good == known else Level.PARTLY if good else Level.NO


def pays_for(tasks: Mapping[str, Mapping], asked: Mapping[str, Mapping]) -> Standing:
    """Of the tasks with FEWEST seeds or more, how many pay by all marks; `asked`: task -> ratio."""
    known = [task for task, f in asked.items() if f["n"] + len(f["neither"]) >= FEWEST]
    good = sum(by_all_marks(tasks[task]) for task in known)
    return Standing(share_level(good, len(known)), good, len(known), len(known) < len(asked))


def by_all_marks(one: Mapping) -> bool:
    """
    Half the row passes of equal compute with an interval beyond 1; not shown to keep less; before the request an
    accuracy whose mean is within 1 % of plain's, and on the forget rows within ten points: what has half forgotten
    already is not ready.
    """
    ratio, kept = (outcome(one, READY, name) for name in ("ratio", "kept_difference"))
    faster = ratio["apart"] == "above" and ratio["value"] >= FASTER
    before = [(outcome(one, READY, "utility"), UTILITY), (outcome(one, READY, "forget_before"), KNOWN)]
    as_good = all(found and found["value"] is not None and found["value"] >= least for found, least in before)
    return faster and as_good and not (kept and kept["apart"] == "below")


def told_apart(one: Mapping, arm: str) -> bool | None:
    """
    From the retrained model: the interval of the AUC gap excludes 0, or the KS p-value is below .05 in more than half
    of the seeds. None where fewer than 3 seeds finished.
    """
    gap, p = outcome(one, arm, "auc_gap"), outcome(one, arm, "ks_p")
    if not gap or gap["low"] is None:
        return None
    return gap["apart"] is not None or 2 * p["apart"] > p["n"]


def not_told(line: Mapping) -> int:
    """Seeds of a line of verdicts that were not told apart."""
    return sum(len(line["verdicts"].get(word.value, ())) for word in NOT_TOLD)


def level_of(line: Mapping) -> Level:
    """Colour of a line of verdicts: no seed was told apart, some were, all were."""
    return share_level(not_told(line), len(line["seeds"]))


def best_verdicts(tasks: Mapping[str, Mapping]) -> dict[str, list[Mapping]]:
    """
    Task -> its lines of verdicts, one a yardstick, by one gap for all tasks and the learning rate that is best for the
    task, both chosen by the smallest share of seeds that are told apart.
    """
    found: dict[str, dict[str, list[Mapping]]] = {}
    for task, one in tasks.items():
        lines: dict[tuple[str, float], list[Mapping]] = {}
        for line in one["verdicts"]:
            if line["rate"]:
                lines.setdefault((line["gap"], line["rate"]), []).append(line)
        for (gap, _), some in lines.items():
            best = found.setdefault(gap, {}).get(task)
            if best is None or _share_not_told(some) > _share_not_told(best):
                found[gap][task] = some
    return max(found.values(), key=lambda by: sum(map(_share_not_told, by.values())), default={})


def _share_not_told(lines: Sequence[Mapping]) -> float:
    return sum(map(not_told, lines)) / sum(len(line["seeds"]) for line in lines)


def again_of(one: Mapping, yardstick: str) -> Mapping | None:
    """The line of a yardstick's second retrained model."""
    return next((v for v in one["verdicts"] if not v["rate"] and v["yardstick"] == yardstick), None)


def as_retrained(one: Mapping, line: Mapping) -> bool | None:
    """
    Whether a line is not told apart as often as the second retrained model, by CHEAP of retraining's row passes at
    most, and over all seeds the AUC gap to retraining has an interval that holds 0. None where it cannot be said: no
    such model, or it is always told apart itself, or no row passes to compare.
    """
    again, passes = again_of(one, line["yardstick"]), line["share"]["value"]
    if not again or not not_told(again) or passes is None:
        return None
    as_often = not_told(line) * len(again["seeds"]) >= not_told(again) * len(line["seeds"])
    gap = line["measures"].get(GAP_BY_LOSS)
    return as_often and passes <= CHEAP and not (gap and side(gap, 0.0))


def told_by_arm(tasks: Mapping[str, Mapping]) -> dict[str, dict[str, bool | None]]:
    """Arm -> task -> [`told_apart`], of the tasks that were asked from such models."""
    return {
        arm: {task: told_apart(one, arm) for task, one in tasks.items() if outcome(one, arm, "passes")}
        for arm in (PLAIN, READY)
    }


def like_retraining(tasks: Mapping[str, Mapping]) -> Standing | None:
    """Of the best lines of verdicts with FEWEST seeds or more, how many are [`as_retrained`]; None: none can say."""
    lines = [
        (line, as_retrained(tasks[task], line))
        for task, some in best_verdicts(tasks).items()
        for line in some
        if len(line["seeds"]) >= FEWEST
    ]
    lines = [(line, good) for line, good in lines if good is not None]
    if not lines:
        return None
    good, some = sum(good for _, good in lines), any(not_told(line) for line, _ in lines)
    level = Level.YES if good == len(lines) else Level.PARTLY if some else Level.NO
    return Standing(level, good, len(lines), False)
