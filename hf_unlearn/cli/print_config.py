"""`--print_config`: what a verb makes of its flags and its file, as YAML that gives the same by `--config`, each value
with where it is from. Neither a model nor a row is loaded."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from ..memory.run import Run
from ..utils.checks import ArgumentError, raise_problems
from ..utils.flags import with_underscores
from . import attack_checks, beside_recipe, checks, memory, parsing, reading, request, running, shadows, terminal
from .arguments import (
    CONFIGS,
    OF_TRAINING_ALONE,
    TRAINS_NOTHING,
    DataArguments,
    EvaluateArguments,
    ModelArguments,
)
from .from_flags import FromFlags
from .help import OPTIONS, TRAINER
from .reading import Given

FLAG = "print_config"
TYPED, DEFAULT = "command line", "default"
BESIDE = {"lora_r": ("lora_", "use_rslora", "use_dora"), "load_in_4bit": ("bnb_",), "model_type": ("vocab_size",)}
Line = tuple[str, list[str], str]  # key, words of its value, where they are from


def is_asked(argv: list[str]) -> bool:
    """Whether a command line has the flag."""
    return any(one.name == FLAG for one in reading.read_words(argv)[0])


def main(verb: str, argv: list[str]) -> None:
    """
    Prints what [`text`] says, once where there are several processes.

    Raises:
        ArgumentError: as [`text`].
    """
    if any(one.name == FLAG and one.words for one in reading.read_words(argv)[0]):
        raise ArgumentError([f"`--{FLAG}` stands alone and takes no value."])
    said = text(verb, [word for word in argv if not is_asked([word])])
    if terminal.speaks():
        sys.stdout.write(said)


def text(verb: str, argv: list[str]) -> str:
    """
    The YAML of a verb.

    Raises:
        ArgumentError: with all that is wrong with flags and file, as far as neither rows nor models tell.
    """
    reads = {"memory": of_memory, "tofu": of_tofu, "plan": of_beside, "verify": of_beside}.get(verb, of_one)
    given, defaults = reads(verb, argv)
    lines = [f"# What `hf-unlearn {verb}` reads; the same from this file: hf-unlearn {verb} --config FILE"]
    for key, words, origin in {one[0]: one for one in given}.values():  # of a key twice, the last counts
        if running.is_secret(f"--{key}"):
            lines.append(f"# {key}: {running.HIDDEN}  # {origin}; left out, since no file should hold it")
        else:
            lines.append(f"{key}: {in_yaml(words)}  # {origin}")
    lines += [f"# {key}: {in_yaml(words)}  # {origin}" for key, words, origin in defaults]
    return "\n".join(lines) + "\n"


# ---- the verbs -------------------------------------------------------------------------------------------------------


def of_one(verb: str, argv: list[str]) -> tuple[list[Line], list[Line]]:
    """Lines of what was given to `ready`, `unlearn` or `evaluate`, and of the defaults."""
    found = parsing.parse(verb, argv)
    given = lines_of(verb, argv, found)
    if verb == "evaluate" and found[0].shadows:  # which are trained by the same file
        given = [one for kind in CONFIGS for one in lines_of(kind, shadows.training_flags(argv))] + given
    return given, defaults_of(found)


def of_beside(verb: str, argv: list[str]) -> tuple[list[Line], list[Line]]:
    """Those of `plan` and `verify`: their own, and the recipe's."""
    own, words = beside_recipe.divided(verb, argv)
    given = [line(one, verb) for one in own.given.values() if one.words != ["null"]]
    if not words:
        return given, defaults_of([own])
    kind = "unlearn" if verb == "plan" and own.ask is None else "ready"
    found = parsing.parse(kind, [*words, *TRAINS_NOTHING], asked=verb)
    return given + lines_of(kind, words, found), defaults_of([own, *found[1:3]])


def of_memory(verb: str, argv: list[str]) -> tuple[list[Line], list[Line]]:
    """Those of the estimate: its own, and where there is a recipe, what it says of a training and of a request."""
    own, words = memory.divided(argv)
    memory.build_parser(memory.PROGRAM).parse_args(with_underscores(own))  # leaves with what is wrong
    flags = memory.own_flags(argv)
    given = [line(one, verb) for one in flags]
    if not memory.names_a_recipe(words):
        known = {one.plain_name for one in flags} | {"verb"}  # of which there are three by default
        return given, [one for one in default_lines(Run(), known, f"{verb}.") if one[0] not in known]
    found = {kind: parsing.parse(kind, [*words, *TRAINS_NOTHING], asked=verb) for kind in CONFIGS}
    return given + [one for kind in CONFIGS for one in lines_of(kind, words, found[kind])], []


def of_tofu(verb: str, argv: list[str]) -> tuple[list[Line], list[Line]]:
    """Those of TOFU's measures from logs, whose keys have no verb before them."""
    flags, problems = parsing.chosen(verb, argv)
    raise_problems(problems)
    return [line(one) for one in flags], []


# ---- what was given --------------------------------------------------------------------------------------------------


def lines_of(verb: str, argv: list[str], found: Iterable = ()) -> list[Line]:
    """
    What a verb reads of flags and file, in their order; what was given for it alone as `verb.key`.

    Args:
        found: the dataclasses that were made of it.
    """
    idle = {name for one in found for name in superseded(one)}
    left = OF_TRAINING_ALONE.get(verb, ())
    return [
        line(one, verb if one.alone else "")
        for one in parsing.chosen(verb, argv)[0]
        if one.name in parsing.names_of(verb) and one.words != ["null"] and one.plain_name not in idle
        if one.alone or one.name not in left
    ]


def superseded(arguments) -> set[str]:
    """Names of what was given in the file and counts for nothing, since the command line says something else."""
    if isinstance(arguments, DataArguments):
        return request.superseded(arguments)
    return attack_checks.left_out(arguments) if isinstance(arguments, EvaluateArguments) else set()


def line(one: Given, verb: str = "") -> Line:
    """The line of a flag; `verb`: of the verb that it is for alone."""
    words, name = one.words, one.name
    if not words and one.file is None:  # `--stop`, `--no_stop`
        words, name = ["false" if name != one.plain_name else "true"], one.plain_name
    return f"{verb}.{name}" if verb else name, words, one.file or TYPED


def in_yaml(words: list[str]) -> str:
    """Words as the value of a key: as they are where YAML reads them so, else in quotes."""
    said = [word if is_plain(word) else in_quotes(word) for word in words]
    return said[0] if len(said) == 1 else f"[{', '.join(said)}]"


def in_quotes(word: str) -> str:
    return "'" + word.replace("'", "''") + "'" if word.isprintable() else json.dumps(word)


def is_plain(word: str) -> bool:
    """Whether YAML reads a word without quotes as the same, alone and in a list, whoever reads it."""
    import yaml

    try:
        alone, listed = yaml.safe_load(f"key: {word}  # said"), yaml.load(f"[{word}, {word}]", yaml.BaseLoader)
    except yaml.YAMLError:
        return False
    value = alone.get("key") if isinstance(alone, dict) and len(alone) == 1 else None
    same = isinstance(value, (str, int, float)) and listed == [word, word]
    return same and (not isinstance(value, bool) or word in ("true", "false"))


# ---- defaults --------------------------------------------------------------------------------------------------------


def defaults_of(found: Iterable) -> list[Line]:
    """What counts where nothing was given; of the Trainer's, what people set, and where the default is ours."""
    from transformers import TrainingArguments

    stock = {one.name: one.default for one in fields(TrainingArguments)}
    lines: list[Line] = []
    data = next((one for one in found if isinstance(one, DataArguments)), None)
    for one in found:
        if isinstance(one, FromFlags):
            unread = {name for name, tasks in checks.READ_BY.items() if data and data.task not in tasks}
            if isinstance(one, ModelArguments):
                unread |= {f.name for f in fields(one) if stands_alone(one, f.name)}
            lines += default_lines(one, {*one.given, *unread})
        else:
            kind = next(name for name, config in CONFIGS.items() if config == type(one).__name__)
            shown = {f.name for f in fields(OPTIONS[kind])} | set(TRAINER)
            shown |= {f.name for f in fields(one) if f.default is not MISSING and stock.get(f.name) != f.default}
            lines += default_lines(one, {f.name for f in fields(one) if f.name not in shown} | set(one.given))
    return lines


def stands_alone(model: ModelArguments, name: str) -> bool:
    """Whether a flag is for something that is not asked for, such as the scale of an adapter."""
    of = next((first for first, others in BESIDE.items() if name.startswith(others) and name != first), None)
    return of is not None and not getattr(model, of)


def default_lines(arguments, but: set[str], prefix: str = "") -> list[Line]:
    """The values of a dataclass but for some, and but for those that say nothing."""
    values = {f.name: getattr(arguments, f.name, None) for f in fields(arguments) if f.name not in but}
    said = {name: value for name, value in values.items() if value is not None and value is not False and value != ""}
    return [(f"{prefix}{name.rstrip('_')}", as_words(value), DEFAULT) for name, value in said.items()]


def as_words(value: Any) -> list[str]:
    """A value as one would write it."""
    if isinstance(value, (list, tuple)):
        return [word for one in value for word in as_words(one)]
    if isinstance(value, (bool, dict)):
        return [json.dumps(value)]
    value = value.value if isinstance(value, enum.Enum) else value
    return [f"{value:g}" if isinstance(value, float) else str(value)]
