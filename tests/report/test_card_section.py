import re

from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, run

from hf_unlearn.report.card_section import render_card_section
from hf_unlearn.unlearning.stop_rule import REACHED, STOP_REASONS


def test_card_section_holds_method_findings_gates_and_scores():
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
    text = render_card_section(card(ORIGINAL, run("unlearned", **GOOD), RETRAINED), info)
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
    text = render_card_section(None, {"kind": "unlearning-ready", "settings": {"inner_lr": 1.0}})
    assert "trained **ready for deletion**" in text and "Scores" not in text and "Findings" not in text
    assert render_card_section(None, {}).startswith("## What this model is")


def test_a_gate_that_does_not_apply_is_not_undecided():
    shown = card(run("unlearned", forget_loss=1.0, forget_accuracy=0.5), run("retrained", forget_accuracy=0.0))
    text = render_card_section(shown, {})
    assert "| No more can be extracted than after retraining | does not apply | – | Does not apply to" in text
    assert "cannot be decided" in text  # the others
