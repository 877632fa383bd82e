"""`MemoryConfig`: memory adapters as a method of PEFT."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig, PeftType
from peft.utils import register_peft_method

from ...utils.checks import Wrong, number, one_of, raise_problems, shown, whole
from .model import MemoryModel

NAME = "MEMORY"
ENTRIES = {"own": 1024, "shared": 2**20}  # N where it is not given: one table for all needs room for all
LARGEST_SEED = 2**32 - 1


def _add_type(name: str) -> None:
    """PEFT registers methods of the types in its enumeration alone (0.19 to 0.21), so ours becomes one of them."""
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_, member._value_ = name, name
    member._sort_order_ = len(PeftType.__members__)
    member.__objclass__ = PeftType
    type.__setattr__(PeftType, name, member)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    PeftType._member_names_.append(name)


_add_type(NAME)


@dataclass
class MemoryConfig(PeftConfig):
    """
    A memory beside some MLP layers of a frozen model, in which each source (person, author, customer) fills a table of
    its own, or entries of its own in one table ([`hf_unlearn.readiness.memory`]).

        from peft import get_peft_model
        from hf_unlearn import MemoryConfig

        model = get_peft_model(model, MemoryConfig(layers=[9]))

    It starts empty: `ReadyTrainer(model, ReadyConfig(readiness="memory", request_group="author"), rows)` fills it.

    Args:
        layers: numbers of the layers whose MLP gets a memory, negative ones from the end; None: six,
            from a sixth of the depth on. The first one recognises the sources, where they have tables of their own.
            More learn rephrased questions better.
        entries: N, the number of entries that inputs may read in a layer; a square. More keep what is read at like
            inputs apart: rephrased questions then find less of what was learned. None: 1,024, and a million
            where one table has room for all.
        top_k: entries that an input reads.
        entries_per_source: that a source owns in a layer, at most.
        variant: "own": each source has a table of its own, and deleting it is exact. "shared": one table for all, in
            which each entry has an owner ([`hf_unlearn.readiness.memory.shared`]); it deletes approximately, since
            sources read each other's entries while they learn, and has no gate: `gate_beta`, `gate_floor`, `window`,
            `inputs_per_source` and `public_inputs` are not read then. What each is worth is measured in
            recipes/study/README.md.
        gate_beta: β of the gate: how much a source that an input is more like outweighs another.
        gate_floor: c₀ of the gate: how like a window of a source inputs must be to recognise it, as a mean cosine. A
            higher one keeps more apart from others of like names, and misses more rephrased questions.
        window: positions that the gate compares together, at most: names have several tokens, and of a row that names
            nobody a short piece is anybody's.
        view_size: directions in which the gate and the keys see a layer's input.
        inputs_per_source: windows that a source keeps to be recognised by.
        public_inputs: windows of public rows that are kept, by which no source is recognised.
        seed: of keys and projections, which are not stored.
        mlp_modules: regular expression for the names of the MLPs, with one group for the layer's number; None: by the
            model's type.

    Raises:
        ArgumentError: with all problems at once.
    """

    layers: list[int] | None = field(default=None, metadata={"help": "Layers whose MLP gets a memory."})
    entries: int | None = field(default=None, metadata={"help": "Entries that inputs may read in a layer; a square."})
    top_k: int = field(default=16, metadata={"help": "Entries that an input reads."})
    entries_per_source: int = field(default=128, metadata={"help": "Entries that a source owns in a layer."})
    variant: str = field(default="own", metadata={"help": "own: a table a source, deleted exactly; shared: one table."})
    gate_beta: float = field(default=50.0, metadata={"help": "How sharply the gate chooses between sources."})
    gate_floor: float = field(default=0.7, metadata={"help": "Similarity below which no source is recognised."})
    window: int = field(default=6, metadata={"help": "Positions that the gate compares together, at most."})
    view_size: int = field(default=128, metadata={"help": "Directions in which inputs are seen."})
    inputs_per_source: int = field(default=16, metadata={"help": "Windows by which a source is recognised."})
    public_inputs: int = field(default=2048, metadata={"help": "Windows of public rows that are kept."})
    seed: int = field(default=0, metadata={"help": "Of keys and projections."})
    mlp_modules: str | None = field(default=None, metadata={"help": "Regular expression for the names of the MLPs."})

    target_modules = None  # PEFT asks for it; here `layers` says it, and this is no field

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType[NAME]
        if self.entries is None:
            self.entries = ENTRIES[self.variant if self.variant in tuple(ENTRIES) else "own"]
        raise_problems(self.problems())

    @property
    def side(self) -> int:
        """√N, the number of keys in a half."""
        return math.isqrt(int(self.entries))

    def problems(self) -> list[str]:
        """What is wrong with the values."""
        found = [
            *whole("entries", self.entries, low=4),
            *whole("top_k", self.top_k, low=1),
            *whole("entries_per_source", self.entries_per_source, low=1),
            *whole("window", self.window, low=1),
            *whole("view_size", self.view_size, low=2),
            *whole("inputs_per_source", self.inputs_per_source, low=1),
            *whole("public_inputs", self.public_inputs, low=0),
            *whole("seed", self.seed, low=0, high=LARGEST_SEED),
            *number("gate_beta", self.gate_beta, low=0, open_low=True),
            *number("gate_floor", self.gate_floor, low=-1, high=1),
            *one_of("variant", self.variant, tuple(ENTRIES)),
        ]
        if self.layers is not None and not _whole_numbers(self.layers):
            found.append(Wrong("layers", f"is {shown(self.layers)}; it must be a list of whole numbers, or None."))
        if found:
            return found
        if self.side**2 != self.entries:
            near = self.side**2
            found.append(Wrong("entries", f"is {self.entries}; it must be a square, such as {near}."))
        if self.top_k > self.side:
            found.append(Wrong("top_k", f"is {self.top_k}; it must be at most {self.side}, the root of `entries`."))
        return found


def _whole_numbers(values) -> bool:
    listed = isinstance(values, (list, tuple)) and bool(values)
    return listed and all(isinstance(one, int) and not isinstance(one, bool) for one in values)


register_peft_method(name=NAME.lower(), config_cls=MemoryConfig, model_cls=MemoryModel)
