"""What training by an arm holds at its peak, by the library's estimate; no training is repeated for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recipes import common
from recipes.study_tasks import ARMS, TASKS, flags_of


def peaks(folders: Iterable[tuple[str, str, Path]]) -> dict[str, dict[str, int]]:
    """
    Bytes of tensors at the peak of a training step on a CPU ([`hf_unlearn.memory.estimate`]: float32, a full batch,
    text rows as long as the recipe allows).

    Args:
        folders: (task, arm, folder with the trained model) of any seed; those that are gone are left out.

    Returns:
        task -> arm -> bytes.
    """
    from hf_unlearn.memory import Run, estimate, read_config

    found: dict[str, dict[str, int]] = {}
    runs: dict[tuple, int] = {}
    for name, arm_name, folder in folders:
        if name not in TASKS or arm_name not in ARMS or arm_name in found.get(name, {}) or not folder.is_dir():
            continue
        task, arm = TASKS[name], ARMS[arm_name]
        flags = [*flags_of(task, 0, "DATA", False), *arm.flags.format(by=task.by).split()]
        _, data, _, args = common.parse("ready", common.ReadyScript, flags, "ReadyConfig")
        ready = arm.role == "ready"
        run = Run(
            verb="ready" if ready else "train",
            batch_size=args.per_device_train_batch_size,
            length=data.max_length,
            dtype="float32",
            device="cpu",
            request_rows=int(args.request_rows) or None if ready else None,
            drawn=bool(args.request_rows) and arm_name != "any row",
            meta_gradient=args.meta_gradient if ready else "first_order",
            resistance=args.resistance if ready else "none",
        )
        key = (name, run)
        if key not in runs:
            config, _ = read_config(Run(model=str(folder)))
            runs[key] = estimate(run, config).peak
        found.setdefault(name, {})[arm_name] = runs[key]
    return found
