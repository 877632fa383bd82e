"""`recipes/tools/faithfulness.py`: its arithmetic, what it keeps, and that its committed figures are in use."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.evaluation import catalogue, compare, measure, measure_names
from recipes.tools import faithfulness

RECIPES = Path(faithfulness.__file__).resolve().parents[1]
RESULTS = RECIPES / "tools" / "results" / "faithfulness.json"


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def test_separation_is_counted_in_the_claimed_direction():
    low, high = [1.0, 2.0, 3.0], [2.5, 4.0]
    assert faithfulness.separation(low, high, "lower")["value"] == pytest.approx(5 / 6)
    assert faithfulness.separation(low, high, "higher")["value"] == pytest.approx(1 / 6)  # not turned round afterwards
    assert faithfulness.separation([0.0, 1.0], [0.0, 1.0], "higher")["value"] == 0.5  # ties count half
    assert faithfulness.separation([0.0, 0.0], [0.0], "lower")["value"] == 0.5
    assert faithfulness.separation([1.0, 2.0], [3.0, 4.0], "lower") == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert faithfulness.separation([1.0, None], [3.0, 4.0], "lower") == {"value": None, "low": None, "high": None}


def test_the_interval_is_over_models_of_both_sides():
    saw, never = [1.0, 3.0, 5.0], [0.0, 2.0, 4.0]

    def auc(a, b):
        return np.mean([(x > y) + (x == y) / 2 for x in a for y in b])

    every = [
        auc(a, b) for a in itertools.product(saw, repeat=3) for b in itertools.product(never, repeat=3)
    ]  # all 27 x 27 resamples
    found = faithfulness.separation(saw, never, "higher", resamples=20_000)
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(every, [2.5, 97.5]), abs=0.01)
    assert found == faithfulness.separation(saw, never, "higher", resamples=20_000)
    assert found != faithfulness.separation(saw, never, "higher", resamples=50, seed=3)


def test_noise_floor():
    assert faithfulness.noise_floor([1.0, 4.0, 2.0]) == {"mean": 2.0, "max": 3.0}
    assert faithfulness.noise_floor([1.0]) == faithfulness.noise_floor([1.0, None]) == {"mean": None, "max": None}


def test_a_measure_is_marked_weak_by_the_pool_that_it_separates_worse():
    def pool(loss, accuracy, other):
        return [
            {"forget_loss": a, "forget_accuracy": b, "retain_loss": c}
            for a, b, c in zip(loss, accuracy, other, strict=True)
        ]

    found = faithfulness.study(
        {
            "never": pool([3.0, 4.0], [0.1, 0.3], [1.0, 1.5]),
            "lightly": pool([2.0, 2.5], [0.2, 0.4], [1.0, 1.0]),
            "by heart": pool([5.0, 6.0], [0.9, 0.9], [1.0, 1.0]),
        }
    )
    loss, accuracy, retain = found["forget_loss"], found["forget_accuracy"], found["retain_loss"]
    assert (loss["claim"], loss["auc"]["lightly"]["value"], loss["auc"]["by heart"]["value"]) == ("lower", 1, 0)
    assert (accuracy["claim"], accuracy["auc"]["lightly"]["value"]) == ("higher", 0.75)
    assert (loss["weak"], accuracy["weak"], retain["weak"]) == (False, True, None)
    assert retain["claim"] is None and retain["auc"] is None and retain["noise_floor"] == {"mean": 0.5, "max": 0.5}
    assert accuracy["values"]["never"] == [0.1, 0.3]
    tasks = {
        "a": {"kind": "classifier", "measures": found},
        "b": {"kind": "causal_lm", "measures": {"forget_loss": loss}},
    }
    assert faithfulness.weak_measures(tasks) == {"causal_lm": [], "classifier": ["accuracy"]}
    text = faithfulness.table(found).splitlines()
    assert [line.split("`")[1] for line in text[2:]] == ["forget_accuracy", "forget_loss", "retain_loss"]
    assert text[2].endswith("| weak | .2 | .2 |") and text[4] == "| `retain_loss` | – | – |  | .5 | .5 |"


def test_a_measure_without_a_value_is_neither_weak_nor_sound():
    pools = {pool: [{"forget_loss": 1.0}, {"forget_loss": None}] for pool in faithfulness.SEEDS}
    found = faithfulness.study(pools)
    assert found["forget_loss"]["weak"] is None and found["forget_loss"]["noise_floor"]["mean"] is None
    assert "| `forget_loss` | – | – |  | – | – |" in faithfulness.table(found)


@pytest.mark.parametrize(
    "value, text", [(None, "–"), (0.0, "0"), (1.0, "1"), (0.5, ".5"), (-0.125, "-.125"), (0.0004, "4e-4"), (20.0, "20")]
)
def test_numbers_are_written_without_a_leading_zero(value, text):
    assert faithfulness.number(value) == text


def test_every_measure_of_the_forget_rows_has_a_claim():
    splits = ["forget", "unseen", "forget_int8", "forget_int4", "forget_rephrased", "retain", "test"]
    for causal_lm in (True, False):
        for name in measure_names(splits, causal_lm=causal_lm):
            assert (catalogue.claim(name) is None) == (not name.startswith("forget_")), name
    assert catalogue.claim("recovery_real_area") == catalogue.claim("forget_quality") == "lower"
    assert catalogue.claim("weights_to_retrained") == "higher" and catalogue.claim("weights_to_original") is None


def test_claims_hold_for_the_evaluations_own_measures():
    """Planted tables: who saw has low losses on the forget rows and nothing else; every claim must point there."""

    def tables(seed: int, saw: bool) -> dict[str, pa.Table]:
        rng = np.random.default_rng(seed)

        def table(n: int, loss: float, **more) -> pa.Table:
            tokens = rng.gamma(9.0, loss / 9, size=(n, 10))
            right = (tokens < 1).sum(1)
            return pa.table(
                {
                    "row": np.arange(n),
                    "nll_sum": tokens.sum(1),
                    "n_labels": np.full(n, 10),
                    "n_correct": right,
                    "entropy_sum": tokens.sum(1) * 1.5,
                    "n_suffix": (np.cumprod((tokens < 1)[:, ::-1], axis=1)).sum(1),
                    "zlib_bytes": np.full(n, 30),
                    "token_nll": pa.array(tokens.tolist(), pa.list_(pa.float32())),
                    "token_z": pa.array((2 - tokens).tolist(), pa.list_(pa.float32())),
                    **more,
                }
            )

        own = 0.7 if saw else 3.0
        return {
            "forget": table(40, own),
            "unseen": table(40, 3.0),
            "forget_int4": table(40, own),
            "forget_paraphrased": table(40, own, group=np.arange(40)),
            "forget_perturbed": table(80, 3.0, group=np.repeat(np.arange(40), 2)),
        }

    reference = tables(0, False)

    def values(seed: int, saw: bool) -> dict[str, float | None]:
        mine = tables(seed, saw)
        found = measure(mine, resamples=1) | compare(mine, reference, resamples=1)
        return {name: one["value"] for name, one in found.items()}

    pools = {"never": [values(i, False) for i in (1, 2)], "by heart": [values(i, True) for i in (3, 4)]}
    found = faithfulness.study(pools | {"lightly": pools["by heart"]})
    claiming = {name: m["auc"]["lightly"]["value"] for name, m in found.items() if m["claim"]}
    wanted = {"forget_quality", "forget_truth_ratio", "forget_mia_zlib_privleak", "forget_mia_zlib_rel_diff"}
    assert len(claiming) > 40 and wanted <= set(claiming)
    assert {name: auc for name, auc in claiming.items() if auc != 1} == {}


# ---- training, and going on ---------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch):
    """Stands for training: notes what was asked for, and fails at the model that `stop` names."""
    asked, state = [], {"stop": None}

    def build(task, pool, seed, folder, smoke):
        if len(asked) == state["stop"]:
            raise KeyboardInterrupt
        asked.append((task, pool, seed))
        folder.with_name(folder.name + ".part").mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        (folder / "scorecard.json").write_text("{}")
        return 1.0

    monkeypatch.setattr(faithfulness, "build", build)
    return asked, state


def test_a_killed_run_goes_on(built, tmp_path, capsys):
    asked, state = built
    state["stop"] = 4
    with pytest.raises(KeyboardInterrupt):
        faithfulness.train_all(["people", "digits"], 2, tmp_path, 1, False)
    state["stop"] = None
    before = list(asked)
    assert before[:2] == [("people", "reference", 0), ("digits", "reference", 0)]  # others are compared with them
    faithfulness.train_all(["people", "digits"], 2, tmp_path, 1, False)
    assert asked[:4] == before and len(asked) == len(set(asked)) == 2 * (1 + 3 * 2)
    faithfulness.train_all(["people", "digits"], 2, tmp_path, 1, False)
    assert len(asked) == 14
    shutil.rmtree(tmp_path / "people" / "by_heart-1")
    faithfulness.train_all(["people"], 3, tmp_path, 1, False)
    assert sorted(asked[14:]) == sorted(
        [
            ("people", "by heart", 3001),
            ("people", "never", 1002),
            ("people", "lightly", 2002),
            ("people", "by heart", 3002),
        ]
    )
    assert "[10/10]" in capsys.readouterr().out


def test_models_made_otherwise_are_not_mixed_in(built, tmp_path):
    faithfulness.train_all(["people"], 2, tmp_path, 1, True)
    with pytest.raises(ValueError, match="another smoke.*another folder"):
        faithfulness.train_all(["people"], 2, tmp_path, 1, False)


def test_wrong_flags_are_told_at_once():
    with pytest.raises(ArgumentError) as error:
        faithfulness.main(["--tasks", "people", "cats", "--models", "1", "--jobs", "0"])
    assert "cats; expected some of people, digits" in str(error.value)
    assert "`--models` is 1" in str(error.value) and "`--jobs` is 0" in str(error.value)


def test_light_pools_see_the_rows_a_whole_number_of_times():
    import yaml

    for task in faithfulness.TASKS.values():
        epochs = yaml.safe_load((RECIPES / task.recipe).read_text())["ready.num_train_epochs"]
        assert epochs % task.passes == 0 and task.passes < epochs


@pytest.mark.slow
def test_the_faithfulness_study_runs_in_a_smoke_size(tmp_path, capsys):
    flags = ["--tasks", "people", "digits", "--models", "2", "--smoke", "--output-dir", str(tmp_path)]
    faithfulness.main([*flags, "--jobs", "1"])
    out = capsys.readouterr().out
    assert (
        "[14/14]" in out
        and "| `forget_mia_min_k_auc` |" in out
        and "Weak for a classifier (AUC below 0.9, lightly)" in out
    )
    found = json.loads((tmp_path / "faithfulness.json").read_text())
    assert {m for t in found["tasks"].values() for m in t["measures"]} >= {"weights_to_retrained", "forget_int4_loss"}
    for task in ("people", "digits"):
        kept = {path.parent.name for path in (tmp_path / task).rglob("model.safetensors")}
        assert kept == {"model"} and not list((tmp_path / task).glob("*.part"))
    for task in ("people", "digits"):
        shutil.rmtree(tmp_path / task / "by_heart-1")
    faithfulness.main([*flags, "--jobs", "2"])  # in processes of their own, and the rest was there
    assert "[2/2]" in capsys.readouterr().out
    again = json.loads((tmp_path / "faithfulness.json").read_text())
    assert "--jobs 2" in again.pop("command") and "--jobs 1" in found.pop("command") and again == found


# ---- the committed figures ------------------------------------------------------------------------------------------


def test_the_catalogues_weak_measures_are_those_of_the_study(results):
    for kind, weak in results["weak"].items():
        assert {faithfulness.without_split(name) for name in catalogue.weak_names(kind)} == set(weak)
    assert faithfulness.weak_measures(results["tasks"]) == results["weak"]
    assert set(results["tasks"]) == set(faithfulness.TASKS)


def test_the_figures_follow_from_the_values(results):
    for name, task in results["tasks"].items():
        assert task["models"] >= 8 and task["recipe"] == faithfulness.TASKS[name].recipe
        assert task["passes"]["lightly"] == faithfulness.TASKS[name].passes
        for measured, m in task["measures"].items():
            pools = m["values"]
            assert all(len(values) == task["models"] for values in pools.values()), measured
            assert m["claim"] == catalogue.claim(measured)
            assert m["noise_floor"] == faithfulness.noise_floor(pools["never"])
            for pool in faithfulness.SAW if m["claim"] else ():
                auc = faithfulness.separation(pools[pool], pools["never"], m["claim"], resamples=1)["value"]
                assert m["auc"][pool]["value"] == auc, measured
            weak = m["auc"] and m["auc"]["lightly"]["value"]
            assert m["weak"] == (None if weak is None else weak < results["threshold"] == faithfulness.WEAK)


def test_the_table_is_in_the_readme(results):
    text = (RECIPES / "README.md").read_text(encoding="utf-8")
    for task in results["tasks"].values():
        assert faithfulness.table(task["measures"]) in text


def test_written_results_are_strict_json_with_a_line_a_measure(results, tmp_path):
    faithfulness.write(results, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == RESULTS.read_text(encoding="utf-8")
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    assert sum('"forget_loss": {' in line and line.rstrip(",").endswith("}") for line in lines) == len(results["tasks"])
