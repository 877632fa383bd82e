"""What a memory holds beside the model, and what it adds to a layer's output."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import gate
from .choosing import PublicReads, own_entries
from .keys import ProductKeys
from .passing import Passing
from .tables import Table, Tables, read
from .view import public_view, random_view, seen

# What names in a file begin with:
VIEW, PUBLIC, TABLE, WORKING = "memory.view", "memory.public", "memory.table", "memory.working"


@dataclass
class Recording:
    """
    Inputs of the memory layers at chosen positions, while the memory itself is silent.

    Args:
        positions: (B, T) bool of the batch at hand; None: all.
        inputs: of each layer a list of (n, hidden), one for each forward.
    """

    positions: Tensor | None = None
    inputs: dict[int, list[Tensor]] = field(default_factory=dict)

    def take(self, at: int, h: Tensor) -> None:
        chosen = h.detach() if self.positions is None else h.detach()[self.positions.to(h.device)]
        self.inputs.setdefault(at, []).append(chosen.reshape(-1, h.shape[-1]).float().cpu())


@dataclass
class Working:
    """
    The source whose own table is being trained: nothing else of the memory is read meanwhile.

    Args:
        entries: of each layer (m,) ascending.
        inputs, floors: (t, window·width) and (t,): what the source is recognised by.
    """

    entries: list[Tensor]
    inputs: Tensor
    floors: Tensor


class Store:
    """
    Views, keys, gate and tables of one adapter.

    Args:
        config: a `MemoryConfig`.
        hidden: size of each memory layer's input.
        passing: the forward at hand.
        depth: layers of the model.
    """

    tables_type = Tables

    def __init__(self, config, hidden: list[int], passing: Passing, depth: int):
        self.config, self.hidden, self.passing, self.depth = config, hidden, passing, depth
        layers = range(len(hidden))
        width = min(config.view_size, *hidden)
        self.keys = [ProductKeys(width, config.side, config.seed * 1000 + at) for at in layers]
        self.views = [random_view(hidden[at], width, config.seed * 1000 + 500 + at) for at in layers]
        self.public = [PublicReads.of([]) for _ in layers]
        self.public_inputs = torch.zeros(0, config.window * width, dtype=torch.half)
        self.tables = self._no_tables()
        self.recording: Recording | None = None
        self._working: Working | None = None
        self._gates: gate.Speaking | None = None  # of the forward at hand
        self._there: dict = {}  # views and public inputs on the device in use

    def _no_tables(self) -> Tables:
        return self.tables_type(self.config.entries, len(self.hidden))

    def __repr__(self) -> str:
        return f"Store({len(self.hidden)} layers, {self.tables!r})"

    @property
    def working(self) -> Working | None:
        """What is being trained; of tables of their own it is read while the model is in training mode."""
        return self._working

    @working.setter
    def working(self, working: Working | None) -> None:
        self._working, self._gates = working, None
        self._there.clear()  # copies of the one before

    # ---- what is public ----

    def learn_public(self, inputs: list[list[Tensor]]) -> None:
        """
        Takes views, idf and public inputs from rows of no source; before there is any table.

        Args:
            inputs: of each layer, for each row, its inputs (n, hidden).

        Raises:
            ValueError: if there are tables, which were made with another view.
        """
        if len(self.tables):
            raise ValueError("The memory holds tables already; what is public is settled before the first.")
        for at, rows in enumerate(inputs):
            states = torch.cat(rows)
            width = self.keys[at].width
            if len(states) > 2 * width:  # fewer do not tell what is usual
                self.views[at] = public_view(states, width)
            self._there.clear()
            reads = [self.reads(at, row)[1] for row in rows]
            self.public[at] = PublicReads.of(reads)
        self._keep_windows(inputs[0])
        self._there.clear()

    def _keep_windows(self, inputs: list[Tensor]) -> None:
        """Windows of public rows, by which no source is recognised, of their inputs in the first layer."""
        numbers = torch.repeat_interleave(torch.tensor([len(row) for row in inputs]))
        windows = gate.windowed_rows(self._seen(0, torch.cat(inputs)), numbers, self.config.window)
        some = gate.distinct(windows, self.config.public_inputs, self.config.seed)
        self.public_inputs = windows[some].half()

    def reads(self, at: int, h: Tensor) -> tuple[Tensor, Tensor]:
        """`(softmax weights (n, k), entry numbers (n, k))` that inputs (n, hidden) of a layer read."""
        return self._read_by(at, self._seen(at, h))

    def _read_by(self, at: int, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.keys[at].top(z * self.keys[at].width ** 0.5, self.config.top_k)

    def _seen(self, at: int, h: Tensor) -> Tensor:
        return seen(h, *self._on(h.device, ("view", at), lambda: self.views[at]))

    def _on(self, device, name, make):
        """A pair or tensor of the store on a device."""
        if (device, name) not in self._there:
            with torch.inference_mode(False):  # it is used again, also where gradients go through
                found = make()
                moved = found.to(device) if torch.is_tensor(found) else tuple(one.to(device) for one in found)
            self._there[device, name] = moved
        return self._there[device, name]

    # ---- a source ----

    def begin(self, inputs: list[Tensor], rows: Tensor, asks: Tensor, answers: Tensor) -> Working:
        """
        Entries and inputs of a new source, from the positions of its own rows.

        Args:
            inputs: of each layer (n, hidden).
            rows: (n,) which row each position is of.
            asks, answers: (n,) bool, whether it is of the prompt, and whether the next token is one of the answer.
        """
        config, entries = self.config, []
        for at, states in enumerate(inputs):
            weights, numbers = self.reads(at, states[answers])
            entries.append(own_entries(numbers, weights, self.public[at], config.entries_per_source))
        windows = gate.windowed_rows(self._seen(0, inputs[0]), rows, config.window)[asks]
        public, most = self.public_inputs.float(), config.inputs_per_source
        kept = gate.kept_windows(windows, rows[asks], public, most, config.window, config.gate_floor)
        return Working(entries, *kept)

    @contextmanager
    def record(self):
        """Within it forwards go by the model alone and leave the layers' inputs in what is yielded."""
        before, self.recording = self.recording, Recording()
        try:
            yield self.recording
        finally:
            self.recording = before

    # ---- what is added ----

    def added(self, at: int, h: Tensor, values: Tensor, training: bool) -> Tensor | None:
        """
        What the memory adds to a layer's output, (…, hidden out) in the type of h; None: nothing.

        Args:
            at: place of the layer among the memory layers.
            h: (…, hidden) its input.
            values: (M, hidden out) of what is being trained.
            training: whether the model is in training mode; in evaluation all whole tables speak.
        """
        if self.recording is not None:
            self.recording.take(at, h)
            return None
        working = self.working if training else None
        if working is None and not len(self.tables):
            return None
        flat = h.reshape(-1, h.shape[-1])
        if at == 0:
            shape = h.shape[:2] if h.dim() == 3 else (1, len(h))
            self._gates = self._gates_at(self._seen(0, flat.detach()).view(*shape, -1), working)
        speaking = self._gates.to(h.device)
        if working is None and not len(speaking.at):
            return None
        weights, numbers = self._read_by(at, self._seen(at, flat[speaking.at]))
        if working is not None:
            entries = self._on(h.device, ("working", at), lambda: working.entries[at])
            said = read(weights * speaking.g[:, :1], numbers, entries, values[: len(entries)])
        else:
            joined = self.tables.joined(h.device)
            wanted = speaking.slots.unsqueeze(-1) * self.config.entries + numbers.unsqueeze(1)  # (m, k, top_k)
            weights = speaking.g.unsqueeze(-1) * weights.unsqueeze(1)
            said = read(weights.flatten(1), wanted.flatten(1), joined.keys[at], joined.values[at])
        out = torch.zeros(len(flat), said.shape[1], dtype=said.dtype, device=said.device)
        return out.index_copy(0, speaking.at, said).to(h.dtype).reshape(*h.shape[:-1], -1)

    def _gates_at(self, z: Tensor, working: Working | None) -> gate.Speaking:
        """Who speaks, by the views z (B, T, width); in a training the source at work is slot 0."""
        config, passing = self.config, self.passing
        if (tokens := passing.of_tokens(z.shape[:2])) is not None:
            z = z * tokens.to(z.device).unsqueeze(-1)
        before = passing.earlier(z)
        windows = gate.windowed(z, None if before is None else before.z, config.window).flatten(0, 1)
        if working is not None:
            inputs, floors = self._on(z.device, "working inputs", lambda: (working.inputs, working.floors))
            slots = torch.zeros(len(inputs), dtype=torch.long, device=z.device)
        else:
            joined = self.tables.joined(z.device)
            inputs, floors, slots = joined.inputs, joined.floors, joined.slots
        c, some = gate.heard(windows, inputs, floors, slots)
        r = gate.recognised(c, config.gate_beta).view(*z.shape[:2], -1)
        if tokens is not None:
            r = r * tokens.to(r.device).unsqueeze(-1)
        passing.keep(*gate.largest(r, some), z, self.depth)
        return gate.spoken(r, some, before and (before.r, before.slots), passing.causal)

    # ---- files ----

    def tensors(self) -> dict[str, Tensor]:
        """All that is saved, by name."""
        found = {f"{PUBLIC}.inputs": self.public_inputs}
        for at, (mean, projection) in enumerate(self.views):
            found |= {f"{VIEW}.{at}.mean": mean, f"{VIEW}.{at}.projection": projection}
            public = self.public[at]
            found |= {f"{PUBLIC}.{at}.entries": public.entries, f"{PUBLIC}.{at}.rows_with": public.rows_with}
            found[f"{PUBLIC}.{at}.rows"] = torch.tensor(public.rows)
        for source, table in self.tables.by_source.items():
            found |= {f"{TABLE}.{source}.{name}": tensor for name, tensor in table.tensors()}
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def load(self, found: dict[str, Tensor]) -> None:
        """
        Takes what [`tensors`] has given.

        Raises:
            KeyError: if something is missing.
        """
        self.public_inputs = found[f"{PUBLIC}.inputs"]
        for at in range(len(self.hidden)):
            self.views[at] = found[f"{VIEW}.{at}.mean"], found[f"{VIEW}.{at}.projection"]
            public = (found[f"{PUBLIC}.{at}.{name}"] for name in ("entries", "rows_with", "rows"))
            entries, rows_with, rows = public
            self.public[at] = PublicReads(entries, rows_with, int(rows))
        by_source: dict[str, dict[str, Tensor]] = {}
        for name, tensor in found.items():
            if name.startswith(f"{TABLE}."):
                source, _, rest = name.removeprefix(f"{TABLE}.").partition(".")
                by_source.setdefault(source, {})[rest] = tensor
        self.tables = self._no_tables()
        for source, own in by_source.items():
            self.tables.put(source, Table.from_tensors(own))
        self.working = None


def memory_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """What the memories on a model hold, which are none of its weights, by names of their own; {} where it has none."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        for adapter, store in getattr(module, "memory_stores", {}).items():
            if module.memory_places[adapter] == 0:  # the layers share it
                found |= {f"{name}.memory_stores.{adapter}.{own}": tensor for own, tensor in store.tensors().items()}
    return found
