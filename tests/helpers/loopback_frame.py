"""What the loopback hub does around every request: the log, who may read and write, how errors are answered."""

from __future__ import annotations

import json
import re
import traceback
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.loopback_repos import REPO_TYPES, HubError, Repo

if TYPE_CHECKING:
    from helpers.loopback_hub import Server


class Request(NamedTuple):
    """One request as the hub received it, in the order of arrival."""

    method: str
    path: str  # as sent (percent-encoded), without the query
    query: str
    status: int
    token: str | None  # the bearer token that came with the request
    range: str | None  # the value of the Range header
    storage: bool  # True for the second origin, where LFS objects live


class Frame(BaseHTTPRequestHandler):
    """What is done around every request: the log, who may read and write, how errors are answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: Server

    ROUTES: tuple[tuple[str, str], ...] = ()

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

    def _readable(self, kind: str, repo_id: str) -> Repo:
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

    def _writable(self, kind: str, repo_id: str) -> Repo:
        if self.bearer is None:
            raise HubError(401, "Invalid username or password.")
        repo = self._readable(kind, repo_id)
        self._authorize_write(repo_id)
        return repo
