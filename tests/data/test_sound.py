"""Sounds of the recipes: from the bytes of a file to the rows of an audio classifier, on tones made here."""

import io
import sys
import wave
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

from hf_unlearn import default_collator
from hf_unlearn.cli import arguments, named, prepare
from hf_unlearn.cli import model as models
from hf_unlearn.data.encode import sound
from hf_unlearn.data.rows.by_name import load_rows

AST = sound.AST
SMALL = "hidden_size=16,intermediate_size=32,num_hidden_layers=1,num_attention_heads=2,num_mel_bins=32"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Arrow files of these tests go away with them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def sine(hertz, rate=8000, seconds=0.2, high=0.5):
    return (high * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def wav(samples, rate=8000):
    """Bytes of a 16-bit WAV file of samples (n,) or (n, channels)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples * 32768).astype("<i2").tobytes())
    return buffer.getvalue()


def table(sounds, **columns):
    n = len(sounds)
    return datasets.Dataset.from_dict(
        {"id": [f"s{i}" for i in range(n)], "audio": sounds, "label": [i % 2 for i in range(n)], **columns}
    )


def extractor(max_seconds=0.3):
    return sound.build_feature_extractor(AST, models.model_settings(AST, SMALL), max_seconds=max_seconds)


# ---- decoding -------------------------------------------------------------------------------------------------------


def test_the_same_samples_from_every_form(tmp_path):
    tone = sine(440)
    content = wav(tone)
    (tmp_path / "a.wav").write_bytes(content)
    lossless = io.BytesIO()
    pytest.importorskip("soundfile").write(lossless, np.rint(tone * 32768).astype(np.int16), 8000, format="FLAC")
    forms = [content, {"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "a.wav")}]
    forms += [tmp_path / "a.wav", lossless.getvalue(), {"bytes": content, "path": "/nowhere/a.wav"}]
    forms += [{"array": tone.tolist(), "sampling_rate": 8000}]
    for form in forms:
        samples = sound.decode(form, 8000)
        assert samples.dtype == np.float32 and samples.shape == (1600,)
        assert np.abs(samples - tone).max() < 2 / 32768


def test_channels_are_averaged_and_rates_converted():
    left, right = sine(440), sine(1000, high=0.25)
    both = np.stack([left, right], axis=1)
    mean = (left + right) / 2
    assert np.abs(sound.decode(wav(both), 8000) - mean).max() < 2 / 32768
    assert np.allclose(sound.decode({"array": both.T, "sampling_rate": 8000}, 8000), mean, atol=1e-7)
    for rate in (16_000, 11_025, 4_000):
        got, wanted = sound.decode(wav(sine(440)), rate), sine(440, rate)
        assert len(got) == len(wanted)
        middle = slice(len(wanted) // 10, -len(wanted) // 10)  # the filter rings at both ends
        assert np.abs(got - wanted)[middle].max() < 0.01


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"RIFF, or so it says", "not a sound that soundfile can decode: 19 bytes"),
        (b"", "0 bytes"),
        (wav(np.zeros(0)), "empty: samples"),
        ({"bytes": None, "path": None}, "not a sound: a value of type dict"),
        (None, "type NoneType"),
        ({"array": [0.0, float("nan")], "sampling_rate": 8000}, "not finite"),
        ({"array": [0.0, 0.1], "sampling_rate": None}, "needs its `sampling_rate`"),
        ({"array": ["a"], "sampling_rate": 8000}, "no numbers"),
    ],
    ids=["bytes", "no-bytes", "no-samples", "nothing", "none", "nan", "no-rate", "letters"],
)
def test_what_is_no_sound_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        sound.decode(value, 8000)


def test_a_path_without_a_file_and_a_package_that_is_missing(monkeypatch):
    with pytest.raises(FileNotFoundError, match="only the path 'takes/7.wav'.*store the bytes"):
        sound.decode({"bytes": None, "path": "takes/7.wav"}, 8000)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ValueError, match=r"pip install 'hf_unlearn\[audio\]'"):
        sound.decode(wav(sine(440)), 8000)
    assert len(sound.decode({"array": sine(440), "sampling_rate": 8000}, 8000)) == 1600  # nothing to decode


# ---- encoding -------------------------------------------------------------------------------------------------------


def test_rows_have_one_length_whatever_the_sounds():
    sounds = [wav(sine(440, seconds=s)) for s in (0.01, 0.2, 2.0)]
    sounds += [wav(sine(440, rate=16_000), 16_000), wav(np.stack([sine(440)] * 2, axis=1))]
    speakers = list("abcde")
    rows = sound.encode_sounds(table(sounds, speaker=speakers), extractor(), max_seconds=0.3, names=["no", "yes"])
    values = np.array(rows["input_values"], dtype=np.float32)
    assert values.shape == (5, 30, 32) and rows.features["input_values"].dtype == "float32"
    assert np.isfinite(values).all() and rows["labels"] == [0, 1, 0, 1, 0] and rows.features["labels"].names[1] == "yes"
    assert rows["speaker"] == speakers and "audio" not in rows.column_names
    assert np.allclose(values[1], values[4], atol=1e-3)  # two equal channels are one
    peak = np.argmax(values[3, 5])
    assert np.abs(values[1] - values[3])[1:15, peak].max() < 0.01  # 8 kHz resampled is as 16 kHz, where it sounds
    silence = values[0, -1, 0]
    assert (values[1, 18:] == silence).all() and not (values[2, :28] == silence).any()  # 28 whole frames in 0.3 s
    low, high = (sound.encode_sounds(table([wav(sine(f))]), extractor())["input_values"] for f in (300, 3000))
    assert np.argmax(np.array(low)[0, 5]) < np.argmax(np.array(high)[0, 5])


def test_the_extractor_and_the_model_of_a_folder(tmp_path):
    own = extractor()
    own.save_pretrained(tmp_path)
    model = models.build_model("audio_classification", AST, SMALL, own, labels=["no", "yes"], seed=1)
    assert (model.config.max_length, model.config.num_mel_bins) == (30, 32)
    model.save_pretrained(tmp_path)
    rows = sound.encode_sounds(table([wav(sine(300)), wav(sine(900))]), own, max_seconds=0.3)
    again = sound.encode_sounds(
        table([wav(sine(300)), wav(sine(900))]), AutoFeatureExtractor.from_pretrained(tmp_path), max_seconds=0.3
    )
    assert rows["input_values"] == again["input_values"]
    loaded = named.load_named("audio_classification", tmp_path, SimpleNamespace(labels=["no", "yes"]), 0)[0]
    batch = default_collator(loaded, own)([rows[0], rows[1]])
    assert set(batch) == {"input_values", "labels"} and batch["input_values"].shape == (2, 30, 32)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_the_waveform_itself_for_the_wav2vec2_family():
    own = sound.build_feature_extractor("hubert", {}, sampling_rate=8000)
    assert isinstance(own, Wav2Vec2FeatureExtractor) and own.sampling_rate == 8000
    own.return_attention_mask = True
    rows = sound.encode_sounds(table([wav(sine(440, seconds=s)) for s in (0.1, 0.5)]), own, max_seconds=0.25)
    assert np.shape(rows["input_values"]) == (2, 2000)
    assert np.sum(rows["attention_mask"], axis=1).tolist() == [800, 2000]


def test_wrong_rows_are_named():
    good = wav(sine(440))
    for sounds, message in (
        ([good, b"nothing"], r"1 rows have a broken sound in .*\(id s1\): not a sound that soundfile can decode: 7"),
        ([b"nothing", good], "id s0"),
        ([good, None], "id s1.: not a sound: a value of type NoneType"),
        (["a.wav", "b.wav"], "id s0, id s1.: only the path 'a.wav'"),
    ):
        with pytest.raises(ValueError, match=message):
            sound.encode_sounds(table(sounds), extractor())
    with pytest.raises(ValueError, match="no column 'take'"):
        sound.encode_sounds(table([good]), extractor(), audio_column="take")
    with pytest.raises(ValueError, match="no rows"):
        sound.encode_sounds(table([good]).select([]), extractor())
    with pytest.raises(ValueError, match="feature extractor is dict"):
        sound.encode_sounds(table([good]), {})
    with pytest.raises(ValueError, match="not a known class: '1'"):
        sound.encode_sounds(table([good, good]), extractor(), names=["0"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((AST, {}, 8000), "`sampling_rate` is 8000; a new audio-spectrogram-transformer takes 16000"),
        ((AST, {}, 16_000, 0.1), "`max_seconds` is 0.1: 10 frames, and a patch has 16"),
        ((AST, {}, 16_000, float("nan")), "must be above 0"),
        (("wav2vec2", {}, 0), "must be above 0"),
        (("vit", {}), "type 'vit'; `model_type` must be one of audio-spectrogram-transformer, wav2vec2"),
    ],
)
def test_extractors_that_cannot_be_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        sound.build_feature_extractor(*arguments)


# ---- rows of files --------------------------------------------------------------------------------------------------


def test_an_audio_column_is_left_undecoded(tmp_path):
    """A parquet file that `datasets` wrote says Audio in its metadata; reading a row would ask for torchcodec."""
    content = wav(sine(440))
    rows = table([{"bytes": content, "path": "a.wav"}]).cast_column("audio", datasets.Audio(decode=False))
    rows = rows.cast_column("audio", datasets.Audio())
    for path, write in ((tmp_path / "a.parquet", rows.to_parquet), (tmp_path / "saved", rows.save_to_disk)):
        write(str(path))
        assert load_rows(str(path))[0]["audio"] == {"bytes": content, "path": "a.wav"}
    with pytest.raises(FileNotFoundError, match="`data_files`, such as path/to/fsdd/recordings.parquet"):
        load_rows("fsdd")


def test_a_model_folder_without_its_extractor(tmp_path):
    sounds = [{"bytes": wav(sine(pitch)), "path": None} for pitch in (440, 540, 640, 740)]
    table(sounds, speaker=list("abcd")).to_parquet(str(tmp_path / "a.parquet"))
    data = arguments.DataArguments(
        task="audio_classification", dataset_name=str(tmp_path / "a.parquet"), forget_column="speaker",
        forget_values=["a"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="There is no preprocessor_config.json"):
        prepare.prepare(data, arguments.ModelArguments(), str(tmp_path))
    data.audio_column = "take"
    with pytest.raises(ValueError, match="no column 'take'"):
        prepare.prepare(data, arguments.ModelArguments(), str(tmp_path))
