"""Weight distances against plain numpy, adapters against their merge, and a hash that sees one bit."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
import torch
from helpers import tiny
from peft import LoraConfig, PromptTuningConfig, TrainableTokensConfig, get_peft_model
from torch import nn

from hf_unlearn.evaluation import weight_distance, weights, weights_hash


def flat(model, part=""):
    return np.concatenate([p.detach().double().numpy().ravel() for n, p in model.named_parameters() if part in n])


def moved(model, scale=0.01, seed=5):
    """A copy with noise on every parameter."""
    model = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn_like(p))
    return model


def adapted(model, seed=9, **config):
    """A PEFT model whose adapter is not zero."""
    config = {"target_modules": ["q_proj", "up_proj"], "lora_alpha": 24, **config}
    model = get_peft_model(copy.deepcopy(model), LoraConfig(r=3, **config))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                p.add_(0.1 * torch.randn_like(p))
    return model


def near(found, wanted, rel=1e-6):
    assert found["whole"] == pytest.approx(wanted["whole"], rel=rel)
    assert list(found["layers"]) == list(wanted["layers"])
    assert list(found["layers"].values()) == pytest.approx(list(wanted["layers"].values()), rel=rel, abs=1e-12)


@pytest.mark.parametrize("piece", [weights.PIECE, 7])
def test_distance_is_that_of_the_concatenated_weights(monkeypatch, piece):
    monkeypatch.setattr(weights, "PIECE", piece)
    other = tiny.lm(layers=2)
    model = moved(other)
    found = weight_distance(model, other)
    assert found["whole"] == pytest.approx(np.linalg.norm(flat(model) - flat(other)) / np.linalg.norm(flat(other)))
    assert list(found["layers"]) == ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]
    for layer, value in found["layers"].items():
        a, b = flat(model, layer + "."), flat(other, layer + ".")
        assert value == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert weight_distance(other, other)["whole"] == 0.0


def test_tied_weights_count_once_and_an_untied_copy_is_at_distance_zero():
    tied = tiny.lm64(tied=True)
    model = moved(tied)
    found = weight_distance(model, tied)
    assert "lm_head" not in found["layers"]
    assert found["whole"] == pytest.approx(np.linalg.norm(flat(model) - flat(tied)) / np.linalg.norm(flat(tied)))
    untied = tiny.lm64(tied=False)
    untied.load_state_dict(tied.state_dict())
    assert weight_distance(untied, tied)["whole"] == 0.0
    assert weight_distance(untied, tied)["layers"]["lm_head"] == 0.0


def test_dtypes_may_differ_and_zeros_have_no_ratio():
    other = tiny.vit()
    model = copy.deepcopy(other).bfloat16()
    found = weight_distance(model, other)
    assert 1e-4 < found["whole"] < 4e-3  # bfloat16 rounds by at most 2⁻⁹
    assert found["whole"] == pytest.approx(np.linalg.norm(flat(model) - flat(other)) / np.linalg.norm(flat(other)))
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    nn.init.zeros_(b.weight), nn.init.zeros_(b.bias)
    assert weight_distance(a, b) == {"whole": math.inf, "layers": {"weight": math.inf, "bias": math.inf}}
    assert weight_distance(b, b)["whole"] == 0.0


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"modules_to_save": ["lm_head"], "use_rslora": True},
        {"target_modules": ["embed_tokens", "down_proj"], "bias": "all"},
    ],
)
def test_an_adapter_is_compared_as_merged(config):
    base = tiny.lm(layers=2)
    model = adapted(base, **config)
    before, flags = tiny.weights(model), [p.requires_grad for p in model.parameters()]
    merged = copy.deepcopy(model).merge_and_unload()
    near(weight_distance(model, base), weight_distance(merged, base))
    near(weight_distance(base, model), weight_distance(base, merged))
    assert weight_distance(model, merged)["whole"] < 1e-6
    assert weight_distance(model, base)["layers"]["model.layers.0"] > 0.01
    assert tiny.same_bits(before, tiny.weights(model)) and flags == [p.requires_grad for p in model.parameters()]
    with model.disable_adapter():
        assert weight_distance(model, base)["whole"] == 0.0


def test_conv_layers_conv1d_and_two_adapters():
    base = tiny.lm64(tied=False)
    model = adapted(base, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    near(weight_distance(model, base), weight_distance(copy.deepcopy(model).merge_and_unload(), base))
    images = tiny.resnet()
    model = adapted(images, target_modules=["convolution"])
    near(weight_distance(model, images), weight_distance(copy.deepcopy(model).merge_and_unload(), images), rel=1e-5)
    text = tiny.lm()
    model = adapted(text)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    one = weight_distance(model, text)["whole"]
    model.base_model.set_adapter(["default", "second"])
    both = weight_distance(model, text)["whole"]
    merged = copy.deepcopy(model).merge_and_unload(adapter_names=["default", "second"])
    assert both == pytest.approx(weight_distance(merged, text)["whole"], rel=1e-6) and both > one * 1.001
    model.merge_adapter()  # in the base weights now: not added a second time
    assert weight_distance(model, text)["whole"] == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize("make", [tiny.lm, tiny.lm64], ids=["linear", "conv1d"])
def test_dora_counts_as_peft_merges_it(make):
    base = make()
    targets = ["q_proj", "down_proj"] if make is tiny.lm else ["c_attn", "c_fc"]
    config = LoraConfig(r=2, target_modules=targets, use_dora=True, use_rslora=True, init_lora_weights=False)
    dora = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, p in dora.named_parameters():
            p.mul_(1.3 if "magnitude" in name else 1.0)
    before = {name: p.clone() for name, p in dora.named_parameters()}
    found = weight_distance(dora, base)
    assert all(torch.equal(p, before[name]) for name, p in dora.named_parameters())
    wanted = weight_distance(dora.merge_and_unload(), base)
    assert found["whole"] > 0.1 and found["whole"] == pytest.approx(wanted["whole"], rel=1e-5)
    assert found["layers"] == pytest.approx(wanted["layers"], rel=1e-5)


def test_adapters_that_cannot_be_merged_are_refused():
    base = tiny.lm()
    both = adapted(base, use_dora=True)
    both.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    both.base_model.set_adapter(["default", "other"])
    prompts = get_peft_model(copy.deepcopy(base), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    tokens = get_peft_model(copy.deepcopy(base), TrainableTokensConfig(token_indices=[3]))
    for model, kind in ((both, "Dora"), (prompts, "PROMPT_TUNING"), (tokens, "TrainableTokens")):
        with pytest.raises(ValueError, match=f"cannot be merged.*{kind}.*merge_and_unload"):
            weight_distance(model, base)


def test_other_architectures_and_broken_weights_are_refused():
    model = tiny.lm(layers=2)
    with pytest.raises(ValueError, match=r"only `model` has model.layers.1.*and 4 more"):
        weight_distance(model, tiny.lm(layers=1))
    with pytest.raises(ValueError, match=r"only `other` has model.layers.1"):
        weight_distance(tiny.lm(layers=1), model)
    with pytest.raises(ValueError, match=re.escape("shapes differ in model.embed_tokens.weight (50, 16) and (50, 32)")):
        weight_distance(tiny.lm(), tiny.lm(hidden=32))
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.norm.weight[3] = math.nan
    for pair in ((broken, model), (model, broken)):
        with pytest.raises(FloatingPointError, match=r"not finite in model\.norm\.weight"):
            weight_distance(*pair)
    packed = copy.deepcopy(model)
    packed.lm_head.weight = nn.Parameter(torch.zeros(50, 16, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"not floating-point numbers in lm_head\.weight"):
        weight_distance(packed, model)
    with torch.device("meta"):
        nothing = nn.Linear(2, 2)
    for call in (lambda: weight_distance(nothing, nothing), lambda: weights_hash(nothing)):
        with pytest.raises(ValueError, match="meta device"):
            call()


@pytest.mark.parametrize("kind", ["lm", "resnet", "bf16", "tied"])
def test_the_hash_names_the_weights(kind, tmp_path):
    make = {"lm": tiny.lm, "resnet": tiny.resnet, "bf16": lambda: tiny.lm().bfloat16(), "tied": tiny.lm64}[kind]
    model = make()
    name = weights_hash(model)
    assert re.fullmatch("[0-9a-f]{32}", name) and name == weights_hash(make())
    model.save_pretrained(tmp_path)
    assert weights_hash(type(model).from_pretrained(tmp_path, dtype=next(model.parameters()).dtype)) == name
    assert weights_hash(nn.DataParallel(model)) == name
    for tensor in (list(model.parameters())[-1], *([b for b in model.buffers() if b.dtype == torch.int64][:1])):
        flat = tensor.detach().view(-1)[-1:].view(torch.uint8)
        flat[0] ^= 1
        assert weights_hash(model) != name
        flat[0] ^= 1
        assert weights_hash(model) == name
    assert weights_hash(model.half()) != name


def test_the_hash_sees_names_and_shapes():
    a, b = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    b.weight.data = a.weight.detach().reshape(2, 3).clone()
    assert weights_hash(a) != weights_hash(b)
    assert weights_hash(nn.ModuleDict({"x": a})) != weights_hash(nn.ModuleDict({"y": a}))
    assert weights_hash(nn.Linear(0, 3, bias=False)) != weights_hash(nn.Linear(0, 2, bias=False))


def test_the_hash_of_an_adapter_covers_base_adapter_and_scaling(tmp_path):
    from peft import PeftModel

    base = tiny.lm()
    model = adapted(base)
    name = weights_hash(model)
    assert name != weights_hash(adapted(base, seed=1)) and name != weights_hash(adapted(moved(base)))
    assert name != weights_hash(adapted(base, lora_alpha=12))
    with model.disable_adapter():
        assert weights_hash(model) != name
    model.save_pretrained(tmp_path)
    assert weights_hash(PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)) == name
