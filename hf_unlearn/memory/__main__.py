"""
Memory of a run, estimated before it starts.

    python -m hf_unlearn.memory --model meta-llama/Llama-3.1-8B --peft lora:r=16 --dtype bfloat16 \\
        --batch_size 1 --length 4096 --gradient_checkpointing --memory 24GB

One process's share, for a step of plain training, of readiness and of unlearning. The estimate takes the steps on
tensors without data: it needs the model's config and no weights, no GPU and, with a config file, no network. On the CPU
it is within 2 % of the measured peaks of language models and text classifiers, and within 5 % for a tiny ViT
(`tests/memory/`). Not measured: GPUs, and FSDP2 and ZeRO, which are by formula.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields

from ..utils.checks import ArgumentError
from ..utils.flags import with_underscores
from .advice import advice
from .estimate import Estimate, estimate
from .run import STEP_VERBS, Run
from .table import bytes_as_text, parse_bytes, table

# Subject of the help -> the first of its flags, in the order of `Run`.
SUBJECTS = {"model": "model", "step": "batch_size", "device": "engine", "ready and unlearn": "request_rows"}
OF_DEVICE = ("device",)  # though it comes last


def build_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description=__doc__.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups = {subject: parser.add_argument_group(subject) for subject in SUBJECTS}
    subject = "model"
    for f in fields(Run):
        subject = next((name for name, first in SUBJECTS.items() if first == f.name), subject)
        group = groups["device" if f.name in OF_DEVICE else subject]
        text = f.metadata["help"] + ("" if f.default in (None, "", False) else f" Default: {f.default}.")
        if f.name == "verb":
            text = f"{', '.join(STEP_VERBS)}; default: all."
            group.add_argument("--verb", nargs="+", choices=STEP_VERBS, default=list(STEP_VERBS), help=text)
        elif "bool" in f.type:
            group.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, default=f.default, help=text)
        else:
            kind = int if "int" in f.type else str
            group.add_argument(f"--{f.name}", type=kind, default=f.default, help=text)
    groups["device"].add_argument(
        "--memory", type=parse_bytes, help="Of one device, like 24GB (10⁹) or 24GiB: does it fit?"
    )
    parser.add_argument("--json", action="store_true", help="One JSON list instead of the table.")
    return parser


def main(argv: list[str], program: str = "python -m hf_unlearn.memory") -> int:
    """Estimates what the flags describe; the exit status: 1 where nothing could be estimated or it does not fit."""
    values = vars(build_parser(program).parse_args(with_underscores(argv)))
    memory, as_json, verbs = values.pop("memory"), values.pop("json"), values.pop("verb")
    return report([Run(**values, verb=verb) for verb in verbs], memory, as_json)


def report(runs: list[Run], memory: int | None = None, as_json: bool = False) -> int:
    """Estimates runs; writes a table or JSON, and what would make fit what does not. The exit status as of [`main`]."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    logging.getLogger("torch._subclasses.fake_tensor").disabled = True  # what goes wrong there is said below
    warnings.simplefilter("ignore")
    found: list[Estimate] = []
    problems: dict[str, list[str]] = {}
    for run in runs:
        if sys.stderr.isatty():
            sys.stderr.write(f"taking the steps of {run.verb!r} on tensors without data …\n")
        try:
            found.append(estimate(run))
        except ArgumentError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(run.verb)
    if as_json:
        sys.stdout.write(json.dumps([e.to_dict() for e in found], indent=2) + "\n")
    elif found:
        sys.stdout.write(table(found, memory) + "\n")
        for e in found:
            if memory is not None and e.needed > memory:
                _advise(e, memory)
    for problem, of in problems.items():
        sys.stderr.write(f"{', '.join(of)}: {problem}\n")
    return 0 if found and (memory is None or all(e.needed <= memory for e in found)) else 1


def _advise(e: Estimate, memory: int) -> None:
    """Writes what would make it fit."""
    steps = advice(e, memory)
    for words, after in steps:
        sys.stdout.write(f"  {e.run.verb} with {words}: {bytes_as_text(after.needed)}\n")
    if not steps or steps[-1][1].needed > memory:
        sys.stdout.write(f"  {e.run.verb}: more is needed: shorter rows, or --engine fsdp2.\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
