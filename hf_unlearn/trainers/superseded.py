"""
What a replay takes the place of: snapshots that met the asked rows, and the model before it. All of that is deleted
only once the new model is whole, and what is left is told.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..utils import manifest
from ..utils.checks import ArgumentError, problems_of
from ..utils.files import read_json
from . import checkpointing, records
from .hub_snapshots import PREFIX
from .output_lock import FILE as LOCK
from .output_lock import SNAPSHOTS, one_run_in
from .replay_request import ReplayRequest
from .snapshots import OWNER, is_of, snapshots_of, snapshots_that_met, supersede

logger = logging.getLogger(__name__)

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
        self.out, self.keep, self.models = out, keep, asked.folders
        self.plan, self.rows = asked.plan, asked.holes
        self.repository = asked.hub
        named = (asked.source, asked.steps and asked.steps.folder, asked.hub)
        self.hub = [name for name in dict.fromkeys(named) if name and not os.path.isdir(name)]
        self.before = [
            one["what"]
            for model in self.models
            for one in (read_json(os.path.join(model, records.UNLEARNING)) or {}).get("not_deleted", ())
            if os.path.realpath(one["what"]) != os.path.realpath(out)  # which the result takes
        ]
        self.snapshots = {  # by their folder: of the model, and of those before it, where a request may start as well
            root: self._of_a_deleted_model(root) or snapshots_that_met(root, asked.plan, asked.holes)
            for root in dict.fromkeys(map(os.path.abspath, (asked.snapshots, *self._roots_before())))
        }
        self.failed: dict[str, str] = {}  # path -> why

    @property
    def not_deleted(self) -> list[dict]:
        """What may still know the rows, JSON-ready: `what`, and `why` it is there."""
        snapshots = [path for found in self.snapshots.values() for path in found]
        why = dict.fromkeys(self.before, KEPT) | dict.fromkeys(self.models, KEPT if self.keep else NOT_YET)
        why |= dict.fromkeys(snapshots, NOT_YET) | self.failed
        left = dict.fromkeys([*snapshots, *self.models, *self.before])
        there = [{"what": path, "why": why[path]} for path in left if os.path.exists(path)]
        return there + [{"what": what, "why": OUT_OF_REACH} for what in (*self._on_hub(), *ELSEWHERE)]

    def _on_hub(self) -> list[str]:
        return [f"revisions of {name} on the hub" for name in self.hub] or ["revisions on the hub"]

    def delete(self) -> None:
        """Deletes what the result takes the place of, as far as that can be; it may be called again."""
        by = os.path.abspath(self.out)
        if self.repository and (why := supersede("", by, self.plan, self.rows, self.repository)):
            logger.warning(
                "Which rows are out now could not be written into %s%s: %s A request that starts from the model before "
                "this one would bring them back. Save the model again, by `save_model`, when the hub answers.",
                PREFIX, self.repository, why
            )  # fmt: skip
        for root, found in self.snapshots.items():
            with suppress(OSError):  # of a place that is another's to write
                supersede(root, by, self.plan, self.rows)
            if there := [path for path in found if os.path.exists(path)]:
                self._delete(there, root, checkpointing.remove)
        for model in () if self.keep else self.models:
            if os.path.isdir(model):
                self._delete([model], model, _empty)
                with suppress(OSError):
                    os.rmdir(model)

    def _of_a_deleted_model(self, root: str) -> list[str]:
        """All snapshots in a folder of their own, where the model that they are of is deleted."""
        owner = (read_json(os.path.join(root, OWNER)) or {}).get("output_dir")
        if self.keep or owner not in self.models:
            return []
        return [path for path in checkpointing.folders(root).values() if is_of(path, self.plan)]

    def _roots_before(self) -> Iterator[str]:
        """Folders of the snapshots of the models before those."""
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
