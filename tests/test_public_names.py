"""Public names: what a package loads on first use is what an editor and a type checker are told of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hf_unlearn"
LAZY = [path for path in sorted(PACKAGE.rglob("__init__.py")) if "= lazily(" in path.read_text(encoding="utf-8")]


def homes_in(source: ast.Module) -> dict[str, str]:
    """The literal table `_HOMES`: name -> module."""
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            return ast.literal_eval(node.value)
    raise LookupError("no table `_HOMES`")


def checked_in(source: ast.Module) -> dict[str, str]:
    """Name -> module of the imports under `if TYPE_CHECKING`; each must repeat its name, which makes it public."""
    found = {}
    for block in source.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                assert isinstance(node, ast.ImportFrom) and node.level == 1, ast.unparse(node)
                for alias in node.names:
                    assert alias.asname == alias.name, f"write `{alias.name} as {alias.name}`"
                    found[alias.name] = node.module
    return found


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.name)
def test_type_checkers_are_told_of_the_names_that_are_loaded(path):
    source = ast.parse(path.read_text(encoding="utf-8"))
    assert checked_in(source) == homes_in(source)


def test_the_package_is_marked_as_typed():
    assert PACKAGE / "__init__.py" in LAZY and (PACKAGE / "py.typed").is_file()


def test_an_import_that_does_not_repeat_its_name_is_found():
    source = ast.parse("if TYPE_CHECKING:\n    from .options import ArgumentError\n")
    with pytest.raises(AssertionError, match="as ArgumentError"):
        checked_in(source)
