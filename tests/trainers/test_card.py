"""The card that a trainer writes beside the weights: what it says the model is, its header, and code that loads it."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub.constants
import pytest
import transformers.trainer
from datasets import Dataset
from helpers import tiny
from helpers.cards import GOOD, ORIGINAL, RETRAINED
from helpers.cards import run as measured
from helpers.unlearning import ROWS
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from peft import LoraConfig
from transformers import LlamaForCausalLM, ViTImageProcessor, Wav2Vec2FeatureExtractor

from hf_unlearn import ReadyConfig, ReadyTrainer, Scorecard, UnlearnConfig, UnlearnTrainer
from hf_unlearn.evaluation import ModelScores
from hf_unlearn.trainers import card, unlearn_record
from hf_unlearn.trainers.card import CardFacts
from hf_unlearn.unlearning import schedule, stop_rule

LORA = {"r": 2, "target_modules": "all-linear"}


def wav2vec2():
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"conv_dim": (8, 8), "conv_kernel": (4, 4), "conv_stride": (2, 2), "classifier_proj_size": 8}
    sizes |= {"num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 4}
    return Wav2Vec2ForSequenceClassification(Wav2Vec2Config(num_labels=tiny.CLASSES, **sizes))


def sound_rows(n):
    return Dataset.from_list([{"input_values": [0.1 * i] * 64, "labels": i % 3, "revocable": i == 0} for i in range(n)])


KINDS = {  # name -> (model, rows, what is saved beside it, the hub's name of its task)
    "lm": (tiny.lm, tiny.lm_rows, tiny.tokenizer, "text-generation"),
    "bert": (tiny.bert, tiny.text_class_rows, tiny.tokenizer, "text-classification"),
    "vit": (tiny.vit, tiny.image_rows, ViTImageProcessor, "image-classification"),
    "wav2vec2": (wav2vec2, sound_rows, Wav2Vec2FeatureExtractor, "audio-classification"),
}


def ready(out, model=None, processing_class=None, rows=None, **options):
    peft_config = options.pop("peft_config", None)
    config = ReadyConfig(str(out), **{**tiny.QUIET, "readiness": "meta", **options})
    rows = tiny.lm_rows(8) if rows is None else rows
    model = tiny.lm() if model is None else model
    return ReadyTrainer(model, config, rows, processing_class=processing_class, peft_config=peft_config)


def unlearn(out, reason=None, step=3):
    run = UnlearnTrainer(tiny.lm(), UnlearnConfig(str(out), **{**tiny.QUIET}), *ROWS.values())
    run.request_state = schedule.State(tau=4.0, tau_initial=4.0, retain_initial=0.1, stop_reason=reason)
    run.state.global_step = step
    return run


def text_of(folder) -> str:
    return Path(folder, "README.md").read_text(encoding="utf-8")


def data_of(folder) -> dict:
    return metadata_load(Path(folder, "README.md"))


def loaded_by(folder, monkeypatch) -> dict:
    """What the code of a card makes, run in the folder of the card."""
    monkeypatch.chdir(folder)
    space: dict = {}
    exec(re.search(r"```python\n(.*?)```", text_of(folder), re.S)[1], space)
    return space


# ---- how to load it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_of_the_card_loads_model_and_processing_where_the_card_is_read(tmp_path, kind, monkeypatch):
    model, rows, processing, tag = KINDS[kind]
    run = ready(tmp_path / "out", model(), processing(), rows(8))
    run.save_model()
    space = loaded_by(tmp_path / "out", monkeypatch)
    assert tiny.same_bits(tiny.weights(space["model"]), tiny.weights(run.model))
    assert type(space.get("tokenizer") or space["processor"]).__name__.startswith(type(processing()).__name__[:6])
    assert data_of(".")["pipeline_tag"] == tag and data_of(".")["library_name"] == "transformers"
    assert str(tmp_path) not in text_of(".") and "ore information needed" not in text_of(".").lower()


@pytest.mark.parametrize("kind", ["lm", "bert", "vit"])
def test_the_code_of_an_adapter_s_card_loads_its_base_too(tmp_path, kind, monkeypatch):
    model, rows, processing, tag = KINDS[kind]
    model().save_pretrained(tmp_path / "base")
    base = type(model()).from_pretrained(tmp_path / "base")
    head = {"modules_to_save": ["classifier"]} if kind != "lm" else {}
    task = {"lm": "CAUSAL_LM", "bert": "SEQ_CLS"}.get(kind)
    lora = LoraConfig(task_type=task, **LORA, **head)
    run = ready(tmp_path / "out", base, processing(), rows(8), peft_config=lora)
    run.save_model()
    space = loaded_by(tmp_path / "out", monkeypatch)
    pair = [tiny.weights(one) for one in (space["model"], run.model)]
    assert tiny.same_bits(*({k: v for k, v in one.items() if ".original_module." not in k} for one in pair))
    text, data = text_of("."), data_of(".")
    assert data["library_name"] == "peft" and data["pipeline_tag"] == tag and "lora" in data["tags"]
    assert "base_model" not in data and not [tag for tag in data["tags"] if str(tmp_path) in tag]
    assert "ore information needed" not in text.lower() and text.count("## What this model is") == 1
    assert ("a folder of the machine that trained" in text) == (kind != "lm")  # there PEFT loads the base


def test_a_class_of_the_user_s_own_is_loaded_as_the_one_that_it_comes_from():
    class Mine(LlamaForCausalLM):
        pass

    code = card.loading_code(Mine(tiny.lm().config))
    assert "import LlamaForCausalLM\n" in code and "Mine" not in code and "tokenizer" not in code


def test_a_model_on_the_hub_is_loaded_by_its_name():
    assert 'name = "me/model"\n' in card.loading_code(tiny.lm(), "me/model", tiny.tokenizer())


# ---- what the card says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ("original", "trained as usual, on all rows"),
        ("retrained", "without the rows that were asked to be forgotten"),
        ("retrained_again", "with another seed"),
        (None, "was trained as usual"),
    ],
)
def test_a_plain_training_is_not_called_ready_to_unlearn(tmp_path, role, says):
    run = ready(tmp_path, lambda_efficiency=0.0, lambda_retention=0.0)
    asked = {"dataset": "people", "by": "column", "column": "p<e>rson", "count": 1, "values": ["Ann"], "rows": 3}
    run.card_facts = CardFacts(role, asked)
    run.save_model()
    text = text_of(tmp_path)
    assert says in text and "3 rows of 1 value of p&lt;e&gt;rson." in text and "Ann" not in text
    assert "Ready2Unlearn" not in text and "unlearning-ready" not in text and "Readiness" not in text


@pytest.mark.parametrize(
    ("reason", "of_step", "says"),
    [
        (stop_rule.REACHED, 3, "has unlearned rows of its training data** (6 rows)"),
        (stop_rule.BUDGET, 0, "was asked to unlearn rows of its training data and did not** (6 rows)"),
        (stop_rule.BUDGET, 2, "did not end by meeting its target** (6 rows)"),
        (stop_rule.DONE, 3, "did not end by meeting its target"),
        (None, 3, "part of the way through a request"),
    ],
)
def test_the_card_of_a_request_says_whether_it_was_met(tmp_path, monkeypatch, reason, of_step, says):
    run = unlearn(tmp_path, reason)
    record = {**unlearn_record.record(run), "weights_of_step": of_step}
    monkeypatch.setattr(unlearn_record, "record", lambda trainer: record)
    run.create_model_card()
    text = text_of(tmp_path)
    assert says in text and ("has unlearned" in text) == (reason == stop_rule.REACHED)
    if reason:
        assert stop_rule.STOP_REASONS[reason].replace("`", "\\`") in text


def test_the_card_of_an_evaluation_of_the_trainer_s_model(tmp_path):
    run = unlearn(tmp_path, stop_rule.REACHED)
    run.scorecard = Scorecard([ModelScores(**one) for one in (ORIGINAL, measured("unlearned", **GOOD), RETRAINED)])
    run.card_facts = CardFacts(request={"dataset": "my people"})
    run.save_model()
    text, data = text_of(tmp_path), ModelCard.load(tmp_path / "README.md").data
    assert text.index("- **Forgotten**") < text.index("## What this model is") < text.index("## Scores: people")
    values = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
    assert values["forget", "loss"] == GOOD["forget_loss"] and data.eval_results[0].dataset_name == "my people"
    assert data.eval_results[0].task_type == "text-generation"


def test_scores_stay_as_long_as_the_weights_do(tmp_path):
    run = unlearn(tmp_path, stop_rule.REACHED)
    run.save_model()
    shown = Scorecard([ModelScores(**{**ORIGINAL, "model": "unlearned"})])
    shown.to_model_card(tmp_path)
    run.create_model_card()
    assert "**Forgotten**" in text_of(tmp_path) and "model-index" in data_of(tmp_path)
    run.state.global_step += 1
    run.save_model()
    assert "**Forgotten**" not in text_of(tmp_path) and "model-index" not in data_of(tmp_path)


def test_the_training_and_its_last_evaluations_are_in_the_card(tmp_path):
    run = ready(tmp_path, learning_rate=0.125)
    run.state.log_history = [{"eval_loss": i / 8, "eval_accuracy": 0.5, "step": i, "epoch": i} for i in range(30)]
    run.state.log_history.append({"train_runtime": 1.0})
    run.save_model()
    lines = text_of(tmp_path).splitlines()
    assert "| `learning_rate` | 0.125 |" in lines and any(line.startswith("| `optimizer` | Use") for line in lines)
    rows = lines[lines.index("## Evaluations during training") :]
    assert rows[2] == "| Training Loss | Epoch | Step | Validation Loss | Accuracy |"
    assert len([row for row in rows if row.startswith("| No log")]) == card.EVALUATIONS and "| 3.625 |" in rows[23]


# ---- the header ------------------------------------------------------------------------------------------------------


def on_a_hub(folder, name: str, text: str):
    """A cache that holds the card of a model."""
    root = folder / f"models--{name.replace('/', '--')}"
    for path, content in (("refs/main", "abc"), ("snapshots/abc/README.md", text)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


def test_license_and_name_of_a_base_on_the_hub_are_passed_on(tmp_path, monkeypatch):
    card._said_on_hub.cache_clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    text = "---\nlicense: other\nlicense_name: my\nlicense_link: LICENSE\n---\n# base"
    on_a_hub(tmp_path / "cache", "org/base", text)
    assert card.said_of_base("org/base") == {
        "license": "other", "license_name": "my", "license_link": "LICENSE", "base_model": "org/base"
    }  # fmt: skip
    assert card.said_of_base("org/unknown") == {"base_model": "org/unknown"}  # offline, not in the cache
    assert card.said_of_base(None) == {} == card.said_of_base("/no/such/folder") == card.said_of_base(str(tmp_path))


def test_license_and_base_of_a_base_in_a_folder_are_those_of_its_card(tmp_path):
    (tmp_path / "base").mkdir()
    tiny.lm().save_pretrained(tmp_path / "base")
    (tmp_path / "base/README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/first\n---\n# base")
    run = ready(tmp_path / "out", LlamaForCausalLM.from_pretrained(tmp_path / "base"))
    run.save_model()
    data = data_of(tmp_path / "out")
    assert (data["license"], data["base_model"]) == ("apache-2.0", "org/first")
    assert "Made from `org/first`." in text_of(tmp_path / "out")
    (tmp_path / "base/README.md").write_text("---\na: [\n---\n# base")
    assert card.said_of_base(str(tmp_path / "base")) == {}


def test_what_the_user_gives_wins_and_stays(tmp_path):
    run = ready(tmp_path)
    given = {"license": "mit", "language": "de", "tags": "mine", "finetuned_from": "org/b", "model_name": "Name"}
    run.create_model_card(**given, tasks="text-generation", dataset_tags=["org/rows"], dataset="Rows")
    run.save_model()
    data = data_of(tmp_path)
    assert (data["license"], data["language"], data["base_model"]) == ("mit", "de", "org/b")
    assert {"mine", "hf_unlearn", "generated_from_trainer"} <= set(data["tags"])
    assert data["datasets"] == ["org/rows"] and "# Name\n" in text_of(tmp_path)


def test_the_data_set_of_rows_from_the_hub_is_named(tmp_path):
    rows = tiny.lm_rows(8)
    rows.info.download_checksums = {"hf://datasets/org/rows@abc/train.parquet": {}}
    run = ready(tmp_path, rows=rows.select(range(6)))
    run.save_model()
    assert data_of(tmp_path)["datasets"] == ["org/rows"]
    ready(tmp_path / "other").save_model()
    assert "datasets" not in data_of(tmp_path / "other")


# ---- where it is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [False, True])
def test_the_pushed_card_is_the_saved_one(tmp_path, monkeypatch, adapter):
    pushed = []

    class Hub:
        def upload_folder(self, folder_path, **kwargs):
            pushed.append(text_of(folder_path))

    monkeypatch.setattr(transformers.trainer, "hf_api", Hub)
    run = ready(tmp_path / "out", peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA) if adapter else None)
    run.hub_model_id = "me/my-model"
    run.model.model_tags = ["of-the-model"]
    run.save_model()
    saved = text_of(tmp_path / "out")
    run.push_to_hub()
    assert pushed == [saved] and 'name = "me/my-model"' in saved and "# my-model\n" in saved
    assert "of-the-model" in data_of(tmp_path / "out")["tags"]


@pytest.mark.parametrize("adapter", [False, True])
def test_a_user_s_words_outlive_a_save(tmp_path, adapter):
    run = ready(tmp_path, peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA) if adapter else None)
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags: [mine]\n---\n# Mine\n\nMy words.\n")
    for _ in range(2):
        run.save_model()
        assert text_of(tmp_path).count("My words.") == 1 and "# Mine\n" in text_of(tmp_path)
        assert "mine" in data_of(tmp_path)["tags"] and data_of(tmp_path)["license"] == "mit"
        assert text_of(tmp_path).count("Framework versions") == 0


def test_a_card_that_cannot_be_read_does_not_keep_the_weights_from_being_saved(tmp_path, caplog):
    run = ready(tmp_path)
    (tmp_path / "README.md").write_bytes(b"\xff\xfe broken")
    run.save_model()
    assert (tmp_path / "model.safetensors").exists() and (tmp_path / "README.md").read_bytes() == b"\xff\xfe broken"
    assert "was left as it is" in caplog.text


@pytest.mark.parametrize("adapter", [False, True])
def test_a_card_that_cannot_be_made_does_not_keep_the_weights_from_being_saved(tmp_path, adapter, caplog, monkeypatch):
    run = ready(tmp_path, peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA) if adapter else None)
    (tmp_path / "README.md").write_text("# Mine\n")
    run.state.log_history = [{"eval_loss": 1.0, "step": None}, 3]  # no log, as a callback of the user's may leave it
    run.save_model()
    assert (tmp_path / ("adapter_model.safetensors" if adapter else "model.safetensors")).exists()
    assert text_of(tmp_path) == "# Mine\n"  # also where PEFT has written over it
    assert f"README.md in {tmp_path} was left as it is: " in caplog.text
    run.state.log_history = []
    run.save_model()
    assert "## What this model is" in text_of(tmp_path)


def test_a_checkpoint_of_an_adapter_holds_no_card_of_nobody_s(tmp_path):
    run = ready(tmp_path, peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA))
    run._postponed = {"push_to_hub": False, "save_total_limit": None}  # as while a checkpoint is being written
    run.save_model(str(tmp_path / "checkpoint-1"), _internal_call=True)
    assert (tmp_path / "checkpoint-1/adapter_model.safetensors").exists()
    assert not (tmp_path / "checkpoint-1/README.md").exists() and not (tmp_path / "README.md").exists()
    run._postponed = {"push_to_hub": True, "save_total_limit": None}
    run.save_model(str(tmp_path / "checkpoint-1"), _internal_call=True)
    assert "## What this model is" in text_of(tmp_path)
