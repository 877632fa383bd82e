"""A memory as it is served: batches, caches, precisions, devices, and what is left when it is taken off."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import memories, tiny

from hf_unlearn import MemoryConfig
from hf_unlearn.readiness.memory.gate import Speaking
from hf_unlearn.readiness.memory.mlp_modules import mlps
from hf_unlearn.readiness.memory.model import store_of

GREEDY = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
PROMPTS = torch.tensor([row["input_ids"][:3] for row in tiny.lm_rows(4)])


@pytest.fixture
def model():
    found = memories.with_memory().eval()
    for number in range(2):
        memories.put(found, f"{number:03d}", tiny.batch_of(found, tiny.lm_rows(2, start=2 * number)), number)
    return found


def logits(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("options", [{"num_beams": 3, "num_return_sequences": 2}, {"cache_implementation": "static"}])
def test_answers_with_a_cache_are_those_without_one(model, options):
    with_cache = model.generate(input_ids=PROMPTS, **GREEDY, **options)
    options.pop("cache_implementation", None)
    assert torch.equal(with_cache, model.generate(input_ids=PROMPTS, use_cache=False, **GREEDY, **options))


def test_prompts_of_unlike_length_are_answered_as_alone(model):
    prompts = [torch.tensor(row["input_ids"][:n]) for row, n in zip(tiny.lm_rows(4), (2, 4, 1, 3), strict=True)]
    alone = [model.generate(input_ids=one[None], **GREEDY)[0, -5:] for one in prompts]
    ids = torch.stack([torch.nn.functional.pad(one, (4 - len(one), 0)) for one in prompts])
    mask = torch.stack([torch.arange(4) >= 4 - len(one) for one in prompts]).long()
    assert torch.equal(model.generate(input_ids=ids, attention_mask=mask, **GREEDY)[:, -5:], torch.stack(alone))


def test_a_mask_counts_by_place_too_and_for_its_own_forward_alone(model):
    core, batch = model.base_model.model, tiny.batch_of(model, tiny.lm_rows(4))
    ids, mask = batch["input_ids"].flip(1), batch["attention_mask"].flip(1)
    places = (mask.cumsum(-1) - 1).clamp_min(0)
    named = logits(core, input_ids=ids, attention_mask=mask, position_ids=places)
    with torch.no_grad():
        assert torch.equal(core(ids, mask, places).logits, named)
        whole = core(input_ids=ids, attention_mask=torch.ones_like(mask)).logits
        core(ids, mask, places)
        alone = core.lm_head(core.model(input_ids=ids, attention_mask=torch.ones_like(mask)).last_hidden_state)
    assert torch.equal(alone, whole)


def test_under_autocast_the_right_one_of_many_sources_speaks(model):
    tables = store_of(model).tables
    table = tables.by_source["001"]
    silent = copy.deepcopy(table)
    silent.floors += 2
    tables.by_source = {**{f"{k:03d}": silent for k in range(300)}, "300": table}  # bfloat16 has no 257
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with_cache = model.generate(input_ids=PROMPTS, **GREEDY)
        assert torch.equal(with_cache, model.generate(input_ids=PROMPTS, use_cache=False, **GREEDY))
        with model.disable_adapter():
            assert not torch.equal(with_cache, model.generate(input_ids=PROMPTS, **GREEDY))


def test_what_was_served_in_inference_mode_is_deleted_and_trained_through(model):
    batch = tiny.batch_of(model, tiny.lm_rows(4))
    with torch.inference_mode():
        model(**batch)
    store_of(model).tables.drop(["000"])
    for name, p in model.named_parameters():
        p.requires_grad_("memory" not in name)
    model(**batch).loss.backward()


def test_two_memories_on_one_model_keep_what_they_recognise_apart_in_a_cache(model):
    model.add_adapter("b", MemoryConfig(**{"layers": [0, 1], **memories.SIZES, "window": 2}))
    table = copy.deepcopy(store_of(model).tables.by_source["001"])
    table.inputs = table.inputs[:, : 2 * 8] * 3
    store_of(model, "b").tables.put("b", table)  # its first source, as "000" is the other one's
    model.base_model.set_adapter(["default", "b"])
    with_cache = model.generate(input_ids=PROMPTS, **GREEDY)
    assert torch.equal(with_cache, model.generate(input_ids=PROMPTS, use_cache=False, **GREEDY))


def test_a_memory_loaded_by_way_of_the_meta_device_is_whole(model, tmp_path):
    from peft import PeftModel

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny.lm(layers=3), str(tmp_path), low_cpu_mem_usage=True).eval()
    again.to("cpu", torch.float32)
    assert torch.equal(logits(again, input_ids=PROMPTS), logits(model, input_ids=PROMPTS))
    assert not any(p.is_meta for p in again.parameters())


def test_a_model_without_its_memory_is_as_it_was_before(model):
    below = model.unload()
    assert not below._forward_pre_hooks and not below._forward_hooks
    assert torch.equal(logits(below, input_ids=PROMPTS), logits(tiny.lm(layers=3).eval(), input_ids=PROMPTS))


def test_a_pattern_that_two_modules_of_a_layer_fit_is_told():
    names = [f"model.{part}.layers.0.mlp" for part in ("vision_tower.encoder", "language_model")]
    with pytest.raises(ValueError, match="of two modules of one layer.*Say which by `mlp_modules`"):
        mlps(names, "gemma3_text")


def test_who_speaks_goes_to_the_device_of_the_layer():
    here = Speaking(torch.zeros(1, dtype=torch.long), torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.long))
    assert here.to(torch.device("cpu")) is here
    there = here.to(torch.device("meta"))
    assert there.at.is_meta and there.g.is_meta and there.slots.is_meta


def test_tables_on_two_devices_are_joined_once_for_each(model):
    tables = store_of(model).tables
    cpu, meta = (tables.joined(torch.device(kind)) for kind in ("cpu", "meta"))
    assert tables.joined(torch.device("cpu")) is cpu and tables.joined(torch.device("meta")) is meta
