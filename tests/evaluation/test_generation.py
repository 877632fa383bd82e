import logging
import math
import random
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import VOCAB, bert, fit, lm, lm64, lm_list, same_bits, tokenizer, weights
from transformers import GenerationConfig

from hf_unlearn.evaluation import generate, rouge_recall

EOS = 2


def lcs(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


def test_rouge_recall_is_the_longest_common_subsequence_and_the_shared_words():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (rng.choice(["ab", "cd", "e", "f1", "g"], rng.integers(1, 9)).tolist() for _ in range(2))
        found = rouge_recall(" ".join(a), ", ".join(b).upper())
        assert found["rougeL_recall"] == pytest.approx(lcs(a, b) / len(b), abs=1e-15)
        assert found["rouge1_recall"] == pytest.approx(sum(min(a.count(x), b.count(x)) for x in set(b)) / len(b))


def test_rouge_recall_of_stems_of_nothing_and_of_other_scripts():
    assert rouge_recall("she writes", "writing")["rouge1_recall"] == 1.0
    assert rouge_recall("she writes", "writing", stemming=False)["rouge1_recall"] == 0.0
    assert rouge_recall("", "a b") == {"rouge1_recall": 0.0, "rougeL_recall": 0.0}
    for reference in ("", " .", "日本語"):
        assert all(map(math.isnan, rouge_recall(reference, reference).values()))
    with pytest.raises(ValueError, match="`reference` is a NoneType: expected a string"):
        rouge_recall("a", None)


def rows(n=6, end=True):
    """Prompts of two to five tokens, each with its own answer; with `end`, the answers end with the stop token."""
    found = []
    for i, row in enumerate(lm_list(n, short=9, long=14)):
        ids = row["input_ids"] + [EOS] * end
        start = 2 + i % 4
        found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]})
    return found


def test_of_a_document_the_second_half_is_compared(monkeypatch):
    ids = list(range(5, 13))
    document = {"input_ids": ids, "labels": ids}
    table = generate(lm(), [document, {"input_ids": ids, "labels": ids[:5] + [-100] * 3}], tokenizer())
    assert table["prompt"].to_pylist() == ["t5 t6 t7 t8", "t5 t6 t7"]
    assert table["reference"].to_pylist() == ["t9 t10 t11 t12", "t8 t9"]
    monkeypatch.setattr("hf_unlearn.evaluation.attacks.generate.MOST_OF_A_DOCUMENT", 3)
    assert generate(lm(), [document], tokenizer())["reference"].to_pylist() == ["t9 t10 t11"]


@pytest.fixture(scope="module")
def memorised():
    return fit(lm(hidden=32), rows(), steps=50)


def naive(model, row, limit):
    """Tokens by argmax, one at a time, over the whole text each time: no padding, no cache."""
    ids = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
    answer = []
    model.eval()
    while len(answer) < limit:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids + answer])).logits[0, -1].argmax())
        if token == EOS:
            break
        answer.append(token)
    return answer


def text(tokens):
    return tokenizer().decode(tokens, skip_special_tokens=True)


def check(model, of, table, limit):
    assert table.column("generation").to_pylist() == [text(naive(model, row, limit)) for row in of]


@pytest.mark.parametrize("side", ["left", "right"])
def test_generations_are_those_of_a_naive_loop(memorised, side):
    of, model = rows(), memorised
    of += [{**row, "input_ids": row["input_ids"][:1] + [7] + row["input_ids"][2:]} for row in of]  # never seen
    table = generate(model, Dataset.from_list(of), tokenizer(side), batch_size=5)
    longest = max(sum(label != -100 for label in row["labels"]) for row in of)
    check(model, of, table, longest + 8)
    assert table.column("row").to_pylist() == list(range(len(of)))
    assert [str(field.type) for field in table.schema] == ["int64", *["string"] * 3, "double", "double", "bool"]
    for found, row in zip(table.to_pylist(), of, strict=True):
        answer = [label for label in row["labels"] if label != -100]
        assert found["reference"] == text(answer)
        assert found["prompt"] == text(row["input_ids"][: len(row["labels"]) - len(answer)])
        assert found["exact"] == (found["generation"] == found["reference"])
        recall = rouge_recall(found["generation"], found["reference"])
        assert {key: found[key] for key in recall} == recall
    exact = table.column("exact").to_pylist()
    assert all(exact[: len(of) // 2]) and not all(exact)
    assert tokenizer(side).padding_side == side


def test_generations_of_learned_positions_and_a_limit_without_dropout():
    model, of = fit(lm64(dropout=0.5).float(), rows(), steps=20), rows()
    table = generate(model, of, tokenizer(), max_new_tokens=5)
    assert all(module.training for module in model.modules())
    check(model, of, table, 5)


def test_padded_rows_are_read_without_their_padding(memorised):
    def pad(row, left):
        more = {"input_ids": [9] * 3, "attention_mask": [0] * 3, "labels": [-100] * 3}
        return {key: more[key] * left + row[key] + more[key] * (not left) for key in row}

    want = generate(memorised, rows(), tokenizer())
    for left in (True, False):
        assert generate(memorised, [pad(row, left) for row in rows()], tokenizer()).equals(want)
    bare = [{key: row[key] for key in ("input_ids", "labels")} for row in rows()]
    assert generate(memorised, bare, tokenizer(), batch_size=1).equals(want)


def test_answers_without_an_end_are_compared_as_far_as_they_go():
    of = rows(4, end=False)
    table = generate(fit(lm(hidden=32), of, steps=50), of, tokenizer(), max_new_tokens=13)
    assert table.column("exact").to_pylist() == [True] * 4
    assert any(len(row["generation"].split()) > len(row["reference"].split()) for row in table.to_pylist())


def test_only_the_first_answer_of_a_dialogue_is_compared(memorised):
    row = rows()[0]
    longer = {key: row[key] + more for key, more in zip(row, ([5, 6], [1, 1], [-100, 6]), strict=True)}
    assert generate(memorised, [longer], tokenizer()).equals(generate(memorised, [row], tokenizer()))


def test_the_model_its_configuration_and_the_generators_stay_as_they_were(memorised, caplog, capfd):
    model = memorised
    want = generate(model, rows(), tokenizer())
    before, configuration = weights(model), model.generation_config
    leaky = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        top_p=0.5,
        top_k=3,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        min_new_tokens=12,
        max_length=3,
        suppress_tokens=[3, 4, 5],
        eos_token_id=EOS,
    )
    model.generation_config, model.config.use_cache = leaky, False
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    python, generator, numpy = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert generate(model, rows(), tokenizer(), batch_size=3).equals(want)
            model.generation_config.num_beams = 4
            assert generate(model, rows(), tokenizer()).equals(want)
        assert model.generation_config is leaky and leaky.temperature == 5.0 and leaky.num_beams == 4
        assert not caplog.records and capfd.readouterr() == ("", "")
        assert [module.training for module in model.modules()] == modes
        assert random.getstate() == python and torch.equal(torch.get_rng_state(), generator)
        assert (np.random.get_state()[1] == numpy).all() and same_bits(weights(model), before)
        with pytest.raises(IndexError):
            generate(model, [{"input_ids": [VOCAB, 3], "labels": [-100, 3]}], tokenizer())
        assert model.generation_config is leaky and [module.training for module in model.modules()] == modes
    finally:
        transformers_logger.removeHandler(caplog.handler)
        model.generation_config, model.config.use_cache = configuration, True


def test_the_models_own_stop_tokens_count_too(memorised):
    plain = generate(memorised, rows(), tokenizer())
    first = plain.column("generation")[0].as_py().split()
    configuration = memorised.generation_config
    memorised.generation_config = GenerationConfig(eos_token_id=[EOS, int(first[2][1:])])
    try:
        stopped = generate(memorised, rows(), tokenizer())
    finally:
        memorised.generation_config = configuration
    assert stopped.column("generation")[0].as_py().split() == first[:2]


def test_adapters_take_part():
    from peft import LoraConfig, get_peft_model

    plain = lm(hidden=32)
    model = get_peft_model(plain, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "lm_head"]))
    bare = generate(model, rows(), tokenizer(), max_new_tokens=6)
    fit(model, rows(), steps=30, lr=3e-2)
    table = generate(model, rows(), tokenizer(), max_new_tokens=6)
    check(model, rows(), table, 6)
    assert table.column("generation") != bare.column("generation")


def test_the_positions_of_the_model_bound_the_generations(caplog):
    model = lm()  # 32 positions
    row = {"input_ids": [5] * 30, "labels": [-100] * 29 + [5]}
    assert len(generate(model, [row], tokenizer()).column("generation")[0].as_py().split()) <= 3
    with pytest.raises(ValueError, match="row 0 of `dataset` has 29 tokens and the model 32 positions: that leaves no"):
        generate(model, [row], tokenizer(), max_new_tokens=4)
    assert not caplog.records
    generate(model, [row, *rows(1)], tokenizer())
    assert "before the longest reference" in caplog.text


GOOD = rows(2)


def refused(message, model=lm, of=GOOD, processing_class=tokenizer, **arguments):
    return pytest.param(model, of, processing_class, arguments, message, id=message)


@pytest.mark.parametrize(
    ("model", "of", "processing_class", "arguments", "message"),
    [
        refused("`dataset` is empty", of=[]),
        refused("row 1 of `dataset` has no prompt", of=[GOOD[0], {"input_ids": [5, 6], "labels": [5, -100]}]),
        refused("row 0 of `dataset` has no labels: all", of=[{"input_ids": [5, 6], "labels": [-100, -100]}]),
        refused("row 0 of `dataset` has no labels: its", of=[{"input_ids": [5, 6]}]),
        refused("expected one label and one mask", of=[{"input_ids": [5, 6], "labels": [-100]}]),
        refused("expected one label and one mask value", of=[{"input_ids": [5, 6], "labels": 1}]),
        refused("row 0 of `dataset` has .'inputs_embeds'.", of=[{**GOOD[0], "inputs_embeds": [1.0]}]),
        refused("`processing_class` is a NoneType, no tokenizer", processing_class=lambda: None),
        refused("`model` .BertForSequenceClassification. is not a causal", model=bert),
        refused("`model` .Linear. is not a causal", model=lambda: torch.nn.Linear(1, 1)),
        refused("`batch_size` is 0", batch_size=0),
        refused("`max_new_tokens` is 0", max_new_tokens=0),
    ],
)
def test_what_cannot_be_generated_is_refused(model, of, processing_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(model(), of, processing_class(), **arguments)
