"""General ability in a request: which texts, that they are kept, that damage to them ends a run, and resuming."""

from __future__ import annotations

import functools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tiny import bert, fit, lm, lm_rows, same_bits, text_class_rows, tokenizer, weights
from helpers.unlearning import MORE, QUIET, mean_loss, memorised_more, trainer

from hf_unlearn import UnlearnConfig, UnlearnTrainer
from hf_unlearn.trainers import general_texts
from hf_unlearn.unlearning import general, stop_rule

TEXTS = lm_rows(24, 300)
OPTIONS = {"per_device_train_batch_size": 4, "learning_rate": 5e-4, "retain_budget": 0.5}


@functools.lru_cache
def able_weights():
    return weights(fit(lm(layers=2, hidden=64), [*MORE["forget"], *MORE["retain"], *TEXTS], steps=30))


def able():
    """A model that knows its rows by heart, and some texts beside."""
    model = lm(layers=2, hidden=64)
    model.load_state_dict(able_weights())
    return model


def test_general_rows_are_kept_where_a_request_without_them_loses_them(tmp_path):
    held = TEXTS.select(range(1, 24, 2))
    before = mean_loss(able(), held)
    lost = {}
    for given in ("none", TEXTS):
        run = trainer(tmp_path, able(), MORE, general_dataset=given, **OPTIONS)
        run.train()
        lost[str(given)[:4]] = mean_loss(run.model, held) - before
        assert run.stop_reason == stop_rule.REACHED
    assert run.general.to_dict() == {"source": "given", "learnt": 12, "held": 12}
    assert run.ending.general_before == pytest.approx(before, abs=1e-4)
    assert run.ending.general_loss == pytest.approx(before + lost["Data"], abs=1e-4)
    assert run.ending.able and lost["Data"] <= general.BUDGET + 1e-4 < lost["none"]


def test_a_step_adds_the_gradient_of_the_divergence_and_counts_its_rows(tmp_path):
    how = {"per_device_train_batch_size": 4, "max_steps": 3, "stop": False, "learning_rate": 1e-3}
    plain, kept = (trainer(tmp_path, able(), MORE, general_dataset=given, **how) for given in ("none", TEXTS))
    for run in (plain, kept):
        run.train()
    logged = [log["general_kl"] for log in kept.state.log_history if "general_kl" in log]
    assert logged[0] == pytest.approx(0, abs=1e-6) and logged[-1] > 0  # at first the model is what it was
    assert kept.general_term.rows_each_step == 2
    # What the model says is asked once (12 rows); 12 held ones before the first step and at the end; 2 a step.
    assert kept.row_passes - plain.row_passes == pytest.approx(3 * 2 + (12 + 12 + 12) / 3)


def test_the_cut_into_micro_batches_does_not_matter(tmp_path):
    found = []
    for size, times in ((4, 1), (2, 2)):
        how = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times, "max_steps": 3}
        run = trainer(tmp_path, able().double(), MORE, general_dataset=TEXTS, stop=False, gap="squared", **how)
        run.train()
        found.append(weights(run.model))
    for name, one in found[0].items():
        assert torch.allclose(one, found[1][name], atol=1e-6), name


def test_damage_to_general_texts_ends_the_run_and_good_weights_are_put_back(tmp_path, caplog):
    run = trainer(
        tmp_path, able(), MORE, general_dataset=TEXTS, objective="gradient_ascent", learning_rate=3e-3,
        per_device_train_batch_size=4, retain_budget=20.0, general_budget=0.002,
    )  # fmt: skip
    result = run.train()
    assert run.stop_reason == result.metrics["stop_reason"] in stop_rule.SPENT
    assert run.weights_of_step < run.state.global_step and run.ending.able
    assert result.metrics["guarantee"] == "not_forgotten"


def test_a_killed_run_ends_in_the_weights_that_it_would_have_had(tmp_path):
    how = {"stop": False, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-3}
    whole = trainer(tmp_path / "whole", able(), MORE, general_dataset=TEXTS, **how)
    whole.train()
    again = trainer(tmp_path / "whole", able(), MORE, general_dataset=TEXTS, **how)
    with np.load(tmp_path / "whole" / general_texts.SAID_FILE) as said:
        assert said["words"].shape == said["logs"].shape and len(said["labels"]) == 12
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert same_bits(weights(whole.model), weights(again.model))
    other = trainer(tmp_path / "whole", able(), MORE, general_dataset=TEXTS.select(range(8)), **how)
    with pytest.raises(ValueError, match="general_dataset"):
        other.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))


def test_a_classifier_keeps_what_it_says_of_given_rows_and_writes_none(tmp_path):
    rows = {"forget": text_class_rows(4), "retain": text_class_rows(12, 4), "unseen": text_class_rows(6, 100)}
    run = trainer(tmp_path, bert(), rows, general_dataset="auto", max_steps=1)
    run.train()
    assert not run.general and not (tmp_path / general_texts.FILE).exists()
    run = trainer(tmp_path, bert(), rows, general_dataset=text_class_rows(8, 200), max_steps=2, learning_rate=1e-2)
    run.train()
    kls = [log["general_kl"] for log in run.state.log_history if "general_kl" in log]
    assert kls[0] == pytest.approx(0, abs=1e-6) and kls[1] > 1e-6


# ---- texts that the model writes ----


@pytest.fixture
def speaks(monkeypatch):
    """Beginnings of one token each, as the tiny tokenizer has them."""
    starts = tuple(f"t{row['input_ids'][0]} t{row['input_ids'][1]}" for row in TEXTS)
    monkeypatch.setattr(general, "STARTS", starts)


class Words:
    """The tiny tokenizer, which reads words apart."""

    def __new__(cls):
        from tokenizers.pre_tokenizers import WhitespaceSplit

        made = tokenizer().__class__(tokenizer_object=tokenizer()._tokenizer, **tokenizer().special_tokens_map)
        made._tokenizer.pre_tokenizer = WhitespaceSplit()
        return made


def test_own_texts_are_samples_by_the_seed_and_leave_the_random_state(speaks):
    model = able()
    state = torch.get_rng_state()
    one, same, other = (general_texts.own_texts(model, Words(), seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert one == same != other and len(one) > general.TEXTS // 2
    for row in one:
        prompt = row["labels"].count(-100)
        assert prompt > 0 and row["labels"][prompt:] == row["input_ids"][prompt:]
        assert len(row["attention_mask"]) == len(row["input_ids"]) <= 32


def test_of_chats_and_plain_texts_half_are_held_out():
    words = Words()
    words.chat_template = "{% for m in messages %}t5 t6 {{ m['content'] }}{% endfor %}"
    chat = [words.apply_chat_template([{"role": "user", "content": ask}], return_dict=False) for ask in general.ASKS]
    made = general_texts._beginnings(words)
    held = [one for one, out in zip(made, general.held_out(len(made)), strict=True) if out]
    assert len(made) == 48 and sum(one in chat for one in made) == 24 == len(held)
    assert sum(one in chat for one in held) == 12


def test_texts_that_say_what_rows_say_are_left_out(speaks, monkeypatch):
    run = SimpleNamespace(forget_dataset=MORE["forget"], retain_dataset=TEXTS)
    known = general.all_runs(general_texts._said(run))
    texts = [general_texts._labels(row) for row in general_texts.own_texts(able(), Words(), 0)]
    assert any(general.says_rows(text, known) for text in texts)


def test_a_model_that_has_nothing_to_say_beside_its_rows_writes_no_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(general, "SAME", 1)  # its rows are of ten tokens at most
    run = trainer(tmp_path, memorised_more(), MORE, general_dataset="auto", **OPTIONS, max_steps=1)
    run.train()
    assert not run.general and run.rule.general_budget is None
    assert not (tmp_path / general_texts.FILE).exists()
    assert run.record()["general"] == {"source": "none", "learnt": 0, "held": 0}


def test_written_texts_are_stored_beside_the_result_and_half_of_them_are_only_measured(tmp_path, speaks, monkeypatch):
    monkeypatch.setattr(general, "GUESSING", 2.0)
    run = trainer(tmp_path, able(), MORE, general_dataset="auto", **OPTIONS, max_steps=2)
    run.train()
    lines = [json.loads(line) for line in (tmp_path / general_texts.FILE).read_text().splitlines()]
    assert run.general.source == general_texts.OWN and len(lines) == len(run.general.learnt) + len(run.general.held)
    assert [line["held"] for line in lines[:4]] == [False, True, False, True]
    assert {"id", "text", "held", "input_ids"} <= set(lines[0])
    assert run.rule.general_budget == general.OWN_BUDGET > general.BUDGET
    loss = run.measurements.mean_loss(run.general.held)
    assert math.isfinite(loss) and run.ending.general_loss == pytest.approx(loss)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no/such/file.jsonl", "`general_dataset` cannot be read"),
        ([], "The general set is empty"),
        ([{"input_ids": [4, 5, 6], "labels": [-100, 5, 6]}], "one row"),
        (7, "general"),
        ([{"labels": [0.0, 1.0], "pixel_values": [1.0]}] * 2, "several labels a row"),
    ],
)
def test_general_rows_that_cannot_be_taken_are_named_before_a_model_is_loaded(tmp_path, given, said):
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, "no/such/model", MORE, general_dataset=given)


def test_general_rows_that_are_asked_for_are_refused_before_a_model_is_loaded(tmp_path):
    given = [TEXTS[0], {**MORE["forget"][1], "id": 7}, {**MORE["forget"][2], "id": 8}]
    with pytest.raises(ValueError, match=r"2 general row.s. have the content of a forget row .* 1 = 7, 2 = 8"):
        trainer(tmp_path, "no/such/model", MORE, general_dataset=given)


def test_what_the_tokenizer_or_its_chat_template_cannot_take_is_no_beginning(speaks, monkeypatch):
    words = Words()
    plain = general_texts._beginnings(words)
    words.chat_template = "{{ raise_exception('the first turn is to be of the system') }}"
    assert general_texts._beginnings(words) == plain != []

    class Strict:
        eos_token_id = 2

        def __call__(self, text):
            if text != general.STARTS[0]:
                raise KeyError(text)
            return words(text)

    assert general_texts._beginnings(Strict()) == plain[:1]
    monkeypatch.setattr(general, "STARTS", ())
    assert general_texts.own_texts(able(), words, 0) == []


def saying(tmp_path):
    """A run by its own words, with a checkpoint of its second step; and the same run once more, to resume."""
    how = {"passes": "4", "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2, "retain_budget": 30.0}
    options = {"per_device_train_batch_size": 4, "general_budget": 30.0, **how}
    args = UnlearnConfig(str(tmp_path), **QUIET, **options)
    run, again = (UnlearnTrainer(able(), args, *MORE.values(), processing_class=Words()) for _ in range(2))
    run.train()
    return run, again


def test_a_run_that_goes_on_writes_no_other_texts(tmp_path, speaks, monkeypatch):
    monkeypatch.setattr(general, "GUESSING", 2.0)
    run, again = saying(tmp_path)
    assert run.general.source == general_texts.OWN
    for name in (general_texts.SAID_FILE, general_texts.FILE):
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=rf"{name} is not there"):
            again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_run_that_had_nothing_to_say_has_no_texts_when_it_goes_on(tmp_path, speaks, monkeypatch, caplog):
    monkeypatch.setattr(general, "GUESSING", 0.0)
    run, again = saying(tmp_path)
    assert not run.general and not (tmp_path / general_texts.FILE).exists()
    assert "`general_budget` is 30, but no general texts are kept" in caplog.text
    monkeypatch.setattr(general, "GUESSING", 2.0)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert not again.general and again.stop_reason is not None


def test_what_an_earlier_request_has_left_in_the_folder_is_no_word_of_this_one(tmp_path):
    for name in (general_texts.SAID_FILE, general_texts.FILE):
        (tmp_path / name).write_text("old")
    trainer(tmp_path, able(), MORE, max_steps=1).train()
    assert not any((tmp_path / name).exists() for name in (general_texts.SAID_FILE, general_texts.FILE))


def test_a_budget_that_nothing_reads_is_named(tmp_path):
    with pytest.raises(ValueError, match="`general_budget` is 0.2, but nothing reads it: `general_dataset` is"):
        trainer(tmp_path, "no/such/model", MORE, general_budget=0.2)
    with pytest.raises(ValueError, match="general_budget"):
        UnlearnConfig("out", stop=False, general_budget=0.1)
    with pytest.raises(ValueError, match="general_budget"):
        UnlearnConfig("out", general_budget=0)
