"""Does it fit? `python -m hf_unlearn.memory` as a verb."""

from __future__ import annotations

from ..memory.__main__ import main as estimate


def main(argv: list[str]) -> int:
    """The exit status: 0, or 1 where nothing could be estimated or it does not fit."""
    return estimate(argv)
