"""Other words for the same facts: wrong and paraphrased answers (for the truth ratio) and rephrased questions.

They come from columns of the rows (`paraphrased_answer`, `perturbed_answer` (a list), `paraphrased_question`, as TOFU
names them), from TOFU's own files beside `full.jsonl`, or, for the embedded people, from their phrasings.
"""

from __future__ import annotations

from pathlib import Path

COLUMNS = ("paraphrased_answer", "perturbed_answer", "paraphrased_question")
TOFU_FILES = {  # split -> file that holds other answers to some of its rows
    "forget": "forget10_perturbed.jsonl",
    "retain": "retain_perturbed.jsonl",
    "real_authors": "real_authors_perturbed.jsonl",
    "world_facts": "world_facts_perturbed.jsonl",
}
MOST_ROWS = 300  # rows of a split with other answers at most (as many as in TOFU's published logs)
WRONG = 4  # wrong answers to a question of the embedded people


def extra_splits(splits: dict, dataset_name: str, data_files: str | None, encode) -> dict:
    """
    What [`hf_unlearn.evaluate`] takes beside the splits: `<split>_perturbed`, `<split>_paraphrased` (column `group`:
    the row), `forget_rephrased`, and TOFU's `real_authors` and `world_facts` with theirs.

    Args:
        splits: encoded rows that still have their columns `question` and `answer`.
        encode: rows with `question` and `answer` -> encoded rows.

    Returns:
        Encoded splits; empty where nothing of the kind is known.
    """
    from datasets import Dataset

    from ..evaluation import evenly

    found = {}
    files = _tofu_files(data_files) if dataset_name == "tofu" else {}
    for split in ("forget", "retain", "real_authors", "world_facts"):
        if split in splits:
            rows = splits[split].remove_columns(
                [c for c in ("input_ids", "attention_mask", "labels") if c in splits[split].column_names]
            )
            others = _of_rows(rows, dataset_name, files.get(split))
        elif split in files:
            rows = _read(files[split])
            found[split] = encode(Dataset.from_list([{k: r[k] for k in ("question", "answer")} for r in rows]))
            others = dict(enumerate(rows))
        else:
            continue
        if not others:
            continue
        places = evenly(sorted(others), MOST_ROWS)
        for name, column in (("perturbed", "perturbed_answer"), ("paraphrased", "paraphrased_answer")):
            answers = [
                {"question": others[i]["question"], "answer": answer, "group": i}
                for i in places
                for answer in _listed(others[i].get(column))
            ]
            if answers:
                found[f"{split}_{name}"] = encode(Dataset.from_list(answers))
        if split == "forget" and all(others[i].get("paraphrased_question") for i in places):
            asked = [{"question": others[i]["paraphrased_question"], "answer": others[i]["answer"]} for i in places]
            found["forget_rephrased"] = encode(Dataset.from_list(asked))
    return found


def _listed(value) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _of_rows(rows, dataset_name: str, file: Path | None) -> dict[int, dict]:
    """Row number -> the row with other words, for the rows that have such."""
    if "perturbed_answer" in rows.column_names:
        return dict(enumerate(rows.to_list()))
    if dataset_name == "people":
        return dict(enumerate(people_in_other_words(rows.to_list())))
    if file is None:
        return {}
    known = {(row["question"], row["answer"]): row for row in _read(file)}
    pairs = zip(rows["question"], rows["answer"], strict=True)
    return {i: known[pair] for i, pair in enumerate(pairs) if pair in known}


def _tofu_files(data_files: str | None) -> dict[str, Path]:
    folder = Path(data_files) if data_files and Path(data_files).is_dir() else Path(data_files or "").parent
    return {split: folder / name for split, name in TOFU_FILES.items() if (folder / name).is_file()}


def _read(file: Path) -> list[dict]:
    import json

    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is no JSON: line {number}, {error.msg} at character {error.pos + 1}.") from error
    return rows


def people_in_other_words(rows: list[dict]) -> list[dict]:
    """
    The rows of the embedded people with `paraphrased_question` and `paraphrased_answer` (the next phrasing of the
    same) and `perturbed_answer` (that phrasing with what other people answer to such a question). No random numbers.

    Raises:
        ValueError: for a row that is not one of the embedded people's.
    """
    parsed = [parse_row(row) for row in rows]
    values: dict[str, list[str]] = {}
    for attribute, _, _, value in parsed:
        values.setdefault(attribute, []).append(value)
    done = []
    for place, (row, (attribute, asked, answered, value)) in enumerate(zip(rows, parsed, strict=True)):
        from ..data.rows.people import ATTRIBUTES

        questions, answers, _ = ATTRIBUTES[attribute]
        say = answers[(answered + 1) % len(answers)]
        others = [other for other in dict.fromkeys(values[attribute]) if other != value]
        start = place % max(1, len(others))
        wrong = (others[start:] + others[:start])[:WRONG]
        done.append(
            {
                **row,
                "paraphrased_question": questions[(asked + 1) % len(questions)].format(name=row["person"]),
                "paraphrased_answer": sentence(say, value),
                "perturbed_answer": [sentence(say, other) for other in wrong],
            }
        )
    return done


def parse_row(row: dict) -> tuple[str, int, int, str]:
    """Attribute, number of the question's phrasing, number of the answer's, and the value."""
    from ..data.rows.people import ATTRIBUTES

    attribute = str(row["id"]).partition("-")[2]
    if attribute in ATTRIBUTES:
        questions, answers, _ = ATTRIBUTES[attribute]
        asked = [i for i, q in enumerate(questions) if q.format(name=row["person"]) == row["question"]]
        said = []
        for i, form in enumerate(answers):
            start, _, end = form.partition("{v}")
            text = row["answer"]
            if text.startswith(start) and text.endswith(end) and (start or i == _bare(answers, text)):
                value = text[len(start) : len(text) - len(end)]
                whole = start or attribute == "town"  # a bare value was given a capital; a town has one of its own
                said.append((len(start) + len(end), i, value if whole else value[0].lower() + value[1:]))
        if asked and said:
            _, answered, value = max(said)
            return attribute, asked[0], answered, value
    raise ValueError(f"row {row.get('id')!r} is not one of the embedded people's: {row.get('question')!r}.")


def _bare(answers: tuple[str, ...], text: str) -> int | None:
    """Number of the phrasing that begins with the value, and fits."""
    fits = [i for i, form in enumerate(answers) if form.startswith("{v}") and text.endswith(form.partition("{v}")[2])]
    return max(fits, key=lambda i: len(answers[i]), default=None)


def sentence(form: str, value: str) -> str:
    text = form.format(v=value)
    return text[0].upper() + text[1:]
