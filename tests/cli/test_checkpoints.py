"""What is said of flags and of a model's folder before a row is read or a model is loaded."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.tiny import lm
from transformers import AutoImageProcessor, AutoTokenizer

from hf_unlearn import ArgumentError
from hf_unlearn.cli import arguments, attack_checks, checkpoints, checks, evaluate, parsing, prepare, ready, unlearn
from hf_unlearn.cli.arguments import DataArguments, EvaluateArguments, ModelArguments, UnlearnArguments
from hf_unlearn.utils import manifest

CPU = ["--use_cpu", "true"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    lm().save_pretrained(folder / "ready")
    return folder


def test_data_files_beside_a_data_set_that_is_a_file_are_refused():
    (told,) = checks.data_problems(DataArguments(dataset_name="./a.csv", data_files="b.csv"), ModelArguments())
    assert told.startswith("`data_files` is 'b.csv', and --dataset_name './a.csv'")
    assert not checks.data_problems(DataArguments(dataset_name="mine", data_files="b.csv"), ModelArguments())


def test_the_class_to_forget_may_be_read_from_the_label_column_whatever_the_task():
    by_class = DataArguments(forget_by="class", label_column="author")
    assert not checks.data_problems(by_class, ModelArguments())
    assert checks.data_problems(DataArguments(label_column="author"), ModelArguments())


def test_the_rate_of_a_model_by_name_is_its_own():
    data = DataArguments(task="audio_classification", sampling_rate=8000)
    assert not checks.data_problems(data, ModelArguments(model_type="audio-spectrogram-transformer"))
    (told,) = checks.data_problems(data, ModelArguments("org/model"))
    assert told.startswith("`sampling_rate` is for a new model; org/model brings its own")


# ---- where a model is ------------------------------------------------------------------------------------------------


def test_a_typo_in_a_model_s_folder_is_told_with_the_folder_that_is_there(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    for where in (str(saved / "raedy"), f"{saved.name}/raedy"):
        (told,) = checkpoints.place_problems("model_name_or_path", where)
        assert "but there is no such folder. Did you mean" in told and told.endswith("ready'?")
    (told,) = checkpoints.place_problems("models", str(saved / "ready/model.safetensors"), "original=")
    assert told.startswith("`models` is 'original=") and "a file: give its folder" in told
    assert "holds no config.json" in checkpoints.place_problems("models", str(saved))[0]
    assert not checkpoints.place_problems("models", str(saved / "ready"))
    assert not checkpoints.place_problems("models", "org/model") and not checkpoints.place_problems("models", "gpt2")


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("config.json", lambda b: b[:-9], "it is no JSON"),
        ("config.json", lambda b: b"[1]", "it holds a list instead of settings"),
        ("config.json", lambda b: b"\xff" + b, "it is no JSON"),
        ("model.safetensors", lambda b: b[:-1], "the copy may have been cut short"),
        ("model.safetensors", lambda b: b[:40], "fewer than its header is long"),
        ("model.safetensors", lambda b: b"", "fewer than its header is long"),
        ("model.safetensors", lambda b: b[:8] + b"x" + b[9:], "no description of tensors"),
        ("model.safetensors", lambda b: b"version https://git-lfs", "fewer than its header is long"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(file, damage, told, saved, tmp_path):
    for path in (saved / "ready").iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(damage(content) if path.name == file else content)
    (found,) = checkpoints.place_problems("models", str(tmp_path))
    assert found.startswith(f"{tmp_path / file} is broken: ") and told in found and "\n" not in found


def test_files_that_no_loader_reads_are_nobody_s_business(saved, tmp_path):
    for path in (saved / "ready").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "trainer_log.json").write_text('{"loss": 1}\n{"loss": 2}\n')  # a line each
    (tmp_path / "notes.json").write_bytes(b"\xef\xbb\xbf{}")
    (tmp_path / "embeddings.safetensors").write_bytes(b"version https://git-lfs")
    assert not checkpoints.place_problems("models", str(tmp_path))


def test_what_was_written_is_told_damaged_in_one_line_before_any_other_problem_of_the_folder(saved, tmp_path):
    with manifest.of_what_is_saved(tmp_path / "ready"):
        (tmp_path / "ready").mkdir()
        for path in (saved / "ready").iterdir():
            (tmp_path / "ready" / path.name).write_bytes(path.read_bytes())
    config = (tmp_path / "ready/config.json").read_text()
    assert '"hidden_size": 16' in config
    for damaged in (config.replace('"hidden_size": 16', '"hidden_size": 17'), config.replace("{", "[", 1), config[:-9]):
        (tmp_path / "ready/config.json").write_text(damaged)
        with pytest.raises(ArgumentError) as caught:
            read(tmp_path, lines=["model_type: llama", "config_overrides: hidden_size=16"])
        (told,) = caught.value.problems
        assert told.startswith(f"{tmp_path / 'ready'} is damaged: ") and "config.json" in told and "\n" not in told


@pytest.mark.parametrize("verb", ["ready", "unlearn", "evaluate"])
def test_weights_are_read_before_anything_is_loaded_from_their_folder(verb, saved, tmp_path, monkeypatch):
    with manifest.of_what_is_saved(tmp_path / "ready"):
        (tmp_path / "ready").mkdir()
        for path in (saved / "ready").iterdir():
            (tmp_path / "ready" / path.name).write_bytes(path.read_bytes())
    content = (tmp_path / "ready/model.safetensors").read_bytes()
    (tmp_path / "ready/model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr(manifest, "SMALL", 100)
    monkeypatch.setattr(prepare, "prepare", lambda *args: pytest.fail("rows were made"))
    words = ["--output_dir", str(tmp_path), "--forget_column", "person", "--forget_fraction", "0.1", "--limit", "60"]
    words += {"ready": ["--model_name_or_path", str(tmp_path / "ready"), *CPU], "unlearn": CPU}.get(verb, [])
    main = {"ready": ready.main, "unlearn": unlearn.main, "evaluate": evaluate.main}[verb]
    with pytest.raises(ArgumentError, match="is damaged: the content is not what was written in model.safetensors"):
        main(words)
    assert not (tmp_path / "_running.json").exists()


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "training_args.bin").write_bytes(b"x")
    (found,) = checkpoints.place_problems("models", str(tmp_path))
    assert found == f"{tmp_path} is broken: it holds no weights, such as model.safetensors."


def test_a_shard_that_is_missing_is_named(saved, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    (found,) = checkpoints.place_problems("models", str(tmp_path))
    assert found == f"{tmp_path / 'model-1.safetensors'} is broken: it is not there."


def test_a_model_of_other_sizes_than_the_flags_say_is_refused(saved):
    same = ModelArguments(model_type="llama", config_overrides="hidden_size=16")
    size = lm().config.hidden_size
    told = checkpoints.other_model_problems(same, "ready", saved / "ready")
    assert (told == []) is (size == 16)
    told = checkpoints.other_model_problems(ModelArguments(model_type="llama", config_overrides="hidden_size=3"),
                                            "ready", saved / "ready")  # fmt: skip
    assert told[0].startswith("`hidden_size` is 3 by the flags, but the ready model") and f"with {size}." in told[0]
    told = checkpoints.other_model_problems(ModelArguments(model_type="vit"), "ready", saved / "ready")
    assert told[0].startswith("`model_type` is 'vit' by the flags") and "made with 'llama'" in told[0]
    assert not checkpoints.other_model_problems(ModelArguments(), "ready", saved / "ready")


def test_a_name_that_is_no_folder_is_said_to_be_none_beside_what_the_hub_says(monkeypatch):
    def refused(where):
        raise OSError("We couldn't connect")

    for cls in (AutoTokenizer, AutoImageProcessor):
        monkeypatch.setattr(cls, "from_pretrained", refused)
    people = DataArguments(forget_column="person", forget_fraction=0.1, limit=60)
    with pytest.raises(ValueError, match=r"The tokenizer of 'out/raedy', which is no folder here, cannot be loaded"):
        prepare.prepare(people, ModelArguments(), "out/raedy")
    digits = DataArguments(task="image_classification", dataset_name="digits", forget_by="class", forget_values=["3"])
    with pytest.raises(ValueError, match="image processor of 'org/model'"):  # asked of the hub, not made from the rows
        prepare.prepare(digits, ModelArguments(), "org/model")


def test_a_folder_that_cannot_be_made_is_told_before_a_row_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "there").symlink_to(tmp_path)
    for place, told in (("file", "file is a file"), ("file/a", "file is a file"), ("link/a", "is a link to 'nowhere'")):
        (problem,) = checks.folder_problems(tmp_path / place)
        assert problem.name == "output_dir" and told in problem
    assert not checks.folder_problems(tmp_path / "there/a/b") and not checks.folder_problems("new/a")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "nothing can be written" in checks.folder_problems(tmp_path / "a")[0]
    words = ["--forget_column", "person", "--forget_fraction", "0.1", "--model_type", "llama", *CPU]
    with pytest.raises(ValueError, match="`output_dir` is '.*a/ready'"):
        parsing.parse("ready", ["--output_dir", str(tmp_path / "a"), *words], ready.flag_problems)


# ---- where a request starts ------------------------------------------------------------------------------------------


def read(folder, *words, lines=()):
    (folder / "my.yaml").write_text("\n".join([f"output_dir: {folder}", *lines]))
    return parsing.parse("unlearn", ["--config", str(folder / "my.yaml"), *words, *CPU], unlearn.flag_problems)


@pytest.mark.parametrize("start", ["ready", "original"])
def test_a_file_that_names_what_ready_starts_from_has_unlearn_start_from_its_result(start, saved, tmp_path):
    (tmp_path / start).symlink_to(saved / "ready")
    own, _, model, args = read(tmp_path, "--start", start, lines=["model_name_or_path: org/model"])
    assert unlearn.source_of(own, model, args.output_dir) == str(tmp_path / start)
    assert unlearn.role_of("", own, model) == arguments.STARTS[start]


@pytest.mark.parametrize("typed", [True, False])
def test_unlearn_starts_from_the_model_that_is_named_for_it_alone(typed, saved, tmp_path):
    words, lines = ["--model_name_or_path", str(saved / "ready")], [f"unlearn.model_name_or_path: {saved / 'ready'}"]
    own, _, model, args = read(tmp_path, *(words if typed else []), lines=[] if typed else lines)
    source = unlearn.source_of(own, model, args.output_dir)
    assert source == str(saved / "ready") and unlearn.role_of(source, own, model) == "unlearned"
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "readiness.json").write_text('{"ready": true, "schema": 1}')
    assert unlearn.role_of(str(copy), own, model) == "ready_unlearned"


def test_a_model_on_the_command_line_wins_over_the_new_one_of_a_file(saved, tmp_path):
    lines = ["model_type: llama", "config_overrides: hidden_size=32", "vocab_size: 300"]
    own, _, model, args = read(tmp_path, "--model_name_or_path", str(saved / "ready"), lines=lines)
    assert unlearn.source_of(own, model, args.output_dir) == str(saved / "ready")
    with pytest.raises(ValueError, match="Give either --model_name_or_path, or --model_type"):
        read(tmp_path, lines=[*lines, "model_name_or_path: org/model"])
    with pytest.raises(ValueError, match="`vocab_size` is for a new model"):
        read(tmp_path, "--model_name_or_path", str(saved / "ready"), "--vocab_size", "301")


def test_start_and_a_model_by_name_are_refused_together(saved, tmp_path):
    with pytest.raises(ValueError, match=r"`model_name_or_path` is '.*', and --start original .* Give one of the two"):
        read(tmp_path, "--start", "original", "--model_name_or_path", str(saved / "ready"))


def test_an_adapter_for_a_model_that_has_one_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready/adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"`unlearn.lora_r` .* is 4, but .* has an adapter already.* `ready.lora_r`"):
        read(tmp_path, lines=["unlearn.lora_r: 4"])


def test_the_adapter_of_a_training_is_gone_on_with_by_the_same_file(saved, tmp_path, monkeypatch):
    data = DataArguments()
    (tmp_path / "ready").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(saved / "ready" / name, tmp_path / "ready")
    for is_adapter in (False, True):
        if is_adapter:
            (tmp_path / "ready/adapter_config.json").write_text("{}")
        _, _, model, _ = read(tmp_path, lines=["lora_r: 4"])
        made = unlearn.new_adapter(data, model, str(tmp_path / "ready"))
        assert (made is None) == is_adapter


# ---- evaluate --------------------------------------------------------------------------------------------------------


def evaluated(*words):
    return parsing.parse("evaluate", ["--output_dir", "nowhere", *words])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--attacks", "none", "--relearn_steps", "5"], "`relearn_steps` is an option of the attack relearn, which is"),
        (["--attacks", "none", "weights"], "`none` stands alone"),
        (["--relearn_steps", "0"], "`--relearn_steps` is 0"),
        (["--models", "ready=a/b", "ready=a/c"], "`--models` gives ready twice: a/b and a/c"),
        (["--tables", "retrained=./nowhere"], "`tables` is 'retrained=./nowhere', but there is no such folder"),
    ],
)
def test_all_flags_of_evaluate_are_checked_before_a_row_is_read(words, told):
    assert any(told in problem for problem in evaluate.flag_problems(*evaluated(*words)))


def test_a_command_line_may_leave_out_an_attack_whose_options_a_file_has(tmp_path):
    (tmp_path / "my.yaml").write_text("evaluate.relearn_steps: 5\n")
    own = evaluated("--config", str(tmp_path / "my.yaml"), "--attacks", "none")[0]
    assert not attack_checks.unread_options(own)
    (tmp_path / "my.yaml").write_text("evaluate.relearn_steps: 5\nevaluate.attacks: none\n")
    assert attack_checks.unread_options(evaluated("--config", str(tmp_path / "my.yaml"))[0])
    assert not attack_checks.unread_options(EvaluateArguments(attacks=["none"]))


def test_checkpoints_without_a_processor_are_refused(saved):
    data = DataArguments(task="image_classification")
    with pytest.raises(ValueError, match=r"None of .* holds a preprocessor_config.json"):
        checkpoints.processing_of(None, {"original": str(saved / "ready")}, data)
    assert checkpoints.processing_of(None, {"original": "org/model"}, data) == "org/model"
    assert checkpoints.processing_of(None, {}, data) is None and UnlearnArguments().start == "ready"
