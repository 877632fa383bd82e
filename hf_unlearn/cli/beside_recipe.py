"""The flags of a verb that has its own and reads those of a recipe for another verb, whose YAML file says nothing of
it: `plan` and `verify`."""

from __future__ import annotations

from ..utils.checks import raise_problems
from . import parsing, reading
from .arguments import KINDS, range_problems


def divided(verb: str, argv: list[str]) -> tuple:
    """
    `(the verb's own arguments, words of the recipe)`. Its own are those on the command line, and keys `verb.name` of
    the YAML file; a plain key of such a name is the recipe's.

    Raises:
        ArgumentError: with all that is wrong with its own flags.
    """
    kind = KINDS[verb][0]
    names = set(parsing.actions_of([kind]))
    flags, problems = parsing.chosen(verb, argv)
    own = [one for one in flags if one.alone and one.name in names]
    problems += [parsing.not_there(one, verb, sorted(names)) for one in flags if one.prefix and one.name not in names]
    values, more = parsing.read_values(verb, [kind], own, verb)
    typed = reading.read_words(argv)[0]
    problems += more + parsing.lists_in_parts(typed, parsing.actions_of([kind]))
    found = parsing.made(kind, values)
    found.given = {one.name: one for one in own}
    raise_problems([parsing.with_file(problem, own) for problem in problems + range_problems(found)])
    rest = [one for one in typed if one.prefix not in ("", f"{verb}.") or one.name not in names]
    return found, [word for one in rest for word in (f"--{one.key}", *one.words)]
