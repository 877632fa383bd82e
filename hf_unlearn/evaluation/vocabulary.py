"""
What the catalogue of measures is written in: splits, sections of the report, membership scores, and what a line holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

MODEL_KINDS = ("causal_lm", "classifier")  # kinds of models
AS_UNSEEN, AS_RETRAINED = "as unseen rows", "as retrained"  # ideals of measures of the forget rows

# ---- sections of the report ------------------------------------------------------------------------------------------

SPLIT, MEMBERSHIP, AGAINST = "split", "membership", "against_retrained"
RECOVERY, MODEL, WEIGHTS, OTHER = "recovery", "model", "weights", "other"
BENCHMARKS = "benchmarks"
SECTIONS = {  # section of a measure -> its title in the report; a measure of SPLIT stands in the section of its split
    MEMBERSHIP: "Membership: forget rows against unseen rows",
    AGAINST: "Against the retrained model",
    RECOVERY: "Recovery: relearning, area under the loss curve against the retrained model's",
    MODEL: "The whole model",
    WEIGHTS: "Weights: relative distance",
    BENCHMARKS: "Benchmarks",
    OTHER: "Other",
}
SPLITS = {  # split -> title of its section; a split with another name is "<name> rows"
    "forget": "Forget rows",
    "forget_int8": "Forget rows, int8 weights",
    "forget_int4": "Forget rows, int4 weights",
    "forget_rephrased": "Forget rows, asked in other words",
    "unseen": "Unseen rows",
    "retain": "Retain rows",
    "test": "Test rows",
    "real_authors": "Questions on real authors",
    "world_facts": "Questions on world facts",
    "general": "General texts",
    "own_words": "The model's own words",
}
FORGET_SPLITS = tuple(split for split in SPLITS if split.startswith("forget"))
CHOICE_SPLITS = ("real_authors", "world_facts")  # their questions come with answers to choose from

# ---- what stands for the placeholder of a name -----------------------------------------------------------------------

FINE_TUNES = {"retain": "retain rows", "similar": "similar rows", "real": "some forget rows"}  # of "relearn": on what

TIRUMALA = "Tirumala et al. 2022, Memorization Without Overfitting, arXiv:2205.10770"
TOFU = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs, arXiv:2401.06121"
CARLINI21 = "Carlini et al. 2021, Extracting Training Data from Large Language Models, arXiv:2012.07805"
CARLINI22 = "Carlini et al. 2022, Membership Inference Attacks From First Principles, arXiv:2112.03570"
TRIPPA = "Trippa et al. 2024, arXiv:2403.14339"
MUSE = "Shi et al. 2024, MUSE: Machine Unlearning Six-Way Evaluation for Language Models, arXiv:2407.06460"
SIDDIQUI = "Siddiqui et al. 2025, From Dormant to Deleted, arXiv:2505.22310"
LIN = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries"


@dataclass(frozen=True)
class Score:
    """
    A score of rows by which an attacker tells members (rows that were trained on); the lower, the more likely one.

    Args:
        label: what the report calls it.
        explanation: what the attacker does.
        kinds: kinds of models that have it.
        logistic: whether the logistic-regression attack (`accuracy`) takes it.
        in_name: how it stands in a measure's name, `forget_<in_name>_auc`; also the name of its metric.
        inputs: what the metric is computed from, a key of `hf_unlearn.metrics.inputs.INPUTS`.
    """

    label: str
    explanation: str
    citation: str
    in_name: str
    inputs: str
    kinds: tuple[str, ...] = ("causal_lm",)
    logistic: bool = False


SCORES: dict[str, Score] = {
    "loss": Score(
        "loss",
        "Membership inference by the mean loss of each row.",
        f"Yeom et al. 2018, Privacy Risk in Machine Learning, arXiv:1709.01604; {TRIPPA}",
        "mia_loss",
        "loss_tokens",
        MODEL_KINDS,
        logistic=True,
    ),
    "entropy": Score(
        "entropy",
        "Membership inference by the mean entropy of each row.",
        TRIPPA,
        "mia_entropy",
        "entropy_tokens",
        MODEL_KINDS,
        logistic=True,
    ),
    "zlib": Score(
        "zlib ratio",
        "Membership inference by the mean loss of each row over the compressed size of its text.",
        CARLINI21,
        "mia_zlib",
        "zlib_tokens",
    ),
    "min_k": Score(
        "Min-K%",
        "Min-K%: membership inference by the mean loss of the k % of tokens with the highest loss.",
        "Shi et al. 2024, Detecting Pretraining Data from Large Language Models, arXiv:2310.16789",
        "mia_min_k",
        "k_tokens",
    ),
    "min_k_plus_plus": Score(
        "Min-K%++",
        "Min-K%++: membership inference by minus the mean of the k % lowest z of each row.",
        "Zhang et al. 2024, Min-K%++, arXiv:2404.02936",
        "mia_min_k_plus_plus",
        "z_tokens",
    ),
    "lira": Score(
        "U-LiRA",
        "U-LiRA with few shadow models: was a row unlearned, or never seen?",
        "Hayes et al. 2024, arXiv:2403.01218; Carlini et al. 2022, arXiv:2112.03570",
        "lira",
        "shadows",
        MODEL_KINDS,
    ),
}
SCORE_LABELS = {name: score.label for name, score in SCORES.items()}
PLACEHOLDERS = {"split": ".+", "score": "mia_.+|lira", "rows": ".+"}  # placeholder of a name -> what may stand for it

# ---- measures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """
    One line of the catalogue.

    Args:
        name: in the score card. `{split}` stands for a split, `{score}` for a membership score's `in_name`, `{rows}`
            for what an attacker fine-tunes on.
        label: in tables; its placeholder is filled with the label of what stands for it.
        explanation: what it is, in a sentence.
        unit: of its values; says also how the report writes them.
        section: of the report.
        splits: splits that it is for; (): all.
        kinds: kinds of models that have it.
        good: the better side on rows that the model should know: "low", "high", "" for neither. Of a measure that is
            not of a split, also the value to hope for.
        ideal: the value to hope for on the forget rows where there is no retrained model.
        good_unseen: the better side on unseen rows.
        saw: where models that saw the forget rows are, beside models that never did: "lower", "higher", "" if
            nothing is claimed.
        weak: kind of model -> where the measure tells such models apart in fewer than 90 % of pairs: what stands for
            its placeholder ("" in a name without one). Found by `recipes/tools/faithfulness.py`.
        over: how rows are put together. "rows": mean over the rows of `formula(columns)`, an array (N,). "labels":
            `formula(sums)` of the columns' sums over the rows, so a ratio of sums. "": by the function named.
        formula: function that computes it, "measures.<file>.<name>" or "attacks.<file>.<name>", or the function itself.
        columns: columns of a table that `formula` needs beside the required ones; without them it is left out.
        made_by: "measure" (the model's tables alone), "compare" (with those of a retrained model), "before" (with those
            of the model before the request), "benchmark", or an attack.
        compares: whether it itself compares with the retrained model, so that its noise floor is its value for
            another retrained model.
        metric: its name among the `evaluate.Metric`s; "": that of the measure without placeholder.
        inputs: what the metric is computed from, a key of `hf_unlearn.metrics.inputs.INPUTS`; "": no metric.
    """

    name: str
    label: str
    explanation: str
    unit: str = ""
    section: str = SPLIT
    splits: tuple[str, ...] = ()
    kinds: tuple[str, ...] = MODEL_KINDS
    good: str = ""
    ideal: str = AS_UNSEEN
    good_unseen: str = ""
    saw: str = ""
    weak: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    over: str = ""
    formula: str | Callable[..., Any] = ""
    columns: tuple[str, ...] = ()
    made_by: str = "measure"
    compares: bool = False
    citation: str = ""
    metric: str = ""
    inputs: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` is {value!r}: expected one of {', '.join(map(repr, known))}"
            for name, value, known in (
                ("section", self.section, (SPLIT, *SECTIONS)),
                ("good", self.good, ("low", "high", "", "0", "1 or more")),
                ("saw", self.saw, ("lower", "higher", "")),
                ("over", self.over, ("rows", "labels", "")),
            )
            if value not in known
        ]
        if problems:
            raise ValueError(f"the measure {self.name!r} cannot be listed: {'; '.join(problems)}.")

    @cached_property
    def kind(self) -> str:
        """The name without its placeholder: `loss`, `forget_auc`, `recovery_area`."""
        return re.sub(r"_?\{\w+\}_?", "_", self.name).strip("_")

    @property
    def metric_name(self) -> str:
        """Its name among the `evaluate.Metric`s."""
        return self.metric or self.kind

    @cached_property
    def placeholder(self) -> str:
        """`split`, `score`, `rows`, or "" for a measure that is there once."""
        found = re.search(r"\{(\w+)\}", self.name)
        return found[1] if found else ""

    @property
    def function(self) -> Callable[..., Any]:
        """The function that `formula` names."""
        if callable(self.formula):
            return self.formula
        module, _, name = self.formula.rpartition(".")
        return getattr(import_module(f".{module}", __package__), name)

    def at(self, place: str = "") -> str:
        """The name with its placeholder filled: `forget_loss`."""
        return self.name.replace(f"{{{self.placeholder}}}", place)

    def ideal_at(self, place: str, retrained: bool) -> str:
        """The value to hope for, in a word or two; `retrained`: whether there is a retrained model to look at."""
        if self.section == MEMBERSHIP or (self.section == SPLIT and place in FORGET_SPLITS):
            return AS_RETRAINED if retrained else self.ideal
        return self.good_unseen if self.section == SPLIT and place == "unseen" else self.good
