"""A command line and a YAML file -> the flags that somebody has given, as words; and what cannot be read of either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..utils.checks import ArgumentError
from .arguments import IN_PARTS, VERBS


@dataclass(frozen=True)
class Given:
    """
    A flag or a YAML key that somebody has given.

    Args:
        key: as it was written, without the dashes: `ready.seed`, `learning-rate`.
        words: its values as they were written; of a YAML file's null the word null.
        file: the YAML file; None: the command line.
    """

    key: str
    words: list[str]
    file: str | None = None

    @property
    def prefix(self) -> str:
        """`ready.` of `ready.seed`: the verb that it is for; "" where it is for all."""
        verb, _, name = self.key.partition(".")
        return f"{verb}." if name and verb in VERBS else ""

    @property
    def name(self) -> str:
        return self.key.removeprefix(self.prefix).replace("-", "_")

    @property
    def alone(self) -> bool:
        """Whether it is for this verb alone: on the command line, or as `verb.name` in the YAML file."""
        return self.file is None or bool(self.prefix)

    @property
    def plain_name(self) -> str:
        """The name of what `--name` and `--no_name` set."""
        return self.name.removeprefix("no_")

    @property
    def shown(self) -> str:
        return f"`--{self.key}`" if self.file is None else f"`{self.key}` in {self.file}"


def read_words(argv: list[str]) -> tuple[list[Given], list[str]]:
    """Flags of a command line in their order, and what is wrong with it."""
    typed: list[Given] = []
    problems = []
    for word in argv:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            one = Given(key, [value] if equals else [])
            before = next((other for other in typed if one.name in IN_PARTS and other.key == key), None)
            if before is not None:  # its words go on where they were
                typed.remove(before)
                one = Given(key, [*before.words, *one.words])
            typed.append(one)
        elif typed:
            typed[-1].words.append(word)
        else:
            is_file = word.endswith((".yaml", ".yml"))
            hint = f"did you mean --config {word}?" if is_file else "flags begin with --."
            problems.append(f"{word!r} is no flag; {hint}")
    return typed, problems


def read_yaml(path: str) -> tuple[list[Given], list[str]]:
    """
    Keys of a flat YAML file, with their values as they are written there: 1e-3, which YAML takes for a string, no,
    which it takes for false, and 007 are the same words as on a command line. And what is wrong with the keys.

    Raises:
        ArgumentError: if the file is not there, is no YAML, or holds no keys.
    """
    import yaml

    twice: list[str] = []

    class Loader(yaml.SafeLoader):
        """Of this function alone: what is changed here and below must not change how others read YAML."""

        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            twice.extend(key for key in dict.fromkeys(map(str, keys)) if keys.count(key) > 1)
            return super().construct_mapping(node, deep)

    for tag in ("bool", "int", "float", "timestamp"):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", yaml.SafeLoader.construct_yaml_str)
    if not Path(path).is_file():
        raise ArgumentError([f"`--config`: there is no file {path!r}."])
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError([f"{path} is no YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, dict):
        raise ArgumentError([f"{path} must hold `key: value` lines; a key is a flag."])
    found, problems = [], [f"`{key}` stands twice in {path}, and one value counts: leave one." for key in twice]
    for key, value in content.items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, (dict, list)) for one in values):
            problems.append(f"`{key}` in {path} {nested(key, values[0] if values else None)}")
            continue
        found.append(Given(str(key), ["null" if one is None else str(one) for one in values], path))
    return found, problems


def nested(key: str, value) -> str:
    """What is wrong with a value that is not flat."""
    if key in VERBS and isinstance(value, dict) and value:
        return f"holds a mapping, and the file is flat: write `{key}.{next(iter(value))}: …`."
    if key.rpartition(".")[2] == "forget_where" and isinstance(value, dict) and value:
        said = ", ".join(f"{column}={wanted}" for column, wanted in value.items())
        return f"holds a mapping, and the file is flat: write `{key}: [{said}]`."
    what = "mapping" if isinstance(value, dict) else "list in a list"
    return f"holds a {what}, and the file is flat: a key is a flag, its value a word or a list of words."
