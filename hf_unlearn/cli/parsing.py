"""Command line and YAML file -> the dataclasses of a verb; all problems in one error."""

from __future__ import annotations

import difflib
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from ..utils.checks import gather, problems_of, raise_problems
from .arguments import VERBS, DataArguments, EvaluateArguments, ModelArguments, ReadyArguments, UnlearnArguments

KINDS = {  # verb -> its own arguments, and the name of its training config in `hf_unlearn`
    "ready": (ReadyArguments, "ReadyConfig"),
    "unlearn": (UnlearnArguments, "UnlearnConfig"),
    "evaluate": (EvaluateArguments, None),
}
Flags = list[tuple[str, list[str]]]  # (key, its words), in order


def parse(verb: str, argv: list[str], check: Callable | None = None) -> tuple:
    """
    `(the verb's arguments, DataArguments, ModelArguments[, training config])` from the command line. Each is made with
    the flags alone that are there, so that the config's `given` tells what the user set.

    Args:
        check: called with the first three where a flag is wrong, for what is wrong with the rows beside it.

    Raises:
        ArgumentError: with all problems of the flags, and of the rows by `check`.
    """
    import hf_unlearn

    own, config = KINDS[verb]
    kinds = [own, DataArguments, ModelArguments]
    config = [getattr(hf_unlearn, config)] if config else []
    given, problems = read(verb, [*kinds, *config], argv)
    values = [made(kind, given) for kind in kinds]
    for kind in config:
        try:
            values.append(made(kind, given))
        except ValueError as error:
            problems += problems_of(error)
    if problems:
        gather(lambda: raise_problems(problems), *([lambda: check(*values[:3])] if check else []))
    return tuple(values)


def read(verb: str, kinds: list[type], argv: list[str]) -> tuple[dict, list[str]]:
    """
    Values of the flags that are there, by name, and what is wrong with the others.

    Raises:
        ArgumentError: where a value is not of its flag's type, which is told alone.
    """
    from transformers.hf_argparser import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message):
            raise ValueError(message)

    parser = Parser(kinds, allow_abbrev=False)  # a mistyped flag must not pass for a longer one
    absent = object()
    names = {f.name for kind in kinds for f in fields(kind)}
    try:
        found, rest = parser.parse_known_args(read_flags(verb, argv), Namespace(**dict.fromkeys(names, absent)))
    except ValueError as error:
        raise_problems([f"{str(error)[:1].upper()}{str(error)[1:]}."])
    unknown = [no_such_flag(word, names) for word in rest if word.startswith("--")]
    problems = [f"There is no flag {', '.join(unknown)}; `--help` lists them."] if unknown else []
    return {name: value for name, value in vars(found).items() if value is not absent}, problems


def no_such_flag(word: str, names) -> str:
    close = difflib.get_close_matches(word.removeprefix("--"), names, 1)
    return f"{word} (did you mean --{close[0]}?)" if close else word


def made(kind: type, given: dict):
    """A dataclass with those of the values that are its own; the others have its defaults."""
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given})


def read_flags(verb: str, argv: list[str]) -> list[str]:
    """
    Flags of the command line over those of `--config FILE.yaml`; in each, a key `verb.name` is for that verb only and
    wins there over a plain `name`.

    Raises:
        SystemExit: with one line, if the file is not there or is not flat.
    """
    argv, from_file = list(argv), []
    if "--config" in argv:
        place = argv.index("--config")
        if place + 1 == len(argv):
            sys.exit("--config needs the path of a YAML file")
        from_file = read_yaml(argv[place + 1])
        del argv[place : place + 2]
    typed: Flags = []
    for word in argv:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            typed.append((key, [value] if value else []))
        elif typed:
            typed[-1][1].append(word)
        else:
            sys.exit(f"{word!r} is no flag; flags begin with --")
    chosen: dict[str, list[str]] = {}
    for flags, own_turn in ((from_file, False), (from_file, True), (typed, False), (typed, True)):  # later ones win
        for key, values in flags:
            prefix, _, name = key.partition(".")
            own = prefix in VERBS and bool(name)
            if own == own_turn and (not own or prefix == verb):
                chosen[(name if own else key).replace("-", "_")] = values
    return [word for key, values in chosen.items() if values != ["null"] for word in (f"--{key}", *values)]


def read_yaml(path: str) -> Flags:
    """
    Keys of a flat YAML file with their values as words.

    Raises:
        SystemExit: with one line, if the file is not there or is not flat.
    """
    import yaml

    if not Path(path).is_file():
        sys.exit(f"--config: there is no file {path!r}")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        sys.exit(f"{path} is no YAML: {error}")
    if not isinstance(content, dict):
        sys.exit(f"{path} must hold `key: value` lines, a key is a flag")
    found: Flags = []
    for key, value in content.items():
        if isinstance(value, dict):
            sys.exit(f"{path}: {key!r} holds a mapping; the file is flat, a key is a flag")
        values = value if isinstance(value, list) else [value]
        found.append((str(key), ["null" if v is None else str(v) for v in values]))
    return found
