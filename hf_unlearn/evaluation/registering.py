"""Attacks from outside of this package."""

from __future__ import annotations

from .attacker import attempt_rules
from .attacks import registry
from .attacks.base import Attack
from .gate_rules import gate_names


def register(attack: Attack) -> Attack:
    """
    Makes an attack from outside of `attacks/` known to [`evaluate`], to `--attacks` and `--fail_on`, and to the report.

    Raises:
        ValueError: if there is one of this name, or its gate or attempt has the name of another.
    """
    taken = [f"an attack {attack.name!r}"] if attack.name in registry.attack_names() else []
    if attack.gate and attack.gate.name in gate_names():
        taken.append(f"a gate {attack.gate.name!r}")
    if attack.attempt and attack.attempt.name in attempt_rules():
        taken.append(f"an attempt {attack.attempt.name!r}")
    if taken:
        raise ValueError(f"there is {' and '.join(taken)} already: give {attack.name!r} other names.")
    registry.ADDED[attack.name] = attack
    return attack
