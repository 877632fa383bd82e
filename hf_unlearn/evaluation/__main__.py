"""`python -m hf_unlearn.evaluation tofu --logs A.json --retrained B.json`: benchmark measures from saved logs."""

from __future__ import annotations

import argparse
import json
import sys

from ..utils.flags import with_underscores


def main(arguments: list[str] | None = None, program: str = "python -m hf_unlearn.evaluation") -> int:
    """The command line; the exit status: 0, or 1 for input that cannot be measured (argparse leaves with 2)."""
    parser = argparse.ArgumentParser(prog=program, description="Measures from saved logs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    tofu = commands.add_parser(
        "tofu",
        help="model utility and forget quality of the TOFU benchmark, as JSON",
        description="Model utility and forget quality of the TOFU benchmark (Maini et al. 2024, arXiv 2401.06121) from "
        "its aggregated evaluation logs. Prints JSON: model_utility, forget_quality, ks_statistic, parts.",
        allow_abbrev=False,
    )
    tofu.add_argument("--logs", required=True, metavar="A.json", help="the log of the model")
    tofu.add_argument(
        "--retrained",
        metavar="B.json",
        help="the log of a model retrained without the forget rows; else forget_quality, ks_statistic: null",
    )
    args = parser.parse_args(with_underscores(arguments))
    try:
        text = json.dumps(_tofu(args.logs, args.retrained), indent=2, allow_nan=False)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


def _tofu(path: str, retrained_path: str | None) -> dict:
    from .measures.tofu_logs import forget_quality, model_utility, read_logs

    logs = read_logs(path)
    parts = _of(path, model_utility, logs)
    quality = {}
    if retrained_path is not None:
        quality = _of(f"{path}, {retrained_path}", forget_quality, logs, read_logs(retrained_path))
    return {
        "model_utility": parts.pop("Model Utility"),
        "forget_quality": quality.get("Forget Quality"),
        "ks_statistic": quality.get("KS Test Forget"),
        "parts": parts,
    }


def _of(files: str, function, *logs: dict) -> dict[str, float]:
    try:
        return function(*logs)
    except ValueError as error:
        raise ValueError(f"{files}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
