"""
What each metric is given and gives back, for the library `evaluate`: shapes, meanings, an example.

A line of the catalogue names one of INPUTS (`Measure.inputs`, `Score.inputs`). What a metric is and where it comes from
stands in the catalogue.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import datasets

from . import functions

NUMBER = datasets.Value("float64")  # also of integers: int64 would cut a probability given for a class to 0 in silence
SHAPES = {
    "numbers": NUMBER,
    "integers": NUMBER,
    "strings": datasets.Value("string"),
    "lists of numbers": datasets.Sequence(NUMBER),
    "lists of integers": datasets.Sequence(NUMBER),
}
ALONE = {"lists of numbers": "numbers", "lists of integers": "integers"}

LABELS = (
    "lists of integers",
    "label of each position, -100 where there is none. In a language model position t of the logits predicts label "
    "t + 1: give `labels[:, 1:]`",
)
NLL = (
    "lists of numbers",
    "-log p of the label, in nats, at each position of `references`; what stands at a -100 is not looked at",
)
ARGMAX = (
    "lists of integers",
    "most likely token at each position of `references`, in a language model `logits[:, :-1].argmax(-1)`",
)
RIGHT = ("numbers", "mean -log p per token, in nats, of the right answer (for the truth ratio in other words)")
WRONG = ("lists of numbers", "the same of each wrong answer to the row; rows without any are left out")
MEMBER = ("numbers", "1 for a member (a row that was trained on, or is to be forgotten), 0 for a row never seen")
SCORE = ("numbers", "score of each row, the lower the more likely a member")
OPTIONS = {
    "seed": "of the bootstrap, and of the folds of the attack.",
    "resamples": "bootstrap resamples of the rows, at least 1.",
    "k": "per cent of the tokens, above 0 and at most 100.",
    "variance": '"per_row", "pooled" or "auto": "per_row" from 32 shadow models a side on.',
}
INTERVAL = (
    "{name} (None where it is not finite), {name}_low and {name}_high (2.5 % and 97.5 % percentiles of the bootstrap; "
    "None below two rows), {name}_n (rows used)"
)
ROC = (
    "{name}_auc (Mann-Whitney, ties count half), {name}_tpr_at_1fpr and {name}_tpr_at_01fpr (largest true-positive "
    "rate at a false-positive rate of at most 1 % and .1 %) with their _resolution (1 over the rows of no member)"
)
EACH = ", each with _low, _high and _n; None where a score is not finite, or a side has no row"
LOGISTIC_ACCURACY = (
    ", {name}_accuracy (logistic regression on the score, out of fold, as many members as others: Trippa et al. 2024)"
)


@dataclass(frozen=True)
class Inputs:
    """
    What a metric is computed from.

    Args:
        function: of the metric's name, these inputs and options.
        inputs: name -> (shape, meaning).
        example: values of them; the tests run it.
        returns: what comes back; `{name}` stands for the metric's name.
        alone: whether rows of one position may also be numbers.
    """

    function: Callable[..., Mapping[str, Any]]
    inputs: Mapping[str, tuple[str, str]]
    example: Mapping[str, Any]
    returns: str = INTERVAL
    alone: bool = False

    def features(self) -> datasets.Features | list[datasets.Features]:
        lists = datasets.Features({name: SHAPES[shape] for name, (shape, _) in self.inputs.items()})
        if not self.alone:
            return lists
        single = {name: SHAPES[ALONE.get(shape, shape)] for name, (shape, _) in self.inputs.items()}
        return [lists, datasets.Features(single)]

    def options(self) -> dict[str, Any]:
        """name -> default"""
        found = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}

    def inputs_description(self, name: str) -> str:
        lines = ["", "Args:"]
        for argument, (shape, meaning) in self.inputs.items():
            singly = " (or numbers, for rows of one position)" if self.alone and shape in ALONE else ""
            lines.append(f"    {argument}: N {shape}{singly}: {meaning}.")
        lines += [f"    {option}: {OPTIONS[option]} Default: {value}." for option, value in self.options().items()]
        given = ", ".join(f"{argument}={values!r}" for argument, values in self.example.items())
        lines += ["Returns:", f"    dict: {self.returns.replace('{name}', name)}."]
        lines += ["Example:", f'    >>> metric = evaluate.load(hf_unlearn.metrics_path(), "{name}")']
        lines += [f"    >>> metric.compute({given})", ""]
        return "\n".join(lines)


def _positions(function: Callable, what: tuple[str, str]) -> Inputs:
    values = [[0.5, 2.0, 0.25], [1.0, 0.125]] if what is NLL else [[4, 7, 9], [3, 8]]
    example = {"predictions": values, "references": [[-100, 7, 9], [5, 8]]}
    return Inputs(function, {"predictions": what, "references": LABELS}, example, alone=True)


def _tokens(function: Callable, tokens: str, alone: bool = False, logistic: bool = False, **more: Any) -> Inputs:
    """Of a membership score of the tokens of each row; `more`: further inputs, name -> (shape, meaning, example)."""
    values = [[0.5, 2.0], [0.25], [3.0, 1.0, 2.0], [4.0]]
    extra = {name: (shape, meaning) for name, (shape, meaning, _) in more.items()}
    inputs = {"predictions": ("lists of numbers", tokens), **extra, "references": MEMBER}
    example = {"predictions": values, **{name: one[2] for name, one in more.items()}, "references": [1, 0, 1, 0]}
    return Inputs(function, inputs, example, ROC + (LOGISTIC_ACCURACY if logistic else "") + EACH, alone)


_NLL_TOKENS = "-log p, in nats, of each labelled token of the row"

INPUTS: Mapping[str, Inputs] = {
    "losses": _positions(functions.of_losses, NLL),
    "hits": _positions(functions.of_hits, ARGMAX),
    "classes": Inputs(
        functions.of_hits,
        {
            "predictions": ("integers", "class that the model finds most likely"),
            "references": ("integers", "the right class"),
        },
        {"predictions": [2, 0], "references": [2, 1]},
    ),
    "answers": Inputs(
        functions.of_answers,
        {"predictions": RIGHT, "perturbed": WRONG},
        {"predictions": [0.5, 1.0], "perturbed": [[2.0, 1.0], [0.75]]},
    ),
    "statistics": Inputs(
        functions.forget_quality,
        {
            "predictions": (
                "numbers",
                "a statistic of each forget row under the model; the benchmark's is "
                '`hf_unlearn.evaluation.truth_ratio(..., mean="geometric")`; ours without wrong answers the loss',
            ),
            "references": ("numbers", "the same under the model retrained without these rows"),
        },
        {"predictions": [0.5, 1.0, 0.75, 1.25], "references": [0.625, 1.125, 0.25, 2.0]},
        "{name} (None where a value is not finite), {name}_distance (the KS distance), {name}_detectable (the "
        "smallest distance that so many rows can show at .05; None where they can show none), {name}_n (rows)",
    ),
    "parts": Inputs(
        functions.model_utility,
        {
            "predictions": (
                "numbers",
                "the parts: `prob` (or `choice_prob`), `rougeL_recall` and `truth_ratio` of retain rows, real "
                "authors and world facts, nine in the benchmark",
            )
        },
        {"predictions": [0.5, 0.75, 1.0]},
        "{name}, {name}_n (parts)",
    ),
    "texts": Inputs(
        functions.rouge,
        {"predictions": ("strings", "generated text"), "references": ("strings", "the right text")},
        {"predictions": ["the cat sat"], "references": ["a cat sat down"]},
    ),
    "scores": Inputs(
        functions.membership,
        {"predictions": SCORE, "references": MEMBER},
        {"predictions": [0.5, 1.0, 0.75, 2.0], "references": [1, 1, 0, 0]},
        ROC + LOGISTIC_ACCURACY + EACH,
    ),
    "loss_tokens": _tokens(functions.membership_by, _NLL_TOKENS, alone=True, logistic=True),
    "entropy_tokens": _tokens(
        functions.membership_by,
        "entropy, in nats, of the model's distribution at each labelled position of the row",
        alone=True,
        logistic=True,
    ),
    "zlib_tokens": _tokens(
        functions.membership_by_zlib,
        _NLL_TOKENS,
        zlib_bytes=(
            "integers",
            "`len(zlib.compress(text.encode()))` of the text of the labelled tokens",
            [12, 9, 15, 9],
        ),
    ),
    "k_tokens": _tokens(functions.membership_by_k, _NLL_TOKENS),
    "z_tokens": _tokens(
        functions.membership_by_k,
        "z of each labelled token of the row: (log p - mean of log p) / its standard deviation, both over the model's "
        "distribution",
    ),
    "against_retrained": Inputs(
        functions.against_retrained,
        {
            "predictions": SCORE,
            "retrained_predictions": ("numbers", "the same of the same rows under the retrained model"),
            "references": MEMBER,
        },
        {
            "predictions": [1.5, 0.5, 1.0, 2.0],
            "retrained_predictions": [1.5, 2.5, 1.0, 2.0],
            "references": [1, 1, 0, 0],
        },
        INTERVAL + ", {name}_detectable (half the width of the interval)",
    ),
    "shadows": Inputs(
        functions.lira,
        {
            "predictions": ("numbers", "confidence of the audited model in each row, as log(p / (1 - p))"),
            "shadows": ("lists of numbers", "the same of each of S shadow models; S in every row"),
            "unlearned": (
                "lists of integers",
                "1 where that shadow model was made to unlearn the row, 0 where it never saw it, -100 to leave it "
                "out; two or more of each in every row",
            ),
            "references": ("numbers", "1 for rows that the audited model unlearned, 0 for rows it never saw"),
        },
        {
            "predictions": [3.0, 2.5, -1.0, -1.5],
            "shadows": [[3.0, 2.5, -1.0, -0.5], [2.0, 2.5, 0.0, 0.5], [1.0, -1.0, 0.5, -2.0], [2.0, 1.0, -1.0, 0.0]],
            "unlearned": [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]],
            "references": [1, 0, 1, 0],
        },
        ROC + EACH,
    ),
    "curves": Inputs(
        functions.recovery_area,
        {
            "predictions": ("numbers", "loss of the held-out forget rows at each step of a fine-tune of the model"),
            "references": ("numbers", "the same of the retrained model under the same fine-tune"),
            "steps": ("numbers", "the step of each"),
        },
        {"predictions": [2.0, 1.0, 0.5], "references": [3.0, 2.0, 1.5], "steps": [0, 5, 10]},
        "{name}",
    ),
    "weights": Inputs(
        functions.weight_distance,
        {
            "predictions": ("numbers", "all weights of the model in one line"),
            "references": ("numbers", "those of the original or the retrained model, in the same order"),
        },
        {"predictions": [1.0, 2.0, 3.0], "references": [1.0, 2.0, 2.0]},
        "{name} (0 for two vectors of zeros, None against zeros), {name}_n (weights)",
    ),
}
