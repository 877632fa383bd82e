"""
Snapshots in a private repository of the hub, `snapshots="hf://NAMESPACE/NAME"`.

Each is uploaded in one commit once it is whole in the output folder, where it stays: whoever needs the room deletes it
there. A request downloads the one snapshot that it goes back to. They hold weights that the later rows have not
touched, so a public repository is refused; and so is one of another training, whose snapshots would be replaced:
`owner.json` in it names the salt. `superseded.json` says which rows requests have taken out since, as it does in a
folder ([`snapshots`]): whoever starts one from the first model leaves them out, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ..utils.checks import Wrong, shown
from . import checkpointing, records

PREFIX = "hf://"
OWNER = "owner.json"
SUPERSEDED = "superseded.json"  # among snapshots, also in a folder: which rows later requests have taken out


def repository_of(place: str | None) -> str | None:
    """Name of a repository on the hub; None where a folder is meant."""
    return str(place).removeprefix(PREFIX).strip("/") if place and str(place).startswith(PREFIX) else None


def place_problems(name: str) -> list[str]:
    """Why snapshots cannot be kept in a repository, as far as that is known before there is anything to keep."""
    import huggingface_hub

    said = f"is {shown(PREFIX + name)}"
    if name.count("/") != 1:
        return [Wrong("snapshots", f"{said}; a repository on the hub is `hf://NAMESPACE/NAME`.")]
    info, why = asked(name, lambda: huggingface_hub.HfApi().repo_info(name))
    if info is None:
        return [Wrong("snapshots", f"{said}, and {why}")] if why else []
    if not info.private:
        return [
            Wrong(
                "snapshots",
                f"{said}, which is public: snapshots hold weights that nobody else should have. Make it private in its "
                "settings, or name another one.",
            )
        ]
    return []


def asked(name: str, ask: Callable[[], Any]) -> tuple[Any, str | None]:
    """`(what the hub answers, why it does not, in a sentence)`; both None where there is no such repository or file."""
    import huggingface_hub
    from huggingface_hub import errors

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return None, "the hub cannot be asked (HF_HUB_OFFLINE is set)."
    try:
        return ask(), None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        return None, None if not isinstance(error, errors.GatedRepoError) else records.why_not(error, name)
    except errors.HFValidationError as error:
        return None, f"that is no name of a repository: {' '.join(str(error).split())}"
    except Exception as error:  # the hub's client raises errors of several libraries
        return None, records.why_not(error, name)


def open_private(name: str, owner: str, borders: Collection[int] | None = None) -> str | None:
    """
    Makes the repository where there is none, and this training's; why it cannot be used, in a sentence.

    Args:
        owner: name of the training's salt.
        borders: steps of the snapshots of a new training: others of an earlier one are deleted. None: it goes on.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    _, why = asked(name, lambda: hub.create_repo(name, private=True, exist_ok=True))
    if why := why or next(iter(place_problems(name)), None):
        return why
    files, why = asked(name, lambda: hub.list_repo_files(name))
    if files is None:
        return why or "there is no such repository"
    steps = _steps_of(files, "")
    if OWNER in files:
        whose = json.loads(Path(hub.hf_hub_download(name, OWNER)).read_bytes()).get("salt")
        if whose != owner:
            return "it holds the snapshots of another training, which would be replaced. Name another one."
    elif steps:
        return "it holds checkpoints of something else, which would be replaced. Name another one."
    else:
        content = json.dumps({"salt": owner}).encode()
        _, why = asked(name, lambda: hub.upload_file(path_or_fileobj=content, path_in_repo=OWNER, repo_id=name))
    for step in sorted(steps - set(steps if borders is None else borders)):
        _, why = asked(name, lambda step=step: hub.delete_folder(f"checkpoint-{step}", name))
    if borders is not None and SUPERSEDED in files:
        _, why = asked(name, lambda: hub.delete_file(SUPERSEDED, name))
    return why


def _steps_of(files: Collection[str], beginning: str) -> set[int]:
    """Steps whose checkpoint has a file of a name with this beginning."""
    return {int(found[1]) for file in files if (found := re.match(rf"checkpoint-(\d+)/{beginning}", file))}


def steps_on(name: str) -> tuple[set[int], str | None]:
    """`(steps before which there is a snapshot, why that is not known, in a sentence)`."""
    import huggingface_hub

    files, why = asked(name, lambda: huggingface_hub.HfApi().list_repo_files(name))
    return _steps_of(files or (), checkpointing.MANIFEST), why and f"Of {PREFIX}{name}: {why}"


def superseded(name: str) -> tuple[dict, str | None]:
    """`(what `superseded.json` of a repository says, why that is not known, in a sentence)`."""
    import huggingface_hub

    path, why = asked(name, lambda: huggingface_hub.hf_hub_download(name, SUPERSEDED))
    return json.loads(Path(path).read_bytes()) if path else {}, why and f"Of {PREFIX}{name}: {why}"


def supersede(name: str, content: dict) -> str | None:
    """Writes `superseded.json`; why it could not, in a sentence."""
    import huggingface_hub

    data = json.dumps(content).encode()
    _, why = asked(
        name,
        lambda: huggingface_hub.HfApi().upload_file(
            path_or_fileobj=data, path_in_repo=SUPERSEDED, repo_id=name, commit_message="Rows that requests took out"
        ),
    )
    return why


def bytes_of(name: str, step: int) -> int:
    """Of the snapshot before a step; 0 where the hub does not say."""
    import huggingface_hub

    at = f"checkpoint-{step}/"
    info, _ = asked(name, lambda: huggingface_hub.HfApi().repo_info(name, files_metadata=True))
    files = info.siblings if info else ()
    return sum(file.size or 0 for file in files if file.rfilename.startswith(at))


def upload(name: str, folder: str, step: int) -> str | None:
    """Puts a whole snapshot in the place of the one before the same step; why it could not, in a sentence."""
    import huggingface_hub

    at = f"checkpoint-{step}"
    _, why = asked(
        name,
        lambda: huggingface_hub.HfApi().upload_folder(
            repo_id=name,
            folder_path=os.path.join(folder, at),
            path_in_repo=at,
            delete_patterns="*",
            commit_message=f"Snapshot before step {step}",
        ),
    )
    return why or (problems[0] if (problems := place_problems(name)) else None)


def problem(name: str, step: int) -> str | None:
    """Why the snapshot before a step cannot be downloaded, in a sentence; None if it can."""
    import huggingface_hub

    there, why = asked(
        name, lambda: huggingface_hub.HfApi().file_exists(name, f"checkpoint-{step}/{checkpointing.MANIFEST}")
    )
    return None if there else f"Of {PREFIX}{name}: {why or f'it has no snapshot before step {step}, or is not yours.'}"


def download(name: str, step: int, into: str) -> str | None:
    """Downloads the snapshot before a step, and no other, into a folder; why it could not, in a sentence."""
    import huggingface_hub

    if why := problem(name, step):
        return why
    _, why = asked(
        name,
        lambda: huggingface_hub.snapshot_download(name, allow_patterns=[f"checkpoint-{step}/*"], local_dir=into),
    )
    return why
