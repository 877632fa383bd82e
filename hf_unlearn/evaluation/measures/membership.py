"""
Membership inference: can rows that were trained on be told from rows that were not? Arrays only.

Scores of rows ([`scores`]), how well a score tells members from others ([`membership_inference`]), and how much better
than under a retrained model ([`compare_membership`]). The intervals are bootstrap intervals over the rows of both sides
(`intervals.resampled_sides`). Differs from the papers: differences come with what so few rows could have shown
(`detectable`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalogue import of_score
from ..intervals import chunks, counts, finite, resampled_sides, summary

if TYPE_CHECKING:
    import pyarrow

MIA_FPR = {"tpr_at_1fpr": 0.01, "tpr_at_01fpr": 0.001}  # the false-positive rates of the measures of this name
GAPS = ("auc_gap", "privleak", "rel_diff")  # of a model's AUC to the retrained one's
MIA_MEASURES = tuple(m.kind.removeprefix("forget_") for m in of_score("loss", "causal_lm"))
PRIVLEAK_K = 40  # per cent of the tokens that Min-K% takes for `privleak`, as in MUSE
MIA_FOLDS = 10  # stratified splits of the logistic-regression attack, as in the source


def scores(table: pyarrow.Table, *, k: float = 20) -> dict[str, np.ndarray]:
    """
    Membership scores of each row of a table of [`collect`], the *lower* the more likely a member.

    `loss` (Yeom et al. 2018) and `entropy`: mean over the labelled positions, nats. `zlib` (Carlini et al. 2021, arXiv
    2012.07805): mean loss over the compressed size of the text, nats per byte, as in the authors' code and in MUSE (the
    *sum* over it is another score, which sees the length of a row). `min_k` (Shi et al. 2024, arXiv
    2310.16789): mean loss of the k % of tokens with the highest loss, nats. `min_k_plus_plus` (Zhang et al. 2024, arXiv
    2404.02936): minus the mean of the k % lowest z = (log p - mean log p) / deviation over the vocabulary, no unit. k %
    of T tokens are floor(T k / 100), as in both sources, but at least one.

    Args:
        table: N rows; scores whose columns it lacks are left out.
        k: per cent of the tokens, in (0, 100].

    Returns:
        name -> (N,) float64, in the order above. A row that holds a NaN has the score NaN.

    Raises:
        ValueError: for `k` outside (0, 100], a table with the columns of no score, `zlib_bytes` below 1, or a row whose
            tokens are not as many as its labels.
    """
    if not 0 < k <= 100:
        raise ValueError(f"`k` is {k}: expected per cent of the tokens, above 0 and at most 100.")
    needs = {
        "loss": ("nll_sum", "n_labels"),
        "entropy": ("entropy_sum", "n_labels"),
        "zlib": ("nll_sum", "n_labels", "zlib_bytes"),
        "min_k": ("token_nll", "n_labels"),
        "min_k_plus_plus": ("token_z", "n_labels"),
    }
    available = [name for name, columns in needs.items() if set(columns) <= set(table.column_names)]
    if not available:
        raise ValueError(
            f"`table` has the columns {table.column_names}: expected those of a score, at least `nll_sum` and "
            "`n_labels`."
        )

    def column(name: str) -> np.ndarray:
        return table.column(name).to_numpy().astype(float)

    if "zlib" in available and not (column("zlib_bytes") >= 1).all():
        raise ValueError("`zlib_bytes` has values below 1 or none: expected the compressed size of each row's text.")
    formulas: dict[str, Callable[[], np.ndarray]] = {
        "loss": lambda: column("nll_sum") / column("n_labels"),
        "entropy": lambda: column("entropy_sum") / column("n_labels"),
        "zlib": lambda: column("nll_sum") / column("n_labels") / column("zlib_bytes"),
        "min_k": lambda: _mean_of_largest(table, "token_nll", 1, k),
        "min_k_plus_plus": lambda: _mean_of_largest(table, "token_z", -1, k),
    }
    return {name: formulas[name]() for name in available}


def _mean_of_largest(table: pyarrow.Table, name: str, sign: int, k: float) -> np.ndarray:
    """(N,) mean of the k % largest of sign * tokens of each row."""
    import pyarrow.compute as pc

    tokens = table.column(name)
    lengths = pc.fill_null(pc.list_value_length(tokens), 0).to_numpy()
    wrong = np.flatnonzero((lengths != table.column("n_labels").to_numpy()) | (lengths < 1))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            f"`{name}` has {lengths[i]} values in row {i}, `n_labels` says {table.column('n_labels')[i]}: the table "
            "was cut or put together wrongly. Collect it again."
        )
    if not len(lengths):
        return np.zeros(0)
    values = sign * pc.list_flatten(tokens).to_numpy().astype(float)
    row = np.repeat(np.arange(len(lengths)), lengths)
    start = np.cumsum(lengths) - lengths
    values = values[np.lexsort((-values, row))]  # per row from the largest down; NaN is last
    taken = np.maximum(1, np.floor(lengths * k / 100)).astype(int)
    left_out = np.arange(len(values)) - start[row] >= taken[row]
    values[left_out & ~np.isnan(values)] = 0  # a NaN anywhere stays the row's
    return np.add.reduceat(values, start) / taken


def membership_inference(
    members: np.ndarray,  # (M,)
    others: np.ndarray,  # (N,)
    *,
    measures: Iterable[str] = MIA_MEASURES,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, float | int | None]]:
    """
    How well a score tells members from others, the *lower* score being the member's. Definitions in [`measure`].

    `tpr_at_01fpr` is `tpr_at_1fpr` at a false-positive rate of at most .1 % (Carlini et al. 2022, arXiv 2112.03570).
    N others can show no false-positive rate between 0 and 1/N, which both give as `resolution`. So with fewer than 100
    others `tpr_at_1fpr` is the share of members below *every* other row, without any false positive; with fewer than
    1000 the same holds for `tpr_at_01fpr`.

    Returns:
        `auc`, `tpr_at_1fpr`, `tpr_at_01fpr`, `accuracy` (those asked for) -> `{"value", "low", "high", "n"}`, and
        `resolution` for the two in the middle (`None` without others); n = M + N, for `accuracy` twice the smaller
        side. All values are `None` if a score is not finite.
    """
    measures = set(measures)
    members, others = np.asarray(members, float), np.asarray(others, float)
    m, n = len(members), len(others)
    resolution = {kind: {"resolution": 1 / n if n else None} for kind in MIA_FPR}
    if not (np.isfinite(members).all() and np.isfinite(others).all()) or not (m and n):
        return {k: summary(None, None, m + n) | resolution.get(k, {}) for k in MIA_MEASURES if k in measures}
    found = {}

    kinds = ("auc", *MIA_FPR)
    if measures & set(kinds):
        roc = _roc(members, others)
        value = roc(np.arange(m)[None], np.arange(n)[None])[:, 0]
        draws = resampled_sides(roc, m, n, seed, resamples)
        for i, kind in enumerate(kinds):
            if kind in measures:
                found[kind] = summary(value[i], None if draws is None else draws[i], m + n) | resolution.get(kind, {})

    if "accuracy" in measures:
        found["accuracy"] = _attack_accuracy(members, others, seed, resamples)
    return found


def turned(auc: Mapping[str, Any]) -> dict[str, Any]:
    """
    The AUC with the others as the positives, 1 - AUC, with its interval: as MUSE counts it (Shi et al. 2024), so near 0
    where members are found, and above .5 where they stand out as deleted.
    """
    ends = {"value": auc["value"], "low": auc["high"], "high": auc["low"]}
    return {**auc, **{name: None if end is None else 1 - end for name, end in ends.items()}}


def compare_membership(
    members: np.ndarray,  # (M,)
    others: np.ndarray,  # (N,)
    reference_members: np.ndarray,  # (M,)
    reference_others: np.ndarray,  # (N,)
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, float | int | None]]:
    """
    How much better members are told from others by one model's scores than by those of a retrained model.

    With A the AUC of [`membership_inference`], `auc_gap` is A - A_retrained and `rel_diff` 100 (A - A_retrained) /
    A_retrained: above 0 the model leaks more than the retrained one, below 0 it over-forgot. `privleak` is that of Shi
    et al. 2024 (MUSE, arXiv 2407.06460), who turn the AUC round: 100 (A' - A'_retrained) / A'_retrained with
    A' = 1 - A, so about -100 where nothing was unlearned, and above 0 where the rows stand out as deleted. Their figure
    is by Min-K% of 40 % of the tokens; [`compare`] takes PRIVLEAK_K for it.

    Intervals are those of [`membership_inference`], over the same resamples for equal sizes and seeds, and *paired*:
    each resample takes the same rows of both models, so what both models find easy cancels. The models are held fixed.

    Args:
        members, others: scores, the lower the more likely a member.
        reference_members, reference_others: of the same rows, in the same order, under the retrained model.
        seed, resamples: of the bootstrap.

    Returns:
        `auc_gap`, `privleak` and `rel_diff` (per cent) -> `{"value", "low", "high", "n", "detectable"}`; n = M + N.
        `detectable` is half the width of the interval: about the smallest difference from 0 that samples of this size
        could show at 95 %. It is `None` without an interval, and where the interval has no width (a model against
        itself; members and others fully separated under both models). Values are `None` if a score is not finite or a
        side is empty, that of a ratio also if its base is 0 (A_retrained of 1, or of 0).

    Raises:
        ValueError: if the two models' scores are not of equally many rows, or `resamples` is below 1.
    """
    arrays = [np.asarray(a, float) for a in (members, others, reference_members, reference_others)]
    for name, mine, theirs in (("members", *arrays[::2]), ("others", *arrays[1::2])):
        if mine.ndim != 1 or mine.shape != theirs.shape:
            raise ValueError(
                f"`{name}` has the shape {mine.shape} and `reference_{name}` {theirs.shape}: expected one score per "
                "row and the same rows, in the same order, under both models."
            )
    m, n = len(arrays[0]), len(arrays[1])
    if not (m and n and all(np.isfinite(a).all() for a in arrays)):
        return {k: {**summary(None, None, m + n), "detectable": None} for k in GAPS}
    rocs = _roc(arrays[0], arrays[1]), _roc(arrays[2], arrays[3])

    def gaps(at_members: np.ndarray, at_others: np.ndarray) -> np.ndarray:  # -> (3, R)
        auc, reference = (roc(at_members, at_others)[0] for roc in rocs)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = auc - reference
            return np.stack([gap, 100 * (reference - auc) / (1 - reference), 100 * gap / reference])

    value = gaps(np.arange(m)[None], np.arange(n)[None])[:, 0]
    draws = resampled_sides(gaps, m, n, seed, resamples)
    found = {}
    for i, kind in enumerate(GAPS):
        measured = summary(finite(value[i]), None if draws is None else draws[i], m + n)
        width = 0 if measured["low"] is None else measured["high"] - measured["low"]
        found[kind] = {**measured, "detectable": width / 2 if width > 0 else None}
    return found


def _roc(members: np.ndarray, others: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """-> function of (R, M) rows of members and (R, N) rows of others: (3, R) AUC and the TPR at each MIA_FPR."""
    m, n = len(members), len(others)
    values, position = np.unique(np.concatenate([members, others]), return_inverse=True)
    position = position.reshape(-1)
    width = len(values)

    def roc(at_members: np.ndarray, at_others: np.ndarray) -> np.ndarray:
        hits, alarms = counts(position[:m][at_members], width), counts(position[m:][at_others], width)
        below = alarms.cumsum(1)  # others at or below this score: the false positives of a threshold here
        auc = 1 - np.einsum("rw,rw->r", hits, 2 * below - alarms) / (2 * m * n)  # ties count half
        return np.stack([auc, *(hits.sum(1, where=below / n <= fpr) / m for fpr in MIA_FPR.values())])

    return roc


def _attack_accuracy(members: np.ndarray, others: np.ndarray, seed: int, resamples: int) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    side = min(len(members), len(others))
    if side < 2:
        return summary(None, None, 2 * side)
    rng = np.random.default_rng([seed, zlib.crc32(b"attack")])
    scores = np.concatenate([part[np.sort(rng.permutation(len(part))[:side])] for part in (members, others)])[:, None]
    truth = np.repeat([1, 0], side)
    right = np.zeros(2 * side)
    folds = StratifiedKFold(min(MIA_FOLDS, side), shuffle=True, random_state=int(rng.integers(2**31)))
    for train, held_out in folds.split(scores, truth):
        attack = LogisticRegression(max_iter=1000).fit(scores[train], truth[train])
        right[held_out] = attack.predict(scores[held_out]) == truth[held_out]
    sides = right[:side], right[side:]
    draws = [
        sum(part[rng.integers(side, size=(size, side))].mean(1) for part in sides) / 2
        for size in chunks(2 * side, resamples)
    ]
    return summary(right.mean(), np.concatenate(draws), 2 * side)
