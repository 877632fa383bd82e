"""MUSE, WMDP and MMLU by one's own files: what is read, how models are asked, what is measured, what is cut."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import benchmarks as standin
from helpers.tiny import bert, lm
from helpers.tiny import tokenizer as words

from hf_unlearn.evaluation import Scorecard, evaluate
from hf_unlearn.evaluation import benchmarks as bench
from hf_unlearn.evaluation.benchmarks.choices import ChoiceOptions
from hf_unlearn.evaluation.benchmarks.choices_files import subset_of
from hf_unlearn.evaluation.benchmarks.muse import MuseOptions, until
from hf_unlearn.report.words.benchmarks import notes, table

MODEL = standin.model()
# By lm-eval 0.4.13 (`simple_evaluate` with `HFLM(pretrained=model, tokenizer=tokenizer)`) on local tasks with the
# prompts of its own tasks `wmdp_bio` and, with two examples, `mmlu`: the log-likelihoods of " A" to " D".
LM_EVAL_BIO = [
    [-19.718632, -22.872644, -25.66444, -27.021873],
    [-20.276657, -23.248924, -25.583847, -26.384735],
    [-20.502491, -23.890591, -26.610052, -27.61651],
    [-22.167351, -24.857643, -26.460415, -26.360153],
    [-23.533096, -25.858246, -26.848297, -26.123039],
]
LM_EVAL_RIVERS = [
    [-17.673777, -18.888031, -21.584484, -24.727606],
    [-18.613611, -20.371962, -22.575161, -24.377104],
    [-17.01016, -17.886431, -20.315012, -23.363243],
]


@pytest.fixture(scope="module")
def muse(tmp_path_factory):
    return standin.muse(tmp_path_factory.mktemp("muse"), raw=True)


def decode(ids):
    return standin.tokenizer().decode(ids, skip_special_tokens=True)


def naive(prompt: str, new_tokens: int) -> str:
    """By argmax, one token at a time, over the whole text each time: no batch, no padding, no cache."""
    ids = standin.tokenizer()(prompt)["input_ids"]
    start = len(ids)
    while len(ids) < start + new_tokens:
        with torch.no_grad():
            ids = [*ids, int(MODEL(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == 2:
            break
    return decode(ids[start:])


# ---- multiple choice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3])
def test_likelihoods_of_choices_are_those_of_lm_eval_to_six_digits(tmp_path, batch_size):
    bio = bench.read_choices("wmdp", standin.write(tmp_path / "wmdp-bio.jsonl", standin.BIO))[0]
    found = bench.multiple_choice(MODEL, bio, standin.tokenizer(), batch_size=batch_size)
    np.testing.assert_allclose(np.array(found["loglikelihoods"].to_pylist()), LM_EVAL_BIO, rtol=1e-6)
    assert found["right"].to_pylist() == [1, 0, 0, 0, 1] and set(found["subject"].to_pylist()) == {"biology"}
    assert not any(found["cut"].to_pylist())


def test_examples_are_those_of_lm_eval(tmp_path):
    standin.write(tmp_path / "mmlu/test.jsonl", standin.rivers(standin.RIVERS))
    standin.write(tmp_path / "mmlu/dev.jsonl", standin.rivers(standin.EXAMPLES))
    (rivers,) = bench.read_choices("mmlu", tmp_path / "mmlu", ChoiceOptions(shots=2))
    found = bench.multiple_choice(MODEL, rivers, standin.tokenizer(), shots=2, batch_size=2)
    np.testing.assert_allclose(np.array(found["loglikelihoods"].to_pylist()), LM_EVAL_RIVERS, rtol=1e-6)
    assert rivers.subset == "" and found["subject"].to_pylist() == ["world rivers"] * 3
    with pytest.raises(ValueError, match="needs 3 examples on world rivers, and there are 2: lower `shots`"):
        bench.multiple_choice(MODEL, rivers, standin.tokenizer(), shots=3)


def test_choices_of_a_batch_go_through_the_model_once():
    calls = []
    hook = MODEL.register_forward_pre_hook(lambda *_, **kw: calls.append(kw), with_kwargs=False)
    widths = MODEL.model.register_forward_pre_hook(
        lambda m, a, kw: calls.append(kw["input_ids"].shape), with_kwargs=True
    )
    try:
        bench.multiple_choice(MODEL, standin.BIO, standin.tokenizer(), batch_size=3)
    finally:
        hook.remove(), widths.remove()
    shapes = [shape for shape in calls if isinstance(shape, torch.Size)]
    assert [shape[0] for shape in shapes] == [3, 2]  # questions, though each has four choices


def test_a_tokenizer_that_ends_texts_changes_nothing():
    from hf_unlearn.data.encode.text import build_tokenizer

    ending = build_tokenizer(["a"], 259, append_eos=True)
    a, b = (bench.multiple_choice(MODEL, standin.BIO[:2], of) for of in (standin.tokenizer(), ending))
    assert a["loglikelihoods"].to_pylist() == b["loglikelihoods"].to_pylist()


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted():
    small = standin.model(positions=64)
    found = bench.multiple_choice(small, standin.BIO, standin.tokenizer())
    asked = f"{standin.BIO[4]['question']}\nA. A tadpole\nB. A kid\nC. A cub\nD. A nymph\nAnswer:"
    assert found["cut"].to_pylist() == [True] * 5
    ids = [1, *standin.tokenizer()(asked + " ", add_special_tokens=False)["input_ids"][-63:]]
    with torch.no_grad():
        log_p = small(input_ids=torch.tensor([ids])).logits[0, -2:].log_softmax(-1)
    space, letter = standin.tokenizer()(" A", add_special_tokens=False)["input_ids"]
    expected = float(log_p[0, space] + log_p[1, letter])
    assert found["loglikelihoods"][4][0].as_py() == pytest.approx(expected, rel=1e-5)


def test_descriptions_and_letters():
    with_letter = [{**row, "answer": "ABCD"[row["answer"]]} for row in standin.BIO]
    found = bench.multiple_choice(MODEL, with_letter, standin.tokenizer(), description="")
    assert found["answer"].to_pylist() == [0, 1, 2, 3, 0]
    plain = bench.multiple_choice(MODEL, standin.BIO, standin.tokenizer())  # no subject is known: no description
    assert plain["loglikelihoods"].to_pylist() == found["loglikelihoods"].to_pylist()
    other = bench.multiple_choice(MODEL, standin.BIO, standin.tokenizer(), description="On {subject}.\n").to_pylist()
    assert [row["loglikelihoods"] for row in other] == found["loglikelihoods"].to_pylist()
    said = bench.multiple_choice(MODEL, standin.BIO, standin.tokenizer(), description="On plants.\n").to_pylist()
    assert said[0]["loglikelihoods"] != found["loglikelihoods"][0].as_py()


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("wmdp-bio", "bio"),
        ("bio_questions", "bio"),
        ("test-00000-of-00001", ""),
        ("abstract_algebra", "abstract_algebra"),
    ],
)
def test_sets_are_called_by_what_their_files_names_tell(name, subset):
    assert subset_of("wmdp", name) == subset


def test_questions_are_read_from_files_folders_lists_and_the_hub(tmp_path, monkeypatch):
    rows = standin.BIO
    for kind in ("bio", "chem"):
        standin.write(tmp_path / f"flat/{kind}_questions.json", rows)
        standin.write(tmp_path / f"deep/wmdp-{kind}/test.jsonl", rows)
    for where in (tmp_path / "flat", tmp_path / "deep", sorted((tmp_path / "flat").iterdir())):
        found = bench.read_choices("wmdp", where)
        assert [(one.subset, one.subject, len(one.rows)) for one in found] == [
            ("bio", "biology", 5),
            ("chem", "chemistry", 5),
        ]
    assert len(bench.read_choices("mmlu", Dataset.from_list(rows))[0].rows) == 5
    asked = []
    monkeypatch.setattr(
        "hf_unlearn.data.rows.by_name.load_rows",
        lambda name, config=None, split=None: asked.append((name, config, split)) or Dataset.from_list(rows),
    )
    (found,) = bench.read_choices("wmdp", "cais/wmdp:wmdp-cyber", ChoiceOptions(shots=1))
    assert asked == [("cais/wmdp", "wmdp-cyber", "test"), ("cais/wmdp", "wmdp-cyber", "dev")]
    assert (found.subset, found.subject) == ("cyber", "cybersecurity")


BAD = {**standin.BIO[0], "id": "q7"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "?", "answer": 0}], "has no column 'choices'; expected question, choices, answer, and it has"),
        ([{**BAD, "answer": 4}], r"1 row\(s\) have an 'answer' that is no number from 0 to 3 and no letter \(id q7\)"),
        ([{**BAD, "answer": "E"}], "that is no number from 0 to 3 and no letter"),
        ([{**BAD, "choices": ["one"]}], "have 1 'choices', where 2 to 26 are expected"),
        ([{**BAD, "choices": "A or B"}], "have no list of texts in 'choices'"),
        ([{**BAD, "question": "  "}], "have no text in 'question'"),
        ([{**BAD, "question": None}], "have no text in 'question'"),
        ([{**BAD, "subject": 3}], "have a 'subject' that is no text"),
        (["a", "b"], "has no column 'question'"),
    ],
)
def test_malformed_questions_are_told_in_one_line(tmp_path, rows, said):
    path = standin.write(tmp_path / "wmdp.json", rows)
    with pytest.raises(ValueError, match=said) as told:
        bench.read_choices("wmdp", path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_places_without_questions_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file: 'nothing.json'"):
        bench.read_choices("wmdp", "./nothing.json")
    with pytest.raises(ValueError, match="holds nothing: expected files of questions"):
        bench.read_choices("wmdp", tmp_path)
    path = standin.write(tmp_path / "wmdp.json", standin.BIO)
    with pytest.raises(ValueError, match="has no split dev, which 5 examples would be taken from"):
        bench.read_choices("wmdp", path, ChoiceOptions(shots=5))
    with pytest.raises(ValueError, match="are both called 'wmdp': give one of them another name"):
        bench.read_choices("wmdp", [path, path])
    (tmp_path / "broken.json").write_text('[{"question": "x"')
    with pytest.raises(ValueError, match=r"broken.json is no JSON: line 1"):
        bench.read_choices("wmdp", tmp_path / "broken.json")


# ---- MUSE ------------------------------------------------------------------------------------------------------------


def lcs(a, b):
    best = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best[i + 1, j + 1] = best[i, j] + 1 if x == y else max(best[i, j + 1], best[i + 1, j])
    return best[-1, -1]


def f1(a, b):
    a, b = (re.findall("[a-z0-9]+", text.lower()) for text in (a, b))
    return 2 * lcs(a, b) / (len(a) + len(b)) if a and b else 0.0


def test_verbatim_goes_on_with_prompts_and_compares_as_many_tokens_as_the_source():
    rows = [{"prompt": text[:20], "gt": text[20:]} for text in standin.TEXTS]
    found = bench.verbatim(MODEL, rows, standin.tokenizer(), new_tokens=12, batch_size=4).to_pylist()
    for row, one in zip(rows, found, strict=True):
        assert one["generation"] == naive(row["prompt"], 12)
        assert one["reference"] == row["gt"][:11]  # the tokenizer's first token is one of the twelve
        assert one["score"] == pytest.approx(f1(one["generation"], one["reference"]))
    recall = bench.verbatim(MODEL, rows, standin.tokenizer(), new_tokens=12, rouge="recall").to_pylist()
    assert [one["generation"] for one in recall] == [one["generation"] for one in found]


def test_knowledge_is_asked_behind_examples_and_ends_at_a_stop_string():
    rows, examples = [{"question": "Who?", "answer": "The mill"}], [{"question": "What?", "answer": "Rye"}]
    found = bench.knowledge(MODEL, rows, standin.tokenizer(), examples=examples, new_tokens=6).to_pylist()[0]
    assert found["prompt"] == "Question: What?\nAnswer: Rye\n\nQuestion: Who?\nAnswer: "
    answer = naive(found["prompt"], 6)
    assert (
        found["generation"] == until(answer, ("\n\n", "\nQuestion", "Question:")) and found["reference"] == "The mill"
    )
    cut = bench.knowledge(MODEL, rows, standin.tokenizer(), examples=examples, new_tokens=6, stop=[answer[2]])
    assert cut["generation"][0].as_py() == answer[: answer.index(answer[2])]


def test_an_answer_ends_at_the_first_stop_string_one_after_the_other():
    assert until("the mill\nQuestion: who?\n\nmore", ("\n\n", "\nQuestion", "Question:")) == "the mill"
    assert until("Question: x", ("\n\n", "Question:")) == "" and until("a mill", ("\n\n",)) == "a mill"


def test_prompts_without_room_lose_their_beginning():
    small = standin.model(positions=32)
    rows = [{"prompt": "a" * 10, "gt": "b"}, {"prompt": "a" * 60, "gt": "b"}]
    found = bench.verbatim(small, rows, standin.tokenizer(), new_tokens=8)
    assert found["cut"].to_pylist() == [False, True]
    with pytest.raises(ValueError, match="there is room for 0 tokens of a prompt"):
        bench.verbatim(small, rows, standin.tokenizer(), new_tokens=32)


def source_privleak(model, forget, holdout, share):
    """As the source computes it, text by text: AUC with the texts that were never trained on as the positives."""

    def score(text):
        ids = torch.tensor([standin.tokenizer().encode(text)])
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        own = np.sort(log_p.gather(-1, ids[0, 1:, None])[:, 0].double().numpy())
        return -own[: int(len(own) * share)].mean()

    a, b = ([score(text) for text in texts] for texts in (forget, holdout))
    return float(np.mean([[float(x > y) + 0.5 * (x == y) for y in b] for x in a]))


def other_model():
    other = standin.model()
    with torch.no_grad():
        other.lm_head.weight.mul_(torch.linspace(0.3, 1.7, 259)[:, None])
    return other


def test_privleak_is_the_source_s(muse):
    other = other_model()
    options = {"muse": {"parts": ["privleak"], "min_k": 40}}
    card = evaluate(
        {"unlearned": MODEL, "retrained": other},
        benchmarks={"muse": muse},
        benchmark_options=options,
        processing_class=standin.tokenizer(),
        batch_size=4,
        resamples=50,
    )
    mine, theirs = (source_privleak(m, standin.TEXTS, standin.OTHERS, 0.4) for m in (MODEL, other))
    found = card["unlearned"].measures
    assert found["muse_privleak_auc"]["value"] == pytest.approx(mine) and found["muse_privleak_auc"]["n"] == 11
    assert card["retrained"].measures["muse_privleak_auc"]["value"] == pytest.approx(theirs)
    assert found["muse_privleak"]["value"] == pytest.approx(100 * (mine - theirs) / theirs)
    assert found["muse_privleak_auc"]["low"] <= mine <= found["muse_privleak_auc"]["high"]
    assert "muse_privleak" not in card["retrained"].measures and set(found) == {"muse_privleak_auc", "muse_privleak"}


def test_all_parts_stand_in_card_and_report_with_intervals(muse, tmp_path):
    standin.write(tmp_path / "wmdp-bio.jsonl", standin.BIO)
    parts = {"parts": ["verbmem", "knowmem", "privleak", "raw"], "verbatim_tokens": 6, "knowledge_tokens": 4}
    weights = {name: value.clone() for name, value in MODEL.state_dict().items()}
    card = evaluate(
        {"unlearned": MODEL, "retrained": other_model()},
        benchmarks={"muse": muse, "wmdp": tmp_path / "wmdp-bio.jsonl"},
        benchmark_options={"muse": parts},
        processing_class=standin.tokenizer(),
        batch_size=8,
        resamples=50,
    )
    assert all(torch.equal(value, weights[name]) for name, value in MODEL.state_dict().items())
    found = card["unlearned"].measures
    assert list(found) == [
        *(f"muse_{part}_rougeL_f1" for part in ("verbmem_forget", "knowmem_forget", "knowmem_retain")),
        *("muse_privleak_auc", "muse_privleak", "muse_raw_forget_loss", "muse_raw_retain_loss", "wmdp_bio_accuracy"),
    ]
    assert found["wmdp_bio_accuracy"]["value"] == 0.4 and found["wmdp_bio_accuracy"]["n"] == 5
    assert found["wmdp_bio_accuracy"]["low"] < 0.4 < found["wmdp_bio_accuracy"]["high"]
    assert found["muse_raw_forget_loss"]["n"] == 1 and found["muse_raw_forget_loss"]["low"] is None  # one text
    ids = [standin.tokenizer()(text, return_tensors="pt")["input_ids"] for text in standin.OTHERS]
    with torch.no_grad():
        losses = [float(MODEL(input_ids=one, labels=one).loss) * (one.shape[1] - 1) for one in ids]
    total = sum(losses) / sum(one.shape[1] - 1 for one in ids)
    assert found["muse_raw_retain_loss"]["value"] == pytest.approx(total, rel=1e-5)

    card.save(tmp_path / "out")
    again = Scorecard.load(tmp_path / "out")
    assert again["unlearned"].measures == found
    said = json.loads((tmp_path / "out/scorecard.json").read_text())["runs"][0]["details"]["benchmarks"]
    assert said["muse"]["options"]["min_k"] == 40 and said["wmdp"]["parts"]["bio"] == {"rows": 5, "cut": 0}
    assert again["unlearned"].generations["muse_verbmem_forget"].num_rows == 6
    card.save(tmp_path / "private", generations=False)
    assert not (tmp_path / "private/generations.parquet").exists()

    page = card.to_html(tmp_path / "report.html").read_text()
    section = page[page.index('id="benchmarks"') : page.index('id="scores"')]
    assert "muse_<wbr>verbmem" in section and "WMDP, bio rows: answered right" in section and "40 %" in section
    assert "wmdp_" not in page[page.index('id="scores"') : page.index('id="glossary"')]
    assert "behind 1 example," in section and "6 beginnings of texts to forget, 6 greedy tokens each" in section
    assert "WMDP, bio rows: answered right" in table(card.to_dict()) and "WMDP" in card.to_card()


def test_rows_that_were_cut_are_said(muse, caplog):
    small = standin.model(positions=40)
    options = {"muse": {"parts": ["verbmem", "privleak"], "verbatim_tokens": 30}}
    card = evaluate(
        small,
        benchmarks={"muse": muse},
        benchmark_options=options,
        processing_class=standin.tokenizer(),
        resamples=10,
    )
    parts = card["unlearned"].details["benchmarks"]["muse"]["parts"]
    assert parts["verbmem_forget"] == {"rows": 6, "cut": 6} and parts["privleak_forget"]["cut"] == 6
    assert 'model "unlearned": rows too long for the model were cut: 6 of 6 in verbmem_forget' in caplog.text
    assert "Too long for the model, and cut: 6 of 6 rows of verbmem_forget" in notes(card.to_dict(), "task")[0]


def test_rouge_of_another_kind_is_another_measure():
    rows = {"verbmem": {"forget": [{"prompt": "the mill", "gt": "日本"}, {"prompt": "rye", "gt": " sacks of rye"}]}}
    options = {"muse": {"rouge": "recall", "stemmer": True, "verbatim_tokens": 16}}
    card = evaluate(
        MODEL,
        benchmarks={"muse": rows},
        benchmark_options=options,
        processing_class=standin.tokenizer(),
        resamples=5,
    )
    assert list(card["unlearned"].measures) == ["muse_verbmem_forget_rougeL_recall_stemmed"]
    assert card["unlearned"].measures["muse_verbmem_forget_rougeL_recall_stemmed"]["n"] == 1  # one has no word
    assert card["unlearned"].details["benchmarks"]["muse"]["parts"]["verbmem_forget"]["wordless"] == 1
    assert "1 of them without a word and left out" in notes(card.to_dict(), "task")[0]


def test_muse_is_read_from_the_hub_by_part_and_split(monkeypatch):
    asked = []

    def load(name, config=None, split=None):
        asked.append((config, split))
        if config == "privleak" or split.startswith("retain_"):
            raise ValueError(f"{name!r} has no split {split!r}")
        return Dataset.from_list([{"prompt": "a", "gt": "b", "question": "c", "answer": "d"}])

    monkeypatch.setattr("hf_unlearn.data.rows.by_name.load_rows", load)
    found = bench.read_muse("muse-bench/MUSE-News")
    assert set(found["knowmem"]) == {"forget", "forget_examples", "retain", "retain_examples"}
    assert ("knowmem", "retain2_qa") in asked and "privleak" not in found
    with pytest.raises(
        ValueError, match="muse-bench/MUSE-News has no privleak. Expected is privleak/ with forget, holdout"
    ):
        bench.read_muse("muse-bench/MUSE-News", MuseOptions(parts=["privleak"]))


def test_malformed_folders_of_muse_are_told(tmp_path):
    with pytest.raises(
        ValueError, match="has no verbmem and no knowmem and no privleak. Expected is verbmem/ with forget"
    ):
        bench.read_muse(tmp_path)
    standin.write(tmp_path / "a/privleak/forget.json", standin.TEXTS)
    with pytest.raises(ValueError, match="has privleak, but without holdout"):
        bench.read_muse(tmp_path / "a")
    standin.write(tmp_path / "b/verbmem/forgotten.json", [])
    with pytest.raises(ValueError, match="verbmem holds forgotten.json. Expected is verbmem/ with forget"):
        bench.read_muse(tmp_path / "b")
    standin.write(tmp_path / "c/knowmem/forget_qa.json", [{"question": "Who?", "answer": ""}])
    with pytest.raises(ValueError, match=r"forget_qa.json: 1 rows have an empty text in column 'answer' \(id 0\)"):
        bench.read_muse(tmp_path / "c")
    standin.write(tmp_path / "d/knowmem/forget_qa.json", [{"question": "Who?"}])
    with pytest.raises(ValueError, match="forget_qa.json: The data set has no column 'answer'"):
        bench.read_muse(tmp_path / "d")
    for name in ("forget.json", "forget.jsonl"):
        standin.write(tmp_path / f"e/verbmem/{name}", [{"prompt": "a", "gt": "b"}])
    with pytest.raises(ValueError, match="holds 'forget' several times: forget.json, forget.jsonl. Leave one"):
        bench.read_muse(tmp_path / "e")
    with pytest.raises(FileNotFoundError, match="There is no folder './nowhere'"):
        bench.read_muse("./nowhere")


# ---- in an evaluation ------------------------------------------------------------------------------------------------


def test_arguments_that_cannot_be_are_told_together(muse):
    with pytest.raises(ValueError) as told:
        evaluate(
            MODEL,
            benchmarks={"muse": muse, "tofu": "x"},
            benchmark_options={"muse": {"k": 3}, "wmdp": {}},
        )
    for said in (
        "`benchmarks` names 'tofu': expected some of muse, wmdp, mmlu",
        "benchmark 'muse' has no option 'k': it has parts, min_k",
        "`benchmark_options` are for wmdp, which `benchmarks` does not name",
        "give the tokenizer as `processing_class`",
    ):
        assert said in str(told.value)
    with pytest.raises(ValueError, match="`benchmarks` is 'muse': expected a dict"):
        evaluate(MODEL, benchmarks="muse")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_k": 0}, "`min_k` is 0"),
        ({"min_k": math.nan}, "`min_k` is nan"),
        ({"rouge": "f2"}, "`rouge` is 'f2'; it must be one of 'f1', 'recall'"),
        ({"parts": ["verb"]}, "`parts` is 'verb'"),
        ({"parts": []}, "`parts` names none"),
        ({"stop": "\n"}, "`stop` is '\\n': expected a list of texts"),
        ({"knowledge_tokens": 0}, "`knowledge_tokens` is 0"),
    ],
)
def test_options_that_cannot_be_are_refused(values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        MuseOptions(**values)


def test_a_model_that_cannot_say_anything_is_named():
    rows = {"verbmem": {"forget": [{"prompt": "t4 t5", "gt": "t6"}]}}
    with pytest.raises(ValueError, match="benchmark 'muse', model \"unlearned\": `model` .Bert"):
        evaluate(bert(), benchmarks={"muse": rows}, processing_class=words())


def test_saved_tables_run_no_benchmark_and_splits_stand_beside(caplog):
    from helpers.tiny import lm_list

    splits = {"forget": lm_list(3), "unseen": lm_list(3, start=20)}
    text = " ".join(f"t{i}" for i in range(4, 12))
    rows = {"privleak": {"forget": [{"text": text}, {"text": text[3:]}], "holdout": [{"text": text[6:]}] * 2}}
    first = evaluate(lm(1), splits, processing_class=words(), resamples=5)
    card = evaluate(
        lm(),
        splits,
        reference=first["unlearned"].tables,
        benchmarks={"muse": rows},
        processing_class=words(),
        resamples=5,
    )
    assert "forget_loss" in card["unlearned"].measures and "muse_privleak_auc" in card["unlearned"].measures
    assert not any(name.startswith("muse") for name in card["retrained"].measures)
    assert "No benchmark (muse) is run on 'retrained'" in caplog.text
