"""All attacks by name: the `ATTACK` of each file in this folder, and those that [`register`] adds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from .base import Attack

ADDED: dict[str, Attack] = {}  # from outside this folder
NO_ATTACKS = ("__init__", "base", "registry")


def attack_names() -> list[str]:
    """Names of all attacks, in alphabetical order; imports none of them."""
    files = [path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NO_ATTACKS]
    return sorted([*files, *ADDED])


def attacks() -> list[Attack]:
    """All attacks in the order in which they run."""
    found = [ADDED[name] if name in ADDED else import_module(f".{name}", __package__).ATTACK for name in attack_names()]
    return sorted(found, key=lambda attack: (attack.turn, attack.name))
