"""Public names that are loaded on first use (PEP 562), so that importing a package imports nothing heavy.

A package lists them twice: in a table for [`lazily`], and as imports under `if TYPE_CHECKING`, which editors and type
checkers read (`from .trainers.ready import ReadyTrainer as ReadyTrainer`; the repeated name marks it as public).
`tests/test_public_names.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Args:
        package: name of the package, its `__name__`.
        homes: public name -> the module of the package that defines it, such as "trainers.ready".

    Returns:
        The package's `__getattr__` and `__dir__`.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    def dir_() -> list[str]:
        return sorted(["__version__", *homes] if package == "hf_unlearn" else homes)

    return getattr_, dir_
