"""Command line and YAML file -> arguments; all problems in one error."""

from __future__ import annotations

import sys
from pathlib import Path

from .arguments import VERBS, DataArguments, ModelArguments


def read_flags(verb: str, argv: list[str]) -> list[str]:
    """
    Flags of the command line over those of `--config FILE.yaml`; in each, a key `verb.name` is for that script only
    and wins there over a plain `name`.

    Raises:
        SystemExit: with one line, if the file is not there or is not flat.
    """
    argv, flags, config = list(argv), [], None
    if "--config" in argv:
        place = argv.index("--config")
        if place + 1 == len(argv):
            sys.exit("--config needs the path of a YAML file")
        config = argv[place + 1]
        del argv[place : place + 2]
    pairs: list[tuple[str, list[str]]] = []
    typed: list[tuple[str, list[str]]] = []
    if config is not None:
        import yaml

        if not Path(config).is_file():
            sys.exit(f"--config: there is no file {config!r}")
        try:
            content = yaml.safe_load(Path(config).read_text()) or {}
        except yaml.YAMLError as error:
            sys.exit(f"{config} is no YAML: {error}")
        if not isinstance(content, dict):
            sys.exit(f"{config} must hold `key: value` lines, a key is a flag")
        for key, value in content.items():
            if isinstance(value, dict):
                sys.exit(f"{config}: {key!r} holds a mapping; the file is flat, a key is a flag")
            values = value if isinstance(value, list) else [value]
            pairs.append((str(key), ["null" if v is None else str(v) for v in values]))
    for word in argv:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            typed.append((key, [value] if value else []))
        elif typed:
            typed[-1][1].append(word)
        else:
            sys.exit(f"{word!r} is no flag; flags begin with --")
    chosen: dict[str, list[str]] = {}
    for source, own_turn in ((pairs, False), (pairs, True), (typed, False), (typed, True)):  # later ones win
        for key, values in source:
            prefix, _, name = key.partition(".")
            own = prefix in VERBS and bool(name)
            if own == own_turn and (not own or prefix == verb):
                chosen[(name if own else key).replace("-", "_")] = values
    for key, values in chosen.items():
        if values != ["null"]:
            flags += [f"--{key}", *values]
    return flags


def parse(verb: str, script: type, argv: list[str], config: str | None = None, description: str = "", check=None):
    """
    `(script arguments, DataArguments, ModelArguments[, training config])` from the command line.

    Args:
        config: name of the config class in `hf_unlearn`, or None. `--help` shows its own options without loading it.
        check: called with the first three where a flag is wrong, for what is wrong with the rows beside it.

    Raises:
        ArgumentError: with all problems of the flags, and of the rows by `check`.
    """
    from transformers.hf_argparser import HfArgumentParser

    kinds = [script, DataArguments, ModelArguments]
    if {"-h", "--help"} & set(argv):
        epilog = "A YAML file takes the same keys (--config FILE); a key like `ready.seed` is for that script only."
        if config is not None:
            from .. import options

            kinds.append(getattr(options, config.replace("Config", "Options")))
            epilog += " All flags of transformers.TrainingArguments work too: --output_dir, --learning_rate, …"
        HfArgumentParser(kinds, description=description, epilog=epilog).parse_args(["--help"])
    flags = read_flags(verb, argv)
    import hf_unlearn

    parser = HfArgumentParser(kinds + ([getattr(hf_unlearn, config)] if config else []))
    unknown = [word for word in parser.parse_known_args(flags)[1] if word.startswith("--")]
    problems = [f"There is no flag {', '.join(unknown)}; `--help` lists them."] if unknown else []
    try:
        *values, _ = parser.parse_args_into_dataclasses(flags, return_remaining_strings=True)
    except ValueError as error:  # of the training config
        problems += problems_in(error)
        *values, _ = HfArgumentParser(kinds).parse_args_into_dataclasses(flags, return_remaining_strings=True)
    if problems:
        gather(lambda: fail(problems), *([lambda: check(*values[:3])] if check else []))
    return tuple(values)


def problems_in(error: Exception) -> list[str]:
    return getattr(error, "problems", [str(error)])


def fail(problems: list[str]) -> None:
    """Raises an `ArgumentError` if there are any."""
    from .. import ArgumentError

    if problems:
        raise ArgumentError(problems)


def gather(*checks) -> list:
    """
    Results of the checks, each called without arguments.

    Raises:
        ArgumentError: with the problems of all of them.
    """
    results, problems = [], []
    for check in checks:
        try:
            results.append(check())
        except (ValueError, OSError) as error:
            problems += [problem for problem in problems_in(error) if problem not in problems]
    fail(problems)
    return results
