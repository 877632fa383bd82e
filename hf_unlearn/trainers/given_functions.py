"""What a function or an object that a user brings does: the values that it was made with, and its code."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

PLAIN = (bool, int, float, str, type(None))


def values_of(given: Any) -> dict[str, Any]:
    """
    Numbers and words, by name, that a function or an object was made with: arguments of a partial function, what a
    closure holds, defaults, numbers of its module; of an object the fields or the arguments of its class that it keeps.
    """
    found: dict[str, Any] = {}
    for function, words in _parts(given):
        found |= _of_function(function) if inspect.isfunction(function) else _of_object(function)
        found |= words
    return {name: value for name, value in found.items() if isinstance(value, PLAIN)}


def code_of_given(given: Any) -> str | None:
    """
    Digest of what a user's own function or class says, its layout, comments and docstrings apart, and of the functions
    of its module that it calls. None where there is no source, or it is a library's, which has versions.
    """
    sources: dict[str, str] = {}
    for one, _ in _parts(given):
        _collect(one if inspect.isfunction(one) else type(one), sources)
    return hashlib.sha256("\n".join(sources.values()).encode()).hexdigest() if sources else None


def _parts(given: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """`(function or object, words that it is called with)`: of a method, its object, too."""
    words: Mapping[str, Any] = {}
    while isinstance(given, functools.partial):
        given, words = given.func, {**_by_name(given), **words}
    if inspect.ismethod(given):
        yield given.__self__, {}
        given = given.__func__
    if given is not None:
        yield given, words


def _by_name(given: functools.partial) -> dict[str, Any]:
    """The arguments of a partial function by name."""
    with suppress(TypeError, ValueError):  # of what has no signature
        return dict(inspect.signature(given.func).bind_partial(*given.args, **given.keywords).arguments)
    return dict(given.keywords)


def _of_function(function: Callable) -> dict[str, Any]:
    code = function.__code__
    names = {name for one in _nested(code) for name in one.co_names}
    found = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    found = {name: value for name, value in found.items() if isinstance(value, (bool, int, float))}
    signature = inspect.signature(function).parameters.values()
    found |= {one.name: one.default for one in signature if one.default is not one.empty}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # nothing is in it yet
            found[name] = cell.cell_contents
    return found


def _of_object(given: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(given):
        return {field.name: getattr(given, field.name, None) for field in dataclasses.fields(given)}
    with suppress(TypeError, ValueError):
        own = getattr(given, "__dict__", {})
        return {name: own[name] for name in inspect.signature(type(given)).parameters if name in own}
    return {}


def _collect(one: Callable, sources: dict[str, str]) -> None:
    """Adds the source of a function or class, and those of the functions of its module that it calls."""
    name = getattr(one, "__qualname__", "")
    if name in sources or not (source := _source(one)):
        return
    sources[name] = source
    if inspect.isfunction(one):
        called = {name for code in _nested(one.__code__) for name in code.co_names} & one.__globals__.keys()
        for other in sorted(called):
            if inspect.isfunction(other := one.__globals__[other]) and other.__module__ == one.__module__:
                _collect(other, sources)


def _source(one: Callable) -> str | None:
    try:
        libraries = tuple(filter(None, map(sysconfig.get_path, ("purelib", "platlib", "stdlib"))))
        if (inspect.getsourcefile(one) or "").startswith(libraries):
            return None
        source = textwrap.dedent(inspect.getsource(one))
    except (OSError, TypeError):
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a piece of a line
        return source
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _nested(code) -> Iterator:
    """A code object and those of the functions within it."""
    yield code
    for const in code.co_consts:
        if inspect.iscode(const):
            yield from _nested(const)
