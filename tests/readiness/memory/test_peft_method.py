"""The memory as a method of PEFT: it is put on, saved, loaded, switched off, read and emptied."""

from __future__ import annotations

import pytest
import torch
from helpers import memories, tiny

from hf_unlearn import ArgumentError, MemoryConfig
from hf_unlearn.readiness.memory.mlp_modules import chosen_layers, mlps
from hf_unlearn.readiness.memory.model import tuner_of, values_of

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
HEADS = {"num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "llama": {},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": HEADS,
    "gemma3_text": HEADS,
    "mistral": HEADS,
    "gpt_neox": {},
}


def language_model(kind: str):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    if kind == "gpt2":
        return tiny.lm64(layers=2).float()
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZE, **MODELS[kind], **ends))


@pytest.mark.parametrize("kind", [*MODELS, "gpt2"])
def test_each_architecture_gets_a_memory_that_speaks_and_is_taken_away(kind):
    model = memories.with_memory(language_model(kind), layers=[0, 1])
    batch = tiny.batch_of(model, tiny.lm_rows(4))
    with torch.no_grad():
        before = model(**batch).logits
        memories.put(model, "a", batch)
        assert not torch.allclose(model(**batch).logits, before)
        with model.disable_adapter():
            assert torch.equal(model(**batch).logits, before)
        memories.store(model).tables.drop(["a"])
        assert torch.equal(model(**batch).logits, before)


@pytest.mark.parametrize("make, rows", [(tiny.bert, tiny.text_class_rows), (tiny.vit, tiny.image_rows)])
def test_classifiers_get_a_memory(make, rows):
    model = memories.with_memory(make(), layers=[0], gate_floor=0.9)
    batch = tiny.batch_of(model, rows(4))
    with torch.no_grad():
        before = model(**batch).logits
        working = memories.begun(model, batch)
    assert values_of(model)[0].shape == (16, 16)  # (entries of a source, size of the MLP's output)
    memories.store(model).working = working
    torch.nn.init.normal_(values_of(model)[0])
    assert not torch.allclose(model(**batch).logits, before)


def test_only_the_values_of_the_source_at_work_are_trained():
    model = memories.with_memory()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 and all("memory_values" in name for name in trained)


def test_a_saved_memory_comes_back_bit_for_bit(tmp_path):
    from peft import PeftModel

    model = memories.with_memory()
    batch = tiny.batch_of(model, tiny.lm_rows(6))
    memories.store(model).learn_public([[one] for one in memories.inputs_of(model, batch)])
    for seed, source in enumerate(("a", "b")):
        memories.put(model, source, tiny.batch_of(model, tiny.lm_rows(2, start=2 * seed)), seed)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    again = PeftModel.from_pretrained(tiny.lm(layers=3), str(tmp_path))
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**batch).logits)
    before, after = (memories.store(one).tensors() for one in (model, again))
    assert tiny.same_bits(before, after)


def test_a_deleted_source_leaves_the_file_of_a_memory_that_never_had_it(tmp_path):
    """The same outputs and the same bytes of tensors, at once and without a step."""
    models = [memories.with_memory(), memories.with_memory()]
    batches = [tiny.batch_of(models[0], tiny.lm_rows(2, start=start)) for start in (0, 2)]
    for seed, (source, batch) in enumerate(zip("ab", batches, strict=True)):
        memories.put(models[0], source, batch, seed)
    memories.put(models[1], "b", batches[1], 1)
    memories.store(models[0]).tables.drop(["a"])
    assert tiny.same_bits(*(memories.store(model).tensors() for model in models))
    with torch.no_grad():
        assert all(torch.equal(models[0](**batch).logits, models[1](**batch).logits) for batch in batches)


def test_generation_with_a_cache_is_that_of_whole_forwards_also_in_a_batch_of_two_sources():
    model = memories.with_memory().eval()
    rows = tiny.lm_rows(4)
    for seed, source in enumerate(("a", "b")):
        memories.put(model, source, tiny.batch_of(model, rows.select([2 * seed, 2 * seed + 1])), seed)
    prompts = torch.tensor([row["input_ids"][:3] for row in rows])
    greedy = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    out = model.generate(input_ids=prompts, **greedy)
    alone = [model.generate(input_ids=one[None], **greedy) for one in prompts]
    assert torch.equal(out, torch.cat(alone))
    slow = prompts
    for _ in range(5):
        with torch.no_grad():
            slow = torch.cat([slow, model(input_ids=slow, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(out, slow)


def test_a_memory_is_never_merged():
    with pytest.raises(ValueError, match="cannot be merged"):
        memories.with_memory().merge_and_unload()


def test_all_problems_of_a_config_come_in_one_error():
    with pytest.raises(ArgumentError) as error:
        MemoryConfig(entries=0, top_k=0, variant="mine", gate_floor=2.0, layers=[0.5])
    assert len(error.value.problems) == 5
    with pytest.raises(ArgumentError, match="`entries` is 65; it must be a square, such as 64"):
        MemoryConfig(entries=65)
    with pytest.raises(ArgumentError, match="`top_k` is 9; it must be at most 8"):
        MemoryConfig(entries=64, top_k=9)


def test_mlps_that_cannot_be_found_are_told():
    with pytest.raises(ValueError, match="type 'resnet' are is not known.*`mlp_modules`"):
        memories.with_memory(tiny.resnet())
    with pytest.raises(ValueError, match="No module of the model is called"):
        memories.with_memory(tiny.lm(), mlp_modules=r"blocks\.(\d+)")
    with pytest.raises(ValueError, match="one group for the layer's number"):
        mlps(["layers.0.mlp"], "llama", pattern=r"layers\.\d+\.mlp")
    with pytest.raises(ValueError, match=r"`layers` is \[7\]; the model has layers 0 to 2"):
        memories.with_memory(layers=[7])


def test_without_layers_six_are_taken_from_a_sixth_of_the_depth_on():
    assert chosen_layers(None, dict.fromkeys(range(30), "")) == [5, 9, 13, 17, 21, 25]
    assert chosen_layers(None, dict.fromkeys(range(4), "")) == [0, 1, 2, 3]
    assert chosen_layers([-1, 0], dict.fromkeys(range(3), "")) == [0, 2]


def test_the_memory_of_a_wrapped_model_is_found():
    model = memories.with_memory()
    assert tuner_of(torch.nn.DataParallel(model)) is tuner_of(model) is model.base_model
    assert tuner_of(tiny.lm()) is None
    with pytest.raises(ValueError, match="has no memory"):
        memories.store(tiny.lm())


def changed(folder, name: str | None = None, cut: int = 0):
    """The file of a memory with one value of a tensor changed, without it, or cut."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    if name is None:
        path.write_bytes(path.read_bytes()[:-cut])
        return
    found = load_file(path)
    some = next(key for key in found if name in key)
    found[some] = found[some].clone()
    found[some].view(-1)[0] += 1
    save_file(found, path)


@pytest.mark.parametrize("name, said", [("values.0", "1 of 2 tables"), ("view.1.mean", "what all tables share")])
def test_a_changed_file_is_told(tmp_path, name, said):
    from peft import PeftModel

    model = memories.with_memory()
    for seed, source in enumerate("ab"):
        memories.put(model, source, tiny.batch_of(model, tiny.lm_rows(2, start=2 * seed)), seed)
    model.save_pretrained(tmp_path)
    changed(tmp_path, name)
    with pytest.raises(ValueError, match=f"was changed, or is not whole: {said}"):
        PeftModel.from_pretrained(tiny.lm(layers=3), str(tmp_path))


def test_another_model_below_is_told_and_the_same_one_in_half_precision_is_not(tmp_path):
    from peft import PeftModel

    memories.with_memory(tiny.lm(layers=3)).save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        PeftModel.from_pretrained(tiny.lm(layers=3).to(dtype), str(tmp_path))
    other = tiny.lm(layers=3)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="another one than the memory was filled beside"):
        PeftModel.from_pretrained(other, str(tmp_path))
