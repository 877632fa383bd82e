"""The whole story on embedded data, text and images, in minutes on a laptop CPU and without a network.

    python recipes/quickstart.py [--output-dir quickstart] [--smoke]

Trains a model plainly, one ready for deletion and two without the rows that will be asked for (the second with another
seed: how far two of these differ); unlearns those rows from the first two; measures and attacks all six; writes
scorecard.json and report.html.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hf_unlearn.cli import parsing, prepare, running
from hf_unlearn.cli.arguments import TRAINED

HERE = Path(__file__).resolve().parent
TASKS = {  # name -> (recipe, flags beyond it)
    "people": ("text/people_llama.yaml", []),
    "digits, a class": ("vision/digits_vit.yaml", []),
    "digits, a random tenth": ("vision/digits_vit_random.yaml", []),
}
SCORES = {"attack_options": {"generate": {"rows": 50}}}
SMOKE = ["--limit", "120", "--ready.max_steps", "2", "--unlearn.max_steps", "2"]


def run_task(name: str, recipe: str, more: list[str], output_dir: Path, command: str):
    """All roles of one task by its recipe; returns its `Scorecard`."""
    from hf_unlearn.cli import evaluate, ready, unlearn

    folder = output_dir / Path(recipe).stem
    words = ["--config", str(HERE / recipe), "--output_dir", str(folder), *more]
    quiet = ["--logging_strategy", "no"]
    own, data, model, args = parsing.parse("ready", words + quiet)
    prepared = prepare.prepare(data, model)
    for role in TRAINED:
        say(f"{name}: training, {role}")
        own, data, model, args = parsing.parse("ready", words + quiet)
        own.role = role
        ready.train(own, data, model, args, prepared)
    for start in ("original", "ready"):
        say(f"{name}: unlearning, from the {start} model")
        own, data, model, args = parsing.parse("unlearn", words)
        own.start = start
        unlearn.unlearn(own, data, model, args, prepared)
    say(f"{name}: measuring")
    return evaluate.measure(folder, data, prepared, task=name, provenance={"commands": [command]}, **SCORES)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def readiness_table(card) -> str:
    """What readiness bought, task by task: plain text, from the scorecard alone; kept is what the report says."""
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
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", default="quickstart", help="folder for models, scorecard.json and report.html")
    parser.add_argument("--smoke", action="store_true", help="two steps of everything, to see that it runs")
    options = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all data are embedded
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    start = time.perf_counter()
    print("Loading libraries …", flush=True)
    import transformers

    transformers.logging.set_verbosity_error()
    output_dir = Path(options.output_dir)
    command = running.command_line(argv, "python recipes/quickstart.py")
    smoke = SMOKE if options.smoke else []
    card = None
    for name, (recipe, more) in TASKS.items():
        scores = run_task(name, recipe, [*smoke, *more], output_dir, command)
        card = scores if card is None else card + scores
    card.save(output_dir)
    card.to_html(output_dir / "report.html", title="Unlearning: quickstart")
    print("\n== What readiness bought\n")
    print(readiness_table(card))
    print()
    for line in card.findings():
        print(f"- {line}")
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes. Open {output_dir / 'report.html'}; the numbers are in scorecard.json beside it.")


if __name__ == "__main__":
    running.run(main)
