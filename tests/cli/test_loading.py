"""Flags that say how a model is loaded, and which adapter is trained on it; what is wrong is told before it is."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from helpers import tiny
from peft import LoraConfig, get_peft_model

from hf_unlearn import ArgumentError
from hf_unlearn.cli import adapters, checkpoints, loading, model, named
from hf_unlearn.cli.arguments import DataArguments, ModelArguments
from hf_unlearn.cli.prepare import Prepared
from hf_unlearn.trainers.loading import code_of, load_model

LM = DataArguments()
CLASSES = DataArguments(task="sequence_classification")


def said(problems) -> str:
    return "\n".join(problems)


def prepared(labels, processing_class) -> Prepared:
    """What a model is made for: rows of these classes, one each; None: of a language model."""
    own = {"labels": ClassLabel(names=labels)} if labels else {"input_ids": Value("int64")}
    rows = Dataset.from_dict({next(iter(own)): range(len(labels or "a"))}, features=Features(own))
    return Prepared({"retain": rows}, processing_class, labels)


def folder_of(path, made):
    made.save_pretrained(path)
    return str(path)


# ---- flags -----------------------------------------------------------------------------------------------------------


def test_flags_become_arguments_of_from_pretrained():
    flags = ModelArguments(
        "org/m", revision="v1", dtype="bfloat16", attn_implementation="eager", trust_remote_code=True, load_in_4bit=True
    )
    found = loading.init_of(flags)
    packed = found.pop("quantization_config")
    assert found == {
        "revision": "v1", "dtype": "bfloat16", "attn_implementation": "eager", "trust_remote_code": True
    }  # fmt: skip
    assert packed["load_in_4bit"] and packed["bnb_4bit_compute_dtype"] == "bfloat16"
    assert "revision" not in loading.init_of(flags, of_flag=False)
    assert loading.init_of(ModelArguments("org/m")) == {}
    json.dumps(packed)  # it stands in the arguments that are saved


def test_a_tokenizer_comes_by_the_revision_of_its_model_alone():
    flags = ModelArguments("org/m", revision="v1")
    assert loading.files_of(flags, "org/m") == {"trust_remote_code": False, "revision": "v1"}
    assert loading.files_of(flags, "out/ready") == {"trust_remote_code": False}


@pytest.mark.parametrize(("flags", "words"), [
    ({"dtype": "fp16"}, "`dtype` is 'fp16'; it must be one of 'auto', 'float32'"),
    ({"bnb_4bit_quant_type": "nf8"}, "`bnb_4bit_quant_type` is 'nf8'; it must be one of 'nf4', 'fp4'"),
    ({"bnb_4bit_quant_type": "fp4"}, "`bnb_4bit_quant_type` is set but `load_in_4bit` is not"),
    ({"bnb_4bit_compute_dtype": "auto"}, "`bnb_4bit_compute_dtype` is 'auto'"),
    ({"attn_implementation": "spda"}, "`attn_implementation` is 'spda', which is no attention kernel of transformers. Did you mean sdpa?"),  # noqa: E501
    ({"attn_implementation": "flash_attention_2"}, "whose package is not installed, or finds no GPU"),
    ({"lora_alpha": 3}, "`lora_alpha` is set but `lora_r` is 0"),
    ({"use_dora": True, "lora_modules_to_save": "lm_head"}, "`use_dora` is set but `lora_r` is 0"),
    ({"lora_r": 2, "lora_target_modules": "(q"}, "`lora_target_modules` is '(q', which is no pattern"),
    ({"lora_r": 2, "lora_target_modules": ","}, "`lora_target_modules` is empty"),
    ({"load_in_4bit": True}, "`load_in_4bit` is true, but `lora_r` is 0: packed weights do not learn"),
    ({"lora_r": -1}, "`lora_r` is -1"),
])  # fmt: skip
def test_wrong_flags_are_told_without_a_model(flags, words):
    assert words in said(model.model_problems(LM, ModelArguments("org/m", **flags)))


def test_all_is_told_at_once_and_what_is_right_is_not():
    wrong = ModelArguments("org/m", dtype="x", attn_implementation="y", lora_r=2, lora_target_modules="(")
    named_flags = {getattr(one, "name", None) for one in model.model_problems(LM, wrong)}
    assert named_flags == {"dtype", "attn_implementation", "lora_target_modules"}
    right = {"dtype": "bfloat16", "attn_implementation": "eager", "lora_r": 4, "use_rslora": True, "use_dora": True}
    right |= {"lora_target_modules": r".*\.(q|v)_proj", "lora_modules_to_save": "lm_head", "lora_dropout": 0.1}
    assert model.model_problems(LM, ModelArguments("org/m", revision="main", **right)) == []


def test_a_new_model_has_no_revision_and_no_code_and_none_is_of_a_folder(tmp_path):
    flags = {"revision": "v1", "trust_remote_code": True}
    told = {one.name for one in model.model_problems(LM, ModelArguments(model_type="llama", **flags))}
    assert told == set(flags)
    there = folder_of(tmp_path / "m", tiny.lm())
    assert "is a folder here" in said(model.model_problems(LM, ModelArguments(there, revision="v1")))


def test_a_flag_and_model_init_kwargs_are_not_both_taken():
    flags, given = ModelArguments("org/m", dtype="bfloat16"), {"dtype": "float32", "low_cpu_mem_usage": True}
    (problem,) = model.model_problems(LM, flags, given=given)
    assert problem.startswith("`model_init_kwargs` holds 'dtype', and a flag says it, too")


def test_packing_without_its_package_is_refused_with_the_extra_to_install(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda: False)
    told = said(model.model_problems(LM, ModelArguments("org/m", lora_r=4, load_in_4bit=True)))
    assert 'the package bitsandbytes is not installed: pip install "hf_unlearn[4bit]"' in told


def test_packing_on_a_machine_that_cannot_is_refused_in_words(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_bitsandbytes_available", lambda: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(supported_torch_devices={"npu"}))
    flags = ModelArguments("org/m", lora_r=4, load_in_4bit=True)
    told = said(model.model_problems(LM, flags))
    assert "`load_in_4bit` is true, but bitsandbytes finds no GPU that it can use: here is " in told
    assert "this version of it is for npu" in told
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(supported_torch_devices={"cpu", "cuda"}))
    assert model.model_problems(LM, flags) == []


# ---- adapters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "taken"), [
    ("all-linear", "all-linear"),
    ("q_proj, v_proj", ["q_proj", "v_proj"]),
    ("self_attn.q_proj", ["self_attn.q_proj"]),
    (r".*\.(q|v)_proj", r".*\.(q|v)_proj"),
])  # fmt: skip
def test_target_modules_are_names_all_linear_or_a_pattern(words, taken):
    flags = ModelArguments("m", lora_r=2, lora_target_modules=words, lora_dropout=0.5, use_rslora=True)
    config = adapters.adapter(LM, flags, revision="abc")
    assert (set(config.target_modules) if isinstance(taken, list) else config.target_modules) == (
        set(taken) if isinstance(taken, list) else taken
    )
    assert config.lora_dropout == 0.5 and config.use_rslora and config.revision == "abc"
    assert get_peft_model(tiny.lm(), config).peft_config["default"].use_rslora


def test_modules_that_the_model_does_not_have_are_told_with_those_that_it_has():
    flags = ModelArguments("m", lora_r=2, lora_target_modules="q_proj,query", lora_modules_to_save="head")
    targets, whole_ones = adapters.module_problems(flags, tiny.lm())
    assert "no module of the model is query; LlamaForCausalLM has" in targets and "q_proj" in targets
    assert whole_ones.startswith("`lora_modules_to_save` is 'head', and no module of the model is head")
    flags = ModelArguments("m", lora_r=2, lora_target_modules=r".*\.query", lora_modules_to_save="lm_head")
    (problem,) = adapters.module_problems(flags, tiny.lm())
    assert "no module of the model is .*\\.query" in problem
    assert adapters.module_problems(ModelArguments("m", lora_r=2, lora_target_modules="(q"), tiny.lm()) == []


# ---- a model by name -------------------------------------------------------------------------------------------------


def test_what_a_folder_s_config_has_against_the_flags_is_told_without_its_weights(tmp_path):
    lm, vit = (folder_of(tmp_path / name, made) for name, made in (("lm", tiny.lm()), ("vit", tiny.vit())))
    for path in (lm, vit):
        (tmp_path / path / "model.safetensors").unlink()
    assert named.named_problems(LM, ModelArguments(lm)) == []
    assert named.named_problems(CLASSES, ModelArguments(lm)) == []  # a decoder may classify
    assert "a vit model, which has no form for task causal_lm" in said(named.named_problems(LM, ModelArguments(vit)))
    flags = ModelArguments(lm, lora_r=2, lora_target_modules="query")
    assert "no module of the model is query" in said(named.named_problems(LM, flags))
    assert "its config cannot be had" in said(named.named_problems(LM, ModelArguments(str(tmp_path / "none"))))


def own_code(path):
    """A folder whose model needs code that lies there."""
    tiny.lm().save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "mine", "architectures": ["MineForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "mine.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n\n\n"
        "class MineConfig(LlamaConfig):\n    model_type = 'mine'\n\n\n"
        "class MineForCausalLM(LlamaForCausalLM):\n    config_class = MineConfig\n"
    )
    return str(path)


def test_code_that_comes_with_a_model_runs_only_where_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked"))
    where = own_code(tmp_path / "mine")
    (problem,) = loading.code_problems("model_name_or_path", where, trusted=False)
    assert "needs code that comes with it" in problem and "--trust_remote_code true" in problem
    assert "give --trust_remote_code true" in said(named.named_problems(LM, ModelArguments(where)))
    flags = ModelArguments(where, trust_remote_code=True)
    assert named.named_problems(LM, flags) == [] == loading.code_problems("models", where, trusted=True)
    found, _ = model.beginning(LM, flags, prepared(None, None), 0)
    assert type(found).__name__ == "MineForCausalLM"
    found.save_pretrained(tmp_path / "saved")
    back = load_model(str(tmp_path / "saved"), trust_remote_code=True)
    assert type(back).__name__ == "MineForCausalLM" and len(code_of(back)["code"]) == 64
    assert code_of(tiny.lm()) == {}
    checkpoints.check_checkpoint(LM, None, "ready", str(tmp_path / "saved"), flags)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match="trust_remote_code"):
        checkpoints.check_checkpoint(LM, None, "ready", where)
    with pytest.raises(ValueError, match="trust_remote_code"):
        model.beginning(LM, ModelArguments(where), prepared(None, None), 0)


def test_a_new_head_is_told_drawn_by_the_seed_and_saved_with_an_adapter(tmp_path, caplog):
    where = folder_of(tmp_path / "bert", tiny.bert())
    rows = prepared(list("abcde"), tiny.tokenizer())
    flags = ModelArguments(where, lora_r=2)
    (first, config), (again, _), (other, _) = (model.beginning(CLASSES, flags, rows, seed) for seed in (3, 3, 4))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert "classifier of " in caplog.text and "is new" in caplog.text and "by the seed, 3" in caplog.text
    get_peft_model(first, config).save_pretrained(tmp_path / "adapter")
    back = load_model(str(tmp_path / "adapter"))
    kept = back.get_base_model().classifier.modules_to_save["default"].weight
    assert torch.equal(kept, again.classifier.weight)


def test_the_head_of_an_image_model_is_trained_and_saved_with_an_adapter(tmp_path):
    where = folder_of(tmp_path / "vit", tiny.vit())
    rows = prepared(list("abcde"), None)
    data = DataArguments(task="image_classification")
    found, config = model.beginning(data, ModelArguments(where, lora_r=2), rows, 0)
    assert config.modules_to_save == ["classifier"]
    adapted = get_peft_model(found, config)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad and "classifier" in name]
    assert trained and all("modules_to_save" in name for name in trained)


def test_a_decoder_classifies_rows_of_several_lengths(tmp_path):
    decoder = tiny.lm()
    decoder.config.pad_token_id = None
    where = folder_of(tmp_path / "lm", decoder)
    rows = prepared(["no", "yes"], tiny.tokenizer())
    found, _ = model.beginning(CLASSES, ModelArguments(where), rows, 0)
    ids = torch.tensor([[3, 4, 5], [6, 7, 0]])
    assert found(input_ids=ids, attention_mask=(ids > 0).long()).logits.shape == (2, 2)
    with pytest.raises(ValueError, match="has a pad token"):
        bare = SimpleNamespace(pad_token_id=None)
        model.beginning(CLASSES, ModelArguments(where), prepared(["no", "yes"], bare), 0)


def test_an_adapter_is_gone_on_with_and_a_second_one_is_refused(tmp_path):
    where = folder_of(tmp_path / "base", tiny.lm())
    from transformers import LlamaForCausalLM

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    made = get_peft_model(LlamaForCausalLM.from_pretrained(where, dtype=torch.bfloat16), config)
    adapter = folder_of(tmp_path / "adapter", made)
    rows = prepared(None, None)
    found, new = model.beginning(LM, ModelArguments(adapter), rows, 0)
    trained = {name for name, p in found.named_parameters() if p.requires_grad}
    assert new is None and trained and all("lora_" in name for name in trained)
    assert found.get_base_model().dtype == torch.float32  # whoever made it has not said of which type its base was
    told = said(model.model_problems(LM, ModelArguments(adapter, lora_r=4)))
    assert "is an adapter already, and one on top of another is not trained here" in told
    with pytest.raises(ArgumentError, match="is an adapter already"):
        model.beginning(LM, ModelArguments(adapter, lora_r=4), rows, 0)


def test_an_adapter_of_another_task_or_of_other_classes_is_refused(tmp_path):
    where = folder_of(tmp_path / "base", tiny.bert())
    rows = prepared(["a", "b", "c"], tiny.tokenizer())
    found, config = model.beginning(CLASSES, ModelArguments(where, lora_r=2), rows, 0)
    adapter = folder_of(tmp_path / "adapter", get_peft_model(found, config))
    again, _ = model.beginning(CLASSES, ModelArguments(adapter), rows, 0)
    assert again.get_base_model().config.id2label == {0: "a", 1: "b", 2: "c"}
    with pytest.raises(ValueError, match="head of 3 classes, and the rows have 2"):
        model.beginning(
            CLASSES, ModelArguments(adapter), prepared(["a", "b"], tiny.tokenizer()), 0
        )
    with pytest.raises(ValueError, match="is an adapter of a BertForSequenceClassification, which is none for this"):
        model.beginning(LM, ModelArguments(adapter), prepared(None, None), 0)
