"""Records which fields of a config the user has set, so that a default from elsewhere never overwrites them."""

import dataclasses
import functools
import inspect
from collections.abc import Iterable

# No `from __future__ import annotations` here: `typing.get_type_hints` of Python 3.10 refuses `InitVar` as a string.


@dataclasses.dataclass
class RecordsGiven:
    """
    Base class for dataclasses, to be named last among their bases. It keeps in `given` the names of the fields that the
    user has set, even to their default: in the call, by position or by name; by `dataclasses.replace`, which also keeps
    the names that the original had; and by assignment afterwards. Copies and pickles keep `given`. It is not a field:
    `to_dict`, `asdict`, `repr` and `==` leave it out.

    A call that names more than half of the fields is no person's but a program's: `HfArgumentParser`,
    `cls(**other.to_dict())`, also without some of its keys. It does not tell what was set, so there a value that equals
    its default counts as not set.
    """

    # `dataclasses.replace` calls the class with the changed fields first, then with all others in order. `given` is the
    # first of those others, since a dataclass takes the fields of its last base first: so the keywords before `given`
    # are the changed fields.
    given: dataclasses.InitVar[Iterable[str]] = dataclasses.field(default=frozenset(), kw_only=True)

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        fields = [f for f in dataclasses.fields(cls) if f.init]
        by_place = dict(zip((f.name for f in fields if not f.kw_only), args, strict=False))
        values = by_place | kwargs
        keys = list(values)
        if "given" in values and len(values) > len(fields):  # `dataclasses.replace` names them all
            keys = keys[: keys.index("given")]
        elif 2 * len(values) > len(fields):  # a program
            defaults = {f.name for f in fields if f.name in values and is_default(f, values[f.name])}
            keys = [name for name in keys if name not in defaults]
        recorded = {*keys, *kwargs.get("given", ())} - {"given"}
        made.__dict__["given"] = frozenset(recorded)
        return made

    def __init_subclass__(cls, **kwargs):
        """Wraps `__post_init__`: it needs no argument for `given`, and its own assignments are not recorded."""
        super().__init_subclass__(**kwargs)
        checks = cls.__dict__.get("__post_init__")
        if checks is None:
            return

        @functools.wraps(checks)
        def __post_init__(self, *_):
            checks(self)
            if type(self).__post_init__ is __post_init__:  # the outermost: later assignments are the user's
                self.__dict__["_is_made"] = True

        cls.__post_init__ = __post_init__

    def __setattr__(self, name, value):
        if self.__dict__.get("_is_made") and name in self.__dataclass_fields__:
            self.__dict__["given"] = self.given | {name}
        super().__setattr__(name, value)


def renamed(**names: str):
    """Makes a config class take old names of its fields, too, in a call and as attributes: `renamed(old="new")`."""

    def accept(cls):
        init, new, cls.__signature__ = cls.__init__, cls.__new__, inspect.signature(cls)

        def translated(values: dict) -> dict:
            made: dict = {}
            for name, value in values.items():  # `dataclasses.replace` adds the fields behind what is changed
                if name in names or name not in made:
                    made[names.get(name, name)] = value
            return made

        @functools.wraps(init)
        def __init__(self, *args, **kwargs):
            init(self, *args, **translated(kwargs))

        def __new__(cls, *args, **kwargs):
            return new(cls, *args, **translated(kwargs))

        cls.__init__, cls.__new__ = __init__, __new__
        for old, name in names.items():
            setattr(cls, old, property(lambda self, name=name: getattr(self, name)))
        return cls

    return accept


def is_default(field: dataclasses.Field, value) -> bool:
    """Whether a value equals the default of a dataclass's field."""
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return default is not dataclasses.MISSING and value == default


def with_values(config, values: dict):
    """A copy of a config with other values, which do not count as set by the user: `given` stays as it was."""
    old = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}
    return type(config)(given=config.given, **(old | values))  # `given` first: no field before it is changed
