import difflib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, everything, m, run

from hf_unlearn.evaluation import roles
from hf_unlearn.evaluation.gate_rules import gate_rules
from hf_unlearn.report.page import render_html
from hf_unlearn.report.words.names import gate_title

GOLDEN = Path(__file__).with_name("golden.html")
RENEW = "HF_UNLEARN_RENEW_GOLDEN"


def normalised(page: str) -> str:
    """Without the lines of the drawings, which differ between versions of matplotlib; their number and labels stay."""
    page = re.sub(r'(<svg role="img" aria-label="[^"]*").*?</svg>', r"\1></svg>", page, flags=re.S)
    return re.sub(r"\n\s*\n+", "\n", page)


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
    return render_html(**everything())


def test_page_looks_as_the_committed_one(page):
    page = normalised(page)
    if os.environ.get(RENEW):
        GOLDEN.write_text(page, encoding="utf-8")
    known = GOLDEN.read_text(encoding="utf-8")
    lines = difflib.unified_diff(known.splitlines(), page.splitlines(), "golden.html", "now", lineterm="", n=0)
    assert page == known, (
        "The page has changed. If it should have, look at it in a browser, then renew the committed page:\n"
        f"    {RENEW}=1 pytest tests/report/test_page.py\n" + "\n".join([*lines][:60])
    )


def test_committed_page_is_small():
    assert len(GOLDEN.read_bytes()) < 200_000


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
    assert "Forget <six> people." in text and "Unread" not in text
    assert text.count("Model Forgotten Not repeated") == 1  # two tasks: all at a glance
    # curves of two runs, relearning of one kind, ROC by two scores and by one, weights, histograms of 6 roles and of 2
    assert page.count("<svg") == 2 + 1 + 3 + 1 + 8


def said(page) -> str:
    """The words of a page, without its style sheet."""
    text = " ".join(Page(page[page.index("<body>") :]).text)
    return re.sub(r"\s+", " ", text).replace("\u00a0", " ")


def made(**more) -> dict:
    """The provenance of the task "people"."""
    request = {"by": "column", "column": "person", "fraction": 0.1, "count": 12, "values": [], "dataset": "people"}
    model = {"weights": "a", "architecture": "LlamaForCausalLM", "parameters": 630_000}
    return {"people": {"request": request, "date": "2026-11-29", "models": {"unlearned": model}, **more}}


SLOW = {"recovery_real_area": {"value": 0.5}}


def test_page_begins_with_what_was_asked_the_result_and_what_to_do():
    text = said(render_html({**card(ORIGINAL, run("unlearned", **GOOD, **SLOW), RETRAINED), "provenance": made()}))
    first = text[: text.index("An attacker could")]
    for part in (
        "what became of it (measured 2026-11-29).",
        "48 rows of 12 people, a tenth of all. LlamaForCausalLM, 630 thousand parameters; data: people.",
        "Forgotten: yes by their loss only . Not repeated any more: yes . Can be brought back by fine-tuning: yes .",
        'What to do now: Retrain without these rows or unlearn again with resistance="relearn".',
    ):
        assert part in first


def test_models_with_the_same_result_share_a_line_and_others_do_not():
    runs = [ORIGINAL, RETRAINED, run("unlearned", **GOOD, **SLOW), run("ready_unlearned", **GOOD, **SLOW)]
    assert render_html(card(*runs)).count('<p class="outcome">') == 1
    runs[-1] = run("ready_unlearned", **GOOD)
    page = render_html(card(*runs))
    assert page.count('<p class="outcome">') == 2 and '<span class="of">ready, then unlearned</span>' in page


def test_several_tasks_stand_in_one_table_under_a_sentence_that_counts(page):
    sentence = "Of 3 unlearned models, 0 forgot as far as the tests can show, 0 kept the rest, 1 kept general ability"
    assert f"{sentence}, 2 can be" in said(page)
    table = page[page.index('<table class="summary') : page.index("</table>")]
    assert table.count('data-label="What to do now: "') == 3 and table.count('data-label="Forgotten: "') == 3


def test_a_trial_run_says_so_and_claims_nothing():
    shown = card(ORIGINAL, run("unlearned", **GOOD, **SLOW), run("ready_unlearned", **GOOD), RETRAINED)
    page = render_html({**shown, "provenance": made(smoke=True)})
    assert '<p class="trial"><b>This was a trial run' in page
    text = said(page)
    for claim in (
        "Not told apart",
        "Forgotten:",
        "What to do now",
        "What readiness bought",
        "What the verdict rests on",
    ):
        assert claim not in text, claim
    assert "Loss (nats per label)" in text  # the numbers are there
    several = said(
        render_html({**card(*shown["runs"], run("unlearned", task="other", **GOOD)), "provenance": made(smoke=True)})
    )
    assert "people 48 rows of 12 people, a tenth of all. This was a trial run" in several
    assert "Of 1 unlearned model, " in several  # of the other task
    both = {task: {"smoke": True} for task in ("people", "other")}
    page = render_html({**shown, "provenance": both})
    assert page.count("This was a trial run") == 1 and '<table class="summary' not in page


def test_details_are_folded_and_opened_by_printing(page):
    assert page.count("<details>") == page.count("</details>") >= 12 and "<details open" not in page
    for name in ("gates", "curves", "relearning", "roc", "histograms", "weights", "scores", "glossary"):
        after = page[page.index(f'id="{name}"') :]
        assert after.index("<details>") < after.index("<h2", 4), name
    printing = page[page.rindex("@media print") :]
    assert "details::details-content { content-visibility: visible" in printing
    assert ".cards { display: block; }" in printing and ".card, tr { break-inside" not in page  # the first page is full


def test_contents_name_the_sections_that_are_there(page):
    links = re.findall(r'href="#([^"]*)"', page[page.index('<nav class="toc"') : page.index("</nav>")])
    assert links[:3] == ["t0", "t1", "gates"] and {"scores", "provenance", "limits"} <= set(links)
    assert set(re.findall(r'<h2 id="([^"]*)"', page)) == set(links[2:])
    bare = render_html(card(ORIGINAL))
    links = re.findall(r'href="#([^"]*)"', bare[bare.index('<nav class="toc"') : bare.index("</nav>")])
    assert links == re.findall(r'<h2 id="([^"]*)"', bare) == ["scores", "glossary", "limits", "provenance"]


def test_on_a_narrow_page_every_cell_says_what_it_is(page):
    stacked = re.findall(r'<table class="(?:summary stacked|stacked scores)"[^>]*>.*?</table>', page, flags=re.S)
    assert len(stacked) == 3  # the summary, and the scores of two tasks
    for table in stacked:
        for cell in re.findall(r"<td[^>]*>", table):
            assert "data-label=" in cell or "nothing" in cell or 'class="wide"' in cell, cell


def test_every_measure_says_which_direction_is_good(page):
    scores = page[page.index('id="scores"') : page.index('id="glossary"')]
    assert scores.count('<td class="ideal"') > 20
    assert '<td class="ideal" data-label="Hoped for: "></td>' not in scores
    assert "high is good" in page[page.index('id="relearning"') : page.index('id="roc"')]


def test_versions_stand_once():
    shown = {**card(ORIGINAL, run("unlearned", task="b", **GOOD)), "provenance": {}}
    ours = {"torch": "1.2.3", "hf_unlearn": "9"}
    shown["provenance"] = {task: {"versions": ours} for task in ("people", "b")}
    text = said(render_html(shown, versions=dict(reversed(ours.items()))))
    assert text.count("1.2.3") == 1 and "The scores of people and the scores of b and this page : torch 1.2.3" in text
    assert said(render_html(shown, versions={"torch": "4.5.6"})).count("torch") == 2
    assert "transformers" in render_html(card(ORIGINAL))


def test_page_follows_the_readers_colours(page):
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert "currentColor" in svgs and "var(--forget)" in svgs and "var(--unseen)" in svgs
    assert not re.search(r"#[0-9a-f]{6}\b", svgs)  # no fixed colour is left, so nothing is unreadable in the dark
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page
    assert "<text" in svgs  # letters stay letters
    assert "nan" not in svgs.lower()


def test_page_escapes_names(page):
    assert "<b>digits</b>" not in page and "&lt;b&gt;digits&lt;/b&gt;" in page


def test_page_shows_the_gates_one_by_one(page):
    table = re.sub(r"\s+", " ", page[page.index('id="gates"') : page.index('id="curves"')])
    for name in gate_rules():
        assert gate_title(name) in table
    for result in (
        'yes">passed</td>',
        'no">failed</td>',
        'unknown">undecided</td>',
        'unknown">does not apply</td>',
    ):
        assert f'<td class="result {result}' in table
    gap = {**m(0.0, -0.2, 0.2), "detectable": 0.2}
    blind = render_html(card(run("unlearned", forget_mia_loss_auc_gap=gap, **GOOD), RETRAINED))
    assert 'data-label="Could it have seen a difference? ">no</td>' in blind


def test_page_shows_the_worst_of_several_seeds():
    bad = {**GOOD, "forget_loss": 9.0, "forget_mia_loss_auc": m(0.1, 0.05, 0.2)}
    shown = card(*(run("unlearned", seed=s, **measures) for s, measures in enumerate((GOOD, bad, GOOD))), RETRAINED)
    page = render_html(shown)
    assert page.count('<article class="card">') == 1 and "3 training seeds" in page
    assert "Shown is seed 1, no seed is worse. The others: seed 0: not told apart, forgot: yes; seed 2:" in page
    assert page.count('<table class="gates stacked">') == 3


def test_page_says_by_the_loss_alone_where_other_tests_contradict_a_yes():
    retrained = run("retrained", **{**RETRAINED["measures"], "forget_extraction_strength": 0.2})
    runs = [ORIGINAL, retrained, run("unlearned", steps=9, forget_extraction_strength=0.3, **GOOD)]
    runs += [run("ready_unlearned", steps=3, **GOOD), run("unlearned", task="other", **GOOD)]
    page = render_html(card(*runs))
    assert '<b class="partly">Yes by their loss, but not by every test.</b> Against it: more of' in page
    assert '<td data-label="Forgotten: " class="partly">yes by their loss only</td>' in page
    assert '<td data-label="Forgotten: " class="yes">yes</td>' in page
    assert "; forgot, by their loss: yes, without readiness: yes" in page
    assert "<b>Forgot: yes by their loss only.</b>" in page and "<b>Forgot: yes.</b>" in page


def test_report_size_is_bounded_for_2000_rows():
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
    unknown = {"people": dict.fromkeys(("models", "data", "versions", "commands", "request", "date", "smoke"))}
    assert ">None" not in render_html({**card(run("unlearned", **GOOD)), "provenance": unknown})


def test_report_needs_no_torch():
    code = "import sys; from hf_unlearn.report.page import render_html; render_html({'schema': 1, 'runs': []}); "
    code += "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
