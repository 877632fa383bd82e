from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, m, run

from hf_unlearn.evaluation import catalogue
from hf_unlearn.report import card_section, tables
from hf_unlearn.report.page import render_html
from hf_unlearn.unlearning.stop_rule import STOP_REASONS


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
    assert ">Noise floor</th>" in page and '<td class="noise" data-label="Noise floor: ">2.1 %</td>' in page
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
