"""
Which gates could be passed at all, by the gates' own rules: a model is made up that is a copy of the retrained one,
with as many rows as one likes, and judged.

A gate that rests on nothing but measures which the study calls weak for such models is undecided at best. Who asks for
it in the CI of models waits for a status of 0 that never comes, so it is refused instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from . import catalogue
from .attacks.registry import attacks as registered
from .gate_rules import gate_rules
from .gates import Gate, GateRule, Sides, Status, outcome_of
from .judge import verdict_of

MANY = 10**6  # rows of the made-up model


class Obstacle(str, Enum):
    """Why a gate cannot be passed, whatever the model; where there are several, the first."""

    KIND = "kind"  # of model: all measures are weak for it, or there is no such thing to measure
    RETRAINED = "retrained"  # there is no retrained model
    ATTACK = "attack"  # the attack that it rests on is not run


def obstacles(kind: str, *, retrained: bool = True, attacks: Collection[str] | None = None) -> dict[str, Obstacle]:
    """
    Name -> obstacle of the gates that cannot be passed, "verdict" among them. A gate of which nothing is known (one of
    somebody's own attack, whose measures are not in the catalogue) is not among them.

    Args:
        kind: of models, one of `catalogue.MODEL_KINDS`.
        retrained: whether there is a retrained model.
        attacks: names of those that are run; None: not known.
    """
    best = {each: _gates(each, retrained=True) for each in catalogue.MODEL_KINDS}
    here = _gates(kind, retrained)
    by_attack = {attack.gate.name: attack.name for attack in registered() if attack.gate}
    found = {}
    for name in gate_rules():
        if not any(_is_known(gates[name]) for gates in best.values()):
            continue
        if best[kind][name].status in (Status.UNDECIDED, Status.NOT_APPLICABLE):
            found[name] = Obstacle.KIND
        elif here[name].status in (Status.UNDECIDED, Status.NOT_APPLICABLE):
            found[name] = Obstacle.RETRAINED
        elif attacks is not None and by_attack.get(name, "") not in ("", *attacks):
            found[name] = Obstacle.ATTACK
    if verdict_of(best[kind], True).status is not Status.PASSED:
        found["verdict"] = Obstacle.KIND
    elif not retrained:
        found["verdict"] = Obstacle.RETRAINED
    return found


def _is_known(gate: Gate) -> bool:
    """Whether the made-up measures are those that a gate looks at."""
    return gate.status in (Status.PASSED, Status.NOT_APPLICABLE) or bool(gate.weak)


def _gates(kind: str, retrained: bool) -> dict[str, Gate]:
    """What a copy of the retrained model comes to."""
    own = _measures(kind)
    alone = {name: measure for name, measure in own.items() if not catalogue.find(name).measure.compares}
    sides = Sides(own, reference=own, retrained=True, kind=kind) if retrained else Sides(alone, kind=kind)
    return {name: _outcome(rule, sides) for name, rule in gate_rules().items()}


def _outcome(rule: GateRule, sides: Sides) -> Gate:
    try:
        return outcome_of(rule, sides)
    except Exception:  # of somebody's own attack: its measures may hold more than the made-up ones
        return Gate(rule.name, Status.UNDECIDED)


def _measures(kind: str) -> Mapping[str, dict[str, Any]]:
    """All measures of a kind of model as a copy of the retrained one has them, with narrow intervals."""
    some = {
        "split": list(catalogue.SPLITS),
        "score": [score.in_name for score in catalogue.SCORES.values() if kind in score.kinds],
        "rows": list(catalogue.FINE_TUNES),
        "": [""],
    }
    same = {"distance": 0.0, "detectable": 0.0, "of": "loss", "n": MANY}
    found = {}
    for measure in catalogue.MEASURES:
        if kind in measure.kinds:
            value = 0.0 if measure.good == "0" or (measure.compares and measure.good == "low") else 1.0
            places = measure.splits or some[measure.placeholder]
            found |= dict.fromkeys(map(measure.at, places), {"value": value, "low": value, "high": value, **same})
    return found
