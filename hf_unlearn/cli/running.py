"""How a verb runs: its processes, its errors, what it saves."""

from __future__ import annotations

import os
import sys

from .arguments import DataArguments


def processes():
    """The processes of this launch; on a machine without an accelerator `PartialState()` alone would see one."""
    import torch
    from accelerate import PartialState

    return PartialState() if torch.accelerator.is_available() else PartialState(cpu=True)


def run(main) -> None:
    """Calls a script's main; what a user can mend is one message and exit 1, without a traceback."""
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("HF_UNLEARN_TRACEBACK"):
            raise
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def asked(data: DataArguments) -> str:
    """What was asked for, in a sentence."""
    values = data.forget_values if isinstance(data.forget_values, list) else [data.forget_values]
    listed = ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
    share = f"{100 * data.forget_fraction:g} %" if data.forget_fraction else ""
    if data.forget_by == "random":
        return f"Forget a random {share} of the rows of {data.dataset_name}."
    what = {"class": "class", "id": "id"}.get(data.forget_by, data.forget_column)
    which = f"{what} {listed}" if data.forget_values else f"{share} of the values of {what}"
    return f"Forget the rows of {data.dataset_name} with {which}."


def command_line(script: str, argv: list[str]) -> str:
    import shlex

    return shlex.join(["python", script, *argv])


def train_and_save(trainer):
    """Trains, saves model, state and card, and pushes them where asked to; returns the trainer."""
    resume = trainer.args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint={"true": True, "false": None}.get(str(resume).lower(), resume))
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.wait_for_everyone()  # the files are there for every process
    return trainer
