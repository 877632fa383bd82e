"""The command `hf-unlearn`: one verb, then that verb's own flags."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = {  # verb -> (module that has its `main`, what it does)
    "ready": (".ready", "train a model ready for deletion requests (or a plain or retrained one to compare with)"),
    "unlearn": (".unlearn", "take rows out of a trained model"),
    "evaluate": (".evaluate", "measure models on the same rows, attack them, write a report"),
    "memory": ("..memory.__main__", "estimate what a run needs, from a model's config alone"),
    "tofu": ("..evaluation.__main__", "model utility and forget quality of TOFU from the benchmark's own logs"),
}


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {words}" for verb, (_, words) in VERBS.items()]
    return "\n".join(
        [
            "usage: hf-unlearn VERB [--config FILE.yaml] [--flag value …]",
            "",
            *lines,
            "",
            "`hf-unlearn VERB --help` lists a verb's flags.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        sys.stderr.write(f"hf-unlearn: there is no verb {verb!r}.\n\n{usage()}\n")
        return 2
    module = import_module(VERBS[verb][0], __package__)
    if verb == "memory":
        return module.main(rest)
    if verb == "tofu":
        return module.main(["tofu", *rest])
    from .running import run

    sys.argv = [f"hf-unlearn {verb}", *rest]
    run(module.main)
    return 0
