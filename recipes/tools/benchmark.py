"""What a step costs: ratios of times taken in turn in one process, with passes, tokens and bytes beside them.

    python recipes/tools/benchmark.py [--json] [--rounds 12] [--only ready_first_order unlearn_open]
    python recipes/tools/benchmark.py --only rows [--rows 1000000]
    python recipes/tools/benchmark.py --only memory

Each contender is a real trainer in a thread of its own, let go one step at a time: in each round every one takes its
steps, in another order, and only one runs at any time. A figure is the median over the rounds of its time per step
over that of the stock Trainer in the same round. The learning rate is 0, so that all steps of a contender are alike.
Passes: rows through forward (a third) and backward (two thirds) per row of the baseline's batch, counted by hooks.
`--only rows`: what the checks of large sets of rows cost before the first step ([`recipes.tools.bench.rows`]).
`--only memory`: what a memory of many sources costs in a forward pass ([`recipes.tools.bench.memories`]).
Activations: the peak of what autograd keeps for backward. Memory: the allocator's peak over the whole step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from hf_unlearn.utils.flags import with_underscores
from recipes.tools.bench import memories, rows
from recipes.tools.bench.contenders import Bench
from recipes.tools.bench.costs import Figure, collect_ratios, gradient_error, ratio_of_bytes
from recipes.tools.bench.turns import timed

ALONE = ("rows", "memory")  # figures of other things than a step
HALF = "revocable rows half the batch"
FIGURES = [
    Figure("ready_first_order", "ready step, first order, all rows at θ'", "first_order", "plain", 2.10, 2.0),
    Figure("ready_sparse", "the same, half the rows, every 4th step", "sparse", "plain", 1.20, 1.125),
    Figure("ready_finite_difference", f"ready step, finite difference, {HALF}", "fd", "plain", 2.65, 2.5),
    Figure("finite_difference_error", "  its gradient's distance from exact", "fd", "exact", 0.01, None, "error"),
    Figure("finite_difference_activations", "  its activations", "fd", "plain", 1.05, 1.0, "activations"),
    Figure("fd_vs_exact_time", "finite difference vs double backward, time", "fd", "exact", 0.85),
    Figure("fd_vs_exact_memory", "  activations", "fd", "exact", 0.5, None, "activations"),
    Figure("ready_extra_memory", "first order, bytes on top of plain over weights'", "in_turn", "plain", 1.05, 1.0,
           "extra"),
    Figure("unlearn_open", "unlearn step, gate open", "open", "half", 2.05, 2.0),
    Figure("unlearn_open_activations", "  its activations", "open", "half", 1.05, 1.0, "activations"),
    Figure("unlearn_closed", "unlearn step, gate closed", "shut", "half", 1.45, 1.333),
    Figure("unlearn_closed_every_8", "  looked at every 8th step", "shut_8", "half", 1.10, 1.042),
    Figure("npo", "unlearn step of NPO", "npo", "half", 2.05, 2.0),
    Figure("npo_held", "  with the retain term KL, from a table on the disk", "npo_held", "half", None, 2.0),
    Figure("rmu", "unlearn step of RMU, at the second of four layers", "rmu", "half", 1.05, 1.0),
    Figure("features_off", "all features off vs the stock Trainer", "off", "plain", 1.02, 1.0),
    Figure("vs_npo_kl", "unlearn step, gate open, vs NPO with KL", "open", "npo_kl", 0.70),
    Figure("ready_drawn", "ready step, half a batch drawn for the request", "drawn", "plain", None),
    Figure("ready_inner_steps_3", "ready step, first order, 3 inner steps", "steps_3", "plain", None),
    Figure("ready_relearn", "first order with relearn", "relearn", "plain", None),
    Figure("ready_relearn_finite_difference", "finite difference with relearn", "fd_relearn", "plain", None),
    Figure("ready_align", "first order with align", "align", "plain", None),
    Figure("ready_finite_difference_steps_3", "finite difference, 3 inner steps", "fd_steps_3", "plain", None),
    Figure("unlearn_open_together", "unlearn step, gate open, one forward", "together", "half", None, 2.0),
    Figure("collect", "row table of a language model vs bare forwards", "lm", "lm", 1.15, 1.0, "collect"),
    Figure("collect_images", "the same, an image classifier", "vit", "vit", 1.15, 1.0, "collect"),
]  # fmt: skip


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="only these figures; or `rows`, or `memory`")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a large set")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of a ready step; an unlearn step has 8 + 8")
    parser.add_argument("--length", type=int, help="tokens of a row; default: 64 on a CPU, 1024 on a GPU")
    parser.add_argument("--hidden_size", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab_size", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast over fp32 weights")
    parser.add_argument("--cpu", action="store_true", help="on the CPU though there is a GPU")
    args = parser.parse_args(with_underscores(argv))
    known = [*ALONE, *(figure.key for figure in FIGURES)]
    if unknown := sorted(set(args.only or []) - set(known)):
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
    if args.length is None:
        import torch

        args.length = 64 if args.cpu or not torch.cuda.is_available() else 1024
    for name in set(ALONE) & set(args.only or []) if len(args.only or []) > 1 else ():
        parser.error(f"--only {name} stands alone: its figures are of other things than those of a step")
    for name in ("rows", "rounds", "batch_size", "length", "hidden_size", "layers", "vocab_size", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.batch_size % 4 or args.hidden_size % 8:
        parser.error("--batch_size must be a multiple of 4 and --hidden_size one of 8")
    return args


def results(bench: Bench, figures: list[Figure], rounds: int) -> list[dict]:
    clocked = [figure for figure in figures if figure.measure == "time"]
    names = list(dict.fromkeys(name for figure in clocked for name in (figure.contender, figure.baseline)))
    contenders = timed(bench, names, rounds) if names else {}
    cache: dict = {}
    lines = []
    for figure in figures:
        line = {"key": figure.key, "what": figure.what, "target": figure.target, "floor": figure.floor}
        if figure.measure == "time":
            ours, theirs = contenders[figure.contender], contenders[figure.baseline]
            ratios = [a / b for a, b in zip(ours.times, theirs.times, strict=True)]
            line["value"] = median(ratios)
            line["quartiles"] = quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2
            line["passes"] = None if "exact" in figure.contender else ours.passes.rows / theirs.passes.rows
            line["passes"] = None if "exact" in figure.baseline else line["passes"]
            line["tokens"] = ours.passes.tokens
            line["seconds"] = median(ours.times)
        elif figure.measure == "collect":
            ratios = collect_ratios(bench, figure, rounds)
            line["value"] = median(ratios)
            line["quartiles"] = quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2
        elif figure.measure == "error":
            line["value"] = gradient_error(bench, figure)
        else:
            line["value"] = ratio_of_bytes(bench, figure, cache)
        line["met"] = None if figure.target is None else line["value"] <= figure.target
        lines.append(line)
    return lines


def table(lines: list[dict], args, machine: str) -> str:
    rows = [("figure", "key", "must be", "is", "middle half", "passes", "tokens")]
    for line in lines:
        target = "" if line["target"] is None else f"≤ {line['target']:g}"
        small = line["value"] < 0.01
        spread = " – ".join(f"{q:.2f}" for q in line["quartiles"]) if "quartiles" in line else ""
        mark = "" if line["met"] is not False else " !"
        rows.append(
            (
                line["what"],
                line["key"],
                target,
                (f"{line['value']:.1e}" if small else f"{line['value']:.3f}") + mark,
                spread,
                "" if line.get("passes") is None else f"{line['passes']:.3f}",
                "" if "tokens" not in line else f"{line['tokens']:.0f}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = (
        f"{machine}; Llama, hidden size {args.hidden_size}, {args.layers} layers, vocabulary {args.vocab_size}; "
        f"{args.batch_size} rows of {args.length} tokens; {args.rounds} rounds"
    )
    missed = [line["key"] for line in lines if line["met"] is False]
    foot = f"Beyond what they must be: {', '.join(missed)}." if missed else "All are what they must be."
    return "\n".join([head, "", *text, "", foot])


def main(argv=None) -> None:
    args = arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler, which counts bytes, is silent
    if args.only == ["rows"]:
        lines = rows.figures(args.rows, args.length)
        print(json.dumps({"figures": lines}) if args.json else rows.table(lines))
        return
    import torch

    torch.set_num_threads(args.threads)
    gpu = torch.cuda.is_available() and not args.cpu
    args.cpu = not gpu
    if args.only == ["memory"]:
        lines = memories.figures(args)
        print(json.dumps({"figures": lines}) if args.json else memories.table(lines))
        return
    machine = torch.cuda.get_device_name() if gpu else f"CPU, {args.threads} thread(s)"
    machine += f", {'bf16 autocast' if args.bf16 else 'float32'}, torch {torch.__version__}"
    figures = [figure for figure in FIGURES if args.only is None or figure.key in args.only]
    with tempfile.TemporaryDirectory() as folder:
        lines = results(Bench(args, folder), figures, args.rounds)
    if args.json:
        found = {line["key"]: round(line["value"], 6) for line in lines}
        print(json.dumps(found | {"machine": machine, "arguments": vars(args), "figures": lines}))
    else:
        print(table(lines, args, machine))


if __name__ == "__main__":
    main()
