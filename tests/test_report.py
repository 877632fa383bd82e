import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from hf_unlearn import figures, findings, report
from hf_unlearn.schedule import REACHED, STOP_REASONS


def m(value, low=None, high=None, n=48):
    """A measure; without an interval given, one of no width."""
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n}


def run(model, *, task="people", seed=0, steps=None, stop_reason=None, **measures):
    cost = {"steps": steps, "row_passes": None, "seconds": None}
    measures = {k: v if isinstance(v, dict) else m(v) for k, v in measures.items()}
    return {
        "task": task,
        "model": model,
        "seed": seed,
        "measures": measures,
        "cost": cost,
        "stop_reason": stop_reason,
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
        for r, n in zip(findings.BEFORE, (3 * a, a), strict=True)
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
    table = report.score_table(card(*runs), "people")
    assert [role["name"] for role in table["roles"]] == ["original", "unlearned", "retrained"]
    assert [group["title"] for group in table["groups"]] == ["Forget rows", "Unseen rows", "Retain rows"]
    forget = table["groups"][0]
    assert [row["name"] for row in forget["rows"]] == ["forget_loss", "forget_exact_match", "forget_mia_loss_auc"]
    assert forget["n"] == 48
    auc = forget["rows"][2]
    assert auc["label"] == "Membership by loss: AUC" and auc["ideal"] == "0.5"
    assert auc["cells"] == [
        None,
        {"value": "0.5", "interval": "0.41 – 0.59"},
        {"value": "0.51", "interval": "0.42 – 0.6"},
    ]
    assert forget["rows"][1]["cells"][0]["value"] == "100 %"
    assert table["cost"][0]["cells"][1]["value"] == "12"
    assert table["cost"][1]["cells"][1]["value"] == STOP_REASONS["max_steps"]


def test_score_table_averages_seeds():
    runs = [run("original", seed=s, forget_loss=v, steps=v) for s, v in ((0, 1.0), (1, 2.0), (2, 6.0))]
    table = report.score_table(card(*runs), "people")
    assert table["groups"][0]["rows"][0]["cells"] == [{"value": "3", "interval": "1 – 6"}]
    assert table["seeds"] == [0, 1, 2] and table["cost"][0]["cells"] == [{"value": "3", "interval": "1 – 6"}]


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
    return report.render_html(card(*runs), rows=losses, histories=histories, about={"people": "Forget <six> people."})


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
    order = ["findings", "scores", "curves", "histograms", "glossary", "limits"]
    positions = [page.index(f'id="{name}"') for name in order]
    assert positions == sorted(positions)
    text = re.sub(r"\s+", " ", " ".join(Page(page).text))
    for part in (
        "The request: forget 48 rows.",
        "Forget <six> people.",
        "99.1 % of the retrained model's token accuracy",
        f"because {STOP_REASONS[REACHED]}",
        "10 steps instead of 40 (4 times fewer)",
        "Membership by loss: AUC",
        "τ, the target",
        "α, the forget weight",
        "forget rows, all",
        "No training log was given for this task.",
        "transformers",
    ):
        assert part in text
    assert page.count("<svg") == 2 + 6  # curves of two runs, histograms of five roles and of one


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
    steps, values = figures._series(log, "forget_loss")
    assert len(steps) <= 300 and (steps[0], steps[-1], values[-1]) == (0, 99_999, 99_999)
    svg, legend = figures.loss_curves([log], "c")
    assert len(svg) < 60_000 and [item["series"] for item in legend] == ["forget", "retain"]
    assert figures.loss_curves([[{"step": 1, "loss": 2.0}]], "c") is None


def test_histograms_share_an_axis_and_count_every_row():
    edges = np.linspace(0, 4, 5)
    assert figures._shares(np.array([0.5, 1.5, 9.0, -1.0]), edges).tolist() == [0.5, 0.25, 0, 0.25]
    rng = np.random.default_rng(0)

    def histograms(scale):
        rows = [
            {"task": "t", "model": role, "seed": 0, "split": split, "loss": scale(rng)}
            for role in ("original", "retrained")
            for split in ("forget", "unseen")
        ]
        return report._task_histograms(rows, "t", "h")

    assert not histograms(lambda g: g.uniform(1, 2, 50))["logarithmic"]
    assert histograms(lambda g: 10 ** g.uniform(-5, 1, 50))["logarithmic"]  # one bar on a linear axis
    zeros = histograms(lambda g: np.zeros(5))
    assert len(zeros["histograms"]) == 2 and not zeros["clipped"]


def test_empty_and_partial_cards_render():
    assert "holds no runs" in report.render_html(card())
    page = report.render_html(card(ORIGINAL), title="Only one")
    assert "<title>Only one</title>" in page and "No unlearned model has been measured" in page
    odd = report.render_html(card(run("original", mine=1.0, holdout_loss=2.0)))
    assert "holdout rows" in odd and "mine" in odd


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
    text = report.render_card_section(card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), info)
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
    assert "| Membership by loss: AUC | – | 0.5 (0.41 – 0.59) | 0.51 (0.42 – 0.6) | 0.5 |" in lines


def test_card_section_without_scores():
    text = report.render_card_section(None, {"kind": "unlearning-ready", "settings": {"inner_lr": 1.0}})
    assert "trained **ready for deletion**" in text and "Scores" not in text and "Findings" not in text
    assert report.render_card_section(None, {}).startswith("## What this model is")


def test_report_needs_no_torch():
    code = "import sys; from hf_unlearn import report; report.render_html({'schema': 1, 'runs': []}); "
    code += "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
