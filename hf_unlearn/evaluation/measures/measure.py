"""From tables of per-row statistics to measures with intervals: arithmetic alone, no model."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics import chunks, counts, ks_detectable, summary
from ..tables import columns_of, is_causal_lm
from .membership import MIA_MEASURES, compare_membership, membership_inference, scores
from .tofu import answer_probability, forget_quality_of, truth_ratio, truth_ratio_score, utility_of

if TYPE_CHECKING:
    import pyarrow

CLASSIFIER_MEASURES = ("loss", "accuracy", "prob")
CAUSAL_LM_MEASURES = (
    "loss",
    "token_accuracy",
    "prob",
    "exact_memorisation",
    "exact_match",
    "extraction_strength",
    "truth_ratio",
    "rougeL_recall",
    "perplexity",
)
ATTACKS = ("loss", "entropy", "zlib", "min_k", "min_k_plus_plus")  # membership scores, as in `membership.scores`
CLASSIFIER_ATTACKS = ("loss", "entropy")
LOGISTIC = ("loss", "entropy")  # the scores that the logistic-regression attack of Trippa et al. takes
ANSWERS = ("_paraphrased", "_perturbed")  # splits of other answers to the rows of a split: for the truth ratio
UTILITY_SPLITS = ("retain", "real_authors", "world_facts")
UTILITY_PARTS = ("prob", "rougeL_recall", "truth_ratio")
CHOICE_SPLITS = ("real_authors", "world_facts")  # their probability is that among the answers to choose from
NEEDS = {"extraction_strength": "n_suffix"}  # measures that tables of schema 1 cannot give


def measure(
    tables: Mapping[str, pyarrow.Table],
    *,
    generations: Mapping[str, pyarrow.Table] | None = None,
    measures: Iterable[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    causal_lm: bool | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """
    All measures of one model from its row tables, each with a bootstrap interval.

    Per split: `<split>_loss` (nats per label: ratio of sums over the rows), `<split>_prob` (mean over rows of
    exp(-mean loss of the row)); for classifiers `<split>_accuracy`; for language models `<split>_token_accuracy`
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
    known = measure_names(columns, causal_lm=causal_lm)
    wanted = wanted_of(measures, known)
    answers = {} if not causal_lm else _answers(columns)
    asked = wanted
    if "model_utility" in wanted:
        wanted = wanted | {f"{split}_{part}" for split in UTILITY_SPLITS for part in UTILITY_PARTS}

    found: dict[str, dict[str, float | int | None]] = {}
    for split, c in columns.items():
        if split.endswith(ANSWERS):
            continue
        kinds = [k for k in (CAUSAL_LM_MEASURES if causal_lm else CLASSIFIER_MEASURES) if f"{split}_{k}" in wanted]
        kinds = [k for k in kinds if NEEDS.get(k, "row") in c]
        choice = answers.get(split, {}).get("prob")
        kinds = [k for k in kinds if k not in ("rougeL_recall", "truth_ratio") and (k != "prob" or choice is None)]
        if kinds:
            rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
            found.update({f"{split}_{k}": v for k, v in _split_measures(c, kinds, rng, resamples).items()})
        for kind, values in answers.get(split, {}).items():
            if f"{split}_{kind}" in wanted:
                found[f"{split}_{kind}"] = _mean(values, f"{split} {kind}", seed, resamples)
    for split, table in (generations or {}).items():
        if f"{split}_rougeL_recall" in wanted:
            recall = table["rougeL_recall"].to_numpy()
            recall = recall[~np.isnan(recall)]  # nan: a reference without a word that ROUGE knows
            found[f"{split}_rougeL_recall"] = _mean(recall, f"{split} generations", seed, resamples)
    if {"forget", "unseen"} <= columns.keys():
        members, others = scores(tables["forget"]), scores(tables["unseen"])
        for score in CLASSIFIER_ATTACKS if not causal_lm else ATTACKS:
            kinds = [k for k in _attack_measures(score) if f"forget_mia_{score}_{k}" in wanted]
            if kinds and score in members and score in others:
                attack = membership_inference(
                    members[score], others[score], measures=kinds, seed=seed, resamples=resamples
                )
                found.update({f"forget_mia_{score}_{k}": v for k, v in attack.items()})
    if "model_utility" in wanted:
        utility = _utility(found, columns)
        if utility:
            found["model_utility"] = utility
    return {name: found[name] for name in known if name in found and name in asked}


def measure_names(splits: Iterable[str], *, causal_lm: bool) -> list[str]:
    """Names of the measures that [`measure`] may compute for these splits, in its order."""
    splits = [split for split in splits if not split.endswith(ANSWERS)]
    kinds = CAUSAL_LM_MEASURES if causal_lm else CLASSIFIER_MEASURES
    names = [f"{split}_{kind}" for split in splits for kind in kinds]
    if {"forget", "unseen"} <= set(splits):
        attacks = ATTACKS if causal_lm else CLASSIFIER_ATTACKS
        names += [f"forget_mia_{score}_{kind}" for score in attacks for kind in _attack_measures(score)]
    return names + (["model_utility"] if causal_lm else [])


def _attack_measures(score: str) -> list[str]:
    return [kind for kind in MIA_MEASURES if kind != "accuracy" or score in LOGISTIC]


def compare(
    tables: Mapping[str, pyarrow.Table],
    reference: Mapping[str, pyarrow.Table],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, dict[str, Any]]:
    """
    A model against the retrained one, row by row the same data: `forget_quality` (p-value of the two-sample
    Kolmogorov-Smirnov test between the truth ratios of the forget rows, as in Maini et al. 2024; where there are no
    wrong answers, between their losses, which is ours; `distance` is the KS distance, `detectable` the smallest one
    that so many rows can show, `of` the statistic), and for each membership score `forget_mia_<score>_auc_gap` and
    `_privleak` (AUC against the retrained model's; [`compare_membership`]).

    Args:
        tables, reference: split -> table of [`collect`]; of `forget` and `unseen` rows.
        seed, resamples: as in [`measure`].
    """
    if not ("forget" in tables and "forget" in reference):
        return {}
    mine, theirs = ({s: columns_of(t, s) for s, t in side.items()} for side in (tables, reference))
    found: dict[str, dict[str, Any]] = {}
    statistics = [_answers(columns).get("forget", {}) for columns in (mine, theirs)]
    if all("ratio" in statistic for statistic in statistics):
        pair, of = [statistic["ratio"] for statistic in statistics], "truth ratio"
    else:
        pair, of = [c["forget"]["nll_sum"] / c["forget"]["n_labels"] for c in (mine, theirs)], "loss"
    if all(np.isfinite(part).all() for part in pair):
        p, distance = forget_quality_of(*pair)
        n = len(pair[0])
        quality = {**summary(p, None, n), "distance": float(distance), "detectable": ks_detectable(n, n), "of": of}
        found["forget_quality"] = quality
    if "unseen" in tables and "unseen" in reference:
        sides = [scores(side[split]) for side in (tables, reference) for split in ("forget", "unseen")]
        for score in ATTACKS:
            if all(score in side for side in sides):
                gap = compare_membership(*(side[score] for side in sides), seed=seed, resamples=resamples)
                found.update({f"forget_mia_{score}_{kind}": value for kind, value in gap.items()})
    return found


def _answers(columns: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """
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


def _utility(found: Mapping[str, dict], columns: Mapping[str, Any]) -> dict | None:
    splits = [split for split in UTILITY_SPLITS if split in columns]
    names = [f"{split}_{part}" for split in splits for part in UTILITY_PARTS]
    if "retain" not in splits or any((found.get(name) or {}).get("value") is None for name in names):
        return None
    value = utility_of({name: found[name]["value"] for name in names})
    return {**summary(value, None, sum(found[f"{split}_prob"]["n"] for split in splits)), "parts": names}


def _split_measures(
    c: Mapping[str, np.ndarray],
    kinds: list[str],
    rng: np.random.Generator,
    resamples: int,
) -> dict:
    n = len(c["nll_sum"])
    share = c["n_correct"] / c["n_labels"]
    mean = c["nll_sum"] / c["n_labels"]
    with np.errstate(over="ignore"):
        per_row = {
            "prob": np.exp(-mean),
            "exact_memorisation": share,
            "exact_match": share == 1,
            "extraction_strength": c.get("n_suffix", share) / c["n_labels"],
        }
    means = [kind for kind in kinds if kind in per_row]
    sums = np.stack([c["nll_sum"], c["n_labels"], c["n_correct"], *(per_row[kind] for kind in means)]).astype(float)

    def values(total: np.ndarray) -> dict[str, np.ndarray]:  # (3 + means, R)
        loss, correct = total[0] / total[1], total[2] / total[1]
        with np.errstate(over="ignore"):
            perplexity = np.exp(loss)
        pooled = {"loss": loss, "accuracy": correct, "token_accuracy": correct, "perplexity": perplexity}
        return pooled | {kind: total[3 + i] / n for i, kind in enumerate(means)}

    value = values(sums.sum(1)[:, None])
    draws = None
    if n >= 2:
        with np.errstate(invalid="ignore"):  # inf · 0, where a loss is infinite
            drawn = [sums @ counts(rng.integers(n, size=(size, n)), n).T for size in chunks(n, resamples)]
        draws = values(np.concatenate(drawn, axis=1))
    return {kind: summary(value[kind][0], None if draws is None else draws[kind], n) for kind in kinds}


def _mean(values: np.ndarray, name: str, seed: int, resamples: int) -> dict:
    """Mean of a statistic (n,) that some rows of a split have, its resampling seeded by its name."""
    n = len(values)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    draws = None
    if n >= 2:
        draws = np.concatenate([values[rng.integers(n, size=(size, n))].mean(1) for size in chunks(n, resamples)])
    return summary(values.mean() if n else None, draws, n)


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
