"""The TOFU benchmark's own evaluation logs: read, checked, and made into its measures (Maini et al. 2024)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from .forget_quality import forget_quality_of
from .truth_ratio import answer_probability, truth_ratio, truth_ratio_score
from .utility import utility_of

SPLITS = {  # file name in a log -> name of its parts, in the benchmark's order
    "eval_real_author_wo_options.json": "Real Authors",
    "eval_real_world_wo_options.json": "Real World",
    "eval_log.json": "Retain",
    "eval_log_forget.json": "Forget",
}
FORGET = "eval_log_forget.json"
NORMALISED = ("Real Authors", "Real World")  # probability against the wrong answers, not alone
LOSSES = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss")
ROUGE = "rougeL_recall"


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
