import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from hf_unlearn.evaluation import catalogue, findings, roles
from hf_unlearn.evaluation import verdict as verdicts
from hf_unlearn.report import answers, card_section, plots, tables
from hf_unlearn.report.page import _task_histograms, render_html
from hf_unlearn.unlearning.stop_rule import REACHED, STOP_REASONS


def m(value, low=None, high=None, n=48):
    """A measure; without an interval given, one of no width."""
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n}


def run(model, *, task="people", seed=0, steps=None, stop_reason=None, details=None, **measures):
    cost = {"steps": steps, "row_passes": None, "seconds": None}
    measures = {k: v if isinstance(v, dict) else m(v) for k, v in measures.items()}
    return {
        "task": task,
        "model": model,
        "seed": seed,
        "measures": measures,
        "cost": cost,
        "stop_reason": stop_reason,
        **({"details": details} if details else {}),
    }


def card(*runs):
    return {"schema": 1, "runs": list(runs)}


ORIGINAL = run("original", forget_loss=0.02, unseen_loss=4.0, retain_token_accuracy=0.99, forget_exact_match=1.0)
RETRAINED = run(
    "retrained",
    forget_loss=3.9,
    unseen_loss=4.0,
    retain_token_accuracy=1.0,
    forget_exact_match=0.0,
    forget_mia_loss_auc=m(0.51, 0.42, 0.6),
)
GOOD = {
    "forget_loss": 3.95,
    "unseen_loss": 4.0,
    "retain_token_accuracy": 0.991,
    "forget_exact_match": 0.0,
    "forget_mia_loss_auc": m(0.5, 0.41, 0.59),
}


def verdict(before=ORIGINAL, retrained=RETRAINED, **changed):
    return findings.judge(run("unlearned", **{**GOOD, **changed}), before, retrained)


# ---------------------------------------------------------------------------------------------------------------
# findings
# ---------------------------------------------------------------------------------------------------------------


def test_a_clean_run_reads_as_the_request_asks():
    unlearned = run("unlearned", stop_reason=REACHED, **GOOD)
    (finding,) = findings.findings(card(ORIGINAL, unlearned, RETRAINED))
    assert finding["text"].startswith(
        "people (unlearned): forgot: yes; kept: 99.1 % of the retrained model's token accuracy on retain rows; "
        f"stopped because {STOP_REASONS[REACHED]}. "
    )
    assert "None of the 48 answers" in finding["text"]


@pytest.mark.parametrize(
    ("changed", "expected", "said"),
    [
        ({}, "yes", "Loss of the forget rows 3.95, of rows it never saw 4."),
        # the loss got there ...
        ({"forget_loss": 3.8}, "yes", "3.8"),
        ({"forget_exact_match": m(3 / 48, 0.0, 0.13)}, "yes", "But 3 of 48 answers are still given word for word"),
        # ... but half of the rows are still known, or told apart
        ({"forget_exact_match": m(0.3, 0.18, 0.42, n=40)}, "partly", "But 12 of 40 answers are still given word for"),
        ({"forget_mia_loss_auc": m(0.75, 0.66, 0.83)}, "partly", "membership test on the loss"),
        ({"forget_mia_entropy_auc": m(0.8, 0.7, 0.9)}, "partly", "membership test on the entropy"),
        # the loss did not get there
        ({"forget_loss": 3.79}, "partly", "94.7 % of the way"),
        ({"forget_loss": 2.02}, "partly", "50.3 % of the way"),
        ({"forget_loss": 1.9}, "no", "47.2 % of the way"),
        ({"forget_loss": 0.02}, "no", "0 % of the way"),
        ({"forget_loss": m(1.0, 0.1, 4.4), "unseen_loss": m(4.0, 3.0, 5.0)}, "partly", "so few rows"),
        # too far
        ({"forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}, "too much", "over-forgetting is a failure"),
        # nothing to say
        ({"forget_loss": {"value": None, "low": None, "high": None, "n": 48}}, "unknown", "not a finite number"),
        # the yardstick itself ran away
        ({"forget_loss": 9.0, "unseen_loss": 9.0}, "yes", "rose from 4 to 9"),
    ],
)
def test_verdicts(changed, expected, said):
    found = verdict(**changed)
    assert found["forgot"] == expected
    assert said in " ".join(found["forgot_because"])


def test_over_forgetting_without_a_retrained_model():
    found = verdict(retrained=None, forget_loss=9.0, forget_mia_loss_auc=m(0.3, 0.22, 0.39))
    assert found["forgot"] == "too much" and "only a retrained model can tell" in found["forgot_because"][-1]
    assert verdict(retrained=None, forget_mia_loss_auc=m(0.3, 0.22, 0.41))["forgot"] == "yes"


def test_a_removed_class_is_held_against_the_retrained_model():
    retrained = run("retrained", forget_loss=8.0, unseen_loss=0.2, forget_mia_loss_auc=m(0.01, 0.0, 0.02))
    retrained["measures"]["forget_accuracy"] = m(0.0)
    same = {"unseen_loss": 0.2, "forget_mia_loss_auc": m(0.01, 0.0, 0.02), "before": None, "retrained": retrained}
    assert verdict(forget_loss=7.0, forget_accuracy=m(0.0), **same)["forgot"] == "yes"  # as far as retraining goes
    assert verdict(forget_loss=30.0, forget_accuracy=m(0.0), **same)["forgot"] == "too much"
    half = verdict(forget_loss=1.0, forget_accuracy=m(0.6, 0.5, 0.7), **same)
    assert half["forgot"] == "yes"  # a language model's exact match decides before the accuracy
    measures = {"forget_loss": 1.0, "unseen_loss": 0.2, "forget_accuracy": m(0.6, 0.5, 0.7, n=10)}
    half = findings.judge(run("unlearned", **measures), None, retrained)
    assert half["forgot"] == "partly" and "6 of 10 forget rows are still answered right" in half["forgot_because"][-1]


def test_what_the_retrained_model_shows_too_is_no_membership():
    shifted = run("retrained", **{**GOOD, "forget_mia_loss_auc": m(0.75, 0.65, 0.85)})
    assert verdict(retrained=shifted, forget_mia_loss_auc=m(0.75, 0.66, 0.84))["forgot"] == "yes"


def test_without_unseen_rows():
    measures = {"forget_loss": 3.9, "retain_token_accuracy": 0.9}
    alone = findings.judge(run("unlearned", **measures))
    assert alone["forgot"] == "unknown" and alone["kept"] is None and "no model to compare with" in alone["kept_text"]
    assert findings.judge(run("unlearned", **measures), None, RETRAINED)["forgot"] == "yes"
    assert findings.judge(run("unlearned", forget_loss=8.0), None, RETRAINED)["forgot"] == "too much"
    assert findings.judge(run("unlearned", test_accuracy=1.0))["forgot"] == "unknown"


def test_says_when_the_loss_cannot_show_forgetting():
    before = run("original", forget_loss=3.9, unseen_loss=4.0)
    assert "cannot show forgetting" in " ".join(verdict(before=before)["forgot_because"])
    assert "cannot show forgetting" not in " ".join(verdict()["forgot_because"])


def test_kept_is_the_worse_of_test_and_retain():
    retrained = run("retrained", test_accuracy=0.5, retain_accuracy=1.0)
    found = findings.judge(run("unlearned", test_accuracy=0.6, retain_accuracy=0.72), None, retrained)
    assert found["kept"] == pytest.approx(0.72) and found["kept_level"] == "no"
    assert found["kept_text"] == "72 % of the retrained model's accuracy on retain rows (120 % on test rows)"
    before = run("original", test_accuracy=0.8)
    found = findings.judge(run("unlearned", test_accuracy=0.76), before, None)
    assert found["kept_text"] == "95 % of its own accuracy on test rows before the request"
    assert found["kept_level"] == "partly"


def test_what_readiness_bought_is_said_whatever_it_is():
    plain = run("unlearned", steps=44, **GOOD)
    ready = run("ready_unlearned", steps=11, **{**GOOD, "retain_token_accuracy": 0.9})
    *_, bought = findings.findings(card(plain, ready, RETRAINED))
    assert bought["kind"] == "readiness"
    assert bought["text"] == (
        "people, what readiness bought: 11 steps instead of 44 (4 times fewer); kept 90 % instead of 99.1 %; "
        "forgot: yes, without readiness: yes (one run of each)."
    )
    *_, bought = findings.findings(card(run("unlearned", steps=10, **GOOD), run("ready_unlearned", steps=30, **GOOD)))
    assert "30 steps instead of 10 (3 times more)" in bought["text"]
    runs = [
        run(r, seed=s, steps=n, **GOOD)
        for s, a in ((0, 10), (1, 20))
        for r, n in zip(roles.BEFORE, (3 * a, a), strict=True)
    ]
    *_, bought = findings.findings(card(*runs))
    assert "15 steps instead of 45" in bought["text"] and "mean of 2 seeds" in bought["text"]


def test_findings_match_seeds_and_tasks():
    runs = [run("unlearned", seed=s, task=t, **GOOD) for t in ("a", "b") for s in (0, 1)]
    runs += [run("original", seed=1, task="b", forget_loss=3.95, unseen_loss=4.0)]
    found = findings.findings(card(*runs))
    assert [(f["task"], f["seed"]) for f in found] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert ["cannot show" in f["text"] for f in found] == [False, False, False, True]
    assert "seed 1" in found[1]["text"]
    assert findings.findings(card(ORIGINAL)) == []


# ---------------------------------------------------------------------------------------------------------------
# tables
# ---------------------------------------------------------------------------------------------------------------


def test_score_table_orders_roles_and_measures():
    runs = [RETRAINED, run("unlearned", steps=12, stop_reason="max_steps", **GOOD), ORIGINAL]
    table = tables.score_table(card(*runs), "people")
    assert [role["name"] for role in table["roles"]] == ["original", "unlearned", "retrained"]
    titles = ["Forget rows", catalogue.SECTIONS[catalogue.MEMBERSHIP], "Unseen rows", "Retain rows"]
    assert [group["title"] for group in table["groups"]] == titles
    forget, membership = table["groups"][:2]
    assert [row["name"] for row in forget["rows"]] == ["forget_loss", "forget_exact_match"]
    assert forget["n"] == 48 and membership["n"] is None
    (auc,) = membership["rows"]
    assert auc["label"] == "By loss: AUC" and auc["ideal"] == "as retrained"
    assert auc["cells"] == [
        None,
        {"value": "0.5", "interval": "0.41 – 0.59"},
        {"value": "0.51", "interval": "0.42 – 0.6"},
    ]
    assert not table["noise"] and not table["weak"]
    assert forget["rows"][1]["cells"][0]["value"] == "100 %"
    assert table["cost"][0]["cells"][1]["value"] == "12"
    assert table["cost"][1]["cells"][1]["value"] == STOP_REASONS["max_steps"]


def test_score_table_averages_seeds():
    runs = [run("original", seed=s, forget_loss=v, steps=v) for s, v in ((0, 1.0), (1, 2.0), (2, 6.0))]
    table = tables.score_table(card(*runs), "people")
    assert table["groups"][0]["rows"][0]["cells"] == [{"value": "3", "interval": "1 – 6"}]
    assert table["seeds"] == [0, 1, 2] and table["cost"][0]["cells"] == [{"value": "3", "interval": "1 – 6"}]


ALL = {
    "forget_loss": 3.0,
    "forget_mia_min_k_plus_plus_auc": 0.6,
    "forget_mia_min_k_plus_plus_tpr_at_01fpr": 0.02,
    "forget_mia_loss_auc": 0.55,
    "forget_mia_loss_accuracy": 0.5,
    "forget_lira_auc": 0.57,
    "forget_lira_tpr_at_1fpr": 0.02,
    "forget_mia_loss_auc_gap": m(0.04, -0.01, 0.09),
    "forget_mia_zlib_privleak": m(-3.0, -8.0, 2.0),
    "forget_quality": {**m(0.3), "low": None, "high": None, "distance": 0.2, "detectable": 0.28, "of": "loss"},
    "forget_int4_exact_match": 0.0,
    "forget_rephrased_loss": 3.0,
    "recovery_real_area": {"value": 0.8},
    "recovery_retain_area": {"value": 1.1},
    "real_authors_truth_ratio": 0.5,
    "holdout_prob": 0.001234,
    "model_utility": 0.6,
    "weights_to_original": {"value": 0.0123},
    "forget_mia_odd": 1.0,
}


def test_every_measure_finds_its_group():
    table = tables.score_table(card(run("unlearned", **ALL), run("retrained", forget_loss=3.0)), "people")
    found = {
        group["title"]: [(row["label"], row["cells"][0]["value"]) for row in group["rows"]] for group in table["groups"]
    }
    assert list(found.items()) == [
        ("Forget rows", [("Loss (nats per label)", "3")]),
        (
            catalogue.SECTIONS[catalogue.MEMBERSHIP],
            [
                ("By loss: AUC", "0.55"),
                ("By loss: guessed right", "50 %"),
                ("By Min-K%++: AUC", "0.6"),
                ("By Min-K%++: found at 0.1 % false alarms", "2 %"),
                ("By U-LiRA: AUC", "0.57"),
                ("By U-LiRA: found at 1 % false alarms", "2 %"),
            ],
        ),
        (
            catalogue.SECTIONS[catalogue.AGAINST],
            [
                ("Forget quality (p-value)", "0.3"),
                ("By loss: AUC, difference", "+0.04"),
                ("By zlib ratio: PrivLeak (%)", "−3"),
            ],
        ),
        ("Forget rows, int4 weights", [("Rows recalled word for word", "0 %")]),
        ("Forget rows, asked in other words", [("Loss (nats per label)", "3")]),
        (
            catalogue.SECTIONS[catalogue.RECOVERY],
            [("Fine-tuned on retain rows", "1.1"), ("Fine-tuned on some forget rows", "0.8")],
        ),
        ("Questions on real authors", [("Truth ratio", "0.5")]),
        ("holdout rows", [("Probability of the answer", "0.0012")]),
        (catalogue.SECTIONS[catalogue.MODEL], [("Model utility", "0.6")]),
        (catalogue.SECTIONS[catalogue.WEIGHTS], [("To the model before the request", "0.0123")]),
        ("Other", [("forget_mia_odd", "1")]),
    ]
    cells = {row["name"]: row["cells"][0] for group in table["groups"] for row in group["rows"]}
    assert cells["forget_quality"]["interval"] == "KS distance 0.2" and cells["weights_to_original"]["interval"] == ""
    assert all(row["ideal"] == "as retrained" for group in table["groups"][:2] for row in group["rows"])
    alone = tables.score_table(card(run("unlearned", **ALL)), "people")
    ideals = {row["name"]: row["ideal"] for group in alone["groups"] for row in group["rows"]}
    assert ideals["forget_loss"] == ideals["forget_rephrased_loss"] == "as unseen rows"
    assert ideals["forget_lira_auc"] == "0.5" and ideals["forget_lira_tpr_at_1fpr"] == "1 %"


def test_the_noise_floor_is_what_two_retrained_models_differ_by():
    again = run(
        "retrained_again", forget_loss=3.6, forget_exact_match=0.021, forget_quality=0.7, recovery_retain_area=0.97
    )
    again["measures"]["weights_to_retrained"] = {"value": 0.3}
    table = tables.score_table(card(run("unlearned", unseen_loss=4.0), RETRAINED, again), "people")
    noise = {row["name"]: row["noise"] for group in table["groups"] for row in group["rows"]}
    assert table["noise"] and noise == {
        "forget_loss": "0.3",
        "forget_exact_match": "2.1 %",
        "forget_mia_loss_auc": "",
        "forget_quality": "0.7",  # that of one retrained model against the other
        "recovery_retain_area": "0.97",
        "weights_to_retrained": "0.3",
        "unseen_loss": "",
        "retain_token_accuracy": "",
    }
    page = render_html(card(run("unlearned", **GOOD), RETRAINED, again))
    assert ">Noise floor</th>" in page and '<td class="noise">2.1 %</td>' in page
    assert ">Noise floor</th>" not in render_html(card(run("unlearned", **GOOD), RETRAINED))


def test_weak_measures_are_marked(monkeypatch):
    shown = card(run("unlearned", **GOOD), RETRAINED)
    for render in (render_html, lambda c: card_section.render_card_section(c, {})):
        assert tables.WEAK_NOTE not in render(shown)
    weak = {"causal_lm": {"forget_mia_loss_auc"}, "classifier": {"forget_loss"}}
    monkeypatch.setattr(catalogue, "is_weak", lambda name, kind: name in weak[kind])
    rows = {
        row["name"]: row["weak"] for group in tables.score_table(shown, "people")["groups"] for row in group["rows"]
    }
    assert [name for name, weak in rows.items() if weak] == ["forget_mia_loss_auc"]
    page = render_html(shown)
    assert page.count(">weak</sup>") == 1 and f"<b>weak</b>: {tables.WEAK_NOTE}" in page
    text = card_section.render_card_section(shown, {})
    assert "| By loss: AUC (weak) |" in text and f"Weak: {tables.WEAK_NOTE}." in text
    images = card(run("unlearned", forget_loss=1.0, retain_accuracy=0.9))  # no tokens: a classifier
    rows = [row for group in tables.score_table(images, "people")["groups"] for row in group["rows"]]
    assert [row["name"] for row in rows if row["weak"]] == ["forget_loss"]


# ---------------------------------------------------------------------------------------------------------------
# the first screen
# ---------------------------------------------------------------------------------------------------------------


def first_screen(*others, details=None, card_runs=(), **changed):
    shown = card(run("unlearned", details=details, **{**GOOD, **changed}), *others, *card_runs)
    return answers.answers(shown, next(f for f in findings.findings(shown) if f["model"] == "unlearned"))


def test_what_was_asked():
    counted = run("unlearned", forget_loss=3.0, retain_loss=m(0.1, n=200), unseen_loss=m(4.0, n=40))
    assert (
        answers.asked(card(counted), "people")
        == "The request: forget 48 rows. Measured beside 200 retain and 40 unseen rows."
    )
    assert answers.asked(card(run("unlearned", forget_loss=m(1.0, n=1))), "people") == "The request: forget 1 row."
    assert answers.asked(card(run("unlearned", test_loss=1.0)), "people") == ""


@pytest.mark.parametrize(
    ("others", "changed", "expected"),
    [
        (
            (ORIGINAL, RETRAINED),
            {},
            "Yes, as far as these rows can show. None of 48 answers still come word for word (before 48, retrained 0). "
            "They surprise the model as much as rows it never saw (loss 3.95 against 4; retrained 3.9).",
        ),
        (
            (),
            {"forget_loss": 2.0, "forget_exact_match": 0.25, "unseen_exact_match": 0.0},
            "Partly. 12 of 48 answers still come word for word (unseen rows 0 of 48). They surprise the model less "
            "than "
            "rows it never saw (loss 2 against 4).",
        ),
        (
            (RETRAINED,),
            {"forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)},
            "Too much: over-forgetting, which is a failure. The rows stand out as deleted. None of 48 answers still "
            "come "
            "word for word (retrained 0). They surprise the model far more than rows it never saw (loss 9 against 4; "
            "retrained 3.9).",
        ),
        (
            (run("original", forget_loss=3.9, unseen_loss=4.0),),
            {"forget_exact_match": {"value": None, "low": None, "high": None, "n": 48}, "forget_accuracy": 0.5},
            "Yes, as far as these rows can show. 24 of 48 forget rows are still answered right. They surprise the "
            "model "
            "as much as rows it never saw (loss 3.95 against 4). That was so before the request, too, so it shows no "
            "forgetting.",
        ),
    ],
)
def test_what_was_forgotten(others, changed, expected):
    assert " ".join(first_screen(*others, **changed)["forgotten"]) == expected


def test_what_was_forgotten_without_numbers():
    def said(**measures):
        shown = card(run("unlearned", **measures))
        return " ".join(answers.answers(shown, findings.findings(shown)[0])["forgotten"])

    assert said(test_accuracy=0.9) == "Cannot be said. The forget rows were not measured."
    none = {"value": None, "low": None, "high": None, "n": 4}
    assert said(forget_loss=none) == "Cannot be said. Their loss is not a finite number."
    assert said(forget_loss=2.0).endswith("Their loss is 2, and there are no unseen rows to hold it against.")


def test_what_was_kept():
    assert first_screen(ORIGINAL, RETRAINED)["kept"] == [
        "Yes.",
        "99.1 % of the retrained model's token accuracy on retain rows.",
    ]
    utility = run("retrained", model_utility=0.6, retain_token_accuracy=1.0)
    kept = first_screen(ORIGINAL, utility, unseen_loss=9.0, model_utility=0.5, retain_token_accuracy=0.5)["kept"]
    assert kept[0] == "No." and kept[2:] == [
        "Model utility 0.5 (retrained 0.6).",
        "The model suffered: its loss on unseen rows rose from 4 to 9.",
    ]
    assert first_screen()["kept"][0] == "Cannot be said."


NOTHING = {"forget_mia_loss_auc": {"value": None, "low": None, "high": None, "n": 96}}


@pytest.mark.parametrize(
    ("reference", "changed", "can", "point"),
    [
        # membership
        (
            {"forget_mia_loss_auc": 0.51, "forget_mia_zlib_auc": 0.5},
            {"forget_mia_loss_auc": 0.52, "forget_mia_zlib_auc": m(0.6, 0.56, 0.64)},
            "tell forget rows from unseen ones better than with a retrained model.",
            "Which of two rows is the forget row? Right 60 times in 100, by zlib ratio (blind guessing 50, retrained "
            "50).",
        ),
        (
            {"forget_mia_loss_auc": 0.51},
            {"forget_mia_loss_auc": m(0.58, 0.45, 0.7)},
            "tell forget rows from unseen ones better than with a retrained model (perhaps: too few rows to show it).",
            "Right 58 times in 100, by loss",
        ),
        (  # a removed class: the retrained model shows it, too
            {"forget_mia_loss_auc": m(0.01, 0.0, 0.02)},
            {"forget_mia_loss_auc": m(0.03, 0.01, 0.05)},
            "do no more than with a retrained model, by the one attack tried.",
            "Right 97 times in 100, by loss, taking the one that does worse (blind guessing 50, retrained 99). The "
            "forget rows stand out as doing worse, as with a retrained model.",
        ),
        (
            None,
            {"forget_mia_loss_auc": m(0.6, 0.51, 0.7)},
            "tell forget rows from unseen ones better than by blind guessing.",
            "Right 60 times in 100, by loss (blind guessing 50).",
        ),
        (None, {}, "do nothing that the one attack tried would show.", "Right 50 times in 100"),
        (
            {"forget_mia_loss_auc": 0.5, "forget_mia_loss_tpr_at_1fpr": 0.0},
            {"forget_mia_loss_tpr_at_1fpr": 0.125, "forget_lira_tpr_at_1fpr": 0.0},
            "do no more",
            "Found with no false alarm in 48: 6 of 48 forget rows (retrained 0).",
        ),
        (
            None,
            {"forget_mia_loss_tpr_at_1fpr": 0.125, "unseen_loss": m(4.0, n=100)},
            "",
            "with 1 false alarm in 100: 6 of",
        ),
        # extraction
        (
            {"forget_extraction_strength": 0.03},
            {"forget_extraction_strength": 0.06, **NOTHING},
            "draw more of the answers out of it than from a retrained model.",
            "Given the beginning of an answer, the model completes the last 6 % (retrained 3 %).",
        ),
        (
            None,
            {"forget_extraction_strength": 0.04, "unseen_extraction_strength": 0.03, **NOTHING},
            "do nothing",
            "the last 4 % (unseen rows 3 %).",
        ),
        # rephrased
        (
            {"forget_rephrased_exact_match": 0.0},
            {"forget_rephrased_exact_match": 0.25, **NOTHING},
            "get answers by asking in other words.",
            "Asked in other words: 12 of 48 answers word for word (as in training 0, retrained 0).",
        ),
        # recovery
        (
            {},
            {
                "recovery_retain_area": {"value": 0.95},
                "recovery_similar_area": {"value": 1.2},
                "recovery_real_area": {"value": 0.7, "k": 12},
                **NOTHING,
            },
            "bring rows back by fine-tuning.",
            "Fine-tuned on 12 forget rows (0.7): the others come back faster than a retrained model learns them; not "
            "so "
            "on retain rows (0.95) or similar rows (1.2). 1 is as fast.",
        ),
        (
            {},
            {"recovery_retain_area": {"value": 1.0}, "recovery_real_area": {"value": 0.9}, **NOTHING},
            "do no more than with a retrained model, by the one attack tried.",
            "Fine-tuned on retain rows (1) or some forget rows (0.9): no faster than a retrained model learns them. 1 "
            "is "
            "as fast.",
        ),
        # quantisation
        (
            {"forget_int4_exact_match": 0.0},
            {"forget_exact_match": 0.5, "forget_int4_exact_match": 0.5, **NOTHING},  # rounding brings nothing back
            "do no more than with a retrained model, by the one attack tried.",
            "Weights rounded to int4: 24 of 48 answers word for word (not rounded 24, retrained 0).",
        ),
        (
            {"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.0},
            {"forget_int8_exact_match": 0.0, "forget_int4_exact_match": 0.5, **NOTHING},
            "get answers back by rounding the weights.",
            "Weights rounded to int8 and int4: 0 and 24 of 48 answers word for word (not rounded 0, retrained 0 and "
            "0).",
        ),
        (
            None,
            {"forget_int4_exact_match": 0.02, **NOTHING},
            "do nothing",
            "to int4: 1 of 48 answers word for word (not",
        ),
    ],
)
def test_what_an_attacker_could_still_do(reference, changed, can, point):
    others = () if reference is None else (run("retrained", **reference),)
    attacker = first_screen(*others, **changed)["attacker"]
    assert attacker["lead"].startswith(can) and point in " ".join(attacker["points"])


def gap(value, low, high):
    return m(value, low, high, n=96)


BETTER = "tell forget rows from unseen ones better than with a retrained model"
PERHAPS = " (perhaps: too few rows to show it)"


@pytest.mark.parametrize(
    ("mine", "theirs", "gaps", "can", "by", "passed"),
    [
        # the score that is farther off than the retrained model's is shown, not the one that guesses best
        (
            {"loss": m(0.08, 0.05, 0.12), "entropy": m(0.1, 0.07, 0.15)},
            {"loss": m(0.05, 0.02, 0.08), "entropy": m(0.17, 0.12, 0.22)},
            {"loss": gap(0.036, 0.003, 0.069), "entropy": gap(-0.035, -0.095, 0.02)},
            BETTER + PERHAPS,
            "Right 90 times in 100, by entropy, taking the one that is less certain (blind guessing 50, retrained 83).",
            None,
        ),
        # the paired gap decides, though each interval is wide, and a gap that is shown goes before a larger one
        (
            {"loss": m(0.7, 0.5, 0.9), "zlib": m(0.62, 0.5, 0.7)},
            {"loss": m(0.51, 0.4, 0.6), "zlib": m(0.52, 0.4, 0.6)},
            {"loss": gap(0.19, -0.01, 0.3), "zlib": gap(0.1, 0.04, 0.16)},
            BETTER,
            "Right 62 times in 100, by zlib ratio (blind guessing 50, retrained 52).",
            False,
        ),
        # on the other side of 0.5 the gap shows a difference, and no better guess
        (
            {"entropy": m(0.34, 0.23, 0.45)},
            {"entropy": m(0.56, 0.45, 0.67)},
            {"entropy": gap(-0.22, -0.35, -0.11)},
            "see that forget rows look less like rows it was trained on than with a retrained model",
            "Right 66 times in 100, by entropy, taking the one that is less certain (blind guessing 50, retrained 44). "
            "The forget rows stand out as less certain: an attacker sees that they were deleted.",
            False,
        ),
        # unless all of its interval is farther off
        (
            {"loss": m(0.2, 0.1, 0.3)},
            {"loss": m(0.51, 0.4, 0.6)},
            {"loss": gap(-0.31, -0.4, -0.2)},
            BETTER,
            "80",
            False,
        ),
        # a class that was not removed looks like members, and a retrained model's AUC is far off
        (
            {"loss": m(0.5, 0.4, 0.6)},
            {"loss": m(0.05, 0.02, 0.08)},
            {"loss": gap(0.45, 0.4, 0.5)},
            "see that forget rows look more like rows it was trained on than with a retrained model",
            "Right 50 times in 100, by loss (blind guessing 50, retrained 5).",
            False,
        ),
        (
            {"loss": m(0.52, 0.4, 0.6)},
            {"loss": m(0.5, 0.4, 0.6)},
            {"loss": gap(0.02, -0.1, 0.1)},
            "do no more than with a retrained model, by the one attack tried",
            "Right 52",
            True,
        ),
    ],
)
def test_the_membership_clause_is_that_of_its_number_and_of_the_gate(mine, theirs, gaps, can, by, passed):
    mine, reference = ({f"forget_mia_{s}_auc": v for s, v in side.items()} for side in (mine, theirs))
    gaps = {f"forget_mia_{s}_auc_gap": v for s, v in gaps.items()}
    measures = {**GOOD, **NOTHING, **mine, **gaps}
    shown = card(run("unlearned", **measures), run("retrained", **reference))
    (finding,) = findings.findings(shown)
    attacker = answers.answers(shown, finding)["attacker"]
    assert attacker["lead"] == f"{can}." and by in attacker["points"][0]
    assert verdicts.passed(finding["verdict"], "auc_gap") is passed  # and the gate says the same
    assert ("perhaps" in attacker["lead"]) == (passed is None)


def test_none_found_is_not_said_where_the_rows_do_worse():
    low, found = m(0.1, 0.05, 0.2), "Found with no false alarm in 48: "
    rates = {"forget_mia_loss_tpr_at_1fpr": 0.0, "forget_mia_zlib_auc": 0.4, "forget_mia_zlib_tpr_at_1fpr": 0.0}
    for others in ((), (run("retrained", forget_mia_loss_auc=0.5, forget_mia_loss_tpr_at_1fpr=0.0),)):
        points = first_screen(*others, forget_mia_loss_auc=low, **rates)["attacker"]["points"]
        assert not any("Found" in point for point in points)
        assert "doing worse: an attacker sees that they were deleted." in points[0]
    rates["forget_mia_zlib_tpr_at_1fpr"] = 0.25  # by another score some are found, all the same
    assert first_screen(forget_mia_loss_auc=low, **rates)["attacker"]["points"][1] == (
        f"{found}12 of 48 forget rows, by zlib ratio."
    )
    same = run("retrained", forget_mia_loss_auc=0.5, forget_mia_zlib_tpr_at_1fpr=0.25)
    assert "Found" not in " ".join(first_screen(same, forget_mia_loss_auc=low, **rates)["attacker"]["points"])
    above = first_screen(forget_mia_loss_auc=0.6, forget_mia_loss_tpr_at_1fpr=0.0)["attacker"]["points"]
    assert above[1] == f"{found}0 of 48 forget rows."


def test_shadow_models_are_a_finding_of_their_own():
    lira = {"forget_lira_auc": m(0.78, 0.7, 0.86), "forget_lira_tpr_at_1fpr": 0.375}
    found = first_screen(RETRAINED, details={"lira": {"shadows": 8}}, **lira)
    assert found["attacker"]["lead"] == "tell by shadow models which rows were unlearned."
    assert found["attacker"]["points"][0].startswith("Which of two rows is the forget row? Right 50 times")
    assert found["attacker"]["points"][1] == (
        "Unlearned or never seen, by 8 shadow models (U-LiRA)? Right 78 times in 100 (blind guessing 50, retrained not "
        "measured); found with no false alarm in 48: 18 of 48 forget rows."
    )
    assert "shadow models" not in found["attacker"]["points"][-1]
    assert found["forgotten"][1] == "Against it: shadow models tell the rows from ones never seen."
    assert found["forgotten_level"] == "partly"
    lira["forget_lira_auc"] = m(0.42, 0.3, 0.49)  # no row is told by it: the other way round is no finding
    found = first_screen(**lira)
    assert found["attacker"]["lead"] == "do nothing that the 2 kinds of attack tried would show."
    assert found["attacker"]["points"][1] == (
        "Unlearned or never seen, by shadow models (U-LiRA)? Right 42 times in 100 (blind guessing 50)."
    )
    assert found["forgotten_level"] == "yes"


def test_a_yes_by_the_loss_is_qualified_by_what_is_left():
    assert first_screen(RETRAINED)["forgotten_level"] == first_screen(RETRAINED)["forgotten_short"] == "yes"
    reference = {"forget_extraction_strength": 0.2, "forget_int4_exact_match": 0.0}
    retrained = run("retrained", **{**RETRAINED["measures"], **reference})
    slow = {"recovery_real_area": {"value": 0.5}}
    found = first_screen(retrained, **slow)
    assert found["forgotten"][:2] == [
        "Yes by their loss, but not by every test.",
        "Against it: fine-tuning brings the rows back faster than a retrained model learns them.",
    ]
    assert found["forgotten_level"] == "yes" and found["forgotten_short"] == "yes by their loss only"
    for name, value, said in (
        ("forget_extraction_strength", 0.3, "more of the answers can be drawn out than after retraining"),
        ("forget_int4_exact_match", 0.3, "answers come back when the weights are rounded"),
        ("forget_mia_loss_auc_gap", gap(-0.2, -0.3, -0.1), "membership tests see something else than after retraining"),
    ):
        found = first_screen(retrained, **{name: value}, **slow)
        assert found["forgotten_level"] == "partly" and f": {said}; fine-tuning" in found["forgotten"][1]
    half = first_screen(retrained, forget_loss=2.02, **slow)
    assert half["forgotten"][0] == "Partly." and half["forgotten_short"] == half["forgotten_level"] == "partly"

    runs = [ORIGINAL, retrained, run("unlearned", steps=9, forget_extraction_strength=0.3, **GOOD)]
    runs += [run("ready_unlearned", steps=3, **GOOD), run("unlearned", task="other", **GOOD)]
    page = render_html(card(*runs))
    assert '<b class="partly">Yes by their loss, but not by every test.</b> Against it: more of' in page
    assert '<td class="partly">yes by their loss only</td>' in page and '<td class="yes">yes</td>' in page
    assert "; forgot, by their loss: yes, without readiness: yes" in page
    assert "<b>Forgot: yes.</b>" in page  # below, the finding's own word


def test_more_than_all_is_not_said_to_be_kept():
    reference = {"retain_token_accuracy": 1.0, "test_token_accuracy": 0.8}
    why = (
        "More than the retrained model on test rows (token accuracy 90 %, retrained 80 %) is not more kept: the model "
        "may still answer what one without the forget rows cannot, such as a removed class."
    )
    kept = first_screen(run("retrained", **reference), test_token_accuracy=0.9)["kept"]
    assert kept[1:] == [
        "99.1 % of the retrained model's token accuracy on retain rows (100 % or more on test rows).",
        why,
    ]
    kept = first_screen(run("retrained", **reference), test_token_accuracy=0.812)["kept"]
    assert kept[1:] == ["99.1 % of the retrained model's token accuracy on retain rows (100 % or more on test rows)."]
    kept = first_screen(run("original", test_token_accuracy=0.5, retain_token_accuracy=0.5))[
        "kept"
    ]  # before: no reason
    assert kept[1:] == ["100 % or more of its own token accuracy on retain rows before the request."]
    shown = card(run("unlearned", test_accuracy=0.9), run("retrained", test_accuracy=0.8))
    page = render_html({**shown, "runs": shown["runs"] + [run("unlearned", task="other", **GOOD)]})
    assert '<td class="yes">yes, 100 % or more</td>' in page


def test_a_gate_that_does_not_apply_is_not_undecided():
    shown = card(run("unlearned", forget_loss=1.0, forget_accuracy=0.5), run("retrained", forget_accuracy=0.0))
    title = verdicts.GATE_TITLES["extraction"]
    assert f'<th scope="row">{title}</th><td class="result unknown">does not apply</td>' in render_html(shown)
    assert f"| {title} | does not apply | – | Does not apply to" in card_section.render_card_section(shown, {})
    assert "cannot be decided" in render_html(shown)  # the others


def test_what_was_not_tried_is_said():
    attacker = first_screen(**NOTHING)["attacker"]
    assert attacker == {"lead": "do what nobody has measured: no attack was tried.", "points": []}
    points = first_screen()["attacker"]["points"]
    assert points[-1] == "Not tried: relearning, rounding the weights, rephrased questions and shadow models."
    tried = {"forget_rephrased_exact_match": 0.0, "forget_int8_exact_match": 0.0, "recovery_real_area": {"value": 1.0}}
    assert "Not tried" not in " ".join(first_screen(**tried, forget_lira_auc=0.5)["attacker"]["points"])
    curve = [{"step": 0, "loss": 4.0}, {"step": 30, "loss": 1.0}]
    alone = first_screen(details={"recovery": {"retain": curve}})["attacker"]["points"]
    assert (
        "Fine-tuned on retain rows: the loss of the other forget rows goes from 4 to 1 in 30 steps; no retrained"
        in alone[1]
    )
    assert "relearning" not in alone[-1]


def test_how_sure_we_are():
    power = {
        "forget_mia_loss_auc_gap": {**m(0.01, -0.04, 0.06, n=96), "detectable": 0.05},
        "forget_mia_zlib_auc_gap": {**m(0.0, -0.01, 0.01, n=96), "detectable": 0.01},  # not the one that decides
        "forget_quality": {**m(0.6), "distance": 0.1, "detectable": 0.278, "of": "loss"},
        "forget_extraction_strength": 0.0,
    }
    original = run("original", forget_quality=1e-9, forget_mia_loss_auc_gap={**m(0.5), "detectable": 0.1})
    original["measures"]["forget_quality"].update(distance=1.0, detectable=0.278, of="loss")
    retrained = run("retrained", **{**RETRAINED["measures"], "forget_extraction_strength": 0.0})
    found = first_screen(original, retrained, run("retrained_again", forget_loss=3.9), **power)
    assert found["badge"] == {"word": "Indistinguishable from retrained", "level": "yes"}
    assert found["sure"] == [
        "Indistinguishable from a retrained model by every test on this page.",
        "This rests on 48 forget and 48 unseen rows, one training seed and a retrained model.",
        "Too small for them to show: fewer than 5 in 100 guesses or a shift in loss of fewer than 28 in 100 rows.",
        "The noise floor was measured.",
    ]
    alone = first_screen()
    assert alone["badge"]["word"] == "No verdict" and alone["sure"][0] == "Compared with unseen rows only."
    assert alone["sure"][2:] == [
        "This rests on 48 forget and 48 unseen rows, one training seed and no retrained model.",
        "Other rows of the same kind could give ±9 in 100 guesses.",
    ]
    assert first_screen(RETRAINED)["sure"][-1] == "No noise floor was measured."
    over = first_screen(RETRAINED, forget_loss=9.0, forget_mia_loss_auc=m(0.1, 0.05, 0.2))
    assert over["badge"] == {"word": "Over-forgotten", "level": "no"}


def test_of_several_seeds_the_worst_is_shown():
    bad = {**GOOD, "forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}
    shown = card(*(run("unlearned", seed=s, **measures) for s, measures in enumerate((GOOD, bad, GOOD))), RETRAINED)
    page = render_html(shown)
    assert page.count('<article class="card">') == 1 and "3 training seeds" in page
    assert "Shown is seed 1, no seed is worse. The others: seed 0: not told apart, forgot: yes; seed 2:" in page
    assert page.count('<table class="gates stacked">') == 3


# ---------------------------------------------------------------------------------------------------------------
# pages
# ---------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.loads, self.links, self.open, self.text = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.loads += [v for k, v in attrs.items() if k in ("src", "href", "srcset", "data", "action", "xlink:href")]
        self.links += re.findall(r"url\(#([^)]*)\)", " ".join(v or "" for v in attrs.values()))
        assert tag not in ("script", "link", "iframe", "img", "object")

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page():
    rng = np.random.default_rng(0)
    runs = [ORIGINAL, run("unlearned", stop_reason=REACHED, steps=40, **GOOD)]
    runs += [run("ready", forget_loss=0.1), run("ready_unlearned", steps=10, **GOOD), RETRAINED]
    runs += [run("unlearned", task="<b>digits</b>", **GOOD)]
    losses = [
        {"task": r["task"], "model": r["model"], "seed": 0, "split": split, "loss": rng.gamma(2, 1, 40)}
        for r in runs
        for split in ("forget", "unseen", "retain")
    ]
    log = [{"step": i, "forget_loss": i / 50, "retain_loss": 0.1, "tau": 4.0, "alpha": 0.1} for i in range(1000)]
    log += [{"step": 5, "look_forget_loss": 0.3, "unseen_loss": 4.0}, {"loss": 1.0}, {"step": 9, "tau": None}]
    histories = [
        {"task": "people", "model": model, "seed": 0, "log_history": log} for model in ("unlearned", "ready_unlearned")
    ]
    curve = [{"step": s, "loss": 4.0 - s / 10, "accuracy": 0.1} for s in (0, 5, 10)]
    weights = {"whole": 0.1, "layers": {"model.embed": 0.0, "model.layers.0": 0.1, "lm_head": 0.2}}
    for r in runs[1:2] + runs[4:5]:
        r["details"] = {"recovery": {"real": curve}, "weights": {"to_original": weights}}
    for r in losses:
        r["scores"] = {"zlib": r["loss"] / 9} if r["task"] == "people" else {}
    made = {
        "asked": "Unread, since `about` says it.",
        "commands": ["python recipes/evaluate.py --a <b>", "echo done"],
        "versions": {"torch": "2.0-of-then"},
        "models": {"retrained": {"weights": "feedbeef"}},
        "data": {"forget": {"rows": 48, "hash": "cafe01"}},
    }
    full = {"schema": 2, "runs": runs, "provenance": {"people": made}}
    return render_html(full, rows=losses, histories=histories, about={"people": "Forget <six> people."})


def test_page_loads_nothing_and_shares_no_ids(page):
    parsed = Page(page)
    assert not re.search(r"https?:|@import|//[a-z]+\.", page)
    assert all(load.startswith("#") for load in parsed.loads) and parsed.loads
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {f"#{link}" for link in parsed.links}
    assert len(parsed.ids) == len(set(parsed.ids))
    targets = {load[1:] for load in parsed.loads} | set(parsed.links)
    assert targets and targets <= set(parsed.ids)
    assert len(page.encode()) < 2_000_000


def test_page_has_every_section_in_order(page):
    order = ["findings", "gates", "curves", "relearning", "roc", "histograms", "weights", "scores", "glossary"]
    order += ["limits", "provenance"]
    positions = [page.index(f'id="{name}"') for name in order]
    assert positions == sorted(positions)
    text = re.sub(r"\s+", " ", " ".join(Page(page).text))
    for part in (
        "The request: forget 48 rows.",
        "Forget <six> people.",
        "99.1 % of the retrained model's token accuracy",
        f"because {STOP_REASONS[REACHED]}",
        "An attacker could still…",
        "How sure",
        "Not told apart",
        "cannot be decided",
        "Could it have seen a difference?",
        "python recipes/evaluate.py --a <b> echo done",
        "2.0-of-then",
        "feedbeef",
        "cafe01",
        "Fine-tuned on some forget rows",
        "1 % false alarms",
        "10 steps instead of 40 (4 times fewer)",
        "By loss: AUC",
        "τ, the target",
        "α, the forget weight",
        "forget rows, all",
        "No training log was given for this task.",
        "transformers",
    ):
        assert part in text
    # curves of two runs, relearning of one kind, ROC by two scores and by one, weights, histograms of 5 roles and of 1
    assert page.count("<svg") == 2 + 1 + 3 + 1 + 6
    assert "Unread" not in text and text.count("Task Model Verdict") == 1  # two tasks: all at a glance


def test_page_follows_the_readers_colours(page):
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert "currentColor" in svgs and "var(--forget)" in svgs and "var(--unseen)" in svgs
    assert not re.search(r"#[0-9a-f]{6}\b", svgs)  # no fixed colour is left, so nothing is unreadable in the dark
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page
    assert "<text" in svgs  # letters stay letters
    assert "nan" not in svgs.lower()


def test_page_escapes_names(page):
    assert "<b>digits</b>" not in page and "&lt;b&gt;digits&lt;/b&gt;" in page


def test_curves_keep_their_ends_and_stay_small():
    log = [{"step": i, "forget_loss": float(i), "retain_loss": True if i == 3 else 0.5} for i in range(100_000)]
    steps, values = plots._series(log, "forget_loss")
    assert len(steps) <= 300 and (steps[0], steps[-1], values[-1]) == (0, 99_999, 99_999)
    svg, legend = plots.loss_curves([log], "c")
    assert len(svg) < 60_000 and [item["series"] for item in legend] == ["forget", "retain"]
    assert plots.loss_curves([[{"step": 1, "loss": 2.0}]], "c") is None


def test_the_gates_are_told_one_by_one(page):
    table = re.sub(r"\s+", " ", page[page.index('id="gates"') : page.index('id="curves"')])
    for gate in verdicts.GATE_TITLES.values():
        assert gate in table or gate == verdicts.GATE_TITLES["verdict"]
    assert (
        '<td class="result yes">passed</td>' in table and '<td class="result unknown">cannot be decided</td>' in table
    )
    failed = render_html(card(run("unlearned", **{**GOOD, "retain_token_accuracy": 0.5}), RETRAINED))
    assert '<th scope="row">Utility kept</th><td class="result no">failed</td>' in failed
    assert "<b>Told apart from a retrained model by: what it kept.</b>" in failed
    gap = {**m(0.0, -0.2, 0.2), "detectable": 0.2}
    weak = render_html(card(run("unlearned", forget_mia_loss_auc_gap=gap, **GOOD), RETRAINED))
    assert 'data-label="Could it have seen a difference? ">no</td>' in weak


def test_the_area_under_a_roc_curve_is_the_auc():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 9, 50) / 3, rng.integers(2, 12, 70) / 3  # with ties
    many = rng.normal(size=2000), rng.normal(0.3, 2.0, size=2000)
    for (forget, unseen), error in ((few, 1e-12), (many, 1e-3)):
        false, true = plots._roc(forget, unseen)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1) and len(false) <= 2 + plots._ROC_POINTS
        pairs = forget[:, None] - unseen
        area = (np.diff(false) * (true[1:] + true[:-1]) / 2).sum()
        assert area == pytest.approx((pairs < 0).mean() + (pairs == 0).mean() / 2, abs=error)


def test_two_thousand_rows_stay_small():
    rng = np.random.default_rng(0)
    runs = [run(role, **GOOD) for role in roles.ROLES[:5]]
    losses = [
        {"task": "people", "model": r["model"], "seed": 0, "split": split, "loss": rng.gamma(2, 1, 2000)}
        for r in runs
        for split in ("forget", "unseen")
    ]
    for r in losses:
        r["scores"] = {"entropy": r["loss"] * rng.uniform(0.5, 2, 2000)}
    page = render_html({"schema": 2, "runs": runs}, rows=losses)
    assert len(page.encode()) < 300_000  # so three tasks with all five scores and all curves have 1 MB


def test_histograms_share_an_axis_and_count_every_row():
    edges = np.linspace(0, 4, 5)
    assert plots._shares(np.array([0.5, 1.5, 9.0, -1.0]), edges).tolist() == [0.5, 0.25, 0, 0.25]
    rng = np.random.default_rng(0)

    def histograms(scale):
        rows = [
            {"task": "t", "model": role, "seed": 0, "split": split, "loss": scale(rng)}
            for role in ("original", "retrained")
            for split in ("forget", "unseen")
        ]
        return _task_histograms(rows, "t", "h")

    assert not histograms(lambda g: g.uniform(1, 2, 50))["logarithmic"]
    assert histograms(lambda g: 10 ** g.uniform(-5, 1, 50))["logarithmic"]  # one bar on a linear axis
    zeros = histograms(lambda g: np.zeros(5))
    assert len(zeros["histograms"]) == 2 and not zeros["clipped"]


def test_empty_and_partial_cards_render():
    assert "holds no runs" in render_html(card())
    page = render_html(card(ORIGINAL), title="Only one")
    assert "<title>Only one</title>" in page and "No unlearned model has been measured" in page
    odd = render_html(card(run("original", mine=1.0, holdout_loss=2.0)))
    assert "holdout rows" in odd and "mine" in odd
    some = {
        "people": {"data": {"forget": {"rows": 3}}, "models": {"original": {"weights": None}}, "asked": "Forget it."}
    }
    partial = render_html({"schema": 2, "runs": [{**ORIGINAL, "details": {}}], "provenance": some})
    assert "<td>3</td>" in partial and "None" not in partial and "Forget it." in partial


# ---------------------------------------------------------------------------------------------------------------
# model card
# ---------------------------------------------------------------------------------------------------------------


def test_card_section():
    info = {
        "title": "people-unlearned",
        "kind": "unlearned",
        "method": "Adaptive gradient ascent.",
        "settings": {"learning_rate": 1e-4, "gap": "hinge|squared"},
        "stop_reason": REACHED,
        "limits": ["Reconstructed, not the authors' code."],
        "how_to_load": "AutoModelForCausalLM.from_pretrained('x')\n",
        "versions": {"torch": "2.13"},
    }
    text = card_section.render_card_section(card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), info)
    assert text.startswith("# people-unlearned\n\n## What this model is\n") and not text.startswith("---")
    for part in (
        "has **unlearned** rows",
        "| `gap` | hinge\\|squared |",
        f"**Stopped because** {STOP_REASONS[REACHED]}.",
        "- people (unlearned): forgot: yes",
        "- Reconstructed, not the authors' code.",
        "```python\nAutoModelForCausalLM.from_pretrained('x')\n```",
        "torch 2.13",
    ):
        assert part in text
    # A Markdown table needs a blank line before it, no blank line in it, and as many cells in each line.
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("|---"):
            assert lines[i - 2] == ""
            end = next(j for j in range(i, len(lines)) if not lines[j].startswith("|"))
            cells = {len(re.findall(r"(?<!\\)\|", row)) for row in lines[i - 1 : end]}
            assert len(cells) == 1 and end - i > 2 and lines[end] == ""
    assert "| By loss: AUC | – | 0.5 (0.41 – 0.59) | 0.51 (0.42 – 0.6) | as retrained |" in lines
    assert "### people, unlearned: not told apart" in lines
    assert any(line.startswith("| Utility kept | passed | – | 99.1 % of the retrained") for line in lines)


def test_card_section_without_scores():
    text = card_section.render_card_section(None, {"kind": "unlearning-ready", "settings": {"inner_lr": 1.0}})
    assert "trained **ready for deletion**" in text and "Scores" not in text and "Findings" not in text
    assert card_section.render_card_section(None, {}).startswith("## What this model is")


def test_report_needs_no_torch():
    code = "import sys; from hf_unlearn.report.page import render_html; render_html({'schema': 1, 'runs': []}); "
    code += "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
