"""TOFU's own measures from its evaluation logs: `python -m hf_unlearn.evaluation tofu` as a verb, or by a YAML file."""

from __future__ import annotations

from ..evaluation.__main__ import main as measures_from_logs
from .parsing import names_a_file, read_flags


def main(argv: list[str]) -> int:
    """The exit status: 0, or 1 for logs that cannot be measured."""
    words = read_flags("tofu", argv) if names_a_file(argv) else argv
    return measures_from_logs(["tofu", *words], "hf-unlearn")
