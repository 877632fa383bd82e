"""From rows to what a model takes: texts and images."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from hf_unlearn import ReadyConfig, encode
from hf_unlearn.cli import model, prepare, ready
from hf_unlearn.cli.arguments import DataArguments, ModelArguments, ReadyArguments
from hf_unlearn.data.encode import images, pairs, text
from hf_unlearn.data.encode.columns import all_class_names
from hf_unlearn.data.rows import by_name
from hf_unlearn.data.rows.digits import digits
from hf_unlearn.utils.checks import ArgumentError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


# ---- text -----------------------------------------------------------------------------------------------------------


def test_tokenizer_round_trip(tokenizer, tmp_path):
    text = "Where does Velra Langdale live? Über 9 naïve 猫!\n  In Coldcombe."
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    # A tokenizer is loaded from a model's folder, where config.json could talk AutoTokenizer into another class.
    for kind, task in (("llama", "causal_lm"), ("bert", "sequence_classification")):
        folder = tmp_path / kind
        tokenizer.save_pretrained(folder)
        model.build_model(task, kind, "num_hidden_layers=1", tokenizer=tokenizer, labels=2).save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder)
        encoded = loaded(text)
        assert encoded["input_ids"] == tokenizer(text)["input_ids"] and set(encoded) == {"input_ids", "attention_mask"}
        assert encoded["input_ids"][0] == loaded.bos_token_id and loaded.eos_token_id not in encoded["input_ids"]
        assert loaded.pad_token_id == tokenizer.pad_token_id
        assert loaded.decode(encoded["input_ids"], skip_special_tokens=True) == text


def test_choices_of_an_answer_get_likelihoods_of_their_own(people, tokenizer):
    """As lm-eval does it: both parts are encoded with special tokens, and the context's length cuts the whole."""
    lm = model.build_model("causal_lm", "llama", "num_hidden_layers=1,hidden_size=16", tokenizer=tokenizer)
    row, found = people[0], {}
    context = pairs.PROMPT.format(question=row["question"])
    for choice in (" yes", " no", f" {row['answer']}"):
        whole = tokenizer(context + choice)["input_ids"]
        continuation = whole[len(tokenizer(context)["input_ids"]) :]
        assert tokenizer.decode(continuation) == choice
        logits = lm(torch.tensor([whole[:-1]])).logits[0, -len(continuation) :]
        found[choice] = logits.log_softmax(-1)[range(len(continuation)), continuation].sum().item()
    assert len(set(found.values())) == 3


def test_tokenizer_refuses_what_it_cannot_learn_from():
    with pytest.raises(TypeError, match="iterable"):
        text.build_tokenizer("one string")
    with pytest.raises(ValueError, match="at least one"):
        text.build_tokenizer([])
    with pytest.raises(ValueError, match="259"):
        text.build_tokenizer(["a"], vocab_size=100)


def test_qa_labels_cover_the_answer_and_nothing_else(people, tokenizer):
    rows = people.select(range(8))
    encoded = encode(rows, tokenizer)
    assert encoded["id"] == rows["id"] and encoded["person"] == rows["person"]
    for raw, row in zip(rows, encoded, strict=True):
        ids, labels = row["input_ids"], row["labels"]
        first = next(i for i, label in enumerate(labels) if label != -100)
        assert len(ids) == len(labels) == len(row["attention_mask"]) and set(row["attention_mask"]) == {1}
        assert labels[:first] == [-100] * first and labels[first:] == ids[first:]
        assert tokenizer.decode(ids[1:first]) == f"Question: {raw['question']}\nAnswer:"
        assert tokenizer.decode(labels[first:-1]) == " " + raw["answer"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_text_classification_shares_class_numbers(people):
    tokenizer = text.build_tokenizer(people["question"], append_eos=True)
    train = datasets.Dataset.from_dict(
        {"id": ["1", "2", "3"], "text": ["b b", "a", "c " * 50], "category": list("bac")}
    )
    test = datasets.Dataset.from_dict({"text": ["c"], "category": ["c"]})
    encoded = text.encode_text_classification(train, tokenizer, label_column="category", max_length=9)
    names = encoded.features["labels"].names
    assert names == ["a", "b", "c"] and encoded["labels"] == [1, 0, 2] and encoded["id"] == ["1", "2", "3"]
    assert len(encoded["input_ids"][2]) == 9
    assert all(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.eos_token_id for ids in encoded["input_ids"])
    encoded = text.encode_text_classification(test, tokenizer, label_column="category", names=names)
    assert encoded["labels"] == [2]
    with pytest.raises(ValueError, match="'c'.*classes are"):
        text.encode_text_classification(test, tokenizer, label_column="category", names=["a", "b"])
    numbers = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [2, 0]})
    encoded = text.encode_text_classification(numbers, tokenizer, names=["no", "maybe", "yes"])
    assert encoded["labels"] == [2, 0]


def test_empty_places_of_a_csv_file_and_words_among_its_numbers_are_told(tmp_path, tokenizer):
    (tmp_path / "a.csv").write_text("text,label\nNA,0\n,1\ny,null\nz,1\n")
    rows = by_name.load_rows(str(tmp_path / "a.csv"))
    with pytest.raises(
        ValueError, match=r"but None \(id 1\): take them out \(in a CSV file an empty place, and NA, None, null"
    ):
        text.encode_text_classification(rows, tokenizer)
    with pytest.raises(ValueError, match=r"None \(id 0, id 2, id 3\); .* \(in a CSV file an empty place"):
        text.encode_text_classification(rows.select([0, 2, 3]), tokenizer, names=["a", "b"])
    with pytest.raises(ValueError, match=r"None \(id 2\)"):
        text.encode_text_classification(rows.select([0, 2, 3]), tokenizer)
    assert text.encode_text_classification(rows.select([0, 3]), tokenizer)["text"] == ["NA", "z"]


def test_one_class_alone_is_told_before_a_model_is_made():
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": ["a", "a"]})
    with pytest.raises(ValueError, match="All 2 rows have one class in column 'label': a; a classifier needs two"):
        all_class_names(rows, "label")


def test_a_class_column_that_is_not_there_is_told_once_with_its_flag(tmp_path):
    (tmp_path / "rows.csv").write_text("text,kind\n" + "".join(f"t{i},a\n" for i in range(9)))
    data = DataArguments(task="sequence_classification", dataset_name=str(tmp_path / "rows.csv"))
    data.forget_by, data.forget_values = "class", ["a"]
    with pytest.raises(ArgumentError) as caught:
        prepare.rows_by_split(data)
    (told,) = caught.value.problems
    assert told.startswith("There is no column 'label'; the rows have 'text', 'kind'") and "--label_column" in told


def test_a_text_needs_room_beside_the_tokenizer_s_own_tokens():
    rows = datasets.Dataset.from_dict({"text": ["a b", "b a"], "label": ["x", "y"]})
    tokenizer = text.build_tokenizer(rows["text"], 300, append_eos=True)
    with pytest.raises(ValueError, match="`max_length` is 1, and the tokenizer adds 2 tokens of its own"):
        text.encode_text_classification(rows, tokenizer, max_length=1)


# ---- images ---------------------------------------------------------------------------------------------------------


def test_digits_become_pixel_values():
    rows = digits().select(range(20))
    encoded = images.encode_images(rows, num_channels=1)
    pixels = np.array(encoded["pixel_values"], dtype=np.float32)
    assert pixels.shape == (20, 1, 8, 8) and encoded.features["pixel_values"].dtype == "float32"
    assert np.allclose(pixels[:, 0], np.array(rows["image"]) / 127.5 - 1, atol=1e-6)
    assert encoded["labels"] == rows["label"] and encoded["id"] == rows["id"] and "image" not in encoded.column_names


def test_processor_and_plain_path_agree(tmp_path):
    rows = digits().select(range(5))
    for size in (8, 16):
        images.build_image_processor(size, 1).save_pretrained(tmp_path)
        processor = AutoImageProcessor.from_pretrained(tmp_path)
        plain = images.encode_images(rows, num_channels=1, image_size=size)["pixel_values"]
        assert np.array(plain).shape == (5, 1, size, size)
        assert images.encode_images(rows, processor, num_channels=1)["pixel_values"] == plain  # a replay's, bit for bit


def test_colour_grey_and_float_images():
    red = Image.fromarray(np.full((4, 4, 3), (255, 0, 0), dtype=np.uint8))
    rows = datasets.Dataset.from_dict(
        {"image": [red], "label": [0]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    assert np.array(images.encode_images(rows)["pixel_values"])[0, :, 0, 0].tolist() == [1, -1, -1]
    grey = np.array(images.encode_images(rows, num_channels=1)["pixel_values"])
    assert grey.shape == (1, 1, 4, 4) and grey[0, 0, 0, 0] == pytest.approx(0.299 * 2 - 1, abs=0.01)
    floats = datasets.Dataset.from_dict({"image": [[[0.0, 1.0], [0.5, 0.25]]], "label": [0]})
    pixels = np.array(images.encode_images(floats)["pixel_values"])
    assert pixels.shape == (1, 3, 2, 2) and np.allclose(pixels[0, 2], [[-1, 1], [0, -0.5]], atol=1 / 127)


def test_grey_images_have_the_channels_that_a_model_by_name_takes(tmp_path):
    rows = datasets.Dataset.from_dict({"image": [Image.new("L", (8, 8), 9 * i) for i in range(4)], "label": [0, 1] * 2})
    made = encode(rows, images.build_image_processor(8, 3), task="image_classification")
    assert made.features["pixel_values"].shape == (3, 8, 8)
    rows.to_parquet(tmp_path / "grey.parquet")
    images.build_image_processor(8, 3).save_pretrained(tmp_path)
    data = DataArguments(dataset_name=str(tmp_path / "grey.parquet"), task="image_classification", forget_values=["0"])
    found = prepare.prepare_unsplit(data, ModelArguments(), str(tmp_path))
    assert (found.num_channels, found.splits["retain"].features["pixel_values"].shape) == (3, (3, 8, 8))


def test_channels_of_a_new_model_are_those_that_its_config_overrides_say():
    data = DataArguments(dataset_name="digits", task="image_classification", forget_by="class", forget_values=["3"])
    own = ModelArguments(model_type="vit", config_overrides="num_channels=3,image_size=8")
    found = prepare.prepare(data, own)
    assert (found.num_channels, found.made_from_rows) == (3, ())


def test_what_is_no_image_is_refused():
    rows = datasets.Dataset.from_dict({"image": ["cat.png"], "label": [0]})
    with pytest.raises(ValueError, match="Not an image"):
        images.encode_images(rows)
    with pytest.raises(ValueError, match="num_channels"):
        images.encode_images(digits().select([0]), num_channels=2)
    with pytest.raises(ValueError, match="no rows"):
        images.encode_images(digits().select([]))
    with pytest.raises(ValueError, match="no column 'kind'"):
        images.encode_images(rows, label_column="kind")


# ---- rows that are broken --------------------------------------------------------------------------------------------


def test_broken_images_are_named_by_their_rows(tmp_path):
    good = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(good, format="PNG")
    cut = good.getvalue()[:40]
    stored = [{"bytes": content, "path": None} for content in (good.getvalue(), b"no image", cut)]
    stored += [{"bytes": None, "path": "no.png"}]
    rows = datasets.Dataset.from_dict({"image": stored, "label": [0] * 4, "id": list("abcd")})
    rows = rows.cast_column("image", datasets.Image())
    with pytest.raises(ValueError, match="3 rows have a broken image in column 'image' .id b, id c, id d.: cannot"):
        images.encode_images(rows)
    with pytest.raises(ValueError, match="1 rows have a broken image in column 'image' .id d.*No such file"):
        images.channels_of(rows.select([3]), "image")


@pytest.mark.parametrize("value", [None, 3, 2.5])
def test_rows_without_text_are_named(value, tokenizer):
    rows = datasets.Dataset.from_dict({"id": ["x", "y"], "question": ["q", None], "answer": ["a", "b"]})
    if value is not None:
        rows = datasets.Dataset.from_dict({"id": ["y"], "question": [value], "answer": ["a"]})
    with pytest.raises(ValueError, match=f"1 rows hold no text in column 'question', but {value} .id y."):
        encode(rows, tokenizer)
    with pytest.raises(ValueError, match="1 rows hold no text in column 'question'"):
        text.encode_text_classification(rows, tokenizer, "question", "answer")


def test_labels_that_are_no_classes_are_named(tokenizer):
    def told(labels):
        rows = datasets.Dataset.from_dict({"id": ["x", "y"], "text": ["a", "b"], "label": labels})
        with pytest.raises(ValueError) as error:
            text.encode_text_classification(rows, tokenizer)
        return str(error.value)

    assert "1 rows have a label in column 'label' that is a number with a fraction, such as 0.9" in told([1.0, 0.9])
    assert "have 0.5 among the labels in the column 'label', ids x" in told([[0.5, 1], [1]])
    assert "2 rows have several values in column 'label'" in told([{"a": 1}, {"a": 2}])
    assert "not a known class: None (id y)" in told([1.0, float("nan")])
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1.0, 0.0]})
    assert text.encode_text_classification(rows, tokenizer)["labels"] == [1, 0]


# ---- rows from the flags, as far as they can be told wrong before a model is made -----------------------------------


def test_images_may_be_files_in_any_column_or_their_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        Image.new("RGB", (4, 4), (i, i, i)).save(f"{i}.png")
    encoded = datasets.Dataset.from_dict(
        {"img": [{"bytes": (tmp_path / f"{i}.png").read_bytes(), "path": None} for i in range(12)], "label": [0, 1] * 6}
    )
    encoded.to_parquet("encoded.parquet")
    (tmp_path / "paths.csv").write_text("img,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(12)))
    (tmp_path / "gone.csv").write_text("img,label\n" + "".join(f"x{i}.png,{i % 2}\n" for i in range(12)))
    shared = {"task": "image_classification", "image_column": "img", "forget_by": "random", "forget_fraction": 0.2}
    new = ModelArguments(model_type="vit")
    for name in ("encoded.parquet", "paths.csv"):
        made = prepare.prepare(DataArguments(dataset_name=name, unseen=0.2, **shared), new)
        assert (made.image_size, made.num_channels) == (4, 3)
    with pytest.raises(ArgumentError, match=r"'img' holds no images but such as 'x\d+\.png'"):
        prepare.prepare(DataArguments(dataset_name="gone.csv", unseen=0.2, **shared), new)


def texts(labels, start=0):
    return datasets.Dataset.from_dict({"text": [f"word {i + start}" for i in range(len(labels))], "label": labels})


CLASSIFIED = DataArguments(task="sequence_classification", test_split="test")


def test_test_rows_with_numbers_for_words_are_refused():
    with pytest.raises(ArgumentError, match="`test_split` is 'test', whose 'label' holds numbers .* Give both the"):
        prepare.check_test(CLASSIFIED, texts(["red", "blue"]), texts([0, 1], 2))


def test_test_rows_of_the_training_are_told(caplog):
    prepare.check_test(CLASSIFIED, texts(["a", "b"]), texts(["a", "b"], 1))
    assert "1 of the 2 test rows are rows of the training, too" in caplog.text
    caplog.clear()
    prepare.check_test(CLASSIFIED, texts(["a", "b"]), texts(["a", "b"], 2))
    assert not caplog.records


def test_a_test_fraction_that_leaves_no_row_is_named():
    with pytest.raises(ArgumentError, match=r"`--test_fraction` is 0\.999: of 480 rows it leaves none to train on"):
        prepare.rows_by_split(DataArguments(forget_column="person", forget_fraction=0.1, test_fraction=0.999))


def test_rows_without_a_label_are_not_counted_among_those_of_one_class():
    with pytest.raises(ValueError, match="All 2 rows with a label have one class in column 'label': a;"):
        all_class_names(texts(["a", None, "a"]), "label")


def test_arguments_of_split_are_told_as_flags_with_their_values():
    assert prepare.by_flags("or `group='id'` for single rows") == "or `--unseen_group id` for single rows"


# ---- what is made from the rows --------------------------------------------------------------------------------------


def test_under_a_replays_order_the_tokenizer_is_made_from_the_rows_that_stay(tmp_path):
    data = DataArguments(dataset_name="people", forget_by="column", forget_column="person", forget_fraction=0.2)
    args = ReadyConfig(str(tmp_path), readiness="replay")
    made = ready.prepared_for(ReadyArguments(), data, ModelArguments(), args)
    kept = made.splits["retain"]
    wanted = text.build_tokenizer([*kept["question"], *kept["answer"]], ModelArguments().vocab_size)
    assert made.processing_class.get_vocab() == wanted.get_vocab() and made.made_from_rows == ()
    of_all = ready.prepared_for(ReadyArguments(), data, ModelArguments(), ReadyConfig(str(tmp_path), readiness="meta"))
    assert of_all.processing_class.get_vocab() != wanted.get_vocab()
    assert of_all.made_from_rows == ("the tokenizer",)


def test_a_list_of_classes_that_no_column_declares_is_told(tmp_path, monkeypatch):
    rows = texts(["a", "b"] * 20).add_column("id", [f"r{i}" for i in range(40)])
    rows.to_json(tmp_path / "rows.jsonl")
    data = DataArguments(dataset_name=str(tmp_path / "rows.jsonl"), task="sequence_classification")
    data.forget_by, data.forget_fraction = "random", 0.2
    made = prepare.prepare(data, ModelArguments(), stable_alone=True)
    assert made.made_from_rows == ("the list of classes",)
    declared = rows.class_encode_column("label")
    monkeypatch.setattr("hf_unlearn.data.rows.by_name.load_rows", lambda *_, **__: declared)
    assert prepare.prepare(data, ModelArguments(), stable_alone=True).made_from_rows == ()
