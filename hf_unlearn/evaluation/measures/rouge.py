"""ROUGE: how much of a text comes again in another, by the words that they share (the `rouge_score` library)."""

from __future__ import annotations

import functools
import math

KINDS = ("f1", "recall")


def rouge_recall(prediction: str, reference: str, *, stemming: bool = True) -> dict[str, float]:
    """
    ROUGE-1 and ROUGE-L recall of a text: the share of the words of `reference` that `prediction` has, in any order
    (each as often as it has it), and in order (longest common subsequence). Source: Lin 2004, "ROUGE: A Package for
    Automatic Evaluation of Summaries"; computed by the `rouge_score` library, with Porter's stemmer as in the TOFU
    benchmark (Maini et al. 2024, arXiv 2401.06121).

    A word is a run of the letters a-z and digits after lower-casing; all else separates words. So both are nan
    (the library's 0 would read as "forgotten") where `reference` has no such word: an empty one, or another script.

    Returns:
        `rouge1_recall` and `rougeL_recall`, in [0, 1] or nan.

    Raises:
        ValueError: if `prediction` or `reference` is not a string.
    """
    found = _scores(prediction, reference, stemming)
    if found is None:
        return {"rouge1_recall": math.nan, "rougeL_recall": math.nan}
    return {"rouge1_recall": float(found["rouge1"].recall), "rougeL_recall": float(found["rougeL"].recall)}


def rouge_l(prediction: str, reference: str, *, kind: str = "f1", stemming: bool = False) -> float:
    """
    ROUGE-L of a text. With C the length of the longest common subsequence of words: recall C / words of `reference`,
    precision C / words of `prediction`, and F1 their harmonic mean. The defaults, F1 without a stemmer, are those of
    MUSE (Shi et al. 2024, arXiv 2407.06460), recall with Porter's stemmer is TOFU's ([`rouge_recall`], also on what a
    word is).

    Args:
        kind: "f1" or "recall".
        stemming: compare words by their stems.

    Returns:
        A share in [0, 1], or nan where `reference` has no word.

    Raises:
        ValueError: if `prediction` or `reference` is not a string, or `kind` is another.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    found = _scores(prediction, reference, stemming)
    if found is None:
        return math.nan
    return float(found["rougeL"].fmeasure if kind == "f1" else found["rougeL"].recall)


def _scores(prediction: str, reference: str, stemming: bool):
    """ROUGE-1 and ROUGE-L of the library; None where the reference has no word."""
    for name, text in (("prediction", prediction), ("reference", reference)):
        if not isinstance(text, str):
            raise ValueError(f"`{name}` is a {type(text).__name__}: expected a string.")
    from rouge_score import tokenize

    return _scorer(bool(stemming)).score(reference, prediction) if tokenize.tokenize(reference, None) else None


@functools.lru_cache
def _scorer(stemming: bool):
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=stemming)
