"""
The measures of the TOFU benchmark (Maini et al. 2024, arXiv 2401.06121): truth ratio, model utility, forget quality.
Arrays only; nothing here runs a model.

What is computed is what the benchmark's published evaluation logs and results bear out, digit by digit. Two
particulars cannot be told from the formula TR = mean_k p(wrong_k) / p(paraphrased), p = exp(-mean NLL of the answer):

* *Model utility* (and the part "Forget Truth Ratio") averages the **probabilities** of the wrong answers, as in the
  formula: `mean="arithmetic"`.
* *Forget quality* averages their **losses**, so it has the geometric mean of the probabilities: `mean="geometric"`.
  With the arithmetic one the benchmark's p-values do not come out (6.0e-23 in place of 1.8e-21 for a model trained
  on everything against one that never saw a tenth of the rows).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = {  # file name in a log -> name of its parts, in the benchmark's order
    "eval_real_author_wo_options.json": "Real Authors",
    "eval_real_world_wo_options.json": "Real World",
    "eval_log.json": "Retain",
    "eval_log_forget.json": "Forget",
}
FORGET = "eval_log_forget.json"
NORMALISED = ("Real Authors", "Real World")  # probability against the wrong answers, not alone
MEANS = ("arithmetic", "geometric")
LOSSES = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss")
ROUGE = "rougeL_recall"
SHOWN = 5  # rows named in an error


# ---- arrays ----------------------------------------------------------------------------------------------------------


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
        raise ValueError(f"`ratio` is below 0 or no number in {_rows(np.flatnonzero(~(ratio >= 0)))}: expected >= 0.")
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
    loss = _vector(loss, "loss")
    if wrong_losses is None:
        return np.exp(-loss)
    wrong, row_of = _ragged(wrong_losses, len(loss), "wrong_losses")
    with np.errstate(over="ignore"):  # an infinite sum is a probability of 0
        return 1.0 / (1.0 + np.bincount(row_of, np.exp(loss[row_of] - wrong), len(loss)))


def forget_quality_of(
    statistic: Sequence[float] | np.ndarray,  # (N,)
    retrained_statistic: Sequence[float] | np.ndarray,  # (M,)
) -> tuple[float, float]:
    """
    Two-sided two-sample Kolmogorov-Smirnov test (`scipy.stats.ks_2samp`) between a statistic of the forget rows under
    a model and under one retrained without them: (p, D). The benchmark's statistic is `truth_ratio(...,
    mean="geometric")` and p its forget quality: 1 where the two cannot be told apart. Source: Maini et al. 2024 (TOFU).

    A high p is evidence only where the test could have seen a difference: with 40 rows each, a D of .3 still has
    p = .054.

    Raises:
        ValueError: no rows, or values that are not finite.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(_vector(statistic, "statistic"), _vector(retrained_statistic, "retrained_statistic"))
    return float(found.pvalue), float(found.statistic)


def utility_of(parts: Mapping[str, float]) -> float:
    """
    Harmonic mean of all `parts` (name -> value, at least 0); 0 if one of them is 0. The benchmark's model utility is
    that of nine: probability, ROUGE-L recall and truth ratio on retain rows, real authors and world facts. Parts of the
    forget rows do not belong in it. Source: Maini et al. 2024 (TOFU).

    Raises:
        ValueError: no parts, or one that is not finite or below 0.
    """
    if not parts:
        raise ValueError("`parts` is empty: expected a dict of name -> value.")
    wrong = {name: value for name, value in parts.items() if not 0 <= value < np.inf}
    if wrong:
        raise ValueError(f"`parts` has {wrong}: expected finite values of at least 0.")
    values = np.array(list(parts.values()), float)
    with np.errstate(divide="ignore", over="ignore"):  # 1/0 and its like are infinite: a mean of 0
        return float(len(values) / np.sum(1.0 / values))


def _log_truth_ratio(paraphrased_loss: Any, perturbed_losses: Any, mean: str) -> np.ndarray:
    if mean not in MEANS:
        raise ValueError(f"`mean` is {mean!r}: expected one of {', '.join(MEANS)}.")
    paraphrased = _vector(paraphrased_loss, "paraphrased_loss")
    perturbed, row_of = _ragged(perturbed_losses, len(paraphrased), "perturbed_losses")
    n, n_wrong = len(paraphrased), np.bincount(row_of)
    if mean == "geometric":
        return paraphrased - np.bincount(row_of, perturbed, n) / n_wrong
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, row_of, perturbed)
    return paraphrased - lowest + np.log(np.bincount(row_of, np.exp(lowest[row_of] - perturbed), n) / n_wrong)


def _vector(values: Any, name: str) -> np.ndarray:
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` is not a list of numbers: expected one number per row.") from None
    if found.ndim != 1 or not len(found):
        raise ValueError(f"`{name}` has the shape {found.shape}: expected (N,), one number per row, N at least 1.")
    if not np.isfinite(found).all():
        raise ValueError(f"`{name}` is not finite in {_rows(np.flatnonzero(~np.isfinite(found)))}.")
    return found


def _ragged(lists: Any, n_rows: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """All values in one line, and the row of each."""
    if len(lists) != n_rows:
        raise ValueError(f"`{name}` has {len(lists)} rows: expected {n_rows}, as many as there are right answers.")
    try:
        rows = [np.asarray(values, float) for values in lists]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` is not a list of lists of numbers: expected one list of losses per row.") from None
    for what, of in (("is not a list", lambda r: r.ndim != 1), ("is empty", lambda r: not len(r))):
        wrong = [i for i, row in enumerate(rows) if of(row)]
        if wrong:
            raise ValueError(f"`{name}` {what} in {_rows(wrong)}: expected one loss for each wrong answer.")
    wrong = [i for i, row in enumerate(rows) if not np.isfinite(row).all()]
    if wrong:
        raise ValueError(f"`{name}` is not finite in {_rows(wrong)}.")
    return np.concatenate(rows), np.repeat(np.arange(n_rows), [len(row) for row in rows])


def _rows(indices: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(str(i) for i in indices[:SHOWN])
    return f"row(s) {shown}{' and more' if len(indices) > SHOWN else ''}"


# ---- evaluation logs -------------------------------------------------------------------------------------------------


def model_utility(logs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float]:
    """
    All parts of the benchmark's model utility, and the utility itself. Source: Maini et al. 2024 (TOFU).

    Args:
        logs: the benchmark's aggregated evaluation log of one model, file name -> column -> row id -> value. Files:
            `eval_log.json` (retain rows), `eval_real_author_wo_options.json`, `eval_real_world_wo_options.json`,
            `eval_log_forget.json`. Columns: `avg_gt_loss` and `avg_paraphrased_loss` (mean NLL in nats per token),
            `average_perturb_loss` (a list of them, of the wrong answers), `rougeL_recall` (in [0, 1]).

    Returns:
        "<split> ROUGE", "<split> Probability", "<split> Truth Ratio" for the splits Real Authors, Real World, Retain,
        Forget, each a mean over rows; and "Model Utility", the harmonic mean of the nine that are not Forget's.
        ROUGE: ROUGE-L recall. Probability: [`answer_probability`], normalised for Real Authors and Real World. Truth
        Ratio: [`truth_ratio_score`] of the arithmetic [`truth_ratio`].

    Raises:
        ValueError: a missing file, column or row; no rows; columns of other row ids; values that are not finite, or out
            of range.
    """
    parts = {}
    for file, name in SPLITS.items():
        found = _columns(logs, file, (*LOSSES, ROUGE), "logs")
        wrong = found["average_perturb_loss"]
        probability = answer_probability(found["avg_gt_loss"], wrong if name in NORMALISED else None)
        score = truth_ratio_score(truth_ratio(found["avg_paraphrased_loss"], wrong), forget=file == FORGET)
        parts[f"{name} ROUGE"] = float(np.mean(found[ROUGE]))
        parts[f"{name} Probability"] = float(probability.mean())
        parts[f"{name} Truth Ratio"] = float(score.mean())
    utility = utility_of({part: value for part, value in parts.items() if not part.startswith("Forget ")})
    return {**parts, "Model Utility": utility}


def forget_quality(
    logs: Mapping[str, Mapping[str, Mapping[str, Any]]],
    retrained_logs: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, float]:
    """
    Forget quality of a model against one retrained without the forget rows: [`forget_quality_of`] their geometric
    [`truth_ratio`]s. Source: Maini et al. 2024 (TOFU).

    Args:
        logs, retrained_logs: evaluation logs as in [`model_utility`]; only `avg_paraphrased_loss` and
            `average_perturb_loss` of `eval_log_forget.json` are read.

    Returns:
        "Forget Quality" and "KS Test PVal Forget" (the same p-value), "KS Test Forget" (the KS distance).

    Raises:
        ValueError: as [`model_utility`]; and if the two logs are not of the same forget rows.
    """
    ratios, ids = [], []
    for log, argument in ((logs, "logs"), (retrained_logs, "retrained_logs")):
        found = _columns(log, FORGET, LOSSES[1:], argument)
        ratios.append(truth_ratio(*(found[column] for column in LOSSES[1:]), mean="geometric"))
        ids.append(set(log[FORGET][LOSSES[1]]))
    if ids[0] != ids[1]:
        only = [sorted(ids[0] - ids[1], key=str), sorted(ids[1] - ids[0], key=str)]
        raise ValueError(
            f"`logs` has {len(ids[0])} rows in {FORGET} and `retrained_logs` {len(ids[1])}, of which {len(only[0])} "
            f"and {len(only[1])} are in one of them only (first: {(only[0] + only[1])[0]!r}). Both models must be "
            "evaluated on the same forget rows; take the logs of the model retrained without them."
        )
    p, distance = forget_quality_of(*ratios)
    return {"Forget Quality": p, "KS Test PVal Forget": p, "KS Test Forget": distance}


def _columns(logs: Any, file: str, wanted: Sequence[str], argument: str) -> dict[str, list]:
    """Columns of one file of a log, all in the row order of the first; checked."""
    if not isinstance(logs, Mapping):
        raise ValueError(f"`{argument}` is a {type(logs).__name__}: expected a dict with the keys {', '.join(SPLITS)}.")
    if not isinstance(logs.get(file), Mapping):
        raise ValueError(f"`{argument}` has no split {file}: its keys are {_some(logs)}. Evaluate the model on it.")
    split, order, found = logs[file], None, {}
    for column in wanted:
        where = f"`{argument}`: {column} of {file}"
        values = split.get(column)
        if not isinstance(values, Mapping):
            raise ValueError(f"{where} is missing, or no dict of row id -> value: the columns are {_some(split)}.")
        if not values:
            raise ValueError(f"{where} has no rows.")
        order = list(values) if order is None else order
        if values.keys() != set(order):
            raise ValueError(
                f"{where} has {len(values)} rows that are not the {len(order)} of {wanted[0]}: "
                "expected the same row ids in all columns of a split."
            )
        for row, value in values.items():
            problem = _problem(value, column)
            if problem:
                raise ValueError(f"{where}, row {row!r}: {problem}.")
        found[column] = [values[row] for row in order]
    return found


def _problem(value: Any, column: str) -> str | None:
    if column == "average_perturb_loss":
        if not isinstance(value, (list, tuple)) or not value:
            return f"{_short(value)} is not a list of losses, one for each wrong answer"
        return next((problem for problem in (_problem(item, "") for item in value) if problem), None)
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"{_short(value)} is not a number"
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond floats
        finite = False
    if not finite:
        return f"{_short(value)} is not finite"
    if column == ROUGE and not 0 <= value <= 1:
        return f"{value} is out of range: expected a recall in [0, 1]"
    if value < 0:
        return f"{value} is below 0: expected a mean NLL in nats"
    return None


def _some(names: Mapping[str, Any]) -> str:
    return f"{_short(list(names), 200)}" if names else "none"


def _short(value: Any, limit: int = 40) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = type(value).__name__
    return shown if len(shown) <= limit else f"{shown[:limit]}…"


def read_logs(path: str | Path) -> dict[str, Any]:
    """
    A benchmark log from a JSON file; its content is checked where it is used.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON in UTF-8, or not an object.
    """
    try:
        logs = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): expected an aggregated evaluation log of TOFU.") from None
    if not isinstance(logs, dict):
        raise ValueError(f"{path} is a JSON {type(logs).__name__}: expected an object with {', '.join(SPLITS)}.")
    return logs
