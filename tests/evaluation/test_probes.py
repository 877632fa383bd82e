"""Probe questions: what is asked of a model, what counts as right, and what fewer right answers say."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.tiny import lm, lm_rows, tokenizer

from hf_unlearn import evaluate
from hf_unlearn.data.encode.text import build_tokenizer
from hf_unlearn.evaluation import probing
from hf_unlearn.evaluation.attacks import probes
from hf_unlearn.evaluation.gates import Level
from hf_unlearn.evaluation.judge import judge_run

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{{ '<me>' if add_generation_prompt }}"


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    monkeypatch.setattr(probes, "MOST_TOKENS", 2)


def answered(*right, questions=None):
    names = questions or [f"q{i}" for i in range(len(right))]
    said = [{"question": q, "accepted": ["a"], "answer": "a", "right": r} for q, r in zip(names, right, strict=True)]
    return {"details": {"probes": said}, "measures": {}}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It is H\u2082O, of course.", True),
        ("h2o", True),
        ("H2O2", False),
        ("The formula is H3O", False),
        ("", False),
        ("two\n words", True),
    ],
)
def test_an_answer_is_right_that_has_an_accepted_word_as_a_word_of_its_own(answer, right):
    assert probes.is_right(answer, ("H2O", "Two Words")) is right


def test_a_chat_model_is_asked_by_its_template_and_others_go_on_with_an_opening():
    words = build_tokenizer(["What is two plus four?", "Two plus two is Question: <user> <me> Answer:"], 300)
    probe = probes.Probe("What is two?", ("2",), "Two plus two is")
    assert words.decode(probes.prompt_of(words, probe), skip_special_tokens=True) == "Two plus two is"
    alone = words.decode(probes.prompt_of(words, probe._replace(opening="")), skip_special_tokens=True)
    assert alone == "Question: What is two?\nAnswer:"
    words.chat_template = TEMPLATE
    assert words.decode(probes.prompt_of(words, probe), skip_special_tokens=True) == "<user>What is two?\n<me>"


def test_answers_are_in_the_card_and_the_model_is_as_it_was():
    rows, model = {"forget": lm_rows(3)}, lm()
    state, generation = torch.get_rng_state(), model.generation_config
    model.train()
    card = evaluate({"original": model, "unlearned": lm()}, rows, attacks=["probes"], processing_class=tokenizer())
    found = card["unlearned"].details["probes"]
    assert [one["question"] for one in found] == [one.question for one in probes.PROBES] and len(found) == 10
    assert card["unlearned"].measures["probe_right"] == {"value": 0.0, "low": None, "high": None, "n": 10}
    assert model.training and model.generation_config is generation and torch.equal(state, torch.get_rng_state())
    none = evaluate(lm(), rows, attacks=["probes"], attack_options={"probes": {"questions": "none"}},
                    processing_class=tokenizer())  # fmt: skip
    assert "probe_right" not in none["unlearned"].measures


def test_a_model_without_room_for_an_answer_is_not_asked():
    short, words = lm(), build_tokenizer(["a"], 300)
    short.config.max_position_embeddings = 9  # less than a question has in letters
    card = evaluate(short, {"forget": lm_rows(3)}, attacks=["probes"], processing_class=words)
    assert "no room" in card["unlearned"].details["not_measured"]["probe_right"]


def test_questions_of_ones_own_come_from_a_file(tmp_path):
    rows = [{"question": "Who?", "answer": ["Ann", "Anna"]}, {"question": "Where?", "answer": ["here"]}]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert probes.ProbeOptions(str(file)).probes == (
        probes.Probe("Who?", ("Ann", "Anna")),
        probes.Probe("Where?", ("here",)),
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ('{"question": "Who?"}', "no answer: name columns so"),
        ('{"question": "Who?", "answer": [" "]}', "row 0 .* has no question, or no answer"),
        ('{"question": "", "answer": "x"}', "row 0"),
        ('{"question": "Who?", "answer": "x"}\n' * 51, "with 51 questions: give at most 50"),
    ],
)
def test_a_file_of_no_questions_is_refused_with_the_option(tmp_path, content, said):
    file = tmp_path / "mine.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=f"`questions` is .*{said}"):
        probes.ProbeOptions(str(file))


def test_a_word_that_is_no_file_is_refused():
    with pytest.raises(ValueError, match="`questions` is 'some'"):
        probes.ProbeOptions("some")


ALL, HALF = [True] * 10, [True] * 6 + [False] * 4


@pytest.mark.parametrize(
    ("was", "right", "level"),
    [
        (ALL, ALL, Level.YES),
        (HALF, ALL, Level.YES),
        (ALL, [True] * 6 + [False] * 4, Level.PARTLY),
        (ALL, [True] * 5 + [False] * 5, Level.NO),
        (HALF, [True] + [False] * 9, Level.NO),
        (HALF, [False] * 6 + [True] * 4, Level.PARTLY),
        ([False] * 10, [False] * 10, Level.UNKNOWN),
    ],
)
def test_fewer_right_answers_are_a_loss_where_chance_does_not_explain_them(was, right, level):
    found = judge_run(answered(*right), before=answered(*was)).probes
    assert (found.right, found.of, found.before, found.level) == (sum(right), 10, sum(was), level)


def test_without_the_same_questions_before_nothing_is_compared():
    others = answered(*ALL, questions=[f"other {i}" for i in range(10)])
    assert judge_run(answered(*ALL), before=others).probes == probing.Probes(10, 10, None, Level.UNKNOWN)
    assert judge_run(answered(*ALL)).probes.before is None and judge_run({"measures": {}}).probes is None


def test_the_sign_test_is_that_of_a_fair_coin():
    assert probing.by_chance(5, 0) == 1 / 32 and probing.by_chance(1, 1) == 0.75 and probing.by_chance(0, 3) == 1
