"""What a base in 4 bits takes, by the sizes of its parts, and how the verb comes to it."""

from __future__ import annotations

import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.cli import memory
from hf_unlearn.cli.arguments import DataArguments, ModelArguments
from hf_unlearn.memory.estimate import estimate
from hf_unlearn.memory.run import Run

SIZES = {"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 4}
LLAMA = {
    "model_type": "llama",
    "config_overrides": ",".join(f"{key}={value}" for key, value in SIZES.items()),
    "task": "causal_lm",
    "peft": "lora:r=4,target_modules=q_proj",
    "dtype": "bfloat16",
    "batch_size": 1,
    "length": 16,
    "device": "cpu",
}
LINEAR = 2 * (4 * 256 * 256 + 3 * 256 * 512)  # weights of two layers' linear modules
OTHERS = (2 * 1000 * 256 + 5 * 256) * 2 + 2 * 2 * 4 * 256 * 4  # embeddings, head, norms; adapters in float32


@pytest.mark.parametrize(("double", "scales"), [
    (False, LINEAR // 64 * 4),
    (True, LINEAR // 64 + 4 * sum(-(-n // 64 // 256) for n in [256 * 256] * 8 + [256 * 512] * 6)),
])  # fmt: skip
def test_packed_weights_take_half_a_byte_and_their_scales(double, scales):
    found = estimate(Run(**LLAMA, load_in_4bit=True, bnb_4bit_use_double_quant=double))
    buffers = 4 * 2 * 32 + 4 * 2  # of rotary positions, with their tensors' attributes
    assert abs(found.parts["weights"] - (LINEAR // 2 + scales + OTHERS)) < buffers + 64
    assert found.trainable_count == 2 * 2 * 4 * 256


@pytest.mark.parametrize("verb", ["train", "ready", "unlearn"])
def test_a_packed_base_takes_less_in_every_verb(verb):
    plain, packed = (estimate(Run(**LLAMA, verb=verb, load_in_4bit=four)) for four in (False, True))
    assert packed.parts["weights"] < plain.parts["weights"] and packed.peak < plain.peak
    assert packed.trainable == plain.trainable


def test_packing_without_an_adapter_or_on_shards_is_refused():
    with pytest.raises(ArgumentError, match="packed weights do not learn. Give `peft`, too"):
        estimate(Run(**{**LLAMA, "peft": None}, load_in_4bit=True))
    with pytest.raises(ArgumentError, match="`engine` single or ddp"):
        estimate(Run(**LLAMA, load_in_4bit=True, engine="fsdp2", processes=2))


def test_the_verb_takes_a_recipe_s_types_and_its_kind_of_adapter():
    flags = ModelArguments(
        "org/m", dtype="bfloat16", lora_r=8, lora_target_modules=r".*\.(q|v)_proj", lora_modules_to_save="lm_head",
        use_dora=True, load_in_4bit=True, bnb_4bit_use_double_quant=True, revision="v1",
    )  # fmt: skip
    found = memory.model_values(DataArguments(), flags)
    assert found["load_in_4bit"] and found["bnb_4bit_use_double_quant"] and found["revision"] == "v1"
    assert memory.dtype_of(flags, bf16=True) == "bfloat16"
    assert memory.dtype_of(ModelArguments("org/m"), bf16=True) == "bf16-mixed"
    assert memory.dtype_of(ModelArguments("org/m"), bf16=False) == "float32"
    assert "revision" not in memory.model_values(DataArguments(), flags, is_typed=True)
    run = Run(**{**LLAMA, "peft": found["peft"]})
    assert estimate(run).trainable_count > 1000 * 256  # the head is trained whole
