"""Options of exact deletion by replay: of the training, and of a request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields

from ..utils.checks import Wrong, number, one_of, shown, whole

READINESSES = ("meta", "replay", "replay+meta", "memory", "none")
METHODS = ("auto", "replay", "objective")


@dataclass
class ReplayOptions:
    """In which order a training takes its rows, so that a request can be replayed (`hf_unlearn.readiness.replay`)."""

    readiness: str = field(
        default="replay",
        metadata={
            "metavar": "|".join(READINESSES),
            "help": "How the model is made ready: `replay`, the revocable rows come last, and a request goes back to a "
            "snapshot before them: exact, and no dearer than a plain training; `meta`, requests are simulated: one "
            "is then short and approximate (not recommended for pretrained models, for which no gain is shown); "
            "`replay+meta`, both; `memory`, each source (`request_group`) fills a table "
            "of its own beside a frozen model, and a request drops it: exact, at once, whoever asks (approximate "
            "where `memory_config` has one table for all); `none`.",
        },
    )
    tail: str = field(
        default="auto",
        metadata={
            "metavar": "auto|SHARE",
            "help": "With `replay`: the last share of the steps, which alone holds revocable rows. Shorter: requests "
            "cost less; so short that they crowd the batches: the model forgets other rows. `auto`: as long as makes a "
            "quarter of its rows revocable, or a third where these come often, at most half of the steps.",
        },
    )
    revocable_epochs: str = field(
        default="auto",
        metadata={
            "metavar": "auto|EPOCHS",
            "help": "With `replay`: how often each revocable row comes. Rows that come last stay known with fewer "
            "visits, and fewer of them leave more room for the others. `auto`: two fifths of the training's epochs, at "
            "least three, of a language model at least eleven; never more than the training has.",
        },
    )
    slices: str = field(
        default="auto",
        metadata={
            "metavar": "auto|K",
            "help": "With `replay`: into how many parts the revocable rows are cut. Each starts with a snapshot, and a "
            "request goes back to that of its own part: more make requests cheaper and take more disk. `auto`: 10, "
            "or one where there is no `slice_by`.",
        },
    )
    slice_by: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "With `replay`: column whose values a request would name, such as a person; rows of one value stay "
            "in one slice.",
        },
    )
    ask_weight: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "With `replay`: column that says how likely a row is to be asked for (any numbers of at least 0); "
            "the likeliest come last, where a request costs least.",
        },
    )
    snapshots: str | None = field(
        default=None,
        metadata={
            "metavar": "FOLDER|hf://REPOSITORY",
            "help": "With `replay`: where the snapshots are kept, if not in OUTPUT_DIR: another folder, or beside it a "
            "private repository on the hub (`hf://NAMESPACE/NAME`), from which a request downloads the one that it "
            "needs. They hold weights that the later rows have not touched yet; do not publish them.",
        },
    )

    @property
    def is_replayable(self) -> bool:
        return self.readiness in ("replay", "replay+meta")

    def replay_problems(self) -> list[str]:
        problems = one_of("readiness", self.readiness, READINESSES)
        for name in ("slice_by", "ask_weight"):
            if not isinstance(getattr(self, name), (str, type(None))):
                problems.append(Wrong(name, f"is {shown(getattr(self, name))}; it must be the name of a column."))
        try:
            tail = 1.0 if self.tail == "auto" else float(str(self.tail))  # of True it is a ValueError
            problems += number("tail", tail, low=0, high=1, open_low=True)
        except (TypeError, ValueError):
            problems.append(Wrong("tail", f'is {shown(self.tail)}; it must be "auto" or a share of the steps.'))
        problems += self._epochs_problems()
        problems += place_problems(self.snapshots)
        try:
            problems += [] if self.slices == "auto" else whole("slices", int(str(self.slices)), low=1)
        except ValueError:
            problems.append(Wrong("slices", f'is {shown(self.slices)}; it must be "auto" or a whole number.'))
        if self.readiness in READINESSES and not self.is_replayable:
            problems += [
                Wrong(
                    name, f'is {shown(getattr(self, name))}, but `readiness` is "{self.readiness}". Set it to "replay".'
                )
                for name, default in defaults_of_a_replay().items()
                if getattr(self, name) != default
            ]
        return problems

    def _epochs_problems(self) -> list[str]:
        if self.revocable_epochs == "auto":
            return []
        try:
            return number("revocable_epochs", float(self.revocable_epochs), low=0, open_low=True)
        except (TypeError, ValueError):
            return [Wrong("revocable_epochs", f'is {shown(self.revocable_epochs)}; it must be "auto" or a number.')]


def defaults_of_a_replay() -> dict:
    """The options that a training without a replay leaves as they are."""
    return {f.name: f.default for f in fields(ReplayOptions) if f.name != "readiness"}


@dataclass
class ReplayRequestOptions:
    """How a request finds what its replay needs."""

    method: str = field(
        default="auto",
        metadata={
            "metavar": "|".join(METHODS),
            "help": "How the rows are taken out: `replay`, by going back to a snapshot before them (exact; for a model "
            "trained with `readiness` replay); `objective`, by steps on a loss (approximate); `auto`: by replay where "
            "that can be, and a line says why where it cannot.",
        },
    )
    readiness_from: str = field(
        default="auto",
        metadata={
            "metavar": "auto|none|MODEL",
            "help": "Where to take the plan of a replay and recommended values from: `auto`, the model's own "
            "readiness.json; a folder, file or hub id; `none`: nowhere. What you set yourself always stands.",
        },
    )
    salt_file: str | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "help": "With `replay`: the owner's salt, which opens the plan, where it is not in the model's folder, as "
            "that of a model from the hub.",
        },
    )
    snapshots: str | None = field(
        default=None,
        metadata={
            "metavar": "FOLDER|hf://REPOSITORY",
            "help": "With `replay`: where the snapshots are, if not where training left them.",
        },
    )
    keep_superseded: bool = field(
        default=True,
        metadata={
            "help": "With `replay`: leave the model that the request starts from where it is. Its snapshots that met "
            "the asked rows are deleted in any case; false: its weights, too, once the new ones are whole."
        },
    )

    def replay_problems(self) -> list[str]:
        problems = one_of("method", self.method, METHODS)
        if not isinstance(self.readiness_from, (str, os.PathLike)):
            said = f'is {shown(self.readiness_from)}; it must be "auto", "none", or a folder, file or hub id.'
            problems.append(Wrong("readiness_from", said))
        elif self.readiness_from == "none" and self.method == "replay":
            said = 'is "none", and `method` is "replay", which needs the plan. Leave one of the two out.'
            problems.append(Wrong("readiness_from", said))
        for name in ("salt_file", "snapshots"):
            problems += place_problems(getattr(self, name), name)
        return problems


def place_problems(value, name: str = "snapshots") -> list[str]:
    """The problem of an argument that is to name a file, a folder or a repository, and does not."""
    if value is None or isinstance(value, os.PathLike) or (isinstance(value, str) and value.strip()):
        return []
    what = "a file" if name == "salt_file" else "a folder, or `hf://NAMESPACE/NAME`"
    return [Wrong(name, f"is {shown(value)}; it must name {what}.")]
