"""What people bring from TRL's scripts is told by the name that it has here, or why it cannot be."""

from __future__ import annotations

import pytest

from hf_unlearn import ArgumentError
from hf_unlearn.cli import keys_of_trl, parsing

WORDS = ["--model_type", "llama", "--use_cpu", "true", "--output_dir", "out"]


@pytest.mark.parametrize(("key", "value", "said"), [
    ("packing", "true", "puts several rows into one sequence. A request takes rows out"),
    ("padding_free", "true", "puts several rows into one sequence"),
    ("assistant_only_loss", "true", "the assistant's turns alone are learnt, always"),
    ("completion_only_loss", "false", "the completion alone is learnt, always"),
    ("dataset_text_field", "story", "is called `text_column` here."),
    ("model_revision", "v1", "is called `revision` here."),
    ("torch_dtype", "bfloat16", "is called `dtype` here."),
    ("load_in_8bit", "true", "(`load_in_4bit`)"),
    ("use_peft", "true", "`lora_r` above 0 trains an adapter"),
])  # fmt: skip
def test_a_key_of_trl_is_told_in_words(tmp_path, key, value, said):
    with pytest.raises(ArgumentError) as told:
        parsing.parse("ready", [*WORDS, f"--{key}", value])
    assert told.value.problems[0].startswith(f"`--{key}` ") and said in told.value.problems[0]
    (tmp_path / "mine.yaml").write_text(f"{key}: {value}\n")
    with pytest.raises(ArgumentError) as told:
        parsing.parse("unlearn", ["--config", str(tmp_path / "mine.yaml")])
    assert told.value.problems[0].startswith(f"`{key}` in ") and said in told.value.problems[0]


def test_what_is_switched_off_may_stay_in_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("packing: false\nload_in_8bit: null\nmodel_type: llama\nuse_cpu: true\n")
    assert parsing.parse("ready", ["--config", str(tmp_path / "mine.yaml")])[2].model_type == "llama"


def test_names_of_ours_are_none_of_trl_s():
    ours = set(parsing.actions_of(parsing.kinds_of("ready"))) | set(parsing.actions_of(parsing.kinds_of("unlearn")))
    assert not ours & {*keys_of_trl.RENAMED, *keys_of_trl.REFUSED, *keys_of_trl.ALWAYS}
    assert set(keys_of_trl.RENAMED.values()) <= ours
