"""Which keys of a config somebody set: so that a default from elsewhere never overwrites them."""

import dataclasses
import functools
from collections.abc import Iterable

# No `from __future__ import annotations` here: `typing.get_type_hints` of Python 3.10 refuses `InitVar` as a string.


@dataclasses.dataclass
class RecordsGiven:
    """
    A dataclass that comes after its other bases keeps in `given` the names of the fields that somebody set, also where
    the value is the default: in the call, by position or by name; by `dataclasses.replace`, which keeps the record of
    what it copies; and by assignment afterwards. Copies and pickles keep it. It is no field: `to_dict`, `asdict`,
    `repr` and `==` do not know it.
    """

    # `dataclasses.replace` hands on what it changes, then every other field in order; this one is the first of them,
    # so that what stands before it in the call is what was changed.
    given: dataclasses.InitVar[Iterable[str]] = dataclasses.field(default=frozenset(), kw_only=True)

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        fields = [f for f in dataclasses.fields(cls) if f.init]
        keys = list(kwargs)
        if "given" in kwargs and len(args) + len(kwargs) > len(fields):  # `dataclasses.replace` names them all
            keys = keys[: keys.index("given")]
        by_place = [f.name for f in fields if not f.kw_only][: len(args)]
        recorded = {*by_place, *keys, *kwargs.get("given", ())} - {"given"}
        made.__dict__["given"] = frozenset(recorded)
        return made

    def __init_subclass__(cls, **kwargs):
        """Lets `__post_init__` be written without an argument for `given`, and knows when it has ended."""
        super().__init_subclass__(**kwargs)
        checks = cls.__dict__.get("__post_init__")
        if checks is None:
            return

        @functools.wraps(checks)
        def __post_init__(self, *_):
            checks(self)
            if type(self).__post_init__ is __post_init__:  # the outermost: from here on it is the user who assigns
                self.__dict__["_is_made"] = True

        cls.__post_init__ = __post_init__

    def __setattr__(self, name, value):
        if self.__dict__.get("_is_made") and name in self.__dataclass_fields__:
            self.__dict__["given"] = self.given | {name}
        super().__setattr__(name, value)


def with_values(config, values: dict):
    """A copy of a config with other values that nobody has given: its record stays as it was."""
    found = dataclasses.replace(config, **values)
    found.__dict__["given"] = config.given
    return found
