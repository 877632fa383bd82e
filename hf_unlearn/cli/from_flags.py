"""What a dataclass of flags knows of the command line that it was read from. Light, since `--help` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class FromFlags:
    """
    What the dataclasses with flags share: `given` holds the flags that somebody has set, by name (of
    `cli.reading.Given`), empty where no command line was read.
    """

    given: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def changed(self) -> set[str]:
        """Names of the values that are not the default."""
        made = type(self)()
        return {name for name, value in vars(self).items() if name != "given" and value != getattr(made, name)}

    def said_alone(self, name: str) -> bool:
        """Whether a flag was given for this verb alone: on the command line, or as `verb.name` in the YAML file."""
        return name in self.given and self.given[name].alone


def with_breaks(value):
    r"""A text with line breaks where a shell has `\n`; a list of texts likewise, all else as it is."""
    if isinstance(value, list):
        return [with_breaks(one) for one in value]
    return value.replace("\\n", "\n") if isinstance(value, str) else value
