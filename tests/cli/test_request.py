"""Rows are asked for in the user's own words, on the command line and in YAML, by all verbs alike."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset
from helpers.recipes import SMALL, problems_of, refusal

from hf_unlearn import ArgumentError
from hf_unlearn.cli import evaluate, parsing, plan, prepare, ready, request, shadows, unlearn
from hf_unlearn.cli.arguments import DataArguments, EvaluateArguments


@pytest.fixture
def orders(tmp_path):
    """A file of 40 rows of ten customers, and flags that read it."""
    rows = [
        {"id": f"o{i}", "customer": 4700 + i // 4, "year": 2018 + i % 2, "city": ["Bern, BE", "Zug"][i % 2],
         "question": f"Where is order {i}?", "answer": f"In shelf {7 * i}."}
        for i in range(40)
    ]  # fmt: skip
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return ["--dataset_name", str(tmp_path / "orders.jsonl")]


def read(*words, verb="evaluate") -> DataArguments:
    data = parsing.parse(verb, list(words))[1]
    if found := request.problems(data):
        raise ArgumentError(found)
    return data


def forgotten(*words) -> list[str]:
    return prepare.rows_by_split(read(*words))[1]["forget"]["id"][:]


def told(*words) -> str:
    with pytest.raises(ArgumentError) as error:
        forgotten(*words)
    return str(error.value)


def test_ids_come_in_a_file_or_as_words(orders, tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeffo3\r\n\r\n o17 \r\no3\r\n".encode())
    assert forgotten(*orders, "--forget_ids", str(tmp_path / "ids.txt")) == ["o3", "o17"]
    assert forgotten(*orders, "--forget_ids", "o17", "o3") == ["o3", "o17"]
    assert forgotten(*orders, "--forget_ids", str(tmp_path / "ids.txt"), "o5") == ["o3", "o5", "o17"]
    by_column = ["--forget_by", "id", "--forget_column", "customer", "--forget_ids", "4703"]
    assert forgotten(*orders, *by_column) == ["o12", "o13", "o14", "o15"]


def test_ids_that_were_kept_out_or_deleted_come_in_files_too(orders, tmp_path):
    (tmp_path / "out.txt").write_text("o20\no21\n")
    (tmp_path / "gone.txt").write_text("o30\n")
    files = ["--unseen_ids", str(tmp_path / "out.txt"), "--deleted", str(tmp_path / "gone.txt"), "o31"]
    parts = prepare.rows_by_split(read(*orders, "--forget_ids", "o3", *files))[1]
    assert parts["unseen"]["id"][:] == ["o20", "o21"]
    assert not {"o30", "o31"} & {one for part in parts.values() for one in part["id"]}
    assert "`deleted` is 'none.txt', and there is no such file" in told(
        *orders, "--forget_ids", "o3", "--deleted", "none.txt"
    )


def test_the_path_of_an_image_is_an_id_and_no_file_of_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert request.ids_of(DataArguments(forget_ids=["a.png"])) == ["a.png"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["customer=4703"], "o12 o13 o14 o15"),
        (["customer = 4703", "year==2018"], "o12 o14"),
        (["city=Bern, BE", "customer=4703", "customer=4701"], "o4 o6 o12 o14"),
    ],
)
def test_conditions_on_columns_together_one_by_one_and_in_a_file(orders, tmp_path, words, ids):
    assert forgotten(*orders, "--forget_where", *words) == ids.split()
    one_by_one = [part for word in words for part in ("--forget_where", word)]
    assert forgotten(*one_by_one[:2], *orders, *one_by_one[2:]) == ids.split()
    assert forgotten(*orders, *(f"--forget-where={word}" for word in words)) == ids.split()
    (tmp_path / "my.yaml").write_text(f"forget_where: {json.dumps(words)}")
    assert forgotten(*orders, "--config", str(tmp_path / "my.yaml")) == ids.split()


def test_conditions_on_the_class_of_a_classifier_ask_for_the_class():
    data = DataArguments(task="sequence_classification", forget_where=["label=spam", "label=ham"])
    assert request.named(data) == {"by": "class", "values": ["spam", "ham"], "column": "label"}
    assert request.by_class(data) and request.columns_of(data) == ["label"]
    data.task = "causal_lm"
    assert request.named(data) == {"where": {"label": ["spam", "ham"]}} and not request.by_class(data)


def test_a_request_of_the_command_line_wins_over_the_file_s_and_a_verb_s_key_over_a_plain_one(orders, tmp_path):
    lines = ["forget_by: column", "forget_column: customer", "forget_fraction: 0.1", "evaluate.forget_where: year=2018"]
    lines += ["unlearn.forget_ids: o7", "unseen_group: customer"]
    (tmp_path / "my.yaml").write_text("\n".join(lines))
    words = [*orders, "--config", str(tmp_path / "my.yaml")]

    def way(verb, *more):
        return request.chosen(parsing.parse(verb, [*words, *more])[1])

    assert (way("ready"), way("unlearn"), way("evaluate")) == (["forget_fraction"], ["forget_ids"], ["forget_where"])
    assert len(forgotten(*words)) == 20
    assert forgotten(*words, "--forget_values", "4709", "4700") == [f"o{i}" for i in (0, 1, 2, 3, 36, 37, 38, 39)]
    assert forgotten(*words, "--forget_ids", "o9") == ["o9"]
    assert len(forgotten(*words, "--forget_where", "null", "--forget_fraction", "0.3")) == 12
    assert forgotten(*words, "--forget_where", "customer=4709") == ["o36", "o37", "o38", "o39"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--forget_where", "customer=471"], "Not in the column 'customer': 471. It has 4701, "),
        (["--forget_where", "custmer=4701"], "no column 'custmer'; the rows have 'id', 'customer', "),
        (["--forget_where", "custmer=4701"], "Did you mean 'customer'?"),
        (["--forget_where", "customer=4701", "city=Bern"], "Not in the column 'city': Bern. It has Bern, BE, Zug."),
        (["--forget_where", "customer=4701", "id=o9"], "With customer=4701, 'id' is o4, o5, o6, o7."),
        (["--forget_ids", "o44"], "Not in the column 'id': o44. It has o4, "),
        (["--forget_ids", "o1,o2"], "Give each value by itself: o1,o2 is several."),
        (["--forget_where", "customer"], "has 'customer'; expected COLUMN=VALUE, such as customer=4711."),
        (["--forget_where", "=3", "a="], "`forget_where` has 'a='; expected COLUMN=VALUE"),
        (["--forget_where", "year!=2018"], "has 'year!=2018'; a condition is that a column has a value"),
        (["--forget_ids", "none.txt"], "`forget_ids` is 'none.txt', and there is no such file. Name a file"),
        (["--forget_ids", ""], "`forget_ids` has an empty word."),
        (["--forget_ids", "o1", "--forget_where", "year=2018"], "`forget_ids` is given beside --forget_where."),
        (["--forget_ids", "o1", "--forget_fraction", ".1"], "`forget_ids` is given beside --forget_fraction."),
        (["--forget_where", "year=2018", "--forget_by", "id"], "`forget_by` is 'id', but --forget_where says by what"),
        (["--forget_ids", "o1", "--forget_column", "year"], "`forget_column` is 'year', but --forget_ids says by what"),
        (["--forget_values", "o1", "--forget_fraction", "0.1", "--forget_column", "id"], "either `--forget_values`"),
    ],
)  # fmt: skip
def test_what_names_no_row_is_told_with_what_is_there(orders, words, said):
    assert said in told(*orders, *words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n \n", "which holds no id: expected one a line."),
        ("caf\u00e9".encode("latin-1"), "which is no text in UTF-8"),
    ],
)
def test_a_file_of_ids_that_cannot_be_read_is_told(orders, tmp_path, content, said):
    (tmp_path / "ids.txt").write_bytes(content)
    for words in (["--forget_ids", str(tmp_path / "ids.txt")], ["--forget_ids", "o1", str(tmp_path / "ids.txt")]):
        assert f"`forget_ids` is '{tmp_path / 'ids.txt'}', {said}" in told(*orders, *words)
    as_json = tmp_path / "ids.json"
    as_json.write_text('["o1", "o2"]')
    assert "which holds JSON: expected ids alone, one a line." in told(*orders, "--forget_ids", str(as_json))
    (tmp_path / "my.yaml").write_text(f"forget_ids: {tmp_path / 'ids.txt'}")
    found = problems_with_file(["--config", str(tmp_path / "my.yaml"), *orders])
    assert found.startswith(f"`forget_ids` in {tmp_path / 'my.yaml'} is ")


def problems_with_file(words) -> str:
    with pytest.raises(ArgumentError) as error:
        parsing.parse("evaluate", words, lambda own, data, model: request.problems(data))
    return error.value.problems[0]


def test_what_matched_is_told_before_a_model_is_made(orders, tmp_path, monkeypatch, capsys):
    argv = [*orders, "--output_dir", tmp_path / "out", "--forget_where", "customer=4703", "--disable_tqdm", "true"]
    argv += ["--model_type", "llama", "--config_overrides", SMALL, "--vocab_size", "300", "--use_cpu", "true"]
    monkeypatch.setattr(ready.checkpoints, "check_contents", lambda places: None)

    def stop(*args, **kwargs):
        raise ValueError("no further")

    monkeypatch.setattr(prepare, "encoded", stop)
    for main, title in ((ready.main, "May be asked for"), (unlearn.main, "To forget")):
        monkeypatch.setattr(unlearn, "flag_problems", lambda *args: [])
        assert "no further" in refusal(main, argv, monkeypatch)
        said = capsys.readouterr().err
        assert f"{title}: 4 rows of customer 4703; ids o12, o13, o14, o15\n" in said
    assert "no further" in refusal(ready.main, [*argv, "--role", "retrained"], monkeypatch)
    assert "Left out: 4 rows of customer 4703;" in capsys.readouterr().err
    wrong = refusal(ready.main, [*argv[:-8], "--forget_where", "year=2031", *argv[-8:]], monkeypatch)
    assert len(problems_of(wrong)) == 1 and "Not in the column 'year': 2031. It has 2019, 2018." in wrong


def test_an_evaluation_that_names_nobody_tells_no_ids_and_hides_the_words():
    named = {"by": "where", "column": "customer and year", "fraction": None, "count": 2, "values": ["customer=4703"]}
    forget = Dataset.from_dict({"id": ["o12", "o13"]})
    assert request.told(named, forget, "Asked for") == "Asked for: 2 rows with customer=4703; ids o12, o13"
    assert request.told(named, forget, names=False) == "To forget: 2 rows, by customer and year"
    own = EvaluateArguments(generations=False)
    for flag, words in (("forget_where", ["customer=4703"]), ("forget_ids", ["o12", "ids.txt"])):
        data = DataArguments(**{flag: words})
        said = evaluate.said_of(own, data, [f"--{flag}", *words, "--limit", "9"], named)
        assert said["request"]["values"] == [] and "LEFT_OUT" in said["commands"][0]
        assert not any(word in said["commands"][0] for word in words)
    data = DataArguments(task="sequence_classification", forget_where=["label=spam"])
    assert "label=spam" in evaluate.said_of(own, data, ["--forget_where", "label=spam"], named)["commands"][0]


def test_rows_that_are_named_together_go_together_in_shadows_and_in_a_replay():
    pool = Dataset.from_dict({"customer": [1, 1, 2, 2], "year": [1, 2, 1, 1], "id": list("abcd")})
    two = DataArguments(forget_where=["customer=1", "year=2"])
    assert shadows.groups_of(two, pool) == ["1\0001", "1\0002", "2\0001", "2\0001"]
    one = DataArguments(forget_where=["customer=1"])
    assert shadows.groups_of(one, pool) == ["1", "1", "2", "2"] and ready.group_column(one, pool) == "customer"
    assert ready.group_column(two, pool) is None  # who asks is not said
    ids = DataArguments(forget_ids=["a"])
    assert shadows.groups_of(ids, pool) == [0, 1, 2, 3] and ready.group_column(ids, pool) is None
    assert plan.slice_column(None, one, pool) == "customer" and plan.slice_column(None, two, pool) is None


def test_a_plan_takes_the_same_words(orders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan.checkpoints, "is_checkpoint", lambda folder: True)
    words = [*orders, "--output_dir", str(tmp_path), "--use_cpu", "true"]
    source, ids = plan.request(
        plan.PlanArguments(), [*words, "--forget_where", "customer=4703", "--forget_where", "year=2018"]
    )
    assert (source, ids) == (str(tmp_path / "ready"), ["o12", "o14"])
    assert "To forget: 2 rows with customer=4703 and year=2018; ids o12, o14" in capsys.readouterr().err
