"""The whole story on embedded data, text and images, in minutes on a laptop CPU and without a network.

    python recipes/quickstart.py [--output_dir quickstart] [--smoke]

Trains a model plainly, one ready for deletion and two without the rows that will be asked for (the second with another
seed: how far two of these differ). Takes the rows out of the plain one by steps on their loss, out of the ready one by
running the end of its training again without them, which is exact. Measures and attacks all six; writes scorecard.json
and report.html. Last it trains the ready model of the people once more, from the start and without the rows that were
asked for, and compares every weight.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hf_unlearn.cli import evaluate, parsing, ready, running, terminal, unlearn, verify
from hf_unlearn.cli.arguments import ROLES, TRAINED, VerifyArguments
from hf_unlearn.cli.terminal import Progress, Step, short
from hf_unlearn.report.words.few_words import columns, table
from hf_unlearn.utils.flags import with_underscores

HERE = Path(__file__).resolve().parent
TASKS = {  # name -> (recipe, flags beyond it)
    "people": ("text/people_llama.yaml", []),
    "digits, a class": ("vision/digits_vit.yaml", []),
    "digits, a random tenth": ("vision/digits_vit_random.yaml", []),
}
VERIFIED = "people"  # the task whose replay is compared with a training from the start
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


def all_steps(smoke: bool = False) -> list[Step]:
    """The steps of all tasks, the report, and the training that the replay is compared with."""
    steps = [step for name in TASKS for step in steps_of(name, ROLES, smoke)]
    once_more = f"{VERIFIED}: training once more without the rows"
    return [*steps, Step("report", 0.3), short(once_more) if smoke else Step(once_more, 1.0, "training")]


def is_the_training_without(recipe: str, more: list[str], output_dir: Path, progress: Progress) -> bool:
    """Whether the replayed model of a task is, bit for bit, the same training from its start without the rows."""
    folder = output_dir / Path(recipe).stem
    words = ["--config", str(HERE / recipe), "--output_dir", str(folder), *more]
    own, data, model, args = parsing.parse("ready", words)
    prepared = ready.prepared_for(own, data, model, args)
    replayed, rows = str(folder / "ready_unlearned"), prepared.splits["retain"]
    with tempfile.TemporaryDirectory() as out:
        return verify.verified(VerifyArguments(), data, model, args, prepared, rows, replayed, progress, out).passed


def run_task(name: str, recipe: str, more: list[str], output_dir: Path, command: str, progress: Progress):
    """All roles of one task by its recipe; returns its `Scorecard`."""
    folder = output_dir / Path(recipe).stem
    words = ["--config", str(HERE / recipe), "--output_dir", str(folder), *more]
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
    how = {"provenance": {"commands": [command]}, "progress": progress, **SCORES}
    return evaluate.measure(folder, data, prepared, task=name, models=evaluate.models_in(folder), **how)


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
    where = "folder for models, scorecard.json and report.html"
    parser.add_argument("--output_dir", default="quickstart", help=where)
    parser.add_argument("--smoke", action="store_true", help="two steps of everything, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    output_dir = Path(options.output_dir)
    terminal.say(f"Quickstart: {', '.join(TASKS)}; six models each, measured and attacked; all goes to {output_dir}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all data are embedded
    start = time.perf_counter()
    import transformers

    transformers.logging.set_verbosity_error()
    terminal.quiet_libraries()
    command = running.command_line(argv, "python recipes/quickstart.py")
    smoke = SMOKE if options.smoke else []
    card = None
    with Progress(all_steps(options.smoke)) as progress:
        for name, (recipe, more) in TASKS.items():
            scores = run_task(name, recipe, [*smoke, *more], output_dir, command, progress)
            card = scores if card is None else card + scores
        progress.next()
        card.save(output_dir)
        card.to_html(output_dir / "report.html", title="Unlearning: quickstart")
        progress.next()
        recipe, more = TASKS[VERIFIED]
        same = is_the_training_without(recipe, [*smoke, *more], output_dir, progress)
    if not options.smoke:  # two steps buy nothing
        print(f"What the requests cost, and what they left\n\n{requests_table(card)}\n")
    print(table(card.to_dict()))
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes. Open {output_dir / 'report.html'}; the numbers are in scorecard.json beside it.")
    print(f"{VERIFIED}, asked for and replayed: bit for bit the model that never saw them: {'yes' if same else 'no'}")
    return 0 if same else NOT_THE_SAME


if __name__ == "__main__":
    running.run(main)
