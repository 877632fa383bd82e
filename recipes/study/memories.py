"""Does a memory learn what its sources say, also asked otherwise, and is a source gone when its table is?

    python -m recipes.study.memories --task people --sources 20 104 --seeds 0-2 [--arms own shared LoRA]
    python -m recipes.study.memories --task smollm2 --sources 20 --seeds 0-1 --data DIR
    python -m recipes.study.memories --table [--publish]

`people`: fictional people, four rows each, beside a small model that was trained on 480 other people. `smollm2`:
authors of TOFU, ten rows each, beside a copy of HuggingFaceTB/SmolLM2-135M-Instruct in DIR/smollm2-135m; DIR/tofu holds
the rows. Every cell (task, arm, sources, seed) is one JSON file in OUTPUT_DIR; a killed run goes on where it was. `own`
is a memory with tables of their own, `shared` one with a table for all, `LoRA` an adapter on the same rows for as many
epochs. `--table` prints what is there; with `--publish` it also takes the place of the same cells in
recipes/study/results/memories.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import median

from hf_unlearn.cli import running
from hf_unlearn.utils.aligned import aligned
from hf_unlearn.utils.files import write_json
from hf_unlearn.utils.flags import with_underscores
from recipes.study.cells import seeds_of
from recipes.study.memories_cells import SHARES, TASKS, cell, cells_in
from recipes.study.memories_rows import base_of_people
from recipes.study.seeds import LEVEL
from recipes.tools import jobs

RESULTS = Path(__file__).parent / "results" / "memories.json"
MEMORIES = ("own", "shared")
ARMS = (*MEMORIES, "LoRA")
FEWEST = len(SHARES) + 1  # sources
NOT_THERE = "–"
RECOVERED, TRIED = {"recovered": "first", "recovered after the last": "last"}, ("new table", "all weights")
LEARNED = ("task", "sources", "arm", "seeds", "right", "generated", "ROUGE-L", "truth ratio", "otherwise", "ROUGE-L")
LEARNED += ("of whom", "others ×", "unrelated ×", "passes × LoRA's", "CPU s", "kB a source")
DELETED = ("task", "sources", "arm", "deleted", "ms", "its own right", "its loss (below)", "others right", "others ×")
DELETED += ("others' bits",)


def key_of(one: dict) -> tuple:
    """What a cell is of."""
    return one["task"], one["sources"], one["seed"], one["arm"]


def over(old: list[dict], new: list[dict]) -> list[dict]:
    """What is there, with the same cells replaced."""
    kept = {key_of(one): one for one in [*old, *new]}
    return [kept[key] for key in sorted(kept)]


def mean(values) -> float:
    """Of those that are there; nan where none is."""
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else math.nan


def figure(value: float, form: str = ".3f") -> str:
    return NOT_THERE if math.isnan(value) else f"{value:{form}}"


def beside(one: dict, cells: list[dict], arm: str) -> dict:
    """The same cell of an arm; empty where it is not there."""
    wanted = (*key_of(one)[:3], arm)
    return next((other for other in cells if key_of(other) == wanted), {})


def ratio(one: dict, cells: list[dict], name: str) -> float | None:
    """The perplexity of other texts as a multiple of that of the model below."""
    below = beside(one, cells, "own").get("below", {})
    there = name in below and name in one["after"]
    return one["after"][name]["perplexity"] / below[name]["perplexity"] if there else None


def passes(one: dict, cells: list[dict]) -> float | None:
    """Row passes as a multiple of those of LoRA."""
    other = beside(one, cells, "LoRA")
    return one["row_passes"] / other["row_passes"] if other else None


def learned(cells: list[dict]) -> list[tuple]:
    """A line for each task, number of sources and arm, means over seeds."""
    lines = [LEARNED]
    for group in sorted({(*key_of(one)[:2], one["arm"]) for one in cells}):
        own = [one for one in cells if (*key_of(one)[:2], one["arm"]) == group]

        def after(name, what, own=own):
            return figure(mean(one["after"][name].get(what) for one in own))

        size = mean(one.get("bytes") for one in own) / 1000
        lines.append(
            (
                group[0], str(group[1]), group[2], str(len(own)),
                after("learned", "right"), after("learned", "generated"), after("learned", "rouge"),
                after("learned", "truth_ratio"), after("asked otherwise", "right"), after("asked otherwise", "rouge"),
                after("asked of whom", "right"),
                figure(mean(ratio(one, cells, "others") for one in own)),
                figure(mean(ratio(one, cells, "unrelated") for one in own)),
                figure(mean(passes(one, cells) for one in own), ".2f"),
                figure(mean(one["seconds"] for one in own), ".0f"), figure(size, ".0f"),
            )
        )  # fmt: skip
    return lines


def deleted(cells: list[dict]) -> list[tuple]:
    """A line for each share that was deleted, means over seeds."""
    lines, own = [DELETED], [one for one in cells if one["arm"] in MEMORIES]
    for task, sources, arm in sorted({(*key_of(one)[:2], one["arm"]) for one in own}):
        some = [one for one in own if (*key_of(one)[:2], one["arm"]) == (task, sources, arm)]
        for k, step in enumerate(some[0]["deleted"]):
            steps = [one["deleted"][k] for one in some]
            below = mean(one["below"]["loss"] for one in steps)
            texts = mean(
                one["deleted"][k]["texts"]["perplexity"] / one["below"]["others"]["perplexity"] for one in some
            )
            lines.append(
                (
                    task, str(sources), arm, f"{step['share']:.0%}",
                    f"{median(one['milliseconds'] for one in steps):.2f}",
                    figure(mean(one["gone"]["right"] for one in steps)),
                    f"{mean(one['gone']['loss'] for one in steps):.2f} ({below:.2f})",
                    figure(mean(one["others"]["right"] for one in steps)), figure(texts),
                    "the same" if all(one["others_same_bits"] for one in steps) else "changed",
                )
            )  # fmt: skip
    return lines


def said(cells: list[dict]) -> list[str]:
    """What else was looked at, in sentences."""
    own = [one for one in cells if one["arm"] == "own"]
    same = sum(one["as_never_trained"] for one in own)
    lines = [f"After the last deletion the tables are those of a training without the rows, bit for bit: {same} of "
             f"{len(own)} cells."]  # fmt: skip
    if shared := [one["beside_never_trained"] for one in cells if one["arm"] == "shared"]:
        told, two = (sum(one[p] < LEVEL for one in shared) for p in ("p", "p of two"))
        lines.append(
            "Shared, after the last deletion: told apart from never trained, by the deleted rows' losses, in "
            f"{told} of {len(shared)} cells; two never trained ones with two seeds in {two}."
        )
    memories = [one for one in cells if one["arm"] in MEMORIES]
    for task, arm in sorted({(one["task"], one["arm"]) for one in memories}):
        for key, after in RECOVERED.items():
            back = [one[key] for one in memories if (one["task"], one["arm"]) == (task, arm) and key in one]
            if not back:
                continue
            before, anew, weights = (mean(one[k]["right"] for one in back) for k in ("before", *TRIED))
            lines.append(
                f"{task}, {arm}, after the {after} deletion: a new table from half of a deleted source's rows answers "
                f"{anew:.3f} of the other half ({before:.3f} before); fine-tuning all weights on others' rows brings "
                f"back {weights:.3f}."
            )
    return lines


def table(cells: list[dict]) -> str:
    """What was measured, as text."""
    found = [aligned(learned(cells), left=(0, 2))]
    if any(one["arm"] in MEMORIES for one in cells):
        found += [aligned(deleted(cells), left=(0, 2)), "\n".join(said(cells))]
    return "\n\n".join(found)


def parser_of() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", default=[], choices=sorted(TASKS))
    parser.add_argument("--sources", nargs="+", type=int, default=[20, 104], help="numbers of people or authors")
    parser.add_argument("--seeds", default="0", help="0-2, or 0,2")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--data", help="folder with tofu/ and smollm2-135m/, for smollm2")
    parser.add_argument("--learning_rate", type=float, help="of memories, for a try in an --output_dir of its own")
    parser.add_argument("--memory_config", type=json.loads, help="JSON object, likewise")
    parser.add_argument("--output_dir", default="outputs/memories", help="one JSON file a cell, and the model below")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--publish", action="store_true", help="with --table: into results/memories.json")
    return parser


def main(argv: list[str]) -> None:
    parser = parser_of()
    args = parser.parse_args(with_underscores(argv))
    if not args.task and not args.table:
        parser.error("name a --task, or ask for the --table")
    if min(args.sources) < FEWEST:
        parser.error(f"--sources is {min(args.sources)}; at least {FEWEST}, so that some are left after all deletions")
    if any(TASKS[name].base for name in args.task) and not args.data:
        parser.error("name the folder of the rows and the model by --data")
    jobs.quiet()
    out, data = Path(args.output_dir), args.data and Path(args.data)
    for seed in seeds_of(args.seeds):
        for name in args.task:
            base = data / TASKS[name].base if TASKS[name].base else out / "base"
            if not TASKS[name].base:
                base_of_people(base)
            for sources in args.sources:
                for arm in args.arms:
                    path = out / f"{name}-{arm}-{sources}-{seed}.json"
                    if not path.is_file():
                        tried = args.learning_rate, args.memory_config
                        write_json(path, cell(name, arm, sources, seed, base, data, *tried))
                        print(f"{path} is there.", flush=True)
    if args.table:
        old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
        found = over(old, cells_in(out))
        print(table(found))
        if args.publish:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    running.run(main)
