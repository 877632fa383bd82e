"""
Every measure of `hf_unlearn.evaluation` that is arithmetic on arrays, as an `evaluate.Metric`; its name is the config.

```python
metric = evaluate.load(hf_unlearn.metrics_path(), "extraction_strength")
metric.compute(predictions=[[5, 7, 9]], references=[[-100, 7, 9]])
```

The numbers are those of `hf_unlearn.evaluation.measure` and its like, which do the work here. Quantisation and
relearning itself need a model, so they are not here; the area of a relearning curve is. Intervals are those that
`measure` gives for the split `forget` (`truth_ratio`: `retain`, `choice_prob`: `real_authors`) with the same seed.

`evaluate` copies this file into its cache and runs the copy: imports are absolute, and one a line where it looks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import datasets
import evaluate
import numpy as np
import pyarrow as pa

from hf_unlearn.evaluation.catalogue import SCORES
from hf_unlearn.evaluation.intervals import summary
from hf_unlearn.evaluation.measures.forget_quality import forget_quality_of, ks_detectable
from hf_unlearn.evaluation.measures.lira import lira_measures
from hf_unlearn.evaluation.measures.membership import MIA_MEASURES, compare_membership, membership_inference, scores
from hf_unlearn.evaluation.measures.utility import utility_of
from hf_unlearn.evaluation.measuring import measure
from hf_unlearn.evaluation.table_checks import shown
from hf_unlearn.evaluation.tables import COLUMNS

IGNORE_INDEX = -100
WORDS = ("of", "parts")  # what summaries hold beside numbers

Found = dict[str, Any]  # name -> number or None


# ---- from arrays to the tables of the evaluation ---------------------------------------------------------------------


def _table(n_rows: int, **columns: Any) -> pa.Table:
    """A row table with these columns; the other required ones hold zeros, `n_labels` ones."""
    made = {name: pa.array(np.zeros(n_rows), getattr(pa, kind)()) for name, kind in COLUMNS.items()}
    return pa.table({**made, "n_labels": pa.array(np.ones(n_rows, np.int64)), **columns})


def _labelled(predictions: Sequence, references: Sequence) -> list[tuple[np.ndarray, np.ndarray]]:
    """(values, labels) of each row where there is a label; a row that is a number is one position."""
    rows = [
        (np.atleast_1d(np.asarray(p, float)), np.atleast_1d(np.asarray(y, float)))
        for p, y in zip(predictions, references, strict=True)
    ]
    other = [i for i, (p, y) in enumerate(rows) if p.shape != y.shape]
    if other:
        p, y = rows[other[0]]
        raise ValueError(
            f"`predictions` has {p.size} positions in row {other[0]}, `references` {y.size}: expected as many, "
            "position i of the one belonging to position i of the other (shift the logits of a language model first)."
        )
    _whole([y for _, y in rows], "references")
    rows = [(p[y != IGNORE_INDEX], y[y != IGNORE_INDEX]) for p, y in rows]
    empty = [i for i, (_, y) in enumerate(rows) if not len(y)]
    if empty:
        raise ValueError(
            f"`references` are all {IGNORE_INDEX} in {shown(empty)}: drop these rows, or give them labels."
        )
    return rows


def _whole(rows: Sequence[np.ndarray], name: str) -> None:
    for i, row in enumerate(rows):
        wrong = row[row != np.floor(row)]
        if len(wrong):
            raise ValueError(f"`{name}` has {wrong[0]} in row {i}: expected whole numbers, of tokens or classes.")


def _tokens(rows: Sequence, name: str) -> list[np.ndarray]:
    """Values of the labelled tokens of each row; a row that is a number has one."""
    found = [np.atleast_1d(np.asarray(row, float)) for row in rows]
    empty = [i for i, row in enumerate(found) if not len(row)]
    if empty:
        raise ValueError(f"`{name}` has no token in {shown(empty)}: drop these rows, or give them labels.")
    return found


def _members(references: Sequence) -> np.ndarray:
    """(N,) bool"""
    found = np.asarray(references, float)
    wrong = np.flatnonzero((found != 0) & (found != 1))
    if len(wrong):
        raise ValueError(f"`references` is {found[wrong[0]]} in row {wrong[0]}: expected 1 for a member, 0 for others.")
    return found == 1


def _flat(name: str, found: Mapping[str, Any]) -> Found:
    """{"value", "low", ...} -> {name, name_low, ...}, numbers only."""
    rest = {f"{name}_{key}": value for key, value in found.items() if key not in ("value", *WORDS)}
    return {name: found["value"], **rest}


def _measured(name: str, kind: str, tables: Mapping[str, pa.Table], causal_lm: bool = True, **how: Any) -> Found:
    """The one measure `<first split>_<kind>` of these tables, as `name`."""
    wanted = f"{next(iter(tables))}_{kind}"
    return _flat(name, measure(tables, measures=[wanted], causal_lm=causal_lm, **how)[wanted])


# ---- functions: the inputs by name, then options ---------------------------------------------------------------------


def _of_losses(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    rows = _labelled(predictions, references)
    sums = {"nll_sum": [float(p.sum()) for p, _ in rows], "n_labels": [len(p) for p, _ in rows]}
    return _measured(name, name, {"forget": _table(len(rows), **sums)}, seed=seed, resamples=resamples)


def _of_hits(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    """Rows go through the evaluation's own pass, as logits of two tokens: the label and another."""
    import torch

    from hf_unlearn.evaluation.row_statistics import row_statistics

    rows = _labelled(predictions, references)
    _whole([p for p, _ in rows], "predictions")
    longest = max(len(y) for _, y in rows)
    labels = torch.full((len(rows), 1 + longest), IGNORE_INDEX)
    logits = torch.zeros(len(rows), 1 + longest, 2)
    for i, (p, y) in enumerate(rows):
        labels[i, 1 : 1 + len(y)] = 0
        logits[i, : len(y), 1] = torch.from_numpy(np.where(p == y, -1.0, 1.0))
    found = row_statistics(logits, labels, np.arange(len(rows)))
    table = _table(len(rows), **{key: found[key] for key in ("n_labels", "n_correct", "n_suffix")})
    kind = {"seed": seed, "resamples": resamples, "causal_lm": name != "accuracy"}
    return _measured(name, name, {"forget": table}, **kind)


def _of_answers(name: str, predictions: Sequence, perturbed: Sequence, *, seed: int = 0, resamples: int = 1000):
    split, kind = ANSWERED[name]
    group = np.repeat(np.arange(len(perturbed)), [len(row) for row in perturbed])
    if not len(group):
        raise ValueError("`perturbed` is empty in every row: expected the losses of at least one wrong answer.")
    wrong = _table(len(group), nll_sum=np.concatenate([np.asarray(row, float) for row in perturbed]), group=group)
    right = _table(len(predictions), nll_sum=np.asarray(predictions, float))
    return _measured(name, kind, {split: right, f"{split}_perturbed": wrong}, seed=seed, resamples=resamples)


ANSWERED = {  # name -> split whose form of the measure it is
    "truth_ratio": ("retain", "truth_ratio"),
    "forget_truth_ratio": ("forget", "truth_ratio"),
    "choice_prob": ("real_authors", "prob"),
}


def _forget_quality(name: str, predictions: Sequence, references: Sequence):
    pair = np.asarray(predictions, float), np.asarray(references, float)
    n = len(pair[0])
    finite = all(np.isfinite(side).all() for side in pair)
    p, distance = forget_quality_of(*pair) if finite else (None, None)
    rest = {"distance": distance, "detectable": ks_detectable(n, n), "n": n}
    return _flat(name, {"value": p, **rest})


def _model_utility(name: str, predictions: Sequence):
    return _flat(
        name, {"value": utility_of({f"part {i}": v for i, v in enumerate(predictions)}), "n": len(predictions)}
    )


def _rouge(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    from hf_unlearn.evaluation.attacks.generate import rouge_recall

    recall = [rouge_recall(p, y)["rougeL_recall"] for p, y in zip(predictions, references, strict=True)]
    generations = {"forget": pa.table({"rougeL_recall": pa.array(recall, pa.float64(), from_pandas=False)})}
    tables = {"forget": _table(len(recall))}
    return _measured(name, name, tables, generations=generations, seed=seed, resamples=resamples)


def _told_apart(name: str, score: np.ndarray, references: Sequence, measures: Sequence[str], **how: Any) -> Found:
    member = _members(references)
    found = membership_inference(score[member], score[~member], measures=measures, **how)
    return {key: v for kind, value in found.items() for key, v in _flat(f"{name}_{kind}", value).items()}


def _membership(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    score = np.asarray(predictions, float)
    return _told_apart(name, score, references, MIA_MEASURES, seed=seed, resamples=resamples)


def _of_tokens(name: str, predictions: Sequence, references: Sequence, k: float, seed: int, resamples: int, **columns):
    rows = _tokens(predictions, "predictions")
    sums, lengths = [float(row.sum()) for row in rows], [len(row) for row in rows]
    lists = pa.array([row.tolist() for row in rows], pa.list_(pa.float64()))
    same = {"nll_sum": sums, "entropy_sum": sums, "token_nll": lists, "token_z": lists}
    kind = name.removeprefix("mia_")
    score = scores(_table(len(rows), n_labels=lengths, **same, **columns), k=k)[kind]
    measures = [m for m in MIA_MEASURES if m != "accuracy" or SCORES[kind].logistic]
    return _told_apart(name, score, references, measures, seed=seed, resamples=resamples)


def _mia(name: str, predictions: Sequence, references: Sequence, *, seed: int = 0, resamples: int = 1000):
    return _of_tokens(name, predictions, references, 20, seed, resamples)


def _mia_k(
    name: str, predictions: Sequence, references: Sequence, *, k: float = 20, seed: int = 0, resamples: int = 1000
):
    return _of_tokens(name, predictions, references, k, seed, resamples)


def _mia_zlib(
    name: str,
    predictions: Sequence,
    zlib_bytes: Sequence,
    references: Sequence,
    *,
    seed: int = 0,
    resamples: int = 1000,
):
    return _of_tokens(name, predictions, references, 20, seed, resamples, zlib_bytes=zlib_bytes)


def _against_retrained(
    name: str,
    predictions: Sequence,
    retrained_predictions: Sequence,
    references: Sequence,
    *,
    seed: int = 0,
    resamples: int = 1000,
):
    member = _members(references)
    sides = [np.asarray(values, float)[m] for values in (predictions, retrained_predictions) for m in (member, ~member)]
    return _flat(name, compare_membership(*sides, seed=seed, resamples=resamples)[name])


def _lira(
    name: str,
    predictions: Sequence,
    shadows: Sequence,
    unlearned: Sequence,
    references: Sequence,
    *,
    variance: str = "auto",
    seed: int = 0,
    resamples: int = 1000,
):
    other = [
        i for i, (a, b) in enumerate(zip(shadows, unlearned, strict=True)) if {len(a), len(b)} != {len(shadows[0])}
    ]
    if other:
        raise ValueError(
            f"`shadows` and `unlearned` have {len(shadows[other[0]])} and {len(unlearned[other[0]])} values in row "
            f"{other[0]}: expected one for each of the {len(shadows[0])} shadow models, in every row."
        )
    confidence, said = np.asarray(shadows, float).T, np.asarray(unlearned, float).T  # (S, N)
    wrong = np.argwhere(~np.isin(said, (1, 0, IGNORE_INDEX)))
    if len(wrong):
        shadow, row = wrong[0]
        raise ValueError(
            f"`unlearned` is {said[shadow, row]} for shadow {shadow} in row {row}: expected 1 where the shadow model "
            f"was made to unlearn the row, 0 where it never saw it, {IGNORE_INDEX} to leave it out."
        )
    target, forget = np.asarray(predictions, float), _members(references)
    how = {"variance": variance, "seed": seed, "resamples": resamples}
    found = lira_measures(target, confidence, said == 1, said == 0, forget, **how)
    return {key: v for kind, value in found.items() for key, v in _flat(f"{name}_{kind}", value).items()}


def _recovery_area(name: str, predictions: Sequence, references: Sequence, steps: Sequence):
    from hf_unlearn.evaluation.attacks.relearn import recovery_area

    curves = [
        [{"step": s, "loss": loss} for s, loss in zip(steps, np.asarray(losses, float), strict=True)]
        for losses in (predictions, references)
    ]
    return {name: recovery_area(*curves)}


def _weight_distance(name: str, predictions: Sequence, references: Sequence):
    import torch

    from hf_unlearn.evaluation import weight_distance

    pair = []
    for weights in (predictions, references):
        module = torch.nn.Module()
        values = torch.tensor(np.asarray(weights, float))
        module.register_parameter("weights", torch.nn.Parameter(values, requires_grad=False))
        pair.append(module)
    whole = weight_distance(*pair)["whole"]
    return {name: summary(whole, None, len(predictions))["value"], f"{name}_n": len(predictions)}


# ---- what there is ---------------------------------------------------------------------------------------------------

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

TIRUMALA = "Tirumala et al. 2022, Memorization Without Overfitting, arXiv:2205.10770"
TOFU = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs, arXiv:2401.06121"
CARLINI21 = "Carlini et al. 2021, Extracting Training Data from Large Language Models, arXiv:2012.07805"
TRIPPA = "Trippa et al. 2024, arXiv:2403.14339"
MUSE = "Shi et al. 2024, MUSE: Machine Unlearning Six-Way Evaluation for Language Models, arXiv:2407.06460"


@dataclass(frozen=True)
class Measure:
    """What one config is: `inputs` are name -> (shape, meaning), `example` is run by the tests."""

    function: Callable[..., Found]
    inputs: Mapping[str, tuple[str, str]]
    description: str
    example: Mapping[str, Any]
    returns: str = INTERVAL
    citation: str = ""
    alone: bool = False  # rows of one position may also be numbers

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


def _lm(function: Callable[..., Found], what: tuple[str, str], description: str, citation: str = "") -> Measure:
    values = [[0.5, 2.0, 0.25], [1.0, 0.125]] if what is NLL else [[4, 7, 9], [3, 8]]
    example = {"predictions": values, "references": [[-100, 7, 9], [5, 8]]}
    inputs = {"predictions": what, "references": LABELS}
    return Measure(function, inputs, description, example, citation=citation, alone=True)


def _attack(function: Callable[..., Found], tokens: str, description: str, citation: str = "", **more: Any) -> Measure:
    logistic = more.pop("logistic", False)
    values = [[0.5, 2.0], [0.25], [3.0, 1.0, 2.0], [4.0]]
    inputs = {"predictions": ("lists of numbers", tokens), **more.pop("inputs", {}), "references": MEMBER}
    example = {"predictions": values, **more.pop("example", {}), "references": [1, 0, 1, 0]}
    returns = ROC + (LOGISTIC_ACCURACY if logistic else "") + EACH
    return Measure(function, inputs, description, example, returns, citation, **more)


_ANSWERS = {"predictions": RIGHT, "perturbed": WRONG}
_ANSWERS_EXAMPLE = {"predictions": [0.5, 1.0], "perturbed": [[2.0, 1.0], [0.75]]}
_NLL_TOKENS = "-log p, in nats, of each labelled token of the row"
_AGAINST = {
    "predictions": SCORE,
    "retrained_predictions": ("numbers", "the same of the same rows under the retrained model"),
    "references": MEMBER,
}
_AGAINST_EXAMPLE = {
    "predictions": [0.5, 0.25, 1.0, 2.0],
    "retrained_predictions": [1.5, 2.5, 1.0, 2.0],
    "references": [1, 1, 0, 0],
}
_AGAINST_RETURNS = INTERVAL + ", {name}_detectable (half the width of the interval)"

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "loss": _lm(_of_losses, NLL, "Mean negative log-likelihood per label, in nats: ratio of sums over the rows."),
        "prob": _lm(
            _of_losses, NLL, "Mean over the rows of exp(-mean loss of the row): the probability per token.", TOFU
        ),
        "perplexity": _lm(_of_losses, NLL, "exp of the mean negative log-likelihood per label."),
        "accuracy": Measure(
            _of_hits,
            {
                "predictions": ("integers", "class that the model finds most likely"),
                "references": ("integers", "the right class"),
            },
            "Share of the rows whose most likely class is the right one.",
            {"predictions": [2, 0], "references": [2, 1]},
        ),
        "token_accuracy": _lm(
            _of_hits, ARGMAX, "Share of all labelled positions whose most likely token is the label."
        ),
        "exact_memorisation": _lm(
            _of_hits,
            ARGMAX,
            "Mean over the rows of the share of labelled positions whose most likely token is the label.",
            TIRUMALA,
        ),
        "exact_match": _lm(_of_hits, ARGMAX, "Share of the rows in which every most likely token is the label."),
        "extraction_strength": _lm(
            _of_hits,
            ARGMAX,
            "Mean over the rows of 1 - k/T: the k first of the T labels must be given so that all others come by "
            "argmax; 0 when nothing does.",
            CARLINI21,
        ),
        "truth_ratio": Measure(
            _of_answers,
            _ANSWERS,
            "Mean over the rows of max(0, 1 - r), for rows other than those to forget: r is the mean probability per "
            "token of wrong answers over that of the right one. 1 where the right answer is known.",
            _ANSWERS_EXAMPLE,
            citation=TOFU,
        ),
        "forget_truth_ratio": Measure(
            _of_answers,
            _ANSWERS,
            "Mean over the rows to forget of min(r, 1/r): r is the mean probability per token of wrong answers over "
            "that of the right one. 1 where none is preferred.",
            _ANSWERS_EXAMPLE,
            citation=TOFU,
        ),
        "choice_prob": Measure(
            _of_answers,
            _ANSWERS,
            "Mean over the rows of p / (p + sum of the wrong answers' p), p the probability per token: `prob` of "
            "real authors and world facts.",
            _ANSWERS_EXAMPLE,
            citation=TOFU,
        ),
        "forget_quality": Measure(
            _forget_quality,
            {
                "predictions": (
                    "numbers",
                    "a statistic of each forget row under the model; the benchmark's is "
                    '`hf_unlearn.evaluation.truth_ratio(..., mean="geometric")`; ours without wrong answers the loss',
                ),
                "references": ("numbers", "the same under the model retrained without these rows"),
            },
            "p-value of the two-sided two-sample Kolmogorov-Smirnov test between a model and a retrained one. A high "
            "p is evidence only where the test could have seen a difference.",
            {"predictions": [0.5, 1.0, 0.75, 1.25], "references": [0.625, 1.125, 0.25, 2.0]},
            "{name} (None where a value is not finite), {name}_distance (the KS distance), {name}_detectable (the "
            "smallest distance that so many rows can show at .05; None where they can show none), {name}_n (rows)",
            TOFU,
        ),
        "model_utility": Measure(
            _model_utility,
            {
                "predictions": (
                    "numbers",
                    "the parts: `prob` (or `choice_prob`), `rougeL_recall` and `truth_ratio` of retain rows, real "
                    "authors and world facts, nine in the benchmark",
                )
            },
            "Harmonic mean of its parts; 0 if one of them is 0.",
            {"predictions": [0.5, 0.75, 1.0]},
            "{name}, {name}_n (parts)",
            TOFU,
        ),
        "rougeL_recall": Measure(
            _rouge,
            {"predictions": ("strings", "generated text"), "references": ("strings", "the right text")},
            "Mean over the rows of the share of the words of the reference that the prediction has in order (longest "
            "common subsequence), with Porter's stemmer. References without a word of a-z or digits are left out.",
            {"predictions": ["the cat sat"], "references": ["a cat sat down"]},
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
        ),
        "membership": Measure(
            _membership,
            {"predictions": SCORE, "references": MEMBER},
            "How well any score of rows tells members from others.",
            {"predictions": [0.5, 1.0, 0.75, 2.0], "references": [1, 1, 0, 0]},
            ROC + LOGISTIC_ACCURACY + EACH,
            f"Carlini et al. 2022, Membership Inference Attacks From First Principles, arXiv:2112.03570; {TRIPPA}",
        ),
        "mia_loss": _attack(
            _mia,
            _NLL_TOKENS,
            "Membership inference by the mean loss of each row.",
            f"Yeom et al. 2018, Privacy Risk in Machine Learning, arXiv:1709.01604; {TRIPPA}",
            alone=True,
            logistic=True,
        ),
        "mia_entropy": _attack(
            _mia,
            "entropy, in nats, of the model's distribution at each labelled position of the row",
            "Membership inference by the mean entropy of each row.",
            TRIPPA,
            alone=True,
            logistic=True,
        ),
        "mia_zlib": _attack(
            _mia_zlib,
            _NLL_TOKENS,
            "Membership inference by the summed loss of each row over the compressed size of its text.",
            CARLINI21,
            inputs={
                "zlib_bytes": ("integers", "`len(zlib.compress(text.encode()))` of the text of the labelled tokens")
            },
            example={"zlib_bytes": [12, 9, 15, 9]},
        ),
        "mia_min_k": _attack(
            _mia_k,
            _NLL_TOKENS,
            "Min-K%: membership inference by the mean loss of the k % of tokens with the highest loss.",
            "Shi et al. 2024, Detecting Pretraining Data from Large Language Models, arXiv:2310.16789",
        ),
        "mia_min_k_plus_plus": _attack(
            _mia_k,
            "z of each labelled token of the row: (log p - mean of log p) / its standard deviation, both over the "
            "model's distribution",
            "Min-K%++: membership inference by minus the mean of the k % lowest z of each row.",
            "Zhang et al. 2024, Min-K%++, arXiv:2404.02936",
        ),
        "auc_gap": Measure(
            _against_retrained,
            _AGAINST,
            "AUC of membership inference less that under the model retrained without the members, rows resampled in "
            "pairs. Above 0 the model leaks more, below 0 it over-forgot.",
            _AGAINST_EXAMPLE,
            _AGAINST_RETURNS,
        ),
        "privleak": Measure(
            _against_retrained,
            _AGAINST,
            "100 (AUC - AUC_retrained) / AUC_retrained, per cent. Above 0 the model leaks more than the retrained one; "
            "the source's figures count the other way round.",
            _AGAINST_EXAMPLE,
            _AGAINST_RETURNS,
            MUSE,
        ),
        "lira": Measure(
            _lira,
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
            "U-LiRA with few shadow models: was a row unlearned, or never seen?",
            {
                "predictions": [3.0, 2.5, -1.0, -1.5],
                "shadows": [
                    [3.0, 2.5, -1.0, -0.5],
                    [2.0, 2.5, 0.0, 0.5],
                    [1.0, -1.0, 0.5, -2.0],
                    [2.0, 1.0, -1.0, 0.0],
                ],
                "unlearned": [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]],
                "references": [1, 0, 1, 0],
            },
            ROC + EACH,
            "Hayes et al. 2024, arXiv:2403.01218; Carlini et al. 2022, arXiv:2112.03570",
        ),
        "recovery_area": Measure(
            _recovery_area,
            {
                "predictions": ("numbers", "loss of the held-out forget rows at each step of a fine-tune of the model"),
                "references": ("numbers", "the same of the retrained model under the same fine-tune"),
                "steps": ("numbers", "the step of each"),
            },
            "Area under a relearning curve over that of the retrained model, by trapezoids (ours). Below 1: what was "
            "forgotten comes back faster than a model that never saw it learns it.",
            {"predictions": [2.0, 1.0, 0.5], "references": [3.0, 2.0, 1.5], "steps": [0, 5, 10]},
            "{name}",
        ),
        "weight_distance": Measure(
            _weight_distance,
            {
                "predictions": ("numbers", "all weights of the model in one line"),
                "references": ("numbers", "those of the original or the retrained model, in the same order"),
            },
            "Relative L2 distance |a - b| / |b| of two models' weights. For models rather than vectors: "
            "`hf_unlearn.evaluation.weight_distance`.",
            {"predictions": [1.0, 2.0, 3.0], "references": [1.0, 2.0, 2.0]},
            "{name} (0 for two vectors of zeros, None against zeros), {name}_n (weights)",
            "Siddiqui et al. 2025, From Dormant to Deleted, arXiv:2505.22310",
        ),
    }
)


class Unlearning(evaluate.Metric):
    """One of the measures, by its config name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in MEASURES:
            got = "missing" if self.config_name == "default" else f"{self.config_name!r}"
            raise ValueError(f"`config_name` is {got}: expected the name of a measure, one of {', '.join(MEASURES)}.")
        measure = MEASURES[self.config_name]
        return evaluate.MetricInfo(
            description=measure.description,
            citation=measure.citation,
            inputs_description=measure.inputs_description(self.config_name),
            features=measure.features(),
        )

    def _infer_feature_from_batch(self, batch: Mapping[str, Any]) -> datasets.Features:
        """`evaluate` looks at the first row, also where there is none."""
        if isinstance(self.features, list) and not all(len(values) for values in batch.values()):
            return self.features[0]
        return super()._infer_feature_from_batch(batch)

    def _compute(self, **given: Any) -> Found:
        measure = MEASURES[self.config_name]
        try:
            unknown = given.keys() - measure.inputs.keys() - measure.options().keys()
            if unknown:
                raise ValueError(
                    f"unknown arguments {sorted(unknown)} for `{self.config_name}`: expected "
                    f"{', '.join([*measure.inputs, *measure.options()])}."
                )
            if not len(given[next(iter(measure.inputs))]):
                raise ValueError(f"`{self.config_name}` was given no rows: expected at least one.")
            return measure.function(self.config_name, **given)
        except Exception:
            for lock in self.filelocks or []:  # `evaluate` 0.4.6 keeps it, and the next call waits a second for it
                lock.release()
            raise
