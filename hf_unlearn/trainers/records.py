"""
The records that travel with a model, and the commitment to row ids in one of them.

`readiness.json`, beside the weights that [`ReadyTrainer`] saves: the method and its settings, how many rows are
revocable with the commitment to their ids, whether these weights are ready (they have seen a step with readiness
terms), the steps that they have seen, with and without such terms, their last logged readiness measures ("probe"), the
cost, and what a later request should be run with ("request"). `UnlearnTrainer` reads it. Its keys are those of
[`ReadyTrainer.record`].

`unlearning.json`, beside the weights that [`UnlearnTrainer`] saves: objective, settings and rule of the request,
numbers of rows, why the run stopped, what that guarantees, its cost, and the state of the schedule, from which a
checkpoint is resumed; its keys are those of `record` in `unlearn_record.py`. Of a model that can be replayed also the
plan to go back to, and which rows were taken out since ([`removed_by_steps`]). Of a replay: from which snapshot, the
digests of snapshot and result, and what may still know the rows (`not_deleted`); [`ReplayTrainer`] fills it.

Both also hold `encoding`, where a verb made the rows: `max_length`, and of documents `stride`, so that later verbs make
the same ones.

`rows.digests`, beside either: which rows the model was trained on and asked to forget ([`known_rows`]).

`_revocable_salt.json`, in the output folder: the salt of all that is committed to there. The owner keeps it:
`push_to_hub` leaves out files whose names begin with an underscore, and the file is its owner's alone to read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..utils.files import read_json, short
from ..utils.guarantees import APPROXIMATE as APPROXIMATE
from ..utils.guarantees import EXACT as EXACT
from ..utils.guarantees import GUARANTEE as GUARANTEE
from ..utils.guarantees import NOT_FORGOTTEN as NOT_FORGOTTEN
from ..utils.salts import SALT as SALT
from ..utils.salts import known_salts as known_salts
from ..utils.salts import salt_for as salt_for
from ..utils.salts import salt_id as salt_id

SCHEMA = 1
READINESS = "readiness.json"
UNLEARNING = "unlearning.json"
ENCODING = "encoding"  # key of both: how the model's rows were made, where a verb made them


def commitment(ids, salt: str) -> str:
    """
    SHA-256 (hex) over the salt and the sorted row ids. Whoever has ids and salt can check later which rows were
    revocable; without the salt it tells nothing about them.
    """
    text = "\n".join([salt, *sorted(map(str, ids))])
    return hashlib.sha256(text.encode()).hexdigest()


class NoAnswer(ValueError):
    """The hub does not say whether it has a file."""


def find_file(source: str, name: str) -> Path | None:
    """
    A file of a folder or of a hub id (from the cache when offline); None if there is none.

    Raises:
        NoAnswer: if the hub cannot be asked or does not answer the question; the message says which.
    """
    if Path(source).is_dir():
        return found if (found := Path(source, name)).is_file() else None
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.hf_hub_download(source, name))
    except errors.HFValidationError:  # a path
        return None
    except errors.LocalEntryNotFoundError as error:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            if isinstance(huggingface_hub.try_to_load_from_cache(source, name), (str, type(None))):
                raise NoAnswer(f"offline (HF_HUB_OFFLINE is set), and the cache has no {name} of {source}.") from error
            return None  # the cache knows that there is none
        raise NoAnswer(why_not(error.__cause__ or error, source)) from error
    except errors.EntryNotFoundError:
        return None
    except (errors.HfHubHTTPError, OSError) as error:
        raise NoAnswer(why_not(error, source)) from error


def why_not(error: BaseException, source: str) -> str:
    """What the hub has answered, in a sentence."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    fixes = {
        401: f"there is no {source}, or it is private: log in by `hf auth login` with an account that may read it",
        403: f"{source} is gated or forbidden for this account: ask for access on its page",
        404: f"there is no {source}: look at its spelling",
    }
    if status is None:
        return f"the hub does not answer ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
    return f"the hub answers {status}: {fixes.get(status, 'try again later')}."


def find_readiness(source: str | None) -> dict | None:
    """
    `readiness.json` of a folder, of a file, or of a hub id (from the cache when offline); None if there is none.

    Raises:
        NoAnswer: if the hub does not say whether there is one.
        ValueError: if it is there but damaged, of other types than it should be, or of a schema that this version does
            not read.
    """
    if not source:
        return None
    path = Path(source) if Path(source).is_file() else find_file(source, READINESS)
    if path is None:
        return None
    found = read_json(path)
    where = path if Path(source).exists() else f"{READINESS} of {source}"
    if not isinstance(found, dict):
        raise ValueError(f"{where} should hold a JSON object and holds {short(repr(found))}.")
    if found.get("schema") != SCHEMA:
        raise ValueError(
            f"{READINESS} of {source} has schema {short(repr(found.get('schema')))}; this version reads {SCHEMA}."
        )
    for key, kind, said in (("ready", bool, "true or false"), ("request", dict, "an object")):
        if not isinstance(found.get(key), (kind, type(None))):
            raise ValueError(f"`{key}` in {where} is {short(repr(found[key]))}; it must be {said}.")
    return found
