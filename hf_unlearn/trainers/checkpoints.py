"""
Whether a checkpoint is whole. `complete.json` lists a checkpoint's files with their sizes and is written last: a folder
without it, or whose files differ from it, was cut short in its writing or its deletion, and is not resumed from.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path

from ..utils import records
from ..utils.checks import ArgumentError
from ..utils.files import read_json, write_json

logger = logging.getLogger(__name__)

MANIFEST = "complete.json"
NAMED = 4  # files that a message names, at most


def folders(output_dir: str) -> dict[int, str]:
    """Paths of the checkpoint folders by step, ascending, whole or not."""
    found = {}
    for path in Path(output_dir).glob("checkpoint-*"):
        if (step := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir():
            found[int(step[1])] = os.path.join(output_dir, path.name)
    return dict(sorted(found.items()))


def write_manifest(folder: str) -> None:
    """Declares the folder whole, with the files that are there now, subfolders included."""
    root = Path(folder)
    beside = (MANIFEST, MANIFEST + ".part")
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items() if name not in beside}
    write_json(root / MANIFEST, {"schema": records.SCHEMA, "files": sizes})


def problem(folder: str) -> str | None:
    """Why the folder cannot be resumed from; None if it is whole."""
    root = Path(folder)
    if not root.is_dir():
        return "there is no such folder"
    try:
        listed = (read_json(root / MANIFEST) or {}).get("files")
    except ValueError:
        return f"its {MANIFEST} cannot be read"
    if listed is None:
        return f"it has no {MANIFEST}, the file that is written last"
    sizes = {name: (root / name).stat().st_size if (root / name).is_file() else None for name in listed}
    if missing := [name for name, size in sizes.items() if size is None]:
        return f"it lacks {_names(missing)}"
    if wrong := [f"{name} ({size} bytes for {listed[name]})" for name, size in sizes.items() if size != listed[name]]:
        return f"the size is wrong of {_names(wrong)}"
    return None


def _names(found: list[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def weight_names(folder: str) -> set[str]:
    """Names of the weights in the folder's safetensors files; empty where it has none, as with an adapter."""
    root = Path(folder)
    if index := read_json(root / "model.safetensors.index.json"):
        return set(index["weight_map"])
    if not (root / "model.safetensors").exists():
        return set()
    with open(root / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return set(header) - {"__metadata__"}


def last_complete(output_dir: str) -> str | None:
    """The whole checkpoint with the highest step, or None; a warning names each one above it that is skipped."""
    for folder in reversed(folders(output_dir).values()):
        if (why := problem(folder)) is None:
            return folder
        logger.warning("Skipped %s: %s.", folder, why)
    return None


def resume_from(wanted: str | bool | None, output_dir: str) -> str | bool | None:
    """
    What to hand to `Trainer.train`: True becomes the last whole checkpoint, or None, the beginning, where all were cut
    short. Where there is none at all it stays True, for the Trainer's own error.

    Raises:
        ArgumentError: if a named folder is not whole.
    """
    if not wanted:
        return None
    if wanted is True:
        if not folders(output_dir):
            return True
        if (found := last_complete(output_dir)) is None:
            logger.warning("No checkpoint in %s is whole; the run starts from the beginning.", output_dir)
        return found
    if (why := problem(wanted)) is not None:
        hint = ""
        if os.path.isdir(wanted) and not os.path.exists(os.path.join(wanted, MANIFEST)):
            hint = " If you know it is whole, say so by `hf_unlearn.trainers.checkpoints.write_manifest(folder)`."
        raise ArgumentError([f"Cannot resume from {wanted}: {why}.{hint}"])
    return os.fspath(wanted)


def remove(folder: str) -> None:
    """Deletes the folder, its manifest first, so that a deletion cut short leaves none that looks whole."""
    if os.path.isdir(folder):
        Path(folder, MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)


def remove_leftovers(output_dir: str, above: int) -> None:
    """Deletes what a killed run has left half-written at later steps, which a rotation would take for the newest."""
    for step, folder in folders(output_dir).items():
        if step > above and problem(folder) is not None:
            remove(folder)


def drop(folder: str, name: str) -> None:
    """Deletes a file of a checkpoint that stays whole without it: from the manifest first."""
    manifest = Path(folder, MANIFEST)
    content = read_json(manifest)
    if content and content["files"].pop(name, None) is not None:
        write_json(manifest, content)
    Path(folder, name).unlink(missing_ok=True)
