"""What training by an arm holds at its peak, by the library's estimate; no training is repeated for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hf_unlearn.cli import parsing
from hf_unlearn.cli.memory import step_values
from recipes.study.tasks import ARMS, TASKS, Arm, flags_of

NOTHING = Arm(None)
UNKNOWN = ("no efficiency", "no retention")  # the estimate takes the step with all terms


def peaks(folders: Iterable[tuple[str, str, Path]]) -> dict[str, dict[str, int]]:
    """
    Bytes of tensors at the peak of a training step on a CPU ([`hf_unlearn.memory.estimate`]: float32, a full batch,
    text rows as long as the recipe allows).

    Args:
        folders: (task, arm, folder with the trained model) of any seed; those that are gone, adapters, and arms without
            a part of the step, which the estimate does not know, are left out.

    Returns:
        task -> arm -> bytes.
    """
    from hf_unlearn.memory.estimate import estimate
    from hf_unlearn.memory.model import read_config
    from hf_unlearn.memory.run import Run

    found: dict[str, dict[str, int]] = {}
    runs: dict[tuple, int] = {}
    for name, arm_name, folder in folders:
        known = name in TASKS and ARMS.get(arm_name, NOTHING).role and arm_name not in UNKNOWN
        if not known or arm_name in found.get(name, {}) or not (folder / "config.json").is_file():
            continue
        task, arm = TASKS[name], ARMS[arm_name]
        words = [*flags_of(task, 0, "DATA", False), "--ready.readiness", "meta", *arm.flags.format(by=task.by).split()]
        own, data, _, args = parsing.parse("ready", words)
        verb = "ready" if arm.role == "ready" else "train"
        step = step_values(verb, own, data, args) | {"eval_batch_size": Run.eval_batch_size, "optim": Run.optim}
        run = Run(**{"verb": verb, **step}, device="cpu")
        key = (name, run)
        if key not in runs:
            config, _ = read_config(Run(model=str(folder)))
            runs[key] = estimate(run, config).peak
        found.setdefault(name, {})[arm_name] = runs[key]
    return found
