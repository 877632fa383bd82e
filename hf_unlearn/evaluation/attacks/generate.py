"""Greedy generations of a causal language model beside the answers in its rows, with their ROUGE recall."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...data import limits
from ..forward import evaluating, progress_bar, signature_of
from ..measures.rouge import rouge_recall
from ..rows import evenly, rows_at
from .base import Attack, Subject

if TYPE_CHECKING:
    import pyarrow
    import torch

logger = logging.getLogger(__name__)

IGNORE_INDEX = -100
MOST_OF_A_DOCUMENT = 128  # tokens of a document that are compared with what a model goes on with
MARGIN = 8  # tokens that a generation may be longer than the longest reference: room for other words, and for the end
OTHER_INPUTS = ("pixel_values", "pixel_values_videos", "input_values", "input_features", "inputs_embeds")
GENERATED = ("forget", "retain", "real_authors", "world_facts", "forget_rephrased")  # splits that are generated


def generate(
    model: torch.nn.Module,
    dataset: Sequence[Mapping[str, Any]],
    processing_class: Any,
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> pyarrow.Table:
    """
    What `model` answers to the prompt of each row, greedily, beside the row's own answer.

    The prompt is all tokens before the first labelled one, the reference the labelled tokens from there on (in a
    dialogue of several turns: up to the next token without a label, the answer to this prompt). Of a row that is
    labelled from its first token on, a document, the prompt is the first half of these tokens, and the reference what
    follows it, at most 128 tokens (as in MUSE's VerbMem). Tokens with an `attention_mask` of 0 are left out. Generation
    is by the model's own `generate` from prompts padded on the left, whatever the tokenizer's side: the most probable
    token each time, until a stop token (the tokenizer's `eos_token_id` and those of the model's `generation_config`) or
    `max_new_tokens`. Nothing else of that configuration counts: no sampling, beams, penalties or lengths.

    No random generator is drawn from, every submodule is back in its own train or eval mode afterwards and the
    model's `generation_config` is the same object, also after an error. As in [`collect`] the model runs under its own
    weights, without autocast; in half precision the padding, so the batch size, can decide between near-equal tokens.

    Args:
        model: a causal language model, with or without PEFT adapters.
        dataset: a `datasets.Dataset`, or a list of dicts, with `input_ids`, `labels` (-100 on the prompt) and, where
            rows are padded, `attention_mask`.
        processing_class: the tokenizer, or a processor that has one.
        max_new_tokens: limit of each generation. `None`: the longest reference of the data set, in tokens, and 8 more
            (less where the longest prompt leaves less room in the model's positions; a warning is logged if that is
            less than the longest reference).
        batch_size: prompts per call.
        progress: show a progress bar (after the first second).

    Returns:
        Table in the order of the rows: `row` int64; `prompt`, `reference`, `generation` strings, without special
        tokens; `rouge1_recall`, `rougeL_recall` float64 ([`rouge_recall`], with stemming; nan where undefined);
        `exact` bool: generation and reference are the same text up to outer white space. Where the labelled tokens do
        not end with a stop token, the row does not say that the answer ends there: `exact` then looks at as
        many generated tokens as the reference has.

    Raises:
        ValueError: if `dataset` is empty, a row has no prompt (a label on its first token alone), no labels, or inputs
            other than tokens; if `processing_class` is no tokenizer, `model` is no causal language model, or a prompt
            leaves no room for `max_new_tokens` in the model's positions.
    """
    inner, named = signature_of(model)
    tokenizer = tokenizer_of(processing_class)
    check_model(inner)
    if len(dataset) == 0:
        raise ValueError("`dataset` is empty: there is nothing to generate. Leave this split out, or give it rows.")
    rows = [_split(row, i, named) for i, row in enumerate(rows_at(dataset, range(len(dataset))))]
    limit = _limit(inner, rows, max_new_tokens)
    how = {"max_new_tokens": limit, "batch_size": batch_size, "progress": progress}
    generated = continuations(model, [row.prompt for row in rows], tokenizer, **how)
    return _table(rows, generated, tokenizer, _stop_tokens(inner, tokenizer))


def continuations(
    model: torch.nn.Module,
    prompts: Sequence[list[int]],
    tokenizer: Any,
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    progress: bool = False,
    seed: int | None = None,
) -> list[list[int]]:
    """
    What `model` goes on with behind each prompt: tokens up to the first stop token, which is left out. How, and what
    stays as it was, is told at [`generate`].

    Args:
        prompts: tokens of each, at least one.
        seed: of samples at temperature 1; None: greedily. The random state stays as it was.

    Raises:
        ValueError: if `model` is no causal language model, or `batch_size` is below 1.
    """
    import torch

    inner, _ = signature_of(model)
    check_model(inner)
    if not batch_size >= 1:
        raise ValueError(f"`batch_size` is {batch_size}: expected an integer of at least 1.")
    stops = _stop_tokens(inner, tokenizer)
    pad = next((token for token in (tokenizer.pad_token_id, *stops) if token is not None), 0)
    devices = [] if seed is None else _cuda_of(model)
    with ExitStack() as held:
        held.enter_context(evaluating(model))
        held.enter_context(torch.no_grad())
        configuration = held.enter_context(_plain(model, max_new_tokens, pad, stops, sampled=seed is not None))
        if seed is not None:
            held.enter_context(torch.random.fork_rng(devices))
            torch.manual_seed(seed)
        generated: list[list[int]] = []
        for start in progress_bar(range(0, len(prompts), batch_size), progress, "generate"):
            some = prompts[start : start + batch_size]
            generated += [_until(answer, stops) for answer in _continued(model, some, pad, configuration)]
    return generated


def _continued(model: torch.nn.Module, prompts: list[list[int]], pad: int, configuration: Any) -> list[list[int]]:
    """Tokens that the model adds to each prompt, from prompts padded on the left."""
    import torch

    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    runner = model
    while not hasattr(runner, "generate") and hasattr(runner, "module"):  # data parallel wrappers
        runner = runner.module
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    found = runner.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=configuration)
    return found[:, width:].tolist()


def _table(rows: list[_Row], generated: list[list[int]], tokenizer: Any, stops: list[int]) -> pyarrow.Table:
    import pyarrow as pa

    def texts(tokens: list[list[int]]) -> list[str]:
        return [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]

    references, generations = texts([row.reference for row in rows]), texts(generated)
    cut = texts(
        [
            answer if row.reference[-1] in stops else answer[: len(row.reference)]
            for answer, row in zip(generated, rows, strict=True)
        ]
    )
    recalls = [rouge_recall(*pair) for pair in zip(generations, references, strict=True)]
    return pa.table(
        {
            "row": pa.array(np.arange(len(rows)), pa.int64()),
            "prompt": pa.array(texts([row.prompt for row in rows]), pa.string()),
            "reference": pa.array(references, pa.string()),
            "generation": pa.array(generations, pa.string()),
            "rouge1_recall": pa.array([recall["rouge1_recall"] for recall in recalls], pa.float64()),
            "rougeL_recall": pa.array([recall["rougeL_recall"] for recall in recalls], pa.float64()),
            "exact": pa.array([a.strip() == b.strip() for a, b in zip(cut, references, strict=True)], pa.bool_()),
        }
    )


class _Row(NamedTuple):
    prompt: list[int]
    reference: list[int]


def _split(row: Mapping[str, Any], index: int, named: set[str] | None) -> _Row:
    missing = [name for name in ("input_ids", "labels") if row.get(name) is None]
    if missing:
        raise ValueError(
            f"row {index} of `dataset` has no {' and '.join(missing)}: its columns are {sorted(row)}. Generations need "
            "tokenized rows with `labels`, -100 on the prompt."
        )
    other = [name for name in OTHER_INPUTS if row.get(name) is not None and (named is None or name in named)]
    if other:
        raise ValueError(f"row {index} of `dataset` has {other}: generations are from tokens only. Leave it out.")
    ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
    mask = np.ones_like(ids) if row.get("attention_mask") is None else np.asarray(row["attention_mask"])
    if ids.ndim != 1 or not ids.shape == labels.shape == mask.shape:
        raise ValueError(
            f"row {index} of `dataset` has {ids.shape} input_ids, {labels.shape} labels and {mask.shape} "
            "attention_mask: expected one label and one mask value per token."
        )
    ids, labels = ids[mask != 0], labels[mask != 0]
    labelled = labels != IGNORE_INDEX
    if not labelled.any():
        raise ValueError(f"row {index} of `dataset` has no labels: all are ignored (-100). Drop it, or label it.")
    start = int(labelled.argmax())
    most = len(labels)
    if start == 0:
        run = int((~labelled).argmax()) if not labelled.all() else len(labels)
        start, most = (run + 1) // 2, MOST_OF_A_DOCUMENT
        if run < 2:
            raise ValueError(
                f"row {index} of `dataset` has no prompt: its first token carries a label, and no other one behind it. "
                "Set the labels of the prompt to -100."
            )
    unlabelled = np.flatnonzero(~labelled[start:])
    end = start + int(unlabelled[0]) if len(unlabelled) else len(labels)
    return _Row(ids[:start].tolist(), labels[start:end][:most].tolist())


def tokenizer_of(processing_class: Any) -> Any:
    """The tokenizer, also of a processor that has one."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if not (hasattr(tokenizer, "decode") and hasattr(tokenizer, "eos_token_id")):
        raise ValueError(
            f"`processing_class` is a {type(processing_class).__name__}, no tokenizer: generations need one to become "
            "text. Give the checkpoint's, as from `AutoTokenizer.from_pretrained`."
        )
    return tokenizer


def check_model(inner: torch.nn.Module) -> None:
    """
    Raises:
        ValueError: if it is no causal language model that can generate.
    """
    config = getattr(inner, "config", None)
    able = hasattr(inner, "can_generate") and inner.can_generate()
    if not able or getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"`model` ({type(inner).__name__}) is not a causal language model that can generate: load it by "
            "`AutoModelForCausalLM`, or leave the generations out."
        )


def positions_of(inner: torch.nn.Module) -> float:
    """Tokens that a language model (without wrappers) takes at most, by its config; inf where that does not tell."""
    return limits.positions_of(inner.config) or math.inf


def _limit(inner: torch.nn.Module, rows: list[_Row], max_new_tokens: int | None) -> int:
    positions = positions_of(inner)
    row, prompt = max(enumerate(len(row.prompt) for row in rows), key=lambda pair: pair[1])
    room = positions - prompt
    if max_new_tokens is not None and not max_new_tokens >= 1:
        raise ValueError(f"`max_new_tokens` is {max_new_tokens}: expected an integer of at least 1, or None.")
    if room < (max_new_tokens or 1):
        raise ValueError(
            f"the prompt of row {row} of `dataset` has {prompt} tokens and the model {positions} positions: that "
            f"leaves no room for {max_new_tokens or 1} new ones. Lower `max_new_tokens`, or drop the long rows."
        )
    if max_new_tokens is not None:
        return int(max_new_tokens)
    longest = max(len(row.reference) for row in rows)
    if room < longest:
        logger.warning(
            "Generations end after %d tokens, before the longest reference (%d): the prompt of row %d has %d tokens "
            "and the model %d positions. Measure long prompts apart.",
            *(room, longest, row, prompt, positions),
        )
    return int(min(longest + MARGIN, room))


def _stop_tokens(inner: torch.nn.Module, tokenizer: Any) -> list[int]:
    found = []
    for source in (tokenizer, getattr(inner, "generation_config", None), inner.config):
        ids = getattr(source, "eos_token_id", None)
        found += [ids] if isinstance(ids, int) else list(ids or ())
    return sorted(set(found))


@contextmanager
def _plain(model: torch.nn.Module, limit: int, pad: int, stops: list[int], sampled: bool = False):
    """
    A plain configuration, greedy or of samples at temperature 1, in the block also the model's own: `generate` fills
    its gaps from that one.
    """
    from transformers import GenerationConfig

    of_samples = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}
    configuration = GenerationConfig(
        do_sample=sampled,
        num_beams=1,
        max_new_tokens=limit,
        pad_token_id=pad,
        eos_token_id=stops or None,
        use_cache=True,
        **of_samples,
    )
    own = [(module, vars(module)["generation_config"]) for module in model.modules() if _configured(module)]
    try:
        for module, _ in own:
            module.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=stops or None)
        yield configuration
    finally:
        for module, before in own:
            module.generation_config = before


def _cuda_of(model: torch.nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})


def _configured(module: torch.nn.Module) -> bool:
    return "generation_config" in vars(module)


def _until(tokens: list[int], stops: list[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
    return tokens[:end]


@dataclass(frozen=True)
class GenerateOptions:
    """Of the attack "generate"."""

    rows: int = field(
        default=200, metadata={"help": "rows of a split whose answers are generated, at most.", "flag": 100}
    )

    def __post_init__(self):
        if not (isinstance(self.rows, Integral) and self.rows >= 1):
            raise ValueError(f"`rows` is {self.rows!r}: expected an integer of at least 1.")


def _run(subject: Subject, options: GenerateOptions) -> None:
    """Answers of a language model to some rows of each of GENERATED; measured as `<split>_rougeL_recall`."""
    if not any("token_nll" in table.column_names for table in subject.seen.tables.values()):
        return  # a classifier
    for split in GENERATED:
        if split in subject.splits:
            subject.seen.generations[split] = generate(
                subject.model,
                evenly(subject.splits[split], options.rows),
                subject.processing_class,
                batch_size=subject.batch_size,
                progress=subject.progress,
            )


ATTACK = Attack("generate", "let a language model answer greedily, for ROUGE-L", _run, options=GenerateOptions, turn=2)
