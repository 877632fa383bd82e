"""Multiple choice by likelihood: which of several answers a language model finds the most likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def answered_right(loglikelihoods: Sequence[Sequence[float]], answers: Sequence[int]) -> np.ndarray:
    """
    (N,) 1.0 where the right choice has the largest log-likelihood, else 0.0; of choices that are equally likely the
    first counts as the model's. The mean is `acc` of EleutherAI's lm-evaluation-harness (Gao et al.), by which WMDP (Li
    et al. 2024, arXiv 2403.03218) and MMLU (Hendrycks et al. 2021, arXiv 2009.03300) are reported.

    Args:
        loglikelihoods: for each of N questions one number for each of its choices: the sum of the log-probabilities
            of the choice's tokens behind the question, nats.
        answers: (N,) number of the right choice, from 0.

    Raises:
        ValueError: if the two are not of equally many questions, or an answer is none of the choices.
    """
    if len(loglikelihoods) != len(answers):
        raise ValueError(
            f"`loglikelihoods` are of {len(loglikelihoods)} questions and `answers` of {len(answers)}: expected one "
            "answer for each question."
        )
    wrong = [i for i, (own, right) in enumerate(zip(loglikelihoods, answers, strict=True)) if not 0 <= right < len(own)]
    if wrong:
        i = wrong[0]
        raise ValueError(f"`answers` is {answers[i]} for question {i}, which has {len(loglikelihoods[i])} choices.")
    return np.array([np.argmax(own) == right for own, right in zip(loglikelihoods, answers, strict=True)], float)
