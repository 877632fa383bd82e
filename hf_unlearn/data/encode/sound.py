"""From recordings to the rows of an audio classifier: bytes of a file -> waveform -> what the model takes.

`datasets` decodes sounds by torchcodec, which a requirement of this size should not bring; here the bytes stay bytes
(`undecoded`) and soundfile reads them: WAV, FLAC, OGG, MP3. Importing this module is instant.
"""

from __future__ import annotations

import io
import math
import os
from contextlib import contextmanager

from .columns import check_columns, class_labels, name_rows, with_labels

SHORTEST = 400  # samples: one frame of 25 ms at 16 kHz; shorter sounds get zeros at their end
FRAME_RATE = 100  # frames a second of AST's spectrogram: a hop of 160 samples at 16 kHz
AST_RATE = 16_000
RAW = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "sew", "sew-d")
AST = "audio-spectrogram-transformer"


class NoDecoderError(ValueError):
    """Sounds cannot be decoded here, whatever they are."""


def undecoded(rows):
    """Columns of type Audio give `{"bytes", "path"}` from here on; all else stays."""
    from datasets import Audio

    for name, feature in rows.features.items():
        if isinstance(feature, Audio) and feature.decode:
            rows = rows.cast_column(name, Audio(decode=False))
    return rows


def decode(sound, sampling_rate):
    """A recording as samples.

    Args:
        sound: the bytes of a file, `{"bytes", "path"}` (where bytes is None the file at `path` is read), a path, or
            `{"array", "sampling_rate"}`: samples of shape (n,), (n, channels) or (channels, n) with up to 8 channels.
        sampling_rate: wanted, in Hz; another one is resampled (`scipy.signal.resample_poly`).

    Returns:
        float32 array (n,), the mean of the channels; files of integer samples come out in -1..1.

    Raises:
        ValueError: not a sound, no samples, samples that are not finite, or soundfile is not installed.
        FileNotFoundError: only a path is there, and no such file.
    """
    import numpy as np

    if isinstance(sound, dict) and sound.get("array") is not None:
        try:
            samples, rate = np.asarray(sound["array"], dtype=np.float32), sound.get("sampling_rate")
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a sound: its array holds no numbers ({error})") from error
        if not isinstance(rate, int) or not rate > 0:
            raise ValueError(f"an array of samples needs its `sampling_rate` in Hz beside it, got {rate!r}")
        if samples.ndim == 2 and len(samples) <= 8 < samples.shape[1]:
            samples = samples.T
    else:
        samples, rate = _read(sound)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or not samples.size:
        raise ValueError(f"the sound is empty: samples of shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("the sound has samples that are not finite")
    if rate != sampling_rate:
        from scipy.signal import resample_poly

        common = math.gcd(rate, sampling_rate)
        samples = resample_poly(samples, sampling_rate // common, rate // common)
    return np.ascontiguousarray(samples, dtype=np.float32)


def _read(sound):
    """Samples (n, channels) float32 and their rate, from the bytes or the path of a file."""
    path = sound.get("path") if isinstance(sound, dict) else sound
    content = sound.get("bytes") if isinstance(sound, dict) else sound
    if not isinstance(content, bytes):
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(
                f"not a sound: a value of type {type(sound).__name__}; expected the bytes of a file, a path, "
                "{bytes, path} or {array, sampling_rate}"
            )
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"only the path {os.fspath(path)!r} is stored, and there is no such file (looked in {os.getcwd()!r}). "
                "Fix: start from the folder that it is relative to, or store the bytes"
            )
    elif not content:
        raise ValueError("the sound is empty: a file of 0 bytes")
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its library
        raise NoDecoderError(
            f"soundfile, which decodes sounds, cannot be imported ({error}). Fix: pip install 'hf_unlearn[audio]'"
        ) from error
    if not isinstance(content, bytes):
        with open(path, "rb") as file:
            content = file.read()
    try:
        return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a sound that soundfile can decode: {len(content)} bytes ({error})") from error


def build_feature_extractor(model_type, settings, sampling_rate=AST_RATE, max_seconds=1.0):
    """The feature extractor of a new model: log-mel frames for AST, the waveform itself for the Wav2Vec2 family.

    Args:
        settings: of the model, from [`hf_unlearn.cli.model.model_settings`]; AST: `num_mel_bins` (default: 64).
        sampling_rate: in Hz. AST takes 16,000 only: transformers counts its frames in samples, torchaudio (where it is
            installed) in milliseconds, and at that rate the two agree.
        max_seconds: length of a row; AST: 100 frames a second, at least one patch.

    Raises:
        ValueError: a model type without such an extractor, another rate for AST, or no length.
    """
    if not sampling_rate > 0 or not max_seconds > 0:
        raise ValueError(
            f"`sampling_rate` and `max_seconds` must be above 0; got {sampling_rate!r} and {max_seconds!r}."
        )
    if model_type in RAW:
        from transformers import Wav2Vec2FeatureExtractor

        return Wav2Vec2FeatureExtractor(sampling_rate=sampling_rate)
    if model_type != AST:
        raise ValueError(
            f"No feature extractor is known for a new model of type {model_type!r}; `model_type` must be one of "
            f"{', '.join((AST, *RAW))}."
        )
    if sampling_rate != AST_RATE:
        raise ValueError(
            f"`sampling_rate` is {sampling_rate}; a new {AST} takes {AST_RATE} (sounds of another rate are resampled)."
        )
    from transformers import ASTFeatureExtractor

    frames = round(FRAME_RATE * max_seconds)
    patch = settings.get("patch_size", 16)
    if frames < (patch if isinstance(patch, int) else max(patch)):
        raise ValueError(f"`max_seconds` is {max_seconds}: {frames} frames, and a patch has {patch}.")
    return ASTFeatureExtractor(
        sampling_rate=sampling_rate, num_mel_bins=settings.get("num_mel_bins", 64), max_length=frames
    )


def encode_sounds(
    dataset, extractor, audio_column="audio", label_column="label", max_seconds=1.0, names=None, batch_size=256
):
    """Recordings with one class each, or with several labels, for an audio classifier, all rows of one length: longer
    ones are cut at the end, shorter ones get silence there. `batch_size` at a time.

    Args:
        extractor: an `ASTFeatureExtractor` (its own `max_length` is the length) or a `Wav2Vec2FeatureExtractor`.
        max_seconds: samples beyond it are not read.
        names: class names in the model's order, as in `encode_text_classification`.

    Returns:
        The data set without the audio column, with `input_values` float32, (frames, mel bins) or (samples,), for
        extractors that give one `attention_mask` (samples,), and `labels`, as of `encode_text_classification`. All
        other columns stay.

    Raises:
        ValueError: a column is missing, a label is not among `names`, a row is no sound (it is named), or another
            kind of extractor.
    """
    check_columns(dataset, audio_column, label_column)
    if not len(dataset):
        raise ValueError("The data set has no rows; there is no sound to encode.")
    if type(extractor).__name__ not in ("ASTFeatureExtractor", "Wav2Vec2FeatureExtractor"):
        raise ValueError(
            f"The model's feature extractor is {type(extractor).__name__}; the recipes encode by ASTFeatureExtractor "
            "or Wav2Vec2FeatureExtractor. Fix: encode the rows yourself and hand them to the trainers."
        )
    names, labels = class_labels(dataset, label_column, names)
    dataset = undecoded(dataset)
    with naming_broken_sounds(dataset, audio_column, extractor.sampling_rate):
        return _encoded(dataset, extractor, audio_column, max_seconds, names, labels, batch_size)


@contextmanager
def naming_broken_sounds(dataset, column, sampling_rate):
    """
    Sounds are decoded within; where some cannot be, the rows are named, all at once.

    Raises:
        ValueError: if a sound is broken, its file is not there, or it is none.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        broken = broken_sounds(dataset, column, sampling_rate)
        if not broken:
            raise
        rows = list(broken)
        raise ValueError(
            f"{len(rows)} rows have a broken sound in column {column!r} ({name_rows(dataset, rows)}): "
            f"{broken[rows[0]]}. Take them out (the verbs do so by --skip_broken), or store the files again."
        ) from error


def broken_sounds(dataset, column, sampling_rate=AST_RATE) -> dict[int, str]:
    """
    Row number -> why its sound cannot be taken.

    Raises:
        ValueError: if sounds cannot be decoded here at all, since soundfile is not installed.
    """
    found = {}
    for row, sound in enumerate(undecoded(dataset)[column]):
        try:
            decode(sound, sampling_rate)
        except NoDecoderError:
            raise
        except (ValueError, OSError) as error:
            found[row] = str(error)
    return found


def _encoded(dataset, extractor, audio_column, max_seconds, names, labels, batch_size):
    from datasets import Array2D, List, Value

    encode = _by_extractor(extractor, max_seconds)
    gone = [c for c in dataset.column_names if c in (audio_column, "labels", "input_values", "attention_mask")]
    features = dataset.features.copy()
    for column in gone:
        del features[column]
    for key, value in encode([dataset[0][audio_column]]).items():
        kind = Value(str(value.dtype))
        features[key] = Array2D(value.shape[1:], str(value.dtype)) if value.ndim == 3 else List(kind)
    encoded = dataset.map(
        lambda batch: encode(batch[audio_column]),
        batched=True,
        batch_size=batch_size,
        writer_batch_size=batch_size,
        features=features,
        remove_columns=gone,
        desc="Preparing sounds",
    )
    return with_labels(encoded, names, labels)


def _by_extractor(extractor, max_seconds: float):
    """Recordings -> arrays of what the model takes."""
    import numpy as np

    rate = extractor.sampling_rate
    length = max(SHORTEST, round(max_seconds * rate))
    more = {} if hasattr(extractor, "num_mel_bins") else {"padding": "max_length", "max_length": length}
    types = {"input_values": np.float32, "attention_mask": np.int64}

    def waveform(sound):
        samples = decode(sound, rate)[:length]
        return np.pad(samples, (0, max(0, SHORTEST - len(samples))))

    def encode(sounds):
        waves = [waveform(sound) for sound in sounds]
        out = extractor(waves, sampling_rate=rate, return_tensors="np", **more)
        return {key: np.asarray(out[key], dtype=kind) for key, kind in types.items() if key in out}

    return encode
