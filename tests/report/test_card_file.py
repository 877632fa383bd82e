"""README.md of a model folder: a header that the hub reads, our sections in their places, a user's own words kept."""

from __future__ import annotations

import pytest
import yaml
from helpers.cards import GOOD, ORIGINAL, RETRAINED, card, m, run
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from hf_unlearn import Scorecard
from hf_unlearn.evaluation import ModelScores
from hf_unlearn.evaluation.model_folder import task_of
from hf_unlearn.report import card_file
from hf_unlearn.report.model_index import results_of

IMAGES = "image-classification"
HAND = """---
license: mit
language: [de]
tags: [mine]
my_own_key: 7
---

# My model

What I say of it.

```python
# a comment
x = 1
```


And more, after two blank lines.
"""


def readme(folder) -> str:
    return (folder / "README.md").read_bytes().decode()


def test_a_section_is_replaced_in_its_place_and_what_a_user_wrote_stays(tmp_path):
    (tmp_path / "README.md").write_text(HAND)
    sections = {"verdict": "- **Forgotten**: no", "model": "## What\n", "scores": "## Scores"}
    card_file.write(tmp_path, sections, {"tags": ["unlearned"]}, title="t")
    first = readme(tmp_path)
    assert first.index("# My model") < first.index("- **Forgotten**: no") < first.index("What I say of it.")
    assert first.index("two blank lines") < first.index("## What") < first.index("## Scores")
    end = "<!-- /hf_unlearn model -->"
    by_hand = first.replace("# My model", "# Named anew").replace(end, f"{end}\n\nOwn.")
    (tmp_path / "README.md").write_text(by_hand)
    card_file.write(tmp_path, {**sections, "verdict": "- **Forgotten**: yes"}, {}, title="t")
    assert readme(tmp_path) == by_hand.replace("**: no", "**: yes")
    card_file.write(tmp_path, {**sections, "verdict": "", "scores": ""}, {}, title="t")
    assert "Forgotten" not in readme(tmp_path) and "## Scores" not in readme(tmp_path)
    body = "What I say of it.\n\n```python\n# a comment\nx = 1\n```\n\n\nAnd more, after two blank lines.\n"
    assert body in readme(tmp_path) and "Own." in readme(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_card_is_written_twice_as_once(tmp_path):
    texts = []
    for _ in range(2):
        sections = {"verdict": "- a", "model": "b", "scores": "c"}
        card_file.write(tmp_path, sections, {"tags": ["x"], "license": "mit"}, title="a_b <x>")
        texts.append(readme(tmp_path))
    assert texts[0] == texts[1] and "# a_b &lt;x&gt;\n\n<!-- hf_unlearn verdict" in texts[0]


def test_metadata_of_a_user_stay_and_old_states_go(tmp_path):
    (tmp_path / "README.md").write_text(HAND.replace("[mine]", "[mine, unlearning-ready]"))
    found = {"license": "apache-2.0", "tags": ["unlearned", "hf_unlearn"], "pipeline_tag": "text-generation"}
    card_file.write(tmp_path, {}, found, title="t")
    data = metadata_load(tmp_path / "README.md")
    assert data["license"] == "mit" and data["language"] == ["de"] and data["my_own_key"] == 7
    assert data["tags"] == ["unlearned", "hf_unlearn", "mine"] and data["pipeline_tag"] == "text-generation"
    card_file.write(tmp_path, {}, found, chosen={"license": "cc0-1.0"}, title="t")
    assert metadata_load(tmp_path / "README.md")["license"] == "cc0-1.0"


def test_the_license_of_another_base_does_not_stay(tmp_path):
    for base, license in (("a/b", "mit"), ("c/d", "apache-2.0")):
        card_file.write(tmp_path, {}, {"base_model": base, "license": license}, title="t")
        assert metadata_load(tmp_path / "README.md")["license"] == license


def test_no_path_of_this_machine_is_published(tmp_path):
    tags = ["base_model:adapter:/home/me/base", "base_model:adapter:org/base", "lora"]
    card_file.write(tmp_path, {}, {"base_model": "/home/me/base", "tags": tags}, title="t")
    assert "/home/me" not in readme(tmp_path) and "base_model" not in metadata_load(tmp_path / "README.md")
    assert metadata_load(tmp_path / "README.md")["tags"] == tags[1:]
    assert card_file.is_hub_id("gpt2") and card_file.is_hub_id("org/my.model-1")
    assert not any(map(card_file.is_hub_id, ("./a", "../a", "a/b/c", "C:\\a", "a b", "", None, "/a", "~/a", "a/..")))


def test_line_ends_and_text_without_a_header_are_kept(tmp_path):
    (tmp_path / "README.md").write_bytes(b"My words.\r\n\r\n---\r\nMore.\r\n")
    card_file.write(tmp_path, {"model": "## What"}, {"license": "mit"}, title="t")
    text = readme(tmp_path)
    assert "My words.\r\n\r\n---\r\nMore.\r\n" in text and "\n" not in text.replace("\r\n", "")
    assert metadata_load(tmp_path / "README.md")["license"] == "mit"


@pytest.mark.parametrize("text", ["---\na: [\n---\nmine", "---\nmodel-index: 3\n---\nmine", "---\n- a\n---\nmine"])
def test_a_header_that_cannot_be_read_is_an_error_and_the_file_stays(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError):
        card_file.write(tmp_path, {"model": "## What"}, {}, title="t")
    assert readme(tmp_path) == text


@pytest.mark.parametrize("text", card_file.GENERATED)
def test_a_card_that_nobody_wrote_is_begun_anew_where_that_is_asked_for(tmp_path, text):
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n---\n# x\n\n{text}\n")
    card_file.write(tmp_path, {"scores": "## S"}, {}, title="t")
    assert text in readme(tmp_path)
    card_file.write(tmp_path, {"model": "## What"}, {}, title="t", afresh=True)
    assert text not in readme(tmp_path) and "license: mit" in readme(tmp_path) and "# t\n" in readme(tmp_path)


def results(**measures):
    shown = run("unlearned", **{**GOOD, "retain_loss": m(0.1, 0.05, 0.2, n=200), **measures})
    return results_of(shown, "text-generation", {"name": "people", "id": None})


def test_results_are_the_measured_values_with_the_names_of_their_rows():
    found = {(one.dataset_split, one.metric_type): one for one in results()}
    loss = found["retain", "loss"]
    assert (loss.metric_value, loss.metric_args) == (0.1, {"low": 0.05, "high": 0.2, "n": 200})
    assert (loss.dataset_name, loss.dataset_type) == ("people", "people")
    assert loss.metric_name == "Retain rows: loss (nats per label)"
    assert found["forget", "loss"].metric_value == GOOD["forget_loss"]
    assert found["forget", "forget_mia_loss_auc"].metric_value == 0.5
    odd = results(forget_loss=m(None), retain_odd=3.0, forget_mia_entropy_auc=m(0.6), weights_to_original=m(0.3))
    assert {(one.dataset_split, one.metric_type) for one in odd} == found.keys() - {("forget", "loss")}
    by_heart = results(forget_rougeL_recall=m(0.25))
    names = {one.metric_type: one.metric_name for one in by_heart if one.dataset_split == "forget"}
    assert names["rouge"] == "Forget rows: ROUGE-L recall of its own answer"
    assert names["forget_mia_loss_auc"] == "Membership, by loss: AUC"
    named = results_of(run("original", test_loss=1.0), "t", {"name": "x", "id": "org/rows"})[0]
    assert (named.dataset_type, named.dataset_name) == ("org/rows", "org/rows")
    unnamed = results_of(run("original", test_loss=1.0), "t", None)[0]
    assert (unnamed.dataset_name, unnamed.dataset_type) == ("not named", "not-named")


def test_the_header_passes_the_hub_client_s_own_checks(tmp_path):
    """`ModelCard.validate` asks the hub; what the client checks itself: header, results, round trip."""
    card_file.write(tmp_path, {"model": "x"}, {"tags": ["a"], "eval_results": results()}, title="my-model")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.model_name == "my-model" and loaded.data.eval_results == results()
    index = metadata_load(tmp_path / "README.md")["model-index"]
    assert model_index_to_eval_results(index) == ("my-model", results())
    assert ModelCardData(**loaded.data.to_dict()).to_dict() == loaded.data.to_dict()
    assert yaml.safe_load(loaded.data.to_yaml()) == loaded.data.to_dict()
    assert str(loaded) == readme(tmp_path)


def test_no_name_in_the_header_is_a_tag_where_it_is_shown_as_it_stands(tmp_path):
    odd = '<script>alert(1)</script> \\ "a" ü\n---\n'
    rows = {"name": odd, "id": None}
    found = {"tags": [odd], "eval_results": results_of(run("original", test_loss=1.0), "t", rows)}
    card_file.write(tmp_path, {}, found, title=odd)
    data = ModelCard.load(tmp_path / "README.md").data
    assert "<script" not in readme(tmp_path)
    assert data.tags == [odd] and data.eval_results[0].dataset_name == " ".join(odd.split())


def test_results_of_others_stay_and_ours_are_replaced(tmp_path):
    theirs = EvalResult("text-generation", "glue", "GLUE", "accuracy", 0.5)
    card_file.write(tmp_path, {}, {"eval_results": [theirs]}, title="name-of-theirs")
    card_file.write(tmp_path, {}, {"eval_results": results(test_loss=1.0)}, title="t")
    card_file.write(tmp_path, {}, {"eval_results": results(forget_loss=1.5)}, title="t")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.eval_results == [theirs, *results(forget_loss=1.5)] and data.model_name == "name-of-theirs"
    card_file.write(tmp_path, {}, {"eval_results": []}, title="t")
    assert ModelCard.load(tmp_path / "README.md").data.eval_results == [theirs]


def test_scores_of_a_diverged_run_leave_a_card_that_can_be_read(tmp_path):
    shown = card(ORIGINAL, run("unlearned", forget_loss=m(None), unseen_loss=m(None)), RETRAINED)
    card_file.write(tmp_path, {}, {"eval_results": results_of(shown["runs"][1], "t", None)}, title="t")
    assert metadata_load(tmp_path / "README.md") is None or "model-index" not in metadata_load(tmp_path / "README.md")


def scored(*runs, **provenance):
    return Scorecard([ModelScores(**one) for one in runs], {"people": provenance} if provenance else {})


def test_an_evaluation_is_written_into_the_card_of_any_model_s_folder(tmp_path):
    (tmp_path / "README.md").write_text(HAND)
    card_file.write(tmp_path, {"model": "## What this model is"}, {}, title="t")
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    shown = scored(
        ORIGINAL, run("unlearned", **GOOD), RETRAINED, asked="Forget <b>one</b>.", dataset="org/rows", date="2026-01-02"
    )
    assert shown.to_model_card(tmp_path) == tmp_path / "README.md"
    text, data = readme(tmp_path), ModelCard.load(tmp_path / "README.md").data
    assert "- **Asked**: Forget &lt;b&gt;one&lt;/b&gt;.\n- **Forgotten**: " in text
    places = [text.index(part) for part in ("# My model", "- **Asked**", "What I say", "## What", "## Scores")]
    assert places == sorted(places)
    assert data["my_own_key"] == 7 and data.license == "mit"
    assert (data.pipeline_tag, data.datasets) == ("text-generation", ["org/rows"])
    found = {(one.dataset_type, one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
    assert found["org/rows", "forget", "loss"] == GOOD["forget_loss"]
    assert "Measured on 2026-01-02." in text
    shown.to_model_card(tmp_path)
    assert readme(tmp_path) == text
    scored(run("unlearned", forget_loss=9.0)).to_model_card(tmp_path, dataset="mine")
    (result,) = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.dataset_name, result.metric_value) == ("mine", 9.0) and readme(tmp_path).count("**Asked**") == 1


def test_each_model_of_an_evaluation_gets_its_own_numbers(tmp_path):
    shown = scored(ORIGINAL, run("unlearned", **GOOD), run("unlearned", seed=1, forget_loss=0.5), RETRAINED)
    values = {}
    for role, seed in (("original", None), ("unlearned", 0), ("unlearned", 1), ("retrained", None)):
        (folder := tmp_path / f"{role}{seed}").mkdir()
        (folder / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
        shown.to_model_card(folder, role, seed=seed)
        data = ModelCard.load(folder / "README.md").data
        found = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
        values[role, seed] = found["forget", "loss"]
        assert data.pipeline_tag == "image-classification" and data.model_name == folder.name
        assert ("**Forgotten**" in readme(folder)) == (role == "unlearned")
    assert list(values.values()) == [0.02, GOOD["forget_loss"], 0.5, 3.9]


def test_a_model_that_was_not_measured_has_no_card_to_write(tmp_path):
    with pytest.raises(KeyError, match="role 'ready'.*original, retrained"):
        scored(ORIGINAL, RETRAINED).to_model_card(tmp_path, "ready")
    with pytest.raises(KeyError, match="an unlearned model.*original, retrained"):
        scored(ORIGINAL, RETRAINED).to_model_card(tmp_path)
    with pytest.raises(FileNotFoundError, match="none.*folder|folder.*none"):
        scored(ORIGINAL).to_model_card(tmp_path / "none")
    assert not list(tmp_path.iterdir())
    (tmp_path / "README.md").mkdir()
    with pytest.raises(OSError):
        scored(ORIGINAL).to_model_card(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="config.json holds no object"):
        scored(ORIGINAL).to_model_card(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "tag"),
    [
        ("config.json", '{"architectures": ["BertForSequenceClassification"]}', "text-classification"),
        ("config.json", '{"architectures": ["Wav2Vec2ForSequenceClassification"]}', "audio-classification"),
        ("adapter_config.json", '{"task_type": "CAUSAL_LM"}', "text-generation"),
        ("adapter_config.json", '{"auto_mapping": {"base_model_class": "ViTModel"}}', None),
        ("adapter_config.json", '{"auto_mapping": {"base_model_class": "ViTForImageClassification"}}', IMAGES),
        ("config.json", '{"architectures": ["Unknown"]}', None),
        ("other.json", "{}", None),
    ],
)
def test_the_task_of_a_model_is_known_by_its_config(tmp_path, name, text, tag):
    (tmp_path / name).write_text(text)
    assert task_of(tmp_path) == tag


def test_a_published_card_does_not_tell_who_asked(tmp_path):
    for by, told in (("column", False), ("id", False), ("class", True)):
        request = {"by": by, "column": "person", "count": 1, "values": ["Ann Smith"], "dataset": "people"}
        scored(ORIGINAL, run("unlearned", **GOOD), request=request).to_model_card(tmp_path, "unlearned")
        assert ("Ann Smith" in readme(tmp_path)) == told and "48 rows" in readme(tmp_path)


def test_a_trial_run_publishes_no_results(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    scored(ORIGINAL, run("unlearned", **GOOD), smoke=True).to_model_card(tmp_path)
    assert "model-index" not in metadata_load(tmp_path / "README.md") and "**Forgotten**" not in readme(tmp_path)


def test_a_card_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "blob").write_text(HAND)
    (tmp_path / "README.md").symlink_to(tmp_path / "blob")
    with pytest.raises(ValueError, match="README.md is a link"):
        scored(ORIGINAL).to_model_card(tmp_path)
    assert (tmp_path / "blob").read_text() == HAND
