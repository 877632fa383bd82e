"""
MUSE (Shi et al. 2024, arXiv 2407.06460): does a model still say texts word for word, does it know what stands in them,
and can it be told that it was trained on them?

Formulas and defaults are the source's: ROUGE-L F1 without a stemmer, 128 and 32 greedy tokens, Min-K% of 40 % of the
tokens, the AUC turned round (1 - AUC where members are the positives). Differs from it: prompts are generated in
batches, padded on the left; a prompt or text that is longer than the model's positions is cut, and counted; a
reference without a word of a-z or digits is left out, where the source counts 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.encode.special import opening_of
from ...utils.checks import number, one_of, true_or_false, whole
from ..attacks.generate import check_model, continuations, positions_of, tokenizer_of
from ..forward import signature_of
from ..intervals import mean_measure, ratio_measure
from ..measures.losses import loss
from ..measures.membership import PRIVLEAK_K, compare_membership, membership_inference, scores, turned
from ..measures.rouge import KINDS, rouge_l
from .base import Benchmark, Examined, Found, Results
from .muse_files import DEFAULT_PARTS, LAYOUT, read
from .tokens import last_tokens, tokens_of

if TYPE_CHECKING:
    import pyarrow
    import torch

STOP = ("\n\n", "\nQuestion", "Question:")
GENERATED = ("verbmem_forget", "knowmem_forget", "knowmem_retain")


def verbatim(
    model: torch.nn.Module,
    rows: Any,
    processing_class: Any,
    *,
    new_tokens: int = 128,
    rouge: str = "f1",
    stemmer: bool = False,
    batch_size: int = 32,
    progress: Any = False,
) -> pyarrow.Table:
    """
    Verbatim memorisation: how `model` goes on with the beginning of a text, beside the text. ROUGE-L of `new_tokens`
    greedy tokens against as many tokens of the text, those that the tokenizer puts before it counted, as in the source.

    Args:
        rows: `prompt` and `gt`, texts.
        processing_class: the tokenizer, or a processor that has one.
        rouge: "f1" or "recall".
        stemmer: compare words by their stems.
        batch_size: prompts per call.

    Returns:
        Table in the order of the rows: `row` int64; `prompt`, `reference`, `generation` strings; `score` float64
        ([`rouge_l`], in [0, 1], nan for a reference without a word); `cut` bool: the prompt lost its beginning.

    Raises:
        ValueError: as of [`continuations`], and if the model's positions leave no room for a prompt.
    """
    tokenizer = tokenizer_of(processing_class)
    opening = opening_of(tokenizer)
    texts = [(opening + ids)[:new_tokens] for ids in tokens_of(tokenizer, list(_column(rows, "gt")))]
    references = [tokenizer.decode(ids, skip_special_tokens=True) for ids in texts]
    how = {"new_tokens": new_tokens, "batch_size": batch_size, "progress": progress}
    return _answers(model, tokenizer, _column(rows, "prompt"), references, rouge_l_of(rouge, stemmer), **how)


def knowledge(
    model: torch.nn.Module,
    rows: Any,
    processing_class: Any,
    *,
    examples: Any = (),
    new_tokens: int = 32,
    stop: Sequence[str] = STOP,
    rouge: str = "f1",
    stemmer: bool = False,
    batch_size: int = 32,
    progress: Any = False,
) -> pyarrow.Table:
    """
    Knowledge memorisation: how `model` answers questions behind a few examples, beside the right answers. The prompt is
    "Question: …\\nAnswer: …\\n\\n" for each example and "Question: …\\nAnswer: "; ROUGE-L of `new_tokens` greedy tokens
    up to the first of the stop strings.

    Args:
        rows: `question` and `answer`, texts.
        examples: the same, for the few-shot prefix.
        stop: texts that end an answer, tried one after the other.
        processing_class, rouge, stemmer, batch_size: as of [`verbatim`].

    Returns:
        As of [`verbatim`].
    """
    pairs = zip(_column(examples, "question"), _column(examples, "answer"), strict=True)
    prefix = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in pairs)
    prompts = [f"{prefix}Question: {question}\nAnswer: " for question in _column(rows, "question")]
    how = {"new_tokens": new_tokens, "batch_size": batch_size, "progress": progress, "stop": stop}
    answers = list(_column(rows, "answer"))
    return _answers(model, tokenizer_of(processing_class), prompts, answers, rouge_l_of(rouge, stemmer), **how)


def text_losses(
    model: torch.nn.Module,
    rows: Any,
    processing_class: Any,
    *,
    length: int | None = None,
    windows: bool = False,
    batch_size: int = 32,
    model_hash: str | None = None,
    progress: Any = False,
) -> tuple[pyarrow.Table, int]:
    """
    The losses of all tokens of texts but the first, by [`collect`], and how many of the texts were cut.

    Args:
        rows: `text`.
        length: tokens of a text at most; None: the model's positions.
        windows: instead of cutting a text, go on with its next tokens in a line of their own; `group` of the table is
            then the number of the text.
        model_hash: of the weights, if known.

    Raises:
        ValueError: if a text is a single token, and all that [`collect`] raises.
    """
    from ..collection import collect

    tokenizer = tokenizer_of(processing_class)
    opening = opening_of(tokenizer)
    most = min(math.inf if length is None else length, positions_of(signature_of(model)[0])) - len(opening)
    made, cut = [], 0
    for i, ids in enumerate(tokens_of(tokenizer, list(_column(rows, "text")))):
        if len(opening) + len(ids) < 2 or most < 1:
            raise ValueError(f"text {i} has {len(ids)} tokens, and there is room for {most}: nothing can be predicted.")
        width = len(ids) if math.isinf(most) else int(most)
        pieces = [opening + ids[at : at + width] for at in range(0, len(ids) if windows else 1, width)]
        made += [
            {"input_ids": piece, "attention_mask": [1] * len(piece), "labels": list(piece), "group": i}
            for piece in pieces
            if len(piece) > 1
        ]
        cut += not windows and len(ids) > width
    how = {"batch_size": batch_size, "model_hash": model_hash, "progress": progress}
    return collect(model, made, processing_class=tokenizer, **how), cut


def rouge_l_of(kind: str, stemmer: bool):
    """Function of (generation, reference) that is ROUGE-L of this kind."""
    return lambda generation, reference: rouge_l(generation, reference, kind=kind, stemming=stemmer)


def until(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop strings, one after the other."""
    for word in stop:
        text = text.split(word)[0]
    return text


def _answers(model, tokenizer, prompts, references, score, *, new_tokens, batch_size, progress, stop=()):
    """The table of [`verbatim`]."""
    import pyarrow as pa

    inner, _ = signature_of(model)
    check_model(inner)
    room = positions_of(inner) - new_tokens
    opening = opening_of(tokenizer)
    cut = [last_tokens(opening, ids, room) for ids in tokens_of(tokenizer, list(prompts))]
    how = {"max_new_tokens": new_tokens, "batch_size": batch_size, "progress": progress}
    generated = continuations(model, [ids for ids, _ in cut], tokenizer, **how)
    texts = [until(tokenizer.decode(ids, skip_special_tokens=True), stop) for ids in generated]
    return pa.table(
        {
            "row": pa.array(range(len(texts)), pa.int64()),
            "prompt": pa.array(list(prompts), pa.string()),
            "reference": pa.array(references, pa.string()),
            "generation": pa.array(texts, pa.string()),
            "score": pa.array([score(*pair) for pair in zip(texts, references, strict=True)], pa.float64()),
            "cut": pa.array([was for _, was in cut], pa.bool_()),
        }
    )


def _column(rows: Any, name: str) -> Sequence[str]:
    return rows[name][:] if hasattr(rows, "column_names") else [row[name] for row in rows]


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def _option(default: Any, words: str):
    how = {"default_factory": lambda: list(default)} if isinstance(default, tuple) else {"default": default}
    return field(**how, metadata={"help": words, "flag": default})


@dataclass(frozen=True)
class MuseOptions:
    """Of the benchmark "muse"; the defaults are the source's."""

    parts: list[str] = _option(
        DEFAULT_PARTS,
        f"what is measured, some of {', '.join(LAYOUT)}; raw is the loss on the texts. Default: the first three, as "
        "far as they are there.",
    )
    min_k: float = _option(float(PRIVLEAK_K), "privleak: per cent of the tokens that Min-K% takes.")
    verbatim_tokens: int = _option(128, "verbmem: greedy tokens of an answer, and tokens of the text beside it.")
    knowledge_tokens: int = _option(32, "knowmem: greedy tokens of an answer.")
    stop: list[str] = _option(
        STOP, "knowmem: texts that end an answer; \\n is a line break. Default: three of the source."
    )
    rouge: str = _option("f1", "verbmem, knowmem: f1 or recall of ROUGE-L.")
    stemmer: bool = _option(False, "verbmem, knowmem: compare words by Porter's stems.")
    text_tokens: int | None = _option(
        None,
        "tokens of a text at most; privleak cuts longer ones, raw goes on in another window. Default: as many as the "
        "model takes.",
    )

    def __post_init__(self):
        problems = [p for part in self.parts for p in one_of("parts", part, LAYOUT)]
        problems += [] if self.parts else ["`parts` names none."]
        problems += number("min_k", self.min_k, low=0, high=100, open_low=True)
        for name in ("verbatim_tokens", "knowledge_tokens"):
            problems += whole(name, getattr(self, name), low=1)
        problems += [] if self.text_tokens is None else whole("text_tokens", self.text_tokens, low=2)
        problems += one_of("rouge", self.rouge, KINDS) + true_or_false("stemmer", self.stemmer)
        if isinstance(self.stop, str) or not all(isinstance(word, str) and word for word in self.stop):
            problems.append(f"`stop` is {self.stop!r}: expected a list of texts, none of them empty.")
        if problems:
            raise ValueError(" ".join(problems))

    @property
    def rouge_name(self) -> str:
        """`rougeL_f1`, `rougeL_recall_stemmed`: which of them the measures are."""
        return f"rougeL_{self.rouge}{'_stemmed' if self.stemmer else ''}"


def read_muse(where: Any, options: MuseOptions | None = None) -> dict[str, dict[str, Any]]:
    """
    The rows of MUSE: part -> split -> rows. Parts: `verbmem`, `knowmem`, `privleak`, `raw`; splits: `forget`, `retain`,
    `holdout`, and of knowmem `forget_examples`, `retain_examples`.

    Args:
        where: a folder with a folder a part, a hub id such as "muse-bench/MUSE-News", or the rows themselves as they
            are returned.

    Raises:
        ValueError: if a file cannot be read, lacks a column or texts, if a part that was asked for lacks a split, or if
            there is none at all.
        FileNotFoundError: if there is no such folder, and the hub does not give it.
    """
    options = options or MuseOptions()
    return read(where, options.parts, must=tuple(options.parts) != DEFAULT_PARTS)


def _run(examined: Examined, data: Mapping[str, Mapping[str, Any]], options: MuseOptions) -> Results:
    found = Results()
    model, tokenizer = examined.model, examined.tokenizer
    how: dict[str, Any] = {"batch_size": examined.batch_size, "progress": examined.progress}
    rouge = {"rouge": options.rouge, "stemmer": options.stemmer}
    for split, rows in data.get("verbmem", {}).items():
        table = verbatim(model, rows, tokenizer, new_tokens=options.verbatim_tokens, **rouge, **how)
        _add_answers(found, f"verbmem_{split}", table, {})
    knowmem = data.get("knowmem", {})
    for split in (split for split in ("forget", "retain") if split in knowmem):
        examples = knowmem.get(f"{split}_examples", ())
        asked = {"examples": examples, "new_tokens": options.knowledge_tokens, "stop": options.stop}
        table = knowledge(model, knowmem[split], tokenizer, **asked, **rouge, **how)
        _add_answers(found, f"knowmem_{split}", table, {"examples": len(examples)})
    how |= {"length": options.text_tokens, "model_hash": examined.model_hash}
    for part in ("privleak", "raw"):
        for split, rows in data.get(part, {}).items():
            table, cut = text_losses(model, rows, tokenizer, windows=part == "raw", **how)
            found.tables[f"{part}_{split}"] = table
            found.parts[f"{part}_{split}"] = {"rows": len(rows), "cut": cut}
    return found


def _add_answers(found: Results, part: str, table: pyarrow.Table, more: dict[str, Any]) -> None:
    score = table["score"].to_numpy()
    found.generations[part] = table
    found.parts[part] = {"rows": table.num_rows, "cut": sum(table["cut"].to_pylist()), **more}
    if wordless := int(np.isnan(score).sum()):
        found.parts[part]["wordless"] = wordless


def _measures(mine: Results, theirs: Results | None, options: MuseOptions, seed: int, resamples: int) -> Found:
    found: Found = {}
    for part in (part for part in GENERATED if part in mine.generations):
        score = mine.generations[part]["score"].to_numpy()
        name = f"muse_{part}_{options.rouge_name}"
        found[name] = mean_measure(score[~np.isnan(score)], name, seed, resamples)
    sides = ("privleak_forget", "privleak_holdout")
    if set(sides) <= mine.tables.keys():
        how = {"seed": seed, "resamples": resamples}
        own = [scores(mine.tables[side], k=options.min_k)["min_k"] for side in sides]
        found["muse_privleak_auc"] = turned(membership_inference(*own, measures=["auc"], **how)["auc"])
        if theirs is not None and set(sides) <= theirs.tables.keys():
            other = [scores(theirs.tables[side], k=options.min_k)["min_k"] for side in sides]
            found["muse_privleak"] = compare_membership(*own, *other, **how)["privleak"]
    for split in (name.removeprefix("raw_") for name in mine.tables if name.startswith("raw_")):
        table = mine.tables[f"raw_{split}"]
        texts = table["group"].to_numpy()
        sums = (np.bincount(texts, table[name].to_numpy()) for name in ("nll_sum", "n_labels"))
        name = f"muse_raw_{split}_loss"
        found[name] = ratio_measure(*sums, lambda a, b: loss({"nll_sum": a, "n_labels": b}), name, seed, resamples)
    return found


MUSE = Benchmark(
    "muse",
    "MUSE",
    "a folder with verbmem/, knowmem/, privleak/ or raw/ in it, or a hub id such as muse-bench/MUSE-News",
    read_muse,
    _run,
    _measures,
    MuseOptions,
)
