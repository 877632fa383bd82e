"""
What a folder should hold, by size and SHA-256: a file that is damaged, cut short or gone is told by its name.

`complete.json`, in a checkpoint, lists all of its files. It is written last, so a folder without it was cut short.

`_complete.json`, in a model's folder, lists what `save_model` has written there: weights, configs, tokenizer or
processor, code, `training_args.bin` and the card, and from `save_state` `trainer_state.json`. What somebody else has
put there is not listed and may change; a folder without the file is loaded as it is. Three kinds of files are ours and
may change later:

    README.md              people edit it: a difference is a warning. Each time we write into it the manifest follows
    readiness.json, …      our records: the next run, `evaluate` and people write into them. They are not listed, and
                           checked by the digest that each carries (`files.py`)
    tokenizer.json, …      whoever deletes what is none of `NEEDED` can load the model all the same

`push_to_hub` leaves it out, as all files whose names begin with an underscore: the hub keeps SHA-256 of its own, and
files are changed there by people and programs that know nothing of this one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from .files import PART, read_json, read_sealed, sha256_of, write_json
from .salts import SALT, known_salts

logger = logging.getLogger(__name__)

FILE, OF_MODEL = "complete.json", "_complete.json"
SCHEMA = 1
CARD, STATE = "README.md", "trainer_state.json"
RECORDS = ("readiness.json", "unlearning.json", "run.json")  # each carries its own digest
ROWS = "rows.digests"  # and so does this one
NEEDED = (".safetensors", "/config.json", "/adapter_config.json")  # ends of what no model is loaded without
UNREAD = ("optimizer", "scheduler", "scaler", "rng_state", "global_step", "_request_weights")  # of a checkpoint
KINDS = (".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".jinja", ".py", ".codes", ".tokenizer")
TEXTS = ("vocab.txt", "merges.txt", "dict.txt", CARD)
NESTED = ("config.json", "adapter_config.json", "tokenizer_config.json")  # one of them is in a folder that we save, too
SMALL = 1 << 20  # bytes of a file that is read on the way
FILES_NAMED = 4  # files that a message names, at most


# ---- of a checkpoint -------------------------------------------------------------------------------------------------


def write(folder) -> None:
    """Declares a checkpoint complete, with the files that are there now, subfolders included."""
    root = Path(folder)
    names = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())
    _write(root, FILE, [name for name in names if name != FILE and not PART.fullmatch(name)])


def problem(folder, contents: bool = False) -> str | None:
    """
    Why the checkpoint cannot be resumed from; None if it is complete.

    Args:
        contents: reads the files, too, which takes about a second a GB; a manifest of an older version has no digests.
    """
    root = Path(folder)
    if not root.is_dir():
        return "there is no such folder"
    try:
        manifest = _read(root, FILE)
    except ValueError:
        return f"its {FILE} cannot be read, or is damaged"
    if manifest is None:
        return f"it has no {FILE}, the file that is written last"
    listed = manifest["files"]
    if said := _lacking(root, listed) or _of_other_size(root, listed):
        return said
    return _changed(root, listed, manifest) if contents else None


# ---- of a model's folder ---------------------------------------------------------------------------------------------


@contextmanager
def of_what_is_saved(folder):
    """
    Lists what is written into a model's folder within the block, and what is left there of an earlier save. The
    manifest that is there goes first: a save that is cut short leaves none.
    """
    root = Path(folder)
    try:
        earlier = (_read(root, OF_MODEL) or {"files": {}})["files"]
    except ValueError:  # damaged
        earlier = {}
    (root / OF_MODEL).unlink(missing_ok=True)
    before = _stamps(root)
    yield
    names = [name for name, stamp in _stamps(root).items() if before.get(name) != stamp or name in earlier]
    _write(root, OF_MODEL, names)


def renew(folder, name: str) -> None:
    """Lists a file of ours as it is now, where the model's folder has a manifest."""
    root = Path(folder)
    try:
        manifest = _read(root, OF_MODEL)
    except ValueError:  # damaged: told when the folder is loaded
        return
    if manifest is not None and (root / name).is_file():
        manifest["files"][name] = (root / name).stat().st_size
        manifest["sha256"][name] = sha256_of([root / name])[0]
        write_json(root / OF_MODEL, manifest)


def withdraw(folder) -> None:
    """Before something else writes weights into a model's folder."""
    Path(folder, OF_MODEL).unlink(missing_ok=True)


def damage(folder, up_to: float = float("inf")) -> list[str]:
    """
    What is damaged of a model's folder, of a checkpoint as a model, and of the base of an adapter where that is in a
    folder: a line for each folder. Nothing where `folder` is none. A card that has changed is a warning.

    Args:
        up_to: bytes of the largest file that is read; of all others the size is compared. A file is read once in a
            process, as long as its size and time stay the same.
    """
    root = Path(folder)
    if not root.is_dir():
        return []
    found = [*_broken_records(root, up_to), *filter(None, [_damage(root, up_to)])]
    return found or [line for base in _base_of_adapter(root) for line in damage(base, up_to)]


def _damage(root: Path, up_to: float) -> str | None:
    """The line on what the folder's manifest lists."""
    name = next((name for name in (OF_MODEL, FILE) if (root / name).is_file()), None)
    hint = f"Restore it from a copy; where you have changed it yourself, delete {name}, which lists what was written."
    try:
        manifest = _read(root, name) if name else None
    except ValueError:
        return f"{root / name} is damaged. Where you know the other files to be whole, delete it."
    if manifest is None:
        return None
    listed = [one for one in manifest["files"] if one not in (*RECORDS, ROWS) and not one.startswith(UNREAD)]
    sizes = {one: manifest["files"][one] for one in listed if (root / one).is_file() or f"/{one}".endswith(NEEDED)}
    card = sizes.pop(CARD, None)
    if said := _lacking(root, sizes) or _of_other_size(root, sizes):
        return f"{root} is damaged: {said}. {hint}"
    small = [one for one in sizes if sizes[one] <= up_to]
    if said := _changed(root, small, manifest, once=True):
        return f"{root} is {said}. {hint}"
    if card is not None and up_to >= float("inf") and _changed(root, [CARD], manifest, once=True):
        _tell_of_card(root / CARD, (root / CARD).stat().st_mtime_ns)
    return None


@lru_cache(maxsize=1 << 10)  # once a process
def _tell_of_card(path: Path, _time: int) -> None:
    logger.warning(
        "%s has changed since it was written: it was edited, or is damaged. Read it before you publish it.", path
    )


def _broken_records(root: Path, up_to: float) -> list[str]:
    """What those that read these files would raise, each told once."""
    checks = [partial(read_json, root / name) for name in RECORDS]
    checks += [partial(known_salts, root)] if (root / SALT).is_file() else []
    rows = root / ROWS
    checks += [partial(read_sealed, rows)] if rows.is_file() and rows.stat().st_size <= up_to else []
    found = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            found.append(str(error))
    return found


def _base_of_adapter(root: Path) -> list[Path]:
    """The folder of the model that an adapter was trained on, where there is one."""
    try:
        base = json.loads((root / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [Path(base)] if base and os.path.isdir(base) and not os.path.samefile(base, root) else []


def _stamps(root: Path) -> dict[str, tuple[int, ...]]:
    """Size, time and number of each file that `save_model` may have written, by name."""
    folders = [root, *(path.parent for name in NESTED for path in root.glob(f"*/{name}"))]
    folders += root.glob("additional_chat_templates")
    found = {}
    for folder in folders:
        if folder != root and folder.name.startswith(("checkpoint-", "_", ".")):
            continue
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.relative_to(root).as_posix()
            if _may_be_ours(name) and path.is_file():
                stat = path.stat()
                found[name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def _may_be_ours(name: str) -> bool:
    path = PurePosixPath(name)
    kind = path.suffix in KINDS or path.name in TEXTS
    return kind and not path.name.startswith(("_", ".")) and name not in (*RECORDS, FILE)


# ---- of both ---------------------------------------------------------------------------------------------------------


def _write(root: Path, manifest: str, names: list[str]) -> None:
    sizes = {name: (root / name).stat().st_size for name in names}
    digests = dict(zip(sizes, sha256_of(root / name for name in sizes), strict=True))
    write_json(root / manifest, {"schema": SCHEMA, "files": sizes, "sha256": digests})


def _read(root: Path, manifest: str) -> dict[str, Any] | None:
    """
    `files` (name -> size) and `sha256` (name -> hex) of a manifest; None if there is none, or none in it.

    Raises:
        ValueError: if it is damaged.
    """
    content = read_json(root / manifest)
    if content is None or (isinstance(content, dict) and content.get("files") is None):
        return None
    if not isinstance(content, dict) or not isinstance(content["files"], dict):
        raise ValueError(f"{root / manifest} holds no list of files.")
    return {**content, "sha256": content.get("sha256") or {}}


def _lacking(root: Path, sizes: dict[str, int]) -> str | None:
    missing = [name for name in sizes if not (root / name).is_file()]
    return f"it lacks {_names(missing)}" if missing else None


def _of_other_size(root: Path, sizes: dict[str, int]) -> str | None:
    found = {name: (root / name).stat().st_size for name in sizes}
    wrong = [f"{name} ({size} bytes for {sizes[name]})" for name, size in found.items() if size != sizes[name]]
    return f"the size is wrong of {_names(wrong)}" if wrong else None


def _changed(root: Path, names: Iterable[str], manifest: dict[str, Any], once: bool = False) -> str | None:
    digests = {name: manifest["sha256"][name] for name in names if name in manifest["sha256"]}
    found = sha256_of((root / name for name in digests), once)
    changed = [name for name, now in zip(digests, found, strict=True) if now != digests[name]]
    return f"damaged: the content is not what was written in {_names(changed)}" if changed else None


def _names(found: list[str]) -> str:
    more = f" and {len(found) - FILES_NAMED} more" if len(found) > FILES_NAMED else ""
    return ", ".join(found[:FILES_NAMED]) + more
