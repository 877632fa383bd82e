"""Rows of every shape for a language model, by all verbs: trained, asked for, measured."""

from __future__ import annotations

import json

import pytest

from hf_unlearn.cli import encoding, evaluate, parsing, plan, prepare, ready, unlearn, verify
from hf_unlearn.cli.arguments import DataArguments, ModelArguments
from hf_unlearn.cli.model import build_model
from hf_unlearn.data.encode.text import build_tokenizer
from hf_unlearn.utils.checks import ArgumentError

SMALL = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2"
CHAT = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "NAME"}]
CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOWNS = ("Ame", "Bole", "Cray", "Dorn", "Esk", "Fyn", "Gale", "Hove", "Ilm", "Jura")


def row_of(shape: str, i: int) -> dict:
    asked, said = f"Where does person {i} live?", f"In {TOWNS[i % 10]}, by the river {TOWNS[-1 - i % 10]}."
    user, assistant = {"role": "user", "content": asked}, {"role": "assistant", "content": said}
    thanks = [{"role": "user", "content": "Thanks."}, {"role": "assistant", "content": f"Bye, {i}."}]
    return {
        "messages": {"messages": [user, assistant, *thanks]},
        "prompt": {"prompt": f"{asked}\n", "completion": said},
        "chat_prompt": {"prompt": [user], "completion": [assistant]},
        "question": {"question": asked, "answer": said},
        "instruction": {"instruction": "Say where they live.", "input": f"person {i}" if i % 2 else "", "output": said},
        "text": {"text": " ".join([f"Report {i}.", said] + [f"{asked} {said}"] * (i % 3))},
    }[shape]


@pytest.fixture
def folder(tmp_path):
    """A small model whose tokenizer has a chat template."""
    texts = [json.dumps(row_of("messages", i)) for i in range(10)]
    tokenizer = build_tokenizer(texts, 400)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path / "base")
    build_model("causal_lm", "llama", SMALL, tokenizer).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def written(tmp_path, shape: str, n: int = 10):
    path = tmp_path / f"{shape}.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{i}", **row_of(shape, i)}) + "\n" for i in range(n)))
    return path


def words(path, out, *more) -> list[str]:
    said = f"--dataset_name {path} --forget_ids r2 r5 --unseen 0.2 --output_dir {out}"
    return [*said.split(), *more]


RUN = ["--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--per_device_train_batch_size", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["messages", "prompt", "chat_prompt", "question", "instruction", "text"])
def test_ten_rows_of_a_shape_go_through_the_verbs(shape, folder, tmp_path, capfd):
    out = tmp_path / "out"
    more = ["--max_length", "24"] if shape == "text" else []
    argv = words(written(tmp_path, shape), out, *more)
    start = ["--model_name_or_path", str(folder), "--learning_rate", "0.01", "--num_train_epochs", "6"]
    ready.main([*argv, *RUN, *start])
    said = capfd.readouterr().err
    assert "2 rows" in said and ("documents in" if shape == "text" else "tokens a row (the 99th percentile") in said
    kept = json.loads((out / "ready" / "readiness.json").read_text())["encoding"]
    assert f"at most {kept['max_length']} tokens" in said
    ready.main([*argv, *RUN, *start, "--role", "retrained"])
    assert plan.main(["--readiness", str(out / "ready"), "--ids", "r2", "r5"]) == 0  # of documents, all their windows
    assert unlearn.main([*argv, *RUN]) == 0
    assert json.loads((out / "ready_unlearned" / "unlearning.json").read_text())["guarantee"] == "exact"
    assert verify.main([*argv, *RUN, *start[:2]]) == 0
    assert evaluate.main([*argv, "--attacks", "generate", "relearn", "--relearn_steps", "2"]) == 0
    card = json.loads((out / "scorecard.json").read_text())
    found = {run["model"]: run["measures"] for run in card["runs"]}
    assert found["ready_unlearned"]["forget_loss"]["value"] > 0 and "forget_rougeL_recall" in found["retrained"]


def test_windows_of_an_asked_document_are_all_asked_for(tmp_path):
    data = DataArguments(dataset_name=str(written(tmp_path, "text", 30)), forget_ids=["r2", "r5"], max_length=24)
    prepared = prepare.prepare(data, ModelArguments(model_type="llama", vocab_size=300))
    forget = prepared.splits["forget"]
    assert set(forget["document"]) == {"r2", "r5"} and len(forget) > 4
    assert prepared.request["ids"] == 2 if "ids" in prepared.request else prepared.request["values"] == ["r2", "r5"]
    assert prepared.recipe == {"max_length": 24} and "30 documents in" in prepared.said


def test_a_record_says_how_long_rows_are_where_no_flag_does(tmp_path, caplog):
    record = tmp_path / "model"
    record.mkdir()
    (record / "readiness.json").write_text(json.dumps({"encoding": {"max_length": 48}}))
    data = DataArguments(dataset_name=str(written(tmp_path, "question", 30)), forget_ids=["r2"])
    new = ModelArguments(model_type="llama", vocab_size=300)
    prepared = prepare.prepare(data, new, trained=[str(tmp_path / "nothing"), str(record)])
    assert prepared.recipe == {"max_length": 48} and "48 tokens a row (as the model was trained)" in prepared.said
    assert prepare.prepare(data, new).recipe["max_length"] < 48
    other = tmp_path / "other"
    other.mkdir()
    (other / "unlearning.json").write_text(json.dumps({"encoding": {"max_length": 56}}))
    assert prepare.prepare(data, new, trained=[str(record), str(other)]).recipe == {"max_length": 48}
    (told,) = [line for line in caplog.messages if "were made otherwise" in line]
    assert f"The rows of {other} were made otherwise (max_length 56) than those of {record} (max_length 48)" in told
    assert told.endswith("Say which is meant by --max_length.")
    data.max_length = 40
    assert prepare.prepare(data, new, trained=[str(record)]).recipe == {"max_length": 40}


def test_a_record_says_by_what_prompt_questions_were_asked_where_no_flag_does(tmp_path):
    record, new = tmp_path / "model", ModelArguments(model_type="llama", vocab_size=300)
    record.mkdir()
    data = DataArguments(dataset_name=str(written(tmp_path, "question", 30)), forget_ids=["r2"], prompt="Q {question}!")
    trained = prepare.prepare(data, new)
    assert trained.recipe == {"max_length": trained.recipe["max_length"], "prompt": "Q {question}!"}
    (record / "readiness.json").write_text(json.dumps({"encoding": trained.recipe}))
    data.prompt = None
    again = prepare.prepare(data, new, trained=[str(record)])
    assert again.splits["retain"]["input_ids"][:] == trained.splits["retain"]["input_ids"][:]
    data.prompt = "{question}"
    assert prepare.prepare(data, new, trained=[str(record)]).recipe["prompt"] == "{question}"


def test_a_record_says_how_long_sounds_are_where_no_flag_does(tmp_path):
    (tmp_path / "readiness.json").write_text(json.dumps({"encoding": {"max_seconds": 0.5, "stride": -1, "prompt": 3}}))
    found = encoding.recorded([str(tmp_path)])
    assert found == {"max_seconds": 0.5}
    sounds = DataArguments(task="audio_classification")
    assert encoding.reading_of(sounds, found).max_seconds == 0.5
    assert encoding.reading_of(sounds, {}).max_seconds == 1.0
    sounds.max_seconds = 2.0
    assert encoding.reading_of(sounds, found).max_seconds == 2.0


@pytest.mark.parametrize(
    "there, flags, told",
    [
        ({"q": "a", "a": "NAME"}, {}, "these have 'id', 'q', 'a'. If yours .* say them: by --question_column and"),
        ({"q": "a", "a": "NAME"}, {"question_column": "q"}, "no column 'answer'; .* say it by --answer_column"),
        ({"messages": CHAT}, {}, "no chat template"),
    ],
)  # fmt: skip
def test_rows_of_no_shape_are_told_with_their_flags(there, flags, told, tmp_path):
    path = tmp_path / "rows.jsonl"
    own = [{"id": str(i), **json.loads(json.dumps(there).replace("NAME", f"{i} {TOWNS[i]}"))} for i in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in own))
    data = DataArguments(dataset_name=str(path), forget_ids=["1"], **flags)
    with pytest.raises(ArgumentError, match=told):
        prepare.prepare(data, ModelArguments(model_type="llama", vocab_size=300))


def test_a_prompt_of_the_command_line_has_its_line_breaks(tmp_path):
    data = DataArguments(
        dataset_name=str(written(tmp_path, "question", 30)), forget_ids=["r2"], prompt="Q {question}\\nA:"
    )
    prepared = prepare.prepare(data, ModelArguments(model_type="llama", vocab_size=300))
    said = prepared.processing_class.decode(prepared.splits["forget"][0]["input_ids"])
    assert said.startswith("<s>Q Where does person 2 live?\nA: In Cray")


def test_a_column_that_a_flag_names_decides_also_by_its_usual_name(tmp_path):
    rows = [{"id": str(i), "question": f"Who is {i}?", "answer": "Ann.", "text": f"Report {i}."} for i in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = f"--dataset_name {path} --forget_ids 1 --model_type llama --output_dir {tmp_path} --use_cpu true".split()
    for flags, column in (([], "question"), (["--text_column", "text"], "text")):
        data = parsing.parse("ready", [*argv, *flags])[1]
        assert column in prepare.said_by(data, prepare.rows_by_split(data)[0])
