"""Folders of images and of sounds by class, and files in them that cannot be read."""

from __future__ import annotations

import io
import logging
import wave

import datasets
import numpy as np
import pytest
from datasets import ClassLabel
from PIL import Image

from hf_unlearn import load_rows
from hf_unlearn.cli import prepare, skipping
from hf_unlearn.cli.arguments import DataArguments, ModelArguments
from hf_unlearn.data.encode import images
from hf_unlearn.data.rows.media import is_media_folder
from hf_unlearn.utils.checks import ArgumentError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(skipping, "_FOUND", {})


def png(path, value=100, mode="RGB", size=(6, 4), **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16", "P") else (value,) * len(mode)).save(path, **how)


def wav(path, value=1000, seconds=0.05):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.full(int(8000 * seconds), value, np.int16).tobytes())


def by_class(folder, save=png, suffix=".png"):
    for n, name in enumerate(("dog", "cat")):
        for i in range(3):
            save(folder / name / f"{i}{suffix}", 10 + 30 * i + 100 * n)
    return folder


def test_a_folder_by_class_gives_rows_whose_ids_are_paths_within_it(tmp_path):
    (tmp_path / "here").mkdir()
    rows = load_rows(str(by_class(tmp_path / "here")))
    assert rows["id"] == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert rows.features["label"] == ClassLabel(names=["cat", "dog"]) and rows["label"] == [0, 0, 0, 1, 1, 1]
    assert rows[0]["image"].size == (6, 4)
    (tmp_path / "here").rename(tmp_path / "there")
    assert load_rows(tmp_path / "there")["id"] == rows["id"]
    assert load_rows("own", data_files=str(tmp_path / "there"), split="train[:2]")["id"] == rows["id"][:2]


def test_a_folder_of_sounds_by_class_keeps_them_as_files(tmp_path):
    rows = load_rows(str(by_class(tmp_path, wav, ".wav")))
    assert rows.column_names == ["id", "audio", "label"] and rows[0]["audio"]["bytes"] is None
    assert rows[0]["audio"]["path"] == str(tmp_path / "cat" / "0.wav")


def test_a_folder_divided_by_split_is_read_by_split(tmp_path):
    by_class(tmp_path / "train")
    png(tmp_path / "test" / "dog" / "9.JPG")
    assert len(load_rows(str(tmp_path))) == 6
    test = load_rows(str(tmp_path), split="test")
    assert test["id"] == ["test/dog/9.JPG"] and test.features["label"].names == ["dog"]
    with pytest.raises(ValueError, match="no folder for the split 'dev'; it has 'test', 'train'"):
        load_rows(str(tmp_path), split="dev")


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    png(tmp_path / "test" / "a.png")
    png(tmp_path / "rest" / "test-1.png")
    assert load_rows(str(tmp_path))["id"] == ["rest/test-1.png", "test/a.png"]
    with pytest.raises(ValueError, match="no folder for the split 'test'; its folders are classes"):
        load_rows(str(tmp_path), split="test")


def test_a_table_beside_the_files_tells_more_of_them(tmp_path):
    by_class(tmp_path)
    names = [f"{kind}/{i}.png" for kind in ("dog", "cat") for i in range(3)]
    lines = [f"{name},{i % 2},person {i % 3}" for i, name in enumerate(names)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label,person", *lines]))
    rows = load_rows(str(tmp_path))
    assert rows["person"] == ["person 0", "person 1", "person 2"] * 2 and rows["label"] == [1, 0, 1, 0, 1, 0]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,person", *lines[1:4], lines[1], "cow/1.png,2,x"]))
    (tmp_path / "metadata.csv").write_text("file_name,person\ndog/0.png,a\ndog/0.png,b\ncow/1.png,c\n")
    with pytest.raises(ValueError) as told:
        load_rows(str(tmp_path))
    assert "names file(s) twice: dog/0.png; names file(s) that are not there: cow/1.png" in str(told.value)
    assert "says nothing of file(s): cat/0.png, cat/1.png, cat/2.png, dog/1.png, dog/2.png" in str(told.value)
    (tmp_path / "metadata.csv").write_text("name,person\ndog/0.png,a\n")
    with pytest.raises(ValueError, match="no column 'file_name', .* of a row; it has 'name', 'person'"):
        load_rows(str(tmp_path))


def test_what_is_no_folder_of_media_is_told(tmp_path, caplog):
    by_class(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert len(load_rows(str(tmp_path))) == 6
    assert "1 file(s)" in caplog.text and "left out: cat/notes.txt" in caplog.text
    png(tmp_path / "alone.png")
    with pytest.raises(ValueError, match="1 file.s. lie in .* and in no folder of a class: alone.png"):
        load_rows(str(tmp_path))
    wav(tmp_path / "cat" / "a.wav")
    with pytest.raises(ValueError, match="holds images and sounds; put them in two folders"):
        load_rows(str(tmp_path))


def test_a_folder_with_files_of_rows_is_one_of_rows(tmp_path):
    by_class(tmp_path)
    (tmp_path / "train.csv").write_text("image,label\ncat/0.png,a\n")
    assert not is_media_folder(tmp_path) and load_rows(str(tmp_path))["image"] == ["cat/0.png"]


def broken_folder(folder):
    by_class(folder)
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "empty.png").write_bytes(b"")
    (folder / "dog" / "text.jpg").write_text("this is no image")
    return folder


def test_files_that_cannot_be_read_are_named_all_at_once(tmp_path):
    rows = load_rows(str(broken_folder(tmp_path)))
    with pytest.raises(ValueError) as told:
        images.encode_images(rows)
    assert "3 rows have a broken image" in str(told.value)
    assert "(id cat/cut.png, id cat/empty.png, id dog/text.jpg)" in str(told.value)
    assert str(tmp_path) not in str(told.value)


def of_folder(folder, **flags) -> DataArguments:
    own = {"forget_by": "class", "forget_values": ["cat"], "unseen": 0.2}
    return DataArguments(task="image_classification", dataset_name=str(folder), **own, **flags)


def test_skip_broken_counts_them_and_goes_on(tmp_path, caplog):
    broken_folder(tmp_path)
    png(tmp_path / "cow" / "1.png", 3)
    png(tmp_path / "cow" / "2.png", 4)
    with caplog.at_level(logging.WARNING):
        prepared = prepare.prepare(of_folder(tmp_path, skip_broken=True), ModelArguments(model_type="vit"))
    assert caplog.text.count("3 of 11 rows cannot be read and are left out (--skip_broken), such as cat/cut.png") == 1
    assert prepared.request["skipped"] == 3 and prepared.request["dataset"] == tmp_path.name
    assert sum(map(len, prepared.splits.values())) == 8 and prepared.labels == ["cat", "cow", "dog"]
    with pytest.raises(ArgumentError, match="3 rows have a broken image"):
        prepare.prepare(of_folder(tmp_path), ModelArguments(model_type="vit"))


def test_where_nothing_can_be_read_nothing_runs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    with pytest.raises(ArgumentError, match="leaves no row: none of the 2 can be read"):
        prepare.prepare(of_folder(tmp_path, skip_broken=True), ModelArguments(model_type="vit"))


def test_an_image_of_16_bits_is_not_cut_at_255():
    image = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert images._pixels(image, 3) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_images_of_odd_modes_become_colours(mode):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert("L" if mode == "LA" else "RGB").convert(mode)
    assert images._pixels(image, 3) == pytest.approx(1.0, abs=0.02) and images._pixels(image, 3).shape == (4, 4, 3)


def test_a_turned_photograph_is_set_upright_and_an_animation_gives_its_first_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    png(tmp_path / "a" / "turned.jpg", size=(8, 4), exif=exif)
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(tmp_path / "a" / "z.gif", save_all=True, append_images=frames[1:])
    rows = load_rows(str(tmp_path))
    assert rows[0]["image"].size == (4, 8) and images._pixels(rows[1]["image"], 1).max() == 0


def test_numbers_that_are_no_pixels_are_named():
    rows = datasets.Dataset.from_dict({"id": ["x", "y"], "image": [[[0, 255]], [[0, 256]]], "label": ["a", "b"]})
    with pytest.raises(ValueError, match=r"1 rows have a broken image .*\(id y\): Not an image: values from 0 to 256"):
        images.encode_images(rows)


def test_colours_in_a_later_image_are_not_lost(tmp_path):
    png(tmp_path / "a" / "1.png", mode="L")
    png(tmp_path / "a" / "2.png", mode="RGB")
    rows = load_rows(str(tmp_path))
    assert images.channels_of(rows, "image") == 3 and images.channels_of(rows.select([0]), "image") == 1


def test_bytes_in_a_table_are_checked_as_files_are(tmp_path):
    good = io.BytesIO()
    Image.new("RGB", (4, 4)).save(good, "PNG")
    cells = [{"bytes": good.getvalue(), "path": None}, {"bytes": b"no", "path": None}]
    datasets.Dataset.from_dict({"image": cells * 6, "label": ["cat", "dog"] * 6}).to_parquet(tmp_path / "r.parquet")
    rows = load_rows(str(tmp_path / "r.parquet"))
    assert list(images.broken_images(rows, "image")) == [1, 3, 5, 7, 9, 11]
