"""Where multiple-choice questions are: files, folders, configurations on the hub; whether rows are such questions."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import is_table, listed, plain_stem, tables_in

LETTERS = string.ascii_uppercase
COLUMNS = ("question", "choices", "answer")
SUBJECTS = {"bio": "biology", "chem": "chemistry", "cyber": "cybersecurity"}  # of WMDP, as lm-eval words them
UNTOLD = {"test", "dev", "val", "validation", "train", "all", "questions", "of", "mcqs"}  # say nothing of a set


@dataclass(frozen=True)
class Questions:
    """
    A set of questions: `rows` with `question`, `choices`, `answer`, perhaps `subject`; `examples` likewise, for a
    few-shot prompt; `subset` is its name, "" where there is one alone, `subject` what all of it is about, if known.
    """

    subset: str
    rows: Any
    examples: Any = None
    subject: str | None = None
    where: str = ""


def read(name: str, where: Any, shots: int = 0) -> list[Questions]:
    """As of `read_choices`."""
    found = [one for place in _places(where) for one in _read(name, place, shots)]
    subsets = [one.subset for one in found]
    if twice := sorted({one for one in subsets if subsets.count(one) > 1}):
        places = " and ".join(one.where for one in found if one.subset == twice[0])
        raise ValueError(f"{places} are both called {twice[0] or name!r}: give one of them another name.")
    return found


def _places(where: Any) -> list:
    """Each place or set of rows that is meant; a list of rows is one set."""
    several = isinstance(where, (list, tuple)) and not isinstance(_first(where), Mapping)
    return list(where) if several else [where]


def _first(where: Sequence) -> Any:
    return where[0] if len(where) else None


def _read(name: str, place: Any, shots: int) -> list[Questions]:
    if not isinstance(place, (str, Path)):
        from ...data.given import as_dataset

        rows, problems = as_dataset(place, f"benchmarks[{name!r}]")
        if problems:
            raise ValueError(" ".join(problems))
        return [_questions("", rows, None, f"`benchmarks[{name!r}]`", shots)]
    path = Path(place).expanduser()
    if path.is_dir():
        return _in_folder(name, path, shots)
    if path.is_file() or is_meant_as_file(str(place)):
        return [_of_file(name, path, shots)]
    return [_on_the_hub(name, str(place), shots)]


def is_meant_as_file(place: str) -> bool:
    from ...data.rows.files import is_path

    return is_path(place)


def _in_folder(name: str, folder: Path, shots: int) -> list[Questions]:
    from ...data.rows.by_name import load_rows

    there, folders = tables_in(folder), sorted(path for path in folder.iterdir() if path.is_dir())
    if any(_split_of(path) == "test" for path in there):
        examples = load_rows(str(folder), split="dev") if shots and any(_split_of(p) == "dev" for p in there) else None
        subset = subset_of(name, folder.name)
        return [_questions(subset, load_rows(str(folder), split="test"), examples, str(folder), shots)]
    if there:
        return [_of_file(name, path, shots) for path in there]
    inside = [path for path in folders if any(map(is_table, path.iterdir()))]
    if not inside:
        raise ValueError(f"{folder} holds {listed(folders)}: expected files of questions (.json, .jsonl, .parquet).")
    return [one for path in inside for one in _in_folder(name, path, shots)]


def _split_of(path: Path) -> str:
    return re.split(r"[-_.]", path.name.lower())[0]


def _of_file(name: str, path: Path, shots: int) -> Questions:
    from ...data.rows.by_name import load_rows

    return _questions(subset_of(name, plain_stem(path)), load_rows(str(path)), None, str(path), shots)


def _on_the_hub(name: str, place: str, shots: int) -> Questions:
    from ...data.rows.by_name import load_rows

    hub_id, _, config = place.partition(":")
    try:
        rows = load_rows(hub_id, config=config or None, split="test")
        examples = load_rows(hub_id, config=config or None, split="dev") if shots else None
    except ValueError as error:
        raise ValueError(f"{error} A configuration stands behind a colon: {hub_id}:NAME.") from error
    return _questions(subset_of(name, config), rows, examples, place, shots)


def subset_of(name: str, said: str) -> str:
    """What a file or configuration is called beside the benchmark: `wmdp-bio` is "bio", `test-00000-of-00001` is ""."""
    words = [word for word in re.split(r"[^a-z0-9]+", said.lower()) if word]
    return "_".join(word for word in words if word not in UNTOLD | {name} and not re.fullmatch(r"\d{5}", word))


def _questions(subset: str, rows: Any, examples: Any, where: str, shots: int) -> Questions:
    problems = _problems(rows, where)
    problems += [] if examples is None else _problems(examples, f"{where}, split dev")
    if shots and examples is None:
        problems.append(
            f"{where} has no split dev, which {shots} examples would be taken from: give a folder with dev.jsonl "
            "beside test.jsonl, or no `shots`."
        )
    if problems:
        raise ValueError(" ".join(problems))
    return Questions(subset, rows, examples, SUBJECTS.get(subset), where)


def _problems(rows: Any, where: str) -> list[str]:
    """What keeps rows from being questions: the first row of each kind of fault, and how many there are."""
    from ...data.encode.columns import name_rows

    if not len(rows):
        return [f"{where} has no rows."]
    names = rows.column_names
    if missing := [column for column in COLUMNS if column not in names]:
        missing, own = (", ".join(map(repr, some)) for some in (missing, names))
        return [f"{where} has no column {missing}; expected {', '.join(COLUMNS)}, and it has {own}."]
    faults: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if fault := _fault(row):
            faults.setdefault(fault, []).append(i)
    return [f"{where}: {len(of)} row(s) {fault} ({name_rows(rows, of)})." for fault, of in faults.items()]


def _fault(row: Mapping[str, Any]) -> str | None:
    if not (isinstance(row["question"], str) and row["question"].strip()):
        return "have no text in 'question'"
    choices = row["choices"]
    if not (isinstance(choices, (list, tuple)) and all(isinstance(choice, str) for choice in choices)):
        return "have no list of texts in 'choices'"
    if not 2 <= len(choices) <= len(LETTERS):
        return f"have {len(choices)} 'choices', where 2 to {len(LETTERS)} are expected"
    if answer_of(row) is None:
        return f"have an 'answer' that is no number from 0 to {len(choices) - 1} and no letter"
    subject = row.get("subject")
    return None if subject is None or isinstance(subject, str) else "have a 'subject' that is no text"


def answer_of(row: Mapping[str, Any]) -> int | None:
    """Number of the right choice, from 0: as it stands, or by its letter; None where it is neither."""
    answer, count = row["answer"], len(row["choices"])
    if isinstance(answer, str):
        found = answer.strip().upper()
        answer = int(found) if found.isdecimal() else LETTERS.find(found) if len(found) == 1 else -1
    whole = isinstance(answer, int) and not isinstance(answer, bool)
    return answer if whole and 0 <= answer < count else None
