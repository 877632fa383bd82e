"""
Every measure that a score card holds: its name, label, explanation and unit, which side is good, how far it is trusted.

This is the one list of measures. Score cards, report, model card, `evaluate.Metric`s and the study of planted rows
(`recipes/tools/faithfulness.py`) read it. Data only: nothing heavy is imported.

To add a measure, write its formula in `measures/` and an entry here:

```python
Measure("{split}_bits", "Bits per label", "Mean loss over the rows, in bits.", unit="bits", good="low", saw="lower",
        over="rows", formula="measures.losses.bits", inputs="losses"),
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .benchmark_measures import BENCHMARK_MEASURES
from .general_measures import GENERAL_MEASURES
from .vocabulary import (
    AGAINST,
    AS_RETRAINED,
    AS_UNSEEN,
    BENCHMARKS,
    CARLINI21,
    CARLINI22,
    CHOICE_SPLITS,
    FINE_TUNES,
    FORGET_SPLITS,
    LIN,
    MEMBERSHIP,
    MODEL,
    MODEL_KINDS,
    MUSE,
    OTHER,
    PLACEHOLDERS,
    RECOVERY,
    SCORE_LABELS,
    SCORES,
    SECTIONS,
    SIDDIQUI,
    SPLIT,
    SPLITS,
    TIRUMALA,
    TOFU,
    TRIPPA,
    WEIGHTS,
    Measure,
    Score,
)  # fmt: skip

__all__ = [  # of the vocabulary; what is defined here is public, too
    "AGAINST", "AS_RETRAINED", "AS_UNSEEN", "BENCHMARKS", "CHOICE_SPLITS", "FINE_TUNES", "FORGET_SPLITS", "MODEL_KINDS",
    "MEMBERSHIP", "MODEL", "OTHER", "RECOVERY", "SCORE_LABELS", "SCORES", "SECTIONS", "SPLIT", "SPLITS", "WEIGHTS",
    "Measure", "Score",
]  # fmt: skip

_WEAK_SCORES = {"causal_lm": ("mia_entropy",), "classifier": ("mia_entropy", "mia_loss")}
_SHARE = {"unit": "share", "good": "high", "saw": "higher"}
_OF_LABELS = {**_SHARE, "good_unseen": "high", "kinds": ("classifier",), "over": "labels"}
_TOLD_APART = {
    "section": MEMBERSHIP,
    "saw": "higher",
    "weak": _WEAK_SCORES,
    "formula": "measures.membership.membership_inference",
}
_COMPARED = {"section": AGAINST, "made_by": "compare", "compares": True}
_GAP = {**_COMPARED, "good": "0", "saw": "higher", "weak": _WEAK_SCORES}
_GAP |= {"formula": "measures.membership.compare_membership", "inputs": "against_retrained"}
_KEPT = {**_COMPARED, "unit": "share", "good": "high"}
_KEPT |= {
    "explanation": "Labels predicted right (of rows with several labels, rows told right in every label), as a share "
    "of those that the model retrained without the forget rows predicts right; rows resampled in pairs.",
    "formula": "measures.losses.kept",
}
_DISTANCE = {"section": WEIGHTS, "unit": "relative L2 distance", "made_by": "weights", "citation": SIDDIQUI}
_DISTANCE |= {"metric": "weight_distance", "inputs": "weights", "formula": "attacks.weights.weight_distance"}
_DISTANCE |= {
    "explanation": "Relative L2 distance |a - b| / |b| of two models' weights. For models rather than vectors: "
    "`hf_unlearn.evaluation.weight_distance`."
}

MEASURES: tuple[Measure, ...] = (
    Measure(
        "{split}_loss",
        "Loss (nats per label)",
        "Mean negative log-likelihood per label, in nats: ratio of sums over the rows.",
        unit="nats",
        good="low",
        good_unseen="low",
        saw="lower",
        over="labels",
        formula="measures.losses.loss",
        inputs="losses",
    ),
    Measure(
        "{split}_accuracy",
        "Answered right",
        "Share of the rows whose most likely class is the right one; of rows with several labels, of those that are "
        "told right in every label (exact match).",
        **_SHARE,
        good_unseen="high",
        kinds=("classifier",),
        weak={"classifier": ("forget", "forget_int4", "forget_int8")},
        over="rows",
        formula="measures.losses.answered_right",
        inputs="classes",
    ),
    Measure(
        "{split}_f1",
        "F1 of the labels",
        "Of rows with several labels: 2 hits / (labels predicted + labels that the rows have), pooled over rows and "
        "labels; a label counts as predicted from a probability of one half on.",
        formula="measures.losses.f1",
        columns=("n_hits", "n_predicted", "n_present"),
        **_OF_LABELS,
    ),
    Measure(
        "{split}_label_accuracy",
        "Labels told right",
        "Of rows with several labels: share of all labels, there or not, that are told right. High also where a model "
        "predicts no rare label at all; F1 tells that.",
        formula="measures.losses.accuracy",
        columns=("n_present",),
        **_OF_LABELS,
    ),
    Measure(
        "{split}_token_accuracy",
        "Tokens predicted right",
        "Share of all labelled positions whose most likely token is the label.",
        **_SHARE,
        good_unseen="high",
        kinds=("causal_lm",),
        over="labels",
        formula="measures.losses.accuracy",
        inputs="hits",
    ),
    Measure(
        "{split}_prob",
        "Probability of the answer",
        "Mean over the rows of p / (p + sum of the wrong answers' p), p the probability per token: `prob` of real "
        "authors and world facts.",
        **{**_SHARE, "unit": "probability"},
        splits=CHOICE_SPLITS,
        kinds=("causal_lm",),
        formula="measures.truth_ratio.answer_probability",
        citation=TOFU,
        metric="choice_prob",
        inputs="answers",
    ),
    Measure(
        "{split}_prob",
        "Probability of the answer",
        "Mean over the rows of exp(-mean loss of the row): the probability per token.",
        **{**_SHARE, "unit": "probability"},
        good_unseen="high",
        weak={"classifier": ("forget_int4",)},
        over="rows",
        formula="measures.losses.prob",
        citation=TOFU,
        inputs="losses",
    ),
    Measure(
        "{split}_exact_memorisation",
        "Share of a row recalled",
        "Mean over the rows of the share of labelled positions whose most likely token is the label.",
        **_SHARE,
        kinds=("causal_lm",),
        over="rows",
        formula="measures.memorisation.exact_memorisation",
        citation=TIRUMALA,
        inputs="hits",
    ),
    Measure(
        "{split}_exact_match",
        "Rows recalled word for word",
        "Share of the rows in which every most likely token is the label.",
        **_SHARE,
        kinds=("causal_lm",),
        weak={"causal_lm": ("forget_rephrased",)},
        over="rows",
        formula="measures.memorisation.exact_match",
        inputs="hits",
    ),
    Measure(
        "{split}_extraction_strength",
        "Extraction strength",
        "Mean over the rows of 1 - k/T: the k first of the T labels must be given so that all others come by argmax; "
        "0 when nothing does.",
        unit="share",
        saw="higher",
        kinds=("causal_lm",),
        over="rows",
        formula="measures.memorisation.extraction_strength",
        columns=("n_suffix",),
        citation=CARLINI21,
        inputs="hits",
    ),
    Measure(
        "{split}_rougeL_recall",
        "ROUGE-L recall of its own answer",
        "Mean over the rows of the share of the words of the reference that the prediction has in order (longest "
        "common subsequence), with Porter's stemmer. References without a word of a-z or digits are left out.",
        **_SHARE,
        kinds=("causal_lm",),
        formula="measures.rouge.rouge_recall",
        citation=LIN,
        inputs="texts",
    ),
    Measure(
        "{split}_truth_ratio",
        "Truth ratio",
        "Mean over the rows to forget of min(r, 1/r): r is the mean probability per token of wrong answers over that "
        "of the right one. 1 where none is preferred.",
        unit="ratio",
        splits=("forget",),
        kinds=("causal_lm",),
        ideal="",
        saw="lower",
        weak={"causal_lm": ("forget",)},
        formula="measures.truth_ratio.truth_ratio_score",
        citation=TOFU,
        metric="forget_truth_ratio",
        inputs="answers",
    ),
    Measure(
        "{split}_truth_ratio",
        "Truth ratio",
        "Mean over the rows of max(0, 1 - r), for rows other than those to forget: r is the mean probability per token "
        "of wrong answers over that of the right one. 1 where the right answer is known.",
        unit="ratio",
        kinds=("causal_lm",),
        good="high",
        ideal="",
        saw="higher",
        formula="measures.truth_ratio.truth_ratio_score",
        citation=TOFU,
        inputs="answers",
    ),
    Measure(
        "{split}_perplexity",
        "Perplexity",
        "exp of the mean negative log-likelihood per label.",
        unit="effective choices per label",
        kinds=("causal_lm",),
        good="low",
        good_unseen="low",
        saw="lower",
        over="labels",
        formula="measures.losses.perplexity",
        inputs="losses",
    ),
    Measure(
        "forget_{score}_auc",
        "By {score}: AUC",
        "How often a forget row is told from an unseen one: Mann-Whitney, ties count half.",
        unit="AUC",
        ideal="0.5",
        **_TOLD_APART,
    ),
    Measure(
        "forget_{score}_tpr_at_1fpr",
        "By {score}: found at 1 % false alarms",
        "Largest true-positive rate at a false-positive rate of at most 1 %.",
        unit="share",
        ideal="1 %",
        citation=CARLINI22,
        **_TOLD_APART,
    ),
    Measure(
        "forget_{score}_tpr_at_01fpr",
        "By {score}: found at 0.1 % false alarms",
        "Largest true-positive rate at a false-positive rate of at most .1 %.",
        unit="share",
        ideal="0.1 %",
        citation=CARLINI22,
        **_TOLD_APART,
    ),
    Measure(
        "forget_{score}_accuracy",
        "By {score}: guessed right",
        "Out-of-fold accuracy of a logistic regression on the score, as many members as others.",
        unit="share",
        ideal="50 %",
        citation=TRIPPA,
        **_TOLD_APART,
    ),
    Measure(
        "forget_quality",
        "Forget quality (p-value)",
        "p-value of the two-sided two-sample Kolmogorov-Smirnov test between a model and a retrained one. A high p is "
        "evidence only where the test could have seen a difference.",
        unit="p-value",
        good="high",
        saw="lower",
        weak={"classifier": ("",)},
        **_COMPARED,
        formula="measures.forget_quality.forget_quality_of",
        citation=TOFU,
        inputs="statistics",
    ),
    Measure(
        "forget_extraction_gap",
        "Extraction strength, difference",
        "Extraction strength of the forget rows less that under the model retrained without them, rows resampled in "
        "pairs. Above 0 more can be drawn out.",
        unit="difference of shares",
        kinds=("causal_lm",),
        good="0",
        saw="higher",
        **_COMPARED,
        formula="measures.memorisation.extraction_strength",
        citation=CARLINI21,
    ),
    Measure("test_kept", "Test rows: right answers, share of the retrained model's", **_KEPT),
    Measure("retain_kept", "Retain rows: right answers, share of the retrained model's", **_KEPT),
    Measure(
        "forget_{score}_auc_gap",
        "By {score}: AUC, difference",
        "AUC of membership inference less that under the model retrained without the members, rows resampled in pairs. "
        "Above 0 the model leaks more, below 0 it over-forgot.",
        unit="difference of AUCs",
        metric="auc_gap",
        **_GAP,
    ),
    Measure(
        "forget_{score}_privleak",
        "By {score}: PrivLeak (%)",
        "100 (A - A_retrained) / A_retrained, per cent, with A = 1 - AUC, as the source counts: about -100 where "
        "nothing was forgotten, above 0 where the rows stand out as deleted. In score cards by Min-K% of 40 %.",
        unit="per cent of the AUC",
        citation=MUSE,
        metric="privleak",
        **{**_GAP, "saw": "lower"},
    ),
    Measure(
        "forget_{score}_rel_diff",
        "By {score}: AUC, relative difference (%)",
        "100 (AUC - AUC_retrained) / AUC_retrained, per cent: the difference of AUCs as a share. Above 0 the model "
        "leaks more than the retrained one, below 0 it over-forgot.",
        unit="per cent of the AUC",
        metric="rel_diff",
        **_GAP,
    ),
    Measure(
        "recovery_{rows}_area",
        "Fine-tuned on {rows}",
        "Area under a relearning curve over that of the retrained model, by trapezoids. Below 1: what was "
        "forgotten comes back faster than a model that never saw it learns it.",
        unit="ratio of areas",
        section=RECOVERY,
        good="1 or more",
        saw="lower",
        weak={"classifier": tuple(FINE_TUNES)},
        made_by="relearn",
        compares=True,
        formula="attacks.relearn.recovery_area",
        inputs="curves",
    ),
    Measure(
        "model_utility",
        "Model utility",
        "Harmonic mean of its parts; 0 if one of them is 0.",
        unit="utility",
        section=MODEL,
        kinds=("causal_lm",),
        good="high",
        formula="measures.utility.utility_of",
        citation=TOFU,
        inputs="parts",
    ),
    Measure("weights_to_original", "To the model before the request", **_DISTANCE),
    Measure(
        "weights_to_retrained",
        "To the retrained model",
        good="low",
        saw="higher",
        weak=dict.fromkeys(MODEL_KINDS, ("",)),
        compares=True,
        **_DISTANCE,
    ),
    *GENERAL_MEASURES,
    *BENCHMARK_MEASURES,
)


# ---- looking a name up -----------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """What the catalogue knows of a name: the measure, and what stands for its placeholder ("" without one)."""

    measure: Measure
    place: str

    @property
    def label(self) -> str:
        if self.measure.placeholder == "score":
            return self.measure.label.replace("{score}", score_label(self.place.removeprefix("mia_")))
        return self.measure.label.replace("{rows}", FINE_TUNES.get(self.place, f"{self.place} rows"))

    @property
    def title(self) -> str:
        """The label with the split that it is of, for tables that are not one to a split."""
        if self.measure.section != SPLIT:
            return self.label
        split = SPLITS.get(self.place, f"{self.place} rows")
        label = self.label if self.label[:2].isupper() else f"{self.label[0].lower()}{self.label[1:]}"
        return f"{split}: {label}"

    @property
    def order(self) -> tuple:
        """Its place in its section: membership measures score by score, others measure by measure."""
        known = {"score": [score.in_name for score in SCORES.values()], "rows": list(FINE_TUNES)}
        places = known.get(self.measure.placeholder, [])
        place = (places.index(self.place) if self.place in places else len(places), self.place)
        line = MEASURES.index(self.measure)
        return (place, line) if self.measure.section == MEMBERSHIP else (line, place)


def find(name: str) -> Entry | None:
    """The entry of a name in a score card; None for a name that no line of the catalogue has."""
    found = [Entry(m, place) for m in MEASURES if (place := _place(m.name, m.placeholder, name)) is not None]
    found = [entry for entry in found if not entry.measure.splits or entry.place in entry.measure.splits]
    # "forget_mia_loss_accuracy" is no accuracy of a split "forget_mia_loss": what a name spells out goes first.
    return max(found, key=lambda entry: (len(entry.measure.kind), bool(entry.measure.splits)), default=None)


@lru_cache(maxsize=1 << 16)  # some hundred lines, for each name of a score card
def _place(pattern: str, placeholder: str, name: str) -> str | None:
    """What stands for the placeholder of a pattern in a name; None where the pattern does not fit."""
    start, slot, end = pattern.partition(f"{{{placeholder}}}")
    match = re.fullmatch(f"{re.escape(start)}({PLACEHOLDERS.get(placeholder, '')}){re.escape(end)}", name)
    return match[1] if match else None


def score_label(score: str) -> str:
    """`min_k` -> "Min-K%"; an unknown score by its own name."""
    return SCORE_LABELS.get(score, score.replace("_", " "))


def of_split(split: str, kind: str) -> list[Measure]:
    """Measures that the rows of a split have under a kind of model; of two of one name the one that names the split."""
    there = [m for m in MEASURES if m.placeholder == "split" and kind in m.kinds and split in (m.splits or (split,))]
    named = {m.name for m in there if m.splits}
    return [m for m in there if m.splits or m.name not in named]


def of_score(score: str, kind: str, made_by: str = "measure") -> list[Measure]:
    """Measures of membership inference by a score that a function makes under a kind of model."""
    if kind not in SCORES[score].kinds or not SCORES[score].in_name.startswith("mia_"):
        return []
    there = [m for m in MEASURES if m.placeholder == "score" and m.made_by == made_by]
    return [m for m in there if SCORES[score].logistic or m.kind != "forget_accuracy"]


def is_weak(name: str, kind: str) -> bool:
    """Whether a measure told models of this kind that saw the rows from others in fewer than 90 % of pairs."""
    return (entry := find(name)) is not None and entry.place in entry.measure.weak.get(kind, ())


def kind_of(names: Iterable[str]) -> str | None:
    """The kind of model that has measures of these names; None where both have all of them."""
    found = {kinds[0] for name in names if (entry := find(name)) and len(kinds := entry.measure.kinds) == 1}
    return next((kind for kind in MODEL_KINDS if kind in found), None)


def weak_names(kind: str) -> list[str]:
    """Names of all measures that are weak for a kind of model."""
    return sorted({m.at(place) for m in MEASURES for place in m.weak.get(kind, ())})


def claim(name: str) -> str | None:
    """
    On which side of a model that never saw the forget rows the measure claims one that saw them: "lower" or "higher";
    None for what says nothing of them.
    """
    entry = find(name)
    if entry is None or (entry.measure.placeholder == "split" and entry.place not in FORGET_SPLITS):
        return None
    return entry.measure.saw or None


def add(measure: Measure) -> Measure:
    """
    Adds a line to the catalogue, as the file of a new attack does for what it measures.

    Raises:
        ValueError: if there is one of this name for these splits.
    """
    global MEASURES
    if any((measure.name, measure.splits) == (m.name, m.splits) for m in MEASURES):
        raise ValueError(f"the catalogue has a measure {measure.name!r} already.")
    MEASURES = (*MEASURES, measure)
    return measure
