"""The body of a model card: what it says first, what it holds, and that nothing in it is read as Markdown or HTML."""

from __future__ import annotations

import copy
import re

import pytest
from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, m, run

from hf_unlearn.report.card_section import render_card_section, sections
from hf_unlearn.report.markdown import code, escaped, fenced, literal
from hf_unlearn.unlearning.stop_rule import REACHED, STOP_REASONS

HOSTILE = "<script>alert(1)</script> | ``` [a](http://b) ![c](d) **e** <!-- /hf_unlearn model -->\n\n# f\n- g"
INFO = {  # all that a caller may say of a model
    "title": "a title",
    "kind": "unlearned",
    "rows": "12 rows",
    "asked": "Forget a person.",
    "method": "A paragraph.",
    "base_model": "org/base",
    "settings": {"name of a setting": "its value", "number": 1e-4},
    "training": {"name of an argument": "its value"},
    "evaluations": [{"name of a column": "its value", "step": 3}],
    "stop_reason": "a reason of the caller's own",
    "limits": ["a limit"],
    "how_to_load": "model = load()",
    "versions": {"library": "1.0"},
    "citation": "A citation.",
}


def everywhere(value, text: str):
    """`value` with each string in it, and each key of its dicts, made into `text`."""
    if isinstance(value, dict):
        return {everywhere(k, text): everywhere(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(one, text) for one in value]
    return text if isinstance(value, str) else value


def structure(text: str) -> list[tuple[str, int]]:
    """What Markdown sees of each line: how it begins, and its cells."""
    opens = re.compile(r"#+ |- |\||```|")
    return [(opens.match(line)[0], len(re.findall(r"(?<!\\)\|", line))) for line in text.splitlines()]


def assert_harmless(text: str, plain: str):
    assert "alert(1)" in text and "<script" not in text and "<!--" not in text
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)\*\*e|[^\\`\n]`{3}", text)
    assert structure(text) == structure(plain)


STRINGS = [field for field in INFO if field not in ("kind", "how_to_load")]  # a name of ours; code: see below


@pytest.mark.parametrize("field", STRINGS)
def test_no_string_of_the_info_is_read_as_markdown_or_html(field):
    hostile, plain = (
        render_card_section(None, {**INFO, field: everywhere(INFO[field], text)}) for text in (HOSTILE, "plain words")
    )
    assert_harmless(hostile, plain)


def put(*path):
    """Puts a text at a path of a score card."""

    def change(found: dict, text: str):
        for key in path[:-1]:
            found = found[key]
        found[path[-1]] = text

    return change


def rename_task(found: dict, text: str):
    for one in found["runs"]:
        one["task"] = text
    found["provenance"] = {text: found["provenance"]["people"]}


def add_measure(found: dict, text: str):
    found["runs"][1]["measures"][f"{text}_loss"] = m(1.0)


@pytest.mark.parametrize(
    "change",
    [rename_task, add_measure, put("runs", 1, "stop_reason"), put("provenance", "people", "asked")],
    ids=["task", "split", "stop reason", "what was asked"],
)
def test_no_string_of_a_score_card_is_read_as_markdown_or_html(change):
    shown = {**card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), "provenance": {"people": {"asked": "Forget."}}}
    texts = []
    for text in (HOSTILE, "plain words"):
        change(found := copy.deepcopy(shown), text)
        texts.append(render_card_section(found, {}))
    assert_harmless(*texts)


def test_escaped_text_still_reads_as_it_was():
    assert escaped("5 % (0.41 – 0.59) of snake_case, -1.0") == "5 % (0.41 – 0.59) of snake_case, -1.0"
    assert escaped("R&D _x_ ~5 $1") == r"R&amp;D \_x\_ \~5 \$1"
    assert escaped("# a") == r"\# a" and escaped("- a") == r"\- a" and escaped("1. a") == r"1\. a"
    assert escaped("a\x00\u202eb") == "ab"
    assert code("auc_gap") == "`auc_gap`" and code("a`b") == r"<code>a\`b</code>"


def test_a_name_in_code_stays_that_name_and_no_text_ends_its_fence():
    name = 'a"b\n```<script>&\\'
    text = fenced(f"name = {literal(name)}")
    fence = text.splitlines()[0].removesuffix("python")
    assert "<script" not in text and text.count(fence) == 2
    space: dict = {}
    exec(text.removeprefix(f"{fence}python\n").removesuffix(fence), space)
    assert space["name"] == name


def test_card_section_holds_verdict_method_findings_gates_and_scores():
    info = {
        "title": "people-unlearned",
        "kind": "unlearned",
        "method": "Adaptive gradient ascent.",
        "settings": {"learning_rate": 1e-4, "alpha": 0.1669758812615, "gap": "hinge|squared"},
        "stop_reason": REACHED,
        "limits": ["Reconstructed, not the authors' code."],
        "how_to_load": "AutoModelForCausalLM.from_pretrained('x')\n",
        "versions": {"torch": "2.13"},
    }
    text = render_card_section(card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), info)
    assert text.startswith("# people-unlearned\n\n- **Asked**: 48 rows.")
    for part in (
        "has unlearned rows",
        "| `learning_rate` | 0.0001 |\n| `alpha` | 0.166976 |\n| `gap` | hinge\\|squared |",
        f"The request stopped because {STOP_REASONS[REACHED]}.",
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
            assert len(cells) == 1 and end - i > 1 and lines[end] == ""
    assert "| By loss: AUC | – | 0.5 (0.41 – 0.59) | 0.51 (0.42 – 0.6) | as retrained |" in lines
    assert "### people, unlearned: not told apart" in lines
    assert any(line.startswith("| Utility kept | passed | – | 99.1 % of the retrained") for line in lines)


def test_the_verdict_is_five_lines_and_stands_first():
    shown = card(ORIGINAL, run("unlearned", **GOOD), RETRAINED)
    lines = sections(shown, {"kind": "unlearned"}, "unlearned")["verdict"].splitlines()
    labels = ["Asked", "Forgotten", "Kept", "An attacker could still", "How sure"]
    assert [re.match(r"- \*\*(.*?)\*\*: \S", line)[1] for line in lines] == labels
    assert render_card_section(shown, {"kind": "unlearned"}, "unlearned").startswith(lines[0])
    assert sections(None, {"kind": "unlearned"})["verdict"] == ""


@pytest.mark.parametrize("role", ["original", "retrained"])
def test_the_card_of_a_model_that_nothing_was_unlearned_from_gives_its_own_numbers_and_no_verdict(role):
    shown = sections(card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), {"kind": role}, role)
    assert "loss 0.02 (48 rows)" in shown["verdict"] if role == "original" else "loss 3.9" in shown["verdict"]
    assert "Forgotten" not in shown["verdict"] and len(shown["verdict"].splitlines()) <= 5
    assert "### people" not in shown["scores"] and "## Scores: people" in shown["scores"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("unlearning-ready", "was trained ready for deletion"),
        ("not ready", "have seen no readiness step"),
        ("plain", "was trained as usual"),
        ("original", "was trained as usual, on all rows"),
        ("retrained", "without the rows that were asked to be forgotten"),
        ("unlearned", "has unlearned rows"),
        ("not unlearned", "was asked to unlearn rows of its training data and did not"),
        ("request ended", "did not end by meeting its target"),
    ],
)
def test_the_card_says_what_the_model_is(kind, says):
    text = render_card_section(None, {"kind": kind, "settings": {"inner_lr": 1.0}})
    assert says in text and "Scores" not in text and "Findings" not in text
    assert ("has unlearned" in text) == (kind == "unlearned")
    assert ("trained ready" in text) == (kind in ("unlearning-ready", "not ready"))


def test_a_card_of_which_nothing_is_known():
    assert render_card_section(None, {}).startswith("## What this model is")


def test_a_gate_that_does_not_apply_is_not_undecided():
    shown = card(run("unlearned", forget_loss=1.0, forget_accuracy=0.5), run("retrained", forget_accuracy=0.0))
    text = render_card_section(shown, {})
    assert "| No more can be extracted than after retraining | does not apply | – | Does not apply to" in text
    assert "undecided" in text  # the others
