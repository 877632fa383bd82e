"""TOFU's own measures from its evaluation logs: `python -m hf_unlearn.evaluation tofu` as a verb."""

from __future__ import annotations

from ..evaluation.__main__ import main as measures_from_logs


def main(argv: list[str]) -> int:
    """The exit status: 0, or 1 for logs that cannot be measured."""
    return measures_from_logs(["tofu", *argv])
