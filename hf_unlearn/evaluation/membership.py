"""Membership inference: can rows that were trained on be told from rows that were not? Arrays only."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from .statistics import chunks, counts, summary

MIA_SCORES = ("loss", "entropy")
MIA_MEASURES = ("auc", "tpr_at_1fpr", "accuracy")
MIA_FPR = 0.01  # the false-positive rate of `tpr_at_1fpr`
MIA_FOLDS = 10  # stratified splits of the logistic-regression attack, as in the source


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

    Returns:
        `auc`, `tpr_at_1fpr`, `accuracy` (those asked for) -> `{"value", "low", "high", "n"}`; n = M + N, for
        `accuracy` twice the smaller side. All values are `None` if a score is not finite.
    """
    measures = set(measures)
    members, others = np.asarray(members, float), np.asarray(others, float)
    m, n = len(members), len(others)
    if not (np.isfinite(members).all() and np.isfinite(others).all()) or not (m and n):
        return {k: summary(None, None, m + n) for k in MIA_MEASURES if k in measures}
    rng = np.random.default_rng([seed, zlib.crc32(b"membership")])
    found = {}

    if measures & {"auc", "tpr_at_1fpr"}:
        values, position = np.unique(np.concatenate([members, others]), return_inverse=True)
        position = position.reshape(-1)
        width = len(values)

        def roc(at_members: np.ndarray, at_others: np.ndarray) -> np.ndarray:  # -> (2, R)
            hits, alarms = counts(at_members, width), counts(at_others, width)
            below = alarms.cumsum(1)  # others at or below this score: the false positives of a threshold here
            auc = 1 - np.einsum("rw,rw->r", hits, 2 * below - alarms) / (2 * m * n)  # ties count half
            return np.stack([auc, hits.sum(1, where=below / n <= MIA_FPR) / m])

        at_members, at_others = position[:m], position[m:]
        value = roc(at_members[None], at_others[None])[:, 0]
        draws = None
        if min(m, n) >= 2:
            draws = np.concatenate(
                [
                    roc(at_members[rng.integers(m, size=(size, m))], at_others[rng.integers(n, size=(size, n))])
                    for size in chunks(m + n, resamples)
                ],
                axis=1,
            )
        for i, kind in enumerate(("auc", "tpr_at_1fpr")):
            if kind in measures:
                found[kind] = summary(value[i], None if draws is None else draws[i], m + n)

    if "accuracy" in measures:
        found["accuracy"] = _attack_accuracy(members, others, seed, resamples)
    return found


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
