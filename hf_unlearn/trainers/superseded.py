"""
What a replay takes the place of: snapshots that met the asked rows, and the model before it. All of that is deleted
only once the new model is whole, and what is left is told.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..utils import manifest
from ..utils.checks import ArgumentError, problems_of
from ..utils.files import read_json
from . import checkpointing, records
from .output_lock import FILE as LOCK
from .output_lock import SNAPSHOTS, one_run_in
from .replay_request import ReplayRequest
from .snapshots import has_met, snapshots_of, supersede

KEPT, IN_USE, NOT_YET, OUT_OF_REACH = "kept", "in use", "not yet", "out of reach"  # why something is left
ELSEWHERE = ("copies of the model", "generations that were saved")


class Superseded:
    """
    Args:
        asked: the request, before its rows count as deleted.
        keep: whether the folders of the models before it stay.
        out: folder of the result.
    """

    def __init__(self, asked: ReplayRequest, keep: bool, out: str):
        self.root, self.out, self.keep, self.models = asked.snapshots, out, keep, asked.folders
        self.plan, self.rows = asked.plan, asked.holes
        borders = [int(border) for border in np.unique(asked.plan.order.borders) if border > asked.border]
        found = map(asked.snapshot_before, borders)
        self.snapshots = [folder for folder in found if has_met(folder, asked.plan, asked.new)]
        named = (asked.source, asked.steps and asked.steps.folder, asked.hub)
        self.hub = [name for name in dict.fromkeys(named) if name and not os.path.isdir(name)]
        self.before = [
            one["what"]
            for model in self.models
            for one in (read_json(os.path.join(model, records.UNLEARNING)) or {}).get("not_deleted", ())
        ]
        self.failed: dict[str, str] = {}  # path -> why

    @property
    def not_deleted(self) -> list[dict]:
        """What may still know the rows, JSON-ready: `what`, and `why` it is there."""
        left = [*self.snapshots, *self.models, *self.before]
        why = {path: KEPT if path in self.models and self.keep else NOT_YET for path in left}
        why |= {path: KEPT for path in self.before if path not in why} | self.failed
        there = [{"what": path, "why": why[path]} for path in dict.fromkeys(left) if os.path.exists(path)]
        return there + [{"what": what, "why": OUT_OF_REACH} for what in (*self._on_hub(), *ELSEWHERE)]

    def _on_hub(self) -> list[str]:
        return [f"revisions of {name} on the hub" for name in self.hub] or ["revisions on the hub"]

    def delete(self) -> None:
        """Deletes what the result takes the place of, as far as that can be; it may be called again."""
        for root in dict.fromkeys((self.root, *self._roots_before())):
            with suppress(OSError):  # of a place that is another's to write
                supersede(root, os.path.abspath(self.out), self.plan, self.rows)
        if any(map(os.path.exists, self.snapshots)):
            self._delete(self.snapshots, self.root, checkpointing.remove)
        for model in () if self.keep else self.models:
            if os.path.isdir(model):
                self._delete([model], model, _empty)
                with suppress(OSError):
                    os.rmdir(model)

    def _roots_before(self) -> Iterator[str]:
        """Folders of the snapshots of the models before those: a request that starts there leaves the rows out, too."""
        for model in self.before:
            found = read_json(os.path.join(model, records.READINESS)) or {}
            if "replay" in found and os.path.isdir(root := snapshots_of(model, None, found)):
                yield root

    def _delete(self, paths: list[str], root: str, remove) -> None:
        try:
            with one_run_in(root, SNAPSHOTS):
                for path in paths:
                    try:
                        remove(path)
                    except OSError as error:
                        self.failed[path] = str(error)
        except ArgumentError as error:
            self.failed |= dict.fromkeys(paths, f"{IN_USE}: {' '.join(problems_of(error))}")


def _empty(folder: str) -> None:
    """Deletes what is in a model's folder; its list of files last, by which damage to the rest is seen."""
    last = (manifest.OF_MODEL, LOCK)
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.name in last):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
