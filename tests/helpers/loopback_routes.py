"""The loopback hub's routes: what it answers to which request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from helpers.loopback_frame import Frame
from helpers.loopback_repos import (
    MAX_REGULAR_SIZE,
    Blob,
    HubError,
    Repo,
    StoredCommit,
    is_ignored,
    tree_id,
    upload_mode,
)

if TYPE_CHECKING:
    pass


class _Reading(Frame):
    """Reading a repository."""

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

    def _entry(self, tree: Mapping[str, Blob], path: str) -> dict:
        """A file or folder as /tree and /paths-info describe it."""
        if path not in tree:
            return {"type": "directory", "oid": tree_id(tree, path), "size": 0, "path": path}
        blob = tree[path]
        entry: dict = {"type": "file", "oid": blob.git_oid, "size": blob.size, "path": path}
        if blob.lfs:
            entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
        return entry

    @staticmethod
    def _folders(tree: Mapping[str, Blob]) -> set[str]:
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


class _Writing(_Reading):
    """Writing to a repository."""

    def _branch_head(self, repo: Repo, branch: str) -> StoredCommit:
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
            mode = upload_mode(file["path"], file["size"], base64.b64decode(file.get("sample", "")))
            answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if gitignore:
                answer["shouldIgnore"] = is_ignored(file["path"], gitignore)
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

    def _apply(self, tree: dict[str, Blob], key: str, value: dict) -> None:
        """One operation of a commit."""
        path = value["path"]
        if key == "file":
            encoded = value.get("encoding") == "base64"
            content = base64.b64decode(value["content"]) if encoded else value["content"].encode()
            if len(content) > MAX_REGULAR_SIZE:
                raise HubError(400, f"{path} is larger than 10 MiB and has to be uploaded with LFS")
            tree[path] = Blob(content, lfs=False)
        elif key == "lfsFile":
            if value.get("algo") != "sha256" or value["oid"] not in self.hub._objects:
                raise HubError(400, f"{path} points to an LFS object that was not uploaded: {value['oid']}")
            content = self.hub._objects[value["oid"]]
            if value.get("size", len(content)) != len(content):
                raise HubError(400, f"{path} has another size than its LFS object")
            tree[path] = Blob(content, lfs=True)
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


class Handler(_Writing):
    """Answers one connection; the routes are the methods whose names begin with ``on_``."""

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
