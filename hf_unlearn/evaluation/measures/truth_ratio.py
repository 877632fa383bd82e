"""
Truth ratio: how likely wrong answers to a question are beside the right one (Maini et al. 2024, arXiv 2401.06121).

TR = mean_k p(wrong_k) / p(paraphrased), p = exp(-mean NLL of the answer). A model that never saw a row has no reason to
prefer either answer. Which mean the benchmark takes cannot be told from the formula; its published logs bear out, digit
by digit:

* *Model utility* (and the part "Forget Truth Ratio") averages the **probabilities** of the wrong answers, as in the
  formula: `mean="arithmetic"`.
* *Forget quality* averages their **losses**, so it has the geometric mean of the probabilities: `mean="geometric"`.
  With the arithmetic one the benchmark's p-values do not come out (6.0e-23 in place of 1.8e-21 for a model trained
  on everything against one that never saw a tenth of the rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..catalogue import CHOICE_SPLITS
from .arrays import ragged, rows_named, vector

MEANS = ("arithmetic", "geometric")
ANSWERS = ("_paraphrased", "_perturbed")  # ends of splits of other answers to the rows of a split


def truth_ratio(
    paraphrased_loss: Sequence[float] | np.ndarray,  # (N,)
    perturbed_losses: Sequence[Sequence[float]] | np.ndarray,  # (N, K) or N lists of any lengths
    *,
    mean: str = "arithmetic",
) -> np.ndarray:
    """
    Truth ratio of each row: how likely wrong answers are beside a right one. Source: Maini et al. 2024 (TOFU).

        arithmetic   TR_i = mean_k exp(-perturbed_ik) / exp(-paraphrased_i)
        geometric    TR_i = exp(-mean_k perturbed_ik) / exp(-paraphrased_i)

    Near 0: the right answer is known. 1: none is preferred. Above 1: a wrong answer is preferred. The benchmark uses
    the arithmetic mean within model utility and the geometric one for forget quality (see the module). Computed from
    differences of losses, so that losses too high for `exp` still have their ratio.

    Args:
        paraphrased_loss: (N,) mean NLL in nats per labelled token of the right answer in other words.
        perturbed_losses: mean NLL of each wrong answer; rows may have different numbers of them.
        mean: "arithmetic" or "geometric".

    Returns:
        (N,) float64, at least 0 and finite (at most the largest float64).

    Raises:
        ValueError: no rows, a row without wrong answers, other numbers of rows, values that are not finite, an
            unknown `mean`.
    """
    return np.exp(np.minimum(_log_truth_ratio(paraphrased_loss, perturbed_losses, mean), np.log(np.finfo(float).max)))


def _log_truth_ratio(paraphrased_loss: Any, perturbed_losses: Any, mean: str) -> np.ndarray:
    if mean not in MEANS:
        raise ValueError(f"`mean` is {mean!r}: expected one of {', '.join(MEANS)}.")
    paraphrased = vector(paraphrased_loss, "paraphrased_loss")
    perturbed, row_of = ragged(perturbed_losses, len(paraphrased), "perturbed_losses")
    n, n_wrong = len(paraphrased), np.bincount(row_of)
    if mean == "geometric":
        return paraphrased - np.bincount(row_of, perturbed, n) / n_wrong
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, row_of, perturbed)
    return paraphrased - lowest + np.log(np.bincount(row_of, np.exp(lowest[row_of] - perturbed), n) / n_wrong)


def truth_ratio_score(ratio: Sequence[float] | np.ndarray, *, forget: bool) -> np.ndarray:
    """
    What the benchmark averages of truth ratios (N,) -> (N,), each in [0, 1]: on forget rows min(TR, 1/TR), 1 where
    right and wrong answers are equally likely; elsewhere max(0, 1 - TR), 1 where the right answer is known.
    Source: Maini et al. 2024 (TOFU).

    Raises:
        ValueError: no rows, or ratios that are not numbers or below 0.
    """
    ratio = np.asarray(ratio, float)
    if ratio.ndim != 1 or not len(ratio):
        raise ValueError(f"`ratio` has the shape {ratio.shape}: expected (N,) truth ratios, N at least 1.")
    if not (ratio >= 0).all():
        raise ValueError(
            f"`ratio` is below 0 or no number in {rows_named(np.flatnonzero(~(ratio >= 0)))}: expected >= 0."
        )
    if not forget:
        return np.maximum(0.0, 1.0 - ratio)
    with np.errstate(divide="ignore"):
        return np.minimum(ratio, 1.0 / ratio)


def answer_probability(
    loss: Sequence[float] | np.ndarray,  # (N,)
    wrong_losses: Sequence[Sequence[float]] | np.ndarray | None = None,  # (N, K) or N lists
) -> np.ndarray:
    """
    Probability of each answer per token, p = exp(-loss), (N,) in [0, 1]; with `wrong_losses` it is normalised over the
    choices, p / (p + sum_k p_wrong_k), as the benchmark does for real authors and world facts.
    Source: Maini et al. 2024 (TOFU). Losses are mean NLLs in nats per labelled token.

    Raises:
        ValueError: as [`truth_ratio`].
    """
    loss = vector(loss, "loss")
    if wrong_losses is None:
        return np.exp(-loss)
    wrong, row_of = ragged(wrong_losses, len(loss), "wrong_losses")
    with np.errstate(over="ignore"):  # an infinite sum is a probability of 0
        return 1.0 / (1.0 + np.bincount(row_of, np.exp(loss[row_of] - wrong), len(loss)))


def answers(columns: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """
    Statistics of the rows that have other answers, from columns of `<split>_perturbed` and `<split>_paraphrased`.

    Per row that has wrong answers, for each split with such: `ratio` (of truth, over the geometric mean of the wrong
    answers' probabilities, as the benchmark's forget quality has it), `truth_ratio` (what its utility averages, over
    the arithmetic mean), and for the splits with answers to choose from `prob`.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for split, c in columns.items():
        if f"{split}_perturbed" not in columns:
            continue
        n = len(c["row"])
        wrong = _grouped(columns[f"{split}_perturbed"], n, f"{split}_perturbed")
        rows = sorted(wrong)
        right = c["nll_sum"] / c["n_labels"]
        paraphrased = right[rows]
        if f"{split}_paraphrased" in columns:
            other = _grouped(columns[f"{split}_paraphrased"], n, f"{split}_paraphrased")
            if without := [row for row in rows if row not in other]:
                raise ValueError(
                    f"split `{split}_paraphrased` has no answer to row {without[0]}, `{split}_perturbed` has one: both "
                    "must answer the same rows."
                )
            paraphrased = np.array([other[row].mean() for row in rows])
        answers = [wrong[row] for row in rows]
        if not (np.isfinite(paraphrased).all() and all(np.isfinite(a).all() for a in answers)):  # a run that diverged
            broken = np.full(len(rows), np.nan)
            found[split] = {"truth_ratio": broken, **({"prob": broken} if split in CHOICE_SPLITS else {})}
            continue
        found[split] = {
            "ratio": truth_ratio(paraphrased, answers, mean="geometric"),
            "truth_ratio": truth_ratio_score(truth_ratio(paraphrased, answers), forget=split == "forget"),
        }
        if split in CHOICE_SPLITS:
            found[split]["prob"] = answer_probability(right[rows], answers)
    return found


def _grouped(c: Mapping[str, np.ndarray], n: int, split: str) -> dict[int, np.ndarray]:
    """Mean losses (nats) of a table of answers, by the row that they answer."""
    loss = c["nll_sum"] / c["n_labels"]
    if "group" not in c:
        if len(loss) != n:
            raise ValueError(
                f"split `{split}` has {len(loss)} rows for {n} and no column `group`: add one with the number of the "
                "row that each answers."
            )
        return {i: loss[i : i + 1] for i in range(n)}
    beyond = [int(group) for group in c["group"] if not 0 <= group < n]
    if beyond:
        raise ValueError(
            f"split `{split}` answers row {beyond[0]}, but there are {n} rows: `group` must hold row numbers."
        )
    return {int(group): loss[c["group"] == group] for group in np.unique(c["group"])}
