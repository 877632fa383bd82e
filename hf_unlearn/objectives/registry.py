"""All objectives by name, found by their folder: to add one, put a file into it (see [`hf_unlearn.objectives`])."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

from ..utils.checks import Wrong
from . import __path__ as FOLDERS
from .base import ALTERNATES, AVERAGES, KINDS, NEEDS, REFERENCES, Objective
from .dpo import Dpo
from .retaining import Retaining

ALLOWED = {
    "needs": NEEDS,
    "reference": REFERENCES,
    "alternates": ALTERNATES,
    "average": AVERAGES,
    "retain_average": AVERAGES,
}


def find_objectives() -> dict[str, type[Objective]]:
    """
    Name -> class of the objectives that the modules of this folder define, in the order of the modules' names.

    Raises:
        TypeError: for an objective that does not keep to the contract, or a name that two have.
    """
    found: dict[str, type[Objective]] = {}
    for module in pkgutil.iter_modules(FOLDERS, f"{__package__}."):
        if module.name == __name__:
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if not (isinstance(cls, type) and issubclass(cls, Objective) and cls.__module__ == module.name):
                continue
            if cls in (Objective, Retaining, Dpo):
                continue
            if problems := contract_problems(cls, found):
                raise TypeError(f"{cls.__module__}.{cls.__name__}: {' '.join(problems)}")
            found[cls.name] = cls
    return found


def contract_problems(cls: type[Objective], others: dict[str, type[Objective]]) -> list[str]:
    """What a class lacks of the contract of [`Objective`]."""
    problems = [f"It has no `{name}`." for name in ("name", "citation") if not getattr(cls, name, None)]
    for name, allowed in ALLOWED.items():
        if getattr(cls, name) not in allowed:
            problems.append(f"`{name}` is {getattr(cls, name)!r}; it must be one of {', '.join(map(repr, allowed))}.")
    if unknown := sorted(set(cls.kinds) - set(KINDS)):
        problems.append(f"`kinds` has {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, KINDS))}.")
    if getattr(cls, "name", None) in others:
        problems.append(f"{others[cls.name].__name__} has the name {cls.name!r} already.")
    for field in option_fields(cls):
        if "help" not in field.metadata:
            problems.append(f"The option `{field.name}` has no help.")
        if field.default is dataclasses.MISSING:
            problems.append(f"The option `{field.name}` has no default.")
        for other in others.values():
            for theirs in option_fields(other):
                if theirs.name == field.name and (theirs.type, theirs.default) != (field.type, field.default):
                    problems.append(f"The option `{field.name}` has another type or default in {other.__name__}.")
    return problems


def option_fields(cls: type[Objective]) -> list[dataclasses.Field]:
    """The fields of an objective that are options of `UnlearnConfig`."""
    return [field for field in dataclasses.fields(cls) if field.name not in cls.moving]


OBJECTIVES: dict[str, type[Objective]] = find_objectives()


def get_objective(name: str, **parameters) -> Objective:
    """
    The objective registered under `name`, with its parameters.

    Raises:
        ValueError: for a name that is not registered or a parameter that the objective does not have; the message
            lists what exists.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"`objective` is {name!r}; it must be one of {', '.join(map(repr, OBJECTIVES))}.")
    known = [field.name for field in option_fields(OBJECTIVES[name])]
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(
            f"The objective {name!r} has no parameter {', '.join(map(repr, unknown))}; it has {known or 'none'}."
        )
    return OBJECTIVES[name](**parameters)


def objective_of(options) -> Objective:
    """The objective that the options name, with its parameters from them."""
    names = [field.name for field in option_fields(OBJECTIVES[options.objective])]
    return get_objective(options.objective, **{name: getattr(options, name) for name in names})


def fields_of_options() -> list[tuple[str, str, dataclasses.Field]]:
    """`(name, type, field)` of all objectives' options, as `dataclasses.make_dataclass` takes them; help says whose."""
    owners: dict[str, list[tuple[str, dataclasses.Field]]] = {}
    for name, cls in OBJECTIVES.items():
        for field in option_fields(cls):
            owners.setdefault(field.name, []).append((name, field))
    found = []
    for name, pairs in owners.items():
        helps: dict[str, list[str]] = {}
        for owner, field in pairs:
            text = field.metadata["help"]
            helps.setdefault(text[0].lower() + text[1:], []).append(owner)
        text = " ".join(f"{_listed(whose)} only: {text}" for text, whose in helps.items())
        field = pairs[0][1]
        found.append((name, field.type, dataclasses.field(default=field.default, metadata={"help": text})))
    return found


def _listed(names: list[str]) -> str:
    """Objectives in words: by name, or all but some where these are fewer."""
    others = [name for name in OBJECTIVES if name not in names]
    shown, but = (others, "all but ") if len(others) < len(names) else (names, "")
    quoted = [f"`{name}`" for name in shown]
    return but + " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def foreign_options(options, given) -> list[str]:
    """
    Options that were given a value, other than their default, that the objective asked for does not have.

    Args:
        given: names of the options that somebody has set.
    """
    if options.objective not in tuple(OBJECTIVES):
        return []
    own = {field.name for field in option_fields(OBJECTIVES[options.objective])}
    owners: dict[str, list[str]] = {}
    for name, cls in OBJECTIVES.items():
        for field in option_fields(cls):
            if field.name in given and field.name not in own and getattr(options, field.name) != field.default:
                owners.setdefault(field.name, []).append(name)
    return [
        Wrong(
            name,
            f"is {getattr(options, name)!r}, but the objective `{options.objective}` has no such option; "
            f"{_listed(whose)} {'has' if len(whose) == 1 else 'have'} it. Leave it out, or choose such an "
            "`objective`.",
        )
        for name, whose in owners.items()
    ]


def option_problems(options) -> list[str]:
    """What is wrong with the values of all objectives' options, whichever objective is asked for."""
    problems: dict[str, None] = {}
    for cls in OBJECTIVES.values():
        for field in option_fields(cls):
            if check := field.metadata.get("check"):
                problems |= dict.fromkeys(check(field.name, getattr(options, field.name)))
    return list(problems)
