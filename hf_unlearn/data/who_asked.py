"""What of a request (as data, by `asked`) tells who made it. Light, since the report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def names(request: Mapping[str, Any] | None) -> list[str]:
    """Values of a request that may tell who asked: people, or ids of rows; no classes."""
    return list((request or {}).get("values") or []) if (request or {}).get("by") != "class" else []


def without_names(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without what may tell who asked; how many values were named stays."""
    return {**request, "values": []} if names(request) else dict(request)
