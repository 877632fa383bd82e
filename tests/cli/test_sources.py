"""Embedded data, loaders, tokenizers and small models of the recipes: offline, on tiny files."""

import hashlib
import io
import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from hf_unlearn.cli import building, encoding, sources
from hf_unlearn.cli import people as embedded_people


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def people():
    return embedded_people.people()


@pytest.fixture(scope="module")
def tokenizer(people):
    return encoding.build_tokenizer([f"{q} {a}" for q, a in zip(people["question"], people["answer"], strict=True)])


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
    assert people.to_list() == embedded_people.people().to_list()
    assert people["person"][0] != embedded_people.people(seed=1)["person"][0]


def test_people_counts_and_variety(people):
    rows = people.to_list()
    assert people.column_names == ["id", "person", "question", "answer"]
    assert len(rows) == 480 and len(set(people["person"])) == 120
    assert len(set(people["id"])) == 480 and rows[17 * 4]["id"].startswith("p017-")
    assert len({(row["question"], row["answer"]) for row in rows}) == 480
    assert all(row["person"] in row["question"] and row["person"] not in row["answer"] for row in rows)
    phrasings, answers = {}, {}
    for row in rows:
        attribute = row["id"].split("-")[1]
        phrasings.setdefault(attribute, set()).add(row["question"].replace(row["person"], "{name}"))
        answers.setdefault(attribute, set()).add(row["answer"])
    assert set(phrasings) == set(embedded_people.ATTRIBUTES)
    assert all(len(found) == 3 for found in phrasings.values())
    assert all(len(found) >= 30 for found in answers.values())
    per_person = {}
    for row in rows:
        per_person.setdefault(row["person"], set()).add(row["id"].split("-")[1])
    assert all(len(found) == 4 for found in per_person.values())


def test_people_have_unique_names_in_a_crowd():
    crowd = embedded_people.people(3000)  # drawn from 79,200 names: some come twice, and must be drawn again
    assert len(crowd) == len(set(crowd["id"])) == 12_000 and len(set(crowd["person"])) == 3000


def test_people_does_not_touch_the_global_generator():
    import random

    random.seed(3)
    before = random.getstate()
    assert len(embedded_people.people(5)) == 20
    assert random.getstate() == before


@pytest.mark.parametrize("n", [0, -1, 20_000])
def test_people_refuses_a_bad_count(n):
    with pytest.raises(ValueError, match="n_people"):
        embedded_people.people(n)


def test_digits_are_the_real_ones():
    digits = sources.digits()
    images = np.array(digits["image"])
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 255
    assert digits.features["label"].names == [str(i) for i in range(10)]
    assert len(set(digits["id"])) == 1797 and digits["id"][17] == "digit-0017"
    assert digits["label"][:10] == list(range(10))
    assert images[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0, 0, 5, 13, 9, 1, 0, 0 sixteenths of 255


# ---- loaders --------------------------------------------------------------------------------------------------------


def test_embedded_by_name_and_slice():
    assert len(sources.load_rows("people", split="train[:12]")) == 12
    assert sources.load_rows("digits", split="train[5:8]")["label"] == [5, 6, 7]
    with pytest.raises(ValueError, match="one split"):
        sources.load_rows("people", split="test")
    with pytest.raises(ValueError, match="data_files"):
        sources.load_rows("people", data_files="x.csv")


def test_banking77_folder_has_ids_that_tell_the_splits_apart(tmp_path):
    (tmp_path / "train.csv").write_text('text,category\n"where, is my card?",card\ntop up,top_up\n')
    (tmp_path / "test.csv").write_text("text,category\nhello,card\n")
    train = sources.load_rows("banking77", data_files=str(tmp_path))
    assert train["id"] == ["train-0", "train-1"] and train["text"][0] == "where, is my card?"
    assert sources.load_rows("banking77", data_files=str(tmp_path), split="test")["id"] == ["test-0"]
    assert sources.load_rows("banking77", data_files=str(tmp_path / "test.csv"), split="test")["text"] == ["hello"]
    with pytest.raises(ValueError, match="split 'dev'"):
        sources.load_rows("banking77", data_files=str(tmp_path), split="dev")
    with pytest.raises(ValueError, match="'train' split"):
        sources.load_rows("banking77", data_files=str(tmp_path / "train.csv"), split="test")


def test_tofu_authors_are_blocks_of_twenty(tmp_path):
    rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(60)]
    write_jsonl(tmp_path / "full.jsonl", rows)
    write_jsonl(tmp_path / "forget10.jsonl", rows[:20])
    loaded = sources.load_rows("tofu", data_files=str(tmp_path))
    assert len(loaded) == 60 and loaded["author"] == [i // 20 for i in range(60)]
    assert loaded["id"][19:21] == ["a000-19", "a001-00"] and loaded["question"][59] == "q59"
    write_jsonl(tmp_path / "full.jsonl", rows[:30])
    with pytest.raises(ValueError, match="blocks of 20"):
        sources.load_rows("tofu", data_files=str(tmp_path / "full.jsonl"))


def test_cifar10_parquet_decodes_image_bytes(tmp_path):
    table = {"image": [{"bytes": png(v), "path": None} for v in (0, 255)], "label": [3, 9], "id": ["x/1", "x/2"]}
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(table), tmp_path / "train-00.parquet")
    rows = sources.load_rows("cifar10", data_files=str(tmp_path / "train-*.parquet"))
    assert isinstance(rows[0]["image"], Image.Image) and rows[0]["image"].size == (4, 4)
    assert rows.features["label"].int2str(rows["label"]) == ["cat", "truck"] and rows["id"] == ["x/1", "x/2"]
    plain = pa.table({"image": [png(7)], "label": [1]})
    pq.write_table(plain, tmp_path / "plain.parquet")
    rows = sources.load_rows(str(tmp_path / "plain.parquet"))
    assert rows[0]["image"].getpixel((0, 0)) == (7, 7, 7) and rows["id"] == ["0"]


def test_local_files_get_string_ids(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", [{"text": "a"}, {"text": "b"}])
    assert sources.load_rows(str(path))["id"] == ["0", "1"]
    path = write_jsonl(tmp_path / "own.jsonl", [{"text": "a", "id": 7}, {"text": "b", "id": 9}])
    assert sources.load_rows("json", data_files=str(path))["id"] == ["7", "9"]
    assert sources.load_rows(str(path), split="train[1:]")["id"] == ["9"]
    path = tmp_path / "whole.json"
    path.write_text(json.dumps([{"text": "a"}]))
    assert sources.load_rows(str(path))["text"] == ["a"]
    embedded_people.people(3).save_to_disk(tmp_path / "saved")
    assert len(sources.load_rows(str(tmp_path / "saved"))) == 12


def test_missing_files_name_the_flag(tmp_path):
    for name in sources.LOCAL_ONLY:
        with pytest.raises(FileNotFoundError, match="--data_files path/to"):
            sources.load_rows(name)
    with pytest.raises(FileNotFoundError, match="--data_files"):
        sources.load_rows("tofu", data_files=str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(FileNotFoundError, match="full.jsonl"):
        sources.load_rows("tofu", data_files=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="--data_files"):
        sources.load_rows(str(tmp_path / "nowhere.csv"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="one type"):
        sources.load_rows("banking77", data_files=str(tmp_path / "notes.txt"))


# ---- text -----------------------------------------------------------------------------------------------------------


def test_tokenizer_round_trip(tokenizer, tmp_path):
    text = "Where does Velra Langdale live? Über 9 naïve 猫!\n  In Coldcombe."
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    # A tokenizer is loaded from a model's folder, where config.json could talk AutoTokenizer into another class.
    for kind, task in (("llama", "causal_lm"), ("bert", "sequence_classification")):
        folder = tmp_path / kind
        tokenizer.save_pretrained(folder)
        building.build_model(task, kind, "num_hidden_layers=1", tokenizer=tokenizer, labels=2).save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder)
        encoded = loaded(text)
        assert encoded["input_ids"] == tokenizer(text)["input_ids"] and set(encoded) == {"input_ids", "attention_mask"}
        assert encoded["input_ids"][0] == loaded.bos_token_id and encoded["input_ids"][-1] == loaded.eos_token_id
        assert loaded.pad_token_id == tokenizer.pad_token_id
        assert loaded.decode(encoded["input_ids"], skip_special_tokens=True) == text


def test_tokenizer_refuses_what_it_cannot_learn_from():
    with pytest.raises(TypeError, match="iterable"):
        encoding.build_tokenizer("one string")
    with pytest.raises(ValueError, match="at least one"):
        encoding.build_tokenizer([])
    with pytest.raises(ValueError, match="259"):
        encoding.build_tokenizer(["a"], vocab_size=100)


def test_qa_labels_cover_the_answer_and_nothing_else(people, tokenizer):
    rows = people.select(range(8))
    encoded = encoding.encode_qa(rows, tokenizer)
    assert encoded["id"] == rows["id"] and encoded["person"] == rows["person"]
    for raw, row in zip(rows, encoded, strict=True):
        ids, labels = row["input_ids"], row["labels"]
        first = next(i for i, label in enumerate(labels) if label != -100)
        assert len(ids) == len(labels) == len(row["attention_mask"]) and set(row["attention_mask"]) == {1}
        assert labels[:first] == [-100] * first and labels[first:] == ids[first:]
        assert tokenizer.decode(ids[1:first]) == f"Question: {raw['question']}\nAnswer:"
        assert tokenizer.decode(labels[first:-1]) == " " + raw["answer"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_qa_truncation(people, tokenizer):
    rows = people.select(range(4))
    full = encoding.encode_qa(rows, tokenizer)
    context = max(sum(label == -100 for label in labels) for labels in full["labels"])
    cut = encoding.encode_qa(rows, tokenizer, max_length=context + 1)
    assert all(len(ids) <= context + 1 for ids in cut["input_ids"])
    with pytest.raises(ValueError, match=r"4 rows have no label.*max_length=6.*id p000"):
        encoding.encode_qa(rows, tokenizer, max_length=6)
    with pytest.raises(ValueError, match="no column 'reply'"):
        encoding.encode_qa(rows, tokenizer, answer_column="reply")
    empty = datasets.Dataset.from_dict({"id": ["x"], "question": ["q"], "answer": [" "]})
    with pytest.raises(ValueError, match="no answer.*id x"):
        encoding.encode_qa(empty, tokenizer)


def test_text_classification_shares_class_numbers(tokenizer):
    train = datasets.Dataset.from_dict(
        {"id": ["1", "2", "3"], "text": ["b b", "a", "c " * 50], "category": list("bac")}
    )
    test = datasets.Dataset.from_dict({"text": ["c"], "category": ["c"]})
    encoded = encoding.encode_text_classification(train, tokenizer, label_column="category", max_length=9)
    names = encoded.features["labels"].names
    assert names == ["a", "b", "c"] and encoded["labels"] == [1, 0, 2] and encoded["id"] == ["1", "2", "3"]
    assert len(encoded["input_ids"][2]) == 9
    assert all(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.eos_token_id for ids in encoded["input_ids"])
    encoded = encoding.encode_text_classification(test, tokenizer, label_column="category", names=names)
    assert encoded["labels"] == [2]
    with pytest.raises(ValueError, match="'c'.*classes are"):
        encoding.encode_text_classification(test, tokenizer, label_column="category", names=["a", "b"])
    numbers = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [2, 0]})
    encoded = encoding.encode_text_classification(numbers, tokenizer, names=["no", "maybe", "yes"])
    assert encoded["labels"] == [2, 0]


# ---- images ---------------------------------------------------------------------------------------------------------


def test_digits_become_pixel_values():
    rows = sources.digits().select(range(20))
    encoded = encoding.encode_images(rows, num_channels=1)
    pixels = np.array(encoded["pixel_values"], dtype=np.float32)
    assert pixels.shape == (20, 1, 8, 8) and encoded.features["pixel_values"].dtype == "float32"
    assert np.allclose(pixels[:, 0], np.array(rows["image"]) / 127.5 - 1, atol=1e-6)
    assert encoded["labels"] == rows["label"] and encoded["id"] == rows["id"] and "image" not in encoded.column_names


def test_processor_and_plain_path_agree(tmp_path):
    encoding.build_image_processor(8, 1).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    rows = sources.digits().select(range(5))
    plain = encoding.encode_images(rows, num_channels=1)["pixel_values"]
    assert np.allclose(encoding.encode_images(rows, processor, num_channels=1)["pixel_values"], plain, atol=1e-6)
    larger = encoding.encode_images(rows, num_channels=1, image_size=16)["pixel_values"]
    assert np.array(larger).shape == (5, 1, 16, 16)
    by_processor = encoding.encode_images(rows, processor, num_channels=1, image_size=16)["pixel_values"]
    assert np.abs(np.array(larger) - np.array(by_processor)).max() < 0.02  # the processor resizes whole grey levels


def test_colour_grey_and_float_images():
    red = Image.fromarray(np.full((4, 4, 3), (255, 0, 0), dtype=np.uint8))
    rows = datasets.Dataset.from_dict(
        {"image": [red], "label": [0]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    assert np.array(encoding.encode_images(rows)["pixel_values"])[0, :, 0, 0].tolist() == [1, -1, -1]
    grey = np.array(encoding.encode_images(rows, num_channels=1)["pixel_values"])
    assert grey.shape == (1, 1, 4, 4) and grey[0, 0, 0, 0] == pytest.approx(0.299 * 2 - 1, abs=0.01)
    floats = datasets.Dataset.from_dict({"image": [[[0.0, 1.0], [0.5, 0.25]]], "label": [0]})
    pixels = np.array(encoding.encode_images(floats)["pixel_values"])
    assert pixels.shape == (1, 3, 2, 2) and pixels[0, 2].tolist() == [[-1, 1], [0, -0.5]]


def test_what_is_no_image_is_refused():
    rows = datasets.Dataset.from_dict({"image": ["cat.png"], "label": [0]})
    with pytest.raises(ValueError, match="Not an image"):
        encoding.encode_images(rows)
    with pytest.raises(ValueError, match="num_channels"):
        encoding.encode_images(sources.digits().select([0]), num_channels=2)
    with pytest.raises(ValueError, match="no rows"):
        encoding.encode_images(sources.digits().select([]))
    with pytest.raises(ValueError, match="no column 'kind'"):
        encoding.encode_images(rows, label_column="kind")


# ---- models ---------------------------------------------------------------------------------------------------------


def test_models_of_all_tasks(tokenizer, tmp_path):
    small = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64"
    before = torch.random.get_rng_state()
    lm = building.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert lm.config.vocab_size == len(tokenizer) and lm.config.num_key_value_heads == 2
    assert lm.config.pad_token_id == tokenizer.pad_token_id and lm.config.eos_token_id == tokenizer.eos_token_id
    again = building.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=1)
    other = building.build_model("causal_lm", "llama", small, tokenizer=tokenizer, seed=2)
    assert torch.equal(lm.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(lm.lm_head.weight, other.lm_head.weight)
    ids = torch.tensor([tokenizer("Where?")["input_ids"]])
    lm.to(torch.bfloat16).save_pretrained(tmp_path / "lm")
    loaded = building.load_model("causal_lm", tmp_path / "lm")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded(input_ids=ids).logits.shape == (1, ids.shape[1], len(tokenizer))

    text = building.build_model("sequence_classification", "bert", small, tokenizer=tokenizer, labels=["no", "yes"])
    assert text(input_ids=ids).logits.shape == (1, 2) and text.config.id2label == {0: "no", 1: "yes"}

    image = building.build_model(
        "image_classification", "vit", small + ",patch_size=2", labels=10, image_size=8, num_channels=1
    )
    assert image(pixel_values=torch.zeros(3, 1, 8, 8)).logits.shape == (3, 10)
    image.save_pretrained(tmp_path / "vit")
    assert building.load_model("image_classification", tmp_path / "vit").config.num_labels == 10
    assert building.load_model("image_classification", tmp_path / "vit", labels=["a", "b"]).classifier.out_features == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("hiden_size=3", "Unknown key 'hiden_size'.*hidden_size.*num_hidden_layers"),
        ("hidden_size", "key=value"),
        ("hidden_size=big", "must be of type int"),
        ("hidden_size=1.5", "must be of type int"),
        ("use_cache=3", "must be of type bool"),
    ],
)
def test_overrides_are_checked(overrides, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        building.build_model("causal_lm", "llama", overrides, tokenizer=tokenizer)


def test_overrides_are_parsed():
    known = {"size": 1, "rate": 0.5, "cache": True, "act": "gelu", "depths": [1, 2], "pad": None}
    text = "size=4, rate=1, cache=false, act=relu, depths=[3,4], pad=0,"
    assert building.parse_overrides(text, known) == {
        "size": 4, "rate": 1, "cache": False, "act": "relu", "depths": [3, 4], "pad": 0,
    }  # fmt: skip
    assert building.parse_overrides("", known) == building.parse_overrides(None, known) == {}


def test_model_errors(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="Unknown `task`.*causal_lm"):
        building.build_model("translation", "llama", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="Unknown `model_type`"):
        building.build_model("causal_lm", "no-such-type", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="needs a tokenizer"):
        building.build_model("causal_lm", "llama")
    with pytest.raises(ValueError, match="needs `labels`"):
        building.build_model("image_classification", "vit")
    with pytest.raises(ValueError, match="smaller than the tokenizer"):
        building.build_model("causal_lm", "llama", "vocab_size=10", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="cannot be built"):
        building.build_model("image_classification", "llama", labels=2)
    with pytest.raises(FileNotFoundError, match="No model folder"):
        building.load_model("causal_lm", tmp_path / "nothing")
