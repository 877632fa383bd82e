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

import os
import re
import secrets
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterable, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import NamedTuple

from helpers.loopback_frame import Request
from helpers.loopback_repos import LFS_PATTERNS, Blob, HubError, Repo, now, upload_mode
from helpers.loopback_routes import Handler


class Commit(NamedTuple):
    """One commit of a repository; ``files`` is the complete tree after it."""

    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    files: dict[str, bytes]


class Server(ThreadingHTTPServer):
    """A threading server that knows its hub and which of the two origins it is."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: LoopbackHub, storage: bool):
        self.hub, self.storage = hub, storage
        super().__init__(("127.0.0.1", 0), Handler)
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
        self._repos: dict[tuple[str, str], Repo] = {}
        self._objects: dict[str, bytes] = {}  # LFS objects by SHA-256
        self._signature = secrets.token_hex(16)  # stands for the signature in the URLs of the second origin
        self.internal_errors: list[str] = []
        self._servers: list[Server] = []

    def __enter__(self) -> LoopbackHub:
        self._servers = [Server(self, storage=False), Server(self, storage=True)]
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
                lfs = upload_mode(path, len(content), content[:512]) == "lfs"
                tree[path] = Blob(bytes(content), lfs)
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

    def _repo(self, repo_type: str, repo_id: str) -> Repo:
        try:
            return self._repos[repo_type, repo_id]
        except KeyError:
            raise HubError(404, "Repository not found", code="RepoNotFound") from None

    def _create(self, repo_type: str, repo_id: str, private: bool) -> Repo:
        repo = self._repos[repo_type, repo_id] = Repo(repo_type, repo_id, private, now())
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
        repo.commit("main", "initial commit", {".gitattributes": Blob(attributes.encode(), lfs=False)})
        return repo


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
