"""The model itself writes another answer beside each row, for `hf-unlearn unlearn --objective alt_po`.

    python recipes/tools/alternates.py --model outputs/ready --rows forget.jsonl --output forget_alternates.jsonl

Rows are of any shape that the verbs read (question and answer, chats, instructions, prompt and completion). Each gets a
column `alternate`: what the model samples behind the prompt, where that is another answer than the row's own. A model
that knows a row by heart says the same each time; then its answer begins with the first word of another row's, and it
goes on from there. Read what it has written: an alternate is to be plausible and not true.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_unlearn.utils.flags import with_underscores

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[2])

SAMPLED = 2  # tries that the model begins by itself


def alternates(model, tokenizer, rows: Sequence[dict], *, tries: int = 8, max_new_tokens: int = 48, seed: int = 0):
    """
    Another answer to the prompt of each row, or None where none of the tries gave one.

    Args:
        model: a causal language model.
        rows: encoded ([`hf_unlearn.encode`]): `input_ids`, and `labels` with -100 on the prompt.
    """
    from hf_unlearn.evaluation.attacks.generate import continuations

    parts = [_parted(row) for row in rows]
    own = [tokenizer.decode(answer, skip_special_tokens=True).strip() for _, answer in parts]
    found: list[str | None] = [None] * len(parts)
    for k in range(tries):
        left = [i for i, text in enumerate(found) if text is None]
        begun = {i: [] if k < SAMPLED else _first_of_another(i, parts, random.Random(f"{seed} {k} {i}")) for i in left}
        if not left:
            break
        said = continuations(
            model, [parts[i][0] + begun[i] for i in left], tokenizer, max_new_tokens=max_new_tokens, seed=seed + k
        )
        for i, answer in zip(left, said, strict=True):
            text = tokenizer.decode(begun[i] + answer, skip_special_tokens=True).strip()
            found[i] = text if text and text.casefold() != own[i].casefold() else None
    return found


def _parted(row: dict) -> tuple[list[int], list[int]]:
    """(prompt, answer) of a row."""
    labels = list(row["labels"])
    start = next(i for i, label in enumerate(labels) if label != -100)
    ids = list(row["input_ids"])
    return ids[:start], ids[start:]


def _first_of_another(place: int, parts: list, draw: random.Random) -> list[int]:
    """The first token of an answer that begins otherwise; none where all begin alike."""
    firsts = sorted({answer[0] for _, answer in parts} - {parts[place][1][0]})
    return [draw.choice(firsts)] if firsts else []


def main(argv: list[str] | None = None) -> int:
    """Writes the rows with their alternates; the exit status is 1 where some rows got none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id of the model that writes them")
    parser.add_argument("--rows", required=True, help="file with the forget rows")
    parser.add_argument("--output", required=True, help="JSONL file to write")
    parser.add_argument("--tries", type=int, default=8, help="times that a row is tried")
    parser.add_argument("--max_new_tokens", type=int, default=48, help="tokens of an alternate at most")
    parser.add_argument("--seed", type=int, default=0, help="of what is sampled")
    args = parser.parse_args(with_underscores(argv))

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_unlearn import encode, load_rows

    rows = load_rows(args.rows)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model)
    encoded = encode(rows, tokenizer, model=model)
    limits = {"tries": args.tries, "max_new_tokens": args.max_new_tokens, "seed": args.seed}
    found = alternates(model, tokenizer, encoded, **limits)
    given = [i for i, text in enumerate(found) if text is not None]
    if "alternate" in rows.column_names:
        rows = rows.remove_columns("alternate")
    rows.select(given).add_column("alternate", [found[i] for i in given]).to_json(args.output, force_ascii=False)
    lacking = len(found) - len(given)
    print(
        f"{len(given)} rows with alternates in {args.output}." + (f" {lacking} got none: left out." if lacking else "")
    )
    return 1 if lacking else 0


if __name__ == "__main__":
    from hf_unlearn.cli import running

    running.run(main)
