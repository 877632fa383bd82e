"""What the loopback hub stores: repositories, their commits and files, and which of these belong into Git LFS."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

REPO_TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}

# What the Hub writes into the .gitattributes of a new repository, reduced to formats that occur in model repositories.
LFS_PATTERNS = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.onnx", "*.msgpack", "*.model", "*.gguf"),
    *("*.arrow", "*.parquet", "*.npy", "*.npz", "*.pickle", "*.pkl", "*.gz", "*.xz", "*.zip", "*.zst", "*tfevents*"),
)
MAX_REGULAR_SIZE = 10 * 1024 * 1024


@dataclass(frozen=True)
class Blob:
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
class StoredCommit:
    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    tree: Mapping[str, Blob]


@dataclass
class Repo:
    repo_type: str
    repo_id: str
    private: bool
    created_at: str
    commits: dict[str, StoredCommit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> StoredCommit:
        """The commit that a branch, a tag or a full commit hash stands for."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[StoredCommit]:
        """All commits that lead to ``revision``, newest first."""
        commits = [self.resolve(revision)]
        while commits[-1].parent is not None:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def commit(self, branch: str, title: str, tree: Mapping[str, Blob], description: str = "") -> StoredCommit:
        """Add a commit on top of ``branch``."""
        parent, date = self.branches.get(branch), now()
        listing = sorted((path, blob.git_oid) for path, blob in tree.items())
        identity = json.dumps([self.repo_type, self.repo_id, len(self.commits), parent, title, date, listing])
        oid = hashlib.sha1(identity.encode()).hexdigest()
        self.commits[oid] = StoredCommit(oid, parent, title, description, date, dict(tree))
        self.branches[branch] = oid
        return self.commits[oid]


class HubError(Exception):
    """An error answer; the handler turns it into a response with the headers that clients look at."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def upload_mode(path: str, size: int, sample: bytes) -> str:
    """``"lfs"`` or ``"regular"``; empty files are always regular, as they cannot be stored in LFS."""
    name = path.rsplit("/", 1)[-1]
    by_name = any(fnmatch.fnmatchcase(name, pattern) for pattern in LFS_PATTERNS)
    return "lfs" if size and (by_name or size > MAX_REGULAR_SIZE or b"\0" in sample) else "regular"


def is_ignored(path: str, gitignore: str) -> bool:
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


def tree_id(tree: Mapping[str, Blob], folder: str) -> str:
    listing = sorted((path, blob.git_oid) for path, blob in tree.items() if path.startswith(f"{folder}/"))
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()
