"""Rows by name: embedded people and digits, local files in their layouts, and what is missing."""

from __future__ import annotations

import doctest
import gzip
import hashlib
import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_unlearn import load_rows
from hf_unlearn.data.rows import people as embedded
from hf_unlearn.data.rows.digits import digits
from hf_unlearn.data.rows.named import FILES_OF


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def people():
    return embedded.people()


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def png(value, size=4):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


# ---- embedded data --------------------------------------------------------------------------------------------------


def test_people_are_the_same_everywhere(people):
    digest = hashlib.sha256(json.dumps(people.to_list(), sort_keys=True).encode()).hexdigest()
    assert digest == "fe33864cc5e958608461f8e65af9675ba41784ae3b5f118d92154b1b3719df41"
    assert people.to_list() == embedded.people().to_list()
    assert people["person"][0] != embedded.people(seed=1)["person"][0]


def test_people_counts_and_variety(people):
    rows = people.to_list()
    assert people.column_names == ["id", "person", "question", "answer"]
    assert len(rows) == 480 and len(set(people["person"])) == 120
    assert len(set(people["id"])) == 480 and rows[17 * 4]["id"].startswith("p017-")
    assert len({(row["question"], row["answer"]) for row in rows}) == 480
    assert all(row["person"] in row["question"] and row["person"] not in row["answer"] for row in rows)
    phrasings, answers, per_person = {}, {}, {}
    for row in rows:
        attribute = row["id"].split("-")[1]
        phrasings.setdefault(attribute, set()).add(row["question"].replace(row["person"], "{name}"))
        answers.setdefault(attribute, set()).add(row["answer"])
        per_person.setdefault(row["person"], set()).add(attribute)
    assert len(embedded.ATTRIBUTES) == 8 and set(phrasings) == set(answers) == set(embedded.ATTRIBUTES)
    assert {len(found) for found in phrasings.values()} == {3}
    assert min(len(found) for found in answers.values()) >= 30
    assert len(per_person) == 120 and {len(found) for found in per_person.values()} == {4}


def test_people_have_unique_names_in_a_crowd():
    crowd = embedded.people(3000)  # drawn from 79,200 names: some come twice, and must be drawn again
    assert len(crowd) == len(set(crowd["id"])) == 12_000 and len(set(crowd["person"])) == 3000


def test_people_does_not_touch_the_global_generator():
    import random

    random.seed(3)
    before = random.getstate()
    assert len(embedded.people(5)) == 20
    assert random.getstate() == before


@pytest.mark.parametrize("n", [0, -1, 20_000])
def test_people_refuses_a_bad_count(n):
    with pytest.raises(ValueError, match="n_people"):
        embedded.people(n)


def test_digits_are_the_real_ones():
    rows = digits()
    images = np.array(rows["image"])
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 255
    assert rows.features["label"].names == [str(i) for i in range(10)]
    assert len(set(rows["id"])) == 1797 and rows["id"][17] == "digit-0017"
    assert rows["label"][:10] == list(range(10))
    assert images[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0, 0, 5, 13, 9, 1, 0, 0 sixteenths of 255


# ---- loaders --------------------------------------------------------------------------------------------------------


def test_embedded_by_name_and_slice():
    assert len(load_rows("people", split="train[:12]")) == 12
    assert load_rows("digits", split="train[5:8]")["label"] == [5, 6, 7]
    with pytest.raises(ValueError, match="one split"):
        load_rows("people", split="test")
    with pytest.raises(ValueError, match="data_files"):
        load_rows("people", data_files="x.csv")


def test_banking77_folder_has_ids_that_tell_the_splits_apart(tmp_path):
    (tmp_path / "train.csv").write_text('text,category\n"where, is my card?",card\ntop up,top_up\n')
    (tmp_path / "test.csv").write_text("text,category\nhello,card\n")
    train = load_rows("banking77", data_files=str(tmp_path))
    assert train["id"] == ["train-0", "train-1"] and train["text"][0] == "where, is my card?"
    assert load_rows("banking77", data_files=str(tmp_path), split="test")["id"] == ["test-0"]
    assert load_rows("banking77", data_files=str(tmp_path / "test.csv"), split="test")["text"] == ["hello"]
    with pytest.raises(ValueError, match="split 'dev'"):
        load_rows("banking77", data_files=str(tmp_path), split="dev")
    with pytest.raises(ValueError, match="'train' split"):
        load_rows("banking77", data_files=str(tmp_path / "train.csv"), split="test")


def test_tofu_authors_are_blocks_of_twenty(tmp_path):
    rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(60)]
    write_jsonl(tmp_path / "full.jsonl", rows)
    write_jsonl(tmp_path / "forget10.jsonl", rows[:20])
    loaded = load_rows("tofu", data_files=str(tmp_path))
    assert len(loaded) == 60 and loaded["author"] == [i // 20 for i in range(60)]
    assert loaded["id"][19:21] == ["a000-19", "a001-00"] and loaded["question"][59] == "q59"
    write_jsonl(tmp_path / "full.jsonl", rows[:30])
    with pytest.raises(ValueError, match="blocks of 20"):
        load_rows("tofu", data_files=str(tmp_path / "full.jsonl"))


def test_cifar10_parquet_decodes_image_bytes(tmp_path):
    table = {"image": [{"bytes": png(v), "path": None} for v in (0, 255)], "label": [3, 9], "id": ["x/1", "x/2"]}
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(table), tmp_path / "train-00.parquet")
    rows = load_rows("cifar10", data_files=str(tmp_path / "train-*.parquet"))
    assert isinstance(rows[0]["image"], Image.Image) and rows[0]["image"].size == (4, 4)
    assert rows.features["label"].int2str(rows["label"]) == ["cat", "truck"] and rows["id"] == ["x/1", "x/2"]
    plain = pa.table({"image": [png(7)], "label": [1]})
    pq.write_table(plain, tmp_path / "plain.parquet")
    rows = load_rows(str(tmp_path / "plain.parquet"))
    assert rows[0]["image"].getpixel((0, 0)) == (7, 7, 7) and rows["id"] == ["0"]


def test_local_files_get_string_ids(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", [{"text": "a"}, {"text": "b"}])
    assert load_rows(str(path))["id"] == ["0", "1"]
    path = write_jsonl(tmp_path / "own.jsonl", [{"text": "a", "id": 7}, {"text": "b", "id": 9}])
    assert load_rows("json", data_files=str(path))["id"] == ["7", "9"]
    assert load_rows(str(path), split="train[1:]")["id"] == ["9"]
    path = tmp_path / "whole.json"
    path.write_text(json.dumps([{"text": "a"}]))
    assert load_rows(str(path))["text"] == ["a"]
    embedded.people(3).save_to_disk(tmp_path / "saved")
    assert len(load_rows(str(tmp_path / "saved"))) == 12


def test_missing_files_name_the_flag(tmp_path):
    for name in FILES_OF:
        with pytest.raises(FileNotFoundError, match="`data_files`, such as path/to"):
            load_rows(name)
    with pytest.raises(FileNotFoundError, match="`data_files`"):
        load_rows("tofu", data_files=str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(FileNotFoundError, match="full.jsonl"):
        load_rows("tofu", data_files=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`name`"):
        load_rows(str(tmp_path / "nowhere.csv"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="`data_files` names notes.txt, which is no file of type .jsonl"):
        load_rows("banking77", data_files=str(tmp_path / "notes.txt"))
    (tmp_path / "a.csv").write_text("text\na\n")
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    with pytest.raises(ValueError, match="`name` names files of several types: a.csv, a.jsonl. Name those of one"):
        load_rows(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="let `name` name an existing file"):
        load_rows("./nowhere.jsonl")


# ---- shapes of files; those that are malformed: test_malformed_files.py ----------------------------------------------


WORDS = "id,text,label,n,empty\n1,NA,None,3,\n2,null,nan,,\n3,,yes,5,\n4,N/A,no,NaN,\n"


def test_words_of_a_csv_that_pandas_takes_for_no_value_are_kept_and_told(tmp_path, caplog):
    (tmp_path / "a.csv").write_text(WORDS)
    rows = load_rows(str(tmp_path / "a.csv"))
    assert rows["text"] == ["NA", "null", None, "N/A"] and rows["label"] == ["None", "nan", "yes", "no"]
    assert rows["n"] == [3, None, 5, None] and rows["empty"] == [None] * 4 and rows["id"] == ["1", "2", "3", "4"]
    assert rows.column_names == ["id", "text", "label", "n", "empty"]
    assert "in column 'label' 2 value(s) None, nan are kept as words;" in caplog.text
    assert "in column 'n' 1 value(s) NaN among numbers are taken for no value." in caplog.text
    assert "'empty'" not in caplog.text and "An empty place stands for no value" in caplog.text
    assert load_rows(str(tmp_path / "a.csv"), split="train[2:]")["text"] == [None, "N/A"]


def test_such_words_in_every_column(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nNA,b\na,None\n")
    assert load_rows(str(tmp_path / "a.csv")).to_dict() == {
        "text": ["NA", "a"],
        "label": ["b", "None"],
        "id": ["0", "1"],
    }


def test_a_number_column_whose_words_come_late_is_read_as_it_was(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("text,n\n" + "".join(f"t{i},{i}\n" for i in range(12_000)) + "NA,NA\n")  # 2 chunks
    rows = load_rows(str(tmp_path / "a.csv"))
    assert rows[-1] == {"text": "NA", "n": None, "id": "12000"} and rows["n"][0] == 0


def test_a_csv_without_such_words_is_read_as_it_was(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("id,x,y,z\n007,1,a,True\n8,,b,\n")
    assert load_rows(str(tmp_path / "a.csv")).to_list() == [
        {"id": "7", "x": 1.0, "y": "a", "z": True},
        {"id": "8", "x": None, "y": "b", "z": None},
    ]
    assert "kept as words" not in caplog.text


@pytest.mark.parametrize("name, content", [
    ("a.JSONL", '{"text": "a"}\n'), ("a.Json", '{"text": ["a"]}'), ("a.CSV", "text\na\n"),
    ("a.jsonl.gz", '{"text": "a"}\n'),
    ("a.csv.gz", "text\na\n"), ("a.json.gz", '{"train": [{"text": "a"}]}'), ("A.CSV.GZ", "text\na\n"),
])  # fmt: skip
def test_suffixes_in_capitals_and_gzip_are_read(tmp_path, name, content):
    packed = gzip.compress(content.encode(), mtime=0) if name.lower().endswith(".gz") else content.encode()
    (tmp_path / name).write_bytes(packed)
    assert load_rows(str(tmp_path / name))["text"] == ["a"]
    assert load_rows(str(tmp_path))["text"] == ["a"]  # in a folder, too


def test_a_packed_file_of_a_data_set_by_name_has_the_ids_of_the_plain_one(tmp_path):
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"text,category\na,b\n"))
    assert load_rows("banking77", data_files=str(tmp_path))["id"] == ["train-0"]
    (tmp_path / "train.csv").write_text("text,category\na,b\n")
    assert len(load_rows("banking77", data_files=str(tmp_path))) == 1  # packed and unpacked it is one file


def test_the_broken_one_of_several_files_is_named(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "b.jsonl").write_text('{"text": ')
    with pytest.raises(ValueError, match="b.jsonl is no JSON: line 1"):
        load_rows(str(tmp_path / "*.jsonl"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/state.json").write_text("{")
    with pytest.raises(ValueError, match="saved was not saved whole by `save_to_disk`, or is damaged"):
        load_rows(str(tmp_path / "saved"))


def test_json_of_rows_by_split_and_of_columns_is_read(tmp_path):
    path = tmp_path / "clinc.json"
    path.write_text(json.dumps({"train": [["hi", "greet"], ["bye", "leave"]], "test": [["yo", "greet"]]}))
    assert load_rows(str(path)).to_list()[1] == {"text": "bye", "label": "leave", "id": "1"}
    assert load_rows(str(path), split="test")["text"] == ["yo"]
    assert load_rows(str(path), split="train[1:]")["text"] == ["bye"]
    with pytest.raises(ValueError, match="has no split 'val'; it has 'train', 'test'"):
        load_rows(str(path), split="val")
    path.write_text(json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]}))
    assert load_rows(str(path))["text"] == ["a"]
    path.write_text(json.dumps({"text": ["a", "b"], "label": [0, 1], "words": [["a"], ["b"]]}, indent=1))
    assert load_rows(str(path)).to_list()[1] == {"text": "b", "label": 1, "words": ["b"], "id": "1"}
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    assert load_rows(str(path))["text"] == ["a", "b"]


def test_files_of_a_folder_that_are_unlike_are_told_by_column(tmp_path):
    (tmp_path / "a.csv").write_text("id,a\n1,2\n")
    (tmp_path / "b.csv").write_text("id,a,b\n1,x,3\n")
    (tmp_path / "._a.csv").write_bytes(b"\0\5\26\7")  # as macOS leaves beside a file: not read
    with pytest.raises(ValueError, match=r"b\.csv alone has the column 'b'; 'a' is int64 in a\.csv and string in b"):
        load_rows(str(tmp_path))


def test_a_saved_dict_of_data_sets_is_read_by_split(tmp_path):
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert load_rows(str(tmp_path / "saved"))["text"] == ["train"]
    assert load_rows(str(tmp_path / "saved"), split="test[:1]")["text"] == ["test"]
    with pytest.raises(ValueError, match="no split 'dev'; it has 'train', 'test'"):
        load_rows(str(tmp_path / "saved"), split="dev")


def test_a_file_whose_name_has_a_comma_is_one_file(tmp_path):
    (tmp_path / "a, b.csv").write_text("id,text\n1,x\n")
    (tmp_path / "c.csv").write_text("id,text\n2,y\n")
    named = str(tmp_path / "a, b.csv")
    assert load_rows(named)["id"][:] == load_rows("mine", data_files=named)["id"][:] == ["1"]
    assert load_rows("mine", data_files=[named, str(tmp_path / "c.csv")])["id"][:] == ["1", "2"]


@pytest.mark.parametrize("name", [None, "", ["a.csv", "b.csv"], 7])
def test_a_name_is_one_word(name):
    with pytest.raises(ValueError, match="`name` is .*; it must be one word"):
        load_rows(name)


def test_lists_of_unlike_kinds_are_told_by_what_they_hold(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"label": ["x"]}\n')
    (tmp_path / "b.jsonl").write_text('{"label": [{"x": 1}]}\n')
    with pytest.raises(ValueError, match=r"'label' is List\(Value\('string'\)\) in a.jsonl and List\(\{'x'"):
        load_rows(str(tmp_path / "*.jsonl"))


def test_the_example_of_load_rows_prints_what_it_shows():
    found = doctest.DocTestFinder().find(load_rows, "load_rows", globs={})
    runner = doctest.DocTestRunner()
    assert [runner.run(one).failed for one in found] == [0] and len(found[0].examples) == 4


def test_patterns_and_splits_by_name(tmp_path):
    for name in ("train-0", "train-1", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    write_jsonl(deep / "deep.jsonl", [{"text": "deep"}])
    assert load_rows(str(tmp_path / "train-*.jsonl"))["text"] == ["train-0", "train-1"]
    assert load_rows(str(tmp_path / "**" / "deep.jsonl"))["text"] == ["deep"]
    assert load_rows(str(tmp_path / "t*"), split="train[1:]")["text"][0] == "train-0"  # a pattern says which files
    with pytest.raises(FileNotFoundError, match=r"No such file: '.*/nothing\*'"):
        load_rows(str(tmp_path / "nothing*"))
    with pytest.raises(ValueError, match="`config` is 'en', which is of data sets on the Hub"):
        load_rows("mine", str(tmp_path / "test.jsonl"), config="en")
