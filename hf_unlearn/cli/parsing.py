"""
Command line and YAML file -> the dataclasses of a verb; all problems in one error. The flags themselves are declared in
arguments.py, options.py and config.py; those of an attack or an objective in its own file.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from argparse import Action, ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import get_args, get_origin, get_type_hints

from ..utils.checks import ArgumentError, Wrong, gather, problems_of, raise_problems
from .arguments import BESIDE_RECIPE, CONFIGS, ESTIMATE, KINDS, OF_TRAINING_ALONE, VERBS, range_problems
from .keys_of_trl import is_idle, said_of
from .reading import Given, read_words, read_yaml

# What YAML knows, and `string_to_bool` and `float` do not.
ON_AND_OFF = {"on": True, "off": False}
NO_FINITE_NUMBERS = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


# ---- words -> dataclasses -------------------------------------------------------------------------------------------


def parse(
    verb: str,
    argv: list[str],
    flag_problems: Callable | None = None,
    check_rows: Callable | None = None,
    asked: str | None = None,
) -> tuple:
    """
    `(the verb's arguments, DataArguments, ModelArguments[, training config])` from the command line. Each is made with
    the flags alone that are there, so that `given` tells what the user set.

    Args:
        flag_problems: what is wrong with these four together; of the last, where its flags are wrong, it gets None.
        check_rows: called with the second where a flag is wrong, for what is wrong with the rows beside it.
        asked: the verb that the user typed, for the errors; None: the same.

    Raises:
        ArgumentError: with all problems of the flags, and of the rows by `check_rows`.
    """
    kinds = kinds_of(verb)
    flags, problems = chosen(verb, argv)
    values, more = read_values(verb, kinds, flags, asked or verb)
    typed = read_words(argv)[0]
    problems += more + lists_in_parts(typed, actions_of(kinds))
    if flag_problems is not None and asked is None:
        problems += for_other_verbs(verb, typed, with_shadows=values.get("shadows", 0) > 0)
    by_name = {one.name: one for one in flags}
    found: list = []
    for kind in kinds[:3]:
        found.append(made(kind, values))
        if wrong := range_problems(found[-1]):
            problems += [with_file(problem, flags) for problem in wrong]
            found[-1] = made(kind, values, without=[problem.name for problem in wrong])
        found[-1].given = {f.name: by_name[f.name] for f in fields(kind) if f.name in by_name}
    for config in kinds[3:]:
        args, more = made_config(config, values, flags)
        found.append(args)
        problems += more
    if flag_problems is not None:
        problems += [with_file(problem, flags) for problem in flag_problems(*found)]
    if problems:
        gather(lambda: raise_problems(problems), *([lambda: check_rows(found[1])] if check_rows else []))
    return tuple(found)


def made_config(config: type, values: dict, flags: list[Given]) -> tuple:
    """A training config, or None, and what is wrong with its values, each told with its flag or its place in a file."""

    def refused(without=()) -> list[str]:
        try:
            made(config, values, without)
        except ValueError as error:
            return problems_of(error)
        except Exception as error:  # of `TrainingArguments`: an unknown key of a flag's JSON, no DeepSpeed, …
            return [f"The Trainer's arguments are refused: {' '.join(str(error).split())}"]
        return []

    try:
        return made(config, values), []
    except Exception:  # told below
        problems = refused()
    if all(isinstance(problem, Wrong) for problem in problems):
        return None, [with_file(problem, flags) for problem in problems]
    # Of whom the library does not say whose value it refuses: whichever it does not mind the lack of.
    own = [one for one in flags if one.name in values and one.name in {f.name for f in fields(config)}]
    minds = {one.name: refused(without=[one.name]) for one in own}
    told = []
    ours = {problem.name for problem in problems if isinstance(problem, Wrong)}
    for problem in problems:
        whose = [one for one in own if problem not in minds[one.name]]
        if not isinstance(problem, Wrong) and whose and {one.name for one in whose} <= ours:
            continue  # the library's words for a value of which we say more
        unsaid = [one.shown for one in whose if one.file is not None or f"`{one.name}`" not in problem]
        is_plain = not isinstance(problem, Wrong) and unsaid
        told.append(f"{' and '.join(unsaid)}: {problem}" if is_plain else with_file(problem, flags))
    return None, told


def made(kind: type, values: dict, without=()):
    """A dataclass with those of the values that are its own, but for some; the others have its defaults."""
    return kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values and f.name not in without})


def kinds_of(verb: str) -> list[type]:
    """The dataclasses that have a verb's flags: its own, the data's, the model's, and its training config."""
    import hf_unlearn

    return [*KINDS[verb], *([getattr(hf_unlearn, CONFIGS[verb])] if verb in CONFIGS else [])]


def read_values(verb: str, kinds: list[type], flags: list[Given], asked: str) -> tuple[dict, list[str]]:
    """Values of the flags by name, each of its dataclass's type; and what is wrong with the others."""
    known = actions_of(kinds)
    values, problems = {}, []
    for one in flags:
        if one.name not in known and (serves_others(one) or is_idle(one.name, one.words)):
            continue
        if one.name in OF_TRAINING_ALONE.get(verb, ()) and not one.alone:
            continue
        if one.name not in known:
            problems.append(not_there(one, asked, list(known)))
        elif one.words != ["null"]:
            action = known[one.name]
            try:
                values[action.dest] = value_of(action, one.words, from_file=one.file is not None)
            except (ValueError, TypeError, OverflowError, ArgumentTypeError):
                problems.append(wrong_value(one, action))
    return values, problems


def lists_in_parts(typed: list[Given], known: Mapping[str, Action]) -> list[str]:
    """What is wrong with a command line that gives a list in several flags: the last alone would count."""
    several = [one for one in typed if one.name in known and known[one.name].nargs == "+"]
    keys = [one.key for one in several]
    return [
        f"`--{key}` is given {keys.count(key)} times; give all in one: --{key} "
        f"{' '.join(word for one in several if one.key == key for word in one.words)}."
        for key in dict.fromkeys(keys)
        if keys.count(key) > 1
    ]


def for_other_verbs(verb: str, typed: list[Given], with_shadows: bool) -> list[str]:
    """What is wrong with a command line that gives what is for another verb: only a file serves several."""
    read = {f"{verb}.", *((f"{one}." for one in CONFIGS) if with_shadows else ())}
    return [
        f"{one.shown} is for `hf-unlearn {one.prefix[:-1]}`, and nothing here reads it. Leave it out."
        for one in typed
        if one.prefix and one.prefix not in read
    ]


def serves_others(one: Given) -> bool:
    """Whether a plain key of a file is read by another verb. One of `plan` or `verify` alone is read by none."""
    return not one.alone and any(one.name in names_of(other) for other in KINDS if other not in BESIDE_RECIPE)


@cache
def names_of(verb: str) -> frozenset[str]:
    """Names of a verb's flags, with `_`."""
    return frozenset(actions_of(kinds_of(verb))) if verb in KINDS else ESTIMATE


def actions_of(kinds: list[type]) -> Mapping[str, Action]:
    """What `HfArgumentParser` makes of the dataclasses: name of a flag, with `_` -> how its words are read."""
    return _actions_of(tuple(kinds))


@cache
def _actions_of(kinds: tuple[type, ...]) -> Mapping[str, Action]:
    from transformers.hf_argparser import HfArgumentParser

    found: dict[str, Action] = {}

    class Parser(HfArgumentParser):
        def add_argument(self, *names, **how):
            action = super().add_argument(*names, **how)
            found.update({name.strip("-").replace("-", "_").rstrip("_"): action for name in names})  # `from_`: --from
            return action

    Parser(kinds, add_help=False)
    for kind in kinds:
        for name, hint in get_type_hints(kind).items():
            if name in found and dict in (get_origin(hint), *(get_origin(one) or one for one in get_args(hint))):
                reads = str not in get_args(hint)  # the Trainer takes no words there
                found[name].type = partial(json_object, alone=reads or name.endswith("_kwargs"), read=reads)
    return MappingProxyType(found)


def value_of(action: Action, words: list[str], from_file: bool = False):
    """
    The value that the words of a flag stand for.

    Raises:
        ValueError, TypeError, OverflowError, ArgumentTypeError: if they stand for none.
    """
    if not words and action.nargs in ("?", 0):  # `--stop`, `--no_stop`
        return action.const
    if action.nargs == "+" and (words or from_file):
        return [converted(action, word) for word in words]
    (word,) = words
    if action.nargs == 0:
        raise ValueError(word)
    return converted(action, word)


def converted(action: Action, word: str):
    if is_bool(action) and word.lower() in ON_AND_OFF:
        return ON_AND_OFF[word.lower()]
    if action.type is float and word.lower() in NO_FINITE_NUMBERS:
        return NO_FINITE_NUMBERS[word.lower()]
    if action.type is int and not word.strip().lstrip("+-").isdecimal():
        number = float(word)  # 1e3, 100.0
        if number != int(number):
            raise ValueError(word)
        return int(number)
    value = word if action.type is None else action.type(word)
    if action.choices is not None and value not in action.choices:
        raise ValueError(word)
    return value


def is_bool(action: Action) -> bool:
    from transformers.hf_argparser import string_to_bool

    return action.type is string_to_bool


def takes_json(action: Action) -> bool:
    return isinstance(action.type, partial) and action.type.func is json_object


def json_object(word: str, alone: bool, read: bool):
    """
    The words of a JSON object, or the path of a file that holds one: what the Trainer reads itself.

    Args:
        alone: no file is taken.
        read: the object itself instead of its words.

    Raises:
        ValueError: if it is neither.
    """
    if not word.startswith("{") and (alone or not Path(word).is_file()):
        raise ValueError(word)
    return json.loads(word) if read else word


# ---- what is wrong, in words ----------------------------------------------------------------------------------------


def wrong_value(one: Given, action: Action) -> str:
    """The problem of a flag whose words stand for no value of its type."""
    got = f"is {', '.join(map(repr, one.words))}" if one.words else "has no value"
    if action.nargs == 0:
        return f"{one.shown} {got}: expected no value."
    alone = " alone" if len(one.words) > 1 and action.nargs != "+" else ""
    return f"{one.shown} {got}: expected {expected(action)}{alone}."


def with_file(problem: str, flags: list[Given]) -> str:
    """The problem of a config's value, with the file that the value is from."""
    for one in flags:
        if isinstance(problem, Wrong) and one.name == problem.name and one.file is not None:
            return f"{one.shown} {problem.said}"
    return problem


def expected(action: Action) -> str:
    """What a flag takes."""
    if action.choices is not None:
        return f"one of {', '.join(str(getattr(choice, 'value', choice)) for choice in action.choices)}"
    if is_bool(action):
        return "true or false"
    if takes_json(action):
        return "a JSON object" if action.type.keywords["alone"] else "a JSON object or the path of a JSON file"
    name = getattr(action.type, "__name__", "value") if inspect.isclass(action.type) else "value"
    word = {int: "an integer", float: "a number", str: "a word"}.get(action.type, f"a {name}")
    return f"{word} or several" if action.nargs == "+" else word


def not_there(one: Given, verb: str, names: list[str]) -> str:
    """The problem of a flag or key that the verb does not have: whose it is, or one that is written much like it."""
    others = {name for other in KINDS if other not in BESIDE_RECIPE for name in names_of(other)}
    there = names if one.alone else sorted({*names, *others})
    its_plural = one.file is None and f"{one.name}s" in names  # --model, where --models is
    if said := said_of(one.name, one.words, () if its_plural else there):
        return f"{one.shown} {said}"
    if owners := owners_of(one):
        whose = " and ".join(f"`hf-unlearn {other}`" for other in owners)
        if one.file is None and verb not in KINDS and "evaluate" not in owners:  # `memory` reads a YAML for several
            keys = " or ".join(f"`--{other}.{one.name}`" for other in owners)
            return f"{one.shown} belongs to {whose}; write it as {keys}."
        if one.file is None:
            return f"{one.shown} belongs to {whose}; leave it out of `hf-unlearn {verb}`."
        keys = " or ".join(f"`{other}.{one.name}`" for other in owners)
        return f"{one.shown} belongs to {whose}; write it as {keys} where one file serves several verbs."
    candidates = [one.prefix + name for name in there]
    if "." in one.key and not one.prefix:  # `redy.seed`
        verbs = difflib.get_close_matches(one.key.partition(".")[0], VERBS, 1) or list(VERBS)
        candidates = [f"{other}.{name}" for other in verbs for name in sorted(names_of(other))]
    close = difflib.get_close_matches(one.key.replace("-", "_"), candidates, 1)
    dashes = "" if one.file else "--"
    said = f"key `{one.key}` in {one.file}" if one.file else f"flag --{one.key}"
    if not close:
        every = "--help all" if verb in CONFIGS else "--help"
        return f"There is no {said}; `hf-unlearn {verb} {every}` lists all that there are."
    like = f"`{close[0]}`" if one.file else dashes + close[0]
    return f"There is no {said}; did you mean {like}?"


def owners_of(one: Given) -> list[str]:
    """The verbs that have a flag; those that read it beside a recipe's only where no other does."""
    owners = [other for other in KINDS if one.name in names_of(other)]
    return [other for other in owners if other not in BESIDE_RECIPE] or owners


# ---- command line and file -> words ---------------------------------------------------------------------------------


def read_flags(verb: str, argv: list[str]) -> list[str]:
    """
    Words of the command line and of `--config FILE.yaml`, as one command line without a file.

    Raises:
        ArgumentError: if the file cannot be read or is not flat, or a word belongs to no flag.
    """
    flags, problems = chosen(verb, argv)
    raise_problems(problems)
    return [word for one in flags if one.words != ["null"] for word in (f"--{one.name}", *one.words)]


def chosen(verb: str, argv: list[str]) -> tuple[list[Given], list[str]]:
    """
    Flags of the command line over those of `--config FILE.yaml`, and what is wrong with either; in each, a key
    `verb.name` is for that verb only and wins there over a plain `name`.

    Raises:
        ArgumentError: if the file cannot be read.
    """
    typed, problems = read_words(argv)
    files = [one for one in typed if one.name == "config" and one.prefix in ("", f"{verb}.")]
    typed = [one for one in typed if one.name != "config"]
    if any(len(one.words) != 1 for one in files) or len(files) > 1:
        raise ArgumentError(["`--config` needs the path of a YAML file, one alone."])
    from_file, more = read_yaml(files[0].words[0]) if files else ([], [])
    found: dict[str, Given] = {}
    for flags, own_turn in ((from_file, False), (from_file, True), (typed, False), (typed, True)):  # later ones win
        for one in flags:
            if bool(one.prefix) == own_turn and one.prefix in ("", f"{verb}."):
                found[one.name] = one
    return list(found.values()), problems + more


def word_of(verb: str, argv: list[str], name: str, default: str, alone: bool = False) -> str:
    """
    The word of a flag, for what is said before anything is checked; the default, too, where it cannot be read.

    Args:
        alone: only what is given for this verb alone.
    """
    try:
        one = {one.name: one for one in chosen(verb, argv)[0]}.get(name)
    except ArgumentError:
        one = None
    said = one is not None and one.words not in ([], ["null"]) and (one.alone or not alone)
    return " ".join(one.words) if said else default


def is_readable(verb: str, argv: list[str]) -> bool:
    """Whether the flags can be read, and their file if there is one."""
    try:
        chosen(verb, argv)
    except ArgumentError:
        return False
    return True


def names_a_file(argv: list[str]) -> bool:
    """Whether a command line has `--config`, in one word with its file or in two."""
    return any(one.name == "config" for one in read_words(argv)[0])
