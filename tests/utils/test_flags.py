"""`--output-dir` and `--output_dir` are the same flag, of every program here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_unlearn.memory.__main__ import build_parser
from hf_unlearn.utils.flags import with_underscores

ROOT = Path(__file__).resolve().parents[2]
READERS = [path for room in ("hf_unlearn", "recipes") for path in (ROOT / room).rglob("*.py")]
READERS = [path for path in READERS if re.search(r"\.parse_args\(", path.read_text(encoding="utf-8"))]


def test_flags_are_read_with_dashes_and_with_underscores():
    words = ["--batch-size=4-5", "--no_drawn", "--no-bf16", "--x", "a-b", "-h", "--", "--hidden_size", "-3"]
    assert with_underscores(words) == [
        *("--batch_size=4-5", "--no-drawn", "--no-bf16", "--x", "a-b", "-h", "--", "--hidden_size", "-3")
    ]


def test_without_words_those_of_the_command_line_are_read(monkeypatch):
    from recipes.tools import benchmark

    monkeypatch.setattr("sys.argv", ["benchmark.py", "--hidden-size", "64", "--length", "8"])
    assert with_underscores() == ["--hidden_size", "64", "--length", "8"]
    assert benchmark.arguments().hidden_size == 64


def test_the_estimate_takes_either():
    words = ["--batch-size", "4", "--config-overrides=hidden_size=8", "--no_gradient_checkpointing"]
    read = build_parser("memory").parse_args(with_underscores(words))
    assert (read.batch_size, read.config_overrides, read.gradient_checkpointing) == (4, "hidden_size=8", False)


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_program_reads_them_so(path):
    text = path.read_text(encoding="utf-8")
    assert text.count(".parse_args(with_underscores(") == len(re.findall(r"\.parse_args\(", text))
    assert not re.search(r'add_argument\(\s*"--\w+-', text)  # declared with underscores
