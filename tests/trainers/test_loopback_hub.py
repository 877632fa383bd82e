"""Stock ``transformers`` and ``peft`` against the loopback hub: what is pushed comes back bit by bit.

The first half of the file talks to the hub directly with ``urllib`` and pins the parts of the protocol on which
clients rely.  The second half runs one real client (one process, because the imports are what takes time) and looks
at its results from several sides.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request

import pytest
from helpers.loopback_hub import LoopbackHub, run_client

# The protocol, without any client library.


@pytest.fixture
def hub():
    with LoopbackHub(organizations=("team",)) as running:
        yield running


class _KeepRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _KeepRedirects)


def call(url, method="GET", body=None, token=None, **headers):
    """One request; returns (status, headers, content), for errors and redirects too."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None and not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with _opener.open(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_writes_need_the_token_and_a_namespace_of_the_account(hub):
    url = f"{hub.endpoint}/api/repos/create"
    mine = {"name": "repo", "organization": "user"}
    assert call(url, "POST", mine)[0] == 401
    status, headers, _ = call(url, "POST", mine, token="hf_of_somebody_else")
    assert (status, headers["X-Error-Message"]) == (401, "Invalid credentials in Authorization header")
    assert call(url, "POST", {"name": "repo", "organization": "other"}, token=hub.token)[0] == 403
    assert hub.repos() == []

    assert call(url, "POST", mine, token=hub.token)[0] == 200
    assert call(url, "POST", mine, token=hub.token)[0] == 409
    assert call(url, "POST", {"name": "repo", "organization": "team"}, token=hub.token)[0] == 200
    assert call(url, "POST", {"name": "short", "organization": None}, token=hub.token)[0] == 200
    assert hub.repos() == ["team/repo", "user/repo", "user/short"]
    assert [r.status for r in hub.requests] == [401, 401, 403, 200, 409, 200, 200]

    commit = b'{"key": "header", "value": {"summary": "x"}}\n'
    for path in ("api/models/user/repo/commit/main", "api/models/user/repo/preupload/main"):
        assert call(f"{hub.endpoint}/{path}", "POST", commit)[0] == 401
    assert call(f"{hub.endpoint}/user/repo.git/info/lfs/objects/batch", "POST", {})[0] == 401
    assert len(hub.commits("user/repo")) == 1


def test_a_private_repository_looks_missing_to_strangers(hub):
    payload = {"name": "repo", "organization": "user", "visibility": "private"}
    call(f"{hub.endpoint}/api/repos/create", "POST", payload, token=hub.token)
    url = f"{hub.endpoint}/api/models/user/repo"
    assert call(url, token=hub.token)[0] == 200
    status, headers, _ = call(url)
    assert (status, headers["X-Error-Code"]) == (401, "RepoNotFound")
    assert call(f"{hub.endpoint}/api/models/user/other")[0] == status


def test_an_lfs_commit_needs_a_signed_and_verified_upload(hub):
    call(f"{hub.endpoint}/api/repos/create", "POST", {"name": "repo", "organization": "user"}, token=hub.token)
    weights = bytes(range(256)) * 8
    oid = hashlib.sha256(weights).hexdigest()
    header = {"key": "header", "value": {"summary": "Add weights", "description": ""}}
    entry = {"path": "model.safetensors", "algo": "sha256", "oid": oid, "size": len(weights)}
    commit = b"".join(json.dumps(line).encode() + b"\n" for line in (header, {"key": "lfsFile", "value": entry}))
    commit_url = f"{hub.endpoint}/api/models/user/repo/commit/main"
    assert call(commit_url, "POST", commit, token=hub.token)[0] == 400  # the object is not there yet

    batch_url = f"{hub.endpoint}/user/repo.git/info/lfs/objects/batch"
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(weights)}]}
    actions = json.loads(call(batch_url, "POST", batch, token=hub.token)[2])["objects"][0]["actions"]
    upload, verify = actions["upload"]["href"], actions["verify"]["href"]
    assert upload.startswith(hub.storage_endpoint)
    assert hub.storage_endpoint != hub.endpoint
    assert call(verify, "POST", {"oid": oid, "size": len(weights)}, token=hub.token)[0] == 404
    assert call(upload.split("?")[0], "PUT", weights)[0] == 403
    assert call(upload, "PUT", weights, token=hub.token)[0] == 400  # a token must not leave the Hub
    assert call(upload, "PUT", weights[:-1])[0] == 400
    assert call(upload, "PUT", weights)[0] == 200
    assert call(verify, "POST", {"oid": oid, "size": len(weights) + 1}, token=hub.token)[0] == 404
    assert call(verify, "POST", {"oid": oid, "size": len(weights)}, token=hub.token)[0] == 200
    assert call(commit_url, "POST", commit, token=hub.token)[0] == 200
    assert hub.files("user/repo")["model.safetensors"] == weights
    assert hub.lfs_files("user/repo") == {"model.safetensors"}

    again = json.loads(call(batch_url, "POST", batch, token=hub.token)[2])["objects"][0]
    assert "actions" not in again  # nothing to upload a second time

    status, headers, _ = call(f"{hub.endpoint}/user/repo/resolve/main/model.safetensors", "HEAD")
    assert (status, headers["X-Linked-Etag"], headers["X-Linked-Size"]) == (302, f'"{oid}"', str(len(weights)))
    assert headers["X-Repo-Commit"] == hub.commits("user/repo")[0].oid
    assert call(headers["Location"])[2] == weights


def test_downloads_and_ranges(hub):
    first = hub.add_files("user/repo", {"notes.txt": b"0123456789"})
    second = hub.add_files("user/repo", {"notes.txt": b"changed"})
    url = f"{hub.endpoint}/user/repo/resolve/{first}/notes.txt"
    status, headers, content = call(url, "HEAD")
    blob = hashlib.sha1(b"blob 10\x000123456789").hexdigest()  # as `git hash-object` computes it
    assert (status, content, headers["Content-Length"], headers["ETag"]) == (200, b"", "10", f'"{blob}"')
    assert headers["X-Repo-Commit"] == first
    assert call(url)[2] == b"0123456789"
    assert call(f"{hub.endpoint}/user/repo/resolve/main/notes.txt")[1]["X-Repo-Commit"] == second

    for asked, part, described in (
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=2-3", b"23", "bytes 2-3/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
    ):
        status, headers, content = call(url, Range=asked)
        assert (status, content, headers["Content-Range"]) == (206, part, described)
    status, headers, _ = call(url, Range="bytes=10-")
    assert (status, headers["Content-Range"]) == (416, "bytes */10")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("user/nothing/resolve/main/config.json", "RepoNotFound"),
        ("api/models/user/nothing", "RepoNotFound"),
        ("api/models/nothing", "RepoNotFound"),
        ("datasets/user/repo/resolve/main/notes.txt", "RepoNotFound"),
        ("user/repo/resolve/dev/notes.txt", "RevisionNotFound"),
        ("api/models/user/repo/revision/dev", "RevisionNotFound"),
        ("user/repo/resolve/main/config.json", "EntryNotFound"),
        ("api/models/user/repo/tree/main/folder", "EntryNotFound"),
    ],
)
def test_error_codes(hub, path, code):
    commit = hub.add_files("user/repo", {"notes.txt": b"text"})
    status, headers, _ = call(f"{hub.endpoint}/{path}", token=hub.token)
    assert (status, headers["X-Error-Code"]) == (404, code)
    assert headers["X-Repo-Commit"] == (commit if code == "EntryNotFound" else None)


def test_the_log_and_what_is_not_implemented(hub):
    assert call(f"{hub.endpoint}/api/models/user/repo/discussions?status=open", token=hub.token)[0] == 501
    assert call(f"{hub.endpoint}/api/whoami-v2", token=hub.token)[0] == 200
    method, path, query, status, token, _, storage = hub.requests[0]
    assert (method, path, query) == ("GET", "/api/models/user/repo/discussions", "status=open")
    assert (status, token, storage) == (501, hub.token, False)
    assert [request.path for request in hub.unsupported] == ["/api/models/user/repo/discussions"]
    assert hub.paths("GET") == ["/api/models/user/repo/discussions", "/api/whoami-v2"]
    hub.clear_requests()
    assert hub.requests == []


def test_a_failure_of_the_hub_itself_is_not_swallowed():
    with pytest.raises(AssertionError, match="KeyError"), LoopbackHub() as hub:
        assert call(f"{hub.endpoint}/api/repos/create", "POST", {}, token=hub.token)[0] == 501


def test_the_environment_of_clients(hub, tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "1")
    env = hub.env(tmp_path)
    assert not {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HTTPS_PROXY", "http_proxy"} & set(env)
    assert (env["HF_ENDPOINT"], env["HF_TOKEN"]) == (hub.endpoint, hub.token)
    assert env["HF_HOME"].startswith(str(tmp_path.resolve()))
    assert "HF_TOKEN" not in hub.env(tmp_path, token=None)


def test_run_client_shows_the_output_of_a_failing_client(hub, tmp_path):
    script = """
        import os, sys
        print("to stdout", os.environ["HF_TOKEN"])
        print("to stderr", file=sys.stderr)
        sys.exit(3)
    """
    with pytest.raises(AssertionError, match=f"(?s)exited with 3.*to stdout {hub.token}.*to stderr"):
        run_client(script, hub, tmp_path)
    assert run_client(script, hub, tmp_path, check=False, token="other").stdout == "to stdout other\n"
    with pytest.raises(AssertionError, match="still running after"):
        run_client("import time; time.sleep(60)", hub, tmp_path, timeout=0.5)


# One client that does everything.

CLIENT = """
import json, os, shutil
from pathlib import Path

import torch
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError,
)
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer,
    TrainingArguments,
)

results = {}


def same(left, right):
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def train(model, name, tokenizer=None, **arguments):
    args = TrainingArguments(
        output_dir=name, push_to_hub=True, hub_model_id=f"user/{name}", max_steps=1, learning_rate=0.1,
        per_device_train_batch_size=2, report_to="none", use_cpu=True, disable_tqdm=True, **arguments,
    )
    rows = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 2
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    changed = sum(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert changed, "the step has to change the weights, or the comparisons below mean little"
    Path(name, "readiness.json").write_text(json.dumps({"name": name}))
    return trainer


def forget_downloads():
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# 1. A full model, with a push at a checkpoint and one at the end.
vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, 32)}}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=32,
)
trainer = train(LlamaForCausalLM(config), "tiny", tokenizer, save_strategy="steps", save_steps=1)
commit = trainer.push_to_hub()
results["commit"] = commit.oid
results["repo_id"] = trainer.hub_model_id
loaded = AutoModelForCausalLM.from_pretrained("user/tiny")
results["full model"] = same(trainer.model, loaded)
results["full model by hash"] = same(
    trainer.model, AutoModelForCausalLM.from_pretrained("user/tiny", revision=commit.oid)
)
results["tokenizer"] = AutoTokenizer.from_pretrained("user/tiny")("w3 w5 nothing").input_ids

# 2. An adapter whose base model is on the hub.
base = AutoModelForCausalLM.from_pretrained("user/tiny")
lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
trainer = train(get_peft_model(base, lora), "tiny-lora", save_strategy="no")
trainer.push_to_hub()
forget_downloads()
results["AutoPeft"] = same(trainer.model, AutoPeftModelForCausalLM.from_pretrained("user/tiny-lora"))
forget_downloads()
base = AutoModelForCausalLM.from_pretrained("user/tiny")
results["PeftModel"] = same(trainer.model, PeftModel.from_pretrained(base, "user/tiny-lora"))

# 3. Single files, snapshots and errors.
api = HfApi()
results["readiness"] = json.loads(Path(hf_hub_download("user/tiny", "readiness.json")).read_text())
snapshot = Path(snapshot_download("user/tiny-lora"))
results["snapshot"] = {str(p.relative_to(snapshot)): p.stat().st_size for p in snapshot.rglob("*") if p.is_file()}
results["listed"] = sorted(api.list_repo_files("user/tiny-lora"))
results["history"] = [c.title for c in api.list_repo_commits("user/tiny")]
oldest = api.list_repo_commits("user/tiny")[-1].commit_id
results["oldest"] = sorted(api.list_repo_files("user/tiny", revision=oldest))
info = api.model_info("user/tiny", files_metadata=True)
results["sha"], results["size"] = info.sha, {s.rfilename: s.size for s in info.siblings}
results["whoami"] = api.whoami()["name"]
results["exists"] = [
    api.repo_exists("user/tiny"), api.repo_exists("user/missing"),
    api.file_exists("user/tiny", "config.json"), api.file_exists("user/tiny", "missing.json"),
]

assert isinstance(raised(lambda: hf_hub_download("user/tiny", "missing.json")), EntryNotFoundError)
assert isinstance(raised(lambda: hf_hub_download("user/missing", "config.json")), RepositoryNotFoundError)
assert isinstance(raised(lambda: snapshot_download("user/missing")), RepositoryNotFoundError)
assert isinstance(
    raised(lambda: hf_hub_download("user/tiny", "config.json", revision="missing")), RevisionNotFoundError
)
assert isinstance(raised(lambda: AutoModelForCausalLM.from_pretrained("user/missing")), OSError)
for token in (False, "hf_wrong"):
    for write in (
        lambda: HfApi(token=token).create_repo("user/refused"),
        lambda: HfApi(token=token).upload_file(
            path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="user/tiny"
        ),
    ):
        error = raised(write)
        assert isinstance(error, HfHubHTTPError) and error.response.status_code == 401, repr(error)
assert isinstance(raised(lambda: api.create_repo("stranger/refused")), HfHubHTTPError)

# 4. Branches, deletions and a push that changes nothing.
api.create_repo("user/tiny", exist_ok=True)
api.create_branch("user/tiny", branch="feature/x")
api.create_branch("user/tiny", branch="feature/x", exist_ok=True)
api.upload_file(path_or_fileobj=b"branch", path_in_repo="sub/x.txt", repo_id="user/tiny", revision="feature/x")
results["branch"] = Path(hf_hub_download("user/tiny", "sub/x.txt", revision="feature/x")).read_text()
api.delete_file("readiness.json", "user/tiny", revision="feature/x")
results["branches"] = sorted(b.name for b in api.list_repo_refs("user/tiny").branches)
results["unchanged"] = api.upload_folder(
    folder_path="tiny", repo_id="user/tiny", ignore_patterns=["checkpoint-*"]
).oid
results["paths info"] = [(p.path, type(p).__name__) for p in api.get_paths_info("user/tiny", ["config.json", "none"])]

# 5. An interrupted download goes on where it stopped.
part = Path("part.bin")
from huggingface_hub.file_download import http_get
with part.open("wb") as file:
    file.write(Path("tiny/model.safetensors").read_bytes()[:1000])
    http_get(f"{constants.ENDPOINT}/user/tiny/resolve/main/model.safetensors", file, resume_size=1000)
results["resumed"] = part.read_bytes() == Path("tiny/model.safetensors").read_bytes()
results["local"] = Path("tiny").resolve().as_posix()
Path(os.environ["RESULTS"]).write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The hub after the client has finished, and what the client reported."""
    cache_dir = tmp_path_factory.mktemp("client")
    with LoopbackHub() as hub:
        run_client(CLIENT, hub, cache_dir, env={"RESULTS": str(cache_dir / "results.json")})
        yield hub, json.loads((cache_dir / "results.json").read_text())


@pytest.mark.slow
def test_a_trainer_pushes_and_the_same_weights_come_back(session):
    hub, results = session
    assert results["repo_id"] == "user/tiny"
    assert results["full model"] is True
    assert results["full model by hash"] is True
    assert results["tokenizer"] == [3, 5, 0]
    assert results["commit"] == results["sha"] == hub.commits("user/tiny")[0].oid
    files = hub.files("user/tiny")
    assert {"config.json", "model.safetensors", "README.md", "training_args.bin", "tokenizer.json"} <= set(files)
    assert hub.lfs_files("user/tiny") == {"model.safetensors", "training_args.bin"}
    with open(f"{results['local']}/model.safetensors", "rb") as file:
        assert file.read() == files["model.safetensors"]


@pytest.mark.slow
def test_every_push_is_a_commit(session):
    hub, results = session
    titles = [commit.title for commit in hub.commits("user/tiny")]
    assert titles[0] == "End of training"
    assert titles[-2:] == ["Training in progress, step 1", "initial commit"]
    assert results["history"] == titles
    assert results["oldest"] == [".gitattributes"]
    assert "readiness.json" not in hub.commits("user/tiny")[-2].files
    assert results["unchanged"] == results["commit"]  # no empty commit


@pytest.mark.slow
def test_an_adapter_and_its_base_model_come_from_the_hub(session):
    hub, results = session
    assert results["AutoPeft"] is True
    assert results["PeftModel"] is True
    files = hub.files("user/tiny-lora")
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(files)
    assert "model.safetensors" not in files
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "user/tiny"


@pytest.mark.slow
def test_single_files_and_snapshots(session):
    hub, results = session
    assert results["readiness"] == {"name": "tiny"}
    adapter = hub.files("user/tiny-lora")
    assert results["snapshot"] == {path: len(content) for path, content in adapter.items()}
    assert results["listed"] == sorted(adapter)
    assert results["size"] == {path: len(content) for path, content in hub.files("user/tiny").items()}
    assert results["exists"] == [True, False, True, False]
    assert results["paths info"] == [["config.json", "RepoFile"]]
    assert results["resumed"] is True
    assert any(request.storage and request.range == "bytes=1000-" for request in hub.requests)


@pytest.mark.slow
def test_branches(session):
    hub, results = session
    assert results["branches"] == ["feature/x", "main"]
    assert results["branch"] == "branch"
    branch = hub.files("user/tiny", "feature/x")
    assert branch["sub/x.txt"] == b"branch"
    assert "readiness.json" not in branch
    assert "readiness.json" in hub.files("user/tiny")


@pytest.mark.slow
def test_every_accepted_write_carried_the_token(session):
    hub, results = session
    assert results["whoami"] == "user"
    assert hub.repos() == ["user/tiny", "user/tiny-lora"]
    writes = [r for r in hub.requests if r.method in ("POST", "PUT", "DELETE") and not r.storage and r.status < 300]
    assert {r.token for r in writes if r.path != "/api/validate-yaml"} == {hub.token}
    assert {r.token for r in hub.requests if r.storage} == {None}
    uploads = [r for r in hub.requests if r.storage and r.method == "PUT"]
    verifications = [r for r in hub.requests if r.path.endswith("/info/lfs/objects/verify")]
    assert len(uploads) == len(verifications) > 0


@pytest.mark.slow
def test_the_hub_knows_every_request_of_the_client(session):
    hub, _ = session
    assert hub.unsupported == []
    assert hub.internal_errors == []
