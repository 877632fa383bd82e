"""How a verb runs: its processes, its errors, what it saves, and the command that it was started by."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.checks import ArgumentError
from ..utils.full_disk import full_disk
from .terminal import NoProgress, Progress, speaks

if TYPE_CHECKING:
    from .prepare import Prepared


HIDDEN = "<HUB_TOKEN>"  # as transformers writes it
LEFT_OUT = "<LEFT_OUT>"


FIRST_SPEAKS = 10.0  # seconds for the first process to say what is wrong: a launcher ends all where one has left


def processes(use_cpu: bool = False):
    """The processes of this launch; on a machine without an accelerator `PartialState()` alone would see one."""
    import torch
    from accelerate import PartialState

    return PartialState() if torch.accelerator.is_available() and not use_cpu else PartialState(cpu=True)


def run(main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> None:
    """
    Calls a verb's main; what a user can mend is one message and exit 1, without a traceback. HF_UNLEARN_TRACEBACK=1
    shows it.
    """
    try:
        status = main(sys.argv[1:] if argv is None else argv)
    except Exception as error:
        full = of_a_full_disk(error)
        told = full is not None or isinstance(error, (ValueError, OSError, FloatingPointError))
        if not told or os.environ.get("HF_UNLEARN_TRACEBACK", "").lower() not in ("", "0", "false"):
            raise
        if isinstance(error, ArgumentError) and not speaks():
            time.sleep(FIRST_SPEAKS)  # whoever is still there was ended by no launcher: the first may not have spoken
        sys.exit(full or f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if status:
        sys.exit(status)


def of_a_full_disk(error: BaseException) -> str | None:
    """One line for an error that comes of a full disk, whichever library raised it."""
    if (cause := full_disk(error)) is None:
        return None
    where = f" ({cause.filename})" if getattr(cause, "filename", None) else ""
    return f"No space is left on the disk that is written to{where}. Free some and start the command again."


def steps(trainer) -> str:
    """ "1 step", "200 steps"."""
    return f"{trainer.state.global_step} step{'' if trainer.state.global_step == 1 else 's'}"


def program(argv: list[str]) -> list[str] | None:
    """
    The words before the flags, as this process was started: `hf-unlearn evaluate`, `python recipes/evaluate.py`,
    `python -m hf_unlearn evaluate`. None where Python was started for something else, which then called a verb.
    """
    words = sys.orig_argv
    before = words[1 : len(words) - len(argv)]
    if words[len(words) - len(argv) :] != argv or not before:
        return None
    while before and before[0] in ("-u", "-I", "-E", "-s", "-B"):  # switches of the interpreter; accelerate has some
        before = before[1:]
    if before and Path(before[0]).name == "hf-unlearn":
        return ["hf-unlearn", *before[1:]]
    is_ours = before[:2] == ["-m", "hf_unlearn"] or (before and before[0].endswith(".py"))
    return ["python", *before] if is_ours else None


def command_line(argv: list[str], otherwise: str, hidden: Collection[str] = ()) -> str:
    """
    The command that was run, for a record, as it was typed as far as a process knows: of a launcher's own flags it
    knows how many processes there are. A token is masked.

    Args:
        argv: the flags.
        otherwise: the command that does the same, where this process was started for something else.
        hidden: names of flags whose values are left out.
    """
    words = program(argv) or otherwise.split()
    count = os.environ.get("WORLD_SIZE", "1")
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        words = ["accelerate", "launch", "--num_processes", count, *words[words[0] == "python" :]]
    elif count != "1":
        words = ["torchrun", "--nproc_per_node", count, *words[words[0] == "python" :]]
    return shlex.join([*words, *without_values(without_secrets(argv), hidden)])


def without_secrets(argv: list[str]) -> list[str]:
    """The words with a mask in place of each token: `--hub_token <HUB_TOKEN>`."""
    shown: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        flag, equals, _ = word.partition("=")
        if is_secret(flag) and equals:
            shown.append(flag + equals + HIDDEN)
        else:
            shown.append(HIDDEN if is_secret(before) and not word.startswith("--") else word)
    return shown


def without_values(argv: list[str], hidden: Collection[str]) -> list[str]:
    """The words with a mark in place of all values of some flags: `--forget_values <LEFT_OUT>`."""
    shown: list[str] = []
    hides = False
    for word in argv:
        if word.startswith("--"):
            flag, equals, _ = word.partition("=")
            hides = flag[2:].replace("-", "_").rpartition(".")[2] in hidden
            shown.append(f"{flag}={LEFT_OUT}" if hides and equals else word)
        elif not hides:
            shown.append(word)
        elif not shown[-1].endswith(LEFT_OUT):
            shown.append(LEFT_OUT)
    return shown


def is_secret(flag: str) -> bool:
    return flag.startswith("--") and flag.replace("-", "_").endswith("_token")


@contextmanager
def alone_in(folder):
    """
    The folder is this launch's in the block, on all its processes.

    Raises:
        ArgumentError: on all of them, if another run is at work there.
    """
    from ..trainers.engines import decided_by_first
    from ..trainers.output_lock import one_run_in

    with ExitStack() as held:
        decided_by_first(lambda: held.enter_context(one_run_in(folder)))
        yield


def train_and_save(trainer, role: str, prepared: Prepared, progress: Progress | None = None, at_most: bool = False):
    """
    Trains, saves model, card and state, and pushes them where asked to; returns the trainer. The output folder is this
    run's until all that is done.

    Args:
        progress: its present step is the training; None: nothing is shown.
        at_most: the training may end before its last step.
    """
    from ..trainers.card import CardFacts
    from .training_progress import show

    show(trainer, progress or NoProgress(), at_most)
    request = {**prepared.request, "rows": len(prepared.splits["forget"])}
    trainer.card_facts = CardFacts(role, request, prepared.made_from_rows)
    trainer.encoding = prepared.recipe
    resume = trainer.args.resume_from_checkpoint
    with alone_in(trainer.args.output_dir):
        trainer.train(resume_from_checkpoint={"true": True, "false": None}.get(str(resume).lower(), resume))
        trainer.save_model()
        trainer.save_state()
        if trainer.args.push_to_hub:
            trainer.push_to_hub()
        trainer.accelerator.wait_for_everyone()  # the files are there for every process
    return trainer
