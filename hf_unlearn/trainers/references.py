"""
What rows bring from before the request where a loss is not enough: the model's distribution over labels.

No second model stays in memory. A pass before the first step writes, for each label of the rows that will be read, the
last hidden state into an Arrow file in `output_dir`; the distribution comes from it by one copy of the model's head, or
by the head itself where that is not trained. Logits are stored in its place where they are as few, and where the model
changes them behind its head. In half precision where that moves no log-probability of the first batch by more than
`HALF_ERROR`.

The same holds for adapters: the model before the request is never had by disabling one. A new adapter changes no output
before the first step, so that the pass through the model as it came is a pass through the base; an adapter that the
rows were trained with is part of what was there before, and without it the model would be another one. A disabled
adapter would also cost each step a forward more, and the table costs the whole request one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from ..data.columns import column_names
from ..data.row_digests import row_digests
from ..evaluation.weights import unsharded
from ..objectives.row_nll import IGNORE_INDEX, behind_prompts
from ..utils.checks import ArgumentError, raise_problems
from .engines import decided_by_first
from .forwards import labels_of
from .models import base_model
from .reference_tables import Row, Table, write_table
from .weights_digest import frozen_digest, weights_digest

if TYPE_CHECKING:
    from .unlearn import UnlearnTrainer

logger = logging.getLogger(__name__)

FOLDER = "_references"  # in the output folder; `push_to_hub` leaves out what begins with an underscore
HEAD_FILE = "head.pt"
DAMAGED = "damaged"  # in place of a digest
HALF_ERROR = 2e-3  # nats by which half precision may move a log-probability


class References:
    """
    The distributions before the request of the rows of an [`UnlearnTrainer`].

    Attributes:
        digest: names the weights and rows that the tables are made from; None: the objective needs no table.
    """

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer
        self.digest: str | None = None
        self.tables: dict[str, Table] = {}
        self.head: tuple[torch.Tensor, torch.Tensor | None] | None = None

    @property
    def kinds(self) -> dict[str, str]:
        """Set of rows -> what it brings, of the sets that bring more than a loss."""
        objective = self.trainer.objective
        kinds = {"forget": objective.reference, "retain": objective.retain_reference}
        return {side: kind for side, kind in kinds.items() if kind not in ("none", "loss")}

    @property
    def folder(self) -> str:
        return self.trainer.args.references or os.path.join(self.trainer.args.output_dir, FOLDER)

    def begin(self, resumed: str | None) -> None:
        """
        Before the first step: makes the tables, or takes those that are there.

        Args:
            resumed: digest that the checkpoint to go on from has; None: the present weights are the ones to refer to.

        Raises:
            ArgumentError: if the tables named by `references` are of other weights or rows, or if those that a
                resumed run needs are gone, or lack rows because it is to be longer now.
        """
        self.tables, self.head, self.digest = {}, None, None
        if not self.kinds:
            return
        self.digest = resumed or self._digest()
        found = decided_by_first(lambda: {side: self._saved(side) for side in self.kinds})
        lacking = [side for side, digest in found.items() if digest != self.digest]
        if lacking and (resumed or self.trainer.args.references):
            raise ArgumentError([_told(side, found[side], self.folder, resumed) for side in lacking])
        for side in lacking:
            self._make(side)
        self.trainer.accelerator.wait_for_everyone()
        self.tables = {side: Table(self._path(side)) for side in self.kinds}
        raise_problems([told for side in self.kinds for told in self._lacking_rows(side)])
        if any(table.about["kind"] == "last_hidden_states" for table in self.tables.values()):
            self.head = self._head_of_before()

    def logits(self, side: str, places: torch.Tensor, labels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """
        Logits before the request, of the shape of `like` (n, T, V) or (n, C), 0 at places without a label.

        Args:
            side: "forget" or "retain"; places: of the rows in that set, (n,); labels: by position.
        """
        table = self.tables[side]
        values = table.values(places.tolist()).to(like.device)
        if table.about["kind"] == "last_hidden_states":
            weight, bias = self.head
            values = F.linear(values.to(weight.dtype), weight, bias)
        return _placed(values, labels, torch.zeros_like(like))

    def hidden(self, side: str, places: torch.Tensor, labels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Hidden states before the request, as `like` (n, T, d), 0 at places without a label."""
        return _placed(self.tables[side].values(places.tolist()).to(like.device), labels, torch.zeros_like(like))

    # ---- making a table ----

    def _path(self, side: str) -> str:
        return os.path.join(self.folder, f"{side}.arrow")

    def _saved(self, side: str) -> str | None:
        """Digest of a table that is there, or `DAMAGED`; None: there is none."""
        path = self._path(side)
        if not os.path.exists(path):
            return None
        try:
            about = Table(path).about
            if about["kind"] == "last_hidden_states" and self._head().weight.requires_grad:
                head = torch.load(os.path.join(self.folder, HEAD_FILE), weights_only=True)
                return about["digest"] if head["digest"] == about["digest"] else DAMAGED
            return about["digest"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, pickle.UnpicklingError, RuntimeError):
            return DAMAGED

    def _lacking_rows(self, side: str) -> list[str]:
        """What is wrong where a run that goes on is longer than the one whose table it reads."""
        lacking = set(self._places(side)) - set(self.tables[side].places)
        if not lacking:
            return []
        return [
            f"`references`: the table of the {side} rows in {self.folder!r} lacks {len(lacking)} row(s) of the steps "
            "that this run is to take beyond those it began with, and the model of then is gone. Set `max_steps` and "
            "`passes` to what they were, or begin the run anew."
        ]

    def _places(self, side: str) -> list[int]:
        """Rows that the run will read: all forget rows, and the retain rows whose turn comes."""
        pairs, args = self.trainer.train_dataset, self.trainer.args
        if side == "forget":
            return list(range(len(pairs.forget)))
        length = len(pairs) if args.max_steps < 1 else min(len(pairs), args.max_steps * self.trainer.step_rows)
        if length >= len(pairs.retain):
            return list(range(len(pairs.retain)))
        return sorted({pairs.indices(i)[1] for i in range(length)})

    def _digest(self) -> str:
        """Of all weights, of what the rows are known by, and of what is stored of them."""
        trainer = self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        parts = [weights_digest(model), frozen_digest(model) or "", repr(sorted(self.kinds.items()))]
        if "hidden_states" in self.kinds.values():
            parts.append(str(trainer.steps.depth))
        for side in self.kinds:
            rows = getattr(trainer, f"{side}_dataset")
            own = row_digests(rows, column_names(rows))
            parts += [b"".join(own).hex() if own is not None else "drawn", str(self._places(side))]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def _make(self, side: str) -> None:
        trainer, places = self.trainer, self._places(side)
        rows = getattr(trainer, f"{side}_dataset")
        chosen = rows.select(places) if hasattr(rows, "select") else [rows[i] for i in places]
        about = {"digest": self.digest, "kind": self.kinds[side]}
        with closing(self._batches(chosen, about)) as batches:
            first = next(batches)  # fills in the rest of `about`
            if trainer.accelerator.is_main_process:
                os.makedirs(self.folder, exist_ok=True)
                write_table(self._path(side), about, places, first, batches)
            else:
                for _ in batches:
                    pass
        if about["kind"] == "last_hidden_states" and self._head().weight.requires_grad:
            weight, bias = _copy(self._head())  # on all processes, which may hold shards
            if trainer.accelerator.is_main_process:
                copied = {"digest": self.digest, "weight": weight, "bias": bias}
                torch.save(copied, os.path.join(self.folder, HEAD_FILE))
        logger.info("Wrote what %d %s rows bring from before the request to %s.", len(places), side, self.folder)

    def _batches(self, rows, about: dict) -> Iterator[list[Row]]:
        """Values (T_i, d) of each row, batch by batch, on all processes; the first batch settles kind and precision."""
        trainer, head, seen = self.trainer, self._head(), []
        hook = None if head is None else head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        given = trainer.measurements.batches(rows)
        try:
            for batch in given:
                labels = batch["labels"]
                values = trainer.steps.forward(
                    trainer.model, batch, "hidden_states" if about["kind"] == "hidden_states" else "logits"
                )
                values = behind_prompts(values, labels)
                if about["kind"] != "hidden_states":
                    last = behind_prompts(seen[-1], labels) if seen else None
                    if about["kind"] == "logits" and "dtype" not in about and self._head_tells(last, values):
                        about["kind"] = "last_hidden_states"
                    if about["kind"] == "last_hidden_states":
                        values = last
                by_place = labels_of(values, batch)
                seen.clear()
                values, by_place = self._gathered(values), self._gathered(by_place, IGNORE_INDEX)
                if "dtype" not in about:
                    about["dtype"] = self._precision(values, by_place, about["kind"])
                yield _rows_of(values, by_place, about["dtype"])
        finally:
            given.close()
            if hook is not None:
                hook.remove()

    def _gathered(self, values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        accelerator = self.trainer.accelerator
        if values.dim() > 1:
            values = accelerator.pad_across_processes(values, dim=1, pad_index=fill)
        return accelerator.gather_for_metrics(values)

    def _head(self) -> torch.nn.Linear | None:
        """The plain linear layer from which a language model's logits come; None: there is none."""
        model = base_model(self.trainer.accelerator.unwrap_model(self.trainer.model))
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        return head if type(head) is torch.nn.Linear else None

    def _head_tells(self, last: torch.Tensor | None, logits: torch.Tensor) -> bool:
        """Whether logits are the head's output, and more than twice as many as hidden states; the same on all."""
        if last is None or logits.dim() != 3 or 2 * last.shape[-1] >= logits.shape[-1]:
            return False
        weight, bias = _copy(self._head())
        found = F.linear(last.to(weight.dtype), weight, bias).to(logits.dtype)
        return bool(torch.allclose(found, logits, rtol=1e-2, atol=1e-2))

    def _precision(self, values: torch.Tensor, labels: torch.Tensor, kind: str) -> str:
        if values.dtype == torch.float64:
            return "float64"

        def log_p(own):
            if kind == "last_hidden_states":
                weight, bias = _copy(self._head())
                own = F.linear(own.to(weight.dtype), weight, bias)
            return own.float() if kind == "hidden_states" else own.float().log_softmax(-1)

        own = values[labels.ne(IGNORE_INDEX)]
        error = float((log_p(own.half()) - log_p(own)).abs().max()) if len(own) else 0.0
        half = error <= HALF_ERROR  # False for nan
        logger.info("Half precision moves the references by %.1e at most: %s.", error, "taken" if half else "not taken")
        return "float16" if half else "float32"

    def _head_of_before(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        head = self._head()
        if not head.weight.requires_grad:
            return head.weight, head.bias
        saved = torch.load(os.path.join(self.folder, HEAD_FILE), weights_only=True)
        weight, bias, device = saved["weight"], saved["bias"], self.trainer.args.device
        return weight.to(device), None if bias is None else bias.to(device)


def _copy(head: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    return tuple(None if p is None else unsharded(p.detach()).clone() for p in (head.weight, head.bias))


def _placed(values: torch.Tensor, labels: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """The values (M, …), in order, at the places of the M labels that are there."""
    into[labels.ne(IGNORE_INDEX)] = values.to(into.dtype)
    return into


def _rows_of(values: torch.Tensor, labels: torch.Tensor, dtype: str) -> list[Row]:
    there = labels.ne(IGNORE_INDEX).view(len(labels), -1).cpu().numpy()
    values = values.to(getattr(torch, dtype)).cpu().numpy()
    values = values.reshape(len(values), there.shape[1], -1)
    return [np.ascontiguousarray(own[mask]) for own, mask in zip(values, there, strict=True)]


def _told(side: str, found: str | None, folder: str, resumed: str | None) -> str:
    if found is None:
        fix = "Begin the run anew." if resumed else "Leave `references` out: they are made before the first step."
        return f"`references`: there is no table of the {side} rows in {folder!r}. {fix}"
    if found == DAMAGED:
        fix = "Begin the run anew." if resumed else "Leave `references` out: it is made before the first step."
        return f"`references`: the table of the {side} rows in {folder!r}, or its {HEAD_FILE}, cannot be read. {fix}"
    return (
        f"`references`: the table of the {side} rows in {folder!r} was made from other weights or rows. Leave "
        "`references` out, or give the model and the rows that it was made from."
    )
