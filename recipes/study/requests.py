"""Do requests hold on pretrained models, with no option set? Trains plainly, asks by the defaults, and measures.

    python -m recipes.study.requests --task all --seeds 0-1 --data DIR
    python -m recipes.study.requests --table [--publish]

Every request (task, what is asked for, seed) is one JSON file in OUTPUT_DIR, beside the models; a killed run goes on
where it was. DIR holds the folders tofu/ and banking77/, a copy of sentence-transformers/all-MiniLM-L6-v2 as minilm-l6/
and one of HuggingFaceTB/SmolLM2-135M-Instruct as smollm2-135m/. `--table` prints recipes/study/results/requests.json
with what is in OUTPUT_DIR in the place of the same requests; with `--publish` that is written there, but for what
`--smoke` has made.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from hf_unlearn.cli import running
from hf_unlearn.utils.flags import with_underscores
from recipes.study.cells import cell_path, seeds_of
from recipes.study.requests_cells import SCHEMA, TASKS, build, is_general
from recipes.tools import jobs as jobs_

RESULTS = Path(__file__).parent / "results" / "requests.json"
NEAR = 0.5  # nats from a retrained model's forget loss, or the unseen rows'
CHANCE = 0.1  # of the rows of a class that is gone: so many may be answered right


def gather(root: Path) -> list[dict]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("*/asked_*.json"))]
    return [one for one in found if one["schema"] == SCHEMA]


def over(old: list[dict], new: list[dict]) -> list[dict]:
    """What is there, with the same requests replaced."""
    kept = {(one["task"], one["what"], one["seed"]): one for one in [*old, *new]}
    return [kept[key] for key in sorted(kept, key=str)]


def reached(one: dict) -> str:
    """Whether a request ended as it should, in a word."""
    if one["guarantee"] == "exact":
        return "exact"
    return "yes" if one["stop_reason"] == "forget_loss_reached_target" else one["stop_reason"]


def by_default(one: dict) -> bool:
    asked = TASKS[one["task"]].asked[one["what"]]
    return not asked.replayed and not asked.flags


def near(one: dict) -> bool:
    """
    Whether the forget loss is near a retrained model's, within the unseen rows' quartiles, or near these rows' mean,
    which uneven losses bring far above their quartiles. Of a whole class, of which there are no unseen rows: whether it
    is not answered any more.
    """
    after = one["after"]
    if "intent" in one["what"]:
        return after["forget"]["accuracy"] <= CHANCE
    loss, aims = after["forget"]["loss"], [one["before"]["unseen"]["loss"]]
    aims += [one["retrained"]["forget"]["loss"]] if "retrained" in one else []
    low, _, high = after["unseen"]["quartiles"]
    return low <= loss <= high or any(abs(loss - aim) <= NEAR for aim in aims)


def known(seen: dict) -> str:
    """Of the rows that stay: loss in nats, share right and, of a language model, share of tokens right."""
    one = seen["retain"]
    tokens = f", {one['token_accuracy']:.3f}" if "probes" in seen and "token_accuracy" in one else ""
    return f"{one['loss']:.2f}, {one['accuracy']:.3f}{tokens}"


def cost(one: dict) -> float:
    """Row passes of a request, as a share of those of training anew without its rows."""
    return one["row_passes"] / (TASKS[one["task"]].epochs * one["rows"]["retain"])


def markdown(found: list[dict]) -> str:
    """The requests, a line each."""
    lines = [
        "| task | asked | seed | reached | steps | cost, of a retraining | forget loss | unseen: quartiles"
        " | retained: loss, rows right, tokens | test right | public texts, perplexity × | probe questions right |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        a, b = one["before"], one["after"]
        low, _, high = b["unseen"]["quartiles"]
        other = one.get("retrained", {})
        retrained = f" ({other['forget']['loss']:.2f})" if other else ""
        texts = [f"{np.exp(b[k]['loss'] - a[k]['loss']):.2f}" for k in a if is_general(k)]
        probes = f"{a['probes']} → {b['probes']}" if "probes" in a else ""
        probes += f" ({other['probes']})" if "probes" in other else ""
        test = f"{a['test']['accuracy']:.3f} → {b['test']['accuracy']:.3f}" if "test" in a else ""
        test += f" ({other['test']['accuracy']:.3f})" if "test" in other else ""
        lines.append(
            f"| {one['task']} | {one['what']} | {one['seed']} | {reached(one)} | {one['steps']} | {cost(one):.2f} "
            f"| {a['forget']['loss']:.2f} → {b['forget']['loss']:.2f}{retrained} | {low:.2f} to {high:.2f} "
            f"| {known(a)} → {known(b)} | {test} | {', '.join(texts)} | {probes} |"
        )
    ours = [one for one in found if by_default(one)]
    done = [one for one in ours if reached(one) == "yes"]
    told = f"{len(done)} of {len(ours)} requests by the defaults reached their target; {sum(map(near, done))} of these "
    told += "end near a retrained model, the unseen rows or, of an intent, unanswered"
    were = sum(near({**one, "after": one["before"]}) for one in done)
    return "\n".join([*lines, "", f"{told}; {were} were that already before the request."])


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", default=[], metavar="TASK", help=f"some of {', '.join(TASKS)}; all")
    parser.add_argument("--asked", nargs="+", default=None, metavar="WHAT", help='such as "10 rows"; default: all')
    parser.add_argument("--seeds", default="0-1", help="0-4, or 0,2,7")
    parser.add_argument("--data", help="folder with tofu/, banking77/, minilm-l6/, smollm2-135m/")
    parser.add_argument("--output_dir", default="outputs/requests", help="for models and cells")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    parser.add_argument("--publish", action="store_true", help="with --table: into results/requests.json")
    parser.add_argument("--smoke", action="store_true", help="two steps a model, to see that it runs")
    options = parser.parse_args(with_underscores(argv))
    tasks = list(TASKS) if options.task == ["all"] else options.task
    if unknown := [task for task in tasks if task not in TASKS]:
        parser.error(f"no task is called {', '.join(unknown)}")
    if not tasks and not options.table:
        parser.error("name a --task, or ask for the --table")
    if tasks and not options.data:
        parser.error("name the folder of the rows and models by --data")
    jobs_.quiet()
    root = Path(options.output_dir).resolve()
    cells = [(t, w, s) for s in seeds_of(options.seeds) for t in tasks for w in options.asked or TASKS[t].asked]
    todo = [(t, w, s) for t, w, s in cells if not cell_path(root, t, f"asked {w}", s).is_file()]
    for task, what, seed in todo:
        seconds = build(task, what, seed, str(root), options.data, options.smoke)
        print(f"{task}, {what}, seed {seed}: {seconds:.0f} s", flush=True)
    if options.table:
        new = [one for one in gather(root) if not (options.publish and one["smoke"])]
        found = over(json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else [], new)
        if options.publish:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(markdown(found))


if __name__ == "__main__":
    running.run(main)
