"""Is a model what its plan says? Trains the program again and compares digests of the weights."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import dataclass

import torch
from transformers import TrainingArguments

from ..utils import manifest
from ..utils.checks import ArgumentError
from ..utils.files import read_json
from . import records, replay_plan
from .models import load_model
from .ready import ReadyTrainer
from .replay import config_of, other_machine, said_of_other, with_attention
from .snapshots import snapshot_problem, snapshots_of
from .weights_digest import weights_digest

FROM_THE_START, FROM_A_SNAPSHOT = "from the start", "from a snapshot"


@dataclass(frozen=True)
class Verdict:
    """
    Args:
        passed: whether the program ends in the weights of the folder, bit for bit.
        how: "from the start", or "from a snapshot", which is then trusted.
        differs: what was other first; None where nothing was.
        other_machine: what may change bits and is other than at the training: name -> [then, now].
    """

    passed: bool
    how: str
    differs: str | None
    other_machine: dict

    def __str__(self) -> str:
        trusted = " (trusted)" if self.how == FROM_A_SNAPSHOT else ""
        if self.passed:
            return f"PASS {self.how}{trusted}: the weights are those of the training without the rows, bit for bit."
        other = said_of_other(self.other_machine)
        hint = f" Bits may differ for that alone: {other}." if other else ""
        return f"FAIL {self.how}{trusted}: {self.differs}{hint}"


class VerifyingTrainer(ReadyTrainer):
    """Runs a program as it was run, writes no snapshots, and compares the weights where it was to write one."""

    replays = True
    differs: str | None = None

    def __init__(self, *args, machine_then: dict, taken: str, **kwargs):
        self.machine_then, self.taken = machine_then, taken
        super().__init__(*args, **kwargs)

    def load(self, source):
        return with_attention(super().load(source), self.machine_then)

    def at_border(self, step):
        path = os.path.join(self.taken, f"checkpoint-{step}", self.record_name)
        then = ((read_json(path) or {}).get("replay") or {}).get("weights")
        if self.differs is None and then not in (None, weights_digest(self.accelerator.unwrap_model(self.model))):
            self.differs = f"the weights before step {step} are others than in {os.path.dirname(path)}."

    def resume_problems(self, folder):
        return []

    def _disk_problems(self, borders, freed):
        return []


def verify(
    folder: str,
    rows,
    model=None,
    peft_config=None,
    data_collator=None,
    processing_class=None,
    salt_file: str | None = None,
    snapshots: str | None = None,
    args: TrainingArguments | None = None,
) -> Verdict:
    """
    Trains the program of a folder without its deleted rows, and compares the weights with those that were saved there.

    Args:
        folder: of a model trained with `readiness="replay"`, or made by a replay.
        rows: all rows of the training that were not deleted, in any order.
        model: what the training began with (a model, or its folder or hub id): the program is then run from the start.
            None: it is run from the first snapshot, which is trusted.
        peft_config, data_collator, processing_class: as in the training.
        args: where and how to compute (`use_cpu`, `report_to`, …); what is trained comes from the plan.

    Raises:
        ArgumentError: if there is no plan, if the salt is not at hand, or if rows are missing or others.
    """
    plan, found = replay_plan.read(folder, salt_file), records.find_readiness(folder)
    if plan is None:
        raise ArgumentError([f'{folder} was not trained with `readiness="replay"`: there is no plan to verify.'])
    taken, first = snapshots_of(folder, snapshots, found), int(plan.order.borders.min())
    if model is None and (why := snapshot_problem(taken, first, plan, contents=True)):
        raise ArgumentError([f"{why} Pass `model`, what the training began with, to verify from the start."])
    with tempfile.TemporaryDirectory() as out:
        quiet = TrainingArguments(out, report_to=[], disable_tqdm=True) if args is None else args
        config = config_of(plan, dataclasses.replace(quiet, output_dir=out, save_strategy="no", push_to_hub=False))
        trainer = VerifyingTrainer(
            folder if model is None else model,
            config,
            rows,
            peft_config=peft_config if model is not None else None,
            data_collator=data_collator,
            processing_class=processing_class,
            plan=plan,
            machine_then=found["replay"]["machine"],
            taken=taken,
        )
        then = {"before": plan.weights_before, "after": found["replay"]["weights"]}
        if model is not None:
            trainer.differs = _other_beginning(trainer, then["before"])
        trainer.train(None if model is not None else os.path.join(taken, f"checkpoint-{first}"))
        now = weights_digest(trainer.accelerator.unwrap_model(trainer.model))
    if trainer.differs is None and now != then["after"]:
        trainer.differs = f"the weights at the end are others than {records.READINESS} of {folder} says."
    if now == then["after"]:
        trainer.differs = _other_weights(trainer, folder)
    how = FROM_A_SNAPSHOT if model is None else FROM_THE_START
    return Verdict(trainer.differs is None, how, trainer.differs, other_machine(trainer, found))


def _other_weights(trainer: ReadyTrainer, folder: str) -> str | None:
    """What of the weights in the folder's files is other than at the end of the training."""
    if damage := manifest.damage(folder):
        return damage[0]
    saved = dict(load_model(folder).named_parameters())
    for name, p in trainer.accelerator.unwrap_model(trainer.model).named_parameters():
        if p.requires_grad and not torch.equal(p.detach().cpu(), saved[name].detach().cpu()):
            return f"the weight {name} in {folder} is another than at the end of the training."
    return None


def _other_beginning(trainer: ReadyTrainer, then: str | None) -> str | None:
    if then in (None, weights_digest(trainer.accelerator.unwrap_model(trainer.model))):
        return None
    return "the weights before the first step are others: `model` is not what the training began with."
