"""A small Hugging Face Hub on the loopback interface, for tests that push and pull over real HTTP.

``LoopbackHub`` answers the requests that ``huggingface_hub`` (and through it ``transformers`` and ``peft``) sends when
``HF_ENDPOINT`` points to it: repositories, commits, LFS uploads, listings and downloads.  Nothing is mocked on the
client's side, so a test covers the whole path of a user who trains, pushes and loads again, without any network.

Three properties of the real Hub are kept on purpose, because clients depend on them:

* every write needs a bearer token, and a namespace that the token may write to;
* large and binary files go through Git LFS: batch call, upload to a *second origin* with a signed URL, verification,
  and only then a commit which refers to the object by its SHA-256; downloads are redirected to that second origin,
  which refuses requests that carry the Hub's token;
* errors carry ``X-Error-Code`` (``RepoNotFound``, ``RevisionNotFound``, ``EntryNotFound``), from which the client
  chooses the exception it raises.

Xet storage is not offered, and ``LoopbackHub.env`` disables it in the client.  Pull requests, gated repositories,
pagination, Spaces settings and the search endpoints are not there: a request that the hub does not know gets status
501 and is listed in ``LoopbackHub.unsupported``.

``huggingface_hub`` reads ``HF_ENDPOINT`` when it is imported, so clients run in a subprocess; see ``run_client``::

    with LoopbackHub() as hub:
        run_client("from huggingface_hub import HfApi; HfApi().create_repo('user/repo')", hub, tmp_path)
        assert ".gitattributes" in hub.files("user/repo")

The module needs the standard library only.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

REPO_TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}

# What the Hub writes into the .gitattributes of a new repository, reduced to formats that occur in model repositories.
LFS_PATTERNS = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.onnx", "*.msgpack", "*.model", "*.gguf"),
    *("*.arrow", "*.parquet", "*.npy", "*.npz", "*.pickle", "*.pkl", "*.gz", "*.xz", "*.zip", "*.zst", "*tfevents*"),
)
MAX_REGULAR_SIZE = 10 * 1024 * 1024


class Request(NamedTuple):
    """One request as the hub received it, in the order of arrival."""

    method: str
    path: str  # as sent (percent-encoded), without the query
    query: str
    status: int
    token: str | None  # the bearer token that came with the request
    range: str | None  # the value of the Range header
    storage: bool  # True for the second origin, where LFS objects live


class Commit(NamedTuple):
    """One commit of a repository; ``files`` is the complete tree after it."""

    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    files: dict[str, bytes]


@dataclass(frozen=True)
class _Blob:
    """The content of one file together with the way in which it is stored."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What Git itself stores for an LFS file."""
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {self.size}", "")
        return "\n".join(lines).encode()

    @cached_property
    def git_oid(self) -> str:
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class _Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    tree: Mapping[str, _Blob]


@dataclass
class _Repo:
    repo_type: str
    repo_id: str
    private: bool
    created_at: str
    commits: dict[str, _Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> _Commit:
        """The commit that a branch, a tag or a full commit hash stands for."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[_Commit]:
        """All commits that lead to ``revision``, newest first."""
        commits = [self.resolve(revision)]
        while commits[-1].parent is not None:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def commit(self, branch: str, title: str, tree: Mapping[str, _Blob], description: str = "") -> _Commit:
        """Add a commit on top of ``branch``."""
        parent, date = self.branches.get(branch), _now()
        listing = sorted((path, blob.git_oid) for path, blob in tree.items())
        identity = json.dumps([self.repo_type, self.repo_id, len(self.commits), parent, title, date, listing])
        oid = hashlib.sha1(identity.encode()).hexdigest()
        self.commits[oid] = _Commit(oid, parent, title, description, date, dict(tree))
        self.branches[branch] = oid
        return self.commits[oid]


class HubError(Exception):
    """An error answer; the handler turns it into a response with the headers that clients look at."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def _upload_mode(path: str, size: int, sample: bytes) -> str:
    """``"lfs"`` or ``"regular"``; empty files are always regular, as they cannot be stored in LFS."""
    name = path.rsplit("/", 1)[-1]
    by_name = any(fnmatch.fnmatchcase(name, pattern) for pattern in LFS_PATTERNS)
    return "lfs" if size and (by_name or size > MAX_REGULAR_SIZE or b"\0" in sample) else "regular"


def _is_ignored(path: str, gitignore: str) -> bool:
    """Whether the plain patterns of a .gitignore (no negation, no anchoring rules) match ``path``."""
    patterns = [line.strip().strip("/") for line in gitignore.splitlines()]
    parts = path.split("/")
    candidates = [*parts, *("/".join(parts[:end]) for end in range(1, len(parts) + 1))]
    return any(
        fnmatch.fnmatchcase(candidate, pattern)
        for pattern in patterns
        if pattern and pattern[0] not in "#!"
        for candidate in candidates
    )


def _tree_id(tree: Mapping[str, _Blob], folder: str) -> str:
    listing = sorted((path, blob.git_oid) for path, blob in tree.items() if path.startswith(f"{folder}/"))
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


class _Server(ThreadingHTTPServer):
    """A threading server that knows its hub and which of the two origins it is."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: LoopbackHub, storage: bool):
        self.hub, self.storage = hub, storage
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without the reverse name look-up of ``HTTPServer``, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address) -> None:
        """Note every error outside of the routes, except that a client went away."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            self.hub.internal_errors.append(traceback.format_exc())


class LoopbackHub:
    """A Hub in this process, for clients on this machine; use it as a context manager.

    Args:
        user: the account to which ``token`` belongs, and its namespace.
        organizations: further namespaces that the account may write to.
        token: the only token that the hub accepts; ``env`` passes it to clients as ``HF_TOKEN``.

    Leaving the context stops the servers.  If a request made the hub itself fail, it raises an ``AssertionError``
    with the traceback, unless another exception is on its way already.
    """

    def __init__(self, user: str = "user", organizations: Iterable[str] = (), token: str = "hf_loopback_token"):
        self.user, self.organizations, self.token = user, tuple(organizations), token
        self._lock = threading.RLock()
        self._log: list[Request] = []
        self._repos: dict[tuple[str, str], _Repo] = {}
        self._objects: dict[str, bytes] = {}  # LFS objects by SHA-256
        self._signature = secrets.token_hex(16)  # stands for the signature in the URLs of the second origin
        self.internal_errors: list[str] = []
        self._servers: list[_Server] = []

    def __enter__(self) -> LoopbackHub:
        self._servers = [_Server(self, storage=False), _Server(self, storage=True)]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, exc_type, exc, tb) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        if exc_type is None and self.internal_errors:
            raise AssertionError("the loopback hub failed on a request:\n" + "\n".join(self.internal_errors))

    # What tests ask.

    @property
    def endpoint(self) -> str:
        """The address to use as ``HF_ENDPOINT``."""
        return self._servers[0].origin

    @property
    def storage_endpoint(self) -> str:
        """The second origin, where LFS objects are uploaded to and downloaded from."""
        return self._servers[1].origin

    @property
    def requests(self) -> list[Request]:
        """A copy of the log: every request that was answered so far."""
        with self._lock:
            return list(self._log)

    @property
    def unsupported(self) -> list[Request]:
        """The requests that this hub does not implement (answered with 501)."""
        return [request for request in self.requests if request.status == 501]

    def clear_requests(self) -> None:
        """Forget the log, for example between two clients."""
        with self._lock:
            self._log.clear()

    def paths(self, method: str) -> list[str]:
        """The paths of all requests with this method, in order."""
        return [request.path for request in self.requests if request.method == method]

    def repos(self, repo_type: str = "model") -> list[str]:
        """The identifiers of all repositories of a type."""
        with self._lock:
            return sorted(repo_id for kind, repo_id in self._repos if kind == repo_type)

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """All files of a revision (branch, tag or commit hash); LFS files with their real content."""
        with self._lock:
            tree = self._repo(repo_type, repo_id).resolve(revision).tree
            return {path: blob.content for path, blob in sorted(tree.items())}

    def lfs_files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> set[str]:
        """The paths of those files that are stored in LFS."""
        with self._lock:
            tree = self._repo(repo_type, repo_id).resolve(revision).tree
            return {path for path, blob in tree.items() if blob.lfs}

    def commits(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """The history of a revision, newest commit first; the last one is the Hub's own "initial commit"."""
        with self._lock:
            return [
                Commit(c.oid, c.parent, c.title, c.description, c.date, {p: b.content for p, b in c.tree.items()})
                for c in self._repo(repo_type, repo_id).history(revision)
            ]

    def add_files(
        self, repo_id: str, files: Mapping[str, bytes], title: str = "Add files", repo_type: str = "model"
    ) -> str:
        """Commit files to ``main`` without a client, creating the repository if need be; returns the commit hash."""
        with self._lock:
            if (repo_type, repo_id) not in self._repos:
                self._create(repo_type, repo_id, private=False)
            repo = self._repo(repo_type, repo_id)
            tree = dict(repo.resolve("main").tree)
            for path, content in files.items():
                lfs = _upload_mode(path, len(content), content[:512]) == "lfs"
                tree[path] = _Blob(bytes(content), lfs)
                if lfs:
                    self._objects[tree[path].sha256] = bytes(content)
            return repo.commit("main", title, tree).oid

    def env(self, cache_dir: str | os.PathLike, token: str | None = "") -> dict[str, str]:
        """The complete environment of a client process.

        It is this process's environment without any setting of the Hugging Face libraries (an offline flag, say) and
        without proxies, plus the hub's address, its token and a private ``HF_HOME`` inside ``cache_dir``.  The root of
        this project is on ``PYTHONPATH``.

        Args:
            cache_dir: a folder of its own for every test; it gets the client's caches.
            token: another token, or ``None`` for a client that is not logged in.
        """
        foreign = re.compile(r"(HF_|HUGGINGFACE_|HUGGING_FACE_|TRANSFORMERS_|PYTORCH_TRANSFORMERS_|XDG_CACHE_HOME)")
        proxy = re.compile(r"(https?|all|no|ftp)_proxy", re.IGNORECASE)
        env = {k: v for k, v in os.environ.items() if not foreign.match(k) and not proxy.fullmatch(k)}
        root = str(Path(__file__).resolve().parents[2])
        env.update(
            HF_ENDPOINT=self.endpoint,
            HF_HOME=str(Path(cache_dir).resolve() / "hf_home"),
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_DISABLE_UPDATE_CHECK="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            NO_PROXY="127.0.0.1,localhost",
            PYTHONPATH=os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")])),
            TOKENIZERS_PARALLELISM="false",
        )
        if token is not None:
            env["HF_TOKEN"] = token or self.token
        env.setdefault("OMP_NUM_THREADS", "1")
        return env

    # State changes, used by the handler while it holds the lock.

    def _repo(self, repo_type: str, repo_id: str) -> _Repo:
        try:
            return self._repos[repo_type, repo_id]
        except KeyError:
            raise HubError(404, "Repository not found", code="RepoNotFound") from None

    def _create(self, repo_type: str, repo_id: str, private: bool) -> _Repo:
        repo = self._repos[repo_type, repo_id] = _Repo(repo_type, repo_id, private, _now())
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
        repo.commit("main", "initial commit", {".gitattributes": _Blob(attributes.encode(), lfs=False)})
        return repo


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; the routes are the methods whose names begin with ``on_``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    ROUTES = (
        (r"/api/whoami-v2", "whoami"),
        (r"/api/validate-yaml", "validate_yaml"),
        (r"/api/repos/(?P<operation>create|delete)", "repos"),
        (
            (
                r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+(?:/[^/]+)?)"
                r"/(?P<action>revision|tree|paths-info|commits|preupload|commit|branch|tag)"
                r"/(?P<revision>[^/]+)(?:/(?P<path>.*))?"
            ),
            "revision",
        ),
        (r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)/refs", "refs"),
        (r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+(?:/[^/]+)?)", "info"),
        (
            r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+?)\.git/info/lfs/objects/(?P<step>batch|verify)",
            "lfs",
        ),
        (
            r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
            "resolve",
        ),
    )

    # The frame around every request.

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def log_message(self, format, *args) -> None:
        """Say nothing: the hub keeps its own log."""

    def _answer(self) -> None:
        self.hub = self.server.hub
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        self.body = self._read_body()
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        self.bearer = credentials.strip() if scheme.lower() == "bearer" else None
        try:
            with self.hub._lock:
                status, headers, content = self._dispatch()
        except HubError as error:
            headers = {"X-Error-Message": error.message, **error.headers, "Content-Type": "application/json"}
            if error.code is not None:
                headers["X-Error-Code"] = error.code
            status, content = error.status, json.dumps({"error": error.message}).encode()
        except Exception:
            report = f"{self.command} {self.path}\n{traceback.format_exc()}"
            self.hub.internal_errors.append(report)
            status, headers, content = 501, {"Content-Type": "text/plain"}, report.encode()
        with self.hub._lock:  # logged before the client can see the answer
            self.hub._log.append(
                Request(
                    *(self.command, self.url.path, self.url.query, status, self.bearer, self.headers.get("Range")),
                    storage=self.server.storage,
                )
            )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _read_body(self) -> bytes:
        """The whole request body, also one that is sent in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)

    def _dispatch(self) -> tuple[int, dict[str, str], bytes]:
        if self.server.storage:
            return self._storage()
        if self.bearer not in (None, self.hub.token):
            raise HubError(401, "Invalid credentials in Authorization header")
        for pattern, name in self.ROUTES:
            if match := re.fullmatch(pattern, self.url.path):
                values = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                return getattr(self, f"on_{name}")(**values)
        return self._not_implemented()

    def _not_implemented(self):
        raise HubError(501, f"the loopback hub does not implement {self.command} {self.url.path}")

    def _json(self, value, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
        content = json.dumps(value).encode()
        return status, {"Content-Type": "application/json; charset=utf-8", **headers}, content

    def _payload(self) -> dict:
        """The request's JSON object."""
        try:
            payload = json.loads(self.body or b"{}")
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            raise HubError(400, "the request's body is not a JSON object")
        return payload

    def _methods(self, *methods: str) -> None:
        if self.command not in methods:
            self._not_implemented()

    def _authorize_write(self, repo_id: str) -> None:
        """Only a logged-in client may write, and only to its own namespaces."""
        if self.bearer is None:
            raise HubError(401, "Invalid username or password.")
        if repo_id.split("/")[0] not in (self.hub.user, *self.hub.organizations):
            raise HubError(403, f"You don't have the rights to write to {repo_id}")

    def _readable(self, kind: str, repo_id: str) -> _Repo:
        """The repository, if it exists and this client may see it; else the same answer in both cases."""
        try:
            repo = self.hub._repo(REPO_TYPES[kind], repo_id)
            if repo.private and self.bearer is None:
                raise HubError(404, "private", code="RepoNotFound")
        except HubError:
            if self.bearer is None:
                raise HubError(401, "Invalid username or password.", code="RepoNotFound") from None
            raise HubError(404, "Repository not found", code="RepoNotFound") from None
        return repo

    def _writable(self, kind: str, repo_id: str) -> _Repo:
        if self.bearer is None:
            raise HubError(401, "Invalid username or password.")
        repo = self._readable(kind, repo_id)
        self._authorize_write(repo_id)
        return repo

    # Account and repositories.

    def on_whoami(self):
        self._methods("GET")
        if self.bearer is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in self.hub.organizations]
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        return self._json({"type": "user", "name": self.hub.user, "fullname": "", "orgs": orgs, "auth": token})

    def on_validate_yaml(self):
        """Accept every model card whose metadata block is closed; YAML itself is not checked."""
        self._methods("POST")
        content = self._payload().get("content", "")
        if content.startswith("---\n") and "\n---" not in content[3:]:
            return self._json({"errors": [{"message": "the metadata block is not closed"}], "warnings": []}, 400)
        return self._json({"errors": [], "warnings": []})

    def on_repos(self, operation: str):
        payload = self._payload()
        repo_type = payload.get("type") or "model"
        repo_id = f"{payload.get('organization') or self.hub.user}/{payload['name']}"
        self._authorize_write(repo_id)
        if operation == "delete":
            self._methods("DELETE")
            self.hub._repo(repo_type, repo_id)
            del self.hub._repos[repo_type, repo_id]
            return 200, {"Content-Type": "text/plain"}, b"OK"
        self._methods("POST")
        prefix = "" if repo_type == "model" else f"{repo_type}s/"
        answer = {"url": f"{self.server.origin}/{prefix}{repo_id}", "name": repo_id}
        if (repo_type, repo_id) in self.hub._repos:
            message = "You already created this repo"  # the client reads `url` from this answer too (exist_ok)
            return self._json({"error": message, **answer}, 409, **{"X-Error-Message": message})
        private = payload.get("visibility") == "private" or bool(payload.get("private"))
        self.hub._create(repo_type, repo_id, private)
        return self._json(answer)

    # Reading a repository.

    def on_info(self, kind: str, repo: str, revision: str = "main"):
        self._methods("GET", "HEAD")
        found = self._readable(kind, repo)
        commit = found.resolve(revision)
        siblings = []
        for path, blob in sorted(commit.tree.items()):
            sibling: dict = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"size": blob.size, "blobId": blob.git_oid}
                if blob.lfs:
                    sibling["lfs"] = {"size": blob.size, "sha256": blob.sha256, "pointerSize": len(blob.pointer)}
            siblings.append(sibling)
        return self._json(
            {
                "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
                "id": repo,
                **({"modelId": repo} if kind == "models" else {}),
                "author": repo.split("/")[0],
                "sha": commit.oid,
                "createdAt": found.created_at,
                "lastModified": commit.date,
                "private": found.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
            }
        )

    def on_revision(self, kind: str, repo: str, action: str, revision: str, path: str = ""):
        """All calls under /api/<type>/<repository>/<action>/<revision>."""
        if action == "revision":
            return self.on_info(kind, repo, revision)
        return getattr(self, "_" + action.replace("-", "_"))(kind, repo, revision, path)

    def _entry(self, tree: Mapping[str, _Blob], path: str) -> dict:
        """A file or folder as /tree and /paths-info describe it."""
        if path not in tree:
            return {"type": "directory", "oid": _tree_id(tree, path), "size": 0, "path": path}
        blob = tree[path]
        entry: dict = {"type": "file", "oid": blob.git_oid, "size": blob.size, "path": path}
        if blob.lfs:
            entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        return entry

    @staticmethod
    def _folders(tree: Mapping[str, _Blob]) -> set[str]:
        return {path[:cut] for path in tree for cut in range(len(path)) if path[cut] == "/"}

    def _tree(self, kind: str, repo: str, revision: str, path: str):
        self._methods("GET")
        commit = self._readable(kind, repo).resolve(revision)
        paths = set(commit.tree) | self._folders(commit.tree)
        path = path.strip("/")
        if path and path not in self._folders(commit.tree):
            raise HubError(
                404, f'{path} does not exist on "{revision}"', "EntryNotFound", {"X-Repo-Commit": commit.oid}
            )
        inside = {p for p in paths if p.startswith(f"{path}/")} if path else paths
        if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            inside = {p for p in inside if "/" not in p[len(path) + 1 if path else 0 :]}
        return self._json([self._entry(commit.tree, p) for p in sorted(inside)], **{"X-Repo-Commit": commit.oid})

    def _paths_info(self, kind: str, repo: str, revision: str, path: str):
        self._methods("POST")
        commit = self._readable(kind, repo).resolve(revision)
        if "json" in self.headers.get("Content-Type", ""):
            wanted = self._payload().get("paths", [])
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        known = set(commit.tree) | self._folders(commit.tree)
        entries = [self._entry(commit.tree, p.strip("/")) for p in wanted if p.strip("/") in known]
        return self._json(entries, **{"X-Repo-Commit": commit.oid})

    def _commits(self, kind: str, repo: str, revision: str, path: str):
        self._methods("GET")
        history = self._readable(kind, repo).history(revision)
        authors = [{"user": self.hub.user}]
        return self._json(
            [
                {"id": c.oid, "title": c.title, "message": c.description, "date": c.date, "authors": authors}
                for c in history
            ],
            **{"X-Total-Count": str(len(history))},
        )

    def on_refs(self, kind: str, repo: str):
        self._methods("GET")
        found = self._readable(kind, repo)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in found.branches.items()
        ]
        tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in found.tags.items()]
        return self._json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def on_resolve(self, repo: str, revision: str, path: str, kind: str = "models"):
        """A file: regular ones are sent from here, LFS ones from the second origin."""
        self._methods("GET", "HEAD")
        commit = self._readable(kind, repo).resolve(revision)
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if path not in commit.tree:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        blob = commit.tree[path]
        if blob.lfs:
            location = f"{self.hub.storage_endpoint}/{blob.sha256}?signature={self.hub._signature}"
            linked = {"X-Linked-Size": str(blob.size), "X-Linked-Etag": f'"{blob.sha256}"'}
            return 302, {**headers, **linked, "Location": location}, b"Found. Redirecting"
        return self._content(blob.content, {**headers, "ETag": f'"{blob.etag}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The bytes of a file, or the one range that the client asks for."""
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").strip())
        if not match or match[0] == "bytes=-":
            return 200, headers, content
        if match[1]:
            start = int(match[1])
            stop = min(int(match[2]) + 1, len(content)) if match[2] else len(content)
        else:
            start, stop = max(len(content) - int(match[2]), 0), len(content)
        if start >= stop:
            raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return 206, headers, content[start:stop]

    # Writing to a repository.

    def _branch_head(self, repo: _Repo, branch: str) -> _Commit:
        if branch not in repo.branches:
            raise HubError(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
        if "create_pr" in self.query:
            raise HubError(501, "the loopback hub does not implement pull requests")
        return repo.commits[repo.branches[branch]]

    def _preupload(self, kind: str, repo: str, revision: str, path: str):
        """Tell the client, file by file, how to upload it and what is there already."""
        self._methods("POST")
        head = self._branch_head(self._writable(kind, repo), revision)
        payload, files = self._payload(), []
        gitignore = payload.get("gitIgnore")
        if gitignore is None and ".gitignore" in head.tree:
            gitignore = head.tree[".gitignore"].content.decode()
        for file in payload["files"]:
            mode = _upload_mode(file["path"], file["size"], base64.b64decode(file.get("sample", "")))
            answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if gitignore:
                answer["shouldIgnore"] = _is_ignored(file["path"], gitignore)
            if file["path"] in head.tree:
                answer["oid"] = head.tree[file["path"]].etag
            files.append(answer)
        return self._json({"files": files, "commitOid": head.oid})

    def _commit(self, kind: str, repo: str, revision: str, path: str):
        """One commit: a header line, then one line for every operation."""
        self._methods("POST")
        found = self._writable(kind, repo)
        head = self._branch_head(found, revision)
        try:
            lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
            header = next(line["value"] for line in lines if line["key"] == "header")
        except (ValueError, StopIteration):
            raise HubError(400, "the commit is not ndjson with a header line") from None
        if header.get("parentCommit") and not head.oid.startswith(header["parentCommit"]):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(head.tree)
        for line in lines:
            if line["key"] != "header":
                self._apply(tree, line["key"], line["value"])
        made = found.commit(revision, header["summary"], tree, header.get("description", ""))
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.server.origin}/{prefix}{repo}/commit/{made.oid}"
        return self._json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, tree: dict[str, _Blob], key: str, value: dict) -> None:
        """One operation of a commit."""
        path = value["path"]
        if key == "file":
            encoded = value.get("encoding") == "base64"
            content = base64.b64decode(value["content"]) if encoded else value["content"].encode()
            if len(content) > MAX_REGULAR_SIZE:
                raise HubError(400, f"{path} is larger than 10 MiB and has to be uploaded with LFS")
            tree[path] = _Blob(content, lfs=False)
        elif key == "lfsFile":
            if value.get("algo") != "sha256" or value["oid"] not in self.hub._objects:
                raise HubError(400, f"{path} points to an LFS object that was not uploaded: {value['oid']}")
            content = self.hub._objects[value["oid"]]
            if value.get("size", len(content)) != len(content):
                raise HubError(400, f"{path} has another size than its LFS object")
            tree[path] = _Blob(content, lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            folder = path.strip("/") + "/"
            doomed = [p for p in tree if (p == path if key == "deletedFile" else p.startswith(folder))]
            if not doomed:
                noun = "file" if key == "deletedFile" else "folder"
                raise HubError(404, f"A {noun} with this name doesn't exist: {path}", code="EntryNotFound")
            for p in doomed:
                del tree[p]
        else:
            raise HubError(501, f"the loopback hub does not implement the commit operation {key}")

    def _branch(self, kind: str, repo: str, revision: str, path: str):
        return self._set_ref("branch", kind, repo, revision, self._payload().get("startingPoint") or "main")

    def _tag(self, kind: str, repo: str, revision: str, path: str):
        """To create a tag, the path names its target and the body the tag; to delete it, the path names the tag."""
        if self.command == "DELETE":
            return self._set_ref("tag", kind, repo, revision, "main")
        return self._set_ref("tag", kind, repo, self._payload()["tag"], revision)

    def _set_ref(self, noun: str, kind: str, repo: str, name: str, target: str):
        self._methods("POST", "DELETE")
        found = self._writable(kind, repo)
        refs = found.branches if noun == "branch" else found.tags
        if self.command == "DELETE":
            if name not in refs:
                raise HubError(404, f"Invalid rev id: {name}", code="RevisionNotFound")
            if (noun, name) == ("branch", "main"):
                raise HubError(403, "Cannot delete the default branch")
            del refs[name]
        elif name in refs:
            raise HubError(409, f"The {noun} {name} already exists")
        else:
            refs[name] = found.resolve(target).oid
        return 200, {"Content-Type": "text/plain"}, b"OK"

    # Git LFS.

    def on_lfs(self, repo: str, step: str, kind: str = "models"):
        """The batch call, which hands out signed upload URLs, and the verification after an upload."""
        self._methods("POST")
        self._writable(kind, repo)
        payload = self._payload()
        if step == "verify":
            if len(self.hub._objects.get(payload["oid"], b"")) != payload["size"]:
                raise HubError(404, f"the object {payload['oid']} is missing or has another size")
            return self._json({"success": True})
        if payload["operation"] != "upload" or "basic" not in payload.get("transfers", ["basic"]):
            raise HubError(501, "the loopback hub implements only basic LFS uploads")
        objects = []
        for item in payload["objects"]:
            answer: dict = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub._objects:  # else there is nothing left to do
                upload = f"{self.hub.storage_endpoint}/{item['oid']}?signature={self.hub._signature}"
                prefix = "" if kind == "models" else f"{kind}/"
                verify = f"{self.server.origin}/{prefix}{quote(repo)}.git/info/lfs/objects/verify"
                answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(answer)
        return self._json({"transfer": "basic", "objects": objects}, **{"Content-Type": "application/vnd.git-lfs+json"})

    def _storage(self) -> tuple[int, dict[str, str], bytes]:
        """The second origin: it knows objects and signatures, and must never see the Hub's token."""
        oid = self.url.path.strip("/")
        if self.bearer is not None:
            raise HubError(400, "the Hub's token was sent to the storage origin")
        if self.query.get("signature") != [self.hub._signature]:
            raise HubError(403, "the URL is not signed")
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise HubError(400, "the uploaded bytes do not have the announced SHA-256")
            self.hub._objects[oid] = self.body
            return 200, {"ETag": f'"{oid}"'}, b""
        self._methods("GET", "HEAD")
        if oid not in self.hub._objects:
            raise HubError(404, "no such object")
        return self._content(self.hub._objects[oid], {"ETag": f'"{oid}"'})


def run_client(
    script: str,
    hub: LoopbackHub,
    cache_dir: str | os.PathLike,
    *,
    token: str | None = "",
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    check: bool = True,
) -> subprocess.CompletedProcess:
    """Run a Python script as a client of ``hub``, in a process of its own.

    The script is dedented, stored as ``client.py`` in a new folder below ``cache_dir`` and run there by this
    interpreter, so that relative paths in it stay inside ``cache_dir``.  Caches (``HF_HOME``) are shared by all
    clients with the same ``cache_dir``.

    Args:
        script: Python source.
        hub: the hub that the client talks to.
        cache_dir: a temporary folder, such as pytest's ``tmp_path``.
        token: another token than the hub's, or ``None`` for a client that is not logged in.
        env: further environment variables, which take precedence.
        timeout: seconds after which the client is killed.
        check: fail if the client does.

    Returns:
        The finished process with ``stdout`` and ``stderr`` as text.

    Raises:
        AssertionError: if the client fails (with ``check``) or takes too long; the message has its whole output and
            the end of the hub's log.
    """
    runs = Path(cache_dir) / "clients"
    runs.mkdir(parents=True, exist_ok=True)
    folder = runs / f"{len(list(runs.iterdir()))}-{secrets.token_hex(4)}"
    folder.mkdir()
    (folder / "client.py").write_text(textwrap.dedent(script), encoding="utf-8")

    def report(problem: str, stdout, stderr) -> str:
        def text(output) -> str:
            return output.decode(errors="replace") if isinstance(output, bytes) else output or ""

        log = "\n".join(f"{r.status} {r.method} {r.path}" for r in hub.requests[-40:])
        return f"{problem}\n--- stdout\n{text(stdout)}\n--- stderr\n{text(stderr)}\n--- last requests\n{log}"

    try:
        process = subprocess.run(
            [sys.executable, "client.py"],
            cwd=folder,
            env={**hub.env(cache_dir, token=token), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        problem = f"the client was still running after {timeout:g} s"
        raise AssertionError(report(problem, expired.stdout, expired.stderr)) from None
    if check and process.returncode != 0:
        raise AssertionError(report(f"the client exited with {process.returncode}", process.stdout, process.stderr))
    return process
