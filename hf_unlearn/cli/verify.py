"""Trains a model again without its deleted rows, and compares the weights bit for bit: the auditor's tool.

    hf-unlearn verify --config recipes/text/people_llama.yaml
    hf-unlearn verify --config my.yaml --readiness outputs/mine/ready_unlearned --from snapshot

The recipe says what the training began with and where its rows are; the deleted ones need not be among them. Which row
comes when, and with what arguments, is the plan's, in the model's folder. Says `PASS from the start`, `PASS from
snapshot (trusted)`, or what differs first. Where versions or device are others than at the training, bits may differ:
then it says so and compares with a tolerance, and over many steps it may be undecided. Exit status 4: no PASS.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from ..utils.checks import ArgumentError, Wrong, one_of, raise_problems
from . import beside_recipe, checkpoints, checks, model, parsing, prepare, terminal
from .arguments import BEGINNINGS, DataArguments, ModelArguments, VerifyArguments
from .loading import init_of
from .terminal import Progress, Step

NOT_PASSED = 4  # exit status
ROLES = ("ready_unlearned", "ready")  # in OUTPUT_DIR, in the order in which they are looked for


def own_problems(own: VerifyArguments, recipe: list[str]) -> list[str]:
    """What is wrong with the verb's own flags together."""
    problems = checks.empty_words(own)
    problems += [Wrong("from", problem.said) for problem in one_of("from", own.from_, BEGINNINGS)]
    problems += checks.replay_problems(own.salt_file, own.snapshots)
    if own.readiness:
        problems += checkpoints.place_problems("readiness", own.readiness)
    if not recipe:
        problems.append("Give --config: the recipe says what the training began with, and where its rows are.")
    return problems


def recipe_problems(begin: str, own, data: DataArguments, model_args: ModelArguments, args=None) -> list[str]:
    """What is wrong with a recipe whose training is repeated, or of a snapshot's, whose rows alone are read."""
    given = None if args is None else args.model_init_kwargs
    found = model.model_problems(data, model_args, needs_one=begin == "start", given=given)
    if begin == "start" and model_args.model_name_or_path:
        found += checkpoints.named_place_problems(data, model_args, given)
    return checks.data_problems(data, model_args) + found


def folder_of(own: VerifyArguments, output_dir: str) -> str:
    """The folder of the model to verify."""
    if own.readiness:
        return str(Path(own.readiness).expanduser())
    there = [folder for role in ROLES if checkpoints.is_checkpoint(folder := Path(output_dir, role))]
    if not there:
        raise ArgumentError(
            [
                f"There is no model in {' or '.join(str(Path(output_dir, role)) for role in ROLES)}. Name the one to "
                f"verify by --readiness.{checkpoints.above(output_dir)}"
            ]
        )
    return str(there[0])


def remaining(rows, folder: str, salt_file: str | None):
    """The rows that the plan of a model trains on: not the deleted ones, and none that were never trained on."""
    from ..trainers import memory_request, memory_sources, replay_plan

    if memory_request.memory_of(folder) is not None:
        known = memory_sources.read_rows(folder, salt_file)
        return rows.select(np.flatnonzero(known.numbers_of(rows["id"]) >= 0))
    plan = replay_plan.read(folder, salt_file)
    if plan is None:
        raise ArgumentError([f'{folder} was not trained with `readiness="replay"`: there is no plan to verify.'])
    numbers = plan.numbers_of_rows(rows, plan.key)
    return rows.select(np.flatnonzero((numbers >= 0) & ~np.isin(numbers, plan.holes)))


def first_line(argv: list[str]) -> str:
    """What is going to be done, from the words alone."""
    if not parsing.is_readable("verify", argv):
        return "hf-unlearn verify: reads the flags"
    out = parsing.word_of("verify", argv, "output_dir", "trainer_output")
    source = parsing.word_of("verify", argv, "readiness", f"the model in {out}", alone=True)
    return f"hf-unlearn verify: trains {source} again without the rows that were deleted, and compares"


def main(argv: list[str]) -> int:
    terminal.say(first_line(argv))
    own, words = beside_recipe.divided("verify", argv)
    raise_problems(own_problems(own, words))
    _, data, model_args, args = parsing.parse("ready", words, partial(recipe_problems, own.from_), asked="verify")
    folder = folder_of(own, args.output_dir)
    terminal.quiet_libraries()
    steps = [terminal.short("reading the rows"), Step("training again")]
    with Progress(steps, bar=not args.disable_tqdm) as progress, tempfile.TemporaryDirectory() as out:
        progress.next()
        prepared = prepare.prepare_unsplit(data, model_args, folder)
        prepare.tell_length(prepared, progress)
        rows = remaining(prepared.splits["retain"], folder, own.salt_file)
        progress.next()
        verdict = verified(own, data, model_args, args, prepared, rows, folder, progress, out)
    if terminal.speaks():
        print(verdict)
    return 0 if verdict.status in ("passed", "within tolerance") else NOT_PASSED


def verified(own, data, model_args, args, prepared, rows, folder, progress, out):
    """The [`hf_unlearn.trainers.verdict.Verdict`] on the model of a folder."""
    from transformers import TrainingArguments

    from .. import verify
    from .training_progress import TrainingProgress

    from_start = own.from_ == "start"
    begun, peft_config = None, None
    if from_start:
        begun, peft_config = model.beginning(data, model_args, prepared, args.seed, args.model_init_kwargs)
    return verify(
        folder,
        rows,
        begun,
        peft_config=peft_config,
        processing_class=prepared.processing_class,
        salt_file=own.salt_file,
        snapshots=own.snapshots,
        args=TrainingArguments(out, report_to=[], disable_tqdm=True, use_cpu=args.use_cpu, logging_strategy="no"),
        callbacks=[TrainingProgress(progress, at_most=False, first=None)],
        record=own.record,
        model_init_kwargs=None if from_start else init_of(model_args, of_flag=False, given=args.model_init_kwargs),
    )
