"""Every measure as an `evaluate.Metric` loaded from its path, against implementations that share no code with it."""

from __future__ import annotations

import runpy
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.tiny import lm
from scipy.stats import hmean, ks_2samp, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import hf_unlearn
from hf_unlearn.evaluation import catalogue, collect, ks_detectable, measure, truth_ratio

LOSSES = ("loss", "prob", "perplexity")
HITS = ("token_accuracy", "exact_memorisation", "exact_match", "extraction_strength")
ATTACKS = ("mia_loss", "mia_entropy", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")


@pytest.fixture(scope="session")
def load_from_path(tmp_path_factory):
    """`evaluate.load` of a measure, offline, which leaves nothing behind."""
    import evaluate

    folder, path = tmp_path_factory.mktemp("evaluate"), list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        yield lambda name=None: evaluate.load(hf_unlearn.metrics_path(), name, cache_dir=str(folder / "data"))
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("evaluate_modules")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def load(load_from_path):
    """The same without going to the disk again."""
    first = load_from_path("loss")
    return lambda name: type(first)(name, keep_in_memory=True, cache_dir=first._data_dir_root)


@pytest.fixture(scope="session")
def measures(load):
    return sys.modules[type(load("loss")).__module__].MEASURES


def rows(seed=0, n=12):
    """Losses, most likely tokens and labels of ragged rows."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, n)
    labels = [rng.integers(0, 5, size) for size in lengths]
    guesses = [np.where(rng.random(len(y)) < 0.6, y, 4 - y) for y in labels]
    return [rng.exponential(size=size) for size in lengths], guesses, labels


def padded(lists, fill, side, width=12):
    """(N, width)"""
    gaps = [np.full(width - len(row), fill) for row in lists]
    pairs = zip(gaps, lists, strict=True)
    return np.stack([np.concatenate([gap, row] if side == "left" else [row, gap]) for gap, row in pairs])


def plain_losses(nll):
    mean = sum(sum(row) for row in nll) / sum(len(row) for row in nll)
    return {"loss": mean, "perplexity": np.exp(mean), "prob": np.mean([np.exp(-np.mean(row)) for row in nll])}


def plain_hits(guesses, labels):
    right = [[bool(p == y) for p, y in zip(*row, strict=True)] for row in zip(guesses, labels, strict=True)]

    def strength(row):  # the shortest prefix after which all is right
        return 1 - next(k for k in range(len(row) + 1) if all(row[k:])) / len(row)

    return {
        "token_accuracy": np.mean(sum(right, [])),
        "exact_memorisation": np.mean([np.mean(row) for row in right]),
        "exact_match": np.mean([all(row) for row in right]),
        "extraction_strength": np.mean([strength(row) for row in right]),
    }


# ---- how they are loaded ---------------------------------------------------------------------------------------------


def test_they_load_from_a_path_without_network_at_once(load_from_path, monkeypatch):
    import socket

    def refused(*_, **__):
        raise OSError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    start = time.perf_counter()
    metric = load_from_path("loss")
    assert metric.compute(predictions=[[1.0, 2.0]], references=[[1, 2]])["loss"] == 1.5
    assert time.perf_counter() - start < 1
    assert Path(hf_unlearn.metrics_path()).is_file()
    assert not list(Path(metric._data_dir_root).rglob("*.arrow"))


def test_every_example_runs_as_documented_at_once_and_in_batches(load, measures):
    for name, spec in measures.items():
        metric, few = load(name), {"resamples": 20} if "resamples" in spec.options() else {}
        found = metric.compute(**spec.example, **few)
        assert all(key == name or key.startswith(f"{name}_") for key in found), name
        assert all(value is None or isinstance(value, (int, float)) for value in found.values()), name
        assert len(metric.description) > 20 and metric.citation == spec.citation
        for word in (*spec.inputs, *spec.options(), "Returns", f'"{name}"'):
            assert word in metric.inputs_description, (name, word)
        listed = metric.inputs_description.split("Returns:")[1]
        for key in found:
            assert key.endswith(("_low", "_high", "_n", "_resolution")) or key in listed, key
        for part in (slice(0, 1), slice(1, None)):
            batch = {key: values[part] for key, values in spec.example.items()}
            if len(next(iter(batch.values()))):
                metric.add_batch(**batch)
        assert metric.compute(**few) == found, name
    with pytest.raises(TypeError):
        measures["loss"] = None


def test_seed_and_resamples_reach_the_bootstrap(measures):
    for name, spec in measures.items():
        if "seed" in spec.options() and name != "rougeL_recall":
            once = [spec.function(name, **spec.example, seed=seed, resamples=1) for seed in range(5)]
            for found in once:
                assert all(found[key] == found[key[:-3] + "high"] for key in found if key.endswith("_low")), name
            assert any(found != once[0] for found in once), name


def test_all_measures_of_the_evaluation_are_there(measures):
    assert {m.metric_name for m in catalogue.MEASURES if m.inputs} <= set(measures)
    assert {score.in_name for score in catalogue.SCORES.values()} <= set(measures)
    assert len(measures) >= 25


def test_a_new_line_of_the_catalogue_is_a_metric(monkeypatch):
    """As in a process that loads the script after the line was written."""
    import evaluate

    def bits(columns):
        return columns["nll_sum"] / columns["n_labels"] / np.log(2)

    what = {"over": "rows", "formula": bits, "inputs": "losses", "citation": "Shannon 1948"}
    line = catalogue.Measure("{split}_bits", "Bits", "Mean over the rows of the loss in bits.", **what)
    monkeypatch.setattr(catalogue, "MEASURES", (*catalogue.MEASURES, line))
    script = runpy.run_path(hf_unlearn.metrics_path())
    metric = script["Unlearning"]("bits", keep_in_memory=True)
    assert isinstance(metric, evaluate.Metric) and metric.citation == "Shannon 1948"
    assert metric.description.startswith("Mean over the rows of the loss in bits.")
    nats = np.log(2) * np.array([1.0, 3.0])
    found = metric.compute(predictions=[nats, nats], references=[[1, 1], [1, -100]], resamples=5)
    assert found["bits"] == pytest.approx((2 + 1) / 2) and found["bits_n"] == 2


@pytest.mark.parametrize(("name", "got"), [("nope", "'nope'"), (None, "missing")])
def test_another_name_is_refused_with_those_that_exist(load_from_path, name, got):
    with pytest.raises(ValueError, match=f"`config_name` is {got}: .* loss, accuracy, .*extraction_strength"):
        load_from_path(name)


# ---- the split measures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_losses_and_hits_are_plain_ones_however_rows_are_padded(load, side):
    nll, guesses, labels = rows()
    expected = {**plain_losses(nll), **plain_hits(guesses, labels)}
    if side != "none":
        nll, guesses, labels = padded(nll, np.nan, side), padded(guesses, 3, side), padded(labels, -100, side)
    for name, value in expected.items():
        given = nll if name in LOSSES else guesses
        found = load(name).compute(predictions=given, references=labels, resamples=20)
        assert found[name] == pytest.approx(value, rel=1e-6) and found[f"{name}_n"] == 12
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]


def test_they_are_the_evaluations_own_numbers_with_intervals(load):
    model = lm().eval()
    ids = torch.randint(3, 50, (6, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1]
    labels = ids.clone()
    labels[:, 4:] = logits[:, 3:].argmax(-1)  # some guesses are right
    labels[0, 5], labels[1, 2], labels[2, :5], labels[3, -2:] = 3, -100, -100, -100
    data = [{"input_ids": i.tolist(), "labels": y.tolist()} for i, y in zip(ids, labels, strict=True)]

    def collator(batch):
        return {key: torch.tensor([row[key] for row in batch]) for key in batch[0]}

    expected = measure({"forget": collect(model, data, collator)}, resamples=30, seed=3)
    labels = labels[:, 1:]
    nll = -logits.double().log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    for name in (*LOSSES, *HITS):
        given = nll if name in LOSSES else logits.argmax(-1)
        found = load(name).compute(predictions=given, references=labels, resamples=30, seed=3)
        for key, value in expected[f"forget_{name}"].items():
            assert found[name if key == "value" else f"{name}_{key}"] == pytest.approx(value, rel=1e-6), (name, key)


def test_hits_by_hand(load):
    guesses, labels = [[1, 2, 3, 4], [9, 9], [5, 6]], [[1, 0, 3, 4], [1, 2], [5, 6]]
    expected = {
        "token_accuracy": 5 / 8,
        "exact_memorisation": (3 / 4 + 0 + 1) / 3,
        "exact_match": 1 / 3,
        "extraction_strength": (1 / 2 + 0 + 1) / 3,
    }
    for name, value in expected.items():
        found = load(name).compute(predictions=guesses, references=labels, resamples=5)
        assert found[name] == pytest.approx(value, rel=1e-12)


def test_classifiers_have_one_label_a_row(load):
    found = load("accuracy").compute(predictions=[0, 2, 1, 1], references=np.array([0, 2, 2, 1]), resamples=20)
    assert found["accuracy"] == 0.75 and found["accuracy_n"] == 4
    for name, value in plain_losses([[0.5], [2.0], [0.0]]).items():
        for given in ([0.5, 2.0, 0.0], torch.tensor([0.5, 2.0, 0.0])):
            found = load(name).compute(predictions=given, references=[1, 0, 1], resamples=5)
            assert found[name] == pytest.approx(value, rel=1e-6)


def test_one_row_has_no_interval_and_a_diverged_model_no_value(load):
    one = load("loss").compute(predictions=[[1.0, 3.0]], references=[[2, 2]])
    assert one == {"loss": 2.0, "loss_low": None, "loss_high": None, "loss_n": 1}
    for bad in (np.nan, None):
        found = load("loss").compute(predictions=[[1.0, bad], [1.0, 1.0]], references=[[2, 2], [2, 2]])
        assert found == {"loss": None, "loss_low": None, "loss_high": None, "loss_n": 2}
    assert load("perplexity").compute(predictions=[[800.0]], references=[[1]])["perplexity"] is None


@pytest.mark.parametrize("name", [*LOSSES, *HITS])
def test_rows_without_labels_are_named(load, name):
    with pytest.raises(ValueError, match=r"`references` are all -100 in rows 1, 2"):
        load(name).compute(predictions=[[1, 1]] * 3, references=[[1, -100], [-100, -100], [-100, -100]])


# ---- TOFU ------------------------------------------------------------------------------------------------------------


def test_truth_ratios_and_choices(load):
    rng = np.random.default_rng(0)
    right, wrong = rng.exponential(size=9), [rng.exponential(size=n).tolist() for n in rng.integers(1, 5, 9)]
    ratio = np.array([np.mean(np.exp(-np.array(w))) / np.exp(-r) for r, w in zip(right, wrong, strict=True)])
    choice = [np.exp(-r) / (np.exp(-r) + np.exp(-np.array(w)).sum()) for r, w in zip(right, wrong, strict=True)]
    expected = {
        "truth_ratio": np.maximum(0, 1 - ratio).mean(),
        "forget_truth_ratio": np.minimum(ratio, 1 / ratio).mean(),
        "choice_prob": np.mean(choice),
    }
    for name, value in expected.items():
        found = load(name).compute(predictions=right, perturbed=wrong, resamples=20)
        assert found[name] == pytest.approx(value, rel=1e-6) and found[f"{name}_n"] == 9
        more = load(name).compute(predictions=[*right, 1.0], perturbed=[*wrong, []], resamples=20)
        assert more[name] == pytest.approx(value, rel=1e-6) and more[f"{name}_n"] == 9
    with pytest.raises(ValueError, match="`perturbed` is empty in every row"):
        load("truth_ratio").compute(predictions=[1.0], perturbed=[[]])


def test_truth_ratios_have_the_evaluations_intervals(load):
    losses, wrong = np.arange(1.0, 8.0) / 4, [[2.0, 1.0 / i] for i in range(1, 8)]

    def table(nll, **more):
        zeros, ones = np.zeros(len(nll), np.int64), np.ones(len(nll), np.int64)
        return pa.table({"row": ones, "nll_sum": nll, "n_labels": ones, "n_correct": zeros, "entropy_sum": nll, **more})

    answers = table(np.concatenate(wrong), group=np.repeat(np.arange(7), 2))
    for name, measured in {
        "truth_ratio": "retain_truth_ratio",
        "forget_truth_ratio": "forget_truth_ratio",
        "choice_prob": "real_authors_prob",
    }.items():
        split = measured.removesuffix("_truth_ratio").removesuffix("_prob")
        tables = {split: table(losses), f"{split}_perturbed": answers}
        expected = measure(tables, measures=[measured], causal_lm=True, seed=2, resamples=40)[measured]
        found = load(name).compute(predictions=losses, perturbed=wrong, seed=2, resamples=40)
        assert list(found.values()) == list(expected.values())


def test_forget_quality_is_scipys(load):
    rng = np.random.default_rng(1)
    mine, theirs = (
        truth_ratio(rng.exponential(size=30), rng.exponential(size=(30, 3)), mean="geometric") for _ in "ab"
    )
    for a, b in ((mine, theirs), (mine, mine), (mine, theirs + 9), (np.ones(5), np.ones(5))):
        found, expected = load("forget_quality").compute(predictions=a, references=b), ks_2samp(a, b)
        assert found["forget_quality"] == pytest.approx(expected.pvalue, rel=1e-6)
        assert found["forget_quality_distance"] == pytest.approx(expected.statistic, rel=1e-6)
        assert found["forget_quality_detectable"] == ks_detectable(len(a), len(a))
    found = load("forget_quality").compute(predictions=[1.0, np.nan], references=[1.0, 2.0])
    assert found["forget_quality"] is None and found["forget_quality_n"] == 2


def test_model_utility_is_a_harmonic_mean(load):
    parts = np.random.default_rng(2).uniform(0.1, 1, 9)
    found = load("model_utility").compute(predictions=parts)
    assert found == {"model_utility": pytest.approx(hmean(parts), rel=1e-6), "model_utility_n": 9}
    assert load("model_utility").compute(predictions=[0.5, 0.0])["model_utility"] == 0
    with pytest.raises(ValueError, match="finite values of at least 0"):
        load("model_utility").compute(predictions=[0.5, -1.0])


def test_rouge_recall_is_rouge_scores(load):
    from rouge_score.rouge_scorer import RougeScorer

    texts = ["The cats sat, running home", "", "A dog", "42 is it"]
    answers = ["A cat runs home.", "nothing", "A dog", "it is 42"]
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    recall = [scorer.score(y, p)["rougeL"].recall for p, y in zip(texts, answers, strict=True)]
    found = load("rougeL_recall").compute(predictions=[*texts, "a"], references=[*answers, "猫"], resamples=20)
    assert found["rougeL_recall"] == pytest.approx(np.mean(recall), rel=1e-6) and found["rougeL_recall_n"] == 4
    nothing = load("rougeL_recall").compute(predictions=["a"], references=[""])
    assert nothing["rougeL_recall"] is None and nothing["rougeL_recall_n"] == 0


# ---- membership ------------------------------------------------------------------------------------------------------


def plain_roc(score, member):
    """AUC and TPR by scikit-learn, the lower score being the member's."""
    fpr, tpr, _ = roc_curve(member, -np.asarray(score), drop_intermediate=False)
    return {
        "auc": roc_auc_score(member, -np.asarray(score)),
        "tpr_at_1fpr": tpr[fpr <= 0.01].max(),
        "tpr_at_01fpr": tpr[fpr <= 0.001].max(),
    }


def plain_attack(score, member):
    """Out-of-fold accuracy of a logistic regression on as many members as others, in the evaluation's folds."""
    rng = np.random.default_rng([0, zlib.crc32(b"attack")])
    n = int(member.sum())
    x = np.concatenate([score[member][np.sort(rng.permutation(n))], score[~member][np.sort(rng.permutation(n))]])
    y = np.repeat([1, 0], n)
    folds = StratifiedKFold(min(10, n), shuffle=True, random_state=int(rng.integers(2**31)))
    return (cross_val_predict(LogisticRegression(max_iter=1000), x[:, None], y, cv=folds) == y).mean()


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_scikit_learns_on_plain_scores(load, name):
    rng = np.random.default_rng(5)
    tokens, member = [rng.normal(1, 1, n).round(1) for n in rng.integers(1, 30, 24)], np.arange(24) % 2 == 0
    taken = [max(1, int(len(row) * 0.2)) for row in tokens]
    sizes = rng.integers(9, 40, 24)
    score = {
        "mia_loss": lambda: [np.mean(row) for row in tokens],
        "mia_entropy": lambda: [np.mean(row) for row in tokens],
        "mia_zlib": lambda: [np.mean(row) / size for row, size in zip(tokens, sizes, strict=True)],
        "mia_min_k": lambda: [np.mean(sorted(row)[-k:]) for row, k in zip(tokens, taken, strict=True)],
        "mia_min_k_plus_plus": lambda: [-np.mean(sorted(row)[:k]) for row, k in zip(tokens, taken, strict=True)],
    }[name]()
    extra = {"zlib_bytes": sizes} if name == "mia_zlib" else {}
    found = load(name).compute(predictions=tokens, references=member, resamples=20, **extra)
    for kind, value in plain_roc(score, member).items():
        assert found[f"{name}_{kind}"] == pytest.approx(value, rel=1e-6, abs=1e-12), kind
        assert found[f"{name}_{kind}_n"] == 24
    assert found[f"{name}_tpr_at_1fpr_resolution"] == 1 / 12
    if name in ("mia_loss", "mia_entropy"):
        assert found[f"{name}_accuracy"] == pytest.approx(plain_attack(np.array(score), member), rel=1e-6)
    else:
        assert f"{name}_accuracy" not in found


def test_the_share_of_tokens_is_an_option(load):
    tokens, member = [[1.0, 9.0, 1.0, 1.0], [5.0, 5.0, 5.0, 5.0]], [1, 0]
    assert load("mia_min_k").compute(predictions=tokens, references=member)["mia_min_k_auc"] == 0
    assert load("mia_min_k").compute(predictions=tokens, references=member, k=100)["mia_min_k_auc"] == 1


def test_any_score_with_ties_equal_scores_and_few_rows(load):
    def of(score, member):
        found = load("membership").compute(predictions=score, references=member, resamples=20)
        return {key.removeprefix("membership_"): value for key, value in found.items()}

    score, member = np.array([1.0, 2.0, 2.0, 3.0, 2.0, 1.0, 4.0, 2.0]), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    for values in (score, np.ones(8)):
        found = of(values, member)
        for kind, value in plain_roc(values, member).items():
            assert found[kind] == pytest.approx(value, rel=1e-6)
        assert found["accuracy"] == pytest.approx(plain_attack(values, member == 1), rel=1e-6)
    assert of(np.ones(8), member)["auc"] == 0.5
    one = of([1.0, 2.0], [1, 0])
    assert (one["auc"], one["auc_low"], one["tpr_at_1fpr"], one["accuracy"]) == (1, None, 1, None)
    assert of([1.0, 2.0], [1, 1])["auc"] is None
    assert of([1.0, np.nan, 1.0], [1, 1, 0])["auc"] is None


def test_against_the_retrained_model(load):
    rng = np.random.default_rng(3)
    mine, theirs, member = rng.normal(size=30), rng.normal(size=30), np.arange(30) < 12
    mine[member] -= 1
    values = [plain_roc(score, member)["auc"] for score in (mine, theirs)]
    expected = {"auc_gap": values[0] - values[1], "rel_diff": 100 * (values[0] / values[1] - 1)}
    expected["privleak"] = 100 * ((1 - values[0]) / (1 - values[1]) - 1)
    for name, value in expected.items():
        given = {"predictions": mine, "retrained_predictions": theirs, "references": member}
        found = load(name).compute(**given, resamples=20)
        assert found[name] == pytest.approx(value, rel=1e-6) and found[f"{name}_n"] == 30
        assert found[f"{name}_detectable"] == pytest.approx((found[f"{name}_high"] - found[f"{name}_low"]) / 2)
        same = load(name).compute(**{**given, "retrained_predictions": mine}, resamples=20)
        assert same[name] == 0 and same[f"{name}_detectable"] is None


@pytest.mark.parametrize("variance", ["per_row", "pooled"])
def test_lira_is_scipys_gaussians(load, variance):
    rng = np.random.default_rng(4)
    n, s = 14, 9
    said = np.stack([rng.permutation([1] * 4 + [0] * 4 + [-100]) for _ in range(n)])  # (N, S)
    shadows, target, forget = rng.normal(size=(n, s)) + said.clip(0), rng.normal(size=n), np.arange(n) % 2
    shadows[said == -100] = np.nan
    ratio = np.zeros(n)
    for side, sign in ((1, 1), (0, -1)):
        means = np.array([row[which == side].mean() for row, which in zip(shadows, said, strict=True)])
        spread = np.array([row[which == side].var(ddof=1) for row, which in zip(shadows, said, strict=True)])
        spread = spread if variance == "per_row" else np.full(n, spread.mean())  # as many shadows in every row
        ratio += sign * norm.logpdf(target, means, np.sqrt(spread))
    given = {"predictions": target, "shadows": shadows, "unlearned": said, "references": forget}
    found = load("lira").compute(**given, variance=variance, resamples=20)
    for kind, value in plain_roc(-ratio, forget).items():
        assert found[f"lira_{kind}"] == pytest.approx(value, rel=1e-6)


# ---- curves and weights ----------------------------------------------------------------------------------------------


def test_recovery_area_and_weight_distance(load):
    rng = np.random.default_rng(6)
    a, b, steps = rng.exponential(size=5), rng.exponential(size=5), [0, 5, 10, 15, 17]
    found = load("recovery_area").compute(predictions=a, references=b, steps=steps)
    assert found == {"recovery_area": pytest.approx(auc(steps, a) / auc(steps, b), rel=1e-6)}
    found = load("weight_distance").compute(predictions=a, references=b)["weight_distance"]
    assert found == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-6)
    for other, value in (([0.0, 0.0], 0.0), ([1.0, 0.0], None)):
        assert load("weight_distance").compute(predictions=other, references=[0.0, 0.0])["weight_distance"] == value


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("loss", {"predictions": [[1.0, 2.0]], "references": [[3]]}, "2 positions in row 0, `references` 1"),
        ("loss", {"predictions": [[1.0]], "references": [[3]], "k": 5}, r"unknown arguments \['k'\] for `loss`"),
        ("loss", {"predictions": [], "references": []}, "`loss` was given no rows"),
        ("loss", {"predictions": [[1.0]], "references": [[None]]}, "`references` has nan in row 0"),
        ("accuracy", {"predictions": [1, 0.7], "references": [1, 1]}, r"`predictions` has 0.7 in row 1"),
        ("accuracy", {"predictions": [1, 1], "references": [1, -100]}, "`references` are all -100 in row 1"),
        ("prob", {"predictions": [[1.0]], "references": [[1]], "resamples": 0}, "`resamples` is 0"),
        ("mia_loss", {"predictions": [[1.0]], "references": [0.5]}, "`references` is 0.5 in row 0: expected 1"),
        ("mia_min_k", {"predictions": [[1.0], []], "references": [1, 0]}, "no token in row 1"),
        ("mia_min_k", {"predictions": [[1.0]], "references": [1], "k": 0}, "`k` is 0"),
        (
            "lira",
            {"predictions": [1.0], "shadows": [[1.0, 2.0]], "unlearned": [[1, 0, 1]], "references": [1]},
            "have 2 and 3 values in row 0",
        ),
        (
            "lira",
            {"predictions": [1.0], "shadows": [[1.0, 2.0]], "unlearned": [[1, 3]], "references": [1]},
            "`unlearned` is 3.0 for shadow 1 in row 0",
        ),
    ],
)
def test_bad_input_is_named(load, name, given, message):
    with pytest.raises(ValueError, match=message):
        load(name).compute(**given)


def test_after_an_error_the_metric_goes_on_at_once(load_from_path):
    metric = load_from_path("loss")
    with pytest.raises(ValueError, match="-100"):
        metric.compute(predictions=[[1.0]], references=[[-100]])
    start = time.perf_counter()
    assert metric.compute(predictions=[[2.0]], references=[[1]])["loss"] == 2
    assert time.perf_counter() - start < 0.9  # `evaluate` waits a second for a lock that is held
