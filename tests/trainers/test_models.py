"""Which models and which arguments the trainers take, and what they say of the others before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.ready_runs import config
from helpers.tiny import CLASSES, VOCAB, bert, lm, lm_rows, same_bits, tokenizer, vit, weights
from helpers.unlearning import ROWS, trainer
from peft import (
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import (
    AutoModel,
    BertForPreTraining,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    LlamaForCausalLM,
    PrinterCallback,
    TrainingArguments,
)

from hf_unlearn import ArgumentError, ReadyConfig, ReadyTrainer, UnlearnConfig, UnlearnTrainer
from hf_unlearn.evaluation.forward import signature_of
from hf_unlearn.evaluation.model_checks import model_problems as unmeasurable
from hf_unlearn.trainers.loading import in_bfloat16, load_model
from hf_unlearn.trainers.models import (
    argument_problems,
    chance_loss,
    frozen_problems,
    is_causal_lm,
    model_problems,
)

LORA = LoraConfig(target_modules=["q_proj"], r=2)


def ready(out, model):
    return ReadyTrainer(model, config(out), lm_rows(16), processing_class=tokenizer())


def adapted(**options):
    return get_peft_model(lm(), LoraConfig(target_modules=["q_proj"], r=2, **options))


class Tuples(LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return super().forward(input_ids, attention_mask, labels=labels).to_tuple()


class Flat(LlamaForCausalLM):
    def forward(self, input_ids, attention_mask=None, labels=None):
        found = super().forward(input_ids, attention_mask, labels=labels)
        found.logits = found.logits.flatten()
        return found


class Nameless(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class MyBert(BertForSequenceClassification):
    pass


def told(model) -> str:
    (problem,) = model_problems(model) + frozen_problems(model)
    return problem


def test_a_model_without_a_head_is_refused_and_told_how_to_get_one():
    assert "a LlamaModel, which has no head and returns no logits" in told(AutoModel.from_config(lm().config))
    assert "a BertModel, which has no head" in told(AutoModel.from_config(bert().config))
    assert "a ViTModel, which has no head" in told(vit().vit)
    assert "a LlamaModel" in told(get_peft_model(lm().model, LORA))
    (problem,) = unmeasurable(lm().model)  # `evaluate` asks the same
    assert problem.startswith("is a LlamaModel")


def test_weights_without_values_are_refused():
    empty = lm().to("meta")
    assert "weights without values (meta device): model.embed_tokens.weight, " in told(empty)
    part = lm()
    part.lm_head.weight = torch.nn.Parameter(part.lm_head.weight.to("meta"))
    assert "`model` has 1 weights without values (meta device): lm_head.weight." in told(part)


def test_wrapped_and_compiled_models_are_refused_with_what_to_pass():
    compiled = torch.nn.Module()  # as `torch.compile` makes one, whose import takes seconds
    compiled._orig_mod = lm()
    assert "is compiled by `torch.compile`" in told(compiled)
    assert "is wrapped in DataParallel" in told(torch.nn.DataParallel(lm()))


def test_models_without_a_config_or_names_and_with_tuples_are_refused():
    assert "`model` (Linear) has no `config`" in told(torch.nn.Linear(2, 2))
    tuples = bert()
    tuples.config.return_dict = False
    assert "`model` returns tuples" in told(tuples)
    assert "`model` (Nameless) does not name what its forward takes" in told(Nameless(lm().config))


def test_a_model_that_takes_no_labels_is_refused():
    config = DeiTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16)
    said = "(DeiTForImageClassificationWithTeacher) takes no `labels` and returns no loss"
    assert said in told(DeiTForImageClassificationWithTeacher(config))


def test_a_regression_is_refused():
    from transformers import BertConfig

    one = bert().config.to_dict() | {"num_labels": 1}
    assert "`num_labels` of the model's config is 1" in told(BertForSequenceClassification(BertConfig(**one)))


@pytest.mark.parametrize("model, words", [
    (lambda: lm().requires_grad_(False), "No weight of the model is trainable"),
    (lambda: adapted().merge_and_unload(), "as after `merge_and_unload()`. `model.requires_grad_(True)`"),
    (lambda: adapted(inference_mode=True), "`PeftModel.from_pretrained(base, name, is_trainable=True)`"),
    (lambda: adapted().requires_grad_(False), "`PeftModel.from_pretrained(base, name, is_trainable=True)`"),
], ids=["frozen", "unloaded", "inference", "loaded"])  # fmt: skip
def test_a_model_that_no_step_could_move_is_refused(model, words):
    assert words in told(model())


def test_weights_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = lm()
    assert "made in `torch.inference_mode()`" in told(model)


def test_an_adapter_that_is_merged_or_switched_off_is_refused():
    model = adapted()
    assert not frozen_problems(model)
    model.merge_adapter()
    assert "`model.unmerge_adapter()`" in told(model)
    model.unmerge_adapter()
    assert not frozen_problems(model)
    model.disable_adapter_layers()
    assert "`model.enable_adapter_layers()`" in told(model)


def test_an_adapter_that_was_loaded_for_inference_is_refused_by_both_trainers(tmp_path):
    adapted().save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(lm(), tmp_path / "adapter")
    for start in (lambda: trainer(tmp_path, loaded), lambda: ready(tmp_path, loaded)):
        with pytest.raises(ArgumentError, match="is_trainable=True"):
            start()
    ready(tmp_path, PeftModel.from_pretrained(lm(), tmp_path / "adapter", is_trainable=True))


def test_a_class_of_one_s_own_is_what_it_is_derived_from():
    """By its name it was taken for a classifier: the loss of guessing was log 2."""
    assert is_causal_lm(Tuples(lm().config)) and chance_loss(Tuples(lm().config)) == math.log(VOCAB)
    assert not is_causal_lm(MyBert(bert().config)) and chance_loss(MyBert(bert().config)) == math.log(CLASSES)


def test_outputs_that_are_no_logits_are_told_before_a_step(tmp_path):
    for start in (trainer, ready):
        with pytest.raises(ArgumentError, match=r"`model` \(Tuples\) returns a tuple without `logits`"):
            start(tmp_path, Tuples(lm().config))
    with pytest.raises(ArgumentError, match=r"`model` \(Flat\) returns logits of 1 dimension"):
        ready(tmp_path, Flat(lm().config))


def test_a_head_of_transformers_without_logits_is_told_before_a_step(tmp_path):
    with pytest.raises(ArgumentError, match=r"`model` \(BertForPreTraining\) returns a .* without `logits`"):
        ready(tmp_path, BertForPreTraining(bert().config))


def test_what_is_no_model_is_told_with_all_else(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "saved").mkdir(exist_ok=True)
        (tmp_path / "saved" / name).write_text("{}")
    for model, words in (
        (str(tmp_path / "saved" / "config.json"), f"a file; give its folder: {str(tmp_path / 'saved')!r}."),
        (tmp_path / "saved" / "model.safetensors", f"a file; give its folder: {str(tmp_path / 'saved')!r}."),
        (None, "`model` is None; pass a model, or the name or path of one."),
        (LlamaForCausalLM, "`model` is the class LlamaForCausalLM; it must be a model"),
        ({"a": 1}, "`model` is {'a': 1}; it must be a model"),
        (Path("/no/such/place"), "`model` is '/no/such/place', but there is no such folder"),
        ("./no_such_place", "`model` is './no_such_place', but there is no such folder"),
        (tmp_path, "holds no config.json: expected what `save_pretrained` writes"),
    ):
        with pytest.raises(ArgumentError) as caught:
            UnlearnTrainer(model, config_of(UnlearnConfig), None, ROWS["retain"], ROWS["unseen"])
        assert words in caught.value.problems[0] and "`forget_dataset` is NoneType" in caught.value.problems[1]
        with pytest.raises(ArgumentError) as caught:
            ReadyTrainer(model, config_of(ReadyConfig), None)
        assert words in caught.value.problems[0] and "`train_dataset` is NoneType" in caught.value.problems[1]


def config_of(kind, **options):
    return kind("out", use_cpu=True, report_to=[], **options)


def test_a_model_may_be_a_path(tmp_path):
    lm().save_pretrained(tmp_path / "start")
    assert trainer(tmp_path, tmp_path / "start").model.config._name_or_path == str(tmp_path / "start")


def test_a_folder_that_lacks_weights_of_its_model_is_refused(tmp_path):
    lm().save_pretrained(tmp_path / "start")
    bert().save_pretrained(tmp_path / "other")
    (tmp_path / "start/model.safetensors").write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"lack \d+ weight\(s\) of a \w+, such as .* would be drawn anew"):
        load_model(str(tmp_path / "start"))


def test_a_config_of_another_class_is_refused_with_all_else():
    pairs = ((ReadyTrainer, UnlearnConfig), (UnlearnTrainer, ReadyConfig), (ReadyTrainer, TrainingArguments))
    for kind, wrong in pairs:
        with pytest.raises(ArgumentError) as caught:
            kind(None, config_of(wrong), None)
        needed = "an `UnlearnConfig`" if kind is UnlearnTrainer else "a `ReadyConfig`"
        problems = caught.value.problems
        assert len(problems) >= 3 and f"`args` is of type {wrong.__name__}; this trainer needs {needed}" in problems[1]
    with pytest.raises(ArgumentError, match="`args` is 'out'; this trainer needs a `ReadyConfig`"):
        ReadyTrainer("m", "out", lm_rows(8))


def test_arguments_that_were_assigned_since_are_checked_by_the_trainers():
    for kind, config_class in ((ReadyTrainer, ReadyConfig), (UnlearnTrainer, UnlearnConfig)):
        args = config_of(config_class)
        args.per_device_train_batch_size, args.learning_rate = 0, math.nan
        with pytest.raises(ArgumentError) as caught:
            kind(lm(), args, lm_rows(8), **({} if kind is ReadyTrainer else {"retain_dataset": lm_rows(8, 8)}))
        named = {getattr(problem, "name", None) for problem in caught.value.problems}
        assert {"per_device_train_batch_size", "learning_rate"} <= named


def test_model_init_and_what_is_no_adapter_are_refused():
    with pytest.raises(ArgumentError) as caught:
        ReadyTrainer(None, config_of(ReadyConfig), lm_rows(8), model_init=lm, peft_config={"r": 2})
    assert ["`model_init` makes" in p for p in caught.value.problems] == [True, False, False]
    assert "`peft_config` is {'r': 2}; it must be a config of peft" in caught.value.problems[2]
    with pytest.raises(ArgumentError, match="`peft_config` is <class .*LoraConfig'>; it must be a config of peft"):
        ReadyTrainer(lm(), config_of(ReadyConfig), lm_rows(8), peft_config=LoraConfig)


def test_arguments_of_another_kind_are_told_by_name_and_all_at_once():
    wrong = {"processing_class": "gpt2", "callbacks": object(), "eval_dataset": "rows.json", "optimizers": object()}
    told = argument_problems(lm(), None, {**wrong, "data_collator": DataCollatorWithPadding})
    assert [one.split("`")[1] for one in told] == [
        "processing_class", "data_collator", "eval_dataset", "callbacks", "optimizers"
    ]  # fmt: skip
    assert "`AutoTokenizer.from_pretrained('gpt2')`" in told[0]
    assert "pass one made of it, `DataCollatorWithPadding(…)`" in told[1]
    assert "it must be a function of a list of rows" in argument_problems(lm(), None, {"data_collator": 3})[0]
    good = {"processing_class": tokenizer(), "callbacks": [], "eval_dataset": None, "optimizers": (None, None)}
    assert argument_problems(lm(), None, {**good, "data_collator": DataCollatorWithPadding(tokenizer())}) == []
    with pytest.raises(ArgumentError, match="`callbacks` is ") as caught:
        ReadyTrainer("does/not-exist", None, ROWS["retain"], callbacks=PrinterCallback())
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig, PromptEncoderConfig])
def test_learnt_prompts_of_a_folder_can_be_trained_on(tmp_path, kind):
    base = tmp_path / "base"
    lm().save_pretrained(base)
    own = {"encoder_hidden_size": 8} if kind is PromptEncoderConfig else {}
    prompts = kind(task_type="CAUSAL_LM", num_virtual_tokens=2, **own)
    made = get_peft_model(LlamaForCausalLM.from_pretrained(base), prompts)
    made.save_pretrained(tmp_path / "prompts")
    loaded = load_model(str(tmp_path / "prompts"))
    assert frozen_problems(loaded) == []
    ids = torch.tensor([[3, 4, 5, 6]])
    loss = loaded(input_ids=ids, labels=ids).loss
    assert torch.allclose(loss, made.eval()(input_ids=ids, labels=ids).loss, atol=1e-6)
    loss.backward()
    moved = [name for name, weight in loaded.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert moved and all("prompt_encoder" in name for name in moved)


@pytest.mark.parametrize("active, others", [("b", ["default"]), ("b", []), (["default", "b"], [])])
def test_an_adapter_that_would_be_saved_below_the_folder_is_refused(active, others):
    model = get_peft_model(lm(), LORA, adapter_name=others[0] if others else "b" if active == "b" else "default")
    if active != "b" or others:
        model.add_adapter("b", LORA)
    model.base_model.set_adapter(active)
    (problem,) = model_problems(model)
    assert "adapter 'b'" in problem and "'default'" in problem and "adapter_name" in problem
    model.base_model.set_adapter(others)
    assert not others or not model_problems(model)


@pytest.mark.parametrize("wrapped", [False, True])
def test_in_bfloat16_all_forward_passes_compute_in_it_and_the_weights_stay(wrapped):
    model = lm().eval()
    if wrapped:
        model = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    before, ids = weights(model), torch.tensor([[1, 4, 5, 6]])
    seen = []
    inner = model.get_base_model() if wrapped else model
    inner.model.layers[0].mlp.down_proj.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    exact = model(input_ids=ids).logits
    assert in_bfloat16(model) is model
    found = model(input_ids=ids).logits
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.02
    assert "input_ids" in signature_of(model)[1]
    model.generate(input_ids=ids, max_new_tokens=2, do_sample=False)
    assert seen[0] == torch.float32 and set(seen[1:]) == {torch.bfloat16} and len(seen) > 3
    assert same_bits(weights(model), before)
