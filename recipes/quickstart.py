"""The whole story on embedded data, text and images, in minutes on a laptop CPU and without a network.

    python recipes/quickstart.py [--output_dir quickstart] [--smoke]
    python recipes/quickstart.py --model PATH_OR_HUB_ID

Trains a model plainly, one ready for deletion and two without the rows that will be asked for (the second with another
seed: how far two of these differ). Takes the rows out of the plain one by steps on their loss, out of the ready one by
running the end of its training again without them, which is exact. Measures and attacks all six; writes scorecard.json
and report.html. Last it trains the ready model of the people once more, from the start and without the rows that were
asked for, and compares every weight.

With --model the same is done with that model, on one task. A causal language model learns a quarter of the people by a
LoRA adapter, with its chat template where it has one. An encoder learns, whole, which of them a question is about, and
some of them ask to be forgotten.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hf_unlearn.cli import (
    checkpoints,
    evaluate,
    general_texts,
    named,
    parsing,
    ready,
    running,
    terminal,
    unlearn,
    verify,
)
from hf_unlearn.cli.arguments import ROLES, TRAINED, EvaluateArguments, ModelArguments, VerifyArguments
from hf_unlearn.cli.loading import code_problems, said_of
from hf_unlearn.cli.terminal import Progress, Step, short
from hf_unlearn.report.words.few_words import columns, table
from hf_unlearn.utils.architectures import architectures
from hf_unlearn.utils.checks import ArgumentError, Wrong, raise_problems
from hf_unlearn.utils.flags import with_underscores

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Task:
    """
    A task of the quickstart.

    Args:
        recipe: YAML file.
        flags: more of them, for all verbs.
        attacks: names of those that are run; None: all.
        general: the general texts that a request held out are measured, too.
    """

    recipe: str
    flags: tuple[str, ...] = ()
    attacks: tuple[str, ...] | None = None
    general: bool = False


PEOPLE = "text/people_llama.yaml"
TASKS = {  # the first one's replay is compared with a training from the start
    "people": Task(PEOPLE),
    "digits, a class": Task("vision/digits_vit.yaml"),
    "digits, a random tenth": Task("vision/digits_vit_random.yaml"),
}
NOT_NEW = "--model_type null --config_overrides null --vocab_size null --unlearn.learning_rate null "
# `ready.`: a request then starts from what was trained, and goes on with its adapter.
LANGUAGE = (  # as the study's task "people SmolLM2"
    "--limit 120 --max_length 128 --ready.lora_r 16 --ready.lora_alpha 32 --ready.num_train_epochs 10 "
    "--ready.per_device_train_batch_size 12 --ready.learning_rate 1e-3 --unlearn.per_device_train_batch_size 8"
)
ENCODER = (  # the question names the person: what is learnt holds on test rows, and who asks is a class
    "--task sequence_classification --text_column question --label_column person --test_fraction 0.2 "
    "--forget_by class --forget_column null --unlearn.target chance --ready.num_train_epochs 15 "
    "--ready.per_device_train_batch_size 16 --ready.learning_rate 3e-4"
)
QUICK_ATTACKS = ("weights",)  # relearn, which fine-tunes all weights three times, and quantise take long on a CPU
ON_A_MODEL = "--model PATH_OR_HUB_ID"
STARTED_FROM = ("original", "ready")
NOT_THE_SAME = 4  # exit status
SCORES = {"attack_options": {"generate": {"rows": 50}}}
SMOKE = ["--limit", "120", "--ready.max_steps", "2", "--unlearn.max_steps", "2"]


def steps_of(name: str, roles: Iterable[str], smoke: bool = False) -> list[Step]:
    """The steps of a task, in the order of [`run_task`], each with how long it takes against the others."""
    runs = [Step(f"{name}: training {role}", 1.0, "training") for role in TRAINED]
    weights = {"original": 0.3, "ready": 0.15}  # of an unlearning, from a model of this role
    runs += [Step(f"{name}: unlearning from {start}", weights[start], "unlearning") for start in STARTED_FROM]
    runs = [short(step.title) for step in runs] if smoke else runs
    measured = [replace(step, title=f"{name}: {step.title}") for step in evaluate.steps_of(roles)]
    return [short(f"{name}: reading the rows"), *runs, *measured]


def all_steps(smoke: bool = False, tasks: Iterable[str] = TASKS) -> list[Step]:
    """The steps of all tasks, the report, and the training that the replay is compared with."""
    steps = [step for name in tasks for step in steps_of(name, ROLES, smoke)]
    once_more = f"{next(iter(tasks))}: training once more without the rows"
    return [*steps, Step("report", 0.3), short(once_more) if smoke else Step(once_more, 1.0, "training")]


def words_of(task: Task, output_dir: Path, smoke: bool) -> tuple[Path, list[str]]:
    """`(folder of a task, command line of its verbs)`."""
    folder = output_dir / Path(task.recipe).stem
    small = SMOKE if smoke else []
    return folder, ["--config", str(HERE / task.recipe), "--output_dir", str(folder), *small, *task.flags]


def task_on(where: str) -> Task:
    """
    The task for a model by its name, as its config tells; nothing of the model itself is loaded.

    Args:
        where: folder or hub id.

    Raises:
        ArgumentError: if there is none, or it is of a kind that the embedded rows do not fit.
    """
    raise_problems(checkpoints.place_problems("model", where) or code_problems("model", where, False))
    try:
        config, is_adapter = named.config_of(ModelArguments(model_name_or_path=where))
    except Exception as error:  # each library and each config has its own
        raise ArgumentError(
            [Wrong("model", f"is {where!r}, and its config cannot be had: {said_of(error)}")]
        ) from error
    given = (*NOT_NEW.split(), "--ready.model_name_or_path", where)
    writes = set(config.architectures or ()) & architectures(named.MAPPINGS["causal_lm"])
    if not is_adapter and writes:
        flags = (*given, *LANGUAGE.split())
        return Task(PEOPLE, flags, attacks=("probes", "generate", *QUICK_ATTACKS), general=True)
    reads = named.forms_of("sequence_classification", config.model_type)
    if not is_adapter and reads and not config.is_encoder_decoder:
        return Task(PEOPLE, (*given, *ENCODER.split()), attacks=QUICK_ATTACKS)
    kind = "an adapter" if is_adapter else f"a {' or '.join(config.architectures or [config.model_type])}"
    said = f"is {where!r}, {kind}, and the embedded rows are short texts: name a causal language model (such as "
    said += "HuggingFaceTB/SmolLM2-135M-Instruct) or a text encoder (sentence-transformers/all-MiniLM-L6-v2)."
    raise ArgumentError([Wrong("model", said)])


def tasks_on(where: str | None, output_dir: Path, smoke: bool) -> dict[str, Task]:
    """
    Name -> task: the one for that model; None: all.

    Raises:
        ArgumentError: as of [`task_on`], and with what else is wrong with the model.
    """
    if where is None:
        return TASKS
    task = task_on(where)
    parsing.parse("ready", words_of(task, output_dir, smoke)[1], ready.flag_problems, asked="ready")
    return {f"people, {name_of(where)}": task}


def name_of(where: str) -> str:
    """The last word of a folder's path or of a hub id."""
    folder = Path(where).expanduser()
    return folder.resolve().name if folder.is_dir() else folder.name


def is_the_training_without(task: Task, output_dir: Path, smoke: bool, progress: Progress) -> bool:
    """Whether the replayed model of a task is, bit for bit, the same training from its start without the rows."""
    folder, words = words_of(task, output_dir, smoke)
    own, data, model, args = parsing.parse("ready", words)
    prepared = ready.prepared_for(own, data, model, args)
    replayed, rows = str(folder / "ready_unlearned"), prepared.splits["retain"]
    with tempfile.TemporaryDirectory() as out:
        return verify.verified(VerifyArguments(), data, model, args, prepared, rows, replayed, progress, out).passed


def run_task(name: str, task: Task, output_dir: Path, smoke: bool, command: str, progress: Progress):
    """All roles of one task by its recipe; returns its `Scorecard`."""
    folder, words = words_of(task, output_dir, smoke)
    quiet = ["--logging_strategy", "no"]
    progress.next()
    own, data, model, args = parsing.parse("ready", words + quiet)
    prepared = ready.prepared_for(own, data, model, args)
    for role in TRAINED:
        progress.next()
        own, data, model, args = parsing.parse("ready", words + quiet)
        own.role = role
        ready.train(own, data, model, args, prepared, progress)
    for start in STARTED_FROM:
        progress.next()
        own, data, model, args = parsing.parse("unlearn", words)
        own.start = start
        unlearn.unlearn(own, data, model, args, prepared, progress)
    models = evaluate.models_in(folder)
    if task.general:
        texts = general_texts.split(EvaluateArguments(), data, models, prepared.processing_class)
        prepared = replace(prepared, beside=texts)
    how = {"provenance": {"commands": [command], "smoke": smoke}, "progress": progress, **SCORES}
    return evaluate.measure(folder, data, prepared, task=name, models=models, attacks=task.attacks, **how)


def requests_table(card) -> str:
    """What the requests cost and left, task by task, from the scorecard alone; kept is what the report says."""
    from hf_unlearn.evaluation.judge import judge
    from hf_unlearn.report.words.numbers import kept_percent

    runs = {(run["task"], run["model"]): run for run in card.to_dict()["runs"]}
    shares = {(found.task, found.model): found.kept.share for found in judge(card.to_dict())}
    kept = {key: "–" if share is None else kept_percent(share) for key, share in shares.items()}
    head = ("task", "started from", "steps", "row passes", "forget loss", "unseen loss", "kept", "stopped because")
    lines = [head]
    for task in dict.fromkeys(task for task, _ in runs):
        for start, role in (("original", "unlearned"), ("ready", "ready_unlearned")):
            run = runs[task, role]
            measures = run["measures"]
            lines.append(
                (
                    task,
                    start,
                    str(run["cost"]["steps"]),
                    f"{run['cost']['row_passes']:.0f}",
                    f"{measures['forget_loss']['value']:.2f}",
                    f"{measures['unseen_loss']['value']:.2f}",
                    kept[task, role],
                    str(run["stop_reason"]),
                )
            )
    return "\n".join(columns(lines))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = "folder for models, scorecard.json and report.html (default: quickstart; with --model one of its own in it)"
    parser.add_argument("--output_dir", help=where)
    which = "a folder or hub id: a causal language model or a text encoder, instead of small new models"
    parser.add_argument("--model", metavar="PATH_OR_HUB_ID", help=which)
    parser.add_argument("--smoke", action="store_true", help="two steps of everything, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    output_dir = Path(options.output_dir or Path("quickstart", name_of(options.model) if options.model else ""))
    if options.model is None or Path(options.model).expanduser().is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all data are embedded
    tasks, smoke = tasks_on(options.model, output_dir, options.smoke), options.smoke
    terminal.say(f"Quickstart: {'; '.join(tasks)}; six models each, measured and attacked; all goes to {output_dir}")
    start = time.perf_counter()
    import transformers

    transformers.logging.set_verbosity_error()
    terminal.quiet_libraries()
    command = running.command_line(argv, "python recipes/quickstart.py")
    card, verified = None, next(iter(tasks))
    with Progress(all_steps(smoke, tasks)) as progress:
        for name, task in tasks.items():
            scores = run_task(name, task, output_dir, smoke, command, progress)
            card = scores if card is None else card + scores
        progress.next()
        card.save(output_dir)
        card.to_html(output_dir / "report.html", title="Unlearning: quickstart")
        progress.next()
        same = is_the_training_without(tasks[verified], output_dir, smoke, progress)
    if not smoke:  # two steps buy nothing
        print(f"What the requests cost, and what they left\n\n{requests_table(card)}\n")
    print(table(card.to_dict()))
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes. Open {output_dir / 'report.html'}; the numbers are in scorecard.json beside it.")
    print(f"{verified}, asked for and replayed: bit for bit the model that never saw them: {'yes' if same else 'no'}")
    if options.model is None:
        print(f"The same story on a real model, yours or one of the hub: python recipes/quickstart.py {ON_A_MODEL}")
    return 0 if same else NOT_THE_SAME


if __name__ == "__main__":
    running.run(main)
