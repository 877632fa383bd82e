import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import hmean, ks_2samp

from hf_unlearn.evaluation import (
    answer_probability,
    forget_quality,
    forget_quality_of,
    model_utility,
    truth_ratio,
    truth_ratio_score,
    utility_of,
)
from hf_unlearn.evaluation.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "Real Authors": "eval_real_author_wo_options.json",
    "Real World": "eval_real_world_wo_options.json",
    "Retain": "eval_log.json",
    "Forget": "eval_log_forget.json",
}


def log(seed, n=(9, 7, 12, 30), shift=0.0):
    rng = np.random.default_rng(seed)
    logs = {}
    for file, rows in zip(FILES.values(), n, strict=True):
        ids = [str(i) for i in range(rows)]
        columns = {
            "avg_gt_loss": rng.exponential(1.0, rows),
            "avg_paraphrased_loss": rng.exponential(1.0, rows) + shift,
            "average_perturb_loss": rng.exponential(1.5, (rows, 3)),
            "rougeL_recall": rng.uniform(0.1, 1, rows),
        }
        logs[file] = {name: dict(zip(ids, values.tolist(), strict=True)) for name, values in columns.items()}
    return logs


def array(column):
    return np.array(list(column.values()))


def by_hand(logs):
    """The benchmark's computation in its own steps: exp first, then the quotients."""
    parts = {}
    for name, file in FILES.items():
        p = np.exp(-array(logs[file]["avg_gt_loss"]))
        wrong = np.exp(-array(logs[file]["average_perturb_loss"]))
        ratio = wrong.mean(1) / np.exp(-array(logs[file]["avg_paraphrased_loss"]))
        parts[f"{name} ROUGE"] = array(logs[file]["rougeL_recall"]).mean()
        parts[f"{name} Probability"] = (p / (p + wrong.sum(1)) if name.startswith("Real") else p).mean()
        score = np.minimum(ratio, 1 / ratio) if name == "Forget" else np.clip(1 - ratio, 0, None)
        parts[f"{name} Truth Ratio"] = score.mean()
    parts["Model Utility"] = hmean([value for name, value in parts.items() if "Forget" not in name])
    return parts


def test_model_utility_and_forget_quality_are_those_of_the_benchmark():
    logs, retrained = log(0), log(1, shift=1.0)
    found = model_utility(logs)
    assert list(found) == list(by_hand(logs))
    assert found == pytest.approx(by_hand(logs), rel=1e-12)

    def ratio(of):
        rows = of["eval_log_forget.json"]
        return np.exp(array(rows["average_perturb_loss"]).mean(1) - array(rows["avg_paraphrased_loss"]))

    test = ks_2samp(ratio(logs), ratio(retrained))
    assert 1e-9 < test.pvalue < 0.1
    assert forget_quality(logs, retrained) == pytest.approx(
        {"Forget Quality": test.pvalue, "KS Test PVal Forget": test.pvalue, "KS Test Forget": test.statistic}, rel=1e-12
    )
    assert forget_quality(logs, logs) == {"Forget Quality": 1.0, "KS Test PVal Forget": 1.0, "KS Test Forget": 0.0}


def test_the_two_truth_ratios_by_hand():
    right, wrong = [math.log(2), 0.0], [[math.log(4), math.log(16)], [math.log(8)]]  # p = 1/2; 1/4, 1/16 and 1; 1/8
    np.testing.assert_allclose(truth_ratio(right, wrong), [5 / 32 * 2, 1 / 8], rtol=1e-14)
    np.testing.assert_allclose(truth_ratio(right, wrong, mean="geometric"), [1 / 8 * 2, 1 / 8], rtol=1e-14)
    np.testing.assert_allclose(truth_ratio([2000.0], [[2000.0, 2000.0]]), [1.0])  # exp(-2000) is 0
    assert np.isfinite(truth_ratio([1e5], [[0.0]])).all()
    np.testing.assert_allclose(truth_ratio_score([0.25, 4.0, 0.0], forget=True), [0.25, 0.25, 0.0])
    np.testing.assert_allclose(truth_ratio_score([0.25, 4.0, 0.0], forget=False), [0.75, 0.0, 1.0])
    np.testing.assert_allclose(answer_probability([math.log(2)]), [0.5])
    np.testing.assert_allclose(answer_probability(right, wrong), [0.5 / (0.5 + 5 / 16), 8 / 9])
    np.testing.assert_allclose(answer_probability([2000.0, 2000.0], [[2000.0], [0.0]]), [0.5, 0.0])


def test_utility_and_forget_quality_of_arrays():
    assert utility_of({"a": 0.5, "b": 1.0}) == pytest.approx(2 / 3)
    assert utility_of({"a": 0.5, "b": 0.0}) == 0.0
    assert forget_quality_of([1, 2, 3, 4], [11, 12, 13, 14]) == (pytest.approx(2 / 70), 1.0)  # 2 of C(8, 4) orders


def test_rows_of_a_log_are_matched_by_id_and_wrong_answers_may_differ_in_number():
    logs = log(0)
    shuffled = copy.deepcopy(logs)
    for split in shuffled.values():
        split["average_perturb_loss"] = dict(reversed(split["average_perturb_loss"].items()))
    assert model_utility(shuffled) == model_utility(logs)
    for split in logs.values():  # the same losses twice over, in one row: no mean changes, so no truth ratio
        split["average_perturb_loss"]["0"] *= 2
    assert forget_quality(logs, shuffled)["Forget Quality"] == 1.0
    assert model_utility(logs)["Forget Truth Ratio"] == pytest.approx(model_utility(shuffled)["Forget Truth Ratio"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: truth_ratio([], []), "`paraphrased_loss` has the shape"),
        (lambda: truth_ratio([1.0, math.nan], [[1.0], [1.0]]), "`paraphrased_loss` is not finite in row.s. 1"),
        (lambda: truth_ratio([1.0], [[1.0], [1.0]]), "`perturbed_losses` has 2 rows: expected 1"),
        (lambda: truth_ratio([1.0, 1.0], [[1.0], []]), "`perturbed_losses` is empty in row.s. 1"),
        (lambda: truth_ratio([1.0], [1.0]), "`perturbed_losses` is not a list in row.s. 0"),
        (lambda: truth_ratio([1.0], [[math.inf]]), "`perturbed_losses` is not finite"),
        (lambda: truth_ratio([1.0], [["x"]]), "not a list of lists of numbers"),
        (lambda: truth_ratio(["x"], [[1.0]]), "`paraphrased_loss` is not a list of numbers"),
        (lambda: truth_ratio([1.0], [[1.0]], mean="harmonic"), "`mean` is 'harmonic': expected one of arithmetic"),
        (lambda: truth_ratio_score([math.nan], forget=True), "`ratio` is below 0 or no number"),
        (lambda: truth_ratio_score([], forget=True), "`ratio` has the shape"),
        (lambda: forget_quality_of([1.0], [math.nan]), "`retrained_statistic` is not finite"),
        (lambda: forget_quality_of([], [1.0]), "`statistic` has the shape"),
        (lambda: utility_of({}), "`parts` is empty"),
        (lambda: utility_of({"a": math.nan}), "`parts` has {'a': nan}"),
        (lambda: utility_of({"a": -0.1}), "`parts` has"),
    ],
)
def test_wrong_arrays_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def change(path, value):
    def wrong(logs):
        *outer, last = path
        for key in outer:
            logs = logs[key]
        if value is None:
            del logs[last]
        else:
            logs[last] = value

    return wrong


FORGET, PARAPHRASED, PERTURBED = "eval_log_forget.json", "avg_paraphrased_loss", "average_perturb_loss"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (change((FORGET,), None), f"`logs` has no split {FORGET}: its keys are"),
        (change((FORGET, PARAPHRASED), None), f"{PARAPHRASED} of {FORGET} is missing"),
        (change((FORGET, PARAPHRASED), {}), "has no rows"),
        (change((FORGET, PERTURBED, "3"), None), "has 29 rows that are not the 30"),
        (change((FORGET, PARAPHRASED, "3"), math.nan), "row '3': nan is not finite"),
        (change((FORGET, PARAPHRASED, "3"), 10**5000), "not finite"),
        (change((FORGET, PARAPHRASED, "3"), True), "True is not a number"),
        (change((FORGET, PARAPHRASED, "3"), "high"), "'high' is not a number"),
        (change((FORGET, PARAPHRASED, "3"), -1.0), "below 0"),
        (change((FORGET, PERTURBED, "3"), []), "not a list of losses"),
        (change((FORGET, PERTURBED, "3"), [1.0, math.inf]), "inf is not finite"),
    ],
)
def test_wrong_logs_are_refused(wrong, message):
    logs = log(0)
    wrong(logs)
    for call in (lambda: model_utility(logs), lambda: forget_quality(logs, log(0))):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=message.replace("`logs`", "`retrained_logs`")):
        forget_quality(log(0), logs)


def test_a_recall_is_a_share_and_a_log_a_dict():
    logs = log(0)
    logs["eval_log.json"]["rougeL_recall"]["1"] = 1.5
    with pytest.raises(ValueError, match=r"row '1': 1.5 is out of range: expected a recall in \[0, 1\]"):
        model_utility(logs)
    with pytest.raises(ValueError, match="`logs` is a list"):
        model_utility([])


def test_logs_of_other_forget_rows_are_refused():
    with pytest.raises(ValueError, match="30 rows in eval_log_forget.json and `retrained_logs` 20, of which 10 and 0"):
        forget_quality(log(0), log(0, n=(9, 7, 12, 20)))


# ---- the command -----------------------------------------------------------------------------------------------------


def save(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def strict(text):
    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def test_the_command_prints_the_measures(tmp_path, capsys):
    logs, retrained = log(0), log(1)
    a, b = save(tmp_path / "a.json", logs), save(tmp_path / "b.json", retrained)
    assert main(["tofu", "--logs", a, "--retrained", b]) == 0
    found, quality, parts = strict(capsys.readouterr().out), forget_quality(logs, retrained), model_utility(logs)
    assert found["model_utility"] == parts.pop("Model Utility") and found["parts"] == parts
    assert found["forget_quality"] == quality["Forget Quality"] and found["ks_statistic"] == quality["KS Test Forget"]
    assert main(["tofu", "--logs", a]) == 0
    assert strict(capsys.readouterr().out) == {**found, "forget_quality": None, "ks_statistic": None}


@pytest.mark.parametrize("content", [None, "{", "[1]", "{}", "\udcff", "[" * 100_000, '{"eval_log.json": NaN}'])
def test_the_command_refuses_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    good = save(tmp_path / "b.json", log(0))
    for arguments in (["--logs", str(path)], ["--logs", good, "--retrained", str(path)]):
        assert main(["tofu", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "a.json" in err and len(err) < 600


def test_arguments_that_are_none_leave_with_2(capsys):
    for arguments in ([], ["tofu"], ["other"], ["tofu", "--logs"]):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 2


def test_the_command_needs_no_torch_and_its_help_no_numpy(tmp_path):
    path = save(tmp_path / "a.json", log(0))
    code = (
        "import runpy, sys\n"
        "def run(*arguments):\n"
        "    sys.argv = ['evaluation', *arguments]\n"
        "    try: runpy.run_module('hf_unlearn.evaluation', run_name='__main__')\n"
        "    except SystemExit as end: return end.code\n"
        "assert run('tofu', '--help') == 0 and 'numpy' not in sys.modules\n"
        f"assert run('tofu', '--logs', {path!r}) == 0 and 'torch' not in sys.modules and 'numpy' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--retrained" in done.stdout


# ---- logs of real models ---------------------------------------------------------------------------------------------

ORACLES = os.environ.get("HF_UNLEARN_ORACLES")


def relative(got, want):
    return abs(got - want) / abs(want) if want else abs(got)


@pytest.mark.skipif(not ORACLES, reason="HF_UNLEARN_ORACLES names no folder with tofu/expected.json")
def test_all_published_numbers(record_property):
    folder = Path(ORACLES or "") / "tofu"
    expected = json.loads((folder / "expected.json").read_text())
    family = expected.pop("family")
    logs = {name: json.loads((folder / f"{family}_{name}.json").read_text()) for name in expected}
    differences = {}
    for name, want in expected.items():
        found = model_utility(logs[name])
        assert found.keys() == want["model_utility"].keys()
        pairs = [(part, found[part], value) for part, value in want["model_utility"].items()]
        for other, quality in want["forget_quality_against"].items():
            found = forget_quality(logs[name], logs[other])
            assert found.keys() == quality.keys()
            pairs += [(f"{part} against {other}", found[part], value) for part, value in quality.items()]
        differences |= {(name, part): relative(got, value) for part, got, value in pairs}
    largest = max(differences, key=differences.get)
    record_property("largest relative difference", (largest, differences[largest], len(differences)))
    assert differences[largest] <= 1e-9, largest
