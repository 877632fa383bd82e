"""Flags of programs that read them by argparse: `--output-dir` and `--output_dir` are the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def with_underscores(argv: Sequence[str] | None = None) -> list[str]:
    """
    Words with the flags as they are declared: --batch-size=4 becomes --batch_size=4, --no_x becomes --no-x. Without
    words those of the program's command line.
    """
    found = []
    for word in sys.argv[1:] if argv is None else argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and len(flag) > 2:
            name = flag[2:].replace("-", "_")
            flag = f"--no-{name[3:]}" if name.startswith("no_") else f"--{name}"
        found.append(flag + equals + value)
    return found
