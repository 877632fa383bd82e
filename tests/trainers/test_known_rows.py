"""A model's folder knows which rows were trained on and which were to be forgotten; what forgets that is refused."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import stat
import threading
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from datasets import Dataset
from helpers.ready_runs import config
from helpers.tiny import image_rows, lm, lm_rows, tokenizer, vit
from helpers.unlearning import trainer
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model

from hf_unlearn import ArgumentError, ReadyTrainer
from hf_unlearn.trainers import engines, known_rows, records
from hf_unlearn.trainers.models import has_trained_adapter
from hf_unlearn.utils import salts

ROWS = {"forget": lm_rows(4), "retain": lm_rows(12, 4), "unseen": lm_rows(6, 100)}
IMAGES = {"forget": image_rows(6), "retain": image_rows(12, 6), "unseen": image_rows(6, 100)}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Folder of a model that was made ready on the first 16 rows; not trained, which makes no difference here."""
    folder = tmp_path_factory.mktemp("ready")
    ReadyTrainer(lm(), config(folder), lm_rows(16), processing_class=tokenizer()).save_model()
    return folder


@pytest.fixture(scope="module")
def unlearned(ready, tmp_path_factory):
    """Folder of what a request for the first four rows made of it."""
    folder = tmp_path_factory.mktemp("unlearned")
    trainer(folder, str(ready), ROWS).save_model()
    return folder


def told(out, model, rows) -> str:
    with pytest.raises(ArgumentError) as caught:
        trainer(out, str(model), {**ROWS, **rows})
    return str(caught.value)


def test_unseen_rows_that_were_trained_on_are_refused_by_their_ids(ready, tmp_path):
    found = told(tmp_path, ready, {"retain": lm_rows(6, 4), "unseen": lm_rows(8, 10)})
    assert f"6 of 8 unseen rows are rows that {ready} was trained on (ids 10, 11, 12, 13, 14, … (6 in all))" in found
    assert "1 problem" in found and "unseen=[their ids]" in found
    trainer(tmp_path, str(ready), ROWS)


@pytest.mark.parametrize("change", [
    lambda rows: rows.remove_columns("id"),
    lambda rows: rows.map(lambda row: {"labels": [-100] * 3 + row["labels"][3:], "id": row["id"] + 900}),
    lambda rows: rows.to_list(),
])  # fmt: skip
def test_a_row_is_known_by_its_content_whatever_its_id_labels_or_dress(ready, tmp_path, change):
    rows = {"retain": lm_rows(6, 4), "unseen": change(lm_rows(3, 12))}
    assert "3 of 3 unseen rows are rows that" in told(tmp_path, ready, rows)


def padded(rows, side: str = "right", masked: bool = True):
    """The rows with two tokens of padding, with a mask or without one."""

    def add(values: list, fill: int) -> list:
        return [*values, fill, fill] if side == "right" else [fill, fill, *values]

    made = [
        {"input_ids": add(row["input_ids"], 0), "attention_mask": add(row["attention_mask"], 0),
         "labels": add(row["labels"], -100), "id": row["id"] + 900} for row in rows
    ]  # fmt: skip
    made = made if masked else [{k: v for k, v in row.items() if k != "attention_mask"} for row in made]
    return Dataset.from_list(made)


@pytest.mark.parametrize("side, masked", [("right", True), ("left", True), ("right", False)])
def test_a_row_in_other_padding_is_known(ready, unlearned, tmp_path, side, masked):
    rows = {"retain": lm_rows(6, 4), "unseen": padded(lm_rows(3, 12), side, masked)}
    if not masked:
        rows |= {name: own.remove_columns("attention_mask") for name, own in (ROWS | rows).items() if name != "unseen"}
    found = told(tmp_path, ready, rows)
    assert f"3 of 3 unseen rows say the same as rows that {ready} was trained on (ids 912, 913, 914)" in found
    assert "They differ in case, punctuation, white space or padding alone" in found
    if masked:
        rows = {"forget": lm_rows(2, 4), "retain": padded(lm_rows(12).select([3, *range(6, 12)]), side)}
        found = told(tmp_path, unlearned, rows)
        assert f"1 of 7 retain rows say the same as rows that {unlearned} was asked to forget (ids 903)" in found
        seen = known_rows.measured_problems(known_rows.of_model([str(ready)]), {**ROWS, "unseen": padded(lm_rows(1))})
        assert len(seen) == 1 and seen[0].startswith("1 of 1 unseen rows (ids 900) are rows, or say the same as rows,")


def test_a_row_in_other_case_and_punctuation_is_known(tmp_path):
    """By a column of text beside the tokens."""

    def said(texts, start):
        rows = [dict(row) for row in lm_rows(len(texts), start)]
        return Dataset.from_list([{**row, "text": text} for row, text in zip(rows, texts, strict=True)])

    texts = [f"Velra Langdale lives at number {i}, Coldcombe" for i in range(12)]
    ReadyTrainer(lm(), config(tmp_path / "ready"), said(texts, 0), processing_class=tokenizer()).save_model()
    rows = {"forget": said(texts[:3], 0), "retain": said(texts[3:9], 3)}
    rows["unseen"] = said([texts[9].upper() + "!", "someone else, somewhere"], 300)
    found = told(tmp_path / "out", tmp_path / "ready", rows)
    assert "1 of 2 unseen rows say the same as rows that" in found and "(ids 300)" in found
    trainer(tmp_path / "out", str(tmp_path / "ready"), {**rows, "unseen": said(["nobody", "nowhere"], 300)})


def test_a_file_of_an_older_version_has_no_kind_for_what_rows_say(ready, tmp_path):
    shutil.copytree(ready, tmp_path / "old")
    old = [s for s in known_rows.read(ready / known_rows.FILE) if s.of != "said"]
    known_rows.write(tmp_path / "old" / known_rows.FILE, old)
    (tmp_path / "old" / "_complete.json").unlink()
    rows = {**ROWS, "retain": lm_rows(6, 4), "unseen": padded(lm_rows(3, 12))}
    trainer(tmp_path / "out", str(tmp_path / "old"), rows)
    found = told(tmp_path / "out", tmp_path / "old", {"retain": lm_rows(6, 4), "unseen": lm_rows(3, 12)})
    assert "3 of 3 unseen rows are rows that" in found


class Noisy(torch.utils.data.Dataset):
    """Pictures with noise in every third one."""

    def __init__(self, n, start=0, ids=True):
        self.rows = [{k: v for k, v in row.items() if ids or k != "id"} for row in image_rows(n, start)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        pixels = torch.tensor(self.rows[i]["pixel_values"])
        return {**self.rows[i], "pixel_values": pixels + torch.randn(()) if i % 3 == 2 else pixels}


def test_pictures_that_are_drawn_anew_are_committed_to_by_their_ids_and_that_is_said(caplog):
    salt = "s" * 32
    assert [s.of for s in known_rows.commit("trained", Noisy(60), salt)] == ["id"]
    assert "are drawn anew each time they are read ('pixel_values')" in caplog.text
    assert "commits to their ids alone" in caplog.text
    assert known_rows.commit("trained", Noisy(60, ids=False), salt) == []
    assert "commits to none of them" in caplog.text


def test_rows_that_cannot_be_compared_by_content_are_told(caplog):
    salt = "s" * 32
    known = known_rows.Known(tuple(known_rows.commit("trained", image_rows(60), salt)), (salt,), "there")
    assert known_rows.problems(known, retain=image_rows(5, 300), unseen=Noisy(60, 300)) == []
    assert "unseen rows cannot be compared with the content of the rows that there was trained on" in caplog.text
    caplog.clear()
    renamed = image_rows(5, 300).rename_column("pixel_values", "pixels")
    assert known_rows.problems(known, retain=renamed, unseen=renamed) == []
    assert "they have no column 'pixel_values'" in caplog.text


def test_the_same_id_with_another_content_is_a_warning(ready, tmp_path, caplog):
    other = lm_rows(3, 200).remove_columns("id").add_column("id", [12, 13, 90])
    trainer(tmp_path, str(ready), {**ROWS, "retain": lm_rows(6, 4), "unseen": other})
    assert "2 of 3 unseen rows have ids of rows that" in caplog.text and "ids 12, 13." in caplog.text


def test_rows_of_an_earlier_request_do_not_come_back(unlearned, tmp_path):
    """Also where the forgotten rows are called unseen: the model was trained on them."""
    found = told(tmp_path, unlearned, {"forget": lm_rows(2, 4), "retain": lm_rows(13, 3).select([0, *range(3, 13)])})
    assert f"1 of 11 retain rows are rows that {unlearned} was asked to forget (ids 3)" in found
    assert "deleted=[their ids]" in found
    found = told(tmp_path, unlearned, {"forget": lm_rows(2, 4), "retain": lm_rows(10, 6), "unseen": lm_rows(4)})
    assert "4 of 4 unseen rows are rows that" in found and "was asked to forget (ids 0, 1, 2, 3)" in found


def test_rows_to_be_measured_go_with_what_the_models_folders_say(ready, unlearned):
    def told(folder, rows, **role):
        return "\n".join(known_rows.measured_problems(known_rows.of_model([str(folder)]), {**ROWS, **rows}, **role))

    assert not told(ready, {}) and not told(unlearned, {}, unlearned=True)
    for folder in (ready, unlearned):
        seen = told(folder, {"unseen": lm_rows(8, 10)})
        assert seen.startswith("6 of 8 unseen rows (ids 10, 11, 12, 13, 14, … (6 in all)) are rows, or say the same as")
        assert f"rows, that {folder} was trained on" in seen
    assert f"4 of 4 forget rows (ids 0, 1, 2, 3) are rows, or say the same as rows, that {ready} was" in told(
        ready, {}, retrained=True
    )
    other = told(unlearned, {"forget": lm_rows(4, 2)}, unlearned=True)
    assert other.startswith(f"2 of 4 forget rows (ids 4, 5) are none that {unlearned} was asked to forget")
    shorter = ROWS["forget"].map(lambda row: {key: row[key][:4] for key in ("input_ids", "labels")})
    assert not told(unlearned, {"forget": shorter}, unlearned=True)  # known by their ids


def adapted(trained: bool):
    """A model with an adapter on it, as `AutoPeftModel` loads one: of its folder nothing is kept."""
    return get_peft_model(lm(), LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=not trained))


def test_a_model_whose_adapter_is_from_a_folder_not_known_is_told(tmp_path, caplog):
    trainer(tmp_path, adapted(trained=True), ROWS)
    assert "The model comes with a trained adapter, and which folder that is from is not known" in caplog.text
    assert "pass that folder as `model`" in caplog.text and "`readiness_from`" in caplog.text


def test_a_training_of_such_a_model_is_told_it_too(tmp_path, caplog):
    ReadyTrainer(adapted(trained=True), config(tmp_path), lm_rows(16), processing_class=tokenizer())
    assert "pass that folder as `model`" in caplog.text and "`readiness_from`" not in caplog.text


def test_a_new_adapter_of_other_kinds_is_no_trained_one():
    options = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    model = get_peft_model(lm(), IA3Config(**options))
    assert not has_trained_adapter(model) and not has_trained_adapter(lm())
    assert not has_trained_adapter(get_peft_model(lm(), PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=2)))
    for weight in (p for p in model.parameters() if p.requires_grad):
        torch.nn.init.normal_(weight)
    assert has_trained_adapter(model)


@pytest.mark.parametrize("trained, options", [(False, {}), (True, {"readiness": "none"})])
def test_a_new_adapter_and_one_that_is_said_to_have_no_folder_are_not_told(tmp_path, caplog, trained, options):
    trainer(tmp_path, adapted(trained), ROWS, **options)
    assert "adapter" not in caplog.text


def test_readiness_may_name_the_folder_of_an_unlearned_adapter_and_what_it_says_of_rows_counts(unlearned, tmp_path):
    back = {**ROWS, "forget": lm_rows(2, 12), "retain": lm_rows(6)}
    with pytest.raises(ArgumentError, match="4 of 6 retain rows are rows that .* was asked to forget"):
        trainer(tmp_path, adapted(trained=True), back, readiness_from=str(unlearned))
    with pytest.raises(ArgumentError, match="but there is no readiness.json"):
        trainer(tmp_path, lm(), ROWS, readiness_from=str(tmp_path))


def test_what_is_known_travels_from_request_to_request(unlearned, tmp_path):
    second = {**ROWS, "forget": lm_rows(2, 4), "retain": lm_rows(10, 6)}
    trainer(tmp_path / "second", str(unlearned), second).save_model()
    third = {"forget": lm_rows(2, 6), "retain": lm_rows(8, 8)}
    for first in (0, 4):  # of the first request, of the second
        rows = {**third, "retain": lm_rows(12, first).select([0, *range(8 - first, 12)])}
        assert f"asked to forget (ids {first})" in told(tmp_path / "third", tmp_path / "second", rows)
    rows = {**third, "retain": lm_rows(6, 8), "unseen": lm_rows(2, 14)}
    assert "2 of 2 unseen rows" in told(tmp_path / "third", tmp_path / "second", rows)
    trainer(tmp_path / "third", str(tmp_path / "second"), {**ROWS, **third})


def test_an_earlier_request_that_will_be_replaced_is_told(ready, unlearned, caplog):
    trainer(unlearned, str(ready), ROWS)  # the same again
    assert "An earlier request" not in caplog.text
    trainer(unlearned, str(ready), {**ROWS, "forget": lm_rows(2, 4), "retain": lm_rows(12, 2).select([0, 1, 4, 5])})
    assert "named 2 of the retain rows, ids 2, 3" in caplog.text


def test_without_the_salt_nothing_is_told_of_rows_and_that_is_said(ready, tmp_path, caplog):
    """As on the hub: `push_to_hub` leaves out what begins with an underscore."""
    shutil.copytree(ready, tmp_path / "hub", ignore=shutil.ignore_patterns("_*"))
    rows = {**ROWS, "retain": lm_rows(6, 4), "unseen": lm_rows(3, 12)}
    trainer(tmp_path / "out", str(tmp_path / "hub"), rows)
    assert "the salt that opens it is not at hand" in caplog.text and "by `readiness_from`" in caplog.text
    with pytest.raises(ArgumentError, match="3 of 3 unseen rows"):
        trainer(tmp_path / "out", str(tmp_path / "hub"), rows, readiness_from=str(ready))
    salt = json.loads((ready / records.SALT).read_text())["salt"]
    files = [f for f in (tmp_path / "hub").iterdir() if f.suffix != ".safetensors"]
    assert len(files) > 3 and not [f for f in files if salt.encode() in f.read_bytes()]


def test_the_file_holds_eight_bytes_for_each_way_a_row_is_known(ready):
    found = known_rows.read(ready / known_rows.FILE)
    assert [(s.part, s.of, s.columns, len(s.digests)) for s in found] == [
        ("trained", "content", ("input_ids",), 16), ("trained", "said", ("input_ids",), 32), ("trained", "id", (), 16)
    ]  # fmt: skip
    assert (ready / known_rows.FILE).stat().st_size < 16 * 32 + 600
    rows = known_rows.commit("trained", image_rows(5).remove_columns("id"), "s" * 32, ["revocable"])
    assert [(s.of, s.columns, len(s.digests)) for s in rows] == [("content", ("pixel_values",), 5)]


def test_a_flipped_byte_in_the_file_is_found(ready, tmp_path):
    data = (ready / known_rows.FILE).read_bytes()
    for place in range(0, len(data), 7):
        (tmp_path / "f").write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(ValueError, match="f is damaged"):
            known_rows.read(tmp_path / "f")
    shutil.copytree(ready, tmp_path / "model")
    shutil.copy(tmp_path / "f", tmp_path / "model" / known_rows.FILE)
    assert "rows.digests is damaged" in told(tmp_path / "out", tmp_path / "model", {})


# ---- the salt ----


def test_a_salt_that_only_another_user_may_read_is_not_at_hand(tmp_path, monkeypatch):
    records.salt_for(tmp_path)
    assert len(records.known_salts(tmp_path)) == 1

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("hf_unlearn.utils.salts.read_json", forbidden)
    assert records.known_salts(tmp_path) == {}


def test_the_salt_is_its_owners_alone_to_read(tmp_path):
    salt = records.salt_for(tmp_path)
    path = tmp_path / records.SALT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.chmod(path, 0o644)  # as older versions wrote it
    assert records.salt_for(tmp_path) == salt and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [
    b"{", b"[]", b"null", b'{"salt": 7}', b"\xff\xfe", b"{}", b'{"salt": ""}', b'{"salt": "ab"}', b"[" * 100000,
    b'{"salt": "0123456789abcdef0123456789abcdef", "earlier": 7}', b"",
])  # fmt: skip
def test_a_garbled_salt_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / records.SALT).write_bytes(content)
    with pytest.raises(ValueError, match=r"_revocable_salt.json is damaged: .* Restore it from a copy"):
        records.salt_for(tmp_path)
    (tmp_path / records.SALT).unlink()
    (tmp_path / records.SALT).mkdir()
    with pytest.raises(ValueError, match=r"_revocable_salt.json is damaged"):
        records.salt_for(tmp_path)
    (tmp_path / records.SALT).rmdir()
    (tmp_path / records.SALT).write_text('{"salt": "0123456789abcdef0123456789abcdef"}')  # of an older version
    assert records.salt_for(tmp_path) == "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("broken", ["salt", "salt of another user", "rows", "salt and rows"])
@pytest.mark.parametrize("kind", ["ready", "unlearn"])
def test_what_the_first_save_could_not_read_is_told_before_the_training(ready, tmp_path, monkeypatch, kind, broken):
    """In one error with all else that is wrong."""
    shutil.copytree(ready, tmp_path / "model")
    records.salt_for(tmp_path / "out")
    words = []
    if broken == "salt of another user":
        forbidden = tmp_path / "out" / records.SALT

        def read(path, read=salts.read_json):
            if path == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return read(path)

        monkeypatch.setattr(salts, "read_json", read)
        words += [f"{forbidden} is another user's to read"]
    elif "salt" in broken:
        (tmp_path / "out" / records.SALT).write_text("{")
        words += [f"{tmp_path / 'out' / records.SALT} is damaged"]
    if "rows" in broken:
        (tmp_path / "model" / known_rows.FILE).write_bytes(b"x")
        words += ["model/rows.digests is damaged"]
    few = lm_rows(3).remove_columns("labels")
    with pytest.raises(ArgumentError) as caught:
        if kind == "ready":
            ReadyTrainer(str(tmp_path / "model"), config(tmp_path / "out"), few, processing_class=tokenizer())
        else:
            trainer(tmp_path / "out", str(tmp_path / "model"), {**ROWS, "unseen": few})
    assert all(str(caught.value).count(part) == 1 for part in [*words, "have no `labels` column"]), str(caught.value)


# ---- readiness.json ----


@pytest.mark.parametrize("content, words", [
    ("[1, 2]", r"readiness.json should hold a JSON object and holds \[1, 2\]"),
    ('"x"', "readiness.json should hold a JSON object"),
    ("{not json", "readiness.json cannot be read, it is damaged or no JSON"),
    ("[" * 100_000, "readiness.json cannot be read"),
    ("", "readiness.json cannot be read"),
    ('{"schema": 1, "request": [1]}', r"`request` in .*readiness.json is \[1\]; it must be an object"),
    ('{"schema": 1, "ready": "no"}', "`ready` in .*readiness.json is 'no'; it must be true or false"),
    ('{"schema": [7], "ready": true}', r"readiness.json of .* has schema \[7\]"),
])  # fmt: skip
def test_a_readiness_record_of_another_shape_is_told_with_file_and_key(tmp_path, content, words):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "readiness.json").write_text(content)
    with pytest.raises(ArgumentError, match=words) as caught:
        trainer(tmp_path / "out", str(tmp_path), ROWS)
    assert len(str(caught.value)) < 400 and len(caught.value.problems) == 1


@pytest.fixture(scope="module")
def hub():
    """A server that answers every request with the status that the repository is named by."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path.split("status-")[1][:3]))
            if "missing" in self.path:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def online(monkeypatch, endpoint, cache):
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {"HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False, "ENDPOINT": endpoint}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its attempts


@pytest.mark.parametrize("status, words", [
    (401, "the hub answers 401: there is no user/status-401, or it is private"),
    (403, "the hub answers 403: user/status-403 is gated or forbidden"),
    (404, "the hub answers 404"),
    (500, "the hub answers 500: try again later"),
])  # fmt: skip
def test_what_the_hub_answers_is_told(hub, tmp_path, monkeypatch, caplog, status, words):
    online(monkeypatch, hub, tmp_path)
    with pytest.raises(records.NoAnswer, match=words):
        records.find_readiness(f"user/status-{status}")
    model = vit()
    model.config._name_or_path = f"user/status-{status}"
    trainer(tmp_path, model, IMAGES)  # for `auto` it is a warning: a model may well have no record
    assert words in caplog.text
    with pytest.raises(ArgumentError, match=words):
        trainer(tmp_path, model, IMAGES, readiness_from=f"user/status-{status}")
    assert records.find_readiness("user/status-404-missing") is None


def test_a_hub_that_is_not_asked_or_does_not_answer_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(records.NoAnswer, match="HF_HUB_OFFLINE is set.*no readiness.json of user/some"):
        records.find_readiness("user/some")
    online(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(records.NoAnswer, match="the hub does not answer"):
        records.find_readiness("user/some")


# ---- several processes ----


@pytest.fixture
def second_of_two(tmp_path, monkeypatch):
    """A request on the second of two processes, which gets these answers of the first one: values or errors."""

    def request(*answers, **options):
        left = list(answers)

        def broadcast(found):
            answer = left.pop(0)
            found[:] = [None, answer] if isinstance(answer, Exception) else [answer, None]

        monkeypatch.setattr(engines, "broadcast_object_list", broadcast)
        two = SimpleNamespace(num_processes=2, is_main_process=False)
        monkeypatch.setattr(engines, "PartialState", lambda: two)
        return trainer(tmp_path, vit(), IMAGES, **options)

    def never(*args):
        raise AssertionError("only the first process asks")

    for module, name in ((records, "find_readiness"), (known_rows, "of_model"), (salts, "read_json")):
        monkeypatch.setattr(module, name, never)
    return request


def test_all_processes_go_by_what_the_first_one_was_told(second_of_two, tmp_path):
    """The hub may answer one process and not the other."""
    (tmp_path / records.SALT).write_text("{")  # of this machine
    known = known_rows.Known((), ("s" * 32,), "user/some")
    readiness = {"request": {"learning_rate": 0.25}, "ready": True}
    run = second_of_two(None, False, [], (readiness, False), (known, []), None)
    assert run.args.learning_rate == 0.25 and run.record()["was_ready"] and run._known == known
    run = second_of_two(None, False, [], (None, True), (known_rows.Known(), []), None)
    assert run.args.learning_rate == 1e-4 and not run.record()["was_ready"]


def test_what_is_wrong_on_the_first_process_is_told_on_all(second_of_two):
    known = known_rows.Known(), ["rows are known"]
    answers = None, False, ["the salt is damaged"], records.NoAnswer("the hub answers 503"), known
    with pytest.raises(ArgumentError) as caught:
        second_of_two(*answers, readiness_from="user/some")
    assert caught.value.problems == ["the salt is damaged", "the hub answers 503", "rows are known"]


def test_a_training_that_goes_on_from_an_unlearned_model_does_not_bring_its_rows_back(unlearned, tmp_path):
    rows = lm_rows(8)  # the first four were to be forgotten
    with pytest.raises(ArgumentError) as caught:
        ReadyTrainer(str(unlearned), config(tmp_path), rows, processing_class=tokenizer())
    said = f"4 of 8 training rows are rows that {unlearned} was asked to forget (ids 0, 1, 2, 3): they would be learned"
    assert said in str(caught.value) and len(caught.value.problems) == 1
    ReadyTrainer(str(unlearned), config(tmp_path), lm_rows(8, 4), processing_class=tokenizer())
