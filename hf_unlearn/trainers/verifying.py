"""Is a model what its plan says? Trains the program again and compares digests of the weights."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from contextlib import ExitStack

from transformers import PrinterCallback, TrainingArguments

from ..utils import manifest
from ..utils.checks import ArgumentError
from ..utils.files import read_json
from . import checkpointing, hub_snapshots, records, replay_plan, verdict
from .engines import decided_by_first
from .memory_request import memory_of
from .memory_verifying import verify_memory
from .ready import ReadyTrainer
from .replay import config_of, other_machine, with_attention
from .replaying import machine
from .saved_weights import apart, present, saved
from .snapshots import snapshot_problem, snapshots_of
from .verdict import FROM_A_SNAPSHOT, FROM_THE_START, TOLERANCE, Verdict
from .weights_digest import weights_digest


class VerifyingTrainer(ReadyTrainer):
    """
    Runs a program as it was run, writes no snapshots, and compares the weights where it was to write one.

    Attributes:
        differs: what was other first, in a sentence.
        distance: the largest share of the way of the training by which weights are apart where bits may differ.
        other_machine: what may change bits and is other than at the training: name -> [then, now].
    """

    replays = True
    is_ready = True  # nothing is saved of it
    differs: str | None = None
    distance: float | None = None

    def __init__(self, *args, found: dict, request: dict, taken: str, **kwargs):
        self.found, self.taken = found, taken
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)
        self.program.elsewhere = set(self.program.borders)  # none is written here
        self.other_machine = {**(request.get("other_than_training") or {}), **other_machine(self, found)}
        self.beginning: dict | None = None

    def load(self, source, init):
        return with_attention(super().load(source, init), self.found["replay"]["machine"])

    def refuse_frozen(self, why):
        self.differs = why

    def resume_problems(self, folder):
        return []

    def _disk_problems(self, borders, freed):
        return []

    # ---- what is compared ----

    def at_border(self, step):
        folder = os.path.join(self.taken, f"checkpoint-{step}")
        then = (read_json(os.path.join(folder, self.record_name)) or {}).get("replay")
        if then is not None:
            self.compare(then, folder, f"The weights before step {step}", whole=checkpointing.problem(folder) is None)

    def compare(self, then: dict, folder: str, what: str, whole: bool = True) -> None:
        """
        Holds the present weights against those of a folder, as long as nothing was other.

        Args:
            then: the `replay` of its record.
            what: they are, for the sentence.
            whole: whether the folder has its weights.
        """
        model = self.accelerator.unwrap_model(self.model)
        if self.differs is not None or then.get("weights") in (None, weights_digest(model)):
            return
        now = present(model)
        files = saved(model, folder) if whole else {}
        gap = apart(now, files) if whole else None
        self.other_machine.update(other_machine(self, {"replay": then}))
        if then["machine"].get("deterministic") is False:  # then as now sums may have any order
            self.other_machine.setdefault("deterministic", [False, False])
        self.differs = f"{what} are others than in {folder}{'' if gap is None else f' ({gap})'}."
        if self.other_machine and gap is not None:
            way = apart(self.beginning, files)
            share = math.sqrt(gap.squares / way.squares) if way and way.squares else math.inf
            self.distance = max(self.distance or 0.0, share)
            self.differs = None if share <= TOLERANCE else f"{what} are {100 * share:.2g} % of the way of the training "
            if self.differs:
                self.differs += f"apart from those in {folder}, and {100 * TOLERANCE:g} % is taken for the same."

    def _train_from(self, resume, *args, **kwargs):
        model = self.accelerator.unwrap_model(self.model)
        self.beginning = saved(model, resume) if resume else present(model)
        return super()._train_from(resume, *args, **kwargs)


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
    callbacks=None,
    record: bool = False,
    model_init_kwargs: dict | None = None,
) -> Verdict:
    """
    Trains the program of a folder without its deleted rows, and compares the weights with those that were saved there.

    Args:
        folder: of a model trained with `readiness="replay"` or "memory", or what a request has made of one. Of a
            memory each table is filled again, beside what the folder says of public rows ([`memory_verifying`]).
        rows: all rows of the training that were not deleted, in any order.
        model: what the training began with (a model, or its folder or hub id): the program is then run from the start.
            None: it is run from the first snapshot, which is trusted.
        peft_config, data_collator, processing_class, callbacks: as in the training.
        salt_file: the owner's salt, where it is not in the folder.
        snapshots: folder or private repository (`hf://NAMESPACE/NAME`) of the snapshots, where they are not where the
            training left them.
        args: where and how to compute (`use_cpu`, `report_to`, …); what is trained comes from the plan.
        record: write into the folder's record and card that it has passed. A replay on other versions or another
            device than its training is `exact` from then on.
        model_init_kwargs: of `from_pretrained`, such as `trust_remote_code`, where a model is loaded by name.

    Raises:
        ArgumentError: if there is no plan, if the salt is not at hand, or if rows are missing or others.
    """
    if memory_of(folder) is not None:
        return verify_memory(folder, rows, model, data_collator, processing_class, salt_file, args, callbacks, record)
    with ExitStack() as held:
        out = decided_by_first(lambda: held.enter_context(tempfile.TemporaryDirectory()))
        plan, found, request, begin = decided_by_first(
            lambda: _looked_up(folder, salt_file, snapshots, out, from_start=model is not None)
        )
        quiet = TrainingArguments(out, report_to=[], disable_tqdm=True) if args is None else args
        config = config_of(plan, dataclasses.replace(quiet, output_dir=out, save_strategy="no", push_to_hub=False))
        config.model_init_kwargs = model_init_kwargs
        trainer = VerifyingTrainer(
            folder if model is None else model,
            config,
            rows,
            peft_config=peft_config if model is not None else None,
            data_collator=data_collator,
            processing_class=processing_class,
            callbacks=callbacks,
            plan=plan,
            found=found,
            request=request,
            taken=os.path.dirname(begin),
        )
        if model is None:
            trainer.train(begin)
        else:
            trainer.differs = trainer.differs or _other_beginning(trainer, plan.weights_before)
            trainer.train()
        now = weights_digest(trainer.accelerator.unwrap_model(trainer.model))
        trainer.accelerator.wait_for_everyone()  # before the first process deletes the folder
    _compare_end(trainer, folder, now)
    how = FROM_A_SNAPSHOT if model is None else FROM_THE_START
    passed = trainer.differs is None and trainer.distance is None
    found = Verdict(passed, how, trainer.differs, trainer.other_machine, trainer.distance, now, len(plan.holes))
    if record and trainer.is_world_process_zero():
        verdict.record(found, folder, machine(trainer))
    return found


def _looked_up(folder: str, salt_file: str | None, snapshots: str | None, out: str, from_start: bool) -> tuple:
    """
    `(plan, readiness.json, unlearning.json or {}, snapshot to begin with)` of a folder; on the first process.

    Args:
        out: folder that a snapshot of a repository may be downloaded into.
    """
    plan, found = replay_plan.read(folder, salt_file), records.find_readiness(folder)
    if plan is None:
        raise ArgumentError([f'{folder} was not trained with `readiness="replay"`: there is no plan to verify.'])
    request = read_json(os.path.join(folder, records.UNLEARNING)) or {}
    hub = hub_snapshots.repository_of(snapshots or found["replay"].get("snapshots_on_hub"))
    taken, first = snapshots_of(folder, None if hub else snapshots, found), int(plan.order.borders.min())
    if request.get("other_than_training"):  # what ran elsewhere before the replay cannot have the same bits here
        first = request["replayed_from"]
    why = None if from_start else snapshot_problem(taken, first, plan, contents=True)
    if why and hub:
        taken = os.path.join(out, "snapshots")
        why = hub_snapshots.download(hub, first, taken) or snapshot_problem(taken, first, plan, contents=True)
    if why:
        raise ArgumentError(
            [f"{why} To verify from the start (`--from start`) pass `model`, what the training began with."]
        )
    return plan, found, request, os.path.join(taken, f"checkpoint-{first}")


def _compare_end(trainer: VerifyingTrainer, folder: str, now: str) -> None:
    """The weights at the end, with the record of the folder and with its files."""
    what = "The weights at the end"
    same = now == trainer.found["replay"]["weights"]
    if damage := manifest.damage(folder):
        trainer.differs, trainer.distance = trainer.differs or damage[0], None
    elif same and trainer.differs is None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if (gap := apart(present(model), saved(model, folder))) is not None:
            trainer.differs = (
                f"{what} are those of {records.READINESS}, and not those of the files in {folder} ({gap})."
            )
    else:
        trainer.compare(trainer.found["replay"], folder, what)


def _other_beginning(trainer: ReadyTrainer, then: str | None) -> str | None:
    if then in (None, weights_digest(trainer.accelerator.unwrap_model(trainer.model))):
        return None
    return "The weights before the first step are others: `model` is not what the training began with."
