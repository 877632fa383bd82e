"""
U-LiRA with few shadow models: was a row unlearned from this model, or did the model never see it? Arrays only.

Each shadow model is trained on the data that is kept plus a half of the pool (the forget and the unseen rows) drawn by
[`shadow_plan`], and is then made to unlearn that half. So for every row of the pool some shadows have unlearned it and
the others never saw it, and [`lira`] asks which of the two the audited model's confidence in the row looks like.

Sources: Hayes et al. 2024, arXiv 2403.01218 (U-LiRA: LiRA's test between "unlearned" and "never seen"); Carlini et al.
2022, arXiv 2112.03570 (LiRA: the logit scale, Gaussians per row, one variance for all rows where shadows are few).

Differs from the papers: shadows come in pairs of complementary halves, and a variance for all rows is taken from the
deviations of each row from its own mean.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from .membership import MIA_FPR, membership_inference

if TYPE_CHECKING:
    import pyarrow

VARIANCES = ("auto", "pooled", "per_row")
PER_ROW_FROM = 32  # shadows a side: Carlini et al. 2022, figure 9: below 64 models in all one variance does better
MIN_LOSS = 2.0**-24  # nats: half the spacing of float32 at 1; a mean loss below it says only "below it"
MIN_VARIANCE = 1e-6  # squared logits: shadows that agree to the third decimal do not make a row infinitely certain


def logit_confidence(table: pyarrow.Table) -> np.ndarray:
    """
    Confidence of a model in each row on the logit scale, log(p / (1 - p)), on which it is about normal (Carlini 2022).

    The column `margin` where the table has it (classifiers). Otherwise p = exp(-loss) with the row's mean loss in nats,
    so for a language model p is the geometric mean of the tokens' probabilities. The loss is clamped to at least
    2**-24, so the result to at most 16.6; there is no lower clamp (a loss of 800 gives -800).

    Returns:
        (N,) float64, logits; NaN where the row's loss is.

    Raises:
        ValueError: for a table with neither `margin` nor `nll_sum` and `n_labels`.
    """
    if "margin" in table.column_names:
        return table.column("margin").to_numpy().astype(float)
    if not {"nll_sum", "n_labels"} <= set(table.column_names):
        raise ValueError(
            f"`table` has the columns {table.column_names}: expected `margin`, or `nll_sum` and `n_labels`."
        )
    loss = np.maximum(table.column("nll_sum").to_numpy() / table.column("n_labels").to_numpy(), MIN_LOSS)
    return -loss - np.log(-np.expm1(-loss))


def shadow_plan(n_rows: int, n_shadows: int, seed: int = 0) -> np.ndarray:
    """
    Which rows of the pool each shadow model is trained on and then made to unlearn; the others it never sees.

    Shadows come in pairs, the second with the rows that the first lacks: each row is in exactly half of the
    shadows and their sizes differ by one at most. A function of the arguments alone; the first shadows of a longer plan
    are those of a shorter one, so more can be added to trained ones.

    Args:
        n_rows: N rows in the pool, forget and unseen together; at least 2.
        n_shadows: S shadow models, even and at least 4 (two a side for every row).

    Returns:
        (S, N) bool.

    Raises:
        ValueError: for an odd or too small number of shadows, or fewer than two rows.
    """
    if not (n_shadows >= 4 and n_shadows % 2 == 0):
        raise ValueError(
            f"`n_shadows` is {n_shadows}: expected an even number of at least 4, so that two or more shadow models "
            "have unlearned each row and as many never saw it."
        )
    if not n_rows >= 2:
        raise ValueError(f"`n_rows` is {n_rows}: expected at least 2 rows, forget and unseen together.")
    rng = np.random.default_rng([seed, zlib.crc32(b"shadow_plan")])
    first = np.stack([rng.permutation(n_rows) < n_rows / 2 for _ in range(n_shadows // 2)])  # (S/2, N)
    return np.stack([first, ~first], axis=1).reshape(n_shadows, n_rows)


def lira(
    target: np.ndarray,  # (N,)
    shadows: np.ndarray,  # (S, N)
    unlearned: np.ndarray,  # (S, N) bool
    never: np.ndarray,  # (S, N) bool
    *,
    variance: str = "auto",
) -> np.ndarray:
    """
    Log-likelihood ratio of each row: the higher, the more the row looks unlearned rather than never seen.

    log N(t; mu_u, s_u^2) - log N(t; mu_v, s_v^2), natural logarithm; for each row mu_u is the mean over the shadows
    that have unlearned it, mu_v over those that never saw it. Each side has its own variance, the unbiased one, at
    least 1e-6.

    Args:
        target: confidence of the audited model in each row, from [`logit_confidence`].
        shadows: confidence of each shadow model in each row. What neither mask names is not looked at.
        unlearned: where the shadow was trained on the row and made to unlearn it.
        never: where the shadow never saw the row.
        variance: "per_row": one per row and side; "pooled": one per side, from the deviations of all rows from the
            row's own mean (the spread between rows is no part of it); "auto": "per_row" where every row has 32
            shadows or more on each side, else "pooled" (Carlini et al. 2022, figure 9: below 64 models in all one
            variance for all rows does better).

    Returns:
        (N,) float64.

    Raises:
        ValueError: for shapes that do not fit, masks that are not bool or overlap, a value that is not finite, a row
            with fewer than two shadows on a side, or an unknown `variance`.
    """
    if variance not in VARIANCES:
        raise ValueError(f"`variance` is {variance!r}: expected one of {', '.join(map(repr, VARIANCES))}.")
    target, shadows = np.asarray(target, float), np.asarray(shadows, float)
    if target.ndim != 1 or shadows.ndim != 2 or shadows.shape[1] != len(target):
        raise ValueError(
            f"`target` has the shape {target.shape} and `shadows` {shadows.shape}: expected (N,) and (S, N), one "
            "column per row of the pool."
        )
    sides = {"unlearned": np.asarray(unlearned), "never": np.asarray(never)}
    for name, mask in sides.items():
        if mask.shape != shadows.shape or mask.dtype != bool:
            raise ValueError(f"`{name}` is {mask.dtype} {mask.shape}: expected bool {shadows.shape}, as `shadows`.")
    both = np.argwhere(sides["unlearned"] & sides["never"])
    if len(both):
        raise ValueError(
            f"shadow {both[0][0]} is said to have unlearned row {both[0][1]} and never to have seen it: `unlearned` "
            "and `never` must not overlap."
        )
    _refuse_non_finite("target", target)
    _refuse_non_finite("shadows", np.where(sides["unlearned"] | sides["never"], shadows, 0))
    n_shadows = {name: mask.sum(0) for name, mask in sides.items()}  # (N,)
    for name, n in n_shadows.items():
        few = np.flatnonzero(n < 2)
        if len(few):
            raise ValueError(
                f"row {few[0]} has {n[few[0]]} shadow model(s) in `{name}`, {len(few)} row(s) have fewer than two: "
                "expected two or more on each side for a variance, as `shadow_plan` gives."
            )
    if variance == "auto":
        fewest = min(int(n.min(initial=PER_ROW_FROM)) for n in n_shadows.values())
        variance = "per_row" if fewest >= PER_ROW_FROM else "pooled"

    log_density = {}
    for name, mask in sides.items():
        n = n_shadows[name]
        mean = np.where(mask, shadows, 0).sum(0) / n
        squares = np.where(mask, shadows - mean, 0) ** 2
        spread = squares.sum(0) / (n - 1) if variance == "per_row" else squares.sum() / max(1, (n - 1).sum())
        spread = np.maximum(spread, MIN_VARIANCE)
        log_density[name] = -((target - mean) ** 2) / (2 * spread) - np.log(spread) / 2
    return log_density["unlearned"] - log_density["never"]


def lira_measures(
    target: np.ndarray,  # (N,)
    shadows: np.ndarray,  # (S, N)
    unlearned: np.ndarray,  # (S, N) bool
    never: np.ndarray,  # (S, N) bool
    is_forget: np.ndarray,  # (N,) bool
    *,
    variance: str = "auto",
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, float | int | None]]:
    """
    How well [`lira`] tells the rows that the audited model unlearned from those that it never saw.

    Args:
        target, shadows, unlearned, never, variance: as in [`lira`].
        is_forget: true for the rows that the audited model was trained on and made to unlearn; it never saw the others.
        seed, resamples: of the bootstrap over rows. The shadow models are held fixed: their spread is not in it.

    Returns:
        `auc`, `tpr_at_1fpr`, `tpr_at_01fpr` as from [`membership_inference`], forget rows being the members.

    Raises:
        ValueError: as [`lira`], or for an `is_forget` that is not bool (N,).
    """
    ratio = lira(target, shadows, unlearned, never, variance=variance)
    is_forget = np.asarray(is_forget)
    if is_forget.shape != ratio.shape or is_forget.dtype != bool:
        raise ValueError(
            f"`is_forget` is {is_forget.dtype} {is_forget.shape}: expected bool {ratio.shape}, as `target`."
        )
    return membership_inference(
        -ratio[is_forget], -ratio[~is_forget], measures=("auc", *MIA_FPR), seed=seed, resamples=resamples
    )


def _refuse_non_finite(name: str, values: np.ndarray) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise ValueError(
            f"`{name}` has {len(wrong)} value(s) that are not finite, the first {values[at]} at {at}: the model "
            "diverged. Leave it out, or train it again."
        )
