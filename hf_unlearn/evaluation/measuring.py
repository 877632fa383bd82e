"""From tables of per-row statistics to measures with intervals, by the lines of the catalogue: arithmetic, no model."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import catalogue
from .general_measures import GENERAL_RATIO, split_in
from .intervals import chunks, counts, mean_measure, ratio_measure, summary
from .measures.forget_quality import forget_quality_measure
from .measures.losses import answered_right
from .measures.membership import PRIVLEAK_K, compare_membership, membership_inference, scores
from .measures.truth_ratio import ANSWERS, answers
from .measures.utility import PARTS, utility_measure
from .measures.utility import SPLITS as UTILITY_SPLITS
from .tables import columns_of, is_causal_lm

if TYPE_CHECKING:
    import pyarrow

Found = dict[str, dict[str, Any]]  # name -> {"value", "low", "high", "n", ...}
POOLED = ("nll_sum", "n_labels", "n_correct")  # columns whose sums over the rows a formula over labels takes


def measure(
    tables: Mapping[str, pyarrow.Table],
    *,
    generations: Mapping[str, pyarrow.Table] | None = None,
    measures: Iterable[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    causal_lm: bool | None = None,
) -> Found:
    """
    All measures of one model from its row tables, each with a bootstrap interval, by the lines of the catalogue.

    Per split: `<split>_loss` (nats per label: ratio of sums over the rows), `<split>_prob` (mean over rows of
    exp(-mean loss of the row)); for classifiers `<split>_accuracy` (of rows with several labels those told right in
    every label, and beside it `<split>_f1` and `<split>_label_accuracy`); for language models `<split>_token_accuracy`
    (pooled over labelled positions), `<split>_exact_memorisation` (mean over rows of the share of positions whose
    argmax is the label; Tirumala et al. 2022), `<split>_exact_match` (share of rows with every position right),
    `<split>_extraction_strength` (Carlini et al. 2021: mean over rows of 1 - k/T, where k of the T labels must be
    given so that all others come by argmax; 0 when nothing does) and `<split>_perplexity` (exp of the loss).

    Where a split `<split>_perturbed` holds wrong answers to its rows (column `group`: the row), and perhaps
    `<split>_paraphrased` the right one in other words: `<split>_truth_ratio` (Maini et al. 2024, arXiv:2401.06121),
    for forget rows mean(min(r, 1/r)), elsewhere mean(max(0, 1 - r)). With `generations` `<split>_rougeL_recall`. With
    all of these for the splits among retain, real_authors and world_facts, `model_utility`, their harmonic mean.

    With the splits `forget` and `unseen`, membership inference by the scores of [`membership.scores`], the lower the
    more likely a member (forget rows are the members): `forget_mia_<score>_auc` (Mann-Whitney, ties count half),
    `forget_mia_<score>_tpr_at_1fpr` and `_tpr_at_01fpr` (largest true-positive rate at a false-positive rate of at
    most 1 % and .1 %, not interpolated; with fewer than 100 or 1000 unseen rows this means no false positive at all),
    and for loss and entropy `_accuracy` (the attack of Trippa et al. 2024: logistic regression on the one raw feature,
    as many unseen as forget rows, 10 stratified folds, share of rows guessed right out of fold).

    Intervals are the 2.5 % and 97.5 % percentiles of `resamples` bootstrap resamples of the rows, drawn by `seed`;
    forget and unseen rows are resampled separately. They hold the model fixed: the spread over training seeds is not
    in them. The interval of `_mia_*_accuracy` resamples the out-of-fold guesses and does not refit the attack.

    Args:
        tables: split name -> table of [`collect`].
        generations: split name -> table of [`generate`].
        measures: names to keep; `None` keeps all.
        seed: seed of the resampling and of the attack's folds. Equal seeds resample equal rows, whatever the model.
        resamples: bootstrap resamples.
        causal_lm: whether the rows are those of a language model; `None`: as the tables say, else they are unless
            every row of every table has exactly one label.

    Returns:
        name -> `{"value", "low", "high", "n"}`; n is the number of rows used. `low` and `high` are `None` where a side
        has fewer than two rows; `value` also where it is not a finite number (a diverged model, an overflowing
        perplexity) or cannot be computed (the attack with fewer than two rows on a side). Measures that need columns
        which the tables do not have are left out.

    Raises:
        ValueError: for a table without the columns of [`collect`] or without rows, for an unknown measure (listing
            those that exist), for answers that belong to no row, or `resamples` below 1.
    """
    if not resamples >= 1:
        raise ValueError(f"`resamples` is {resamples}: expected an integer of at least 1.")
    columns = {split: columns_of(table, split) for split, table in tables.items()}
    if causal_lm is None:
        causal_lm = is_causal_lm(tables)
    kind = "causal_lm" if causal_lm else "classifier"
    known = measure_names(columns, causal_lm=causal_lm)
    asked = wanted_of(measures, known)
    wanted = asked
    if "model_utility" in asked:
        wanted = wanted | {f"{split}_{part}" for split in UTILITY_SPLITS for part in PARTS}

    found = _of_splits(columns, kind, wanted, seed, resamples)
    for split, table in (generations or {}).items():
        if f"{split}_rougeL_recall" in wanted:
            recall = table["rougeL_recall"].to_numpy()
            recall = recall[~np.isnan(recall)]  # nan: a reference without a word that ROUGE knows
            found[f"{split}_rougeL_recall"] = mean_measure(recall, f"{split} generations", seed, resamples)
    found |= _of_membership(tables, kind, wanted, seed, resamples)
    if "model_utility" in wanted:
        utility = utility_measure(found, columns)
        if utility:
            found["model_utility"] = utility
    return {name: found[name] for name in known if name in found and name in asked}


def measure_names(splits: Iterable[str], *, causal_lm: bool) -> list[str]:
    """Names of the measures that [`measure`] may compute for these splits, in the order of the catalogue."""
    splits = [split for split in splits if not split.endswith(ANSWERS)]
    kind = "causal_lm" if causal_lm else "classifier"
    names = [m.at(split) for split in splits for m in catalogue.of_split(split, kind)]
    if {"forget", "unseen"} <= set(splits):
        names += [
            m.at(score.in_name) for name, score in catalogue.SCORES.items() for m in catalogue.of_score(name, kind)
        ]
    alone = [m for m in catalogue.MEASURES if not m.placeholder and m.made_by == "measure" and kind in m.kinds]
    return names + [m.name for m in alone]


def wanted_of(measures: Iterable[str] | None, known: Sequence[str]) -> set[str]:
    """
    The names asked for, all where none are.

    Raises:
        ValueError: for a name that is not known.
    """
    if measures is None:
        return set(known)
    measures = [measures] if isinstance(measures, str) else list(measures)
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise ValueError(f"unknown `measures` {unknown}. For these splits there are: {', '.join(known)}.")
    return set(measures)


def compare(
    tables: Mapping[str, pyarrow.Table],
    reference: Mapping[str, pyarrow.Table],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Found:
    """
    A model against the retrained one, row by row the same data: `forget_quality` (p-value of the two-sample
    Kolmogorov-Smirnov test between the truth ratios of the forget rows, as in Maini et al. 2024; where there are no
    wrong answers, between their losses; `distance` is the KS distance, `detectable` the smallest one that so many rows
    can show, `of` the statistic), `forget_extraction_gap` (extraction strength less the retrained model's), `test_kept`
    and `retain_kept` (labels predicted right, as a share of its), and for each membership score
    `forget_mia_<score>_auc_gap`, `_privleak` and `_rel_diff` (AUC against the retrained model's;
    [`compare_membership`]). PrivLeak takes scores of the largest tokens (Min-K%, Min-K%++) of PRIVLEAK_K per cent of
    them, as its source does.

    Args:
        tables, reference: split -> table of [`collect`]; of `forget`, `unseen`, `retain` and `test` rows.
        seed, resamples: as in [`measure`].
    """
    mine, theirs = ({s: columns_of(t, s) for s, t in side.items()} for side in (tables, reference))
    found = _in_pairs(mine, theirs, is_causal_lm(tables), seed, resamples)
    if not ("forget" in tables and "forget" in reference):
        return found
    quality = forget_quality_measure(mine, theirs)
    found |= {} if quality is None else {"forget_quality": quality}
    if "unseen" in tables and "unseen" in reference:
        rows = [side[split] for side in (tables, reference) for split in ("forget", "unseen")]
        sides, wide = ([scores(table, **k) for table in rows] for k in ({}, {"k": PRIVLEAK_K}))
        how = {"seed": seed, "resamples": resamples}
        for name, score in catalogue.SCORES.items():
            if all(name in side for side in sides):
                gap = compare_membership(*(side[name] for side in sides), **how)
                if any((a[name] != b[name]).any() for a, b in zip(sides, wide, strict=True)):
                    gap["privleak"] = compare_membership(*(side[name] for side in wide), **how)["privleak"]
                found |= {f"forget_{score.in_name}_{kind}": value for kind, value in gap.items()}
    return found


def against_before(
    tables: Mapping[str, pyarrow.Table],
    before: Mapping[str, pyarrow.Table],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Found:
    """
    A language model against the one that its request started from: `general_perplexity_ratio`, the perplexity on the
    rows of the split `general` or `own_words` over that model's, rows resampled in pairs. Empty where one of them lacks
    both.

    Args:
        tables, before: split -> table of [`collect`], of the same rows.
        seed, resamples: as in [`measure`].
    """
    split = split_in(tables, before)
    if split is None or not is_causal_lm(tables):
        return {}
    sides = [columns_of(own[split], split) for own in (tables, before)]
    if not np.array_equal(*(c["n_labels"] for c in sides)):
        return {}
    with np.errstate(invalid="ignore"):  # inf - inf, where both diverged
        more = np.subtract(*(c["nll_sum"] for c in sides))
    ratio = catalogue.find(GENERAL_RATIO).measure.function
    return {GENERAL_RATIO: ratio_measure(more, sides[0]["n_labels"], ratio, GENERAL_RATIO, seed, resamples)}


def _in_pairs(
    mine: Mapping[str, Mapping[str, np.ndarray]],
    theirs: Mapping[str, Mapping[str, np.ndarray]],
    causal_lm: bool,
    seed: int,
    resamples: int,
) -> Found:
    """What the same rows give under two models, row against row: extraction's difference, the shares that are kept."""
    found: Found = {}
    extraction, kept = (catalogue.find(name).measure.function for name in ("forget_extraction_gap", "test_kept"))
    pairs = {split: (mine[split], theirs[split]) for split in mine if split in theirs}
    pairs = {split: pair for split, pair in pairs.items() if len({len(c["nll_sum"]) for c in pair}) == 1}
    if causal_lm and "forget" in pairs and all("n_suffix" in columns for columns in pairs["forget"]):
        gap = np.subtract(*map(extraction, pairs["forget"]))
        found["forget_extraction_gap"] = mean_measure(gap, "forget extraction_gap", seed, resamples)
    for split in ("test", "retain"):
        if split in pairs:
            right = (c["n_correct"] if causal_lm else answered_right(c) for c in pairs[split])
            found[f"{split}_kept"] = ratio_measure(*right, kept, f"{split} kept", seed, resamples)
    return found


# ---- one family each -------------------------------------------------------------------------------------------------


def _of_splits(
    columns: Mapping[str, Mapping[str, np.ndarray]], kind: str, wanted: set[str], seed: int, resamples: int
) -> Found:
    """Measures of the rows of each split: by a formula of the catalogue, or from other answers to the rows."""
    found: Found = {}
    others = answers(columns) if kind == "causal_lm" else {}
    for split, c in columns.items():
        if split.endswith(ANSWERS):
            continue
        by_answers = others.get(split, {})  # where the answers give a measure, its plain form is left out
        lines = [
            m
            for m in catalogue.MEASURES
            if m.over and kind in m.kinds and split in (m.splits or (split,)) and m.at(split) in wanted
            if m.kind not in by_answers and set(m.columns) <= c.keys()
        ]
        if lines:
            rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
            found |= _by_formula(c, {m.at(split): m for m in lines}, rng, resamples)
        for name, values in by_answers.items():
            if f"{split}_{name}" in wanted:
                found[f"{split}_{name}"] = mean_measure(values, f"{split} {name}", seed, resamples)
    return found


def _by_formula(
    c: Mapping[str, np.ndarray], lines: Mapping[str, catalogue.Measure], rng: np.random.Generator, resamples: int
) -> Found:
    """Measures by name from the columns (N,) of one split; all are taken of the same resamples."""
    n = len(c["nll_sum"])
    with np.errstate(over="ignore"):
        per_row = {name: m.function(c) for name, m in lines.items() if m.over == "rows"}
    names = [*POOLED, *dict.fromkeys(name for m in lines.values() if m.over == "labels" for name in m.columns)]
    sums = np.stack([*(c[name] for name in names), *per_row.values()]).astype(float)

    def values(total: np.ndarray) -> dict[str, np.ndarray]:  # (3 and other columns + rows' measures, R)
        means = dict(zip(per_row, total[len(names) :] / n, strict=True))
        pooled = dict(zip(names, total, strict=False))
        with np.errstate(over="ignore"):
            return {name: means[name] if name in means else m.function(pooled) for name, m in lines.items()}

    value = values(sums.sum(1)[:, None])
    draws = None
    if n >= 2:
        with np.errstate(invalid="ignore"):  # inf · 0, where a loss is infinite
            drawn = [sums @ counts(rng.integers(n, size=(size, n)), n).T for size in chunks(n, resamples)]
        draws = values(np.concatenate(drawn, axis=1))
    return {name: summary(value[name][0], None if draws is None else draws[name], n) for name in lines}


def _of_membership(
    tables: Mapping[str, pyarrow.Table], kind: str, wanted: set[str], seed: int, resamples: int
) -> Found:
    """Forget rows told from unseen ones, by each score."""
    if not {"forget", "unseen"} <= tables.keys():
        return {}
    found: Found = {}
    members, others = scores(tables["forget"]), scores(tables["unseen"])
    for name, score in catalogue.SCORES.items():
        lines = [m for m in catalogue.of_score(name, kind) if m.at(score.in_name) in wanted]
        if lines and name in members and name in others:
            kinds = {m.kind.removeprefix("forget_"): m.at(score.in_name) for m in lines}
            how = {"measures": kinds, "seed": seed, "resamples": resamples}
            attack = membership_inference(members[name], others[name], **how)
            found |= {kinds[kind]: value for kind, value in attack.items()}
    return found
