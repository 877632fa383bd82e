"""Round-to-nearest against a plain loop over channels; what stays, stays; everything comes back bit for bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import tiny
from peft import LoraConfig, get_peft_model
from torch import nn

from hf_unlearn.evaluation import collect, quantised, weights

LINEAR = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def naive(weight: np.ndarray, bits: int, channels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(rounded weight, scale of each channel), one channel after the other."""
    most = {8: 127, 4: 7}[bits]
    lines = np.moveaxis(weight, channels, 0)
    rounded, scales = np.zeros_like(lines), np.zeros(len(lines), weight.dtype)
    for i, line in enumerate(lines):
        scales[i] = np.abs(line).max() / weight.dtype.type(most)
        if scales[i] > 0:
            rounded[i] = np.rint(line / scales[i]) * scales[i]
    return np.moveaxis(rounded, 0, channels), scales


def changed(model, bits=4, **options) -> set[str]:
    """Names of the parameters that the block changes; all come back."""
    before = tiny.weights(model)
    with quantised(model, bits, **options) as inside:
        assert inside is model
        now = tiny.weights(model)
    assert tiny.same_bits(before, tiny.weights(model))
    return {name for name, value in now.items() if not torch.equal(value, before[name])}


class Mixed(nn.Module):
    """Every kind of layer that is rounded, and some that are not."""

    def __init__(self):
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        torch.manual_seed(3)
        self.linear, self.conv1d = nn.Linear(6, 5), Conv1D(5, 6)
        self.one, self.two, self.three = nn.Conv1d(2, 3, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Conv3d(2, 3, 2)
        self.norm, self.embedding, self.up = nn.LayerNorm(5), nn.Embedding(7, 5), nn.ConvTranspose1d(2, 3, 2)
        self.head = nn.Linear(5, 2)


@pytest.mark.parametrize(("bits", "piece"), [(8, weights.PIECE), (4, weights.PIECE), (4, 13)])
def test_each_layer_is_that_of_a_plain_loop(bits, piece, monkeypatch):
    monkeypatch.setattr(weights, "PIECE", piece)
    model = Mixed()
    with torch.no_grad():
        model.conv1d.weight[:, 2] = 0.0  # an output channel
        model.linear.weight[1] = 0.0
    before = tiny.weights(model)
    with quantised(model, bits):
        for name in ("linear", "conv1d", "one", "two", "three"):
            old, new = (w.detach().numpy() for w in (before[f"{name}.weight"], model.get_submodule(name).weight))
            channels = 1 if name == "conv1d" else 0
            wanted, scales = naive(old, bits, channels)
            np.testing.assert_array_equal(new, wanted)
            error = np.abs(np.moveaxis(new - old, channels, 0)).reshape(len(scales), -1).max(1)
            assert (error <= scales / 2 * (1 + 1e-4)).all() and (error > 0).sum() >= len(scales) - 1
            assert all(len(np.unique(line)) <= 2**bits - 1 for line in np.moveaxis(new, channels, 0))
        assert not model.conv1d.weight[:, 2].any() and not model.linear.weight[1].any()
    assert tiny.same_bits(before, tiny.weights(model))
    rounded = {f"{name}.weight" for name in ("linear", "conv1d", "one", "two", "three")}
    assert changed(model, bits) == rounded
    assert changed(model, bits, skip=()) == rounded | {"head.weight"}
    assert changed(model, bits, skip=["one", "two", "head"]) == {"linear.weight", "conv1d.weight", "three.weight"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_are_in_the_weights_dtype(dtype):
    model = Mixed().to(dtype)
    wide = {torch.float64: torch.float64}.get(dtype, torch.float32)
    wanted, _ = naive(model.linear.weight.detach().to(wide).numpy(), 8)
    with quantised(model, 8):
        assert model.linear.weight.dtype == dtype
        assert torch.equal(model.linear.weight, torch.from_numpy(wanted).to(dtype))


def test_embeddings_heads_norms_and_biases_stay():
    for model in (tiny.lm64(tied=True), tiny.lm64(tied=False)):
        assert changed(model) == {f"transformer.h.0.{m}.weight" for m in LINEAR}
    tied, untied = tiny.lm64(tied=True), tiny.lm64(tied=False)
    assert changed(tied, skip=()) == changed(tied)  # rounding the head would round the embedding
    assert changed(untied, skip=()) == {*changed(untied), "lm_head.weight"}
    assert not any(name.startswith("classifier") for name in changed(tiny.vit()))
    assert "classifier.weight" in changed(tiny.vit(), skip=[])
    assert "resnet.embedder.embedder.convolution.weight" in changed(tiny.resnet())
    assert not any("norm" in name or "bias" in name or "embeddings" in name for name in changed(tiny.bert()))
    assert changed(tiny.lm(layers=2), skip="model.layers.0") >= {"lm_head.weight"}
    assert not any("layers.0" in name for name in changed(tiny.lm(layers=2), skip="model.layers.0"))


@pytest.mark.parametrize("merged", [False, True])
def test_of_an_adapter_the_base_is_rounded(merged):
    base = tiny.lm()
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, modules_to_save=["lm_head"])
    model = get_peft_model(copy.deepcopy(base), config)
    if merged:
        model.merge_adapter()
    names = {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in changed(model)}
    assert names == changed(base)
    assert not any("lora" in name or "lm_head.modules_to_save" in name for name in changed(model, skip=()))


def test_the_model_runs_rounded_and_is_back_after_an_error():
    model, rows = tiny.lm().train(), tiny.lm_list(4)
    from hf_unlearn import default_collator

    collator = default_collator(model, tiny.tokenizer())
    before, plain = tiny.weights(model), collect(model, rows, collator)
    flags = [p.requires_grad for p in model.parameters()]
    losses = []
    for bits in (8, 4):
        with pytest.raises(KeyboardInterrupt), quantised(model, bits):
            losses.append(collect(model, rows, collator)["nll_sum"].to_numpy())
            raise KeyboardInterrupt
        assert tiny.same_bits(before, tiny.weights(model)) and model.training
    far = [np.abs(loss - plain["nll_sum"].to_numpy()).max() for loss in losses]
    assert 0 < far[0] < far[1]
    assert collect(model, rows, collator).equals(plain)
    assert flags == [p.requires_grad for p in model.parameters()]


def test_arguments_that_make_no_sense_are_refused():
    model = tiny.lm()
    for bits in (2, 16, "4", None):
        with pytest.raises(ValueError, match=r"`bits` is .*must be one of 8, 4"), quantised(model, bits):
            pass
    with pytest.raises(ValueError, match=r"`skip` names nothing.*named_modules"), quantised(model, 8, skip=["nothing"]):
        pass
    with pytest.raises(ValueError, match="no linear or convolution layer"), quantised(nn.Linear(2, 2), 8):
        pass
    packed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    packed[0].weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="not floating-point numbers in 0: load"), quantised(packed, 8):
        pass
