"""The command `hf-unlearn`: one verb, then that verb's own flags."""

from __future__ import annotations

import difflib
import sys
from functools import partial
from importlib import import_module

from . import running
from .help import help_text

VERBS = {  # verb -> (module that has its `main`, what it does)
    "ready": (".ready", "train a model ready for deletion requests (or a plain or retrained one to compare with)"),
    "unlearn": (".unlearn", "take rows out of a trained model"),
    "plan": (".plan", "say what a request would cost, by every way that there is, before anything runs"),
    "verify": (".verify", "train again without the deleted rows, and compare the weights bit for bit"),
    "evaluate": (".evaluate", "measure models on the same rows, attack them, write a report"),
    "memory": (".memory", "estimate what a run needs, from a model's config alone"),
    "objectives": (".objectives", "list what a request can minimise: formula, source, needs, bound, cost"),
    "tofu": (".tofu", "model utility and forget quality of TOFU from the benchmark's own logs"),
}
ARGPARSE = ("memory", "objectives", "tofu")  # have a help of their own
LISTS = ("objectives",)  # read no rows and no recipe, so that there is nothing to print of it


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {words}" for verb, (_, words) in VERBS.items()]
    return "\n".join(
        [
            "usage: hf-unlearn VERB [--config FILE.yaml] [--flag value …]",
            "",
            *lines,
            "",
            "`hf-unlearn VERB --help` lists a verb's flags; `hf-unlearn --version` says the version.",
            "`hf-unlearn VERB … --print_config` says what it makes of flags and file, and ends.",
            "On several devices: `accelerate launch -m hf_unlearn VERB …`.",
            "First steps, on embedded data: hf-unlearn ready --model_type llama --forget_column person "
            "--forget_fraction 0.1 --output_dir outputs/try",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        (sys.stdout if argv else sys.stderr).write(usage() + "\n")
        return 0 if argv else 2
    if argv[0] == "--version":
        import hf_unlearn

        sys.stdout.write(f"hf-unlearn {hf_unlearn.__version__}\n")
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        sys.stderr.write(f"hf-unlearn: there is no verb {verb!r}.{hint}\n\n{usage()}\n")
        return 2
    run(verb, rest, f"hf-unlearn {verb}")
    return 0


def run(verb: str, argv: list[str], program: str) -> None:
    """
    Runs a verb, or says its help.

    Args:
        program: how it was started, for the help: "python recipes/ready.py".

    Raises:
        SystemExit: with another status than 0, or a message, where it did not end well.
    """
    module = import_module(VERBS[verb][0], __package__)
    if verb not in ARGPARSE and (words := {"-h", "--help", "--help=all"} & set(argv)):
        everything = "--help=all" in words or argv[argv.index(next(iter(words))) + 1 :][:1] == ["all"]
        sys.stdout.write(help_text(verb, program, module.__doc__, everything))
        return
    if verb not in LISTS and any(word.replace("-", "_").startswith("__print_config") for word in argv):
        from . import print_config

        running.run(partial(print_config.main, verb), argv)
        return
    running.run(module.main, argv)
